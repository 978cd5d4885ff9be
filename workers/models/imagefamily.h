/* imagefamily.h - what a family of image networks is: a row of the table in imagefamilies.c.
 * Why:    a new network is one file with its forward, and one row.
 * Ranks:  not collective. */
#ifndef MUSTER_IMAGEFAMILY_H
#define MUSTER_IMAGEFAMILY_H

#include "workers/models/imagemodel.h"

/* An input by name. `shared`: where a call has none of its own, the one tensor for all calls of a file.
 * `first`: no call is without it (imagecases.h). */
struct imageinput { const char *name, *shared; bool first; };
enum { FAMILY_INPUTS_MAX = 10 };

struct netrows;
struct netshard_held;
/* A denoiser that ranks can share, in three: what comes before its layers, with all checks of the inputs; the
 * layers that a rank holds, with its share of each (held NULL: all of all); what comes after them, on rows x
 * cols patches. Rows are in nn's memory. h->text is NULL where there is no text, and after the layers it is
 * not looked at. */
struct imagesplit {
    int (*begin)(struct imagepart *p, struct nn *nn, const struct imagetensors *in, struct netrows *h,
                 struct err *err);
    int (*layers)(struct imagepart *p, struct nn *nn, const struct netshard_held *held, struct netrows *h,
                  struct err *err);
    int (*end)(struct imagepart *p, struct nn *nn, const struct netrows *h, int rows, int cols,
               struct nn_tensor **out, struct err *err);
    /* Rows that go beside those of picture and text. */
    int (*extra_rows)(const struct imagepart *p, int text_tokens);
};

struct imagefamily {
    const char *kind;           /* the class in a configuration, or what it is */
    enum imagerole role;
    const char *prefix;         /* of the names in files of calls: "mmdit", or NULL */
    /* Is it this family, by names and shapes alone? NULL: only a configuration's class says so. */
    bool (*recognise)(const struct params *outline);
    /* Facts and state from configuration and outline; checks that all weights are there. */
    int (*open)(struct imagepart *p, struct err *err);
    int (*run)(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
               struct imagetensors *out, struct err *err);
    struct imageinput input[FAMILY_INPUTS_MAX];
    const struct imagesplit *split;     /* NULL: one rank runs it */
};

extern const struct imagefamily *const imagefamilies[];      /* NULL-terminated */

/* By class name; NULL: none. */
const struct imagefamily *imagefamily_named(const char *kind);
const struct imagefamily *imagefamily_of(const struct params *outline);

/* --- for the rows */

/* Input `name` as a tensor of n_dims dimensions; sizes [n_dims], each > 0 is demanded. NULL in *out when
 * it is absent and not needed. */
int imageinput_tensor(struct nn *nn, const struct imagetensors *in, const char *name, bool needed,
                      int n_dims, const int64_t *sizes, struct nn_tensor **out, struct err *err);
/* Is this the failure of a run whose input is not there at all? */
bool imageinput_missing(const struct err *err);
/* Whole numbers [n] of an input, each 0..limit - 1; *out NULL when absent and not needed. */
int imageinput_whole(struct nn *nn, const struct imagetensors *in, const char *name, bool needed,
                     int64_t n, int64_t limit, int32_t **out, struct err *err);
/* Numbers [n] of an input that holds n or, one for all, 1. */
int imageinput_doubles(struct nn *nn, const struct imagetensors *in, const char *name, bool needed,
                       int64_t n, double **out, struct err *err);
/* One part for each of n samples. */
int imageinput_parts(struct nn *nn, int64_t n, struct err *err);
/* The run of a family that has a split: the three one after the other. */
int imagesplit_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                   struct imagetensors *out, struct err *err);
/* Where weights are read from: a forward's beginning. */
struct params_reader imagepart_reader(struct imagepart *p, struct nn *nn, struct err *err);
void imageoutput(struct imagetensors *out, const char *name, const struct nn_tensor *t);

#endif
