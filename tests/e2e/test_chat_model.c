/* test_chat_model.c - a real chat model (deploy/get-model.sh smollm2) against its reference.
 * Oracle: smollm2.expected.*: greedy continuations and per-token losses computed by another program in
 * f32 on the dequantised weights. 9 heads over 3 KV heads: 3 ranks divide them, 2 and 4 do not.
 * Skipped without the model or the reference data. */
#include "tests/e2e/e2e.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *expected;

/* ---- the nine continuations ---- */

static void append_ids(char **p, const json_t *ids)
{
    for (size_t i = 0; i < json_array_size(ids); i++)
        *p += sprintf(*p, "%s%lld", i ? ", " : "", json_integer_value(json_array_get(ids, i)));
}

static void write_prompts(const char *path)
{
    char *text = malloc(1 << 16), *p = text;
    const json_t *cases = json_object_get(expected, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        p += sprintf(p, "{\"id\": \"%zu\", \"n\": 64, \"temperature\": 0, \"prompt_ids\": [", i);
        append_ids(&p, json_object_get(json_array_get(cases, i), "ids"));
        p += sprintf(p, "]}\n");
    }
    e2e_write_file(path, text, (size_t)(p - text));
    free(text);
}

/* The ids of one line of --out, without a final end-of-sequence token, equal the expected ones. */
static void check_line(const char *line, size_t i, int ranks)
{
    const json_t *want = json_object_get(
        json_array_get(json_object_get(expected, "cases"), i), "greedy");
    long long eos = json_integer_value(json_object_get(expected, "eos"));
    json_t *got = json_loads(line, 0, NULL);
    const json_t *ids = json_object_get(got, "ids");
    size_t n = json_array_size(ids), n_want = json_array_size(want);
    if (n > 0 && json_integer_value(json_array_get(ids, n - 1)) == eos)
        n--;
    if (n_want > 0 && json_integer_value(json_array_get(want, n_want - 1)) == eos)
        n_want--;
    bool same = got && n == n_want;
    for (size_t j = 0; same && j < n; j++)
        same = json_integer_value(json_array_get(ids, j)) ==
               json_integer_value(json_array_get(want, j));
    if (!same)
        fail_msg("%d ranks, case %zu: %s", ranks, i, line);
    json_decref(got);
}

static void nine_continuations(void **state)
{
    char prompts[256], out[256];
    snprintf(prompts, sizeof prompts, "%s/nine.jsonl", e2e_dir());
    snprintf(out, sizeof out, "%s/nine.out", e2e_dir());
    write_prompts(prompts);
    for (int ranks = 1; ranks <= 4; ranks++) {
        struct e2e_run r;
        e2e_muster(&r, ranks, 200, "generate -m '%s' --compute f32 --tp %d --prompts '%s' --out '%s'",
                   e2e_chat_model(), ranks, prompts, out);
        e2e_expect(&r, 0);
        e2e_run_free(&r);
        char *text = e2e_read_file(out, NULL), *next = text;
        assert_non_null(text);
        size_t n_cases = json_array_size(json_object_get(expected, "cases")), n = 0;
        for (char *line; (line = next) && *line && n < n_cases; n++) {
            next = strchr(line, '\n');
            if (next)
                *next++ = 0;
            check_line(line, n, ranks);
        }
        assert_int_equal(n, n_cases);
        free(text);
    }
}

/* ---- the loss over a text ---- */

/* A tensor of a safetensors file: its bytes inside `file`, NULL when it is not there. */
static const void *find_tensor(const char *file, size_t n_file, const char *name, size_t bytes)
{
    uint64_t n_header;
    memcpy(&n_header, file, 8);
    if (n_header > n_file - 8)
        return NULL;
    json_t *header = json_loadb(file + 8, n_header, 0, NULL);
    const json_t *offsets = json_object_get(json_object_get(header, name), "data_offsets");
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    size_t end = (size_t)json_integer_value(json_array_get(offsets, 1));
    json_decref(header);
    if (!offsets || end < begin || end - begin != bytes || end > n_file - 8 - n_header)
        return NULL;
    return file + 8 + n_header + begin;
}

/* Mean over the text of -log softmax(logits[i])[ids[i + 1]]. */
static double mean_nll(const float *logits, const int64_t *ids, int n, int vocab)
{
    double sum = 0;
    for (int i = 0; i + 1 < n; i++) {
        const float *row = logits + (size_t)i * (size_t)vocab;
        double top = row[0], total = 0;
        for (int j = 1; j < vocab; j++)
            top = row[j] > top ? row[j] : top;
        for (int j = 0; j < vocab; j++)
            total += exp(row[j] - top);
        sum += log(total) + top - row[ids[i + 1]];
    }
    return sum / (n - 1);
}

static double measure_nll(int ranks, const char *flags, const int64_t *ids, int n, int vocab)
{
    char out[256], list[16384], *p = list;
    snprintf(out, sizeof out, "%s/nll.safetensors", e2e_dir());
    for (int i = 0; i < n; i++)
        p += sprintf(p, "%s%lld", i ? "," : "", (long long)ids[i]);
    struct e2e_run r;
    e2e_muster(&r, ranks, 200, "logits -m '%s' %s --ids %s --out '%s'", e2e_chat_model(), flags,
               list, out);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    size_t n_file = 0;
    char *file = e2e_read_file(out, &n_file);
    assert_non_null(file);
    const float *logits = find_tensor(file, n_file, "logits", (size_t)n * (size_t)vocab * 4);
    assert_non_null(logits);
    double nll = mean_nll(logits, ids, n, vocab);
    free(file);
    return nll;
}

static void loss_over_a_text(void **state)
{
    enum { N = 1024, VOCAB = 49152 };
    char path[512];
    snprintf(path, sizeof path, "%s/llm/smollm2.expected.safetensors", e2e_data());
    size_t n_file = 0;
    char *file = e2e_read_file(path, &n_file);
    assert_non_null(file);
    const void *raw = find_tensor(file, n_file, "text.ids", N * sizeof(int64_t));
    assert_non_null(raw);
    int64_t ids[N];
    memcpy(ids, raw, sizeof ids);
    free(file);
    double want = json_real_value(json_object_get(expected, "text_mean_nll"));
    assert_true(want > 1);
    static const struct { int ranks; const char *flags; double limit; } runs[] = {
        {1, "--compute f32", 0.001}, {3, "--compute f32", 0.001}, {1, "", 0.01}, {2, "", 0.01}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        double got = measure_nll(runs[i].ranks, runs[i].flags, ids, N, VOCAB);
        print_message("%d ranks %s: mean loss %.5f, reference %.5f (%+.3f%%)\n", runs[i].ranks,
                      runs[i].flags, got, want, 100 * (got / want - 1));
        assert_true(fabs(got / want - 1) <= runs[i].limit);
    }
}

/* The command's own mean over the same tokens, as text: the first 1,024 of the file that they are of. */
static void perplexity_of_the_text(void **state)
{
    struct e2e_run r;
    double want = json_real_value(json_object_get(expected, "text_mean_nll"));
    e2e_shell(&r, 100, "'%s' tokenize -m '%s' < '%s/llm/declaration.txt' | cut -d, -f1-1024 | sed 's/$/]/' | "
              "'%s' tokenize -m '%s' --decode > '%s/text.txt'", E2E_MUSTER, e2e_chat_model(), e2e_data(),
              E2E_MUSTER, e2e_chat_model(), e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    for (int ranks = 1; ranks <= 2; ranks++) {
        e2e_muster(&r, ranks, 200, "perplexity -m '%s' --compute f32 -f '%s/text.txt' --ctx 1024 --json",
                   e2e_chat_model(), e2e_dir());
        e2e_expect(&r, 0);
        json_t *j = json_loads(r.out, 0, NULL);
        double got = json_real_value(json_object_get(j, "nll"));
        assert_int_equal(json_integer_value(json_object_get(j, "tokens")), 1023);
        if (fabs(got / want - 1) > 1e-5)
            fail_msg("%d ranks: mean loss %.7f, reference %.7f", ranks, got, want);
        json_decref(j);
        e2e_run_free(&r);
    }
}

int main(void)
{
    if (!e2e_data() || !e2e_chat_model())
        return 77;
    char path[512];
    snprintf(path, sizeof path, "%s/llm/smollm2.expected.json", e2e_data());
    expected = json_load_file(path, 0, NULL);
    if (!expected)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nine_continuations),
        cmocka_unit_test(loss_over_a_text),
        cmocka_unit_test(perplexity_of_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
