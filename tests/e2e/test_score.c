/* test_score.c - folders of pictures against their captions: real scenes are right, those with the captions
 * of others are not, and every error is one line. */
#include "coordinator/image/pngfile.h"
#include "coordinator/scenes/scenepaint.h"
#include "coordinator/scenes/scenetext.h"
#include "tests/e2e/e2e.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LIMIT_S = 60, N_PICTURES = 40 };

static const char *folder(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", e2e_dir(), name);
    mkdir(path[turn], 0777);
    return path[turn];
}

/* A picture with the record of a caption; NULL: with none. */
static void save(const char *path, const uint8_t *rgb, int side, const char *caption)
{
    char record[512];
    struct err err = {0};
    snprintf(record, sizeof record, "{\"prompt\": \"%s\", \"seed\": 1}", caption);
    struct picture_text text = {(char *)"muster", record};
    assert_int_equal(pngfile_save(path, rgb, side, side, &text, caption != NULL, &err), ERR_OK);
}

/* Real scenes; the caption of each is that of the scene `shift` further on. */
static void make(const char *dir, int side, uint32_t shift)
{
    static uint8_t rgb[64 * 64 * 3];
    for (uint32_t i = 0; i < N_PICTURES; i++) {
        char path[600], caption[SCENE_CAPTION_MAX];
        struct scene s;
        scene_draw(&s, 5, i + shift, SET_SEEN, 0);
        scene_caption(&s, 5, i + shift, caption);
        scene_draw(&s, 5, i, SET_SEEN, 0);
        scene_paint(&s, side, rgb);
        snprintf(path, sizeof path, "%s/%06u.png", dir, i);
        save(path, rgb, side, caption);
    }
}

static char *score(const char *args)
{
    struct e2e_run r;
    e2e_muster(&r, 0, LIMIT_S, "score %s", args);
    e2e_expect(&r, 0);
    free(r.err);
    return r.out;
}

static void real_pictures_are_right(void **state)
{
    (void)state;
    for (int side = 32; side <= 64; side += 32) {
        char args[600];
        make(folder("real"), side, 0);
        snprintf(args, sizeof args, "%s --distance", folder("real"));
        char *table = score(args);
        assert_non_null(strstr(table, "40 pictures of"));
        assert_non_null(strstr(table, "\nall         100.0% "));
        assert_non_null(strstr(table, "\nrelation    100.0% "));
        assert_non_null(strstr(table, "\ndistance "));
        free(table);
    }
}

static void other_captions_are_wrong(void **state)
{
    (void)state;
    make(folder("other"), 32, 1);
    char *table = score(folder("other"));
    assert_non_null(strstr(table, "residual 0 unexplained 0 ambiguous 0"));
    assert_non_null(strstr(table, "\nall           0.0% "));
    free(table);
}

static void each_reading(void **state)
{
    (void)state;
    static uint8_t rgb[32 * 32 * 3];
    struct scene s = {PLACE_SEA, 14, 1, {{THING_BOAT, COLOUR_RED, 12, 5, 15}}, RELATION_NONE};
    char path[600];
    scene_paint(&s, 32, rgb);
    snprintf(path, sizeof path, "%s/boat.png", folder("each"));
    save(path, rgb, 32, "a red ship on the sea");
    snprintf(path, sizeof path, "%s/sheet.png", folder("each"));
    save(path, rgb, 32, NULL);
    snprintf(path, sizeof path, "%s --each", folder("each"));
    char *line = score(path);
    json_t *o = json_loads(line, 0, NULL), *thing = json_array_get(json_object_get(o, "things"), 0);
    assert_true(json_is_true(json_object_get(o, "right")));
    assert_string_equal(json_string_value(json_object_get(o, "place")), "sea");
    assert_string_equal(json_string_value(json_object_get(thing, "thing")), "boat");
    assert_string_equal(json_string_value(json_object_get(thing, "colour")), "red");
    assert_int_equal(json_integer_value(json_object_get(thing, "x")), 5);
    json_decref(o);
    free(line);
}

static void refused(const char *args, int status, const char *what)
{
    struct e2e_run r;
    const char *first;
    e2e_muster(&r, 0, LIMIT_S, "score %s", args);
    e2e_expect(&r, status);
    assert_int_equal(e2e_count_errors(r.err, &first), 1);
    if (strstr(first, what) == NULL)
        fail_msg("score %s: %s", args, r.err);
    e2e_run_free(&r);
}

static void bad_input(void **state)
{
    (void)state;
    static uint8_t rgb[48 * 48 * 3];
    char path[600];
    refused("", 2, "wants a folder");
    refused("/no/such/folder", 3, "No such file");
    refused(folder("empty"), 3, "no picture with the record");
    snprintf(path, sizeof path, "%s/odd.png", folder("odd"));
    save(path, rgb, 48, "a red car on the road");
    refused(path, 3, "48 x 48");
    snprintf(path, sizeof path, "%s/zebra.png", folder("zebra"));
    save(path, rgb, 32, "a zebra");
    refused(path, 3, "zebra.png: 'a zebra' names no");
    e2e_write_file(path, "not a picture", 13);
    refused(path, 3, "zebra.png");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_pictures_are_right), cmocka_unit_test(other_captions_are_wrong),
        cmocka_unit_test(each_reading),            cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
