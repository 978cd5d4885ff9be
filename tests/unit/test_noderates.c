/* What a rank says that products and layers cost: there is a figure for every type, family and number of
 * rows, in an order the planner can use, and of a size that a machine can have. */
#include "proto/comm.h"
#include "workers/noderates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_rates(void **state)
{
    (void)state;
    static const uint32_t types[] = {DT_Q8_0, DT_I32, 99999};   /* the last two are no weights */
    struct comm c[2];
    struct node_facts f = {.threads = 1, .local_ranks = 1, .memory_free = 256 << 20};
    struct err err = {0};
    Muster__NodeReport report;
    assert_int_equal(comm_local_open(c, 1, &err), ERR_OK);
    assert_int_equal(isa_choose(&f.isa, &err), ERR_OK);
    if (noderates_measure(&f, types, 3, &c[0], &err) != ERR_OK)
        fail_msg("%s", err.msg);
    node_report(&f, 0, &report);
    assert_int_equal(report.n_rates, 15);
    for (size_t i = 0; i < report.n_rates; i++) {
        const Muster__Rate *r = report.rates[i], *before = i > 0 ? report.rates[i - 1] : r;
        assert_int_equal(r->type, DT_Q8_0);
        assert_int_equal(r->prompt, i >= 6);
        assert_int_equal(r->segment, i / 3 % 2 ? 256 : 0);
        assert_int_equal(r->columns, i < 12 ? 2048 : 4096);
        assert_true(r->s_per_byte > 1e-13 && r->s_per_byte < 1e-6);
        assert_true(i % 3 == 0 || r->rows > before->rows);
    }
    assert_non_null(report.layer);
    /* next to 0 on a machine so busy that a layer cannot be told from its products */
    assert_true(report.layer->fixed_us > 0 && report.layer->fixed_us < 1e5);
    assert_true(report.layer->number_s > 1e-13 && report.layer->number_s < 1e-6);
    assert_true(report.layer->prepare_s > 1e-13 && report.layer->prepare_s < 1e-6);
    assert_true(report.layer->prepare_prompt_s > 1e-13 && report.layer->prepare_prompt_s < 1e-6);
    assert_true(report.layer->call_s >= 0 && report.layer->call_s < 1e-3);
    assert_true(report.layer->attend_s >= 0 && report.layer->attend_s < 1e-6);
    assert_int_equal(noderates_measure(&f, NULL, 0, &c[0], &err), ERR_OK);     /* nothing asked for */
    assert_int_equal(f.n_rates, 0);
    node_facts_free(&f);
    comm_close(&c[0]);
    comm_close(&c[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
