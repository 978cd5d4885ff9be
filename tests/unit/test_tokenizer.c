/* Tokenizers on vocabularies made up here: what encodes to what, streams, and every way in which a
 * vocabulary or a text can be wrong. */
#include "coordinator/text/bytelevel.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/unicode.h"
#include "tests/unit/ggufvocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <cmocka.h>

#define META "\xe2\x96\x81"
static const struct tokenize_options plain = {false, false}, special = {false, true};
static const struct tokenize_options whole = {true, true};

/* --- helpers */

static struct tokenizer *open_container(const struct container *c, struct err *err)
{
    struct tokenizer *t = NULL;
    int rc = tokenizer_open(&t, c->p, c->n, err);
    assert_int_equal(rc == ERR_OK, t != NULL);
    assert_int_equal(rc, err->code);
    return t;
}

static struct tokenizer *open_as(const char *name, const void *p, size_t n, struct err *err)
{
    struct container c = {0};
    container_add(&c, name, p, n);
    struct tokenizer *t = open_container(&c, err);
    container_free(&c);
    return t;
}

static struct tokenizer *open_json(const char *json)
{
    struct err err = {0};
    struct tokenizer *t = open_as("tokenizer.json", json, strlen(json), &err);
    if (t == NULL)
        print_error("%s\n", err.msg);
    assert_non_null(t);
    return t;
}

static void expect_ids(const struct tokenizer *t, const char *text, struct tokenize_options opt, int n, ...)
{
    struct token_list ids = {0};
    struct err err = {0};
    va_list ap;
    assert_int_equal(tokenizer_encode(t, text, strlen(text), opt, &ids, &err), ERR_OK);
    va_start(ap, n);
    for (int i = 0; i < n || i < ids.n; i++) {
        int want = i < n ? va_arg(ap, int) : -1, got = i < ids.n ? ids.id[i] : -1;
        if (want != got)
            print_error("'%s': id %d is %d, not %d\n", text, i, got, want);
        assert_int_equal(want, got);
    }
    va_end(ap);
    token_list_free(&ids);
    token_list_free(&ids);
}

static void expect_text(const struct tokenizer *t, bool skip, const char *want, int n, ...)
{
    int32_t ids[32];
    struct err err = {0};
    char *text;
    size_t len;
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < n; i++)
        ids[i] = va_arg(ap, int);
    va_end(ap);
    assert_int_equal(tokenizer_decode(t, ids, n, skip, &text, &len, &err), ERR_OK);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
    free(text);
}

/* --- SentencePiece BPE: 0 <unk>, 1 <s>, 2 </s>, 3..258 bytes, then these */

enum { SPM_META = 259, SPM_A, SPM_B, SPM_AB, SPM_MA, SPM_MAB, SPM_ABA, SPM_TOOL, SPM_N };

static void put_spm(struct container *g, bool prefix)
{
    const char *text[SPM_N] = {"<unk>", "<s>", "</s>"};
    static char bytes[256][8];
    int32_t type[SPM_N] = {2, 3, 3};
    float score[SPM_N] = {0};
    static const char *const rest[] = {META, "a", "b", "ab", META "a", META "ab", "aba", "<tool>"};
    for (int i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", i);
        text[3 + i] = bytes[i];
        type[3 + i] = 6;
    }
    for (int i = 0; i < 8; i++) {
        text[SPM_META + i] = rest[i];
        type[SPM_META + i] = 1;
        score[SPM_META + i] = (float)-i;
    }
    type[SPM_TOOL] = 4;
    gguf_start(g, 8);
    gguf_string(g, "tokenizer.ggml.model", "llama");
    gguf_strings(g, "tokenizer.ggml.tokens", text, SPM_N);
    gguf_i32s(g, "tokenizer.ggml.token_type", type, SPM_N);
    gguf_f32s(g, "tokenizer.ggml.scores", score, SPM_N);
    gguf_bool(g, "tokenizer.ggml.add_space_prefix", prefix);
    gguf_u32(g, "tokenizer.ggml.bos_token_id", 1);
    gguf_u32(g, "tokenizer.ggml.eos_token_id", 2);
    gguf_string(g, "tokenizer.chat_template", "T");
}

static struct tokenizer *open_spm(bool prefix)
{
    struct container g = {0};
    struct err err = {0};
    put_spm(&g, prefix);
    struct tokenizer *t = open_as("gguf", g.p, g.n, &err);
    assert_non_null(t);
    container_free(&g);
    return t;
}

static void test_sentencepiece(void **state)
{
    (void)state;
    struct tokenizer *t = open_spm(true);
    assert_int_equal(tokenizer_vocab_size(t), SPM_N);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_is_control(t, 1));
    assert_false(tokenizer_is_control(t, SPM_A) || tokenizer_is_control(t, -1) ||
                 tokenizer_is_control(t, SPM_N));
    assert_int_equal(tokenizer_id(t, "ab"), SPM_AB);
    assert_int_equal(tokenizer_id(t, "abc"), -1);
    assert_string_equal(tokenizer_token_text(t, 1), "<s>");
    assert_null(tokenizer_token_text(t, SPM_N));
    assert_string_equal(tokenizer_chat_template(t, NULL), "T");
    assert_null(tokenizer_chat_template(t, "tool_use"));
    expect_ids(t, "", plain, 0);
    expect_ids(t, "a", plain, 1, SPM_MA);
    expect_ids(t, "ab", plain, 1, SPM_MAB);             /* "ab" is better than "_a" */
    expect_ids(t, "aba", plain, 2, SPM_MAB, SPM_A);     /* "_ab" is better than "aba" */
    expect_ids(t, " a", plain, 2, SPM_META, SPM_MA);
    expect_ids(t, "b", whole, 3, 1, SPM_META, SPM_B);
    expect_ids(t, "\xc3\xa9", plain, 3, SPM_META, 3 + 0xc3, 3 + 0xa9);
    expect_ids(t, "a<tool>a", plain, 3, SPM_MA, SPM_TOOL, SPM_A);
    expect_ids(t, "<s>a", special, 2, 1, SPM_MA);
    expect_ids(t, "<s>", plain, 4, SPM_META, 3 + '<', 3 + 's', 3 + '>');
    tokenizer_close(t);
    t = open_spm(false);
    expect_ids(t, "a a", plain, 2, SPM_A, SPM_MA);
    tokenizer_close(t);
    tokenizer_close(NULL);
}

static void test_sentencepiece_decode(void **state)
{
    (void)state;
    struct tokenizer *t = open_spm(true);
    expect_text(t, true, "a a", 3, 1, SPM_MA, SPM_MA);
    expect_text(t, false, "<s>a</s>", 3, 1, SPM_MA, 2);
    expect_text(t, true, "\xc3\xa9", 3, SPM_META, 3 + 0xc3, 3 + 0xa9);
    expect_text(t, true, "a\xef\xbf\xbd" "b", 3, SPM_A, 3 + 0xc3, SPM_B);
    expect_text(t, true, "a \xe2\x81\x87 ", 2, SPM_A, 0);
    struct err err = {0};
    int32_t bad = SPM_N;
    char *text;
    size_t n;
    assert_int_equal(tokenizer_decode(t, &bad, 1, true, &text, &n, &err), ERR_INVAL);
    assert_string_equal(err.msg, "token id 267 is not in the vocabulary of 267");
    tokenizer_close(t);
}

static void push(struct token_stream *s, int32_t id, const char *want)
{
    struct err err = {0};
    const char *text;
    size_t n;
    int rc = id >= 0 ? token_stream_push(s, id, &text, &n, &err)
                     : token_stream_finish(s, &text, &n, &err);
    assert_int_equal(rc, ERR_OK);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(text, want, n);
}

static void test_stream(void **state)
{
    (void)state;
    struct tokenizer *t = open_spm(true);
    struct token_stream *s;
    struct err err = {0};
    const char *text;
    size_t n;
    const int32_t prompt[] = {1, SPM_MA, 3 + 0xf0};
    assert_int_equal(token_stream_open(&s, t, prompt, 2, true, &err), ERR_OK);
    push(s, SPM_MA, " a");              /* not at the start: the blank stays */
    push(s, 3 + 0xe2, "");
    push(s, 3 + 0x82, "");
    push(s, 3 + 0xac, "\xe2\x82\xac");  /* a character is whole */
    push(s, 3 + 0xe2, "");
    push(s, SPM_B, "\xef\xbf\xbd" "b"); /* it never came */
    push(s, 2, "");
    push(s, SPM_N + 5, "");             /* a row of the model without a token */
    push(s, 3 + 0xc3, "");
    push(s, -1, "\xef\xbf\xbd");
    assert_int_equal(token_stream_push(s, -1, &text, &n, &err), ERR_INVAL);
    token_stream_close(s);
    token_stream_close(NULL);
    assert_int_equal(token_stream_open(&s, t, prompt, 3, true, &err), ERR_OK);
    push(s, 3 + 0x9f, "");              /* the prompt ends within a character */
    push(s, 3 + 0x98, "");
    push(s, 3 + 0x80, "\xf0\x9f\x98\x80");
    token_stream_close(s);
    tokenizer_close(t);
}

/* --- byte-level BPE: 0..255 the bytes, then these */

enum { BPE_AB = 256, BPE_BLANK_A, BPE_ABAB, BPE_END, BPE_USER, BPE_N };

static struct tokenizer *open_bpe(const char *pre, struct err *err)
{
    static char bytes[256][8];
    const char *text[BPE_N];
    int32_t type[BPE_N];
    static const char *const merges[] = {"a b", "\xc4\xa0 a", "ab ab"};
    struct container g = {0};
    for (int i = 0; i < BPE_N; i++)
        type[i] = 1;
    for (int i = 0; i < 256; i++) {
        bytes[i][unicode_encode(bytelevel_cp((uint8_t)i), bytes[i])] = '\0';
        text[i] = bytes[i];
    }
    text[BPE_AB] = "ab";
    text[BPE_BLANK_A] = "\xc4\xa0" "a";
    text[BPE_ABAB] = "abab";
    text[BPE_END] = "<|end|>";
    text[BPE_USER] = "<user \xe2\x82\xac>";
    type[BPE_END] = 3;
    type[BPE_USER] = 4;
    gguf_start(&g, 6);
    gguf_string(&g, "tokenizer.ggml.model", "gpt2");
    gguf_string(&g, "tokenizer.ggml.pre", pre);
    gguf_strings(&g, "tokenizer.ggml.tokens", text, BPE_N);
    gguf_i32s(&g, "tokenizer.ggml.token_type", type, BPE_N);
    gguf_strings(&g, "tokenizer.ggml.merges", merges, 3);
    gguf_u32(&g, "tokenizer.ggml.eos_token_id", BPE_END);
    struct tokenizer *t = open_as("gguf", g.p, g.n, err);
    container_free(&g);
    return t;
}

static void test_byte_level(void **state)
{
    (void)state;
    struct err err = {0};
    struct tokenizer *t = open_bpe("gpt-2", &err);
    assert_non_null(t);
    assert_int_equal(tokenizer_bos(t), -1);
    expect_ids(t, "abab ab", plain, 3, BPE_ABAB, ' ', BPE_AB);      /* "a b" comes before "_ a" */
    expect_ids(t, "b a", plain, 2, 'b', BPE_BLANK_A);
    expect_ids(t, "aab", plain, 2, 'a', BPE_AB);
    expect_ids(t, "ab'sab", plain, 4, BPE_AB, '\'', 's', BPE_AB);
    expect_ids(t, "\xc3\xa9", plain, 2, 0xc3, 0xa9);
    expect_ids(t, "a<|end|>b", special, 3, 'a', BPE_END, 'b');
    expect_ids(t, "<|", special, 2, '<', '|');
    expect_ids(t, "<user \xe2\x82\xac>", plain, 1, BPE_USER);
    expect_text(t, false, "abab a<|end|>", 3, BPE_ABAB, BPE_BLANK_A, BPE_END);
    expect_text(t, true, "abab a<user \xe2\x82\xac>", 4, BPE_ABAB, BPE_BLANK_A, BPE_END, BPE_USER);
    expect_text(t, true, "\xef\xbf\xbd" "ab", 3, 0xe2, 0x82, BPE_AB);   /* one for the broken start */
    tokenizer_close(t);
    t = open_bpe("qwen2", &err);        /* normal form C comes first: e and an accent are one letter */
    expect_ids(t, "e\xcc\x81", plain, 2, 0xc3, 0xa9);
    tokenizer_close(t);
    assert_null(open_bpe("sanskrit", &err));
    assert_string_equal(err.msg, "vocabulary: tokenizer.ggml.pre 'sanskrit' is not known; use the "
                                 "model's Hugging Face folder");
}

/* A word of hundreds of thousands of letters: the square of that would take minutes. */
static void test_long_words_are_not_quadratic(void **state)
{
    (void)state;
    enum { N = 300000 };
    struct err err = {0};
    struct tokenizer *t[] = {open_bpe("gpt-2", &err), open_spm(true)};
    char *text = malloc(N);
    clock_t begin = clock();
    for (int i = 0; i < N; i++)
        text[i] = i % 2 == 0 ? 'a' : 'b';
    for (int k = 0; k < 2; k++) {
        struct token_list ids = {0};
        assert_int_equal(tokenizer_encode(t[k], text, N, plain, &ids, &err), ERR_OK);
        assert_int_equal(ids.n, k == 0 ? N / 4 : N / 2);
        token_list_free(&ids);
        tokenizer_close(t[k]);
    }
    assert_true(clock() - begin < 10 * CLOCKS_PER_SEC);
    free(text);
}

/* --- tokenizer.json */

static void test_json_bpe(void **state)
{
    (void)state;
    struct tokenizer *t = open_json(
        "{\"added_tokens\":[{\"id\":9,\"content\":\"<s>\",\"special\":true},"
        "{\"id\":10,\"content\":\"[x]\",\"lstrip\":true,\"rstrip\":true}],"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" META "\"}]},"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[9]}}},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\""
        META "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
        "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}]},"
        "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"fuse_unk\":true,\"unk_token\":\"?\","
        "\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"ab\":3,\"" META "\":4,\"" META "a\":5,"
        "\"<0xC3>\":6,\"<0xA9>\":7,\"abab\":8},"
        "\"merges\":[\"a b\",[\"" META "\",\"a\"],\"ab ab\"]}}");
    expect_ids(t, "ABab ab", whole, 4, 9, 8, 4, 3);
    expect_ids(t, "\xc3\xa9z\xc3\xbc" "a", plain, 4, 6, 7, 0, 1);       /* bytes; one unknown for two */
    expect_ids(t, "a [x]  b<s>", special, 4, 1, 10, 2, 9);
    expect_ids(t, "a<s>", plain, 2, 1, 0);      /* not asked for: ordinary, unknown text */
    expect_text(t, true, "a ab", 4, 9, 5, 4, 3);
    expect_text(t, false, "<s> a", 2, 9, 5);
    expect_text(t, true, "a", 2, 5, 4);         /* a blank goes at the end too */
    expect_text(t, true, "\xc3\xa9", 2, 6, 7);
    struct token_stream *s;
    struct err err = {0};
    assert_int_equal(token_stream_open(&s, t, NULL, 0, true, &err), ERR_OK);
    push(s, 5, "a");
    push(s, 4, "");                     /* held back: it may be the last */
    push(s, 1, " a");
    push(s, 4, "");
    push(s, -1, "");
    token_stream_close(s);
    tokenizer_close(t);
}

static void test_json_unigram(void **state)
{
    (void)state;
    struct tokenizer *t = open_json(
        "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" META
        "\",\"prepend_scheme\":\"always\",\"split\":true},\"decoder\":{\"type\":\"Metaspace\","
        "\"replacement\":\"" META "\",\"prepend_scheme\":\"always\"},\"model\":{\"type\":\"Unigram\","
        "\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"" META "\",-2],[\"a\",-3],[\"b\",-3],[\"ab\",-5.5],"
        "[\"" META "a\",-4]]}}");
    expect_ids(t, "ab b", plain, 4, 5, 3, 1, 3);        /* -4-3 beats -2-5.5 */
    expect_ids(t, "aab", plain, 2, 5, 4);               /* -4-5.5 beats -4-3-3 */
    expect_ids(t, "axyb", plain, 3, 5, 0, 3);           /* unknown neighbours are one */
    expect_text(t, true, "ab b", 4, 5, 3, 1, 3);
    tokenizer_close(t);
}

static void test_folder_of_old(void **state)
{
    (void)state;
    static const char vocab[] = "{\"a\":0,\"b</w>\":1,\"ab</w>\":2,\"a</w>\":3,\"<start>\":4,\"<end>\":5}";
    static const char merges[] = "#version: 0.2\na b</w>\n";
    static const char config[] = "{\"tokenizer_class\":\"CLIPTokenizer\",\"bos_token\":\"<start>\","
                                 "\"eos_token\":{\"content\":\"<end>\"},\"unk_token\":\"<end>\","
                                 "\"chat_template\":[{\"name\":\"default\",\"template\":\"D\"},"
                                 "{\"name\":\"tool_use\",\"template\":\"U\"}]}";
    struct container c = {0};
    struct err err = {0};
    container_add(&c, "vocab.json", vocab, strlen(vocab));
    container_add(&c, "merges.txt", merges, strlen(merges));
    container_add(&c, "tokenizer_config.json", config, strlen(config));
    struct tokenizer *t = open_container(&c, &err);
    assert_non_null(t);
    expect_ids(t, "AB  a", whole, 4, 4, 2, 3, 5);
    assert_int_equal(tokenizer_bos(t), 4);
    assert_int_equal(tokenizer_eos(t), 5);
    assert_string_equal(tokenizer_chat_template(t, "default"), "D");
    assert_string_equal(tokenizer_chat_template(t, "tool_use"), "U");
    tokenizer_close(t);
    container_add(&c, "chat_template.jinja", "J", 1);
    t = open_container(&c, &err);
    assert_string_equal(tokenizer_chat_template(t, NULL), "J");
    tokenizer_close(t);
    container_free(&c);
}

/* --- errors */

static void test_bad_text(void **state)
{
    (void)state;
    struct tokenizer *t = open_spm(true);
    struct token_list ids = {0};
    struct err err = {0};
    assert_int_equal(tokenizer_encode(t, "abc\xff", 4, plain, &ids, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "text is not valid UTF-8 at byte 3");
    token_list_free(&ids);
    tokenizer_close(t);
}

static void expect_bad_json(const char *json, const char *message)
{
    struct err err = {0};
    struct tokenizer *t = open_as("tokenizer.json", json, strlen(json), &err);
    if (t != NULL || strstr(err.msg, message) == NULL)
        print_error("%s\n   want %s\n   got  %s\n", json, message, err.msg);
    assert_null(t);
    assert_non_null(strstr(err.msg, message));
}

static void test_bad_json(void **state)
{
    (void)state;
    expect_bad_json("{", "tokenizer.json: line 1: ");
    expect_bad_json("[]", "tokenizer.json is not a JSON object");
    expect_bad_json("{}", "tokenizer.json: model type '' is not supported");
    expect_bad_json("{\"model\":{\"type\":\"WordPiece\"}}", "model type 'WordPiece' is not supported");
    expect_bad_json("{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", "model.vocab is not a table");
    expect_bad_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"b\"},\"merges\":[]}}",
                    "the id of 'a' is not a number");
    expect_bad_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
                    "token id -1 is outside 0 .. 4194303");
    expect_bad_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999},\"merges\":[]}}",
                    "token id 99999999999 is outside");
    expect_bad_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}",
                    "id 1 belongs to 'a' and to 'b'");
    expect_bad_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"a b\"]}}",
                    "merge 0 ('a' 'b') is not of tokens");
    expect_bad_json("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[7]}}", "merge 0 is not two texts");
    expect_bad_json("{\"model\":{\"type\":\"Unigram\",\"unk_id\":3,\"vocab\":[[\"a\",0]]}}", "unk_id is 3");
    expect_bad_json("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}",
                    "model.vocab[0] is not a text and a score");
#define WITH(part) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}," part "}"
    expect_bad_json(WITH("\"normalizer\":{\"type\":\"Magic\"}"), "normalizer 'Magic' is not supported");
    expect_bad_json(WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAAAAAA\"}"),
                    "precompiled_charsmap is damaged");
    expect_bad_json(WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}}"),
                    "pattern '(': missing closing parenthesis");
    expect_bad_json(WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},"
                         "\"behavior\":\"Sideways\"}"), "behavior of Split is not known");
    expect_bad_json(WITH("\"decoder\":{\"type\":\"CTC\"}"), "decoder 'CTC' is not supported");
    expect_bad_json(WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
                         "{\"id\":\"x\"}}]}"), "the template's token 'x' has no id");
    expect_bad_json(WITH("\"added_tokens\":[{\"content\":\"x\"}]"), "an added token has no content or no id");
    expect_bad_json(WITH("\"added_tokens\":[{\"content\":\"x\",\"id\":0}]"), "id 0 belongs to 'a' and to 'x'");
}

/* Nested a hundred thousand deep; and a pattern that never ends on a hostile text. */
static void test_hostile_json(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    char *deep = malloc(DEEP + 1);
    memset(deep, '[', DEEP);
    deep[DEEP] = '\0';
    expect_bad_json(deep, "tokenizer.json: line 1: ");
    free(deep);
    struct tokenizer *t = open_json(WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":"
                                         "\"(a|aa)+$\"},\"behavior\":\"Isolated\"}"));
    struct token_list ids = {0};
    struct err err = {0};
    char text[200];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    assert_int_equal(tokenizer_encode(t, text, sizeof text, plain, &ids, &err), ERR_LIMIT);
    assert_string_equal(err.msg, "pattern '(a|aa)+$' takes too long on this text");
    token_list_free(&ids);
    tokenizer_close(t);
}

static void expect_bad_gguf(const struct container *g, const char *message)
{
    struct err err = {0};
    struct tokenizer *t = open_as("gguf", g->p, g->n, &err);
    if (t != NULL || strstr(err.msg, message) == NULL)
        print_error("want %s\ngot  %s\n", message, err.msg);
    assert_null(t);
    assert_non_null(strstr(err.msg, message));
}

static void test_bad_gguf(void **state)
{
    (void)state;
    struct container g = {0};
    put_spm(&g, true);
    for (size_t n = 0; n < g.n; n += n < 100 || n + 100 > g.n ? 1 : 37) {       /* cut off anywhere */
        struct err err = {0};
        struct container cut = {g.p, n};
        assert_null(open_as("gguf", cut.p, cut.n, &err));
        assert_true(err.msg[0] != '\0');
    }
    container_free(&g);
    gguf_start(&g, UINT64_MAX);
    expect_bad_gguf(&g, "claims more keys than it holds");
    container_free(&g);
    gguf_start(&g, 1);
    gguf_array(&g, "tokenizer.ggml.tokens", 8, UINT64_MAX / 8);
    expect_bad_gguf(&g, "cut off or damaged");
    container_free(&g);
    gguf_start(&g, 0);
    expect_bad_gguf(&g, "the file has no tokenizer.ggml.model");
    container_free(&g);
    gguf_start(&g, 2);
    gguf_string(&g, "tokenizer.ggml.model", "llama");
    gguf_string(&g, "tokenizer.ggml.tokens", "x");
    expect_bad_gguf(&g, "tokenizer.ggml.tokens is not an array of the expected type");
    container_free(&g);
    gguf_start(&g, 1);
    gguf_string(&g, "tokenizer.ggml.model", "rwkv");
    expect_bad_gguf(&g, "tokenizer.ggml.model 'rwkv' is not supported");
    container_free(&g);
    const char *one[] = {"a"};
    gguf_start(&g, 3);
    gguf_string(&g, "tokenizer.ggml.model", "llama");
    gguf_strings(&g, "tokenizer.ggml.tokens", one, 1);
    gguf_u32(&g, "tokenizer.ggml.eos_token_id", 7);
    expect_bad_gguf(&g, "tokenizer.ggml.eos_token_id is 7, but there are 1 tokens");
    container_free(&g);
}

/* A vocabulary that cannot say everything says so when it is asked to. */
static void test_missing_bytes(void **state)
{
    (void)state;
    const char *text[] = {META, "a"};
    const float score[] = {0, -1};
    struct container g = {0};
    struct err err = {0};
    struct token_list ids = {0};
    gguf_start(&g, 4);
    gguf_string(&g, "tokenizer.ggml.model", "llama");
    gguf_strings(&g, "tokenizer.ggml.tokens", text, 2);
    gguf_f32s(&g, "tokenizer.ggml.scores", score, 2);
    gguf_u32(&g, "tokenizer.ggml.unknown_token_id", UINT32_MAX);
    struct tokenizer *t = open_as("gguf", g.p, g.n, &err);
    assert_non_null(t);
    assert_int_equal(tokenizer_encode(t, "az", 2, plain, &ids, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "vocabulary: no token for 'z', its bytes or unknown text");
    token_list_free(&ids);
    tokenizer_close(t);
    container_free(&g);
}

static void test_bad_container(void **state)
{
    (void)state;
    struct err err = {0};
    struct tokenizer *t;
    struct container c = {0};
    assert_int_equal(tokenizer_open(&t, (const uint8_t *)"MTO", 3, &err), ERR_FORMAT);
    container_add(&c, "gguf", "x", 1);
    for (size_t n = 4; n < c.n; n++) {
        err = (struct err){0};
        assert_int_equal(tokenizer_open(&t, c.p, n, &err), ERR_FORMAT);
    }
    assert_string_equal(err.msg, "vocabulary: gguf is cut off");
    container_free(&c);
    container_add(&c, "other", "x", 1);
    err = (struct err){0};
    assert_null(open_container(&c, &err));
    assert_string_equal(err.msg, "vocabulary: the folder has neither tokenizer.json nor vocab.json nor spiece.model");
    container_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_sentencepiece_decode),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_long_words_are_not_quadratic),
        cmocka_unit_test(test_json_bpe),
        cmocka_unit_test(test_json_unigram),
        cmocka_unit_test(test_folder_of_old),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_hostile_json),
        cmocka_unit_test(test_bad_gguf),
        cmocka_unit_test(test_missing_bytes),
        cmocka_unit_test(test_bad_container),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
