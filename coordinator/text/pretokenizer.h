/* pretokenizer.h - cuts a text into the pieces that a model encodes one by one.
 * Why:    every vocabulary has its own way to cut; all are a list of a few kinds of steps.
 * Owner:  owns its steps and their patterns. Const once built: may be shared.
 * Ranks:  not collective. */
#ifndef MUSTER_PRETOKENIZER_H
#define MUSTER_PRETOKENIZER_H

#include "coordinator/text/pattern.h"
#include "coordinator/text/textbuf.h"

/* What becomes of the matches of a split. */
enum split_behavior {
    SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_MERGED_WITH_PREVIOUS, SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS
};
enum meta_scheme { META_NEVER, META_FIRST, META_ALWAYS };

enum { PRETOKENIZER_STEPS_MAX = 32 };

enum pretoken_kind { PRETOKEN_SPLIT, PRETOKEN_METASPACE, PRETOKEN_PREFIX_SPACE, PRETOKEN_BYTES };

struct pretoken_step {
    enum pretoken_kind kind;
    struct pattern *pattern;            /* split */
    enum split_behavior behavior;
    bool invert;                        /* what does not match counts as matches */
    char meta[8];                       /* metaspace: the character for a blank */
    enum meta_scheme scheme;
};

struct pretokenizer { struct pretoken_step step[PRETOKENIZER_STEPS_MAX]; int n; };

void pretokenizer_free(struct pretokenizer *p);

int pretokenizer_add_split(struct pretokenizer *p, const char *regex, size_t n,
                           enum split_behavior behavior, bool invert, struct err *err);
int pretokenizer_add_literal(struct pretokenizer *p, const char *text, size_t n,
                             enum split_behavior behavior, bool invert, struct err *err);
/* Blanks become `meta` (one character), one is put in front of pieces as scheme says; with `split`
 * pieces are cut before each. */
int pretokenizer_add_metaspace(struct pretokenizer *p, const char *meta, enum meta_scheme scheme,
                               bool split, struct err *err);
/* A blank in front of pieces that have none. */
int pretokenizer_add_prefix(struct pretokenizer *p, struct err *err);
/* Pieces are rewritten in GPT-2's alphabet of bytes. */
int pretokenizer_add_bytes(struct pretokenizer *p, struct err *err);

/* Cuts the pieces of t further, in place; spare is scratch. */
int pretokenizer_run(const struct pretokenizer *p, struct pieces *t, struct pieces *spare,
                     struct pattern_scratch *scratch, struct err *err);

#endif
