#include "workers/parallel/sharesum.h"

#include "workers/kernels/kernels.h"
#include "workers/parallel/reducestate.h"

#include <stdlib.h>
#include <string.h>

/* Runs [first, end) of the row; share[i]: how many of their numbers rank i wants. */
struct sharesum_bucket {
    int first, end;
    uint64_t number;            /* rides in its messages */
    int64_t share[MESH_TP_MAX];
    uint8_t *in[MESH_TP_MAX];
};

static struct comm_req *requests(const struct sharesum *s, int bucket, int sends)
{
    int tp = s->wire.mesh->tp;
    return s->req + ((int64_t)bucket * 2 + sends) * tp;
}

/* Numbers of a run that rank i wants. */
static struct sharesum_run cut(const struct sharesum *s, struct sharesum_run run, int i)
{
    int64_t begin = run.at > s->border[i] ? run.at : s->border[i], end = run.at + run.n;
    end = end < s->border[i + 1] ? end : s->border[i + 1];
    return (struct sharesum_run){begin, end > begin ? end - begin : 0};
}

/* --- start and end */

static size_t round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

static size_t message_bytes(int n_piece, int64_t n)
{
    return round_up(WIRE_HEADER_MAX + (size_t)n * (size_t)n_piece * sizeof(float));
}

/* What a row's messages take, however it is cut in buckets. */
static size_t row_bytes(const struct sharesum *s)
{
    const struct mesh *m = s->wire.mesh;
    size_t floats = 0;
    for (int i = 0; i < m->tp; i++) {
        int self = m->tp_index, n_piece = s->tree.n_piece[i];
        int64_t in = s->border[self + 1] - s->border[self], out = s->border[i + 1] - s->border[i];
        if (i != self)
            floats += (size_t)in * (size_t)n_piece + (size_t)out * (size_t)s->tree.n_piece[self];
    }
    return floats * sizeof(float) + (size_t)s->buckets_max * 2 * (size_t)m->tp * message_bytes(1, 16);
}

int sharesum_init(struct sharesum *s, struct comm *comm, const struct mesh *mesh, enum comm_channel channel,
                  const int64_t *border, int n_total, int runs_max, struct err *err)
{
    enum isa isa = ISA_SCALAR;
    int64_t n = border[mesh->tp];
    TRY(isa_choose(&isa, err));
    *s = (struct sharesum){.border = border, .runs_max = runs_max, .sum = kernels_get(isa)->add,
                           .buckets_max = (int)(n / SHARESUM_BUCKET) + 1};
    s->wire = (struct reduce){.comm = comm, .mesh = mesh, .channel = channel, .dtype = WIRE_F32};
    sumtree_init(&s->tree, mesh, n_total, 1);
    s->run = calloc((size_t)runs_max, sizeof *s->run);
    s->bucket = calloc((size_t)s->buckets_max, sizeof *s->bucket);
    s->req = calloc((size_t)s->buckets_max * 2 * (size_t)mesh->tp, sizeof *s->req);
    s->base_bytes = row_bytes(s);
    s->base = aligned_alloc(64, round_up(s->base_bytes));
    if (s->run != NULL && s->bucket != NULL && s->req != NULL && s->base != NULL)
        return ERR_OK;
    sharesum_free(s);
    return err_set(err, ERR_NOMEM, "no memory for sums of gradients between %d ranks", mesh->tp);
}

/* A send that an error has left under way may still be read by the transport: its memory stays. */
void sharesum_free(struct sharesum *s)
{
    bool busy = false;
    for (int i = 0; s->req != NULL && i < s->n_buckets * 2 * s->wire.mesh->tp; i++) {
        int done = 1;
        bool sends = i / s->wire.mesh->tp % 2 == 1;
        struct comm *c = s->wire.comm;
        if (!sends)
            c->table->cancel(c, &s->req[i]);
        else if (s->req[i].handle != NULL && c->table->test(c, &s->req[i], &done, NULL) == ERR_OK)
            busy |= !done;
    }
    if (!busy)
        free(s->base);
    free(s->run);
    free(s->bucket);
    free(s->req);
    memset(s, 0, sizeof *s);
}

/* --- buckets */

void sharesum_begin(struct sharesum *s, const float *pieces, int64_t stride)
{
    s->pieces = pieces;
    s->stride = stride;
    s->n_runs = s->n_buckets = s->looked = 0;
    s->waiting = 0;
    s->used = 0;
}

static uint8_t *take(struct sharesum *s, size_t bytes)
{
    uint8_t *at = s->base + s->used;
    s->used += bytes;
    ASSERT(s->used <= s->base_bytes);
    return at;
}

/* This rank's pieces of what peer `to` wants of a bucket: [n_piece][share], run after run. */
static int send_share(struct sharesum *s, int bucket, int to, struct err *err)
{
    const struct sharesum_bucket *b = &s->bucket[bucket];
    const struct reduce *r = &s->wire;
    int mine = s->tree.n_piece[r->mesh->tp_index];
    int64_t n = b->share[to];
    struct wire_tensor t = {.network = (uint32_t)r->mesh->network, .kind = WIRE_PARTIAL, .dtype = WIRE_F32,
                            .step = b->number, .n_dims = 2, .shape = {(uint64_t)mine, (uint64_t)n},
                            .data_bytes = (size_t)n * (size_t)mine * sizeof(float)};
    uint8_t *msg = take(s, message_bytes(mine, n));
    void *data;
    size_t bytes = wire_tensor_begin(msg, r->comm->epoch, &t, &data);
    float *at = data;
    for (int j = 0; j < mine; j++)
        for (int i = b->first; i < b->end; i++) {
            struct sharesum_run part = cut(s, s->run[i], to);
            memcpy(at, s->pieces + j * s->stride + part.at, (size_t)part.n * sizeof(float));
            at += part.n;
        }
    return r->comm->table->send_begin(r->comm, r->mesh->tp_ranks[to], r->channel, msg, bytes,
                                      &requests(s, bucket, 1)[to], err);
}

static int receive_share(struct sharesum *s, int bucket, int from, struct err *err)
{
    struct sharesum_bucket *b = &s->bucket[bucket];
    const struct reduce *r = &s->wire;
    size_t cap = message_bytes(s->tree.n_piece[from], b->share[r->mesh->tp_index]);
    b->in[from] = take(s, cap);
    return r->comm->table->recv_begin(r->comm, r->mesh->tp_ranks[from], r->channel, b->in[from], cap,
                                      &requests(s, bucket, 0)[from], err);
}

/* The runs that wait become a bucket, which leaves. */
static int close_bucket(struct sharesum *s, struct err *err)
{
    int k = s->n_buckets++, tp = s->wire.mesh->tp, self = s->wire.mesh->tp_index;
    struct sharesum_bucket *b = &s->bucket[k];
    ASSERT(k < s->buckets_max);
    *b = (struct sharesum_bucket){.first = k > 0 ? b[-1].end : 0, .end = s->n_runs,
                                  .number = s->n_sent++};
    s->waiting = 0;
    for (int i = b->first; i < b->end; i++)
        for (int peer = 0; peer < tp; peer++)
            b->share[peer] += cut(s, s->run[i], peer).n;
    for (int i = 0; i < tp; i++)
        if (i != self && s->tree.n_piece[i] > 0 && b->share[self] > 0)
            TRY(receive_share(s, k, i, err));
    for (int d = 1; d < tp; d++) {
        int to = (self + d) % tp;       /* each begins with another peer: no link is a queue */
        if (s->tree.n_piece[self] > 0 && b->share[to] > 0)
            TRY(send_share(s, k, to, err));
    }
    return ERR_OK;
}

int sharesum_add(struct sharesum *s, int64_t at, int64_t n, struct err *err)
{
    ASSERT(s->n_runs < s->runs_max);
    s->run[s->n_runs++] = (struct sharesum_run){at, n};
    s->waiting += n;
    return s->waiting >= SHARESUM_BUCKET ? close_bucket(s, err) : ERR_OK;
}

/* One test moves on all that the transport has under way. */
int sharesum_look(struct sharesum *s, struct err *err)
{
    int n = s->n_buckets * 2 * s->wire.mesh->tp, done = 1;
    while (s->looked < n && s->req[s->looked].handle == NULL)
        s->looked++;
    return s->looked < n ? s->wire.comm->table->test(s->wire.comm, &s->req[s->looked], &done, err) : ERR_OK;
}

/* --- sums */

/* out: the share. */
static int add_bucket(struct sharesum *s, int bucket, float *out, struct err *err)
{
    const struct sharesum_bucket *b = &s->bucket[bucket];
    int tp = s->wire.mesh->tp, self = s->wire.mesh->tp_index;
    const float *src[MESH_TP_MAX] = {0};
    int64_t stride[MESH_TP_MAX];
    s->wire.sequence = b->number;
    for (int i = 0; i < tp; i++) {
        stride[i] = i == self ? s->stride : b->share[self];
        if (i != self && s->tree.n_piece[i] > 0)
            TRY(reduce_view(&s->wire, b->in[i], requests(s, bucket, 0)[i].bytes, WIRE_PARTIAL, WIRE_F32, i,
                            s->tree.n_piece[i], b->share[self], NULL, &src[i], err));
    }
    for (int k = b->first; k < b->end; k++) {
        struct sharesum_run part = cut(s, s->run[k], self);
        if (part.n == 0)
            continue;
        src[self] = s->pieces + part.at;
        sumtree_add(&s->tree, s->sum, out + (part.at - s->border[self]), src, stride, part.n);
        for (int i = 0; i < tp; i++)
            src[i] += i == self || src[i] == NULL ? 0 : part.n;
    }
    return ERR_OK;
}

int sharesum_finish(struct sharesum *s, float *out, struct err *err)
{
    int tp = s->wire.mesh->tp, self = s->wire.mesh->tp_index;
    if (s->waiting > 0)
        TRY(close_bucket(s, err));
    for (int k = 0; k < s->n_buckets; k++) {
        TRY(comm_wait_all(s->wire.comm, requests(s, k, 0), tp, err));
        if (s->bucket[k].share[self] > 0)
            TRY(add_bucket(s, k, out, err));
    }
    for (int k = 0; k < s->n_buckets; k++)
        TRY(comm_wait_all(s->wire.comm, requests(s, k, 1), tp, err));
    return ERR_OK;
}
