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
    free(g->extra);
    free(g->out);
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
        p.part[i] = t[i]->data;
        p.rows[i] = t[i]->shape[0] * t[i]->shape[1];
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

/* --- the leader */

/* Its batches of a call: [first[i], first[i + 1]). */
struct batches { int n, first[NN_PARTS_MAX + 1]; };

static struct batches cut(const struct imagegroup *g, int samples)
{
    struct batches b = {.n = g->mesh.n_stages > 1 ? 2 * g->mesh.n_stages : 1};
    b.n = b.n < samples ? b.n : samples;
    for (int i = 0; i <= b.n; i++)
        b.first[i] = (int)((int64_t)samples * i / b.n);
    return b;
}

static struct imagepipe_call part_of(const struct imagepipe_call *c, const struct batches *b, int i,
                                     int64_t floats)
{
    struct imagepipe_call part = *c;
    part.n = b->first[i + 1] - b->first[i];
    part.x += b->first[i] * floats;
    part.times += b->first[i];
    part.prompts += b->first[i];
    return part;
}

/* To all others of the group, in every stage. */
static int announce(struct imagegroup *g, const struct netrows *h, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__ImageStep s = MUSTER__IMAGE_STEP__INIT;
    s.step = g->step;
    s.n = (uint32_t)h->x->shape[0];
    s.tokens = (uint32_t)h->x->shape[1];
    s.text = (uint32_t)h->text->shape[1];
    s.extra = (uint32_t)h->extra->shape[1];
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_STEP;
    m.image_step = &s;
    for (int i = 0; i < g->mesh.n_stages * g->mesh.tp; i++)
        if (g->ranks[i] != g->comm->self)
            TRY(wire_send(g->comm, g->ranks[i], COMM_CONTROL, &m, err));
    return ERR_OK;
}

/* Own layers, then on to the next stage; from the last one the picture's rows go back to the leader. */
static int run_and_send(struct imagegroup *g, struct imagepipe *pipe, struct nn *nn, struct netrows *h,
                        uint64_t step, struct err *err)
{
    const struct mesh *m = &g->mesh;
    TRY(imagepipe_layers(pipe, nn, &g->held, h, err));
    struct parcel p = parcel_of(h, step, m->layer_end);
    if (m->next_tp > 0)
        return send_parcel(g, &p, &m->next_ranks[m->tp_index], 1, err);
    if (m->stage == 0 || m->tp_index > 0)
        return ERR_OK;
    p.rows[1] = p.rows[2] = 0;
    return send_parcel(g, &p, &m->first_ranks[0], 1, err);
}

static int to_peers(struct imagegroup *g, const struct netrows *h, struct err *err)
{
    struct parcel p = parcel_of(h, g->step, 0);
    return g->mesh.tp > 1 ? send_parcel(g, &p, &g->mesh.tp_ranks[1], g->mesh.tp - 1, err) : ERR_OK;
}

static int keep_extra(struct imagegroup *g, const struct netrows *h, int first, int all, struct err *err)
{
    int64_t each = h->extra->shape[1] * h->extra->shape[2];
    void *p = g->extra;
    int rc = grow(&p, &g->extra_cap, (size_t)(all * each) * sizeof(float), err);
    g->extra = p;
    TRY(rc);
    memcpy(g->extra + first * each, h->extra->data, (size_t)h->extra->n * sizeof(float));
    return ERR_OK;
}

/* What comes after the layers, into its place of g->out; answer: floats of a sample. */
static int end(struct imagegroup *g, struct imagepipe *pipe, struct nn *nn, const struct imagepipe_call *part,
               const struct netrows *h, int first, int64_t answer, struct err *err)
{
    const float *y;
    TRY(imagepipe_end(pipe, nn, h, part->height, part->width, &y, err));
    memcpy(g->out + first * answer, y, (size_t)(part->n * answer) * sizeof *y);
    return ERR_OK;
}

/* The shape of a batch under way. */
struct flight { uint64_t step; int64_t tokens, extra, d; };

static int begin(struct imagegroup *g, struct imagepipe *pipe, struct nn *nn,
                 const struct imagepipe_call *part, int first, int all, struct netrows *h, struct flight *f,
                 struct err *err)
{
    TRY(imagepipe_begin(pipe, nn, part, h, err));
    *f = (struct flight){g->step, h->x->shape[1], h->extra->shape[1], h->x->shape[2]};
    TRY(keep_extra(g, h, first, all, err));
    TRY(announce(g, h, err));
    TRY(to_peers(g, h, err));
    return run_and_send(g, pipe, nn, h, g->step++, err);
}

/* The picture's rows come back from the last stage. */
static int take_back(struct imagegroup *g, struct imagepipe *pipe, struct nn *nn, int n, int first,
                     const struct flight *f, struct netrows *h, struct err *err)
{
    const float *x;
    TRY(receive(g, g->mesh.last_ranks[0], f->step, n * f->tokens, f->d, &x, err));
    imagepipe_step(pipe, nn, n);
    h->x = nn_input(nn, (float *)(uintptr_t)x, 3, (const int64_t[]){n, f->tokens, f->d});
    h->extra = nn_input(nn, g->extra + first * f->extra * f->d, 3, (const int64_t[]){n, f->extra, f->d});
    return ERR_OK;
}

int imagegroup_denoise(struct imagegroup *g, struct imagepipe *pipe, struct nn *nn,
                       const struct imagepipe_call *c, const float **out, struct err *err)
{
    const struct imagepipe_facts *f = imagepipe_facts(pipe);
    struct batches b = cut(g, c->n);
    struct flight flight[NN_PARTS_MAX];
    struct netrows h[NN_PARTS_MAX];
    int64_t area = (int64_t)c->height * c->width, answer = f->channels_out * area;
    if (g->mesh.n_stages * g->mesh.tp == 1)
        return imagepipe_denoise(pipe, nn, c->n, c->x, c->height, c->width, c->times, c->prompts, out, err);
    void *room = g->out;
    int rc = grow(&room, &g->out_cap, (size_t)(c->n * answer) * sizeof(float), err);
    g->out = room;
    TRY(rc);
    for (int i = 0; i < b.n; i++) {
        struct imagepipe_call part = part_of(c, &b, i, f->channels * area);
        TRY(begin(g, pipe, nn, &part, b.first[i], c->n, &h[i], &flight[i], err));
        if (g->mesh.n_stages == 1)
            TRY(end(g, pipe, nn, &part, &h[i], b.first[i], answer, err));
    }
    for (int i = 0; i < b.n && g->mesh.n_stages > 1; i++) {
        struct imagepipe_call part = part_of(c, &b, i, f->channels * area);
        h[i].text = NULL;
        TRY(take_back(g, pipe, nn, part.n, b.first[i], &flight[i], &h[i], err));
        TRY(end(g, pipe, nn, &part, &h[i], b.first[i], answer, err));
    }
    *out = g->out;
    return ERR_OK;
}

/* --- the others */

static int check_step(const struct imagegroup *g, const struct imagepipe *pipe, const Muster__ImageStep *m,
                      int peer, struct err *err)
{
    bool fits = g->member && peer == g->mesh.first_ranks[0] && peer != g->comm->self && m->n >= 1 &&
                m->n <= NN_PARTS_MAX && m->tokens >= 1 && m->tokens <= ROWS_MAX && m->text >= 1 &&
                m->text <= ROWS_MAX && imagepipe_extra_rows(pipe, (int)m->text) == (int)m->extra;
    return fits ? ERR_OK : err_set(err, ERR_PEER, "rank %d sent a step of pictures that does not fit", peer);
}

int imagegroup_serve(struct imagegroup *g, struct imagepipe *pipe, struct nn *nn,
                     const Muster__ImageStep *m, int peer, struct err *err)
{
    const int64_t part[3] = {m->tokens, m->text, m->extra};
    struct nn_tensor *t[3];
    const float *data;
    TRY(check_step(g, pipe, m, peer, err));
    int64_t n = m->n, d = imagepipe_row_width(pipe), rows = n * (part[0] + part[1] + part[2]);
    TRY(receive(g, g->mesh.stage == 0 ? peer : g->mesh.prev_ranks[g->mesh.tp_index], m->step, rows, d, &data,
                err));
    imagepipe_step(pipe, nn, (int)n);
    for (int i = 0; i < 3; data += n * part[i++] * d)
        t[i] = nn_input(nn, (float *)(uintptr_t)data, 3, (const int64_t[]){n, part[i], d});
    struct netrows h = {t[0], t[1], t[2]};
    return run_and_send(g, pipe, nn, &h, m->step, err);
}
