#include "coordinator/scenes/scene.h"

#include "proto/err.h"
#include "proto/philox.h"

/* --- held out for ever
 *
 * pair:     one colour of each thing is never seen on it.
 * triple:   of each thing and place, one colour is never seen there, though the thing is seen in that
 *           colour elsewhere and in that place in other colours: 36 of 288, an eighth.
 * relation: six ordered pairs of things never stand first left of (or above) second.
 * The rule holds for pictures, captions and text of every model. */

static const enum colour held_colour[N_THINGS] = {COLOUR_PURPLE, COLOUR_BLUE,  COLOUR_ORANGE,
                                                  COLOUR_BLACK,  COLOUR_GREEN, COLOUR_RED};

bool scene_pair_held(enum thing t, enum colour c) { return held_colour[t] == c; }

bool scene_triple_held(enum thing t, enum colour c, enum place p)
{
    int held = (5 * (int)t + 3 * (int)p) % N_COLOURS;
    if (held == (int)held_colour[t])        /* its pair must be seen */
        held = (held + 1) % N_COLOURS;
    return (int)c == held;
}

bool scene_relation_held(enum thing first, enum thing second)
{
    return ((int)second - (int)first + N_THINGS) % N_THINGS == 2;
}

enum scene_set scene_set_of(const struct scene *s)
{
    for (int i = 0; i < s->n_things; i++)
        if (scene_pair_held(s->thing[i].kind, s->thing[i].colour))
            return SET_PAIR;
    for (int i = 0; i < s->n_things; i++)
        if (scene_triple_held(s->thing[i].kind, s->thing[i].colour, s->place))
            return SET_TRIPLE;
    if (s->n_things == 2 && scene_relation_held(s->thing[0].kind, s->thing[1].kind))
        return SET_RELATION;
    return SET_SEEN;
}

/* --- drawing */

int scene_uniform(struct scene_random *r, int n)
{
    uint32_t word[4];
    philox_block(r->seed, r->at / 4, r->index, r->purpose, word);
    return (int)((uint64_t)word[r->at++ % 4] * (uint64_t)n >> 32);
}

static int between(struct scene_random *r, int least, int most)
{
    return least + scene_uniform(r, most - least + 1);
}

/* Things but the star stand on the ground where there is one. */
static int ground_y(struct scene_random *r, const struct scene *s, const struct scene_thing *t)
{
    if (s->place == PLACE_NIGHT || t->kind == THING_STAR)
        return between(r, 1, SCENE_SIDE - 1 - t->size);
    int bottom = s->horizon + 2 > t->size + 1 ? s->horizon + 2 : t->size + 1;
    return between(r, bottom, SCENE_SIDE - 1) - t->size;
}

static void place_alone(struct scene_random *r, struct scene *s)
{
    struct scene_thing *t = &s->thing[0];
    t->size = between(r, 11, 20);
    t->x = between(r, 1, SCENE_SIDE - 1 - t->size);
    t->y = ground_y(r, s, t);
}

/* Two boxes side by side, or one above the other, with a gap of a pixel or more. */
static void place_pair(struct scene_random *r, struct scene *s)
{
    struct scene_thing *a = &s->thing[0], *b = &s->thing[1];
    a->size = between(r, 9, 13);
    b->size = between(r, 9, 13);
    int slack = SCENE_SIDE - 3 - a->size - b->size;     /* margins of 1 and the gap taken off */
    int before = scene_uniform(r, slack + 1), gap = scene_uniform(r, slack - before + 1);
    int first = 1 + before, second = first + a->size + 1 + gap;
    if (s->relation == RELATION_LEFT) {
        a->x = first;
        b->x = second;
        a->y = ground_y(r, s, a);
        b->y = ground_y(r, s, b);
    } else {
        a->y = first;
        b->y = second;
        int centre = between(r, 8, SCENE_SIDE - 9);     /* roughly in one column */
        a->x = centre - a->size / 2;
        b->x = centre + between(r, -2, 2) - b->size / 2;
        a->x = a->x < 1 ? 1 : a->x;
        b->x = b->x < 1 ? 1 : b->x + b->size > SCENE_SIDE - 1 ? SCENE_SIDE - 1 - b->size : b->x;
    }
}

static void draw_once(struct scene_random *r, struct scene *s, int things)
{
    static const int horizon[N_PLACES][2] = {{13, 19}, {12, 18}, {13, 19}, {0, 0}, {13, 19}, {13, 19}};
    *s = (struct scene){0};
    s->place = (enum place)scene_uniform(r, N_PLACES);
    s->horizon = between(r, horizon[s->place][0], horizon[s->place][1]);
    s->n_things = things > 0 ? things : 1 + scene_uniform(r, 2);
    for (int i = 0; i < s->n_things; i++) {
        s->thing[i].kind = (enum thing)scene_uniform(r, N_THINGS);
        s->thing[i].colour = (enum colour)scene_uniform(r, N_COLOURS);
    }
    if (s->n_things == 1) {
        place_alone(r, s);
        return;
    }
    if (s->thing[1].kind == s->thing[0].kind)       /* two of a kind would make captions ambiguous */
        s->thing[1].kind = (enum thing)((s->thing[0].kind + 1 + scene_uniform(r, N_THINGS - 1)) % N_THINGS);
    s->relation = scene_uniform(r, 3) > 0 ? RELATION_LEFT : RELATION_ABOVE;
    place_pair(r, s);
}

void scene_draw(struct scene *s, uint64_t seed, uint32_t index, enum scene_set set, int things)
{
    struct scene_random r = {seed, index, PHILOX_SCENE, 0};
    ASSERT(set < N_SETS && things >= 0 && things <= SCENE_THINGS_MAX);
    if (set == SET_RELATION)
        things = 2;
    do
        draw_once(&r, s, things);       /* the rarest set is an eighth: a few tries */
    while (scene_set_of(s) != set);
}

int scene_size_class(const struct scene *s, int which)
{
    int size = s->thing[which].size;
    if (s->n_things == 1)
        return size <= 13 ? -1 : size >= 17 ? 1 : 0;
    return size <= 10 ? -1 : size >= 12 ? 1 : 0;
}

const char *scene_thing_name(enum thing t)
{
    static const char *const names[N_THINGS] = {"car", "house", "tree", "boat", "ball", "star"};
    return names[t];
}

const char *scene_colour_name(enum colour c)
{
    static const char *const names[N_COLOURS] = {"red",  "orange", "yellow", "green",
                                                 "blue", "purple", "white",  "black"};
    return names[c];
}

const char *scene_place_name(enum place p)
{
    static const char *const names[N_PLACES] = {"field", "sea", "road", "night sky", "desert", "snow"};
    return names[p];
}
