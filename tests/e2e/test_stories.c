/* test_stories.c - a trained model's greedy text, on every layout of up to four ranks.
 * Oracle: the text that a float64 forward of the same file gives (see the data's own notes). */
#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { int ranks, tp, pp; } layouts[] = {
    {0, 1, 1}, {1, 1, 1}, {2, 2, 1}, {2, 1, 2}, {3, 3, 1}, {3, 1, 3}, {4, 4, 1}, {4, 2, 2}, {4, 1, 4},
};

/* Without the newlines at the end, which the command and the file add as they please. */
static void strip(char *s)
{
    size_t n = strlen(s);
    while (n > 0 && s[n - 1] == '\n')
        s[--n] = 0;
}

static char *wanted_text(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/llm/stories260K.greedy200.txt", e2e_data());
    char *text = e2e_read_file(path, NULL);
    assert_non_null(text);
    strip(text);
    return text;
}

static void greedy_text_on_every_layout(void **state)
{
    char *want = wanted_text();
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        struct e2e_run r;
        e2e_muster(&r, layouts[i].ranks, 60,
                   "generate -m '%s/llm/stories260K.gguf' -p 'Once upon a time' -n 200 --temp 0 "
                   "--tp %d --pp %d", e2e_data(), layouts[i].tp, layouts[i].pp);
        e2e_expect(&r, 0);
        assert_true(r.n_out > 0 && r.out[r.n_out - 1] == '\n');
        strip(r.out);
        if (strcmp(r.out, want) != 0)
            fail_msg("tp %d pp %d printed: %s", layouts[i].tp, layouts[i].pp, r.out);
        e2e_run_free(&r);
    }
    free(want);
}

/* The layout that the planner chooses must do as well, whatever it is. */
static void greedy_text_on_the_planned_layout(void **state)
{
    char *want = wanted_text();
    for (int ranks = 2; ranks <= 4; ranks++) {
        struct e2e_run r;
        e2e_muster(&r, ranks, 60,
                   "generate -m '%s/llm/stories260K.gguf' -p 'Once upon a time' -n 200 --temp 0 "
                   "--no-echo", e2e_data());
        e2e_expect(&r, 0);
        strip(r.out);
        assert_string_equal(r.out, want + strlen("Once upon a time"));
        e2e_run_free(&r);
    }
    free(want);
}

int main(void)
{
    if (!e2e_data())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_text_on_every_layout),
        cmocka_unit_test(greedy_text_on_the_planned_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
