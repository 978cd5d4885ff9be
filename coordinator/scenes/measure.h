/* measure.h - numbers about sets of pictures of the built-in world: shares with intervals, Frechet distance,
 * diversity.
 * Units:  distances in squared levels of 255; spreads in pixels of the 32 x 32 picture.
 * Ranks:  not collective. */
#ifndef MUSTER_MEASURE_H
#define MUSTER_MEASURE_H

#include "coordinator/scenes/sceneprior.h"
#include "proto/err.h"

#include <stdint.h>

/* Wilson's interval of right of n, in which the true share lies with 95%. */
struct measure_interval { double share, low, high; };
struct measure_interval measure_share(int right, int n);

/* Frechet distance between two sets, each described by means over its pictures of the 8 x 8 boxes of their
 * colours (192 numbers) and their covariance:
 * |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2).                          (Dowson, Landau 1982) */
enum { MEASURE_BOXES = 8, MEASURE_DIMS = MEASURE_BOXES * MEASURE_BOXES * 3 };
struct moments { int64_t n; double sum[MEASURE_DIMS], product[MEASURE_DIMS][MEASURE_DIMS]; };

/* rgb [side, side, 3]; side a multiple of 8. */
void measure_add(struct moments *m, const uint8_t *rgb, int side);
/* ERR_INVAL: fewer than two pictures in one of them; ERR_NOMEM. */
int measure_frechet(const struct moments *a, const struct moments *b, double *distance, struct err *err);
/* From symmetric matrices [n, n] and means [n]; symmetric, positive to rounding. */
int measure_frechet_of(int n, const double *mean_a, const double *cov_a, const double *mean_b,
                       const double *cov_b, double *distance, struct err *err);

/* Diversity: how much places and sizes of things vary over the seeds of a prompt, against real scenes of the
 * same prompt. Of x, y (centres) and size each: the deviation in the pictures over that in real scenes,
 * variances averaged over prompts first; then the mean of the three. */
enum { MEASURE_COORDINATES = 3, MEASURE_LIKE = 64 };
struct spread {
    int n;
    double sum[SCENE_THINGS_MAX][MEASURE_COORDINATES], square[SCENE_THINGS_MAX][MEASURE_COORDINATES];
};
struct diversity { int n; double there[MEASURE_COORDINATES], real[MEASURE_COORDINATES]; };

/* A picture of a prompt that asks for `asked`; one with another number of things is left out. */
void measure_spread_add(struct spread *p, const struct scene *s, const struct scene_facts *asked);
/* All pictures of that prompt, against MEASURE_LIKE scenes; left out when fewer than two were read, or when
 * no scene of the world is like that. */
void measure_diversity_add(struct diversity *d, const struct spread *p, const struct scene_facts *asked);
double measure_diversity(const struct diversity *d);        /* 0: of no prompt */

/* Scene `index` of those that a caption may be about (held out ones too): what it does not say is drawn as
 * in the world; two of a kind stand as two others. False: it has no such scene. */
bool measure_scene(struct scene *s, const struct scene_facts *asked, uint64_t seed, uint32_t index);

#endif
