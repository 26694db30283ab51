// The C++ face: moves, exceptions, views, callbacks that throw.
#include <otedama.hpp>

#include "check.h"

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static_assert(!std::is_copy_constructible_v<otedama::hasher> && std::is_nothrow_move_constructible_v<otedama::hasher>);
static_assert(!std::is_copy_assignable_v<otedama::engine> && std::is_nothrow_move_assignable_v<otedama::engine>);

// The status of the error that a call throws.
template <class Call> static otedama_status thrown(Call call) {
    try {
        call();
    } catch (const otedama::error &error) {
        CHECK(std::string(error.what()).size() > 5);
        return error.status();
    }
    return OTEDAMA_OK;
}

int main() {
    std::array<std::uint8_t, 80> header{};
    genesis(header.data());
    CHECK(otedama::abi_matches() && otedama::version() == OTEDAMA_VERSION);
    CHECK(otedama::algorithm_named("sha256d") == otedama::algorithm::sha256d);
    CHECK(thrown([] { otedama::algorithm_named("nonsense"); }) == OTEDAMA_UNKNOWN_ALGORITHM);
    CHECK(otedama::kernels().size() == otedama_kernel_count());
    CHECK(otedama::devices_json().front() == '{' && otedama::devices_json().back() == '}');

    // Hashes, and moved handles.
    CHECK(displays_as(otedama::hash(otedama::algorithm::sha256d, header).data(), GENESIS_HASH));
    otedama::hasher first(otedama::algorithm::sha256d), second(std::move(first));
    CHECK(thrown([&] { first.hash(header); }) == OTEDAMA_NULL_ARGUMENT);
    CHECK(displays_as(second.hash(header).data(), GENESIS_HASH));
    first = std::move(second);
    CHECK(otedama_live_handles() == 1);
    std::vector<std::uint8_t> inputs;
    for (int copy = 0; copy < 300; ++copy) {
        inputs.insert(inputs.end(), header.begin(), header.end());
    }
    for (const otedama::hash256 &hash : first.hash_many(inputs, 80)) {
        CHECK(displays_as(hash.data(), GENESIS_HASH));
    }
    CHECK(thrown([] { otedama::hasher(otedama::algorithm::scrypt).hash(std::string("short")); }) == OTEDAMA_BAD_INPUT);
    otedama::setup bare;
    bare.without_isa = otedama_cpu_isa();
    CHECK(displays_as(otedama::hasher(otedama::algorithm::sha256d, nullptr, {}, bare).hash(header).data(), GENESIS_HASH));

    // A scan and its proof.
    otedama::job job;
    job.id = 7;
    job.input = header;
    job.target = otedama::target_from_bits(GENESIS_BITS);
    CHECK(otedama::target_to_difficulty(job.algorithm, job.target) == 1.0);
    CHECK(otedama::target_from_difficulty(job.algorithm, 1.0) == job.target);
    otedama::scanner scanner(otedama::algorithm::sha256d);
    scanner.load(job);
    otedama::space space;
    space.nonce_start = GENESIS_NONCE - 5;
    space.nonce_count = 10;
    const otedama::scanned found = scanner.scan(space);
    CHECK(found.candidates.size() == 1 && found.tried == 10 && found.end == OTEDAMA_END_DONE);
    otedama::verifier verifier(otedama::algorithm::sha256d);
    CHECK(verifier.check(job, found.candidates[0])->nonce == GENESIS_NONCE);
    otedama_candidate wrong = found.candidates[0];
    wrong.nonce += 1;
    CHECK(!verifier.check(job, wrong));

    // A store: an exception cancels and comes back.
    otedama::store store;
    bool caught = false;
    try {
        store.get(otedama::algorithm::randomx_v1, std::string("key"), OTEDAMA_LIGHT,
                  [](std::uint64_t, std::uint64_t) -> bool { throw std::runtime_error("enough"); });
    } catch (const std::runtime_error &error) {
        caught = std::string(error.what()) == "enough";
    }
    CHECK(caught && store.held_bytes() == 0);
    otedama::stop_flag stop;
    stop.raise();
    CHECK(thrown([&] {
              store.get(otedama::algorithm::randomx_v1, std::string("key"), OTEDAMA_FULL, nullptr, &stop);
          }) == OTEDAMA_CANCELLED);

    // An engine, and one that takes its place.
    std::atomic<int> shares{0}, idle{0};
    auto count = [&](const otedama_event &event) {
        shares += event.kind == OTEDAMA_EVENT_SHARE;
        idle += event.kind == OTEDAMA_EVENT_IDLE;
    };
    otedama::engine_config config;
    config.threads = 2;
    config.unpinned = true;
    otedama::engine engine(config, count);
    engine = otedama::engine(config, count);
    engine.replace(job, &space);
    while (idle == 0) {
        std::this_thread::yield();
    }
    engine.stop();
    CHECK(shares == 1 && engine.count().hashes == 10);
    CHECK(thrown([&] { engine.update(job); }) == OTEDAMA_STOPPED);

    CHECK(otedama::bench(otedama::algorithm::sha256d, std::chrono::milliseconds(100), "portable", 1).hashes > 0);
}
