/* detokenizer.h - how the texts of tokens are put together again.
 * Why:    whole and streamed decoding must agree, so there is one machine, fed token by token; whole
 *         decoding is the stream of all tokens.
 * Owner:  a detokenizer is part of its tokenizer and const; a state belongs to one stream.
 * Ranks:  not collective. */
#ifndef MUSTER_DETOKENIZER_H
#define MUSTER_DETOKENIZER_H

#include "coordinator/text/vocab.h"

enum { DETOKENIZER_REPLACE_MAX = 4 };

struct detokenizer {
    bool byte_level;            /* texts are in GPT-2's alphabet */
    bool raw_added;             /* ... but not those of control and user-defined tokens (GGUF) */
    bool byte_fallback;         /* tokens <0xNN> are bytes */
    struct { char from[24], to[24]; } replace[DETOKENIZER_REPLACE_MAX];
    int n_replace;
    char meta[8];               /* Metaspace: this character is a blank, "" when unused ... */
    bool meta_drop_first;       /* ... and nothing in the first token */
    char suffix[24];            /* BPEDecoder: ends a word; a blank, nothing at the very end */
    bool blanks_between;        /* no decoder at all: tokens are words */
    bool spoken;                /* SentencePiece: a control token does not count as the first text, an
                                   unknown one is U+2047 between blanks */
    char strip[8];              /* this character is taken off ... */
    int strip_start, strip_stop;        /* ... so many times at the start, the end */
};

struct detokenize_state {
    struct textbuf bytes;       /* not whole characters yet */
    struct textbuf out;         /* text that is ready */
    struct textbuf text, spare; /* of the token at hand */
    int n_tokens;               /* fed so far */
    int stripped;               /* characters taken off at the start, -1: no more to take */
    int held;                   /* strip characters at the end that are held back */
    bool held_suffix;           /* a word ended: a blank if anything follows */
};

void detokenize_free(struct detokenize_state *s);
/* The next token; ready text is appended to s->out. */
int detokenize_push(const struct detokenizer *d, const struct vocab *v, struct detokenize_state *s,
                    int32_t id, struct err *err);
/* The end: what was held back is written. */
int detokenize_finish(const struct detokenizer *d, struct detokenize_state *s, struct err *err);

#endif
