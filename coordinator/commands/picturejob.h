/* picturejob.h - what is asked of imagine: one prompt with its settings, for n pictures.
 * Why:    the command line, a line of a prompts file, a journal's entry and a picture's own record say
 *         the same things; here they become one struct, and it becomes text again.
 * Text:   {"prompt", "negative", "seed", "n", "size": "WxH", "steps", "sampler", "guidance", ...};
 * "prompt",
 *         "seed" and "guidance" may be lists: then every combination is a job.
 * Seeds:  picture k of a job has seed + k; in a strip all have the seed and move from one end to the
 *         other.
 * Owner:  a job owns its strings and ids; picturejob_free accepts a zeroed one.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_PICTUREJOB_H
#define MUSTER_PICTUREJOB_H

#include "proto/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { PICTUREJOB_TEXTS = 11, PICTUREJOB_TEXT_MAX = 1 << 16 };

struct picturejob {
    /* prompt, negative: NULL none. to: the prompt at a strip's other end; with from, the prompt moves as
     * from that one to this. init, mask: PNG files. compute: "bf16", or NULL and "f32" for the usual one. */
    char *prompt, *negative, *to, *from, *sampler, *spacing, *sigmas, *init, *mask, *ids, *compute;
    int64_t seed, seed_to;              /* -1: not given */
    int n, width, height, steps, label; /* width, height, steps 0 and label -1: not given */
    double guidance;                    /* < 0: not given */
    double rescale, shift;              /* 0: none, the folder's */
    double strength;                    /* 0: not given */
    double eta;                         /* < 0: the sampler's */
    double mix, prompt_mix;             /* of one picture, towards seed_to and to */
    double vary;                        /* picture k is mixed so far with the noise of seed + 1 + k */
    double truncation;                  /* GAN; 0: none */
    bool strip;                         /* n pictures from seed and prompt to seed_to and to */
    char init_hash[65], mask_hash[65];  /* of their pixels, hex; "" none */
    int line;                           /* of the prompts file; 0 none */
    int64_t first;                      /* task number of its picture 0 */
    /* token ids, made by the command before it runs: */
    uint32_t *token, *negative_token, *to_token, *from_token;
    int n_token, n_negative_token, n_to_token, n_from_token;
};

struct picturejobs { struct picturejob *job; int n, cap; int64_t n_tasks; };

/* "f32", "bf16", NULL. */
extern const char *const picturejob_computes[];

void picturejob_init(struct picturejob *j);
void picturejob_free(struct picturejob *j);
int picturejob_copy(struct picturejob *out, const struct picturejob *j, struct err *err);
/* What `over` says counts. */
int picturejob_overlay(struct picturejob *j, const struct picturejob *over, struct err *err);
int picturejob_set_text(char **text, const char *value, struct err *err);
/* "640x480" or "64". */
int picturejob_size(const char *text, int *width, int *height);

/* Appends the jobs that o asks for, from the defaults on. ERR_FORMAT begins with `where`. */
int picturejobs_add(struct picturejobs *all, const json_t *o, const struct picturejob *defaults,
                    const char *where, int line, struct err *err);
int picturejobs_append(struct picturejobs *all, const struct picturejob *j, struct err *err);
/* A JSON Lines file; errors name the line. */
int picturejobs_read(struct picturejobs *all, const char *path, const struct picturejob *defaults,
                     struct err *err);
void picturejobs_free(struct picturejobs *all);
/* Numbers the tasks: job i begins where i - 1 ends. */
int picturejobs_number(struct picturejobs *all, struct err *err);
/* The job of a task; *k is its place in it. */
const struct picturejob *picturejobs_of(const struct picturejobs *all, int64_t task, int *k);

/* The whole job, so that picturejobs_add makes it again. A new reference; NULL: no memory. */
json_t *picturejob_json(const struct picturejob *j);

/* What differs from picture to picture of a job. */
struct picture_place { int64_t seed, seed_to; double mix, prompt_mix; };
struct picture_place picturejob_place(const struct picturejob *j, int k);

/* A picture's own record: `json` makes it again by --like, `parameters` is what other programs read.
 * Both malloc'd; no time, host or layout in them. */
struct picture_record { char *json, *parameters; };
int picturejob_record(const struct picturejob *j, int k, const char *model, const char *hash,
                      struct picture_record *r, struct err *err);
void picture_record_free(struct picture_record *r);

#endif
