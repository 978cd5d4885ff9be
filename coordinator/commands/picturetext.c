#include "coordinator/commands/picturetext.h"

#include "coordinator/commands/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENIZER_EMPTY = 4,         /* bytes of a container without entries */
       WARNED_MAX = 20, WORD_MAX = 64 };

static int add_encoder(struct picturetext *t, const ProtobufCBinaryData *tokenizer,
                       struct picturetext_encoder e, struct err *err)
{
    if (t->n_encoders == PICTURETEXT_ENCODERS)
        return err_set(err, ERR_PEER, "%s: more than %d text encoders", t->spec->name, PICTURETEXT_ENCODERS);
    struct picturetext_encoder *made = &t->encoder[t->n_encoders++];
    *made = e;
    if (tokenizer->len > TOKENIZER_EMPTY &&
        tokenizer_open(&made->tokenizer, tokenizer->data, tokenizer->len, err) != ERR_OK)
        return err_prefix(err, "%s", t->spec->name);
    return ERR_OK;
}

int picturetext_open(struct picturetext *t, const Muster__ImageSpec *spec, struct err *err)
{
    memset(t, 0, sizeof *t);
    t->spec = spec;
    t->unknown = calloc(WARNED_MAX, sizeof *t->unknown);
    if (t->unknown == NULL)
        return err_set(err, ERR_NOMEM, "no memory for words");
    const struct picturetext_encoder first = {NULL, spec->tokens, spec->vocab, spec->bos, spec->eos};
    TRY(add_encoder(t, &spec->tokenizer, first, err));
    for (size_t i = 0; i < spec->n_more_texts; i++) {
        const Muster__ImageText *m = spec->more_texts[i];
        TRY(add_encoder(t, &m->tokenizer,
                        (struct picturetext_encoder){NULL, m->tokens, m->vocab, m->bos, m->eos}, err));
    }
    return ERR_OK;
}

void picturetext_close(struct picturetext *t)
{
    for (int i = 0; i < t->n_encoders; i++)
        tokenizer_close(t->encoder[i].tokenizer);
    for (int i = 0; i < t->n_unknown; i++)
        free((char *)(uintptr_t)t->unknown[i]);
    free(t->unknown);
    memset(t, 0, sizeof *t);
}

/* --- warnings */

static bool knows(const Muster__ImageSpec *s, const char *word)
{
    for (size_t i = 0; i < s->n_words; i++)
        if (strcmp(s->words[i], word) == 0)
            return true;
    return false;
}

static bool warned(const struct picturetext *t, const char *word)
{
    for (int i = 0; i < t->n_unknown; i++)
        if (strcmp(t->unknown[i], word) == 0)
            return true;
    return t->n_unknown == WARNED_MAX;
}

static bool in_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80 || c == '\'';
}

/* Words in lower case; other scripts as they are. */
static void look_at_words(struct picturetext *t, const char *text)
{
    for (const char *p = text; *p != '\0';) {
        char word[WORD_MAX];
        int n = 0;
        while (*p != '\0' && !in_word((unsigned char)*p))
            p++;
        for (; in_word((unsigned char)*p); p++)
            if (n < WORD_MAX - 1)
                word[n++] = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
        word[n] = '\0';
        if (n == 0 || knows(t->spec, word) || warned(t, word))
            continue;
        fprintf(stderr, "warning: the text encoder never saw '%s' in training\n", word);
        char *copy = strdup(word);
        if (copy != NULL)
            t->unknown[t->n_unknown++] = copy;
    }
}

static void say_cut(struct picturetext *t, const struct picturetext_encoder *e, const struct picturejob *j,
                    const int32_t *ids, int n)
{
    char *text = NULL, which[16] = "";
    size_t bytes;
    if (t->n_cut++ >= WARNED_MAX)
        return;
    if (e->tokenizer != NULL)
        tokenizer_decode(e->tokenizer, ids, n, true, &text, &bytes, NULL);
    if (t->n_encoders > 1)
        snprintf(which, sizeof which, " %d", (int)(e - t->encoder) + 1);
    if (j->line > 0)
        fprintf(stderr, "warning: line %d: ", j->line);
    else
        fprintf(stderr, "warning: ");
    fprintf(stderr, "the prompt is longer than the %u tokens that the text encoder%s takes; cut "
            "off: '%.200s'\n", e->tokens, which, text != NULL ? text : "");
    free(text);
}

/* --- ids */

/* Begin, the ids that fit, end: after what *out holds; of one encoder among several, with their count. */
static int frame(struct picturetext *t, const struct picturetext_encoder *e, const struct picturejob *j,
                 const int32_t *ids, int n, uint32_t **out, int *n_out, struct err *err)
{
    int room = (int)e->tokens - (e->bos >= 0) - (e->eos >= 0), k = *n_out + (t->n_encoders > 1);
    if (n > room)
        say_cut(t, e, j, ids + room, n - room);
    n = n < room ? n : room;
    uint32_t *grown = realloc(*out, ((size_t)k + (size_t)n + 2) * sizeof *grown);
    if (grown == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a prompt");
    *out = grown;
    if (e->bos >= 0)
        grown[k++] = (uint32_t)e->bos;
    for (int i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= e->vocab)
            return err_set(err, ERR_INVAL, "id %d lies outside the text encoder's vocabulary of %u", ids[i],
                           e->vocab);
        grown[k++] = (uint32_t)ids[i];
    }
    if (e->eos >= 0)
        grown[k++] = (uint32_t)e->eos;
    if (t->n_encoders > 1)
        grown[*n_out] = (uint32_t)(k - *n_out - 1);
    *n_out = k;
    return ERR_OK;
}

static int encode_with(struct picturetext *t, const struct picturetext_encoder *e, const struct picturejob *j,
                       const char *text, uint32_t **out, int *n_out, struct err *err)
{
    struct token_list list = {0};
    if (e->tokenizer == NULL && text[0] != '\0')
        return err_set(err, ERR_FORMAT, "%s: no tokenizer/ in it, so a prompt must come as --prompt-ids",
                       t->spec->name);
    int rc = text[0] != '\0' ? tokenizer_encode(e->tokenizer, text, strlen(text),
                                                (struct tokenize_options){0}, &list, err) : ERR_OK;
    if (rc == ERR_OK)
        rc = frame(t, e, j, list.id, list.n, out, n_out, err);
    token_list_free(&list);
    return rc;
}

/* *out [*n_out] is the caller's to free, also after an error. */
static int encode_text(struct picturetext *t, const struct picturejob *j, const char *text, uint32_t **out,
                       int *n_out, struct err *err)
{
    if (text == NULL)
        text = "";
    if (t->spec->n_words > 0)
        look_at_words(t, text);
    *n_out = 0;
    for (int i = 0; i < t->n_encoders; i++)
        TRY(encode_with(t, &t->encoder[i], j, text, out, n_out, err));
    return ERR_OK;
}

static int encode_ids(struct picturetext *t, struct picturejob *j, struct err *err)
{
    int32_t *ids = NULL;
    int n = 0;
    if (t->n_encoders > 1)
        return err_set(err, ERR_INVAL, "--prompt-ids: %s has %d text encoders, so a prompt comes in words",
                       t->spec->name, t->n_encoders);
    if (cli_ids(err, "--prompt-ids", j->ids, &ids, &n) != 0)
        return ERR_INVAL;
    int rc = frame(t, &t->encoder[0], j, ids, n, &j->token, &j->n_token, err);
    free(ids);
    return rc;
}

int picturetext_encode(struct picturetext *t, struct picturejob *j, struct err *err)
{
    if (t->spec->tokens == 0 && (j->prompt != NULL || j->ids != NULL))
        return err_set(err, ERR_INVAL, "%s takes no prompt%s", t->spec->name,
                       t->spec->classes > 0 ? ": name a class with --class" : "");
    if (t->spec->tokens == 0)
        return ERR_OK;
    if (j->prompt == NULL && j->ids == NULL)
        return err_set(err, ERR_INVAL, "a prompt is wanted, or --prompts FILE");
    TRY(j->ids != NULL ? encode_ids(t, j, err)
                       : encode_text(t, j, j->prompt, &j->token, &j->n_token, err));
    TRY(encode_text(t, j, j->negative, &j->negative_token, &j->n_negative_token, err));
    if (j->to != NULL)
        TRY(encode_text(t, j, j->to, &j->to_token, &j->n_to_token, err));
    return j->from != NULL ? encode_text(t, j, j->from, &j->from_token, &j->n_from_token, err) : ERR_OK;
}
