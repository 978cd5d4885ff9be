/* Every folder of fixtures/tokenizers and every vocabulary of data/tokenizers: the same ids and the same
 * text as the libraries that made them. */
#include "coordinator/text/tokenizer.h"
#include "tests/unit/container.h"

#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const char *fixtures, *data;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static struct tokenizer *open_file(const char *folder, const char *name, const char *as)
{
    char path[4096];
    size_t n = 0;
    struct err err = {0};
    struct container c = {0};
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *bytes = file_bytes(path, &n);
    assert_non_null(bytes);
    container_add(&c, as, bytes, n);
    if (tokenizer_open(&t, c.p, c.n, &err) != ERR_OK)
        print_error("%s: %s\n", path, err.msg);
    container_free(&c);
    free(bytes);
    return t;
}

static int64_t whole(const json_t *row, const char *key, int64_t fallback)
{
    const json_t *v = json_object_get(row, key);
    return v == NULL ? fallback : json_is_true(v) ? 1 : json_is_false(v) ? 0 : json_integer_value(v);
}

static void print_ids(const char *what, const int32_t *id, int n)
{
    print_error("   %s:", what);
    for (int i = 0; i < n && i < 60; i++)
        print_error(" %d", id[i]);
    print_error("\n");
}

/* Number of differences: the whole decode and the stream's. */
static int check_decode(const struct tokenizer *t, const json_t *row, const char *key,
                        const struct token_list *ids, bool skip)
{
    const json_t *want = json_object_get(row, key);
    struct err err = {0};
    struct token_stream *s;
    char *text = NULL, *streamed;
    size_t n = 0, n_streamed = 0, len;
    if (want == NULL)
        return 0;
    assert_int_equal(tokenizer_decode(t, ids->id, ids->n, skip, &text, &n, &err), ERR_OK);
    int bad = n != json_string_length(want) || memcmp(text, json_string_value(want), n) != 0;
    if (bad)
        print_error("   %s '%s'\n   but got '%s'\n", key, json_string_value(want), text);
    streamed = malloc(n + 1);
    assert_int_equal(token_stream_open(&s, t, NULL, 0, skip, &err), ERR_OK);
    for (int i = 0; i <= ids->n; i++) {
        const char *part;
        int rc = i < ids->n ? token_stream_push(s, ids->id[i], &part, &len, &err)
                            : token_stream_finish(s, &part, &len, &err);
        assert_int_equal(rc, ERR_OK);
        assert_true(n_streamed + len <= n);
        memcpy(streamed + n_streamed, part, len);
        n_streamed += len;
    }
    token_stream_close(s);
    assert_int_equal(n_streamed, n);
    assert_memory_equal(streamed, text, n);
    free(streamed);
    free(text);
    return bad;
}

static int check_case(const struct tokenizer *t, const json_t *row)
{
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids");
    struct tokenize_options opt = {whole(row, "add_special", 0), whole(row, "add_special", -1) >= 0};
    struct token_list ids = {0}, right = {0};
    struct err err = {0};
    int rc = tokenizer_encode(t, json_string_value(text), json_string_length(text), opt, &ids, &err);
    int n = (int)json_array_size(want), bad = rc != ERR_OK || n != ids.n;
    right.id = malloc((size_t)(n + 1) * sizeof *right.id);
    for (int i = 0; i < n; i++)
        right.id[i] = (int32_t)json_integer_value(json_array_get(want, (size_t)i));
    right.n = n;
    if (!bad && n > 0)
        bad = memcmp(right.id, ids.id, (size_t)n * sizeof *right.id) != 0;
    if (bad) {
        char *shown = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        print_error("   text %.300s %s\n", shown, err.msg);
        print_ids("want", right.id, n);
        print_ids("got ", ids.id, ids.n);
        free(shown);
    }
    bad += check_decode(t, row, "decode", &right, false);
    bad += check_decode(t, row, "decode_skip_special", &right, true);
    token_list_free(&ids);
    token_list_free(&right);
    return bad;
}

static int check_cases(const struct tokenizer *t, const char *folder, const char *name)
{
    char path[8192], *bytes, *line, *rest;
    size_t n;
    int bad = 0, cases = 0;
    snprintf(path, sizeof path, "%s/cases.jsonl", folder);
    bytes = file_bytes(path, &n);
    assert_non_null(bytes);
    for (line = strtok_r(bytes, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        json_error_t why;
        json_t *row = json_loads(line, 0, &why);
        assert_non_null(row);
        int before = bad;
        if (bad < 10)
            bad += check_case(t, row);
        if (bad > before)
            print_error("%s/%s: case %d differs\n", folder, name, cases);
        cases++;
        json_decref(row);
    }
    free(bytes);
    assert_true(cases > 0);
    return bad;
}

static int check_folder(const char *folder)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    int bad = 0, files = 0;
    if (d == NULL)
        return 0;
    while ((e = readdir(d)) != NULL) {
        bool gguf = ends_with(e->d_name, ".gguf");
        if (!gguf && strcmp(e->d_name, "tokenizer.json") != 0)
            continue;
        struct tokenizer *t = open_file(folder, e->d_name, gguf ? "gguf" : "tokenizer.json");
        files++;
        bad += t == NULL ? 1 : check_cases(t, folder, e->d_name);
        tokenizer_close(t);
    }
    closedir(d);
    return files > 0 ? bad : -1;
}

static void test_every_set(void **state)
{
    (void)state;
    char path[4096];
    struct dirent *e;
    int sets = 0, bad = 0;
    snprintf(path, sizeof path, "%s/tokenizers", fixtures);
    DIR *d = opendir(path);
    if (d == NULL)
        skip();
    while ((e = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%s/tokenizers/%s", fixtures, e->d_name);
        if (e->d_name[0] == '.' || ends_with(e->d_name, ".md") || ends_with(e->d_name, ".json"))
            continue;
        int n = check_folder(path);
        sets += n >= 0;
        bad += n > 0 ? n : 0;
    }
    closedir(d);
    assert_true(sets > 0);
    assert_int_equal(bad, 0);
}

/* --- X.gguf with texts in X.gguf.inp and ids in X.gguf.out */

static int check_line(const struct tokenizer *t, const char *text, size_t n, const char *want)
{
    struct token_list ids = {0};
    struct err err = {0};
    char got[8192] = "";
    size_t at = 0;
    struct tokenize_options opt = {false, false};
    assert_int_equal(tokenizer_encode(t, text, n, opt, &ids, &err), ERR_OK);
    for (int i = 0; i < ids.n && at < sizeof got - 16; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, " %d", ids.id[i]);
    token_list_free(&ids);
    size_t len = strlen(want);
    while (len > 0 && (want[len - 1] == ' ' || want[len - 1] == '\r'))
        len--;
    if (len == at && memcmp(got, want, len) == 0)
        return 0;
    print_error("   text '%.*s'\n   want %s\n   got  %s\n", (int)n, text, want, got);
    return 1;
}

static int check_vectors(const char *folder, const char *name)
{
    static const char cut[] = "\n__ggml_vocab_test__\n";
    char path[4096];
    size_t n_in, n_out;
    int bad = 0;
    struct tokenizer *t = open_file(folder, name, "gguf");
    snprintf(path, sizeof path, "%s/%s.inp", folder, name);
    char *in = file_bytes(path, &n_in);
    snprintf(path, sizeof path, "%s/%s.out", folder, name);
    char *out = file_bytes(path, &n_out), *line = out;
    if (t == NULL || in == NULL || out == NULL)
        return 1;
    for (char *text = in; text != NULL && line != NULL;) {
        char *end = strstr(text, cut), *eol = strchr(line, '\n');
        if (eol != NULL)
            *eol = '\0';
        bad += check_line(t, text, end != NULL ? (size_t)(end - text) : strlen(text), line);
        text = end != NULL ? end + strlen(cut) : NULL;
        line = eol != NULL ? eol + 1 : NULL;
    }
    if (bad > 0)
        print_error("%s: %d texts differ\n", name, bad);
    free(in);
    free(out);
    tokenizer_close(t);
    return bad;
}

static void test_every_vocabulary(void **state)
{
    (void)state;
    char folder[2048];
    struct dirent *e;
    int sets = 0, bad = 0;
    snprintf(folder, sizeof folder, "%s/tokenizers", data);
    DIR *d = opendir(folder);
    if (d == NULL)
        skip();
    while ((e = readdir(d)) != NULL)
        if (ends_with(e->d_name, ".gguf")) {
            sets++;
            bad += check_vectors(folder, e->d_name);
        }
    closedir(d);
    assert_true(sets > 0);
    assert_int_equal(bad, 0);
}

static bool is_there(const char *folder)
{
    DIR *d = opendir(folder);
    if (d != NULL)
        closedir(d);
    return d != NULL;
}

int main(void)
{
    fixtures = getenv("MUSTER_FIXTURES") != NULL ? getenv("MUSTER_FIXTURES") : FIXTURES_DEFAULT;
    data = getenv("MUSTER_DATA") != NULL ? getenv("MUSTER_DATA") : DATA_DEFAULT;
    if (!is_there(fixtures) && !is_there(data))
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_set),
        cmocka_unit_test(test_every_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
