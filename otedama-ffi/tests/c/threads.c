/* Threads that hammer what may be shared, and are told off where it may not. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 8

static otedama_store *store;
static otedama_engine *engine;
static otedama_hasher *one_for_all;
static otedama_epoch_key key;
static atomic_int busy, hashed, cancelled;
static int rounds = 300;

static void on_event(void *userdata, const otedama_event *event) {
    (void)event;
    atomic_fetch_add((atomic_int *)userdata, 1);
}

static void *hammer(void *argument) {
    uint8_t header[80], hash[32];
    otedama_job job = genesis_job(header);
    otedama_space space = space_of(GENESIS_NONCE - 40, 50);
    int round;
    (void)argument;
    for (round = 0; round < rounds; ++round) {
        otedama_engine_stats stats;
        otedama_stop *stop = NULL;
        otedama_epoch *epoch = NULL;
        uint64_t held;
        otedama_status status;

        /* Shared: an engine, a store, stop flags. */
        OK(otedama_engine_update(engine, &job, &space, NULL));
        OK(otedama_engine_count(engine, &stats));
        OK(otedama_store_held_bytes(store, &held));
        if (round % 64 == 0) {
            OK(otedama_stop_new(&stop));
            OK(otedama_stop_raise(stop));
            status = otedama_store_get(store, &key, OTEDAMA_LIGHT, NULL, NULL, stop, &epoch);
            CHECK(status == OTEDAMA_CANCELLED && epoch == NULL);
            atomic_fetch_add(&cancelled, 1);
            OK(otedama_stop_free(stop));
        }
        /* Not shared: one call at a time, the others are told. */
        status = otedama_hasher_hash(one_for_all, header, 80, hash);
        if (status == OTEDAMA_OK) {
            CHECK(displays_as(hash, GENESIS_HASH));
            atomic_fetch_add(&hashed, 1);
        } else {
            CHECK(status == OTEDAMA_BUSY && strstr(otedama_last_error(), "hasher") != NULL);
            atomic_fetch_add(&busy, 1);
        }
        /* A thread's own. */
        OK(otedama_hash(OTEDAMA_SHA256D, NULL, header, 80, hash));
        CHECK(displays_as(hash, GENESIS_HASH));
        /* Messages are a thread's own as well. */
        CHECK(otedama_algorithm_number("nonsense", &(uint32_t){0}) == OTEDAMA_UNKNOWN_ALGORITHM);
        CHECK(strstr(otedama_last_error(), "nonsense") != NULL);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    otedama_engine_config config;
    otedama_engine_stats stats;
    atomic_int events = 0;
    int index;
    (void)argv;

    if (argc > 1) {
        rounds = 20; /* valgrind */
    }
    memset(&key, 0, sizeof key);
    key.struct_size = sizeof key;
    key.algorithm = OTEDAMA_RANDOMX_V1;
    key.key = (const uint8_t *)"key";
    key.key_len = 3;
    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    config.algorithm = OTEDAMA_SHA256D;
    config.threads = 2;
    config.unpinned = 1;
    OK(otedama_store_new(NULL, &store));
    OK(otedama_hasher_new(OTEDAMA_SHA256D, NULL, NULL, NULL, &one_for_all));
    OK(otedama_engine_start(&config, on_event, &events, &engine));
    for (index = 0; index < THREADS; ++index) {
        CHECK(pthread_create(&threads[index], NULL, hammer, NULL) == 0);
    }
    for (index = 0; index < THREADS; ++index) {
        CHECK(pthread_join(threads[index], NULL) == 0);
    }
    OK(otedama_engine_stop(engine));
    OK(otedama_engine_count(engine, &stats));
    CHECK(stats.refused == 0 && stats.alive == 2 && hashed + busy == THREADS * rounds && hashed > 0 && cancelled > 0);
    printf("%d hashed, %d told to wait, %d events\n", hashed, busy, events);
    OK(otedama_engine_free(engine));
    OK(otedama_hasher_free(one_for_all));
    OK(otedama_store_free(store));
    CHECK(otedama_live_handles() == 0);
    return 0;
}
