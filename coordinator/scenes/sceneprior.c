#include "coordinator/scenes/sceneprior.h"

#include <pthread.h>

/* One more value on each axis: the sum over the others. Two relations. */
enum { PLACES = N_PLACES + 1, KINDS = N_THINGS + 1, COLOURS = N_COLOURS + 1, RELATIONS = 3 };

static double alone[PLACES][KINDS][COLOURS];
static double paired[PLACES][KINDS][COLOURS][KINDS][COLOURS][RELATIONS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* As scene_draw draws sizes: [things - 1][class]. */
static const double size_share[2][3] = {{0.3, 0.3, 0.4}, {0.2, 0.4, 0.4}};

/* Sums table over an axis of n values into its last one; what lies behind it in memory is `inner`. */
static void sum_axis(double *table, int outer, int n, int inner)
{
    for (int o = 0; o < outer; o++, table += (n + 1) * inner)
        for (int i = 0; i < inner; i++) {
            double sum = 0;
            for (int k = 0; k < n; k++)
                sum += table[k * inner + i];
            table[n * inner + i] = sum;
        }
}

static double put(struct scene *s, double *cell, double share)
{
    *cell = scene_set_of(s) == SET_SEEN ? share : 0;
    return *cell;
}

static double put_pairs(struct scene *s)
{
    double sum = 0;
    const double share = 0.5 / N_PLACES / N_THINGS / N_COLOURS / (N_THINGS - 1) / N_COLOURS;
    s->n_things = 2;
    for (int k = 0; k < N_THINGS; k++)
        for (int c = 0; c < N_COLOURS; c++) {
            s->thing[1] = (struct scene_thing){.kind = (enum thing)k, .colour = (enum colour)c};
            if (s->thing[1].kind == s->thing[0].kind)
                continue;
            double *cell = paired[s->place][s->thing[0].kind][s->thing[0].colour][k][c];
            sum += put(s, &cell[0], share * 2 / 3);
            sum += put(s, &cell[1], share / 3);
        }
    return sum;
}

static void fill(void)
{
    struct scene s = {0};
    double sum = 0;
    for (int p = 0; p < N_PLACES; p++)
        for (int k = 0; k < N_THINGS; k++)
            for (int c = 0; c < N_COLOURS; c++) {
                s.place = (enum place)p;
                s.thing[0] = (struct scene_thing){.kind = (enum thing)k, .colour = (enum colour)c};
                s.n_things = 1;
                sum += put(&s, &alone[p][k][c], 0.5 / N_PLACES / N_THINGS / N_COLOURS);
                sum += put_pairs(&s);
            }
    double *cell = &alone[0][0][0];
    for (int i = 0; i < PLACES * KINDS * COLOURS; i++)
        cell[i] /= sum;
    cell = &paired[0][0][0][0][0][0];
    for (int i = 0; i < PLACES * KINDS * COLOURS * KINDS * COLOURS * RELATIONS; i++)
        cell[i] /= sum;
    sum_axis(&alone[0][0][0], PLACES * KINDS, N_COLOURS, 1);
    sum_axis(&alone[0][0][0], PLACES, N_THINGS, COLOURS);
    sum_axis(&alone[0][0][0], 1, N_PLACES, KINDS * COLOURS);
    enum { THING = KINDS * COLOURS };
    sum_axis(cell, PLACES * THING * THING, 2, 1);
    sum_axis(cell, PLACES * THING * KINDS, N_COLOURS, RELATIONS);
    sum_axis(cell, PLACES * THING, N_THINGS, COLOURS * RELATIONS);
    sum_axis(cell, PLACES * KINDS, N_COLOURS, THING * RELATIONS);
    sum_axis(cell, PLACES, N_THINGS, COLOURS * THING * RELATIONS);
    sum_axis(cell, 1, N_PLACES, THING * THING * RELATIONS);
}

static int axis(int value, int n) { return value < 0 ? n : value; }

static double of_count(const struct scene_facts *f, int things)
{
    int p = axis(f->place, N_PLACES), k = axis(f->kind[0], N_THINGS), c = axis(f->colour[0], N_COLOURS);
    double share = 1;
    for (int i = 0; i < things; i++)
        share *= f->size[i] < 0 ? 1 : size_share[things - 1][f->size[i]];
    if (things == 1)
        return share * alone[p][k][c];
    return share * paired[p][k][c][axis(f->kind[1], N_THINGS)][axis(f->colour[1], N_COLOURS)]
                         [axis(f->relation, 2)];
}

double sceneprior(const struct scene_facts *f)
{
    pthread_once(&once, fill);
    return (f->things != 2 ? of_count(f, 1) : 0) + (f->things != 1 ? of_count(f, 2) : 0);
}

void sceneprior_facts(const struct scene *s, struct scene_facts *f)
{
    *f = (struct scene_facts){.things = s->n_things, .place = (int)s->place, .kind = {-1, -1},
                              .colour = {-1, -1}, .size = {-1, -1}, .relation = -1};
    for (int i = 0; i < s->n_things; i++) {
        int size = scene_size_class(s, i);
        f->kind[i] = (int)s->thing[i].kind;
        f->colour[i] = (int)s->thing[i].colour;
        f->size[i] = size < 0 ? 1 : size > 0 ? 2 : 0;
    }
    if (s->n_things == 2)
        f->relation = s->relation == RELATION_ABOVE;
}
