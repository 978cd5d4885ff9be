/* imagerows.h - the rows that imagefamilies.c puts into its table; private to the image*.c of models. */
#ifndef MUSTER_IMAGEROWS_H
#define MUSTER_IMAGEROWS_H

#include "workers/models/imagefamily.h"

extern const struct imagefamily imagefamily_clip, imagefamily_clip_projected, imagefamily_mmdit,
    imagefamily_pixart, imagefamily_dit, imagefamily_dcgan_generator,
    imagefamily_dcgan_discriminator, imagefamily_resgan_generator, imagefamily_resgan_discriminator,
    imagefamily_rrdb, imagefamily_srvgg, imagefamily_vaekl, imagefamily_vaetiny,
    imagefamily_stylegan, imagefamily_gan_mlp, imagefamily_gan_digits, imagefamily_lenet,
    imagefamily_ddpm, imagefamily_t5;

#endif
