/* Windows over a text: every token is scored once, with enough before it. */
#include "coordinator/commands/textwindow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void check(struct textwindows t)
{
    int seen[200] = {0}, n = textwindow_count(&t), all = 0;
    for (int i = 0; i < n; i++) {
        struct textwindow w = textwindow_at(&t, i);
        assert_int_equal(w.begin, i * t.stride);
        assert_true(w.end <= t.n && w.end - w.begin <= t.width);
        assert_true(w.end == w.begin + t.width || i == n - 1);
        assert_true(w.scored >= 1);
        for (int k = w.end - w.scored; k < w.end; k++) {
            int before = k - w.begin + t.lead;      /* tokens that the model sees */
            assert_true(before >= 1);
            if (i > 0)
                assert_true(before >= t.width + t.lead - t.stride);
            seen[k]++;
        }
        all += w.scored;
    }
    for (int k = 0; k < t.n; k++)
        assert_int_equal(seen[k], k == 0 && t.lead == 0 ? 0 : 1);
    assert_int_equal(all, textwindow_scored(&t));
    if (n > 0)
        assert_int_equal(textwindow_at(&t, n - 1).end, t.n);
}

static void test_every_token_is_scored_once(void **state)
{
    (void)state;
    for (int lead = 0; lead <= 1; lead++)
        for (int context = 2; context < 12; context++)
            for (int stride = 1; stride < context; stride++)
                for (int n = 2 - lead; n < 60; n++)
                    check((struct textwindows){n, context - lead, stride, lead});
}

static void test_nothing_to_score(void **state)
{
    (void)state;
    assert_int_equal(textwindow_count(&(struct textwindows){0, 7, 4, 1}), 0);
    assert_int_equal(textwindow_count(&(struct textwindows){1, 8, 4, 0}), 0);
    assert_int_equal(textwindow_count(&(struct textwindows){1, 7, 4, 1}), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_token_is_scored_once),
        cmocka_unit_test(test_nothing_to_score),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
