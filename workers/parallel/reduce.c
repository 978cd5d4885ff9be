#include "workers/parallel/reduce.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PLANS_MAX = 8,              /* distinct cuts of K in a model: attention, FFN, experts */
    ITEMS_MAX = MESH_TP_MAX * 2 + SPLIT_PIECES_MAX,
    BLOCK = 1024,               /* floats added at a time: stack and sources stay in L1 */
    SLICE_ALIGN = 32,           /* borders of scattered slices: whole q8_0 blocks */
    /* Floats up to which one exchange beats scatter and gather, in all sent by a rank. Two ranks in
     * one host, bound: direct wins to 128 KB, scatter from 256 KB. */
    DIRECT_FLOATS = 32 * 1024,
};

/* The sum as a stack program over all ranks' pieces, left to right. */
struct sum_plan {
    int n_total, unit;
    int n_items;
    struct { uint8_t rank, piece, folds; } item[ITEMS_MAX];
    int n_piece[MESH_TP_MAX];
};

struct buffers {
    uint8_t *in[MESH_TP_MAX];   /* one message from each peer; [self] is unused */
    uint8_t *out[MESH_TP_MAX];  /* one message to each peer; direct sends use out[self] for all */
    size_t cap;                 /* bytes of each */
};

struct state {
    struct sum_plan plan[PLANS_MAX];
    int n_plans;
    int max_pieces;
    struct buffers a, b;        /* scatter (or direct) and gather */
    uint8_t *base;
    float *decoded;             /* wire types other than f32: [tp][max_pieces][n_slice_max] */
    int64_t decoded_stride;     /* floats of one rank's pieces there */
};

static double now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* --- plans */

/* Folds after each piece: the tree over the leaves, whose owned maximal subtrees are the pieces. */
static int walk_tree(struct sum_plan *p, const struct split_program *prog, int tp, int first, int last,
                     int *at_rank, int *at_piece)
{
    while (*at_rank < tp && *at_piece >= prog[*at_rank].n_piece) {
        (*at_rank)++;
        *at_piece = 0;
    }
    if (*at_rank < tp && prog[*at_rank].piece[*at_piece].first == first &&
        prog[*at_rank].piece[*at_piece].last == last) {
        ASSERT(p->n_items < ITEMS_MAX);
        p->item[p->n_items].rank = (uint8_t)*at_rank;
        p->item[p->n_items].piece = (uint8_t)(*at_piece)++;
        p->item[p->n_items++].folds = 0;
        return 1;
    }
    if (last - first == 1)
        return 0;
    int mid = (first + last) / 2;
    int left = walk_tree(p, prog, tp, first, mid, at_rank, at_piece);
    int right = walk_tree(p, prog, tp, mid, last, at_rank, at_piece);
    if (left && right)
        p->item[p->n_items - 1].folds++;
    return left || right;
}

static const struct sum_plan *plan_for(struct reduce *r, int n_total, int unit)
{
    struct state *s = r->state;
    const struct mesh *m = r->mesh;
    for (int i = 0; i < s->n_plans; i++)
        if (s->plan[i].n_total == n_total && s->plan[i].unit == unit)
            return &s->plan[i];
    ASSERT(s->n_plans < PLANS_MAX);
    struct sum_plan *p = &s->plan[s->n_plans++];
    struct split_program prog[MESH_TP_MAX];
    *p = (struct sum_plan){.n_total = n_total, .unit = unit};
    for (int i = 0; i < m->tp; i++) {
        prog[i] = split_program_for(n_total, unit, m->leaves, m->peer_segments[i]);
        p->n_piece[i] = prog[i].n_piece;
    }
    int at_rank = 0, at_piece = 0;
    walk_tree(p, prog, m->tp, 0, m->leaves, &at_rank, &at_piece);
    return p;
}

/* out [n] = the tree sum; piece j of rank i is at src[i] + j * stride[i]. out may be a source of the
 * same place. */
static void add_tree(const struct sum_plan *p, float *out, const float *const *src,
                     const int64_t *stride, int64_t n)
{
    if (p->n_items == 2) {
        const float *a = src[p->item[0].rank] + p->item[0].piece * stride[p->item[0].rank];
        const float *b = src[p->item[1].rank] + p->item[1].piece * stride[p->item[1].rank];
        for (int64_t i = 0; i < n; i++)
            out[i] = a[i] + b[i];
        return;
    }
    float stack[8][BLOCK];
    for (int64_t at = 0; at < n; at += BLOCK) {
        int count = n - at < BLOCK ? (int)(n - at) : BLOCK, height = 0;
        for (int k = 0; k < p->n_items; k++) {
            const float *piece = src[p->item[k].rank] + p->item[k].piece * stride[p->item[k].rank] + at;
            memcpy(stack[height++], piece, (size_t)count * sizeof *piece);
            for (int f = 0; f < p->item[k].folds; f++, height--)
                for (int i = 0; i < count; i++)
                    stack[height - 2][i] += stack[height - 1][i];
        }
        if (height > 0)
            memcpy(out + at, stack[0], (size_t)count * sizeof *out);
        else
            memset(out + at, 0, (size_t)count * sizeof *out);
    }
}

/* --- messages */

static size_t pack(struct reduce *r, uint8_t *msg, enum wire_kind kind, int n_piece, int64_t n,
                   const float *src, int64_t stride)
{
    double begun = now_us();
    void *data;
    size_t one = wire_data_bytes(r->dtype, (uint64_t)n);
    struct wire_tensor t = {.network = (uint32_t)r->mesh->network, .kind = kind, .dtype = r->dtype,
                            .step = r->sequence, .n_dims = 2,
                            .shape = {(uint64_t)n_piece, (uint64_t)n},
                            .data_bytes = one * (size_t)n_piece};
    size_t bytes = wire_tensor_begin(msg, r->comm->epoch, &t, &data);
    for (int j = 0; j < n_piece; j++)
        wire_encode(r->dtype, (uint8_t *)data + one * (size_t)j, src + j * stride, (uint64_t)n);
    r->wire_us += now_us() - begun;
    r->bytes += bytes;
    return bytes;
}

static int check_view(const struct reduce *r, const struct wire_tensor *t, enum wire_kind kind,
                      int n_piece, int64_t n, int from, struct err *err)
{
    if (t->kind != kind || t->step != r->sequence || t->n_dims != 2 ||
        t->shape[0] != (uint64_t)n_piece || t->shape[1] != (uint64_t)n || t->dtype != r->dtype)
        return err_set(err, ERR_PEER,
                       "rank %d sent tensor %llu of %llu x %llu where %llu of %d x %lld was due",
                       r->mesh->tp_ranks[from], (unsigned long long)t->step,
                       (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
                       (unsigned long long)r->sequence, n_piece, (long long)n);
    return ERR_OK;
}

/* The pieces in a received message as f32: in place, or decoded into this rank's room for `from`. */
static int view(struct reduce *r, const uint8_t *msg, size_t bytes, enum wire_kind kind, int from,
                int n_piece, int64_t n, const float **src, struct err *err)
{
    struct state *s = r->state;
    struct wire_tensor t;
    double begun = now_us();
    TRY(wire_tensor_view(msg, bytes, r->comm->epoch, &t, err));
    TRY(check_view(r, &t, kind, n_piece, n, from, err));
    if (r->dtype == WIRE_F32) {
        *src = t.data;
    } else {
        float *to = s->decoded + from * s->decoded_stride;
        size_t one = wire_data_bytes(r->dtype, (uint64_t)n);
        for (int j = 0; j < n_piece; j++)
            wire_decode(r->dtype, to + j * n, (const uint8_t *)t.data + one * (size_t)j, (uint64_t)n);
        *src = to;
    }
    r->wire_us += now_us() - begun;
    return ERR_OK;
}

static int begin_recv(struct reduce *r, struct buffers *b, int from, struct comm_req *req,
                      struct err *err)
{
    return r->comm->table->recv_begin(r->comm, r->mesh->tp_ranks[from], COMM_TP, b->in[from], b->cap,
                                      req, err);
}

static int begin_send(struct reduce *r, int to, const uint8_t *msg, size_t bytes, struct comm_req *req,
                      struct err *err)
{
    return r->comm->table->send_begin(r->comm, r->mesh->tp_ranks[to], COMM_TP, msg, bytes, req, err);
}

static int finish(struct reduce *r, struct comm_req *reqs, int n, struct err *err)
{
    double begun = now_us();
    int rc = comm_wait_all(r->comm, reqs, n, err);
    r->wait_us += now_us() - begun;
    return rc;
}

/* --- small sums: every rank's pieces to every peer, one latency */

static int sum_direct(struct reduce *r, const struct sum_plan *p, float *out, const float *pieces,
                      int64_t stride, int64_t n, struct err *err)
{
    struct state *s = r->state;
    struct comm_req req[2 * MESH_TP_MAX] = {{0}};
    struct buffers *b = &s->a;
    const float *src[MESH_TP_MAX] = {0};
    int64_t strides[MESH_TP_MAX];
    int self = r->mesh->tp_index, tp = r->mesh->tp, n_req = 0, mine = p->n_piece[self];
    for (int i = 0; i < tp; i++)
        if (i != self && p->n_piece[i] > 0)
            TRY(begin_recv(r, b, i, &req[i], err));
    if (mine > 0) {
        size_t bytes = pack(r, b->out[self], WIRE_PARTIAL, mine, n, pieces, stride);
        for (int i = 0; i < tp; i++)
            if (i != self)
                TRY(begin_send(r, i, b->out[self], bytes, &req[tp + n_req++], err));
        src[self] = pieces;
        if (r->dtype != WIRE_F32)       /* all ranks must add the same rounded numbers */
            TRY(view(r, b->out[self], bytes, WIRE_PARTIAL, self, mine, n, &src[self], err));
    }
    TRY(finish(r, req, tp + n_req, err));
    for (int i = 0; i < tp; i++) {
        strides[i] = i == self && r->dtype == WIRE_F32 ? stride : n;
        if (i != self && p->n_piece[i] > 0)
            TRY(view(r, b->in[i], req[i].bytes, WIRE_PARTIAL, i, p->n_piece[i], n, &src[i], err));
    }
    add_tree(p, out, src, strides, n);
    return ERR_OK;
}

/* --- large sums: slice i of all pieces to rank i, which adds it and sends the sum to all */

static struct split_range slice_of(int64_t n, int tp, int i)
{
    int64_t units = (n + SLICE_ALIGN - 1) / SLICE_ALIGN;
    int64_t begin = units * i / tp * SLICE_ALIGN, end = units * (i + 1) / tp * SLICE_ALIGN;
    return (struct split_range){(int)(begin < n ? begin : n), (int)(end < n ? end : n)};
}

static int scatter(struct reduce *r, const struct sum_plan *p, const float *pieces, int64_t stride,
                   int64_t n, struct comm_req *req, struct err *err)
{
    struct buffers *b = &((struct state *)r->state)->a;
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    struct split_range own = slice_of(n, tp, self);
    for (int i = 0; i < tp; i++)
        if (i != self && p->n_piece[i] > 0 && own.end > own.begin)
            TRY(begin_recv(r, b, i, &req[i], err));
    for (int d = 1; d < tp && p->n_piece[self] > 0; d++) {
        int to = (self + d) % tp;       /* start at different peers, so that no link is a queue */
        struct split_range sl = slice_of(n, tp, to);
        if (sl.end == sl.begin)
            continue;
        size_t bytes = pack(r, b->out[to], WIRE_PARTIAL, p->n_piece[self], sl.end - sl.begin,
                            pieces + sl.begin, stride);
        TRY(begin_send(r, to, b->out[to], bytes, &req[tp + to], err));
    }
    return finish(r, req, 2 * tp, err);
}

static int add_own_slice(struct reduce *r, const struct sum_plan *p, float *out, const float *pieces,
                         int64_t stride, int64_t n, const struct comm_req *req, struct err *err)
{
    struct buffers *b = &((struct state *)r->state)->a;
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    struct split_range own = slice_of(n, tp, self);
    const float *src[MESH_TP_MAX] = {0};
    int64_t strides[MESH_TP_MAX], count = own.end - own.begin;
    for (int i = 0; i < tp; i++) {
        strides[i] = count;
        if (i == self) {
            src[i] = pieces + own.begin;
            strides[i] = stride;
        } else if (p->n_piece[i] > 0 && count > 0) {
            TRY(view(r, b->in[i], req[i].bytes, WIRE_PARTIAL, i, p->n_piece[i], count, &src[i], err));
        }
    }
    add_tree(p, out + own.begin, src, strides, count);
    return ERR_OK;
}

static int gather_slices(struct reduce *r, float *out, int64_t n, struct err *err)
{
    struct buffers *b = &((struct state *)r->state)->b;
    struct comm_req req[2 * MESH_TP_MAX] = {{0}};
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    struct split_range own = slice_of(n, tp, self);
    for (int i = 0; i < tp; i++) {
        struct split_range sl = slice_of(n, tp, i);
        if (i != self && sl.end > sl.begin)
            TRY(begin_recv(r, b, i, &req[i], err));
    }
    if (own.end > own.begin) {
        const float *same;
        size_t bytes = pack(r, b->out[self], WIRE_SUM, 1, own.end - own.begin, out + own.begin, 0);
        for (int d = 1; d < tp; d++)
            TRY(begin_send(r, (self + d) % tp, b->out[self], bytes, &req[tp + d], err));
        if (r->dtype != WIRE_F32) {
            TRY(view(r, b->out[self], bytes, WIRE_SUM, self, 1, own.end - own.begin, &same, err));
            memcpy(out + own.begin, same, (size_t)(own.end - own.begin) * sizeof *out);
        }
    }
    TRY(finish(r, req, 2 * tp, err));
    for (int i = 0; i < tp; i++) {
        struct split_range sl = slice_of(n, tp, i);
        const float *src;
        if (i == self || sl.end == sl.begin)
            continue;
        TRY(view(r, b->in[i], req[i].bytes, WIRE_SUM, i, 1, sl.end - sl.begin, &src, err));
        memcpy(out + sl.begin, src, (size_t)(sl.end - sl.begin) * sizeof *out);
    }
    return ERR_OK;
}

static int sum_scattered(struct reduce *r, const struct sum_plan *p, float *out, const float *pieces,
                         int64_t stride, int64_t n, struct err *err)
{
    struct comm_req req[2 * MESH_TP_MAX] = {{0}};
    TRY(scatter(r, p, pieces, stride, n, req, err));
    TRY(add_own_slice(r, p, out, pieces, stride, n, req, err));
    return gather_slices(r, out, n, err);
}

/* --- the interface */

static size_t message_bytes(const struct reduce *r, int pieces, int64_t n)
{
    size_t one = wire_data_bytes(r->dtype, (uint64_t)n);
    return (WIRE_HEADER_MAX + one * (size_t)pieces + 63) / 64 * 64;
}

/* Buffers for one message of each peer and to each peer. */
static void place(struct buffers *b, uint8_t **at, int tp, size_t cap)
{
    b->cap = cap;
    for (int i = 0; i < tp; i++, *at += 2 * cap) {
        b->in[i] = *at;
        b->out[i] = *at + cap;
    }
}

static int most_pieces(const struct mesh *m)
{
    int most = 1;
    for (int i = 0; i < m->tp; i++) {   /* a K with something in every leaf */
        struct split_program p =
            split_program_for(m->leaves * SPLIT_GROUP, SPLIT_GROUP, m->leaves, m->peer_segments[i]);
        most = p.n_piece > most ? p.n_piece : most;
    }
    return most;
}

int reduce_init(struct reduce *r, struct comm *comm, const struct mesh *mesh, enum wire_dtype dtype,
                int64_t n_max, struct err *err)
{
    *r = (struct reduce){.comm = comm, .mesh = mesh, .dtype = dtype, .n_max = n_max,
                         .direct_max = DIRECT_FLOATS};
    struct state *s = r->state = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for reductions");
    s->max_pieces = most_pieces(mesh);
    int64_t slice = n_max / mesh->tp + SLICE_ALIGN, direct = n_max < DIRECT_FLOATS ? n_max : DIRECT_FLOATS;
    int64_t partial = direct > slice ? direct : slice;
    size_t cap_a = message_bytes(r, s->max_pieces, partial);
    /* gathers of whole parts use b: up to n_max floats from one peer */
    size_t cap_b = message_bytes(r, 1, n_max);
    size_t total = 2 * (cap_a + cap_b) * (size_t)mesh->tp;
    s->base = mesh->tp > 1 ? aligned_alloc(64, total) : NULL;
    s->decoded_stride = partial * s->max_pieces > n_max ? partial * s->max_pieces : n_max;
    if (dtype != WIRE_F32 && mesh->tp > 1)
        s->decoded = malloc((size_t)(s->decoded_stride * mesh->tp) * sizeof *s->decoded);
    if (mesh->tp > 1 && (s->base == NULL || (dtype != WIRE_F32 && s->decoded == NULL))) {
        reduce_free(r);
        return err_set(err, ERR_NOMEM, "no memory for reductions of %lld numbers", (long long)n_max);
    }
    uint8_t *at = s->base;
    if (at != NULL) {
        place(&s->a, &at, mesh->tp, cap_a);
        place(&s->b, &at, mesh->tp, cap_b);
    }
    return ERR_OK;
}

void reduce_free(struct reduce *r)
{
    struct state *s = r->state;
    if (s != NULL) {
        free(s->base);
        free(s->decoded);
        free(s);
    }
    memset(r, 0, sizeof *r);
}

int reduce_sum(struct reduce *r, float *out, const float *pieces, int64_t piece_stride, int64_t n,
               int n_total, int unit, struct err *err)
{
    const struct sum_plan *p = plan_for(r, n_total, unit);
    ASSERT(n <= r->n_max);
    if (r->mesh->tp == 1) {
        if (out != pieces)
            memcpy(out, pieces, (size_t)n * sizeof *out);
        return ERR_OK;
    }
    double begun = now_us();
    bool small = n <= r->direct_max;
    int rc = small ? sum_direct(r, p, out, pieces, piece_stride, n, err)
                   : sum_scattered(r, p, out, pieces, piece_stride, n, err);
    r->sequence++;
    r->us += now_us() - begun;
    return rc;
}

/* Parts of all ranks to `root`, or to all when root is -1. */
static int gather(struct reduce *r, int root, float *out, const float *mine, const int64_t *counts,
                  struct err *err)
{
    struct buffers *b = &((struct state *)r->state)->b;
    struct comm_req req[2 * MESH_TP_MAX] = {{0}};
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    bool takes = root < 0 || root == self;
    enum wire_dtype dtype = r->dtype;
    int64_t at = 0;
    r->dtype = WIRE_F32;        /* logits and embeddings are never rounded on the way */
    int rc = ERR_OK;
    for (int i = 0; takes && i < tp && rc == ERR_OK; i++)
        if (i != self && counts[i] > 0)
            rc = begin_recv(r, b, i, &req[i], err);
    if (rc == ERR_OK && counts[self] > 0) {
        size_t bytes = pack(r, b->out[self], WIRE_LOGITS, 1, counts[self], mine, 0);
        for (int d = 1; d < tp && rc == ERR_OK; d++)
            if (root < 0 || root == (self + d) % tp)
                rc = begin_send(r, (self + d) % tp, b->out[self], bytes, &req[tp + d], err);
    }
    if (rc == ERR_OK)
        rc = finish(r, req, 2 * tp, err);
    for (int i = 0; takes && i < tp && rc == ERR_OK; at += counts[i++]) {
        const float *src = mine;
        if (counts[i] > 0 && i != self)
            rc = view(r, b->in[i], req[i].bytes, WIRE_LOGITS, i, 1, counts[i], &src, err);
        if (rc == ERR_OK && counts[i] > 0 && out + at != src)
            memmove(out + at, src, (size_t)counts[i] * sizeof *out);
    }
    r->dtype = dtype;
    r->sequence++;
    return rc;
}

int reduce_gather(struct reduce *r, float *out, const float *mine, const int64_t *counts,
                  struct err *err)
{
    return reduce_collect(r, -1, out, mine, counts, err);
}

int reduce_collect(struct reduce *r, int root, float *out, const float *mine, const int64_t *counts,
                   struct err *err)
{
    for (int i = 0; i < r->mesh->tp; i++)
        ASSERT(counts[i] >= 0 && counts[i] <= r->n_max);
    if (r->mesh->tp == 1) {
        if (out != mine)
            memmove(out, mine, (size_t)counts[0] * sizeof *out);
        return ERR_OK;
    }
    double begun = now_us();
    int rc = gather(r, root, out, mine, counts, err);
    r->us += now_us() - begun;
    return rc;
}

/* Rows of one owner between `rows` and the dense room of a message. */
static void copy_rows(float *rows, float *dense, const uint8_t *owner, int who, int n_rows, int dim,
                      bool to_dense)
{
    for (int i = 0; i < n_rows; i++) {
        float *row = rows + (int64_t)i * dim;
        if (owner[i] != who)
            continue;
        memcpy(to_dense ? dense : row, to_dense ? row : dense, (size_t)dim * sizeof *row);
        dense += dim;
    }
}

static int exchange_rows(struct reduce *r, float *rows, const uint8_t *owner, int n_rows, int dim,
                         const int64_t *counts, struct err *err)
{
    struct buffers *b = &((struct state *)r->state)->b;
    struct comm_req req[2 * MESH_TP_MAX] = {{0}};
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    for (int i = 0; i < tp; i++)
        if (i != self && counts[i] > 0)
            TRY(begin_recv(r, b, i, &req[i], err));
    if (counts[self] > 0) {
        struct wire_tensor t = {.network = (uint32_t)r->mesh->network, .kind = WIRE_EMBED,
                                .dtype = WIRE_F32, .step = r->sequence, .n_dims = 2,
                                .shape = {1, (uint64_t)counts[self]},
                                .data_bytes = (size_t)counts[self] * sizeof *rows};
        void *data;
        size_t bytes = wire_tensor_begin(b->out[self], r->comm->epoch, &t, &data);
        copy_rows(rows, data, owner, self, n_rows, dim, true);
        r->bytes += bytes;
        for (int d = 1; d < tp; d++)
            TRY(begin_send(r, (self + d) % tp, b->out[self], bytes, &req[tp + d], err));
    }
    TRY(finish(r, req, 2 * tp, err));
    for (int i = 0; i < tp; i++) {
        const float *src;
        if (i == self || counts[i] == 0)
            continue;
        TRY(view(r, b->in[i], req[i].bytes, WIRE_EMBED, i, 1, counts[i], &src, err));
        copy_rows(rows, (float *)(uintptr_t)src, owner, i, n_rows, dim, false);
    }
    return ERR_OK;
}

int reduce_rows(struct reduce *r, float *rows, const uint8_t *owner, int n_rows, int dim,
                struct err *err)
{
    int64_t counts[MESH_TP_MAX] = {0};
    if (r->mesh->tp == 1)
        return ERR_OK;
    for (int i = 0; i < n_rows; i++) {
        ASSERT(owner[i] < r->mesh->tp);
        counts[owner[i]] += dim;
    }
    ASSERT((int64_t)n_rows * dim <= r->n_max);
    double begun = now_us();
    enum wire_dtype dtype = r->dtype;
    r->dtype = WIRE_F32;
    int rc = exchange_rows(r, rows, owner, n_rows, dim, counts, err);
    r->dtype = dtype;
    r->sequence++;
    r->us += now_us() - begun;
    return rc;
}
