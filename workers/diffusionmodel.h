/* diffusionmodel.h - a diffusion model as its parts: text encoders, denoiser, autoencoder, schedule.
 * Folder: model_index.json, scheduler/, transformer/ (SD3Transformer2DModel, PixArtTransformer2DModel,
 *         DiTTransformer2DModel), text_encoder/ .. where it is told something (prompttext.h), vae/ where its
 *         numbers are an autoencoder's latents; or one file of a small denoiser, whose schedule is known by
 *         its kind.
 * Shapes: x [n, channels, h, w]; pictures [n, 3, pixels h, pixels w] in -1..1.
 * Owner:  the struct owns weights and configuration.
 * Ranks:  not collective, but for diffusionmodel_denoise by a group. */
#ifndef MUSTER_DIFFUSIONMODEL_H
#define MUSTER_DIFFUSIONMODEL_H

#include "workers/imagegroup.h"
#include "workers/prompttext.h"

struct diffusionmodel {
    struct imagemodel model;
    struct imagepart *denoiser, *vae;   /* vae: NULL where x is a picture */
    struct prompttext text;
    json_t *schedule;                   /* as scheduler_config.json */
    int pixels;                         /* of a picture to a number of x, each way */
    int channels, channels_out;         /* that the denoiser sees; of x */
    double gain;                        /* without a vae: picture = gain x */
};

/* Is the file that of a small denoiser? false also where nothing can be read. */
bool diffusionmodel_is_file(const char *path);
/* Configurations and headers, no weights. */
int diffusionmodel_open(struct diffusionmodel *m, const char *path, struct err *err);
/* The weights that this rank holds; text encoders and autoencoder go with the leader. */
int diffusionmodel_load(struct diffusionmodel *m, const struct netshard_held *held, struct err *err);
void diffusionmodel_close(struct diffusionmodel *m);    /* accepts a zeroed one */
uint64_t diffusionmodel_parameters(const struct diffusionmodel *m);
/* SHA-256 of the denoiser's files, in hex. */
int diffusionmodel_hash(const struct diffusionmodel *m, char hex[65], struct err *err);

/* Does a picture differ from x by more than its form? */
bool diffusionmodel_decodes(const struct diffusionmodel *m);

/* Floats of an encoded prompt, or of a class; 0: it is told nothing. */
int64_t diffusionmodel_prompt_floats(const struct diffusionmodel *m);
/* ids [n] as prompttext.h has them, or the class -> out [prompt_floats]. nn is reset. */
int diffusionmodel_encode(struct diffusionmodel *m, struct nn *nn, const uint32_t *ids, int n, float *out,
                          struct err *err);

/* One call on n pictures. prompts: encoded ones; where the denoiser takes classes a class each (their
 * count: none); else not looked at. */
struct diffusionmodel_call {
    int n;
    const float *x;                     /* [n, channels, h, w] */
    int height, width;
    const double *times;                /* [n] */
    const float *const *prompts;        /* [n] */
};
/* *out [n, channels_out, h, w] in nn's memory until its next reset; what a denoiser says of the variance is
 * left out. nn is reset first. g: the ranks that share it, NULL: this one alone. Collective on g, which
 * this rank leads. */
int diffusionmodel_denoise(struct diffusionmodel *m, struct nn *nn, struct imagegroup *g,
                           const struct diffusionmodel_call *c, const float **out, struct err *err);
/* x [channels_out, h, w] -> *out [3, pixels h, pixels w] in nn's memory. nn is reset first. */
int diffusionmodel_decode(struct diffusionmodel *m, struct nn *nn, const float *x, int height, int width,
                          const float **out, struct err *err);
/* The other way, of h x w numbers, the middle of what the autoencoder takes for possible. nn is reset. */
int diffusionmodel_encode_picture(struct diffusionmodel *m, struct nn *nn, const float *picture, int height,
                                  int width, const float **out, struct err *err);

#endif
