/* noisetable.h - how much signal is left at each training timestep.
 * Why:    every sampler and every diffusion loss reads the same table.
 * Source: Ho et al. 2020 (linear), Rombach et al. 2022 (scaled linear), Nichol & Dhariwal 2021 (cosine),
 *         Lin et al. 2305.08891 (zero terminal SNR).
 * Trap:   published models were trained and tuned with a float32 table, whose 1 - alpha_bar has four
 *         right digits near t = 0. The entries here are those float32 numbers (products gathered in
 *         double, each rounded once), so that samplers agree with the published ones.
 * Owner:  the table owns its arrays; noise_table_free accepts a zeroed table. */
#ifndef MUSTER_NOISETABLE_H
#define MUSTER_NOISETABLE_H

#include "proto/err.h"

#include <stdbool.h>

enum beta_kind { BETA_LINEAR, BETA_SCALED_LINEAR, BETA_COSINE };

struct noise_table {
    int n;                  /* training timesteps */
    double *beta;           /* [n] */
    double *alpha_bar;      /* [n] product of (1 - beta); values of float32 precision */
};

/* start, end: first and last beta (not used by the cosine). zero_snr: rescaled so that the last
 * alpha_bar is exactly 0. */
int noise_table_init(struct noise_table *t, enum beta_kind kind, double start, double end, int n,
                     bool zero_snr, struct err *err);
void noise_table_free(struct noise_table *t);

#endif
