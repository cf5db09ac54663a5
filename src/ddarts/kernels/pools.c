/* 3x3 pools of a discrete network, padding of 1, forward and backward. */
#include "lanes.h"

typedef struct {
    const real *x;     /* [B, H, W, C]; in the backward pass the gradient at y, [B, H', W', C] */
    real *y;           /* [B, H', W', C]; in the backward pass the gradient at x, [B, H, W, C], to which is added */
    uint8_t *position; /* [B, H', W', C]: which of the 9 pixels is the maximum, the first of equal ones; NULL: averages */
    int64_t batch, height, width, channels, stride, backward, threads;
} Pools;

typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE void put_bytes(uint8_t *to, mask v, int64_t n) {
#if defined(__AVX2__) && !defined(__AVX512F__) /* which the compiler does lane by lane */
    const __m256i all = (__m256i)v;
    const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    bytes narrow = (bytes)_mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs));
#else
    bytes narrow = __builtin_convertvector(v, bytes);
#endif
    if (n >= LANES) *(bytes *)to = narrow;
    else memcpy(to, &narrow, n);
}

INLINE mask get_bytes(const uint8_t *from, int64_t n) {
    bytes narrow = {0};
    if (n >= LANES) narrow = *(const bytes *)from;
    else memcpy(&narrow, from, n);
#if defined(__AVX2__) && !defined(__AVX512F__)
    return (mask)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)narrow));
#else
    return __builtin_convertvector(narrow, mask);
#endif
}

INLINE mask number(int r, int s) { return (mask){0} + ((r + 1) * 3 + s + 1); }

/* One window, whose pixels `r0` to `r1` down and `s0` to `s1` to the right of its middle are inside the image. */
INLINE void run_window(const int backward, const int maximum, int64_t line, int64_t c, int64_t n, real *middle, real *result,
                       uint8_t *position, const int r0, const int r1, const int s0, const int s1) {
    const float share = 1.0f / (float)((r1 - r0) * (s1 - s0));
#define WINDOW for (int r = r0; r < r1; r++) for (int s = s0; s < s1; s++)
    if (!backward && maximum) {
        vec best = get_real(middle + r0 * line + s0 * c, n);
        mask place = number(r0, s0);
        WINDOW {
            const vec value = get_real(middle + r * line + s * c, n);
            /* a value that is not a number is the maximum, as PyTorch has it */
            const mask larger = (mask)(value > best) | (mask)(value != value);
            best = (vec)(((mask)value & larger) | ((mask)best & ~larger));
            place = (number(r, s) & larger) | (place & ~larger);
        }
        put_real(result, best, n);
        put_bytes(position, place, n);
    } else if (!backward) {
        vec sum = {0};
        WINDOW sum += get_real(middle + r * line + s * c, n);
        put_real(result, sum * share, n);
    } else if (maximum) {
        const vec g = get_real(result, n);
        const mask place = get_bytes(position, n);
        WINDOW {
            real *to = middle + r * line + s * c;
            put_real(to, get_real(to, n) + (vec)((mask)g & (place == number(r, s))), n);
        }
    } else {
        const vec g = get_real(result, n) * share;
        WINDOW {
            real *to = middle + r * line + s * c;
            put_real(to, get_real(to, n) + g, n);
        }
    }
#undef WINDOW
}

INLINE void run_images(const Pools f, const int backward, const int maximum, int64_t first, int64_t last) {
    const int64_t c = f.channels, line = f.width * c, height = (f.height - 1) / f.stride + 1, width = (f.width - 1) / f.stride + 1;
    real *images = backward ? f.y : (real *)f.x, *results = backward ? (real *)f.x : f.y;
    for (int64_t b = first; b < last; b++)
        for (int64_t i = 0; i < height; i++)
            for (int64_t j = 0; j < width; j++) {
                const int64_t y = i * f.stride, x = j * f.stride, at = ((b * height + i) * width + j) * c;
                real *middle = images + (b * f.height + y) * line + x * c;
                const int r0 = y > 0 ? -1 : 0, r1 = y + 1 < f.height ? 2 : 1, s0 = x > 0 ? -1 : 0, s1 = x + 1 < f.width ? 2 : 1;
                const int whole = r1 - r0 == 3 && s1 - s0 == 3;
                for (int64_t v = 0; v < c; v += LANES) {
                    uint8_t *position = maximum ? f.position + at + v : NULL;
                    real *to = middle + v, *result = results + at + v;
                    if (whole && c - v >= LANES) run_window(backward, maximum, line, c, LANES, to, result, position, -1, 2, -1, 2);
                    else run_window(backward, maximum, line, c, c - v, to, result, position, r0, r1, s0, s1);
                }
            }
}

static void run_part(void *job, int64_t me) {
    const Pools *f = job;
    const int64_t first = f->batch * me / f->threads, last = f->batch * (me + 1) / f->threads;
    if (f->backward) f->position ? run_images(*f, 1, 1, first, last) : run_images(*f, 1, 0, first, last);
    else f->position ? run_images(*f, 0, 1, first, last) : run_images(*f, 0, 0, first, last);
}

/* Returns 0. */
int NAME(ddarts_pools)(const Pools *f) {
    on_threads(run_part, (void *)f, f->threads);
    return 0;
}
