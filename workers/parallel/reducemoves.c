/* Moves of whole numbers between the ranks of a group: never rounded, in rounds of bounded messages. */
#include "workers/parallel/reducestate.h"

#include <string.h>

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rank i's numbers of one round: [begin, end) of its counts[i]. */
struct window { int64_t begin, end; };

static struct window window_of(int64_t count, int64_t round)
{
    int64_t begin = smaller(count, round * REDUCE_MOVE_FLOATS);
    return (struct window){begin, smaller(count, begin + REDUCE_MOVE_FLOATS)};
}

/* How a move reads what this rank gives and writes what it gets. */
struct move {
    enum wire_kind kind;
    const int64_t *counts;      /* [tp] floats that each rank gives */
    int root;                   /* tp index that gets them, -1 all */
    void (*give)(void *ctx, float *to, struct window w);
    void (*get)(void *ctx, int from, const float *src, struct window w);
    void *ctx;
};

static int send_window(struct reduce *r, const struct move *m, struct window w, struct err *err)
{
    struct reduce_lane *lane = &((struct reduce_state *)r->state)->moves;
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    int64_t n = w.end - w.begin;
    struct wire_tensor t = {.network = (uint32_t)r->mesh->network, .kind = m->kind, .dtype = WIRE_F32,
                            .step = r->sequence, .n_dims = 2, .shape = {1, (uint64_t)n},
                            .data_bytes = (size_t)n * sizeof(float)};
    void *data;
    double begun = reduce_now_us();
    size_t bytes = wire_tensor_begin(lane->out[0], r->comm->epoch, &t, &data);
    m->give(m->ctx, data, w);
    r->wire_us += reduce_now_us() - begun;
    for (int d = 1; d < tp; d++)
        if (m->root < 0 || m->root == (self + d) % tp) {
            TRY(reduce_send(r, lane, (self + d) % tp, lane->out[0], bytes, err));
            r->bytes += bytes;
        }
    return ERR_OK;
}

static int move_round(struct reduce *r, const struct move *m, int64_t round, struct err *err)
{
    struct reduce_lane *lane = &((struct reduce_state *)r->state)->moves;
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    int gets = m->root < 0 || m->root == self;
    struct window own = window_of(m->counts[self], round);
    for (int i = 0; i < tp && gets; i++) {
        struct window w = window_of(m->counts[i], round);
        if (i != self && w.end > w.begin)
            TRY(reduce_recv(r, lane, i, err));
    }
    if (own.end > own.begin)
        TRY(send_window(r, m, own, err));
    TRY(reduce_wait(r, lane->recv, err));
    TRY(reduce_wait(r, lane->send, err));
    for (int i = 0; i < tp && gets; i++) {
        struct window w = window_of(m->counts[i], round);
        const float *src;
        if (i == self || w.end == w.begin)
            continue;
        TRY(reduce_view(r, lane->in[i], lane->recv[i].bytes, m->kind, WIRE_F32, i, 1, w.end - w.begin,
                        NULL, &src, err));
        m->get(m->ctx, i, src, w);
    }
    return ERR_OK;
}

static int move(struct reduce *r, const struct move *m, struct err *err)
{
    int64_t most = 0, rounds;
    double begun = reduce_now_us();
    int rc = ERR_OK;
    for (int i = 0; i < r->mesh->tp; i++)
        most = m->counts[i] > most ? m->counts[i] : most;
    rounds = (most + REDUCE_MOVE_FLOATS - 1) / REDUCE_MOVE_FLOATS;
    for (int64_t k = 0; k < rounds && rc == ERR_OK; k++)
        rc = move_round(r, m, k, err);
    r->sequence++;
    r->us += reduce_now_us() - begun;
    return rc;
}

/* --- parts, one after the other */

struct parts { float *out; const float *mine; int64_t begin[MESH_TP_MAX]; };

static void give_part(void *ctx, float *to, struct window w)
{
    const struct parts *p = ctx;
    memcpy(to, p->mine + w.begin, (size_t)(w.end - w.begin) * sizeof *to);
}

static void get_part(void *ctx, int from, const float *src, struct window w)
{
    const struct parts *p = ctx;
    memcpy(p->out + p->begin[from] + w.begin, src, (size_t)(w.end - w.begin) * sizeof *src);
}

int reduce_collect(struct reduce *r, int root, float *out, const float *mine, const int64_t *counts,
                   struct err *err)
{
    struct parts p = {.out = out, .mine = mine};
    struct move m = {.kind = WIRE_LOGITS, .counts = counts, .root = root, .give = give_part,
                     .get = get_part, .ctx = &p};
    int self = r->mesh->tp_index;
    for (int i = 0; i < r->mesh->tp; i++)
        ASSERT(counts[i] >= 0);
    for (int i = 1; i < r->mesh->tp; i++)
        p.begin[i] = p.begin[i - 1] + counts[i - 1];
    if ((root < 0 || root == self) && counts[self] > 0 && out + p.begin[self] != mine)
        memmove(out + p.begin[self], mine, (size_t)counts[self] * sizeof *out);
    return r->mesh->tp == 1 ? ERR_OK : move(r, &m, err);
}

int reduce_gather(struct reduce *r, float *out, const float *mine, const int64_t *counts,
                  struct err *err)
{
    return reduce_collect(r, -1, out, mine, counts, err);
}

/* --- rows, each from its owner */

struct rows { float *rows; const uint8_t *owner; int n_rows, dim, self; };

/* Numbers [w) of the rows of one owner, laid end to end: out of them or into them. */
static void copy_rows(const struct rows *t, int who, float *dense, struct window w, int into_rows)
{
    int64_t at = 0;     /* of a row in the owner's row of rows */
    for (int i = 0; i < t->n_rows && at < w.end; i++) {
        if (t->owner[i] != who)
            continue;
        int64_t begin = w.begin > at ? w.begin : at, end = smaller(w.end, at + t->dim);
        if (begin < end) {
            float *row = t->rows + (int64_t)i * t->dim + (begin - at), *flat = dense + (begin - w.begin);
            memcpy(into_rows ? row : flat, into_rows ? flat : row, (size_t)(end - begin) * sizeof *row);
        }
        at += t->dim;
    }
}

static void give_rows(void *ctx, float *to, struct window w)
{
    const struct rows *t = ctx;
    copy_rows(t, t->self, to, w, 0);
}

static void get_rows(void *ctx, int from, const float *src, struct window w)
{
    copy_rows(ctx, from, (float *)(uintptr_t)src, w, 1);
}

int reduce_rows(struct reduce *r, float *rows, const uint8_t *owner, int n_rows, int dim,
                struct err *err)
{
    int64_t counts[MESH_TP_MAX] = {0};
    struct rows t = {rows, owner, n_rows, dim, r->mesh->tp_index};
    struct move m = {.kind = WIRE_EMBED, .counts = counts, .root = -1, .give = give_rows,
                     .get = get_rows, .ctx = &t};
    for (int i = 0; i < n_rows; i++) {
        ASSERT(owner[i] < r->mesh->tp);
        counts[owner[i]] += dim;
    }
    return r->mesh->tp == 1 ? ERR_OK : move(r, &m, err);
}
