/* gan.h - generators and discriminators: DCGAN, and the residual GAN with conditional batch norm and a
 * projection discriminator.
 * Source: Radford et al. 1511.06434; Miyato et al. 1802.05957, 1802.05637. Widths are read off the file.
 * Ranks:  not collective in evaluation; batch norm in training is (nn.h). */
#ifndef MUSTER_GAN_H
#define MUSTER_GAN_H

#include "workers/models/params.h"

/* Layers main.0, main.1, ..: transposed convolutions (4 x 4: the first stride 1 without padding, the
 * others stride 2, padding 1), batch norm, ReLU, and a tanh at the end. z [b, n, 1, 1]. When training,
 * the running statistics of the set change. */
int dcgan_generator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *z, bool training,
                    struct nn_tensor **image, struct err *err);
/* Convolutions (stride 2, padding 1; the last stride 1 without padding), batch norm but after the first,
 * leaky ReLU 0.2. -> logits [b, 1, 1, 1] */
int dcgan_discriminator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *x,
                        bool training, struct nn_tensor **logit, struct err *err);

/* z [b, n], labels [b] -> [b, 3, h, w] in -1..1 */
int resgan_generator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *z,
                     const int32_t *labels, struct nn_tensor **image, struct err *err);
/* Spectral norm in evaluation: W / (u . W v), no iteration. -> [b, 1] */
int resgan_discriminator(struct nn *nn, struct params *w, const char *file, struct nn_tensor *x,
                         const int32_t *labels, struct nn_tensor **logit, struct err *err);

#endif
