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

/* --- what is left between the picture and a scene painted again */

enum { WINDOW = 5, SEEN = 2 };
#define PLANES (const float (*)[SCENETABLE_PLANE])

/* [1 2 1] both ways; over the edge there is nothing. */
static void blur(float *plane)
{
    float rows[SCENETABLE_PLANE] = {0};
    for (int row = 1; row <= SCENE_SIDE; row++)
        for (int i = row * SCENETABLE_STRIDE + 1; i <= row * SCENETABLE_STRIDE + SCENE_SIDE; i++)
            rows[i] = (plane[i - 1] + 2 * plane[i] + plane[i + 1]) / 4;
    for (int i = SCENETABLE_STRIDE; i < SCENETABLE_PLANE - SCENETABLE_STRIDE; i++)
        plane[i] = (rows[i - SCENETABLE_STRIDE] + 2 * rows[i] + rows[i + SCENETABLE_STRIDE]) / 4;
}

/* Squares of a - b, blurred or not, summed over channels, into square [SCENETABLE_PLANE]. */
static void squares_of(const float (*a)[SCENETABLE_PLANE], const float (*b)[SCENETABLE_PLANE], bool blurred,
                       float *square)
{
    memset(square, 0, SCENETABLE_PLANE * sizeof *square);
    for (int ch = 0; ch < 3; ch++) {
        float d[SCENETABLE_PLANE];
        for (int i = 0; i < SCENETABLE_PLANE; i++)
            d[i] = a[ch][i] - b[ch][i];
        if (blurred)
            blur(d);
        for (int i = 0; i < SCENETABLE_PLANE; i++)
            square[i] += d[i] * d[i];
    }
}

/* Over the box of a thing and a pixel around it. */
static double sum_in_box(const float *square, const struct scene_thing *t)
{
    double sum = 0;
    for (int row = t->y; row < t->y + t->size + 2; row++)
        for (int col = t->x; col < t->x + t->size + 2; col++)
            sum += square[row * SCENETABLE_STRIDE + col];
    return sum;
}

static void put_scene(const struct scenetable *t, const struct scene *scene, float (*again)[SCENETABLE_PLANE])
{
    scenetable_put_place(t, scene->place, scene->horizon, again);
    for (int i = 0; i < scene->n_things; i++)
        scenetable_put(t, &scene->thing[i], scene->place, again);
}

/* Squares that a scene leaves, blurred. */
static void left_by(struct scorer *s, const struct scenetable *t, const struct scene *scene, float *square)
{
    float again[3][SCENETABLE_PLANE];
    put_scene(t, scene, again);
    squares_of(PLANES s->fit.picture, PLANES again, true, square);
}

/* The smallest box around both. */
static struct scene_thing around(const struct scene_thing *a, const struct scene_thing *b)
{
    struct scene_thing c = *a;
    c.x = a->x < b->x ? a->x : b->x;
    c.y = a->y < b->y ? a->y : b->y;
    int right = a->x + a->size > b->x + b->size ? a->x + a->size : b->x + b->size;
    int lower = a->y + a->size > b->y + b->size ? a->y + a->size : b->y + b->size;
    c.size = right - c.x > lower - c.y ? right - c.x : lower - c.y;
    c.x = c.x + c.size > SCENE_SIDE ? SCENE_SIDE - c.size : c.x;
    c.y = c.y + c.size > SCENE_SIDE ? SCENE_SIDE - c.size : c.y;
    return c;
}

/* The fit against another scene, in a box. ratio: what is left / what the other leaves. toward: where the
 * picture lies between the two, painted again: 0 at the fit, 1 at the other; how ragged the thing is
 * otherwise does not count there, the trunk that makes a tree of a ball does. */
struct contest { double ratio, toward; };

static struct contest contest_of(const struct scenetable *t, const struct scene *fit, const float *left,
                                 const struct scene *other, const float *left_other,
                                 const struct scene_thing *box)
{
    float a[3][SCENETABLE_PLANE], b[3][SCENETABLE_PLANE], apart[SCENETABLE_PLANE];
    put_scene(t, fit, a);
    put_scene(t, other, b);
    squares_of(PLANES a, PLANES b, true, apart);
    double here = sum_in_box(left, box), there = sum_in_box(left_other, box);
    double nearer = (there - here) / (1 + sum_in_box(apart, box));
    return (struct contest){(here + 1) / (there + 1), (1 - nearer) / 2};
}

/* Thing i as other kinds and in other colours, where it stands. The fit goes by sharp pixels; blurred ones
 * may prefer another kind: then the scene is that. */
static struct contest rival_of(struct scorer *s, const struct scenetable *t, struct scenefit *f, int i)
{
    float left[SCENETABLE_PLANE], square[SCENETABLE_PLANE];
    struct contest worst = {0, 0};
    left_by(s, t, &f->scene, left);
    for (int k = 0; k < N_THINGS + N_COLOURS; k++) {
        struct scene other = f->scene;
        struct scene_thing *a = &other.thing[i], *b = &f->scene.thing[i];
        if (k < N_THINGS && f->other[i][k].gain <= 0)
            continue;
        if (k < N_THINGS)
            *a = f->other[i][k].thing;
        else
            a->colour = (enum colour)(k - N_THINGS);
        if (a->kind == b->kind && a->colour == b->colour)
            continue;
        left_by(s, t, &other, square);
        struct scene_thing box = around(a, b);
        struct contest c = contest_of(t, &f->scene, left, &other, square, &box);
        if (c.ratio > 1) {
            f->scene = other;
            memcpy(left, square, sizeof left);
            worst = (struct contest){0, 0};
            k = -1;             /* all others again, against this one */
            continue;
        }
        worst.ratio = fmax(worst.ratio, c.ratio);
        worst.toward = fmax(worst.toward, c.toward);
    }
    return worst;
}

/* The same for one thing in place of two, or two in place of one: over the picture. A pair that leaves less
 * than 3/4 of what one thing leaves is seen, as in the fit; by blurred pixels that may be otherwise. */
static double count_rival(struct scorer *s, const struct scenetable *t, struct scenefit *f)
{
    float best[SCENETABLE_PLANE], square[SCENETABLE_PLANE];
    double here = 1, there = 1;
    if (f->count.n_things == 0)
        return 0;
    left_by(s, t, &f->scene, best);
    left_by(s, t, &f->count, square);
    for (int i = 0; i < SCENETABLE_PLANE; i++) {
        here += best[i];
        there += square[i];
    }
    if (there < (f->count.n_things == 2 ? 0.75 : 1) * here) {
        struct scene other = f->scene;
        f->scene = f->count;
        f->count = other;
        return there / here;
    }
    return here / there;
}

/* Ground that no thing comes near: 1 in free [SCENETABLE_PLANE]. */
static void free_ground(const struct scene *scene, float *free_of)
{
    uint8_t cover[SCENE_SIDE * SCENE_SIDE];
    memset(free_of, 0, SCENETABLE_PLANE * sizeof *free_of);
    for (int i = 0; i < SCENE_SIDE * SCENE_SIDE; i++)
        free_of[(i / SCENE_SIDE + 1) * SCENETABLE_STRIDE + i % SCENE_SIDE + 1] = 1;
    for (int k = 0; k < scene->n_things; k++) {
        scene_silhouette(&scene->thing[k], SCENE_SIDE, cover);
        for (int i = 0; i < SCENE_SIDE * SCENE_SIDE; i++)
            for (int n = 0; n < (2 * SEEN + 1) * (2 * SEEN + 1) && cover[i] > 0; n++) {
                int row = i / SCENE_SIDE + n / (2 * SEEN + 1) - SEEN;
                int col = i % SCENE_SIDE + n % (2 * SEEN + 1) - SEEN;
                if (row >= 0 && row < SCENE_SIDE && col >= 0 && col < SCENE_SIDE)
                    free_of[(row + 1) * SCENETABLE_STRIDE + col + 1] = 0;
            }
    }
}

/* In levels, of a pixel and channel. */
static double worst_window(const float *square)
{
    double worst = 0;
    for (int row = 1; row + WINDOW <= SCENE_SIDE + 1; row++)
        for (int col = 1; col + WINDOW <= SCENE_SIDE + 1; col++) {
            double sum = 0;
            for (int k = 0; k < WINDOW * WINDOW; k++)
                sum += square[(row + k / WINDOW) * SCENETABLE_STRIDE + col + k % WINDOW];
            worst = sum > worst ? sum : worst;
        }
    return sqrt(worst / (3 * WINDOW * WINDOW));
}

/* rms and beside. */
static void judge_ground(const struct scenefit_scratch *w, const struct scene *scene,
                         struct scorer_reading *r)
{
    float free_of[SCENETABLE_PLANE], sharp[SCENETABLE_PLANE], square[SCENETABLE_PLANE];
    double sum = 0, n = 0;
    free_ground(scene, free_of);
    squares_of(PLANES w->picture, PLANES w->ground, false,
               sharp);
    squares_of(PLANES w->picture, PLANES w->ground, true,
               square);
    for (int i = 0; i < SCENETABLE_PLANE; i++) {
        sum += free_of[i] * sharp[i];
        n += free_of[i];
        square[i] *= free_of[i];
    }
    r->rms = n > 0 ? sqrt(sum / (3 * n)) : 0;
    r->beside = worst_window(square);
}

static void judge_things(const struct scenetable *t, const struct scenefit_scratch *w,
                         const struct scene *scene, struct scorer_reading *r)
{
    float again[3][SCENETABLE_PLANE], left[SCENETABLE_PLANE], added[SCENETABLE_PLANE];
    memcpy(again, w->ground, sizeof again);
    for (int i = 0; i < scene->n_things; i++)
        scenetable_put(t, &scene->thing[i], scene->place, again);
    squares_of(PLANES w->picture, PLANES again, true, left);
    squares_of(PLANES w->ground, PLANES again, true, added);
    for (int i = 0; i < scene->n_things; i++) {
        const struct scene_thing *thing = &scene->thing[i];
        r->misfit = fmax(r->misfit, sum_in_box(left, thing) / (1 + sum_in_box(added, thing)));
    }
}

/* Limits. Of worn renders (damagedscenes.h: noise of up to 8 levels, blur, colours off by up to 6) 99.8% have
 * an rms below 10, beside below 8, a misfit below 0.08 and a rival below 0.35; clean ones have zeros. Noise
 * of 32 levels has an rms above 26, a third thing beside above 24, and 95% of lumps in place of things are
 * over one of the last three. What a good model paints is less exact than worn renders are: a mast bent, a
 * roof off by a pixel; the limits are as wide as lumps and third things allow. An eye reads more: of 200
 * labelled pictures (test_scorer_labels.c) 173 agree, 18 are read by the eye only, most of them trees with
 * half a trunk and cars with a wheel too many. */
static const double rms_most = 14, beside_most = 20, misfit_most = 0.25, rival_most = 0.7, toward_most = 0.27;

static enum scorer_verdict verdict_of(const struct scorer_reading *r)
{
    if (r->scene.n_things == 0)
        return SCORER_NOTHING;
    if (r->rms > rms_most || r->misfit > misfit_most)
        return SCORER_RESIDUAL;
    if (r->beside > beside_most)
        return SCORER_UNEXPLAINED;
    return r->rival > rival_most || r->toward > toward_most ? SCORER_AMBIGUOUS : SCORER_READ;
}

void scorer_read(struct scorer *s, const uint8_t *rgb, int side, struct scorer_reading *out)
{
    const struct scenetable *t = side == SCENE_SIDE ? s->small : s->large;
    struct scenefit f;
    scenefit(t, &s->fit, rgb, side, &f);
    *out = (struct scorer_reading){0};
    out->rival = count_rival(s, t, &f);
    scenefit_others(&s->fit, &f);
    for (int i = 0; i < f.scene.n_things; i++) {
        struct contest c = rival_of(s, t, &f, i);
        out->rival = fmax(out->rival, c.ratio);
        out->toward = fmax(out->toward, c.toward);
    }
    out->scene = f.scene;
    put_in_order(&out->scene);
    judge_ground(&s->fit, &out->scene, out);
    judge_things(t, &s->fit, &out->scene, out);
    out->verdict = verdict_of(out);
}

const char *scorer_verdict_name(enum scorer_verdict v)
{
    static const char *const names[N_SCORER_VERDICTS] = {"read", "nothing", "residual", "unexplained",
                                                         "ambiguous"};
    return names[v];
}
