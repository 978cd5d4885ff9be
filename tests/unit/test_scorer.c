/* The scorer on pictures whose truth is known: real renders are read, worn ones too, damaged ones are
 * not; marks are what the caption and the reading say. test_scorer_slow.c has thousands. */
#include "coordinator/scenes/scenemarks.h"
#include "coordinator/scenes/scenetext.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/scorercases.h"

static struct scorer *scorer;

static int set_up(void **state)
{
    struct err err = {0};
    (void)state;
    scorer = scorer_new(&err);
    return scorer == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    scorer_destroy(scorer);
    scorer_destroy(NULL);
    return 0;
}

static void test_reads_renders(void **state)
{
    (void)state;
    scorercases_read(scorer, DAMAGE_NONE, 150, 32, 0.99);
    scorercases_read(scorer, DAMAGE_NONE, 50, 64, 0.99);
    scorercases_read(scorer, DAMAGE_WORN, 100, 32, 0.98);
}

static void test_refuses_the_rest(void **state)
{
    (void)state;
    for (int d = DAMAGE_BLOB; d < N_DAMAGES; d++)
        scorercases_refuse(scorer, (enum damage)d, 40, 32, d == DAMAGE_HALF ? 0.85 : 0.95);
}

/* A scene is all right by its own caption, and a thing less, another colour or the other side are not. */
static void test_marks(void **state)
{
    (void)state;
    struct scorer_reading r = {.scene = {PLACE_SEA, 14, 2, {{THING_BOAT, COLOUR_RED, 10, 2, 15},
                                                            {THING_HOUSE, COLOUR_YELLOW, 12, 15, 14}}, RELATION_LEFT}};
    struct scene_facts asked;
    struct scenemarks m;
    assert_true(scenemarks_read_caption("a small red boat left of a yellow house on the blue sea", &asked));
    scenemarks(&r, &asked, &m);
    for (int i = 0; i < N_MARKS; i++)
        assert_true(m.asked[i] && m.right[i]);
    assert_true(scenemarks_read_caption("a yellow home to the right of the red ship on the sea", &asked));
    scenemarks(&r, &asked, &m);
    assert_true(m.right[MARK_ALL] && !m.asked[MARK_SIZE]);
    assert_true(scenemarks_read_caption("a yellow house left of a red boat on the sea", &asked));
    scenemarks(&r, &asked, &m);
    assert_true(m.right[MARK_THING] && m.right[MARK_COLOUR] && !m.right[MARK_RELATION] && !m.right[MARK_ALL]);
    assert_true(scenemarks_read_caption("a red house left of a yellow boat on the sea", &asked));
    scenemarks(&r, &asked, &m);
    assert_true(m.right[MARK_THING] && !m.right[MARK_COLOUR]);
    assert_true(scenemarks_read_caption("a red boat above a yellow house on the sea", &asked));
    scenemarks(&r, &asked, &m);
    assert_true(m.right[MARK_COLOUR] && !m.right[MARK_RELATION]);
    assert_true(scenemarks_read_caption("a red boat in the snow", &asked));
    scenemarks(&r, &asked, &m);
    assert_true(!m.right[MARK_COUNT] && !m.right[MARK_THING] && !m.right[MARK_PLACE] && !m.asked[MARK_RELATION]);
    r.verdict = SCORER_AMBIGUOUS;
    assert_true(scenemarks_read_caption("a red boat left of a yellow house on the sea", &asked));
    scenemarks(&r, &asked, &m);
    for (int i = 0; i < N_MARKS; i++)
        assert_false(m.right[i]);
    assert_false(scenemarks_read_caption("the wide sea", &asked));
    assert_false(scenemarks_read_caption("a car, a car and a car", &asked));
}

/* Every caption of a scene, with all its synonyms, asks for that scene. */
static void test_captions_are_understood(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5000; i++) {
        struct scorer_reading r = {0};
        struct scene_facts asked;
        struct scenemarks m;
        char caption[SCENE_CAPTION_MAX];
        scene_draw(&r.scene, 9, i, (enum scene_set)(i % N_SETS), 0);
        scene_caption(&r.scene, 9, i, caption);
        assert_true(scenemarks_read_caption(caption, &asked));
        scenemarks(&r, &asked, &m);
        if (!m.right[MARK_ALL] || asked.place < 0 || asked.colour[0] < 0)
            fail_msg("%s", caption);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_renders),
        cmocka_unit_test(test_refuses_the_rest),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_captions_are_understood),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
