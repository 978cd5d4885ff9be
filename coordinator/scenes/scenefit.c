#include "coordinator/scenes/scenefit.h"

#include "proto/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Four lanes, added up in one order on every machine. */
typedef float v4 __attribute__((vector_size(16)));

static v4 load(const float *p)
{
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static float sum_of(v4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

static int component(enum colour c, int channel)
{
    struct rgb s = scene_thing_shade(c);
    return channel == 0 ? s.r : channel == 1 ? s.g : s.b;
}

/* --- gain of a thing: with p = u + w colour what it adds to the ground and d = picture - ground, the
 * squares fall by sum p (2 d - p) = A + B colour - W colour^2, channel by channel. */

struct sums { float a, b[3], w; };

static void sums_at(const struct scenefit_scratch *s, const struct scenetable_map *m, int size, int x, int y,
                    struct sums *out)
{
    int blocks = (size + 2 + 3) / 4;
    v4 a = {0};
    for (int ch = 0; ch < 3; ch++) {
        v4 b = {0};
        for (int row = 0; row < size + 2; row++) {
            int at = (y + row) * SCENETABLE_STRIDE + x, of = row * SCENETABLE_MAP;
            for (int k = 0; k < blocks; k++, at += 4, of += 4) {
                v4 u = load(m->key[ch] + of) - load(m->cover + of) * load(s->ground[ch] + at);
                v4 d = load(s->diff[ch] + at);
                a += u * (d + d - u);
                b += load(m->w + of) * (d - u);
            }
        }
        out->b[ch] = 2 * sum_of(b);
    }
    out->a = sum_of(a);
    out->w = m->w_squares;
}

static float gain_of(const struct sums *s, enum colour c)
{
    float g = s->a;
    for (int ch = 0; ch < 3; ch++) {
        float shade = (float)component(c, ch);
        g += shade * s->b[ch] - shade * shade * s->w;
    }
    return g;
}

/* What a ring gains when each of its pixels may lie one off. A thin ring that is one pixel off explains
 * nothing, so a coarse scan would miss it. */
static float loose_ring(const struct scenefit_scratch *s, const struct scenetable_map *m,
                        const struct scene_thing *t)
{
    v4 sum = {0};
    for (int row = 0; row < t->size + 2; row++) {
        int at = (t->y + row) * SCENETABLE_STRIDE + t->x, of = row * SCENETABLE_MAP;
        for (int end = of + t->size + 2; of < end; at += 4, of += 4) {
            v4 ring = load(m->ring + of);
            sum += ring * (load(s->ring_meets + at) - ring * load(s->ring_squares + at));
        }
    }
    return sum_of(sum);
}

/* Gains of all colours, [N_COLOURS]. coarse: rings may be one pixel off. */
static void gains_at(const struct scenetable *t, const struct scenefit_scratch *s, enum place p,
                     const struct scene_thing *thing, bool coarse, float *gain)
{
    const struct scenetable_map *maps = t->map[thing->kind][thing->size - SCENETABLE_SIZE_MIN];
    struct sums sums;
    sums_at(s, &maps[LOOK_PLAIN], thing->size, thing->x, thing->y, &sums);
    for (int c = 0; c < N_COLOURS; c++)
        gain[c] = gain_of(&sums, (enum colour)c);
    for (int c = 0; c < N_COLOURS; c++) {
        enum scenetable_look look = scenetable_look((enum colour)c, p);
        if (look == LOOK_PLAIN)
            continue;
        if (coarse) {
            gain[c] += loose_ring(s, &maps[look], thing);
            continue;
        }
        sums_at(s, &maps[look], thing->size, thing->x, thing->y, &sums);
        gain[c] = gain_of(&sums, (enum colour)c);
    }
}

/* The thing there in its best colour. */
static struct scenefit_thing best_at(const struct scenetable *t, const struct scenefit_scratch *s,
                                     enum place p, struct scene_thing thing, bool coarse)
{
    float gain[N_COLOURS];
    gains_at(t, s, p, &thing, coarse, gain);
    for (int c = 0; c < N_COLOURS; c++)
        if (c == 0 || gain[c] > gain[thing.colour])
            thing.colour = (enum colour)c;
    return (struct scenefit_thing){thing, gain[thing.colour]};
}

/* --- the ground */

static void use_place(const struct scenetable *t, struct scenefit_scratch *s, enum place p, int horizon)
{
    scenetable_put_place(t, p, horizon, s->ground);
    for (int ch = 0; ch < 3; ch++)
        for (int i = 0; i < SCENETABLE_PLANE; i++)
            s->diff[ch][i] = s->picture[ch][i] - s->ground[ch][i];
}

/* For loose_ring: a ring adds `add` to the ground; 2 add diff, at most here or next to here, and add^2. */
static void loosen(const struct scenetable *t, struct scenefit_scratch *s, enum place p)
{
    enum scenetable_look look = scene_outlined(COLOUR_WHITE, p)   ? LOOK_WHITE_RINGED
                                : scene_outlined(COLOUR_BLACK, p) ? LOOK_BLACK_RINGED
                                                                  : LOOK_PLAIN;
    const float *shade = t->map[THING_BALL][0][look].ring_shade;
    float meets[SCENETABLE_PLANE] = {0};
    if (look == LOOK_PLAIN)
        return;
    memset(s->ring_squares, 0, sizeof s->ring_squares);
    for (int ch = 0; ch < 3; ch++)
        for (int i = 0; i < SCENETABLE_PLANE; i++) {
            float add = shade[ch] - s->ground[ch][i];
            meets[i] += 2 * add * s->diff[ch][i];
            s->ring_squares[i] += add * add;
        }
    for (int row = 1; row <= SCENE_SIDE; row++)
        for (int col = 1; col <= SCENE_SIDE; col++) {
            float most = -HUGE_VALF;
            for (int k = 0; k < 9; k++)
                most = fmaxf(most, meets[(row + k / 3 - 1) * SCENETABLE_STRIDE + col + k % 3 - 1]);
            s->ring_meets[row * SCENETABLE_STRIDE + col] = most;
        }
}

static int horizons_of(int place) { return place == PLACE_NIGHT ? 1 : SCENETABLE_HORIZONS; }

/* Squares between picture and rest + seen x empty place, each pixel's at most `cap`. */
static double place_left(const struct scenefit_scratch *s, const float (*empty)[SCENETABLE_PLANE],
                         const float *seen, const float (*rest)[SCENETABLE_PLANE], float cap)
{
    double sum = 0;
    for (int row = 1; row <= SCENE_SIDE; row++)
        for (int i = row * SCENETABLE_STRIDE + 1; i <= row * SCENETABLE_STRIDE + SCENE_SIDE; i++) {
            float square = 0;
            for (int ch = 0; ch < 3; ch++) {
                float there = seen == NULL ? empty[ch][i] : rest[ch][i] + seen[i] * empty[ch][i];
                float d = s->picture[ch][i] - there;
                square += d * d;
            }
            sum += square < cap ? square : cap;
        }
    return sum;
}

/* The best place and horizon. seen NULL: no things are known. */
static void judge_places(const struct scenetable *t, const struct scenefit_scratch *s, const float *seen,
                         const float (*rest)[SCENETABLE_PLANE], float cap, struct scene *scene)
{
    double best = HUGE_VAL;
    for (int p = 0; p < N_PLACES; p++)
        for (int h = 0; h < horizons_of(p); h++) {
            double left = place_left(s, t->place[p][h], seen, rest, cap);
            if (left >= best)
                continue;
            best = left;
            scene->place = (enum place)p;
            scene->horizon = p == PLACE_NIGHT ? 0 : SCENETABLE_HORIZON_MIN + h;
        }
}

/* With things in place: how much of the ground is seen, and what they add themselves. */
static void judge_ground(const struct scenetable *t, const struct scenefit_scratch *s, struct scene *scene)
{
    float black[3][SCENETABLE_PLANE] = {{0}}, white[3][SCENETABLE_PLANE];
    for (int ch = 0; ch < 3; ch++)
        for (int i = 0; i < SCENETABLE_PLANE; i++)
            white[ch][i] = 1;
    for (int i = 0; i < scene->n_things; i++) {
        scenetable_put(t, &scene->thing[i], scene->place, black);
        scenetable_put(t, &scene->thing[i], scene->place, white);
    }
    for (int i = 0; i < SCENETABLE_PLANE; i++)
        white[0][i] -= black[0][i];
    judge_places(t, s, white[0], (const float (*)[SCENETABLE_PLANE])black, HUGE_VALF, scene);
}

/* --- things */

static int by_gain(const void *a, const void *b)
{
    const struct scenefit_thing *x = a, *y = b;
    return x->gain < y->gain ? 1 : x->gain > y->gain ? -1 : 0;
}

static bool fits(const struct scene_thing *t)
{
    return t->size >= SCENETABLE_SIZE_MIN && t->size <= SCENETABLE_SIZE_MAX && t->x >= 0 && t->y >= 0 &&
           t->x + t->size <= SCENE_SIDE && t->y + t->size <= SCENE_SIDE;
}

/* Every kind at every second size and place. */
static void scan(const struct scenetable *t, struct scenefit_scratch *s, enum place p)
{
    s->n_coarse = 0;
    for (int kind = 0; kind < N_THINGS; kind++)
        for (int size = SCENETABLE_SIZE_MIN + 1; size <= SCENETABLE_SIZE_MAX; size += 2)
            for (int y = 0; y + size <= SCENE_SIDE; y += 2)
                for (int x = 0; x + size <= SCENE_SIDE; x += 2) {
                    struct scene_thing thing = {(enum thing)kind, 0, size, x, y};
                    struct scenefit_thing f = best_at(t, s, p, thing, true);
                    ASSERT(s->n_coarse < SCENEFIT_COARSE);
                    if (f.gain > 0)
                        s->coarse[s->n_coarse++] = f;
                }
    qsort(s->coarse, (size_t)s->n_coarse, sizeof *s->coarse, by_gain);
}

/* To the top of the hill, in steps of one in place and size, and of two in size about the centre. */
static struct scenefit_thing climb(const struct scenetable *t, const struct scenefit_scratch *s, enum place p,
                                   struct scene_thing start)
{
    struct scenefit_thing from = best_at(t, s, p, start, false);
    for (int round = 0; round < 8; round++) {
        struct scenefit_thing best = from;
        for (int k = 0; k < 29; k++) {
            struct scene_thing near = from.thing;
            int step = k < 27 ? 0 : k == 27 ? 2 : -2;
            near.x += step != 0 ? -step / 2 : k % 3 - 1;
            near.y += step != 0 ? -step / 2 : k / 3 % 3 - 1;
            near.size += step != 0 ? step : k / 9 - 1;
            if (k == 13 || !fits(&near))
                continue;
            struct scenefit_thing f = best_at(t, s, p, near, false);
            if (f.gain > best.gain)
                best = f;
        }
        if (best.gain <= from.gain)
            break;
        from = best;
    }
    return from;
}

/* Largest side that a thing of a pair has: real ones 13. */
enum { PAIR_SIZE_MAX = 15 };

static int twice_centre(int at, int size) { return 2 * at + size; }

static bool near(const struct scene_thing *a, const struct scene_thing *b, int distance)
{
    return abs(twice_centre(a->x, a->size) - twice_centre(b->x, b->size)) < 2 * distance &&
           abs(twice_centre(a->y, a->size) - twice_centre(b->y, b->size)) < 2 * distance;
}

static bool apart(const struct scene_thing *a, const struct scene_thing *b)
{
    return a->x + a->size <= b->x + 1 || b->x + b->size <= a->x + 1 || a->y + a->size <= b->y + 1 ||
           b->y + b->size <= a->y + 1;
}

/* The best `most` of a kind, at most `size_max` large, no two at one place, each on its hill; those beside
 * `other` where that is not NULL. */
static void collect(const struct scenetable *t, struct scenefit_scratch *s, enum place p, enum thing kind,
                    int size_max, const struct scene_thing *other, int most)
{
    int first = s->n_found;
    struct scene_thing taken[16];
    for (int i = 0; i < s->n_coarse && s->n_found - first < most; i++) {
        const struct scene_thing *c = &s->coarse[i].thing;
        bool free_place = c->kind == kind && c->size <= size_max && (other == NULL || apart(c, other));
        for (int k = first; k < s->n_found && free_place; k++)
            free_place = !near(c, &taken[k - first], 4);
        if (!free_place)
            continue;
        taken[s->n_found - first] = *c;
        s->found[s->n_found++] = climb(t, s, p, *c);
    }
}

/* Best single thing and best pair among the found ones. */
struct choice { const struct scenefit_thing *one, *two[2]; double one_gain, two_gain; };

static struct choice choose(struct scenefit_scratch *s)
{
    struct choice c = {0};
    for (int i = 0; i < s->n_found; i++) {
        const struct scenefit_thing *a = &s->found[i];
        if (a->gain > c.one_gain) {
            c.one = a;
            c.one_gain = a->gain;
        }
        for (int k = 0; k < i; k++) {
            const struct scenefit_thing *b = &s->found[k];
            if ((double)a->gain + b->gain > c.two_gain && a->thing.size <= PAIR_SIZE_MAX &&
                b->thing.size <= PAIR_SIZE_MAX && apart(&a->thing, &b->thing)) {
                c.two[0] = a;
                c.two[1] = b;
                c.two_gain = (double)a->gain + b->gain;
            }
        }
    }
    return c;
}

void scenefit_others(const struct scenefit_scratch *s, struct scenefit *f)
{
    memset(f->other, 0, sizeof f->other);
    for (int i = 0; i < f->scene.n_things; i++)
        for (int k = 0; k < s->n_found; k++) {
            const struct scenefit_thing *found = &s->found[k];
            struct scenefit_thing *other = &f->other[i][found->thing.kind];
            if (near(&found->thing, &f->scene.thing[i], 4) && found->gain > other->gain)
                *other = *found;
        }
}

/* A pair must explain a good deal more than one thing does to be seen. */
static void settle(struct scenefit_scratch *s, struct scenefit *out)
{
    struct choice c = choose(s);
    double all = 0;
    for (int ch = 0; ch < 3; ch++)
        for (int i = 0; i < SCENETABLE_PLANE; i++)
            all += (double)s->diff[ch][i] * s->diff[ch][i];
    bool two = c.two[0] != NULL && all - c.two_gain < 0.75 * (all - c.one_gain);
    out->scene.n_things = two ? 2 : c.one != NULL;
    out->count = out->scene;
    out->count.n_things = two ? 1 : c.two[0] != NULL ? 2 : 0;
    for (int i = 0; i < 2; i++) {
        struct scene *pair = two ? &out->scene : &out->count, *single = two ? &out->count : &out->scene;
        if (c.two[0] != NULL)
            pair->thing[i] = c.two[i]->thing;
        if (i == 0 && c.one != NULL)
            single->thing[0] = c.one->thing;
    }
}

/* A thing beside a large bright one is not among the best of its kind: all of those are on the large one. */
static void collect_all(const struct scenetable *t, struct scenefit_scratch *s, enum place p)
{
    s->n_found = 0;
    for (int kind = 0; kind < N_THINGS; kind++)
        collect(t, s, p, (enum thing)kind, SCENETABLE_SIZE_MAX, NULL, 6);
    int small = s->n_found, first = small;
    for (int kind = 0; kind < N_THINGS; kind++)
        collect(t, s, p, (enum thing)kind, PAIR_SIZE_MAX, NULL, 6);
    for (int i = small; i < s->n_found; i++)
        if (s->found[i].gain > s->found[first].gain)
            first = i;
    struct scene_thing best = s->found[first].thing;
    for (int kind = 0; kind < N_THINGS && first < s->n_found; kind++)
        collect(t, s, p, (enum thing)kind, PAIR_SIZE_MAX, &best, 6);
}

static void find_things(const struct scenetable *t, struct scenefit_scratch *s, struct scenefit *out)
{
    use_place(t, s, out->scene.place, out->scene.horizon);
    loosen(t, s, out->scene.place);
    scan(t, s, out->scene.place);
    collect_all(t, s, out->scene.place);
    settle(s, out);
}

void scenefit(const struct scenetable *t, struct scenefit_scratch *s, const uint8_t *rgb, int side,
              struct scenefit *out)
{
    *out = (struct scenefit){0};
    scenetable_planes(rgb, side, s->picture);
    /* 60 levels in each channel: more is a thing's, and how much more does not matter */
    judge_places(t, s, NULL, NULL, 3 * 60 * 60, &out->scene);
    for (int round = 0; round < 3; round++) {
        find_things(t, s, out);
        struct scene judged = out->scene;
        judge_ground(t, s, &judged);
        if (judged.place == out->scene.place && judged.horizon == out->scene.horizon)
            break;
        out->scene.place = judged.place;
        out->scene.horizon = judged.horizon;
    }
    out->count.place = out->scene.place;
    out->count.horizon = out->scene.horizon;
}
