/* Steps as rows: order, wanted logits, pages; and every way in which a step can be wrong is an error
 * that names it. Pages of the cache: apart from each other. */
#include "workers/models/kvcache.h"
#include "workers/models/steprows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { SLOTS = 3, CONTEXT = 200, PAGE = 64, PAGES = 10, ROWS = 16, VOCAB = 50 };

static struct slots slots;
static struct steprows rows;
static Muster__Step step;
static Muster__Run run[4], *runs[4];
static Muster__Admit admit[4], *admits[4];
static Muster__Sampling sampling;
static uint32_t token[4][64], page[4][8], release[4];

static int setup(void **state)
{
    struct err err = {0};
    assert_int_equal(slots_init(&slots, SLOTS, CONTEXT, PAGE, PAGES, VOCAB, 100, &err), ERR_OK);
    assert_int_equal(steprows_init(&rows, ROWS, VOCAB, &err), ERR_OK);
    muster__sampling__init(&sampling);
    return 0;
}

static int teardown(void **state)
{
    slots_free(&slots);
    slots_free(&slots);
    steprows_free(&rows);
    steprows_free(&rows);
    return 0;
}

static void begin(void)
{
    muster__step__init(&step);
    step.id = 9;
    step.runs = runs;
    step.admits = admits;
    step.release = release;
}

static void add_admit(int slot, int n_prompt, bool samples)
{
    Muster__Admit *a = admits[step.n_admits] = &admit[step.n_admits];
    step.n_admits++;
    muster__admit__init(a);
    a->slot = (uint32_t)slot;
    a->sequence = 7 + (uint64_t)slot;
    a->prompt_tokens = (uint32_t)n_prompt;
    a->sampling = samples ? &sampling : NULL;
}

static Muster__Run *add_run(int slot, int position, int n, bool generated, int first_page, int n_pages)
{
    size_t i = step.n_runs++;
    Muster__Run *r = runs[i] = &run[i];
    muster__run__init(r);
    r->slot = (uint32_t)slot;
    r->position = (uint32_t)position;
    r->role = generated ? MUSTER__ROLE__ROLE_GENERATED : MUSTER__ROLE__ROLE_PROMPT;
    r->n_tokens = (size_t)n;
    r->tokens = token[i];
    r->n_new_pages = (size_t)n_pages;
    r->new_pages = page[i];
    for (int k = 0; k < n && k < 64; k++)
        token[i][k] = (uint32_t)(10 * i + (size_t)k) % VOCAB;
    for (int k = 0; k < n_pages && k < 8; k++)
        page[i][k] = (uint32_t)(first_page + k);
    return r;
}

static int build(struct err *err)
{
    memset(err, 0, sizeof *err);
    return steprows_build(&rows, &slots, &step, err);
}

static void accepted(void)
{
    struct err err;
    int rc = build(&err);
    if (rc != ERR_OK)
        print_error("%s\n", err.msg);
    assert_int_equal(rc, ERR_OK);
}

static void refused(const char *part)
{
    struct err err;
    assert_int_equal(build(&err), ERR_PEER);
    if (strstr(err.msg, part) == NULL) {
        print_error("\"%s\" does not say \"%s\"\n", err.msg, part);
        fail();
    }
}

static void test_prompts_come_first(void **state)
{
    begin();
    for (int i = 0; i < SLOTS; i++)
        add_admit(i, 5, true);
    add_run(0, 0, 2, true, 0, 1)->sample = true;
    add_run(1, 0, 3, false, 1, 1)->all_logits = true;
    add_run(2, 0, 4, false, 2, 1)->sample = true;
    accepted();
    assert_int_equal(rows.n_rows, 9);
    assert_int_equal(rows.n_prompt, 7);
    assert_int_equal(rows.n_runs, 3);
    assert_int_equal(rows.run[0].slot_index, 1);
    assert_int_equal(rows.run[2].slot_index, 0);
    assert_int_equal(rows.op_run[2].row, 7);
    assert_int_equal(rows.op_run[1].pages[0], 2);
    static const int wanted[] = {0, 1, 2, 6, 8}, ids[] = {10, 11, 12, 20, 21, 22, 23, 0, 1};
    assert_int_equal(rows.n_wanted, 5);
    assert_int_equal(rows.n_wanted_prompt, 4);
    assert_memory_equal(rows.wanted, wanted, sizeof wanted);
    assert_memory_equal(rows.token, ids, sizeof ids);
    assert_int_equal(rows.run[1].logits_row, 3);
    assert_int_equal(rows.n_samples, 2);
    assert_int_equal(rows.n_returned, 3);
    assert_int_equal(slots.slot[2].length, 4);
    assert_int_equal(slots.slot[2].history[3], 23);
}

static void test_a_run_goes_on_with_the_sampled_token(void **state)
{
    begin();
    add_admit(0, 3, true);
    add_run(0, 0, 3, false, 0, 1)->sample = true;
    accepted();
    begin();
    add_run(0, 3, 0, true, 0, 0);
    refused("nothing was sampled");
    slots.slot[0].has_sampled = true;
    accepted();
    assert_true(rows.run[0].continues);
    assert_int_equal(rows.n_rows, 1);
    assert_int_equal(rows.token[0], -1);
}

static void test_long_prompts_are_told_apart(void **state)
{
    begin();
    add_admit(0, 100, false);
    add_admit(1, 101, false);
    accepted();
    assert_false(slots.slot[0].is_long);
    assert_true(slots.slot[1].is_long);
}

static void test_slots(void **state)
{
    begin();
    add_admit(SLOTS, 1, false);
    refused("slot 3");
    begin();
    add_admit(0, CONTEXT + 1, false);
    refused("201");
    begin();
    add_run(1, 0, 1, false, 0, 1);
    refused("holds no sequence");
    begin();
    step.n_release = 1;
    release[0] = 2;
    refused("slot 2");
    begin();
    add_admit(0, 1, true);
    accepted();
    begin();
    add_admit(0, 1, true);
    refused("not free");
    begin();
    step.n_release = 1;
    release[0] = 0;
    add_admit(0, 1, false);     /* released first, then admitted */
    accepted();
    assert_false(slots.slot[0].samples);
}

static void test_runs(void **state)
{
    begin();
    add_admit(0, 3, false);
    add_run(0, 1, 3, false, 0, 1);
    refused("goes on at position 1");
    begin();
    add_run(0, 0, 1, false, PAGES, 1);
    refused("page 10");
    begin();
    add_run(0, 0, ROWS + 1, false, 0, 0);
    refused("rows");
    begin();
    add_run(0, 0, 2, false, 0, 0);
    run[0].tokens[1] = VOCAB;
    refused("token 50");
    begin();
    add_run(0, 0, 2, false, 0, 0)->sample = true;
    refused("without sampling");
    begin();
    add_run(0, 0, 2, false, 0, 6);      /* the context has room for 4 pages */
    refused("pages");
}

/* The next sequence of a slot that was not released keeps prompt rows, their tokens and their pages. */
static void test_kept_rows(void **state)
{
    begin();
    add_admit(0, 6, true);
    add_run(0, 0, 6, false, 0, 1)->sample = true;
    accepted();
    begin();
    add_run(0, 6, 2, true, 0, 0);
    accepted();
    begin();
    add_admit(0, 12, false);
    admit[0].sequence = 70;
    admit[0].kept_rows = 6;
    add_run(0, 6, 6, false, 0, 0);
    accepted();
    const struct slot *s = &slots.slot[0];
    assert_int_equal(s->length, 12);
    assert_int_equal(s->n_pages, 1);
    assert_int_equal(s->n_prompt, 12);
    assert_int_equal(s->history[5], 5);
    assert_int_equal(s->history[6], 0);     /* the new run's first token, over a generated one */
    assert_int_equal(s->sequence, 70);
    assert_false(s->samples || s->has_sampled);
    static const struct { int slot, kept, prompt; } wrong[] = {
        {0, 13, 20}, {0, 12, 12}, {0, 6, 101}, {1, 2, 9}};    /* too many, all, of longrope, of nobody */
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        begin();
        add_admit(wrong[i].slot, wrong[i].prompt, false);
        admit[0].kept_rows = (uint32_t)wrong[i].kept;
        refused("do not serve");
    }
    begin();
    add_run(0, 12, 1, true, 0, 0);
    accepted();
    begin();
    add_admit(0, 20, false);
    admit[0].kept_rows = 13;                /* one of them was generated */
    refused("keeps 13 rows");
}

static void test_targets(void **state)
{
    uint32_t target[4] = {7, 8, 9, VOCAB};
    begin();
    add_admit(0, 9, true);
    add_admit(1, 9, false);
    add_run(1, 0, 2, true, 1, 1)->targets = target + 2;
    run[0].n_targets = 1;
    add_run(0, 0, 4, false, 0, 1)->targets = target;
    run[1].n_targets = 2;
    accepted();
    assert_int_equal(rows.n_scores, 3);
    assert_int_equal(rows.score[0].row, 2);     /* the prompt's rows come first; of each run the last */
    assert_int_equal(rows.score[1].row, 3);
    assert_int_equal(rows.score[1].target, 8);
    assert_int_equal(rows.score[2].row, 5);
    assert_int_equal(rows.score[2].target, 9);
    assert_int_equal(rows.run[1].score_at, 2);
    assert_int_equal(rows.n_wanted, 0);
    begin();
    add_run(0, 4, 2, false, 0, 0)->targets = target;
    run[0].n_targets = 3;
    refused("3 tokens after 2 rows");
    begin();
    add_run(0, 4, 2, false, 0, 0)->targets = target + 3;
    run[0].n_targets = 1;
    refused("asks for token 50");
}

static void test_runs_need_pages(void **state)
{
    begin();
    add_admit(0, 3, false);
    add_run(0, 0, 3, false, 0, 0);
    refused("pages");
    for (int at = 0; at < CONTEXT; at += 10) {
        begin();
        add_run(0, at, 10, false, 0, at == 0);
        if (at / PAGE != (at + 9) / PAGE) {
            refused("pages");
            begin();
            add_run(0, at, 10, false, (at + 9) / PAGE, 1);
        }
        accepted();
    }
    begin();
    add_run(0, CONTEXT, 1, false, 0, 0);
    refused("position 201");
    begin();
    add_run(0, -1, 1, false, 0, 0);
    refused("goes on at");
}

static void test_sampling_parameters(void **state)
{
    begin();
    sampling.temperature = -1;
    add_admit(0, 1, true);
    struct err err;
    assert_int_equal(build(&err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "temperature"));
    assert_false(slots.slot[0].used);
    muster__sampling__init(&sampling);
    Muster__Bias bias = MUSTER__BIAS__INIT, *biases = &bias;
    sampling.bias = &biases;
    sampling.n_bias = 1;
    bias.token = VOCAB;
    begin();
    add_admit(0, 1, true);
    assert_int_equal(build(&err), ERR_INVAL);
    bias.token = 3;
    accepted();
    assert_int_equal(slots.slot[0].params.bias_token[0], 3);
    assert_true(slots.slot[0].params.top_p == 1);       /* 0 on the wire is off */
}

/* Writes one number into each head's page of each layer: none may reach another's. */
static void test_cache_pages_are_apart(void **state)
{
    struct kvcache c;
    struct err err = {0};
    enum { LAYERS = 2, HEADS = 3, N = 4 };
    const struct attention_row *row = &attention_scalar;
    assert_int_equal(kvcache_init(&c, DT_F16, LAYERS, N, HEADS, 20, 12, 64, &err), ERR_OK);
    assert_true(c.bytes == kvcache_bytes(DT_F16, LAYERS, N, HEADS, 20, 12, 64));
    float key[20], value[12];
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < LAYERS * HEADS * N; i++) {
            int32_t pages[1] = {i % N};
            struct attention_cache view = kvcache_view(&c, i / N / HEADS, i / N % HEADS, pages);
            for (int token_at = 0; token_at < 64; token_at += 63) {
                for (int d = 0; d < 20; d++)
                    key[d] = value[d % 12] = (float)(i * 2 + (token_at > 0));
                if (pass == 0)
                    row->store(&view, key, 20, value, 12, token_at, 1);
                const uint16_t *k = (const uint16_t *)(view.base + (size_t)pages[0] * view.page_stride);
                const uint16_t *v = (const uint16_t *)((const uint8_t *)k + view.layout.v);
                assert_true(dtype_f16_to_f32(k[19 * 64 + token_at]) == key[0]);
                assert_true(dtype_f16_to_f32(v[token_at * 12 + 11]) == key[0]);
            }
        }
    kvcache_free(&c);
    kvcache_free(&c);
}

static void test_cache_is_checked(void **state)
{
    struct kvcache c;
    struct err err = {0};
    assert_int_equal(kvcache_init(&c, DT_Q4_0, 1, 1, 1, 16, 16, 64, &err), ERR_INVAL);
    memset(&err, 0, sizeof err);
    assert_int_equal(kvcache_init(&c, DT_F16, 1, 1, 1, 16, 16, 16, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "multiple of 64"));
    assert_int_equal(kvcache_init(&c, DT_F16, 1 << 20, 1 << 30, 1 << 10, 1024, 1024, 64, &err), ERR_LIMIT);
    assert_int_equal(kvcache_init(&c, DT_F16, 3, 5, 0, 16, 16, 64, &err), ERR_OK);  /* no heads here */
    kvcache_free(&c);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        EACH(test_prompts_come_first), EACH(test_a_run_goes_on_with_the_sampled_token),
        EACH(test_long_prompts_are_told_apart), EACH(test_slots), EACH(test_runs),
        EACH(test_kept_rows), EACH(test_targets), EACH(test_runs_need_pages), EACH(test_sampling_parameters),
        cmocka_unit_test(test_cache_pages_are_apart), cmocka_unit_test(test_cache_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
