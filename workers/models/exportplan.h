/* exportplan.h - which type every tensor of a quantised file gets.
 * Why:    one file mixes types: norms and biases stay f32, the head is kept better than the rest, rows that
 *         are no whole blocks fall back.
 * Ranks:  not collective; const. */
#ifndef MUSTER_EXPORTPLAN_H
#define MUSTER_EXPORTPLAN_H

#include "workers/models/exporttensors.h"

struct export_plan;

/* By name ("q4_k", "q8_0", "q4_k_m", any case); NULL: none of that name. */
const struct export_plan *exportplan_named(const char *name);
/* All names, blank-separated; returns buf. */
const char *exportplan_names(char *buf, size_t cap);
/* general.file_type. */
int exportplan_file_type(const struct export_plan *p);

/* Sets the type of every tensor. *n_fallback: how many matrices could not have the type they should. */
void exportplan_apply(const struct export_plan *p, struct export_list *l, int *n_fallback);

#endif
