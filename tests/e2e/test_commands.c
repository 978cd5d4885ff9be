/* test_commands.c - each command as a user meets it: help, the usual forms, and what comes out. */
#include "tests/e2e/e2e.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_S = 60, VOCAB = 512 };

static const char *const names[] = {"generate", "inspect", "tokenize", "logits", "quantize", "bench",
                                    "doctor", "plan", "chat", "perplexity", "kl", "score"};
enum { N_NAMES = sizeof names / sizeof names[0] };

static const char *model(void) { return e2e_model("m.gguf", "--preset even --type q8_0 --layers 3"); }

/* Runs, expects success, returns stdout; the caller frees. */
static char *output_of(int n_ranks, const char *args)
{
    struct e2e_run r;
    e2e_muster(&r, n_ranks, LIMIT_S, "%s", args);
    e2e_expect(&r, 0);
    free(r.err);
    return r.out;
}

static char *output(int n_ranks, const char *fmt, ...)
{
    char args[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(args, sizeof args, fmt, ap);
    va_end(ap);
    return output_of(n_ranks, args);
}

/* JSON array of ids -> how many, up to cap. */
static int ids_of(const char *text, int *ids, int cap)
{
    json_t *a = json_loads(text, 0, NULL);
    assert_true(json_is_array(a));
    int n = (int)json_array_size(a);
    assert_true(n <= cap);
    for (int i = 0; i < n; i++)
        ids[i] = (int)json_integer_value(json_array_get(a, (size_t)i));
    json_decref(a);
    return n;
}

/* ---- help, man page, completion ---- */

static void every_command_has_help_and_an_example(void **state)
{
    for (int i = 0; i < N_NAMES; i++) {
        char *help = output(0, "%s --help", names[i]);
        char usage[64];
        snprintf(usage, sizeof usage, "muster %s", names[i]);
        if (!strstr(help, usage) || !(strstr(help, "Example") || strstr(help, "example")))
            fail_msg("%s --help: %s", names[i], help);
        free(help);
        help = output(2, "%s --help", names[i]);        /* two ranks: once, from rank 0 */
        const char *first = strstr(help, "Usage:");
        assert_non_null(first);
        assert_null(strstr(first + 1, "Usage:"));
        free(help);
    }
    char *list = output(0, "--help");
    for (int i = 0; i < N_NAMES; i++)
        assert_non_null(strstr(list, names[i]));
    free(list);
    char *version = output(0, "--version");
    assert_memory_equal(version, "muster ", 7);
    free(version);
}

/* Every long option of every command is in the man page. */
static void man_page_is_complete(void **state)
{
    char *page = e2e_read_file(E2E_SOURCE "/deploy/man/muster.1", NULL);
    assert_non_null(page);
    char *to = page;                    /* roff writes "\-" for a hyphen */
    for (const char *from = page; *from; from++)
        if (*from != '\\' || from[1] != '-')
            *to++ = *from;
    *to = 0;
    int missing = 0;
    for (int i = 0; i < N_NAMES; i++) {
        char *help = output(0, "%s --help", names[i]);
        for (char *p = help; (p = strstr(p, "--")); ) {
            char option[64] = "--";
            size_t n = 2;
            for (p += 2; (isalnum((unsigned char)*p) || *p == '-') && n < 60; p++)
                option[n++] = *p;
            if (n > 2 && !strstr(page, option)) {
                print_error("%s %s is not in the man page\n", names[i], option);
                missing++;
            }
        }
        free(help);
    }
    free(page);
    assert_int_equal(missing, 0);
}

static void completion_knows_commands_and_options(void **state)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S,
              "exec bash -c 'source %s/deploy/completion/muster.bash; compopt() { :; }; "
              "COMP_WORDS=(%s gen); COMP_CWORD=1; _muster; echo \"${COMPREPLY[@]}\"; "
              "COMP_WORDS=(%s generate --te); COMP_CWORD=2; _muster; echo \"${COMPREPLY[@]}\"; "
              "COMP_WORDS=(%s generate --compute f); COMP_CWORD=3; _muster; echo \"${COMPREPLY[@]}\"; "
              "COMP_WORDS=(%s train tok); COMP_CWORD=2; _muster; echo \"${COMPREPLY[@]}\"; "
              "COMP_WORDS=(%s train llm --evaluate); COMP_CWORD=3; _muster; echo \"${COMPREPLY[@]}\"'",
              E2E_SOURCE, E2E_MUSTER, E2E_MUSTER, E2E_MUSTER, E2E_MUSTER, E2E_MUSTER);
    e2e_expect(&r, 0);
    assert_string_equal(r.out, "generate\n--temp\nf32\ntokenizer\n--evaluate-every\n");
    e2e_run_free(&r);
}

/* ---- generate ---- */

static void without_a_model_the_default_one(void **state)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "cd / && exec %s -n 2 %s generate -p 'There is a red boat on the sea.\nQ: What "
              "colour is the boat?\nA:' -n 20 --temp 0 --stop '\n' --no-echo", e2e_mpirun(), E2E_MUSTER);
    e2e_expect(&r, 0);
    assert_string_equal(r.out, " red\n");
    e2e_run_free(&r);
    /* No seed: a random one, which is printed and gives the same text again. */
    e2e_muster(&r, 0, LIMIT_S, "generate -p 'There is' -n 20");
    e2e_expect(&r, 0);
    const char *seed = strstr(r.err, "seed");
    assert_non_null(seed);
    seed += strcspn(seed, "0123456789");
    char *again = output(0, "generate -p 'There is' -n 20 --seed %.*s", (int)strspn(seed, "0123456789"),
                         seed);
    assert_string_equal(again, r.out);
    free(again);
    e2e_run_free(&r);
}

/* A prompt comes from an option, a file or stdin; echo and ids. */
static void forms_of_a_prompt(void **state)
{
    char path[256];
    static const char text[] = "Once upon a time there was\na number";
    snprintf(path, sizeof path, "%s/prompt.txt", e2e_dir());
    e2e_write_file(path, text, strlen(text));
    char *want = output(0, "generate -m %s -p '%s' -n 12 --temp 0", model(), text);
    char *from_file = output(0, "generate -m %s -f %s -n 12 --temp 0", model(), path);
    assert_string_equal(from_file, want);
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "%s generate -m %s -n 12 --temp 0 < %s", E2E_MUSTER, model(), path);
    e2e_expect(&r, 0);
    assert_string_equal(r.out, want);
    e2e_run_free(&r);
    e2e_shell(&r, LIMIT_S, "%s -n 2 %s generate -m %s -n 12 --temp 0 < %s", e2e_mpirun(), E2E_MUSTER,
              model(), path);
    e2e_expect(&r, 0);
    assert_string_equal(r.out, want);
    e2e_run_free(&r);
    assert_memory_equal(want, text, strlen(text));
    char *no_echo = output(0, "generate -m %s -p '%s' -n 12 --temp 0 --no-echo", model(), text);
    assert_string_equal(no_echo, want + strlen(text));

    char *prompt = output(0, "tokenize -m %s -p '%s'", model(), text);
    int ids[64], n = ids_of(prompt, ids, 64);
    char list[512], *p = list;
    for (int i = 0; i < n; i++)
        p += sprintf(p, "%s%d", i ? "," : "", ids[i]);
    char *by_ids = output(0, "generate -m %s --prompt-ids %s -n 12 --temp 0 --print-ids --ignore-eos",
                          model(), list);
    int new_ids[64];
    assert_int_equal(ids_of(by_ids, new_ids, 64), 12);
    struct e2e_run d;
    e2e_shell(&d, LIMIT_S, "echo '%.*s' | %s tokenize -m %s --decode", (int)strcspn(by_ids, "\n"),
              by_ids, E2E_MUSTER, model());
    e2e_expect(&d, 0);
    /* decode adds no newline of its own, generate does */
    assert_memory_equal(d.out, no_echo, strlen(no_echo) - 1);
    e2e_run_free(&d);
    free(by_ids);
    free(prompt);
    free(no_echo);
    free(from_file);
    free(want);
}

/* Where in text three plain letters are that do not occur before; copies them. */
static size_t place_to_stop(const char *text, char stop[4])
{
    for (size_t at = 10; at + 10 < strlen(text); at++) {
        bool plain = true;
        for (int i = 0; i < 3; i++)
            plain = plain && isalnum((unsigned char)text[at + i]);
        memcpy(stop, text + at, 3);
        stop[3] = 0;
        if (plain && strstr(text, stop) == text + at)
            return at;
    }
    fail_msg("no place to stop in: %s", text);
    return 0;
}

static void bias_and_stop(void **state)
{
    int ids[64];
    char *out = output(0, "generate -m %s -p Hello -n 6 --seed 3 --logit-bias 300=1000 --print-ids",
                       model());
    assert_int_equal(ids_of(out, ids, 64), 6);
    for (int i = 0; i < 6; i++)
        assert_int_equal(ids[i], 300);
    free(out);
    /* End of sequence forced: nothing comes. */
    out = output(0, "generate -m %s -p Hello -n 6 --seed 3 --logit-bias 1=1000 --no-echo", model());
    assert_string_equal(out, "\n");
    free(out);
    /* A stop text cuts where it begins, even across tokens. */
    char *whole = output(0, "generate -m %s -p Hello -n 30 --seed 5 --no-echo --ignore-eos", model());
    char stop[4];
    size_t at = place_to_stop(whole, stop);
    out = output(0, "generate -m %s -p Hello -n 30 --seed 5 --no-echo --ignore-eos --stop '%s'",
                 model(), stop);
    assert_int_equal(strlen(out), at + 1);
    assert_memory_equal(out, whole, at);
    free(out);
    free(whole);
}

static void prompts_in_a_file(void **state)
{
    char in[256], out[256];
    static const char lines[] =
        "{\"id\": \"b\", \"prompt\": \"The old man\", \"n\": 9, \"temperature\": 0}\n"
        "{\"id\": 7, \"prompt_ids\": [0, 300, 301], \"n\": 3, \"seed\": 4, \"ignore_eos\": true}\n"
        "{\"id\": \"long\", \"prompt\": \"a river and a road and a red door\", \"n\": 2}\n";
    snprintf(in, sizeof in, "%s/three.jsonl", e2e_dir());
    snprintf(out, sizeof out, "%s/three.out", e2e_dir());
    e2e_write_file(in, lines, strlen(lines));
    free(output(2, "generate -m %s --prompts %s --out %s --seed 9", model(), in, out));
    char *text = e2e_read_file(out, NULL), *line = text;
    static const int n_new[] = {9, 3, 2};
    for (int i = 0; i < 3; i++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        json_t *o = json_loads(line, 0, NULL);
        assert_non_null(o);
        const json_t *id = json_object_get(o, "id");
        if (i == 1)
            assert_int_equal(json_integer_value(id), 7);
        else
            assert_string_equal(json_string_value(id), i ? "long" : "b");
        assert_true(json_array_size(json_object_get(o, "ids")) <= (size_t)n_new[i]);
        assert_true(json_is_string(json_object_get(o, "text")));
        const char *why = json_string_value(json_object_get(o, "finish_reason"));
        assert_non_null(why);
        assert_true(!strcmp(why, "length") || !strcmp(why, "stop"));
        json_decref(o);
        line = end + 1;
    }
    assert_int_equal(*line, 0);
    free(text);
}

/* A shell's "> file" is a regular file, and /dev/stdout leads to it: the file gets the lines, and the link stays. */
static void prompts_to_standard_output(void **state)
{
    struct e2e_run r;
    struct stat st;
    size_t n, m;
    e2e_shell(&r, LIMIT_S, "%s generate -m %s --prompts '%s/three.jsonl' --seed 9 > '%s/three.piped'",
              E2E_MUSTER, model(), e2e_dir(), e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    char *written = e2e_read_file(e2e_place("three.out"), &n);
    char *piped = e2e_read_file(e2e_place("three.piped"), &m);
    assert_non_null(piped);
    assert_int_equal(n, m);
    assert_memory_equal(written, piped, n);
    free(written);
    free(piped);
    assert_true(lstat("/dev/stdout", &st) != 0 || S_ISLNK(st.st_mode));
}

static void a_plan_is_saved_and_replayed(void **state)
{
    char plan[256];
    snprintf(plan, sizeof plan, "%s/plan", e2e_dir());
    char *a = output(2, "generate -m %s -p Hello -n 8 --seed 2 --pp 2 --save-plan %s", model(), plan);
    char *b = output(2, "generate -m %s -p Hello -n 8 --seed 2 --plan %s", model(), plan);
    assert_string_equal(a, b);
    free(a);
    free(b);
}

/* ---- the others ---- */

static void tokens_there_and_back(void **state)
{
    static const char *const texts[] = {"Once upon a time", "  two  blanks ", "na\xc3\xafve \xe2\x82\xac",
                                        "line\nline\n\n", "\xf0\x9f\x90\xb1 cat", ""};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/text", e2e_dir());
        e2e_write_file(path, texts[i], strlen(texts[i]));
        struct e2e_run r;
        e2e_shell(&r, LIMIT_S, "%s tokenize -m %s --no-add-special < %s | tee %s/ids | "
                  "%s tokenize -m %s --decode", E2E_MUSTER, model(), path, e2e_dir(), E2E_MUSTER,
                  model());
        e2e_expect(&r, 0);
        assert_string_equal(r.out, texts[i]);
        e2e_run_free(&r);
        snprintf(path, sizeof path, "%s/ids", e2e_dir());
        char *ids = e2e_read_file(path, NULL);
        int list[128], n = ids_of(ids, list, 128);
        char *with = output(0, "tokenize -m %s -p '%s'", model(), texts[i]);
        int list_with[128];
        assert_int_equal(ids_of(with, list_with, 128), n + 1);
        assert_int_equal(list_with[0], 0);
        assert_memory_equal(list, list_with + 1, sizeof(int) * (size_t)n);
        free(with);
        free(ids);
    }
    int ids[16];
    char *special = output(0, "tokenize -m %s --no-add-special --parse-special -p '</s>'", model());
    assert_int_equal(ids_of(special, ids, 16), 1);
    assert_int_equal(ids[0], 1);
    free(special);
    char *plain = output(0, "tokenize -m %s --no-add-special -p '</s>'", model());
    assert_true(ids_of(plain, ids, 16) > 1);
    free(plain);
}

/* The tensor is F32 [ids, vocabulary], and the greedy token is the largest of the last row. */
static void logits_file(void **state)
{
    char path[256];
    snprintf(path, sizeof path, "%s/l.safetensors", e2e_dir());
    free(output(2, "logits -m %s --ids 0,300,301,302 --out %s --compute f32", model(), path));
    size_t n = 0;
    char *file = e2e_read_file(path, &n);
    assert_non_null(file);
    uint64_t n_header;
    memcpy(&n_header, file, 8);
    json_t *header = json_loadb(file + 8, n_header, 0, NULL);
    const json_t *t = json_object_get(header, "logits"), *shape = json_object_get(t, "shape");
    assert_string_equal(json_string_value(json_object_get(t, "dtype")), "F32");
    assert_int_equal(json_integer_value(json_array_get(shape, 0)), 4);
    assert_int_equal(json_integer_value(json_array_get(shape, 1)), VOCAB);
    assert_int_equal(n, 8 + n_header + 4 * VOCAB * 4);
    const char *last = file + 8 + n_header + 3 * VOCAB * 4;
    int best = 0;
    float top = -1e30f;
    for (int i = 0; i < VOCAB; i++) {
        float x;
        memcpy(&x, last + 4 * i, 4);
        if (x > top) {
            top = x;
            best = i;
        }
    }
    json_decref(header);
    free(file);
    char *out = output(0, "generate -m %s --prompt-ids 0,300,301,302 -n 1 --temp 0 --print-ids "
                       "--ignore-eos --compute f32", model());
    int id;
    assert_int_equal(ids_of(out, &id, 1), 1);
    assert_int_equal(id, best);
    free(out);
}

/* The first line of what perplexity prints: without the time. */
static char *perplexity(int n_ranks, const char *args)
{
    char *text = output(n_ranks, "perplexity -m %s -f %s/text.txt %s", model(), e2e_dir(), args);
    char *second = strchr(text, '\n');
    assert_non_null(second);
    *second = 0;
    return text;
}

/* Windows of a text: one result whatever the layout, the batch and the chunks; JSON says the same. */
static void perplexity_of_a_text(void **state)
{
    static const struct { int ranks; const char *args; } ways[] = {
        {2, "--tp 2"}, {2, "--pp 2"}, {2, "--dp 2"}, {3, "--tp 3 --batch 2"}, {4, "--tp 2 --pp 2 --chunk 7"},
        {0, "--batch 1"}};
    char path[256], text[2000] = "";
    for (int i = 0; i < 20; i++)
        sprintf(text + strlen(text), "Once upon a time there were %d numbers.\n", i * 37);
    snprintf(path, sizeof path, "%s/text.txt", e2e_dir());
    e2e_write_file(path, text, strlen(text));
    char *want = perplexity(0, "--ctx 32 --stride 10");
    double p, error, nll;
    assert_int_equal(sscanf(want, "perplexity %lf +- %lf, mean NLL %lf", &p, &error, &nll), 3);
    assert_true(p > 1 && error > 0 && error < p && nll > 0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        char args[128];
        snprintf(args, sizeof args, "--ctx 32 --stride 10 %s", ways[i].args);
        char *got = perplexity(ways[i].ranks, args);
        assert_string_equal(got, want);
        free(got);
    }
    char *other = perplexity(0, "--ctx 48 --stride 10");
    assert_string_not_equal(other, want);
    free(other);
    char *json = output(2, "perplexity -m %s -f %s --ctx 32 --stride 10 --json", model(), path);
    json_t *j = json_loads(json, 0, NULL);
    assert_true(fabs(json_real_value(json_object_get(j, "perplexity")) - p) < 1e-4);
    assert_true(fabs(json_real_value(json_object_get(j, "nll_error")) * p - error) < 1e-3);
    assert_true(json_real_value(json_object_get(j, "tokens_per_s")) > 0);
    assert_true(json_integer_value(json_object_get(j, "windows")) > 5);
    json_decref(j);
    free(json);
    free(want);
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "printf x | %s -n 2 %s perplexity -m %s --no-add-special", e2e_mpirun(),
              E2E_MUSTER, model());
    assert_non_null(strstr(r.err, "nothing to foretell"));
    e2e_run_free(&r);
    e2e_ranks(&r, 2, LIMIT_S, "perplexity -m %s -f %s --ctx 32 --stride 32", model(), path);
    e2e_expect_error(&r, 2, "--stride 32");
    e2e_run_free(&r);
}

static void divergence_of_two_runs(void **state)
{
    const char *d = e2e_dir();
    free(output(0, "logits -m %s --ids 1,5,9,40,41 --compute f32 --out %s/f32.st", model(), d));
    free(output(0, "logits -m %s --ids 1,5,9,40,41 --out %s/default.st", model(), d));
    free(output(0, "logits -m %s --ids 1,5,9 --out %s/short.st", model(), d));
    char *same = output(2, "kl %s/f32.st %s/f32.st", d, d);
    assert_memory_equal(same, "mean KL divergence 0.000000000 +- 0.000000000", 45);
    assert_non_null(strstr(same, "100.000% +- 0.000% of 5 rows"));
    free(same);
    char *json = output(0, "kl %s/f32.st %s/default.st --json", d, d);
    json_t *j = json_loads(json, 0, NULL);
    double kl = json_real_value(json_object_get(j, "kl")), most = json_real_value(json_object_get(j, "kl_max"));
    assert_true(kl > 0 && kl < 1e-2 && most >= kl);
    assert_int_equal(json_integer_value(json_object_get(j, "vocabulary")), VOCAB);
    json_decref(j);
    free(json);
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "kl %s/f32.st %s/short.st", d, d);
    e2e_expect_error(&r, 3, "[3, 512]");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, LIMIT_S, "kl %s/f32.st", d);
    e2e_expect_error(&r, 2, "two .safetensors files");
    e2e_run_free(&r);
}

static void inspect_a_model(void **state)
{
    char *text = output(0, "inspect -m %s", model());
    assert_non_null(strstr(text, "llama"));
    free(text);
    char *json = output(0, "inspect -m %s --json --tp 2 --pp 2", model());
    json_t *o = json_loads(json, 0, NULL);
    assert_true(json_is_object(o));
    json_decref(o);
    free(json);
}

static void doctor_names_the_ranks(void **state)
{
    char *text = output(2, "doctor");
    char host[256];
    assert_int_equal(gethostname(host, sizeof host), 0);
    assert_non_null(strstr(text, host));
    free(text);
}

static void bench_prints_json(void **state)
{
    char *json = output(2, "bench -m %s --json", model());
    json_t *o = json_loads(json, 0, NULL);
    if (!json_is_object(o))
        fail_msg("bench --json: %s", json);
    json_decref(o);
    free(json);
}

/* Every type that quantize writes can be read again, and says nearly the same. */
static void quantize_and_generate(void **state)
{
    const char *wide = e2e_model("wide.gguf", "--preset even --type f32 --layers 2");
    static const char *const types[] = {"f16", "bf16", "q8_0", "q4_0", "q4_k"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s.gguf", e2e_dir(), types[i]);
        free(output(0, "quantize -m %s --type %s --out %s", wide, types[i], path));
        char *text = output(0, "generate -m %s -p 'Once upon a time' -n 8 --temp 0", path);
        assert_memory_equal(text, "Once upon a time", 16);
        free(text);
    }
}

/* ---- installed ---- */

static void installed_it_finds_its_model(void **state)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "cmake --install %s --prefix %s/prefix > /dev/null", E2E_BUILD, e2e_dir());
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_shell(&r, LIMIT_S, "cd / && find %s/prefix -name 'muster*' | sort && "
              "exec %s/prefix/bin/muster generate -p Hello -n 4 --temp 0", e2e_dir(), e2e_dir());
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.out, "/share/man/man1/muster.1\n"));
    assert_non_null(strstr(r.out, "/share/bash-completion/completions/muster\n"));
    assert_non_null(strstr(r.out, "\nHello"));
    e2e_run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_has_help_and_an_example),
        cmocka_unit_test(man_page_is_complete),
        cmocka_unit_test(completion_knows_commands_and_options),
        cmocka_unit_test(without_a_model_the_default_one),
        cmocka_unit_test(forms_of_a_prompt),
        cmocka_unit_test(bias_and_stop),
        cmocka_unit_test(prompts_in_a_file), cmocka_unit_test(prompts_to_standard_output),
        cmocka_unit_test(a_plan_is_saved_and_replayed),
        cmocka_unit_test(tokens_there_and_back),
        cmocka_unit_test(logits_file),
        cmocka_unit_test(perplexity_of_a_text),
        cmocka_unit_test(divergence_of_two_runs),
        cmocka_unit_test(inspect_a_model),
        cmocka_unit_test(doctor_names_the_ranks),
        cmocka_unit_test(bench_prints_json),
        cmocka_unit_test(quantize_and_generate),
        cmocka_unit_test(installed_it_finds_its_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
