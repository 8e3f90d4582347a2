/* Some numbers at a time, read and written as fp32 or bf16, computed with in fp32. */

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
#define INLINE static inline __attribute__((always_inline))

/* `count` numbers from x on, and zeros behind them */
INLINE vector read_fp32(const float *x, long count)
{
    vector v = {0};
    if (count >= LANES)
        memcpy(&v, x, sizeof v);
    else
        memcpy(&v, x, count * sizeof *x);
    return v;
}

INLINE void write_fp32(float *x, vector v, long count)
{
    if (count >= LANES)
        memcpy(x, &v, sizeof v);
    else
        memcpy(x, &v, count * sizeof *x);
}

INLINE vector read_bf16(const uint16_t *x, long count)
{
    halves h = {0};
    if (count >= LANES)
        memcpy(&h, x, sizeof h);
    else
        memcpy(&h, x, count * sizeof *x);
    return (vector)(__builtin_convertvector(h, words) << 16);
}

/* to the nearest, ties to even; what is not a number stays none */
INLINE void write_bf16(uint16_t *x, vector v, long count)
{
    words bits = (words)v, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, none = (words)(v != v);
    halves h = __builtin_convertvector((rounded & ~none) | (0x7fc0 & none), halves);
    if (count >= LANES)
        memcpy(x, &h, sizeof h);
    else
        memcpy(x, &h, count * sizeof *x);
}

/* The sum of all, halves first */
INLINE float total(vector v)
{
    typedef float eight __attribute__((vector_size(32)));
    typedef float four __attribute__((vector_size(16)));
    union { vector all; eight half[LANES / 8]; } x = {v};
    union { eight all; four half[2]; } y = {x.half[0]};
    if (LANES > 8)
        y.all += x.half[LANES / 8 - 1];
    four z = y.half[0] + y.half[1];
    return (z[0] + z[2]) + (z[1] + z[3]);
}

INLINE vector choose(integers first, vector a, vector b)
{
    return (vector)((first & (integers)a) | (~first & (integers)b));
}

INLINE float greatest_of(vector v)
{
    float greatest = v[0];
    for (int i = 1; i < LANES; i++)
        greatest = v[i] > greatest ? v[i] : greatest;
    return greatest;
}

/* v with `number` in place of all but the first `count` */
INLINE vector filled(vector v, long count, float number)
{
    for (long i = count; i < LANES; i++)
        v[i] = number;
    return v;
}

/* e^x to 2 units in the last place (the polynomial of Cephes' expf); below -87 nothing, above 87 as there */
INLINE vector exponential(vector x)
{
    const vector low = (vector){0} - 87.0f, high = (vector){0} + 87.0f;
    integers nothing = x < low;
    x = choose(nothing, low, choose(x > high, high, x));
    vector shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f; /* rounds: 1.5 * 2^23 has no fraction */
    vector r = x - n * 0.693359375f + n * 2.12194440e-4f, p = (vector){0} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    p *= (vector)((__builtin_convertvector(n, integers) + 127) << 23);
    return choose(nothing, (vector){0}, p);
}
