/* scenemarks.h - what a caption asked for against what a picture shows, attribute by attribute.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENEMARKS_H
#define MUSTER_SCENEMARKS_H

#include "coordinator/scenes/sceneprior.h"
#include "coordinator/scenes/scorer.h"

/* THING and COLOUR: of all things, a colour on its own thing, whichever stands where; RELATION: the right
 * one stands first; SIZE: small or big, where it is said; ALL: everything that was asked. */
enum scenemark { MARK_PLACE, MARK_COUNT, MARK_THING, MARK_COLOUR, MARK_RELATION, MARK_SIZE, MARK_ALL,
                 N_MARKS };

/* guess: right by the best fit, though it may count as unreadable. */
struct scenemarks { bool asked[N_MARKS], right[N_MARKS], guess[N_MARKS]; };

/* asked: -1 where nothing was said; a size of 0 was not said either. Unreadable: all wrong. */
void scenemarks(const struct scorer_reading *r, const struct scene_facts *asked, struct scenemarks *out);
const char *scenemarks_name(enum scenemark m);

/* Asked and right, counted over pictures. */
struct scenemarks_tally {
    int n, asked[N_MARKS], right[N_MARKS], guess[N_MARKS], verdict[N_SCORER_VERDICTS];
};
void scenemarks_add(struct scenemarks_tally *t, const struct scorer_reading *r, const struct scenemarks *m);

/* What a caption in the words of scenetext.h asks for, in any order of words that names [size] colour
 * thing [relation ...] place. False: no thing of the world in it, or more than two. */
bool scenemarks_read_caption(const char *caption, struct scene_facts *out);

#endif
