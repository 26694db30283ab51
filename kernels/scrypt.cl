/* Scrypt (RFC 7914) with N = 1024, r = 1, p = 1 over 80-byte headers, as Litecoin and Dogecoin mine it: one lane a
 * hash, its 128 bytes X in registers, its 1024 rows of 128 bytes in device memory.
 *
 * Four kernels, in this order, on the same `state` and `rows`:
 *   scrypt_begin   PBKDF2: header and nonce -> X
 *   scrypt_fill    steps 0..1024: row[i] = X, X = BlockMix(X)
 *   scrypt_mix     steps 0..1024: X = BlockMix(X ^ row[X[16] mod 1024])
 *   scrypt_end     PBKDF2: X -> the digest, which is held against the target
 * Fill and mix take the steps they are to do, so a batch may be cut into launches as short as one likes. All
 * run over `lanes` lanes (a multiple of 64, less than 2^22), in groups of 64; lane l tries nonce first + l.
 *
 *   state   48 words a lane, word w of lane l at w * lanes + l: X, then HMAC's states after its inner and outer pads
 *   rows    1024 / OTD_GAP rows a lane, row r of lane l 128 bytes at (r * lanes + l) * 128
 *
 * -DOTD_GAP=g (a power of two up to 1024; 1 unless given) keeps every g-th row and computes the others again: a g-th
 * of the memory, and (g - 1) / 2 BlockMixes more in a mix step.
 *
 * Rows are what the algorithm is about: 128 KiB written and 128 KiB read per hash, the reads at random. A row is one
 * line of a cache, but a lane that reads its row by itself asks for eight times 16 bytes, and a load instruction of a
 * warp then touches 32 lines. -DOTD_TRANSPOSE=1 (the default under CUDA) lets eight lanes move one row at once, so
 * that an instruction touches four lines, whole; shared memory brings each lane its own row: part q of lane l's row
 * lies at slot q ^ (l mod 8), so neither the writes (eight lanes, one row) nor the reads (eight lanes, one slot each)
 * meet on a bank.
 *
 * Counted for a step of either loop on sm_90 (kernels/cuda/figures.txt), and what it allows an H200 (132
 * multiprocessors at 1.98 GHz; computed, not measured). Beside them the two PBKDF2 are under 2 %.
 *
 *                                fill   mix
 *     shifts, logic               520   521    15.7 MH/s
 *     multiplier, in turns        411   431    19.4 MH/s
 *     instructions issued         890   913    18.1 MH/s
 *     shared memory, of a warp     67    67    62 MH/s
 *     device memory, bytes        128   128    16.4 MH/s at 4.3 TB/s
 *
 * Rotations by 7 go through the multiplier (salsa20.h); without that it is 554 and 579, 14.4 MH/s. Rows moved by each
 * lane alone (OTD_TRANSPOSE=0) take 867 instructions a mix step instead of 913, but 256 lines looked up for a warp
 * instead of 32.
 */

#ifndef OTD_GAP
#define OTD_GAP 1
#endif
#ifndef OTD_TRANSPOSE
#if OTD_CUDA
#define OTD_TRANSPOSE 1
#else
#define OTD_TRANSPOSE 0
#endif
#endif

#define SCRYPT_GROUP 64

/* Word w of this lane's state. */
#define STATE(w) state[(u64)(w) * lanes + lane]

/* Pads a block whose first `used` words are the end of a message of `bytes` bytes. */
OTD_FN void scrypt_pad(u32 *w, u32 used, u32 bytes)
{
    u32 i;
    w[used] = 0x80000000u;
    OTD_UNROLL
    for (i = 1; i < 15; i++)
        if (i > used)
            w[i] = 0u;
    w[15] = 8u * bytes;
}

/* HMAC's state after a pad block: 32 bytes of key, every byte of the block xored with `pad`. */
OTD_FN void scrypt_hmac_key(u32 *state, const u32 *key, u32 pad)
{
    u32 w[16];
    u32 i;
    otd_sha256_iv(state);
    OTD_UNROLL
    for (i = 0; i < 8; i++) {
        w[i] = key[i] ^ pad;
        w[i + 8] = pad;
    }
    otd_sha256_compress(state, w);
}

/* HMAC's outer hash of an inner digest, which it replaces. */
OTD_FN void scrypt_hmac_finish(u32 *digest, const u32 *outer)
{
    u32 w[16];
    u32 i;
    OTD_UNROLL
    for (i = 0; i < 8; i++) {
        w[i] = digest[i];
        digest[i] = outer[i];
    }
    scrypt_pad(w, 8, 64 + 32);
    otd_sha256_compress(digest, w);
}

/* X = PBKDF2-HMAC-SHA-256(header, header, 1, 128).
 *   m0..m7     state after the header's first 64 bytes
 *   h0..h18    the header's words but for the nonce, big-endian
 *   first      nonce of lane 0, as the header's number */
OTD_KERNEL(SCRYPT_GROUP)
void scrypt_begin(u32 m0, u32 m1, u32 m2, u32 m3, u32 m4, u32 m5, u32 m6, u32 m7,
                  u32 h0, u32 h1, u32 h2, u32 h3, u32 h4, u32 h5, u32 h6, u32 h7,
                  u32 h8, u32 h9, u32 h10, u32 h11, u32 h12, u32 h13, u32 h14, u32 h15,
                  u32 h16, u32 h17, u32 h18, u32 first, u32 lanes, OTD_GLOBAL u32 *state)
{
    u32 lane = (u32)OTD_GLOBAL_LANE;
    u32 h19 = OTD_SWAP32(first + lane);
    u32 key[8], inner[8], outer[8], w[16];
    u32 i, block;

    /* A key of more than 64 bytes is hashed. */
    key[0] = m0; key[1] = m1; key[2] = m2; key[3] = m3; key[4] = m4; key[5] = m5; key[6] = m6; key[7] = m7;
    w[0] = h16; w[1] = h17; w[2] = h18; w[3] = h19;
    scrypt_pad(w, 4, 80);
    otd_sha256_compress(key, w);
    scrypt_hmac_key(inner, key, 0x36363636u);
    scrypt_hmac_key(outer, key, 0x5c5c5c5cu);
    OTD_UNROLL
    for (i = 0; i < 8; i++) {
        STATE(32 + i) = inner[i];
        STATE(40 + i) = outer[i];
    }

    /* The salt's first 64 bytes are the same for all four blocks of output. */
    w[0] = h0; w[1] = h1; w[2] = h2; w[3] = h3; w[4] = h4; w[5] = h5; w[6] = h6; w[7] = h7;
    w[8] = h8; w[9] = h9; w[10] = h10; w[11] = h11; w[12] = h12; w[13] = h13; w[14] = h14; w[15] = h15;
    otd_sha256_compress(inner, w);
    OTD_NO_UNROLL
    for (block = 0; block < 4; block++) {
        u32 digest[8];
        OTD_UNROLL
        for (i = 0; i < 8; i++)
            digest[i] = inner[i];
        w[0] = h16; w[1] = h17; w[2] = h18; w[3] = h19; w[4] = block + 1;
        scrypt_pad(w, 5, 64 + 84);
        otd_sha256_compress(digest, w);
        scrypt_hmac_finish(digest, outer);
        OTD_UNROLL
        for (i = 0; i < 8; i++)
            STATE(8 * block + i) = OTD_SWAP32(digest[i]);
    }
}

/* One row for each lane of the group, written from its x or xored into it. `row` is the row's number in `rows`. */
#if OTD_TRANSPOSE

#define SCRYPT_TILE OTD_SHARED(u32x4, tile, 8 * SCRYPT_GROUP); OTD_SHARED(u32, numbers, SCRYPT_GROUP);
#define SCRYPT_TILE_ARG , tile, numbers
#define SCRYPT_TILE_PARAMETER , OTD_LOCAL u32x4 *tile, OTD_LOCAL u32 *numbers

/* Where part q of the row of lane l lies in the tile. */
#define SLOT(l, q) (8 * (l) + ((q) ^ ((l) & 7)))

/* The address of part `part` of a row. The rows' distance, 128, comes from what the compiler does not know, so that this
 * is one multiply-add; shifting and adding with carry takes two or three, on the pipe that is short of turns. */
OTD_FN OTD_GLOBAL u32x4 *scrypt_part(OTD_GLOBAL u32x4 *rows, u32 part, u32 row)
{
    return (OTD_GLOBAL u32x4 *)((OTD_GLOBAL u8 *)(rows + part) + (u64)row * (128 / SCRYPT_GROUP * OTD_LANES));
}

OTD_FN void scrypt_store(OTD_GLOBAL u32x4 *rows, u32 row, const u32 *x SCRYPT_TILE_PARAMETER)
{
    u32 lane = OTD_LANE, eight = lane & ~7u, part = lane & 7u;
    u32 i;
    numbers[lane] = row;
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        tile[SLOT(lane, i)] = OTD_U32X4(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
    OTD_BARRIER();
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        *scrypt_part(rows, part, numbers[eight + i]) = tile[SLOT(eight + i, part)];
    OTD_BARRIER();
}

OTD_FN void scrypt_load(OTD_GLOBAL u32x4 *rows, u32 row, u32 *x SCRYPT_TILE_PARAMETER)
{
    u32 lane = OTD_LANE, eight = lane & ~7u, part = lane & 7u;
    u32x4 got[8];
    u32 i;
    numbers[lane] = row;
    OTD_BARRIER();
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        got[i] = *scrypt_part(rows, part, numbers[eight + i]);
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        tile[SLOT(eight + i, part)] = got[i];
    OTD_BARRIER();
    OTD_UNROLL
    for (i = 0; i < 8; i++) {
        u32x4 quarter = tile[SLOT(lane, i)];
        x[4 * i] = quarter.x;
        x[4 * i + 1] = quarter.y;
        x[4 * i + 2] = quarter.z;
        x[4 * i + 3] = quarter.w;
    }
}

#else

#define SCRYPT_TILE
#define SCRYPT_TILE_ARG
#define SCRYPT_TILE_PARAMETER

OTD_FN void scrypt_store(OTD_GLOBAL u32x4 *rows, u32 row, const u32 *x SCRYPT_TILE_PARAMETER)
{
    u32 i;
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        rows[(u64)row * 8 + i] = OTD_U32X4(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
}

OTD_FN void scrypt_load(OTD_GLOBAL u32x4 *rows, u32 row, u32 *x SCRYPT_TILE_PARAMETER)
{
    u32 i;
    OTD_UNROLL
    for (i = 0; i < 8; i++) {
        u32x4 quarter = rows[(u64)row * 8 + i];
        x[4 * i] = quarter.x;
        x[4 * i + 1] = quarter.y;
        x[4 * i + 2] = quarter.z;
        x[4 * i + 3] = quarter.w;
    }
}

#endif

/* Steps step_from .. step_to of the first loop. */
OTD_KERNEL(SCRYPT_GROUP)
void scrypt_fill(OTD_GLOBAL u32 *state, OTD_GLOBAL u32x4 *rows, u32 lanes, u32 step_from, u32 step_to)
{
    SCRYPT_TILE
    u32 lane = (u32)OTD_GLOBAL_LANE;
    u32 x[32];
    u32 i, step;
    OTD_UNROLL
    for (i = 0; i < 32; i++)
        x[i] = STATE(i);
    OTD_NO_UNROLL
    for (step = step_from; step < step_to; step++) {
        if (step % OTD_GAP == 0)
            scrypt_store(rows, step / OTD_GAP * lanes + lane, x SCRYPT_TILE_ARG);
        otd_blockmix(x);
    }
    OTD_UNROLL
    for (i = 0; i < 32; i++)
        STATE(i) = x[i];
}

/* Steps step_from .. step_to of the second loop. */
OTD_KERNEL(SCRYPT_GROUP)
void scrypt_mix(OTD_GLOBAL u32 *state, OTD_GLOBAL u32x4 *rows, u32 lanes, u32 step_from, u32 step_to)
{
    SCRYPT_TILE
    u32 lane = (u32)OTD_GLOBAL_LANE;
    u32 x[32];
    u32 i, step;
    OTD_UNROLL
    for (i = 0; i < 32; i++)
        x[i] = STATE(i);
    OTD_NO_UNROLL
    for (step = step_from; step < step_to; step++) {
        u32 row[32];
        u32 number = x[16] % 1024u;
        scrypt_load(rows, number / OTD_GAP * lanes + lane, row SCRYPT_TILE_ARG);
#if OTD_GAP > 1
        u32 again;
        OTD_NO_UNROLL
        for (again = number % OTD_GAP; again > 0; again--)
            otd_blockmix(row);
#endif
        OTD_UNROLL
        for (i = 0; i < 32; i++)
            x[i] ^= row[i];
        otd_blockmix(x);
    }
    OTD_UNROLL
    for (i = 0; i < 32; i++)
        STATE(i) = x[i];
}

/* Reports each nonce of first .. first + count whose digest, PBKDF2-HMAC-SHA-256(header, X, 1, 32) read little-endian,
 * has at most target_top as its highest 64 bits. */
OTD_KERNEL(SCRYPT_GROUP)
void scrypt_end(OTD_GLOBAL const u32 *state, u32 lanes, u32 first, u32 count, u64 target_top,
                OTD_GLOBAL u32 *hits, u32 room)
{
    u32 lane = (u32)OTD_GLOBAL_LANE;
    u32 digest[8], outer[8], w[16];
    u32 i, part;
    u64 top;
    OTD_UNROLL
    for (i = 0; i < 8; i++) {
        digest[i] = STATE(32 + i);
        outer[i] = STATE(40 + i);
    }
    OTD_NO_UNROLL
    for (part = 0; part < 2; part++) {
        OTD_UNROLL
        for (i = 0; i < 16; i++)
            w[i] = OTD_SWAP32(STATE(16 * part + i));
        otd_sha256_compress(digest, w);
    }
    w[0] = 1u;
    scrypt_pad(w, 1, 64 + 132);
    otd_sha256_compress(digest, w);
    scrypt_hmac_finish(digest, outer);
    top = (u64)OTD_SWAP32(digest[7]) << 32 | OTD_SWAP32(digest[6]);
    if (lane < count && top <= target_top)
        otd_hit(hits, room, first + lane);
}
