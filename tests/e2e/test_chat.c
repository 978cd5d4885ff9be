/* test_chat.c - conversations from a file and line by line.
 * Oracle: smollm2.expected.json: what another program renders and answers, greedily in f32. The cases that
 * need the chat model are skipped without it; exit codes and errors are met with the model that ships. */
#include "tests/e2e/e2e.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT_S = 60, INPUT = 3, USAGE = 2 };

static const char *messages_file(const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/messages.json", e2e_dir());
    e2e_write_file(path, text, strlen(text));
    return path;
}

static void bad_conversations(void **state)
{
    static const struct { const char *text, *what; } cases[] = {
        {"[{\"role\": \"user\", \"content\": ", "line 1"},
        {"{\"tools\": []}", "array of messages"},
        {"[]", "array of messages"},
        {"[{\"content\": \"no role\"}]", "message 1"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": 5}", "tools"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct e2e_run r;
        e2e_ranks(&r, 2, LIMIT_S, "generate -m random-llama-tiny --chat '%s' -n 4", messages_file(cases[i].text));
        e2e_expect_error(&r, INPUT, cases[i].what);
        e2e_run_free(&r);
    }
}

static void two_sources(void **state)
{
    struct e2e_run r;
    e2e_ranks(&r, 1, LIMIT_S, "generate --chat x.json -p y");
    e2e_expect_error(&r, USAGE, "--chat");
    e2e_run_free(&r);
}

/* Array and object say the same, and only the answer is printed. */
static void both_forms(void **state)
{
    struct e2e_run a, b;
    e2e_muster(&a, 1, LIMIT_S, "generate -m random-llama-tiny --chat '%s' -n 8 --temp 0",
               messages_file("[{\"role\": \"user\", \"content\": \"Once\"}]"));
    e2e_expect(&a, 0);
    e2e_muster(&b, 1, LIMIT_S, "generate -m random-llama-tiny --chat '%s' -n 8 --temp 0",
               messages_file("{\"messages\": [{\"role\": \"user\", \"content\": \"Once\"}]}"));
    e2e_expect(&b, 0);
    assert_string_equal(a.out, b.out);
    assert_null(strstr(a.out, "user"));
    e2e_run_free(&a);
    e2e_run_free(&b);
}

/* The expected answer, with the final newline; NULL without the model or the data. */
static char *first_case(char **messages)
{
    char path[512];
    if (e2e_data() == NULL || e2e_chat_model() == NULL)
        return NULL;
    snprintf(path, sizeof path, "%s/llm/smollm2.expected.json", e2e_data());
    json_t *root = json_load_file(path, 0, NULL);
    const json_t *cases = json_object_get(root, "cases");
    char *answer = NULL;
    for (size_t i = 0; answer == NULL && i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *given = json_object_get(c, "messages");
        const char *text = json_string_value(json_object_get(c, "text"));
        if (given == NULL || text == NULL || !json_is_true(json_object_get(c, "stops_at_eos")))
            continue;
        *messages = json_dumps(given, 0);
        answer = malloc(strlen(text) + 2);
        sprintf(answer, "%s\n", text);
    }
    json_decref(root);
    return answer;
}

static void answer_of_the_reference(void **state)
{
    char *messages = NULL, *answer = first_case(&messages);
    if (answer == NULL)
        skip();
    struct e2e_run r;
    e2e_muster(&r, 1, 200, "generate -m '%s' --compute f32 --temp 0 -n 64 --chat '%s'",
               e2e_chat_model(), messages_file(messages));
    e2e_expect(&r, 0);
    assert_string_equal(r.out, answer);
    e2e_run_free(&r);
    free(messages);
    free(answer);
}

/* Lines in, answers out: the same question after /reset gets the same answer, the saved messages are those
 * of the last conversation, and what comes after /quit is not read. */
static void line_by_line(void **state)
{
    char path[256];
    struct e2e_run r;
    snprintf(path, sizeof path, "%s/saved.json", e2e_dir());
    e2e_shell(&r, LIMIT_S, "printf 'Once\\n/reset\\nOnce\\n/save %s\\n/quit\\nTwice\\n' | "
              "%s -n 2 %s chat -n 8 --temp 0 -s Short", path, e2e_mpirun(), E2E_MUSTER);
    e2e_expect(&r, 0);
    json_t *saved = json_load_file(path, 0, NULL);
    assert_int_equal(json_array_size(saved), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(saved, 0), "role")), "system");
    const char *text = json_string_value(json_object_get(json_array_get(saved, 2), "content"));
    assert_non_null(text);
    char twice[4096];
    snprintf(twice, sizeof twice, "%s\n%s\n", text, text);
    assert_string_equal(r.out, twice);
    json_decref(saved);
    e2e_run_free(&r);
}

/* The second answer goes on from the rows of the first prompt: the same bytes as of the conversation read
 * anew, on one rank and on stages. */
static void second_answer(void **state)
{
    static const char *const layouts[] = {"--tp 1 --pp 1", "--tp 1 --pp 2", "--tp 2 --pp 1"};
    char path[256];
    snprintf(path, sizeof path, "%s/talk.json", e2e_dir());
    for (int i = 0; i < 3; i++) {
        struct e2e_run talk, anew;
        e2e_shell(&talk, LIMIT_S, "printf 'Once there was a king\nAnd a queen\n/save %s\n' | %s -n %d %s chat "
                  "-n 8 --temp 0.8 --seed 3 --repeat-penalty 1.3 %s", path, e2e_mpirun(), i == 0 ? 1 : 2,
                  E2E_MUSTER, layouts[i]);
        e2e_expect(&talk, 0);
        json_t *saved = json_load_file(path, 0, NULL);
        assert_int_equal(json_array_size(saved), 4);
        char *last = strdup(json_string_value(json_object_get(json_array_get(saved, 3), "content")));
        json_array_remove(saved, 3);
        char *messages = json_dumps(saved, 0);
        e2e_muster(&anew, 1, LIMIT_S, "generate --chat '%s' -n 8 --temp 0.8 --seed 3 --repeat-penalty 1.3",
                   messages_file(messages));
        e2e_expect(&anew, 0);
        last = realloc(last, strlen(last) + 2);
        assert_string_equal(anew.out, strcat(last, "\n"));
        free(last);
        free(messages);
        json_decref(saved);
        e2e_run_free(&talk);
        e2e_run_free(&anew);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_conversations),
        cmocka_unit_test(two_sources),
        cmocka_unit_test(both_forms),
        cmocka_unit_test(line_by_line),
        cmocka_unit_test(second_answer),
        cmocka_unit_test(answer_of_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
