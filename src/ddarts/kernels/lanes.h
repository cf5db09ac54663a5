/* What the kernels share: vectors as wide as the processor has them, threads, and three small loops over pixels.
 *
 * Images lie in memory channels-last. Inside a kernel, `c` channels of one edge are padded to `p`, a multiple of LANES, with
 * zeros, and PIXELS neighbours of a row are worked on together; such a block [PIXELS][p] is called a tile.
 */
#ifndef DDARTS_LANES_H
#define DDARTS_LANES_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

/* As many pixels as there are registers for. With NARROW, edges have exactly LANES channels: that is one vector a pixel, and the
 * compiler knows all sizes. */
#if defined(__AVX512F__) || defined(NARROW)
#define PIXELS 8
#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#else
#define PIXELS 4
#define EACH(F) F(0) F(1) F(2) F(3)
#endif
#ifdef NARROW
#define CHANNELS(c) LANES
#else
#define CHANNELS(c) (c)
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE vec load(const float *from) { return *(const vec *)from; }

INLINE void store(float *to, vec v) { *(vec *)to = v; }

#if defined(__AVX__) && !defined(__AVX512F__)
/* From LANES - n on: a mask of the first n lanes. */
static const int32_t FIRST[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
#endif

/* `n` lanes of memory, the others zero; or all of them. */
INLINE vec get(const float *from, int64_t n) {
    if (n >= LANES) return load(from);
#if defined(__AVX__) && !defined(__AVX512F__)
    return (vec)_mm256_maskload_ps(from, _mm256_loadu_si256((const __m256i *)(FIRST + LANES - n)));
#else
    vec v = {0};
    memcpy(&v, from, n * sizeof(float));
    return v;
#endif
}

INLINE void put(float *to, vec v, int64_t n) {
    if (n >= LANES) store(to, v);
#if defined(__AVX__) && !defined(__AVX512F__)
    else _mm256_maskstore_ps(to, _mm256_loadu_si256((const __m256i *)(FIRST + LANES - n)), (__m256)v);
#else
    else memcpy(to, &v, n * sizeof(float));
#endif
}

/* Images are float, or bfloat16 in the files compiled with BFLOAT16. Weights, statistics and all arithmetic are float. */
#ifdef BFLOAT16
#define NAME(function) function##_bf16
typedef uint16_t real;
typedef uint16_t halves __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef uint32_t bits __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE vec get_real(const real *from, int64_t n) {
    halves h = {0};
    if (n >= LANES) h = *(const halves *)from;
    else memcpy(&h, from, n * sizeof(real));
    return (vec)(__builtin_convertvector(h, bits) << 16);
}

/* Rounded to the nearest, to even ones in the middle; what is not a number stays so. */
INLINE void put_real(real *to, vec v, int64_t n) {
    const bits b = (bits)v, rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16, broken = (bits)(v != v);
    const halves h = __builtin_convertvector((rounded & ~broken) | (((b >> 16) | 0x40) & broken), halves);
    if (n >= LANES) *(halves *)to = h;
    else memcpy(to, &h, n * sizeof(real));
}
#else
#ifdef NARROW
#define NAME(function) function##_narrow
#else
#define NAME(function) function
#endif
typedef float real;

INLINE vec get_real(const real *from, int64_t n) { return get(from, n); }

INLINE void put_real(real *to, vec v, int64_t n) { put(to, v, n); }
#endif

/* `v` where `by` is above zero, else zero. Not a number passes, so that a run that has diverged is seen to. */
INLINE vec where_positive(vec v, vec by) {
    const vec zero = {0};
    return (vec)((mask)v & ~(mask)(by <= zero));
}

/* Past the caches: a large image is out of them before it is read, and need not be read in before it is written. Only whole
 * lines of 64 bytes gain by it; `to` lies on a line. */
INLINE void stream_real(real *to, vec v) {
#if defined(__AVX512F__) && defined(BFLOAT16)
    real line[LANES];
    put_real(line, v, LANES);
    _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)line));
#elif defined(__AVX512F__)
    _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX__) && defined(BFLOAT16)
    real line[LANES];
    put_real(line, v, LANES);
    _mm_stream_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)line));
#elif defined(__AVX__)
    _mm256_stream_ps(to, (__m256)v);
#else
    put_real(to, v, LANES);
#endif
}

/* Before other threads read what was streamed. */
INLINE void end_streaming(void) {
#if defined(__AVX__)
    _mm_sfence();
#endif
}

/* Whether an image of `pixels` pixels at `to`, whose edges have `c` channels, is better streamed: measured with 0.3 to 8 MB. */
INLINE int streams(const real *to, int64_t pixels, int64_t edges, int64_t c) {
    const int64_t edge = c * sizeof(real);
    return edge % 64 == 0 && (uintptr_t)to % 64 == 0 && pixels * edges * edge > 1 << 18;
}

INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Memory of the calling thread that stays for the next call; NULL if there is none. */
INLINE float *scratch(int64_t floats) {
    static _Thread_local float *kept;
    static _Thread_local int64_t size;
    if (floats > size) {
        free(kept);
        kept = aligned_alloc(64, round_up(floats * sizeof(float), 64));
        size = kept ? floats : 0;
    }
    return kept;
}

/* PyTorch's own OpenMP runtime, found among the libraries that are loaded: a second one would fight it for the cores. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));

INLINE int has_threads(void) { return GOMP_parallel && omp_get_thread_num && omp_get_num_threads; }

typedef struct {
    void (*work)(void *, int64_t);
    void *job;
    int64_t parts;
} Team;

static void run_team(void *argument) {
    const Team *team = argument;
    /* there may be fewer threads than were asked for */
    for (int64_t part = omp_get_thread_num(); part < team->parts; part += omp_get_num_threads()) team->work(team->job, part);
}

/* Call `work(job, part)` for every part, each on a thread of its own if it can be had. */
INLINE void on_threads(void (*work)(void *, int64_t), void *job, int64_t parts) {
    Team team = {work, job, parts};
    if (parts > 1 && has_threads()) GOMP_parallel(run_team, &team, (unsigned)parts, 0);
    else
        for (int64_t part = 0; part < parts; part++) work(job, part);
}

/* A depthwise convolution of one tile's pixels: from padded rows of `line` floats at `from`, weights [k * k][p]. */
INLINE void depthwise_tile(
    const int k, const int dilation, const int stride, const float *from, int64_t line, int64_t p, const float *weights, float *tile) {
    for (int64_t v = 0; v < p; v += LANES) {
#define ZERO(q) vec sum##q = {0};
        EACH(ZERO)
        for (int r = 0; r < k; r++) {
            const float *row = from + r * dilation * line + v, *of_row = weights + r * k * p + v;
#define TAP(q) sum##q += w * load(at + q * stride * p);
#define COLUMN(s) { const vec w = load(of_row + s * p); const float *at = row + s * dilation * p; EACH(TAP) }
            COLUMN(0) COLUMN(1) COLUMN(2)
            if (k == 5) { COLUMN(3) COLUMN(4) }
        }
#define KEEP(q) store(tile + q * p + v, sum##q);
        EACH(KEEP)
    }
#undef ZERO
#undef TAP
#undef COLUMN
#undef KEEP
}

/* A tile, whose pixels lie `t` floats apart, times a matrix [c][p]; pixels of the result lie `stride` floats apart. */
INLINE void multiply_tile(const float *tile, int64_t t, const float *matrix, int64_t c, int64_t p, float *to, int64_t stride) {
    int64_t v = 0;
#define ZERO(q) vec one##q = {0}, two##q = {0};
#define STEP(q) { const float s = tile[q * t + i]; one##q += s * left; two##q += s * right; }
#define KEEP(q) store(to + q * stride + v, one##q); store(to + q * stride + v + LANES, two##q);
    for (; v + LANES < p; v += 2 * LANES) {
        EACH(ZERO)
        for (int64_t i = 0; i < c; i++) {
            const vec left = load(matrix + i * p + v), right = load(matrix + i * p + v + LANES);
            EACH(STEP)
        }
        EACH(KEEP)
    }
#undef ZERO
#undef STEP
#undef KEEP
    if (v == p) return;
#define ZERO(q) vec one##q = {0};
#define STEP(q) one##q += tile[q * t + i] * w;
#define KEEP(q) store(to + q * stride + v, one##q);
    EACH(ZERO)
    for (int64_t i = 0; i < c; i++) {
        const vec w = load(matrix + i * p + v);
        EACH(STEP)
    }
    EACH(KEEP)
#undef ZERO
#undef STEP
#undef KEEP
}

#define EIGHT(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)

/* `multiply_tile` for eight pixels, which keep a matrix of one vector a row busy. */
INLINE void multiply_eight(const float *tile, int64_t t, const float *matrix, int64_t c, int64_t p, float *to, int64_t stride) {
    if (p > LANES || PIXELS == 8) {
        for (int64_t q = 0; q < 8; q += PIXELS) multiply_tile(tile + q * t, t, matrix, c, p, to + q * stride, stride);
        return;
    }
#define ZERO(q) vec sum##q = {0};
#define STEP(q) sum##q += tile[q * t + i] * w;
#define KEEP(q) store(to + q * stride, sum##q);
    EIGHT(ZERO)
    for (int64_t i = 0; i < c; i++) {
        const vec w = load(matrix + i * p);
        EIGHT(STEP)
    }
    EIGHT(KEEP)
#undef ZERO
#undef STEP
#undef KEEP
}

/* Add a tile's numbers and their squares to `sums` [2][p], around its first pixel where the sums start. */
INLINE void add_statistics(const float *tile, int64_t n, int64_t p, int starts, float *shift, float *sums) {
    for (int64_t v = 0; v < p; v += LANES) {
        if (starts) store(shift + v, load(tile + v));
        const vec around = load(shift + v);
        vec sum = {0}, square = {0};
        for (int64_t q = 0; q < n; q++) {
            const vec d = load(tile + q * p + v) - around;
            sum += d;
            square += d * d;
        }
        store(sums + v, load(sums + v) + sum);
        store(sums + p + v, load(sums + p + v) + square);
    }
}

/* to[a][p] += over `n` pixels, `left` (pixels `t` floats apart), of which `a` numbers are read, times `right` [][p]. */
INLINE void add_products(const float *left, int64_t t, int64_t a, const float *right, int64_t p, int64_t n, float *to) {
    for (int64_t v = 0; v < p; v += LANES) {
        int64_t o = 0;
#define START(k) vec sum##k = {0};
#define STEP(k) sum##k += at[k] * w;
#define KEEP(k) store(to + (o + k) * p + v, load(to + (o + k) * p + v) + sum##k);
        for (; o + 8 <= a; o += 8) {
            EIGHT(START)
            for (int64_t q = 0; q < n; q++) {
                const vec w = load(right + q * p + v);
                const float *at = left + q * t + o;
                EIGHT(STEP)
            }
            EIGHT(KEEP)
        }
#undef START
#undef STEP
#undef KEEP
        for (; o < a; o++) {
            vec sum = {0};
            for (int64_t q = 0; q < n; q++) sum += left[q * t + o] * load(right + q * p + v);
            store(to + o * p + v, load(to + o * p + v) + sum);
        }
    }
}

/* A batch norm's gradient at its input u as of_grad * grad + of_u * u + constant, for a channel: from the sums of grad and of
 * grad * normalised u over `count` values. */
INLINE void norm_gradient(double var, double mean, double scale, double sum, double dot, int64_t count, double eps, float *of_grad,
                          float *of_u, float *constant) {
    const double inverse = 1 / sqrt(var + eps), factor = scale * inverse, slope = -factor * inverse * dot / (double)count;
    *of_grad = (float)factor;
    *of_u = (float)slope;
    *constant = (float)(-factor * sum / (double)count - slope * mean);
}

/* Lay `n` pixels of `c` channels from a tile into an image, where pixels are `stride` numbers apart. */
INLINE void copy_tile(const float *tile, int64_t n, int64_t c, int64_t p, real *to, int64_t stride, int stream) {
    for (int64_t q = 0; q < n; q++)
        for (int64_t v = 0; v < p; v += LANES) {
            if (stream) stream_real(to + q * stride + v, load(tile + q * p + v));
            else put_real(to + q * stride + v, load(tile + q * p + v), c - v);
        }
}

/* The rectified rows `first` to `first + rows` of an image, with `pad` pixels of zeros around it, in rows of `width` padded
 * pixels; `scale` and `shift` [p], if given, come before the ReLU. Rows outside the image are zero. */
INLINE void rectify_rows(const real *image, int64_t height, int64_t wide, int64_t stride, int64_t c, int64_t p, const float *scale,
                         const float *shift, int64_t first, int64_t rows, int64_t pad, int64_t width, float *to) {
    const int64_t inside = width - pad < wide ? width - pad : wide;
    for (int64_t r = 0; r < rows; r++, to += width * p) {
        if (first + r < 0 || first + r >= height) {
            memset(to, 0, width * p * sizeof(float));
            continue;
        }
        const real *from = image + (first + r) * wide * stride;
        float *at = to + pad * p;
        memset(to, 0, pad * p * sizeof(float));
        for (int64_t x = 0; x < inside; x++, at += p, from += stride)
            for (int64_t v = 0; v < p; v += LANES) {
                vec value = get_real(from + v, c - v);
                if (scale) value = value * load(scale + v) + load(shift + v);
                store(at + v, where_positive(value, value));
            }
        memset(at, 0, (width - pad - inside) * p * sizeof(float));
    }
}

/* How many rows of `line` floats a thread works on at a time, if `more` rows come on top: what stays in its cache. */
INLINE int64_t rows_in_cache(int64_t line, int64_t more, int64_t step, int64_t all) {
    const int64_t rows = (32768 / line - more) / step + 1;
    return rows < 1 ? 1 : rows < all ? rows : all;
}

#endif
