/* tokspiece.c - builds a tokenizer from SentencePiece's own file (spiece.model), of the kind that T5 has.
 * Why:    folders of PixArt and SD3 hold no tokenizer.json.
 * Format: protobuf; of ModelProto: 1 pieces {1 text, 2 score, 3 type}, 2 trainer {3 kind}, 3 normalizer
 *         {2 charsmap, 3 a blank in front, 4 extra blanks out}. Types are numbered as in vocab.h. */
#include "coordinator/text/tokenizerparts.h"
#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5, KIND_UNIGRAM = 1 };

struct span { const uint8_t *p; size_t n; };
struct field { uint64_t number, value; int kind; struct span bytes; };

static bool read_varint(struct span *s, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (s->n == 0)
            return false;
        uint8_t b = *s->p++;
        s->n--;
        *v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return true;
    }
    return false;
}

/* The next field of a message; false at its end, and (*broken) where it makes no sense. */
static bool next_field(struct span *s, struct field *f, bool *broken)
{
    uint64_t key;
    if (s->n == 0)
        return false;
    *broken = true;
    if (!read_varint(s, &key))
        return false;
    memset(f, 0, sizeof *f);
    f->number = key >> 3;
    f->kind = (int)(key & 7);
    uint64_t n = f->kind == WIRE_64 ? 8 : f->kind == WIRE_32 ? 4 : 0;
    if ((f->kind == WIRE_VARINT && !read_varint(s, &f->value)) ||
        (f->kind == WIRE_BYTES && !read_varint(s, &n)) || n > s->n ||
        (f->kind != WIRE_VARINT && f->kind != WIRE_64 && f->kind != WIRE_BYTES && f->kind != WIRE_32))
        return false;
    f->bytes = (struct span){s->p, (size_t)n};
    s->p += n;
    s->n -= (size_t)n;
    *broken = false;
    return true;
}

static int broken_file(struct err *err)
{
    return err_set(err, ERR_FORMAT, "spiece.model is no SentencePiece file (incomplete download?)");
}

struct spieces { double *score; int n, cap; int32_t unknown; };

static int add_piece(struct tokenizer *t, struct spieces *list, struct span s, struct err *err)
{
    struct span text = {NULL, 0};
    struct field f;
    float score = 0;
    uint64_t type = VOCAB_NORMAL;
    bool broken = false;
    while (next_field(&s, &f, &broken)) {
        if (f.number == 1 && f.kind == WIRE_BYTES)
            text = f.bytes;
        else if (f.number == 2 && f.kind == WIRE_32)
            memcpy(&score, f.bytes.p, sizeof score);
        else if (f.number == 3 && f.kind == WIRE_VARINT)
            type = f.value;
    }
    if (broken || type < VOCAB_NORMAL || type > VOCAB_BYTE || list->n == VOCAB_MAX)
        return broken_file(err);
    if (list->n == list->cap) {
        int cap = list->cap > 0 ? 2 * list->cap : 4096;
        double *grown = realloc(list->score, (size_t)cap * sizeof *grown);
        if (grown == NULL)
            return err_set(err, ERR_NOMEM, "spiece.model: no memory for its pieces");
        list->score = grown;
        list->cap = cap;
    }
    if (type == VOCAB_UNKNOWN)
        list->unknown = list->n;
    list->score[list->n] = (double)score;
    return vocab_set(&t->vocab, list->n++, (const char *)text.p, text.n, (enum vocab_type)type, err);
}

/* What stays whole in a text: special pieces before it is normalised, user-defined ones after. */
static int add_whole(struct tokenizer *t, struct err *err)
{
    for (int32_t id = 0; id < t->vocab.n; id++) {
        const struct vocab_token *v = &t->vocab.token[id];
        const char *text = vocab_text(&t->vocab, id);
        bool control = v->type == VOCAB_CONTROL || v->type == VOCAB_UNKNOWN;
        if (v->len > 0 && control)
            TRY(added_add(&t->raw, text, v->len, (struct added_token){.id = id, .special = true}, err));
        else if (v->len > 0 && v->type == VOCAB_USER)
            TRY(trie_add(&t->user, text, v->len, id, err));
    }
    return ERR_OK;
}

static int add_normalizer(struct tokenizer *t, struct span s, struct err *err)
{
    struct normalize_step step = {.kind = NORMALIZE_SENTENCEPIECE, .prefix = true, .squeeze = true,
                                  .user = &t->user};
    struct span map = {NULL, 0};
    struct field f;
    bool broken = false;
    while (next_field(&s, &f, &broken)) {
        if (f.number == 2 && f.kind == WIRE_BYTES)
            map = f.bytes;
        else if (f.number == 3 && f.kind == WIRE_VARINT)
            step.prefix = f.value != 0;
        else if (f.number == 4 && f.kind == WIRE_VARINT)
            step.squeeze = f.value != 0;
    }
    if (broken)
        return broken_file(err);
    if (map.n > 0)
        TRY(charsmap_open(&step.map, map.p, map.n, err));
    struct detokenizer *d = &t->detokenizer;
    d->byte_fallback = d->spoken = true;
    memcpy(d->meta, UNICODE_META, UNICODE_META_BYTES);
    if (step.prefix) {
        strcpy(d->strip, " ");
        d->strip_start = 1;
    }
    return normalizer_add(&t->normalizer, step, err);
}

static int check_kind(struct span s, struct err *err)
{
    struct field f;
    bool broken = false;
    while (next_field(&s, &f, &broken))
        if (f.number == 3 && f.kind == WIRE_VARINT && f.value != KIND_UNIGRAM)
            return err_set(err, ERR_FORMAT, "spiece.model is of kind %d; only Unigram (1) is read: add a "
                           "tokenizer.json", (int)f.value);
    return broken ? broken_file(err) : ERR_OK;
}

static int build(struct tokenizer *t, struct spieces *list, struct span s, struct err *err)
{
    struct span normalizer = {NULL, 0};
    struct field f;
    bool broken = false;
    TRY(trie_init(&t->user, err));
    while (next_field(&s, &f, &broken)) {
        if (f.number == 1 && f.kind == WIRE_BYTES)
            TRY(add_piece(t, list, f.bytes, err));
        else if (f.number == 2 && f.kind == WIRE_BYTES)
            TRY(check_kind(f.bytes, err));
        else if (f.number == 3 && f.kind == WIRE_BYTES)
            normalizer = f.bytes;
    }
    if (broken || list->n == 0)
        return broken_file(err);
    TRY(vocab_index(&t->vocab, true, err));
    TRY(add_whole(t, err));
    TRY(add_normalizer(t, normalizer, err));
    return unigram_init(&t->unigram, &t->vocab, list->score, list->unknown, true, err);
}

int tokspiece_build(struct tokenizer *t, const uint8_t *bytes, size_t n, struct err *err)
{
    struct spieces list = {.unknown = -1};
    t->model = TOKENIZER_UNIGRAM;
    int rc = build(t, &list, (struct span){bytes, n}, err);
    free(list.score);
    return rc;
}
