/* BLAKE2b (RFC 7693) without a key, one chunk of 128 bytes at a time.
 *
 * Rounds stay rolled: a RandomX hash compresses some twenty chunks beside four million instructions of its machine.
 */
#ifndef OTD_BLAKE2B_H
#define OTD_BLAKE2B_H

/* What a state starts from (RFC 7693, 2.6). */
OTD_TABLE u64 OTD_BLAKE2B_IV[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

/* In which order a round takes the words of the chunk (2.7); rounds 10 and 11 are 0 and 1 again. */
OTD_TABLE u8 OTD_BLAKE2B_SIGMA[160] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3,
    11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4,
    7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8,
    9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13,
    2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9,
    12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11,
    13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10,
    6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5,
    10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0,
};

/* A state before the first chunk, for digests of `bytes` bytes (1 to 64). */
OTD_FN void otd_blake2b_start(u64 *h, u32 bytes)
{
    for (u32 i = 0; i < 8u; i++)
        h[i] = OTD_BLAKE2B_IV[i];
    h[0] ^= 0x01010000u ^ bytes;
}

/* The mixing function G (3.1). */
OTD_FN void otd_blake2b_mix(u64 *v, u32 a, u32 b, u32 c, u32 d, u64 x, u64 y)
{
    v[a] += v[b] + x;
    v[d] = OTD_ROTR64(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = OTD_ROTR64(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = OTD_ROTR64(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = OTD_ROTR64(v[b] ^ v[c], 63);
}

/* The compression function F (3.2). `end` counts the message's bytes up to this chunk's end. */
OTD_FN void otd_blake2b_chunk(u64 *h, const u64 *m, u32 end, u32 last)
{
    u64 v[16];
    for (u32 i = 0; i < 8u; i++) {
        v[i] = h[i];
        v[8 + i] = OTD_BLAKE2B_IV[i];
    }
    v[12] ^= end;
    if (last)
        v[14] = ~v[14];
    for (u32 round = 0; round < 12u; round++) {
        u32 s = round % 10u * 16u;
        for (u32 i = 0; i < 4u; i++)
            otd_blake2b_mix(v, i, 4 + i, 8 + i, 12 + i, m[OTD_BLAKE2B_SIGMA[s + 2 * i]],
                            m[OTD_BLAKE2B_SIGMA[s + 2 * i + 1]]);
        for (u32 i = 0; i < 4u; i++)
            otd_blake2b_mix(v, i, 4 + (i + 1) % 4u, 8 + (i + 2) % 4u, 12 + (i + 3) % 4u,
                            m[OTD_BLAKE2B_SIGMA[s + 8 + 2 * i]], m[OTD_BLAKE2B_SIGMA[s + 9 + 2 * i]]);
    }
    for (u32 i = 0; i < 8u; i++)
        h[i] ^= v[i] ^ v[8 + i];
}

#endif
