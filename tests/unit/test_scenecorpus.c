/* Texts of the built-in world: their probability is exact (against all derivations, listed), examinations,
 * rhymes, genders; the corpus is fixed. test_scenecorpus_leaks.c scans it for what is held out. */
#include "coordinator/scenes/grammar.h"
#include "coordinator/scenes/scenecorpus.h"
#include "coordinator/scenes/scenetext.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* FNV-1a of the first 200 texts of seed 1: they never change. */
#define HASH 0x831b4fd132396eafull

/* --- every derivation, by counting through the choices */

enum { CHOICES_MAX = 64 };
struct odometer {
    int digit[CHOICES_MAX], weight[CHOICES_MAX][GRAMMAR_VALUES_MAX], n_values[CHOICES_MAX];
    int n, at;
    double p;
};

static int pick_next(void *ctx, const int *weight, int n)
{
    struct odometer *o = ctx;
    int sum = 0;
    if (o->at == o->n) {
        assert_true(o->n < CHOICES_MAX);
        o->digit[o->n] = 0;
        while (weight[o->digit[o->n]] == 0)
            o->digit[o->n]++;
        memcpy(o->weight[o->n], weight, (size_t)n * sizeof *weight);
        o->n_values[o->n++] = n;
    }
    for (int i = 0; i < n; i++)
        sum += weight[i];
    o->p *= (double)weight[o->digit[o->at]] / sum;
    return o->digit[o->at++];
}

/* The next choices; false: that was all. */
static bool advance(struct odometer *o)
{
    for (; o->n > 0; o->n--) {
        int k = o->n - 1;
        do
            o->digit[k]++;
        while (o->digit[k] < o->n_values[k] && o->weight[k][o->digit[k]] == 0);
        if (o->digit[k] < o->n_values[k])
            return true;
    }
    return false;
}

/* Texts and what they weigh, in a hash table. */
enum { SLOTS = 1 << 19 };
static struct { char *text; double p; } table[SLOTS];
static int n_texts;

static void note(const char *text, double p)
{
    uint32_t h = 2166136261u;
    for (const char *s = text; *s != '\0'; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
    h = (h ^ h >> 15) & (SLOTS - 1);
    while (table[h].text != NULL && strcmp(table[h].text, text) != 0)
        h = (h + 1) & (SLOTS - 1);
    if (table[h].text == NULL) {
        table[h].text = strdup(text);
        assert_true(++n_texts < SLOTS / 2);
    }
    table[h].p += p;
}

static void list_all(const char *start, const struct scene_facts *f)
{
    struct odometer o = {.n = 0};
    char text[SCENE_TEXT_MAX];
    double p = sceneprior(f);
    if (p == 0)
        return;
    do {
        o.at = 0;
        o.p = p;
        grammar_write(start, f, (struct grammar_picker){pick_next, &o}, text, sizeof text);
        note(text, o.p);
    } while (advance(&o));
}

/* Every text weighs what its derivations do. Returns the sum. */
static double compare_and_clear(const char *start)
{
    double sum = 0;
    for (int i = 0; i < SLOTS; i++) {
        if (table[i].text == NULL)
            continue;
        double p = grammar_probability(start, table[i].text);
        if (fabs(p - table[i].p) > 1e-12 * table[i].p)
            fail_msg("%s\nweighs %.17g, its derivations %.17g", table[i].text, p, table[i].p);
        sum += p;
        free(table[i].text);
        table[i].text = NULL;
        table[i].p = 0;
    }
    n_texts = 0;
    return sum;
}

/* All texts of a kind about one thing: together as probable as one thing is. */
static void test_one_thing_exact(void **state)
{
    (void)state;
    static const char *const starts[] = {"description", "summary", "dialogue", "couplet", "french",
                                         "exam yes or no"};
    const struct scene_facts any = {1, -1, {-1, -1}, {-1, -1}, {-1, -1}, -1};
    for (size_t n = 0; n < sizeof starts / sizeof *starts; n++) {
        for (int i = 0; i < N_PLACES * N_THINGS * N_COLOURS * 3; i++) {
            struct scene_facts f = {1, i % N_PLACES, {i / 6 % N_THINGS, -1}, {i / 36 % N_COLOURS, -1},
                                    {i / 288, -1}, -1};
            if (f.place == PLACE_NIGHT || (f.kind[0] == THING_BOAT && f.place == PLACE_ROAD)) /* a part */
                list_all(starts[n], &f);
        }
        double sum = compare_and_clear(starts[n]), want = 0;
        struct scene_facts f = any;
        f.place = PLACE_NIGHT;
        want += sceneprior(&f);
        f.place = PLACE_ROAD;
        f.kind[0] = THING_BOAT;
        want += sceneprior(&f);
        assert_true(fabs(sum / want - 1) < 1e-9);
    }
}

/* Two things: all sizes of a few scenes, which their texts name in all but size. */
static void test_two_things_exact(void **state)
{
    (void)state;
    static const char *const starts[] = {"couplet", "spanish", "french"};
    for (size_t n = 0; n < sizeof starts / sizeof *starts; n++)
        for (int i = 0; i < 2; i++) {
            struct scene s;
            struct scene_facts f;
            scene_draw(&s, 11, (uint32_t)i, SET_SEEN, 2);
            sceneprior_facts(&s, &f);
            for (int size = 0; size < 9; size++) {
                f.size[0] = size % 3;
                f.size[1] = size / 3;
                list_all(starts[n], &f);
            }
            f.size[0] = f.size[1] = -1;
            assert_true(fabs(compare_and_clear(starts[n]) / sceneprior(&f) - 1) < 1e-9);
        }
}

static void test_prior(void **state)
{
    (void)state;
    const struct scene_facts any = {-1, -1, {-1, -1}, {-1, -1}, {-1, -1}, -1};
    assert_true(fabs(sceneprior(&any) - 1) < 1e-12);
    struct scene_facts held = any;
    held.kind[0] = THING_CAR;
    held.colour[0] = COLOUR_PURPLE;
    assert_true(sceneprior(&held) == 0);
    enum { N = 200000 };
    int pairs = 0, cars = 0, small = 0;
    for (uint32_t i = 0; i < N; i++) {
        struct scene s;
        scene_draw(&s, 5, i, SET_SEEN, 0);
        pairs += s.n_things == 2;
        cars += s.thing[0].kind == THING_CAR && s.place == PLACE_SEA;
        small += s.n_things == 2 && scene_size_class(&s, 1) < 0;
    }
    struct scene_facts f = any;
    f.things = 2;
    assert_true(fabs(sceneprior(&f) - (double)pairs / N) < 0.005);
    f.size[1] = 1;
    assert_true(fabs(sceneprior(&f) - (double)small / N) < 0.005);
    f = any;
    f.kind[0] = THING_CAR;
    f.place = PLACE_SEA;
    assert_true(fabs(sceneprior(&f) - (double)cars / N) < 0.003);
}

/* What is written can be weighed; and on average the weight is the entropy, so that sums agree. */
static void test_bits(void **state)
{
    (void)state;
    char text[SCENE_TEXT_MAX];
    for (int kind = 0; kind <= N_TEXT_KINDS; kind++)
        for (uint32_t i = 0; i < 150; i++) {
            scene_text(3, i, SET_SEEN, (enum scene_text_kind)kind, NULL, text);
            double bits = scene_text_bits((enum scene_text_kind)kind, text);
            assert_true(bits > 5 && bits < 80);
            text[strlen(text) - 1]++;
            assert_true(isinf(scene_text_bits((enum scene_text_kind)kind, text)));
            strcat(text, "x");
            assert_true(isinf(scene_text_bits((enum scene_text_kind)kind, text)));
        }
    /* a description is one text of eight: three bits */
    scene_text(3, 1, SET_SEEN, TEXT_DESCRIPTION, NULL, text);
    assert_true(fabs(scene_text_bits(TEXT_ANY, text) - scene_text_bits(TEXT_DESCRIPTION, text) - 3) < 1e-9);
    /* of a scene that is held out nothing can be said */
    scene_text(3, 1, SET_PAIR, TEXT_DESCRIPTION, NULL, text);
    assert_true(isinf(scene_text_bits(TEXT_DESCRIPTION, text)));
}

static void expect(const char *start, struct scene_facts f, const char *want)
{
    struct odometer o = {.n = 0};
    char text[SCENE_TEXT_MAX];
    do {
        o.at = 0;
        grammar_write(start, &f, (struct grammar_picker){pick_next, &o}, text, sizeof text);
        if (strcmp(text, want) == 0)
            return;
    } while (advance(&o));
    fail_msg("nobody says: %s", want);
}

static void test_translations(void **state)
{
    (void)state;
    const struct scene_facts star = {1, PLACE_FIELD, {THING_STAR, -1}, {COLOUR_WHITE, -1}, {1, -1}, -1};
    const struct scene_facts tree = {1, PLACE_SNOW, {THING_TREE, -1}, {COLOUR_GREEN, -1}, {2, -1}, -1};
    const struct scene_facts two = {2, PLACE_SEA, {THING_HOUSE, THING_BOAT}, {COLOUR_PURPLE, COLOUR_BLUE},
                                    {0, 2}, 0};
    const struct scene_facts above = {2, PLACE_ROAD, {THING_BALL, THING_TREE}, {COLOUR_BLACK, COLOUR_ORANGE},
                                      {2, 0}, 1};
    expect("french", star, "English: the small white star on a green field\n"
                           "French: la petite étoile blanche dans un champ vert");
    expect("french", star, "English: the white star on the field\nFrench: l'étoile blanche dans le champ");
    expect("french", tree, "English: the green tree in the snow\nFrench: l'arbre vert dans la neige");
    expect("french", tree, "English: a big green tree in the cold snow\n"
                           "French: un grand arbre vert dans la neige froide");
    expect("french", two, "English: a purple house left of the blue boat on the sea\n"
                          "French: une maison violette à gauche du bateau bleu sur la mer");
    expect("french", two, "English: a large blue ship right of the purple home on the wide sea\n"
                          "French: un grand bateau bleu à droite de la maison violette sur la mer immense");
    expect("french", above, "English: a huge black ball above the orange tree on a long road\n"
                            "French: une grande balle noire au-dessus de l'arbre orange sur une longue route");
    expect("french", above, "English: an orange tree below a black ball on the road\n"
                            "French: un arbre orange au-dessous d'une balle noire sur la route");
    expect("spanish", star, "English: a tiny white star on a grassy field\n"
                            "Spanish: una pequeña estrella blanca en un campo herboso");
    expect("spanish", two, "English: the purple house left of the large blue boat on the sea\n"
                           "Spanish: la casa morada a la izquierda del gran barco azul en el mar");
    expect("spanish", above, "English: an orange tree under the black ball on the road\n"
                             "Spanish: un árbol naranja debajo de la pelota negra en la carretera");
}

static void test_exams(void **state)
{
    (void)state;
    char prompt[SCENE_TEXT_MAX], answer[SCENE_TEXT_MAX];
    int yes = 0;
    for (int q = 0; q < N_QUESTIONS; q++)
        for (uint32_t i = 0; i < 200; i++) {
            scene_text_exam(1, i, i % 2 ? SET_SEEN : SET_PAIR, (enum scene_question)q, prompt, answer);
            assert_string_equal(prompt + strlen(prompt) - 3, "\nA:");
            assert_true(answer[0] > ' ' && strchr(answer, '\n') == NULL);
            if (q == QUESTION_YES_NO)
                yes += strcmp(answer, "yes") == 0;
            if (q == QUESTION_COUNT)
                assert_true(strcmp(answer, "one") == 0 || strcmp(answer, "two") == 0);
        }
    assert_in_range(yes, 75, 125);
    scene_text_translation(1, 5, SET_SEEN, TEXT_FRENCH, prompt, answer);
    assert_non_null(strstr(prompt, "English: "));
    assert_string_equal(prompt + strlen(prompt) - 8, "\nFrench:");
    assert_true(strlen(answer) > 10);
}

static void test_rhymes(void **state)
{
    (void)state;
    char text[SCENE_TEXT_MAX];
    for (uint32_t i = 0; i < 3000; i++) {
        scene_text(9, i, SET_SEEN, TEXT_COUPLET, NULL, text);
        if (!scene_text_rhymes(text))
            fail_msg("no rhyme: %s", text);
    }
    assert_false(scene_text_rhymes("I see a red car,\nand it stands so free."));
    assert_false(scene_text_rhymes("I see a red car,\nand it is a car."));
    assert_false(scene_text_rhymes("I see a red car, so far."));
    assert_false(scene_text_rhymes("car\nfar\nstar"));
    assert_false(scene_text_rhymes("\n"));
}

/* Summaries are the plain captions; every index is another text; the corpus is the same for ever. */
static void test_the_corpus(void **state)
{
    (void)state;
    uint64_t h = 1469598103934665603ull;
    for (uint32_t i = 0; i < 200; i++) {
        struct scene s;
        char text[SCENE_TEXT_MAX], caption[SCENE_CAPTION_MAX];
        int n = scene_text(1, i, SET_SEEN, TEXT_SUMMARY, &s, text);
        assert_int_equal(n, strlen(text));
        scene_caption_plain(&s, caption);
        assert_string_equal(strstr(text, "Summary: ") + 9, caption);
        scene_text(1, i, SET_SEEN, TEXT_ANY, NULL, text);
        for (const char *p = text; *p != '\0'; p++)
            h = (h ^ (uint8_t)*p) * 1099511628211ull;
    }
    if (h != HASH)
        fail_msg("the hash is %#llx", (unsigned long long)h);
    assert_string_equal(scene_text_kind_name(TEXT_FRENCH), "french");
    assert_string_equal(scene_question_name(QUESTION_YES_NO), "yes or no");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prior),           cmocka_unit_test(test_one_thing_exact),
        cmocka_unit_test(test_two_things_exact),cmocka_unit_test(test_bits),
        cmocka_unit_test(test_translations),    cmocka_unit_test(test_exams),
        cmocka_unit_test(test_rhymes),          cmocka_unit_test(test_the_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
