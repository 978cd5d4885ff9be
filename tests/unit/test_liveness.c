/* Heartbeats in, verdicts out: named cases, and ten thousand random histories against plain rules. */
#include "proto/liveness.h"
#include "proto/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const struct liveness_limits limits = {.first_us = 20, .silent_us = 5, .stuck_us = 30};

static void test_alive(void **state)
{
    (void)state;
    struct liveness l;
    struct err err = {0};
    assert_int_equal(liveness_init(&l, 2, &limits, 100, &err), ERR_OK);
    for (int64_t t = 100; t < 10000; t += 2) {      /* one loads for ages, one is idle */
        liveness_beat(&l, 0, 7, COMM_WORKING, "loading", t);
        liveness_beat(&l, 1, 3, COMM_IDLE, "", t);
        assert_int_equal(liveness_check(&l, COMM_IDLE, 1, t).fault, LIVENESS_FINE);
    }
    liveness_free(&l);
    liveness_free(&l);
}

static void test_silence(void **state)
{
    (void)state;
    struct liveness l;
    struct err err = {0};
    char line[200];
    assert_int_equal(liveness_init(&l, 3, &limits, 0, &err), ERR_OK);
    for (int i = 0; i < 3; i++)
        liveness_beat(&l, i, 0, COMM_WORKING, "loading the model", 0);
    liveness_beat(&l, 0, 0, COMM_WORKING, "", 4);
    liveness_beat(&l, 2, 0, COMM_WORKING, "", 4);
    assert_int_equal(liveness_check(&l, COMM_IDLE, 0, 5).fault, LIVENESS_FINE);
    struct liveness_verdict v = liveness_check(&l, COMM_IDLE, 0, 6);
    assert_int_equal(v.fault, LIVENESS_SILENT);
    assert_int_equal(v.rank, 1);
    assert_int_equal(v.for_us, 6);
    liveness_describe(&l, &v, line, sizeof line);
    assert_non_null(strstr(line, "rank 1"));
    assert_non_null(strstr(line, "loading the model"));
    /* it was only slow */
    liveness_beat(&l, 1, 0, COMM_WORKING, "", 7);
    assert_int_equal(liveness_check(&l, COMM_IDLE, 0, 7).fault, LIVENESS_FINE);
    liveness_free(&l);
}

static void test_first_beat_and_a_good_end(void **state)
{
    (void)state;
    struct liveness l;
    struct err err = {0};
    assert_int_equal(liveness_init(&l, 2, &limits, 0, &err), ERR_OK);
    liveness_beat(&l, 0, 0, COMM_GONE, "", 1);
    assert_int_equal(liveness_check(&l, COMM_IDLE, 0, 20).fault, LIVENESS_FINE);
    struct liveness_verdict v = liveness_check(&l, COMM_IDLE, 0, 21);
    assert_int_equal(v.fault, LIVENESS_SILENT);
    assert_int_equal(v.rank, 1);
    liveness_free(&l);
}

static void test_stuck(void **state)
{
    (void)state;
    struct liveness l;
    struct err err = {0};
    char line[200];
    assert_int_equal(liveness_init(&l, 2, &limits, 0, &err), ERR_OK);
    int64_t t = 0;
    for (; t <= 30; t += 2) {
        liveness_beat(&l, 0, 5, COMM_IDLE, "", t);
        liveness_beat(&l, 1, 9, COMM_WAITING, "waiting for rank 0 on tp", t);
        assert_int_equal(liveness_check(&l, COMM_IDLE, 2, t).fault, LIVENESS_FINE);
    }
    liveness_beat(&l, 0, 5, COMM_IDLE, "", t);
    liveness_beat(&l, 1, 9, COMM_WAITING, "waiting for rank 0 on tp", t);
    /* a coordinator that is busy may be the one that will answer */
    struct liveness other = l;
    assert_int_equal(liveness_check(&other, COMM_WORKING, 2, t).fault, LIVENESS_FINE);
    struct liveness_verdict v = liveness_check(&l, COMM_IDLE, 2, t);
    assert_int_equal(v.fault, LIVENESS_STUCK);
    assert_int_equal(v.rank, 1);
    liveness_describe(&l, &v, line, sizeof line);
    assert_non_null(strstr(line, "waiting for rank 0 on tp"));
    liveness_beat(&l, 1, 10, COMM_WAITING, "", t);      /* a message came after all */
    assert_int_equal(liveness_check(&l, COMM_IDLE, 2, t + 1).fault, LIVENESS_FINE);
    liveness_free(&l);
}

static void test_questions_and_goodbyes(void **state)
{
    (void)state;
    struct liveness l;
    assert_int_equal(liveness_init(&l, 3, &limits, 0, NULL), ERR_OK);
    for (int i = 0; i < 3; i++)
        liveness_beat(&l, i, 0, COMM_WORKING, "", 1);
    liveness_ask(&l);
    liveness_beat(&l, 0, 0, COMM_WORKING, "", 2);       /* was on its way: no answer */
    assert_int_equal(liveness_unanswered(&l), 0);
    liveness_answer(&l, 0);
    liveness_answer(&l, 2);
    assert_int_equal(liveness_unanswered(&l), 1);
    assert_false(liveness_any_gone(&l));
    liveness_beat(&l, 1, 0, COMM_GONE, "", 2);
    assert_int_equal(liveness_unanswered(&l), -1);
    assert_true(liveness_any_gone(&l));
    liveness_ask(&l);
    assert_int_equal(liveness_unanswered(&l), 0);
    assert_int_equal(liveness_check(&l, COMM_IDLE, 0, 50).fault, LIVENESS_SILENT);
    liveness_forgive(&l, 50);
    assert_int_equal(liveness_check(&l, COMM_IDLE, 0, 55).fault, LIVENESS_FINE);
    assert_int_equal(liveness_check(&l, COMM_IDLE, 0, 56).fault, LIVENESS_SILENT);
    liveness_free(&l);
}

/* Ranks beat every 2; one of them stops at a random moment: nothing is said before its silence is due,
 * everything after it. */
static void test_random_histories(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 10000; seed++) {
        struct liveness l;
        uint32_t r[4];
        philox_block(seed, 0, 0, 0, r);
        int n = 1 + (int)(r[0] % 6), victim = (int)(r[1] % (uint32_t)n);
        int64_t death = r[2] % 60, last = -1;
        assert_int_equal(liveness_init(&l, n, &limits, 0, NULL), ERR_OK);
        for (int64_t t = 0; t < 100; t++) {
            for (int i = 0; i < n; i++) {
                if ((t + i) % 2 != 0 || (i == victim && t >= death))
                    continue;
                philox_block(seed, (uint64_t)(t * n + i), 1, 0, r);
                liveness_beat(&l, i, (uint64_t)t, (enum comm_activity)(r[0] % 3), "", t);
                last = i == victim ? t : last;
            }
            struct liveness_verdict v = liveness_check(&l, COMM_IDLE, 0, t);
            int due = last < 0 ? t > limits.first_us : t - last > limits.silent_us;
            assert_int_equal(v.fault, due ? LIVENESS_SILENT : LIVENESS_FINE);
            if (due)
                assert_int_equal(v.rank, victim);
        }
        liveness_free(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alive),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_first_beat_and_a_good_end),
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_questions_and_goodbyes),
        cmocka_unit_test(test_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
