/* Not CUDA: a library with the few functions of CUDA's driver that the back end calls, for machines without a card.
 * Device memory is the host's, launches run at once, and the only kernel is sha256d_search, compiled as host C. It
 * shows that the host side opens, loads, launches, reads and fails as it should; of a GPU it shows nothing.
 *
 * FAKE_CUDA says how it behaves: `old` refuses PTX as too new, `lost` faults at the 40th launch and answers that ever
 * after, anything else works. */
#include <stdlib.h>
#include <string.h>

#include "common/vocab.h"

#include "common/sha256.h"

#include "sha256d.cl"

typedef int result; /* CUresult */

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, UNSUPPORTED_PTX = 222, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700 };
enum { MEMORY = 1 << 26 };

static size_t taken;
static unsigned launches;

static int is(const char *mode)
{
    const char *set = getenv("FAKE_CUDA");
    return set && strcmp(set, mode) == 0;
}

/* What every function answers once the device is lost. */
static result state(void) { return is("lost") && launches >= 40 ? ILLEGAL_ADDRESS : SUCCESS; }

result cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
result cuDriverGetVersion(int *version) { return *version = 12000, SUCCESS; }
result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal == 0 ? SUCCESS : INVALID_VALUE; }
result cuDeviceGetName(char *name, int room, int device) { return (void)device, strncpy(name, "a fake", room), SUCCESS; }
result cuDeviceTotalMem_v2(size_t *bytes, int device) { return (void)device, *bytes = MEMORY, SUCCESS; }

result cuDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    switch (attribute) {
    case 16: *value = 2; break;     /* multiprocessors */
    case 33: *value = 0x3b; break;  /* PCI bus */
    case 75: *value = 9; break;     /* compute capability */
    default: *value = 0;
    }
    return SUCCESS;
}

static int context;
static void *current;
result cuDevicePrimaryCtxRetain(void **out, int device) { return (void)device, *out = &context, SUCCESS; }
result cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, SUCCESS; }
result cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { return (void)device, (void)flags, SUCCESS; }
result cuCtxGetCurrent(void **out) { return *out = current, SUCCESS; }
result cuCtxSetCurrent(void *c) { return current = c, SUCCESS; }
result cuCtxSynchronize(void) { return state(); }

result cuStreamCreate(void **stream, unsigned flags) { return (void)flags, *stream = malloc(1), SUCCESS; }
result cuStreamDestroy_v2(void *stream) { return free(stream), SUCCESS; }
result cuStreamSynchronize(void *stream) { return (void)stream, state(); }

/* Each piece begins with its size. */
result cuMemAlloc_v2(u64 *at, size_t bytes)
{
    size_t *piece;
    if (taken + bytes > MEMORY)
        return OUT_OF_MEMORY;
    piece = malloc(16 + bytes);
    *piece = bytes;
    taken += bytes;
    *at = (u64)(piece + 2);
    return SUCCESS;
}

result cuMemFree_v2(u64 at)
{
    size_t *piece = (size_t *)at - 2;
    taken -= *piece;
    free(piece);
    return state();
}

result cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    *free_bytes = MEMORY - taken;
    *total = MEMORY;
    return SUCCESS;
}

result cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t bytes, void *stream)
{
    return (void)stream, memcpy((void *)to, from, bytes), state();
}

result cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t bytes, void *stream)
{
    return (void)stream, memcpy(to, (const void *)from, bytes), state();
}

result cuMemsetD8Async(u64 at, unsigned char value, size_t bytes, void *stream)
{
    return (void)stream, memset((void *)at, value, bytes), state();
}

result cuModuleLoadData(void **module, const char *image)
{
    if (is("old") || strncmp(image, ".version", 8) != 0)
        return UNSUPPORTED_PTX;
    *module = &context;
    return SUCCESS;
}

result cuModuleUnload(void *module) { return (void)module, state(); }

result cuModuleGetFunction(void **function, void *module, const char *name)
{
    *function = module;
    return strcmp(name, "sha256d_search") == 0 ? SUCCESS : NOT_FOUND;
}

#define WORD(n) (*(u32 *)args[n])

result cuLaunchKernel(void *function, u32 groups, u32 gy, u32 gz, u32 lanes, u32 ly, u32 lz, u32 shared, void *stream,
                      void **args, void **extra)
{
    (void)function, (void)gy, (void)gz, (void)ly, (void)lz, (void)shared, (void)stream, (void)extra;
    launches++;
    otd_lanes = lanes;
    for (otd_group = 0; otd_group < groups; otd_group++)
        for (otd_lane = 0; otd_lane < lanes; otd_lane++)
            sha256d_search(WORD(0), WORD(1), WORD(2), WORD(3), WORD(4), WORD(5), WORD(6), WORD(7), WORD(8), WORD(9),
                           WORD(10), WORD(11), WORD(12), WORD(13), WORD(14), WORD(15), WORD(16), WORD(17), WORD(18),
                           WORD(19), WORD(20), WORD(21), WORD(22), WORD(23), WORD(24), *(u64 *)args[25],
                           *(u32 **)args[26], WORD(27));
    return state();
}
