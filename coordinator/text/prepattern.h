/* prepattern.h - how GGUF vocabularies cut text: by the name in tokenizer.ggml.pre.
 * Why:    a GGUF names its pre-tokenizer and does not hold it.
 * Ranks:  not collective. */
#ifndef MUSTER_PREPATTERN_H
#define MUSTER_PREPATTERN_H

#include "proto/err.h"

#include <stdbool.h>

enum { PREPATTERN_PASSES_MAX = 8 };

struct prepattern {
    const char *pass[PREPATTERN_PASSES_MAX];    /* matches stand alone, pass after pass; NULL ends */
    bool ignore_merges;         /* a piece that is a token is that token */
    bool nfc;                   /* text is put in normal form C first */
    bool add_bos;               /* unless tokenizer.ggml.add_bos_token says */
};

/* NULL: unknown name. */
const struct prepattern *prepattern_find(const char *name);

#endif
