/* scene.h - the built-in world, version 1: what is in a scene, drawn from (seed, index).
 * Why:    trainers need endless pictures whose truth is known; a scene is a handful of whole numbers.
 * Fixed:  version 1 never changes: pixel hashes and captions are tested.
 * Units:  whole pixels of the 32 x 32 picture (64 x 64 is the same scene twice as large).
 * Ranks:  not collective; pure arithmetic on integers. */
#ifndef MUSTER_SCENE_H
#define MUSTER_SCENE_H

#include <stdbool.h>
#include <stdint.h>

enum { SCENE_VERSION = 1, SCENE_SIDE = 32, SCENE_THINGS_MAX = 2 };

enum thing { THING_CAR, THING_HOUSE, THING_TREE, THING_BOAT, THING_BALL, THING_STAR, N_THINGS };
enum colour { COLOUR_RED, COLOUR_ORANGE, COLOUR_YELLOW, COLOUR_GREEN, COLOUR_BLUE, COLOUR_PURPLE,
              COLOUR_WHITE, COLOUR_BLACK, N_COLOURS };
enum place { PLACE_FIELD, PLACE_SEA, PLACE_ROAD, PLACE_NIGHT, PLACE_DESERT, PLACE_SNOW, N_PLACES };
/* Of things[0] to things[1]: the first is left of, or above, the second. */
enum relation { RELATION_NONE, RELATION_LEFT, RELATION_ABOVE };

struct scene_thing {
    enum thing kind;
    enum colour colour;
    int size;               /* side of its box: 11..20 alone, 9..13 in a pair */
    int x, y;               /* upper left corner of the box */
};

struct scene {
    enum place place;
    int horizon;            /* first row of ground; 0 for the night sky, which has none */
    int n_things;
    struct scene_thing thing[SCENE_THINGS_MAX];
    enum relation relation;
};

/* Which set a scene belongs to, by the published rule (scene.c). A scene that meets several is the
 * first that applies. */
enum scene_set { SET_SEEN, SET_PAIR, SET_TRIPLE, SET_RELATION, N_SETS };

/* The rule. (car, blue, field) is seen. */
bool scene_pair_held(enum thing t, enum colour c);
bool scene_triple_held(enum thing t, enum colour c, enum place p);
bool scene_relation_held(enum thing first, enum thing second);
enum scene_set scene_set_of(const struct scene *s);

/* Scene `index` of a set: the same for ever. things: 1, 2, or 0 for either (half each); a relation
 * set has two. Every index of SET_SEEN is a seen scene, and so on. */
void scene_draw(struct scene *s, uint64_t seed, uint32_t index, enum scene_set set, int things);

/* Words for a size: -1 small, 0 none, 1 big. */
int scene_size_class(const struct scene *s, int which);

const char *scene_thing_name(enum thing t);
const char *scene_colour_name(enum colour c);
const char *scene_place_name(enum place p);

/* A row of uniform whole numbers, by place: draw i of scene (seed, index). */
struct scene_random { uint64_t seed; uint32_t index, purpose; uint64_t at; };
int scene_uniform(struct scene_random *r, int n);       /* 0 .. n - 1 */

#endif
