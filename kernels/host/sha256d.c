/* Each line of the input: a header of 80 bytes in hexadecimal, the first nonce, how many, the target's highest 64
 * bits, all in decimal. Answers what sha256d_search reports, in the same order of lines. */
#include "check.h"

#include "../common/sha256.h"

#include "../sha256d.cl"

#define ROOM 64

static void search(const u8 *header, u32 first, u32 count, u64 target_top, u32 *hits)
{
    u32 m[8], v[8], w[16], tail[3];
    otd_sha256_iv(m);
    for (u32 i = 0; i < 16; i++)
        w[i] = word_be(header + 4 * i);
    otd_sha256_compress(m, w);
    memcpy(v, m, sizeof v);
    for (u32 i = 0; i < 3; i++) {
        tail[i] = word_be(header + 64 + 4 * i);
        otd_sha256_round(v, v[7] + OTD_SHA256_K[i] + tail[i], 1);
    }
    u32 t1 = v[7] + OTD_SHA256_BIG1(v[4]) + OTD_SHA256_CH(v[4], v[5], v[6]) + OTD_SHA256_K[3];
    u32 t2 = OTD_SHA256_BIG0(v[0]) + OTD_SHA256_MAJ(v[0], v[1], v[2]);
    u32 w16 = OTD_SHA256_SMALL0(tail[1], 1) + tail[0];
    u32 w17 = OTD_SHA256_SMALL1(640u, 1) + OTD_SHA256_SMALL0(tail[2], 1) + tail[1];
    EVERY_LANE((count + 255) / 256, 256,
               sha256d_search(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], v[0], v[1], v[2], v[4], v[5],
                              v[6] + OTD_SHA256_K[4] + 0x80000000u, t1 + t2, v[3] + t1, w16, w17,
                              OTD_SHA256_SMALL1(w16, 1) + tail[2],
                              OTD_SHA256_SMALL1(w17, 1) + OTD_SHA256_SMALL0(0x80000000u, 1),
                              OTD_SHA256_SMALL0(w16, 1) + 640u, OTD_SHA256_SMALL0(w17, 1) + w16, 1, first, count,
                              target_top, hits, ROOM));
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
        search(header, first, count, target_top, hits);
        print_hits(hits, ROOM);
    }
    return EXIT_SUCCESS;
}
