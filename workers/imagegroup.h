/* imagegroup.h - the ranks that run one denoiser together: its layers in stages, each shared by tp ranks.
 * How:    the first rank leads: it embeds and ends, and says with an ImageStep what comes.
 *         All numbers travel as Activation messages: the leader's rows to the others of its stage, from
 *         stage to stage, and back. A call is cut into up to 2 pp batches, so that every stage has work.
 * Bytes:  those of one rank: samples are computed one by one, sums in the tree of split.h.
 * Owner:  borrows comm and denoiser; messages' memory grows to the largest step and stays.
 * Ranks:  imagegroup_run is called by the leader, imagegroup_serve by the others for each ImageStep. */
#ifndef MUSTER_IMAGEGROUP_H
#define MUSTER_IMAGEGROUP_H

#include "workers/models/imagefamily.h"
#include "workers/models/netshard.h"

struct imagegroup_sent;

struct imagegroup {
    struct comm *comm;
    struct mesh mesh;
    struct reduce reduce;
    struct netshard shard;
    struct netshard_held held;          /* of the denoiser's weights */
    bool member, summing;               /* has a place in the plan; reduce is there */
    int *ranks;                         /* [stages x tp] of the group, stage by stage */
    uint64_t step;                      /* of the leader's next batch */
    uint8_t *in; size_t in_cap;
    struct imagegroup_sent *sent; int n_sent; uint64_t at;      /* messages that may be under way */
    float *rows; size_t rows_cap;       /* the leader's, of the call under way */
};

/* This rank's place in the plan, for a denoiser of n_layers. If it fails, imagegroup_free all the same. */
int imagegroup_init(struct imagegroup *g, struct comm *comm, const Muster__Plan *plan, int n_layers,
                    int head_dim, struct err *err);
void imagegroup_free(struct imagegroup *g);     /* accepts a zeroed one */

/* imagepart_run by all ranks of the group. A call that is wrong in itself fails before anybody else hears of
 * it. Collective on the group. */
int imagegroup_run(struct imagegroup *g, struct imagepart *part, struct nn *nn, const struct imagetensors *in,
                   struct imagetensors *out, struct err *err);
/* A member's part of a batch. */
int imagegroup_serve(struct imagegroup *g, struct imagepart *part, struct nn *nn, const Muster__ImageStep *m,
                     int peer, struct err *err);

#endif
