#include "workers/models/moe.h"

#include "workers/kernels/vmath.h"

#include <string.h>

enum { BLOCK_FLOATS = 65536 };      /* rows x columns that a thread sums at once: 256 KB, in L2 */

static void *place(uint8_t *base, size_t *at, size_t bytes)
{
    uint8_t *p = base != NULL ? base + *at : NULL;
    *at += (bytes + 63) / 64 * 64;
    return p;
}

size_t moe_buffers_place(struct moe_buffers *b, uint8_t *memory, const struct model_config *c,
                         int max_rows, int expert_ffn_local)
{
    size_t at = 0, rows = (size_t)max_rows, entries = rows * (size_t)c->n_experts_used;
    b->max_rows = max_rows;
    b->logits = place(memory, &at, rows * (size_t)c->n_experts * sizeof *b->logits);
    b->chosen = place(memory, &at, entries * sizeof *b->chosen);
    b->weight = place(memory, &at, entries * sizeof *b->weight);
    b->order = place(memory, &at, entries * sizeof *b->order);
    b->group = place(memory, &at, 2 * (size_t)c->n_experts * sizeof *b->group);
    b->x = place(memory, &at, entries * (size_t)c->dim * sizeof *b->x);
    b->gate = place(memory, &at, entries * (size_t)expert_ffn_local * sizeof *b->gate);
    b->up = place(memory, &at, entries * (size_t)expert_ffn_local * sizeof *b->up);
    return at;
}

/* Groups round their rows up (tiles of 16). */
static size_t prepared_bytes(const struct linear *l, enum isa isa, enum compute compute, int entries,
                             int groups)
{
    size_t most = 0;
    for (int role = 0; role < 2; role++) {
        size_t bytes = linear_x_bytes(l, isa, compute, (enum role)role, entries + 16 * groups, l->k);
        most = bytes > most ? bytes : most;
    }
    return most + 128 * (size_t)groups;
}

size_t moe_scratch_bytes(const struct model_config *c, const struct expert_weights *e, enum isa isa,
                         enum compute compute, int max_rows)
{
    int entries = max_rows * c->n_experts_used;
    int groups = 2 * c->n_experts < entries ? 2 * c->n_experts : entries;
    size_t in = prepared_bytes(&e->gate, isa, compute, entries, groups) +
                prepared_bytes(&e->up, isa, compute, entries, groups);
    size_t out = prepared_bytes(&e->down, isa, compute, entries, groups);
    return (in > out ? in : out) + 3 * (size_t)groups * sizeof(void *) * 2 + 256;
}

/* Tallest stack of sums that the program needs. */
static int stack_height(const struct split_program *p)
{
    int height = 0, most = 0;
    for (int i = 0; i < p->n_seg; i++) {
        height++;
        most = height > most ? height : most;
        height -= p->seg[i].folds;
    }
    return most;
}

static int block_panels(int rows)
{
    int panels = BLOCK_FLOATS / LINEAR_PANEL / rows;
    return panels > 1 ? panels : 1;
}

static size_t block_floats(int rows, int dim)
{
    int panels = block_panels(rows), all = (dim + LINEAR_PANEL - 1) / LINEAR_PANEL;
    return (size_t)rows * LINEAR_PANEL * (size_t)(panels < all ? panels : all);
}

size_t moe_thread_bytes(const struct model_config *c, const struct split_program *p, int max_rows)
{
    size_t most = 0;
    for (int rows = 1; rows <= max_rows; rows++) {
        size_t n = block_floats(rows, c->dim);
        most = n > most ? n : most;
    }
    return most * sizeof(float) * (size_t)(stack_height(p) + 1);
}

/* --- routing */

/* Weights of the chosen from their logits: softmax over all or over them, in double. */
static void weigh_chosen(const float *logits, int n, const int32_t *ids, int n_used,
                         enum moe_gate gate, bool renormalise, float *weights)
{
    float most = logits[0];
    for (int i = 1; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    double all = 0, chosen = 0;
    for (int i = 0; gate == MOE_SOFTMAX_ALL && !renormalise && i < n; i++)
        all += vmath_exp((double)logits[i] - most);
    for (int j = 0; j < n_used; j++)
        chosen += vmath_exp((double)logits[ids[j]] - most);
    /* Renormalised shares of a softmax over all are a softmax over the chosen. */
    double total = gate == MOE_SOFTMAX_ALL && !renormalise ? all : chosen;
    for (int j = 0; j < n_used; j++)
        weights[j] = (float)(vmath_exp((double)logits[ids[j]] - most) / total);
}

void moe_route(const float *logits, int n, int n_used, enum moe_gate gate, bool renormalise,
               int32_t *ids, float *weights)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {       /* ids by falling logit; a later equal one stays behind */
        int at = kept;
        while (at > 0 && logits[i] > logits[ids[at - 1]])
            at--;
        if (at == n_used)
            continue;
        int last = kept < n_used ? kept++ : n_used - 1;
        memmove(ids + at + 1, ids + at, sizeof *ids * (size_t)(last - at));
        ids[at] = i;
    }
    for (int i = 1; i < kept; i++)      /* then ascending */
        for (int j = i; j > 0 && ids[j] < ids[j - 1]; j--) {
            int32_t t = ids[j];
            ids[j] = ids[j - 1];
            ids[j - 1] = t;
        }
    weigh_chosen(logits, n, ids, kept, gate, renormalise, weights);
}

/* --- forward */

struct moe_job {
    struct ops *o;
    const struct op_moe *m;
    struct moe_buffers *b;
    int used, dim, ffn, rows, entries;
    bool one_row;               /* every group reads the same prepared row */
    void **xq[3];               /* by product (gate, up, down), by group */
    int64_t cost;               /* of all gate and up panels together */
    float *pieces;
    int64_t piece_stride;
};

static int panels_of(int n) { return (n + LINEAR_PANEL - 1) / LINEAR_PANEL; }

static void route_share(void *ctx, int thread, int n_threads)
{
    struct moe_job *j = ctx;
    const struct model_config *c = j->m->c;
    int64_t begin, end;
    team_share(j->rows, 1, thread, n_threads, &begin, &end);
    for (int64_t r = begin; r < end; r++)
        moe_route(j->b->logits + r * c->n_experts, c->n_experts, j->used, c->moe_gate,
                  c->moe_renormalise, j->b->chosen + r * j->used, j->b->weight + r * j->used);
}

/* Is the role void for these weights? Then rows of both share their groups. */
static bool role_is_void(const struct ops *o, const struct expert_weights *e)
{
    const struct linear *all[3] = {&e->gate, &e->up, &e->down};
    for (int i = 0; i < 3; i++)
        if (linear_family(all[i]->type, o->isa, o->compute, ROLE_KIND_PROMPT) !=
            linear_family(all[i]->type, o->isa, o->compute, ROLE_KIND_GENERATED))
            return false;
    return true;
}

/* Entries of rows [r0, r1), expert after expert, rows ascending. */
static void group_rows(struct moe_job *j, int role, int r0, int r1, int *at)
{
    struct moe_buffers *b = j->b;
    int n = j->m->c->n_experts, first_group = b->n_groups;
    for (int e = 0; e < n; e++)
        b->group[first_group + e] = (struct moe_group){.expert = e, .role = role};
    for (int i = r0 * j->used; i < r1 * j->used; i++)
        b->group[first_group + b->chosen[i]].n++;
    for (int e = 0; e < n; e++) {
        b->group[first_group + e].first = *at;
        *at += b->group[first_group + e].n;
        b->group[first_group + e].n = 0;
    }
    for (int i = r0 * j->used; i < r1 * j->used; i++) {
        struct moe_group *g = &b->group[first_group + b->chosen[i]];
        b->order[g->first + g->n++] = i;
    }
    for (int e = 0; e < n; e++)         /* only those that somebody chose */
        if (b->group[first_group + e].n > 0)
            b->group[b->n_groups++] = b->group[first_group + e];
}

static void group_entries(struct moe_job *j)
{
    int at = 0, n_prompt = j->m->n_prompt;
    j->b->n_groups = 0;
    if (role_is_void(j->o, j->m->w->expert))
        n_prompt = n_prompt > 0 ? j->rows : 0;
    if (n_prompt > 0)
        group_rows(j, ROLE_KIND_PROMPT, 0, n_prompt, &at);
    if (n_prompt < j->rows)
        group_rows(j, ROLE_KIND_GENERATED, n_prompt, j->rows, &at);
}

static const struct linear *product_of(const struct moe_job *j, int group, int product)
{
    const struct expert_weights *e = &j->m->w->expert[j->b->group[group].expert];
    return product == 0 ? &e->gate : product == 1 ? &e->up : &e->down;
}

static int family_of(const struct moe_job *j, int group, int product)
{
    return linear_family(product_of(j, group, product)->type, j->o->isa, j->o->compute,
                         (enum role)j->b->group[group].role);
}

static void take_prepared(struct moe_job *j, int product)
{
    struct arena *a = j->o->scratch;
    j->xq[product] = arena_take(a, sizeof(void *) * (size_t)j->b->n_groups);
    ASSERT(j->xq[product] != NULL);
    for (int g = 0; g < j->b->n_groups; g++) {
        const struct linear *l = product_of(j, g, product);
        void *same = NULL;
        if (product == 1 && family_of(j, g, 0) == family_of(j, g, 1))
            same = j->xq[0][g];
        else if (product < 2 && j->one_row && g > 0 && family_of(j, g, product) == family_of(j, 0, product))
            same = j->xq[product][0];
        j->xq[product][g] = same != NULL ? same
                                         : arena_take(a, linear_x_bytes(l, j->o->isa, j->o->compute,
                                                      (enum role)j->b->group[g].role,
                                                      j->b->group[g].n, l->k));
        ASSERT(j->xq[product][g] != NULL);
    }
}

static void gather_share(void *ctx, int thread, int n_threads)
{
    struct moe_job *j = ctx;
    int64_t begin, end;
    team_share(j->entries, 1, thread, n_threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        memcpy(j->b->x + i * j->dim, tensor_row(j->m->x, j->b->order[i] / j->used),
               sizeof(float) * (size_t)j->dim);
}

/* Prepares x of a product for every group; each thread takes a share of each group's rows. */
static void prepare_product(struct moe_job *j, int product, const float *x, int k, int thread,
                            int n_threads)
{
    for (int g = 0; g < j->b->n_groups; g++) {
        const struct moe_group *group = &j->b->group[g];
        bool done = (product == 1 && j->xq[1][g] == j->xq[0][g]) ||
                    (g > 0 && j->xq[product][g] == j->xq[product][0]);
        int64_t begin, end;
        team_share(group->n, 16, thread, n_threads, &begin, &end);
        int64_t first = j->one_row && product < 2 ? 0 : group->first;
        if (!done && begin < end)
            linear_x_prepare(product_of(j, g, product), j->o->isa, j->o->compute,
                             (enum role)group->role, j->xq[product][g], x + first * k, k, group->n, k,
                             (int)begin, (int)end);
    }
}

static void prepare_in_share(void *ctx, int thread, int n_threads)
{
    struct moe_job *j = ctx;
    const float *x = j->one_row ? j->m->x.data : j->b->x;
    prepare_product(j, 0, x, j->dim, thread, n_threads);
    prepare_product(j, 1, x, j->dim, thread, n_threads);
}

static void prepare_out_share(void *ctx, int thread, int n_threads)
{
    struct moe_job *j = ctx;
    prepare_product(j, 2, j->b->gate, j->ffn, thread, n_threads);
}

/* Reading a panel costs about as much as 8 rows' products with it. */
static int64_t panel_cost(const struct moe_group *g) { return g->n + 8; }

static void in_share(void *ctx, int thread, int n_threads)
{
    struct moe_job *j = ctx;
    struct split_program whole = split_whole(j->dim);
    int64_t from = j->cost * thread / n_threads, to = j->cost * (thread + 1) / n_threads, at = 0;
    int panels = panels_of(j->ffn);
    for (int g = 0; g < j->b->n_groups; g++)
        for (int product = 0; product < 2; product++) {
            const struct moe_group *group = &j->b->group[g];
            int64_t each = panel_cost(group), p0 = 0, p1 = panels;
            /* Panels whose first cost unit lies in [from, to). */
            if (from > at)
                p0 = (from - at + each - 1) / each;
            if (to < at + panels * each)
                p1 = to > at ? (to - at + each - 1) / each : 0;
            at += panels * each;
            if (p0 < p1)
                linear_run(product_of(j, g, product), j->o->isa, j->o->compute, (enum role)group->role,
                           &whole, (product == 0 ? j->b->gate : j->b->up) +
                           (int64_t)group->first * j->ffn, j->ffn, 0, j->xq[product][g], group->n,
                           (int)p0, (int)p1, ops_thread(j->o, thread));
        }
}

static void gate_share(void *ctx, int thread, int n_threads)
{
    struct moe_job *j = ctx;
    const struct kernels *k = j->o->kernels;
    const struct model_config *c = j->m->c;
    int64_t begin, end;
    team_share(j->entries, 1, thread, n_threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const struct expert_weights *e = &j->m->w->expert[j->b->chosen[j->b->order[i]]];
        float *gate = j->b->gate + i * j->ffn, *up = j->b->up + i * j->ffn;
        if (e->gate_bias != NULL)
            k->add(gate, gate, e->gate_bias, j->ffn);
        if (e->up_bias != NULL)
            k->add(up, up, e->up_bias, j->ffn);
        if (c->act == ACT_SILU)
            k->silu_mul(gate, gate, up, j->ffn);
        else if (c->act == ACT_GELU_TANH)
            k->gelu_mul(gate, gate, up, j->ffn);
        else
            k->swiglu_oss(gate, gate, up, c->act_limit, j->ffn);
    }
}

/* Panels [p0, p0 + n) of a matrix as a matrix of its own. */
static struct linear panels_view(const struct linear *l, int p0, int n)
{
    struct linear v = *l;
    v.packed += (size_t)p0 * linear_packed_bytes(l->type, LINEAR_PANEL, l->k, l->k_origin);
    v.n_out = l->n_out - p0 * LINEAR_PANEL < n * LINEAR_PANEL ? l->n_out - p0 * LINEAR_PANEL
                                                              : n * LINEAR_PANEL;
    return v;
}

/* acc [rows][cols] = the chosen experts' weighted sums over segment s, panels [p0, p0 + n). */
static void sum_segment(struct moe_job *j, int s, int p0, int n, float *acc, float *part, int cols,
                        void *scratch)
{
    struct split_program one = {.n_seg = 1, .n_piece = 1};
    one.seg[0].k_begin = j->m->program->seg[s].k_begin;
    one.seg[0].k_end = j->m->program->seg[s].k_end;
    memset(acc, 0, sizeof *acc * (size_t)j->rows * (size_t)cols);
    for (int g = 0; g < j->b->n_groups; g++) {
        const struct moe_group *group = &j->b->group[g];
        struct linear down = panels_view(product_of(j, g, 2), p0, n);
        linear_run(&down, j->o->isa, j->o->compute, (enum role)group->role, &one, part, cols, 0,
                   j->xq[2][g], group->n, 0, n, scratch);
        for (int i = 0; i < group->n; i++) {
            int entry = j->b->order[group->first + i];
            j->o->kernels->add_scaled(acc + (int64_t)(entry / j->used) * cols,
                                      part + (int64_t)i * cols, j->b->weight[entry], down.n_out);
        }
    }
}

static void out_block(struct moe_job *j, int p0, int n, void *scratch, float *stack)
{
    const struct split_program *p = j->m->program;
    int cols = n * LINEAR_PANEL, height = 0;
    int64_t size = (int64_t)j->rows * cols;
    float *part = stack + size * stack_height(p);
    int real = j->dim - p0 * LINEAR_PANEL < cols ? j->dim - p0 * LINEAR_PANEL : cols;
    for (int s = 0; s < p->n_seg; s++) {
        sum_segment(j, s, p0, n, stack + size * height++, part, cols, scratch);
        for (int f = 0; f < p->seg[s].folds; f++) {
            height--;
            float *a = stack + size * (height - 1);
            j->o->kernels->add(a, a, stack + size * height, size);
        }
    }
    for (int i = 0; i < height; i++)
        for (int r = 0; r < j->rows; r++)
            memcpy(j->pieces + i * j->piece_stride + (int64_t)r * j->dim + p0 * LINEAR_PANEL,
                   stack + size * i + (int64_t)r * cols, sizeof(float) * (size_t)real);
}

static void out_share(void *ctx, int thread, int n_threads)
{
    struct moe_job *j = ctx;
    int64_t begin, end;
    uint8_t *scratch = ops_thread(j->o, thread);
    team_share(panels_of(j->dim), 1, thread, n_threads, &begin, &end);
    int step = block_panels(j->rows);
    for (int p = (int)begin; p < end; p += step)
        out_block(j, p, end - p < step ? (int)end - p : step, scratch,
                  (float *)(scratch + j->m->linear_bytes));
}

void moe_forward(struct ops *o, const struct op_moe *m, float *pieces, int64_t piece_stride)
{
    struct moe_job j = {.o = o, .m = m, .b = m->b, .used = m->c->n_experts_used, .dim = m->c->dim,
                        .ffn = m->w->expert[0].gate.n_out, .rows = m->x.rows,
                        .one_row = m->x.rows == 1, .pieces = pieces, .piece_stride = piece_stride};
    j.entries = j.rows * j.used;
    struct op_product router = {.w = &m->w->router, .bias = m->w->router_bias,
                                .out = tensor_of(m->b->logits, j.rows, m->c->n_experts)};
    op_linear(o, &(struct op_linear){.x = m->x, .n_prompt = m->n_prompt, .product = &router,
                                     .n_products = 1});
    ops_run(o, route_share, &j, (int64_t)j.rows * m->c->n_experts * 16);
    if (m->program->n_seg == 0)
        return;         /* no expert columns here; the weights are still wanted for the bias */
    group_entries(&j);
    for (int g = 0; g < j.b->n_groups; g++)
        j.cost += 2 * panel_cost(&j.b->group[g]) * panels_of(j.ffn);
    size_t mark = arena_mark(o->scratch);
    take_prepared(&j, 0);
    take_prepared(&j, 1);
    if (!j.one_row)
        ops_run(o, gather_share, &j, (int64_t)j.entries * j.dim);
    ops_run(o, prepare_in_share, &j, (int64_t)(j.one_row ? 1 : j.entries) * j.dim);
    team_run(o->team, in_share, &j);
    ops_run(o, gate_share, &j, (int64_t)j.entries * j.ffn);
    arena_release(o->scratch, mark);
    take_prepared(&j, 2);
    ops_run(o, prepare_out_share, &j, (int64_t)j.entries * j.ffn);
    team_run(o->team, out_share, &j);
    arena_release(o->scratch, mark);
}

void moe_add_bias(struct ops *o, const struct op_moe *m, struct tensor out)
{
    int used = m->c->n_experts_used;
    for (int r = 0; r < out.rows; r++)
        for (int i = 0; i < used; i++) {
            int entry = r * used + i;
            o->kernels->add_scaled(tensor_row(out, r), m->w->expert[m->b->chosen[entry]].down_bias,
                                   m->b->weight[entry], out.cols);
        }
}
