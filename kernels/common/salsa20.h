/* Salsa20/8 and Scrypt's BlockMix for r = 1 (RFC 7914, 3 and 4) on one lane's registers. Words are little-endian. */
#ifndef OTD_SALSA20_H
#define OTD_SALSA20_H

/* y ^ (x <<< n), on NVIDIA by the multiplier: the product x * 2^n holds both ends of the rotation, and the exclusive or
 * takes three operands anyway. */
OTD_FN u32 otd_xor_rotl(u32 y, u32 x, u32 n)
{
#if OTD_CUDA
    u64 product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(x), "r"(1u << n));
    return y ^ (u32)product ^ (u32)(product >> 32);
#else
    return y ^ OTD_ROTL32(x, n);
#endif
}

/* A quarter of a round: y[b] ^= (y[a] + y[d]) <<< 7 and so on around the four. On sm_75..sm_90 rotations and exclusive
 * ors share a pipe of 64 lanes a clock and SM, additions can go to another, where a wide product takes two turns: one
 * rotation of four there makes the two pipes' loads about 520 and 430 turns a step instead of 580 and 300. */
#define OTD_SALSA20_QUARTER(y, a, b, c, d)              \
    do {                                                \
        y[b] = otd_xor_rotl(y[b], y[a] + y[d], 7);      \
        y[c] ^= OTD_ROTL32(y[b] + y[a], 9);             \
        y[d] ^= OTD_ROTL32(y[c] + y[b], 13);            \
        y[a] ^= OTD_ROTL32(y[d] + y[c], 18);            \
    } while (0)

/* to = Salsa20/8(to ^ with), 16 words each. */
OTD_FN void otd_salsa20_8_xor(u32 *to, const u32 *with)
{
    u32 y[16];
    u32 i;
    OTD_UNROLL
    for (i = 0; i < 16; i++) {
        to[i] ^= with[i];
        y[i] = to[i];
    }
    OTD_UNROLL
    for (i = 0; i < 8; i += 2) {
        OTD_SALSA20_QUARTER(y, 0, 4, 8, 12);
        OTD_SALSA20_QUARTER(y, 5, 9, 13, 1);
        OTD_SALSA20_QUARTER(y, 10, 14, 2, 6);
        OTD_SALSA20_QUARTER(y, 15, 3, 7, 11);
        OTD_SALSA20_QUARTER(y, 0, 1, 2, 3);
        OTD_SALSA20_QUARTER(y, 5, 6, 7, 4);
        OTD_SALSA20_QUARTER(y, 10, 11, 8, 9);
        OTD_SALSA20_QUARTER(y, 15, 12, 13, 14);
    }
    OTD_UNROLL
    for (i = 0; i < 16; i++)
        to[i] += y[i];
}

/* BlockMix of the 128 bytes x. */
OTD_FN void otd_blockmix(u32 *x)
{
    otd_salsa20_8_xor(x, x + 16);
    otd_salsa20_8_xor(x + 16, x);
}

#endif
