/* One input, many inputs, every kernel of the algorithms that need no epoch. */
#include "check.h"

#define COUNT 1000

static const char LITECOIN[] = "010000000000000000000000000000000000000000000000000000000000000000000000d9ced4ed1130f7"
                               "b7faad9be25323ffafa33232a17c3edf6cfd97bee6bafbdd97b9aa8e4ef0ff0f1ecd513f7c";

int main(int argc, char **argv) {
    uint8_t header[80], litecoin[80], hash[32];
    uint8_t *inputs = malloc(80 * COUNT), *many = malloc(32 * COUNT);
    otedama_hasher *hasher = NULL;
    otedama_kernel kernel;
    size_t index, kernels = 0;
    (void)argv;

    genesis(header);
    from_hex(LITECOIN, litecoin);
    OK(otedama_hash(OTEDAMA_SHA256D, NULL, header, 80, hash));
    CHECK(displays_as(hash, GENESIS_HASH));
    OK(otedama_hash(OTEDAMA_SCRYPT, NULL, litecoin, 80, hash));
    CHECK(displays_as(hash, "0000050c34a64b415b6b15b37f2216634b5b1669cb9a2e38d76f7213b0671e00"));
    /* SHA-256 of SHA-256 of nothing, and no address for nothing. */
    OK(otedama_hash(OTEDAMA_SHA256D, NULL, NULL, 0, hash));
    CHECK(hash[0] == 0x5d && hash[1] == 0xf6 && hash[2] == 0xe0 && hash[31] == 0x56);

    for (index = 0; index < COUNT; ++index) {
        memcpy(inputs + 80 * index, index % 2 == 0 ? header : litecoin, 80);
        inputs[80 * index + 4] = (uint8_t)(index / 4);
    }
    for (index = 0; index < otedama_kernel_count(); ++index) {
        size_t which, count;
        OK(otedama_kernel_at(index, NULL, &kernel));
        /* With an argument (valgrind) only what is quick. */
        if (!kernel.usable || kernel.algorithm > OTEDAMA_SCRYPT || (argc > 1 && kernel.algorithm == OTEDAMA_SCRYPT)) {
            continue;
        }
        ++kernels;
        count = kernel.algorithm == OTEDAMA_SCRYPT ? 13 : COUNT;
        OK(otedama_hasher_new(kernel.algorithm, kernel.name, NULL, NULL, &hasher));
        memset(many, 0, 32 * COUNT);
        OK(otedama_hasher_hash_many(hasher, inputs, 80, count, many, 32 * count));
        for (which = 0; which < count; ++which) {
            OK(otedama_hash(kernel.algorithm, NULL, inputs + 80 * which, 80, hash));
            CHECK(memcmp(hash, many + 32 * which, 32) == 0);
            if (which % 100 == 3) {
                OK(otedama_hasher_hash(hasher, inputs + 80 * which, 80, hash));
                CHECK(memcmp(hash, many + 32 * which, 32) == 0);
            }
        }
        OK(otedama_hasher_hash_many(hasher, NULL, 80, 0, NULL, 0));
        OK(otedama_hasher_free(hasher));
    }
    CHECK(kernels >= 1);
    OK(otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, NULL, &hasher));
    OK(otedama_hasher_hash(hasher, header, 80, hash));
    CHECK(displays_as(hash, GENESIS_HASH));
    OK(otedama_hasher_free(hasher));

    free(inputs);
    free(many);
    CHECK(otedama_live_handles() == 0);
    return 0;
}
