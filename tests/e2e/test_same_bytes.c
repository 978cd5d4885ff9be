/* test_same_bytes.c - same seed, same bytes: layouts, threads, batches and chunks never show.
 * Oracle: one rank, one thread, one sequence at a time.
 * Usage:  test_same_bytes TYPE           (of the weights: f32, q8_0, q4_1, q4_k_m ...) */
#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_PROMPTS = 8, N_NEW = 24 };

static const char *type;

/* Two shapes: heads that 2 and 4 divide, and 9 heads over 3 that they do not. A row of the second is no
 * whole number of superblocks, so it is only made for the other types. */
static const char *model_of(bool odd)
{
    char name[64], args[128];
    snprintf(name, sizeof name, "%s.%s.gguf", odd ? "odd" : "even", type);
    snprintf(args, sizeof args, "--preset %s --type %s", odd ? "odd" : "even", type);
    return e2e_model(name, args);
}

/* Eight prompts of lengths from 1 to 57 tokens, with seeds of their own and several ways to sample. */
static const char *prompt_line(int i)
{
    static char line[1024];
    static const char *const how[] = {
        "\"temperature\": 0.8", "\"temperature\": 0", "\"temperature\": 1.3, \"top_k\": 40",
        "\"temperature\": 1, \"top_p\": 0.9", "\"temperature\": 0.7, \"min_p\": 0.05",
        "\"temperature\": 1, \"repeat_penalty\": 1.2", "\"temperature\": 1, \"frequency_penalty\": 0.5",
        "\"temperature\": 2, \"presence_penalty\": 0.4, \"top_k\": 100"};
    int n = 1 + 8 * i, used = snprintf(line, sizeof line, "{\"id\": \"p%d\", \"prompt_ids\": [0", i);
    for (int j = 1; j < n; j++)
        used += snprintf(line + used, sizeof line - (size_t)used, ", %d", 2 + (i * 131 + j * 37) % 440);
    snprintf(line + used, sizeof line - (size_t)used,
             "], \"n\": %d, \"seed\": %d, \"ignore_eos\": true, %s}\n", N_NEW, 1000 + i, how[i]);
    return line;
}

static const char *prompts_file(int first, int n)
{
    static char path[256];
    char text[N_PROMPTS * 1024] = "";
    for (int i = first; i < first + n; i++)
        strcat(text, prompt_line(i));
    snprintf(path, sizeof path, "%s/prompts.%d.%d", e2e_dir(), first, n);
    e2e_write_file(path, text, strlen(text));
    return path;
}

/* What --out holds after a run on this layout. The caller frees. */
static char *batch(const char *model, int ranks, const char *flags, const char *prompts)
{
    char out[256];
    snprintf(out, sizeof out, "%s/out.jsonl", e2e_dir());
    unlink(out);
    struct e2e_run r;
    e2e_muster(&r, ranks, 60, "generate -m '%s' %s --prompts '%s' --out '%s'", model, flags, prompts,
               out);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    char *text = e2e_read_file(out, NULL);
    assert_non_null(text);
    return text;
}

static char *one_by_one(const char *model)
{
    char *all = calloc(1, 1);
    for (int i = 0; i < N_PROMPTS; i++) {
        char *line = batch(model, 0, "--threads 1", prompts_file(i, 1));
        all = realloc(all, strlen(all) + strlen(line) + 1);
        strcat(all, line);
        free(line);
    }
    return all;
}

static void sampled_text(bool odd)
{
    const char *model = model_of(odd);
    char *want = one_by_one(model);
    /* Eight answers, all different: a run that printed nothing would be equal everywhere too. */
    int n_lines = 0;
    for (const char *p = want; *p; p++)
        n_lines += *p == '\n';
    assert_int_equal(n_lines, N_PROMPTS);
    assert_true(strlen(want) > N_PROMPTS * N_NEW);
    static const struct { int ranks; const char *flags; } runs[] = {
        {0, "--threads 1"}, {0, "--threads 2"}, {0, "--threads 1 --chunk 7"},
        {0, "--threads 1 --batch 3"}, {1, "--threads 2 --chunk 16 --batch 5"},
        {2, "--tp 2 --pp 1"}, {2, "--tp 1 --pp 2"}, {3, "--tp 3 --pp 1 --chunk 5"},
        {4, "--tp 4 --pp 1"}, {4, "--tp 2 --pp 2 --threads 2"}, {6, "--tp 3 --pp 2"},
        {8, "--tp 4 --pp 2 --chunk 9"}, {5, "--tp 5 --pp 1"},
        {3, "--dp 3 --batch 1"}, {4, "--dp 2 --tp 2 --batch 2 --chunk 9"}, {6, "--dp 2 --tp 3 --pp 1"},
        {4, "--dp 2 --pp 2 --tp 1"}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        char *got = batch(model, runs[i].ranks, runs[i].flags, prompts_file(0, N_PROMPTS));
        if (strcmp(got, want) != 0)
            fail_msg("%s, %d ranks, %s:\n%s\nalone:\n%s", model, runs[i].ranks, runs[i].flags, got,
                     want);
        free(got);
    }
    free(want);
}

static void sampled_text_even_heads(void **state) { sampled_text(false); }
static void sampled_text_odd_heads(void **state)
{
    if (!strcmp(type, "q4_k_m"))
        skip();
    sampled_text(true);
}

/* The logits file, byte for byte: as one prompt, and fed one by one through the decode family. */
static void logits_bit_for_bit(void **state)
{
    const char *model = model_of(false);
    static const char *const as[] = {"", "--as generated"};
    static const struct { int ranks; const char *flags; } runs[] = {
        {0, "--threads 1"}, {0, "--threads 2 --chunk 5"}, {2, "--tp 2"}, {3, "--tp 3"},
        {4, "--tp 2 --pp 2"}, {8, "--tp 4 --pp 2"}};
    for (int a = 0; a < 2; a++) {
        char *want = NULL;
        size_t n_want = 0;
        for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
            char out[256];
            snprintf(out, sizeof out, "%s/logits.safetensors", e2e_dir());
            unlink(out);
            struct e2e_run r;
            e2e_muster(&r, runs[i].ranks, 60,
                       "logits -m '%s' %s %s --ids 0,81,112,101,103,376,353,261,258,107,306,42,7 "
                       "--out '%s'", model, as[a], runs[i].flags, out);
            e2e_expect(&r, 0);
            e2e_run_free(&r);
            size_t n = 0;
            char *got = e2e_read_file(out, &n);
            assert_non_null(got);
            assert_true(n > 13 * 512 * 4);
            if (want && (n != n_want || memcmp(got, want, n) != 0))
                fail_msg("%s: logits differ with %d ranks, %s %s", model, runs[i].ranks,
                         runs[i].flags, as[a]);
            if (want) {
                free(got);
            } else {
                want = got;
                n_want = n;
            }
        }
        free(want);
    }
}

int main(int argc, char **argv)
{
    type = argc > 1 ? argv[1] : "f32";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampled_text_even_heads),
        cmocka_unit_test(sampled_text_odd_heads),
        cmocka_unit_test(logits_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
