/* SHA256d of 80-byte headers: one lane tries one nonce, in registers alone. No memory is touched but for a hit,
 * so what counts is the number of instructions. FIPS 180-4 names the rounds 0..63 and the words W[0..63].
 *
 * Not done at all:
 *   - the first 64 bytes of the header, and of the last 16 bytes rounds 0..2 and the nonce-free half of round 3;
 *   - the parts of W[16..19], W[31] and W[32] without the nonce (W[3]); the host adds them up once per job;
 *   - zero and constant words of both paddings: all loops unroll, so they fold;
 *   - in the second hash what a miss never shows: the digest's last word is the initial value's plus `e` as it
 *     is after round 60, so rounds 61..63 are left out, and the `a` of rounds 57..60.
 *
 * The job's words are arguments and not a buffer: they lie in the constant bank (a scalar register on AMD), which
 * an instruction reads as it reads a register.
 *
 * On NVIDIA's sm_75 to sm_90 shifts, logic and additions share one pipe of 64 lanes a clock and multiprocessor, and
 * the multiplier is another of 64 that would stand idle. So additions are written as x * one + y, and the shifts of
 * the schedule as upper halves of products (two turns each), where `one`, an argument and always 1, is what keeps the
 * compiler from undoing that. Counted for a nonce on sm_90 (kernels/cuda/figures.txt), and what it allows an H200
 * (132 multiprocessors at 1.98 GHz; computed, not measured):
 *
 *                            as written             with plain additions and shifts
 *     shifts, logic          1663   10.1 GH/s       2269    7.4 GH/s
 *     multiplier, in turns   1396   12.0 GH/s        196   85 GH/s
 *     instructions issued    2936   11.4 GH/s       2501   13.4 GH/s
 *
 * Of the 1663, 1020 are rotations and 634 three-input logic: a rotation through the multiplier takes three turns
 * there for the one it saves, so some 65 of them would make both pipes equal, at 1600.
 */

/* Tries the nonces first .. first + count. A hit's digest has a top word of at most the target's.
 *
 *   m0..m7          state after the header's first 64 bytes
 *   a3, b3, c3, e3, f3   working variables after round 2 of the last 16 bytes
 *   h4              g after round 2, + K[4] + W[4], W[4] = 0x80000000
 *   a4, e4          a and e after round 3 if W[3] were 0
 *   w16, w17        W[16], W[17]
 *   w18, w19        W[18] and W[19] without s0(W[3]) and W[3]
 *   w31, w32        s0(W[16]) + W[15] and s0(W[17]) + W[16], W[15] = 640
 *   one             1
 *   first, count    nonces, as the header's number (its bytes are little-endian)
 *   target_top      the target's highest 64 bits; only the upper 32 are looked at
 *   hits, room      see otd_hit
 */
OTD_KERNEL(256)
void sha256d_search(u32 m0, u32 m1, u32 m2, u32 m3, u32 m4, u32 m5, u32 m6, u32 m7,
                    u32 a3, u32 b3, u32 c3, u32 e3, u32 f3, u32 h4, u32 a4, u32 e4,
                    u32 w16, u32 w17, u32 w18, u32 w19, u32 w31, u32 w32, u32 one,
                    u32 first, u32 count, u64 target_top, OTD_GLOBAL u32 *hits, u32 room)
{
    u32 lane = (u32)OTD_GLOBAL_LANE;
    u32 w[16], v[8];
    u32 i, nonce, w3;
    if (lane >= count)
        return;
    nonce = first + lane;
    w3 = OTD_SWAP32(nonce);

    /* W[16..31], then W[32] in the place of W[16]. */
    w[0] = w16;
    w[1] = w17;
    w[2] = otd_sum(OTD_SHA256_SMALL0(w3, one), w18, one);
    w[3] = otd_sum(w3, w19, one);
    w[4] = otd_sum(OTD_SHA256_SMALL1(w[2], one), 0x80000000u, one);
    w[5] = OTD_SHA256_SMALL1(w[3], one);
    w[6] = otd_sum(OTD_SHA256_SMALL1(w[4], one), 640u, one);
    OTD_UNROLL
    for (i = 7; i < 14; i++)
        w[i] = otd_sum(OTD_SHA256_SMALL1(w[i - 2], one), w[i - 7], one);
    /* s0(W[15]) = s0(640) joins here. */
    w[14] = otd_sum(OTD_SHA256_SMALL1(w[12], one), otd_sum(w[7], 0x00a00055u, one), one);
    w[15] = otd_sum(OTD_SHA256_SMALL1(w[13], one), otd_sum(w[8], w31, one), one);

    v[0] = otd_sum(w3, a4, one);
    v[1] = a3;
    v[2] = b3;
    v[3] = c3;
    v[4] = otd_sum(w3, e4, one);
    v[5] = e3;
    v[6] = f3;
    v[7] = h4;
    otd_sha256_round(v, v[7], one);
    OTD_UNROLL
    for (i = 5; i < 15; i++)
        otd_sha256_round(v, otd_sum(v[7], OTD_SHA256_K[i], one), one);
    otd_sha256_round(v, otd_sum(v[7], OTD_SHA256_K[15] + 640u, one), one);
    OTD_UNROLL
    for (i = 16; i < 32; i++)
        otd_sha256_round(v, otd_sha256_addend(v[7], OTD_SHA256_K[i], w[i & 15], one), one);
    w[0] = otd_sum(OTD_SHA256_SMALL1(w[14], one), otd_sum(w[9], w32, one), one);
    otd_sha256_round(v, otd_sha256_addend(v[7], OTD_SHA256_K[32], w[0], one), one);
    OTD_UNROLL
    for (i = 33; i < 64; i++)
        otd_sha256_round(v, otd_sha256_addend(v[7], OTD_SHA256_K[i], otd_sha256_expand(w, i, one), one), one);

    /* The second hash: a digest, its padding, its length. */
    w[0] = otd_sum(v[0], m0, one);
    w[1] = otd_sum(v[1], m1, one);
    w[2] = otd_sum(v[2], m2, one);
    w[3] = otd_sum(v[3], m3, one);
    w[4] = otd_sum(v[4], m4, one);
    w[5] = otd_sum(v[5], m5, one);
    w[6] = otd_sum(v[6], m6, one);
    w[7] = otd_sum(v[7], m7, one);
    w[8] = 0x80000000u;
    OTD_UNROLL
    for (i = 9; i < 15; i++)
        w[i] = 0u;
    w[15] = 256u;
    otd_sha256_iv(v);
    OTD_UNROLL
    for (i = 0; i < 8; i++)
        otd_sha256_round(v, otd_sha256_addend(v[7], OTD_SHA256_K[i], w[i], one), one);
    OTD_UNROLL
    for (i = 8; i < 16; i++)
        otd_sha256_round(v, otd_sum(v[7], OTD_SHA256_K[i] + w[i], one), one);
    OTD_UNROLL
    for (i = 16; i < 61; i++)
        otd_sha256_round(v, otd_sha256_addend(v[7], OTD_SHA256_K[i], otd_sha256_expand(w, i, one), one), one);

    if (OTD_SWAP32(v[4] + 0x5be0cd19u) <= (u32)(target_top >> 32))
        otd_hit(hits, room, nonce);
}
