/* Batch norm, a sum and ReLU in training: y = ReLU(scale * (x - mean) / sqrt(var + eps) + shift + extra), and the gradients.
 *
 * Two passes each way: over x for the statistics, then for y; over the gradient and x for two sums a channel, then for the
 * gradient at x.
 */
#include "lanes.h"

typedef struct {
    const real *x, *extra;      /* [pixels, C]; extra: what is added before the ReLU, or NULL */
    real *y;                    /* [pixels, C]; in the backward pass it says where the ReLU passed, NULL: there was none */
    const real *grad;           /* at y; NULL in the forward pass */
    real *at_x, *at_extra;      /* the gradients; at_extra NULL: not wanted */
    float *mean, *var;          /* [C], variances are biased: written in the forward pass, read in the backward pass */
    const float *scale, *shift; /* [C], or NULL */
    float *sum, *dot;           /* [C]: of the gradient after the ReLU, and of it times the normalised x */
    int64_t pixels, channels, relu, threads;
    double eps;
} Norms;

/* Pixels are taken `group` at a time, so that their channels together fill vectors: `wide` numbers a row. */
typedef struct {
    const Norms *f;
    int64_t rows, wide, p;                      /* p: wide, rounded up to whole vectors */
    float *around, *factors, *slopes, *constants; /* [p] */
    double *parts;                              /* per thread [2][p] */
} Plan;

/* What stays in the first cache: numbers of an image that are worked on together. */
enum { BLOCK = 2048 };

INLINE vec gradient(const Norms *f, int64_t at, int64_t n) {
    const vec g = get_real(f->grad + at, n);
    return f->y ? where_positive(g, get_real(f->y + at, n)) : g;
}

/* Sums of a block in single precision, around `around`; those of all in double precision. */
INLINE void add_block(const Plan *plan, const int backward, int64_t start, int64_t end, double *to) {
    const Norms *f = plan->f;
    const int64_t w = plan->wide;
    for (int64_t v = 0; v < plan->p; v += LANES) {
        const int64_t n = w - v;
        const vec around = load(plan->around + v);
        vec one[4] = {{0}, {0}, {0}, {0}}, two[4] = {{0}, {0}, {0}, {0}};
        int64_t r = start;
#define ADD(k, row)                                                                        \
    {                                                                                      \
        const int64_t at = (row) * w + v;                                                  \
        const vec d = get_real(f->x + at, n) - around, g = backward ? gradient(f, at, n) : d; \
        one[k] += g;                                                                       \
        two[k] += g * d;                                                                   \
    }
        for (; r + 4 <= end; r += 4) {
            ADD(0, r) ADD(1, r + 1) ADD(2, r + 2) ADD(3, r + 3)
        }
        for (; r < end; r++) ADD(0, r)
#undef ADD
        const vec sum = (one[0] + one[1]) + (one[2] + one[3]), dot = (two[0] + two[1]) + (two[2] + two[3]);
        for (int64_t l = 0; l < LANES; l++) {
            to[v + l] += sum[l];
            to[plan->p + v + l] += dot[l];
        }
    }
}

INLINE void write(real *to, vec v, int64_t n, const int stream) {
    if (stream) stream_real(to, v);
    else put_real(to, v, n);
}

/* As the numbers lie in memory, so that whole lines are written. */
INLINE void write_rows(const Plan *plan, const int backward, const int more, const int relu, const int stream, int64_t first,
                       int64_t last) {
    const Norms *f = plan->f;
    const int64_t w = plan->wide;
    for (int64_t r = first; r < last; r++)
        for (int64_t v = 0; v < plan->p; v += LANES) {
            const int64_t n = w - v, at = r * w + v;
            const vec x = get_real(f->x + at, n), factor = load(plan->factors + v), constant = load(plan->constants + v);
            if (backward) {
                const vec g = gradient(f, at, n);
                write(f->at_x + at, factor * g + (load(plan->slopes + v) * x + constant), n, stream);
                if (more) write(f->at_extra + at, g, n, stream);
            } else {
                vec sum = factor * x + constant;
                if (more) sum += get_real(f->extra + at, n);
                write(f->y + at, relu ? where_positive(sum, sum) : sum, n, stream);
            }
        }
}

static void measure_part(void *job, int64_t me) {
    const Plan *plan = job;
    const int64_t first = plan->rows * me / plan->f->threads, last = plan->rows * (me + 1) / plan->f->threads;
    const int64_t step = BLOCK / plan->wide + 1;
    for (int64_t start = first; start < last; start += step) {
        const int64_t end = start + step < last ? start + step : last;
        double *to = plan->parts + me * 2 * plan->p;
        if (plan->f->grad) add_block(plan, 1, start, end, to);
        else add_block(plan, 0, start, end, to);
    }
}

INLINE void write_kind(const Plan *plan, const int stream, int64_t first, int64_t last) {
    const Norms *f = plan->f;
    if (f->grad && f->at_extra) write_rows(plan, 1, 1, 0, stream, first, last);
    else if (f->grad) write_rows(plan, 1, 0, 0, stream, first, last);
    else if (f->extra && f->relu) write_rows(plan, 0, 1, 1, stream, first, last);
    else if (f->extra) write_rows(plan, 0, 1, 0, stream, first, last);
    else if (f->relu) write_rows(plan, 0, 0, 1, stream, first, last);
    else write_rows(plan, 0, 0, 0, stream, first, last);
}

static void write_part(void *job, int64_t me) {
    const Plan *plan = job;
    const Norms *f = plan->f;
    const int64_t first = plan->rows * me / f->threads, last = plan->rows * (me + 1) / f->threads;
    const real *to = f->grad ? f->at_x : f->y;
    if (plan->wide == plan->p && streams(to, plan->rows, 1, plan->wide) && (uintptr_t)f->at_extra % 64 == 0) {
        write_kind(plan, 1, first, last);
        end_streaming();
    } else write_kind(plan, 0, first, last);
}

/* The two sums of channel `i` over threads and the pixels of a row. */
static void add_up(const Plan *plan, int64_t i, double *one, double *two) {
    *one = *two = 0;
    for (int64_t thread = 0; thread < plan->f->threads; thread++)
        for (int64_t k = i; k < plan->wide; k += plan->f->channels) {
            *one += plan->parts[thread * 2 * plan->p + k];
            *two += plan->parts[(thread * 2 + 1) * plan->p + k];
        }
}

/* Returns 0, or 1 if there is no memory. */
int NAME(ddarts_norms)(const Norms *f) {
    const int64_t c = f->channels;
    int64_t group = 1;
    while (group * c * sizeof(real) % 64 && group < 64) group *= 2;
    if (f->pixels % group) group = 1;
    Plan plan = {.f = f, .rows = f->pixels / group, .wide = group * c, .p = round_up(group * c, LANES)};
    plan.around = calloc(4 * plan.p, sizeof(float));
    plan.parts = calloc(f->threads * 2 * plan.p, sizeof(double));
    if (!plan.around || !plan.parts) {
        free(plan.around);
        free(plan.parts);
        return 1;
    }
    plan.factors = plan.around + plan.p;
    plan.slopes = plan.factors + plan.p;
    plan.constants = plan.slopes + plan.p;
    for (int64_t k = 0; k < plan.wide; k++) {
        const vec first = get_real(f->x + k % c, 1);
        plan.around[k] = f->grad ? f->mean[k % c] : first[0];
    }
    on_threads(measure_part, &plan, f->threads);
    for (int64_t i = 0; i < c; i++) {
        double sum, dot;
        add_up(&plan, i, &sum, &dot);
        float factor, slope = 0, constant;
        if (f->grad) {
            dot /= sqrt(f->var[i] + f->eps);
            f->sum[i] = (float)sum;
            f->dot[i] = (float)dot;
            norm_gradient(f->var[i], f->mean[i], f->scale ? f->scale[i] : 1, sum, dot, f->pixels, f->eps, &factor, &slope, &constant);
        } else {
            const double mean = sum / (double)f->pixels, var = dot / (double)f->pixels - mean * mean;
            f->mean[i] = (float)(plan.around[i] + mean);
            f->var[i] = var > 0 || var != var ? (float)var : 0;
            const double times = (f->scale ? f->scale[i] : 1) / sqrt(f->var[i] + f->eps);
            factor = (float)times;
            constant = (float)((f->shift ? f->shift[i] : 0) - times * (plan.around[i] + mean));
        }
        for (int64_t k = i; k < plan.wide; k += c) {
            plan.factors[k] = factor;
            plan.slopes[k] = slope;
            plan.constants[k] = constant;
        }
    }
    on_threads(write_part, &plan, f->threads);
    free(plan.around);
    free(plan.parts);
    return 0;
}
