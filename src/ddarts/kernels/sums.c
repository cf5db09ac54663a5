/* What a state sends over its edges, added to the sums of the nodes: gates times the normalised results of all operations.
 *
 * A batch norm is a scale and a shift for each channel, so all operations are read once, and every sum is written once.
 */
#include "lanes.h"

typedef struct {
    const real *const *u;                             /* of each branch: [pixels, E * C] */
    const float *const *mean, *const *var;            /* of each branch: [E * C] */
    const real *const *shared;                        /* of each operation that all edges share: [pixels, C] */
    const real *const *before;                        /* of each edge: [pixels, C], or NULL for nothing */
    real *const *sums;                                /* of each edge: [pixels, C] */
    const float *gates;                               /* [E, operations] */
    const int64_t *columns;                           /* of the branches' gates, and of the shared operations' */
    int64_t pixels, channels, edges, operations, branches, shares, threads;
    double eps;
} Sums;

typedef struct {
    const Sums *s;
    int64_t p;
    float *factors, *shift, *weights; /* per edge [branches][p], [p], [shares] */
} Plan;

/* Pixel by pixel, so that every operation is read as it lies in memory. */
INLINE void add_up(const Plan *plan, const int64_t branches, int64_t first, int64_t last) {
    const Sums *s = plan->s;
    const int64_t c = s->channels, p = plan->p, wide = s->edges * c;
    for (int64_t x = first; x < last; x++)
        for (int64_t e = 0; e < s->edges; e++) {
            const float *factors = plan->factors + e * branches * p, *weights = plan->weights + e * s->shares;
            const float *shift = plan->shift + e * p;
            const real *before = s->before[e];
            for (int64_t v = 0; v < p; v += LANES) {
                const int64_t n = c - v;
                vec sum = load(shift + v);
                for (int64_t o = 0; o < branches; o++) sum += get_real(s->u[o] + x * wide + e * c + v, n) * load(factors + o * p + v);
                for (int64_t k = 0; k < s->shares; k++) sum += get_real(s->shared[k] + x * c + v, n) * weights[k];
                if (before) sum += get_real(before + x * c + v, n);
                put_real(s->sums[e] + x * c + v, sum, n);
            }
        }
}

static void run_part(void *job, int64_t me) {
    const Plan *plan = job;
    const Sums *s = plan->s;
    const int64_t first = s->pixels * me / s->threads, last = s->pixels * (me + 1) / s->threads;
    if (s->branches == 4) add_up(plan, 4, first, last); /* the seven operations of DARTS */
    else add_up(plan, s->branches, first, last);
}

/* Returns 0, or 1 if there is no memory. */
int NAME(ddarts_sums)(const Sums *s) {
    Plan plan = {.s = s, .p = round_up(s->channels, LANES)};
    const int64_t p = plan.p, c = s->channels;
    float *numbers = calloc(s->edges * (p * (s->branches + 1) + s->shares), sizeof(float));
    if (!numbers) return 1;
    plan.factors = numbers;
    plan.shift = numbers + s->edges * s->branches * p;
    plan.weights = plan.shift + s->edges * p;
    for (int64_t e = 0; e < s->edges; e++) {
        const float *gates = s->gates + e * s->operations;
        for (int64_t k = 0; k < s->shares; k++) plan.weights[e * s->shares + k] = gates[s->columns[s->branches + k]];
        for (int64_t i = 0; i < c; i++) {
            double shift = 0;
            for (int64_t o = 0; o < s->branches; o++) {
                const double factor = gates[s->columns[o]] / sqrt(s->var[o][e * c + i] + s->eps);
                plan.factors[(e * s->branches + o) * p + i] = (float)factor;
                shift -= factor * s->mean[o][e * c + i];
            }
            plan.shift[e * p + i] = (float)shift;
        }
    }
    on_threads(run_part, &plan, s->threads);
    free(numbers);
    return 0;
}
