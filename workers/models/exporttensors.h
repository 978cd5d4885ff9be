/* exporttensors.h - the tensors of a GGUF file to be written, and where their numbers come from.
 * Why:    a GGUF source gives its tensors one by one; a Hugging Face folder bundles and orders them
 *         otherwise (experts apart, gate and up in turn, q and k unpermuted). Both end in one list.
 * Owner:  the list owns its arrays; entries of the source are borrowed.
 * Ranks:  not collective. */
#ifndef MUSTER_EXPORTTENSORS_H
#define MUSTER_EXPORTTENSORS_H

#include "workers/models/tensormap.h"

/* A run of rows: source.n_mats matrices of source.rows rows each. Vectors are one row of `rows`
 * numbers per matrix. */
struct export_piece {
    struct load_source source;  /* row0 already includes the lane */
    bool vector;
    int permute;                /* head size of q and k whose rotary pairs move together; 0: none */
    float add;                  /* to every number: Gemma's 1 + w */
    const float *values;        /* instead of a source: numbers of the description */
};

struct export_tensor {
    char name[128];
    enum dtype type;            /* of the output; the plan sets it */
    int n_dims;
    int64_t shape[TENSOR_DIMS_MAX];
    struct export_piece *piece;
    int n_pieces;
};

struct export_list {
    struct export_tensor *tensor;
    int n, cap;
    float *divisors;            /* of llama3's rope, computed: folders hold the parameters instead */
};

/* All tensors of a GGUF file, as they are. */
int exporttensors_gguf(struct export_list *l, const struct tensorfile *t, struct err *err);
/* The tensors of a folder under their GGUF names. */
int exporttensors_folder(struct export_list *l, const struct model_config *c,
                         const struct tensorfile *t, struct err *err);
void exporttensors_free(struct export_list *l);

/* The row of archs.c under which c's model goes into GGUF (mistral and mixtral go as llama). */
const struct arch *exporttensors_arch(const struct model_config *c);

#endif
