/* The command line: every command parses, complains in one line that names the option, and has help with an
 * example. */
#include "coordinator/commands/cli.h"
#include "coordinator/commands/command.h"
#include "coordinator/commands/modelargs.h"
#include "coordinator/commands/samplingargs.h"

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static int parse_line(const char *line, struct err *err)
{
    char text[512], *argv[32];
    int argc = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *p = strtok(text, " "); p != NULL; p = strtok(NULL, " "))
        argv[argc++] = p;
    argv[argc] = NULL;
    const struct command *c = command_find(argv[0]);
    assert_non_null(c);
    void *options = calloc(1, c->options_bytes);
    int rc = command_parse(c, options, argc, argv, err);
    if (c->free != NULL)
        c->free(options);
    free(options);
    return rc;
}

static void test_good_lines(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "generate", "generate -p x -n 5 --temp 0", "generate --prompt-ids 5,9,2 --print-ids --ignore-eos",
        "generate --prompts a.jsonl --out b.jsonl --tp 3 --pp 2 --threads 2 --compute f32",
        "generate --stop a --stop b --logit-bias 5=-inf --logit-bias=7=1.5 --seed 0x10 --top-k 40",
        "generate --wire bf16 --kv f32 --ctx 100 --batch 4 --chunk 16 --memory 2.5G --plan p --save-plan q",
        "tokenize -m x --decode", "logits -m x --ids 1,2 --out y --as generated", "doctor --json --quick",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct err err = {0};
        if (parse_line(lines[i], &err) != ERR_OK)
            fail_msg("%s: %s", lines[i], err.msg);
    }
}

static void test_bad_lines_name_the_option(void **state)
{
    (void)state;
    static const struct { const char *line, *says; } cases[] = {
        {"generate --foo", "--foo"}, {"generate -n", "'-n'"}, {"generate -n 0", "-n"},
        {"generate -n 1x", "1x"}, {"generate extra", "'extra'"}, {"generate --temp -1", "--temp"},
        {"generate --temp nan", "--temp"}, {"generate --top-p 0", "--top-p"},
        {"generate --top-p 1.5", "from"}, {"generate --tp 0", "--tp"}, {"generate --tp 65", "64"},
        {"generate --compute f64", "default, f32"}, {"generate --wire x", "q8_0"},
        {"generate --logit-bias 5", "ID=VALUE"}, {"generate --logit-bias x=5", "--logit-bias"},
        {"generate --seed -3", "--seed"}, {"generate --seed 99999999999999999999", "--seed"},
        {"generate --memory 5X", "--memory"}, {"generate --memory 0", "--memory"},
        {"generate -p a -f b", "enough"}, {"generate -p a --out b", "--prompts"},
        {"logits --ids 1", "--out"}, {"logits --ids 1 --out x --as both", "generated"},
        {"tokenize --nothing", "--nothing"}, {"doctor x", "'x'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        assert_int_equal(parse_line(cases[i].line, &err), ERR_INVAL);
        if (strstr(err.msg, cases[i].says) == NULL || strchr(err.msg, '\n') != NULL)
            fail_msg("%s: '%s' does not say '%s'", cases[i].line, err.msg, cases[i].says);
    }
}

static void test_help(void **state)
{
    (void)state;
    for (int i = 0; command_table[i] != NULL; i++) {
        assert_non_null(command_table[i]->summary);
        const struct command *const alone[] = {command_table[i], NULL};
        const struct command *const *rows = command_table[i]->sub != NULL ? command_table[i]->sub : alone;
        for (int k = 0; rows[k] != NULL; k++) {
            assert_non_null(rows[k]->summary);
            assert_non_null(strstr(rows[k]->argp->doc, "Example:"));
        }
        assert_ptr_equal(command_find(command_table[i]->name), command_table[i]);
    }
    assert_null(command_find("nonsense"));
    char *yes[] = {"generate", "-p", "x", "--help"}, *no[] = {"generate", "--", "--help"};
    assert_true(command_wants_help(4, yes));
    assert_false(command_wants_help(3, no));
}

static void test_ids(void **state)
{
    (void)state;
    static const struct { const char *text; int n, last; } cases[] = {
        {"5,9,2", 3, 2}, {"[5, 9, 2]\n", 3, 2}, {" [ ] ", 0, 0}, {"", 0, 0}, {"7", 1, 7},
        {"5,,2", -1, 0}, {"5 9", -1, 0}, {"-1", -1, 0}, {"a", -1, 0}, {"99999999999", -1, 0},
        {"[1,2", 2, 2}, {"1;2", -1, 0}, {"[1]x", -1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t *ids;
        int n;
        struct err err = {0};
        error_t rc = cli_ids(&err, "--ids", cases[i].text, &ids, &n);
        assert_int_equal(rc == 0 ? n : -1, cases[i].n);
        if (rc == 0 && n > 0)
            assert_int_equal(ids[n - 1], cases[i].last);
        free(ids);
    }
}

static void test_a_line_overrides_the_defaults(void **state)
{
    (void)state;
    struct sampling_args base, a;
    struct err err = {0};
    sampling_args_init(&base);
    base.seed = 7;
    json_t *o = json_loads("{\"n\": 5, \"temperature\": 0, \"top_k\": 3, \"stop\": [\"x\", \"yz\"], "
                           "\"logit_bias\": {\"4\": -1.5}, \"ignore_eos\": true}", 0, NULL);
    assert_int_equal(sampling_args_copy(&a, &base, &err), ERR_OK);
    assert_int_equal(sampling_args_json(&a, o, "here", &err), ERR_OK);
    assert_int_equal(a.n, 5);
    assert_true(a.temperature == 0 && a.top_k == 3 && a.seed == 7 && a.ignore_eos);
    assert_int_equal(a.n_stop, 2);
    assert_string_equal(a.stop[1], "yz");
    Muster__Sampling m;
    Muster__Bias bias[1], *list[1];
    sampling_args_message(&a, &m, bias, list);
    assert_true(m.n_bias == 1 && m.bias[0]->token == 4 && m.bias[0]->value == -1.5f);
    sampling_args_free(&a);
    sampling_args_free(&a);
    json_decref(o);
    static const char *const bad[] = {"{\"n\": 0}", "{\"n\": 1.5}", "{\"top_p\": 2}", "{\"stop\": 1}",
        "{\"stop\": [\"\"]}", "{\"seed\": \"x\"}", "{\"logit_bias\": [1]}",
        "{\"logit_bias\": {\"-1\": 2}}", "{\"ignore_eos\": 1}", "{\"temperature\": -1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&err, 0, sizeof err);
        o = json_loads(bad[i], 0, NULL);
        assert_int_equal(sampling_args_copy(&a, &base, NULL), ERR_OK);
        int rc = sampling_args_json(&a, o, "here", &err);
        assert_true(rc == ERR_FORMAT || rc == ERR_INVAL);
        sampling_args_free(&a);
        json_decref(o);
    }
}

static void test_model_paths(void **state)
{
    (void)state;
    char dir[] = "/tmp/muster-cli-XXXXXX", file[64], out[MODEL_PATH_MAX];
    struct model_args a = {.model = "some-model"};
    struct err err = {0};
    assert_non_null(mkdtemp(dir));
    setenv("MUSTER_CACHE", dir, 1);
    assert_int_equal(model_args_path(&a, out, &err), ERR_IO);
    snprintf(file, sizeof file, "%s/some-model.gguf", dir);
    fclose(fopen(file, "w"));
    assert_int_equal(model_args_path(&a, out, NULL), ERR_OK);
    assert_string_equal(out, file);
    setenv("MUSTER_MODELS", dir, 1);
    a.model = NULL;
    assert_int_equal(model_args_path(&a, out, NULL), ERR_IO);
    unlink(file);
    snprintf(file, sizeof file, "%s/scenes-language.gguf", dir);
    fclose(fopen(file, "w"));
    assert_int_equal(model_args_path(&a, out, NULL), ERR_OK);
    assert_string_equal(out, file);
    unlink(file);
    rmdir(dir);
    unsetenv("MUSTER_CACHE");
    unsetenv("MUSTER_MODELS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_lines),
        cmocka_unit_test(test_bad_lines_name_the_option),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_a_line_overrides_the_defaults),
        cmocka_unit_test(test_model_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
