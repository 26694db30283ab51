/* Version, algorithms, kernels, the machine, targets. */
#include "check.h"

int main(void) {
    uint32_t algorithm = 0;
    size_t index, length = 0, oracles = 0;
    otedama_kernel kernel;
    otedama_setup bare;
    uint8_t target[32], back[32];
    double difficulty = 0;
    char *text;

    CHECK(otedama_abi_version() == OTEDAMA_ABI_VERSION);
    CHECK(strcmp(otedama_version(), OTEDAMA_VERSION) == 0);
    CHECK(strcmp(otedama_status_message(OTEDAMA_OK), "ok") == 0);

    OK(otedama_algorithm_number("scrypt", &algorithm));
    CHECK(algorithm == OTEDAMA_SCRYPT);
    CHECK(strcmp(otedama_algorithm_name(OTEDAMA_RANDOMX_V2), "randomx-v2") == 0);
    CHECK(otedama_algorithm_name(0) == NULL && otedama_algorithm_name(99) == NULL);

    memset(&bare, 0, sizeof bare);
    bare.struct_size = sizeof bare;
    bare.without_isa = OTEDAMA_ISA_SHA_NI | OTEDAMA_ISA_AES_NI | OTEDAMA_ISA_AVX2 | OTEDAMA_ISA_AVX512;
    CHECK(otedama_kernel_count() > 3);
    for (index = 0; index < otedama_kernel_count(); ++index) {
        OK(otedama_kernel_at(index, NULL, &kernel));
        CHECK(strlen(kernel.name) > 0 && otedama_algorithm_name(kernel.algorithm) != NULL);
        CHECK(!kernel.usable || (otedama_cpu_isa() & kernel.needs_isa) == kernel.needs_isa);
        oracles += kernel.oracle;
        OK(otedama_kernel_at(index, &bare, &kernel));
        CHECK(kernel.usable == (kernel.needs_isa == 0));
    }
    CHECK(oracles >= 2);
    FAILS(OTEDAMA_BAD_VALUE, "index", otedama_kernel_at(otedama_kernel_count(), NULL, &kernel));

    FAILS(OTEDAMA_BUFFER_TOO_SMALL, "out_text", otedama_devices_json(NULL, NULL, 0, &length));
    CHECK(length > 100);
    text = malloc(length + 1);
    FAILS(OTEDAMA_BUFFER_TOO_SMALL, "out_text", otedama_devices_json(NULL, (uint8_t *)text, length, &length));
    OK(otedama_devices_json(NULL, (uint8_t *)text, length + 1, &length));
    CHECK(strlen(text) == length && text[0] == '{' && strstr(text, "sha256d-portable") != NULL);
    free(text);

    /* Difficulty 1 of Bitcoin is the genesis block's target: 0xffff * 2^208. */
    OK(otedama_target_from_bits(GENESIS_BITS, target));
    OK(otedama_target_from_difficulty(OTEDAMA_SHA256D, 1.0, back));
    CHECK(memcmp(target, back, 32) == 0 && target[27] == 0xff && target[26] == 0xff && target[28] == 0);
    OK(otedama_target_to_difficulty(OTEDAMA_SHA256D, target, &difficulty));
    CHECK(difficulty == 1.0);

    CHECK(otedama_live_handles() == 0);
    return 0;
}
