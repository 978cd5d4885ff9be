/* badtraining.h - what can go wrong with any run of training, whatever it makes: one line, an exit code, and no
 *                 rank that hangs.
 * Ranks:  each case starts two. */
#ifndef MUSTER_BADTRAINING_H
#define MUSTER_BADTRAINING_H

struct badtraining {
    const char *args;           /* "diffusion --batch 8 ..": a run that would be good */
    const char *run;            /* in e2e_dir(): the folder of such a run, finished, that may be damaged */
    int steps;                  /* of that */
    const char *other;          /* options that make it another model */
};

/* `train ARGS` ends with this status and says `what`. */
void badtraining_fails(int status, const char *what, const char *args);

/* An output folder that cannot be; a disk of 200 KB, which a checkpoint does not fit on (skipped without
 * root's rights): no checkpoint.json is left. */
void badtraining_output(const struct badtraining *b);
void badtraining_disk(const struct badtraining *b);
/* --resume of another model's checkpoint, and of damaged ones. Leaves the run broken. */
void badtraining_checkpoint(const struct badtraining *b);

#endif
