/* grammar.h - texts about scenes by rules with weights; the same tables write a text and weigh one.
 * Why:    a language model is judged by the exact information of what it has to learn: -log2 of the
 *         probability of a text, over all scenes and all ways in which it can come about.
 * Rules:  a rule has alternatives with whole weights, some only for one value of a fact. A body is text
 *         with names in angle brackets: of rules, of words (facts put into words), of draws (a choice
 *         that later words repeat). "<np 1>" speaks of the second thing, "<np>" of the one in hand, "<^>"
 *         makes the next letter a capital.
 * Ranks:  not collective; all may be called by several threads. */
#ifndef MUSTER_GRAMMAR_H
#define MUSTER_GRAMMAR_H

#include "coordinator/scenes/sceneprior.h"

#include <stddef.h>

/* Facts of a scene, then choices. Those of the second thing stand behind those of the first. Values as
 * in struct scene_facts, things minus 1. */
enum grammar_fact {
    FACT_THINGS, FACT_PLACE, FACT_KIND, FACT_KIND_2, FACT_COLOUR, FACT_COLOUR_2, FACT_SIZE, FACT_SIZE_2,
    FACT_RELATION,
    CHOICE_TURNED,              /* the second thing is named first */
    CHOICE_THE, CHOICE_THE_2,   /* "the", not "a" */
    CHOICE_SIZED, CHOICE_SIZED_2,       /* its size is said */
    CHOICE_PLACE_THE, CHOICE_PLACE_ADJECTIVE,
    CHOICE_ASKED,               /* the colour that a question asks about */
    CHOICE_ASKED_TYPES,         /* bits of questions that were asked */
    N_FACTS, FACT_NONE = -1
};

enum { GRAMMAR_WORD_MAX = 96, GRAMMAR_VALUES_MAX = 16 };

/* ANY: for every value of the rule's fact. */
enum { ANY = -1 };
struct grammar_alternative { int weight, when; const char *body; };

struct grammar_rule {
    const char *name;
    enum grammar_fact on;       /* FACT_NONE: alternatives for every scene */
    bool of_thing;              /* the fact is that of the thing in hand */
    bool once;                  /* an alternative that was taken is not taken again in this text */
    int n;
    const struct grammar_alternative *alternative;
};

/* A word: text made of facts. needs: facts that must be known, FACT_NONE ends; of the thing in hand
 * where there is one for each. */
struct grammar_word {
    const char *name;
    enum grammar_fact needs[6];
    void (*write)(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX]);
};

/* A draw sets a choice: value v of 0..n-1 with weight[v]. */
struct grammar_draw {
    const char *name;
    enum grammar_fact sets, needs[6];
    int n;
    void (*weigh)(const int8_t *facts, int thing, int weight[GRAMMAR_VALUES_MAX]);
};

extern const struct grammar_rule grammar_rules[];       /* the last has no name */
extern const struct grammar_word grammar_words[], grammar_foreign_words[];
extern const struct grammar_draw grammar_draws[];

/* Is the fact one that each thing has? */
static inline bool grammar_of_thing(enum grammar_fact f)
{
    return f == FACT_KIND || f == FACT_COLOUR || f == FACT_SIZE || f == CHOICE_THE || f == CHOICE_SIZED;
}

/* Picks one of n by weight; scene_random behind it, or a test's own. */
struct grammar_picker { int (*pick)(void *ctx, const int *weight, int n); void *ctx; };
int grammar_pick_random(void *scene_random, const int *weight, int n);

/* Writes what rule `start` says of a scene. Returns the length; ends in ASSERT when it does not fit. */
int grammar_write(const char *start, const struct scene_facts *f, struct grammar_picker picker, char *out,
                  size_t cap);

/* The probability of a whole text under rule `start`, over all seen scenes; 0: it cannot be said. */
double grammar_probability(const char *start, const char *text);

#endif
