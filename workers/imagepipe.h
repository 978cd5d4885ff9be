/* imagepipe.h - an image model as its parts: text encoder, denoiser and scheduler settings, or a GAN's
 * generator.
 * Why:    the worker's loop over pictures must not know whose network answers.
 * Folder: model_index.json, scheduler/, transformer/ (SD3Transformer2DModel or PixArtTransformer2DModel,
 *         in pixel space), text_encoder/ (CLIP), tokenizer/ where it has one; muster.json, optional:
 *         {"steps", "guidance": what suits the model, "words": what its captions were made of}.
 * Others: a DiT folder with its autoencoder, a file of a small denoiser (latentmodel.h).
 * GAN:    a generator's .safetensors file, or a folder with generator/ and, for captions, text_encoder/.
 * Shapes: latents [n, channels, height, width]; what a prompt becomes is one block of floats,
 *         imagepipe_prompt_floats of them.
 * Owner:  the pipe owns weights and configuration.
 * Ranks:  not collective: each rank holds the whole model. */
#ifndef MUSTER_IMAGEPIPE_H
#define MUSTER_IMAGEPIPE_H

#include "workers/diffusion/solver.h"
#include "workers/models/netshard.h"

struct imagepipe;

struct imagepipe_facts {
    char name[128], kind[64];       /* the folder's own name; the network's class */
    uint64_t parameters;
    int channels, channels_out;     /* that the denoiser sees; of the numbers x that it changes */
    int patch, side, side_max;      /* in pixels: trained for; at most */
    int pixels;                     /* of a picture to a number of x, each way */
    bool decodes;                   /* x becomes a picture by imagepipe_decode */
    int tokens, vocab, bos, eos, pad;   /* tokens 0: takes no text */
    int latent, classes;            /* GAN: numbers that it starts from (else 0); conditions, 0: none */
    int none;                       /* the class that stands for no class, -1: there is none */
    const struct solver *solver;    /* the folder's; NULL: a GAN */
    int layers, head_dim;           /* of a denoiser that ranks can share; layers 0: they cannot */
    int steps; double guidance;     /* that suit the model by muster.json, 0: unknown */
};

/* Configuration and headers; of a diffusion folder no weights. */
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
/* ids [n], begin and end included, at most facts.tokens -> out [prompt_floats]. nn is reset. */
int imagepipe_encode(struct imagepipe *p, struct nn *nn, const uint32_t *ids, int n, float *out,
                     struct err *err);

/* A GAN's pictures: z [n, latent], labels [n], prompts as below (where it takes text) -> *out [n, 3, side,
 * side] in nn's memory until its next reset. nn is reset first. */
int imagepipe_generate(struct imagepipe *p, struct nn *nn, int n, const float *z, const float *labels,
                       const float *const *prompts, const float **out, struct err *err);

/* One call of the denoiser on n pictures: x [n, c, h, w], times [n], prompts [n] pointers to encoded
 * prompts -> *out [n, c_out, h, w], in nn's memory until its next reset. nn is reset first. */
int imagepipe_denoise(struct imagepipe *p, struct nn *nn, int n, const float *x, int height, int width,
                      const double *times, const float *const *prompts, const float **out,
                      struct err *err);

/* x [c, h, w] of a model that decodes -> *out [3, pixels h, pixels w] in -1..1, in nn's memory until its next
 * reset. nn is reset first. */
int imagepipe_decode(struct imagepipe *p, struct nn *nn, const float *x, int height, int width,
                     const float **out, struct err *err);

/* The same for ranks that share the denoiser (imagegroup.h): what comes before the layers, the layers that
 * this rank holds, what comes after them. Rows are in nn's memory until its next reset. */
struct imagepipe_call {
    int n;
    const float *x;                 /* [n, c, h, w] */
    int height, width;
    const double *times;            /* [n] */
    const float *const *prompts;    /* [n] */
};
/* Begins a step of n samples: nn is reset. imagepipe_begin does it by itself. */
void imagepipe_step(struct imagepipe *p, struct nn *nn, int n);
int imagepipe_begin(struct imagepipe *p, struct nn *nn, const struct imagepipe_call *c, struct netrows *h,
                    struct err *err);
int imagepipe_layers(struct imagepipe *p, struct nn *nn, const struct netshard_held *held,
                     struct netrows *h, struct err *err);
int imagepipe_end(struct imagepipe *p, struct nn *nn, const struct netrows *h, int height, int width,
                  const float **out, struct err *err);
/* How wide a row is; rows that go beside those of picture and text. */
int imagepipe_row_width(const struct imagepipe *p);
int imagepipe_extra_rows(const struct imagepipe *p, int text_tokens);

#endif
