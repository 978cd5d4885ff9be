/* captiontokens.h - the tokenizer of a training run: opened from a folder, or learnt from the built-in
 * world; and its files copied to where the model goes.
 * Owner:  the caller closes the tokenizer.
 * Ranks:  the coordinator only. */
#ifndef MUSTER_CAPTIONTOKENS_H
#define MUSTER_CAPTIONTOKENS_H

#include "coordinator/text/bpetrain.h"
#include "coordinator/text/tokenizer.h"

/* From vocab.json + merges.txt, tokenizer.json and what else a folder has of a tokenizer. */
int captiontokens_open(struct tokenizer **t, const char *folder, struct err *err);
/* The files of a tokenizer from one folder to another (made if it is not there). */
int captiontokens_copy(const char *from, const char *to, struct err *err);
/* What the built-in world has to say, into a trainer's counts: captions for CLIP's kind of vocabulary,
 * texts for the other. */
int captiontokens_count(struct bpetrain *t, enum bpetrain_kind kind, uint64_t seed, struct err *err);
/* Learns a vocabulary of those, into a folder. */
int captiontokens_learn(const char *folder, enum bpetrain_kind kind, uint64_t seed, int vocab, int length,
                        struct err *err);

#endif
