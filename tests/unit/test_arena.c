/* The arena: alignment, limits, marks; and who wants more than there is gets NULL. */
#include "proto/arena.h"
#include "proto/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void test_takes(void **state)
{
    (void)state;
    struct arena a;
    assert_int_equal(arena_init(&a, 1000), ERR_OK);
    assert_int_equal(a.cap, 1024);
    uint8_t *p = arena_take(&a, 1), *q = arena_take(&a, 65), *r = arena_take(&a, 0);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_ptr_equal(q, p + 64);
    assert_ptr_equal(r, q + 128);
    memset(p, 7, 1);
    memset(q, 7, 65);
    size_t mark = arena_mark(&a);
    assert_non_null(arena_take(&a, 832));
    assert_null(arena_take(&a, 1));
    arena_release(&a, mark);
    assert_null(arena_take(&a, 833));
    assert_null(arena_take(&a, SIZE_MAX));
    assert_null(arena_take(&a, SIZE_MAX - 63));
    assert_ptr_equal(arena_take(&a, 64), r);
    assert_int_equal(a.peak, 1024);
    arena_reset(&a);
    uint8_t *z = arena_take_zeroed(&a, 200);
    assert_ptr_equal(z, p);
    for (int i = 0; i < 200; i++)
        assert_int_equal(z[i], 0);
    arena_free(&a);
    assert_null(a.base);
    arena_free(&a);
}

static void test_sizes(void **state)
{
    (void)state;
    struct arena a;
    assert_int_equal(arena_init(&a, 0), ERR_OK);
    assert_non_null(arena_take(&a, 1));
    assert_null(arena_take(&a, 1));
    arena_free(&a);
    assert_int_equal(arena_init(&a, SIZE_MAX / 2), ERR_NOMEM);
    assert_int_equal(arena_init(&a, SIZE_MAX), ERR_NOMEM);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
