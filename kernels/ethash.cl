/* Ethash and Etchash (Ethash specification, revision 23; ECIP-1099): the dataset made on the device, and the search.
 * Etchash is the same with other epochs; KawPow's DAG is made here too, with 512 parents an item (EIP-1057).
 *
 * A hash reads 64 pages of 128 bytes at random: 8 KiB of DRAM, and nothing can be done about that. Eight lanes share
 * a hash, 16 bytes of the page each, so that a page is one access of one cache line; each lane has a nonce of its
 * own for Keccak, and the eight work through their eight hashes OTD_PARALLEL at a time, so that as many reads of
 * one lane are under way at once. DRAM of B bytes/s over a latency of t needs B t / 128 lines in flight: 4.3 TB/s
 * and 700 ns on 132 multiprocessors are 180 each; 640 lanes with 4 reads each have 320.
 *
 * What an H200 (132 multiprocessors, 1.98 GHz) could do at most, from the machine code for sm_90; not measured:
 *
 *     DRAM                64 x 128 bytes at 4.3 TB/s                                                    525 MH/s
 *     shifts and logic    2 x 24 rounds of 196; 8 lanes x 64 accesses of 10.4; 14.9 k in all          1,120 MH/s
 *     all instructions    2 x 24 rounds of 214; 8 lanes x 64 accesses of 21.5; 21.5 k in all          1,560 MH/s
 *
 * The number of pages is an argument: its reciprocal is found once, and a remainder is four instructions
 * (otd_rest), so that one compilation serves all epochs.
 *
 * Macros:
 *     OTD_DAG_PARTS      buffers the dataset lies in: 1, 2 or 4 (1)
 *     OTD_BLOCK          lanes of a group (128)
 *     OTD_PARALLEL       hashes of a team under way at once: 1, 2, 4 or 8 (4)
 */
#ifndef OTD_BLOCK
#define OTD_BLOCK 128
#endif
#ifndef OTD_PARALLEL
#define OTD_PARALLEL 4
#endif

#define OTD_FNV(a, b) (((a) * 0x01000193u) ^ (b))

OTD_FN u32x4 otd_fnv4(u32x4 a, u32x4 b)
{
    return OTD_U32X4(OTD_FNV(a.x, b.x), OTD_FNV(a.y, b.y), OTD_FNV(a.z, b.z), OTD_FNV(a.w, b.w));
}

/* Keccak-512 of the 64 bytes in the first eight words, left in them. */
OTD_FN void otd_keccak512_of_item(u64 *a)
{
    a[8] = 0x8000000000000001; /* padding: 1 after the message, the top bit of word 8 */
    for (u32 i = 9; i < 25; i++)
        a[i] = 0;
    otd_f1600(a);
}

/* Items `first` to `first + count` of the dataset, one a lane, written to `out` from item `at` on: each of one item of
 * the light cache mixed with `parents` others (256, 512 for KawPow; a multiple of 16). The random reads go to the light
 * cache, 16 to 90 MiB, which a second-level cache holds or nearly so. */
OTD_KERNEL(OTD_BLOCK) void ethash_dag(OTD_GLOBAL const u32x4 *cache, u32 cache_items, u32 parents,
                                      OTD_GLOBAL u32x4 *out, u32 first, u32 count, u32 at)
{
    u32 lane = (u32)OTD_GLOBAL_LANE;
    if (lane >= count)
        return;
    u32 index = first + lane, one = 0xffffffffu / cache_items;
    u64 a[25];
    u32 mix[16];
    OTD_GLOBAL const u32x4 *item = cache + (u64)otd_rest(index, cache_items, one) * 4;
    OTD_UNROLL
    for (u32 i = 0; i < 4; i++) {
        u32x4 words = item[i];
        u32 low = i == 0 ? words.x ^ index : words.x;
        a[2 * i] = (u64)words.y << 32 | low;
        a[2 * i + 1] = (u64)words.w << 32 | words.z;
    }
    otd_keccak512_of_item(a);
    OTD_UNROLL
    for (u32 i = 0; i < 8; i++) {
        mix[2 * i] = (u32)a[i];
        mix[2 * i + 1] = (u32)(a[i] >> 32);
    }
    OTD_NO_UNROLL
    for (u32 sixteen = 0; sixteen < parents; sixteen += 16) {
        OTD_UNROLL
        for (u32 j = 0; j < 16; j++) {
            u32 parent = otd_rest(OTD_FNV(index ^ (sixteen + j), mix[j]), cache_items, one);
            item = cache + (u64)parent * 4;
            OTD_UNROLL
            for (u32 i = 0; i < 4; i++) {
                u32x4 words = item[i];
                mix[4 * i] = OTD_FNV(mix[4 * i], words.x);
                mix[4 * i + 1] = OTD_FNV(mix[4 * i + 1], words.y);
                mix[4 * i + 2] = OTD_FNV(mix[4 * i + 2], words.z);
                mix[4 * i + 3] = OTD_FNV(mix[4 * i + 3], words.w);
            }
        }
    }
    OTD_UNROLL
    for (u32 i = 0; i < 8; i++)
        a[i] = (u64)mix[2 * i + 1] << 32 | mix[2 * i];
    otd_keccak512_of_item(a);
    OTD_GLOBAL u32x4 *to = out + ((u64)at + lane) * 4;
    OTD_UNROLL
    for (u32 i = 0; i < 4; i++)
        to[i] = OTD_U32X4((u32)a[2 * i], (u32)(a[2 * i] >> 32), (u32)a[2 * i + 1], (u32)(a[2 * i + 1] >> 32));
}

#define OTD_TEAM 8

/* Nonces `first` to `first + count`. `h0` to `h3`: the header's hash, little-endian. A row of the dataset's parts is
 * a page of 128 bytes, and there are `pages`. */
OTD_KERNEL(OTD_BLOCK) void ethash_search(OTD_DAG_ARGS, u32 pages, u64 h0, u64 h1, u64 h2, u64 h3, u64 first,
                                         u32 count, u64 target_top, OTD_GLOBAL u32 *hits, u32 room)
{
    OTD_SHARED(u32x4, seeds, OTD_BLOCK * 4);
    OTD_SHARED(u32, mixes, OTD_BLOCK * OTD_TEAM);
    OTD_TEAM_SLOTS(slots, OTD_BLOCK);

    u32 piece = OTD_LANE % OTD_TEAM, team = OTD_LANE - piece, one = 0xffffffffu / pages;
    u64 lane = OTD_GLOBAL_LANE;
    u64 a[25];
    a[0] = h0, a[1] = h1, a[2] = h2, a[3] = h3;
    a[4] = first + lane;
    a[5] = 1;
    a[6] = 0, a[7] = 0;
    a[8] = 0x8000000000000000;
    for (u32 i = 9; i < 25; i++)
        a[i] = 0;
    otd_f1600(a);
    OTD_UNROLL
    for (u32 i = 0; i < 4; i++)
        seeds[OTD_LANE * 4 + i] =
            OTD_U32X4((u32)a[2 * i], (u32)(a[2 * i] >> 32), (u32)a[2 * i + 1], (u32)(a[2 * i + 1] >> 32));
    OTD_BARRIER();

    OTD_NO_UNROLL
    for (u32 hash = 0; hash < OTD_TEAM; hash += OTD_PARALLEL) {
        u32x4 mix[OTD_PARALLEL];
        u32 seed[OTD_PARALLEL];
        OTD_UNROLL
        for (u32 p = 0; p < OTD_PARALLEL; p++) {
            seed[p] = seeds[(team + hash + p) * 4].x;
            mix[p] = seeds[(team + hash + p) * 4 + piece % 4];
        }
        /* Words 4 l to 4 l + 3 of a mix are lane l's: it names four pages, then the next lane does. */
        OTD_NO_UNROLL
        for (u32 i = 0; i < 64; i += 4) {
#define OTD_ACCESS(c, word) \
    do { \
        u32 page[OTD_PARALLEL]; \
        OTD_UNROLL \
        for (u32 p = 0; p < OTD_PARALLEL; p++) { \
            u32 own = otd_rest(OTD_FNV((i + c) ^ seed[p], mix[p].word), pages, one); \
            page[p] = otd_word_of(own, i / 4 % OTD_TEAM, OTD_TEAM, c * OTD_PARALLEL + p, slots); \
        } \
        OTD_UNROLL \
        for (u32 p = 0; p < OTD_PARALLEL; p++) { \
            OTD_GLOBAL const u32x4 *dag; \
            OTD_DAG_PICK(page[p], dag); \
            mix[p] = otd_fnv4(mix[p], (dag + piece)[(u64)page[p] * 8]); \
        } \
    } while (0)
            OTD_ACCESS(0, x);
            OTD_ACCESS(1, y);
            OTD_ACCESS(2, z);
            OTD_ACCESS(3, w);
#undef OTD_ACCESS
        }
        OTD_UNROLL
        for (u32 p = 0; p < OTD_PARALLEL; p++)
            mixes[(team + hash + p) * OTD_TEAM + piece] =
                OTD_FNV(OTD_FNV(OTD_FNV(mix[p].x, mix[p].y), mix[p].z), mix[p].w);
    }
    OTD_BARRIER();

    OTD_UNROLL
    for (u32 i = 0; i < 4; i++) {
        u32x4 words = seeds[OTD_LANE * 4 + i];
        a[2 * i] = (u64)words.y << 32 | words.x;
        a[2 * i + 1] = (u64)words.w << 32 | words.z;
        a[8 + i] = (u64)mixes[OTD_LANE * OTD_TEAM + 2 * i + 1] << 32 | mixes[OTD_LANE * OTD_TEAM + 2 * i];
    }
    a[12] = 1;
    for (u32 i = 13; i < 25; i++)
        a[i] = i == 16 ? 0x8000000000000000 : 0;
    otd_f1600(a);
    u64 top = (u64)OTD_SWAP32((u32)a[0]) << 32 | OTD_SWAP32((u32)(a[0] >> 32));
    if (lane < count && top <= target_top)
        otd_hit(hits, room, first + lane);
}
