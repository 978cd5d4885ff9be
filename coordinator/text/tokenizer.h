/* tokenizer.h - text to token ids and back.
 * Why:    coordinators see text, workers see ids; the raw tokenizer bytes come from worker 0 as
 *         TokenizerSpec and are understood only here.
 * Input:  a container that workers/models/modelconfig.h writes: magic "MTOK", then entries
 *         {u32 name length, name, u64 length, bytes}: "gguf" (a GGUF header holding only tokenizer.*
 *         and general.architecture keys and no tensors), or "tokenizer.json",
 *         "tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "vocab.json",
 *         "merges.txt", "chat_template.jinja" as they are on disk.
 * Owner:  the tokenizer copies what it needs.
 * Threads: const after open: may be shared. Ranks: not collective. */
#ifndef MUSTER_TOKENIZER_H
#define MUSTER_TOKENIZER_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

int tokenizer_open(struct tokenizer **t, const uint8_t *bytes, size_t n, struct err *err);
void tokenizer_close(struct tokenizer *t);

int tokenizer_vocab_size(const struct tokenizer *t);
int tokenizer_bos(const struct tokenizer *t);           /* -1: none */
int tokenizer_eos(const struct tokenizer *t);
bool tokenizer_is_control(const struct tokenizer *t, int id);
/* The text of a token as the vocabulary has it; NULL when there is none. */
const char *tokenizer_token_text(const struct tokenizer *t, int id);
int tokenizer_id(const struct tokenizer *t, const char *text);      /* whole token's text, -1 */
const char *tokenizer_chat_template(const struct tokenizer *t, const char *name);   /* or NULL */

/* Growing array of ids; the caller frees with token_list_free. */
struct token_list { int32_t *id; int n, cap; };
void token_list_free(struct token_list *l);

struct tokenize_options {
    bool add_special;       /* BOS / EOS / template as the model wants */
    bool parse_special;     /* control tokens written in the text become their ids */
};
/* text [n] bytes UTF-8; ERR_FORMAT with the offset of the first byte that is not. Appends to out. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                     struct tokenize_options opt, struct token_list *out, struct err *err);

/* malloc'd NUL-terminated text; *n bytes (may hold NULs). Unknown ids are ERR_INVAL. */
int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n_ids, bool skip_special,
                     char **text, size_t *n, struct err *err);

/* Streaming decode: push ids one by one; bytes come out when they are whole characters and equal, put
 * together, tokenizer_decode of all ids after the prompt's. */
struct token_stream;
int token_stream_open(struct token_stream **s, const struct tokenizer *t, const int32_t *prompt,
                      int n_prompt, bool skip_special, struct err *err);
/* *text borrows until the next call. */
int token_stream_push(struct token_stream *s, int32_t id, const char **text, size_t *n,
                      struct err *err);
int token_stream_finish(struct token_stream *s, const char **text, size_t *n, struct err *err);
void token_stream_close(struct token_stream *s);

#endif
