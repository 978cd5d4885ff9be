#include "coordinator/scenes/scenemarks.h"

#include <ctype.h>
#include <string.h>

const char *scenemarks_name(enum scenemark m)
{
    static const char *const names[N_MARKS] = {"place",    "count", "thing", "colour",
                                               "relation", "size",  "all"};
    return names[m];
}

/* --- marks */

static bool same(int asked, int there) { return asked < 0 || asked == there; }

/* Thing i of the caption is thing order[i] of the picture: in the better of the two orders. */
static void match(const struct scene *s, const struct scene_facts *asked, int order[2])
{
    int score[2] = {0, 0};
    for (int turned = 0; turned < 2; turned++)
        for (int i = 0; i < 2; i++) {
            const struct scene_thing *t = &s->thing[turned ? 1 - i : i];
            score[turned] += 3 * same(asked->kind[i], (int)t->kind);
            score[turned] += 2 * same(asked->colour[i], (int)t->colour);
        }
    bool turn = s->n_things == 2 && score[1] > score[0];
    order[0] = turn ? 1 : 0;
    order[1] = turn ? 0 : 1;
}

static int read_relation(const struct scene *s)
{
    return s->relation == RELATION_NONE ? -1 : s->relation == RELATION_ABOVE;
}

void scenemarks(const struct scorer_reading *r, const struct scene_facts *asked, struct scenemarks *out)
{
    const struct scene *s = &r->scene;
    int order[2];
    match(s, asked, order);
    *out = (struct scenemarks){.asked[MARK_PLACE] = asked->place >= 0, .asked[MARK_COUNT] = asked->things > 0,
                               .asked[MARK_RELATION] = asked->things == 2 && asked->relation >= 0,
                               .asked[MARK_ALL] = true};
    bool *right = out->right, counted = s->n_things == asked->things;
    right[MARK_PLACE] = asked->place == (int)s->place;
    right[MARK_COUNT] = counted;
    right[MARK_THING] = right[MARK_COLOUR] = right[MARK_SIZE] = counted;
    right[MARK_RELATION] = counted && asked->relation == read_relation(s) && order[0] == 0;
    for (int i = 0; i < asked->things; i++) {
        int at = order[i] < s->n_things ? order[i] : 0;
        out->asked[MARK_THING] |= asked->kind[i] >= 0;
        out->asked[MARK_COLOUR] |= asked->colour[i] >= 0;
        out->asked[MARK_SIZE] |= asked->size[i] > 0;
        right[MARK_THING] &= same(asked->kind[i], (int)s->thing[at].kind);
        right[MARK_COLOUR] &= same(asked->colour[i], (int)s->thing[at].colour);
        int size = scene_size_class(s, at), named = size < 0 ? 1 : size > 0 ? 2 : 0;
        right[MARK_SIZE] &= asked->size[i] <= 0 || asked->size[i] == named;
    }
    right[MARK_ALL] = true;
    for (int m = 0; m < MARK_ALL; m++) {
        right[m] &= out->asked[m];
        right[MARK_ALL] &= right[m] || !out->asked[m];
    }
    for (int m = 0; m < N_MARKS; m++) {
        out->guess[m] = right[m];
        right[m] &= r->verdict == SCORER_READ;
    }
}

void scenemarks_add(struct scenemarks_tally *t, const struct scorer_reading *r, const struct scenemarks *m)
{
    t->n++;
    t->verdict[r->verdict]++;
    for (int i = 0; i < N_MARKS; i++) {
        t->asked[i] += m->asked[i];
        t->right[i] += m->asked[i] && m->right[i];
        t->guess[i] += m->asked[i] && m->guess[i];
    }
}

/* --- captions */

struct word { const char *word; int value; };

static const struct word kinds[] = {
    {"car", THING_CAR},   {"automobile", THING_CAR}, {"house", THING_HOUSE}, {"home", THING_HOUSE},
    {"tree", THING_TREE}, {"boat", THING_BOAT},      {"ship", THING_BOAT},   {"ball", THING_BALL},
    {"star", THING_STAR}, {NULL, -1},
};
static const struct word colours[] = {
    {"red", COLOUR_RED},   {"orange", COLOUR_ORANGE}, {"yellow", COLOUR_YELLOW}, {"green", COLOUR_GREEN},
    {"blue", COLOUR_BLUE}, {"purple", COLOUR_PURPLE}, {"white", COLOUR_WHITE},   {"black", COLOUR_BLACK},
    {NULL, -1},
};
static const struct word sizes[] = {{"small", 1}, {"little", 1}, {"tiny", 1}, {"big", 2},
                                    {"large", 2}, {"huge", 2},   {NULL, -1}};
static const struct word places[] = {
    {"field", PLACE_FIELD}, {"sea", PLACE_SEA},       {"road", PLACE_ROAD},
    {"sky", PLACE_NIGHT},   {"desert", PLACE_DESERT}, {"snow", PLACE_SNOW}, {NULL, -1},
};
/* Values: 2 x relation, and 1 where the second thing is named first. */
static const struct word relations[] = {{"left", 0},  {"right", 1}, {"above", 2}, {"over", 2},
                                        {"below", 3}, {"under", 3}, {NULL, -1}};

static int look_up(const struct word *list, const char *word)
{
    for (; list->word != NULL; list++)
        if (strcmp(list->word, word) == 0)
            return list->value;
    return -1;
}

static void swap(int pair[2])
{
    int first = pair[0];
    pair[0] = pair[1];
    pair[1] = first;
}

/* The next word in small letters; false at the end. */
static bool next_word(const char **text, char word[32])
{
    const char *p = *text;
    size_t n = 0;
    while (*p != '\0' && !isalpha((unsigned char)*p))
        p++;
    for (; isalpha((unsigned char)*p); p++)
        if (n < 31)
            word[n++] = (char)tolower((unsigned char)*p);
    word[n] = '\0';
    *text = p;
    return n > 0;
}

/* An adjective belongs to the noun that comes next: to a thing, or to a place, where it says nothing. */
bool scenemarks_read_caption(const char *caption, struct scene_facts *out)
{
    char word[32];
    int colour = -1, size = -1, turned = 0;
    *out = (struct scene_facts){0, -1, {-1, -1}, {-1, -1}, {-1, -1}, -1};
    while (next_word(&caption, word)) {
        int kind = look_up(kinds, word), place = look_up(places, word), relation = look_up(relations, word);
        colour = look_up(colours, word) >= 0 ? look_up(colours, word) : colour;
        size = look_up(sizes, word) >= 0 ? look_up(sizes, word) : size;
        if (kind >= 0) {
            if (out->things == 2)
                return false;
            out->kind[out->things] = kind;
            out->colour[out->things] = colour;
            out->size[out->things++] = size;
        } else if (place >= 0) {
            out->place = place;
        } else if (relation >= 0) {
            out->relation = relation / 2;
            turned = relation % 2;
        }
        if (kind >= 0 || place >= 0)
            colour = size = -1;
    }
    if (out->things < 2)
        out->relation = -1;
    if (turned && out->things == 2) {
        swap(out->kind);
        swap(out->colour);
        swap(out->size);
    }
    return out->things > 0;
}
