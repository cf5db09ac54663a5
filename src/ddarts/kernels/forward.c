/* ReLU - depthwise - pointwise convolution on all edges that leave a state, and the statistics of the result.
 *
 * A thread takes an image, or some of its rows, rectifies them once into a padded buffer that stays in its cache, and carries
 * a few pixels at a time through both convolutions. With `mean` and `var`, every edge has an image of its own, which is
 * normalised before the ReLU: the second half of a separable convolution.
 *
 * Statistics are exact to rounding: sums of a part are taken around its first pixel, and parts are put together in double
 * precision in one order, whatever the number of threads.
 */
#include "lanes.h"

typedef struct {
    const real *x;            /* [B, H, W, C]; [B, H, W, E * C] with mean and var */
    const float *mean, *var;  /* [E * C] or NULL */
    const float *scale, *shift; /* of that batch norm [E * C], or NULL for 1 and 0 */
    const float *depthwise;   /* [E * C, k, k] */
    const float *pointwise;   /* [E * C, C] */
    real *z;                  /* [B, H', W', E * C] between the convolutions, or NULL */
    real *u;                  /* [B, H', W', E * C] */
    float *mean_u, *var_u;    /* [E * C], the biased variance */
    int64_t batch, height, width, channels, edges, kernel, stride, dilation, threads;
    double eps;
} Forward;

typedef struct {
    const Forward *f;
    int64_t p, pad, out_height, out_width;
    int64_t rows, bands;        /* output rows a band, bands an image */
    int64_t line, buffer_rows;  /* pixels a buffer row */
    float *depthwise, *pointwise, *scale, *shift; /* per edge [k * k][p], [c][p], [p], [p] */
    double *parts;              /* [B * bands][E][mean, sum of squares][c] */
    int stream_z, stream_u, failed;
} Plan;

static int64_t rows_of(const Plan *plan, int64_t band) {
    const int64_t left = plan->out_height - band * plan->rows;
    return left < plan->rows ? left : plan->rows;
}

/* All pixels of a band on one edge. `room` holds two tiles and three rows of p numbers. */
INLINE void run_edge(const Plan *plan, const int k, const int dilation, const int stride, int64_t image, int64_t band, int64_t edge,
                     const float *buffer, float *room) {
    const Forward *f = plan->f;
    const int64_t p = CHANNELS(plan->p), c = CHANNELS(f->channels), wide = f->edges * c, rows = rows_of(plan, band);
    const float *depthwise = plan->depthwise + edge * k * k * p, *pointwise = plan->pointwise + edge * c * p;
    float *tile = room, *spare = tile + PIXELS * p, *shift = spare + PIXELS * p, *sums = shift + p;
    memset(sums, 0, 2 * p * sizeof(float));
    for (int64_t r = 0; r < rows; r++) {
        const int64_t start = (image * plan->out_height + band * plan->rows + r) * plan->out_width;
        for (int64_t x = 0; x < plan->out_width; x += PIXELS) {
            const int64_t n = plan->out_width - x < PIXELS ? plan->out_width - x : PIXELS, at = (start + x) * wide + edge * c;
            const float *from = buffer + (r * plan->line + x) * stride * p;
            depthwise_tile(k, dilation, stride, from, plan->line * p, p, depthwise, tile);
            if (f->z) copy_tile(tile, n, c, p, f->z + at, wide, plan->stream_z);
            multiply_tile(tile, p, pointwise, c, p, spare, p);
            copy_tile(spare, n, c, p, f->u + at, wide, plan->stream_u);
            add_statistics(spare, n, p, r + x == 0, shift, sums);
        }
    }
    double *part = plan->parts + ((image * plan->bands + band) * f->edges + edge) * 2 * c;
    const double count = (double)(rows * plan->out_width);
    for (int64_t i = 0; i < c; i++) {
        part[i] = shift[i] + sums[i] / count;
        part[c + i] = sums[p + i] - (double)sums[i] * sums[i] / count;
    }
}

static void run_part(void *job, int64_t me) {
    Plan *plan = job;
    const Forward *f = plan->f;
    const int64_t p = CHANNELS(plan->p), c = CHANNELS(f->channels);
    const int64_t items = f->batch * plan->bands, in_channels = f->mean ? f->edges * c : c;
    const int64_t size = plan->buffer_rows * plan->line * p;
    float *buffer = scratch(size + 2 * PIXELS * p + 3 * p);
    if (!buffer) {
        plan->failed = 1;
        return;
    }
    for (int64_t item = items * me / f->threads; item < items * (me + 1) / f->threads; item++) {
        const int64_t image = item / plan->bands, band = item % plan->bands;
        const int64_t count = (rows_of(plan, band) - 1) * f->stride + (f->kernel - 1) * f->dilation + 1;
        for (int64_t e = 0; e < f->edges; e++) {
            if (e == 0 || f->mean)
                rectify_rows(f->x + image * f->height * f->width * in_channels + (f->mean ? e * c : 0), f->height, f->width,
                             in_channels, c, p, f->mean ? plan->scale + e * p : NULL, f->mean ? plan->shift + e * p : NULL,
                             band * plan->rows * f->stride - plan->pad, count, plan->pad, plan->line, buffer);
            switch (f->kernel * 4 + f->dilation * 2 + f->stride) {
#define CASE(k, d, s) case k * 4 + d * 2 + s: run_edge(plan, k, d, s, image, band, e, buffer, buffer + size); break;
                CASE(3, 1, 1) CASE(3, 1, 2) CASE(3, 2, 1) CASE(3, 2, 2)
                CASE(5, 1, 1) CASE(5, 1, 2) CASE(5, 2, 1) CASE(5, 2, 2)
#undef CASE
            }
        }
    }
    end_streaming();
}

/* Statistics of all parts from those of each (Chan, Golub & LeVeque, 1979). */
static void put_together(const Plan *plan) {
    const Forward *f = plan->f;
    const int64_t c = f->channels, items = f->batch * plan->bands;
    const double all = (double)(f->batch * plan->out_height * plan->out_width);
    for (int64_t e = 0; e < f->edges; e++)
        for (int64_t i = 0; i < c; i++) {
            double mean = 0, square = 0;
            for (int64_t item = 0; item < items; item++)
                mean += (double)(rows_of(plan, item % plan->bands) * plan->out_width) * plan->parts[(item * f->edges + e) * 2 * c + i];
            mean /= all;
            for (int64_t item = 0; item < items; item++) {
                const double *part = plan->parts + (item * f->edges + e) * 2 * c + i;
                square += part[c] + (double)(rows_of(plan, item % plan->bands) * plan->out_width) * (part[0] - mean) * (part[0] - mean);
            }
            f->mean_u[e * c + i] = (float)mean;
            f->var_u[e * c + i] = (float)(square / all);
        }
}

/* Lay the weights of each edge as the loops read them: channels last and padded. */
static void pack(Plan *plan) {
    const Forward *f = plan->f;
    const int64_t c = f->channels, p = plan->p, taps = f->kernel * f->kernel;
    for (int64_t e = 0; e < f->edges; e++)
        for (int64_t i = 0; i < c; i++) {
            const int64_t row = e * c + i;
            for (int64_t t = 0; t < taps; t++) plan->depthwise[(e * taps + t) * p + i] = f->depthwise[row * taps + t];
            for (int64_t o = 0; o < c; o++) plan->pointwise[row * p + o] = f->pointwise[(e * c + o) * c + i];
            if (f->mean) {
                const double scale = (f->scale ? f->scale[row] : 1) / sqrt(f->var[row] + f->eps);
                plan->scale[e * p + i] = (float)scale;
                plan->shift[e * p + i] = (f->shift ? f->shift[row] : 0) - f->mean[row] * (float)scale;
            }
        }
}

#if !defined(BFLOAT16) && !defined(NARROW)
int ddarts_forward_narrow(const Forward *f);
#endif

/* Returns 0, or 1 if there is no memory. */
int NAME(ddarts_forward)(const Forward *f) {
#if !defined(BFLOAT16) && !defined(NARROW)
    if (f->channels == LANES) return ddarts_forward_narrow(f);
#endif
    Plan plan = {.f = f, .p = round_up(f->channels, LANES), .pad = f->dilation * (f->kernel / 2)};
    const int64_t p = plan.p, reach = (f->kernel - 1) * f->dilation + 1, matrix = f->edges * p;
    plan.out_height = (f->height - 1) / f->stride + 1;
    plan.out_width = (f->width - 1) / f->stride + 1;
    const int64_t pixels = f->batch * plan.out_height * plan.out_width;
    plan.stream_z = f->z && streams(f->z, pixels, f->edges, f->channels);
    plan.stream_u = streams(f->u, pixels, f->edges, f->channels);
    plan.line = (round_up(plan.out_width, PIXELS) - 1) * f->stride + reach;
    plan.rows = rows_in_cache(plan.line * p, reach, f->stride, plan.out_height);
    plan.bands = round_up(plan.out_height, plan.rows) / plan.rows;
    plan.buffer_rows = (plan.rows - 1) * f->stride + reach;
    float *weights = calloc(matrix * (f->kernel * f->kernel + f->channels + 2), sizeof(float));
    plan.parts = malloc(f->batch * plan.bands * f->edges * 2 * f->channels * sizeof(double));
    plan.failed = !weights || !plan.parts;
    if (!plan.failed) {
        plan.depthwise = weights;
        plan.pointwise = weights + matrix * f->kernel * f->kernel;
        plan.scale = plan.pointwise + matrix * f->channels;
        plan.shift = plan.scale + matrix;
        pack(&plan);
        on_threads(run_part, &plan, f->threads);
    }
    if (!plan.failed) put_together(&plan);
    free(weights);
    free(plan.parts);
    return plan.failed;
}

#if !defined(BFLOAT16) && !defined(NARROW)
int ddarts_has_threads(void) { return has_threads(); }
#endif
