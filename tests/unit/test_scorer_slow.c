/* The scorer on thousands of renders and of damaged ones: at least 99.5% read rightly, at least 95% of
 * each damage refused (of halves of things, of which some look whole, 85%). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/unit/scorercases.h"

static void test_all(void **state)
{
    (void)state;
    struct err err = {0};
    struct scorer *s = scorer_new(&err);
    assert_non_null(s);
    scorercases_read(s, DAMAGE_NONE, 4000, 32, 0.995);
    scorercases_read(s, DAMAGE_NONE, 1000, 64, 0.995);
    scorercases_read(s, DAMAGE_WORN, 1000, 32, 0.995);
    for (int d = DAMAGE_BLOB; d < N_DAMAGES; d++) {
        scorercases_refuse(s, (enum damage)d, 1000, 32, d == DAMAGE_HALF ? 0.85 : 0.95);
        scorercases_refuse(s, (enum damage)d, 200, 64, d == DAMAGE_HALF ? 0.85 : 0.95);
    }
    scorer_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
