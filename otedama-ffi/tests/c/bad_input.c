/* Everything that must be refused: each with its status and the argument's name, and outputs left alone. */
#include "check.h"

#define MOST_HANDLES 16384

int main(void) {
    uint8_t header[80], hash[32], buffer[256];
    otedama_job job = genesis_job(header);
    otedama_hasher *hasher = NULL, *none = NULL;
    otedama_scanner *scanner = NULL;
    otedama_stop *stop = NULL;
    otedama_setup setup;
    struct {
        otedama_setup setup;
        uint32_t more[2];
    } longer;
    otedama_stop **stops;
    uint32_t algorithm = 99;
    size_t index;

    /* NULL. */
    FAILS(OTEDAMA_NULL_ARGUMENT, "out_hasher", otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, NULL, NULL));
    FAILS(OTEDAMA_NULL_ARGUMENT, "hasher", otedama_hasher_hash(NULL, header, 80, hash));
    FAILS(OTEDAMA_NULL_ARGUMENT, "name", otedama_algorithm_number(NULL, &algorithm));
    FAILS(OTEDAMA_NULL_ARGUMENT, "out_algorithm", otedama_algorithm_number("sha256d", NULL));
    FAILS(OTEDAMA_NULL_ARGUMENT, "out_target_le", otedama_target_from_bits(1, NULL));
    OK(otedama_hasher_free(NULL));
    OK(otedama_engine_free(NULL));
    OK(otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, NULL, &hasher));
    FAILS(OTEDAMA_NULL_ARGUMENT, "input", otedama_hasher_hash(hasher, NULL, 80, hash));
    FAILS(OTEDAMA_NULL_ARGUMENT, "out_pow", otedama_hasher_hash(hasher, header, 80, NULL));

    /* Sizes. */
    FAILS(OTEDAMA_BUFFER_TOO_SMALL, "out_pow", otedama_hasher_hash_many(hasher, header, 40, 2, hash, 63));
    FAILS(OTEDAMA_BUFFER_TOO_SMALL, "inputs", otedama_hasher_hash_many(hasher, header, SIZE_MAX / 2, 3, hash, 32));
    FAILS(OTEDAMA_BUFFER_TOO_SMALL, "out_pow", otedama_hasher_hash_many(hasher, header, 0, SIZE_MAX, hash, 32));
    memset(&setup, 0, sizeof setup);
    FAILS(OTEDAMA_BAD_STRUCT_SIZE, "sizeof(otedama_setup)",
          otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, &setup, &none));
    setup.struct_size = sizeof setup - 1;
    FAILS(OTEDAMA_BAD_STRUCT_SIZE, "setup", otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, &setup, &none));
    setup.struct_size = 0xffffffff;
    FAILS(OTEDAMA_BAD_STRUCT_SIZE, "setup", otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, &setup, &none));
    /* A struct of a newer header: fine as long as what is new in it asks for nothing. */
    memset(&longer, 0, sizeof longer);
    longer.setup.struct_size = sizeof longer;
    OK(otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, &longer.setup, &none));
    OK(otedama_hasher_free(none));
    none = NULL;
    longer.more[1] = 1;
    FAILS(OTEDAMA_BAD_STRUCT_SIZE, "does not know",
          otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, &longer.setup, &none));
    CHECK(none == NULL);

    /* Overlap: by one byte at either end, and not at all. */
    memcpy(buffer + 100, header, 80);
    FAILS(OTEDAMA_OVERLAP, "out_pow", otedama_hasher_hash(hasher, buffer + 100, 80, buffer + 179));
    FAILS(OTEDAMA_OVERLAP, "out_pow", otedama_hasher_hash(hasher, buffer + 100, 80, buffer + 69));
    CHECK(memcmp(buffer + 100, header, 80) == 0);
    OK(otedama_hasher_hash(hasher, buffer + 100, 80, buffer + 180));
    OK(otedama_hasher_hash(hasher, buffer + 100, 80, buffer + 68));
    CHECK(displays_as(buffer + 68, GENESIS_HASH) && displays_as(buffer + 180, GENESIS_HASH));

    /* Numbers and words that are none. */
    FAILS(OTEDAMA_UNKNOWN_ALGORITHM, "algorithm is 0", otedama_hasher_new(0, NULL, NULL, NULL, &none));
    FAILS(OTEDAMA_UNKNOWN_ALGORITHM, "algorithm is 4294967295", otedama_hash(0xffffffff, NULL, header, 80, hash));
    FAILS(OTEDAMA_UNKNOWN_ALGORITHM, "md5", otedama_algorithm_number("md5", &algorithm));
    FAILS(OTEDAMA_BAD_TEXT, "name", otedama_algorithm_number("\xff\xfe", &algorithm));
    FAILS(OTEDAMA_BAD_TEXT, "kernel", otedama_hasher_new(OTEDAMA_SHA256D, "\xc3", NULL, NULL, &none));
    FAILS(OTEDAMA_UNKNOWN_KERNEL, "sse9", otedama_hasher_new(OTEDAMA_SHA256D, "sse9", NULL, NULL, &none));
    memset(&setup, 0, sizeof setup);
    setup.struct_size = sizeof setup;
    setup.pages = 3;
    FAILS(OTEDAMA_BAD_VALUE, "pages", otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, &setup, &none));
    setup.pages = 0;
    setup.without_isa = 1u << 31;
    FAILS(OTEDAMA_BAD_VALUE, "without_isa", otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, &setup, &none));
    CHECK(algorithm == 99);

    /* Inputs and jobs that are none. */
    FAILS(OTEDAMA_BAD_INPUT, "81", otedama_hash(OTEDAMA_SCRYPT, NULL, buffer, 81, hash));
    FAILS(OTEDAMA_BAD_INPUT, "", otedama_hasher_hash_sealed(hasher, header, 0, (const uint64_t *)buffer, 1, hash, 32, NULL, 0));
    OK(otedama_scanner_new(OTEDAMA_SHA256D, NULL, NULL, NULL, &scanner));
    job.input_len = 79;
    FAILS(OTEDAMA_BAD_JOB, "79", otedama_scanner_load(scanner, &job, NULL));
    job.input_len = 80;
    job.algorithm = OTEDAMA_SCRYPT;
    FAILS(OTEDAMA_BAD_JOB, "scrypt", otedama_scanner_load(scanner, &job, NULL));
    job.algorithm = OTEDAMA_ETHASH;
    FAILS(OTEDAMA_BAD_JOB, "32", otedama_scanner_load(scanner, &job, NULL));
    job.algorithm = OTEDAMA_SHA256D;
    memset(job.target_le, 0, 32);
    FAILS(OTEDAMA_BAD_TARGET, "zero", otedama_scanner_load(scanner, &job, NULL));
    job.input = NULL;
    job.target_le[0] = 1;
    FAILS(OTEDAMA_NULL_ARGUMENT, "job.input", otedama_scanner_load(scanner, &job, NULL));

    /* Handles: another kind, freed, freed twice, none at all, off by a byte. */
    FAILS(OTEDAMA_BAD_HANDLE, "hasher", otedama_hasher_hash((otedama_hasher *)scanner, header, 80, hash));
    FAILS(OTEDAMA_BAD_HANDLE, "scanner", otedama_scanner_free((otedama_scanner *)hasher));
    FAILS(OTEDAMA_BAD_HANDLE, "hasher", otedama_hasher_hash((otedama_hasher *)buffer, header, 80, hash));
    FAILS(OTEDAMA_BAD_HANDLE, "hasher", otedama_hasher_hash((otedama_hasher *)((char *)hasher + 1), header, 80, hash));
    OK(otedama_scanner_free(scanner));
    FAILS(OTEDAMA_BAD_HANDLE, "scanner", otedama_scanner_free(scanner));
    OK(otedama_hasher_free(hasher));
    FAILS(OTEDAMA_BAD_HANDLE, "freed", otedama_hasher_hash(hasher, header, 80, hash));

    /* As many handles as there may be, and one more. */
    stops = malloc(MOST_HANDLES * sizeof *stops);
    for (index = 0; index < MOST_HANDLES; ++index) {
        OK(otedama_stop_new(&stops[index]));
    }
    FAILS(OTEDAMA_TOO_MANY_HANDLES, "16384", otedama_stop_new(&stop));
    CHECK(stop == NULL && otedama_live_handles() == MOST_HANDLES);
    for (index = 0; index < MOST_HANDLES; ++index) {
        OK(otedama_stop_free(stops[index]));
    }
    OK(otedama_stop_new(&stop));
    FAILS(OTEDAMA_BAD_HANDLE, "stop", otedama_stop_raise(stops[MOST_HANDLES - 1]));
    OK(otedama_stop_free(stop));
    free(stops);

    CHECK(otedama_live_handles() == 0);
    return 0;
}
