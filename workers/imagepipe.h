/* imagepipe.h - an image model behind one face: a diffusion model, or a GAN's generator.
 * Why:    the worker's loop over pictures must not know whose network answers.
 * Folder: of a diffusion model, or one file (diffusionmodel.h); muster.json, optional: {"steps", "guidance":
 *         what suits the model, "words": what its captions were made of, "residual": gain of a
 *         super-resolution model that makes what bicubic enlargement lacks}.
 * GAN:    a generator's .safetensors file, or a folder with generator/ and, for captions, text_encoder/.
 * Shapes: latents [n, channels, height, width]; what a prompt becomes is one block of floats,
 *         imagepipe_prompt_floats of them.
 * Owner:  the pipe owns weights and configuration.
 * Ranks:  not collective, but for imagepipe_denoise by a group. */
#ifndef MUSTER_IMAGEPIPE_H
#define MUSTER_IMAGEPIPE_H

#include "workers/diffusion/solver.h"
#include "workers/diffusionmodel.h"

struct imagepipe;

/* A text encoder: the folder of its tokenizer, tokens of a prompt (begin and end included), ids; bos, eos -1:
 * none. */
struct imagepipe_text { const char *tokenizer; int tokens, vocab, bos, eos; };

struct imagepipe_facts {
    char name[128], kind[64];       /* the folder's own name; the network's class */
    uint64_t parameters;
    int channels, channels_out;     /* that the denoiser sees; of the numbers x that it changes */
    int patch, side, side_max;      /* in pixels: trained for; at most */
    int pixels;                     /* of a picture to a number of x, each way */
    bool decodes;                   /* x becomes a picture by imagepipe_decode */
    struct imagepipe_text text[PROMPTTEXT_MAX]; int n_texts;    /* 0: takes no text */
    int ids_max;                    /* of a prompt, all encoders' together (prompttext.h) */
    int latent, classes;            /* GAN: numbers that it starts from (else 0); conditions, 0: none */
    int none;                       /* the class that stands for no class, -1: there is none */
    const struct solver *solver;    /* the folder's; NULL: a GAN */
    int layers, head_dim;           /* of a denoiser that ranks can share; layers 0: they cannot */
    int steps; double guidance;     /* that suit the model by muster.json, 0: unknown */
    double residual;                /* x is what bicubic enlargement lacks, times this; 0: x is the picture */
};

/* Configuration and headers, no weights. */
int imagepipe_open(struct imagepipe **p, const char *folder, struct err *err);
/* The weights that this rank holds, NULL: none. The text encoder goes with the leader. */
int imagepipe_load(struct imagepipe *p, const struct netshard_held *held, struct err *err);
uint64_t imagepipe_weights_bytes(const struct imagepipe *p);
void imagepipe_close(struct imagepipe *p);      /* accepts NULL */
const struct imagepipe_facts *imagepipe_facts(const struct imagepipe *p);

/* Words that its captions had in training (muster.json, "words"), [*n]; NULL when nobody says. */
const char *const *imagepipe_words(const struct imagepipe *p, int *n);

/* SHA-256 of the denoiser's files, in hex. Reads them whole. */
int imagepipe_hash(const struct imagepipe *p, char hex[65], struct err *err);
/* Size of all weights and a hash of their headers, as tensorfile_digest. */
void imagepipe_digest(const struct imagepipe *p, uint64_t *size, uint64_t *hash);

/* Settings of sampler `s` for this model: its own where the folder names it, else the sampler's defaults
 * with the model's noise table and prediction. ERR_INVAL when the two do not go together (a flow model
 * under DDIM). width, height in pixels: a dynamic shift depends on them. */
int imagepipe_settings(const struct imagepipe *p, const struct solver *s, int width, int height,
                       struct solver_config *c, struct err *err);
/* Names of the samplers that suit the model, "a, b, c". */
void imagepipe_samplers(const struct imagepipe *p, char *out, size_t cap);

/* Floats of one encoded prompt; of a denoiser that takes classes 1: its prompt is the class's number. */
int64_t imagepipe_prompt_floats(const struct imagepipe *p);
/* ids [n], at most facts.ids_max -> out [prompt_floats]. nn is reset. */
int imagepipe_encode(struct imagepipe *p, struct nn *nn, const uint32_t *ids, int n, float *out,
                     struct err *err);

/* A GAN's pictures: z [n, latent], labels [n], prompts as below (where it takes text) -> *out [n, 3, side,
 * side] in nn's memory until its next reset. nn is reset first. */
int imagepipe_generate(struct imagepipe *p, struct nn *nn, int n, const float *z, const float *labels,
                       const float *const *prompts, const float **out, struct err *err);

/* diffusionmodel_denoise. */
int imagepipe_denoise(struct imagepipe *p, struct nn *nn, struct imagegroup *g,
                      const struct diffusionmodel_call *c, const float **out, struct err *err);
/* For the ranks that share it. */
struct imagepart *imagepipe_denoiser(struct imagepipe *p);

/* x [c, h, w] of a model that decodes -> *out [3, pixels h, pixels w] in -1..1, in nn's memory until its next
 * reset. nn is reset first. */
int imagepipe_decode(struct imagepipe *p, struct nn *nn, const float *x, int height, int width,
                     const float **out, struct err *err);

/* The other way: picture [3, pixels h, pixels w] in -1..1 -> *out [c, h, w]. */
int imagepipe_encode_picture(struct imagepipe *p, struct nn *nn, const float *picture, int height, int width,
                             const float **out, struct err *err);

#endif
