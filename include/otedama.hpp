/* otedama for C++17: the C library of otedama.h behind types that free themselves. MIT licence.
 *
 * - Handles (store, epoch, hasher, scanner, verifier, engine, stop_flag) can be moved and not copied; a destructor
 *   frees. A moved-from handle is empty: pass it nowhere.
 * - Whatever fails throws otedama::error: status() is the number of otedama.h, what() names the argument and what
 *   was expected. A claim that is no share is no failure of the call: verifier::check() answers nothing.
 * - bytes is a view: a pointer and a length, made from std::array, std::vector, std::string or anything with data() and
 *   size() whose elements are bytes. Nothing is copied; what it shows must live as long as the call.
 * - Which calls may be shared between threads is what otedama.h says: methods that are const may be.
 * - Exceptions that leave a progress callback cancel and are thrown again on this side. An event callback of an
 *   engine must not throw: it runs on the engine's threads, and std::terminate answers.
 */
#ifndef OTEDAMA_HPP
#define OTEDAMA_HPP

#include "otedama.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace otedama {

/* A call that did nothing, and why. */
class error : public std::runtime_error {
public:
    error(otedama_status status, const std::string &message) : std::runtime_error(message), status_(status) {}

    /* An OTEDAMA_ number. */
    otedama_status status() const noexcept { return status_; }

private:
    otedama_status status_;
};

namespace detail {

inline void check(otedama_status status) {
    if (status != OTEDAMA_OK) {
        throw error(status, otedama_last_error());
    }
}

/* One handle; `Free` ends it. */
template <class T, otedama_status (*Free)(T *)> class handle {
public:
    handle() noexcept = default;
    explicit handle(T *raw) noexcept : raw_(raw) {}
    handle(handle &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    handle &operator=(handle &&other) noexcept {
        if (this != &other) {
            Free(raw_);
            raw_ = std::exchange(other.raw_, nullptr);
        }
        return *this;
    }
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;
    ~handle() { Free(raw_); }

    T *get() const noexcept { return raw_; }

private:
    T *raw_ = nullptr;
};

} // namespace detail

/* 32 bytes of hash, in the order the function outputs them. */
using hash256 = std::array<std::uint8_t, 32>;

/* A number of 256 bits, least significant byte first. */
using target = std::array<std::uint8_t, 32>;

/* The functions. */
enum class algorithm : std::uint32_t {
    sha256d = OTEDAMA_SHA256D,
    scrypt = OTEDAMA_SCRYPT,
    ethash = OTEDAMA_ETHASH,
    etchash = OTEDAMA_ETCHASH,
    kawpow = OTEDAMA_KAWPOW,
    randomx_v1 = OTEDAMA_RANDOMX_V1,
    randomx_v2 = OTEDAMA_RANDOMX_V2,
};

/* A view of bytes that someone else owns. */
class bytes {
public:
    constexpr bytes() noexcept = default;
    constexpr bytes(const std::uint8_t *data, std::size_t size) noexcept : data_(data), size_(size) {}

    /* Of anything with data() and size() whose elements are single bytes. */
    template <class Container, class Element = std::remove_pointer_t<decltype(std::declval<const Container &>().data())>,
              class = std::enable_if_t<sizeof(Element) == 1 && std::is_trivially_copyable_v<Element> &&
                                       !std::is_same_v<Container, bytes>>>
    bytes(const Container &container) noexcept
        : data_(reinterpret_cast<const std::uint8_t *>(container.data())), size_(container.size()) {}

    constexpr const std::uint8_t *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr const std::uint8_t *begin() const noexcept { return data_; }
    constexpr const std::uint8_t *end() const noexcept { return data_ + size_; }
    constexpr std::uint8_t operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    const std::uint8_t *data_ = nullptr;
    std::size_t size_ = 0;
};

/* What of the machine may be used; as it is, everything. */
struct setup {
    std::uint32_t without_isa = 0;
    std::uint32_t pages = OTEDAMA_PAGES_LARGEST;
    bool no_compiling = false;
    std::string tuning_file = {};

    /* As C takes it; shows this object's string. */
    otedama_setup raw() const noexcept {
        otedama_setup raw{};
        raw.struct_size = sizeof raw;
        raw.without_isa = without_isa;
        raw.pages = pages;
        raw.no_compiling = no_compiling;
        raw.tuning_file = tuning_file.empty() ? nullptr : tuning_file.c_str();
        return raw;
    }
};

/* Whether header and library belong together; call it once at the start if the library is a shared one. */
inline bool abi_matches() noexcept { return otedama_abi_version() == OTEDAMA_ABI_VERSION; }

/* The library's version. */
inline std::string version() { return otedama_version(); }

/* The algorithm of a name such as "sha256d". */
inline algorithm algorithm_named(const std::string &name) {
    std::uint32_t number = 0;
    detail::check(otedama_algorithm_number(name.c_str(), &number));
    return static_cast<algorithm>(number);
}

/* The target that compact bits of a header stand for. */
inline target target_from_bits(std::uint32_t bits) {
    target out;
    detail::check(otedama_target_from_bits(bits, out.data()));
    return out;
}

/* The target of a pool's difficulty. */
inline target target_from_difficulty(algorithm algorithm, double difficulty) {
    target out;
    detail::check(otedama_target_from_difficulty(static_cast<std::uint32_t>(algorithm), difficulty, out.data()));
    return out;
}

/* The difficulty of a target. */
inline double target_to_difficulty(algorithm algorithm, const target &target_le) {
    double out = 0;
    detail::check(otedama_target_to_difficulty(static_cast<std::uint32_t>(algorithm), target_le.data(), &out));
    return out;
}

/* Every kernel this version has, and whether it can be used. */
inline std::vector<otedama_kernel> kernels(const setup &setup = {}) {
    const otedama_setup raw = setup.raw();
    std::vector<otedama_kernel> all(otedama_kernel_count());
    for (std::size_t index = 0; index < all.size(); ++index) {
        detail::check(otedama_kernel_at(index, &raw, &all[index]));
    }
    return all;
}

/* The machine as JSON. */
inline std::string devices_json(const setup &setup = {}) {
    const otedama_setup raw = setup.raw();
    std::string text(4096, '\0');
    for (;;) {
        std::size_t length = 0;
        const otedama_status status =
            otedama_devices_json(&raw, reinterpret_cast<std::uint8_t *>(text.data()), text.size(), &length);
        if (status == OTEDAMA_BUFFER_TOO_SMALL) {
            text.resize(length + 1);
            continue;
        }
        detail::check(status);
        text.resize(length);
        return text;
    }
}

/* Ends scans and builds that were given it. */
class stop_flag {
public:
    stop_flag() {
        otedama_stop *raw = nullptr;
        detail::check(otedama_stop_new(&raw));
        handle_ = detail::handle<otedama_stop, otedama_stop_free>(raw);
    }

    void raise() const { detail::check(otedama_stop_raise(handle_.get())); }
    const otedama_stop *raw() const noexcept { return handle_.get(); }

private:
    detail::handle<otedama_stop, otedama_stop_free> handle_;
};

/* The memory of one epoch. */
class epoch {
public:
    /* Takes over a handle. */
    explicit epoch(otedama_epoch *raw) noexcept : handle_(raw) {}

    bool is_full() const {
        const otedama_status status = otedama_epoch_is_full(handle_.get());
        if (status != OTEDAMA_BAD_EPOCH) {
            detail::check(status);
        }
        return status == OTEDAMA_OK;
    }

    /* The cache as it lies in memory; lives as long as this object. */
    bytes cache() const { return view(otedama_epoch_cache); }

    /* The dataset, the same way. */
    bytes dataset() const { return view(otedama_epoch_dataset); }

    const otedama_epoch *raw() const noexcept { return handle_.get(); }

private:
    bytes view(otedama_status (*call)(const otedama_epoch *, const std::uint8_t **, std::uint64_t *)) const {
        const std::uint8_t *data = nullptr;
        std::uint64_t size = 0;
        detail::check(call(handle_.get(), &data, &size));
        return {data, static_cast<std::size_t>(size)};
    }

    detail::handle<otedama_epoch, otedama_epoch_free> handle_;
};

/* How a store works; as it is, the defaults of otedama.h. */
struct store_config {
    std::uint32_t threads = 0;
    std::uint64_t byte_budget = 0;
    std::uint32_t placement = OTEDAMA_REPLICATE;
    std::uint32_t node = 0;
    otedama::setup setup = {};
};

/* Where epochs are built, once each, and found again. */
class store {
public:
    /* Told of bytes done and bytes in all; answers whether to go on. */
    using progress = std::function<bool(std::uint64_t, std::uint64_t)>;

    explicit store(const store_config &config = {}) {
        const otedama_setup setup = config.setup.raw();
        otedama_store_config raw{};
        raw.struct_size = sizeof raw;
        raw.threads = config.threads;
        raw.byte_budget = config.byte_budget;
        raw.placement = config.placement;
        raw.node = config.node;
        raw.setup = &setup;
        otedama_store *out = nullptr;
        detail::check(otedama_store_new(&raw, &out));
        handle_ = detail::handle<otedama_store, otedama_store_free>(out);
    }

    /* The epoch of a key (RandomX). `depth` is OTEDAMA_LIGHT or OTEDAMA_FULL. */
    epoch get(algorithm algorithm, bytes key, std::uint32_t depth, const progress &progress = nullptr,
              const stop_flag *stop = nullptr) const {
        otedama_epoch_key raw{};
        raw.struct_size = sizeof raw;
        raw.algorithm = static_cast<std::uint32_t>(algorithm);
        raw.key = key.data();
        raw.key_len = static_cast<std::uint32_t>(key.size());
        return get(raw, depth, progress, stop);
    }

    /* The epoch of a number (Ethash, Etchash, KawPow). */
    epoch get(algorithm algorithm, std::uint32_t number, std::uint32_t depth, const progress &progress = nullptr,
              const stop_flag *stop = nullptr) const {
        otedama_epoch_key raw{};
        raw.struct_size = sizeof raw;
        raw.algorithm = static_cast<std::uint32_t>(algorithm);
        raw.number = number;
        return get(raw, depth, progress, stop);
    }

    std::uint64_t held_bytes() const {
        std::uint64_t out = 0;
        detail::check(otedama_store_held_bytes(handle_.get(), &out));
        return out;
    }

    const otedama_store *raw() const noexcept { return handle_.get(); }

private:
    /* A callback and what it threw. */
    struct watch {
        const progress &tell;
        std::exception_ptr thrown;
    };

    epoch get(const otedama_epoch_key &key, std::uint32_t depth, const progress &progress,
              const stop_flag *stop) const {
        watch watch{progress, nullptr};
        otedama_epoch *out = nullptr;
        const otedama_status status =
            otedama_store_get(handle_.get(), &key, depth, progress ? told : nullptr, &watch,
                              stop == nullptr ? nullptr : stop->raw(), &out);
        epoch made(out);
        if (watch.thrown) {
            std::rethrow_exception(watch.thrown);
        }
        detail::check(status);
        return made;
    }

    static std::int32_t told(void *userdata, std::uint64_t done, std::uint64_t total) {
        watch &watch = *static_cast<struct watch *>(userdata);
        try {
            return watch.tell(done, total) ? 0 : 1;
        } catch (...) {
            watch.thrown = std::current_exception();
            return 1;
        }
    }

    detail::handle<otedama_store, otedama_store_free> handle_;
};

/* Hashes one input without a hasher of yours. */
inline hash256 hash(algorithm algorithm, bytes input, const epoch *epoch = nullptr) {
    hash256 out;
    detail::check(otedama_hash(static_cast<std::uint32_t>(algorithm), epoch == nullptr ? nullptr : epoch->raw(),
                               input.data(), input.size(), out.data()));
    return out;
}

/* Hashes inputs; one thread at a time. `kernel` empty is the fastest. */
class hasher {
public:
    explicit hasher(algorithm algorithm, const epoch *epoch = nullptr, const std::string &kernel = {},
                    const setup &setup = {}) {
        const otedama_setup raw = setup.raw();
        otedama_hasher *out = nullptr;
        detail::check(otedama_hasher_new(static_cast<std::uint32_t>(algorithm), kernel.empty() ? nullptr : kernel.c_str(),
                                         epoch == nullptr ? nullptr : epoch->raw(), &raw, &out));
        handle_ = detail::handle<otedama_hasher, otedama_hasher_free>(out);
    }

    hash256 hash(bytes input) {
        hash256 out;
        detail::check(otedama_hasher_hash(handle_.get(), input.data(), input.size(), out.data()));
        return out;
    }

    /* Inputs of `input_len` bytes that lie one after the other; throws std::invalid_argument if they do not divide. */
    std::vector<hash256> hash_many(bytes inputs, std::size_t input_len) {
        if (input_len == 0 || inputs.size() % input_len != 0) {
            throw std::invalid_argument("inputs do not divide into inputs of input_len bytes");
        }
        std::vector<hash256> out(inputs.size() / input_len);
        hash_many(inputs, input_len, out.data(), out.size());
        return out;
    }

    /* The same into `out`, which has room for `count` hashes. */
    void hash_many(bytes inputs, std::size_t input_len, hash256 *out, std::size_t count) {
        if (input_len != 0 && inputs.size() / input_len < count) {
            throw std::invalid_argument("inputs are fewer than count");
        }
        detail::check(otedama_hasher_hash_many(handle_.get(), inputs.data(), input_len, count,
                                               reinterpret_cast<std::uint8_t *>(out), count * sizeof(hash256)));
    }

    otedama_hasher *raw() noexcept { return handle_.get(); }

private:
    detail::handle<otedama_hasher, otedama_hasher_free> handle_;
};

/* What to hash, and how small the hash must be. `input` is a view: see to it that what it shows lives on. */
struct job {
    otedama::algorithm algorithm = otedama::algorithm::sha256d;
    std::uint64_t id = 0;
    bytes input = {};
    otedama::target target = {};
    std::uint32_t version_mask = 0;
    std::uint64_t height = 0;

    /* As C takes it. */
    otedama_job raw() const noexcept {
        otedama_job raw{};
        raw.struct_size = sizeof raw;
        raw.algorithm = static_cast<std::uint32_t>(algorithm);
        raw.id = id;
        raw.input = input.data();
        raw.input_len = input.size();
        raw.height = height;
        raw.version_mask = version_mask;
        for (std::size_t index = 0; index < target.size(); ++index) {
            raw.target_le[index] = target[index];
        }
        return raw;
    }
};

/* Nonces and versions; a nonce_count of 0 is all from nonce_start on. */
struct space {
    std::uint64_t nonce_start = 0;
    std::uint64_t nonce_count = 0;
    std::uint32_t version_start = 0;
    std::uint32_t version_count = 1;

    /* As C takes it. */
    otedama_space raw() const noexcept {
        otedama_space raw{};
        raw.struct_size = sizeof raw;
        raw.version_start = version_start;
        raw.version_count = version_count;
        raw.nonce_start = nonce_start;
        raw.nonce_count = nonce_count;
        return raw;
    }
};

/* What a scan found and how far it came. */
struct scanned {
    std::vector<otedama_candidate> candidates;
    std::uint64_t tried = 0;
    std::uint32_t end = OTEDAMA_END_DONE;
};

/* Searches on the calling thread; one thread at a time. */
class scanner {
public:
    explicit scanner(algorithm algorithm, const epoch *epoch = nullptr, const std::string &kernel = {},
                     const setup &setup = {}) {
        const otedama_setup raw = setup.raw();
        otedama_scanner *out = nullptr;
        detail::check(otedama_scanner_new(static_cast<std::uint32_t>(algorithm),
                                          kernel.empty() ? nullptr : kernel.c_str(),
                                          epoch == nullptr ? nullptr : epoch->raw(), &raw, &out));
        handle_ = detail::handle<otedama_scanner, otedama_scanner_free>(out);
    }

    void load(const job &job, const epoch *epoch = nullptr) {
        const otedama_job raw = job.raw();
        detail::check(otedama_scanner_load(handle_.get(), &raw, epoch == nullptr ? nullptr : epoch->raw()));
    }

    /* Searches `space` for at most `capacity` candidates. */
    scanned scan(const space &space = {}, std::size_t capacity = 1024, const stop_flag *stop = nullptr) {
        const otedama_space raw = space.raw();
        scanned out;
        out.candidates.resize(capacity);
        std::size_t count = 0;
        detail::check(otedama_scanner_scan(handle_.get(), &raw, stop == nullptr ? nullptr : stop->raw(),
                                           out.candidates.data(), capacity, &count, &out.tried, &out.end));
        out.candidates.resize(count);
        return out;
    }

    otedama_scanner_info describe() {
        otedama_scanner_info info{};
        detail::check(otedama_scanner_describe(handle_.get(), &info));
        return info;
    }

    otedama_scanner *raw() noexcept { return handle_.get(); }

private:
    detail::handle<otedama_scanner, otedama_scanner_free> handle_;
};

/* Proves claims; one thread at a time. */
class verifier {
public:
    explicit verifier(algorithm algorithm, const std::string &kernel = {}, const setup &setup = {}) {
        const otedama_setup raw = setup.raw();
        otedama_verifier *out = nullptr;
        detail::check(otedama_verifier_new(static_cast<std::uint32_t>(algorithm),
                                           kernel.empty() ? nullptr : kernel.c_str(), &raw, &out));
        handle_ = detail::handle<otedama_verifier, otedama_verifier_free>(out);
    }

    /* The share, or nothing where the claim is none; otedama_last_error() then says why. */
    std::optional<otedama_share> check(const job &job, const otedama_candidate &candidate, const epoch *epoch = nullptr,
                                       const hash256 *claimed_pow = nullptr, const hash256 *claimed_mix = nullptr) {
        const otedama_job raw = job.raw();
        otedama_share share{};
        const otedama_status status = otedama_verifier_check(
            handle_.get(), &raw, epoch == nullptr ? nullptr : epoch->raw(), &candidate,
            claimed_pow == nullptr ? nullptr : claimed_pow->data(), claimed_mix == nullptr ? nullptr : claimed_mix->data(),
            &share);
        switch (status) {
        case OTEDAMA_ABOVE_TARGET:
        case OTEDAMA_WRONG_HASH:
        case OTEDAMA_WRONG_MIX:
        case OTEDAMA_NOT_ALLOWED:
            return std::nullopt;
        default:
            detail::check(status);
            return share;
        }
    }

    otedama_verifier *raw() noexcept { return handle_.get(); }

private:
    detail::handle<otedama_verifier, otedama_verifier_free> handle_;
};

/* How an engine works. */
struct engine_config {
    otedama::algorithm algorithm = otedama::algorithm::sha256d;
    std::uint32_t threads = 0;
    bool unpinned = false;
    std::string kernel = {};
    const otedama::epoch *epoch = nullptr;
    otedama::setup setup = {};
    std::vector<std::uint32_t> cpus = {};
};

/* Searches on threads of its own. */
class engine {
public:
    /* Called on the engine's threads, one call at a time; must not throw. */
    using callback = std::function<void(const otedama_event &)>;

    engine(const engine_config &config, callback events) : events_(std::make_unique<callback>(std::move(events))) {
        const otedama_setup setup = config.setup.raw();
        otedama_engine_config raw{};
        raw.struct_size = sizeof raw;
        raw.algorithm = static_cast<std::uint32_t>(config.algorithm);
        raw.threads = config.threads;
        raw.unpinned = config.unpinned;
        raw.kernel = config.kernel.empty() ? nullptr : config.kernel.c_str();
        raw.epoch = config.epoch == nullptr ? nullptr : config.epoch->raw();
        raw.setup = &setup;
        raw.cpus = config.cpus.empty() ? nullptr : config.cpus.data();
        raw.cpu_count = config.cpus.size();
        otedama_engine *out = nullptr;
        detail::check(otedama_engine_start(&raw, told, events_.get(), &out));
        handle_ = detail::handle<otedama_engine, otedama_engine_free>(out);
    }

    engine(engine &&) noexcept = default;
    /* The old engine ends before what it calls does. */
    engine &operator=(engine &&other) noexcept {
        handle_ = std::move(other.handle_);
        events_ = std::move(other.events_);
        return *this;
    }

    /* New work; the old is dead. */
    void replace(const job &job, const space *space = nullptr, const epoch *epoch = nullptr) const {
        hand_in(otedama_engine_replace, job, space, epoch);
    }

    /* Newer work; shares of the old still count. */
    void update(const job &job, const space *space = nullptr, const epoch *epoch = nullptr) const {
        hand_in(otedama_engine_update, job, space, epoch);
    }

    /* The same epoch with its dataset. */
    void deepen(const epoch &epoch) const { detail::check(otedama_engine_deepen(handle_.get(), epoch.raw())); }

    otedama_engine_stats count() const {
        otedama_engine_stats stats{};
        detail::check(otedama_engine_count(handle_.get(), &stats));
        return stats;
    }

    /* Stops and waits; not from the callback. */
    void stop() const { detail::check(otedama_engine_stop(handle_.get())); }

    const otedama_engine *raw() const noexcept { return handle_.get(); }

private:
    using work_call = otedama_status (*)(const otedama_engine *, const otedama_job *, const otedama_space *,
                                         const otedama_epoch *);

    void hand_in(work_call call, const job &job, const space *space, const epoch *epoch) const {
        const otedama_job raw_job = job.raw();
        const otedama_space raw_space = space == nullptr ? otedama_space{} : space->raw();
        detail::check(call(handle_.get(), &raw_job, space == nullptr ? nullptr : &raw_space,
                           epoch == nullptr ? nullptr : epoch->raw()));
    }

    static void told(void *userdata, const otedama_event *event) noexcept {
        (*static_cast<callback *>(userdata))(*event);
    }

    /* Destroyed after the handle: until its threads have ended, they may call it. */
    std::unique_ptr<callback> events_;
    detail::handle<otedama_engine, otedama_engine_free> handle_;
};

/* Measures a kernel; `kernel` empty is the fastest. Two measurements at once spoil each other. */
inline otedama_bench_result bench(algorithm algorithm, std::chrono::milliseconds time, const std::string &kernel = {},
                                  std::uint32_t threads = 0, const epoch *epoch = nullptr, const setup &setup = {}) {
    const otedama_setup raw_setup = setup.raw();
    otedama_bench_config raw{};
    raw.struct_size = sizeof raw;
    raw.algorithm = static_cast<std::uint32_t>(algorithm);
    raw.kernel = kernel.empty() ? nullptr : kernel.c_str();
    raw.epoch = epoch == nullptr ? nullptr : epoch->raw();
    raw.setup = &raw_setup;
    raw.threads = threads;
    raw.milliseconds = static_cast<std::uint32_t>(time.count());
    otedama_bench_result result{};
    detail::check(otedama_bench(&raw, nullptr, nullptr, &result));
    return result;
}

} // namespace otedama

#endif /* OTEDAMA_HPP */
