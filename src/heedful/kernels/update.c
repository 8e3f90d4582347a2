/* One pass over a weight's gradient for its norm, and one that updates the weight: what bounds both is memory. */

#include <math.h>

#include "numbers.h"

enum { BLOCK = 4096 }; /* numbers whose squares are added up in one order, whatever the threads */

long block(void) { return BLOCK; }

INLINE vector gradient(const void *g, long wide, long i, long count)
{
    return wide ? read_fp32((const float *)g + i, count) : read_bf16((const uint16_t *)g + i, count);
}

/* sums: [n / BLOCK, rounded up] */
void squares(const void *g, long wide, double *sums, long n, long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long start = 0; start < n; start += BLOCK) {
        long end = start + BLOCK < n ? start + BLOCK : n;
        vector sum[4] = {{0}};
        for (long i = start; i < end; i += 4 * LANES)
            for (int k = 0; k < 4 && i + k * LANES < end; k++) {
                vector d = gradient(g, wide, i + k * LANES, end - i - k * LANES);
                sum[k] += d * d;
            }
        sums[start / BLOCK] = total((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

/* AdamW (Loshchilov & Hutter 2019) on w, m, v with the gradient g times `scale`; `shown`, if given, becomes w in bf16.
 * keep = 1 - lr * weight decay, rate = lr / (1 - beta1^step), root = sqrt(1 - beta2^step) */
void adamw(float *w, const void *g, long wide, float *m, float *v, uint16_t *shown, long n, float keep, float rate,
           float beta1, float beta2, float root, float epsilon, float scale, long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long start = 0; start < n; start += BLOCK) {
        long end = start + BLOCK < n ? start + BLOCK : n;
        for (long i = start; i < end; i += LANES) {
            long count = end - i;
            vector d = gradient(g, wide, i, count) * scale, spread = {0};
            vector first = read_fp32(m + i, count), second = read_fp32(v + i, count), weight = read_fp32(w + i, count);
            first += (d - first) * (1 - beta1);
            second = second * beta2 + d * d * (1 - beta2);
            for (int k = 0; k < LANES; k++)
                spread[k] = sqrtf(second[k]);
            weight = weight * keep - rate * first / (spread / root + epsilon);
            write_fp32(m + i, first, count);
            write_fp32(v + i, second, count);
            write_fp32(w + i, weight, count);
            if (shown)
                write_bf16(shown + i, weight, count);
        }
    }
}
