/* Included by layer.c once for each kind of number. */

/* y = (x - mean) / sqrt(variance + eps) * w + bias; mean is 0 unless `centred`. Rows of `width` numbers lie in groups
 * of `per`, a group every `stride` numbers; each of a group has a weight of its own. y may be x. */
void NAME(norm)(const NUMBER *x, const NUMBER *w, const NUMBER *bias, NUMBER *y, long groups, long per, long stride,
                long width, float eps, long centred, long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static) if (groups * per > 8)
    for (long row = 0; row < groups * per; row++) {
        long at = row / per * stride + row % per * width;
        const NUMBER *a = x + at, *scale = w + row % per * width;
        vector sum = {0}, squares = {0};
        if (centred)
            for (long i = 0; i < width; i += LANES)
                sum += READ(a + i, width - i);
        float mean = total(sum) / width;
        for (long i = 0; i < width; i += LANES) {
            vector from_mean = filled(READ(a + i, width - i) - mean, width - i, 0);
            squares += from_mean * from_mean;
        }
        float factor = 1 / sqrtf(total(squares) / width + eps);
        for (long i = 0; i < width; i += LANES) {
            vector v = (READ(a + i, width - i) - mean) * factor * READ(scale + i, width - i);
            WRITE(y + at + i, bias ? v + READ(bias + i, width - i) : v, width - i);
        }
    }
}

/* Turn each pair (i, i + width / 2) of every head by the angle of the token's place, in place.
 * x: [tokens][stride], of which the first `heads` times `width`; cos, sin: [places][width / 2] */
void NAME(rotate)(NUMBER *x, const float *cos, const float *sin, const int64_t *places, long tokens, long heads,
                  long stride, long width, long threads)
{
    long half = width / 2;
#pragma omp parallel for num_threads(threads) schedule(static) if (tokens > 4)
    for (long t = 0; t < tokens; t++) {
        NUMBER *last = x + t * stride + heads * width;
        for (NUMBER *a = x + t * stride; a < last; a += width)
            for (long i = 0; i < half; i += LANES) {
                vector c = read_fp32(cos + places[t] * half + i, half - i);
                vector s = read_fp32(sin + places[t] * half + i, half - i);
                vector left = READ(a + i, half - i), right = READ(a + half + i, half - i);
                WRITE(a + i, left * c - right * s, half - i);
                WRITE(a + half + i, right * c + left * s, half - i);
            }
    }
}

/* y = silu(gate) * up; rows of both every `stride` numbers. y: [rows][width] */
void NAME(gate)(const NUMBER *gate, const NUMBER *up, NUMBER *y, long rows, long width, long stride, long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static) if (rows > 4)
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < width; i += LANES) {
            long at = r * stride + i;
            vector g = READ(gate + at, width - i), u = READ(up + at, width - i);
            WRITE(y + r * width + i, g / (exponential(-g) + 1.0f) * u, width - i);
        }
}

/* One query over `seen` keys and values that lie `line` numbers apart; scores: room for as many and a vector more. */
INLINE void NAME(mix)(const NUMBER *q, const NUMBER *keys, const NUMBER *values, NUMBER *y, float *scores, long seen,
                      long line, long width, float scale)
{
    vector most = {0}, sum = {0};
    most -= INFINITY;
    for (long j = 0; j < seen; j++) {
        vector score = {0};
        for (long d = 0; d < width; d += 64 / sizeof(NUMBER)) { /* memory too far apart for the processor to guess */
            __builtin_prefetch(keys + (j + AHEAD) * line + d);
            __builtin_prefetch(values + j * line + d);
        }
        for (long d = 0; d < width; d += LANES)
            score += READ(q + d, width - d) * READ(keys + j * line + d, width - d);
        scores[j] = total(score) * scale;
    }
    for (long j = seen; j % LANES; j++)
        scores[j] = -INFINITY; /* filled up */
    for (long j = 0; j < seen; j += LANES) {
        vector some = read_fp32(scores + j, LANES);
        most = choose(some > most, some, most);
    }
    float greatest = greatest_of(most);
    for (long j = 0; j < seen; j += LANES) {
        vector weights = exponential(read_fp32(scores + j, LANES) - greatest);
        write_fp32(scores + j, weights, LANES);
        sum += weights;
    }
    float all = total(sum);
    for (long d = 0; d < width; d += 4 * LANES) {
        vector mixed[4] = {{0}};
        for (long j = 0; j < seen; j++)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                if (d + k * LANES < width)
                    mixed[k] += scores[j] * READ(values + j * line + d + k * LANES, width - d - k * LANES);
        for (int k = 0; k < 4 && d + k * LANES < width; k++)
            WRITE(y + d + k * LANES, mixed[k] / all, width - d - k * LANES);
    }
}

/* Put each row's key and value at its place in the cache, and let its queries see all places up to there.
 * qkv: [rows][heads + 2 kv][width]; cache: [rows][columns][2][kv][width]; y: [rows][heads][width] */
void NAME(attend)(const NUMBER *qkv, NUMBER *cache, const int64_t *places, NUMBER *y, long rows, long columns,
                  long heads, long kv, long width, float scale, long threads)
{
    long longest = 0, line = 2 * kv * width;
    for (long r = 0; r < rows; r++) {
        const NUMBER *new = qkv + (r * (heads + 2 * kv) + heads) * width;
        memcpy(cache + (r * columns + places[r]) * line, new, line * sizeof(NUMBER));
        longest = places[r] > longest ? places[r] : longest;
    }
#pragma omp parallel num_threads(threads)
    {
        float *scores = malloc((longest + 1 + LANES) * sizeof(float));
#pragma omp for schedule(static)
        for (long i = 0; i < rows * heads; i++) {
            long r = i / heads, h = i % heads, seen = places[r] + 1;
            const NUMBER *q = qkv + (r * (heads + 2 * kv) + h) * width;
            const NUMBER *keys = cache + r * columns * line + h / (heads / kv) * width, *values = keys + kv * width;
            if (width == 64) /* what most models have, as a number that the compiler knows */
                NAME(mix)(q, keys, values, y + i * width, scores, seen, line, 64, scale);
            else
                NAME(mix)(q, keys, values, y + i * width, scores, seen, line, width, scale);
        }
        free(scores);
    }
}
