/* The vocabulary every kernel is written in, and the only file that knows which compiler is reading:
 * OpenCL C 1.2, CUDA C++ (NVRTC, nvcc, clang) or host C.
 *
 * Rules for what follows it: a C99 subset; u8, u32, u64 and i32, i64 only (never long or size_t); functions are
 * OTD_FN, take pointers with their address space named, and never declare shared memory (OpenCL allows that at
 * kernel scope alone); every lane of a group reaches every barrier; indices that can pass 2^32 are u64.
 */
#ifndef OTD_VOCAB_H
#define OTD_VOCAB_H

#if defined(__OPENCL_C_VERSION__) || defined(__OPENCL_VERSION__)
#define OTD_OPENCL 1
#elif defined(__CUDACC__) || defined(__CUDACC_RTC__) || defined(__CUDA__)
#define OTD_CUDA 1
#else
#define OTD_HOST 1
#endif

/* OTD_KERNEL(n): an entry point that runs in groups of n lanes.
 * OTD_GLOBAL, OTD_LOCAL, OTD_CONSTANT: address spaces, in the types of pointers.
 * OTD_TABLE: constant data at file scope. OTD_SHARED(type, name, n): n elements shared by the group.
 * OTD_LANE, OTD_LANES: this lane in its group and their number. OTD_GROUP: the group, all of u32.
 * OTD_UNROLL, OTD_NO_UNROLL: the loop that follows is to be unrolled whole (unless OTD_ROLLED), or not at all.
 * OTD_BARRIER(): all lanes of the group have come here and see each other's shared memory. */
#if OTD_OPENCL

#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#define OTD_KERNEL(n) __kernel __attribute__((reqd_work_group_size(n, 1, 1)))
#define OTD_FN static inline
#define OTD_GLOBAL __global
#define OTD_LOCAL __local
#define OTD_CONSTANT __constant
#define OTD_TABLE __constant
#define OTD_SHARED(type, name, n) __local type name[n]
#define OTD_LANE ((u32)get_local_id(0))
#define OTD_LANES ((u32)get_local_size(0))
#define OTD_GROUP ((u32)get_group_id(0))
#define OTD_BARRIER() barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define OTD_UNROLL _Pragma("unroll")
#define OTD_NO_UNROLL _Pragma("unroll 1")

typedef uchar u8;
typedef uint u32;
typedef ulong u64;
typedef int i32;
typedef long i64;
typedef double f64;
typedef uint4 u32x4;
typedef ulong2 u64x2;

#define OTD_U32X4(a, b, c, d) ((uint4)(a, b, c, d))
#define OTD_ROTL32(x, n) rotate((u32)(x), (u32)(n))
#define OTD_ROTR32(x, n) rotate((u32)(x), (u32)(32u - ((u32)(n) & 31u)))
#define OTD_ROTL64(x, n) rotate((u64)(x), (u64)(n))
#define OTD_ROTR64(x, n) rotate((u64)(x), (u64)(64u - ((u64)(n) & 63u)))
#define OTD_SWAP32(x) as_uint(as_uchar4((u32)(x)).wzyx)
#define OTD_MULHI32(a, b) mul_hi((u32)(a), (u32)(b))
#define OTD_MULHI64(a, b) mul_hi((u64)(a), (u64)(b))
#define OTD_MULHI64S(a, b) mul_hi((i64)(a), (i64)(b))
#define OTD_CLZ32(x) clz((u32)(x))
#define OTD_POPCOUNT32(x) popcount((u32)(x))
#define OTD_FMA(a, b, c) fma((f64)(a), (f64)(b), (f64)(c))
#define OTD_SQRT(x) sqrt((f64)(x))
#define OTD_BITS_OF_F64(x) as_ulong((f64)(x))
#define OTD_F64_OF_BITS(x) as_double((u64)(x))
#define OTD_ATOMIC_INC(p) atomic_inc(p)

#elif OTD_CUDA

#define OTD_KERNEL(n) extern "C" __global__ __launch_bounds__(n)
#define OTD_FN static __device__ __forceinline__
#define OTD_GLOBAL
#define OTD_LOCAL
#define OTD_CONSTANT
#define OTD_TABLE __device__ __constant__ const
#define OTD_SHARED(type, name, n) __shared__ type name[n]
#define OTD_LANE ((u32)threadIdx.x)
#define OTD_LANES ((u32)blockDim.x)
#define OTD_GROUP ((u32)blockIdx.x)
#define OTD_BARRIER() __syncthreads()
#define OTD_UNROLL _Pragma("unroll")
#define OTD_NO_UNROLL _Pragma("unroll 1")

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;
typedef double f64;
typedef uint4 u32x4;
typedef ulonglong2 u64x2;

#define OTD_U32X4(a, b, c, d) make_uint4(a, b, c, d)
#define OTD_ROTL32(x, n) __funnelshift_l((u32)(x), (u32)(x), (u32)(n))
#define OTD_ROTR32(x, n) __funnelshift_r((u32)(x), (u32)(x), (u32)(n))
OTD_FN u64 OTD_ROTL64(u64 x, u32 n) { return (x << (n & 63u)) | (x >> ((64u - n) & 63u)); }
OTD_FN u64 OTD_ROTR64(u64 x, u32 n) { return (x >> (n & 63u)) | (x << ((64u - n) & 63u)); }
#define OTD_SWAP32(x) __byte_perm((u32)(x), 0u, 0x0123u)
#define OTD_MULHI32(a, b) __umulhi((u32)(a), (u32)(b))
#define OTD_MULHI64(a, b) __umul64hi((u64)(a), (u64)(b))
#define OTD_MULHI64S(a, b) __mul64hi((i64)(a), (i64)(b))
#define OTD_CLZ32(x) ((u32)__clz((int)(x)))
#define OTD_POPCOUNT32(x) ((u32)__popc((u32)(x)))
#define OTD_FMA(a, b, c) __fma_rn((f64)(a), (f64)(b), (f64)(c))
#define OTD_SQRT(x) __dsqrt_rn((f64)(x))
#define OTD_BITS_OF_F64(x) ((u64)__double_as_longlong((f64)(x)))
#define OTD_F64_OF_BITS(x) __longlong_as_double((i64)(x))
#define OTD_ATOMIC_INC(p) atomicAdd((p), 1u)

#else /* host C: one lane at a time, so only kernels without barriers mean the same there */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define OTD_KERNEL(n)
#define OTD_FN static inline
#define OTD_GLOBAL
#define OTD_LOCAL
#define OTD_CONSTANT
#define OTD_TABLE static const
#define OTD_SHARED(type, name, n) static type name[n]
#define OTD_UNROLL
#define OTD_NO_UNROLL

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;
typedef double f64;
typedef struct { u32 x, y, z, w; } u32x4;
typedef struct { u64 x, y; } u64x2;

/* Whoever calls a kernel sets them. */
static __attribute__((unused)) u32 otd_lane, otd_lanes = 1, otd_group;
#define OTD_LANE otd_lane
#define OTD_LANES otd_lanes
#define OTD_GROUP otd_group

#define OTD_U32X4(a, b, c, d) ((u32x4){a, b, c, d})
OTD_FN u32 OTD_ROTL32(u32 x, u32 n) { return (x << (n & 31u)) | (x >> ((32u - n) & 31u)); }
OTD_FN u32 OTD_ROTR32(u32 x, u32 n) { return (x >> (n & 31u)) | (x << ((32u - n) & 31u)); }
OTD_FN u64 OTD_ROTL64(u64 x, u32 n) { return (x << (n & 63u)) | (x >> ((64u - n) & 63u)); }
OTD_FN u64 OTD_ROTR64(u64 x, u32 n) { return (x >> (n & 63u)) | (x << ((64u - n) & 63u)); }
#define OTD_SWAP32(x) __builtin_bswap32((u32)(x))
#define OTD_MULHI32(a, b) ((u32)(((u64)(u32)(a) * (u32)(b)) >> 32))
#define OTD_MULHI64(a, b) ((u64)(((unsigned __int128)(u64)(a) * (u64)(b)) >> 64))
#define OTD_MULHI64S(a, b) ((i64)(((__int128)(i64)(a) * (i64)(b)) >> 64))
#define OTD_CLZ32(x) ((u32)(x) ? (u32)__builtin_clz(x) : 32u)
#define OTD_POPCOUNT32(x) ((u32)__builtin_popcount((u32)(x)))
#define OTD_FMA(a, b, c) fma((f64)(a), (f64)(b), (f64)(c))
#define OTD_SQRT(x) sqrt((f64)(x))
OTD_FN u64 OTD_BITS_OF_F64(f64 x) { u64 bits; memcpy(&bits, &x, 8); return bits; }
OTD_FN f64 OTD_F64_OF_BITS(u64 bits) { f64 x; memcpy(&x, &bits, 8); return x; }
#define OTD_ATOMIC_INC(p) ((*(p))++)

#endif

#if OTD_ROLLED
#undef OTD_UNROLL
#define OTD_UNROLL
#endif

/* A lane's number over all groups. */
#define OTD_GLOBAL_LANE ((u64)OTD_GROUP * OTD_LANES + OTD_LANE)

#define OTD_MIN32(a, b) ((u32)(a) < (u32)(b) ? (u32)(a) : (u32)(b))

/* What a search found, the same for every kernel: hits[0] counts the nonces that met the target and goes on
 * counting when there is no more room; nonce i stands in hits[1 + 2i] (low half) and hits[2 + 2i] (high). */
OTD_FN void otd_hit(OTD_GLOBAL u32 *hits, u32 room, u64 nonce)
{
    u32 place = OTD_ATOMIC_INC(hits);
    if (place < room) {
        hits[1 + 2 * place] = (u32)nonce;
        hits[2 + 2 * place] = (u32)(nonce >> 32);
    }
}

#endif
