/* The sum of what enters a node of a discrete network: batch norms of convolutions, and images as they are. And the sums that
 * the batch norms' gradients need. */
#include "lanes.h"

enum { BLOCK = 512 }; /* pixels */

typedef struct {
    const real *const *u;                               /* of each term: [pixels, C] */
    const float *const *mean, *const *var;              /* of each term [C]; NULL: the term is added as it is */
    const float *const *scale, *const *shift;           /* of each term [C] */
    real *sums;                                         /* [pixels, C]; in the backward pass the gradient at it */
    float *sum, *dot;                                   /* [C], [terms, C]: of the gradient, and of the gradient * normalised u; NULL in
                                                           the forward pass */
    int64_t pixels, channels, terms, threads;
    double eps;
} Nodes;

typedef struct {
    const Nodes *f;
    int64_t p;
    float *factors, *shift; /* [terms][p], [p] */
    double *parts;          /* per thread [1 + terms][p] */
} Plan;

INLINE void add_up(const Plan *plan, const int64_t terms, int64_t first, int64_t last) {
    const Nodes *f = plan->f;
    const int64_t c = f->channels;
    for (int64_t v = 0; v < plan->p; v += LANES) {
        const vec shift = load(plan->shift + v);
        for (int64_t x = first; x < last; x++) {
            vec sum = shift;
            for (int64_t t = 0; t < terms; t++) sum += get_real(f->u[t] + x * c + v, c - v) * load(plan->factors + t * plan->p + v);
            put_real(f->sums + x * c + v, sum, c - v);
        }
    }
}

static void forward_part(void *job, int64_t me) {
    const Plan *plan = job;
    const int64_t first = plan->f->pixels * me / plan->f->threads, last = plan->f->pixels * (me + 1) / plan->f->threads;
    for (int64_t start = first; start < last; start += BLOCK) { /* which stays in the cache for all channels */
        const int64_t end = start + BLOCK < last ? start + BLOCK : last;
        if (plan->f->terms == 1) add_up(plan, 1, start, end);
        else if (plan->f->terms == 2) add_up(plan, 2, start, end);
        else add_up(plan, plan->f->terms, start, end);
    }
}

/* Sums of a block in single precision, around the mean; those of all in double precision. */
static void backward_part(void *job, int64_t me) {
    const Plan *plan = job;
    const Nodes *f = plan->f;
    const int64_t c = f->channels, p = plan->p, first = f->pixels * me / f->threads, last = f->pixels * (me + 1) / f->threads;
    double *to = plan->parts + me * (1 + f->terms) * p;
    for (int64_t start = first; start < last; start += BLOCK) {
        const int64_t end = start + BLOCK < last ? start + BLOCK : last;
        for (int64_t v = 0; v < p; v += LANES)
            for (int64_t t = 0; t < f->terms; t++) {
                if (!f->mean[t] && t > 0) continue;
                const vec around = get(f->mean[t] ? f->mean[t] + v : plan->shift, f->mean[t] ? c - v : LANES);
                vec sum = {0}, dot = {0}, sum2 = {0}, dot2 = {0};
                int64_t x = start;
                for (; x + 1 < end; x += 2) {
                    const vec g = get_real(f->sums + x * c + v, c - v), h = get_real(f->sums + (x + 1) * c + v, c - v);
                    sum += g;
                    sum2 += h;
                    dot += g * (get_real(f->u[t] + x * c + v, c - v) - around);
                    dot2 += h * (get_real(f->u[t] + (x + 1) * c + v, c - v) - around);
                }
                if (x < end) {
                    const vec g = get_real(f->sums + x * c + v, c - v);
                    sum += g;
                    dot += g * (get_real(f->u[t] + x * c + v, c - v) - around);
                }
                sum += sum2;
                dot += dot2;
                for (int64_t l = 0; l < LANES; l++) {
                    if (t == 0) to[v + l] += sum[l];
                    to[(1 + t) * p + v + l] += dot[l];
                }
            }
    }
}

/* Returns 0, or 1 if there is no memory. */
int NAME(ddarts_nodes)(const Nodes *f) {
    Plan plan = {.f = f, .p = round_up(f->channels, LANES)};
    const int64_t p = plan.p, c = f->channels;
    plan.factors = calloc(p * (f->terms + 1), sizeof(float));
    plan.parts = f->sum ? calloc(f->threads * (1 + f->terms) * p, sizeof(double)) : NULL;
    if (!plan.factors || (f->sum && !plan.parts)) {
        free(plan.factors);
        free(plan.parts);
        return 1;
    }
    plan.shift = plan.factors + f->terms * p;
    if (f->sum) {
        on_threads(backward_part, &plan, f->threads);
        for (int64_t i = 0; i < c; i++)
            for (int64_t t = -1; t < f->terms; t++) {
                double sum = 0;
                for (int64_t thread = 0; thread < f->threads; thread++) sum += plan.parts[(thread * (1 + f->terms) + 1 + t) * p + i];
                if (t < 0) f->sum[i] = (float)sum;
                else if (f->mean[t]) f->dot[t * c + i] = (float)(sum / sqrt(f->var[t][i] + f->eps));
            }
    } else {
        for (int64_t i = 0; i < c; i++) {
            double shift = 0;
            for (int64_t t = 0; t < f->terms; t++) {
                const double factor = f->mean[t] ? f->scale[t][i] / sqrt(f->var[t][i] + f->eps) : 1;
                plan.factors[t * p + i] = (float)factor;
                if (f->mean[t]) shift += f->shift[t][i] - factor * f->mean[t][i];
            }
            plan.shift[i] = (float)shift;
        }
        on_threads(forward_part, &plan, f->threads);
    }
    free(plan.factors);
    free(plan.parts);
    return 0;
}
