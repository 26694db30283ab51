/* Finds the nonce of Bitcoin's genesis block again. */
#include <otedama.h>
#include <stdio.h>

/* The header of 80 bytes; the last four are the nonce, left at zero. */
static const uint8_t header[80] =
    "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    "\x3b\xa3\xed\xfd\x7a\x7b\x12\xb2\x7a\xc7\x2c\x3e\x67\x76\x8f\x61"
    "\x7f\xc8\x1b\xc3\x88\x8a\x51\x32\x3a\x9f\xb8\xaa\x4b\x1e\x5e\x4a"
    "\x29\xab\x5f\x49\xff\xff\x00\x1d";

int main(void) {
    otedama_job job = {0};
    otedama_space space = {0};
    otedama_scanner *scanner = NULL;
    otedama_candidate found;
    size_t count = 0;
    uint64_t tried;
    uint32_t end;

    job.struct_size = sizeof job;
    job.algorithm = OTEDAMA_SHA256D;
    job.input = header;
    job.input_len = sizeof header;
    space.struct_size = sizeof space;
    space.nonce_start = 2080000000; /* ten million nonces: all of them take a minute or two */
    space.nonce_count = 10000000;

    if (otedama_target_from_bits(0x1d00ffff, job.target_le) != OTEDAMA_OK ||
        otedama_scanner_new(OTEDAMA_SHA256D, NULL, NULL, NULL, &scanner) != OTEDAMA_OK ||
        otedama_scanner_load(scanner, &job, NULL) != OTEDAMA_OK ||
        otedama_scanner_scan(scanner, &space, NULL, &found, 1, &count, &tried, &end) != OTEDAMA_OK) {
        fprintf(stderr, "%s\n", otedama_last_error());
    } else if (count == 1) {
        printf("nonce %llu\n", (unsigned long long)found.nonce);
    }
    otedama_scanner_free(scanner);
    return count == 1 ? 0 : 1;
}
