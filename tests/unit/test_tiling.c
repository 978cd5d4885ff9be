/* Blocks of a picture: every pixel is kept once, has its surroundings, and the grid knows nothing of who
 * computes it. And the sheet: zoom,
 * edges, letters. */
#include "coordinator/image/contactsheet.h"
#include "coordinator/image/tiling.h"

#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static int larger(int a, int b) { return a > b ? a : b; }
static int smaller(int a, int b) { return a < b ? a : b; }

static void check(int width, int height, int reach, int multiple)
{
    struct tiling t;
    uint8_t *kept = calloc((size_t)width * (size_t)height, 1);
    tiling_init(&t, width, height, reach, multiple);
    for (int i = 0; i < tiling_count(&t); i++) {
        struct tiling_block b = tiling_block(&t, i);
        assert_true(b.x % multiple == 0 && b.y % multiple == 0 && b.w % multiple == 0 &&
                    b.h % multiple == 0);
        assert_true(b.x >= 0 && b.y >= 0 && b.x + b.w <= width && b.y + b.h <= height);
        assert_true(b.x <= larger(b.keep_x - reach, 0) && b.y <= larger(b.keep_y - reach, 0));
        assert_true(b.x + b.w >= smaller(b.keep_x + b.keep_w + reach, width));
        assert_true(b.y + b.h >= smaller(b.keep_y + b.keep_h + reach, height));
        for (int y = b.keep_y; y < b.keep_y + b.keep_h; y++)
            for (int x = b.keep_x; x < b.keep_x + b.keep_w; x++)
                kept[y * width + x]++;
    }
    for (int i = 0; i < width * height; i++)
        assert_int_equal(kept[i], 1);
    free(kept);
}

static void test_blocks(void **state)
{
    (void)state;
    check(1, 1, 17, 1);
    check(64, 64, 17, 1);
    check(65, 300, 17, 1);
    check(300, 200, 95, 1);
    check(256, 130, 33, 2);
    check(400, 404, 9, 4);
}

static void test_sheet(void **state)
{
    struct contactsheet s;
    struct err err = {0};
    static const uint8_t red[3] = {255, 0, 0};
    int dark = 0;
    (void)state;
    assert_int_equal(contactsheet_init(&s, 40, 20, &err), ERR_OK);
    contactsheet_put(&s, 38, 18, red, 1, 1, 4);         /* cut at the edge */
    assert_memory_equal(s.rgb + (19 * 40 + 39) * 3, red, 3);
    assert_int_equal(s.rgb[(17 * 40 + 39) * 3 + 1], 255);
    assert_int_equal(contactsheet_write(&s, 0, 0, "car", 40, 1), 3 * SHEET_GLYPH_WIDTH);
    for (int i = 0; i < 40 * 20; i++)
        dark += s.rgb[i * 3] == 0;
    assert_true(dark > 15 && dark < 60);
    assert_int_equal(contactsheet_write(&s, 0, 10, "longer than there is room", 40, 1),
                     6 * SHEET_GLYPH_WIDTH);
    contactsheet_free(&s);
    contactsheet_free(&s);
    assert_int_equal(contactsheet_init(&s, 1 << 20, 1 << 20, &err), ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks), cmocka_unit_test(test_sheet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
