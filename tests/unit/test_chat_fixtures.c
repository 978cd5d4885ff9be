/* Every conversation of fixtures/chat through its template: the same bytes as transformers renders, or a
 * failure where it fails. */
#include "coordinator/text/chat.h"
#include "tests/unit/container.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const char *fixtures;

/* strftime_now in the fixtures: 2025-01-31 09:05:07. */
static const struct tm fixed_now = {.tm_year = 125, .tm_mon = 0, .tm_mday = 31, .tm_hour = 9,
                                    .tm_min = 5, .tm_sec = 7, .tm_wday = 5, .tm_yday = 30};

static bool has_argument_text(const json_t *messages)
{
    json_t *message, *call;
    size_t i, k;
    json_array_foreach(messages, i, message)
        json_array_foreach(json_object_get(message, "tool_calls"), k, call)
            if (json_is_string(json_object_get(json_object_get(call, "function"), "arguments")))
                return true;
    return false;
}

static int compare(const json_t *row, int rc, const char *text, size_t n, const char *msg)
{
    const json_t *want = json_object_get(row, "expected");
    const char *error = json_string_value(json_object_get(row, "error"));
    const char *message = json_string_value(json_object_get(row, "message"));
    if (want == NULL) {
        bool own = error != NULL && strcmp(error, "TemplateError") == 0;        /* raise_exception */
        if (rc == ERR_OK || (own && strncmp(msg, message, 200) != 0)) {
            print_error("   should fail with %s: %s\n   but gave %d '%.300s'\n", error, message, rc,
                        rc == ERR_OK ? text : msg);
            return 1;
        }
        return 0;
    }
    if (rc == ERR_OK && n == json_string_length(want) && memcmp(text, json_string_value(want), n) == 0)
        return 0;
    size_t at = 0;
    while (rc == ERR_OK && at < n && text[at] == json_string_value(want)[at])
        at++;
    print_error("   %s\n   want ...'%.200s'\n   got  ...'%.200s'\n", msg, json_string_value(want) + at,
                rc == ERR_OK ? text + at : "");
    return 1;
}

static int check_row(const struct chat *c, const json_t *row, bool as_sent)
{
    struct chat_request q = {.messages = json_object_get(row, "messages"),
                             .tools = json_object_get(row, "tools"),
                             .variables = json_object_get(row, "variables"),
                             .add_generation_prompt = json_is_true(json_object_get(
                                 row, "add_generation_prompt")),
                             .arguments_as_sent = as_sent, .now = &fixed_now};
    struct err err = {0};
    char *text = NULL;
    size_t n = 0;
    if (!as_sent && has_argument_text(q.messages))
        return 0;               /* as_sent is what the fixture shows */
    int rc = chat_render(c, &q, &text, &n, &err);
    int bad = compare(row, rc, text, n, err.msg);
    free(text);
    return bad;
}

static int check_file(const char *name)
{
    char path[4096];
    size_t n = 0, n_rows = 0;
    struct err err = {0};
    struct chat *c = NULL;
    char *line, *rest;
    int bad = 0, rows = 0;
    snprintf(path, sizeof path, "%s/chat/templates/%s.jinja", fixtures, name);
    char *source = file_bytes(path, &n);
    snprintf(path, sizeof path, "%s/chat/%s.jsonl", fixtures, name);
    char *lines = file_bytes(path, &n_rows);
    assert_non_null(source);
    assert_non_null(lines);
    if (chat_open_source(&c, source, n, NULL, NULL, &err) != ERR_OK)
        print_error("%s: %s\n", name, err.msg);
    assert_non_null(c);
    for (line = strtok_r(lines, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        int here = check_row(c, row, true) + check_row(c, row, false);
        if (here > 0)
            print_error("%s: row %d (%s) differs\n", name, rows,
                        json_string_value(json_object_get(row, "name")));
        bad += here;
        rows++;
        json_decref(row);
    }
    chat_close(c);
    free(source);
    free(lines);
    assert_true(rows > 0);
    return bad;
}

static void test_every_template(void **state)
{
    (void)state;
    char path[4096];
    struct dirent *e;
    int files = 0, bad = 0;
    snprintf(path, sizeof path, "%s/chat", fixtures);
    DIR *d = opendir(path);
    if (d == NULL)
        skip();
    while ((e = readdir(d)) != NULL) {
        size_t n = strlen(e->d_name);
        if (n < 7 || strcmp(e->d_name + n - 6, ".jsonl") != 0)
            continue;
        e->d_name[n - 6] = '\0';
        bad += check_file(e->d_name);
        files++;
    }
    closedir(d);
    assert_true(files > 0);
    assert_int_equal(bad, 0);
}

int main(void)
{
    char path[4096];
    fixtures = getenv("MUSTER_FIXTURES") != NULL ? getenv("MUSTER_FIXTURES") : FIXTURES_DEFAULT;
    snprintf(path, sizeof path, "%s/chat", fixtures);
    DIR *d = opendir(path);
    if (d == NULL)
        return 77;
    closedir(d);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_template)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
