/* make_vocab.h - a vocabulary of our own for models with random weights.
 * Why:    a model file needs a tokenizer, and one made here needs no outside data.
 * What:   byte-level BPE as GGUF has it ("gpt2"): <s>, </s>, the 256 bytes, then merges learned from a
 *         text in make_vocab.c, then unused filler up to the size asked for. Same size, same bytes.
 * Owner:  the struct owns its arrays; make_vocab_free.
 * Ranks:  not collective. */
#ifndef MUSTER_MAKE_VOCAB_H
#define MUSTER_MAKE_VOCAB_H

#include <stdbool.h>
#include <stdint.h>

enum { MAKE_VOCAB_MIN = 258, MAKE_VOCAB_TOKEN_MAX = 64 };

struct make_vocab {
    int n, n_merges;
    char (*token)[MAKE_VOCAB_TOKEN_MAX];    /* [n] in GPT-2's letters for bytes, NUL-terminated UTF-8 */
    int32_t *type;                          /* [n] 1 normal, 3 control, 5 unused */
    char (*merge)[MAKE_VOCAB_TOKEN_MAX];    /* [n_merges] "left right", best first */
    bool *readable;                         /* [n] printable ASCII: what a demo should print */
};

/* n >= MAKE_VOCAB_MIN; at most max_merges are learned. */
void make_vocab(struct make_vocab *v, int n, int max_merges);
void make_vocab_free(struct make_vocab *v);

#endif
