/* The small parts that tokenizers are made of. */
#include "coordinator/text/addedtoken.h"
#include "coordinator/text/bytelevel.h"
#include "coordinator/text/charsmap.h"
#include "coordinator/text/ggufmeta.h"
#include "coordinator/text/normalizer.h"
#include "coordinator/text/prepattern.h"
#include "coordinator/text/pretokenizer.h"
#include "coordinator/text/trie.h"
#include "coordinator/text/unicode.h"
#include "coordinator/text/vocab.h"
#include "tests/unit/ggufvocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <cmocka.h>

/* --- characters */

static void test_utf8(void **state)
{
    (void)state;
    static const struct { const char *s; size_t n, good; } cases[] = {
        {"abc", 3, 3}, {"\xc3\xa9", 2, 2}, {"\xe2\x82\xac", 3, 3}, {"\xf0\x9f\x98\x80", 4, 4},
        {"a\xff", 2, 1}, {"\xc0\x80", 2, 0}, {"\xe0\x80\x80", 3, 0}, {"\xed\xa0\x80", 3, 0},
        {"\xf4\x90\x80\x80", 4, 0}, {"\xf5\x80\x80\x80", 4, 0}, {"ab\xe2\x82", 4, 2}, {"\x80", 1, 0},
        {"abcdefgh\xc3", 9, 8}, {"", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(unicode_check(cases[i].s, cases[i].n), cases[i].good);
    for (int32_t cp = 1; cp < 0x110000; cp += cp < 0x3000 ? 1 : 211) {
        char s[4];
        int32_t back = -1;
        int n = unicode_encode(cp, s);
        bool surrogate = cp >= 0xd800 && cp < 0xe000;
        assert_int_equal(unicode_decode(s, 4 < (size_t)n ? 4 : (size_t)n, &back), surrogate ? 0 : n);
        if (!surrogate) {
            assert_int_equal(back, cp);
            assert_int_equal(unicode_bytes(s[0]), n);
        }
    }
}

static void test_partial_characters(void **state)
{
    (void)state;
    static const struct { const char *s; size_t n, partial; } cases[] = {
        {"a", 1, 0}, {"a\xe2", 2, 1}, {"a\xe2\x82", 3, 2}, {"a\xe2\x82\xac", 4, 0},
        {"\xf0\x9f\x98", 3, 3}, {"\xe0\x80", 2, 0}, {"\xed\xa0", 2, 0}, {"\xf4\x90", 2, 0},
        {"\x80\x80\x80\x80", 4, 0}, {"\xff", 1, 0}, {"", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(unicode_partial(cases[i].s, cases[i].n), cases[i].partial);
}

static void test_kinds_of_characters(void **state)
{
    (void)state;
    assert_true(unicode_is_space(0x85) && unicode_is_space(0x3000) && unicode_is_space('\n'));
    assert_false(unicode_is_space(0x180e) || unicode_is_space(0x200b) || unicode_is_space(0x1c));
    assert_true(unicode_is_word('_') && unicode_is_word(0x905) && unicode_is_word(0x301) &&
                unicode_is_word(0x24b6) && unicode_is_word(0x200d));
    assert_false(unicode_is_word('-') || unicode_is_word(0xb2));
    assert_true(unicode_is_number(0xb2) && unicode_is_number(0x2167) && !unicode_is_number('a'));
    assert_true(unicode_is_punctuation('$') && unicode_is_punctuation(0x3001));
    assert_false(unicode_is_punctuation(' ') || unicode_is_punctuation('a') || unicode_is_punctuation(0xa9));
}

static void test_byte_level(void **state)
{
    (void)state;
    struct textbuf t = {0};
    for (int i = 0; i < 256; i++)
        assert_int_equal(bytelevel_byte(bytelevel_cp((uint8_t)i)), i);
    assert_int_equal(bytelevel_cp(' '), 0x120);
    assert_int_equal(bytelevel_cp(0xad), 0x143);
    assert_int_equal(bytelevel_byte(' '), -1);
    assert_int_equal(bytelevel_byte(0x144), -1);
    assert_int_equal(bytelevel_add_bytes(&t, "\xc4\xa0" "a", 3, NULL), ERR_OK);
    assert_int_equal(bytelevel_add_bytes(&t, "a b", 3, NULL), ERR_OK);  /* a blank: it stands for itself */
    assert_int_equal(t.n, 5);
    assert_memory_equal(t.p, " aa b", 5);
    textbuf_free(&t);
    textbuf_free(&t);
}

static void test_lossy_text(void **state)
{
    (void)state;
    struct textbuf t = {0};
    char *text;
    size_t n;
    assert_int_equal(textbuf_add_lossy(&t, "a\xe2\x82" "b\xff", 5, false, NULL), ERR_OK);
    assert_int_equal(textbuf_add_lossy(&t, "\xe2\x82", 2, true, NULL), ERR_OK);
    assert_int_equal(textbuf_take(&t, &text, &n, NULL), ERR_OK);
    assert_string_equal(text, "a\xef\xbf\xbd" "b\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_int_equal(n, strlen(text));
    free(text);
}

/* --- tables */

static void test_trie(void **state)
{
    (void)state;
    struct trie t;
    char word[16];
    size_t len;
    assert_int_equal(trie_init(&t, NULL), ERR_OK);
    for (int i = 0; i < 20000; i++) {
        snprintf(word, sizeof word, "%x", i * 7919);
        assert_int_equal(trie_add(&t, word, strlen(word), i, NULL), ERR_OK);
    }
    assert_int_equal(trie_add(&t, "0", 1, 99, NULL), ERR_OK);       /* there already: it keeps its value */
    for (int i = 0; i < 20000; i++) {
        snprintf(word, sizeof word, "%x", i * 7919);
        assert_int_equal(trie_longest(&t, word, strlen(word), &len), i);
        assert_int_equal(len, strlen(word));
    }
    assert_int_equal(trie_longest(&t, "xyz", 3, &len), -1);
    assert_int_equal(trie_step(&t, 0, 'x'), 0);
    trie_free(&t);
    trie_free(&t);
}

static void test_vocab(void **state)
{
    (void)state;
    struct vocab v = {0};
    struct err err = {0};
    assert_int_equal(vocab_find(&v, "a", 1), -1);
    assert_int_equal(vocab_set(&v, 3, "a", 1, VOCAB_NORMAL, &err), ERR_OK);
    assert_int_equal(vocab_set(&v, 5, "<0x41>", 6, VOCAB_NORMAL, &err), ERR_OK);
    assert_int_equal(vocab_set(&v, 6, "a", 1, VOCAB_NORMAL, &err), ERR_OK);
    assert_int_equal(vocab_index(&v, true, &err), ERR_OK);
    assert_int_equal(vocab_find(&v, "a", 1), 6);
    assert_int_equal(v.byte_id['A'], 5);
    assert_int_equal(v.byte_id['B'], -1);
    assert_true(vocab_has(&v, 3) && !vocab_has(&v, 4) && !vocab_has(&v, 7) && !vocab_has(&v, -1));
    assert_string_equal(vocab_text(&v, 5), "<0x41>");
    assert_int_equal(vocab_set(&v, VOCAB_MAX, "b", 1, VOCAB_NORMAL, &err), ERR_FORMAT);
    vocab_free(&v);
    vocab_free(&v);
}

static void next_is(const struct added_set *s, const char *text, bool special, size_t *at,
                    struct added_part *pending, size_t begin, size_t end, int32_t id)
{
    struct added_part part;
    assert_true(added_next(s, text, strlen(text), special, at, pending, &part));
    assert_int_equal(part.id, id);
    assert_int_equal(part.begin, begin);
    assert_int_equal(part.end, end);
}

static void test_added_tokens(void **state)
{
    (void)state;
    struct added_set s = {0};
    struct added_part pending = {.id = -1};
    size_t at = 0;
    static const char text[] = "x  <a>  y<ab>word swords<c>";
    added_add(&s, "<a>", 3, (struct added_token){.id = 1, .lstrip = true, .rstrip = true}, NULL);
    added_add(&s, "<a", 2, (struct added_token){.id = 2}, NULL);
    added_add(&s, "word", 4, (struct added_token){.id = 3, .single_word = true}, NULL);
    added_add(&s, "<c>", 3, (struct added_token){.id = 4, .special = true}, NULL);
    next_is(&s, text, false, &at, &pending, 0, 1, -1);
    next_is(&s, text, false, &at, &pending, 1, 8, 1);
    next_is(&s, text, false, &at, &pending, 8, 9, -1);
    next_is(&s, text, false, &at, &pending, 9, 11, 2);
    next_is(&s, text, false, &at, &pending, 11, 13, -1);
    next_is(&s, text, false, &at, &pending, 13, 17, 3);
    next_is(&s, text, false, &at, &pending, 17, 27, -1);
    struct added_part part;
    assert_false(added_next(&s, text, strlen(text), false, &at, &pending, &part));
    at = 17;
    next_is(&s, text, true, &at, &pending, 17, 24, -1);
    next_is(&s, text, true, &at, &pending, 24, 27, 4);
    added_free(&s);
    added_free(&s);
}

static void test_gguf_keys(void **state)
{
    (void)state;
    struct container g = {0};
    struct ggufmeta m;
    const struct ggufmeta_entry *e;
    const char *const list[] = {"x", "", "yz"};
    const char *text;
    size_t n, at = 0;
    int64_t i;
    struct err err = {0};
    gguf_start(&g, 4);
    gguf_string(&g, "name", "value");
    gguf_u32(&g, "number", 4000000000u);
    gguf_text(&g, "small");
    container_number(&g, 1, 4);
    container_number(&g, 0xfe, 1);
    gguf_strings(&g, "list", list, 3);
    assert_int_equal(ggufmeta_open(&m, g.p, g.n, &err), ERR_OK);
    assert_int_equal(ggufmeta_string(&m, "name", &text, &n, &err), ERR_OK);
    assert_true(n == 5 && memcmp(text, "value", 5) == 0);
    assert_int_equal(ggufmeta_string(&m, "none", &text, &n, &err), ERR_OK);
    assert_null(text);
    assert_int_equal(ggufmeta_int(&m, "number", 0, &i, &err), ERR_OK);
    assert_true(i == 4000000000);
    assert_int_equal(ggufmeta_int(&m, "small", 0, &i, &err), ERR_OK);
    assert_true(i == -2);
    assert_int_equal(ggufmeta_int(&m, "none", 7, &i, &err), ERR_OK);
    assert_true(i == 7);
    assert_int_equal(ggufmeta_int(&m, "name", 0, &i, &err), ERR_FORMAT);
    assert_int_equal(ggufmeta_array(&m, "list", GGUFMETA_STRING, &e, &err), ERR_OK);
    for (int k = 0; k < 3; k++) {
        ggufmeta_next_string(e, &at, &text, &n);
        assert_true(n == strlen(list[k]) && memcmp(text, list[k], n) == 0);
    }
    assert_null(ggufmeta_find(&m, "nam"));
    ggufmeta_close(&m);
    container_free(&g);
}

/* --- patterns */

static void expect_match(const char *regex, const char *text, int begin, int end)
{
    struct pattern *p;
    struct pattern_scratch *s;
    struct err err = {0};
    bool found;
    size_t a = 0, b = 0;
    assert_int_equal(pattern_new(&p, regex, strlen(regex), &err), ERR_OK);
    assert_int_equal(pattern_scratch_new(&s, &err), ERR_OK);
    assert_int_equal(pattern_next(p, s, text, strlen(text), 0, &found, &a, &b, &err), ERR_OK);
    if (found != (begin >= 0) || (found && ((int)a != begin || (int)b != end)))
        print_error("%s on '%s': %d %zu %zu\n", regex, text, found, a, b);
    assert_true(found == (begin >= 0) && (!found || ((int)a == begin && (int)b == end)));
    pattern_scratch_destroy(s);
    pattern_destroy(p);
}

static void test_patterns(void **state)
{
    (void)state;
    expect_match("\\s+", "a\xc2\x85\xe2\x80\xa8 b", 1, 7);          /* U+0085, U+2028 */
    expect_match("\\s", "\xe1\xa0\x8e", -1, -1);                    /* U+180E is no white space */
    expect_match("[^\\S\\n]", "\n\xe1\xa0\x8e\t", 4, 5);
    expect_match("[\\S]", " \xe1\xa0\x8e", 1, 4);
    expect_match("\\w+", "-\xe0\xa4\xa8\xe0\xa4\xae\xe0\xa5\x8d ", 1, 10);   /* a mark is of the word */
    expect_match("[^[a-c]d]+", "abcdxy", 4, 6);                     /* a class in a class is a union */
    expect_match("[[:alpha:]]+", "12ab", 2, 4);
    expect_match("[]a]+", "x]a", 1, 3);
    expect_match("\\h+", "xyzfF0", 3, 6);
    expect_match("(?i:'s)", "it'S", 2, 4);
    struct pattern *p;
    struct err err = {0};
    assert_int_equal(pattern_new(&p, "[a&&b]", 6, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "pattern '[a&&b]': intersection of classes (&&) is not supported");
    err = (struct err){0};
    assert_int_equal(pattern_new(&p, "[a[^b]]", 7, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "pattern '[a[^b]]': a negated class within a class is not supported");
    assert_null(p);
}

static void cut(const struct pretokenizer *p, const char *text, const char *want)
{
    struct pieces t = {0}, spare = {0};
    struct pattern_scratch *s;
    struct textbuf shown = {0};
    assert_int_equal(pattern_scratch_new(&s, NULL), ERR_OK);
    textbuf_add(&t.text, text, strlen(text), NULL);
    pieces_add(&t, 0, strlen(text), true, NULL);
    assert_int_equal(pretokenizer_run(p, &t, &spare, s, NULL), ERR_OK);
    for (size_t i = 0; i < t.n; i++) {
        textbuf_add(&shown, "|", i > 0, NULL);
        textbuf_add(&shown, t.text.p + t.at[i].begin, t.at[i].end - t.at[i].begin, NULL);
    }
    textbuf_add(&shown, "", 1, NULL);
    assert_string_equal(shown.p, want);
    textbuf_free(&shown);
    pieces_free(&t);
    pieces_free(&spare);
    pattern_scratch_destroy(s);
}

static void test_splits(void **state)
{
    (void)state;
    static const struct { enum split_behavior b; bool invert; const char *want; } cases[] = {
        {SPLIT_REMOVED, false, "a|b|c"}, {SPLIT_ISOLATED, false, "a|-|b|-|-|c"},
        {SPLIT_MERGED_WITH_PREVIOUS, false, "a-|b-|-|c"},
        {SPLIT_MERGED_WITH_NEXT, false, "a|-b|-|-c"}, {SPLIT_CONTIGUOUS, false, "a|-|b|--|c"},
        {SPLIT_REMOVED, true, "-|-|-"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pretokenizer p = {0};
        assert_int_equal(pretokenizer_add_literal(&p, "-", 1, cases[i].b, cases[i].invert, NULL), ERR_OK);
        cut(&p, "a-b--c", cases[i].want);
        pretokenizer_free(&p);
        pretokenizer_free(&p);
    }
    struct pretokenizer p = {0};
    pretokenizer_add_split(&p, "\\d", 2, SPLIT_ISOLATED, false, NULL);
    pretokenizer_add_metaspace(&p, "_", META_FIRST, true, NULL);
    cut(&p, "a b1 c", "_a|_b|1|_c");
    cut(&p, "", "");
    pretokenizer_free(&p);
    pretokenizer_add_metaspace(&p, "_", META_ALWAYS, false, NULL);
    pretokenizer_add_prefix(&p, NULL);
    pretokenizer_add_bytes(&p, NULL);
    cut(&p, "x\xc3\xa9", "\xc4\xa0_x\xc3\x83\xc2\xa9");
    pretokenizer_free(&p);
}

static void test_every_gguf_pattern_compiles(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2", "starcoder", "llama-bpe", "qwen2", "qwen35", "deepseek-llm",
                                        "deepseek-coder", "deepseek-v3", "gpt-4o", "tekken", "falcon",
                                        "default", "", "smollm"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct prepattern *pre = prepattern_find(names[i]);
        assert_non_null(pre);
        for (int k = 0; k < PREPATTERN_PASSES_MAX && pre->pass[k] != NULL; k++) {
            struct pattern *p;
            assert_int_equal(pattern_new(&p, pre->pass[k], strlen(pre->pass[k]), NULL), ERR_OK);
            pattern_destroy(p);
        }
    }
    assert_null(prepattern_find("none"));
}

/* --- normalizers */

static void rewrite(struct normalize_step step, const char *text, const char *want)
{
    struct normalizer n = {0};
    struct textbuf t = {0}, spare = {0};
    struct pattern_scratch *s;
    assert_int_equal(pattern_scratch_new(&s, NULL), ERR_OK);
    assert_int_equal(normalizer_add(&n, step, NULL), ERR_OK);
    textbuf_add(&t, text, strlen(text), NULL);
    assert_int_equal(normalizer_run(&n, &t, &spare, s, NULL), ERR_OK);
    textbuf_add(&t, "", 1, NULL);
    assert_string_equal(t.p, want);
    textbuf_free(&t);
    textbuf_free(&spare);
    normalizer_free(&n);
    normalizer_free(&n);
    pattern_scratch_destroy(s);
}

static struct normalize_step replace_step(const char *regex, const char *to)
{
    struct normalize_step step = {.kind = NORMALIZE_REPLACE};
    pattern_new(&step.pattern, regex, strlen(regex), NULL);
    textbuf_add(&step.text, to, strlen(to), NULL);
    return step;
}

static void test_normalizers(void **state)
{
    (void)state;
    struct normalize_step spm = {.kind = NORMALIZE_SENTENCEPIECE, .prefix = true, .squeeze = true};
    rewrite((struct normalize_step){.kind = NORMALIZE_NFC}, "xe\xcc\x81y", "x\xc3\xa9y");
    rewrite((struct normalize_step){.kind = NORMALIZE_NFD}, "\xc3\xa9", "e\xcc\x81");
    rewrite((struct normalize_step){.kind = NORMALIZE_NFKC}, "\xef\xac\x81", "fi");
    rewrite((struct normalize_step){.kind = NORMALIZE_NFKD}, "\xc2\xbd", "1\xe2\x81\x84" "2");
    rewrite((struct normalize_step){.kind = NORMALIZE_LOWERCASE}, "A\xc4\xb0\xc3\x89", "ai\xcc\x87\xc3\xa9");
    rewrite((struct normalize_step){.kind = NORMALIZE_STRIP, .left = true}, " \n a ", "a ");
    rewrite((struct normalize_step){.kind = NORMALIZE_STRIP, .right = true}, " a \n", " a");
    rewrite((struct normalize_step){.kind = NORMALIZE_STRIP, .left = true, .right = true}, "  ", "");
    rewrite((struct normalize_step){.kind = NORMALIZE_STRIP_ACCENTS}, "e\xcc\x81", "e");
    rewrite((struct normalize_step){.kind = NORMALIZE_NMT}, "a\x01\tb\xe2\x80\x8b", "a b ");
    rewrite((struct normalize_step){.kind = NORMALIZE_BYTES}, " ", "\xc4\xa0");
    rewrite(replace_step(" {2,}", "+"), "a   b c", "a+b c");
    rewrite(replace_step("x*", "-"), "ab", "-a-b-");
    spm.squeeze = true;
    rewrite(spm, "  a  b ", "\xe2\x96\x81" "a\xe2\x96\x81" "b");
    spm.squeeze = false;
    rewrite(spm, "a ", "\xe2\x96\x81" "a\xe2\x96\x81");
    spm.prefix = false;
    rewrite(spm, " ", "\xe2\x96\x81");
}

/* A double array of one entry, a -> "x": the root's children are at XOR 1, the value behind it at 0. */
static void test_charsmap(void **state)
{
    (void)state;
    const uint32_t root = 256u << 10, a = (1u << 10) | (1u << 8) | 'a';
    struct container blob = {0};
    struct charsmap map;
    struct err err = {0};
    size_t used, n;
    enum { UNITS = 512 };
    container_number(&blob, 4 * UNITS, 4);
    for (uint32_t i = 0; i < UNITS; i++)
        container_number(&blob, i == 0 ? root : i == (256 ^ 'a') ? a : i == (256 ^ 'a' ^ 1) ? 2 : 0, 4);
    container_put(&blob, "y\0x\0", 4);
    assert_int_equal(charsmap_open(&map, blob.p, blob.n, &err), ERR_OK);
    const char *to = charsmap_find(&map, "ab", 2, true, &used, &n);
    assert_non_null(to);
    assert_true(used == 1 && n == 1 && *to == 'x');
    assert_null(charsmap_find(&map, "b", 1, true, &used, &n));
    charsmap_close(&map);
    charsmap_close(&map);
    assert_int_equal(charsmap_open(&map, blob.p, 40, &err), ERR_FORMAT);
    assert_int_equal(charsmap_open(&map, NULL, 0, &err), ERR_OK);
    assert_null(charsmap_find(&map, "a", 1, false, &used, &n));
    charsmap_close(&map);
    container_free(&blob);
}

/* A million combining marks: sorting them would take the square of that. */
static void test_many_marks_are_not_quadratic(void **state)
{
    (void)state;
    enum { N = 1000000 };
    struct normalizer n = {0};
    struct textbuf t = {0}, spare = {0};
    struct pattern_scratch *s;
    clock_t begin = clock();
    pattern_scratch_new(&s, NULL);
    normalizer_add(&n, (struct normalize_step){.kind = NORMALIZE_NFC}, NULL);
    textbuf_add(&t, "e", 1, NULL);
    for (int i = 0; i < N; i++)
        textbuf_add(&t, i % 2 == 0 ? "\xcc\x81" : "\xcc\xa7", 2, NULL);
    assert_int_equal(normalizer_run(&n, &t, &spare, s, NULL), ERR_OK);
    assert_true(clock() - begin < 20 * CLOCKS_PER_SEC);
    textbuf_free(&t);
    textbuf_free(&spare);
    normalizer_free(&n);
    pattern_scratch_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_partial_characters),
        cmocka_unit_test(test_kinds_of_characters),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_lossy_text),
        cmocka_unit_test(test_trie),
        cmocka_unit_test(test_vocab),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_gguf_keys),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_every_gguf_pattern_compiles),
        cmocka_unit_test(test_normalizers),
        cmocka_unit_test(test_charsmap),
        cmocka_unit_test(test_many_marks_are_not_quadratic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
