/* Numbers about sets of pictures: against scipy 1.17 (sqrtm), closed forms and tables. */
#include "coordinator/scenes/measure.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_shares(void **state)
{
    (void)state;
    struct measure_interval i = measure_share(8, 10);       /* statsmodels: proportion_confint(8, 10, wilson) */
    assert_true(i.share == 0.8 && fabs(i.low - 0.490163) < 1e-6 && fabs(i.high - 0.943318) < 1e-6);
    i = measure_share(0, 500);
    assert_true(i.low < 1e-12 && fabs(i.high - 0.007624) < 1e-6);
    i = measure_share(500, 500);
    assert_true(i.high > 1 - 1e-12 && fabs(i.low - 0.992376) < 1e-6);
    i = measure_share(0, 0);
    assert_true(i.low == 0 && i.high == 1);
}

/* out [6, 6] = a a' + ridge. */
static void gram(double a[6][6], double ridge, double out[36])
{
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 6; k++) {
            out[i * 6 + k] = i == k ? ridge : 0;
            for (int j = 0; j < 6; j++)
                out[i * 6 + k] += a[i][j] * a[k][j];
        }
}

/* numpy, scipy.linalg.sqrtm: A[i,k] = cos(3k+i^2), B[i,k] = sin(k^2+2i+1), C1 = A A' + 0.2, C2 = B B' + 0.1,
 * means i/2 and i^2/4. */
static void test_frechet_of(void **state)
{
    (void)state;
    double a[6][6], b[6][6], ca[36], cb[36], ma[6], mb[6], d;
    struct err err = {0};
    for (int i = 0; i < 6; i++) {
        ma[i] = i * 0.5;
        mb[i] = i * i * 0.25;
        for (int k = 0; k < 6; k++) {
            a[i][k] = cos(3 * k + i * i);
            b[i][k] = sin(k * k + 2 * i + 1);
        }
    }
    gram(a, 0.2, ca);
    gram(b, 0.1, cb);
    assert_int_equal(measure_frechet_of(6, ma, ca, mb, cb, &d, &err), ERR_OK);
    assert_true(fabs(d - 55.13803336898978) < 1e-7);
    assert_int_equal(measure_frechet_of(6, ma, ca, ma, ca, &d, &err), ERR_OK);
    assert_true(d < 1e-7);
}

/* 300 pictures of 8 x 8 each, whose levels a small generator draws; the second set's reach further. */
static void test_frechet_of_pictures(void **state)
{
    (void)state;
    static struct moments m[2];
    struct err err = {0};
    double d;
    for (int k = 0; k < 2; k++) {
        int64_t at = 12345 + k;
        assert_int_equal(measure_frechet(&m[0], &m[1], &d, &err), ERR_INVAL);
        for (int n = 0; n < 300; n++) {
            uint8_t rgb[8 * 8 * 3];
            for (int i = 0; i < 8 * 8 * 3; i++) {
                at = (at * 1103515245 + 12345) % (INT64_C(1) << 31);
                rgb[i] = (uint8_t)((at >> 16) % (200 + 50 * k));
            }
            measure_add(&m[k], rgb, 8);
        }
    }
    assert_int_equal(measure_frechet(&m[0], &m[1], &d, &err), ERR_OK);
    assert_true(fabs(d / 419137.0715572876 - 1) < 1e-9);
}

/* A picture twice as large has the same boxes. */
static void test_boxes(void **state)
{
    (void)state;
    static struct moments m[2];
    static uint8_t small[8 * 8 * 3], large[16 * 16 * 3];
    for (int i = 0; i < 8 * 8 * 3; i++)
        small[i] = (uint8_t)(i * 37);
    for (int i = 0; i < 16 * 16 * 3; i++)
        large[i] = small[(i / 3 / 16 / 2 * 8 + i / 3 % 16 / 2) * 3 + i % 3];
    measure_add(&m[0], small, 8);
    measure_add(&m[1], large, 16);
    assert_memory_equal(&m[0], &m[1], sizeof m[0]);
}

/* The diversity of n scenes for each of 12 prompts; frozen: all alike. */
static double diversity_of(uint32_t n, bool frozen)
{
    struct diversity d = {0};
    for (uint32_t prompt = 0; prompt < 12; prompt++) {
        struct scene like, s;
        struct scene_facts asked;
        struct spread p = {0};
        scene_draw(&like, 21, prompt, SET_SEEN, 1 + (int)prompt % 2);
        sceneprior_facts(&like, &asked);
        asked.size[0] = asked.size[1] = -1;
        for (uint32_t i = 0; i < n; i++) {
            assert_true(measure_scene(&s, &asked, 22, i));
            measure_spread_add(&p, frozen ? &like : &s, &asked);
        }
        measure_diversity_add(&d, &p, &asked);
    }
    assert_int_equal(d.n, 12);
    return measure_diversity(&d);
}

static void test_diversity(void **state)
{
    (void)state;
    struct diversity none = {0};
    struct spread two = {2};
    struct scene_facts never = {2, N_PLACES, {THING_CAR, THING_CAR}, {-1, -1}, {-1, -1}, -1};
    double real = diversity_of(40, false);
    assert_true(real > 0.9 && real < 1.1);
    assert_true(diversity_of(16, true) == 0);
    measure_diversity_add(&none, &two, &never);
    assert_true(none.n == 0 && measure_diversity(&none) == 0);
}

/* What a caption says is so in every scene that it may be about, and the rest varies. */
static void test_scenes_of_captions(void **state)
{
    (void)state;
    struct scene_facts f = {2, PLACE_SNOW, {THING_STAR, THING_TREE}, {COLOUR_RED, -1}, {1, 2}, 1};
    struct scene s;
    int colours = 0;
    for (uint32_t i = 0; i < 40; i++) {
        assert_true(measure_scene(&s, &f, 3, i));
        assert_true(s.n_things == 2 && s.place == PLACE_SNOW && s.relation == RELATION_ABOVE);
        assert_true(s.thing[0].kind == THING_STAR && s.thing[0].colour == COLOUR_RED && s.thing[0].size <= 10);
        assert_true(s.thing[1].kind == THING_TREE && s.thing[1].size >= 12);
        colours |= 1 << s.thing[1].colour;
    }
    assert_true(__builtin_popcount((unsigned)colours) >= 5);
    f.kind[1] = THING_STAR;     /* two of a kind */
    assert_true(measure_scene(&s, &f, 3, 0) && s.thing[1].kind == THING_STAR && s.thing[1].size >= 12);
    f.relation = -1;
    f.kind[1] = (THING_STAR + 2) % N_THINGS;        /* a pair that is held out */
    assert_true(measure_scene(&s, &f, 3, 0));
    assert_int_equal(scene_set_of(&s) == SET_SEEN, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),     cmocka_unit_test(test_frechet_of),
        cmocka_unit_test(test_frechet_of_pictures), cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_diversity),  cmocka_unit_test(test_scenes_of_captions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
