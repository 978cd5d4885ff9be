/* workermodel.h - what a rank holds of a language model: file, description, place, shard, decoder.
 * Owner:  one struct owns all of it; workermodel_free, twice if you like.
 * Ranks:  workermodel_load is collective on the tensor-parallel groups of the plan. */
#ifndef MUSTER_WORKERMODEL_H
#define MUSTER_WORKERMODEL_H

#include "workers/models/decoder.h"

struct workermodel {
    struct tensorfile file; bool file_open;
    struct model_config config; bool config_read;
    struct mesh mesh; int held;
    struct decoder_weights weights;
    struct decoder *decoder;            /* NULL while nothing is loaded */
    char *path;
    int threads;
};

/* Opens the file or folder (its headers only); closes another one. */
int workermodel_open(struct workermodel *m, const char *path, struct err *err);
/* In mem. */
int workermodel_describe(struct workermodel *m, struct arena *mem, Muster__ModelSpec **spec,
                         struct err *err);
/* Reads and packs this rank's share. Fills all of *done but rank and memory peak. */
int workermodel_load(struct workermodel *m, const Muster__Load *l, struct comm *comm, int threads,
                     Muster__Loaded *done, struct err *err);
/* Is this the rank whose tokens count: the first of the last stage? */
bool workermodel_samples(const struct workermodel *m);
void workermodel_free(struct workermodel *m);

#endif
