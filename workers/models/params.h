/* params.h - the named weights of one network, in f32.
 * Why:    image models and trainers find weights by the names of the published folders; one set serves
 *         loading, a forward, the optimiser and saving.
 * Owner:  the set owns numbers and names; tensors handed out are views for one step.
 * Ranks:  not collective. */
#ifndef MUSTER_PARAMS_H
#define MUSTER_PARAMS_H

#include "workers/models/nn.h"
#include "workers/weights/tensorfile.h"

struct param {
    char *name;
    int n_dims;
    int64_t shape[NN_DIMS_MAX], n;
    float *data;                /* [shape]; NULL once packed */
    struct nn_packed packed;    /* of a fixed set's linear layer, from its first use on */
    bool frozen;                /* a buffer: in the file, not trained */
    float *fold_to; int64_t fold_stride;    /* of its tensors (nn.h) */
    struct nn_tensor *bound;    /* the tensor of this step; NULL when the step did not use it */
    struct nn_tensor *derived;  /* what this step's forwards made of it (a normalised weight), or NULL */
};

struct netshard;
struct params {
    struct param *p;            /* in order of name */
    int n, cap;
    bool train;                 /* tensors want gradients */
    bool fixed;                 /* nobody changes them: linear layers pack theirs at the first use */
};

void params_free(struct params *s);     /* accepts a zeroed set */
/* A new entry of zeros; NULL when the name is taken or memory is out. Entries stay where they are only
 * until the next add. */
struct param *params_add(struct params *s, const char *name, int n_dims, const int64_t *shape);
/* All tensors of a file as f32; errors name the tensor. */
int params_load(struct params *s, struct tensorfile *t, struct err *err);
/* What a rank keeps of a tensor: all (axis -1), or [begin, end) of axis 0 or 1; nothing where !keep. */
struct param_cut { bool keep; int axis; int64_t begin, end; };
typedef struct param_cut params_cut(void *ctx, const char *name, int n_dims, const int64_t *shape);
/* params_load of what is kept. */
int params_load_cut(struct params *s, struct tensorfile *t, params_cut *cut, void *ctx, struct err *err);
/* Their names and shapes only: data is NULL, until params_load of a set freed in between. */
int params_outline(struct params *s, const struct tensorfile *t, struct err *err);
/* Position ids and counters are no weights. */
bool params_is_weight(const struct tensor_entry *e);
struct param *params_find(const struct params *s, const char *name);

/* ERR_FORMAT unless `name` is there with n_dims dimensions of the sizes that follow (ints). */
int params_expect(const struct params *s, const char *name, const char *file, struct err *err,
                  int n_dims, ...);

/* Begins a step: no tensor is bound. */
void params_begin(struct params *s);
/* The tensor of an entry. */
struct nn_tensor *params_tensor(struct params *s, struct nn *nn, struct param *p);
/* The tensor of a name made as by printf; NULL when there is none. */
struct nn_tensor *params_maybe(struct params *s, struct nn *nn, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Looks up many after params_expect has found them: a forward reads its weights without a check at
 * each line. */
struct params_reader { struct params *set; struct nn *nn; const char *file; struct err *err; int rc;
                       const struct netshard *shard; };     /* this rank's share, NULL: all (netshard.h) */
/* Returns a tensor in any case; one that is missing has no use but to go on to the check. */
struct nn_tensor *params_get(struct params_reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Of a fixed set: the matrix [out, in] of a linear layer, packed; its plain numbers are gone from then on.
 * NULL when it is missing (r->rc says so). */
const struct nn_packed *params_packed(struct params_reader *r, const char *name);

#endif
