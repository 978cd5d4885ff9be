/* denoiserteam.h - one call of a denoiser by tp x pp ranks, a thread each, that load and compute only their
 * shares; what goes from stage to stage is handed over between barriers. */
#ifndef MUSTER_TESTS_DENOISERTEAM_H
#define MUSTER_TESTS_DENOISERTEAM_H

#include "tests/unit/meshmaker.h"
#include "tests/unit/rankteam.h"
#include "workers/models/mmdit.h"
#include "workers/models/pixart.h"

#include <stdlib.h>
#include <string.h>

struct denoiserteam {
    const char *weights;                    /* file */
    const struct mmdit_config *mm;          /* one of the two */
    const struct pixart_config *px;
    struct pixart_input in;                 /* context as its caption */
    struct nn_tensor *pooled;
    int tp, pp;
    bool half;
    float *out; int64_t n_out;              /* [b, c_out, h, w] */
    uint64_t weights_floats[RANKTEAM_MAX];  /* that each rank holds */
    /* between stages: */
    pthread_barrier_t barrier;
    float *rows[3]; int64_t shape[3][3];
    struct err err[RANKTEAM_MAX];
};

/* One rank's. */
struct denoiserteam_rank {
    struct denoiserteam *team;
    struct mesh mesh;
    struct reduce reduce;
    struct netshard shard;
    struct netshard_held held;
    struct params w;
    struct nn nn;
    struct params_reader r;
};

static inline void denoiserteam_publish(struct denoiserteam *t, const struct netrows *h)
{
    const struct nn_tensor *part[3] = {h->x, h->text, h->extra};
    for (int i = 0; i < 3; i++) {
        free(t->rows[i]);
        t->rows[i] = malloc((size_t)part[i]->n * sizeof(float));
        memcpy(t->rows[i], part[i]->data, (size_t)part[i]->n * sizeof(float));
        memcpy(t->shape[i], part[i]->shape, sizeof t->shape[i]);
    }
}

static inline void denoiserteam_take(const struct denoiserteam *t, struct nn *nn, struct netrows *h)
{
    struct nn_tensor *part[3];
    for (int i = 0; i < 3; i++) {
        part[i] = nn_new(nn, 3, t->shape[i]);
        memcpy(part[i]->data, t->rows[i], (size_t)part[i]->n * sizeof(float));
    }
    *h = (struct netrows){part[0], part[1], part[2]};
}

static inline int denoiserteam_open(struct denoiserteam_rank *k, struct comm *comm, int rank, struct err *err)
{
    struct denoiserteam *t = k->team;
    struct tensorfile file;
    int layers = t->px != NULL ? t->px->layers : t->mm->layers;
    int64_t begin[NN_PARTS_MAX + 1];
    k->mesh = mesh_make(rank, t->tp, t->pp, layers, NULL);
    k->shard = (struct netshard){&k->mesh, &k->reduce};
    k->held = (struct netshard_held){&k->shard, k->mesh.layer_begin, k->mesh.layer_end,
                                     t->px != NULL ? t->px->head_dim : t->mm->head_dim, rank == 0};
    nn_init(&k->nn, kernels_get(isa_detect()), NULL);
    k->nn.half = t->half;
    for (int64_t i = 0; i <= t->in.x->shape[0]; i++)
        begin[i] = i;
    nn_set_parts(&k->nn, (int)t->in.x->shape[0], begin);
    k->r = (struct params_reader){.set = &k->w, .nn = &k->nn, .file = t->weights, .err = err, .shard = &k->shard};
    TRY(reduce_init(&k->reduce, comm, &k->mesh, WIRE_F32, 1 << 24, err));
    TRY(tensorfile_open(&file, t->weights, err));
    int rc = params_load_cut(&k->w, &file, netshard_cut, &k->held, err);
    tensorfile_close(&file);
    k->w.fixed = true;
    for (int i = 0; i < k->w.n; i++)
        t->weights_floats[rank] += (uint64_t)k->w.p[i].n;
    return rc;
}

static inline int denoiserteam_begin(struct denoiserteam_rank *k)
{
    struct denoiserteam *t = k->team;
    struct netrows h;
    if (t->px != NULL)
        TRY(pixart_begin(&k->r, t->px, &t->in, &h));
    else
        TRY(mmdit_begin(&k->r, t->mm, t->in.x, t->in.time, t->in.caption, t->pooled, &h));
    denoiserteam_publish(t, &h);
    return ERR_OK;
}

static inline int denoiserteam_layers(struct denoiserteam_rank *k, struct netrows *h)
{
    struct denoiserteam *t = k->team;
    return t->px != NULL ? pixart_layers(&k->r, t->px, k->held.first, k->held.end, h)
                         : mmdit_layers(&k->r, t->mm, k->held.first, k->held.end, h);
}

static inline int denoiserteam_end(struct denoiserteam_rank *k)
{
    struct denoiserteam *t = k->team;
    struct netrows h;
    struct nn_tensor *y;
    int patch = t->px != NULL ? t->px->patch : t->mm->patch;
    int rows = (int)t->in.x->shape[2] / patch, cols = (int)t->in.x->shape[3] / patch;
    denoiserteam_take(t, &k->nn, &h);
    if (t->px != NULL)
        TRY(pixart_end(&k->r, t->px, &h, rows, cols, &y));
    else
        TRY(mmdit_end(&k->r, t->mm, &h, rows, cols, &y));
    t->n_out = y->n;
    t->out = malloc((size_t)y->n * sizeof *t->out);
    memcpy(t->out, y->data, (size_t)y->n * sizeof *t->out);
    return ERR_OK;
}

static inline void denoiserteam_body(struct comm *comm, int rank, void *ctx)
{
    struct denoiserteam *t = ctx;
    struct denoiserteam_rank k = {.team = t};
    int rc = denoiserteam_open(&k, comm, rank, &t->err[rank]);
    params_begin(&k.w);
    if (rc == ERR_OK && rank == 0)
        rc = denoiserteam_begin(&k);
    for (int s = 0; s < t->pp; s++) {
        struct netrows h;
        pthread_barrier_wait(&t->barrier);
        if (rc == ERR_OK && k.mesh.stage == s && t->rows[2] != NULL)
            denoiserteam_take(t, &k.nn, &h);
        pthread_barrier_wait(&t->barrier);
        if (rc != ERR_OK || k.mesh.stage != s || t->rows[2] == NULL)
            continue;
        rc = denoiserteam_layers(&k, &h);
        if (rc == ERR_OK && k.mesh.tp_index == 0)
            denoiserteam_publish(t, &h);
    }
    pthread_barrier_wait(&t->barrier);
    if (rc == ERR_OK && rank == 0 && t->rows[2] != NULL)
        denoiserteam_end(&k);
    params_free(&k.w);
    nn_free(&k.nn);
    reduce_free(&k.reduce);
}

/* Fills out (the caller frees) and weights_floats; the first error otherwise. */
static inline int denoiserteam_run(struct denoiserteam *t, struct err *err)
{
    int n = t->tp * t->pp;
    pthread_barrier_init(&t->barrier, NULL, (unsigned)n);
    rankteam_run(n, denoiserteam_body, t);
    pthread_barrier_destroy(&t->barrier);
    for (int i = 0; i < 3; i++)
        free(t->rows[i]);
    for (int i = 0; i < n; i++)
        if (t->err[i].code != ERR_OK)
            return err_set(err, t->err[i].code, "rank %d: %s", i, t->err[i].msg);
    return ERR_OK;
}

#endif
