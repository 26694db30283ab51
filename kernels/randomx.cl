/* RandomX (tevador/RandomX, doc/specs.md; version 2: doc/design_v2.md), one hash to a lane. rx_execute and rx_items
 * stand in randomx_machine.cl, all else here.
 *
 *   rx_seed          blake2b of the blob with a nonce                       specification 2, step 2
 *   rx_fill          AesGenerator1R over the scratchpad                     steps 3, 4
 *   for each of RX_PROGRAMS programs:
 *     rx_program     (blake2b of the registers,) AesGenerator4R, decoding   steps 6 to 9
 *     rx_execute     the machine, iterations from .. to                     step 7; chapters 4 and 5
 *   rx_fingerprint   AesHash1R of the scratchpad                            step 12
 *   rx_finish        blake2b of the registers, comparison                   steps 13, 14
 *     or rx_commit   blake2b of blob and hash, comparison                   version 2, as it is mined
 *
 * and for an epoch rx_items, which computes the dataset from the cache (chapter 7). With RX_LIGHT the machine does
 * that itself, item by item, and needs no dataset.
 *
 * How the machine runs. Lanes of a group are at different instructions of different programs, so what a step costs
 * is all that any of its lanes needs. Therefore rx_program decodes to few operations, each a join of many: operands
 * are fetched the same way by all (register, immediate, scratchpad or table of reciprocals), IMUL_RCP and INEG_R are
 * products, all shifts and displacements are fields. A word has 8 bytes: the upper half is the immediate, the lower
 *
 *   bits 0-4 operation   5-7 operand   8-12 dst   13-17 src   18-21 shift or condition   22-30 target of a branch
 *
 * Registers are words 0 to 31 of the register file (specification 1.1; r, f, e, a in this order, numbers low half
 * first), which stands in shared memory: word w of lane l at w * RX_GROUP + l, so that lanes never meet in a bank,
 * whatever registers they want. All addresses of the scratchpad are below 2^32, so their arithmetic is 32 bits wide.
 *
 * Memory for `stride` hashes at a time, hash h of which has
 *   scratchpad   RX_L3 bytes from h * RX_L3 on
 *   state        RX_STATE words, word w at w * stride + h (listed below)
 *   program      RX_SIZE words, and as many reciprocals, laid out in the same way
 *
 * Work: 8 programs of 2048 iterations of 256 instructions (384 in version 2) are 4.2 (6.3) million steps for a hash.
 * Beside them the rest is small: 2.1 million table lookups to fill a scratchpad, as many to fingerprint it. The
 * machine reads 1 MiB of dataset, moves 4 MiB of scratchpad lines, 32 bytes for each of a fifth of the steps (28 MB)
 * and 8 bytes of program for each step (34 MB), which groups read side by side.
 *
 * Parameters (-D): RX_GROUP lanes in a group; RX_SIZE, RX_ITERATIONS; RX_L1, RX_L2, RX_L3 bytes; RX_DATASET_MASK,
 * RX_DATASET_STARTS, RX_PART items in the dataset's first part; RX_CACHE_LINES, RX_CACHE_ACCESSES; RX_JUMP_BITS,
 * RX_JUMP_OFFSET; RX_V2 and RX_LIGHT: 0 or 1. What is not a number comes in `variant`: 32 words of AesGenerator4R
 * keys, then what each of 256 opcodes is (0 to 28, in the order of specification 5).
 */

#ifndef RX_GROUP
#error "the parameters of a variant are missing: see the top of this file"
#endif

#ifndef OTD_BARRIER
#define OTD_BARRIER() /* host C: a lane alone */
#endif

/* Words of a hash's state. */
#define RX_A 24          /* 0 to 31: the register file; the a registers, where a fingerprint comes later */
#define RX_MEMORY 32     /* ma in the low half, mx in the high */
#define RX_SETTING 33    /* dataset offset (32 bits), four readReg (3 bits each), fprc (2 bits) */
#define RX_E_BITS 34     /* two: the bits that group E conversion sets */
#define RX_SEED 36       /* eight: the state of the AES generators */
#define RX_STATE 44

/* Operations. */
#define RX_ADD 0u
#define RX_SUBTRACT 1u
#define RX_MULTIPLY 2u
#define RX_MULTIPLY_HIGH 3u
#define RX_MULTIPLY_HIGH_SIGNED 4u
#define RX_XOR 5u
#define RX_ROTATE_RIGHT 6u
#define RX_ROTATE_LEFT 7u
#define RX_SWAP 8u
#define RX_BRANCH 9u
#define RX_ROUND 10u
#define RX_STORE 11u
/* On numbers, from here on. */
#define RX_FADD 12u
#define RX_FSUB 13u
#define RX_FMUL 14u
#define RX_FDIV 15u
#define RX_FSQRT 16u
#define RX_FSCAL 17u
#define RX_FSWAP 18u

/* Operands. */
#define RX_REGISTER 0u
#define RX_IMMEDIATE 1u
#define RX_DISPLACED 2u   /* a shifted register plus the immediate */
#define RX_RECIPROCAL 3u
#define RX_IN_L1 4u
#define RX_IN_L2 5u
#define RX_IN_L3 6u       /* for reading, at the immediate alone */

#define RX_SIGN_EXTENDED(x) ((u64)(i64)(i32)(x))

OTD_TABLE u32 RX_GENERATOR_1R_KEYS[16] = {
    0x6daca553, 0x62716609, 0xdbb5552b, 0xb4f44917, 0x6d7caf07, 0x846a710d, 0x1725d378, 0x0da1dc4e,
    0x3f1262f1, 0x9f947ec6, 0xf4c0794f, 0x3e20e345, 0x6aef8135, 0xb1ba317c, 0x16314c88, 0x49169154,
};

OTD_TABLE u32 RX_HASH_1R_STATE[16] = {
    0x92b52c0d, 0x9fa856de, 0xcc82db47, 0xd7983aad, 0x338d996e, 0x15c7b798, 0xf59e125a, 0xace78057,
    0x6a770017, 0xae62c7d0, 0x5079506b, 0xe8a07ce4, 0x630a240c, 0x07ad828d, 0x79a10005, 0x7e994948,
};

OTD_TABLE u32 RX_HASH_1R_EXTRA_KEYS[8] = {
    0xf6fa8389, 0x8b24949f, 0x90dc56bf, 0x06890201, 0x61b263d1, 0x51f4e03c, 0xee1043c6, 0xed18f99b,
};

OTD_FN u32x4 rx_column(u64 low, u64 high)
{
    return OTD_U32X4((u32)low, (u32)(low >> 32), (u32)high, (u32)(high >> 32));
}

OTD_FN u64 rx_low(u32x4 column) { return column.x | ((u64)column.y << 32); }

OTD_FN u64 rx_high(u32x4 column) { return column.z | ((u64)column.w << 32); }

/* blake2b-512 of a register file to the seed of AES generators. */
OTD_FN void rx_reseed(OTD_GLOBAL u64 *state, u64 stride)
{
    u64 h[8], m[16];
    otd_blake2b_start(h, 64);
    for (u32 i = 0; i < 16u; i++)
        m[i] = state[i * stride];
    otd_blake2b_chunk(h, m, 128, 0);
    for (u32 i = 0; i < 16u; i++)
        m[i] = state[(16 + i) * stride];
    otd_blake2b_chunk(h, m, 256, 1);
    for (u32 i = 0; i < 8u; i++)
        state[(RX_SEED + i) * stride] = h[i];
}

/* A word of a blob, which is padded with zeros to a multiple of 128 bytes and has zeros in place of the nonce: that
 * is put there from byte `nonce_at` on, least significant byte first. */
OTD_FN u64 rx_blob_word(OTD_GLOBAL const u64 *blob, u32 word, u32 nonce_at, u64 nonce)
{
    u32 shift = nonce_at % 8u * 8u;
    u64 bytes = blob[word];
    if (word == nonce_at / 8u)
        bytes |= nonce << shift;
    if (word == nonce_at / 8u + 1u && shift > 0)
        bytes |= nonce >> (64u - shift);
    return bytes;
}

/* A lane is a hash of `blob_bytes` of a blob with a nonce. */
OTD_KERNEL(RX_GROUP) void rx_seed(OTD_GLOBAL const u64 *blob, u32 blob_bytes, u32 nonce_at, u64 first,
                                  OTD_GLOBAL u64 *states, u32 stride)
{
    OTD_GLOBAL u64 *state = states + OTD_GLOBAL_LANE;
    u64 nonce = first + OTD_GLOBAL_LANE;
    u64 h[8], m[16];
    otd_blake2b_start(h, 64);
    u32 at = 0;
    do {
        for (u32 i = 0; i < 16u; i++)
            m[i] = rx_blob_word(blob, at / 8u + i, nonce_at, nonce);
        at = OTD_MIN32(at + 128u, blob_bytes);
        otd_blake2b_chunk(h, m, at, at == blob_bytes);
    } while (at < blob_bytes);
    for (u32 i = 0; i < 8u; i++)
        state[(u64)(RX_SEED + i) * stride] = h[i];
    state[(u64)RX_SETTING * stride] = 0; /* fprc: to nearest, until a program says otherwise */
}

/* Four lanes are a hash, each a column: 0 and 2 decrypt, 1 and 3 encrypt (specification 3.2). */
OTD_KERNEL(RX_GROUP) void rx_fill(OTD_GLOBAL u64 *states, u32 stride, OTD_GLOBAL u64x2 *scratchpads)
{
    OTD_SHARED(u32, tables, OTD_AES_WORDS);
    otd_aes_tables(tables);
    OTD_BARRIER();
    u64 hash = OTD_GLOBAL_LANE / 4u;
    u32 c = (u32)OTD_GLOBAL_LANE % 4u;
    OTD_GLOBAL u64 *seed = states + hash + (u64)(RX_SEED + 2 * c) * stride;
    OTD_GLOBAL u64x2 *scratchpad = scratchpads + hash * (RX_L3 / 16u) + c;
    OTD_CONSTANT const u32 *k = RX_GENERATOR_1R_KEYS + 4 * c;
    u32x4 key = OTD_U32X4(k[0], k[1], k[2], k[3]);
    u32x4 column = rx_column(seed[0], seed[stride]);
    for (u32 i = 0; i < RX_L3 / 64u; i++) {
        u64x2 out;
        column = otd_aes_round(tables, (c & 1u) == 0, column, key);
        out.x = rx_low(column);
        out.y = rx_high(column);
        scratchpad[4 * i] = out;
    }
    seed[0] = rx_low(column);
    seed[stride] = rx_high(column);
}

/* Four lanes are a hash (specification 3.4): columns 0 and 2 encrypt, 1 and 3 decrypt. The fingerprint takes the
 * place of the a registers. */
OTD_KERNEL(RX_GROUP) void rx_fingerprint(OTD_GLOBAL u64 *states, u32 stride, OTD_GLOBAL const u64x2 *scratchpads)
{
    OTD_SHARED(u32, tables, OTD_AES_WORDS);
    otd_aes_tables(tables);
    OTD_BARRIER();
    u64 hash = OTD_GLOBAL_LANE / 4u;
    u32 c = (u32)OTD_GLOBAL_LANE % 4u;
    OTD_GLOBAL const u64x2 *scratchpad = scratchpads + hash * (RX_L3 / 16u) + c;
    OTD_CONSTANT const u32 *s = RX_HASH_1R_STATE + 4 * c;
    OTD_CONSTANT const u32 *k = RX_HASH_1R_EXTRA_KEYS;
    u32x4 column = OTD_U32X4(s[0], s[1], s[2], s[3]);
    for (u32 i = 0; i < RX_L3 / 64u; i++) {
        u64x2 in = scratchpad[4 * i];
        column = otd_aes_round(tables, c & 1u, column, rx_column(in.x, in.y));
    }
    column = otd_aes_round(tables, c & 1u, column, OTD_U32X4(k[0], k[1], k[2], k[3]));
    column = otd_aes_round(tables, c & 1u, column, OTD_U32X4(k[4], k[5], k[6], k[7]));
    OTD_GLOBAL u64 *out = states + hash + (u64)(RX_A + 2 * c) * stride;
    out[0] = rx_low(column);
    out[stride] = rx_high(column);
}

/* 2^x / divisor, rounded down, for the greatest x for which that is less than 2^64 (specification 5.2.6), in two
 * steps of 63 and x - 63 bits; 1 for zero and powers of two, which multiply nothing. */
OTD_FN u64 rx_reciprocal(u32 divisor)
{
    u32 bits = 32u - OTD_CLZ32(divisor);
    u64 quotient, rest;
    if ((divisor & (divisor - 1u)) == 0)
        return 1;
    quotient = 0x8000000000000000 / divisor;
    rest = 0x8000000000000000 % divisor;
    return (quotient << bits) + (rest << bits) / divisor;
}

/* An instruction (specification 5) as a word of its own: see the top. `after_change` says for each integer register
 * after which instruction it changed last; `index` is this instruction's. */
OTD_FN u64 rx_decode(u64 word, u32 opcode, u32 index, u32 *after_change)
{
    u32 dst = (u32)(word >> 8) & 7u, src = (u32)(word >> 16) & 7u, mod = (u32)(word >> 24) & 0xffu;
    u32 imm = (u32)(word >> 32);
    u32 fdst = 2 * (dst & 3u), fsrc = RX_A + 2 * (src & 3u);
    u32 own = dst == src;
    u32 near = (mod & 3u) ? RX_IN_L1 : RX_IN_L2;
    u32 other = own ? RX_IMMEDIATE : RX_REGISTER;
    u32 memory = own ? RX_IN_L3 : near;
    u32 operation = RX_ADD, operand = RX_IMMEDIATE, field = 0, target = 0, changes = 1;
    switch (opcode) {
    case 0: /* IADD_RS */
        operand = RX_DISPLACED;
        field = (mod >> 2) & 3u;
        imm = dst == 5u ? imm : 0;
        break;
    case 1: operation = RX_ADD; operand = memory; break;
    case 2: operation = RX_SUBTRACT; operand = other; break;
    case 3: operation = RX_SUBTRACT; operand = memory; break;
    case 4: operation = RX_MULTIPLY; operand = other; break;
    case 5: operation = RX_MULTIPLY; operand = memory; break;
    case 6: operation = RX_MULTIPLY_HIGH; operand = RX_REGISTER; break;
    case 7: operation = RX_MULTIPLY_HIGH; operand = memory; break;
    case 8: operation = RX_MULTIPLY_HIGH_SIGNED; operand = RX_REGISTER; break;
    case 9: operation = RX_MULTIPLY_HIGH_SIGNED; operand = memory; break;
    case 10: /* IMUL_RCP: changes nothing if the divisor is zero or a power of two */
        operation = RX_MULTIPLY;
        operand = RX_RECIPROCAL;
        changes = (imm & (imm - 1u)) != 0;
        break;
    case 11: /* INEG_R: a product with -1 */
        operation = RX_MULTIPLY;
        imm = 0xffffffffu;
        break;
    case 12: operation = RX_XOR; operand = other; break;
    case 13: operation = RX_XOR; operand = memory; break;
    case 14: operation = RX_ROTATE_RIGHT; operand = other; break;
    case 15: operation = RX_ROTATE_LEFT; operand = other; break;
    case 16: /* ISWAP_R */
        operation = own ? RX_ADD : RX_SWAP;
        operand = other;
        imm = 0;
        changes = !own;
        break;
    default: changes = 0;
    }
    switch (opcode) {
    case 17: operation = RX_FSWAP; dst = 8 + 2 * dst; break; /* FSWAP_R: of f0 to f3 or e0 to e3 */
    case 18: operation = RX_FADD; operand = RX_REGISTER; dst = 8 + fdst; src = fsrc; break;
    case 19: operation = RX_FADD; operand = near; dst = 8 + fdst; break;
    case 20: operation = RX_FSUB; operand = RX_REGISTER; dst = 8 + fdst; src = fsrc; break;
    case 21: operation = RX_FSUB; operand = near; dst = 8 + fdst; break;
    case 22: operation = RX_FSCAL; dst = 8 + fdst; break;
    case 23: operation = RX_FMUL; operand = RX_REGISTER; dst = 16 + fdst; src = fsrc; break;
    case 24: operation = RX_FDIV; operand = near; dst = 16 + fdst; break;
    case 25: operation = RX_FSQRT; dst = 16 + fdst; break;
    case 26: /* CBRANCH: afterwards all registers count as changed */
        operation = RX_BRANCH;
        field = mod >> 4;
        target = after_change[dst];
        for (u32 i = 0; i < 8u; i++)
            after_change[i] = index + 1;
        break;
    case 27: operation = RX_ROUND; operand = RX_REGISTER; break;
    case 28: /* ISTORE: which operand says where to, src what */
        operation = RX_STORE;
        operand = (mod >> 4) >= 14u ? RX_IN_L3 : near;
        break;
    default: break;
    }
    if (changes)
        after_change[dst] = index + 1;
    if (operation == RX_SWAP)
        after_change[src] = index + 1;
    return ((u64)imm << 32) | operation | (operand << 5) | (dst << 8) | (src << 13) | (field << 18) | (target << 22);
}

/* A lane is a hash. `number` is the program's among the hash's programs, from 0 on. */
OTD_KERNEL(RX_GROUP) void rx_program(OTD_GLOBAL u64 *states, u32 stride, OTD_GLOBAL u64 *programs,
                                     OTD_GLOBAL u64 *reciprocals, OTD_GLOBAL const u32 *variant, u32 number)
{
    OTD_SHARED(u32, tables, OTD_AES_WORDS);
    otd_aes_tables(tables);
    OTD_BARRIER();
    u64 n = stride;
    OTD_GLOBAL u64 *state = states + OTD_GLOBAL_LANE;
    u32x4 columns[4];
    u64 words[8];
    u32 after_change[8];
    u64 fprc = state[RX_SETTING * n] >> 44;
    u64 setting = 0;
    if (number > 0)
        rx_reseed(state, n);
    for (u32 c = 0; c < 4u; c++)
        columns[c] = rx_column(state[(RX_SEED + 2 * c) * n], state[(RX_SEED + 2 * c + 1) * n]);
    for (u32 i = 0; i < 8u; i++)
        after_change[i] = 0;
    for (u32 line = 0; line < 2u + RX_SIZE / 8u; line++) {
        /* AesGenerator4R (specification 3.3). */
        OTD_NO_UNROLL
        for (u32 round = 0; round < 4u; round++) {
            for (u32 c = 0; c < 4u; c++) {
                OTD_GLOBAL const u32 *k = variant + c / 2u * 16u + round * 4u;
                columns[c] = otd_aes_round(tables, (c & 1u) == 0, columns[c], OTD_U32X4(k[0], k[1], k[2], k[3]));
            }
        }
        for (u32 c = 0; c < 4u; c++) {
            words[2 * c] = rx_low(columns[c]);
            words[2 * c + 1] = rx_high(columns[c]);
        }
        if (line == 0) { /* Specification 4.5.2: a numbers from 1 to 2^32 in each a register. */
            for (u32 i = 0; i < 8u; i++) {
                state[i * n] = 0;
                state[(RX_A + i) * n] = (((words[i] >> 59) + 1023u) << 52) | (words[i] & 0xfffffffffffff);
            }
        } else if (line == 1) { /* 4.5.3 to 4.5.6, and steps 2 to 4 of 4.3.2 */
            state[RX_MEMORY * n] = (words[0] & 0xffffffc0u) | ((words[2] & 0xffffffc0u) << 32);
            setting = words[5] % RX_DATASET_STARTS * 64u;
            for (u32 i = 0; i < 4u; i++)
                setting |= (2 * i + ((words[4] >> i) & 1u)) << (32u + 3u * i);
            state[RX_SETTING * n] = setting | (fprc << 44);
            for (u32 i = 0; i < 2u; i++)
                state[(RX_E_BITS + i) * n] =
                    (words[6 + i] & 0x3fffffu) | ((words[6 + i] >> 60) << 56) | 0x3000000000000000;
        } else {
            OTD_NO_UNROLL
            for (u32 i = 0; i < 8u; i++) {
                u32 index = (line - 2u) * 8u + i;
                u32 opcode = variant[32u + (u32)(words[i] & 0xffu)];
                programs[index * n + OTD_GLOBAL_LANE] = rx_decode(words[i], opcode, index, after_change);
                if (opcode == 10u)
                    reciprocals[index * n + OTD_GLOBAL_LANE] = rx_reciprocal((u32)(words[i] >> 32));
            }
        }
    }
}

/* The hash of a register file: h[0] to h[3]. */
OTD_FN void rx_result(OTD_GLOBAL const u64 *state, u32 stride, u64 *h)
{
    u64 m[16];
    otd_blake2b_start(h, 32);
    OTD_NO_UNROLL
    for (u32 piece = 0; piece < 2u; piece++) {
        for (u32 i = 0; i < 16u; i++)
            m[i] = state[(16 * piece + i) * (u64)stride];
        otd_blake2b_chunk(h, m, 128 * (piece + 1), piece);
    }
}

/* A lane is a hash, of nonce `first` and those after it, `count` in all. A hash is a number whose least significant
 * byte comes first; its top 64 bits are compared. */
OTD_KERNEL(RX_GROUP) void rx_finish(OTD_GLOBAL const u64 *states, u32 stride, u64 first, u32 count, u64 target_top,
                                    OTD_GLOBAL u32 *hits, u32 room)
{
    u64 h[8];
    rx_result(states + OTD_GLOBAL_LANE, stride, h);
    if (OTD_GLOBAL_LANE < count && h[3] <= target_top)
        otd_hit(hits, room, first + OTD_GLOBAL_LANE);
}

#if RX_V2
/* As rx_finish, but compares the commitment to the hash: blake2b-256 of the blob (see rx_seed) and the hash behind it,
 * which begins at a byte of any word. */
OTD_KERNEL(RX_GROUP) void rx_commit(OTD_GLOBAL const u64 *states, u32 stride, OTD_GLOBAL const u64 *blob,
                                    u32 blob_bytes, u32 nonce_at, u64 first, u32 count, u64 target_top,
                                    OTD_GLOBAL u32 *hits, u32 room)
{
    u64 nonce = first + OTD_GLOBAL_LANE;
    u32 words = (blob_bytes + 127u) / 128u * 16u, start = blob_bytes / 8u, shift = blob_bytes % 8u * 8u;
    u32 bytes = blob_bytes + 32u;
    u64 hash[8], h[8], m[16];
    rx_result(states + OTD_GLOBAL_LANE, stride, hash);
    otd_blake2b_start(h, 32);
    u32 at = 0;
    do {
        for (u32 i = 0; i < 16u; i++) {
            u32 word = at / 8u + i;
            m[i] = word < words ? rx_blob_word(blob, word, nonce_at, nonce) : 0;
            for (u32 j = 0; j < 4u; j++) {
                if (word == start + j)
                    m[i] |= hash[j] << shift;
                if (word == start + j + 1u && shift > 0)
                    m[i] |= hash[j] >> (64u - shift);
            }
        }
        at = OTD_MIN32(at + 128u, bytes);
        otd_blake2b_chunk(h, m, at, at == bytes);
    } while (at < bytes);
    if (OTD_GLOBAL_LANE < count && h[3] <= target_top)
        otd_hit(hits, room, nonce);
}
#endif
