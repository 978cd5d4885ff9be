/* textfiles.h - the texts of .txt and .jsonl files, one after the other.
 * Why:    tokenizers and language models are trained on ordinary files.
 * Input:  .jsonl: a text for each line, the string under "text"; or "prompt" and "completion", which follow
 *         each other as they are, and of which a model learns the completion only.
 *         Any other file is one text. A folder stands for the files in it that end in .txt or .jsonl, in
 *         the order of their names.
 * Owner:  the reader owns its list and the text it handed out last.
 * Ranks:  not collective. */
#ifndef MUSTER_TEXTFILES_H
#define MUSTER_TEXTFILES_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

struct textfiles;

/* Every path must be there; a folder without texts is an error. */
int textfiles_open(struct textfiles **f, const char *const *path, int n_paths, struct err *err);
void textfiles_close(struct textfiles *f);
/* The next text [n], checked UTF-8; *text NULL behind the last. It lives until the next call. Errors name
 * file and line. */
int textfiles_next(struct textfiles *f, const char **text, size_t *n, struct err *err);
/* How many bytes of the text handed out last are its prompt; 0: none is. */
size_t textfiles_prompt(const struct textfiles *f);
void textfiles_rewind(struct textfiles *f);
/* Share of all bytes that was read, 0..1. */
double textfiles_share(const struct textfiles *f);

#endif
