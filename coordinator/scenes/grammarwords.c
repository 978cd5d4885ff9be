/* grammarwords.c - facts of a scene in English words, and the choices that later words repeat. */
#include "coordinator/scenes/grammar.h"
#include "coordinator/scenes/scenetext.h"

#include <stdio.h>
#include <string.h>

static const char *colour_of(const int8_t *facts, int thing)
{
    return scene_colour_name((enum colour)facts[FACT_COLOUR + thing]);
}

static void say(char out[GRAMMAR_WORD_MAX], const char *word)
{
    snprintf(out, GRAMMAR_WORD_MAX, "%s", word);
}

static void say_noun(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say(out, scene_thing_name((enum thing)facts[FACT_KIND + thing]));
}

static void say_colour(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say(out, colour_of(facts, thing));
}

/* Of the colours only orange begins with a vowel. */
static void say_a(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say(out, facts[FACT_COLOUR + thing] == COLOUR_ORANGE ? "an" : "a");
}

static void say_article(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    if (facts[CHOICE_THE + thing])
        say(out, "the");
    else
        say_a(facts, thing, out);
}

static void say_size_article(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say(out, facts[CHOICE_THE + thing] ? "the" : "a");
}

static void say_plain_place(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    const struct scene_place_words *w = &scene_place_words[facts[FACT_PLACE]];
    (void)thing;
    snprintf(out, GRAMMAR_WORD_MAX, "%s the %s", w->preposition, w->noun);
}

static void say_place(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    const struct scene_place_words *w = &scene_place_words[facts[FACT_PLACE]];
    int adjective = facts[CHOICE_PLACE_ADJECTIVE];
    (void)thing;
    snprintf(out, GRAMMAR_WORD_MAX, "%s %s %s%s%s", w->preposition,
             facts[CHOICE_PLACE_THE] ? "the" : "a", adjective > 0 ? w->adjective[adjective - 1] : "",
             adjective > 0 ? " " : "", w->noun);
}

static void say_asked_colour(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    (void)thing;
    say(out, scene_colour_name((enum colour)facts[CHOICE_ASKED]));
}

static void say_yes_or_no(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say(out, facts[CHOICE_ASKED] == facts[FACT_COLOUR + thing] ? "yes" : "no");
}

const struct grammar_word grammar_words[] = {
    {"noun", {FACT_KIND, FACT_NONE}, say_noun},
    {"colour", {FACT_COLOUR, FACT_NONE}, say_colour},
    {"a", {FACT_COLOUR, FACT_NONE}, say_a},
    {"article", {FACT_COLOUR, CHOICE_THE, FACT_NONE}, say_article},
    {"size article", {CHOICE_THE, FACT_NONE}, say_size_article},
    {"plain place", {FACT_PLACE, FACT_NONE}, say_plain_place},
    {"place words", {FACT_PLACE, CHOICE_PLACE_THE, CHOICE_PLACE_ADJECTIVE, FACT_NONE}, say_place},
    {"asked colour", {CHOICE_ASKED, FACT_NONE}, say_asked_colour},
    {"yes or no", {CHOICE_ASKED, FACT_COLOUR, FACT_NONE}, say_yes_or_no},
    {.name = NULL},
};

/* --- draws */

static void weigh_the(const int8_t *facts, int thing, int weight[GRAMMAR_VALUES_MAX])
{
    (void)facts;
    (void)thing;
    weight[0] = 3;
    weight[1] = 1;
}

/* Things of middle size have no size word. */
static void weigh_sized(const int8_t *facts, int thing, int weight[GRAMMAR_VALUES_MAX])
{
    weight[0] = 1;
    weight[1] = facts[FACT_SIZE + thing] != 0;
}

static void weigh_turn(const int8_t *facts, int thing, int weight[GRAMMAR_VALUES_MAX])
{
    (void)facts;
    (void)thing;
    weight[0] = 2;
    weight[1] = 1;
}

static void weigh_place_the(const int8_t *facts, int thing, int weight[GRAMMAR_VALUES_MAX])
{
    (void)thing;
    weight[0] = !scene_place_words[facts[FACT_PLACE]].always_the;
    weight[1] = 1;
}

static void weigh_place_adjective(const int8_t *facts, int thing, int weight[GRAMMAR_VALUES_MAX])
{
    (void)facts;
    (void)thing;
    weight[0] = 2;
    weight[1] = weight[2] = 1;
}

/* The true colour half of the time, else one of those in which the thing may be seen here: a question may
 * name nothing that is held out either. */
static void weigh_asked(const int8_t *facts, int thing, int weight[GRAMMAR_VALUES_MAX])
{
    enum thing t = (enum thing)facts[FACT_KIND + thing];
    enum place p = (enum place)facts[FACT_PLACE];
    int others = 0;
    for (int c = 0; c < N_COLOURS; c++) {
        weight[c] = !scene_pair_held(t, (enum colour)c) && !scene_triple_held(t, (enum colour)c, p) &&
                    c != facts[FACT_COLOUR + thing];
        others += weight[c];
    }
    weight[facts[FACT_COLOUR + thing]] = others;
}

const struct grammar_draw grammar_draws[] = {
    {"the or a", CHOICE_THE, {FACT_NONE}, 2, weigh_the},
    {"say size", CHOICE_SIZED, {FACT_SIZE, FACT_NONE}, 2, weigh_sized},
    {"turn", CHOICE_TURNED, {FACT_NONE}, 2, weigh_turn},
    {"the or a place", CHOICE_PLACE_THE, {FACT_PLACE, FACT_NONE}, 2, weigh_place_the},
    {"place adjective", CHOICE_PLACE_ADJECTIVE, {FACT_NONE}, 3, weigh_place_adjective},
    {"choose colour", CHOICE_ASKED, {FACT_KIND, FACT_COLOUR, FACT_PLACE, FACT_NONE}, N_COLOURS,
     weigh_asked},
    {.name = NULL},
};
