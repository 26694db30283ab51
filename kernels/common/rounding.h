/* Sums, products, quotients and square roots of doubles, rounded as RandomX's fprc says (specification, table 4.3.1):
 * 0 to nearest, 1 down, 2 up, 3 towards zero.
 *
 * CUDA has an instruction for each mode; the languages without rounding modes (OpenCL C, host C) round to nearest and
 * correct. Let z be the nearest number to the exact result x. Then x lies between z and one of z's neighbours, and the
 * sign of x - z says which; a rounding towards the other side of x moves z to that neighbour:
 *
 *   down: if x < z, one step down        up: if x > z, one step up        zero: either, where it shortens z
 *
 * x - z is itself exact, or exact in its sign, in arithmetic to nearest:
 *
 *   a + b        TwoSum (Knuth): with b' = z - a, it is (a - (z - b')) + (b - b')
 *   a * b        fma(a, b, -z)
 *   a / b        fma(-z, b, a), divided by b: b is positive here
 *   sqrt(a)      fma(-z, z, a), divided by 2 z, which is positive
 *
 * A neighbour is one more or one less in the bits, and beyond the largest number stands infinity, which is what
 * rounding means by it. Where z overflowed to infinity, x - z counts as infinite with the other sign. Results do
 * not underflow: the specification rules subnormal numbers out (4.3.2, 5.3); divisors and radicands are positive.
 */
#ifndef OTD_ROUNDING_H
#define OTD_ROUNDING_H

/* Moves z, the nearest number, to the number that `mode` asks for, where `error` has the sign of exact - z; not a
 * number counts as none. */
OTD_FN f64 otd_directed(f64 z, f64 error, u32 mode)
{
    u64 bits = OTD_BITS_OF_F64(z);
    u32 negative = (u32)(bits >> 63);
    u32 down = error < 0.0 && (mode == 1u || (mode == 3u && !negative));
    u32 up = error > 0.0 && (mode == 2u || (mode == 3u && negative));
    /* Away from zero is one more in the bits. */
    u64 away = (down & negative) | (up & (negative ^ 1u));
    u64 nearer = (down | up) & (u32)(away ^ 1u);
    return OTD_F64_OF_BITS(bits + away - nearer);
}

/* Intrinsics of CUDA: rounding is part of an instruction, so each mode is a case. */
#if OTD_CUDA

OTD_FN f64 otd_add(f64 a, f64 b, u32 mode)
{
    switch (mode) {
    case 0: return __dadd_rn(a, b);
    case 1: return __dadd_rd(a, b);
    case 2: return __dadd_ru(a, b);
    default: return __dadd_rz(a, b);
    }
}

OTD_FN f64 otd_multiply(f64 a, f64 b, u32 mode)
{
    switch (mode) {
    case 0: return __dmul_rn(a, b);
    case 1: return __dmul_rd(a, b);
    case 2: return __dmul_ru(a, b);
    default: return __dmul_rz(a, b);
    }
}

/* Division is a subroutine in every mode: one that rounds to nearest and a correction cost less than four. */
#define OTD_DIVIDE(a, b) __ddiv_rn((a), (b))

#else

#if OTD_OPENCL
#pragma OPENCL FP_CONTRACT OFF
#endif

OTD_FN f64 otd_add(f64 a, f64 b, u32 mode)
{
    f64 z = a + b;
    f64 b1 = z - a;
    f64 error = (a - (z - b1)) + (b - b1);
    u32 finite = (OTD_BITS_OF_F64(z) << 1) >> 53 != 0x7ffu;
    if (!finite)
        error = -z + (a - a) + (b - b); /* not a number where an operand was infinite already */
    /* What is left of equal numbers is -0 when rounding down. */
    if (z == 0.0 && mode == 1u && (OTD_BITS_OF_F64(a) | OTD_BITS_OF_F64(b)) != 0)
        return -0.0;
    return otd_directed(z, error, mode);
}

OTD_FN f64 otd_multiply(f64 a, f64 b, u32 mode)
{
    f64 z = a * b;
    return otd_directed(z, OTD_FMA(a, b, -z), mode);
}

#define OTD_DIVIDE(a, b) ((a) / (b))

#endif

OTD_FN f64 otd_divide(f64 a, f64 b, u32 mode)
{
    f64 z = OTD_DIVIDE(a, b);
    return otd_directed(z, OTD_FMA(-z, b, a), mode);
}

OTD_FN f64 otd_square_root(f64 a, u32 mode)
{
    f64 z = OTD_SQRT(a);
    return otd_directed(z, OTD_FMA(-z, z, a), mode);
}

#endif
