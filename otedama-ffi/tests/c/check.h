/* What the test programs share: checks that say where they failed, and known blocks. */
#ifndef CHECK_H
#define CHECK_H

#include <otedama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, otedama_last_error());     \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define OK(call) CHECK((call) == OTEDAMA_OK)

/* The call answers this status, and the detail contains these words. */
#define FAILS(status, words, call)                                                                                     \
    do {                                                                                                               \
        otedama_status answered_ = (call);                                                                             \
        if (answered_ != (status) || strstr(otedama_last_error(), words) == NULL) {                                    \
            fprintf(stderr, "%s:%d: %s answered %u (%s): expected %s with '%s'\n", __FILE__, __LINE__, #call,          \
                    (unsigned)answered_, otedama_last_error(), #status, words);                                        \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint8_t nibble(char digit) {
    return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

static void from_hex(const char *hex, uint8_t *out) {
    for (; hex[0] != '\0'; hex += 2) {
        *out++ = (uint8_t)(nibble(hex[0]) << 4 | nibble(hex[1]));
    }
}

/* Hex as hashes are displayed: the last byte first. */
static int displays_as(const uint8_t hash[32], const char *hex) {
    uint8_t expected[32];
    int index;
    from_hex(hex, expected);
    for (index = 0; index < 32; ++index) {
        if (hash[index] != expected[31 - index]) {
            return 0;
        }
    }
    return 1;
}

#define GENESIS_NONCE 2083236893u
#define GENESIS_BITS 0x1d00ffffu
#define GENESIS_HASH "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"

/* Bitcoin's genesis block. */
static void genesis(uint8_t header[80]) {
    from_hex("0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd"
             "7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
             header);
}

/* A job on it; `header` must live as long as the job. */
static otedama_job genesis_job(uint8_t header[80]) {
    otedama_job job;
    memset(&job, 0, sizeof job);
    genesis(header);
    job.struct_size = sizeof job;
    job.algorithm = OTEDAMA_SHA256D;
    job.id = 7;
    job.input = header;
    job.input_len = 80;
    OK(otedama_target_from_bits(GENESIS_BITS, job.target_le));
    return job;
}

static otedama_space space_of(uint64_t start, uint64_t count) {
    otedama_space space;
    memset(&space, 0, sizeof space);
    space.struct_size = sizeof space;
    space.nonce_start = start;
    space.nonce_count = count;
    return space;
}

#endif
