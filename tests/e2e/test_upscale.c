/* test_upscale.c - a picture enlarged by trained networks: the same bytes for every number of ranks and
 * blocks at a time, no seam where blocks meet (the middle of a picture alone, with its surroundings, gives
 * the same pixels), and errors of one line. Needs the networks of the data folder. */
#include "tests/e2e/e2e.h"

#include "coordinator/image/pngfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 150, HEIGHT = 110, SCALE = 4, LIMIT_S = 100 };

static char network[512];

/* Stripes, a disc and some noise, cut at x0, y0. */
static void make_picture(const char *path, int x0, int y0, int w, int h)
{
    struct err err = {0};
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int gx = x + x0, gy = y + y0;
            bool disc = (gx - 60) * (gx - 60) + (gy - 50) * (gy - 50) < 900;
            uint8_t *p = rgb + (y * w + x) * 3;
            p[0] = (uint8_t)(disc ? 220 : gx * 5 % 200);
            p[1] = (uint8_t)(disc ? 40 : gy * 3 % 180 + (gx * 7919 + gy * 104729) % 17);
            p[2] = (uint8_t)(gx / 8 % 2 ? 160 : 60);
        }
    assert_int_equal(pngfile_save(path, rgb, w, h, NULL, 0, &err), ERR_OK);
    free(rgb);
}

static void enlarge(int ranks, const char *in, const char *out, const char *flags)
{
    struct e2e_run r;
    e2e_muster(&r, ranks, LIMIT_S, "upscale '%s' -m '%s' -o '%s' %s", in, network, out, flags);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void any_ranks_and_tiles(void **state)
{
    static const struct { int ranks; const char *flags; } ways[] = {{2, ""}, {3, "--tiles 1"}, {1,
                                                                                                "--tiles 5"}};
    size_t n, n_other;
    make_picture(e2e_place("in.png"), 0, 0, WIDTH, HEIGHT);
    enlarge(1, e2e_place("in.png"), e2e_place("one.png"), "--tiles 1");
    char *one = e2e_read_file(e2e_place("one.png"), &n);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        enlarge(ways[i].ranks, e2e_place("in.png"), e2e_place("other.png"), ways[i].flags);
        char *other = e2e_read_file(e2e_place("other.png"), &n_other);
        assert_true(n == n_other && memcmp(one, other, n) == 0);
        free(other);
    }
    free(one);
}

/* Far from the cut edges, the picture's right part by itself looks as in the whole. */
static void no_seams(void **state)
{
    enum { LEFT = 24, EDGE = 40 };
    struct picture whole, part;
    struct err err = {0};
    int worst = 0;
    make_picture(e2e_place("part.in.png"), LEFT, 0, WIDTH - LEFT, HEIGHT);
    enlarge(2, e2e_place("part.in.png"), e2e_place("part.png"), "");
    assert_int_equal(pngfile_load(&whole, e2e_place("one.png"), &err), ERR_OK);
    assert_int_equal(pngfile_load(&part, e2e_place("part.png"), &err), ERR_OK);
    assert_int_equal(whole.width, WIDTH * SCALE);
    assert_int_equal(part.width, (WIDTH - LEFT) * SCALE);
    for (int y = 0; y < HEIGHT * SCALE; y++)
        for (int x = EDGE * SCALE; x < part.width; x++)
            for (int c = 0; c < 3; c++) {
                int a = whole.rgb[(y * whole.width + x + LEFT * SCALE) * 3 + c];
                int b = part.rgb[(y * part.width + x) * 3 + c];
                worst = abs(a - b) > worst ? abs(a - b) : worst;
            }
    pngfile_free(&whole);
    pngfile_free(&part);
    assert_true(worst <= 1);        /* a half that rounds the other way */
}

static void wrong_input(void **state)
{
    struct e2e_run r;
    e2e_ranks(&r, 2, 20, "upscale nowhere.png -m '%s'", network);
    e2e_expect_error(&r, 3, "nowhere.png");
    e2e_run_free(&r);
    e2e_write_file(e2e_place("text.png"), "no picture", 10);
    e2e_ranks(&r, 2, 20, "upscale '%s' -m '%s'", e2e_place("text.png"), network);
    e2e_expect_error(&r, 3, "text.png");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, 20, "upscale '%s' -m '%s'", e2e_place("in.png"), e2e_place("text.png"));
    e2e_expect_error(&r, 3, "text.png");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, 20, "upscale '%s' -m '%s' -o /proc/x.png", e2e_place("in.png"), network);
    e2e_expect_error(&r, 6, "/proc/x.png");
    e2e_run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_ranks_and_tiles), cmocka_unit_test(no_seams),
                                       cmocka_unit_test(wrong_input)};
    const char *data = e2e_data();
    snprintf(network, sizeof network, "%s/image/realesr_animevideov3_x4.safetensors",
             data != NULL ? data : "");
    if (data == NULL || access(network, R_OK) != 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
