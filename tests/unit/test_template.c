/* Templates against jinja2's own results, their limits, their errors, and conversations. */
#include "coordinator/text/chat.h"
#include "coordinator/text/jinja.h"
#include "tests/unit/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* 2025-01-31 09:05:07 */
static const struct tm fixed_now = {.tm_year = 125, .tm_mon = 0, .tm_mday = 31, .tm_hour = 9,
                                    .tm_min = 5, .tm_sec = 7, .tm_wday = 5, .tm_yday = 30};

static int render(const char *source, size_t n, const json_t *variables,
                  const struct jinja_limits *limits, char **text, size_t *len, struct err *err)
{
    struct jinja_template *t = NULL;
    *text = NULL;
    int rc = jinja_parse(&t, source, n, err);
    if (rc == ERR_OK)
        rc = jinja_render(t, variables, &fixed_now, limits, text, len, err);
    jinja_free(t);
    return rc;
}

static void check_golden(const json_t *row, const json_t *variables)
{
    const json_t *source = json_object_get(row, "source"), *want = json_object_get(row, "text");
    struct err err = {0};
    char *text;
    size_t n = 0;
    int rc = render(json_string_value(source), json_string_length(source), variables, NULL, &text, &n,
                    &err);
    bool good = want == NULL ? rc != ERR_OK && err.code == rc && err.msg[0] != '\0'
                             : rc == ERR_OK && n == json_string_length(want) &&
                                   memcmp(text, json_string_value(want), n) == 0;
    if (!good)
        print_error("%s\n   want '%s'\n   got  '%s' %s\n", json_string_value(source),
                    want != NULL ? json_string_value(want) : "a failure", text, err.msg);
    assert_true(good);
    free(text);
}

static void test_like_jinja2(void **state)
{
    (void)state;
    size_t n = 0;
    char *rest, *bytes = file_bytes(GOLDEN_DIR "/template_cases.jsonl", &n);
    assert_non_null(bytes);
    char *line = strtok_r(bytes, "\n", &rest);
    json_t *variables = json_loads(line, 0, NULL);
    assert_non_null(variables);
    int rows = 0;
    while ((line = strtok_r(NULL, "\n", &rest)) != NULL) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        check_golden(row, variables);
        json_decref(row);
        rows++;
    }
    assert_true(rows > 100);
    json_decref(variables);
    free(bytes);
}

/* --- limits: hostile templates end with a line, soon */

static void expect_limit(const char *source, const char *message)
{
    static const struct jinja_limits small = {.steps = 200000, .depth = 300, .memory = 64 << 20,
                                              .output = 1 << 20};
    struct err err = {0};
    char *text;
    size_t n = 0;
    int rc = render(source, strlen(source), NULL, &small, &text, &n, &err);
    free(text);
    if (rc != ERR_LIMIT || strstr(err.msg, message) == NULL)
        print_error("%.100s: %d %s\n", source, rc, err.msg);
    assert_int_equal(rc, ERR_LIMIT);
    assert_non_null(strstr(err.msg, message));
}

/* head, `times` x middle, tail */
static void expect_limit_of(const char *head, const char *middle, int times, const char *tail,
                            const char *message)
{
    size_t n = strlen(middle);
    char *source = malloc(strlen(head) + n * (size_t)times + strlen(tail) + 1), *p;
    p = stpcpy(source, head);
    for (int i = 0; i < times; i++)
        p = stpcpy(p, middle);
    strcpy(p, tail);
    expect_limit(source, message);
    free(source);
}

static void test_limits(void **state)
{
    (void)state;
    expect_limit("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
                 "steps");
    expect_limit("{% set x = 'x' * 1000 %}{% for a in range(9999) %}{{ x }}{% endfor %}", "writes more than");
    expect_limit("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion");
    expect_limit("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "nested");
    expect_limit("{% set n = namespace(s='abcdefgh') %}{% for i in range(99) %}"
                 "{% set n.s = n.s + n.s %}{% endfor %}", "steps");
    expect_limit("{% set n = namespace(a=[]) %}{% for i in range(9999) %}{% set n.a = [n.a] %}"
                 "{% endfor %}{{ n.a }}", "nests values");
    expect_limit("{{ [1] * 999999999 }}", "");
    expect_limit("{{ ('a' * 10000).replace('a', 'b' * 1000) }}", "");
    expect_limit_of("{{ ", "- ", 5000, "1 }}", "nested");
    expect_limit_of("{{ ", "not ", 5000, "1 }}", "nested");
    expect_limit_of("{{ 1", "+1", 5000, " }}", "nested");
    expect_limit_of("{{ 1", "|string", 5000, " }}", "nested");
    expect_limit_of("", "{% if 1 %}", 5000, "", "nested");
    expect_limit_of("{% filter ", "upper|", 5000, "upper %}x{% endfilter %}", "too many filters");
}

static void test_limit_of_memory(void **state)
{
    (void)state;
    static const char source[] = "{{ range(9999)|length }}";
    struct jinja_limits limits = jinja_default_limits;
    struct err err = {0};
    char *text;
    size_t n = 0;
    limits.memory = 100000;
    assert_int_equal(render(source, strlen(source), NULL, &limits, &text, &n, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "chat template: it needs more than 0 MB of memory");
    limits.memory = 2000000;
    err = (struct err){0};
    assert_int_equal(render(source, strlen(source), NULL, &limits, &text, &n, &err), ERR_OK);
    assert_string_equal(text, "9999");
    free(text);
}

static void test_errors_name_the_line(void **state)
{
    (void)state;
    static const struct { const char *source, *message; } cases[] = {
        {"a\n{{ 1 + }}", "chat template line 2: '}}', but a value is expected"},
        {"a\n\n{% if x %}", "chat template line 3: it ends, but endif is missing"},
        {"{% include 'x' %}", "chat template line 1: 'include', but a tag of a chat template"},
        {"x\n{{ y.z }}", "chat template line 2: 'y' is undefined, it has no 'z'"},
        {"{{ 1|nothing }}", "chat template line 1: no filter is named 'nothing'"},
        {"{{ raise_exception('roles must alternate') }}", "roles must alternate"},
        {"{{ 'a }}", "chat template line 1: a string has no end"},
        {"\xff", "chat template: not UTF-8 at byte 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        char *text;
        size_t n = 0;
        assert_int_not_equal(render(cases[i].source, strlen(cases[i].source), NULL, NULL, &text, &n,
                                    &err), ERR_OK);
        if (strstr(err.msg, cases[i].message) != err.msg)
            print_error("want '%s'\ngot  '%s'\n", cases[i].message, err.msg);
        assert_ptr_equal(strstr(err.msg, cases[i].message), err.msg);
        free(text);
    }
}

/* --- conversations */

static void expect_chat(const char *source, const char *messages, const char *tools, bool generation,
                        const char *want)
{
    struct chat *c;
    struct err err = {0};
    char *text = NULL;
    size_t n = 0;
    struct chat_request q = {.messages = json_loads(messages, 0, NULL),
                             .tools = tools != NULL ? json_loads(tools, 0, NULL) : NULL,
                             .add_generation_prompt = generation, .now = &fixed_now};
    assert_non_null(q.messages);
    assert_int_equal(chat_open_source(&c, source, strlen(source), "<s>", "</s>", &err), ERR_OK);
    int rc = chat_render(c, &q, &text, &n, &err);
    if (rc == ERR_OK) {
        assert_string_equal(text, want);
        assert_int_equal(n, strlen(want));
    } else {
        assert_string_equal(err.msg, want);
    }
    free(text);
    chat_close(c);
    json_decref((json_t *)q.messages);
    json_decref((json_t *)q.tools);
}

static void test_chat(void **state)
{
    (void)state;
    static const char names[] = "{{ bos_token }}{% for m in messages %}[{{ m.role }}:{{ m.content }}]"
                                "{% endfor %}{{ eos_token if not add_generation_prompt }}";
    expect_chat(names, "[{\"role\":\"user\",\"content\":\"hi\"}]", NULL, true, "<s>[user:hi]");
    expect_chat(names, "[{\"role\":\"user\",\"content\":\"hi\"}]", NULL, false, "<s>[user:hi]</s>");
    expect_chat(names, "[{\"content\":\"hi\"}]", NULL, false, "messages[0] has no \"role\"");
    expect_chat(names, "{}", NULL, false, "messages: a list of {\"role\", \"content\"} is needed");
    expect_chat("{{ tools is none }}{{ documents is none }}", "[]", NULL, false, "TrueTrue");
    expect_chat("{{ tools[0].name }}", "[]", "[{\"name\":\"f\"}]", false, "f");
}

static void test_arguments_and_reasoning(void **state)
{
    (void)state;
    static const char calls[] = "{{ messages[0].tool_calls[0].function.arguments|tojson }}";
    static const char reasons[] = "{{ messages[0] }}";
    expect_chat(calls, "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":"
                       "\"{\\\"city\\\":\\\"Bern\\\"}\"}}]}]", NULL, false, "{\"city\": \"Bern\"}");
    expect_chat(calls, "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":"
                       "\"no json\"}}]}]", NULL, false, "\"no json\"");
    expect_chat(reasons, "[{\"role\":\"a\",\"reasoning\":\"why\"}]", NULL, false,
                "{'thinking': 'why', 'role': 'a', 'reasoning': 'why', 'reasoning_content': 'why'}");
}

/* A vocabulary of one token and no template. */
static void test_chatml_when_there_is_none(void **state)
{
    (void)state;
    static const char json[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    struct container k = {0};
    struct tokenizer *t;
    struct chat *c;
    struct err err = {0};
    char *text;
    size_t n;
    container_add(&k, "tokenizer.json", json, strlen(json));
    assert_int_equal(tokenizer_open(&t, k.p, k.n, &err), ERR_OK);
    assert_int_equal(chat_open(&c, t, "other", &err), ERR_INVAL);
    assert_string_equal(err.msg, "the model has no chat template named 'other'");
    err = (struct err){0};
    assert_int_equal(chat_open(&c, t, NULL, &err), ERR_OK);
    struct chat_request q = {.add_generation_prompt = true};
    json_t *messages = json_loads("[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"user\","
                                  "\"content\":[{\"text\":\"a\"},{\"text\":\"b\"}]}]", 0, NULL);
    q.messages = messages;
    assert_int_equal(chat_render(c, &q, &text, &n, &err), ERR_OK);
    assert_string_equal(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>user\nab<|im_end|>\n"
                              "<|im_start|>assistant\n");
    free(text);
    json_decref(messages);
    chat_close(c);
    chat_close(NULL);
    tokenizer_close(t);
    container_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_jinja2),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_limit_of_memory),
        cmocka_unit_test(test_errors_name_the_line),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_arguments_and_reasoning),
        cmocka_unit_test(test_chatml_when_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
