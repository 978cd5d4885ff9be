#include "coordinator/plan/planweight.h"

#include "coordinator/plan/plancost.h"

#include <float.h>
#include <string.h>

static bool alike(const Muster__NodeReport *a, const Muster__NodeReport *b)
{
    return strcmp(a->host, b->host) == 0 && a->threads == b->threads;
}

static double host_mean(const struct plan_request *q, int rank)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < q->n_ranks; i++)
        if (alike(q->reports[i], q->reports[rank])) {
            sum += plancost_bandwidth(q->reports[i]);
            n++;
        }
    return sum / n;
}

/* The lowest weight above `floor`; DBL_MAX when there is none. */
static double lowest_above(const double *weight, int n, double floor)
{
    double low = DBL_MAX;
    for (int i = 0; i < n; i++)
        low = weight[i] > floor && weight[i] < low ? weight[i] : low;
    return low;
}

/* From the slowest up: all within NEAR of the slowest of a class get the class's mean. The mean of a
 * class lies below the next class's, so what is done stays done. */
static void merge_near(double *weight, int n)
{
    for (double low = lowest_above(weight, n, -1); low < DBL_MAX;) {
        double sum = 0, top = low * PLANWEIGHT_NEAR;
        int members = 0;
        for (int i = 0; i < n; i++)
            if (weight[i] >= low && weight[i] <= top) {
                sum += weight[i];
                members++;
            }
        for (int i = 0; i < n; i++)
            if (weight[i] >= low && weight[i] <= top)
                weight[i] = sum / members;
        low = lowest_above(weight, n, top);
    }
}

void planweight_ranks(const struct plan_request *q, double *weight)
{
    for (int i = 0; i < q->n_ranks; i++)
        weight[i] = q->shares != NULL ? q->shares[i] : q->even ? 1 : host_mean(q, i);
    if (q->shares == NULL && !q->even)
        merge_near(weight, q->n_ranks);
}
