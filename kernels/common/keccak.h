/* Keccak-f[1600] on 64-bit words and Keccak-f[800] on 32-bit ones (FIPS 202, section 3; Keccak reference 3.0).
 *
 * A state is 25 words in private memory, the word in column x of row y at x + 5 y. Every index below is a
 * constant, so the words are registers. Rounds stay rolled: one is some 200 instructions of 16 bytes, which a
 * multiprocessor's nearest instruction cache holds, and 24 copies of it are not.
 *
 * What a round costs an NVIDIA GPU, whose LOP3 takes three operands: theta 20 + 50 LOP3 and 10 SHF, rho 48 SHF,
 * chi 50 LOP3, iota 2: 180 for 64-bit words, half of that for 32-bit ones.
 */
#ifndef OTD_KECCAK_H
#define OTD_KECCAK_H

OTD_TABLE u64 OTD_KECCAK_CONSTANTS[24] = {
    0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000, 0x000000000000808b,
    0x0000000080000001, 0x8000000080008081, 0x8000000000008009, 0x000000000000008a, 0x0000000000000088,
    0x0000000080008009, 0x000000008000000a, 0x000000008000808b, 0x800000000000008b, 0x8000000000008089,
    0x8000000000008003, 0x8000000000008002, 0x8000000000000080, 0x000000000000800a, 0x800000008000000a,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
};

/* Chi on a row, whose words are b, c, d, e, f before it. */
#define OTD_KECCAK_ROW(word, a, row, b, c, d, e, f) \
    do { \
        word b_ = (b), c_ = (c), d_ = (d), e_ = (e), f_ = (f); \
        (a)[5 * (row)] = b_ ^ (~c_ & d_); \
        (a)[5 * (row) + 1] = c_ ^ (~d_ & e_); \
        (a)[5 * (row) + 2] = d_ ^ (~e_ & f_); \
        (a)[5 * (row) + 3] = e_ ^ (~f_ & b_); \
        (a)[5 * (row) + 4] = f_ ^ (~b_ & c_); \
    } while (0)

/* A round. Turns are by constants, which a narrow word takes modulo 32. */
#define OTD_KECCAK_ROUND(word, turn, a, constant) \
    do { \
        word p0 = (a)[0] ^ (a)[5] ^ (a)[10] ^ (a)[15] ^ (a)[20], p1 = (a)[1] ^ (a)[6] ^ (a)[11] ^ (a)[16] ^ (a)[21]; \
        word p2 = (a)[2] ^ (a)[7] ^ (a)[12] ^ (a)[17] ^ (a)[22], p3 = (a)[3] ^ (a)[8] ^ (a)[13] ^ (a)[18] ^ (a)[23]; \
        word p4 = (a)[4] ^ (a)[9] ^ (a)[14] ^ (a)[19] ^ (a)[24]; \
        word q0 = turn(p0, 1), q1 = turn(p1, 1), q2 = turn(p2, 1), q3 = turn(p3, 1), q4 = turn(p4, 1); \
        word b[25]; \
        b[0] = (a)[0] ^ p4 ^ q1, b[1] = turn((a)[6] ^ p0 ^ q2, 44), b[2] = turn((a)[12] ^ p1 ^ q3, 43); \
        b[3] = turn((a)[18] ^ p2 ^ q4, 21), b[4] = turn((a)[24] ^ p3 ^ q0, 14); \
        b[5] = turn((a)[3] ^ p2 ^ q4, 28), b[6] = turn((a)[9] ^ p3 ^ q0, 20), b[7] = turn((a)[10] ^ p4 ^ q1, 3); \
        b[8] = turn((a)[16] ^ p0 ^ q2, 45), b[9] = turn((a)[22] ^ p1 ^ q3, 61); \
        b[10] = turn((a)[1] ^ p0 ^ q2, 1), b[11] = turn((a)[7] ^ p1 ^ q3, 6), b[12] = turn((a)[13] ^ p2 ^ q4, 25); \
        b[13] = turn((a)[19] ^ p3 ^ q0, 8), b[14] = turn((a)[20] ^ p4 ^ q1, 18); \
        b[15] = turn((a)[4] ^ p3 ^ q0, 27), b[16] = turn((a)[5] ^ p4 ^ q1, 36), b[17] = turn((a)[11] ^ p0 ^ q2, 10); \
        b[18] = turn((a)[17] ^ p1 ^ q3, 15), b[19] = turn((a)[23] ^ p2 ^ q4, 56); \
        b[20] = turn((a)[2] ^ p1 ^ q3, 62), b[21] = turn((a)[8] ^ p2 ^ q4, 55), b[22] = turn((a)[14] ^ p3 ^ q0, 39); \
        b[23] = turn((a)[15] ^ p4 ^ q1, 41), b[24] = turn((a)[21] ^ p0 ^ q2, 2); \
        OTD_KECCAK_ROW(word, a, 0, b[0], b[1], b[2], b[3], b[4]); \
        OTD_KECCAK_ROW(word, a, 1, b[5], b[6], b[7], b[8], b[9]); \
        OTD_KECCAK_ROW(word, a, 2, b[10], b[11], b[12], b[13], b[14]); \
        OTD_KECCAK_ROW(word, a, 3, b[15], b[16], b[17], b[18], b[19]); \
        OTD_KECCAK_ROW(word, a, 4, b[20], b[21], b[22], b[23], b[24]); \
        (a)[0] ^= (word)(constant); \
    } while (0)

/* Both leave the last round by itself, so that a compiler drops what of it nobody reads. */
OTD_FN void otd_f1600(u64 *a)
{
    OTD_NO_UNROLL
    for (u32 round = 0; round < 23; round++)
        OTD_KECCAK_ROUND(u64, OTD_ROTL64, a, OTD_KECCAK_CONSTANTS[round]);
    OTD_KECCAK_ROUND(u64, OTD_ROTL64, a, 0x8000000080008008);
}

OTD_FN void otd_f800(u32 *a)
{
    OTD_NO_UNROLL
    for (u32 round = 0; round < 21; round++)
        OTD_KECCAK_ROUND(u32, OTD_ROTL32, a, OTD_KECCAK_CONSTANTS[round]);
    OTD_KECCAK_ROUND(u32, OTD_ROTL32, a, 0x8080u);
}

#endif
