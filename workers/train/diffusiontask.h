/* diffusiontask.h - what the files of the diffusion task share: its networks and settings.
 * Source: Peebles & Xie 2212.09748 (adaLN-Zero), Esser et al. 2403.03206 (two streams, times drawn),
 *         Ho et al. 2020, Salimans & Ho 2202.00512 (v), Lipman et al. 2210.02747 (flow).
 * Ranks:  not collective. */
#ifndef MUSTER_DIFFUSIONTASK_H
#define MUSTER_DIFFUSIONTASK_H

#include "workers/diffusion/noisetable.h"
#include "workers/models/cliptext.h"
#include "workers/models/mmdit.h"
#include "workers/models/pixart.h"
#include "workers/train/task.h"

enum diffusion_layout { LAYOUT_MMDIT, LAYOUT_PIXART };
enum diffusion_objective { OBJECTIVE_FLOW, OBJECTIVE_EPSILON, OBJECTIVE_V };
enum diffusion_times { TIMES_UNIFORM, TIMES_NORMAL };
enum { DIFFUSION_DENOISER = 0, DIFFUSION_TEXT = 1, DIFFUSION_TIMES = 1000 };

struct diffusion {
    enum diffusion_layout layout;
    enum diffusion_objective objective;
    enum beta_kind schedule;
    enum diffusion_times times;
    double shift;                       /* of drawn times towards noise: s = k u / (1 + (k - 1) u) */
    bool super;                         /* three more input channels: the small picture, twice as large */
    double residual;                    /* super: learns what bicubic enlargement lacks, times this; 0: all */
    int length;                         /* ids of a caption */
    uint64_t seed;
    int preview_steps; double guidance;
    struct mmdit_config mmdit;
    struct pixart_config pixart;
    struct cliptext_config text;
    json_t *denoiser_json, *text_json;
    json_t *words;                      /* that captions can hold; NULL: not known */
    struct noise_table table;           /* of epsilon and v */
    uint8_t *preview; size_t preview_bytes;
};

/* Sets of the task with first weights, from d's JSON configurations. (diffusioninit.c) */
int diffusion_new_weights(struct diffusion *d, struct train_task *t, struct err *err);
/* JSON configurations from the keys of c. */
int diffusion_new_configs(struct diffusion *d, struct trainconfig *c, struct err *err);

/* The networks of d and t, read from a folder, with `layers` in place of those that they had; the same
 * function. ERR_INVAL: fewer, or another layout than SD3's. (diffusiongrow.c) */
int diffusion_grow(struct diffusion *d, struct train_task *t, int layers, struct err *err);

int diffusion_save(struct train_task *t, const struct train_weights *w, const char *dir, enum dtype type,
                   struct err *err);
int diffusion_sample(struct train_task *t, struct trainer *tr, const struct train_weights *w,
                     const struct train_batch *b, struct train_tensor *out, struct err *err);

/* Both networks on n samples: x [n, channels, side, side], what the model is told of time, captions
 * [n, length]. Weights bind in w. */
int diffusion_forward(struct diffusion *d, struct nn *nn, const struct train_weights *w,
                      struct nn_tensor *x, const double *time, const int32_t *ids, struct nn_tensor **out,
                      struct err *err);
/* [n, 3, side, side] in -1..1 of the batch's pixels (or of "x0", which is as given); NULL: none. */
struct nn_tensor *diffusion_pixels(struct nn *nn, const struct train_batch *b, const char *name,
                                   struct err *err);
/* Input [n, 6, side, side] of super-resolution: x beside each pixel of small twice. */
struct nn_tensor *diffusion_beside(struct nn *nn, struct nn_tensor *x, struct nn_tensor *small);
/* What bicubic enlargement makes of small [n, 3, side / 2, side / 2]: [n, 3, side, side]. */
struct nn_tensor *diffusion_enlarged(struct nn *nn, const struct nn_tensor *small);
static inline int diffusion_side(const struct diffusion *d)
{
    return d->layout == LAYOUT_MMDIT ? d->mmdit.sample : d->pixart.sample;
}

#endif
