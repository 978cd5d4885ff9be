#define _GNU_SOURCE     /* asprintf */
#include "coordinator/text/bpetrain.h"

#include "coordinator/text/bpelearn.h"
#include "coordinator/text/bytelevel.h"
#include "coordinator/text/tokenizerparts.h"
#include "coordinator/text/unicode.h"
#include "proto/atomicfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define END_OF_TEXT "<|endoftext|>"
#define START_OF_TEXT "<|startoftext|>"
#define WORD_END "</w>"

/* Long texts are cut into runs about this long, where no word and no run of blanks is cut. */
enum { RUN_BYTES = 1 << 16, SYMBOL_BYTES_MAX = 16 };

struct bpetrain {
    enum bpetrain_kind kind;
    struct tokenizer *rules;    /* only its normalizer and pre-tokenizer: text is cut as encoding will */
    struct pattern_scratch *scratch;
    struct textbuf text, spare_text;
    struct pieces pieces, spare;
    struct bpewords words;      /* in the alphabet of bytes */
    struct bpewords symbols;    /* the vocabulary; its number is the id */
    struct bpemerges merges;
};

/* The parts of tokenizer.json around the model; the caller owns the tree. */
static json_t *byte_rules(void)
{
    return json_pack("{s:n, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}],"
                     " s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}],"
                     " s:{s:{s:s, s:[i], s:[s]}}}, s:{s:s, s:b, s:b, s:b}}",
                     "normalizer", "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 1,
                     "post_processor", "type", "TemplateProcessing", "single",
                     "SpecialToken", "id", END_OF_TEXT, "type_id", 0, "Sequence", "id", "A", "type_id", 0,
                     "pair", "SpecialToken", "id", END_OF_TEXT, "type_id", 0,
                     "Sequence", "id", "A", "type_id", 0, "SpecialToken", "id", END_OF_TEXT, "type_id", 0,
                     "Sequence", "id", "B", "type_id", 0,
                     "special_tokens", END_OF_TEXT, "id", END_OF_TEXT, "ids", 0, "tokens", END_OF_TEXT,
                     "decoder", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                     "use_regex", 1);
}

int bpetrain_open(struct bpetrain **out, enum bpetrain_kind kind, struct err *err)
{
    struct bpetrain *t = calloc(1, sizeof *t);
    json_t *rules = kind == BPETRAIN_CLIP ? tokfolder_rules("CLIPTokenizer", false) : byte_rules();
    int rc = ERR_OK;
    if (t != NULL) {
        t->kind = kind;
        t->rules = calloc(1, sizeof *t->rules);
    }
    if (rules == NULL || t == NULL || t->rules == NULL)
        rc = err_set(err, ERR_NOMEM, "no memory to train a tokenizer");
    if (rc == ERR_OK)
        rc = tokjson_normalizer(t->rules, json_object_get(rules, "normalizer"), err);
    if (rc == ERR_OK)
        rc = tokjson_pretokenizer(t->rules, json_object_get(rules, "pre_tokenizer"), err);
    if (rc == ERR_OK)
        rc = pattern_scratch_new(&t->scratch, err);
    json_decref(rules);
    if (rc != ERR_OK) {
        bpetrain_close(t);
        t = NULL;
    }
    *out = t;
    return rc;
}

void bpetrain_close(struct bpetrain *t)
{
    if (t == NULL)
        return;
    tokenizer_close(t->rules);
    pattern_scratch_destroy(t->scratch);
    textbuf_free(&t->text);
    textbuf_free(&t->spare_text);
    pieces_free(&t->pieces);
    pieces_free(&t->spare);
    bpewords_free(&t->words);
    bpewords_free(&t->symbols);
    free(t->merges.merge);
    free(t);
}

int bpetrain_vocab(const struct bpetrain *t) { return t->symbols.n; }

/* --- words */

static int add_run(struct bpetrain *t, const char *s, size_t n, struct err *err)
{
    textbuf_clear(&t->text);
    TRY(textbuf_add(&t->text, s, n, err));
    TRY(normalizer_run(&t->rules->normalizer, &t->text, &t->spare_text, t->scratch, err));
    t->pieces.n = 0;
    textbuf_clear(&t->pieces.text);
    TRY(textbuf_add(&t->pieces.text, t->text.p, t->text.n, err));
    TRY(pieces_add(&t->pieces, 0, t->text.n, true, err));
    TRY(pretokenizer_run(&t->rules->pretokenizer, &t->pieces, &t->spare, t->scratch, err));
    for (size_t i = 0; i < t->pieces.n; i++) {
        const struct piece *p = &t->pieces.at[i];
        TRY(bpewords_add(&t->words, t->pieces.text.p + p->begin, p->end - p->begin, 1, NULL, err));
    }
    return ERR_OK;
}

static bool is_plain(char c) { return (uint8_t)c > ' ' && (uint8_t)c < 0x80; }

/* Where a run that starts at s may end: behind the first line end past RUN_BYTES that stands between two
 * characters that are no blanks, which belongs to no word. */
static size_t run_length(const char *s, size_t n)
{
    for (size_t i = RUN_BYTES; i + 1 < n; i++)
        if (s[i] == '\n' && is_plain(s[i - 1]) && is_plain(s[i + 1]))
            return i + 1;
    return n;
}

int bpetrain_add(struct bpetrain *t, const char *text, size_t n, struct err *err)
{
    size_t bad = unicode_check(text, n);
    if (bad < n)
        return err_set(err, ERR_FORMAT, "text is not valid UTF-8 at byte %zu", bad);
    for (size_t at = 0, run; at < n; at += run) {
        run = run_length(text + at, n - at);
        TRY(add_run(t, text + at, run, err));
    }
    return ERR_OK;
}

/* --- symbols */

/* The byte's character and what follows it, as the next symbol. */
static int add_byte_symbol(struct bpewords *symbols, int byte, const char *behind, struct err *err)
{
    struct textbuf text = {0};
    char b = (char)byte;
    int rc = bytelevel_add(&text, &b, 1, err);
    if (rc == ERR_OK)
        rc = textbuf_add(&text, behind, strlen(behind), err);
    if (rc == ERR_OK)
        rc = bpewords_add(symbols, text.p, text.n, 0, NULL, err);
    textbuf_free(&text);
    return rc;
}

/* Bytes in the order of their characters: those that print in Latin-1, then the others. */
static int add_alphabet(struct bpewords *symbols, const char *behind, struct err *err)
{
    for (int cp = 0; cp < 0x200; cp++)
        if (bytelevel_byte(cp) >= 0)
            TRY(add_byte_symbol(symbols, bytelevel_byte(cp), behind, err));
    return ERR_OK;
}

/* The words as runs of symbols; in CLIP's kind the last one of a word is another symbol. */
static int cut_words(const struct bpetrain *t, struct bpetext *out, struct err *err)
{
    const struct bpewords *w = &t->words;
    size_t at = 0;
    out->begin = malloc(((size_t)w->n + 1) * sizeof *out->begin);
    out->count = malloc(((size_t)w->n + 1) * sizeof *out->count);
    out->symbol = malloc((w->text.n + 1) * sizeof *out->symbol);
    if (out->begin == NULL || out->count == NULL || out->symbol == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d words", w->n);
    for (out->n = 0; out->n < w->n; out->n++) {
        const char *s = bpewords_text(w, out->n), *end = s + w->word[out->n].n;
        out->begin[out->n] = at;
        out->count[out->n] = w->word[out->n].count;
        while (s < end) {
            char name[SYMBOL_BYTES_MAX];
            size_t n = (size_t)unicode_bytes(*s);
            memcpy(name, s, n);
            s += n;
            if (t->kind == BPETRAIN_CLIP && s == end) {
                memcpy(name + n, WORD_END, strlen(WORD_END));
                n += strlen(WORD_END);
            }
            out->symbol[at++] = bpewords_find(&t->symbols, name, n);
        }
    }
    out->begin[w->n] = at;
    return ERR_OK;
}

static int learn(struct bpetrain *t, int vocab, struct err *err)
{
    struct bpetext text = {0};
    bool clip = t->kind == BPETRAIN_CLIP;
    if (!clip)
        TRY(bpewords_add(&t->symbols, END_OF_TEXT, strlen(END_OF_TEXT), 0, NULL, err));
    TRY(add_alphabet(&t->symbols, "", err));
    if (clip)
        TRY(add_alphabet(&t->symbols, WORD_END, err));
    int rc = cut_words(t, &text, err);
    if (rc == ERR_OK)
        rc = bpelearn(&text, &t->symbols, vocab - (clip ? 2 : 0), 2, &t->merges, err);
    free(text.begin);
    free(text.count);
    free(text.symbol);
    if (rc == ERR_OK && clip)
        rc = bpewords_add(&t->symbols, START_OF_TEXT, strlen(START_OF_TEXT), 0, NULL, err);
    if (rc == ERR_OK && clip)
        rc = bpewords_add(&t->symbols, END_OF_TEXT, strlen(END_OF_TEXT), 0, NULL, err);
    return rc;
}

int bpetrain_learn(struct bpetrain *t, int vocab, struct err *err)
{
    int least = t->kind == BPETRAIN_CLIP ? BPETRAIN_CLIP_MIN : BPETRAIN_BYTES_MIN;
    if (vocab < least || vocab > BPETRAIN_VOCAB_MAX)
        return err_set(err, ERR_INVAL, "a vocabulary of %d: from %d to %d", vocab, least,
                       BPETRAIN_VOCAB_MAX);
    if (t->words.n == 0)
        return err_set(err, ERR_FORMAT, "no word in the text: nothing to learn a vocabulary from");
    return learn(t, vocab, err);
}

/* --- files */

static int save_bytes(const char *folder, const char *name, const char *bytes, size_t n, struct err *err)
{
    struct atomicfile f;
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    int rc = atomicfile_open(&f, path, err);
    free(path);
    if (rc != ERR_OK)
        return rc;
    rc = atomicfile_write(&f, bytes, n, err);
    if (rc == ERR_OK)
        rc = atomicfile_write(&f, "\n", 1, err);
    if (rc == ERR_OK)
        return atomicfile_commit(&f, err);
    atomicfile_abandon(&f);
    return rc;
}

/* Takes the tree. */
static int save_tree(const char *folder, const char *name, json_t *tree, struct err *err)
{
    char *text = tree != NULL ? json_dumps(tree, JSON_INDENT(2)) : NULL;
    int rc = text == NULL ? err_set(err, ERR_NOMEM, "no memory for %s", name)
                          : save_bytes(folder, name, text, strlen(text), err);
    free(text);
    json_decref(tree);
    return rc;
}

static json_t *vocab_tree(const struct bpetrain *t)
{
    json_t *vocab = json_object();
    for (int32_t i = 0; i < t->symbols.n && vocab != NULL; i++) {
        char *name = strndup(bpewords_text(&t->symbols, i), t->symbols.word[i].n);
        if (name == NULL || json_object_set_new(vocab, name, json_integer(i)) != 0) {
            json_decref(vocab);
            vocab = NULL;
        }
        free(name);
    }
    return vocab;
}

/* "left right" of each merge with a line end behind it: merges.txt without its first line. */
static int list_merges(const struct bpetrain *t, struct textbuf *out, struct err *err)
{
    for (int32_t i = 0; i < t->merges.n; i++) {
        const struct bpemerge *m = &t->merges.merge[i];
        TRY(textbuf_add(out, bpewords_text(&t->symbols, m->left), t->symbols.word[m->left].n, err));
        TRY(textbuf_add(out, " ", 1, err));
        TRY(textbuf_add(out, bpewords_text(&t->symbols, m->right), t->symbols.word[m->right].n, err));
        if (i + 1 < t->merges.n)
            TRY(textbuf_add(out, "\n", 1, err));
    }
    return ERR_OK;
}

static json_t *merges_tree(const struct textbuf *lines)
{
    json_t *list = json_array();
    for (size_t at = 0; at < lines->n;) {
        const char *end = memchr(lines->p + at, '\n', lines->n - at);
        size_t n = end != NULL ? (size_t)(end - lines->p) - at : lines->n - at;
        json_array_append_new(list, json_stringn(lines->p + at, n));
        at += n + 1;
    }
    return list;
}

static json_t *byte_tree(const struct bpetrain *t, const struct textbuf *merges)
{
    json_t *root = json_pack("{s:s, s:n, s:n, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}]}", "version", "1.0",
                             "truncation", "padding", "added_tokens", "id", 0, "content", END_OF_TEXT,
                             "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
    json_t *rules = byte_rules();
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                              "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                              "byte_fallback", 0, "vocab", vocab_tree(t), "merges", merges_tree(merges));
    if (root == NULL || rules == NULL || model == NULL || json_object_update(root, rules) != 0 ||
        json_object_set(root, "model", model) != 0) {
        json_decref(root);
        root = NULL;
    }
    json_decref(rules);
    json_decref(model);
    return root;
}

static int save_byte_files(const struct bpetrain *t, const char *folder, const struct textbuf *merges,
                           int length, struct err *err)
{
    TRY(save_tree(folder, "tokenizer.json", byte_tree(t, merges), err));
    return save_tree(folder, "tokenizer_config.json",
                     json_pack("{s:b, s:b, s:s, s:b, s:s, s:i, s:s}", "add_bos_token", 1,
                               "add_prefix_space", 0, "bos_token", END_OF_TEXT,
                               "clean_up_tokenization_spaces", 0, "eos_token", END_OF_TEXT,
                               "model_max_length", length, "tokenizer_class", "PreTrainedTokenizerFast"),
                     err);
}

static int save_clip_files(const struct bpetrain *t, const char *folder, const struct textbuf *merges,
                           int length, struct err *err)
{
    static const char version[] = "#version: 0.2\n";
    struct textbuf file = {0};
    int rc = textbuf_add(&file, version, strlen(version), err);
    if (rc == ERR_OK)
        rc = textbuf_add(&file, merges->p, merges->n, err);
    if (rc == ERR_OK)
        rc = save_bytes(folder, "merges.txt", file.p, file.n, err);
    textbuf_free(&file);
    TRY(rc);
    TRY(save_tree(folder, "vocab.json", vocab_tree(t), err));
    TRY(save_tree(folder, "special_tokens_map.json",
                  json_pack("{s:s, s:s, s:s, s:s}", "bos_token", START_OF_TEXT, "eos_token", END_OF_TEXT,
                            "pad_token", END_OF_TEXT, "unk_token", END_OF_TEXT), err));
    return save_tree(folder, "tokenizer_config.json",
                     json_pack("{s:b, s:s, s:b, s:b, s:s, s:s, s:i, s:s, s:s, s:s}", "add_prefix_space", 0,
                               "bos_token", START_OF_TEXT, "clean_up_tokenization_spaces", 1,
                               "do_lower_case", 1, "eos_token", END_OF_TEXT, "errors", "replace",
                               "model_max_length", length, "pad_token", END_OF_TEXT, "tokenizer_class",
                               "CLIPTokenizer", "unk_token", END_OF_TEXT), err);
}

int bpetrain_save(const struct bpetrain *t, const char *folder, int length, struct err *err)
{
    struct textbuf merges = {0};
    int rc = list_merges(t, &merges, err);
    if (rc == ERR_OK)
        rc = t->kind == BPETRAIN_CLIP ? save_clip_files(t, folder, &merges, length, err)
                                      : save_byte_files(t, folder, &merges, length, err);
    textbuf_free(&merges);
    return rc;
}
