/* spacing.h - at which noise levels a sampler stops: timesteps and sigmas of n steps.
 * Source: Karras et al. 2206.00364 eq. 5; exponential; Lee et al. 2407.12173 (beta); Esser et al.
 *         2403.03206 eq. 23 (flow shift). Rounding follows the library that published models were
 *         tuned with: numpy's half to even, truncation to int64 where it truncates.
 * Ranks:  pure arithmetic in double. */
#ifndef MUSTER_SPACING_H
#define MUSTER_SPACING_H

enum spacing { SPACING_LINSPACE, SPACING_LEADING, SPACING_TRAILING };
enum sigma_kind { SIGMA_TABLE, SIGMA_KARRAS, SIGMA_EXPONENTIAL, SIGMA_BETA, SIGMA_LU, SIGMA_FLOW };

/* Descending timesteps of n steps of a table of `train` into t [>= n + 1]; returns how many (trailing
 * may give one more). `rounded`: whole timesteps. `extra_end`: the DPM family's linspace and leading
 * spacings, which divide n + 1 points and drop the last. */
int spacing_timesteps(double *t, enum spacing kind, int n, int train, int offset, int rounded,
                      int extra_end);

/* sigma [n], from the largest to the smallest. */
void spacing_sigmas(double *sigma, enum sigma_kind kind, int n, double largest, double smallest);

/* k s / (1 + (k - 1) s) */
double spacing_shift(double s, double k);

/* Fractional timestep whose log sigma is that of `sigma`, between the neighbours in the table. */
double spacing_sigma_to_t(double sigma, const double *log_sigma, int n);

/* table [n] at fractional index t. */
double spacing_interpolate(double t, const double *table, int n);

/* x with I_x(a, b) = p: the quantile of the beta distribution. */
double spacing_beta_quantile(double p, double a, double b);

#endif
