/* KawPow: ProgPoW 0.9.4 (EIP-1057) with Ravencoin's constants. The search; the DAG is made by ethash.cl with 512
 * parents an item, and the period's program, otd_period, is printed in front of this file by the host.
 *
 * Sixteen lanes share a hash, 16 bytes of a DAG row of 256 each, and have its 32 registers in their own. Each lane
 * has a nonce of its own for the two Keccak-f[800]; the sixteen work through their sixteen hashes in turn. A hash is
 * 64 loops: a row of the DAG, 11 reads of a cache of 16 KiB in shared memory, 18 calculations. What limits an H200
 * (132 multiprocessors, 1.98 GHz), in hashes a second:
 *
 *     DRAM             64 rows of 256 bytes at 4.3 TB/s                                               262 M
 *     shared memory    64 loops of half a warp: 11 reads of 3.51 wavefronts, 5 for shuffle and row    187 M
 *     shifts, logic    64 loops by 16 lanes of 71 (mean of seven periods), 9.5 k before and after        203 M
 *     instructions     64 loops by 16 lanes of 128, 14.5 k before and after                             230 M
 *
 * Shared memory has 32 banks, and of 32 lanes that read at random 3.51 on average meet in the worst of them
 * (simulated). With OTD_CACHE_COPIES copies, word w of copy c stands at w * copies + c, that is in a bank that is c
 * modulo copies, and lane l reads copy l modulo copies: with 4 copies 8 lanes compete for 8 banks four times over
 * (3.28: 199 M), with 8 copies 4 for 4 eight times over (2.95: 218 M). The address is a shift and one LOP3, whatever
 * the number of copies.
 *
 * Macros:
 *     OTD_DAG_PARTS      buffers the DAG lies in: 1, 2 or 4 (1)
 *     OTD_BLOCK          lanes of a group, a multiple of 16 (256)
 *     OTD_CACHE_COPIES   copies of the cache, a power of two (1); 16 KiB of shared memory each
 */
#ifndef OTD_BLOCK
#define OTD_BLOCK 256
#endif

#define OTD_TEAM 16
#define OTD_SHARED_WORDS (OTD_CACHE_WORDS * OTD_CACHE_COPIES + OTD_BLOCK * 16)
#define OTD_REGISTERS 32
#define OTD_FNV_OFFSET 0x811c9dc5u
#define OTD_FNV1A(hash, word) (((hash) ^ (word)) * 0x01000193u)

/* "rAVENCOINKAWPOW", a character a word: what fills the state before the mix. After it: the first nine. */
OTD_TABLE u32 OTD_RAVENCOIN[15] = {0x72, 0x41, 0x56, 0x45, 0x4e, 0x43, 0x4f, 0x49, 0x4e,
                                   0x4b, 0x41, 0x57, 0x50, 0x4f, 0x57};

/* The registers at first: Marsaglia's KISS of 1999, seeded with 64 bits of the hash and the lane. */
OTD_FN void otd_fill(u32 *mix, u32 low, u32 high, u32 lane)
{
    u32 z = OTD_FNV1A(OTD_FNV_OFFSET, low), w = OTD_FNV1A(z, high);
    u32 jsr = OTD_FNV1A(w, lane), jcong = OTD_FNV1A(jsr, lane);
    OTD_UNROLL
    for (u32 i = 0; i < OTD_REGISTERS; i++) {
        z = 36969u * (z & 0xffffu) + (z >> 16);
        w = 18000u * (w & 0xffffu) + (w >> 16);
        jsr ^= jsr << 17;
        jsr ^= jsr >> 13;
        jsr ^= jsr << 5;
        jcong = 69069u * jcong + 1234567u;
        mix[i] = (((z << 16) + w) ^ jcong) + jsr;
    }
}

/* Nonces `first` to `first + count`. `h0` to `h3`: the header's hash, little-endian. A row of the DAG's parts is 256
 * bytes, and there are `dag_rows`. */
OTD_KERNEL(OTD_BLOCK) void kawpow_search(OTD_DAG_ARGS, u32 dag_rows, u64 h0, u64 h1, u64 h2, u64 h3, u64 first,
                                         u32 count, u64 target_top, OTD_GLOBAL u32 *hits, u32 room)
{
    /* The copies; then words of seals and of mix hashes, word i of a lane at i * OTD_BLOCK + lane. */
#if OTD_CUDA && OTD_SHARED_WORDS > 12288
    extern __shared__ u32 copies[]; /* more than 48 KiB: granted at the launch */
#else
    OTD_SHARED(u32, copies, OTD_SHARED_WORDS);
#endif
    OTD_LOCAL u32 *seals = copies + OTD_CACHE_WORDS * OTD_CACHE_COPIES, *mixes = seals + OTD_BLOCK * 8;
    OTD_TEAM_SLOTS(slots, OTD_BLOCK);

    OTD_GLOBAL const u32 *head = (OTD_GLOBAL const u32 *)dag0;
    for (u32 i = OTD_LANE; i < OTD_CACHE_WORDS * OTD_CACHE_COPIES; i += OTD_BLOCK)
        copies[i] = head[i / OTD_CACHE_COPIES];

    u32 piece = OTD_LANE % OTD_TEAM, team = OTD_LANE - piece, one = 0xffffffffu / dag_rows;
    u64 lane = OTD_GLOBAL_LANE, nonce = first + lane;
    u32 a[25];
    a[0] = (u32)h0, a[1] = (u32)(h0 >> 32), a[2] = (u32)h1, a[3] = (u32)(h1 >> 32);
    a[4] = (u32)h2, a[5] = (u32)(h2 >> 32), a[6] = (u32)h3, a[7] = (u32)(h3 >> 32);
    a[8] = (u32)nonce, a[9] = (u32)(nonce >> 32);
    OTD_UNROLL
    for (u32 i = 0; i < 15; i++)
        a[10 + i] = OTD_RAVENCOIN[i];
    otd_f800(a);
    OTD_UNROLL
    for (u32 i = 0; i < 8; i++)
        seals[i * OTD_BLOCK + OTD_LANE] = a[i];
    OTD_BARRIER();

    u32 copy = OTD_LANE % OTD_CACHE_COPIES * 4;
#if OTD_CUDA && OTD_CACHE_COPIES > 1
    /* A shuffle to itself: ptxas must not know that it is masked, or it masks again at every read, a LOP3 more. */
    copy = __shfl_sync(0xffffffffu, copy, OTD_LANE % 32, 32);
#endif
    OTD_NO_UNROLL
    for (u32 hash = 0; hash < OTD_TEAM; hash++) {
        u32 mix[OTD_REGISTERS];
        otd_fill(mix, seals[team + hash], seals[OTD_BLOCK + team + hash], piece);
        OTD_NO_UNROLL
        for (u32 i = 0; i < 64; i++) {
            u32 row = otd_word_of(mix[0], i % OTD_TEAM, OTD_TEAM, hash + i, slots);
            row = otd_rest(row, dag_rows, one);
            OTD_GLOBAL const u32x4 *dag;
            OTD_DAG_PICK(row, dag);
            otd_period(mix, copies, copy, (dag + (piece ^ i) % OTD_TEAM)[(u64)row * 16]);
        }
        u32 word = OTD_FNV_OFFSET;
        OTD_UNROLL
        for (u32 i = 0; i < OTD_REGISTERS; i++)
            word = OTD_FNV1A(word, mix[i]);
        u32 other = otd_word_of(word, (piece + 8) % OTD_TEAM, OTD_TEAM, hash + 64, slots);
        if (piece < 8)
            mixes[piece * OTD_BLOCK + team + hash] = OTD_FNV1A(OTD_FNV1A(OTD_FNV_OFFSET, word), other);
    }
    OTD_BARRIER();

    OTD_UNROLL
    for (u32 i = 0; i < 8; i++) {
        a[i] = seals[i * OTD_BLOCK + OTD_LANE];
        a[8 + i] = mixes[i * OTD_BLOCK + OTD_LANE];
    }
    OTD_UNROLL
    for (u32 i = 0; i < 9; i++)
        a[16 + i] = OTD_RAVENCOIN[i];
    otd_f800(a);
    u64 top = (u64)OTD_SWAP32(a[0]) << 32 | OTD_SWAP32(a[1]);
    if (lane < count && top <= target_top)
        otd_hit(hits, room, nonce);
}
