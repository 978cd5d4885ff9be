/* prompttext.h - the text side of a diffusion model: from token ids to what its denoiser is told.
 * Kinds:  one CLIP (context: its states; pooled: their projection); one T5 (context); or three, as published
 *         SD3 folders have them: the states before the last layer of two CLIP, side by side and widened with
 *         zeros to T5's, then T5's, along the tokens; pooled is both projections. Without T5 (text_encoder_3
 *         left out) there are zeros in its place. A denoiser that takes a mask gets one.
 * Ids:    of one encoder a list; of several, for each its count, then so many ids. An encoder's own are
 *         begin and end included, not padded.
 * Shapes: an encoded prompt is context [rows, width], pooled [pooled], mask [rows]; the last two where the
 *         denoiser takes them.
 * Owner:  borrows the model's parts.
 * Ranks:  not collective. */
#ifndef MUSTER_PROMPTTEXT_H
#define MUSTER_PROMPTTEXT_H

#include "workers/models/imagemodel.h"

enum { PROMPTTEXT_MAX = 3 };

/* part NULL: left out. tokens: of a prompt, at most; bos, eos -1: none. */
struct prompttext_encoder {
    struct imagepart *part;
    const char *tokenizer;      /* folder of its tokenizer in the model's */
    int tokens, bos, eos, pad;
};
struct prompttext {
    struct prompttext_encoder encoder[PROMPTTEXT_MAX];
    int n;                      /* 0: the denoiser takes no text */
    int rows, width, pooled;
    bool masked;
};

/* What the denoiser's text comes from; no weights. */
int prompttext_open(struct prompttext *t, struct imagemodel *m, const struct imagepart *denoiser,
                    struct err *err);
int prompttext_load(struct prompttext *t, struct err *err);
uint64_t prompttext_parameters(const struct prompttext *t);

int64_t prompttext_floats(const struct prompttext *t);
/* Ids that a prompt may have, counts included. */
int prompttext_ids_max(const struct prompttext *t);
/* ids [n] -> out [prompttext_floats]. nn is reset. */
int prompttext_encode(struct prompttext *t, struct nn *nn, const uint32_t *ids, int n, float *out,
                      struct err *err);
/* An encoder's input "ids" [1, tokens]: ids [n], then pad, in nn's memory. nn is reset. */
int prompttext_pad(struct nn *nn, int tokens, int pad, const uint32_t *ids, int n, struct imagetensors *in,
                   struct err *err);
/* The denoiser's inputs of n encoded prompts, in nn's memory. */
void prompttext_put(const struct prompttext *t, struct nn *nn, int n, const float *const *prompts,
                    struct imagetensors *in);

#endif
