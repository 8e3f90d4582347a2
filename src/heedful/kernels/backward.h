/* Included by layer.c once for each kind of number: what training adds to layer.h. */

/* The gradients of x and w, of which y = x / sqrt(mean of squares + eps) * w; factors: room for a number a row. */
void NAME(norm_back)(const NUMBER *x, const NUMBER *w, const NUMBER *to_y, NUMBER *to_x, NUMBER *to_w, float *factors,
                     long rows, long width, float eps, long threads)
{
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (long r = 0; r < rows; r++) {
            long at = r * width;
            vector squares = {0}, common = {0};
            for (long i = 0; i < width; i += LANES) {
                vector v = READ(x + at + i, width - i);
                squares += v * v;
                common += v * READ(to_y + at + i, width - i) * READ(w + i, width - i);
            }
            float f = factors[r] = 1 / sqrtf(total(squares) / width + eps), along = total(common) / width * f * f;
            for (long i = 0; i < width; i += LANES) {
                vector direct = READ(to_y + at + i, width - i) * READ(w + i, width - i);
                WRITE(to_x + at + i, (direct - READ(x + at + i, width - i) * along) * f, width - i);
            }
        }
#pragma omp for schedule(static)
        for (long i = 0; i < width; i += LANES) {
            vector sum = {0};
            for (long r = 0; r < rows; r++)
                sum += READ(to_y + r * width + i, width - i) * READ(x + r * width + i, width - i) * factors[r];
            WRITE(to_w + i, sum, width - i);
        }
    }
}

/* The gradients of gate and up, of which y = silu(gate) * up; all of `count` numbers. */
void NAME(gate_back)(const NUMBER *gate, const NUMBER *up, const NUMBER *to_y, NUMBER *to_gate, NUMBER *to_up, long count,
                     long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long i = 0; i < count; i += LANES) {
        vector g = READ(gate + i, count - i), d = READ(to_y + i, count - i);
        vector open = 1.0f / (exponential(-g) + 1.0f);
        WRITE(to_gate + i, d * READ(up + i, count - i) * open * (g * (1.0f - open) + 1.0f), count - i);
        WRITE(to_up + i, d * g * open, count - i);
    }
}

/* scores = softmax(scores * scale + bias) in place. scores: [heads][queries][keys]; bias: [queries][stride] */
void NAME(softmax)(NUMBER *scores, const NUMBER *bias, long heads, long queries, long keys, long stride, float scale,
                   long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long row = 0; row < heads * queries; row++) {
        NUMBER *s = scores + row * keys;
        const NUMBER *b = bias + row % queries * stride;
        vector most = {0}, sum = {0};
        most -= INFINITY;
        for (long i = 0; i < keys; i += LANES) {
            vector v = READ(s + i, keys - i) * scale + READ(b + i, keys - i);
            v = filled(v, keys - i, -INFINITY);
            most = choose(v > most, v, most);
        }
        float greatest = greatest_of(most);
        for (long i = 0; i < keys; i += LANES) {
            vector v = exponential(READ(s + i, keys - i) * scale + READ(b + i, keys - i) - greatest);
            sum += filled(v, keys - i, 0);
        }
        float all = total(sum);
        for (long i = 0; i < keys; i += LANES) {
            vector v = exponential(READ(s + i, keys - i) * scale + READ(b + i, keys - i) - greatest);
            WRITE(s + i, v / all, keys - i);
        }
    }
}

/* The scores' gradient, times `scale`, in place of the weights'. Both: [rows][keys] */
void NAME(softmax_back)(NUMBER *to_weights, const NUMBER *weights, long rows, long keys, float scale, long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) {
        NUMBER *d = to_weights + r * keys;
        const NUMBER *w = weights + r * keys;
        vector common = {0};
        for (long i = 0; i < keys; i += LANES)
            common += READ(d + i, keys - i) * READ(w + i, keys - i);
        float along = total(common);
        for (long i = 0; i < keys; i += LANES)
            WRITE(d + i, (READ(d + i, keys - i) - along) * READ(w + i, keys - i) * scale, keys - i);
    }
}

/* z = log(sum(e^logits)) of each row. logits: [rows][width] */
void NAME(logsumexp)(const NUMBER *logits, float *z, long rows, long width, long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) {
        const NUMBER *row = logits + r * width;
        vector most = {0}, sum = {0};
        most -= INFINITY;
        for (long i = 0; i < width; i += LANES) {
            vector v = filled(READ(row + i, width - i), width - i, -INFINITY);
            most = choose(v > most, v, most);
        }
        float greatest = greatest_of(most);
        for (long i = 0; i < width; i += LANES) {
            vector v = exponential(READ(row + i, width - i) - greatest);
            sum += filled(v, width - i, 0);
        }
        z[r] = greatest + logf(total(sum));
    }
}

/* The logits' gradient: softmax(logits) * of_row, less of[p] at target[p] for each prediction p of the row, which are
 * order[starts[row]] to order[starts[row + 1] - 1]. */
void NAME(nll_back)(const NUMBER *logits, const float *z, const float *of_row, const int64_t *starts,
                    const int64_t *order, const int64_t *target, const float *of, NUMBER *to_logits, long rows, long width,
                    long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) {
        const NUMBER *row = logits + r * width;
        NUMBER *to = to_logits + r * width;
        for (long i = 0; i < width; i += LANES)
            WRITE(to + i, exponential(READ(row + i, width - i) - z[r]) * of_row[r], width - i);
        for (const int64_t *p = order + starts[r]; p < order + starts[r + 1]; p++) {
            vector v = exponential(READ(row + target[*p], 1) - z[r]) * of_row[r];
            for (const int64_t *q = order + starts[r]; q < order + starts[r + 1]; q++)
                v -= target[*q] == target[*p] ? of[*q] : 0;
            WRITE(to + target[*p], v, 1);
        }
    }
}
