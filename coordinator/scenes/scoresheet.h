/* scoresheet.h - what a set of pictures and their captions comes to: marks by attribute, diversity, Frechet
 * distance.
 * Why:    `score`, `compare` and the benchmark of quality tell the same of any generator's pictures.
 * Counts: unreadable is wrong in everything. Diversity is over captions that have two pictures or more that
 *         are read; the distance is to as many real pictures of the same captions.
 * Owner:  a sheet owns its lists; borrows the scorer.
 * Ranks:  not collective. */
#ifndef MUSTER_SCORESHEET_H
#define MUSTER_SCORESHEET_H

#include "coordinator/scenes/measure.h"
#include "coordinator/scenes/scenemarks.h"

#include <stdio.h>

/* Pictures of one caption. */
struct scoresheet_prompt { char *caption; struct scene_facts asked; struct spread spread; int n; };

enum { SCORESHEET_ALL, SCORESHEET_ONE, SCORESHEET_TWO, SCORESHEET_GROUPS };     /* by things asked for */

struct scoresheet {
    struct scorer *scorer;
    struct scenemarks_tally tally[SCORESHEET_GROUPS];
    struct scoresheet_prompt *prompt;
    int n_prompts, cap;
    struct moments *there;
    int side;                   /* of the pictures so far; 0: none */
};

int scoresheet_init(struct scoresheet *s, struct scorer *scorer, struct err *err);
void scoresheet_free(struct scoresheet *s);     /* accepts a zeroed one */

/* Adds a picture [side, side, 3], 32 or 64. out, marks: NULL where not wanted. ERR_INVAL: the caption is of
 * no scene of the world. */
int scoresheet_add(struct scoresheet *s, const uint8_t *rgb, int side, const char *caption,
                   struct scorer_reading *out, struct scenemarks *marks, struct err *err);

/* Over captions with several pictures; n: how many such captions. */
double scoresheet_diversity(const struct scoresheet *s, int *n);
/* there: between the pictures and as many real ones; real: between those and others of the same
 * captions. */
int scoresheet_frechet(const struct scoresheet *s, double *there, double *real, struct err *err);

/* A table for people. distance: with the Frechet distances. */
int scoresheet_print(const struct scoresheet *s, bool distance, FILE *out, struct err *err);

#endif
