/* Each line of the input: a header of 80 bytes in hexadecimal, the first nonce, how many (at most 4096), the target's
 * highest 64 bits, all in decimal. Answers what Scrypt's four kernels report, in the same order of lines. Built with one
 * OTD_GAP after another. */
#include "check.h"

#include "../common/sha256.h"

#include "../common/salsa20.h"

#include "../scrypt.cl"

#define ROOM 64
#define BATCH 128

static u32 state[48 * BATCH];
static u32x4 rows[1024 / OTD_GAP * BATCH * 8];

/* One batch, its loops cut at odd places, in groups of one lane: none runs that is not asked for. */
static void search(const u8 *header, u32 first, u32 count, u64 target_top, u32 *hits)
{
    u32 m[8], w[16], h[19];
    otd_sha256_iv(m);
    for (u32 i = 0; i < 19; i++)
        h[i] = word_be(header + 4 * i);
    memcpy(w, h, sizeof w);
    otd_sha256_compress(m, w);
    EVERY_LANE(count, 1,
               scrypt_begin(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], h[0], h[1], h[2], h[3], h[4], h[5],
                            h[6], h[7], h[8], h[9], h[10], h[11], h[12], h[13], h[14], h[15], h[16], h[17], h[18],
                            first, count, state));
    EVERY_LANE(count, 1, scrypt_fill(state, rows, count, 0, 1023));
    EVERY_LANE(count, 1, scrypt_fill(state, rows, count, 1023, 1024));
    EVERY_LANE(count, 1, scrypt_mix(state, rows, count, 0, 1));
    EVERY_LANE(count, 1, scrypt_mix(state, rows, count, 1, 1024));
    EVERY_LANE(count, 1, scrypt_end(state, count, first, count, target_top, hits, ROOM));
}

int main(void)
{
    u8 header[80];
    u32 first, count, hits[1 + 2 * ROOM];
    u64 target_top;
    while (read_bytes(header, sizeof header)) {
        if (scanf("%" SCNu32 "%" SCNu32 "%" SCNu64, &first, &count, &target_top) != 3)
            return EXIT_FAILURE;
        hits[0] = 0;
        for (u32 done = 0; done < count; done += BATCH)
            search(header, first + done, OTD_MIN32(count - done, BATCH), target_top, hits);
        print_hits(hits, ROOM);
    }
    return EXIT_SUCCESS;
}
