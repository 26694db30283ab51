/* SHA-256 (FIPS 180-4) on one lane's registers, and PBKDF2-HMAC-SHA-256 as Scrypt uses it (RFC 2104, 8018).
 *
 * Words are numbers: whoever has a message's bytes reads them big-endian.
 */
#ifndef OTD_SHA256_H
#define OTD_SHA256_H

/* FIPS 180-4, 4.2.2. */
OTD_TABLE u32 OTD_SHA256_K[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

/* FIPS 180-4, 5.3.3. */
OTD_FN void otd_sha256_iv(u32 *state)
{
    state[0] = 0x6a09e667u;
    state[1] = 0xbb67ae85u;
    state[2] = 0x3c6ef372u;
    state[3] = 0xa54ff53au;
    state[4] = 0x510e527fu;
    state[5] = 0x9b05688cu;
    state[6] = 0x1f83d9abu;
    state[7] = 0x5be0cd19u;
}

/* x + y, on NVIDIA through the multiplier where `one` is a 1 that the compiler does not know. Elsewhere a multiplication
 * is no faster than an addition, or slower. As an instruction because the compiler would make (a + b) * one + c of two
 * multiply-adds. */
OTD_FN u32 otd_sum(u32 x, u32 y, u32 one)
{
#if OTD_CUDA
    u32 sum;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(one), "r"(y));
    return sum;
#else
    (void)one;
    return x + y;
#endif
}

/* x >> n, likewise: the upper half of x * 2^(32 - n). */
OTD_FN u32 otd_shr(u32 x, u32 n, u32 one)
{
#if OTD_CUDA
    u32 high;
    asm("mul.hi.u32 %0, %1, %2;" : "=r"(high) : "r"(x), "r"(one << (32 - n)));
    return high;
#else
    (void)one;
    return x >> n;
#endif
}

/* FIPS 180-4, 4.1.2. */
#define OTD_SHA256_BIG0(x) (OTD_ROTR32(x, 2) ^ OTD_ROTR32(x, 13) ^ OTD_ROTR32(x, 22))
#define OTD_SHA256_BIG1(x) (OTD_ROTR32(x, 6) ^ OTD_ROTR32(x, 11) ^ OTD_ROTR32(x, 25))
#define OTD_SHA256_SMALL0(x, one) (OTD_ROTR32(x, 7) ^ OTD_ROTR32(x, 18) ^ otd_shr(x, 3, one))
#define OTD_SHA256_SMALL1(x, one) (OTD_ROTR32(x, 17) ^ OTD_ROTR32(x, 19) ^ otd_shr(x, 10, one))
#define OTD_SHA256_CH(e, f, g) ((g) ^ ((e) & ((f) ^ (g))))
#define OTD_SHA256_MAJ(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))

/* A round on the working variables v = a..h; `sum` is h + K[t] + W[t]. */
OTD_FN void otd_sha256_round(u32 *v, u32 sum, u32 one)
{
    u32 t1 = otd_sum(OTD_SHA256_BIG1(v[4]), otd_sum(OTD_SHA256_CH(v[4], v[5], v[6]), sum, one), one);
    u32 t2 = otd_sum(OTD_SHA256_BIG0(v[0]), OTD_SHA256_MAJ(v[0], v[1], v[2]), one);
    v[7] = v[6];
    v[6] = v[5];
    v[5] = v[4];
    v[4] = otd_sum(t1, v[3], one);
    v[3] = v[2];
    v[2] = v[1];
    v[1] = v[0];
    v[0] = otd_sum(t2, t1, one);
}

/* h + K[t] + W[t] for a word that is not known beforehand. */
OTD_FN u32 otd_sha256_addend(u32 h, u32 k, u32 w, u32 one)
{
    return otd_sum(otd_sum(h, k, one), w, one);
}

/* W[t] for t >= 16 from the last sixteen, in whose place (w[t mod 16]) it is put. */
OTD_FN u32 otd_sha256_expand(u32 *w, u32 t, u32 one)
{
    u32 sum = otd_sum(OTD_SHA256_SMALL0(w[(t + 1) & 15], one), w[t & 15], one);
    sum = otd_sum(sum, w[(t + 9) & 15], one);
    sum = otd_sum(OTD_SHA256_SMALL1(w[(t + 14) & 15], one), sum, one);
    w[t & 15] = sum;
    return sum;
}

/* Compresses one block into `state`; the block's words are overwritten. Sixteen rounds and sixteen words of code, run
 * four times: for work that is a small part of the whole. */
OTD_FN void otd_sha256_compress(u32 *state, u32 *w)
{
    u32 v[8];
    u32 i, t;
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        v[i] = state[i];
    OTD_NO_UNROLL
    for (t = 0; t < 64; t += 16) {
        OTD_UNROLL
        for (i = 0; i < 16; i++)
            otd_sha256_round(v, v[7] + OTD_SHA256_K[t + i] + w[i], 1u);
        /* The last time for nothing. */
        OTD_UNROLL
        for (i = 0; i < 16; i++)
            otd_sha256_expand(w, i, 1u);
    }
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        state[i] += v[i];
}

#endif
