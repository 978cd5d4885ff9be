/* Nodes, links and published shapes from text: what is said is taken, what is not has a default, and what
 * is wrong names itself. */
#include "coordinator/commands/nodespec.h"
#include "coordinator/commands/shapes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_nodes(void **state)
{
    (void)state;
    struct nodespec n;
    struct arena mem;
    Muster__NodeReport **r;
    int ranks;
    char text[160];
    assert_int_equal(arena_init(&mem, 1 << 20), ERR_OK);
    assert_int_equal(nodespec_parse(&n, "cores=32,mem=64G,bw=80G*8;cores=16,ranks=2,flops=2T*2", NULL),
                     ERR_OK);
    assert_int_equal(nodespec_reports(&n, NULL, &mem, &r, &ranks, NULL), ERR_OK);
    assert_int_equal(ranks, 12);
    assert_int_equal(r[0]->threads, 32);
    assert_int_equal(r[7]->memory_free, 64ull << 30);
    assert_true(r[7]->memory_bw == 80e9);
    assert_int_equal(r[8]->threads, 8);
    assert_true(r[8]->sgemm_flops == 1e12);
    assert_string_equal(r[8]->host, r[9]->host);
    assert_true(strcmp(r[9]->host, r[10]->host) != 0 && strcmp(r[0]->host, r[1]->host) != 0);
    nodespec_text(&n, text, sizeof text);
    assert_string_equal(text, "8 nodes of 32 cores, 64.0 GiB, 80.0 GB/s; 2 nodes of 16 cores, 2 ranks");
    arena_free(&mem);
}

static void test_what_is_not_said_is_as_here(void **state)
{
    (void)state;
    struct nodespec n;
    struct arena mem;
    Muster__NodeReport **r, here = MUSTER__NODE_REPORT__INIT;
    Muster__LayerCost cost = MUSTER__LAYER_COST__INIT;
    int ranks;
    here.threads = 6;
    here.memory_bw = 33e9;
    here.memory_free = 12345678;
    here.layer = &cost;
    assert_int_equal(arena_init(&mem, 1 << 20), ERR_OK);
    assert_int_equal(nodespec_parse(&n, "mem=1G*3", NULL), ERR_OK);
    assert_int_equal(nodespec_reports(&n, &here, &mem, &r, &ranks, NULL), ERR_OK);
    assert_int_equal(ranks, 3);
    assert_int_equal(r[2]->threads, 6);
    assert_true(r[2]->memory_bw == 33e9 && r[2]->layer == &cost && r[2]->memory_free == 1 << 30);
    assert_int_equal(nodespec_parse(&n, "bw=50G", NULL), ERR_OK);       /* other memory: rates are void */
    assert_int_equal(nodespec_reports(&n, &here, &mem, &r, &ranks, NULL), ERR_OK);
    assert_true(r[0]->layer == NULL && r[0]->memory_free == 12345678);
    arena_free(&mem);
}

static void test_bad_nodes(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ";", "cores", "cores=", "cores=x", "cores=0.5", "cores=-1",
        "cores=32*0", "cores=32*", "cores=32*x", "cores=8*1025", "ranks=100*100", "speed=3", "mem=64Q",
        "mem=1e30", "bw=nan", "a*1;b*1", "ranks=0.1",
        "mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;mem=1G;"
        "mem=1G;mem=1G;mem=1G;mem=1G"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct nodespec n;
        struct err err = {0};
        if (nodespec_parse(&n, bad[i], &err) != ERR_INVAL || strstr(err.msg, "--nodes") == NULL)
            fail_msg("'%s': %s", bad[i], err.msg);
    }
}

static void test_links(void **state)
{
    (void)state;
    struct nodespec_link l;
    static const char *const bad[] = {"", "5GbE", "latency=30", "latency=30us", "latency=-1us,bw=1G",
                                      "latency=30us,bw=0", "latency=30us,bw=1X"};
    assert_int_equal(nodespec_parse_link(&l, "10GbE", NULL), ERR_OK);
    assert_true(l.latency_us == 30 && l.bytes_per_s == 1.1e9);
    assert_int_equal(nodespec_parse_link(&l, "latency=2.5us,bw=12G", NULL), ERR_OK);
    assert_true(l.latency_us == 2.5 && l.bytes_per_s == 12e9);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        if (nodespec_parse_link(&l, bad[i], &err) != ERR_INVAL || strstr(err.msg, "10GbE") == NULL)
            fail_msg("'%s': %s", bad[i], err.msg);
    }
}

/* Parameters as published, in thousand millions; of bf16 bytes there are two for each. */
static void test_shapes(void **state)
{
    (void)state;
    static const struct { const char *name; double parameters; } known[] = {
        {"llama-3.1-8b", 8.03}, {"llama-3.1-70b", 70.55}, {"llama-3.1-405b", 405.85},
        {"mistral-7b", 7.25}, {"mixtral-8x7b", 46.70}, {"mixtral-8x22b", 140.63},
        {"qwen2.5-72b", 72.7}, {"qwen3-30b-a3b", 30.53}, {"qwen3-235b-a22b", 235.09},
        {"gpt-oss-120b", 116.8}, {"gpt-oss-20b", 20.9}, {"gemma-3-27b", 27.0}, {"smollm2-135m", 0.1345}};
    struct arena mem;
    assert_int_equal(arena_init(&mem, 16 << 20), ERR_OK);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        Muster__ModelSpec *spec;
        assert_int_equal(shapes_spec(known[i].name, NULL, &mem, &spec, NULL), ERR_OK);
        double ratio = (double)spec->parameters * 1e-9 / known[i].parameters;
        if (ratio < 0.995 || ratio > 1.005)
            fail_msg("%s: %.4f G parameters", known[i].name, (double)spec->parameters * 1e-9);
        arena_reset(&mem);
    }
    arena_free(&mem);
}

static uint64_t bytes_of(const Muster__ModelSpec *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->n_tensor; i++)
        n += m->tensor[i]->file_bytes;
    return n;
}

static void test_types(void **state)
{
    (void)state;
    struct arena mem;
    Muster__ModelSpec *whole, *half, *again;
    struct err err = {0};
    assert_int_equal(arena_init(&mem, 16 << 20), ERR_OK);
    assert_int_equal(shapes_spec("llama-3.1-8b", NULL, &mem, &whole, NULL), ERR_OK);
    assert_int_equal(shapes_spec("llama-3.1-8b", "q8_0", &mem, &half, NULL), ERR_OK);
    double ratio = (double)bytes_of(half) / (double)bytes_of(whole);
    assert_true(ratio > 0.53 && ratio < 0.5325);        /* 34 bytes for 64, norms apart */
    assert_int_equal(shapes_retype(whole, "q8_0", &mem, &again, NULL), ERR_OK);
    assert_int_equal(bytes_of(again), bytes_of(half));
    assert_int_equal(shapes_retype(half, "bf16", &mem, &again, NULL), ERR_OK);      /* never bigger */
    assert_int_equal(bytes_of(again), bytes_of(half));
    assert_int_equal(shapes_spec("llama-9", NULL, &mem, &half, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "llama-9"));
    memset(&err, 0, sizeof err);
    assert_int_equal(shapes_spec("llama-3.1-8b", "q9", &mem, &half, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "q9"));
    assert_false(shapes_known("llama"));
    char names[512];
    shapes_names(names, sizeof names);
    assert_non_null(strstr(names, "qwen3-235b-a22b"));
    arena_free(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes), cmocka_unit_test(test_what_is_not_said_is_as_here),
        cmocka_unit_test(test_bad_nodes), cmocka_unit_test(test_links), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
