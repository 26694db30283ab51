/* The genesis nonce is found by every kernel, stopped and resumed, and proven. */
#include "check.h"

#define CAPACITY 64

int main(void) {
    uint8_t header[80], wrong[32];
    otedama_job job = genesis_job(header);
    otedama_space space = space_of(GENESIS_NONCE - 1000, 3000);
    otedama_candidate found[CAPACITY], candidate;
    otedama_scanner *scanner = NULL;
    otedama_scanner_info info;
    otedama_verifier *verifier = NULL;
    otedama_share share;
    otedama_stop *stop = NULL;
    otedama_kernel kernel;
    size_t index, count, kernels = 0;
    uint64_t tried;
    uint32_t end;

    memset(header + 76, 0, 4);
    for (index = 0; index < otedama_kernel_count(); ++index) {
        OK(otedama_kernel_at(index, NULL, &kernel));
        if (!kernel.usable || kernel.algorithm != OTEDAMA_SHA256D) {
            continue;
        }
        ++kernels;
        count = 99, tried = 99, end = 99;
        job.version_mask = 0;
        space.version_count = 0;
        OK(otedama_scanner_new(OTEDAMA_SHA256D, kernel.name, NULL, NULL, &scanner));
        OK(otedama_scanner_describe(scanner, &info));
        CHECK(strcmp(info.kernel, kernel.name) == 0 && info.lanes >= 1 && info.max_versions >= 1);
        FAILS(OTEDAMA_NO_JOB, "job", otedama_scanner_scan(scanner, &space, NULL, found, CAPACITY, &count, &tried, &end));
        CHECK(count == 99 && tried == 99 && end == 99);
        OK(otedama_scanner_load(scanner, &job, NULL));
        OK(otedama_scanner_scan(scanner, &space, NULL, found, CAPACITY, &count, &tried, &end));
        CHECK(count == 1 && found[0].nonce == GENESIS_NONCE && found[0].has_version == 0);
        CHECK(tried == 3000 && end == OTEDAMA_END_DONE);

        job.version_mask = 0x1fffe000;
        OK(otedama_scanner_load(scanner, &job, NULL));
        space.version_count = 2;
        OK(otedama_scanner_scan(scanner, &space, NULL, found, CAPACITY, &count, &tried, &end));
        CHECK(count == 1 && found[0].has_version == 1 && found[0].version == 1 && tried == 6000);
        OK(otedama_scanner_free(scanner));
    }
    CHECK(kernels >= 1);

    /* A raised flag ends a scan; what everything meets fills the room and can be resumed. */
    job.version_mask = 0;
    OK(otedama_scanner_new(OTEDAMA_SHA256D, NULL, NULL, NULL, &scanner));
    OK(otedama_stop_new(&stop));
    OK(otedama_stop_raise(stop));
    OK(otedama_scanner_load(scanner, &job, NULL));
    OK(otedama_scanner_scan(scanner, NULL, stop, found, CAPACITY, &count, &tried, &end));
    CHECK(end == OTEDAMA_END_STOPPED && tried < 1u << 31);
    OK(otedama_stop_free(stop));
    memset(job.target_le, 0xff, 32);
    OK(otedama_scanner_load(scanner, &job, NULL));
    space = space_of(5, 100);
    OK(otedama_scanner_scan(scanner, &space, NULL, found, CAPACITY, &count, &tried, &end));
    CHECK(end == OTEDAMA_END_FULL && count == CAPACITY && tried == CAPACITY && found[CAPACITY - 1].nonce == 68);
    space = space_of(5 + tried, 100 - tried);
    OK(otedama_scanner_scan(scanner, &space, NULL, found, CAPACITY, &count, &tried, &end));
    CHECK(end == OTEDAMA_END_DONE && count == 36 && found[0].nonce == 69);
    space = space_of(0xffffffff, 2);
    FAILS(OTEDAMA_BAD_SPACE, "space", otedama_scanner_scan(scanner, &space, NULL, found, 1, &count, &tried, &end));
    space = space_of(0, 2);
    FAILS(OTEDAMA_BUFFER_TOO_SMALL, "room",
          otedama_scanner_scan(scanner, &space, NULL, found, 0, &count, &tried, &end));
    OK(otedama_scanner_free(scanner));

    /* Proving. */
    OK(otedama_target_from_bits(GENESIS_BITS, job.target_le));
    OK(otedama_verifier_new(OTEDAMA_SHA256D, NULL, NULL, &verifier));
    memset(&candidate, 0, sizeof candidate);
    candidate.nonce = GENESIS_NONCE;
    OK(otedama_verifier_check(verifier, &job, NULL, &candidate, NULL, NULL, &share));
    CHECK(share.job_id == 7 && share.nonce == GENESIS_NONCE && !share.has_version && !share.has_mix);
    CHECK(displays_as(share.pow, GENESIS_HASH));
    OK(otedama_verifier_check(verifier, &job, NULL, &candidate, share.pow, NULL, &share));
    memset(wrong, 0, sizeof wrong);
    FAILS(OTEDAMA_WRONG_HASH, "differs", otedama_verifier_check(verifier, &job, NULL, &candidate, wrong, NULL, &share));
    FAILS(OTEDAMA_WRONG_MIX, "mix", otedama_verifier_check(verifier, &job, NULL, &candidate, NULL, wrong, &share));
    memset(wrong, 0xff, sizeof wrong);
    FAILS(OTEDAMA_ABOVE_TARGET, "above", otedama_verifier_check(verifier, &job, NULL, &candidate, wrong, NULL, &share));
    candidate.nonce = GENESIS_NONCE + 1;
    FAILS(OTEDAMA_ABOVE_TARGET, "above", otedama_verifier_check(verifier, &job, NULL, &candidate, NULL, NULL, &share));
    candidate.nonce = UINT64_C(1) << 32;
    FAILS(OTEDAMA_NOT_ALLOWED, "allows", otedama_verifier_check(verifier, &job, NULL, &candidate, NULL, NULL, &share));
    CHECK(share.nonce == GENESIS_NONCE);
    OK(otedama_verifier_free(verifier));

    CHECK(otedama_live_handles() == 0);
    return 0;
}
