/* An engine finds the genesis nonce, reports it once, is fed from its callback, counts exactly and stops; a kernel is
 * measured. */
#include "check.h"

#include <stdatomic.h>
#include <time.h>

struct seen {
    otedama_engine *_Atomic engine;
    atomic_int shares, idle, others, refused_to_stop;
    otedama_share share;
    otedama_job job;
};

static void on_event(void *userdata, const otedama_event *event) {
    struct seen *seen = userdata;
    otedama_engine_stats stats;
    otedama_space space = space_of(0, 5000);
    CHECK(event->message != NULL);
    switch (event->kind) {
    case OTEDAMA_EVENT_SHARE:
        seen->share = event->share;
        atomic_fetch_add(&seen->shares, 1);
        break;
    case OTEDAMA_EVENT_IDLE:
        /* Work may come from here, and counts; stopping may not. */
        if (atomic_fetch_add(&seen->idle, 1) == 0) {
            OK(otedama_engine_count(seen->engine, &stats));
            OK(otedama_engine_update(seen->engine, &seen->job, &space, NULL));
            if (otedama_engine_stop(seen->engine) == OTEDAMA_BUSY && otedama_engine_free(seen->engine) == OTEDAMA_BUSY) {
                atomic_store(&seen->refused_to_stop, 1);
            }
        }
        break;
    default:
        atomic_fetch_add(&seen->others, 1);
    }
}

/* Every nonce is a share here. Counting while the engine is being stopped must not wait for that. */
static void on_flood(void *userdata, const otedama_event *event) {
    struct seen *seen = userdata;
    otedama_engine_stats stats;
    CHECK(event->kind == OTEDAMA_EVENT_SHARE && event->share.nonce < 1u << 31);
    if (seen->engine != NULL) {
        otedama_status status = otedama_engine_count(seen->engine, &stats);
        CHECK(status == OTEDAMA_OK || status == OTEDAMA_BAD_HANDLE);
    }
    atomic_fetch_add(&seen->shares, 1);
}

static void wait_for(atomic_int *counter, int count) {
    const struct timespec tick = {0, 1000000};
    int ticks;
    for (ticks = 0; atomic_load(counter) < count; ++ticks) {
        CHECK(ticks < 60000);
        nanosleep(&tick, NULL);
    }
}

static int32_t at_once(void *userdata, double part, double hashes_per_second) {
    CHECK(part >= 0 && part <= 1 && hashes_per_second >= 0);
    return ++*(int *)userdata >= 3;
}

int main(void) {
    uint8_t header[80];
    struct seen seen;
    otedama_engine *engine = NULL;
    otedama_engine_config config;
    otedama_engine_stats stats;
    otedama_bench_config bench;
    otedama_bench_result result;
    otedama_space space = space_of(GENESIS_NONCE - 20000, 30000);
    uint32_t cpu = 0xffffff;
    int calls = 0;

    memset(&seen, 0, sizeof seen);
    seen.job = genesis_job(header);
    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    config.algorithm = OTEDAMA_SHA256D;
    config.threads = 2;
    config.unpinned = 1;
    OK(otedama_engine_start(&config, on_event, &seen, &engine));
    seen.engine = engine;
    OK(otedama_engine_replace(engine, &seen.job, &space, NULL));
    wait_for(&seen.idle, 2);
    CHECK(seen.shares == 1 && seen.share.nonce == GENESIS_NONCE && seen.share.job_id == 7 && seen.others == 0);
    CHECK(seen.refused_to_stop && displays_as(seen.share.pow, GENESIS_HASH));
    OK(otedama_engine_count(engine, &stats));
    CHECK(stats.hashes == 35000 && stats.shares == 1 && stats.refused == 0 && stats.alive == 2);
    /* All of the space, cut short. */
    OK(otedama_engine_replace(engine, &seen.job, NULL, NULL));
    OK(otedama_engine_stop(engine));
    OK(otedama_engine_stop(engine));
    OK(otedama_engine_count(engine, &stats));
    CHECK(stats.hashes >= 35000);
    FAILS(OTEDAMA_STOPPED, "stopped", otedama_engine_replace(engine, &seen.job, &space, NULL));
    OK(otedama_engine_free(engine));
    FAILS(OTEDAMA_BAD_HANDLE, "engine", otedama_engine_count(engine, &stats));

    memset(&seen, 0, sizeof seen);
    seen.job = genesis_job(header);
    memset(seen.job.target_le, 0xff, 32);
    OK(otedama_engine_start(&config, on_flood, &seen, &engine));
    seen.engine = engine;
    OK(otedama_engine_replace(engine, &seen.job, NULL, NULL));
    wait_for(&seen.shares, 5000);
    OK(otedama_engine_stop(engine));
    OK(otedama_engine_count(engine, &stats));
    CHECK(stats.shares == (uint64_t)seen.shares && stats.shares >= 5000);
    OK(otedama_engine_free(engine));

    /* Engines that cannot start. */
    FAILS(OTEDAMA_NULL_ARGUMENT, "events", otedama_engine_start(&config, NULL, NULL, &engine));
    config.threads = 5000;
    FAILS(OTEDAMA_BAD_VALUE, "threads", otedama_engine_start(&config, on_event, &seen, &engine));
    config.threads = 0;
    config.unpinned = 2;
    FAILS(OTEDAMA_BAD_VALUE, "unpinned", otedama_engine_start(&config, on_event, &seen, &engine));
    config.unpinned = 0;
    config.cpus = &cpu;
    config.cpu_count = 1;
    FAILS(OTEDAMA_THREAD_FAILED, "CPU", otedama_engine_start(&config, on_event, &seen, &engine));
    config.kernel = "nonsense";
    config.cpus = NULL;
    FAILS(OTEDAMA_UNKNOWN_KERNEL, "nonsense", otedama_engine_start(&config, on_event, &seen, &engine));

    memset(&bench, 0, sizeof bench);
    bench.struct_size = sizeof bench;
    bench.algorithm = OTEDAMA_SHA256D;
    bench.kernel = "portable";
    bench.threads = 1;
    FAILS(OTEDAMA_BAD_VALUE, "milliseconds", otedama_bench(&bench, NULL, NULL, &result));
    bench.milliseconds = 300;
    OK(otedama_bench(&bench, NULL, NULL, &result));
    CHECK(strcmp(result.kernel, "sha256d-portable") == 0 && result.threads == 1 && result.rolled == 1);
    CHECK(result.hashes > 0 && result.seconds >= 0.3 && result.hashes_per_second > 0);
    bench.milliseconds = 600000;
    OK(otedama_bench(&bench, at_once, &calls, &result));
    CHECK(calls == 3 && result.seconds < 100);

    CHECK(otedama_live_handles() == 0);
    return 0;
}
