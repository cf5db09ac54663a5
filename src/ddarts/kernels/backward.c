/* The backward pass of forward.c: from the gradient at a batch norm's result to those at its source and at the weights.
 *
 * The batch norm's gradient at its input u is a g + b u + d with three numbers a channel, so it is never laid down in memory:
 * a few pixels of it at a time go back through the pointwise convolution into a padded buffer, from which the depthwise
 * convolution is undone, as a convolution with the kernel flipped. At stride 2 the buffer has zeros between the pixels.
 *
 * The source is a state that all edges share, whose gradient is summed over them; or, with `mean_x` and `var_x`, an image for
 * each edge that was normalised before its ReLU: then the sums that this batch norm's own gradient needs are taken as well.
 */
#include "lanes.h"

typedef struct {
    const real *grad, *u, *z;        /* [B, H', W', E * C]: at the batch norm's result, its input, and that of the pointwise
                                        convolution (NULL if weights are not trained) */
    const float *mean, *var, *scale; /* [E * C]; no scale: NULL */
    const float *sum, *dot;          /* [E * C]: of grad, and of grad * normalised u */
    const real *x;                   /* [B, H, W, C]; [B, H, W, E * C] with mean_x and var_x */
    const float *mean_x, *var_x;     /* [E * C] or NULL */
    const float *scale_x, *shift_x;  /* of that batch norm [E * C], or NULL for 1 and 0 */
    const float *depthwise;          /* [E * C, k, k] */
    const float *pointwise;          /* [E * C, C] */
    real *at_x;                      /* as x, before its batch norm; NULL if not wanted */
    float *sum_x, *dot_x;            /* [E * C]: of at_x, and of at_x * normalised x; with mean_x only */
    float *at_depthwise, *at_pointwise; /* as the weights; NULL if they are not trained */
    int64_t batch, height, width, channels, edges, kernel, stride, dilation, threads;
    int64_t adds;                    /* add to at_x */
    double eps;
} Backward;

typedef struct {
    const Backward *f;
    int64_t p, pad, out_height, out_width;
    int64_t rows, bands;                 /* source rows a band, bands an image */
    int64_t line, buffer_rows;           /* pixels a buffer row */
    float *flipped, *pointwise;          /* per edge [k * k][p], [o][p] */
    float *of_grad, *of_u, *constant;    /* per edge [p]: the batch norm's gradient */
    float *scale_x, *shift_x, *around_x; /* per edge [p]: the source's batch norm, and its mean */
    float *at_weights;                   /* per thread and edge [c][p], [k * k][p] */
    double *parts;                       /* [B * bands][E][sum, dot][c] */
    int failed;
} Plan;

INLINE int64_t rows_of(const Plan *plan, int64_t band) {
    const int64_t left = plan->f->height - band * plan->rows;
    return left < plan->rows ? left : plan->rows;
}

INLINE int64_t of_edge(const Plan *plan) { return (plan->f->channels + plan->f->kernel * plan->f->kernel) * plan->p; }

/* at_pointwise [o][p] += the tile's gradients at u times z. */
INLINE void add_pointwise(const float *tile, const float *z, int64_t c, int64_t p, float *to) {
    for (int64_t v = 0; v < p; v += LANES) {
#define PIXEL(q) const vec z##q = load(z + q * p + v);
        EACH(PIXEL)
        for (int64_t o = 0; o < c; o++) {
            vec sum = load(to + o * p + v);
#define STEP(q) sum += tile[q * p + o] * z##q;
            EACH(STEP)
            store(to + o * p + v, sum);
        }
#undef PIXEL
#undef STEP
    }
}

/* Gradients at z of the output rows that reach a band, into the buffer; those at the pointwise weights of its own rows. */
static void undo_pointwise(const Plan *plan, int64_t image, int64_t band, int64_t edge, float *buffer, float *room, float *at_pointwise) {
    const Backward *f = plan->f;
    const int64_t p = CHANNELS(plan->p), c = CHANNELS(f->channels), wide = f->edges * c, top = band * plan->rows, below = top + rows_of(plan, band);
    const float *a = plan->of_grad + edge * p, *b = plan->of_u + edge * p, *d = plan->constant + edge * p;
    float *tile = room, *spare = tile + PIXELS * p;
    for (int64_t y = 0; y < plan->out_height; y++) {
        const int64_t row = y * f->stride - top + plan->pad;
        if (row < 0 || row >= plan->buffer_rows) continue;
        const int own = y * f->stride >= top && y * f->stride < below;
        for (int64_t x = 0; x < plan->out_width; x += PIXELS) {
            const int64_t n = plan->out_width - x < PIXELS ? plan->out_width - x : PIXELS;
            const int64_t at = ((image * plan->out_height + y) * plan->out_width + x) * wide + edge * c;
            for (int64_t v = 0; v < p; v += LANES) {
                const vec va = load(a + v), vb = load(b + v), vd = load(d + v);
                for (int64_t q = 0; q < n; q++)
                    store(tile + q * p + v, va * get_real(f->grad + at + q * wide + v, c - v) + (vb * get_real(f->u + at + q * wide + v, c - v) + vd));
            }
            if (n < PIXELS) memset(tile + n * p, 0, (PIXELS - n) * p * sizeof(float));
            float *to = buffer + (row * plan->line + x * f->stride + plan->pad) * p;
            if (n == PIXELS) multiply_tile(tile, p, plan->pointwise + edge * c * p, c, p, to, f->stride * p);
            else {
                multiply_tile(tile, p, plan->pointwise + edge * c * p, c, p, spare, p);
                for (int64_t q = 0; q < n; q++) memcpy(to + q * f->stride * p, spare + q * p, p * sizeof(float));
            }
            if (at_pointwise && own) {
                for (int64_t q = 0; q < n; q++)
                    for (int64_t v = 0; v < p; v += LANES) store(spare + q * p + v, get_real(f->z + at + q * wide + v, c - v));
                if (n < PIXELS) memset(spare + n * p, 0, (PIXELS - n) * p * sizeof(float));
                add_pointwise(tile, spare, c, p, at_pointwise);
            }
        }
    }
}

/* The gradient at the source of one tile's pixels, from that at what the depthwise convolution read. */
INLINE void undo_relu(const Plan *plan, int64_t edge, int64_t at, int64_t n, const float *tile, float *sums) {
    const Backward *f = plan->f;
    const int64_t p = CHANNELS(plan->p), c = CHANNELS(f->channels), stride = f->mean_x ? f->edges * c : c;
    for (int64_t v = 0; v < p; v += LANES) {
        if (f->mean_x) {
            const vec scale = load(plan->scale_x + edge * p + v), shift = load(plan->shift_x + edge * p + v);
            const vec around = load(plan->around_x + edge * p + v);
            vec sum = load(sums + v), dot = load(sums + p + v);
            for (int64_t q = 0; q < n; q++) {
                const vec x = get_real(f->x + at + q * stride + v, c - v);
                const vec g = where_positive(load(tile + q * p + v), x * scale + shift);
                put_real(f->at_x + at + q * stride + v, g, c - v);
                sum += g;
                dot += g * (x - around);
            }
            store(sums + v, sum);
            store(sums + p + v, dot);
        } else
            for (int64_t q = 0; q < n; q++) {
                vec g = where_positive(load(tile + q * p + v), get_real(f->x + at + q * stride + v, c - v));
                if (edge > 0 || f->adds) g += get_real(f->at_x + at + q * stride + v, c - v);
                put_real(f->at_x + at + q * stride + v, g, c - v);
            }
    }
}

INLINE void undo_depthwise(const Plan *plan, const int k, const int dilation, int64_t image, int64_t band, int64_t edge,
                           const float *buffer, float *room) {
    const Backward *f = plan->f;
    const int64_t p = CHANNELS(plan->p), c = CHANNELS(f->channels), channels = f->mean_x ? f->edges * c : c, first = f->mean_x ? edge * c : 0;
    float *tile = room, *sums = room + 2 * PIXELS * p;
    memset(sums, 0, 2 * p * sizeof(float));
    for (int64_t r = 0; r < rows_of(plan, band); r++) {
        const int64_t start = (image * f->height + band * plan->rows + r) * f->width;
        for (int64_t x = 0; x < f->width; x += PIXELS) {
            depthwise_tile(k, dilation, 1, buffer + (r * plan->line + x) * p, plan->line * p, p, plan->flipped + edge * k * k * p, tile);
            undo_relu(plan, edge, (start + x) * channels + first, f->width - x < PIXELS ? f->width - x : PIXELS, tile, sums);
        }
    }
    if (!f->mean_x) return;
    double *part = plan->parts + ((image * plan->bands + band) * f->edges + edge) * 2 * c;
    for (int64_t i = 0; i < c; i++) {
        part[i] = sums[i];
        part[c + i] = sums[p + i];
    }
}

/* at_depthwise [k * k][p] += what was read times the gradient at z, of the output rows that are a band's own. */
INLINE void add_depthwise(const Plan *plan, const int k, const int dilation, int64_t band, const float *buffer, const float *read, float *to) {
    const Backward *f = plan->f;
    const int64_t p = CHANNELS(plan->p), top = band * plan->rows, below = top + rows_of(plan, band), step = f->stride * p;
    for (int64_t y = round_up(top, f->stride) / f->stride; y < plan->out_height && y * f->stride < below; y++) {
        const float *grad = buffer + ((y * f->stride - top + plan->pad) * plan->line + plan->pad) * p;
        for (int r = 0; r < k; r++) {
            const float *row = read + (y * f->stride - top + r * dilation) * plan->line * p;
            for (int64_t v = 0; v < p; v += LANES) {
                float *at = to + r * k * p + v;
                /* even and odd pixels apart, so that a sum need not wait for the one before */
#define COLUMNS(F) F(0) F(1) F(2) if (k == 5) { F(3) F(4) }
                vec even0 = {0}, even1 = {0}, even2 = {0}, even3 = {0}, even4 = {0};
                vec odd0 = {0}, odd1 = {0}, odd2 = {0}, odd3 = {0}, odd4 = {0};
                int64_t x = 0;
                for (; x + 1 < plan->out_width; x += 2) {
                    const vec g = load(grad + x * step + v), h = load(grad + (x + 1) * step + v);
                    const float *pixel = row + x * step + v;
#define PAIR(s) even##s += g * load(pixel + s * dilation * p); odd##s += h * load(pixel + step + s * dilation * p);
                    COLUMNS(PAIR)
                }
                if (x < plan->out_width) {
                    const vec g = load(grad + x * step + v);
                    const float *pixel = row + x * step + v;
#define LAST(s) even##s += g * load(pixel + s * dilation * p);
                    COLUMNS(LAST)
                }
#define ADD(s) store(at + s * p, load(at + s * p) + (even##s + odd##s));
                COLUMNS(ADD)
#undef COLUMNS
#undef PAIR
#undef LAST
#undef ADD
            }
        }
    }
}

INLINE void run_edge(const Plan *plan, const int k, const int dilation, int64_t image, int64_t band, int64_t edge, float *buffer,
                     const float *read, float *room, float *at_weights) {
    const Backward *f = plan->f;
    float *at_pointwise = at_weights ? at_weights + edge * of_edge(plan) : NULL;
    undo_pointwise(plan, image, band, edge, buffer, room, at_pointwise);
    if (f->at_x) undo_depthwise(plan, k, dilation, image, band, edge, buffer, room);
    if (at_weights) add_depthwise(plan, k, dilation, band, buffer, read, at_pointwise + f->channels * plan->p);
}

static void run_part(void *job, int64_t me) {
    Plan *plan = job;
    const Backward *f = plan->f;
    const int64_t p = CHANNELS(plan->p), c = CHANNELS(f->channels), items = f->batch * plan->bands;
    const int64_t size = plan->buffer_rows * plan->line * p, in_channels = f->mean_x ? f->edges * c : c;
    float *buffer = scratch(2 * size + (2 * PIXELS + 2) * p);
    if (!buffer) {
        plan->failed = 1;
        return;
    }
    float *read = buffer + size, *room = read + size;
    float *at_weights = plan->at_weights ? plan->at_weights + me * f->edges * of_edge(plan) : NULL;
    memset(buffer, 0, size * sizeof(float));
    for (int64_t item = items * me / f->threads; item < items * (me + 1) / f->threads; item++) {
        const int64_t image = item / plan->bands, band = item % plan->bands;
        /* around the gradients, and between them, are zeros, in the same places for every whole image */
        if (plan->bands > 1) memset(buffer, 0, size * sizeof(float));
        for (int64_t e = 0; e < f->edges; e++) {
            if (at_weights && (e == 0 || f->mean_x))
                rectify_rows(f->x + image * f->height * f->width * in_channels + (f->mean_x ? e * c : 0), f->height, f->width, in_channels, c,
                             p, f->mean_x ? plan->scale_x + e * p : NULL, f->mean_x ? plan->shift_x + e * p : NULL,
                             band * plan->rows - plan->pad, plan->buffer_rows, plan->pad, plan->line, read);
            switch (f->kernel * 4 + f->dilation) {
#define CASE(k, d) case k * 4 + d: run_edge(plan, k, d, image, band, e, buffer, read, room, at_weights); break;
                CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2)
#undef CASE
            }
        }
    }
}

/* Sums over the parts in one order, and over the threads. */
static void put_together(const Plan *plan) {
    const Backward *f = plan->f;
    const int64_t c = f->channels, p = plan->p, taps = f->kernel * f->kernel;
    for (int64_t e = 0; e < f->edges; e++)
        for (int64_t i = 0; i < c; i++) {
            const int64_t row = e * c + i;
            if (f->mean_x && f->at_x) {
                double sum = 0, dot = 0;
                for (int64_t item = 0; item < f->batch * plan->bands; item++) {
                    const double *part = plan->parts + (item * f->edges + e) * 2 * c + i;
                    sum += part[0];
                    dot += part[c];
                }
                f->sum_x[row] = (float)sum;
                f->dot_x[row] = (float)(dot / sqrt(f->var_x[row] + f->eps));
            }
            if (!plan->at_weights) continue;
            for (int64_t o = 0; o < c; o++) f->at_pointwise[row * c + o] = 0;
            for (int64_t t = 0; t < taps; t++) f->at_depthwise[row * taps + t] = 0;
            for (int64_t thread = 0; thread < f->threads; thread++) {
                const float *from = plan->at_weights + (thread * f->edges + e) * of_edge(plan);
                for (int64_t o = 0; o < c; o++) f->at_pointwise[row * c + o] += from[i * p + o];
                for (int64_t t = 0; t < taps; t++) f->at_depthwise[row * taps + t] += from[(c + t) * p + i];
            }
        }
}

/* Lay the weights and the numbers of the batch norms as the loops read them. */
static void pack(Plan *plan) {
    const Backward *f = plan->f;
    const int64_t c = f->channels, p = plan->p, taps = f->kernel * f->kernel;
    const int64_t count = f->batch * plan->out_height * plan->out_width;
    for (int64_t e = 0; e < f->edges; e++)
        for (int64_t i = 0; i < c; i++) {
            const int64_t row = e * c + i, at = e * p + i;
            for (int64_t t = 0; t < taps; t++) plan->flipped[(e * taps + t) * p + i] = f->depthwise[row * taps + taps - 1 - t];
            for (int64_t o = 0; o < c; o++) plan->pointwise[row * p + o] = f->pointwise[row * c + o];
            norm_gradient(f->var[row], f->mean[row], f->scale ? f->scale[row] : 1, f->sum[row], f->dot[row], count, f->eps,
                          plan->of_grad + at, plan->of_u + at, plan->constant + at);
            if (f->mean_x) {
                plan->scale_x[at] = (float)((f->scale_x ? f->scale_x[row] : 1) / sqrt(f->var_x[row] + f->eps));
                plan->shift_x[at] = (f->shift_x ? f->shift_x[row] : 0) - f->mean_x[row] * plan->scale_x[at];
                plan->around_x[at] = f->mean_x[row];
            }
        }
}

#if !defined(BFLOAT16) && !defined(NARROW)
int ddarts_backward_narrow(const Backward *f);
#endif

/* Returns 0, or 1 if there is no memory. */
int NAME(ddarts_backward)(const Backward *f) {
#if !defined(BFLOAT16) && !defined(NARROW)
    if (f->channels == LANES) return ddarts_backward_narrow(f);
#endif
    Plan plan = {.f = f, .p = round_up(f->channels, LANES), .pad = f->dilation * (f->kernel / 2)};
    const int64_t p = plan.p, reach = 2 * plan.pad + 1, matrix = f->edges * p, taps = f->kernel * f->kernel;
    plan.out_height = (f->height - 1) / f->stride + 1;
    plan.out_width = (f->width - 1) / f->stride + 1;
    plan.line = round_up(f->width, PIXELS) + reach - 1;
    plan.rows = rows_in_cache(plan.line * p, reach, 1, f->height);
    plan.bands = round_up(f->height, plan.rows) / plan.rows;
    plan.buffer_rows = plan.rows + reach - 1;
    float *numbers = calloc(matrix * (taps + f->channels + 6), sizeof(float));
    plan.parts = malloc(f->batch * plan.bands * f->edges * 2 * f->channels * sizeof(double));
    plan.failed = !numbers || !plan.parts;
    if (f->at_pointwise) {
        plan.at_weights = calloc(f->threads * f->edges * of_edge(&plan), sizeof(float));
        plan.failed |= !plan.at_weights;
    }
    if (!plan.failed) {
        plan.flipped = numbers;
        plan.pointwise = numbers + matrix * taps;
        plan.of_grad = plan.pointwise + matrix * f->channels;
        plan.of_u = plan.of_grad + matrix;
        plan.constant = plan.of_u + matrix;
        plan.scale_x = plan.constant + matrix;
        plan.shift_x = plan.scale_x + matrix;
        plan.around_x = plan.shift_x + matrix;
        pack(&plan);
        on_threads(run_part, &plan, f->threads);
    }
    if (!plan.failed) put_together(&plan);
    free(numbers);
    free(plan.parts);
    free(plan.at_weights);
    return plan.failed;
}
