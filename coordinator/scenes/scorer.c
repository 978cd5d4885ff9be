#include "coordinator/scenes/scorer.h"

#include "coordinator/scenes/scenefit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct scorer {
    struct scenetable *small, *large;       /* for sides of 32 and 64 */
    struct scenefit_scratch fit;
};

struct scorer *scorer_new(struct err *err)
{
    struct scorer *s = calloc(1, sizeof *s);
    if (s == NULL) {
        err_set(err, ERR_NOMEM, "no memory for the scorer");
        return NULL;
    }
    s->small = scenetable_new(SCENE_SIDE, err);
    s->large = s->small == NULL ? NULL : scenetable_new(2 * SCENE_SIDE, err);
    if (s->large == NULL) {
        scorer_destroy(s);
        return NULL;
    }
    return s;
}

void scorer_destroy(struct scorer *s)
{
    if (s == NULL)
        return;
    scenetable_destroy(s->small);
    scenetable_destroy(s->large);
    free(s);
}

/* Side by side: the left one first; else the upper one. */
static void put_in_order(struct scene *s)
{
    if (s->n_things < 2) {
        s->relation = RELATION_NONE;
        return;
    }
    struct scene_thing *a = &s->thing[0], *b = &s->thing[1], swap = *a;
    bool beside = a->x + a->size <= b->x + 1 || b->x + b->size <= a->x + 1;
    s->relation = beside ? RELATION_LEFT : RELATION_ABOVE;
    if (beside ? b->x < a->x : b->y < a->y) {
        *a = *b;
        *b = swap;
    }
}

enum { WINDOW = 5 };

/* Mean squares of each of the 32 x 32 pixels between two pictures [side, side, 3]. */
static void squares_of(const uint8_t *a, const uint8_t *b, int side, float *square)
{
    int k = side / SCENE_SIDE;
    memset(square, 0, SCENE_SIDE * SCENE_SIDE * sizeof *square);
    for (int i = 0; i < side * side * 3; i++) {
        int row = i / 3 / side / k, col = i / 3 % side / k, d = a[i] - b[i];
        square[row * SCENE_SIDE + col] += (float)(d * d) / (float)(3 * k * k);
    }
}

static double worst_window(const float *square)
{
    double worst = 0;
    for (int row = 0; row + WINDOW <= SCENE_SIDE; row++)
        for (int col = 0; col + WINDOW <= SCENE_SIDE; col++) {
            double sum = 0;
            for (int k = 0; k < WINDOW * WINDOW; k++)
                sum += square[(row + k / WINDOW) * SCENE_SIDE + col + k % WINDOW];
            worst = sum > worst ? sum : worst;
        }
    return sqrt(worst / (WINDOW * WINDOW));
}

static void compare(const uint8_t *rgb, int side, struct scorer_reading *r)
{
    uint8_t again[64 * 64 * 3];
    float square[SCENE_SIDE * SCENE_SIDE];
    double sum = 0;
    scene_paint(&r->scene, side, again);
    squares_of(rgb, again, side, square);
    for (int i = 0; i < SCENE_SIDE * SCENE_SIDE; i++)
        sum += square[i];
    r->rms = sqrt(sum / (SCENE_SIDE * SCENE_SIDE));
    r->worst = worst_window(square);
}

/* Limits. Of 10,000 worn renders (damagedscenes.h: noise of up to 8 levels, blur, colours off by up to 6)
 * 99.9% have an rms below 11, worst below 25, a misfit below 0.2 and a rival below 0.65; clean ones have
 * zeros. Third things have worst above 38, lumps in place of things a misfit above 0.1 and a rival above
 * 0.58, blends of two scenes an rms above 14. */
static const double rms_most = 16, worst_most = 36, misfit_most = 0.25, rival_most = 0.7;

static enum scorer_verdict verdict_of(const struct scorer_reading *r)
{
    if (r->scene.n_things == 0)
        return SCORER_NOTHING;
    if (r->rms > rms_most || r->misfit > misfit_most)
        return SCORER_RESIDUAL;
    if (r->worst > worst_most)
        return SCORER_UNEXPLAINED;
    return r->rival > rival_most ? SCORER_AMBIGUOUS : SCORER_READ;
}

void scorer_read(struct scorer *s, const uint8_t *rgb, int side, struct scorer_reading *out)
{
    struct scenefit f;
    scenefit(side == SCENE_SIDE ? s->small : s->large, &s->fit, rgb, side, &f);
    *out = (struct scorer_reading){.scene = f.scene};
    out->rival = f.count_rival;
    for (int i = 0; i < f.scene.n_things; i++) {
        out->misfit = fmax(out->misfit, f.misfit[i]);
        out->rival = fmax(out->rival, fmax(f.kind_rival[i], f.colour_rival[i]));
    }
    put_in_order(&out->scene);
    compare(rgb, side, out);
    out->verdict = verdict_of(out);
}

const char *scorer_verdict_name(enum scorer_verdict v)
{
    static const char *const names[N_SCORER_VERDICTS] = {"read", "nothing", "residual", "unexplained",
                                                         "ambiguous"};
    return names[v];
}
