/* latentmodel.h - a diffusion model whose numbers are an autoencoder's latents, or whose denoiser is told a
 * class or nothing.
 * Folder: model_index.json, scheduler/, transformer/ (DiTTransformer2DModel, or PixArtTransformer2DModel with
 *         text_encoder/ of T5), vae/ where it has one; or one file of a small denoiser, whose schedule is
 *         known by its kind.
 * Shapes: x [n, channels, h, w]; pictures [n, 3, pixels h, pixels w] in -1..1.
 * Owner:  the struct owns weights and configuration.
 * Ranks:  not collective. */
#ifndef MUSTER_LATENTMODEL_H
#define MUSTER_LATENTMODEL_H

#include "workers/models/imagemodel.h"

struct latentmodel {
    struct imagemodel model;
    struct imagepart *denoiser, *vae, *text;    /* vae: NULL where x is a picture; text: where it is told */
    int tokens, eos;                    /* of a prompt, at most; what ends it */
    json_t *schedule;                   /* as scheduler_config.json */
    int pixels;                         /* of a picture to a number of x, each way */
    double gain;                        /* without a vae: picture = gain x */
};

/* Is path a folder or file for this? false also where nothing can be read. */
bool latentmodel_is(const char *path);
int latentmodel_open(struct latentmodel *m, const char *path, struct err *err);
void latentmodel_close(struct latentmodel *m);      /* accepts a zeroed one */
uint64_t latentmodel_parameters(const struct latentmodel *m);
/* SHA-256 of the denoiser's files, in hex. */
int latentmodel_hash(const struct latentmodel *m, char hex[65], struct err *err);

/* Floats of an encoded prompt: what its tokens became, and which are there; 0: it takes none. */
int64_t latentmodel_prompt_floats(const struct latentmodel *m);
/* ids [n], at most m->tokens -> out [prompt_floats]. nn is reset. */
int latentmodel_encode(struct latentmodel *m, struct nn *nn, const uint32_t *ids, int n, float *out,
                       struct err *err);

/* prompts [n]: encoded ones; where the denoiser takes classes a class each (their count: none); else not
 * looked at. *out [n, channels, h, w] in
 * nn's memory until its next reset; what a denoiser says of the variance is left out. nn is reset first. */
int latentmodel_denoise(struct latentmodel *m, struct nn *nn, int n, const float *x, int height, int width,
                        const double *times, const float *const *prompts, const float **out,
                        struct err *err);
/* x [channels, h, w] -> *out [3, pixels h, pixels w] in nn's memory. nn is reset first. */
int latentmodel_decode(struct latentmodel *m, struct nn *nn, const float *x, int height, int width,
                       const float **out, struct err *err);

#endif
