/* 3x3 convolutions of stride 1 with a pixel of padding, by Winograd's minimal filtering (Lavin & Gray, arXiv 1509.09308):
 * 16 products for 2x2 pixels of the result where the definition has 36. And the gradients at their weights.
 *
 * A tile is 2x2 pixels of the result; it reads 4x4 pixels d. With the matrices A [4][2], B [4][4] and G [4][3] of the paper,
 * Y = At [(G g Gt) * (Bt d B)] A, where * is a matrix product over channels for each of the 16 places. So the gradient at
 * g is Gt [(Bt d B)t * (A dY At)] G.
 */
#include "lanes.h"

typedef struct {
    const real *x;          /* [batch, height, width, inputs] */
    const float *weight;    /* [outputs, inputs, 3, 3]; transposed: [inputs, outputs, 3, 3], to be mirrored */
    real *y;                /* [batch, height, width, outputs] */
    const real *grad;       /* at y; NULL: y is wanted, else at_weight */
    float *at_weight;       /* [outputs, inputs, 3, 3] */
    int64_t batch, height, width, inputs, outputs, transposed, threads;
} Winograd;

typedef struct {
    const Winograd *f;
    int64_t p, q;           /* inputs and outputs, rounded up to whole vectors */
    int64_t across, down;   /* tiles in a row and in a column of an image */
    int64_t rows;           /* of tiles, of one image or of several, that are worked on together */
    int64_t places, results; /* floats from one of the 16 places of transformed inputs, and of results, to the next: not a power
                                of two, or all places of a tile would share few lines of the cache */
    float *u;               /* [16][inputs][q]: the transformed weights */
    double *sums;           /* per thread [16][inputs][q]: gradients at them */
    int failed;
} Plan;

enum { TOGETHER = 32, FLUSH = 64 }; /* tiles; blocks of tiles whose gradients are added in single precision */

/* Four rows of an image from `first` on, between columns of zeros, in padded pixels. */
INLINE void load_rows(const real *image, int64_t height, int64_t width, int64_t c, int64_t p, int64_t first, int64_t line, float *to) {
    for (int64_t r = first; r < first + 4; r++, to += line * p) {
        if (r < 0 || r >= height) {
            memset(to, 0, line * p * sizeof(float));
            continue;
        }
        memset(to, 0, p * sizeof(float));
        float *at = to + p;
        for (const real *from = image + r * width * c, *end = from + width * c; from < end; from += c, at += p)
            for (int64_t v = 0; v < p; v += LANES) store(at + v, get_real(from + v, c - v));
        memset(at, 0, (line - 1 - width) * p * sizeof(float));
    }
}

typedef struct { vec a, b, c, d; } Four;

/* Bt times a column of four numbers `line` floats apart. */
INLINE Four column(const float *at, int64_t line) {
    const vec r = load(at), s = load(at + line), t = load(at + 2 * line), u = load(at + 3 * line);
    return (Four){r - t, s + t, t - s, s - u};
}

INLINE void times_b(vec a, vec b, vec c, vec d, int64_t place, float *to) {
    store(to, a - c);
    store(to + place, b + c);
    store(to + 2 * place, c - b);
    store(to + 3 * place, b - d);
}

/* Bt d B of the tiles of a row: to the 16 places of `to`. */
INLINE void transform_inputs(const float *rows, int64_t line, int64_t tiles, int64_t p, int64_t place, float *to) {
    for (int64_t v = 0; v < p; v += LANES) {
        Four e = column(rows + v, line * p), f = column(rows + p + v, line * p);
        for (int64_t t = 0; t < tiles; t++) {
            const Four g = column(rows + (2 * t + 2) * p + v, line * p), h = column(rows + (2 * t + 3) * p + v, line * p);
            float *at = to + t * p + v;
            times_b(e.a, f.a, g.a, h.a, place, at);
            times_b(e.b, f.b, g.b, h.b, place, at + 4 * place);
            times_b(e.c, f.c, g.c, h.c, place, at + 8 * place);
            times_b(e.d, f.d, g.d, h.d, place, at + 12 * place);
            e = g;
            f = h;
        }
    }
}

/* At m A of the tiles of a row, into the image. */
INLINE void transform_outputs(const Plan *plan, const float *m, int64_t tiles, int64_t row, real *image) {
    const int64_t k = plan->f->outputs, q = plan->q, width = plan->f->width, place = plan->results;
    const int second = 2 * row + 1 < plan->f->height;
    for (int64_t t = 0; t < tiles; t++) {
        real *to = image + (2 * row * width + 2 * t) * k;
        const int right = 2 * t + 1 < width;
        for (int64_t v = 0; v < q; v += LANES) {
            const float *at = m + t * q + v;
#define COLUMN(j)                                                                                             \
    const vec m0##j = load(at + j * place), m1##j = load(at + (4 + j) * place), m2##j = load(at + (8 + j) * place), \
              m3##j = load(at + (12 + j) * place), up##j = m0##j + m1##j + m2##j, down##j = m1##j - m2##j - m3##j;
            COLUMN(0) COLUMN(1) COLUMN(2) COLUMN(3)
#undef COLUMN
            put_real(to + v, up0 + up1 + up2, k - v);
            if (right) put_real(to + k + v, up1 - up2 - up3, k - v);
            if (!second) continue;
            put_real(to + width * k + v, down0 + down1 + down2, k - v);
            if (right) put_real(to + (width + 1) * k + v, down1 - down2 - down3, k - v);
        }
    }
}

/* A dY At of the tiles of a row. */
INLINE void transform_gradients(const Plan *plan, const real *image, int64_t tiles, int64_t row, float *to) {
    const int64_t k = plan->f->outputs, q = plan->q, width = plan->f->width, place = plan->results;
    const int second = 2 * row + 1 < plan->f->height;
    for (int64_t t = 0; t < tiles; t++) {
        const real *from = image + (2 * row * width + 2 * t) * k;
        const int right = 2 * t + 1 < width;
        for (int64_t v = 0; v < q; v += LANES) {
            const vec zero = {0};
            const vec y00 = get_real(from + v, k - v), y01 = right ? get_real(from + k + v, k - v) : zero;
            const vec y10 = second ? get_real(from + width * k + v, k - v) : zero;
            const vec y11 = second && right ? get_real(from + (width + 1) * k + v, k - v) : zero;
            float *at = to + t * q + v;
#define ROW(i, left, right)                            \
    {                                                  \
        const vec l = left, r = right;                 \
        store(at + (4 * i) * place, l);                \
        store(at + (4 * i + 1) * place, l + r);        \
        store(at + (4 * i + 2) * place, l - r);        \
        store(at + (4 * i + 3) * place, -r);           \
    }
            ROW(0, y00, y01)
            ROW(1, y00 + y10, y01 + y11)
            ROW(2, y00 - y10, y01 - y11)
            ROW(3, -y10, -y11)
#undef ROW
        }
    }
}

static void run_part(void *job, int64_t me) {
    Plan *plan = job;
    const Winograd *f = plan->f;
    const int64_t c = f->inputs, p = plan->p, q = plan->q, places = plan->places, results = plan->results, across = plan->across, line = 2 * across + 2;
    const int64_t down = plan->down, all = (f->batch * down + plan->rows - 1) / plan->rows;
    const int64_t weights = 16 * c * q, pixels = f->height * f->width;
    float *rows = scratch(4 * line * p + 16 * (places + results) + (f->grad ? weights : 0));
    if (!rows) {
        plan->failed = 1;
        return;
    }
    float *v = rows + 4 * line * p, *m = v + 16 * places, *part = m + 16 * results;
    double *sums = plan->sums + me * weights;
    if (f->grad) memset(part, 0, weights * sizeof(float));
    int64_t waiting = 0;
    for (int64_t block = all * me / f->threads, last = all * (me + 1) / f->threads; block < last; block++) {
        const int64_t top = block * plan->rows, end = top + plan->rows, bottom = end < f->batch * down ? end : f->batch * down;
        const int64_t tiles = (bottom - top) * across;
        for (int64_t row = top; row < bottom; row++) {
            const int64_t first = (row - top) * across;
            load_rows(f->x + row / down * pixels * c, f->height, f->width, c, p, row % down * 2 - 1, line, rows);
            transform_inputs(rows, line, across, p, places, v + first * p);
            if (f->grad) transform_gradients(plan, f->grad + row / down * pixels * f->outputs, across, row % down, m + first * q);
        }
        if (f->grad) {
            for (int64_t k = 0; k < 16; k++)
                add_products(v + k * places, p, c, m + k * results, q, tiles, part + k * c * q);
            if (++waiting < FLUSH && block + 1 < last) continue;
            for (int64_t i = 0; i < weights; i++) sums[i] += part[i];
            memset(part, 0, weights * sizeof(float));
            waiting = 0;
            continue;
        }
        for (int64_t k = 0; k < 16; k++)
            for (int64_t t = 0; t < tiles; t += 8)
                multiply_eight(v + k * places + t * p, p, plan->u + k * c * q, c, q, m + k * results + t * q, q);
        for (int64_t row = top; row < bottom; row++)
            transform_outputs(plan, m + (row - top) * across * q, across, row % down, f->y + row / down * pixels * f->outputs);
    }
}

/* u = G g Gt of all weights. */
static void transform_weights(const Plan *plan) {
    const Winograd *f = plan->f;
    for (int64_t o = 0; o < f->outputs; o++)
        for (int64_t i = 0; i < f->inputs; i++) {
            float g[3][3], rows[4][3];
            for (int r = 0; r < 3; r++)
                for (int s = 0; s < 3; s++)
                    g[r][s] = f->transposed ? f->weight[(i * f->outputs + o) * 9 + 8 - 3 * r - s] : f->weight[(o * f->inputs + i) * 9 + 3 * r + s];
            for (int s = 0; s < 3; s++) {
                rows[0][s] = g[0][s];
                rows[1][s] = (g[0][s] + g[1][s] + g[2][s]) / 2;
                rows[2][s] = (g[0][s] - g[1][s] + g[2][s]) / 2;
                rows[3][s] = g[2][s];
            }
            float *to = plan->u + i * plan->q + o;
            const int64_t place = f->inputs * plan->q;
            for (int r = 0; r < 4; r++) {
                to[(4 * r) * place] = rows[r][0];
                to[(4 * r + 1) * place] = (rows[r][0] + rows[r][1] + rows[r][2]) / 2;
                to[(4 * r + 2) * place] = (rows[r][0] - rows[r][1] + rows[r][2]) / 2;
                to[(4 * r + 3) * place] = rows[r][2];
            }
        }
}

/* Gt du G of all weights, du added up over threads. */
static void gather_gradients(const Plan *plan) {
    const Winograd *f = plan->f;
    const int64_t place = f->inputs * plan->q;
    for (int64_t o = 0; o < f->outputs; o++)
        for (int64_t i = 0; i < f->inputs; i++) {
            double u[4][4], rows[3][4];
            for (int k = 0; k < 16; k++) {
                u[k / 4][k % 4] = 0;
                for (int64_t t = 0; t < f->threads; t++) u[k / 4][k % 4] += plan->sums[(t * 16 + k) * place + i * plan->q + o];
            }
            for (int s = 0; s < 4; s++) {
                rows[0][s] = u[0][s] + (u[1][s] + u[2][s]) / 2;
                rows[1][s] = (u[1][s] - u[2][s]) / 2;
                rows[2][s] = (u[1][s] + u[2][s]) / 2 + u[3][s];
            }
            float *to = f->at_weight + (o * f->inputs + i) * 9;
            for (int r = 0; r < 3; r++) {
                to[3 * r] = (float)(rows[r][0] + (rows[r][1] + rows[r][2]) / 2);
                to[3 * r + 1] = (float)((rows[r][1] - rows[r][2]) / 2);
                to[3 * r + 2] = (float)((rows[r][1] + rows[r][2]) / 2 + rows[r][3]);
            }
        }
}

/* Returns 0, or 1 if there is no memory. */
int NAME(ddarts_winograd)(const Winograd *f) {
    Plan plan = {.f = f, .p = round_up(f->inputs, LANES), .q = round_up(f->outputs, LANES)};
    const int64_t weights = 16 * f->inputs * plan.q;
    plan.across = (f->width + 1) / 2;
    plan.down = (f->height + 1) / 2;
    plan.rows = plan.across < TOGETHER ? TOGETHER / plan.across : 1;
    const int64_t most = round_up(plan.rows * plan.across, 8);
    plan.places = most * plan.p + 16;
    plan.results = most * plan.q + 16;
    plan.u = f->grad ? NULL : calloc(weights, sizeof(float));
    plan.sums = f->grad ? calloc(f->threads * weights, sizeof(double)) : NULL;
    if (!plan.u && !plan.sums) return 1;
    if (!f->grad) transform_weights(&plan);
    on_threads(run_part, &plan, f->threads);
    if (f->grad && !plan.failed) gather_gradients(&plan);
    free(plan.u);
    free(plan.sums);
    return plan.failed;
}
