/* gan.h - generators and discriminators: DCGAN, and the residual GAN with conditional batch norm and a
 * projection discriminator. The same code samples and learns.
 * Source: Radford et al. 1511.06434; Miyato et al. 1802.05957, 1802.05637. Widths are read off the file.
 * Ranks:  not collective in evaluation; batch norm in training is (nn.h). */
#ifndef MUSTER_GAN_H
#define MUSTER_GAN_H

#include "workers/models/params.h"

/* A network and how it is run. Training: batch norm uses the batch's statistics and moves the running
 * ones; spectral norm takes one power iteration in the first forward after params_begin. */
struct gan_net { struct nn *nn; struct params *w; const char *file; bool training; };

/* What a picture is to show: a class each [b], or a caption's pooled embedding [b, width]. */
struct gan_condition { const int32_t *labels; struct nn_tensor *caption; };

/* Running statistics and the vectors of power iterations are no parameters. */
void gan_freeze_buffers(struct params *w);

/* Layers main.0, main.1, .. or 0, 1, ..: transposed convolutions (4 x 4: the first stride 1 without
 * padding, the others stride 2, padding 1), batch norm, ReLU, and a tanh at the end. z [b, n, 1, 1]. */
int dcgan_generator(const struct gan_net *net, struct nn_tensor *z, struct nn_tensor **image,
                    struct err *err);
/* Convolutions (stride 2, padding 1; the last stride 1 without padding), batch norm but after the first,
 * leaky ReLU 0.2. -> logits [b, 1, 1, 1] */
int dcgan_discriminator(const struct gan_net *net, struct nn_tensor *x, struct nn_tensor **logit,
                        struct err *err);

/* The residual networks come in two layouts, told apart by their tensors:
 * - a table of gains and biases for every class in each norm ("bn1.gain.weight"), weights with
 *   "weight_orig", "weight_u", "weight_v";
 * - a condition vector (a row of "embed.weight", or "caption" linear of a pooled embedding) that is joined
 *   to z and mapped to gains and biases ("cbn1.gamma.weight"), weights with "weight", "u", "v". This
 *   one is what muster trains.
 * z [b, n] -> [b, 3, h, w] in -1..1 */
int resgan_generator(const struct gan_net *net, struct nn_tensor *z, const struct gan_condition *y,
                     struct nn_tensor **image, struct err *err);
/* -> [b, 1]. wrong (may be NULL): a second condition for the same pictures, with its own logits; the
 * features are computed once. */
int resgan_discriminator(const struct gan_net *net, struct nn_tensor *x, const struct gan_condition *y,
                         const struct gan_condition *wrong, struct nn_tensor **logit,
                         struct nn_tensor **wrong_logit, struct err *err);

#endif
