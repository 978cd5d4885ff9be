/* test_planning.c - `muster plan` as a user asks it: what it says adds up, agrees with what a run then
 * holds, and an answer of "no" says what would do. */
#include "tests/e2e/e2e.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT_S = 60 };

static json_t *plan_json(const char *args)
{
    struct e2e_run r;
    e2e_muster(&r, 0, LIMIT_S, "plan --json %s", args);
    e2e_expect(&r, 0);
    json_error_t e;
    json_t *root = json_loads(r.out, 0, &e);
    if (root == NULL)
        fail_msg("%s: line %d: %s\n%s", args, e.line, e.text, r.out);
    e2e_run_free(&r);
    return root;
}

static double number(const json_t *o, const char *key)
{
    const json_t *x = json_object_get(o, key);
    if (!json_is_number(x))
        fail_msg("no number %s", key);
    return json_number_value(x);
}

#define NODES "--nodes 'cores=32,mem=64G,bw=80G*%d' --link %s"

static json_t *big_plan(const char *model, int nodes, const char *link)
{
    char args[256];
    snprintf(args, sizeof args, "%s --type q4_k " NODES, model, nodes, link);
    return plan_json(args);
}

static void a_published_model_needs_no_file(void **state)
{
    json_t *o = big_plan("llama-3.1-70b", 8, "10GbE");
    assert_int_equal(number(o, "tp") * number(o, "pp"), 8);
    const json_t *ranks = json_object_get(o, "ranks");
    assert_int_equal(json_array_size(ranks), 8);
    double weights = 0;
    for (size_t i = 0; i < 8; i++)
        weights += number(json_array_get(ranks, i), "weights_bytes");
    double file = number(o, "file_bytes");
    assert_true(weights > file && weights < file * 1.05);       /* norms are everywhere */
    /* 39.7 GB of weights over 8 x 80 GB/s: no plan reads them faster */
    assert_true(number(o, "token_ms") > 39.7 / 8 / 80 * 1000);
    assert_true(number(o, "token_ms") < 1000);
    assert_true(json_array_size(json_object_get(o, "layouts")) > 4);
    json_decref(o);
}

/* Slower links never make a plan faster, more nodes never make the best one slower. */
static void predictions_move_the_right_way(void **state)
{
    static const char *const links[] = {"ib-hdr", "100GbE", "10GbE", "1GbE"};
    double before = 1e9, one = 0;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        json_t *o = big_plan("llama-3.1-70b", 4, links[i]);
        assert_true(number(o, "decode_tps") <= before);
        before = number(o, "decode_tps");
        json_decref(o);
    }
    for (int nodes = 1; nodes <= 8; nodes *= 2) {
        json_t *o = big_plan("llama-3.1-8b", nodes, "ib-hdr");
        assert_true(number(o, "decode_tps") > one);
        one = number(o, "decode_tps");
        json_decref(o);
    }
}

static void what_does_not_fit_says_what_would(void **state)
{
    struct e2e_run r;
    e2e_muster(&r, 0, LIMIT_S, "plan llama-3.1-405b " NODES, 8, "10GbE");
    e2e_expect_error(&r, 4, "such nodes");
    int nodes = 0;
    const char *at = strstr(r.err, "what would fit: ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "what would fit: %d such nodes, or --type q8_0 here", &nodes), 1);
    e2e_run_free(&r);
    /* and so it is: that many fit, one fewer do not, and the smaller type does */
    e2e_muster(&r, 0, LIMIT_S, "plan llama-3.1-405b " NODES, nodes, "10GbE");
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_muster(&r, 0, LIMIT_S, "plan llama-3.1-405b " NODES, nodes - 1, "10GbE");
    e2e_expect(&r, 4);
    e2e_run_free(&r);
    e2e_muster(&r, 0, LIMIT_S, "plan llama-3.1-405b --type q8_0 " NODES, 8, "10GbE");
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

/* The memory it says is what ranks then hold (bench tells), within 5%. */
static void memory_is_as_predicted(void **state)
{
    static const char *const types[] = {"q8_0", "q4_0", "f16"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char name[64], make[160], args[512];
        snprintf(name, sizeof name, "plan.%s.gguf", types[i]);
        snprintf(make, sizeof make, "--preset even --dim 512 --ffn 1536 --head-dim 64 --layers 6 --type %s",
                 types[i]);
        const char *model = e2e_model(name, make);
        snprintf(args, sizeof args, "%s --nodes 'cores=1,mem=8G*2' --tp 2 --pp 1 --ctx 128 --batch 2 "
                                    "--chunk 64", model);
        json_t *plan = plan_json(args);
        struct e2e_run r;
        e2e_muster(&r, 2, LIMIT_S, "bench -m '%s' --tp 2 --pp 1 --threads 1 --ctx 128 --batch 2 --chunk 64 "
                   "--prefill 60 --decode 4 --repeat 1 --sequences 2 --json", model);
        e2e_expect(&r, 0);
        json_t *bench = json_loads(r.out, 0, NULL);
        assert_non_null(bench);
        e2e_run_free(&r);
        const json_t *held = json_object_get(json_object_get(bench, "decode"), "ranks");
        for (size_t k = 0; k < 2; k++) {
            const json_t *want = json_array_get(json_object_get(plan, "ranks"), k);
            const json_t *got = json_array_get(held, k);
            double a = number(want, "weights_bytes") / number(got, "weights_bytes");
            double b = number(want, "kv_bytes") / number(got, "kv_bytes");
            if (a < 0.95 || a > 1.05 || b < 0.95 || b > 1.05)
                fail_msg("%s rank %zu: weights %.3f, kv %.3f of what it holds", types[i], k, a, b);
        }
        json_decref(plan);
        json_decref(bench);
    }
}

static void words_for_people(void **state)
{
    struct e2e_run r;
    e2e_muster(&r, 0, LIMIT_S, "plan qwen3-235b-a22b --type q4_k --batch 4 " NODES, 6, "100GbE");
    e2e_expect(&r, 0);
    static const char *const say[] = {"qwen3-235b-a22b, q4_k: 235.09 G parameters", "6 nodes of 32 cores",
        "layout: tp", "predicted: one sequence", "all 4 together", "links: for each token", "why: ", "next: "};
    for (size_t i = 0; i < sizeof say / sizeof *say; i++)
        if (strstr(r.out, say[i]) == NULL)
            fail_msg("nothing of '%s' in\n%s", say[i], r.out);
    e2e_run_free(&r);
}

static void bad_questions(void **state)
{
    static const struct { const char *args, *say; int code; } cases[] = {
        {"nosuch --nodes 'mem=1G'", "no such model", 3}, {"llama-3.1-8b --nodes 'disk=3'", "--nodes", 2},
        {"llama-3.1-8b --link 5GbE", "--link", 2}, {"llama-3.1-8b --type q9", "q9", 2},
        {"llama-3.1-8b mistral-7b", "", 2}, {"llama-3.1-8b --shares 3:1", "--shares", 2},
        {"llama-3.1-8b --nodes 'mem=64G*2' --tp 3", "needs 3 ranks", 2},
        {"llama-3.1-8b --nodes 'mem=64G' --ctx 200000", "--ctx", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct e2e_run r;
        e2e_muster(&r, 0, LIMIT_S, "plan %s", cases[i].args);
        if (r.status != cases[i].code || strstr(r.err, cases[i].say) == NULL)
            fail_msg("plan %s: %d, %s", cases[i].args, r.status, r.err);
        e2e_run_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_published_model_needs_no_file),
        cmocka_unit_test(predictions_move_the_right_way),
        cmocka_unit_test(what_does_not_fit_says_what_would),
        cmocka_unit_test(memory_is_as_predicted),
        cmocka_unit_test(words_for_people),
        cmocka_unit_test(bad_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
