/* The kernels of RandomX as host C, for sanitizers and for tests without a device: a group has one lane.
 *
 *   randomx rounding   records of four words (operation, mode, a, b; operations 0 add, 1 multiply, 2 divide,
 *                      3 square root) from standard input, a word for each to standard output
 *   randomx hashes     the whole way from nonces to hits: see hashes()
 *
 * All words have 64 bits, as this machine orders them. */
#include <stdio.h>
#include <stdlib.h>

#include "../common/vocab.h"
#include "../common/aes.h"
#include "../common/blake2b.h"
#include "../common/rounding.h"
#include "../randomx.cl"
#include "../randomx_machine.cl"

static void get(void *into, size_t bytes)
{
    if (fread(into, 1, bytes, stdin) != bytes)
        exit(2);
}

static void put(const void *from, size_t bytes)
{
    if (fwrite(from, 1, bytes, stdout) != bytes)
        exit(2);
}

static void *room_for(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (!memory)
        exit(2);
    return memory;
}

static void rounding(void)
{
    u64 record[4];
    while (fread(record, sizeof record, 1, stdin) == 1) {
        u32 mode = (u32)record[1];
        f64 a = OTD_F64_OF_BITS(record[2]), b = OTD_F64_OF_BITS(record[3]), z;
        switch (record[0]) {
        case 0: z = otd_add(a, b, mode); break;
        case 1: z = otd_multiply(a, b, mode); break;
        case 2: z = otd_divide(a, b, mode); break;
        default: z = otd_square_root(a, mode);
        }
        u64 bits = OTD_BITS_OF_F64(z);
        put(&bits, sizeof bits);
    }
}

#define EACH(groups, call) \
    for (otd_group = 0; otd_group < (groups); otd_group++) \
        call

/* Input: blob bytes, nonce offset, first nonce, count, programs, iterations, iterations of a launch, top of the
 * target, dataset items, words of functions; then the variant (288 words of 32 bits), the padded blob, the functions,
 * the cache.
 * Output: the dataset, the states, the number of hits and count nonces. */
static void hashes(void)
{
    u64 in[10];
    u32 variant[288];
    get(in, sizeof in);
    get(variant, sizeof variant);
    u32 blob_bytes = (u32)in[0], nonce_at = (u32)in[1], count = (u32)in[3], iterations = (u32)in[5], step = (u32)in[6];
    size_t blob_room = (blob_bytes + 127) / 128 * 128, items = in[8];
    u64 *blob = room_for(blob_room), *functions = room_for(in[9] * 8), *states = room_for(8ul * RX_STATE * count);
    u64 *programs = room_for(8ul * RX_SIZE * count), *reciprocals = room_for(8ul * RX_SIZE * count);
    u64x2 *cache = room_for(64ul * RX_CACHE_LINES), *scratchpads = room_for((size_t)RX_L3 * count);
    u64x2 *dataset = room_for(64ul * RX_PART), *rest = room_for(64 * (items - RX_PART));
    u32 *hits = room_for(4 + 8ul * count);
    get(blob, blob_room);
    get(functions, in[9] * 8);
    get(cache, 64ul * RX_CACHE_LINES);
    const u64x2 *first = RX_LIGHT ? cache : dataset, *second = RX_LIGHT ? (u64x2 *)functions : rest;

    EACH(RX_PART, rx_items(cache, functions, dataset, 0, 0, RX_PART));
    EACH(items - RX_PART, rx_items(cache, functions, rest, RX_PART, RX_PART, items));
    EACH(count, rx_seed(blob, blob_bytes, nonce_at, in[2], states, count));
    EACH(4 * count, rx_fill(states, count, scratchpads));
    for (u32 program = 0; program < in[4]; program++) {
        EACH(count, rx_program(states, count, programs, reciprocals, variant, program));
        for (u32 from = 0; from < iterations; from += step) {
            u32 to = OTD_MIN32(from + step, iterations);
            EACH(count, rx_execute(states, count, programs, reciprocals, scratchpads, first, second, from, to));
        }
    }
    EACH(4 * count, rx_fingerprint(states, count, scratchpads));
    EACH(count, rx_finish(states, count, in[2], count, in[7], hits, count));

    put(dataset, 64ul * RX_PART);
    put(rest, 64 * (items - RX_PART));
    put(states, 8ul * RX_STATE * count);
    put(hits, 4 + 8ul * count);
    free(blob), free(functions), free(states), free(programs), free(reciprocals), free(cache), free(scratchpads);
    free(dataset), free(rest), free(hits);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "rounding") == 0)
        rounding();
    else if (argc == 2 && strcmp(argv[1], "hashes") == 0)
        hashes();
    else
        return 2;
    return 0;
}
