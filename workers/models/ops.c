#include "workers/models/ops.h"

#include "workers/models/kvcache.h"

#include <string.h>

/* When learning, the tape carries the op out. */
#define TO_TAPE(o, op, ...)                                                                        \
    do {                                                                                           \
        if ((o)->tape != NULL) {                                                                   \
            (o)->tape->op((o)->tape, __VA_ARGS__);                                                 \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* --- row by row */

struct row_job {
    struct ops *o;
    struct tensor out, a, b;
    const float *w, *cosine, *sine;
    float number;
    int n, n_rot;
    enum ffn_act act;
    enum rope_kind kind;
    void (*row)(const struct row_job *j, int row);
};

static void run_rows(void *ctx, int thread, int n_threads)
{
    const struct row_job *j = ctx;
    int64_t begin, end;
    team_share(j->out.rows, 1, thread, n_threads, &begin, &end);
    for (int r = (int)begin; r < (int)end; r++)
        j->row(j, r);
}

static void each_row(struct row_job *j)
{
    ops_run(j->o, run_rows, j, (int64_t)j->out.rows * j->out.cols);
}

static void rmsnorm_row(const struct row_job *j, int r)
{
    j->o->kernels->rmsnorm(tensor_row(j->out, r), tensor_row(j->a, r), j->w, j->out.cols, j->number);
}

void op_rmsnorm(struct ops *o, struct tensor out, struct tensor x, const float *w, float eps)
{
    TO_TAPE(o, rmsnorm, out, x, w, eps);
    struct row_job j = {.o = o, .out = out, .a = x, .w = w, .number = eps, .row = rmsnorm_row};
    each_row(&j);
}

static void head_rmsnorm_row(const struct row_job *j, int r)
{
    float *x = tensor_row(j->out, r);
    for (int i = 0; i < j->out.cols; i += j->n)
        j->o->kernels->rmsnorm(x + i, x + i, j->w, j->n, j->number);
}

void op_head_rmsnorm(struct ops *o, struct tensor x, int head_dim, const float *w, float eps)
{
    TO_TAPE(o, head_rmsnorm, x, head_dim, w, eps);
    struct row_job j = {.o = o, .out = x, .w = w, .number = eps, .n = head_dim,
                        .row = head_rmsnorm_row};
    each_row(&j);
}

static void add_rows(const struct row_job *j, int r)
{
    j->o->kernels->add(tensor_row(j->out, r), tensor_row(j->a, r), tensor_row(j->b, r), j->out.cols);
}

void op_add(struct ops *o, struct tensor out, struct tensor a, struct tensor b)
{
    TO_TAPE(o, add, out, a, b);
    struct row_job j = {.o = o, .out = out, .a = a, .b = b, .row = add_rows};
    each_row(&j);
}

static void add_one_row(const struct row_job *j, int r)
{
    j->o->kernels->add(tensor_row(j->out, r), tensor_row(j->out, r), j->w, j->out.cols);
}

void op_add_row(struct ops *o, struct tensor x, const float *row)
{
    TO_TAPE(o, add_row, x, row);
    struct row_job j = {.o = o, .out = x, .w = row, .row = add_one_row};
    each_row(&j);
}

static void softcap_row(const struct row_job *j, int r)
{
    j->o->kernels->softcap(tensor_row(j->out, r), j->number, j->out.cols);
}

void op_softcap(struct ops *o, struct tensor x, float cap)
{
    TO_TAPE(o, softcap, x, cap);
    struct row_job j = {.o = o, .out = x, .number = cap, .row = softcap_row};
    each_row(&j);
}

static void gate_row(const struct row_job *j, int r)
{
    const struct kernels *k = j->o->kernels;
    float *out = tensor_row(j->out, r), *gate = tensor_row(j->a, r), *up = tensor_row(j->b, r);
    if (j->act == ACT_SILU)
        k->silu_mul(out, gate, up, j->out.cols);
    else if (j->act == ACT_GELU_TANH)
        k->gelu_mul(out, gate, up, j->out.cols);
    else
        k->swiglu_oss(out, gate, up, j->number, j->out.cols);
}

void op_gate(struct ops *o, struct tensor out, struct tensor gate, struct tensor up, enum ffn_act act,
             float limit)
{
    TO_TAPE(o, gate, out, gate, up, act, limit);
    struct row_job j = {.o = o, .out = out, .a = gate, .b = up, .act = act, .number = limit,
                        .row = gate_row};
    each_row(&j);
}

static void rope_row(const struct row_job *j, int r)
{
    float *x = tensor_row(j->out, r);
    int64_t half = j->n_rot / 2;
    for (int i = 0; i < j->out.cols; i += j->n)
        j->o->kernels->rope(x + i, j->cosine + r * half, j->sine + r * half, j->n_rot,
                            j->kind == ROPE_NEOX);
}

void op_rope(struct ops *o, struct tensor x, int head_dim, int n_rot, enum rope_kind kind,
             const float *cosine, const float *sine)
{
    TO_TAPE(o, rope, x, head_dim, n_rot, kind, cosine, sine);
    struct row_job j = {.o = o, .out = x, .n = head_dim, .n_rot = n_rot, .kind = kind,
                        .cosine = cosine, .sine = sine, .row = rope_row};
    each_row(&j);
}

/* --- linear products */

/* Rows of one role, with x prepared for each family that the products need. */
struct role_rows {
    enum role role;
    int row, n_rows;
    const void *xq[OPS_PRODUCTS_MAX];   /* by product */
    uint8_t *fresh[OPS_PRODUCTS_MAX];   /* the same where this product is its family's first */
};

struct linear_job {
    struct ops *o;
    const struct op_linear *l;
    const struct split_program *program;
    struct role_rows part[2];
    int n_parts;
    int panels;                         /* of all products together */
};

static int panels_of(const struct linear *w) { return (w->n_out + LINEAR_PANEL - 1) / LINEAR_PANEL; }

static bool same_family(const struct ops *o, const struct linear *a, const struct linear *b,
                        enum role ra, enum role rb)
{
    return linear_family(a->type, o->isa, o->compute, ra) ==
           linear_family(b->type, o->isa, o->compute, rb);
}

/* One part for each role present; one for both where no product's family tells them apart. */
static void find_parts(struct linear_job *j)
{
    const struct op_linear *l = j->l;
    int rows = l->x.rows, n_prompt = l->n_prompt;
    bool one = true;
    for (int i = 0; i < l->n_products; i++)
        one = one && same_family(j->o, l->product[i].w, l->product[i].w, ROLE_KIND_PROMPT,
                                 ROLE_KIND_GENERATED);
    if (one)
        n_prompt = n_prompt > 0 ? rows : 0;
    if (n_prompt > 0)
        j->part[j->n_parts++] = (struct role_rows){.role = ROLE_KIND_PROMPT, .n_rows = n_prompt};
    if (n_prompt < rows)
        j->part[j->n_parts++] = (struct role_rows){.role = ROLE_KIND_GENERATED, .row = n_prompt,
                                                   .n_rows = rows - n_prompt};
}

/* Memory for prepared x, one for each family of each part. */
static void take_prepared(struct linear_job *j, struct role_rows *part)
{
    const struct op_linear *l = j->l;
    for (int i = 0; i < l->n_products; i++) {
        const struct linear *w = l->product[i].w;
        for (int before = 0; before < i && part->xq[i] == NULL; before++)
            if (same_family(j->o, w, l->product[before].w, part->role, part->role))
                part->xq[i] = part->xq[before];
        if (part->xq[i] != NULL)
            continue;
        part->fresh[i] = arena_take(j->o->scratch, linear_x_bytes(w, j->o->isa, j->o->compute,
                                                                  part->role, part->n_rows, w->k));
        ASSERT(part->fresh[i] != NULL);
        part->xq[i] = part->fresh[i];
    }
}

static void prepare_share(void *ctx, int thread, int n_threads)
{
    struct linear_job *j = ctx;
    const struct op_linear *l = j->l;
    for (int p = 0; p < j->n_parts; p++) {
        const struct role_rows *part = &j->part[p];
        int64_t begin, end;
        team_share(part->n_rows, 16, thread, n_threads, &begin, &end);
        for (int i = 0; i < l->n_products; i++)
            if (part->fresh[i] != NULL && begin < end)
                linear_x_prepare(l->product[i].w, j->o->isa, j->o->compute, part->role, part->fresh[i],
                                 tensor_row(l->x, part->row), l->x.ld, part->n_rows, l->x.cols,
                                 (int)begin, (int)end);
    }
}

static void add_bias(const struct linear_job *j, const struct op_product *p, int p0, int p1)
{
    int c0 = p0 * LINEAR_PANEL, c1 = p1 * LINEAR_PANEL < p->w->n_out ? p1 * LINEAR_PANEL : p->w->n_out;
    for (int r = 0; r < j->l->x.rows; r++) {
        float *y = tensor_row(p->out, r) + c0;
        j->o->kernels->add(y, y, p->bias + c0, c1 - c0);
    }
}

static void product_share(void *ctx, int thread, int n_threads)
{
    struct linear_job *j = ctx;
    const struct op_linear *l = j->l;
    int64_t begin, end, at = 0;
    team_share(j->panels, 1, thread, n_threads, &begin, &end);
    for (int i = 0; i < l->n_products; i++) {
        const struct op_product *p = &l->product[i];
        int n = panels_of(p->w);
        int p0 = (int)(begin > at ? begin - at : 0), p1 = (int)(end - at < n ? end - at : n);
        at += n;
        if (p0 >= p1)
            continue;
        for (int k = 0; k < j->n_parts; k++)
            linear_run(p->w, j->o->isa, j->o->compute, j->part[k].role, j->program,
                       tensor_row(p->out, j->part[k].row), p->out.ld, l->piece_stride,
                       j->part[k].xq[i], j->part[k].n_rows, p0, p1, ops_thread(j->o, thread));
        if (p->bias != NULL)
            add_bias(j, p, p0, p1);
    }
}

void op_linear(struct ops *o, const struct op_linear *l)
{
    TO_TAPE(o, linear, l);
    struct linear_job j = {.o = o, .l = l, .program = l->program};
    struct split_program whole = split_whole(l->x.cols);
    if (j.program == NULL)
        j.program = &whole;
    for (int i = 0; i < l->n_products; i++) {
        ASSERT(l->product[i].w->k == l->x.cols && l->n_products <= OPS_PRODUCTS_MAX);
        j.panels += panels_of(l->product[i].w);
    }
    size_t mark = arena_mark(o->scratch);
    if (j.panels > 0 && l->x.rows > 0 && j.program->n_seg > 0) {
        find_parts(&j);
        for (int p = 0; p < j.n_parts; p++)
            take_prepared(&j, &j.part[p]);
        ops_run(o, prepare_share, &j, (int64_t)l->x.rows * l->x.cols);
        ops_run(o, product_share, &j, (int64_t)j.panels * l->x.cols * l->x.rows);
    }
    arena_release(o->scratch, mark);
}

size_t ops_linear_scratch(enum isa isa, enum compute compute, const struct linear *const *w, int n,
                          int n_rows)
{
    size_t most = 0;
    for (int role = 0; role < 2; role++) {
        size_t bytes = 0;
        for (int i = 0; i < n; i++) {
            bool seen = false;
            for (int before = 0; before < i; before++)
                seen = seen || linear_family(w[i]->type, isa, compute, (enum role)role) ==
                                   linear_family(w[before]->type, isa, compute, (enum role)role);
            if (!seen)
                bytes += linear_x_bytes(w[i], isa, compute, (enum role)role, n_rows, w[i]->k) + 64;
        }
        most = bytes > most ? bytes : most;
    }
    return most * 2;    /* both roles in one step: together no more rows, but each rounds up */
}

size_t ops_thread_scratch(enum isa isa, enum compute compute, int n_rows, int k_max, int value_dim)
{
    size_t most = attention_scratch_bytes(value_dim);
    for (int role = 0; role < 2; role++) {
        size_t bytes = linear_scratch_bytes(isa, compute, (enum role)role, n_rows, k_max);
        most = bytes > most ? bytes : most;
    }
    return (most + 4095) / 4096 * 4096;
}

/* --- over ranks */

int op_reduce(struct ops *o, struct tensor out, const struct op_reduce *r, struct err *err)
{
    if (o->tape != NULL)
        return o->tape->reduce(o->tape, out, r, err);
    ASSERT(out.ld == out.cols);
    TRY(reduce_sum(o->reduce, out.data, r->pieces, r->piece_stride, (int64_t)out.rows * out.cols,
                   r->n_total, r->unit, err));
    return ERR_OK;
}

int op_embed(struct ops *o, struct tensor out, const struct op_embed *e, struct err *err)
{
    if (o->tape != NULL)
        return o->tape->embed(o->tape, out, e, err);
    ASSERT(out.ld == out.cols);
    for (int r = 0; r < out.rows; r++) {
        int row = e->ids[r] - e->first;
        if (row < 0 || row >= e->embed->n_out)
            continue;
        linear_row(e->embed, row, tensor_row(out, r));
        if (e->scale != 1.0f)
            o->kernels->scale(tensor_row(out, r), e->scale, out.cols);
    }
    TRY(reduce_rows(o->reduce, out.data, e->owner, out.rows, out.cols, err));
    return ERR_OK;
}

/* --- attention */

struct attention_job {
    struct ops *o;
    const struct op_attention *a;
    struct tensor out;
    int parts;          /* pieces that the heads of a group are cut into, for want of other work */
};

/* Query heads of this rank that read local KV head j: [*begin, *end), local. */
static void heads_of(const struct op_attention *a, int j, int *begin, int *end)
{
    *begin = (a->kv_begin + j) * a->group - a->heads_begin;
    *end = *begin + a->group;
    *begin = *begin > 0 ? *begin : 0;
    *end = *end < a->heads_local ? *end : a->heads_local;
}

static void store_share(void *ctx, int thread, int n_threads)
{
    struct attention_job *job = ctx;
    const struct op_attention *a = job->a;
    const struct attention_page *l = &a->cache->layout;
    int item = 0;
    for (int i = 0; i < a->n_runs; i++)
        for (int j = 0; j < a->cache->kv_heads; j++) {
            if (item++ % n_threads != thread)
                continue;
            struct attention_cache c = kvcache_view(a->cache, a->layer, j, a->run[i].pages);
            job->o->kernels->attention->store(
                &c, tensor_row(a->k, a->run[i].row) + (int64_t)j * l->head_dim, a->k.ld,
                tensor_row(a->v, a->run[i].row) + (int64_t)j * l->value_dim, a->v.ld,
                a->run[i].position, a->run[i].n_rows);
        }
}

/* Heads [h0, h1), which share KV head j, for rows of run i in tiles; every n_threads-th tile is ours:
 * later tiles see more keys, so neighbours go to different threads. */
static void attend_heads(const struct attention_job *job, int i, int j, int h0, int h1, int *item,
                         int thread, int n_threads)
{
    const struct op_attention *a = job->a;
    const struct attention_page *l = &a->cache->layout;
    const struct op_run *run = &a->run[i];
    struct attention_cache c = kvcache_view(a->cache, a->layer, j, run->pages);
    int tile = ATTENTION_ROWS / (h1 - h0);
    for (int r = 0; r < run->n_rows; r += tile) {
        if ((*item)++ % n_threads != thread)
            continue;
        struct attention_call call = {
            .q = tensor_row(a->q, run->row + r) + (int64_t)h0 * l->head_dim,
            .out = tensor_row(job->out, run->row + r) + (int64_t)h0 * l->value_dim,
            .q_stride = a->q.ld, .out_stride = job->out.ld,
            .n_rows = run->n_rows - r < tile ? run->n_rows - r : tile, .n_group = h1 - h0,
            .position = run->position + r, .window = a->window, .scale = a->scale,
            .softcap = a->softcap, .sinks = a->sinks != NULL ? a->sinks + h0 : NULL,
        };
        job->o->kernels->attention->run(&c, &call, ops_thread(job->o, thread));
    }
}

static void attend_share(void *ctx, int thread, int n_threads)
{
    struct attention_job *job = ctx;
    int item = 0;
    for (int i = 0; i < job->a->n_runs; i++)
        for (int j = 0; j < job->a->cache->kv_heads; j++) {
            int begin, end;
            heads_of(job->a, j, &begin, &end);
            int step = (end - begin + job->parts - 1) / job->parts;
            step = step < ATTENTION_ROWS ? step : ATTENTION_ROWS;
            for (int h = begin; h < end; h += step)
                attend_heads(job, i, j, h, h + step < end ? h + step : end, &item, thread, n_threads);
        }
}

void op_attention(struct ops *o, struct tensor out, const struct op_attention *a)
{
    TO_TAPE(o, attention, out, a);
    struct attention_job job = {.o = o, .a = a, .out = out, .parts = 1};
    int items = a->n_runs * a->cache->kv_heads;
    if (items > 0) {
        if (items < o->team->n_running)
            job.parts = (o->team->n_running + items - 1) / items;
        ops_run(o, store_share, &job, (int64_t)a->k.rows * a->k.cols);
        team_run(o->team, attend_share, &job);
    }
}

void op_pick(struct ops *o, struct tensor out, struct tensor x, const int *rows)
{
    TO_TAPE(o, pick, out, x, rows);
    for (int i = 0; i < out.rows; i++)
        memcpy(tensor_row(out, i), tensor_row(x, rows[i]), sizeof(float) * (size_t)out.cols);
}
