/* Lanes that work on one hash together, a team, hand each other a word here.
 *
 * On NVIDIA a team lies in one warp and a shuffle does it. OpenCL 1.2 has no shuffles: there the word goes through
 * shared memory, and all lanes of the group must come. Two words a lane, used in turn, make do with one barrier:
 * who writes the one half has passed the barrier after which everybody has read it before.
 */
#ifndef OTD_TEAM_H
#define OTD_TEAM_H

/* Shared memory for it, at kernel scope; not one byte where nobody reads it. */
#define OTD_TEAM_SLOTS(name, lanes) OTD_SHARED(u32, name, 2 * (lanes))

/* What `word` is in lane `lane` of this lane's team. Teams have `team` lanes, a power of two up to 32; `turn` is
 * odd and even by turns from one call to the next. */
OTD_FN u32 otd_word_of(u32 word, u32 lane, u32 team, u32 turn, OTD_LOCAL u32 *slots)
{
#if OTD_CUDA
    (void)turn, (void)slots;
    return __shfl_sync(0xffffffffu, word, lane, team);
#else
    OTD_LOCAL u32 *mine = slots + (turn & 1u) * OTD_LANES;
    mine[OTD_LANE] = word;
    OTD_BARRIER();
    return mine[(OTD_LANE & ~(team - 1)) + lane];
#endif
}

#endif
