#include "workers/parallel/reduce.h"

#include "workers/parallel/reducestate.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Measured on two ranks in one host, bound to cores (tests/bench/bench_reduce). */
enum {
    CHUNK_FLOATS = 64 * 1024,       /* of a message: it and its sum stay in L2 while the next one flies */
    CHUNK_FLOATS_ALL = 128 * 1024,  /* of the messages to all peers: bounds the buffers of wide groups */
    DIRECT_FLOATS = 32 * 1024,      /* sent by a rank in all, up to which one exchange beats two; where
                                     * there are two ranks both send the same number of bytes */
    ALIGN = 32,                     /* borders of chunks and slices: whole q8_0 blocks */
};

double reduce_now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t align_up(int64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

/* --- messages */

size_t reduce_pack(struct reduce *r, uint8_t *msg, enum wire_kind kind, enum wire_dtype dtype,
                   int n_piece, int64_t n, const float *src, int64_t stride)
{
    double begun = reduce_now_us();
    void *data;
    size_t one = wire_data_bytes(dtype, (uint64_t)n);
    struct wire_tensor t = {.network = (uint32_t)r->mesh->network, .kind = kind, .dtype = dtype,
                            .step = r->sequence, .n_dims = 2,
                            .shape = {(uint64_t)n_piece, (uint64_t)n},
                            .data_bytes = one * (size_t)n_piece};
    if (n % ALIGN != 0 && n_piece > 1 && dtype == WIRE_Q8_0)    /* each piece has a short last block */
        t.shape[1] = (uint64_t)align_up(n);
    size_t bytes = wire_tensor_begin(msg, r->comm->epoch, &t, &data);
    for (int j = 0; j < n_piece; j++)
        wire_encode(dtype, (uint8_t *)data + one * (size_t)j, src + j * stride, (uint64_t)n);
    r->wire_us += reduce_now_us() - begun;
    r->bytes += bytes;
    return bytes;
}

static int check_view(const struct reduce *r, const struct wire_tensor *t, enum wire_kind kind,
                      enum wire_dtype dtype, int from, int n_piece, int64_t n, struct err *err)
{
    if (t->kind == kind && t->step == r->sequence && t->n_dims == 2 && t->dtype == dtype &&
        t->shape[0] == (uint64_t)n_piece && t->shape[1] == (uint64_t)n)
        return ERR_OK;
    return err_set(err, ERR_PEER,
                   "rank %d sent tensor %llu of %llu x %llu where %llu of %d x %lld was due",
                   r->mesh->tp_ranks[from], (unsigned long long)t->step,
                   (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
                   (unsigned long long)r->sequence, n_piece, (long long)n);
}

int reduce_view(struct reduce *r, const uint8_t *msg, size_t bytes, enum wire_kind kind,
                enum wire_dtype dtype, int from, int n_piece, int64_t n, float *decoded,
                const float **src, struct err *err)
{
    struct wire_tensor t;
    double begun = reduce_now_us();
    int64_t width = n_piece > 1 && dtype == WIRE_Q8_0 ? align_up(n) : n;
    TRY(wire_tensor_view(msg, bytes, r->comm->epoch, &t, err));
    TRY(check_view(r, &t, kind, dtype, from, n_piece, width, err));
    *src = t.data;
    if (dtype != WIRE_F32) {
        size_t one = wire_data_bytes(dtype, (uint64_t)n);
        for (int j = 0; j < n_piece; j++)
            wire_decode(dtype, decoded + j * n, (const uint8_t *)t.data + one * (size_t)j, (uint64_t)n);
        *src = decoded;
    }
    r->wire_us += reduce_now_us() - begun;
    return ERR_OK;
}

int reduce_recv(struct reduce *r, struct reduce_lane *lane, int from, struct err *err)
{
    return r->comm->table->recv_begin(r->comm, r->mesh->tp_ranks[from], r->channel, lane->in[from],
                                      lane->cap, &lane->recv[from], err);
}

int reduce_send(struct reduce *r, struct reduce_lane *lane, int to, const uint8_t *msg, size_t bytes,
                struct err *err)
{
    return r->comm->table->send_begin(r->comm, r->mesh->tp_ranks[to], r->channel, msg, bytes,
                                      &lane->send[to], err);
}

int reduce_wait(struct reduce *r, struct comm_req *req, struct err *err)
{
    int first = 0, tp = r->mesh->tp;
    while (first < tp && req[first].handle == NULL)
        first++;
    if (first == tp)
        return ERR_OK;      /* nothing is under way: not even a look at the clock */
    double begun = reduce_now_us();
    int rc = comm_wait_all(r->comm, req + first, tp - first, err);
    r->wait_us += reduce_now_us() - begun;
    return rc;
}

/* --- one chunk of a sum. Direct: every rank's pieces go to every peer, and all add all. Scattered: slice i
 * of all pieces goes to rank i, which adds it and sends the sum to all. Where numbers are rounded on the
 * way, the sum is rounded in both, and the borders are those of whole blocks: so the bits are the same. */

struct sum {
    const struct sumtree *tree;
    float *out;
    const float *pieces;
    int64_t stride;
    bool direct;
};

/* Floats of rank i's slice of a chunk, counted from the chunk's begin. */
static struct split_range slice_of(const struct reduce *r, const struct sum *s,
                                   const struct reduce_slot *c, int i)
{
    if (s->direct)
        return (struct split_range){0, (int)c->n};
    int64_t units = (c->n + ALIGN - 1) / ALIGN, tp = r->mesh->tp;
    return (struct split_range){(int)smaller(c->n, units * i / tp * ALIGN),
                                (int)smaller(c->n, units * (i + 1) / tp * ALIGN)};
}

static int send_pieces(struct reduce *r, const struct sum *s, struct reduce_slot *c, struct err *err)
{
    struct reduce_lane *lane = &c->pieces;
    int self = r->mesh->tp_index, tp = r->mesh->tp, mine = s->tree->n_piece[self];
    const float *src = s->pieces + c->at;
    size_t bytes = 0;
    for (int d = 1; d < tp && mine > 0; d++) {
        int to = (self + d) % tp;       /* each begins with another peer: no link is a queue */
        struct split_range cut = slice_of(r, s, c, to);
        uint8_t *msg = lane->out[s->direct ? 0 : to];
        if (cut.end == cut.begin)
            continue;
        if (d == 1 || !s->direct)
            bytes = reduce_pack(r, msg, WIRE_PARTIAL, r->dtype, mine, cut.end - cut.begin,
                                src + cut.begin, s->stride);
        TRY(reduce_send(r, lane, to, msg, bytes, err));
    }
    return ERR_OK;
}

static int begin_chunk(struct reduce *r, const struct sum *s, struct reduce_slot *c, struct err *err)
{
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    struct split_range own = slice_of(r, s, c, self);
    TRY(reduce_wait(r, c->pieces.send, err));       /* of the slot's last chunk */
    for (int i = 0; i < tp; i++)
        if (i != self && s->tree->n_piece[i] > 0 && own.end > own.begin)
            TRY(reduce_recv(r, &c->pieces, i, err));
    return send_pieces(r, s, c, err);
}

/* decode(encode(numbers)), as the others get them: out [n_piece][n]. */
static void round_trip(const struct reduce *r, const struct sum *s, struct reduce_slot *c, int n_piece,
                       int64_t n, const float *src, int64_t stride, float *out)
{
    uint8_t *room = c->pieces.out[s->direct ? 1 : r->mesh->tp_index];   /* no message to self */
    for (int j = 0; j < n_piece; j++) {
        wire_encode(r->dtype, room, src + j * stride, (uint64_t)n);
        wire_decode(r->dtype, out + j * n, room, (uint64_t)n);
    }
}

/* Where the pieces of all ranks are, for the slice that this rank adds. */
static int find_pieces(struct reduce *r, const struct sum *s, struct reduce_slot *c,
                       struct split_range own, const float **src, int64_t *stride, struct err *err)
{
    struct reduce_state *st = r->state;
    int self = r->mesh->tp_index;
    int64_t n = own.end - own.begin;
    for (int i = 0; i < r->mesh->tp; i++) {
        int count = s->tree->n_piece[i];
        float *decoded = r->dtype == WIRE_F32 ? NULL : c->decoded + i * st->most_pieces * r->chunk;
        stride[i] = n;
        if (i != self && count > 0)
            TRY(reduce_view(r, c->pieces.in[i], c->pieces.recv[i].bytes, WIRE_PARTIAL, r->dtype, i, count,
                            n, decoded, &src[i], err));
        if (i != self)
            continue;
        src[i] = s->pieces + c->at + own.begin;
        stride[i] = s->stride;
        if (r->dtype == WIRE_F32)
            continue;
        round_trip(r, s, c, count, n, src[i], s->stride, decoded);
        src[i] = decoded;
        stride[i] = n;
    }
    return ERR_OK;
}

static int add_chunk(struct reduce *r, const struct sum *s, struct reduce_slot *c, struct err *err)
{
    const float *src[MESH_TP_MAX] = {0};
    int64_t stride[MESH_TP_MAX];
    struct split_range own = slice_of(r, s, c, r->mesh->tp_index);
    int64_t n = own.end - own.begin;
    float *out = s->out + c->at + own.begin;
    if (n == 0)
        return ERR_OK;
    TRY(reduce_wait(r, c->pieces.recv, err));
    TRY(find_pieces(r, s, c, own, src, stride, err));
    sumtree_add(s->tree, ((struct reduce_state *)r->state)->add, out, src, stride, n);
    if (s->direct && r->dtype != WIRE_F32)
        round_trip(r, s, c, 1, n, out, 0, out);
    return ERR_OK;
}

static int send_sums(struct reduce *r, const struct sum *s, struct reduce_slot *c, struct err *err)
{
    int self = r->mesh->tp_index, tp = r->mesh->tp;
    struct split_range own = slice_of(r, s, c, self);
    struct reduce_lane *lane = &c->sums;
    float *sum = s->out + c->at + own.begin;
    const float *same;
    TRY(reduce_wait(r, lane->send, err));
    for (int i = 0; i < tp; i++) {
        struct split_range cut = slice_of(r, s, c, i);
        if (i != self && cut.end > cut.begin)
            TRY(reduce_recv(r, lane, i, err));
    }
    if (own.end == own.begin)
        return ERR_OK;
    size_t bytes = reduce_pack(r, lane->out[0], WIRE_SUM, r->dtype, 1, own.end - own.begin, sum, 0);
    for (int d = 1; d < tp; d++)
        TRY(reduce_send(r, lane, (self + d) % tp, lane->out[0], bytes, err));
    if (r->dtype == WIRE_F32)
        return ERR_OK;
    return reduce_view(r, lane->out[0], bytes, WIRE_SUM, r->dtype, self, 1, own.end - own.begin, sum,
                       &same, err);
}

static int take_sums(struct reduce *r, const struct sum *s, struct reduce_slot *c, struct err *err)
{
    TRY(reduce_wait(r, c->sums.recv, err));
    for (int i = 0; i < r->mesh->tp; i++) {
        struct split_range cut = slice_of(r, s, c, i);
        float *out = s->out + c->at + cut.begin;
        const float *src = out;
        if (i == r->mesh->tp_index || cut.end == cut.begin)
            continue;
        TRY(reduce_view(r, c->sums.in[i], c->sums.recv[i].bytes, WIRE_SUM, r->dtype, i, 1,
                        cut.end - cut.begin, out, &src, err));
        if (src != out)
            memcpy(out, src, (size_t)(cut.end - cut.begin) * sizeof *out);
    }
    return ERR_OK;
}

/* Chunks in a pipeline: while one flies, the one before is added, and the sums of the one before that are
 * taken. All sends have left at the end: a rank that computes does not push bytes into a network. */
static int sum_in_chunks(struct reduce *r, const struct sum *s, int64_t n, struct err *err)
{
    struct reduce_slot *slot = ((struct reduce_state *)r->state)->slot;
    int64_t step = s->direct ? r->chunk : r->chunk * r->mesh->tp, count = (n + step - 1) / step;
    for (int64_t k = 0; k < count + (s->direct ? 1 : 2); k++) {
        if (k < count) {
            struct reduce_slot *c = &slot[k % REDUCE_SLOTS];
            c->at = k * step;
            c->n = smaller(step, n - c->at);
            TRY(begin_chunk(r, s, c, err));
        }
        if (k >= 1 && k <= count)
            TRY(add_chunk(r, s, &slot[(k - 1) % REDUCE_SLOTS], err));
        if (k >= 1 && k <= count && !s->direct)
            TRY(send_sums(r, s, &slot[(k - 1) % REDUCE_SLOTS], err));
        if (k >= 2 && !s->direct)
            TRY(take_sums(r, s, &slot[(k - 2) % REDUCE_SLOTS], err));
    }
    for (int i = 0; i < REDUCE_SLOTS; i++) {
        TRY(reduce_wait(r, slot[i].pieces.send, err));
        TRY(reduce_wait(r, slot[i].sums.send, err));
    }
    return ERR_OK;
}

static const struct sumtree *tree_for(struct reduce *r, int n_total, int unit)
{
    struct reduce_state *s = r->state;
    for (int i = 0; i < s->n_trees; i++)
        if (s->tree[i].n_total == n_total && s->tree[i].unit == unit)
            return &s->tree[i];
    ASSERT(s->n_trees < REDUCE_TREES_MAX);
    sumtree_init(&s->tree[s->n_trees], r->mesh, n_total, unit);
    return &s->tree[s->n_trees++];
}

int reduce_sum(struct reduce *r, float *out, const float *pieces, int64_t piece_stride, int64_t n,
               int n_total, int unit, struct err *err)
{
    struct sum s = {.tree = tree_for(r, n_total, unit), .out = out, .pieces = pieces,
                    .stride = piece_stride, .direct = n <= r->direct_max};
    ASSERT(n <= r->n_max);
    if (r->mesh->tp == 1) {
        if (out != pieces)
            memcpy(out, pieces, (size_t)n * sizeof *out);
        return ERR_OK;
    }
    double begun = reduce_now_us();
    int rc = sum_in_chunks(r, &s, n, err);
    r->sequence++;
    r->us += reduce_now_us() - begun;
    return rc;
}

/* --- start and end */

static size_t message_bytes(enum wire_dtype dtype, int64_t pieces, int64_t n)
{
    size_t bytes = WIRE_HEADER_MAX + wire_data_bytes(dtype, (uint64_t)n) * (size_t)pieces;
    return (bytes + 63) / 64 * 64;
}

/* Hands out 64-byte aligned parts of base; with base NULL it only counts. */
struct placer { uint8_t *base; size_t used; };

static void *place(struct placer *p, size_t bytes)
{
    size_t at = p->used;
    p->used += (bytes + 63) / 64 * 64;
    return p->base != NULL ? p->base + at : NULL;
}

static void place_lane(struct placer *p, struct reduce_lane *l, int tp, int n_out, size_t cap)
{
    l->cap = cap;
    for (int i = 0; i < tp; i++)
        l->in[i] = place(p, cap);
    for (int i = 0; i < n_out; i++)
        l->out[i] = place(p, cap);
}

static size_t place_all(struct reduce *r, uint8_t *base)
{
    struct reduce_state *s = r->state;
    struct placer p = {.base = base};
    int tp = r->mesh->tp;
    size_t decoded = (size_t)(tp * s->most_pieces * r->chunk) * sizeof(float);
    for (int i = 0; i < REDUCE_SLOTS; i++) {
        place_lane(&p, &s->slot[i].pieces, tp, tp, message_bytes(r->dtype, s->most_pieces, r->chunk));
        place_lane(&p, &s->slot[i].sums, tp, 1, message_bytes(r->dtype, 1, r->chunk));
        s->slot[i].decoded = r->dtype == WIRE_F32 ? NULL : place(&p, decoded);
    }
    place_lane(&p, &s->moves, tp, 1, message_bytes(WIRE_F32, 1, REDUCE_MOVE_FLOATS));
    return p.used;
}

int reduce_init(struct reduce *r, struct comm *comm, const struct mesh *mesh, enum wire_dtype dtype,
                int64_t n_max, struct err *err)
{
    enum isa isa = ISA_SCALAR;
    int64_t chunk = smaller(CHUNK_FLOATS, align_up(CHUNK_FLOATS_ALL / mesh->tp));
    *r = (struct reduce){.comm = comm, .mesh = mesh, .channel = COMM_TP, .dtype = dtype,
                         .n_max = n_max};
    TRY(isa_choose(&isa, err));
    struct reduce_state *s = r->state = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for sums between ranks");
    s->add = kernels_get(isa)->add;
    s->most_pieces = sumtree_most_pieces(mesh);
    r->chunk = smaller(chunk, align_up(n_max > 0 ? n_max : 1));
    r->direct_max = mesh->tp <= 2 ? INT64_MAX : DIRECT_FLOATS / (mesh->tp - 1);
    if (mesh->tp == 1)
        return ERR_OK;
    s->base = aligned_alloc(64, place_all(r, NULL));
    if (s->base == NULL) {
        reduce_free(r);
        return err_set(err, ERR_NOMEM, "no memory for sums between %d ranks", mesh->tp);
    }
    place_all(r, s->base);
    return ERR_OK;
}

/* Ends what an error has left under way; returns whether a transport may still read a message. */
static bool lane_is_busy(struct reduce *r, struct reduce_lane *l)
{
    bool busy = false;
    for (int i = 0; i < r->mesh->tp; i++) {
        int done = 1;
        r->comm->table->cancel(r->comm, &l->recv[i]);
        if (l->send[i].handle != NULL && r->comm->table->test(r->comm, &l->send[i], &done, NULL) == ERR_OK)
            busy |= !done;
    }
    return busy;
}

void reduce_free(struct reduce *r)
{
    struct reduce_state *s = r->state;
    if (s != NULL) {
        bool busy = lane_is_busy(r, &s->moves);
        for (int i = 0; i < REDUCE_SLOTS; i++) {
            busy |= lane_is_busy(r, &s->slot[i].pieces);
            busy |= lane_is_busy(r, &s->slot[i].sums);
        }
        if (!busy)
            free(s->base);
        free(s);
    }
    memset(r, 0, sizeof *r);
}
