/* RandomX: what runs long. The machine (rx_execute) and dataset items (rx_items); see the top of randomx.cl.
 *
 * What the machine costs on a warp of 32 lanes, counted in SASS for sm_90: a step is 486 instructions if its lanes want
 * all there is, some 360 in the mean over programs of version 1 (a division is there in 40 of 100 steps, a square root
 * in 53). A warp does 32 instructions of the machine meanwhile: 11 issue slots for each, where one hash to 8 lanes took
 * some 40. With 4 slots a clock, 132 SM and 1.98 GHz that bounds version 1 at 21,000 hashes a second, version 2 below
 * 14,000. Registers (72 and 90) leave room for 16 warps and more; memory for 141 GB / 2 MiB = 500 hashes for each SM,
 * which are 16 warps, so latency binds first: a step that waits 1000 clocks for memory and 2000 for its own
 * dependent instructions gives 10,000 hashes a second. Arithmetic, not yet measured.
 */

/* Operations on integers, RX_ADD to RX_ROTATE_LEFT. */
OTD_FN u64 rx_integer(u32 operation, u64 d, u64 s)
{
    switch (operation) {
    case RX_ADD: return d + s;
    case RX_SUBTRACT: return d - s;
    case RX_MULTIPLY: return d * s;
    case RX_MULTIPLY_HIGH: return OTD_MULHI64(d, s);
    case RX_MULTIPLY_HIGH_SIGNED: return (u64)OTD_MULHI64S(d, s);
    case RX_XOR: return d ^ s;
    default: { /* to the left is to the right by what is missing to 64 */
        u32 count = (operation == RX_ROTATE_LEFT ? 0u - (u32)s : (u32)s) & 63u;
        return (d >> count) | (d << ((64u - count) & 63u));
    }
    }
}

/* A dataset item (specification 7.3) into eight words of this lane, the first at `item`. `functions` holds
 * RX_CACHE_ACCESSES SuperscalarHash functions: a word with the number of instructions in the low half and the
 * address register in the high, then for each instruction two words, the first
 *   bits 0-7 operation   8-15 dst   16-23 src   24-31 how far src is shifted   32-39 whether the second word is
 * the operand instead. */
OTD_FN void rx_item(OTD_LOCAL u64 *item, u64 index, OTD_GLOBAL const u64x2 *cache, OTD_GLOBAL const u64 *functions)
{
    OTD_GLOBAL const u64 *f = functions;
    u64 line = index;
    u64 first = (index + 1u) * 6364136223846793005;
    item[0] = first;
    item[1 * RX_GROUP] = first ^ 0x810a978a59f5a1fc;
    item[2 * RX_GROUP] = first ^ 0xa77099df38c2d846;
    item[3 * RX_GROUP] = first ^ 0x8126b91cbf22495c;
    item[4 * RX_GROUP] = first ^ 0x494d2597179f8a62;
    item[5 * RX_GROUP] = first ^ 0x9237efb9ceaaec0c;
    item[6 * RX_GROUP] = first ^ 0x2f2a56746ce62d78;
    item[7 * RX_GROUP] = first ^ 0x84853bf7b62ce54e;
    for (u32 access = 0; access < RX_CACHE_ACCESSES; access++) {
        OTD_GLOBAL const u64x2 *loaded = cache + (line & (RX_CACHE_LINES - 1u)) * 4u;
        u32 length = (u32)f[0], address_register = (u32)(f[0] >> 32);
        f++;
        for (u32 i = 0; i < length; i++, f += 2) {
            u64 word = f[0];
            u32 dst = (u32)(word >> 8) & 7u, src = (u32)(word >> 16) & 7u;
            u64 s = (word >> 32) ? f[1] : item[src * RX_GROUP] << ((u32)(word >> 24) & 3u);
            item[dst * RX_GROUP] = rx_integer((u32)word & 0xffu, item[dst * RX_GROUP], s);
        }
        for (u32 i = 0; i < 4u; i++) {
            u64x2 pair = loaded[i];
            item[2 * i * RX_GROUP] ^= pair.x;
            item[(2 * i + 1) * RX_GROUP] ^= pair.y;
        }
        line = item[address_register * RX_GROUP];
    }
}

/* A lane is an item: `first` and those after it, into a part of the dataset that begins with item `begin`. */
OTD_KERNEL(RX_GROUP) void rx_items(OTD_GLOBAL const u64x2 *cache, OTD_GLOBAL const u64 *functions,
                                   OTD_GLOBAL u64x2 *part, u64 begin, u64 first, u64 end)
{
    OTD_SHARED(u64, items, 8 * RX_GROUP);
    OTD_LOCAL u64 *item = items + OTD_LANE;
    u64 index = first + OTD_GLOBAL_LANE;
    if (index < end) {
        rx_item(item, index, cache, functions);
        for (u32 i = 0; i < 4u; i++) {
            u64x2 pair;
            pair.x = item[2 * i * RX_GROUP];
            pair.y = item[(2 * i + 1) * RX_GROUP];
            part[(index - begin) * 4u + i] = pair;
        }
    }
}

/* Two signed integers of 32 bits as a pair of numbers: those of group F (specification 4.3.1). */
#define RX_NUMBER(word, half) ((f64)(i32)(u32)((word) >> (32 * (half))))

/* The bits of a number of group E that come from memory (4.3.2). */
#define RX_E_NUMBER(word, half, bits) ((OTD_BITS_OF_F64(RX_NUMBER(word, half)) & 0x00ffffffffc00000) | (bits))

/* An operation on a pair of numbers, x in registers `d` and `d` + RX_GROUP, y as bits. */
OTD_FN void rx_number(u32 operation, OTD_LOCAL u64 *d, u64 y0, u64 y1, u32 mode)
{
    u64 x0 = d[0], x1 = d[RX_GROUP];
    f64 a0 = OTD_F64_OF_BITS(x0), a1 = OTD_F64_OF_BITS(x1);
    f64 z0, z1;
    if (operation >= RX_FSCAL) {
        d[0] = operation == RX_FSWAP ? x1 : x0 ^ 0x80f0000000000000;
        d[RX_GROUP] = operation == RX_FSWAP ? x0 : x1 ^ 0x80f0000000000000;
        return;
    }
    if (operation <= RX_FSUB) {
        u64 sign = operation == RX_FSUB ? 0x8000000000000000 : 0;
        z0 = otd_add(a0, OTD_F64_OF_BITS(y0 ^ sign), mode);
        z1 = otd_add(a1, OTD_F64_OF_BITS(y1 ^ sign), mode);
    } else if (operation == RX_FMUL) {
        z0 = otd_multiply(a0, OTD_F64_OF_BITS(y0), mode);
        z1 = otd_multiply(a1, OTD_F64_OF_BITS(y1), mode);
    } else if (operation == RX_FDIV) {
        z0 = otd_divide(a0, OTD_F64_OF_BITS(y0), mode);
        z1 = otd_divide(a1, OTD_F64_OF_BITS(y1), mode);
    } else {
        z0 = otd_square_root(a0, mode);
        z1 = otd_square_root(a1, mode);
    }
    d[0] = OTD_BITS_OF_F64(z0);
    d[RX_GROUP] = OTD_BITS_OF_F64(z1);
}

/* A lane is a hash: iterations `from` .. `to` of its program (specification 4.6.2, whose steps are numbered here).
 * The dataset is in two parts, the first of RX_PART items; with RX_LIGHT they are the cache and the functions. */
OTD_KERNEL(RX_GROUP) void rx_execute(OTD_GLOBAL u64 *states, u32 stride, OTD_GLOBAL const u64 *programs,
                                     OTD_GLOBAL const u64 *reciprocals, OTD_GLOBAL u64x2 *scratchpads,
                                     OTD_GLOBAL const u64x2 *dataset, OTD_GLOBAL const u64x2 *dataset_rest, u32 from,
                                     u32 to)
{
    OTD_SHARED(u64, registers, 32 * RX_GROUP);
#if RX_LIGHT
    OTD_SHARED(u64, items, 8 * RX_GROUP);
#endif
#if RX_V2
    OTD_SHARED(u32, tables, OTD_AES_WORDS);
    otd_aes_tables(tables);
    OTD_BARRIER();
#endif
    u64 n = stride, hash = OTD_GLOBAL_LANE;
    OTD_GLOBAL u64 *state = states + hash;
    OTD_GLOBAL const u64 *program = programs + hash;
    OTD_GLOBAL u64x2 *lines = scratchpads + hash * (RX_L3 / 16u);
    OTD_GLOBAL u64 *scratchpad = (OTD_GLOBAL u64 *)lines;
    OTD_LOCAL u64 *r = registers + OTD_LANE;
    u64 setting = state[RX_SETTING * n];
    u64 e_bits0 = state[RX_E_BITS * n], e_bits1 = state[(RX_E_BITS + 1) * n];
    u32 ma = (u32)state[RX_MEMORY * n], mx = (u32)(state[RX_MEMORY * n] >> 32);
    u32 fprc = (u32)(setting >> 44);
    OTD_NO_UNROLL
    for (u32 i = 0; i < 32u; i++)
        r[i * RX_GROUP] = state[i * n];

    for (u32 iteration = from; iteration < to; iteration++) {
        /* 1: at the first iteration, spAddr0 is mx and spAddr1 is ma; later both are 0. */
        u64 mixed = r[((u32)(setting >> 32) & 7u) * RX_GROUP] ^ r[((u32)(setting >> 35) & 7u) * RX_GROUP];
        OTD_GLOBAL u64x2 *line0 = lines + (((iteration == 0 ? mx : 0) ^ (u32)mixed) & (RX_L3 - 64u)) / 16u;
        OTD_GLOBAL u64x2 *line1 = lines + (((iteration == 0 ? ma : 0) ^ (u32)(mixed >> 32)) & (RX_L3 - 64u)) / 16u;
        /* 2 and 3 */
        for (u32 i = 0; i < 4u; i++) {
            u64x2 pair = line0[i];
            u64x2 numbers = line1[i];
            r[2 * i * RX_GROUP] ^= pair.x;
            r[(2 * i + 1) * RX_GROUP] ^= pair.y;
            if (i < 2u) {
                r[(8 + 4 * i) * RX_GROUP] = OTD_BITS_OF_F64(RX_NUMBER(numbers.x, 0));
                r[(9 + 4 * i) * RX_GROUP] = OTD_BITS_OF_F64(RX_NUMBER(numbers.x, 1));
                r[(10 + 4 * i) * RX_GROUP] = OTD_BITS_OF_F64(RX_NUMBER(numbers.y, 0));
                r[(11 + 4 * i) * RX_GROUP] = OTD_BITS_OF_F64(RX_NUMBER(numbers.y, 1));
            } else {
                r[(8 + 4 * i) * RX_GROUP] = RX_E_NUMBER(numbers.x, 0, e_bits0);
                r[(9 + 4 * i) * RX_GROUP] = RX_E_NUMBER(numbers.x, 1, e_bits1);
                r[(10 + 4 * i) * RX_GROUP] = RX_E_NUMBER(numbers.y, 0, e_bits0);
                r[(11 + 4 * i) * RX_GROUP] = RX_E_NUMBER(numbers.y, 1, e_bits1);
            }
        }
        /* 4: the next word is on its way while one is executed. */
        u64 word = program[0];
        u32 pc = 0;
        while (pc < RX_SIZE) {
            u64 next = program[OTD_MIN32(pc + 1u, RX_SIZE - 1u) * n];
            u32 imm = (u32)(word >> 32);
            u32 operation = (u32)word & 31u, operand = ((u32)word >> 5) & 7u, field = ((u32)word >> 18) & 15u;
            OTD_LOCAL u64 *d = r + (((u32)word >> 8) & 31u) * RX_GROUP;
            OTD_LOCAL u64 *source = r + (((u32)word >> 13) & 31u) * RX_GROUP;
            u64 s = source[0];
            u32 base = operation == RX_STORE ? (u32)d[0] : operand == RX_IN_L3 ? 0u : (u32)s;
            u32 mask = operand == RX_IN_L1 ? RX_L1 - 8u : operand == RX_IN_L2 ? RX_L2 - 8u : RX_L3 - 8u;
            OTD_GLOBAL u64 *place = scratchpad + ((base + imm) & mask) / 8u;
            if (operation == RX_STORE)
                place[0] = s;
            else if (operand >= RX_IN_L1)
                s = place[0];
            else if (operand == RX_RECIPROCAL)
                s = reciprocals[pc * n + hash];
            else if (operand == RX_IMMEDIATE)
                s = RX_SIGN_EXTENDED(imm);
            else if (operand == RX_DISPLACED)
                s = (s << field) + RX_SIGN_EXTENDED(imm);
            pc++;
            if (operation <= RX_ROTATE_LEFT) {
                d[0] = rx_integer(operation, d[0], s);
            } else if (operation == RX_SWAP) {
                source[0] = d[0];
                d[0] = s;
            } else if (operation == RX_BRANCH) { /* 5.4.2 */
                u32 bit = field + RX_JUMP_OFFSET;
                u64 one = (u64)1 << bit;
                u64 value = d[0] + ((RX_SIGN_EXTENDED(imm) | one) & ~(one >> 1));
                d[0] = value;
                if (((value >> bit) & (((u64)1 << RX_JUMP_BITS) - 1u)) == 0) {
                    pc = ((u32)word >> 22) & 511u;
                    next = program[pc * n];
                }
            } else if (operation == RX_ROUND) { /* 5.4.1 */
                u32 rotated = (u32)rx_integer(RX_ROTATE_RIGHT, s, imm);
                if (!RX_V2 || (rotated & 60u) == 0)
                    fprc = rotated & 3u;
            } else if (operation >= RX_FADD) {
                u64 y0 = s, y1 = source[RX_GROUP];
                if (operand >= RX_IN_L1) {
                    y0 = operation == RX_FDIV ? RX_E_NUMBER(s, 0, e_bits0) : OTD_BITS_OF_F64(RX_NUMBER(s, 0));
                    y1 = operation == RX_FDIV ? RX_E_NUMBER(s, 1, e_bits1) : OTD_BITS_OF_F64(RX_NUMBER(s, 1));
                }
                rx_number(operation, d, y0, y1, fprc);
            }
            word = next;
        }
        /* 5 to 8 */
        u32 read = ma;
        u32 moved = (u32)(r[((u32)(setting >> 38) & 7u) * RX_GROUP] ^ r[((u32)(setting >> 41) & 7u) * RX_GROUP]) & ~63u;
        if (RX_V2)
            ma ^= moved;
        else
            mx ^= moved;
        u64 item = ((u32)setting + (u64)(read & RX_DATASET_MASK)) / 64u;
#if RX_LIGHT
        rx_item(items + OTD_LANE, item, dataset, (OTD_GLOBAL const u64 *)dataset_rest);
#else
        OTD_GLOBAL const u64x2 *loaded =
            item < RX_PART ? dataset + item * 4u : dataset_rest + (item - RX_PART) * 4u;
#endif
        u32 swapped = ma;
        ma = mx;
        mx = swapped;
        /* 7 and 9 */
        for (u32 i = 0; i < 4u; i++) {
            u64x2 pair;
#if RX_LIGHT
            pair.x = items[2 * i * RX_GROUP + OTD_LANE];
            pair.y = items[(2 * i + 1) * RX_GROUP + OTD_LANE];
#else
            pair = loaded[i];
#endif
            pair.x ^= r[2 * i * RX_GROUP];
            pair.y ^= r[(2 * i + 1) * RX_GROUP];
            r[2 * i * RX_GROUP] = pair.x;
            r[(2 * i + 1) * RX_GROUP] = pair.y;
            line1[i] = pair;
        }
        /* 10 and 11 */
        for (u32 i = 0; i < 4u; i++) {
            OTD_LOCAL u64 *f = r + (8 + 2 * i) * RX_GROUP;
            u64x2 pair;
#if RX_V2
            u32x4 column = rx_column(f[0], f[RX_GROUP]);
            for (u32 j = 0; j < 4u; j++)
                column = otd_aes_round(tables, i & 1u, column,
                                       rx_column(r[(16 + 2 * j) * RX_GROUP], r[(17 + 2 * j) * RX_GROUP]));
            pair.x = rx_low(column);
            pair.y = rx_high(column);
#else
            pair.x = f[0] ^ f[8 * RX_GROUP];
            pair.y = f[RX_GROUP] ^ f[9 * RX_GROUP];
#endif
            f[0] = pair.x;
            f[RX_GROUP] = pair.y;
            line0[i] = pair;
        }
    }

    OTD_NO_UNROLL
    for (u32 i = 0; i < 32u; i++)
        state[i * n] = r[i * RX_GROUP];
    state[RX_MEMORY * n] = ma | ((u64)mx << 32);
    state[RX_SETTING * n] = (setting & 0xfffffffffff) | ((u64)fprc << 44);
}
