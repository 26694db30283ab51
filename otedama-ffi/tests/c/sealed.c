/* Ethash, Etchash and KawPow: blocks of real chains hashed, searched for and proven; epochs that cannot be.
 * With an argument only what builds nothing, for valgrind. */
#include "check.h"

static otedama_epoch *epoch_of(otedama_store *store, uint32_t algorithm, uint32_t number) {
    otedama_epoch *epoch = NULL;
    otedama_epoch_key key;
    memset(&key, 0, sizeof key);
    key.struct_size = sizeof key;
    key.algorithm = algorithm;
    key.number = number;
    OK(otedama_store_get(store, &key, OTEDAMA_LIGHT, NULL, NULL, NULL, &epoch));
    return epoch;
}

/* One known answer: hashed, found at its own hash as the target, proven, and refused with another mix. */
static void known(otedama_store *store, uint32_t algorithm, uint32_t number, uint64_t height, const char *header_hex,
                  uint64_t nonce, const char *mix_hex, const char *pow_hex) {
    uint8_t header[32], mix[32], pow[32], found_pow[96], found_mix[96];
    uint64_t nonces[3], tried;
    otedama_epoch *epoch = epoch_of(store, algorithm, number);
    otedama_hasher *hasher = NULL;
    otedama_scanner *scanner = NULL;
    otedama_verifier *verifier = NULL;
    otedama_job job;
    otedama_space space;
    otedama_candidate found[4];
    otedama_share share;
    size_t count, index;
    uint32_t end;

    from_hex(header_hex, header);
    from_hex(mix_hex, mix);
    from_hex(pow_hex, pow);
    nonces[0] = nonces[2] = nonce;
    nonces[1] = nonce ^ 1;
    OK(otedama_hasher_new(algorithm, NULL, epoch, NULL, &hasher));
    OK(otedama_hasher_hash_sealed(hasher, header, height, nonces, 3, found_pow, 96, found_mix, 96));
    for (index = 0; index < 3; index += 2) {
        CHECK(memcmp(found_pow + 32 * index, pow, 32) == 0 && memcmp(found_mix + 32 * index, mix, 32) == 0);
    }
    CHECK(memcmp(found_pow + 32, pow, 32) != 0);
    FAILS(OTEDAMA_BUFFER_TOO_SMALL, "95", otedama_hasher_hash_sealed(hasher, header, height, nonces, 3, found_pow, 95, NULL, 0));

    memset(&job, 0, sizeof job);
    job.struct_size = sizeof job;
    job.algorithm = algorithm;
    job.input = header;
    job.input_len = 32;
    job.height = height;
    /* A big-endian number, to be given with its least significant byte first. */
    for (index = 0; index < 32; ++index) {
        job.target_le[index] = pow[31 - index];
    }
    memset(&space, 0, sizeof space);
    space.struct_size = sizeof space;
    space.nonce_start = nonce;
    space.nonce_count = 1;
    OK(otedama_scanner_new(algorithm, NULL, epoch, NULL, &scanner));
    OK(otedama_scanner_load(scanner, &job, epoch));
    OK(otedama_scanner_scan(scanner, &space, NULL, found, 4, &count, &tried, &end));
    CHECK(count == 1 && tried == 1 && found[0].nonce == nonce && !found[0].has_version);

    OK(otedama_verifier_new(algorithm, NULL, NULL, &verifier));
    OK(otedama_verifier_check(verifier, &job, epoch, &found[0], pow, mix, &share));
    CHECK(memcmp(share.pow, pow, 32) == 0 && memcmp(share.mix, mix, 32) == 0);
    /* Another mix leads past this target. */
    mix[0] ^= 1;
    FAILS(OTEDAMA_ABOVE_TARGET, "above", otedama_verifier_check(verifier, &job, epoch, &found[0], NULL, mix, &share));

    OK(otedama_verifier_free(verifier));
    OK(otedama_scanner_free(scanner));
    OK(otedama_hasher_free(hasher));
    OK(otedama_epoch_free(epoch));
}

int main(int argc, char **argv) {
    otedama_store *store = NULL;
    otedama_epoch *epoch = NULL;
    otedama_epoch_key key;
    uint32_t number = 7;

    (void)argv;
    OK(otedama_store_new(NULL, &store));
    OK(otedama_epoch_number(OTEDAMA_ETHASH, 15537392, &number));
    CHECK(number == 517);
    OK(otedama_epoch_number(OTEDAMA_ETCHASH, 12500000, &number));
    CHECK(number == 208);
    OK(otedama_epoch_number(OTEDAMA_KAWPOW, 1220400, &number));
    CHECK(number == 162);
    FAILS(OTEDAMA_BAD_EPOCH, "ethash", otedama_epoch_number(OTEDAMA_ETCHASH, 11699999, &number));
    FAILS(OTEDAMA_BAD_VALUE, "expected 0 to", otedama_epoch_number(OTEDAMA_ETHASH, UINT64_MAX, &number));
    FAILS(OTEDAMA_BAD_EPOCH, "blocks", otedama_epoch_number(OTEDAMA_SCRYPT, 1, &number));
    CHECK(number == 162);
    memset(&key, 0, sizeof key);
    key.struct_size = sizeof key;
    key.algorithm = OTEDAMA_KAWPOW;
    key.number = 40000;
    FAILS(OTEDAMA_BAD_EPOCH, "40000", otedama_store_get(store, &key, OTEDAMA_LIGHT, NULL, NULL, NULL, &epoch));
    FAILS(OTEDAMA_BAD_EPOCH, "40000", otedama_store_announce(store, &key, OTEDAMA_FULL));

    if (argc == 1) {
        known(store, OTEDAMA_ETHASH, 0, 22, "372eca2454ead349c3df0ab5d00b0b706b23e49d469387db91811cee0358fc6d",
              0x495732e0ed7a801cu, "2f74cdeb198af0b9abe65d22d372e22fb2d474371774a9583c1cc427a07939f5",
              "00000b184f1fdd88bfd94c86c39e65db0c36144d5e43f745f722196e730cb614");
        known(store, OTEDAMA_ETCHASH, 208, 12500000, "1d225541aeda9d1110b9e61c0c6c81f12376e9b4111472351196b9d557ba83d8",
              0x431d9c1839838ea1u, "c280665934366eb1ac3fcf5e6f4e37945e05d764acf2a8106a982826078b613c",
              "00000000000069bdf3a3bf3bab6529869d8419e477e53898d6c123d023386b20");
        known(store, OTEDAMA_KAWPOW, 162, 1220400, "3afceaa95517c5d22961050a93258646fa50f1e6bafbdf09f3d233f4a9267558",
              0x504c0000204b556du, "60cf4a1b02238f71f4583601dd40ec4e2366b063ebdb18770257f3046d5ba7fd",
              "000000000001358bd99973e3f711b933b43cba19fb9941bde5f3fa0ebc4e0b0c");
    }
    OK(otedama_store_free(store));
    CHECK(otedama_live_handles() == 0);
    return 0;
}
