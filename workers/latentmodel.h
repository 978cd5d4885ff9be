/* latentmodel.h - a diffusion model whose denoiser is told a class or nothing, and whose numbers may be an
 * autoencoder's latents.
 * Folder: model_index.json, scheduler/, transformer/ (DiTTransformer2DModel), vae/ where it has one; or one
 *         file of a small denoiser, whose schedule is known by its kind.
 * Shapes: x [n, channels, h, w]; pictures [n, 3, pixels h, pixels w] in -1..1.
 * Owner:  the struct owns weights and configuration.
 * Ranks:  not collective. */
#ifndef MUSTER_LATENTMODEL_H
#define MUSTER_LATENTMODEL_H

#include "workers/models/imagemodel.h"

struct latentmodel {
    struct imagemodel model;
    struct imagepart *denoiser, *vae;   /* vae: NULL where x is a picture */
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

/* labels [n] where the denoiser takes classes (their count: none), else NULL. *out [n, channels, h, w] in
 * nn's memory until its next reset; what a denoiser says of the variance is left out. nn is reset first. */
int latentmodel_denoise(struct latentmodel *m, struct nn *nn, int n, const float *x, int height, int width,
                        const double *times, const float *labels, const float **out, struct err *err);
/* x [channels, h, w] -> *out [3, pixels h, pixels w] in nn's memory. nn is reset first. */
int latentmodel_decode(struct latentmodel *m, struct nn *nn, const float *x, int height, int width,
                       const float **out, struct err *err);

#endif
