#include "workers/imagegroup.h"

#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 1 << 24 };
static const int64_t SUM_FLOATS_MAX = INT64_C(1) << 40;     /* sums go in chunks: no memory follows from it */

/* A message and its sends. */
struct imagegroup_sent { uint8_t *msg; size_t cap; struct comm_req req[MESH_TP_MAX]; int n; };

/* --- start and end */

/* Of all stages: the mesh knows its neighbours only. */
static void take_ranks(struct imagegroup *g, const Muster__ReplicaPlan *r)
{
    for (size_t s = 0; s < r->n_stages; s++)
        for (int i = 0; i < g->mesh.tp; i++)
            g->ranks[(int)s * g->mesh.tp + i] = (int)r->stages[s]->ranks[i];
}

int imagegroup_init(struct imagegroup *g, struct comm *comm, const Muster__Plan *plan, int n_layers,
                    int head_dim, struct err *err)
{
    int held;
    memset(g, 0, sizeof *g);
    g->comm = comm;
    if (plan == NULL)
        return err_set(err, ERR_PEER, "a denoiser is loaded without a plan");
    TRY(mesh_init(&g->mesh, plan, 0, comm->self, comm->n_workers, n_layers, &held, err));
    if (!held)
        return ERR_OK;
    g->member = true;
    g->shard = (struct netshard){&g->mesh, &g->reduce};
    g->held = (struct netshard_held){&g->shard, g->mesh.layer_begin, g->mesh.layer_end, head_dim,
                                     g->mesh.stage == 0 && g->mesh.tp_index == 0};
    if (g->mesh.tp > 1)
        TRY(reduce_init(&g->reduce, comm, &g->mesh, WIRE_F32, SUM_FLOATS_MAX, err));
    g->summing = g->mesh.tp > 1;
    g->n_sent = 4 * g->mesh.n_stages + 2;       /* of the batches under way two each */
    g->sent = calloc((size_t)g->n_sent, sizeof *g->sent);
    g->ranks = calloc((size_t)(g->mesh.n_stages * g->mesh.tp), sizeof *g->ranks);
    if (g->sent == NULL || g->ranks == NULL)
        return err_set(err, ERR_NOMEM, "no memory for messages between ranks");
    take_ranks(g, plan->networks[0]->replicas[g->mesh.replica]);
    return ERR_OK;
}

/* A transport may still read what has not left: that memory stays. */
static bool forget(struct comm *comm, struct imagegroup_sent *s)
{
    bool busy = false;
    for (int i = 0; i < s->n; i++) {
        int done = 1;
        if (s->req[i].handle != NULL && comm->table->test(comm, &s->req[i], &done, NULL) == ERR_OK)
            busy |= !done;
    }
    return busy;
}

void imagegroup_free(struct imagegroup *g)
{
    for (int i = 0; g->sent != NULL && i < g->n_sent; i++)
        if (!forget(g->comm, &g->sent[i]))
            free(g->sent[i].msg);
    if (g->summing)
        reduce_free(&g->reduce);
    free(g->sent);
    free(g->ranks);
    free(g->in);
    free(g->rows);
    memset(g, 0, sizeof *g);
}

/* --- messages */

static int grow(void **p, size_t *cap, size_t bytes, struct err *err)
{
    if (*cap >= bytes)
        return ERR_OK;
    free(*p);
    *cap = (bytes + 63) / 64 * 64;
    *p = aligned_alloc(64, *cap);
    if (*p != NULL)
        return ERR_OK;
    *cap = 0;
    return err_set(err, ERR_NOMEM, "no memory for a step of pictures");
}

/* Rows of a batch that go on together: n samples of each part, d wide. */
struct parcel { const float *part[3]; int64_t rows[3], d; uint64_t step; int layer; };

static int64_t rows_of(const struct parcel *p) { return p->rows[0] + p->rows[1] + p->rows[2]; }

static struct parcel parcel_of(const struct netrows *h, uint64_t step, int layer)
{
    const struct nn_tensor *t[3] = {h->x, h->text, h->extra};
    struct parcel p = {.d = h->x->shape[2], .step = step, .layer = layer};
    for (int i = 0; i < 3; i++) {
        p.part[i] = t[i] != NULL ? t[i]->data : NULL;
        p.rows[i] = t[i] != NULL ? t[i]->shape[0] * t[i]->shape[1] : 0;
    }
    return p;
}

static int send_parcel(struct imagegroup *g, const struct parcel *p, const int *to, int n_to, struct err *err)
{
    struct imagegroup_sent *s = &g->sent[g->at++ % (uint64_t)g->n_sent];
    int n = s->n;
    s->n = 0;
    TRY(comm_wait_all(g->comm, s->req, n, err));
    size_t bytes = (size_t)(rows_of(p) * p->d) * sizeof(float);
    void *msg = s->msg;
    int rc = grow(&msg, &s->cap, WIRE_HEADER_MAX + bytes, err);
    s->msg = msg;
    TRY(rc);
    struct wire_tensor t = {.network = (uint32_t)g->mesh.network, .layer = (uint32_t)p->layer,
                            .kind = WIRE_ACTIVATION, .dtype = WIRE_F32, .step = p->step, .n_dims = 2,
                            .shape = {(uint64_t)rows_of(p), (uint64_t)p->d}, .data_bytes = bytes};
    void *data;
    size_t size = wire_tensor_begin(s->msg, g->comm->epoch, &t, &data);
    float *at = data;
    for (int i = 0; i < 3; at += p->rows[i++] * p->d)
        if (p->rows[i] > 0)
            memcpy(at, p->part[i], (size_t)(p->rows[i] * p->d) * sizeof *at);
    for (int i = 0; i < n_to; i++, s->n++)
        TRY(g->comm->table->send_begin(g->comm, to[i], COMM_PP, s->msg, size, &s->req[s->n], err));
    return ERR_OK;
}

/* *data [rows, d] in g->in. */
static int receive(struct imagegroup *g, int from, uint64_t step, int64_t rows, int64_t d, const float **data,
                   struct err *err)
{
    struct wire_tensor t;
    size_t got = 0, need = (size_t)(rows * d) * sizeof(float);
    void *in = g->in;
    int rc = grow(&in, &g->in_cap, WIRE_HEADER_MAX + need, err);
    g->in = in;
    TRY(rc);
    TRY(comm_recv(g->comm, from, COMM_PP, g->in, g->in_cap, &got, err));
    TRY(wire_tensor_view(g->in, got, g->comm->epoch, &t, err));
    if (t.kind != WIRE_ACTIVATION || t.dtype != WIRE_F32 || t.step != step || t.data_bytes != need)
        return err_set(err, ERR_PEER, "rank %d sent %zu bytes of step %llu; %zu of step %llu are expected",
                       from, t.data_bytes, (unsigned long long)t.step, need, (unsigned long long)step);
    *data = t.data;
    return ERR_OK;
}

/* --- layers */

/* Begins a step of n samples. */
static void begin_step(struct imagepart *part, struct nn *nn, int n)
{
    int64_t begin[NN_PARTS_MAX + 1];
    for (int i = 0; i <= n; i++)
        begin[i] = i;
    nn_reset(nn);
    nn_set_parts(nn, n, begin);
    params_begin(&part->w);
}

static int64_t row_width(const struct imagepart *part)
{
    return (int64_t)part->facts.heads * part->facts.head_dim;
}

/* Own layers, then on to the next stage; from the last one the picture's rows go back to the leader. */
static int run_and_send(struct imagegroup *g, struct imagepart *part, struct nn *nn, struct netrows *h,
                        uint64_t step, struct err *err)
{
    const struct mesh *m = &g->mesh;
    TRY(part->family->split->layers(part, nn, &g->held, h, err));
    struct parcel p = parcel_of(h, step, m->layer_end);
    if (m->next_tp > 0)
        return send_parcel(g, &p, &m->next_ranks[m->tp_index], 1, err);
    if (m->stage == 0 || m->tp_index > 0)
        return ERR_OK;
    p.rows[1] = p.rows[2] = 0;
    return send_parcel(g, &p, &m->first_ranks[0], 1, err);
}

/* --- the leader */

/* The rows of a call, kept while nn serves its batches one after the other: part i is [n, rows[i], d]. */
struct call { struct imagegroup *g; int n; int64_t rows[3], d; float *part[3]; };

static int keep_rows(struct imagegroup *g, const struct netrows *h, struct call *c, struct err *err)
{
    const struct nn_tensor *t[3] = {h->x, h->text, h->extra};
    int64_t all = 0;
    *c = (struct call){.g = g, .n = (int)h->x->shape[0], .d = h->x->shape[2]};
    for (int i = 0; i < 3; i++) {
        c->rows[i] = t[i] != NULL ? t[i]->shape[1] : 0;
        all += c->n * c->rows[i] * c->d;
    }
    void *room = g->rows;
    int rc = grow(&room, &g->rows_cap, (size_t)all * sizeof(float), err);
    g->rows = room;
    TRY(rc);
    float *at = g->rows;
    for (int i = 0; i < 3; at += c->n * c->rows[i++] * c->d) {
        c->part[i] = at;
        if (c->rows[i] > 0)
            memcpy(at, t[i]->data, (size_t)t[i]->n * sizeof *at);
    }
    return ERR_OK;
}

/* Samples [first, first + n) of part i, NULL: it has no rows. */
static struct nn_tensor *rows_from(const struct call *c, struct nn *nn, int i, int first, int n)
{
    const int64_t shape[3] = {n, c->rows[i], c->d};
    return c->rows[i] > 0 ? nn_input(nn, c->part[i] + first * c->rows[i] * c->d, 3, shape) : NULL;
}

/* To all others of the group, in every stage. */
static int announce(struct imagegroup *g, const struct call *c, int n, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ImageStep s = MUSTER__IMAGE_STEP__INIT;
    s.step = g->step;
    s.n = (uint32_t)n;
    s.tokens = (uint32_t)c->rows[0];
    s.text = (uint32_t)c->rows[1];
    s.extra = (uint32_t)c->rows[2];
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_STEP;
    m.image_step = &s;
    for (int i = 0; i < g->mesh.n_stages * g->mesh.tp; i++)
        if (g->ranks[i] != g->comm->self)
            TRY(wire_send(g->comm, g->ranks[i], COMM_CONTROL, &m, err));
    return ERR_OK;
}

/* Samples [first, first + n) through this rank's layers; where there are no others, into their place. */
static int run_batch(struct call *c, struct imagepart *part, struct nn *nn, int first, int n, struct err *err)
{
    struct imagegroup *g = c->g;
    begin_step(part, nn, n);
    struct netrows h = {rows_from(c, nn, 0, first, n), rows_from(c, nn, 1, first, n),
                        rows_from(c, nn, 2, first, n)};
    TRY(announce(g, c, n, err));
    struct parcel p = parcel_of(&h, g->step, 0);
    if (g->mesh.tp > 1)
        TRY(send_parcel(g, &p, &g->mesh.tp_ranks[1], g->mesh.tp - 1, err));
    TRY(run_and_send(g, part, nn, &h, g->step++, err));
    if (g->mesh.n_stages == 1)
        memcpy(c->part[0] + first * c->rows[0] * c->d, h.x->data, (size_t)h.x->n * sizeof(float));
    return ERR_OK;
}

/* The picture's rows come back from the last stage. */
static int take_back(struct call *c, uint64_t step, int first, int n, struct err *err)
{
    const float *x;
    int64_t rows = n * c->rows[0];
    TRY(receive(c->g, c->g->mesh.last_ranks[0], step, rows, c->d, &x, err));
    memcpy(c->part[0] + first * c->rows[0] * c->d, x, (size_t)(rows * c->d) * sizeof *x);
    return ERR_OK;
}

static int run_batches(struct call *c, struct imagepart *part, struct nn *nn, struct err *err)
{
    int stages = c->g->mesh.n_stages, k = stages > 1 ? 2 * stages : 1;
    uint64_t step = c->g->step;
    k = k < c->n ? k : c->n;
    for (int i = 0; i < k; i++)
        TRY(run_batch(c, part, nn, c->n * i / k, c->n * (i + 1) / k - c->n * i / k, err));
    for (int i = 0; i < k && stages > 1; i++)
        TRY(take_back(c, step + (uint64_t)i, c->n * i / k, c->n * (i + 1) / k - c->n * i / k, err));
    return ERR_OK;
}

int imagegroup_run(struct imagegroup *g, struct imagepart *part, struct nn *nn, const struct imagetensors *in,
                   struct imagetensors *out, struct err *err)
{
    const struct imagesplit *split = part->family->split;
    struct netrows h = {0};
    struct nn_tensor *y;
    struct call c;
    if (g->mesh.n_stages * g->mesh.tp == 1)
        return imagepart_run(part, nn, in, out, err);
    out->n = 0;
    params_begin(&part->w);
    TRY(split->begin(part, nn, in, &h, err));
    const int64_t *shape = imagetensors_find(in, "in")->shape;
    int rows = (int)shape[2] / part->facts.patch, cols = (int)shape[3] / part->facts.patch;
    TRY(keep_rows(g, &h, &c, err));
    TRY(run_batches(&c, part, nn, err));
    begin_step(part, nn, c.n);
    h = (struct netrows){rows_from(&c, nn, 0, 0, c.n), NULL, rows_from(&c, nn, 2, 0, c.n)};
    TRY(split->end(part, nn, &h, rows, cols, &y, err));
    imageoutput(out, "out", y);
    return ERR_OK;
}

/* --- the others */

static int check_step(const struct imagegroup *g, const struct imagepart *part, const Muster__ImageStep *m,
                      int peer, struct err *err)
{
    bool told = part->facts.text_width > 0;
    bool fits = g->member && imagepart_splits(part) && peer == g->mesh.first_ranks[0] &&
                peer != g->comm->self && m->n >= 1 && m->n <= NN_PARTS_MAX && m->tokens >= 1 &&
                m->tokens <= ROWS_MAX && m->text <= ROWS_MAX && (m->text > 0) == told &&
                part->family->split->extra_rows(part, (int)m->text) == (int)m->extra;
    return fits ? ERR_OK : err_set(err, ERR_PEER, "rank %d sent a step of pictures that does not fit", peer);
}

int imagegroup_serve(struct imagegroup *g, struct imagepart *part, struct nn *nn, const Muster__ImageStep *m,
                     int peer, struct err *err)
{
    TRY(check_step(g, part, m, peer, err));
    const int64_t count[3] = {m->tokens, m->text, m->extra};
    struct nn_tensor *t[3] = {NULL, NULL, NULL};
    const float *data;
    int64_t n = m->n, d = row_width(part), rows = n * (count[0] + count[1] + count[2]);
    TRY(receive(g, g->mesh.stage == 0 ? peer : g->mesh.prev_ranks[g->mesh.tp_index], m->step, rows, d, &data,
                err));
    begin_step(part, nn, (int)n);
    for (int i = 0; i < 3; data += n * count[i++] * d)
        if (count[i] > 0)
            t[i] = nn_input(nn, (float *)(uintptr_t)data, 3, (const int64_t[]){n, count[i], d});
    struct netrows h = {t[0], t[1], t[2]};
    return run_and_send(g, part, nn, &h, m->step, err);
}
