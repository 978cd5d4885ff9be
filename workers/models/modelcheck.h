/* modelcheck.h - what both config readers share: limits, the arrays of a description, rope factors.
 * Why:    numbers of a foreign file are checked once, in one place, before anything is allocated by
 *         them; an error names the file and the key.
 * Owner:  arrays live in an arena behind model_config.owned (model_config_free).
 * Ranks:  not collective. */
#ifndef MUSTER_MODELCHECK_H
#define MUSTER_MODELCHECK_H

#include "workers/models/archs.h"

enum { MODEL_DIM_MAX = 1 << 20, MODEL_FFN_MAX = 1 << 22, MODEL_VOCAB_MAX = 1 << 24,
       MODEL_CONTEXT_MAX = 1 << 30 };

/* Copies what the row says into c and names it. */
void modelcheck_start(struct model_config *c, const struct arch *row, const char *format);

/* Checks n_layers, head_dim and n_rot and makes room for the per-layer array and the rope factors. */
int modelcheck_reserve(struct model_config *c, const char *where, struct err *err);

/* Room for n_rot / 2 factors, after modelcheck_reserve; at most four times. */
float *modelcheck_factors(struct model_config *c);

/* Every number against its limit and against the others. Keys are named as the format names them. */
int modelcheck_all(const struct model_config *c, const char *where, struct err *err);

/* Marks layer i local (window 0: local in its rope only) or global. */
void modelcheck_layer(struct model_config *c, int i, bool local, int window);

/* Adds an id to eos, once. An id past the vocabulary can never be sampled and is dropped (trimmed
 * models keep such lists). */
void modelcheck_eos(struct model_config *c, double id);

/* Natural logarithm of x > 0 from + - * / alone: the same bits on every processor. */
double modelcheck_ln(double x);

/* YaRN's factor on cos and sin: 1 + 0.1 mscale ln(factor), 1 for factors up to 1. */
double modelcheck_yarn_mscale(double factor, double mscale);
/* LongRoPE's: sqrt(1 + ln(s) / ln(original)) for s = context / original, 1 for s up to 1. */
double modelcheck_longrope_scale(double s, double original);

/* path for an error line: its last 100 bytes. */
const char *modelcheck_where(const char *path, char *buf, size_t cap);

#endif
