#include "workers/models/exportpieces.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int exportpieces_init(struct pieces *p, int vocab, struct err *err)
{
    memset(p, 0, sizeof *p);
    p->piece = calloc((size_t)vocab + 1, sizeof *p->piece);
    p->n = vocab;
    return p->piece ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for a vocabulary of %d", vocab);
}

void exportpieces_free(struct pieces *p)
{
    free(p->piece);
    memset(p, 0, sizeof *p);
}

int exportpieces_find(const struct pieces *p, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0; i < p->n; i++)
        if (p->piece[i].text && p->piece[i].n == n && memcmp(p->piece[i].text, text, n) == 0)
            return i;
    return -1;
}

static bool is_byte(const char *text)
{
    unsigned byte;
    int end = 0;
    return sscanf(text, "<0x%2X>%n", &byte, &end) == 1 && end == 6 && text[6] == '\0';
}

/* --- tokenizer.json */

static const char *type_of(const json_t *j)
{
    const char *type = json_string_value(json_object_get(j, "type"));
    return type ? type : "";
}

/* Is there a part of this type in j or, when j is a sequence, in its list? */
static const json_t *part_of_type(const json_t *j, const char *type)
{
    static const char *const lists[] = {"normalizers", "pretokenizers", "processors", "decoders"};
    if (strcmp(type_of(j), type) == 0)
        return j;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(j, lists[i]);
        for (size_t k = 0; k < json_array_size(list); k++)
            if (strcmp(type_of(json_array_get(list, k)), type) == 0)
                return json_array_get(list, k);
    }
    return NULL;
}

/* The blank that goes before a text: a normalizer, or a pre-tokenizer that may say "never". */
static bool json_space_prefix(const json_t *root)
{
    const json_t *meta = part_of_type(json_object_get(root, "pre_tokenizer"), "Metaspace");
    const char *scheme = json_string_value(json_object_get(meta, "prepend_scheme"));
    if (part_of_type(json_object_get(root, "normalizer"), "Prepend"))
        return true;
    if (scheme)
        return strcmp(scheme, "never") != 0;
    return meta && !json_is_false(json_object_get(meta, "add_prefix_space"));
}

/* Both halves of a merge, "a b" or ["a", "b"]; false when it is neither. */
static bool merge_halves(const json_t *merge, const char **a, size_t *na, const char **b, size_t *nb)
{
    const json_t *first = json_array_get(merge, 0), *second = json_array_get(merge, 1);
    const char *blank;
    if (json_is_string(merge)) {
        *a = json_string_value(merge);
        blank = strchr(*a, ' ');
        if (!blank)
            return false;
        *na = (size_t)(blank - *a);
        *b = blank + 1;
        *nb = json_string_length(merge) - *na - 1;
        return true;
    }
    if (!json_is_string(first) || !json_is_string(second))
        return false;
    *a = json_string_value(first);
    *na = json_string_length(first);
    *b = json_string_value(second);
    *nb = json_string_length(second);
    return true;
}

static int rank_scores(struct pieces *p, const json_t *vocab, const json_t *merges, const char *where,
                       struct err *err)
{
    char whole[1024];
    for (int i = 0; i < p->n; i++)
        p->piece[i].score = -1e6f;      /* no merge makes it */
    for (size_t r = json_array_size(merges); r-- > 0;) {        /* the first of equal results stands */
        const char *a, *b;
        size_t na, nb;
        if (!merge_halves(json_array_get(merges, r), &a, &na, &b, &nb))
            return err_set(err, ERR_FORMAT, "%s: model.merges[%zu] is no pair of texts", where, r);
        if (na + nb >= sizeof whole)
            continue;
        memcpy(whole, a, na);
        memcpy(whole + na, b, nb);
        whole[na + nb] = '\0';
        const json_t *id = json_object_get(vocab, whole);
        if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < p->n)
            p->piece[json_integer_value(id)].score = -(float)r;
    }
    return ERR_OK;
}

static int json_vocab(struct pieces *p, const json_t *vocab, const char *where, struct err *err)
{
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)vocab, text, id) {
        json_int_t i = json_integer_value(id);
        if (!json_is_integer(id) || i < 0)
            return err_set(err, ERR_FORMAT, "%s: model.vocab has no sound id for \"%.40s\"", where, text);
        if (i < p->n)
            p->piece[i] = (struct piece){text, strlen(text), 0, PIECE_NORMAL};
    }
    return ERR_OK;
}

int exportpieces_json(struct pieces *p, const json_t *root, const char *where, struct err *err)
{
    const json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    if (strcmp(type_of(model), "BPE") != 0 || !json_is_object(vocab) || !json_is_array(merges))
        return err_set(err, ERR_FORMAT, "%s: model is of type \"%.20s\"; only BPE vocabularies go into a"
                       " GGUF of these architectures", where, type_of(model));
    TRY(json_vocab(p, vocab, where, err));
    p->spm = json_is_true(json_object_get(model, "byte_fallback"));
    if (!p->spm)
        return ERR_OK;
    p->space_prefix = json_space_prefix(root);
    TRY(rank_scores(p, vocab, merges, where, err));
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    for (int i = 0; i < p->n; i++) {
        if (p->piece[i].text && is_byte(p->piece[i].text))
            p->piece[i].kind = PIECE_BYTE;
        if (p->piece[i].text && unknown && strcmp(p->piece[i].text, unknown) == 0)
            p->piece[i].kind = PIECE_UNKNOWN;
    }
    return ERR_OK;
}

/* --- tokenizer.model: a protobuf message of which three fields matter */

struct proto { const uint8_t *p, *end; };

static bool varint(struct proto *m, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; shift < 64 && m->p < m->end; shift += 7) {
        uint8_t b = *m->p++;
        *v |= (uint64_t)(b & 127) << shift;
        if (b < 128)
            return true;
    }
    return false;
}

/* The next field: its number, and its bytes (length-delimited, fixed) or value (varint). False at the
 * end and where the message is broken (then p is not end). */
static bool field(struct proto *m, uint64_t *number, struct proto *bytes, uint64_t *value)
{
    uint64_t key, n = 0;
    const uint8_t *at = m->p;
    if (m->p == m->end || !varint(m, &key))
        return false;
    *number = key >> 3;
    *value = 0;
    switch (key & 7) {
    case 0: n = varint(m, value) ? 0 : UINT64_MAX; break;
    case 1: n = 8; break;
    case 2: n = varint(m, &n) ? n : UINT64_MAX; break;
    case 5: n = 4; break;
    default: n = UINT64_MAX; break;
    }
    if (n > (uint64_t)(m->end - m->p)) {
        m->p = at;              /* broken: the caller sees that the end was not reached */
        return false;
    }
    *bytes = (struct proto){m->p, m->p + n};
    m->p += n;
    return true;
}

static bool spm_piece(struct proto m, struct piece *out)
{
    uint64_t number, value;
    struct proto bytes;
    *out = (struct piece){.text = "", .kind = PIECE_NORMAL};
    while (field(&m, &number, &bytes, &value)) {
        if (number == 1) {
            out->text = (const char *)bytes.p;
            out->n = (size_t)(bytes.end - bytes.p);
        } else if (number == 2 && bytes.end - bytes.p == 4) {
            memcpy(&out->score, bytes.p, 4);
        } else if (number == 3) {
            out->kind = value >= PIECE_NORMAL && value <= PIECE_BYTE ? (int32_t)value : PIECE_NORMAL;
        }
    }
    return m.p == m.end;
}

/* The number of a varint field inside a message, or fallback. */
static uint64_t sub_value(struct proto m, uint64_t wanted, uint64_t fallback)
{
    uint64_t number, value;
    struct proto bytes;
    while (field(&m, &number, &bytes, &value))
        if (number == wanted)
            fallback = value;
    return fallback;
}

int exportpieces_spm(struct pieces *p, const uint8_t *bytes, size_t n, const char *where,
                     struct err *err)
{
    enum { PIECES = 1, TRAINER = 2, NORMALIZER = 3, MODEL_TYPE = 3, ADD_DUMMY_PREFIX = 3, UNIGRAM = 1 };
    struct proto m = {bytes, bytes + n}, sub;
    uint64_t number, value, kind = UNIGRAM;
    int id = 0;
    p->spm = p->space_prefix = true;
    while (field(&m, &number, &sub, &value)) {
        struct piece piece;
        if (number == PIECES && !spm_piece(sub, &piece))
            break;
        if (number == PIECES && id < p->n)
            p->piece[id++] = piece;
        if (number == TRAINER)
            kind = sub_value(sub, MODEL_TYPE, UNIGRAM);
        if (number == NORMALIZER)
            p->space_prefix = sub_value(sub, ADD_DUMMY_PREFIX, 1) != 0;
    }
    if (m.p != m.end || id == 0)
        return err_set(err, ERR_FORMAT, "%s: is no SentencePiece model (damaged file?)", where);
    if (kind == UNIGRAM)
        return err_set(err, ERR_FORMAT, "%s: is of type Unigram; language models of these architectures"
                       " and their GGUF files have BPE vocabularies", where);
    return ERR_OK;
}

/* --- added tokens */

static void add_one(struct pieces *p, json_int_t id, const json_t *entry)
{
    const char *text = json_string_value(json_object_get(entry, "content"));
    if (id < 0 || id >= p->n || !text)
        return;
    struct piece *piece = &p->piece[id];
    size_t n = strlen(text);
    /* Models mark control tokens carelessly; what is written like one is one. */
    bool control = json_is_true(json_object_get(entry, "special"))
                   || (n > 4 && strncmp(text, "<|", 2) == 0 && strcmp(text + n - 2, "|>") == 0);
    if (!piece->text)
        *piece = (struct piece){text, n, -1000.0f, PIECE_NORMAL};
    if (piece->kind == PIECE_NORMAL)
        piece->kind = control ? PIECE_CONTROL : PIECE_USER_DEFINED;
}

void exportpieces_added(struct pieces *p, const json_t *list, const json_t *table)
{
    const char *key;
    json_t *entry;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i), *id = json_object_get(e, "id");
        add_one(p, json_is_integer(id) ? json_integer_value(id) : -1, e);
    }
    json_object_foreach((json_t *)table, key, entry)
        add_one(p, strtoll(key, NULL, 10), entry);
}

/* --- the name of the pre-tokenizer */

#define CLITICS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS(digits) \
    CLITICS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(clitics, digits) \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" clitics "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER \
    "*" clitics "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL

/* Told apart by a pattern that only they have. */
static const struct { const char *pattern, *name; } known[] = {
    {WORDS("\\p{N}"), "qwen2"},
    {CASED(CLITICS "?", "\\p{N}{1,3}"), "gpt-4o"},
    {CASED("", "\\p{N}"), "tekken"},
    {"[一-龥぀-ゟ゠-ヿ]+", "deepseek-v3"},
    {"\\s?\\p{P}+", "deepseek-coder"},
    {"[0-9][0-9][0-9]", "falcon"},
};

static const char *known_pattern(const json_t *part, bool ignore_merges)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    if (!regex)
        return NULL;
    if (strcmp(regex, WORDS("\\p{N}{1,3}")) == 0)
        return ignore_merges ? "llama-bpe" : "dbrx";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(regex, known[i].pattern) == 0)
            return known[i].name;
    return strncmp(regex, "\\s?[A-Za-z", 10) == 0 ? "deepseek-llm" : NULL;
}

const char *exportpieces_pre(const json_t *root)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer"), *list = json_object_get(pre, "pretokenizers");
    bool ignore = json_is_true(json_object_get(json_object_get(root, "model"), "ignore_merges"));
    size_t n = list ? json_array_size(list) : 1;
    bool others = false, digits = false;
    for (size_t i = 0; i < n; i++) {
        const json_t *part = list ? json_array_get(list, i) : pre;
        const char *name = known_pattern(part, ignore), *type = type_of(part);
        if (name)
            return name;
        digits |= strcmp(type, "Digits") == 0 && json_is_true(json_object_get(part, "individual_digits"));
        others |= strcmp(type, "ByteLevel") != 0 && !digits;
    }
    const json_t *bytes = part_of_type(pre, "ByteLevel");
    if (others || !bytes || json_is_false(json_object_get(bytes, "use_regex")))
        return NULL;
    return digits ? "starcoder" : "gpt-2";
}
