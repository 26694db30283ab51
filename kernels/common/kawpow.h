/* What the period's program and the search around it share: the cache of the DAG's head. */
#ifndef OTD_KAWPOW_H
#define OTD_KAWPOW_H

#ifndef OTD_CACHE_COPIES
#define OTD_CACHE_COPIES 1
#endif

/* Words of the cache. Copy c of word w stands at w * OTD_CACHE_COPIES + c: every copy in banks of its own. */
#define OTD_CACHE_WORDS 4096

/* A word of the cache, from the copy that starts `copy` bytes into it. Addressed in bytes, so that mask and copy go
 * into one LOP3. */
#define OTD_CACHED(word) \
    *(OTD_LOCAL const u32 *)((OTD_LOCAL const u8 *)cache + \
                             (((word) * (4 * OTD_CACHE_COPIES) & (OTD_CACHE_WORDS - 1) * 4 * OTD_CACHE_COPIES) | copy))

#endif
