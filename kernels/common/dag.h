/* A dataset in one to four buffers, because a device may refuse one as large as the dataset: OTD_DAG_PARTS of them,
 * `rows` rows in each but the last. What a row is, and its bytes, is the kernel's business.
 */
#ifndef OTD_DAG_H
#define OTD_DAG_H

#ifndef OTD_DAG_PARTS
#define OTD_DAG_PARTS 1
#endif

/* OTD_DAG_ARGS: the buffers, and the rows in a part, as parameters. OTD_DAG_PICK(row, dag): points `dag` at the
 * buffer of a row and makes `row` its number in there. */
#define OTD_DAG_ARG(i) OTD_GLOBAL const u32x4 *dag##i

#if OTD_DAG_PARTS == 1
#define OTD_DAG_ARGS OTD_DAG_ARG(0), u32 rows
#define OTD_DAG_PICK(row, dag) ((dag) = dag0)
#elif OTD_DAG_PARTS == 2
#define OTD_DAG_ARGS OTD_DAG_ARG(0), OTD_DAG_ARG(1), u32 rows
#define OTD_DAG_PICK(row, dag) ((row) < rows ? ((dag) = dag0) : ((dag) = dag1, (row) -= rows, (dag)))
#elif OTD_DAG_PARTS == 4
#define OTD_DAG_ARGS OTD_DAG_ARG(0), OTD_DAG_ARG(1), OTD_DAG_ARG(2), OTD_DAG_ARG(3), u32 rows
#define OTD_DAG_PICK(row, dag) \
    do { \
        u32 upper = (row) >= 2 * rows; \
        (row) -= upper ? 2 * rows : 0; \
        u32 odd = (row) >= rows; \
        (row) -= odd ? rows : 0; \
        (dag) = upper ? (odd ? dag3 : dag2) : (odd ? dag1 : dag0); \
    } while (0)
#else
#error "OTD_DAG_PARTS: expected 1, 2 or 4"
#endif

/* x % n without a division: one = 0xffffffff / n is at most 1 below 2^32 / n, so the quotient found is the right
 * one or one less. Three instructions (IMAD.HI, IMAD, VIADDMNMX on sm_90) for any n; a constant n takes three to five. */
OTD_FN u32 otd_rest(u32 x, u32 n, u32 one)
{
    u32 minus = 0u - n, rest = x + OTD_MULHI32(x, one) * minus;
    return OTD_MIN32(rest, rest + minus);
}

#endif
