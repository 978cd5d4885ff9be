/* bpetrain.h - makes the vocabulary of a model from text: byte-level BPE, or CLIP's kind of BPE.
 * Why:    a model that is trained here needs a tokenizer, in the files that others open.
 * Result: the same text, in any order and cut into any files, gives the same vocabulary.
 * Owner:  the trainer owns its tables.
 * Ranks:  not collective. */
#ifndef MUSTER_BPETRAIN_H
#define MUSTER_BPETRAIN_H

#include "proto/err.h"

#include <stddef.h>

/* BYTES: GPT-2's words, in bytes; <|endoftext|> is id 0, begins every text and ends it; written as
 *        tokenizer.json and tokenizer_config.json.
 * CLIP:  lower case, words with "</w>" behind their last symbol, the two specials last; written as
 *        vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json. */
enum bpetrain_kind { BPETRAIN_BYTES, BPETRAIN_CLIP };
/* The smallest vocabularies: all bytes (CLIP: each twice) and the specials. */
enum { BPETRAIN_BYTES_MIN = 257, BPETRAIN_CLIP_MIN = 514, BPETRAIN_VOCAB_MAX = 1 << 20 };

struct bpetrain;

int bpetrain_open(struct bpetrain **t, enum bpetrain_kind kind, struct err *err);
void bpetrain_close(struct bpetrain *t);
/* Counts the words of one text [n]; ERR_FORMAT with the offset where it is not UTF-8. */
int bpetrain_add(struct bpetrain *t, const char *text, size_t n, struct err *err);
/* After the last text, once: learns a vocabulary of at most `vocab` entries (fewer when the text has no
 * more pairs that occur twice). */
int bpetrain_learn(struct bpetrain *t, int vocab, struct err *err);
int bpetrain_vocab(const struct bpetrain *t);
/* Writes the files into a folder that exists. length: tokens of the longest text that the model takes. */
int bpetrain_save(const struct bpetrain *t, const char *folder, int length, struct err *err);

#endif
