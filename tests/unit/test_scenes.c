/* The built-in world, version 1: the held-out rule, the pixels (hashes fixed for ever), the captions. */
#include "coordinator/scenes/scenepaint.h"
#include "coordinator/scenes/scenetext.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* FNV-1a of the first 64 seen scenes of seed 1. They never change: a new look is a new version. */
#define HASH_32 0x2ebecdd5ddd80f2ull
#define HASH_64 0x1ae1cfe2d0419f01ull

static void test_the_rule(void **state)
{
    (void)state;
    int pairs = 0, triples = 0, relations = 0;
    for (int t = 0; t < N_THINGS; t++)
        for (int c = 0; c < N_COLOURS; c++) {
            pairs += scene_pair_held((enum thing)t, (enum colour)c);
            for (int p = 0; p < N_PLACES; p++)
                if (scene_triple_held((enum thing)t, (enum colour)c, (enum place)p)) {
                    triples++;
                    assert_false(scene_pair_held((enum thing)t, (enum colour)c));
                }
        }
    for (int a = 0; a < N_THINGS; a++)
        for (int b = 0; b < N_THINGS; b++)
            relations += a != b && scene_relation_held((enum thing)a, (enum thing)b);
    assert_int_equal(pairs, 6);
    assert_int_equal(triples, N_THINGS * N_COLOURS * N_PLACES / 8);
    assert_int_equal(relations, 6);
    assert_false(scene_pair_held(THING_CAR, COLOUR_BLUE));
    assert_false(scene_triple_held(THING_CAR, COLOUR_BLUE, PLACE_FIELD));
}

/* Every word of a kind is seen with at least six words of the other kinds. */
static void test_every_word_has_partners(void **state)
{
    (void)state;
    bool with[N_THINGS + N_COLOURS + N_PLACES][N_THINGS + N_COLOURS + N_PLACES] = {{0}};
    for (int t = 0; t < N_THINGS; t++)
        for (int c = 0; c < N_COLOURS; c++)
            for (int p = 0; p < N_PLACES; p++) {
                int id[3] = {t, N_THINGS + c, N_THINGS + N_COLOURS + p};
                if (scene_pair_held((enum thing)t, (enum colour)c) ||
                    scene_triple_held((enum thing)t, (enum colour)c, (enum place)p))
                    continue;
                for (int i = 0; i < 3; i++)
                    for (int k = 0; k < 3; k++)
                        with[id[i]][id[k]] = true;
            }
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        int n = 0;
        for (size_t k = 0; k < sizeof with / sizeof *with; k++)
            n += with[i][k] && i != k;
        assert_true(n >= 6);
    }
}

static bool boxes_are_sound(const struct scene *s)
{
    for (int i = 0; i < s->n_things; i++) {
        const struct scene_thing *t = &s->thing[i];
        int least = s->n_things == 1 ? 11 : 9, most = s->n_things == 1 ? 20 : 13;
        if (t->size < least || t->size > most || t->x < 1 || t->y < 1 ||
            t->x + t->size > SCENE_SIDE - 1 || t->y + t->size > SCENE_SIDE - 1)
            return false;
    }
    const struct scene_thing *a = &s->thing[0], *b = &s->thing[1];
    return s->n_things == 1 || (s->relation == RELATION_LEFT ? a->x + a->size < b->x
                                                              : a->y + a->size < b->y);
}

/* A million samples of what models train on: nothing held out among them. */
static void test_no_leaks(void **state)
{
    (void)state;
    struct scene s;
    for (uint32_t i = 0; i < 1000000; i++) {
        scene_draw(&s, 1, i, SET_SEEN, 0);
        if (scene_set_of(&s) != SET_SEEN || !boxes_are_sound(&s))
            fail_msg("scene %u", i);
    }
    for (int set = SET_PAIR; set < N_SETS; set++)
        for (uint32_t i = 0; i < 1000; i++) {
            scene_draw(&s, 2, i, (enum scene_set)set, set == SET_RELATION ? 0 : 1 + (int)i % 2);
            assert_int_equal(scene_set_of(&s), set);
            assert_true(boxes_are_sound(&s));
        }
}

static uint64_t hash_scenes(int side)
{
    uint64_t h = 1469598103934665603ull;
    for (uint32_t i = 0; i < 64; i++) {
        struct scene s;
        static uint8_t rgb[64 * 64 * 3];
        scene_draw(&s, 1, i, SET_SEEN, 0);
        scene_paint(&s, side, rgb);
        for (int k = 0; k < side * side * 3; k++)
            h = (h ^ rgb[k]) * 1099511628211ull;
    }
    return h;
}

static void test_pixels_are_fixed(void **state)
{
    (void)state;
    assert_int_equal(hash_scenes(32), HASH_32);
    assert_int_equal(hash_scenes(64), HASH_64);
}

/* --- shades: CIE 1976 L*a*b* under D65 */

static void to_lab(struct rgb c, double lab[3])
{
    double v[3] = {c.r / 255.0, c.g / 255.0, c.b / 255.0}, f[3];
    for (int i = 0; i < 3; i++)
        v[i] = v[i] <= 0.04045 ? v[i] / 12.92 : pow((v[i] + 0.055) / 1.055, 2.4);
    double xyz[3] = {(0.4124 * v[0] + 0.3576 * v[1] + 0.1805 * v[2]) / 0.9505,
                     0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2],
                     (0.0193 * v[0] + 0.1192 * v[1] + 0.9505 * v[2]) / 1.089};
    for (int i = 0; i < 3; i++)
        f[i] = xyz[i] > 0.008856 ? cbrt(xyz[i]) : 7.787 * xyz[i] + 16.0 / 116;
    lab[0] = 116 * f[1] - 16;
    lab[1] = 500 * (f[0] - f[1]);
    lab[2] = 200 * (f[1] - f[2]);
}

static void test_things_stand_out(void **state)
{
    (void)state;
    for (int c = 0; c < N_COLOURS; c++)
        for (int p = 0; p < N_PLACES; p++) {
            double a[3], b[3], sum = 0;
            to_lab(scene_thing_shade((enum colour)c), a);
            to_lab(scene_ground_shade((enum place)p), b);
            for (int i = 0; i < 3; i++)
                sum += (a[i] - b[i]) * (a[i] - b[i]);
            if (sqrt(sum) < 20)
                assert_true(scene_outlined((enum colour)c, (enum place)p));
        }
}

static void test_captions(void **state)
{
    (void)state;
    struct scene s = {.place = PLACE_SEA, .horizon = 14, .n_things = 2, .relation = RELATION_LEFT,
                      .thing = {{THING_BOAT, COLOUR_RED, 10, 2, 12}, {THING_HOUSE, COLOUR_YELLOW, 9, 18, 14}}};
    char text[SCENE_CAPTION_MAX], other[SCENE_CAPTION_MAX];
    scene_caption_plain(&s, text);
    assert_string_equal(text, "a red boat left of a yellow house on the sea");
    s = (struct scene){.place = PLACE_FIELD, .horizon = 14, .n_things = 1,
                       .thing = {{THING_BALL, COLOUR_ORANGE, 12, 3, 10}}};
    scene_caption_plain(&s, text);
    assert_string_equal(text, "an orange ball on the field");
    const char *const *words = scene_caption_words();
    bool used[128] = {0};
    int n = 0, different = 0;
    while (words[n] != NULL)
        n++;
    for (uint32_t i = 0; i < 20000; i++) {
        scene_draw(&s, 3, i, SET_SEEN, 0);
        assert_true(scene_caption(&s, 3, i, text) < 120);
        scene_caption(&s, 3, i, other);
        assert_string_equal(text, other);
        scene_caption(&s, 3, i + 1, other);
        different += strcmp(text, other) != 0;
        for (char *w = strtok(text, " "); w != NULL; w = strtok(NULL, " ")) {
            int k = 0;
            while (words[k] != NULL && strcmp(words[k], w) != 0)
                k++;
            if (words[k] == NULL)
                fail_msg("the word \"%s\" is not in the list", w);
            used[k] = true;
        }
    }
    assert_true(different > 10000);
    for (int k = 0; k < n; k++)
        if (!used[k])
            fail_msg("the word \"%s\" is never said", words[k]);
}

static void test_floats_and_back(void **state)
{
    (void)state;
    struct scene s;
    static uint8_t rgb[64 * 64 * 3], back[64 * 64 * 3];
    static float chw[64 * 64 * 3];
    scene_draw(&s, 5, 1, SET_SEEN, 2);
    scene_paint(&s, 64, rgb);
    scene_to_floats(rgb, 64, chw);
    scene_from_floats(chw, 64, back);
    assert_memory_equal(rgb, back, sizeof rgb);
    assert_true(fabsf(chw[0] - ((float)rgb[0] / 127.5f - 1)) < 1e-6f);
    assert_true(fabsf(chw[64 * 64] - ((float)rgb[1] / 127.5f - 1)) < 1e-6f);
}

int main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rule),         cmocka_unit_test(test_every_word_has_partners),
        cmocka_unit_test(test_no_leaks),         cmocka_unit_test(test_pixels_are_fixed),
        cmocka_unit_test(test_things_stand_out), cmocka_unit_test(test_captions),
        cmocka_unit_test(test_floats_and_back),
    };
    if (argc > 1 && strcmp(argv[1], "hashes") == 0)     /* of a new version */
        return printf("%#llx %#llx\n", (unsigned long long)hash_scenes(32),
                      (unsigned long long)hash_scenes(64)) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
