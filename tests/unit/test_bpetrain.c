/* Vocabularies learnt from text: the rule of merges, the files, and that they encode as they were learnt. */
#include "coordinator/text/bpelearn.h"
#include "coordinator/text/bpetrain.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/train/textfiles.h"
#include "tests/unit/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/test_bpetrain.XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
                                        "special_tokens_map.json", "a.txt", "b.jsonl", "c.jsonl", "d.txt"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

/* --- the rule */

static void test_words(void **state)
{
    (void)state;
    struct bpewords w = {0};
    struct err err = {0};
    int32_t at;
    assert_int_equal(bpewords_find(&w, "a", 1), -1);
    for (int i = 0; i < 3000; i++) {
        char name[16];
        int n = snprintf(name, sizeof name, "w%d", i % 1000);
        assert_int_equal(bpewords_add(&w, name, (size_t)n, i < 1000 ? 1 : 2, &at, &err), ERR_OK);
        assert_int_equal(at, i % 1000);
    }
    assert_int_equal(w.n, 1000);
    assert_int_equal(w.word[999].count, 5);
    assert_int_equal(bpewords_find(&w, "w999", 4), 999);
    assert_int_equal(bpewords_find(&w, "w1000", 5), -1);
    bpewords_free(&w);
    bpewords_free(&w);
}

/* The most frequent pair, ties by the smaller numbers, found the slow way. */
static bool best_pair(const struct bpetext *t, const uint32_t *len, int64_t least, struct bpemerge *m)
{
    enum { SYMBOLS = 400 };
    static int64_t count[SYMBOLS][SYMBOLS];
    memset(count, 0, sizeof count);
    int64_t best = 0;
    for (int w = 0; w < t->n; w++)
        for (uint32_t i = 0; i + 1 < len[w]; i++)
            count[t->symbol[t->begin[w] + i]][t->symbol[t->begin[w] + i + 1]] += t->count[w];
    for (int a = 0; a < SYMBOLS; a++)
        for (int b = 0; b < SYMBOLS; b++)
            if (count[a][b] > best) {
                best = count[a][b];
                m->left = a;
                m->right = b;
            }
    return best >= least;
}

static void merge_slowly(struct bpetext *t, uint32_t *len, struct bpemerge m)
{
    for (int w = 0; w < t->n; w++) {
        int32_t *s = t->symbol + t->begin[w];
        uint32_t to = 0;
        for (uint32_t i = 0; i < len[w]; i++)
            if (i + 1 < len[w] && s[i] == m.left && s[i + 1] == m.right) {
                s[to++] = m.made;
                i++;
            } else {
                s[to++] = s[i];
            }
        len[w] = to;
    }
}

/* Random words over few letters, so that ties and runs of one letter are common. */
static void test_merges_follow_the_rule(void **state)
{
    (void)state;
    enum { WORDS = 60, LONG = 9, LETTERS = 3, VOCAB = 90 };
    static int32_t symbol[WORDS * LONG], again[WORDS * LONG];
    static size_t begin[WORDS + 1];
    static int64_t count[WORDS];
    for (uint32_t seed = 1; seed <= 40; seed++) {
        uint32_t r = seed, len[WORDS];
        struct bpewords symbols = {0};
        struct bpemerges merges = {0};
        struct err err = {0};
        for (int c = 0; c < LETTERS; c++)
            assert_int_equal(bpewords_add(&symbols, (char[]){(char)('a' + c)}, 1, 0, NULL, &err), ERR_OK);
        for (int w = 0; w < WORDS; w++) {
            count[w] = (int64_t)((r = r * 1664525 + 1013904223) >> 30);
            begin[w + 1] = begin[w] + ((r = r * 1664525 + 1013904223) >> 16) % LONG;
            len[w] = (uint32_t)(begin[w + 1] - begin[w]);
            for (size_t i = begin[w]; i < begin[w + 1]; i++)
                again[i] = symbol[i] = (int32_t)((r = r * 1664525 + 1013904223) >> 20) % LETTERS;
        }
        struct bpetext fast = {symbol, begin, count, WORDS}, slow = {again, begin, count, WORDS};
        assert_int_equal(bpelearn(&fast, &symbols, VOCAB, 2, &merges, &err), ERR_OK);
        assert_true(merges.n > 20);
        struct bpemerge m = {0};
        for (int32_t i = 0; i < merges.n; i++) {
            assert_true(best_pair(&slow, len, 2, &m));
            assert_int_equal(merges.merge[i].left, m.left);
            assert_int_equal(merges.merge[i].right, m.right);
            assert_int_equal(symbols.word[merges.merge[i].made].n,
                             symbols.word[m.left].n + symbols.word[m.right].n);
            merge_slowly(&slow, len, merges.merge[i]);
        }
        if (symbols.n < VOCAB)
            assert_false(best_pair(&slow, len, 2, &m));
        free(merges.merge);
        bpewords_free(&symbols);
    }
}

/* --- files */

static void add(struct container *c, const char *name)
{
    char path[128];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *bytes = file_bytes(path, &n);
    if (bytes != NULL)
        container_add(c, name, bytes, n);
    free(bytes);
}

static struct tokenizer *open_saved(void)
{
    struct container c = {0};
    struct tokenizer *t = NULL;
    struct err err = {0};
    add(&c, "tokenizer.json");
    add(&c, "vocab.json");
    add(&c, "merges.txt");
    add(&c, "tokenizer_config.json");
    add(&c, "special_tokens_map.json");
    if (tokenizer_open(&t, c.p, c.n, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    container_free(&c);
    return t;
}

static const char *const corpus[] = {
    "A red boat is left of a yellow house on the sea. The boat isn't blue!",
    "caf\xc3\xa9 caf\xc3\xa9 na\xc3\xafve 12 123 1234\n\n  two  blanks", "boat boats boating, HOUSE house houses",
    "the the the the a red red red boat boat boat house house house"};

static struct bpetrain *learn(enum bpetrain_kind kind, int vocab, bool backwards)
{
    struct bpetrain *t;
    struct err err = {0};
    int n = sizeof corpus / sizeof *corpus;
    assert_int_equal(bpetrain_open(&t, kind, &err), ERR_OK);
    for (int i = 0; i < n; i++) {
        const char *s = corpus[backwards ? n - 1 - i : i];
        assert_int_equal(bpetrain_add(t, s, strlen(s), &err), ERR_OK);
    }
    if (bpetrain_learn(t, vocab, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return t;
}

static void expect_round_trip(const struct tokenizer *t, const char *text, const char *back)
{
    struct token_list ids = {0};
    struct err err = {0};
    char *out;
    size_t n;
    assert_int_equal(tokenizer_encode(t, text, strlen(text), (struct tokenize_options){true, false}, &ids, &err),
                     ERR_OK);
    assert_int_equal(tokenizer_decode(t, ids.id, ids.n, true, &out, &n, &err), ERR_OK);
    assert_string_equal(out, back);
    free(out);
    token_list_free(&ids);
}

static int length_of(const struct tokenizer *t, const char *text)
{
    struct token_list ids = {0};
    struct err err = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), (struct tokenize_options){0}, &ids, &err), ERR_OK);
    int n = ids.n;
    token_list_free(&ids);
    return n;
}

static void test_bytes(void **state)
{
    (void)state;
    struct err err = {0};
    struct bpetrain *t = learn(BPETRAIN_BYTES, 280, false);
    assert_int_equal(bpetrain_vocab(t), 280);
    assert_int_equal(bpetrain_save(t, dir, 128, &err), ERR_OK);
    bpetrain_close(t);
    struct tokenizer *k = open_saved();
    assert_int_equal(tokenizer_vocab_size(k), 280);
    assert_int_equal(tokenizer_bos(k), 0);
    assert_int_equal(tokenizer_eos(k), 0);
    struct token_list ids = {0};
    assert_int_equal(tokenizer_encode(k, "the", 3, (struct tokenize_options){true, false}, &ids, &err), ERR_OK);
    assert_int_equal(ids.id[0], 0);
    token_list_free(&ids);
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++)
        expect_round_trip(k, corpus[i], corpus[i]);
    expect_round_trip(k, "\xe2\x98\x83 never seen\t\n", "\xe2\x98\x83 never seen\t\n");
    assert_int_equal(length_of(k, " boat"), 1);
    assert_int_equal(length_of(k, " house"), 1);
    tokenizer_close(k);
    /* the same text in another order: the same file */
    char path[128];
    size_t n, n_again;
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    char *once = file_bytes(path, &n);
    t = learn(BPETRAIN_BYTES, 280, true);
    assert_int_equal(bpetrain_save(t, dir, 128, &err), ERR_OK);
    bpetrain_close(t);
    char *twice = file_bytes(path, &n_again);
    assert_int_equal(n, n_again);
    assert_memory_equal(once, twice, n);
    free(once);
    free(twice);
    unlink(path);
}

static void test_clip(void **state)
{
    (void)state;
    struct err err = {0};
    struct bpetrain *t = learn(BPETRAIN_CLIP, 560, false);
    int vocab = bpetrain_vocab(t);
    assert_true(vocab > 530 && vocab <= 560);
    assert_int_equal(bpetrain_save(t, dir, 24, &err), ERR_OK);
    bpetrain_close(t);
    struct tokenizer *k = open_saved();
    assert_int_equal(tokenizer_vocab_size(k), vocab);
    assert_int_equal(tokenizer_bos(k), vocab - 2);
    assert_int_equal(tokenizer_eos(k), vocab - 1);
    assert_int_equal(tokenizer_id(k, "boat</w>") >= 512, 1);
    assert_int_equal(tokenizer_id(k, "house</w>") >= 512, 1);
    struct token_list ids = {0};
    assert_int_equal(tokenizer_encode(k, "  BOAT house", 12, (struct tokenize_options){true, false}, &ids, &err),
                     ERR_OK);
    assert_int_equal(ids.n, 4);
    assert_int_equal(ids.id[0], vocab - 2);
    assert_int_equal(ids.id[1], tokenizer_id(k, "boat</w>"));
    assert_int_equal(ids.id[2], tokenizer_id(k, "house</w>"));
    assert_int_equal(ids.id[3], vocab - 1);
    token_list_free(&ids);
    tokenizer_close(k);
    char path[128];
    snprintf(path, sizeof path, "%s/merges.txt", dir);
    assert_int_equal(unlink(path), 0);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct bpetrain *t;
    struct err err = {0};
    assert_int_equal(bpetrain_open(&t, BPETRAIN_BYTES, &err), ERR_OK);
    assert_int_equal(bpetrain_add(t, "ab\xff", 3, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "text is not valid UTF-8 at byte 2");
    err = (struct err){0};
    assert_int_equal(bpetrain_learn(t, 300, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "no word in the text"));
    err = (struct err){0};
    assert_int_equal(bpetrain_learn(t, 256, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "a vocabulary of 256: from 257"));
    bpetrain_close(t);
    t = learn(BPETRAIN_BYTES, 300, false);
    err = (struct err){0};
    assert_int_equal(bpetrain_save(t, "/nonexistent", 1, &err), ERR_OUTPUT);
    assert_non_null(strstr(err.msg, "/nonexistent/tokenizer.json"));
    bpetrain_close(t);
    bpetrain_close(NULL);
}

/* A long text is cut into runs; the words are those of the whole. */
static void test_long_text(void **state)
{
    (void)state;
    enum { TIMES = 3000 };
    struct bpetrain *whole, *parts;
    struct err err = {0};
    static const char line[] = "a red boat\n\n on the sea \nof  stars\n";
    char *text = malloc(sizeof line * TIMES);
    size_t n = 0;
    for (int i = 0; i < TIMES; i++)
        n += (size_t)sprintf(text + n, "%s", line);
    assert_int_equal(bpetrain_open(&whole, BPETRAIN_BYTES, &err), ERR_OK);
    assert_int_equal(bpetrain_open(&parts, BPETRAIN_BYTES, &err), ERR_OK);
    assert_int_equal(bpetrain_add(whole, text, n, &err), ERR_OK);
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(bpetrain_add(parts, line, strlen(line), &err), ERR_OK);
    assert_int_equal(bpetrain_learn(whole, 280, &err), ERR_OK);
    assert_int_equal(bpetrain_learn(parts, 280, &err), ERR_OK);
    assert_int_equal(bpetrain_vocab(whole), bpetrain_vocab(parts));
    bpetrain_close(whole);
    bpetrain_close(parts);
    free(text);
}

/* --- files of texts */

static const char *write_file(char path[128], const char *name, const char *text)
{
    snprintf(path, 128, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
    return path;
}

static void test_textfiles(void **state)
{
    (void)state;
    static const char *const want[] = {"one\ntwo\n", "caf\xc3\xa9", "", "last"};
    char a[128], b[128];
    struct textfiles *f;
    struct err err = {0};
    const char *text, *folder = dir;
    size_t n;
    write_file(a, "a.txt", want[0]);
    write_file(b, "b.jsonl", "{\"text\": \"caf\\u00e9\"}\n\n{\"x\": 1, \"text\": \"\"}\n{\"text\":\"last\"}");
    for (int round = 0; round < 2; round++) {
        const char *const both[] = {a, b};
        assert_int_equal(textfiles_open(&f, round == 0 ? both : &folder, round == 0 ? 2 : 1, &err), ERR_OK);
        for (int again = 0; again < 2; again++) {
            for (int i = 0; i < 4; i++) {
                assert_int_equal(textfiles_next(f, &text, &n, &err), ERR_OK);
                assert_string_equal(text, want[i]);
                assert_int_equal(n, strlen(want[i]));
            }
            textfiles_rewind(f);
        }
        textfiles_close(f);
    }
}

/* A prompt and its completion are one text, and it is known where one ends. */
static void test_prompts(void **state)
{
    (void)state;
    static const struct { const char *text; size_t prompt; } want[] = {{"2 + 2 = 4", 7}, {"all", 0}, {"none", 0}};
    char path[128];
    struct textfiles *f;
    struct err err = {0};
    const char *text, *p = write_file(path, "p.jsonl", "{\"prompt\": \"2 + 2 =\", \"completion\": \" 4\"}\n"
                                      "{\"text\": \"all\", \"prompt\": \"x\"}\n"
                                      "{\"completion\": \"none\", \"prompt\": \"\"}\n");
    size_t n;
    assert_int_equal(textfiles_open(&f, &p, 1, &err), ERR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(textfiles_next(f, &text, &n, &err), ERR_OK);
        assert_string_equal(text, want[i].text);
        assert_int_equal(n, strlen(text));
        assert_int_equal(textfiles_prompt(f), want[i].prompt);
    }
    textfiles_close(f);
    unlink(path);
}

static void expect_bad(const char *name, const char *content, const char *message)
{
    char path[128];
    struct textfiles *f;
    struct err err = {0};
    const char *text = "", *p = write_file(path, name, content);
    size_t n;
    assert_int_equal(textfiles_open(&f, &p, 1, &err), ERR_OK);
    int rc = ERR_OK;
    while (rc == ERR_OK && text != NULL)
        rc = textfiles_next(f, &text, &n, &err);
    assert_int_equal(rc, ERR_FORMAT);
    if (strstr(err.msg, message) == NULL)
        fail_msg("want %s, got %s", message, err.msg);
    textfiles_close(f);
    unlink(path);
}

static void test_bad_textfiles(void **state)
{
    (void)state;
    struct textfiles *f;
    struct err err = {0};
    const char *none = "/nonexistent/x.txt", *empty = dir;
    expect_bad("c.jsonl", "{\"text\": \"a\"}\n{\"caption\": \"b\"}\n", "c.jsonl: line 2: no \"text\"");
    expect_bad("c.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b\n", "c.jsonl: line 3: ");
    expect_bad("c.jsonl", "{\"prompt\": \"a\"}\n", "line 1: no \"text\", nor a \"prompt\" with a");
    expect_bad("c.jsonl", "{\"prompt\": \"a\", \"completion\": \"\"}\n", "line 1: an empty \"completion\"");
    expect_bad("d.txt", "abc\xff", "d.txt: not valid UTF-8 at byte 3");
    assert_int_equal(textfiles_open(&f, &none, 1, &err), ERR_IO);
    assert_string_equal(err.msg, "/nonexistent/x.txt: No such file or directory");
    assert_null(f);
    char path[128];
    snprintf(path, sizeof path, "%s/empty", dir);
    mkdir(path, 0777);
    empty = path;
    err = (struct err){0};
    assert_int_equal(textfiles_open(&f, &empty, 1, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "empty data set"));
    rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),       cmocka_unit_test(test_merges_follow_the_rule),
        cmocka_unit_test(test_bytes),       cmocka_unit_test(test_clip),
        cmocka_unit_test(test_bad_requests),cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_textfiles), cmocka_unit_test(test_prompts),   cmocka_unit_test(test_bad_textfiles),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
