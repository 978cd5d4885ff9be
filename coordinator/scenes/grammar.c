#include "coordinator/scenes/grammar.h"

#include "proto/err.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* --- rules made ready: bodies cut into items, names looked up */

enum { ITEMS_MAX = 1024, ALTERNATIVES_MAX = 256, INHERIT = -1 };

enum item_kind { ITEM_TEXT, ITEM_CAPITAL, ITEM_RULE, ITEM_WORD, ITEM_DRAW };
struct item {
    enum item_kind kind;
    int thing;                  /* 0, 1 or INHERIT */
    const char *text;
    size_t n;
    const struct grammar_rule *rule;
    const struct grammar_word *word;
    const struct grammar_draw *draw;
};

/* Alternative i of a rule: items [begin[first + i], begin[first + i + 1]). */
static struct item items[ITEMS_MAX];
static int begin[ALTERNATIVES_MAX + 1], n_items, n_alternatives;
static int first_of[ALTERNATIVES_MAX];          /* by the rule's number */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Values of the facts of a scene, in the order of the enum. */
static const int values_of[] = {2, N_PLACES, N_THINGS, N_THINGS, N_COLOURS, N_COLOURS, 3, 3, 2};

static const struct grammar_rule *find_rule(const char *name, size_t n)
{
    for (const struct grammar_rule *r = grammar_rules; r->name != NULL; r++)
        if (strlen(r->name) == n && memcmp(r->name, name, n) == 0)
            return r;
    return NULL;
}

static const struct grammar_word *find_word(const struct grammar_word *w, const char *name, size_t n)
{
    for (; w->name != NULL; w++)
        if (strlen(w->name) == n && memcmp(w->name, name, n) == 0)
            return w;
    return NULL;
}

/* A name in brackets, as an item. Unknown names are bugs of the tables. */
static struct item named(const char *name, size_t n)
{
    struct item item = {.thing = INHERIT};
    if (n == 1 && name[0] == '^')
        return (struct item){.kind = ITEM_CAPITAL};
    if (n > 2 && name[n - 2] == ' ' && (name[n - 1] == '0' || name[n - 1] == '1')) {
        item.thing = name[n - 1] - '0';
        n -= 2;
    }
    item.rule = find_rule(name, n);
    item.word = find_word(grammar_words, name, n);
    if (item.word == NULL)
        item.word = find_word(grammar_foreign_words, name, n);
    for (const struct grammar_draw *d = grammar_draws; d->name != NULL; d++)
        if (strlen(d->name) == n && memcmp(d->name, name, n) == 0)
            item.draw = d;
    ASSERT((item.rule != NULL) + (item.word != NULL) + (item.draw != NULL) == 1);
    item.kind = item.rule != NULL ? ITEM_RULE : item.word != NULL ? ITEM_WORD : ITEM_DRAW;
    return item;
}

static void cut_body(const char *body)
{
    while (*body != '\0') {
        ASSERT(n_items < ITEMS_MAX);
        size_t n = strcspn(body, "<");
        if (n > 0) {
            items[n_items++] = (struct item){.kind = ITEM_TEXT, .text = body, .n = n};
            body += n;
            continue;
        }
        n = strcspn(body, ">");
        items[n_items++] = named(body + 1, n - 1);
        body += n + 1;
    }
}

static void make_ready(void)
{
    for (const struct grammar_rule *r = grammar_rules; r->name != NULL; r++) {
        first_of[r - grammar_rules] = n_alternatives;
        for (int i = 0; i < r->n; i++) {
            ASSERT(n_alternatives < ALTERNATIVES_MAX);
            cut_body(r->alternative[i].body);
            begin[++n_alternatives] = n_items;
        }
    }
}

/* The items of an alternative, and what follows them. */
struct frame { const struct item *at, *end; int thing; const struct frame *up; };

static struct frame frame_of(const struct grammar_rule *r, int i, int thing, const struct frame *up)
{
    int a = first_of[r - grammar_rules] + i;
    return (struct frame){items + begin[a], items + begin[a + 1], thing, up};
}

static int fact_at(enum grammar_fact f, int thing)
{
    return (int)f + (grammar_of_thing(f) ? thing : 0);
}

/* Weights of a rule's alternatives for these facts; 0: not for them. Returns their sum. */
static int weigh(const struct grammar_rule *r, const int8_t *facts, int thing,
                 int weight[GRAMMAR_VALUES_MAX])
{
    int sum = 0, value = r->on == FACT_NONE ? ANY : facts[r->on + (r->of_thing ? thing : 0)];
    ASSERT(r->n <= GRAMMAR_VALUES_MAX);
    for (int i = 0; i < r->n; i++) {
        const struct grammar_alternative *a = &r->alternative[i];
        bool fits = a->when == ANY || a->when == value;
        if (r->once && (facts[CHOICE_ASKED_TYPES] >> i & 1))
            fits = false;
        weight[i] = fits ? a->weight : 0;
        sum += weight[i];
    }
    ASSERT(sum > 0);
    return sum;
}

static char capital(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

/* --- writing */

struct writer {
    int8_t facts[N_FACTS];
    struct grammar_picker picker;
    char *out;
    size_t n, cap;
    bool capital;
};

int grammar_pick_random(void *scene_random, const int *weight, int n)
{
    int sum = 0, i = 0;
    for (int k = 0; k < n; k++)
        sum += weight[k];
    int at = scene_uniform(scene_random, sum);
    while (at >= weight[i])
        at -= weight[i++];
    return i;
}

static void put(struct writer *w, const char *s, size_t n)
{
    ASSERT(w->n + n < w->cap);
    memcpy(w->out + w->n, s, n);
    if (w->capital && n > 0) {
        w->out[w->n] = capital(s[0]);
        w->capital = false;
    }
    w->n += n;
}

static void write_items(struct writer *w, struct frame f)
{
    for (; f.at < f.end; f.at++) {
        int thing = f.at->thing == INHERIT ? f.thing : f.at->thing, weight[GRAMMAR_VALUES_MAX];
        char word[GRAMMAR_WORD_MAX];
        if (f.at->kind == ITEM_TEXT) {
            put(w, f.at->text, f.at->n);
        } else if (f.at->kind == ITEM_CAPITAL) {
            w->capital = true;
        } else if (f.at->kind == ITEM_WORD) {
            f.at->word->write(w->facts, thing, word);
            put(w, word, strlen(word));
        } else if (f.at->kind == ITEM_DRAW) {
            const struct grammar_draw *d = f.at->draw;
            d->weigh(w->facts, thing, weight);
            w->facts[fact_at(d->sets, thing)] = (int8_t)w->picker.pick(w->picker.ctx, weight, d->n);
        } else {
            const struct grammar_rule *r = f.at->rule;
            weigh(r, w->facts, thing, weight);
            int i = w->picker.pick(w->picker.ctx, weight, r->n);
            if (r->once)
                w->facts[CHOICE_ASKED_TYPES] |= (int8_t)(1 << i);
            write_items(w, frame_of(r, i, thing, NULL));
        }
    }
}

static void bind(int8_t facts[N_FACTS], const struct scene_facts *f)
{
    memset(facts, -1, N_FACTS);
    facts[CHOICE_ASKED_TYPES] = 0;
    facts[FACT_THINGS] = (int8_t)(f->things < 0 ? -1 : f->things - 1);
    facts[FACT_PLACE] = (int8_t)f->place;
    facts[FACT_RELATION] = (int8_t)f->relation;
    for (int i = 0; i < 2; i++) {
        facts[FACT_KIND + i] = (int8_t)f->kind[i];
        facts[FACT_COLOUR + i] = (int8_t)f->colour[i];
        facts[FACT_SIZE + i] = (int8_t)f->size[i];
    }
}

int grammar_write(const char *start, const struct scene_facts *f, struct grammar_picker picker, char *out,
                  size_t cap)
{
    struct writer w = {.picker = picker, .out = out, .cap = cap};
    pthread_once(&once, make_ready);
    bind(w.facts, f);
    struct item top = named(start, strlen(start));
    write_items(&w, (struct frame){&top, &top + 1, 0, NULL});
    out[w.n] = '\0';
    return (int)w.n;
}

/* --- weighing: all ways to say the text, depth first. A fact that is not known when it is needed is
 * tried with each of its values; what is still not known at the end is summed by the prior. */

struct weigher { int8_t facts[N_FACTS]; };

static double walk(struct weigher *w, struct frame f, const char *text, bool cap, double p);

static double prior_of(const int8_t *facts)
{
    struct scene_facts f = {.things = facts[FACT_THINGS] < 0 ? -1 : facts[FACT_THINGS] + 1,
                            .place = facts[FACT_PLACE], .relation = facts[FACT_RELATION]};
    for (int i = 0; i < 2; i++) {
        f.kind[i] = facts[FACT_KIND + i];
        f.colour[i] = facts[FACT_COLOUR + i];
        f.size[i] = facts[FACT_SIZE + i];
    }
    return sceneprior(&f);
}

/* Sums over the values of a fact of the scene. */
static double try_values(struct weigher *w, int fact, struct frame f, const char *text, bool cap, double p)
{
    double sum = 0;
    ASSERT(fact <= FACT_RELATION);
    for (int v = 0; v < values_of[fact]; v++) {
        w->facts[fact] = (int8_t)v;
        sum += walk(w, f, text, cap, p);
    }
    w->facts[fact] = -1;
    return sum;
}

/* The first of the needed facts that is not known; FACT_NONE: all are. */
static int unknown(const struct weigher *w, const enum grammar_fact *needs, int thing)
{
    for (; *needs != FACT_NONE; needs++)
        if (w->facts[fact_at(*needs, thing)] < 0)
            return fact_at(*needs, thing);
    return FACT_NONE;
}

static double walk_rule(struct weigher *w, struct frame f, int thing, const char *text, bool cap, double p)
{
    const struct grammar_rule *r = f.at->rule;
    int weight[GRAMMAR_VALUES_MAX], fact = r->on == FACT_NONE ? -1 : (int)r->on + (r->of_thing ? thing : 0);
    if (fact >= 0 && w->facts[fact] < 0)
        return try_values(w, fact, f, text, cap, p);
    double sum = 0, total = weigh(r, w->facts, thing, weight);
    struct frame rest = {f.at + 1, f.end, f.thing, f.up};
    for (int i = 0; i < r->n; i++) {
        if (weight[i] == 0)
            continue;
        int8_t asked = w->facts[CHOICE_ASKED_TYPES];
        if (r->once)
            w->facts[CHOICE_ASKED_TYPES] |= (int8_t)(1 << i);
        sum += walk(w, frame_of(r, i, thing, &rest), text, cap, p * weight[i] / total);
        w->facts[CHOICE_ASKED_TYPES] = asked;
    }
    return sum;
}

static double walk_draw(struct weigher *w, struct frame f, int thing, const char *text, bool cap, double p)
{
    const struct grammar_draw *d = f.at->draw;
    int weight[GRAMMAR_VALUES_MAX], fact = unknown(w, d->needs, thing), sets = fact_at(d->sets, thing);
    if (fact != FACT_NONE)
        return try_values(w, fact, f, text, cap, p);
    double sum = 0, total = 0;
    d->weigh(w->facts, thing, weight);
    for (int v = 0; v < d->n; v++)
        total += weight[v];
    f.at++;
    int8_t before = w->facts[sets];
    for (int v = 0; v < d->n; v++) {
        w->facts[sets] = (int8_t)v;
        if (weight[v] > 0)
            sum += walk(w, f, text, cap, p * weight[v] / total);
    }
    w->facts[sets] = before;
    return sum;
}

/* Does the text go on with s [n]? */
static bool goes_on(const char *text, const char *s, size_t n, bool cap)
{
    if (n == 0)
        return true;
    return *text == (cap ? capital(*s) : *s) && strncmp(text + 1, s + 1, n - 1) == 0;
}

/* The sum over all ways from here to the end of the text, each times the prior of its facts. */
static double walk(struct weigher *w, struct frame f, const char *text, bool cap, double p)
{
    for (;; f.at++) {
        while (f.at == f.end) {
            if (f.up == NULL)
                return *text == '\0' ? p * prior_of(w->facts) : 0;
            f = *f.up;
        }
        int thing = f.at->thing == INHERIT ? f.thing : f.at->thing;
        char word[GRAMMAR_WORD_MAX];
        const char *s = f.at->text;
        size_t n = f.at->n;
        switch (f.at->kind) {
        case ITEM_CAPITAL: cap = true; continue;
        case ITEM_RULE: return walk_rule(w, f, thing, text, cap, p);
        case ITEM_DRAW: return walk_draw(w, f, thing, text, cap, p);
        case ITEM_TEXT: break;
        case ITEM_WORD: {
            int fact = unknown(w, f.at->word->needs, thing);
            if (fact != FACT_NONE)
                return try_values(w, fact, f, text, cap, p);
            f.at->word->write(w->facts, thing, word);
            s = word;
            n = strlen(word);
        }
        }
        if (!goes_on(text, s, n, cap))
            return 0;
        text += n;
        cap = cap && n == 0;
    }
}

double grammar_probability(const char *start, const char *text)
{
    struct weigher w;
    static const struct scene_facts nothing = {-1, -1, {-1, -1}, {-1, -1}, {-1, -1}, -1};
    pthread_once(&once, make_ready);
    bind(w.facts, &nothing);
    struct item top = named(start, strlen(start));
    return walk(&w, (struct frame){&top, &top + 1, 0, NULL}, text, false, 1);
}
