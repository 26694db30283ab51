/* What the checks of single families share: kernels run as C, one lane after another, on cases read from
 * standard input. Built with AddressSanitizer and UndefinedBehaviorSanitizer by tests/host_c.rs.
 */
#ifndef OTD_HOST_CHECK_H
#define OTD_HOST_CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../common/vocab.h"

/* Runs `call` for every lane of so many groups of `lanes`. */
#define EVERY_LANE(groups, lanes, call)                                                                     \
    do {                                                                                                    \
        otd_lanes = (lanes);                                                                                \
        for (otd_group = 0; otd_group < (groups); otd_group++)                                              \
            for (otd_lane = 0; otd_lane < otd_lanes; otd_lane++)                                            \
                call;                                                                                       \
    } while (0)

/* Reads `n` bytes written in hexadecimal, blanks before them skipped; answers 0 at the end of the input. */
OTD_FN int read_bytes(u8 *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        if (scanf(i ? "%2x" : " %2x", &byte) != 1)
            return 0;
        bytes[i] = (u8)byte;
    }
    return 1;
}

OTD_FN u32 word_be(const u8 *bytes)
{
    return (u32)bytes[0] << 24 | (u32)bytes[1] << 16 | (u32)bytes[2] << 8 | bytes[3];
}

/* Prints what a search reported: its count, then the nonces there was room for, in order of the lanes. */
OTD_FN void print_hits(const u32 *hits, u32 room)
{
    printf("%" PRIu32, hits[0]);
    for (u32 i = 0; i < OTD_MIN32(hits[0], room); i++)
        printf(" %" PRIu64, hits[1 + 2 * i] | (u64)hits[2 + 2 * i] << 32);
    printf("\n");
}

#endif
