/* y = x w^T + bias + more, each row of y a function of its row of x alone: every output is summed over k in one order,
 * however many rows there are. So one row costs what its weights cost to read, and many cost their products.
 *
 * Weights are packed by `linear.py` into the order in which they are read here. */

#include "numbers.h"

enum { VECTORS = LANES / 4, ROWS = 6, PANEL = VECTORS * LANES }; /* a panel: outputs that are computed together */
enum { BLOCK = 96 }; /* terms that are summed by themselves: their sums, added up, lose less than one sum of all */

long panel(void) { return PANEL; }

/* Add `blocks` blocks of terms, `depth` each, to `rows` rows of y; at most ROWS sums at once, which stay in registers.
 * w: [blocks][depth][PANEL], of which `width` outputs are there */
INLINE void add_fp32(
    int blocks, int rows, const float *x, const float *w, float *y, long depth, long in, long out, long width)
{
    vector sums[ROWS][VECTORS];
    for (int s = 0; s < blocks * rows; s++)
        for (int v = 0; v < VECTORS; v++)
            sums[s][v] = (vector){0};
    for (long k = 0; k < depth; k++)
#pragma GCC unroll 6
        for (int b = 0; b < blocks; b++) {
            vector weights[VECTORS];
            for (int v = 0; v < VECTORS; v++)
                weights[v] = read_fp32(w + (b * depth + k) * PANEL + v * LANES, LANES);
#pragma GCC unroll 6 /* rows outside: one number of x at a time */
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sums[b * rows + r][v] += x[r * in + b * depth + k] * weights[v];
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS && v * LANES < width; v++) {
            vector all = read_fp32(y + r * out + v * LANES, width - v * LANES);
            for (int b = 0; b < blocks; b++)
                all += sums[b * rows + r][v];
            write_fp32(y + r * out + v * LANES, all, width - v * LANES);
        }
}

/* Rows of y, by one panel: what was there, and all terms. A row alone has too few sums for the processor's pipelines,
 * so it takes as many blocks at once as others take rows. */
static void panel_fp32(const float *x, const float *w, float *y, long rows, long in, long out, long width)
{
    long k = 0;
    for (; rows == 1 && k + ROWS * BLOCK <= in; k += ROWS * BLOCK)
        add_fp32(ROWS, 1, x + k, w + k * PANEL, y, BLOCK, in, out, width);
    for (; k < in; k += BLOCK) { /* which all rows pass while it is in the cache */
        long depth = in - k < BLOCK ? in - k : BLOCK;
        for (long r = 0; r < rows; r += ROWS) {
            const float *a = x + r * in + k, *some = w + k * PANEL;
            float *b = y + r * out;
            switch (rows - r) {
            case 1: add_fp32(1, 1, a, some, b, depth, in, out, width); break;
            case 2: add_fp32(1, 2, a, some, b, depth, in, out, width); break;
            case 3: add_fp32(1, 3, a, some, b, depth, in, out, width); break;
            case 4: add_fp32(1, 4, a, some, b, depth, in, out, width); break;
            case 5: add_fp32(1, 5, a, some, b, depth, in, out, width); break;
            default: add_fp32(1, 6, a, some, b, depth, in, out, width);
            }
        }
    }
}

/* x: [rows, in], w: [panels][in][PANEL], y: [rows, out] */
void product_fp32(
    const float *x, const float *w, const float *bias, const float *more, float *y, long rows, long in, long out, long threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long o = 0; o < out; o += PANEL) {
        long width = out - o < PANEL ? out - o : PANEL;
        for (long r = 0; r < rows; r++)
            for (long i = o; i < o + width; i++)
                y[r * out + i] = (bias ? bias[i] : 0) + (more ? more[r * out + i] : 0);
        panel_fp32(x, w + o * in, y + o, rows, in, out, width);
    }
}

#ifdef __AVX512BF16__
#include <immintrin.h>

enum { TILE = 16, DEPTH = 32 }; /* a tile: 16 rows of 32 numbers, of x; or 16 outputs of 32 numbers, of w */
enum { CACHED = 1 << 18 };      /* weights that a core's cache holds beside the rows */
#ifdef __AMX_BF16__
enum { TILES = 1, TOGETHER = 2 * TILE }; /* rows of a block */
#else
enum { TILES = 0, TOGETHER = 12 }; /* rows of a block: their sums stay in registers */
#endif

long tiles(void) { return TILES; }

/* Write a row's sums of 16 outputs, of which `width` are there. */
INLINE void give(__m512 sums, const float *bias, const uint16_t *more, uint16_t *y, long width)
{
    __mmask16 kept = width >= TILE ? 0xffff : width <= 0 ? 0 : (1 << width) - 1;
    if (bias)
        sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(kept, bias));
    if (more) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(kept, more));
        sums = _mm512_add_ps(sums, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
    }
    _mm256_mask_storeu_epi16(y, kept, (__m256i)_mm512_cvtneps_pbh(sums));
}

#ifdef __AMX_BF16__
/* Tiles 0-3 add up two row tiles by two output tiles; 4, 5 hold rows; 6, 7 weights. */
static void configure(long rows)
{
    struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } c;
    memset(&c, 0, sizeof c);
    c.palette = 1;
    long upper = rows < TILE ? rows : TILE, lower = rows > TILE ? rows - TILE : 1;
    const uint8_t of[8] = {upper, upper, lower, lower, upper, lower, TILE, TILE};
    for (int t = 0; t < 8; t++) {
        c.bytes[t] = 64;
        c.rows[t] = of[t];
    }
    _tile_loadconfig(&c);
}

static void release(void) { _tile_release(); }

/* Up to 32 rows by 32 outputs, in the tiles as `configure` left them. */
static void block(const uint16_t *x, const uint16_t *w, const float *bias, const uint16_t *more, uint16_t *y, long rows,
                  long in, long out, long width)
{
    float sums[4][TILE * TILE] __attribute__((aligned(64)));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long k = 0; k < in; k += DEPTH, w += 2 * TILE * DEPTH) {
        _tile_loadd(4, x + k, 2 * in);
        _tile_loadd(6, w, 64);
        _tile_loadd(7, w + TILE * DEPTH, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (rows > TILE) {
            _tile_loadd(5, x + TILE * in + k, 2 * in);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (long r = 0; r < rows; r++)
        for (long n = 0; n < 2 * TILE; n += TILE) {
            const float *row = sums[r / TILE * 2 + n / TILE] + r % TILE * TILE;
            long place = r * out + n;
            give(_mm512_load_ps(row), bias ? bias + n : 0, more ? more + place : 0, y + place, width - n);
        }
}
#else
static void configure(long rows) { (void)rows; }
static void release(void) {}

INLINE void sum_up(int rows, const uint16_t *x, const uint16_t *w, const float *bias, const uint16_t *more, uint16_t *y,
                   long in, long out, long width)
{
    __m512 sums[TOGETHER][2];
    for (int r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (long k = 0; k < in; k += 2, w += 4 * TILE) {
        __m512bh left = (__m512bh)_mm512_loadu_si512(w), right = (__m512bh)_mm512_loadu_si512(w + 2 * TILE);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, x + r * in + k, sizeof two);
            __m512bh pair = (__m512bh)_mm512_set1_epi32(two);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], pair, left);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], pair, right);
        }
    }
    for (long r = 0; r < rows; r++)
        for (long n = 0; n < 2 * TILE; n += TILE)
            give(sums[r][n / TILE], bias ? bias + n : 0, more ? more + r * out + n : 0, y + r * out + n, width - n);
}

/* Up to 12 rows by 32 outputs. */
static void block(const uint16_t *x, const uint16_t *w, const float *bias, const uint16_t *more, uint16_t *y, long rows,
                  long in, long out, long width)
{
    switch (rows) {
    case 1: sum_up(1, x, w, bias, more, y, in, out, width); break;
    case 2: sum_up(2, x, w, bias, more, y, in, out, width); break;
    case 3: sum_up(3, x, w, bias, more, y, in, out, width); break;
    case 4: sum_up(4, x, w, bias, more, y, in, out, width); break;
    case 5: sum_up(5, x, w, bias, more, y, in, out, width); break;
    case 6: sum_up(6, x, w, bias, more, y, in, out, width); break;
    case 7: sum_up(7, x, w, bias, more, y, in, out, width); break;
    case 8: sum_up(8, x, w, bias, more, y, in, out, width); break;
    case 9: sum_up(9, x, w, bias, more, y, in, out, width); break;
    case 10: sum_up(10, x, w, bias, more, y, in, out, width); break;
    case 11: sum_up(11, x, w, bias, more, y, in, out, width); break;
    default: sum_up(12, x, w, bias, more, y, in, out, width);
    }
}
#endif

/* x: [rows, in], y: [rows, out]; in is a multiple of 32. w is [out / 32][in / 32][2][16 pairs of k][16 outputs][2] for
 * tiles, which hold 16 outputs, and else [out / 32][in / 2][2][16 outputs][2]: memory is read fastest in one direction.
 * All rows pass by some weights while these are in the cache. */
void product_bf16(const uint16_t *x, const uint16_t *w, const float *bias, const uint16_t *more, uint16_t *y, long rows,
                  long in, long out, long threads)
{
    const long both = 2 * TILE, some = CACHED / (both * in) + 1, blocks = (out + both - 1) / both;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long part = 0; part < threads; part++) {
        long configured = 0, end = (part + 1) * blocks / threads;
        for (long first = part * blocks / threads; first < end; first += some)
            for (long r = 0; r < rows; r += TOGETHER) {
                long these = rows - r < TOGETHER ? rows - r : TOGETHER;
                if (these != configured)
                    configure(configured = these);
                for (long n = first; n < first + some && n < end; n++) {
                    long o = n * both;
                    block(x + r * in, w + o * in, bias ? bias + o : 0, more ? more + r * out + o : 0, y + r * out + o,
                          these, in, out, out - o);
                }
            }
        release();
    }
}
#endif
