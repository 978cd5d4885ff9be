/* ganbuild.h - the weights of a new GAN: names, shapes and first numbers.
 * Names:  the layouts that gan.h reads.
 * Start:  residual: normal, deviation 1 / sqrt(fan in) (norms and power iterations make scale a matter of
 *         taste), embeddings 1, gains and biases of conditional norms 0.02; DCGAN: 0.02, as in its paper.
 * Ranks:  not collective. */
#ifndef MUSTER_GANBUILD_H
#define MUSTER_GANBUILD_H

#include "workers/models/params.h"

enum { GANBUILD_WIDTHS_MAX = 16 };

struct ganbuild {
    bool dcgan;
    int z, side, condition;     /* condition: width of the vector that a picture is told by */
    int classes, pooled;        /* pooled > 0: captions, else classes */
    int g[GANBUILD_WIDTHS_MAX], n_g;    /* channels of the generator, from the first picture on */
    int d[GANBUILD_WIDTHS_MAX], n_d;    /* of the discriminator's blocks */
};

/* "128-64-32" into widths; ERR_INVAL names the key. */
int ganbuild_widths(const char *text, const char *key, int *widths, int *n, struct err *err);

/* ERR_INVAL when side and number of blocks do not go together. */
int ganbuild_check(const struct ganbuild *b, struct err *err);
/* Fills the empty sets. */
int ganbuild_generator(const struct ganbuild *b, struct params *w, uint64_t seed, struct err *err);
int ganbuild_discriminator(const struct ganbuild *b, struct params *w, uint64_t seed, struct err *err);

#endif
