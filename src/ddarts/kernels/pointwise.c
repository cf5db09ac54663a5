/* ReLU - pointwise convolution and the statistics of the result, and the way back: the entrance of a cell of a discrete network.
 *
 * At stride 2 every second pixel of every second row is read, from `offset` on; pixels beyond the border are zero. With two
 * calls, of offset 0 and 1, that write side by side into one image, this is a factorized reduction.
 */
#include "lanes.h"

enum { TILE = 8 }; /* pixels worked on together */

typedef struct {
    const real *x;                   /* [B, H, W, I] */
    const float *weight;             /* [O, I] */
    real *u;                         /* [B, H', W', wide], of which O channels are written */
    float *mean_u, *var_u;           /* [O], the biased variance */
    const real *grad;                /* as u: at the batch norm's result; NULL in the forward pass */
    const float *mean, *var, *scale; /* [O], of the batch norm; no scale: NULL */
    const float *sum, *dot;          /* [O]: of grad, and of grad * normalised u */
    real *at_x;                      /* as x; NULL if not wanted */
    float *at_weight;                /* as weight */
    int64_t batch, height, width, inputs, outputs, wide, stride, offset, threads;
    int64_t adds;                    /* add to at_x */
    double eps;
} Pointwise;

typedef struct {
    const Pointwise *f;
    int64_t i, o, out_height, out_width; /* padded channels; size of the result */
    float *weight;                       /* [inputs][o] in the forward pass, else [outputs][i] */
    float *of_grad, *of_u, *constant;    /* [o]: the batch norm's gradient */
    float *at_weight;                    /* per thread [outputs, rounded up][i] */
    double *parts;                       /* [B][mean, sum of squares][outputs] */
    int failed;
} Plan;

/* The number of pixels that are inside the image, of `n` from (y, x) of the result on. */
INLINE int64_t inside(const Plan *plan, int64_t y, int64_t x, int64_t n) {
    const Pointwise *f = plan->f;
    if (y * f->stride + f->offset >= f->height) return 0;
    const int64_t count = (f->width - f->offset + f->stride - 1) / f->stride - x;
    return count < 0 ? 0 : count < n ? count : n;
}

/* `n` rectified pixels of a row into a tile [][i], those beyond the border as zeros. */
INLINE void read_pixels(const Plan *plan, int64_t image, int64_t y, int64_t x, int64_t n, float *tile) {
    const Pointwise *f = plan->f;
    const int64_t count = inside(plan, y, x, n), step = f->stride * f->inputs;
    const real *from = f->x + ((image * f->height + y * f->stride + f->offset) * f->width + x * f->stride + f->offset) * f->inputs;
    for (int64_t q = 0; q < count; q++)
        for (int64_t v = 0; v < plan->i; v += LANES) {
            const vec value = get_real(from + q * step + v, f->inputs - v);
            store(tile + q * plan->i + v, where_positive(value, value));
        }
    memset(tile + count * plan->i, 0, (n - count) * plan->i * sizeof(float));
}

static void forward_part(void *job, int64_t me) {
    Plan *plan = job;
    const Pointwise *f = plan->f;
    const int64_t o = plan->o, height = plan->out_height, width = plan->out_width;
    float *tile = scratch(TILE * plan->i + TILE * o + 3 * o);
    if (!tile) {
        plan->failed = 1;
        return;
    }
    float *result = tile + TILE * plan->i, *shift = result + TILE * o, *sums = shift + o;
    for (int64_t image = f->batch * me / f->threads; image < f->batch * (me + 1) / f->threads; image++) {
        memset(sums, 0, 2 * o * sizeof(float));
        for (int64_t y = 0; y < height; y++)
            for (int64_t x = 0; x < width; x += TILE) {
                const int64_t n = width - x < TILE ? width - x : TILE;
                read_pixels(plan, image, y, x, TILE, tile);
                multiply_eight(tile, plan->i, plan->weight, f->inputs, o, result, o);
                copy_tile(result, n, f->outputs, o, f->u + ((image * height + y) * width + x) * f->wide, f->wide, 0);
                add_statistics(result, n, o, y + x == 0, shift, sums);
            }
        double *part = plan->parts + image * 2 * f->outputs;
        for (int64_t c = 0; c < f->outputs; c++) {
            part[c] = shift[c] + sums[c] / (double)(height * width);
            part[f->outputs + c] = sums[o + c] - (double)sums[c] * sums[c] / (double)(height * width);
        }
    }
}

static void backward_part(void *job, int64_t me) {
    Plan *plan = job;
    const Pointwise *f = plan->f;
    const int64_t i = plan->i, o = plan->o, width = plan->out_width, padded = round_up(width, TILE);
    float *read = scratch(padded * (i + o) + TILE * i);
    if (!read) {
        plan->failed = 1;
        return;
    }
    float *grads = read + padded * i, *tile = grads + padded * o;
    float *at_weight = plan->at_weight + me * o * i;
    for (int64_t image = f->batch * me / f->threads; image < f->batch * (me + 1) / f->threads; image++)
        for (int64_t y = 0; y < plan->out_height; y++) {
            read_pixels(plan, image, y, 0, padded, read);
            const int64_t row = (image * plan->out_height + y) * width;
            for (int64_t q = 0; q < width; q++)
                for (int64_t v = 0; v < o; v += LANES) {
                    const int64_t at = (row + q) * f->wide + v, n = f->outputs - v;
                    store(grads + q * o + v, load(plan->of_grad + v) * get_real(f->grad + at, n) +
                                                 (load(plan->of_u + v) * get_real(f->u + at, n) + load(plan->constant + v)));
                }
            memset(grads + width * o, 0, (padded - width) * o * sizeof(float));
            add_products(grads, o, o, read, i, width, at_weight);
            if (!f->at_x) continue;
            for (int64_t x = 0; x < width; x += TILE) {
                const int64_t n = inside(plan, y, x, width - x < TILE ? width - x : TILE), step = f->stride * f->inputs;
                multiply_eight(grads + x * o, o, plan->weight, f->outputs, i, tile, i);
                real *to = f->at_x + ((image * f->height + y * f->stride + f->offset) * f->width + x * f->stride + f->offset) * f->inputs;
                for (int64_t q = 0; q < n; q++)
                    for (int64_t v = 0; v < i; v += LANES) {
                        vec g = where_positive(load(tile + q * i + v), load(read + (x + q) * i + v));
                        if (f->adds) g += get_real(to + q * step + v, f->inputs - v);
                        put_real(to + q * step + v, g, f->inputs - v);
                    }
            }
        }
}

/* Returns 0, or 1 if there is no memory. */
int NAME(ddarts_pointwise)(const Pointwise *f) {
    Plan plan = {.f = f, .i = round_up(f->inputs, LANES), .o = round_up(f->outputs, LANES)};
    const int64_t i = plan.i, o = plan.o, inputs = f->inputs, outputs = f->outputs;
    plan.out_height = (f->height - 1) / f->stride + 1;
    plan.out_width = (f->width - 1) / f->stride + 1;
    const int64_t count = f->batch * plan.out_height * plan.out_width;
    const int64_t size = f->grad ? outputs * i : inputs * o;
    float *numbers = calloc(size + 3 * o + (f->grad ? f->threads * o * i : 0), sizeof(float));
    plan.parts = f->grad ? NULL : malloc(f->batch * 2 * outputs * sizeof(double));
    plan.failed = !numbers || (!f->grad && !plan.parts);
    if (!plan.failed) {
        plan.weight = numbers;
        plan.of_grad = numbers + size;
        plan.of_u = plan.of_grad + o;
        plan.constant = plan.of_u + o;
        plan.at_weight = plan.constant + o;
        for (int64_t row = 0; row < outputs; row++)
            for (int64_t c = 0; c < inputs; c++) plan.weight[f->grad ? row * i + c : c * o + row] = f->weight[row * inputs + c];
        if (f->grad)
            for (int64_t c = 0; c < outputs; c++)
                norm_gradient(f->var[c], f->mean[c], f->scale ? f->scale[c] : 1, f->sum[c], f->dot[c], count, f->eps, plan.of_grad + c,
                              plan.of_u + c, plan.constant + c);
        on_threads(f->grad ? backward_part : forward_part, &plan, f->threads);
    }
    if (!plan.failed && f->grad)
        for (int64_t row = 0; row < outputs; row++)
            for (int64_t c = 0; c < inputs; c++) {
                float sum = 0;
                for (int64_t thread = 0; thread < f->threads; thread++) sum += plan.at_weight[(thread * o + row) * i + c];
                f->at_weight[row * inputs + c] = sum;
            }
    else if (!plan.failed)
        for (int64_t c = 0; c < outputs; c++) {
            double mean = 0, square = 0;
            for (int64_t image = 0; image < f->batch; image++) mean += plan.parts[image * 2 * outputs + c];
            mean /= (double)f->batch;
            for (int64_t image = 0; image < f->batch; image++) {
                const double *part = plan.parts + image * 2 * outputs + c;
                square += part[outputs] + (double)(plan.out_height * plan.out_width) * (part[0] - mean) * (part[0] - mean);
            }
            f->mean_u[c] = (float)mean;
            f->var_u[c] = (float)(square / (double)count);
        }
    free(numbers);
    free(plan.parts);
    return plan.failed;
}
