/* Drawing: the frequencies are the probabilities, slices draw what whole rows draw, logprobs. The
 * probabilities themselves: test_sampler_fixtures.c. */
#include "workers/models/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VOCAB = 3000 };

static float logits[VOCAB], work[VOCAB];
static void *scratch;
static const struct kernels *kernels;

static struct sampler_params plain(void)
{
    return (struct sampler_params){.temperature = 1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1,
                                   .seed = 11};
}

static void fill(unsigned seed, float spread)
{
    for (int i = 0; i < VOCAB; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * spread;
    }
}

static int draw(const struct sampler_params *p, int position)
{
    memcpy(work, logits, sizeof work);
    return sampler_draw(p, kernels, work, VOCAB, NULL, 0, 0, position, scratch, NULL);
}

/* Chi-square over the draws of 8,000 positions, tokens below 5 expected draws put together. */
static void check_frequencies(const struct sampler_params *p)
{
    enum { DRAWS = 8000 };
    static int seen[VOCAB];
    static double probability[VOCAB];
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < DRAWS; i++)
        seen[draw(p, i)]++;
    memcpy(work, logits, sizeof work);
    memcpy(probability, sampler_probabilities(p, kernels, work, VOCAB, NULL, 0, 0, scratch),
           sizeof probability);
    double chi = 0, rest = 0;
    int cells = 0, rest_seen = 0;
    for (int i = 0; i < VOCAB; i++) {
        double expect = probability[i] * DRAWS;
        assert_true(probability[i] > 0 || seen[i] == 0);
        if (expect < 5) {
            rest += expect;
            rest_seen += seen[i];
            continue;
        }
        chi += (seen[i] - expect) * (seen[i] - expect) / expect;
        cells++;
    }
    if (rest > 5)
        chi += (rest_seen - rest) * (rest_seen - rest) / rest;
    assert_true(cells >= 3);
    assert_true(chi < cells + 5 * sqrt(2.0 * cells) + 10);
}

static void test_draws_follow_probabilities(void **state)
{
    fill(1, 7);
    struct sampler_params p = plain();
    check_frequencies(&p);
    p.temperature = 0.8;
    check_frequencies(&p);
    p.top_p = 0.9;
    check_frequencies(&p);
    p.top_p = 1;
    p.top_k = 40;
    check_frequencies(&p);
    p.min_p = 0.3;
    check_frequencies(&p);
}

static void test_greedy_takes_the_first_largest(void **state)
{
    fill(2, 7);
    struct sampler_params p = plain();
    p.temperature = 0;
    p.top_k = 5;
    logits[700] = logits[1900] = 20;
    assert_int_equal(draw(&p, 3), 700);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = NAN;
    assert_int_equal(draw(&p, 3), 0);
    p.temperature = 1;
    assert_in_range(draw(&p, 3), 0, VOCAB - 1);
    p.top_k = 0;
    assert_in_range(draw(&p, 3), 0, VOCAB - 1);
}

static void test_seed_and_position_decide(void **state)
{
    fill(3, 1);
    struct sampler_params p = plain(), q = plain();
    int differ = 0;
    q.seed = 12;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(draw(&p, i), draw(&p, i));
        differ += draw(&p, i) != draw(&q, i);
        differ += draw(&p, i) != draw(&p, i + 1);
    }
    assert_true(differ > 80);
}

/* Cuts the row as `parts` ranks would and draws from what they answer. */
static int draw_cut(const struct sampler_params *p, int parts, int position)
{
    static uint32_t ids[16 * SAMPLER_FEW_ROOM];
    static float values[16 * SAMPLER_FEW_ROOM];
    int n = 0;
    for (int i = 0; i < parts; i++) {
        int begin = VOCAB * i / parts, end = VOCAB * (i + 1) / parts;
        int got = sampler_few(p, kernels, logits + begin, end - begin, begin, ids + n, values + n,
                              scratch);
        if (got < 0)
            return -1;
        n += got;
    }
    return sampler_draw_few(p, kernels, ids, values, n, position, scratch);
}

static void test_slices_draw_what_whole_rows_draw(void **state)
{
    struct sampler_params p = plain();
    static const int ks[] = {1, 2, 40, 256};
    for (unsigned seed = 0; seed < 20; seed++) {
        fill(seed, 4);
        if (seed % 3 == 0)      /* ties */
            for (int i = 0; i < VOCAB; i++)
                logits[i] = roundf(logits[i] * 40) / 40;
        for (int i = 0; i < 5; i++) {
            p.temperature = i == 4 ? 0 : 0.7;
            p.top_k = i == 4 ? 0 : ks[i];
            p.top_p = i == 2 ? 0.9 : 1;
            assert_true(sampler_needs_few(&p));
            for (int parts = 1; parts <= 8; parts++)
                assert_int_equal(draw_cut(&p, parts, (int)seed), draw(&p, (int)seed));
        }
    }
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 1;      /* too many ties: the slice is wanted whole */
    p.temperature = 1;
    p.top_k = 1;
    assert_int_equal(draw_cut(&p, 2, 0), -1);
    p.top_k = 0;
    assert_false(sampler_needs_few(&p));
    p.top_k = SAMPLER_FEW_MAX + 1;
    assert_false(sampler_needs_few(&p));
    p.top_k = 3;
    p.repeat_penalty = 1.1;
    assert_false(sampler_needs_few(&p));
}

static void test_logprobs(void **state)
{
    struct sampler_params p = plain();
    static struct sampler_logprobs lp;
    fill(5, 6);
    logits[17] = 9;
    logits[2000] = 8;
    double sum = 0;
    for (int i = 0; i < VOCAB; i++)
        sum += exp(logits[i]);
    p.n_logprobs = 3;
    p.top_k = 1;
    uint32_t bias_token = 2000;
    float bias = 5;
    p.n_bias = 1;
    p.bias_token = &bias_token;
    p.bias_value = &bias;
    memcpy(work, logits, sizeof work);
    assert_int_equal(sampler_draw(&p, kernels, work, VOCAB, NULL, 0, 0, 0, scratch, &lp), 2000);
    assert_true(fabs(lp.drawn - (8 - log(sum))) < 1e-5);    /* of the raw logits: no bias */
    assert_int_equal(lp.n_top, 3);
    assert_int_equal(lp.top_id[0], 17);
    assert_true(fabs(lp.top[0] - (9 - log(sum))) < 1e-5);
    assert_int_equal(lp.top_id[1], 2000);
    assert_true(lp.top[2] <= lp.top[1]);
}

static void refuses(struct sampler_params p, const char *name)
{
    struct err err = {0};
    assert_int_equal(sampler_params_check(&p, VOCAB, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, name));
}

static void test_params_are_checked(void **state)
{
    struct sampler_params p = plain(), q;
    struct err err = {0};
    uint32_t token = VOCAB;
    float value = 0;
    assert_int_equal(sampler_params_check(&p, VOCAB, &err), ERR_OK);
#define REFUSES(field, value_, name) q = p; q.field = value_; refuses(q, name)
    REFUSES(temperature, -0.1, "temperature");
    REFUSES(temperature, NAN, "temperature");
    REFUSES(top_p, 0, "top_p");
    REFUSES(top_p, 1.1, "top_p");
    REFUSES(min_p, 2, "min_p");
    REFUSES(typical_p, 0, "typical_p");
    REFUSES(repeat_penalty, 0, "repeat_penalty");
    REFUSES(presence_penalty, INFINITY, "presence_penalty");
    REFUSES(frequency_penalty, NAN, "frequency_penalty");
    REFUSES(top_k, -1, "top_k");
    REFUSES(no_repeat_ngram, -1, "no_repeat_ngram");
    REFUSES(n_logprobs, 1000, "n_logprobs");
#undef REFUSES
    p.n_bias = 1;
    p.bias_token = &token;
    p.bias_value = &value;
    refuses(p, "logit_bias");
}

int main(void)
{
    scratch = aligned_alloc(64, sampler_scratch_bytes(VOCAB) + SAMPLER_FEW_ROOM * 16 * 64);
    kernels = kernels_get(isa_detect());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_follow_probabilities),
        cmocka_unit_test(test_greedy_takes_the_first_largest),
        cmocka_unit_test(test_seed_and_position_decide),
        cmocka_unit_test(test_slices_draw_what_whole_rows_draw),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_params_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
