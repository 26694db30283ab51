/* otedama: proof-of-work hashing, from a job to a proven share. MIT licence.
 *
 * Written by cbindgen from otedama-ffi/src; do not edit. otedama.hpp is the same for C++17.
 *
 * How it all works:
 *
 * - Calls that can fail answer a status: OTEDAMA_OK (0), or why nothing was done. otedama_status_message() says
 *   what a status means, otedama_last_error() what went wrong this time. Outputs come last in the arguments, are
 *   called out_, and are written only when the call answers OTEDAMA_OK, but where a comment says otherwise.
 * - What otedama_..._new(), _get() and _start() hand out is a handle: free it once, with its own _free(). Freeing
 *   NULL is fine. A handle of another kind, or one that was freed, is told from a good one (OTEDAMA_BAD_HANDLE):
 *   there are 16,384 places for handles, and of those that are free the one freed last is used last.
 * - A handle passed as `const` may be shared between threads; one that is not is for one thread at a time, and a
 *   second call meanwhile answers OTEDAMA_BUSY. Freeing a shared one while a call uses it is fine: the call
 *   keeps what it needs. "Any thread" in a comment means: any, and several at once.
 * - Everything passed in is borrowed for the call; what is needed longer is copied, or kept alive. Strings are
 *   UTF-8 and end in NUL.
 * - Structs passed in begin with struct_size: set it to sizeof the struct and what you do not need to zero, as in
 *   `otedama_setup setup = {0}; setup.struct_size = sizeof setup;`. A library older than the header accepts
 *   a longer struct as long as what it does not know is zero.
 * - Buffers need no alignment. An output must not overlap an input (OTEDAMA_OVERLAP).
 * - Hashes are 32 bytes in the order the function outputs them; targets end in _le: least significant byte first.
 * - Callbacks must return: no longjmp, no C++ exception may leave them.
 */


#ifndef OTEDAMA_H
#define OTEDAMA_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header; otedama_version() is that of the library in use. */
#define OTEDAMA_VERSION "0.1.0"
#define OTEDAMA_VERSION_MAJOR 0
#define OTEDAMA_VERSION_MINOR 1
#define OTEDAMA_VERSION_PATCH 0

// Raised by every incompatible change of this header; otedama_abi_version() of the library in use must be
// the same.
#define OTEDAMA_ABI_VERSION 1

// SHA-256 of SHA-256 of a header of 80 bytes: Bitcoin.
#define OTEDAMA_SHA256D 1

// scrypt with N = 1024, r = 1, p = 1, of a header of 80 bytes: Litecoin, Dogecoin.
#define OTEDAMA_SCRYPT 2

// Ethash with epochs of 30,000 blocks: EthereumPoW.
#define OTEDAMA_ETHASH 3

// Ethash with epochs of 60,000 blocks: Ethereum Classic.
#define OTEDAMA_ETCHASH 4

// ProgPoW with Ravencoin's constants.
#define OTEDAMA_KAWPOW 5

// RandomX, first revision: Monero since 2019.
#define OTEDAMA_RANDOMX_V1 6

// RandomX, second revision of 2026.
#define OTEDAMA_RANDOMX_V2 7

// x86 SHA extensions.
#define OTEDAMA_ISA_SHA_NI 1

// x86 AES rounds.
#define OTEDAMA_ISA_AES_NI 2

// x86 AVX2.
#define OTEDAMA_ISA_AVX2 4

// x86 AVX-512 F, BW, DQ and VL.
#define OTEDAMA_ISA_AVX512 8

// Memory on the largest pages to be had: 1 GiB, 2 MiB, transparent, plain.
#define OTEDAMA_PAGES_LARGEST 0

// Memory on transparent huge pages, or plain ones.
#define OTEDAMA_PAGES_TRANSPARENT 1

// Memory on plain pages.
#define OTEDAMA_PAGES_PLAIN 2

// Only the cache: enough to verify, and to search slowly.
#define OTEDAMA_LIGHT 0

// The cache and the dataset: to search at full speed.
#define OTEDAMA_FULL 1

// A copy on every NUMA node: the fastest, and the most memory.
#define OTEDAMA_REPLICATE 0

// One copy, page by page in turn over the nodes.
#define OTEDAMA_INTERLEAVE 1

// One copy on the node named.
#define OTEDAMA_ONE_NODE 2

// The space is done.
#define OTEDAMA_END_DONE 0

// The stop flag was raised.
#define OTEDAMA_END_STOPPED 1

// The room for candidates is full: go on after the nonces that were tried.
#define OTEDAMA_END_FULL 2

// A proven share: `share`.
#define OTEDAMA_EVENT_SHARE 1

// A kernel claimed what was not so, which is broken hardware or a broken kernel: `candidate`, `message`.
#define OTEDAMA_EVENT_REFUSED 2

// A worker is gone, the others go on: `message`.
#define OTEDAMA_EVENT_WORKER_LOST 3

// The last worker is gone.
#define OTEDAMA_EVENT_ALL_WORKERS_LOST 4

// All work is done. New work handed in at the same moment may overtake it.
#define OTEDAMA_EVENT_IDLE 5

// Something this header has no number for: `message`.
#define OTEDAMA_EVENT_OTHER 6

// Searches on threads of its own. May be shared between threads.
typedef struct otedama_engine otedama_engine;

// The memory of one epoch, read-only. May be shared between threads.
typedef struct otedama_epoch otedama_epoch;

// Hashes inputs. For one thread at a time.
typedef struct otedama_hasher otedama_hasher;

// Searches for nonces on the calling thread. For one thread at a time.
typedef struct otedama_scanner otedama_scanner;

// A flag that ends scans and builds. May be shared between threads.
typedef struct otedama_stop otedama_stop;

// Where epochs are built and found again. May be shared between threads.
typedef struct otedama_store otedama_store;

// Proves claims. For one thread at a time.
typedef struct otedama_verifier otedama_verifier;

// What a call answers: OTEDAMA_OK, or why it did nothing.
typedef uint32_t otedama_status;

// What of this machine may be used. NULL in its place, or zeros, means all of it.
typedef struct otedama_setup {
    // sizeof(otedama_setup).
    uint32_t struct_size;
    // OTEDAMA_ISA_ bits of the extensions that may not be used, though the CPU has them.
    uint32_t without_isa;
    // An OTEDAMA_PAGES_ number: the memory to ask for. What cannot be had is replaced by the next best.
    uint32_t pages;
    // 1: nothing may be compiled to machine code at run time; RandomX is then interpreted, many times slower. valgrind
    // needs this or --smc-check=all.
    uint32_t no_compiling;
    // A file in which the fastest kernel of this machine is remembered between runs, or NULL: then it is
    // measured once in each process (some tens of milliseconds). A string that ends in NUL, UTF-8.
    const char *tuning_file;
} otedama_setup;

// One way to compute an algorithm.
typedef struct otedama_kernel {
    // Its full name, such as "sha256d-avx512": a static string.
    const char *name;
    // The OTEDAMA_ number of its algorithm.
    uint32_t algorithm;
    // The OTEDAMA_ISA_ bit it cannot do without, or 0.
    uint32_t needs_isa;
    // 1 if it can be used under the setup given, else 0.
    uint32_t usable;
    // 1 if it is the readable form that the others are judged by, else 0.
    uint32_t oracle;
} otedama_kernel;

// How a store works. NULL in its place, or zeros, are the defaults.
typedef struct otedama_store_config {
    // sizeof(otedama_store_config).
    uint32_t struct_size;
    // Threads that build; 0 for one on each CPU.
    uint32_t threads;
    // Bytes that all epochs of the store together may take, alive or being built; 0 for no limit but the machine's.
    uint64_t byte_budget;
    // OTEDAMA_REPLICATE, OTEDAMA_INTERLEAVE or OTEDAMA_ONE_NODE.
    uint32_t placement;
    // The operating system's number of the node, for OTEDAMA_ONE_NODE.
    uint32_t node;
    // What may be used to build; NULL for everything. Read by otedama_store_new() only.
    const struct otedama_setup *setup;
} otedama_store_config;

// Names an epoch.
typedef struct otedama_epoch_key {
    // sizeof(otedama_epoch_key).
    uint32_t struct_size;
    // An OTEDAMA_ number.
    uint32_t algorithm;
    // RandomX: the key, such as the seed hash of Monero; else NULL. Borrowed for the call.
    const uint8_t *key;
    // RandomX: the key's length in bytes, 1 to 60; else 0.
    uint32_t key_len;
    // Ethash, Etchash, KawPow: the epoch's number, see otedama_epoch_number(); else 0.
    uint32_t number;
} otedama_epoch_key;

// Told how a build goes: bytes built and bytes to build, which grow when a second part follows the first. An answer
// other than 0 cancels it.
typedef int32_t (*otedama_progress_fn)(void *userdata, uint64_t done_bytes, uint64_t total_bytes);

// What a scanner is.
typedef struct otedama_scanner_info {
    // Its kernel's name: a static string.
    const char *kernel;
    // How many nonces it tries at once; ranges of a multiple waste nothing.
    uint64_t lanes;
    // Bytes of memory it has obtained for itself.
    uint64_t memory_bytes;
    // The most versions one scan may cover.
    uint32_t max_versions;
    // 0.
    uint32_t reserved;
} otedama_scanner_info;

// What to hash, and how small the hash must be. Borrowed for the call; what is needed later is copied.
typedef struct otedama_job {
    // sizeof(otedama_job).
    uint32_t struct_size;
    // An OTEDAMA_ number.
    uint32_t algorithm;
    // A number of yours; shares bring it back.
    uint64_t id;
    // The header or blob as it is hashed (what is in the place of its nonce does not matter), or for Ethash and
    // KawPow the hash of the sealed header, in the order it is fed to the function.
    const uint8_t *input;
    // Its length in bytes: SHA256d, scrypt 80; RandomX 43 to 512; Ethash, KawPow 32.
    size_t input_len;
    // The block's height, where the hash depends on it (KawPow); else 0.
    uint64_t height;
    // The bits of the header's version that may vary (BIP 320: 0x1fffe000), or 0.
    uint32_t version_mask;
    // 0.
    uint32_t reserved;
    // The largest hash wanted, a number of 256 bits, least significant byte first.
    uint8_t target_le[32];
} otedama_job;

// A part of a job's space: every nonce with every version. A scan takes all versions of a nonce before the next
// nonce.
typedef struct otedama_space {
    // sizeof(otedama_space).
    uint32_t struct_size;
    // The first version, by its index under the job's mask; 0 is the job's own.
    uint32_t version_start;
    // How many versions; 0 means 1.
    uint32_t version_count;
    // 0.
    uint32_t reserved;
    // The first nonce.
    uint64_t nonce_start;
    // How many nonces; 0 means all from the first one on.
    uint64_t nonce_count;
} otedama_space;

// A nonce that a scanner claims meets the target. Prove it with otedama_verifier_check().
typedef struct otedama_candidate {
    // The nonce.
    uint64_t nonce;
    // The header's version it was found with, if has_version.
    uint32_t version;
    // 1 if the job lets the version roll, else 0.
    uint32_t has_version;
} otedama_candidate;

// A proven share.
typedef struct otedama_share {
    // The job's id.
    uint64_t job_id;
    // The nonce.
    uint64_t nonce;
    // The header's version it was found with, if has_version.
    uint32_t version;
    // 1 if the job lets the version roll, else 0.
    uint32_t has_version;
    // 1 if the algorithm has a mix hash (Ethash, KawPow; RandomX v2, see mix), else 0.
    uint32_t has_mix;
    // 0.
    uint32_t reserved;
    // The hash, in the order the function outputs it.
    uint8_t pow[32];
    // The mix hash, if has_mix; else zeros. RandomX v2 has the function's hash here, and pow is the commitment to it.
    uint8_t mix[32];
} otedama_share;

// How an engine works.
typedef struct otedama_engine_config {
    // sizeof(otedama_engine_config).
    uint32_t struct_size;
    // An OTEDAMA_ number.
    uint32_t algorithm;
    // How many threads; 0 for one on each core, or one for each of `cpus`.
    uint32_t threads;
    // 1: threads are not pinned to CPUs.
    uint32_t unpinned;
    // A kernel's name, or NULL for the fastest.
    const char *kernel;
    // An epoch to choose the fastest kernel with, or NULL. Jobs bring their own.
    const struct otedama_epoch *epoch;
    // What may be used; NULL for everything.
    const struct otedama_setup *setup;
    // The operating system's numbers of the CPUs to pin to, one thread each; NULL to choose.
    const uint32_t *cpus;
    // How many `cpus` there are.
    size_t cpu_count;
} otedama_engine_config;

// What an engine has to say. Valid during the callback only.
typedef struct otedama_event {
    // An OTEDAMA_EVENT_ number.
    uint32_t kind;
    // Which worker says it, from 0.
    uint32_t worker;
    // For OTEDAMA_EVENT_SHARE; else zeros.
    struct otedama_share share;
    // For OTEDAMA_EVENT_REFUSED; else zeros.
    struct otedama_candidate candidate;
    // What happened, in UTF-8; never NULL, may be empty.
    const char *message;
} otedama_event;

// Told what an engine has to say. The event is valid during the call only.
typedef void (*otedama_event_fn)(void *userdata, const struct otedama_event *event);

// What an engine has done since it started.
typedef struct otedama_engine_stats {
    // Attempts made; exact.
    uint64_t hashes;
    // Shares proven.
    uint64_t shares;
    // Candidates that were no shares.
    uint64_t refused;
    // Candidates dropped because their job had been replaced.
    uint64_t stale;
    // Attempts handed to a worker that was lost before it could say how many it had made.
    uint64_t abandoned;
    // Workers not lost.
    uint64_t alive;
} otedama_engine_stats;

// What to measure.
typedef struct otedama_bench_config {
    // sizeof(otedama_bench_config).
    uint32_t struct_size;
    // An OTEDAMA_ number.
    uint32_t algorithm;
    // A kernel's name, or NULL for the fastest.
    const char *kernel;
    // The epoch to hash with, or NULL where the algorithm needs none.
    const struct otedama_epoch *epoch;
    // What may be used; NULL for everything.
    const struct otedama_setup *setup;
    // How many threads, pinned to CPUs; 0 for one on each core.
    uint32_t threads;
    // How long to hash, in milliseconds: 1 to 3,600,000.
    uint32_t milliseconds;
    // 1: the header's version stays as it is, though SHA256d could roll it.
    uint32_t fixed_version;
    // 0.
    uint32_t reserved;
} otedama_bench_config;

// Told how a measurement goes: the part done, 0 to 1, and hashes per second so far. An answer other than 0 ends it.
typedef int32_t (*otedama_bench_fn)(void *userdata, double part, double hashes_per_second);

// What was measured.
typedef struct otedama_bench_result {
    // The kernel's name: a static string.
    const char *kernel;
    // Attempts made; exact.
    uint64_t hashes;
    // How long that took.
    double seconds;
    // Hashes per second over the whole time.
    double hashes_per_second;
    // The slowest tenth of that time relative to the whole, such as -0.03.
    double slowest;
    // The fastest tenth, such as 0.02.
    double fastest;
    // Energy that the processor packages took, in joules; NaN where nobody says.
    double joules;
    // How many threads hashed.
    uint32_t threads;
    // 1 if the version rolled, else 0.
    uint32_t rolled;
} otedama_bench_result;

// Done.
#define OTEDAMA_OK 0

// A pointer that must not be NULL is.
#define OTEDAMA_NULL_ARGUMENT 101

// A struct's struct_size is not its size: set it to sizeof the struct and the rest to zero.
#define OTEDAMA_BAD_STRUCT_SIZE 102

// A buffer is too small for what belongs there.
#define OTEDAMA_BUFFER_TOO_SMALL 103

// An output overlaps an input or another output.
#define OTEDAMA_OVERLAP 104

// A handle that is no handle of this kind, or was freed.
#define OTEDAMA_BAD_HANDLE 105

// Another call is using the handle, or the call is made from a callback that may not make it.
#define OTEDAMA_BUSY 106

// A number or name that is no algorithm of this version.
#define OTEDAMA_UNKNOWN_ALGORITHM 107

// A string that is not UTF-8.
#define OTEDAMA_BAD_TEXT 108

// A number that means nothing here.
#define OTEDAMA_BAD_VALUE 109

// As many handles as there may be are alive.
#define OTEDAMA_TOO_MANY_HANDLES 110

// An input this algorithm does not take: its length, or sealed work where bytes are hashed.
#define OTEDAMA_BAD_INPUT 111

// No kernel of this name.
#define OTEDAMA_UNKNOWN_KERNEL 201

// This version, this CPU or the setup has nothing to do it with.
#define OTEDAMA_UNSUPPORTED 202

// A kernel computed a known answer wrongly and is not used.
#define OTEDAMA_SELF_TEST_FAILED 203

// There is not enough memory.
#define OTEDAMA_OUT_OF_MEMORY 204

// A device failed.
#define OTEDAMA_DEVICE_FAILED 205

// A thread could not be started, or not be pinned to its CPU.
#define OTEDAMA_THREAD_FAILED 206

// What is given makes no job.
#define OTEDAMA_BAD_JOB 301

// The target is zero, or no target.
#define OTEDAMA_BAD_TARGET 302

// Nonces or versions leave the job's space, or are none.
#define OTEDAMA_BAD_SPACE 303

// No job is loaded.
#define OTEDAMA_NO_JOB 304

// The algorithm needs an epoch and none was given.
#define OTEDAMA_NO_EPOCH 305

// The epoch is another algorithm's or another era's.
#define OTEDAMA_WRONG_EPOCH 306

// The store's budget of bytes is spent.
#define OTEDAMA_BUDGET_SPENT 401

// The call was told to stop.
#define OTEDAMA_CANCELLED 402

// The algorithm has no epochs, the key is none of its, or the part asked for is not there.
#define OTEDAMA_BAD_EPOCH 403

// The hash is above the target.
#define OTEDAMA_ABOVE_TARGET 501

// The hash differs from the one claimed.
#define OTEDAMA_WRONG_HASH 502

// The mix hash differs from the one claimed.
#define OTEDAMA_WRONG_MIX 503

// The job does not allow the nonce or the version.
#define OTEDAMA_NOT_ALLOWED 504

// The engine was stopped.
#define OTEDAMA_STOPPED 601

// A kernel gave wrong results while it was measured.
#define OTEDAMA_WRONG_RESULTS 602

// The library met a bug of its own. Handles the call was using are to be freed and not used again.
#define OTEDAMA_PANIC 901

// Something for which this version of the header has no number.
#define OTEDAMA_OTHER 902

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The OTEDAMA_ABI_VERSION the library was built with. Any thread.
uint32_t otedama_abi_version(void);

// The library's version, such as "0.1.0": a static string, never NULL. OTEDAMA_VERSION is that of the header.
// Any thread.
const char *otedama_version(void);

// How many handles are alive in this process: 0 at the end of a program that frees what it makes. Any thread.
size_t otedama_live_handles(void);

// What a status means, in a few words: a static string, never NULL. otedama_last_error() says more.
// Any thread.
const char *otedama_status_message(otedama_status status);

// What went wrong in this thread's last call that answered anything but OTEDAMA_OK: one line of UTF-8 that
// names the argument and what was expected; empty if nothing did. Never NULL. Valid until this thread's
// next call fails. Any thread; each has its own.
const char *otedama_last_error(void);

// The number of an algorithm of this name, such as "sha256d": `out_algorithm` receives it. Names: sha256d, scrypt,
// ethash, etchash, kawpow, randomx, randomx-v2. Any thread.
//
// Errors: OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_BAD_TEXT, OTEDAMA_NULL_ARGUMENT.
otedama_status otedama_algorithm_number(const char *name,
                                        uint32_t *out_algorithm);

// The name of an algorithm: a static string, or NULL for a number that is none. Any thread.
const char *otedama_algorithm_name(uint32_t algorithm);

// How many kernels this version has, whether this CPU can run them or not. Any thread.
size_t otedama_kernel_count(void);

// The kernel of an index from 0: `out_kernel` receives it. Those of an algorithm come together, its oracle last.
// `setup` may be NULL. Any thread.
//
// Errors: OTEDAMA_BAD_VALUE from otedama_kernel_count() on, OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_STRUCT_SIZE.
otedama_status otedama_kernel_at(size_t index,
                                 const struct otedama_setup *setup,
                                 struct otedama_kernel *out_kernel);

// The OTEDAMA_ISA_ bits of the extensions this CPU has. Any thread.
uint32_t otedama_cpu_isa(void);

// The machine as JSON, the same as `otedama-cli devices --json` prints: CPU, instruction sets, NUMA nodes, caches,
// pages, and every device with its kernels. Sizes are in bytes. `out_text`, of `text_size` bytes, receives UTF-8
// that ends in NUL; `out_len` the length without it. `setup` may be NULL. Any thread.
//
// Errors: OTEDAMA_BUFFER_TOO_SMALL, and this once `out_len` is written all the same, so that a call with
// `text_size` 0 and `out_text` NULL asks for the length; OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_STRUCT_SIZE.
otedama_status otedama_devices_json(const struct otedama_setup *setup,
                                    uint8_t *out_text,
                                    size_t text_size,
                                    size_t *out_len);

// Makes a stop flag, which ends scans and builds that were given it: `out_stop` receives it; free it with
// otedama_stop_free(). Any thread. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_TOO_MANY_HANDLES.
otedama_status otedama_stop_new(struct otedama_stop **out_stop);

// Raises a stop flag, for good: what watches it ends within milliseconds. Any thread, also while other calls use
// it. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
otedama_status otedama_stop_raise(const struct otedama_stop *stop);

// Frees a stop flag; calls under way that were given it keep it. NULL is fine. Errors: OTEDAMA_BAD_HANDLE.
otedama_status otedama_stop_free(struct otedama_stop *stop);

// Makes a store: the place where epochs are built, once each, and found again. One for a process is usual.
// `config` may be NULL; `out_store` receives the store; free it with otedama_store_free(). Any thread.
//
// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_STRUCT_SIZE, OTEDAMA_BAD_VALUE, OTEDAMA_TOO_MANY_HANDLES.
otedama_status otedama_store_new(const struct otedama_store_config *config, struct otedama_store **out_store);

// Frees a store. Epochs obtained from it stay as they are, and calls under way end as they would. NULL is fine.
// Errors: OTEDAMA_BAD_HANDLE.
otedama_status otedama_store_free(struct otedama_store *store);

// The epoch `key` to the depth asked (OTEDAMA_LIGHT or OTEDAMA_FULL): at once if it is there, after waiting if
// another call builds it, else built by this call, which takes seconds to minutes. `out_epoch` receives it; free
// it with otedama_epoch_free(). Any thread; several may ask at once, and each key is built once.
//
// `progress`, if not NULL, is called on this thread some twenty times a second and once at the end; `userdata` is
// passed on to it. An answer other than 0 cancels. `stop` may be NULL; raising it cancels too. Cancelling a call
// that builds cancels those that wait for it.
//
// Errors: OTEDAMA_CANCELLED, OTEDAMA_BUDGET_SPENT, OTEDAMA_OUT_OF_MEMORY, OTEDAMA_BAD_EPOCH for a key the algorithm
// does not have, OTEDAMA_UNSUPPORTED, and those of its arguments. Nothing is left behind.
otedama_status otedama_store_get(const struct otedama_store *store,
                                 const struct otedama_epoch_key *key,
                                 uint32_t depth,
                                 otedama_progress_fn progress,
                                 void *userdata,
                                 const struct otedama_stop *stop,
                                 struct otedama_epoch **out_epoch);

// Starts to build an epoch that will be needed, in the background, if the budget has room as it is. A build that
// fails leaves nothing behind, and otedama_store_get() will try again. Any thread.
//
// Errors: OTEDAMA_BUDGET_SPENT, OTEDAMA_BAD_EPOCH, OTEDAMA_UNSUPPORTED, OTEDAMA_THREAD_FAILED, and those of its
// arguments.
otedama_status otedama_store_announce(const struct otedama_store *store,
                                      const struct otedama_epoch_key *key,
                                      uint32_t depth);

// Bytes that the store's epochs take, alive or being built, whoever holds them: `out_bytes` receives them. Any
// thread. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
otedama_status otedama_store_held_bytes(const struct otedama_store *store,
                                        uint64_t *out_bytes);

// Frees an epoch handle. Hashers, scanners and engines that use the epoch keep its memory; views obtained from
// this handle end. NULL is fine. Errors: OTEDAMA_BAD_HANDLE.
otedama_status otedama_epoch_free(struct otedama_epoch *epoch);

// The number of the epoch that a block height lies in (Ethash, Etchash, KawPow): `out_number` receives it. Any
// thread. Errors: OTEDAMA_BAD_EPOCH where epochs are not counted in blocks, and for blocks of Etchash below 11700000,
// whose epochs are Ethash's; OTEDAMA_BAD_VALUE past the last epoch.
otedama_status otedama_epoch_number(uint32_t algorithm,
                                    uint64_t height,
                                    uint32_t *out_number);

// OTEDAMA_OK if the epoch has its dataset too, OTEDAMA_BAD_EPOCH if it has the cache alone. Any thread.
// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
otedama_status otedama_epoch_is_full(const struct otedama_epoch *epoch);

// The epoch's cache as it lies in memory, without a copy: `out_bytes` receives its address, `out_len` its length in
// bytes. It is read-only (writing faults) and stays until otedama_epoch_free() of this handle. Any thread.
// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
otedama_status otedama_epoch_cache(const struct otedama_epoch *epoch,
                                   const uint8_t **out_bytes,
                                   uint64_t *out_len);

// The epoch's dataset, as otedama_epoch_cache(). Errors: OTEDAMA_BAD_EPOCH if it was obtained with OTEDAMA_LIGHT.
otedama_status otedama_epoch_dataset(const struct otedama_epoch *epoch,
                                     const uint8_t **out_bytes,
                                     uint64_t *out_len);

// Makes a hasher: a kernel of `algorithm` that has passed its self-test, with the scratchpad it needs. `out_hasher`
// receives it; free it with otedama_hasher_free().
//
// `kernel`: a name such as "sha256d-avx2" or just "avx2"; NULL for the one that is fastest here at hashing many
// inputs. `epoch`: the memory that RandomX, Ethash and KawPow hash with, kept alive by the hasher; NULL for the
// others. `setup` may be NULL. Any thread.
//
// Errors: OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_UNKNOWN_KERNEL, OTEDAMA_UNSUPPORTED, OTEDAMA_SELF_TEST_FAILED,
// OTEDAMA_OUT_OF_MEMORY, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_EPOCH, and those of its arguments.
otedama_status otedama_hasher_new(uint32_t algorithm,
                                  const char *kernel,
                                  const struct otedama_epoch *epoch,
                                  const struct otedama_setup *setup,
                                  struct otedama_hasher **out_hasher);

// Frees a hasher. NULL is fine. Errors: OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY while another call uses it; then nothing
// is freed.
otedama_status otedama_hasher_free(struct otedama_hasher *hasher);

// Hashes one input: `out_pow` receives the 32 bytes in the order the function outputs them (for SHA256d and scrypt
// the reverse of how hashes are displayed). `input_len` is in bytes. One thread at a time per hasher.
//
// Errors: OTEDAMA_BAD_INPUT for an input the algorithm does not take, OTEDAMA_OVERLAP, OTEDAMA_NULL_ARGUMENT,
// OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY.
//
otedama_status otedama_hasher_hash(struct otedama_hasher *hasher,
                                   const uint8_t *input,
                                   size_t input_len,
                                   uint8_t out_pow[32]);

// Hashes `count` inputs of `input_len` bytes each that lie one after the other in `inputs`: `out_pow`, of `pow_size`
// bytes, receives their hashes of 32 bytes in the same order. One thread at a time per hasher.
//
// Errors: OTEDAMA_BUFFER_TOO_SMALL if `pow_size` is less than 32 times `count`, and as otedama_hasher_hash().
otedama_status otedama_hasher_hash_many(struct otedama_hasher *hasher,
                                        const uint8_t *inputs,
                                        size_t input_len,
                                        size_t count,
                                        uint8_t *out_pow,
                                        size_t pow_size);

// Hashes the hash of a sealed header with each of `count` nonces (Ethash, KawPow): `out_pow` and `out_mix`, of
// `pow_size` and `mix_size` bytes, receive 32 bytes for each nonce in the same order. `header_hash` is in the order it
// is fed to the function, `height` the block's. `out_mix` may be NULL. One thread at a time per hasher.
//
// Errors: OTEDAMA_BAD_INPUT for an algorithm that hashes bytes, OTEDAMA_BUFFER_TOO_SMALL, and as
// otedama_hasher_hash().
//
otedama_status otedama_hasher_hash_sealed(struct otedama_hasher *hasher,
                                          const uint8_t header_hash[32],
                                          uint64_t height,
                                          const uint64_t *nonces,
                                          size_t count,
                                          uint8_t *out_pow,
                                          size_t pow_size,
                                          uint8_t *out_mix,
                                          size_t mix_size);

// Hashes one input without a hasher of yours: each thread keeps one for each algorithm it used, with a kernel that
// is quick at a single input. The first call of a thread makes it, which may take milliseconds. Arguments as in
// otedama_hasher_new() and otedama_hasher_hash(); `epoch` may be NULL where the algorithm needs none. Any thread.
//
otedama_status otedama_hash(uint32_t algorithm,
                            const struct otedama_epoch *epoch,
                            const uint8_t *input,
                            size_t input_len,
                            uint8_t out_pow[32]);

// The target that a header's compact `bits` stand for: `out_target_le` receives it, least significant byte first.
// Any thread. Errors: OTEDAMA_BAD_TARGET for zero, negative or overflowing bits, OTEDAMA_NULL_ARGUMENT.
//
otedama_status otedama_target_from_bits(uint32_t bits,
                                        uint8_t out_target_le[32]);

// The target of a difficulty as pools of this algorithm count it: `out_target_le` receives it, least significant byte
// first. Any thread. Errors: OTEDAMA_BAD_VALUE unless it is positive and finite, OTEDAMA_UNKNOWN_ALGORITHM,
// OTEDAMA_NULL_ARGUMENT.
//
otedama_status otedama_target_from_difficulty(uint32_t algorithm,
                                              double difficulty,
                                              uint8_t out_target_le[32]);

// The difficulty of a target, as pools of this algorithm count it: `out_difficulty` receives it. Any thread.
// Errors: OTEDAMA_BAD_TARGET for zero, OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_NULL_ARGUMENT.
//
otedama_status otedama_target_to_difficulty(uint32_t algorithm,
                                            const uint8_t target_le[32],
                                            double *out_difficulty);

// Makes a scanner: a kernel that has passed its self-test, with the memory it needs. Arguments as in
// otedama_hasher_new(), but here `epoch` only helps to choose the fastest kernel, and `kernel` NULL is the fastest at
// searching. `out_scanner` receives it; free it with otedama_scanner_free(). Any thread; memory comes from near the
// thread that calls.
otedama_status otedama_scanner_new(uint32_t algorithm,
                                   const char *kernel,
                                   const struct otedama_epoch *epoch,
                                   const struct otedama_setup *setup,
                                   struct otedama_scanner **out_scanner);

// Frees a scanner. NULL is fine. Errors: OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY while another call uses it; then nothing
// is freed.
otedama_status otedama_scanner_free(struct otedama_scanner *scanner);

// What a scanner is: `out_info` receives it. One thread at a time per scanner.
// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY.
otedama_status otedama_scanner_describe(struct otedama_scanner *scanner,
                                        struct otedama_scanner_info *out_info);

// Gives a scanner its job, and the epoch it needs, if any; both are copied or kept. One thread at a time per scanner.
//
// Errors: OTEDAMA_BAD_JOB, OTEDAMA_BAD_TARGET, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_EPOCH, OTEDAMA_BUSY, and those of its
// arguments. Unless it is an argument's, the scanner then has no job.
otedama_status otedama_scanner_load(struct otedama_scanner *scanner,
                                    const struct otedama_job *job,
                                    const struct otedama_epoch *epoch);

// Searches a part of the loaded job's space on this thread. `out_candidates` has room for `capacity` candidates, in
// order of their nonces; `out_count` receives how many there are, `out_tried` how many attempts were made (nonces
// times versions, exact: a scan that ended early goes on at nonce_start + tried / version_count), `out_end` why it
// ended: an OTEDAMA_END_ number. `space` NULL is every nonce with the job's own version; `stop` may be NULL; raised, it
// ends the scan within about a millisecond. One thread at a time per scanner.
//
// Errors: OTEDAMA_NO_JOB, OTEDAMA_BAD_SPACE, OTEDAMA_BUFFER_TOO_SMALL for a capacity of less than one nonce's
// versions, OTEDAMA_BAD_VALUE for one of more than 1,048,576, OTEDAMA_BUSY, and those of its arguments.
otedama_status otedama_scanner_scan(struct otedama_scanner *scanner,
                                    const struct otedama_space *space,
                                    const struct otedama_stop *stop,
                                    struct otedama_candidate *out_candidates,
                                    size_t capacity,
                                    size_t *out_count,
                                    uint64_t *out_tried,
                                    uint32_t *out_end);

// Makes a verifier: `out_verifier` receives it; free it with otedama_verifier_free(). `kernel` NULL is the one that
// proves single claims best; `setup` may be NULL. Any thread. Errors: as otedama_hasher_new().
otedama_status otedama_verifier_new(uint32_t algorithm,
                                    const char *kernel,
                                    const struct otedama_setup *setup,
                                    struct otedama_verifier **out_verifier);

// Frees a verifier. NULL is fine. Errors: OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY while another call uses it; then nothing
// is freed.
otedama_status otedama_verifier_free(struct otedama_verifier *verifier);

// Proves that a candidate meets its job's target: `out_share` receives the share. `epoch` is the memory the job
// needs, or NULL. `claimed_pow` and `claimed_mix` are the hashes that someone sent with it, or NULL; a claimed_pow
// above the target, or a claimed_mix that leads there, is refused before anything is hashed. One thread at a time per verifier.
//
// Errors: OTEDAMA_ABOVE_TARGET, OTEDAMA_WRONG_HASH, OTEDAMA_WRONG_MIX, OTEDAMA_NOT_ALLOWED if it is no share;
// OTEDAMA_BAD_JOB, OTEDAMA_BAD_TARGET, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_EPOCH, OTEDAMA_BUSY, and those of its
// arguments.
//
otedama_status otedama_verifier_check(struct otedama_verifier *verifier,
                                      const struct otedama_job *job,
                                      const struct otedama_epoch *epoch,
                                      const struct otedama_candidate *candidate,
                                      const uint8_t claimed_pow[32],
                                      const uint8_t claimed_mix[32],
                                      struct otedama_share *out_share);

// Starts an engine: threads that wait for work. `config` says which; `events` is called with `userdata` for every
// event. `out_engine` receives the engine; free it with otedama_engine_free(). Any thread.
//
// `events` is called on the engine's threads, never twice at once. It should return soon; it may hand in new work
// and ask for counts, but not stop or free an engine (OTEDAMA_BUSY). `userdata` must stay valid until
// otedama_engine_stop() or otedama_engine_free() has returned.
//
// Errors: OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_UNKNOWN_KERNEL, OTEDAMA_UNSUPPORTED, OTEDAMA_SELF_TEST_FAILED,
// OTEDAMA_OUT_OF_MEMORY, OTEDAMA_THREAD_FAILED for a CPU that cannot be had, and those of its arguments; nothing is
// left running.
otedama_status otedama_engine_start(const struct otedama_engine_config *config,
                                    otedama_event_fn events,
                                    void *userdata,
                                    struct otedama_engine **out_engine);

// Hands in new work; the old is dead: searching it stops and what it found is dropped. `space` NULL is every nonce
// with every version the job allows; `epoch` is the memory the job needs, kept as long as it is searched, or NULL.
// Any thread, and the callback.
//
// Errors: OTEDAMA_STOPPED, OTEDAMA_BAD_JOB, OTEDAMA_BAD_TARGET, OTEDAMA_BAD_SPACE, OTEDAMA_NO_EPOCH,
// OTEDAMA_WRONG_EPOCH, and those of its arguments; the old work then goes on.
otedama_status otedama_engine_replace(const struct otedama_engine *engine,
                                      const struct otedama_job *job,
                                      const struct otedama_space *space,
                                      const struct otedama_epoch *epoch);

// Hands in newer work; shares of the old still count, and what is being searched of it is searched to its end.
// Arguments, threads and errors as otedama_engine_replace().
otedama_status otedama_engine_update(const struct otedama_engine *engine,
                                     const struct otedama_job *job,
                                     const struct otedama_space *space,
                                     const struct otedama_epoch *epoch);

// Gives the work under way the same epoch with more to it, such as the dataset that was being built meanwhile; work
// of another epoch is left as it is. Any thread, and the callback.
// Errors: OTEDAMA_STOPPED, OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
otedama_status otedama_engine_deepen(const struct otedama_engine *engine,
                                     const struct otedama_epoch *epoch);

// What the engine has done so far, or did until it was stopped: `out_stats` receives it. Any thread, and the
// callback. Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
otedama_status otedama_engine_count(const struct otedama_engine *engine,
                                    struct otedama_engine_stats *out_stats);

// Stops an engine and waits for its threads: what they had found is proven and reported first. The handle stays, for
// otedama_engine_count() and otedama_engine_free(). Stopping twice is fine. Any thread, not the callback.
// Errors: OTEDAMA_BUSY from a callback, OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE.
otedama_status otedama_engine_stop(const struct otedama_engine *engine);

// Stops an engine as otedama_engine_stop() does, and frees it. NULL is fine. Any thread, not the callback.
// Errors: OTEDAMA_BUSY from a callback, OTEDAMA_BAD_HANDLE; nothing is freed then.
otedama_status otedama_engine_free(struct otedama_engine *engine);

// Lets a kernel hash a made-up job for a while and checks all that it finds: `out_result` receives the figures.
// `progress`, if not NULL, is called on this thread some twenty times a second with `userdata`, the part done (0 to 1)
// and the rate so far in hashes per second; an answer other than 0 ends the measurement early. Any thread; two
// measurements at once spoil each other.
//
// Errors: OTEDAMA_WRONG_RESULTS if a check failed, OTEDAMA_UNKNOWN_KERNEL, OTEDAMA_UNSUPPORTED, OTEDAMA_NO_EPOCH,
// OTEDAMA_OUT_OF_MEMORY, OTEDAMA_THREAD_FAILED, and those of its arguments.
otedama_status otedama_bench(const struct otedama_bench_config *config,
                             otedama_bench_fn progress,
                             void *userdata,
                             struct otedama_bench_result *out_result);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OTEDAMA_H */
