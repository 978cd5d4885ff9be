#include "coordinator/scenes/scenetext.h"

#include "proto/philox.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Each list's first word is the plain one and is drawn half of the time. */
static const char *const nouns[N_THINGS][3] = {{"car", "automobile"}, {"house", "home"}, {"tree"},
                                               {"boat", "ship"},      {"ball"},          {"star"}};
static const char *const small_words[] = {"small", "little", "tiny"};
static const char *const big_words[] = {"big", "large", "huge"};
static const char *const left_words[] = {"left of", "to the left of"};
static const char *const right_words[] = {"right of", "to the right of"};
static const char *const above_words[] = {"above", "over"};
static const char *const below_words[] = {"below", "under"};

const struct scene_place_words scene_place_words[N_PLACES] = {
    {"on", "field", {"green", "grassy"}, false}, {"on", "sea", {"blue", "wide"}, true},
    {"on", "road", {"gray", "long"}, false},     {"in", "night sky", {"dark", "dark"}, true},
    {"in", "desert", {"sandy", "dry"}, false},   {"in", "snow", {"white", "cold"}, true},
};

static const char *const words[] = {
    "a", "above", "an", "automobile", "ball", "below", "big", "black", "blue", "boat", "car", "cold",
    "dark", "desert", "dry", "field", "grassy", "gray", "green", "home", "house", "huge", "in", "large",
    "left", "little", "long", "night", "of", "on", "orange", "over", "purple", "red", "right", "road",
    "sandy", "sea", "ship", "sky", "small", "snow", "star", "the", "tiny", "to", "tree", "under",
    "white", "wide", "yellow", NULL,
};

const char *const *scene_caption_words(void) { return words; }

struct caption {
    char *out;
    int n;
    struct scene_random r;
    bool plain;
};

static void put(struct caption *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct caption *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int room = SCENE_CAPTION_MAX - c->n, n = vsnprintf(c->out + c->n, (size_t)room, fmt, ap);
    va_end(ap);
    c->n += n < room ? n : room - 1;
}

/* The first of n half of the time, else one of the others. */
static const char *choose(struct caption *c, const char *const *from, int n)
{
    if (c->plain || n == 1 || scene_uniform(&c->r, 2) == 0)
        return from[0];
    return from[1 + scene_uniform(&c->r, n - 1)];
}

static bool starts_with_vowel(const char *word) { return strchr("aeiou", word[0]) != NULL; }

static void put_thing(struct caption *c, const struct scene *s, int which)
{
    const struct scene_thing *t = &s->thing[which];
    int size = scene_size_class(s, which), synonyms = nouns[t->kind][1] != NULL ? 2 : 1;
    const char *adjective = "", *colour = scene_colour_name(t->colour);
    const char *noun = choose(c, nouns[t->kind], synonyms);
    if (!c->plain && size != 0 && scene_uniform(&c->r, 2) == 0)
        adjective = choose(c, size < 0 ? small_words : big_words, 3);
    const char *article = starts_with_vowel(adjective[0] != '\0' ? adjective : colour) ? "an" : "a";
    if (!c->plain && scene_uniform(&c->r, 4) == 0)
        article = "the";
    put(c, "%s %s%s%s %s", article, adjective, adjective[0] != '\0' ? " " : "", colour, noun);
}

static void put_place(struct caption *c, enum place p)
{
    const char *adjective = "";
    if (!c->plain && scene_uniform(&c->r, 2) == 0)
        adjective = choose(c, scene_place_words[p].adjective, 2);
    const struct scene_place_words *w = &scene_place_words[p];
    const char *article = w->always_the || c->plain || scene_uniform(&c->r, 2) == 0 ? "the" : "a";
    put(c, " %s %s %s%s%s", w->preposition, article, adjective, adjective[0] != '\0' ? " " : "", w->noun);
}

/* "first relation second", or the same the other way round. */
static void put_pair(struct caption *c, const struct scene *s)
{
    bool left = s->relation == RELATION_LEFT;
    bool turned = !c->plain && scene_uniform(&c->r, 3) == 0;
    const char *const *forth = left ? left_words : above_words;
    const char *const *back = left ? right_words : below_words;
    put_thing(c, s, turned ? 1 : 0);
    put(c, " %s ", choose(c, turned ? back : forth, 2));
    put_thing(c, s, turned ? 0 : 1);
}

static int caption(const struct scene *s, struct caption *c)
{
    c->out[0] = '\0';
    if (s->n_things == 1)
        put_thing(c, s, 0);
    else
        put_pair(c, s);
    put_place(c, s->place);
    return c->n;
}

int scene_caption(const struct scene *s, uint64_t seed, uint32_t variant, char out[SCENE_CAPTION_MAX])
{
    /* the scene's own numbers take draws 0..2^20 of (seed, index); captions come after them */
    struct caption c = {.out = out, .r = {seed, variant, PHILOX_SCENE, 1u << 24}};
    return caption(s, &c);
}

int scene_caption_plain(const struct scene *s, char out[SCENE_CAPTION_MAX])
{
    struct caption c = {.out = out, .plain = true};
    return caption(s, &c);
}
