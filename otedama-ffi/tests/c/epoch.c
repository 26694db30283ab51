/* A cache of RandomX: built once, seen without a copy, hashed with; builds cancelled; budgets kept.
 * With an argument only what builds nothing, for valgrind. */
#include "check.h"

static otedama_epoch_key key_of(const char *text) {
    otedama_epoch_key key;
    memset(&key, 0, sizeof key);
    key.struct_size = sizeof key;
    key.algorithm = OTEDAMA_RANDOMX_V1;
    key.key = (const uint8_t *)text;
    key.key_len = (uint32_t)strlen(text);
    return key;
}

/* Counts its calls; from a certain one on, it cancels. */
struct watch {
    int calls, cancel_at;
    uint64_t last;
};

static int32_t told(void *userdata, uint64_t done, uint64_t total) {
    struct watch *watch = userdata;
    CHECK(done <= total);
    watch->last = done;
    return ++watch->calls >= watch->cancel_at;
}

/* Searches with the cache alone, proves what is found, and hashes it once more by hand. */
static void search(const otedama_epoch *epoch, otedama_hasher *hasher) {
    uint8_t blob[76], hash[32];
    otedama_job job;
    otedama_space space;
    otedama_scanner *scanner = NULL;
    otedama_verifier *verifier = NULL;
    otedama_candidate found[4];
    otedama_share share;
    size_t count, index;
    uint64_t tried;
    uint32_t end;

    memset(blob, 0x5a, sizeof blob);
    memset(&job, 0, sizeof job);
    job.struct_size = sizeof job;
    job.algorithm = OTEDAMA_RANDOMX_V1;
    job.input = blob;
    job.input_len = sizeof blob;
    memset(job.target_le, 0xff, 32);
    memset(&space, 0, sizeof space);
    space.struct_size = sizeof space;
    space.nonce_start = 0xfffffffd;
    OK(otedama_scanner_new(OTEDAMA_RANDOMX_V1, NULL, epoch, NULL, &scanner));
    OK(otedama_verifier_new(OTEDAMA_RANDOMX_V1, NULL, NULL, &verifier));
    FAILS(OTEDAMA_NO_EPOCH, "epoch", otedama_scanner_load(scanner, &job, NULL));
    OK(otedama_scanner_load(scanner, &job, epoch));
    OK(otedama_scanner_scan(scanner, &space, NULL, found, 4, &count, &tried, &end));
    CHECK(count == 3 && tried == 3 && end == OTEDAMA_END_DONE);
    for (index = 0; index < count; ++index) {
        CHECK(found[index].nonce == 0xfffffffd + index && !found[index].has_version);
        FAILS(OTEDAMA_NO_EPOCH, "epoch", otedama_verifier_check(verifier, &job, NULL, &found[index], NULL, NULL, &share));
        OK(otedama_verifier_check(verifier, &job, epoch, &found[index], NULL, NULL, &share));
        /* The nonce lies at byte 39, least significant byte first. */
        blob[39] = (uint8_t)found[index].nonce;
        blob[40] = blob[41] = blob[42] = 0xff;
        OK(otedama_hasher_hash(hasher, blob, sizeof blob, hash));
        CHECK(memcmp(hash, share.pow, 32) == 0);
    }
    OK(otedama_scanner_free(scanner));
    OK(otedama_verifier_free(verifier));
}

int main(int argc, char **argv) {
    otedama_store *store = NULL, *small = NULL;
    otedama_store_config config;
    otedama_epoch *epoch = NULL, *again = NULL;
    otedama_epoch_key key = key_of("test key 000"), number = key_of("");
    otedama_stop *stop = NULL;
    otedama_hasher *hasher = NULL;
    struct watch watch = {0, 1, 0};
    const uint8_t *cache = NULL, *same = NULL;
    uint64_t length = 0, held = 1, words[3];
    uint32_t epoch_number = 0;
    uint8_t hash[32];
    (void)argv;

    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    OK(otedama_store_new(NULL, &store));

    /* Cancelled by the callback, and by a flag. */
    FAILS(OTEDAMA_CANCELLED, "cancelled", otedama_store_get(store, &key, OTEDAMA_FULL, told, &watch, NULL, &epoch));
    CHECK(watch.calls == 1 && epoch == NULL);
    OK(otedama_stop_new(&stop));
    OK(otedama_stop_raise(stop));
    FAILS(OTEDAMA_CANCELLED, "cancelled", otedama_store_get(store, &key, OTEDAMA_LIGHT, NULL, NULL, stop, &epoch));
    OK(otedama_stop_free(stop));
    OK(otedama_store_held_bytes(store, &held));
    CHECK(held == 0);

    config.byte_budget = 1 << 20;
    OK(otedama_store_new(&config, &small));
    FAILS(OTEDAMA_BUDGET_SPENT, "budget", otedama_store_get(small, &key, OTEDAMA_LIGHT, NULL, NULL, NULL, &epoch));
    FAILS(OTEDAMA_BUDGET_SPENT, "budget", otedama_store_announce(small, &key, OTEDAMA_FULL));
    OK(otedama_store_free(small));

    /* Keys that no algorithm has. */
    FAILS(OTEDAMA_BAD_EPOCH, "key_len", otedama_store_get(store, &number, OTEDAMA_LIGHT, NULL, NULL, NULL, &epoch));
    number.key_len = 61;
    number.key = (const uint8_t *)"0123456789012345678901234567890123456789012345678901234567890";
    FAILS(OTEDAMA_BAD_EPOCH, "61", otedama_store_get(store, &number, OTEDAMA_LIGHT, NULL, NULL, NULL, &epoch));
    number.algorithm = OTEDAMA_SHA256D;
    FAILS(OTEDAMA_BAD_EPOCH, "no epochs", otedama_store_get(store, &number, OTEDAMA_LIGHT, NULL, NULL, NULL, &epoch));
    FAILS(OTEDAMA_BAD_VALUE, "depth", otedama_store_get(store, &key, 2, NULL, NULL, NULL, &epoch));
    OK(otedama_epoch_number(OTEDAMA_ETHASH, 29999, &epoch_number));
    CHECK(epoch_number == 0);
    OK(otedama_epoch_number(OTEDAMA_ETCHASH, 11700000, &epoch_number));
    CHECK(epoch_number == 195);
    FAILS(OTEDAMA_BAD_EPOCH, "blocks", otedama_epoch_number(OTEDAMA_RANDOMX_V1, 1, &epoch_number));
    FAILS(OTEDAMA_NO_EPOCH, "epoch", otedama_hash(OTEDAMA_RANDOMX_V1, NULL, (const uint8_t *)"x", 1, hash));

    if (argc == 1) {
        watch.calls = 0;
        watch.cancel_at = 1 << 30;
        OK(otedama_store_get(store, &key, OTEDAMA_LIGHT, told, &watch, NULL, &epoch));
        CHECK(watch.calls >= 2 && watch.last == 256u << 20);
        OK(otedama_store_get(store, &key, OTEDAMA_LIGHT, NULL, NULL, NULL, &again));
        OK(otedama_epoch_cache(epoch, &cache, &length));
        OK(otedama_epoch_cache(again, &same, &length));
        CHECK(cache == same && length == 256u << 20);
        /* Words of the reference's test cache (tevador/RandomX, src/tests/tests.cpp, "Cache initialization"). */
        memcpy(words, cache, 8);
        memcpy(words + 1, cache + 8 * 1568413, 8);
        memcpy(words + 2, cache + length - 8, 8);
        CHECK(words[0] == UINT64_C(0x191e0e1d23c02186) && words[1] == UINT64_C(0xf1b62fe6210bf8b1) &&
              words[2] == UINT64_C(0x1f47f056d05cd99b));
        CHECK(otedama_epoch_is_full(epoch) == OTEDAMA_BAD_EPOCH);
        FAILS(OTEDAMA_BAD_EPOCH, "no dataset", otedama_epoch_dataset(epoch, &same, &length));
        FAILS(OTEDAMA_WRONG_EPOCH, "epoch",
              otedama_hasher_new(OTEDAMA_RANDOMX_V2, NULL, epoch, NULL, &hasher));

        /* The store may go, and our handles of the epoch: the hasher keeps what it needs. */
        OK(otedama_store_free(store));
        store = NULL;
        OK(otedama_hasher_new(OTEDAMA_RANDOMX_V1, NULL, epoch, NULL, &hasher));
        OK(otedama_hash(OTEDAMA_RANDOMX_V1, epoch, (const uint8_t *)"This is a test", 14, hash));
        CHECK(hash[0] == 0x63 && hash[1] == 0x91 && hash[31] == 0x3f);
        search(epoch, hasher);
        OK(otedama_epoch_free(epoch));
        OK(otedama_epoch_free(again));
        OK(otedama_hasher_hash(hasher, (const uint8_t *)"This is a test", 14, hash));
        CHECK(hash[0] == 0x63 && hash[1] == 0x91 && hash[31] == 0x3f);
        FAILS(OTEDAMA_BAD_HANDLE, "freed", otedama_epoch_cache(epoch, &cache, &length));
        OK(otedama_hasher_free(hasher));
    }
    OK(otedama_store_free(store));
    CHECK(otedama_live_handles() == 0);
    return 0;
}
