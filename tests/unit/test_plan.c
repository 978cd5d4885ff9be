/* Plans: every layer and segment has one owner, bytes add up, uneven nodes get uneven shares, and what
 * does not fit says so. */
#include "coordinator/plan/plan.h"
#include "coordinator/plan/planfile.h"
#include "coordinator/plan/planmemory.h"
#include "coordinator/plan/planweight.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { RANKS_MAX = 8, LAYERS_MAX = 32, PER_LAYER = 9 };

/* A llama of round numbers, in one-byte weights, and some nodes. */
struct scene {
    Muster__ModelSpec spec;
    Muster__TensorSpec tensor[LAYERS_MAX * PER_LAYER + 3], *list[LAYERS_MAX * PER_LAYER + 3];
    uint64_t shape[LAYERS_MAX * PER_LAYER + 3][2];
    Muster__NodeReport report[RANKS_MAX], *reports[RANKS_MAX];
    char host[RANKS_MAX][8];
    struct plan_request q;
    struct arena mem;
};

static void add_tensor(struct scene *s, int layer, Muster__Cut cut, uint64_t rows, uint64_t cols)
{
    size_t i = s->spec.n_tensor++;
    Muster__TensorSpec *t = &s->tensor[i];
    muster__tensor_spec__init(t);
    s->list[i] = t;
    t->layer = layer;
    t->cut = cut;
    t->shape = s->shape[i];
    t->n_shape = cols > 0 ? 2 : 1;
    s->shape[i][0] = rows;
    s->shape[i][1] = cols;
    t->file_bytes = t->packed_bytes = rows * (cols > 0 ? cols : 4);
    s->spec.parameters += rows * (cols > 0 ? cols : 1);
}

static void scene_init(struct scene *s, int layers, int heads, int kv_heads, int n_ranks)
{
    memset(s, 0, sizeof *s);
    muster__model_spec__init(&s->spec);
    uint64_t hd = 64, dim = (uint64_t)heads * hd, ffn = 4096, vocab = 32000;
    s->spec.n_layers = (uint32_t)layers;
    s->spec.dim = (uint32_t)dim;
    s->spec.n_heads = (uint32_t)heads;
    s->spec.n_kv_heads = (uint32_t)kv_heads;
    s->spec.head_dim = s->spec.value_dim = (uint32_t)hd;
    s->spec.ffn_dim = (uint32_t)ffn;
    s->spec.vocab = (uint32_t)vocab;
    s->spec.context = 2048;
    s->spec.tensor = s->list;
    add_tensor(s, -1, MUSTER__CUT__CUT_VOCAB_ROWS, vocab, dim);
    for (int l = 0; l < layers; l++) {
        add_tensor(s, l, MUSTER__CUT__CUT_NONE, dim, 0);
        add_tensor(s, l, MUSTER__CUT__CUT_Q_ROWS, dim, dim);
        add_tensor(s, l, MUSTER__CUT__CUT_KV_ROWS, (uint64_t)kv_heads * hd, dim);
        add_tensor(s, l, MUSTER__CUT__CUT_KV_ROWS, (uint64_t)kv_heads * hd, dim);
        add_tensor(s, l, MUSTER__CUT__CUT_HEAD_COLS, dim, dim);
        add_tensor(s, l, MUSTER__CUT__CUT_NONE, dim, 0);
        add_tensor(s, l, MUSTER__CUT__CUT_FFN_ROWS, ffn, dim);
        add_tensor(s, l, MUSTER__CUT__CUT_FFN_ROWS, ffn, dim);
        add_tensor(s, l, MUSTER__CUT__CUT_FFN_COLS, dim, ffn);
    }
    add_tensor(s, -2, MUSTER__CUT__CUT_NONE, dim, 0);
    add_tensor(s, -2, MUSTER__CUT__CUT_VOCAB_ROWS, vocab, dim);
    for (int i = 0; i < n_ranks; i++) {
        muster__node_report__init(&s->report[i]);
        s->reports[i] = &s->report[i];
        snprintf(s->host[i], sizeof s->host[i], "n%d", i);
        s->report[i].host = s->host[i];
        s->report[i].threads = 4;
        s->report[i].memory_bw = 20e9;
        s->report[i].memory_free = (uint64_t)16 << 30;
    }
    s->q = (struct plan_request){.n_ranks = n_ranks, .reports = s->reports, .spec = &s->spec,
        .slots = 1, .context = 2048, .page_tokens = 32, .max_rows = 64, .kv_block_bytes = 64};
    assert_int_equal(arena_init(&s->mem, 1 << 22), ERR_OK);
}

static void scene_free(struct scene *s) { arena_free(&s->mem); }

static uint64_t file_bytes(const struct scene *s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->spec.n_tensor; i++)
        n += s->tensor[i].file_bytes;
    return n;
}

/* Every layer in one stage, every segment on one rank of it, every rank once. */
static void check_cover(const struct scene *s, const struct plan *p)
{
    int layer = 0, used[RANKS_MAX] = {0};
    for (int g = 0; g < p->pp; g++) {
        int segment = 0, heads = 0, ffn = 0, vocab = 0;
        for (int i = 0; i < p->tp; i++) {
            const struct plan_share *x = &p->share[g * p->tp + i];
            assert_int_equal(x->layer_begin, layer);
            assert_int_equal(x->segments.begin, segment);
            if (x->heads.end > x->heads.begin) {
                assert_int_equal(x->heads.begin, heads);
                heads = x->heads.end;
            }
            assert_int_equal(x->vocab.begin, vocab);
            segment = x->segments.end;
            ffn += x->ffn.end - x->ffn.begin;
            vocab = x->vocab.end;
            assert_int_equal(used[x->rank]++, 0);
        }
        assert_int_equal(segment, split_leaves(p->tp));
        assert_int_equal(heads, s->spec.n_heads);
        assert_int_equal(ffn, s->spec.ffn_dim);
        assert_int_equal(vocab, s->spec.vocab);
        layer = p->share[g * p->tp].layer_end;
        assert_true(layer > p->share[g * p->tp].layer_begin);
    }
    assert_int_equal(layer, s->spec.n_layers);
}

static void test_all_layouts_cover_the_model(void **state)
{
    (void)state;
    for (int tp = 1; tp <= 8; tp++)
        for (int pp = 1; tp * pp <= 8; pp++) {
            struct scene s;
            struct plan p;
            struct err err = {0};
            scene_init(&s, 9, 9, 3, 8);
            if (plan_layout(&p, &s.q, tp, pp, &s.mem, &err) != ERR_OK)
                fail_msg("tp %d pp %d: %s", tp, pp, err.msg);
            check_cover(&s, &p);
            uint64_t sum = 0, all = file_bytes(&s), norms = (uint64_t)(2 * 9 + 1) * s.spec.dim * 4;
            for (int i = 0; i < p.n_shares; i++)
                sum += p.share[i].file_bytes;
            assert_true(sum >= all - 64);
            /* norms are on all ranks of a stage, KV heads on all whose query heads read them */
            uint64_t kv = 9ull * 2 * 3 * 64 * s.spec.dim;
            assert_true(sum <= all + (uint64_t)(tp - 1) * norms + (uint64_t)tp * kv);
            scene_free(&s);
        }
}

static void test_stages_are_balanced(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    scene_init(&s, 22, 32, 4, 4);
    assert_int_equal(plan_layout(&p, &s.q, 1, 4, &s.mem, NULL), ERR_OK);
    uint64_t low = UINT64_MAX, high = 0;
    for (int i = 0; i < 4; i++) {
        low = p.share[i].read_bytes < low ? p.share[i].read_bytes : low;
        high = p.share[i].read_bytes > high ? p.share[i].read_bytes : high;
    }
    assert_true((double)high / (double)low < 1.35);     /* the head weighs about two layers */
    scene_free(&s);
}

static void test_slow_node_gets_less(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    scene_init(&s, 8, 16, 16, 2);
    s.report[1].memory_bw = s.report[0].memory_bw / 3;
    assert_int_equal(plan_layout(&p, &s.q, 2, 1, &s.mem, NULL), ERR_OK);
    check_cover(&s, &p);
    assert_int_equal(p.share[0].segments.end, 6);
    assert_int_equal(plan_layout(&p, &s.q, 1, 2, &s.mem, NULL), ERR_OK);
    check_cover(&s, &p);
    assert_true(p.share[0].layer_end >= 5);
    s.q.even = true;
    assert_int_equal(plan_layout(&p, &s.q, 2, 1, &s.mem, NULL), ERR_OK);
    assert_int_equal(p.share[0].segments.end, 4);
    scene_free(&s);
}

static void test_ranks_of_a_host_are_equal(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    scene_init(&s, 8, 16, 16, 2);
    snprintf(s.host[1], sizeof s.host[1], "n0");
    s.report[1].memory_bw = s.report[0].memory_bw / 7;      /* a neighbour was at it */
    assert_int_equal(plan_choose(&p, &s.q, &s.mem, NULL), ERR_OK);
    assert_int_equal(plan_layout(&p, &s.q, 2, 1, &s.mem, NULL), ERR_OK);
    assert_int_equal(p.share[0].segments.end, 4);
    s.report[1].threads = 1;                                /* bound to fewer cores: really slower */
    assert_int_equal(plan_layout(&p, &s.q, 2, 1, &s.mem, NULL), ERR_OK);
    assert_int_equal(p.share[0].segments.end, 7);
    scene_free(&s);
}

static void test_near_hosts_are_equal(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    double w[RANKS_MAX];
    scene_init(&s, 8, 16, 16, 2);
    for (int percent = 100; percent <= 170; percent += 5) {
        s.report[1].memory_bw = s.report[0].memory_bw * percent / 100;
        assert_int_equal(plan_layout(&p, &s.q, 2, 1, &s.mem, NULL), ERR_OK);
        assert_int_equal(p.share[0].segments.end, percent <= 140 ? 4 : 3);
    }
    scene_free(&s);
    /* two slow hosts, near each other, and two fast ones */
    static const double speed[] = {10, 27, 12, 30};
    scene_init(&s, 8, 16, 16, 4);
    for (int i = 0; i < 4; i++)
        s.report[i].memory_bw = speed[i] * 1e9;
    planweight_ranks(&s.q, w);
    assert_true(w[0] == w[2] && w[1] == w[3] && w[0] == 11e9 && w[1] == 28.5e9);
    scene_free(&s);
}

static void test_shares_asked_for(void **state)
{
    (void)state;
    static const double shares[] = {3, 1};
    struct scene s;
    struct plan p;
    scene_init(&s, 8, 16, 16, 2);
    snprintf(s.host[1], sizeof s.host[1], "n0");
    s.report[1].memory_bw *= 9;             /* does not count then */
    s.q.shares = shares;
    assert_int_equal(plan_layout(&p, &s.q, 2, 1, &s.mem, NULL), ERR_OK);
    check_cover(&s, &p);
    assert_int_equal(p.share[0].segments.end, 6);
    assert_int_equal(plan_layout(&p, &s.q, 1, 2, &s.mem, NULL), ERR_OK);
    assert_true(p.share[0].layer_end >= 6);
    scene_free(&s);
}

static void test_replicas(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    struct err err = {0};
    scene_init(&s, 8, 16, 16, 8);
    s.q.dp = 2;
    assert_int_equal(plan_choose(&p, &s.q, &s.mem, &err), ERR_OK);
    assert_int_equal(p.tp * p.pp, 4);
    assert_int_equal(p.n_shares, 8);
    assert_int_equal(p.message->networks[0]->n_replicas, 2);
    int used[RANKS_MAX] = {0};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(p.share[i].replica, i / 4);
        assert_int_equal(used[p.share[i].rank]++, 0);
    }
    double both = p.speed.decode_tps;
    s.q.dp = 1;
    assert_int_equal(plan_layout(&p, &s.q, p.tp, p.pp, &s.mem, &err), ERR_OK);
    assert_true(both > 1.99 * p.speed.decode_tps && both < 2.01 * p.speed.decode_tps);
    s.q.dp = 3;
    s.q.tp = 4;
    s.q.pp = 1;
    assert_int_equal(plan_choose(&p, &s.q, &s.mem, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "--dp 3 of tp 4 x pp 1 needs 12 ranks"));
    scene_free(&s);
}

/* Rates that were measured count: straight between rows, in proportion beyond. */
static void test_measured_rates_predict(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    Muster__Rate rate[3], *rates[3];
    Muster__LayerCost layer = MUSTER__LAYER_COST__INIT;
    static const struct { int prompt, rows; double rate; } given[] = {{0, 1, 1e-10}, {0, 5, 3e-10},
                                                                      {1, 64, 4e-9}};
    scene_init(&s, 8, 16, 16, 1);
    for (int i = 0; i < 3; i++) {
        muster__rate__init(rates[i] = &rate[i]);
        rate[i].prompt = given[i].prompt;
        rate[i].rows = (uint32_t)given[i].rows;
        rate[i].s_per_byte = given[i].rate;
    }
    layer.fixed_us = 2;
    layer.number_s = layer.attend_s = layer.attend_prompt_s = 1e-18;    /* as good as nothing */
    layer.step_us = 7;
    s.report[0].n_rates = 3;
    s.report[0].rates = rates;
    s.report[0].layer = &layer;
    double bytes = 0;
    for (size_t i = 1; i < s.spec.n_tensor; i++)        /* the embedding is not multiplied */
        bytes += s.tensor[i].n_shape > 1 ? (double)s.tensor[i].packed_bytes : 0;
    static const struct { int slots; double rate; } cases[] = {{1, 1e-10}, {3, 2e-10}, {5, 3e-10},
                                                               {10, 6e-10}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        s.q.slots = cases[i].slots;
        assert_int_equal(plan_layout(&p, &s.q, 1, 1, &s.mem, NULL), ERR_OK);
        double want = bytes * cases[i].rate * 1e6 + 8 * 2 + 7;
        double got = cases[i].slots / p.speed.decode_tps * 1e6;
        if (got < want * 0.999 || got > want * 1.001)
            fail_msg("%d sequences: %.1f us, not %.1f", cases[i].slots, got, want);
    }
    scene_free(&s);
}

static bool by_columns(const Muster__TensorSpec *t)
{
    return t->cut == MUSTER__CUT__CUT_HEAD_COLS || t->cut == MUSTER__CUT__CUT_FFN_COLS;
}

/* What ending a sum costs is shared out over its length; wide rows cost what wide rows were measured at. */
static void test_short_sums_and_wide_rows_cost_more(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    Muster__Rate rate[5], *rates[5];
    Muster__LayerCost layer = MUSTER__LAYER_COST__INIT;
    static const struct { int prompt, columns, segment; double rate; } given[] = {
        {0, 2048, 0, 1e-10}, {0, 2048, 256, 2e-10}, {1, 16, 0, 1e-9}, {1, 16, 2, 1e-9}, {1, 32, 0, 3e-9}};
    scene_init(&s, 8, 16, 16, 1);
    for (int i = 0; i < 5; i++) {
        muster__rate__init(rates[i] = &rate[i]);
        rate[i].prompt = given[i].prompt;
        rate[i].rows = given[i].prompt ? 64 : 1;
        rate[i].columns = (uint32_t)given[i].columns;
        rate[i].segment = (uint32_t)given[i].segment;
        rate[i].s_per_byte = given[i].rate;
    }
    layer.fixed_us = 2;
    layer.number_s = layer.attend_s = layer.attend_prompt_s = 1e-18;
    layer.step_us = 7;
    s.report[0].n_rates = 5;
    s.report[0].rates = rates;
    s.report[0].layer = &layer;
    s.q.slots = 1;
    s.q.prompt = s.q.max_rows = 64;
    double generated = 0, prompt = 0;
    for (size_t i = 1; i < s.spec.n_tensor; i++) {
        const Muster__TensorSpec *t = &s.tensor[i];
        if (t->n_shape < 2)
            continue;
        double columns = (double)t->shape[t->n_shape - 1], length = by_columns(t) ? ceil(columns / 8) : columns;
        double apart = (1 / length - 1.0 / 2048) / (1.0 / 256 - 1.0 / 2048);
        generated += (double)t->packed_bytes * (1e-10 + apart * 1e-10);
        prompt += (double)t->packed_bytes * (t->layer < 0 ? 1e-9 : 3e-9);   /* the head: one row, rate of 64 */
        assert_true(columns >= 32);
    }
    assert_int_equal(plan_layout(&p, &s.q, 1, 1, &s.mem, NULL), ERR_OK);
    double us = 1e6 / p.speed.decode_tps, want = generated * 1e6 + 8 * 2 + 7;
    if (us < want * 0.999 || us > want * 1.001)
        fail_msg("a token in %.3f us, not %.3f", us, want);
    want = prompt * 1e6 + 8 * 2 + 7;
    if (p.speed.prefill_us < want * 0.8 || p.speed.prefill_us > want * 1.2)
        fail_msg("a prompt in %.3f us, not about %.3f", p.speed.prefill_us, want);
    scene_free(&s);
}

static void test_groups_stay_inside_a_host(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    scene_init(&s, 8, 16, 16, 4);
    for (int i = 0; i < 4; i++)
        snprintf(s.host[i], sizeof s.host[i], "n%d", i % 2);
    assert_int_equal(plan_layout(&p, &s.q, 2, 2, &s.mem, NULL), ERR_OK);
    for (int g = 0; g < 2; g++)
        assert_int_equal(p.share[2 * g].rank % 2, p.share[2 * g + 1].rank % 2);
    scene_free(&s);
}

static void test_links_decide_between_tp_and_pp(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    scene_init(&s, 16, 16, 16, 2);
    s.q.slots = 8;
    Muster__Link link = MUSTER__LINK__INIT, *list[1] = {&link};
    for (int fast = 0; fast <= 1; fast++) {
        link.latency_us = fast ? 2 : 400;
        link.bytes_per_s = fast ? 10e9 : 0.1e9;
        for (int i = 0; i < 2; i++) {
            s.report[i].links = list;
            s.report[i].n_links = 1;
        }
        link.peer = 1;
        assert_int_equal(plan_choose(&p, &s.q, &s.mem, NULL), ERR_OK);
        if (!fast)
            assert_int_equal(p.pp, 2);
    }
    s.q.slots = 1;      /* one sequence gains nothing from stages */
    assert_int_equal(plan_choose(&p, &s.q, &s.mem, NULL), ERR_OK);
    assert_int_equal(p.tp, 2);
    scene_free(&s);
}

static void test_what_cannot_be(void **state)
{
    (void)state;
    static const struct { int tp, pp; const char *says; } cases[] = {
        {9, 0, "8 query heads"}, {0, 5, "4 layers"}, {2, 3, "needs 6 ranks"}, {8, 0, "needs 8 ranks"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene s;
        struct plan p;
        struct err err = {0};
        scene_init(&s, 4, 8, 8, 4);
        s.q.tp = cases[i].tp;
        s.q.pp = cases[i].pp;
        assert_int_equal(plan_choose(&p, &s.q, &s.mem, &err), ERR_INVAL);
        if (strstr(err.msg, cases[i].says) == NULL)
            fail_msg("'%s' does not say '%s'", err.msg, cases[i].says);
        scene_free(&s);
    }
}

static void test_memory_decides(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    struct err err = {0};
    scene_init(&s, 8, 16, 16, 2);
    uint64_t weights = file_bytes(&s);
    s.q.slots = 64;
    /* half the weights and one sequence fit, 64 do not: the sequences share fewer pages */
    s.report[0].memory_free = s.report[1].memory_free = weights;
    assert_int_equal(plan_choose(&p, &s.q, &s.mem, &err), ERR_OK);
    assert_true(p.kv_pages >= 64 && p.kv_pages < 64 * 64);
    /* both on one host: together they do not fit */
    snprintf(s.host[1], sizeof s.host[1], "n0");
    assert_int_equal(plan_choose(&p, &s.q, &s.mem, &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "does not fit"));
    assert_non_null(strstr(err.msg, "q4_k"));
    memset(&err, 0, sizeof err);
    s.q.memory_most = 1 << 20;
    assert_int_equal(plan_choose(&p, &s.q, &s.mem, &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "the limit"));
    scene_free(&s);
}

static void test_kv_bytes(void **state)
{
    (void)state;
    struct scene s;
    struct plan p;
    scene_init(&s, 8, 16, 4, 1);
    s.q.slots = 3;
    assert_int_equal(plan_layout(&p, &s.q, 1, 1, &s.mem, NULL), ERR_OK);
    assert_int_equal(p.kv_pages, 3 * 64);
    assert_int_equal(p.share[0].kv_bytes, 3ull * 2048 * 8 * 4 * (64 + 64) * 2);
    s.q.kv_block_bytes = 34;        /* Q8_0 */
    assert_int_equal(plan_layout(&p, &s.q, 1, 1, &s.mem, NULL), ERR_OK);
    assert_int_equal(p.share[0].kv_bytes, 3ull * 2048 * 8 * 4 * (64 + 64) / 32 * 34);
    scene_free(&s);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_a_plan_survives_its_file(void **state)
{
    (void)state;
    struct scene s;
    struct plan p, q;
    Muster__Plan *read;
    char path[] = "/tmp/muster-plan-XXXXXX";
    close(mkstemp(path));
    scene_init(&s, 9, 9, 3, 6);
    s.report[2].memory_bw /= 2;
    assert_int_equal(plan_layout(&p, &s.q, 3, 2, &s.mem, NULL), ERR_OK);
    char *text = planfile_text(p.message);
    write_text(path, text);
    assert_int_equal(planfile_read(path, &read, &s.mem, NULL), ERR_OK);
    assert_int_equal(plan_adopt(&q, &s.q, read, &s.mem, NULL), ERR_OK);
    assert_int_equal(q.n_shares, p.n_shares);
    for (int i = 0; i < p.n_shares; i++)
        assert_memory_equal(&p.share[i], &q.share[i], sizeof p.share[i]);
    free(text);
    unlink(path);
    scene_free(&s);
}

static void test_bad_plan_files(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "{", "[]", "{\"networks\": []}", "{\"networks\": [{\"replicas\": []}]}",
        "{\"networks\": [{\"replicas\": [{\"stages\": [{}]}]}]}",
#define STAGE(l0, l1, r, e) "{\"layers\": [" l0 "," l1 "], \"ranks\": [" r "], \"segment_end\": [" e "]}"
#define PLAN(stages) "{\"networks\": [{\"replicas\": [{\"stages\": [" stages "]}]}]}"
        PLAN(STAGE("0", "3", "0", "8")),                            /* ends too early */
        PLAN(STAGE("0", "5", "0", "8")),                            /* too late */
        PLAN(STAGE("0", "4", "7", "8")),                            /* no such rank */
        PLAN(STAGE("0", "4", "0,0", "4,8")),                        /* twice */
        PLAN(STAGE("0", "4", "0,1", "5,4")),                        /* falling */
        PLAN(STAGE("0", "4", "0,1", "4,7")),                        /* not all */
        PLAN(STAGE("0", "4", "0,1", "4,400000")), PLAN(STAGE("0", "4", "-1", "8")),
        PLAN(STAGE("0", "2", "0", "8") "," STAGE("3", "4", "1", "8")),  /* a gap */
        PLAN(STAGE("0", "2", "0", "8") "," STAGE("2", "4", "0,1", "4,8")),
    };
    char path[] = "/tmp/muster-plan-XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct scene s;
        struct plan p;
        Muster__Plan *read;
        struct err err = {0};
        scene_init(&s, 4, 8, 8, 2);
        write_text(path, texts[i]);
        int rc = planfile_read(path, &read, &s.mem, &err);
        if (rc == ERR_OK)
            rc = plan_adopt(&p, &s.q, read, &s.mem, &err);
        if (rc != ERR_FORMAT || err.msg[0] == '\0')
            fail_msg("plan %zu: code %d '%s'", i, rc, err.msg);
        scene_free(&s);
    }
    unlink(path);
    struct scene s;
    Muster__Plan *read;
    scene_init(&s, 4, 8, 8, 2);
    assert_int_equal(planfile_read("/nonexistent/plan", &read, &s.mem, NULL), ERR_IO);
    scene_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_layouts_cover_the_model),
        cmocka_unit_test(test_stages_are_balanced),
        cmocka_unit_test(test_slow_node_gets_less),
        cmocka_unit_test(test_ranks_of_a_host_are_equal),
        cmocka_unit_test(test_near_hosts_are_equal),
        cmocka_unit_test(test_shares_asked_for),
        cmocka_unit_test(test_replicas),
        cmocka_unit_test(test_measured_rates_predict),
        cmocka_unit_test(test_short_sums_and_wide_rows_cost_more),
        cmocka_unit_test(test_groups_stay_inside_a_host),
        cmocka_unit_test(test_links_decide_between_tp_and_pp),
        cmocka_unit_test(test_what_cannot_be),
        cmocka_unit_test(test_memory_decides),
        cmocka_unit_test(test_kv_bytes),
        cmocka_unit_test(test_a_plan_survives_its_file),
        cmocka_unit_test(test_bad_plan_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
