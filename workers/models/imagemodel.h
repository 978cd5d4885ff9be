/* imagemodel.h - an image model as its networks: a diffusers folder, a GAN, an upscaler, one file.
 * Why:    the picture factory and the probe must not know whose network answers; a network is asked by
 *         the names of its tensors, as the published references name them.
 * Parts:  text_encoder, transformer, vae, .. of a folder with model_index.json; otherwise one for each
 *         .safetensors file, named as the file. A part belongs to a family (imagefamily.h): one file and
 *         one row of its table.
 * Names:  text: ids -> hidden, pooled, text_embeds (and penultimate, the state before the last layer, where
 *         an input is called so). Denoiser: in, t, context, pooled, mask, resolution,
 *         aspect_ratio, y -> out. VAE: decode.in -> decode.out, encode.in -> encode.mean, encode.logvar.
 *         GAN: z, labels -> image; image, labels -> logit. Upscaler: in -> out. Each family's row lists
 *         them.
 * Shapes: axis 0 is the batch, at most IMAGE_BATCH_MAX; every sample is computed by itself, so its bits
 *         do not depend on its neighbours.
 * Owner:  the model owns configurations and weights; tensors borrow.
 * Ranks:  opening is not collective. */
#ifndef MUSTER_IMAGEMODEL_H
#define MUSTER_IMAGEMODEL_H

#include "workers/models/params.h"

#include <jansson.h>

enum { IMAGE_BATCH_MAX = NN_PARTS_MAX, IMAGE_TENSORS_MAX = 64, IMAGE_NAME = 96 };

/* A named tensor; all numbers are f32, ids and labels whole ones. */
struct imagetensor {
    char name[IMAGE_NAME];
    int n_dims;
    int64_t shape[NN_DIMS_MAX], n;
    float *data;                /* [shape], borrowed */
    const double *exact;        /* the same before they were rounded, or NULL */
};
struct imagetensors { struct imagetensor t[IMAGE_TENSORS_MAX]; int n; };

/* A new entry (an old one of that name is replaced); NULL when there are too many. */
struct imagetensor *imagetensors_put(struct imagetensors *s, const char *name, float *data, int n_dims,
                                     const int64_t *shape);
const struct imagetensor *imagetensors_find(const struct imagetensors *s, const char *name);

enum imagerole { IMAGE_TEXT, IMAGE_DENOISER, IMAGE_VAE, IMAGE_GENERATOR, IMAGE_DISCRIMINATOR,
                 IMAGE_UPSCALER, IMAGE_SCORER };

/* What a part takes and gives; 0: does not apply. */
struct imagefacts {
    int channels_in, channels_out;
    int patch;                  /* sides are multiples of this */
    int side, side_max;         /* that it was trained for; the largest */
    int tokens, vocab;          /* text: most tokens of a prompt, ids */
    int text_width, pooled_width;       /* of context and pooled */
    int latent;                 /* GAN: numbers of z */
    int classes;
    int scale, reach;           /* upscaler: times; pixels around a place that it depends on.
                                 * VAE: scale is pixels to a latent */
    int layers, heads, head_dim;        /* transformers */
    int bos, eos, pad;          /* text: ids of CLIP */
    double scaling, shift;      /* VAE: latent = (z - shift) scaling */
};

struct imagefamily;
struct imagepart {
    char name[64];
    char file[512];             /* for messages */
    char *path;                 /* folder or file of the weights */
    const struct imagefamily *family;
    struct imagefacts facts;
    json_t *config;             /* NULL: none */
    struct params w;            /* outlines (shapes without numbers) until imagepart_load */
    bool loaded;
    uint64_t parameters, file_bytes, file_hash;     /* file_hash: of the headers */
    void *state;                /* the family's, freed with free() */
};

struct imagemodel {
    char *path, *class_name;    /* class_name: of model_index.json, or NULL */
    struct imagepart *part; int n_parts;
    json_t *index, *scheduler;  /* model_index.json, scheduler_config.json; NULL: none */
};

/* Reads configurations and headers, no weights. A part that model_index.json names and that is not there
 * is an error; a network of no known family is one only for a single file. */
int imagemodel_open(struct imagemodel *m, const char *path, struct err *err);
void imagemodel_close(struct imagemodel *m);    /* accepts a zeroed model */

/* By name, by role (the first); NULL: none. */
struct imagepart *imagemodel_part(struct imagemodel *m, const char *name);
struct imagepart *imagemodel_role(struct imagemodel *m, enum imagerole role);
/* The same; ERR_INVAL with the names that there are. */
int imagemodel_want(struct imagemodel *m, const char *name, struct imagepart **p, struct err *err);

/* "SD3Transformer2DModel", "DCGAN generator", .. */
const char *imagepart_kind(const struct imagepart *p);
enum imagerole imagepart_role(const struct imagepart *p);
/* Bytes of weights in memory, once loaded. */
uint64_t imagepart_memory(const struct imagepart *p);
/* Reads the weights, if they are not there yet. */
int imagepart_load(struct imagepart *p, struct err *err);
struct netshard_held;
/* Of a denoiser that ranks can share (imagefamily.h) only what this one holds. */
int imagepart_load_share(struct imagepart *p, const struct netshard_held *held, struct err *err);
/* Can they? */
bool imagepart_splits(const struct imagepart *p);

/* Runs the network once (loading it if need be). Outputs are in nn's memory until its next nn_reset,
 * which is the caller's; nn's parts are set to one for each sample. A missing input, one of another
 * shape, an id out of range is ERR_INVAL naming it. */
int imagepart_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                  struct imagetensors *out, struct err *err);

#endif
