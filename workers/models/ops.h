/* ops.h - the arithmetic that layers are written in: eager, on views, one call for each operation.
 * Why:    a model's forward is written once: when it serves an op computes here, on the caller's
 *         buffers; when it learns each op goes to a tape instead (learnops.h), which computes on its own
 *         memory what has to be kept for the way back.
 * Shapes: activations are [rows, cols] f32 views, row-major; rows of prompts come before rows of
 *         generated tokens, and each kind goes through its own family of kernels (linear.h).
 * Bits:   a row's result depends on that row only: not on other rows, threads or tensor-parallel ranks.
 * Owner:  nothing here owns memory; scratch is the caller's arena, given back by every op.
 * Ranks:  op_reduce, op_embed are collective on the tensor-parallel group; the others are not. */
#ifndef MUSTER_OPS_H
#define MUSTER_OPS_H

#include "proto/arena.h"
#include "workers/kernels/attention.h"
#include "workers/kernels/linear.h"
#include "workers/models/modelconfig.h"
#include "workers/models/team.h"
#include "workers/parallel/reduce.h"

struct tensor { float *data; int rows, cols; int64_t ld; };     /* a view; ld floats from row to row */

static inline struct tensor tensor_of(float *data, int rows, int cols)
{
    return (struct tensor){data, rows, cols, cols};
}
static inline struct tensor tensor_rows(struct tensor t, int first, int n)
{
    t.data += first * t.ld;
    t.rows = n;
    return t;
}
static inline float *tensor_row(struct tensor t, int row) { return t.data + row * t.ld; }

struct ops_tape;
struct ops {
    const struct kernels *kernels;
    enum isa isa;
    enum compute compute;
    struct arena *scratch;              /* ops_*_scratch() say how much an op takes */
    uint8_t *thread_scratch;            /* n_threads times thread_scratch_bytes */
    size_t thread_scratch_bytes;
    struct reduce *reduce;
    struct team *team;
    struct ops_tape *tape;              /* NULL when serving */
};

/* out = x w / rms(x), row by row; w [cols]. */
void op_rmsnorm(struct ops *o, struct tensor out, struct tensor x, const float *w, float eps);
/* The same for each run of head_dim numbers of x, in place; w [head_dim]. */
void op_head_rmsnorm(struct ops *o, struct tensor x, int head_dim, const float *w, float eps);
void op_add(struct ops *o, struct tensor out, struct tensor a, struct tensor b);
/* x += row [cols], on every row. */
void op_add_row(struct ops *o, struct tensor x, const float *row);
void op_softcap(struct ops *o, struct tensor x, float cap);
/* out = act(gate) up; limit is gpt-oss's. */
void op_gate(struct ops *o, struct tensor out, struct tensor gate, struct tensor up, enum ffn_act act,
             float limit);
/* Rotates each head of x in place; cosine, sine [rows, n_rot / 2]. */
void op_rope(struct ops *o, struct tensor x, int head_dim, int n_rot, enum rope_kind kind,
             const float *cosine, const float *sine);

/* Products of one x with several matrices, prepared once. */
struct op_product {
    const struct linear *w;
    struct tensor out;          /* [rows, w->n_out]: of the first piece */
    const float *bias;          /* [n_out] or NULL; not with a program of several pieces */
};
struct op_linear {
    struct tensor x;
    int n_prompt;                       /* rows [0, n_prompt) are prompts, the others generated */
    const struct split_program *program;        /* NULL: K is not cut */
    int64_t piece_stride;               /* floats from piece to piece of out */
    const struct op_product *product;
    int n_products;                     /* at most OPS_PRODUCTS_MAX */
};
enum { OPS_PRODUCTS_MAX = 4 };
void op_linear(struct ops *o, const struct op_linear *l);
/* Arena bytes that op_linear takes for up to n_rows rows. */
size_t ops_linear_scratch(enum isa isa, enum compute compute, const struct linear *const *w, int n,
                          int n_rows);
/* Bytes that one thread needs for op_linear and op_attention. */
size_t ops_thread_scratch(enum isa isa, enum compute compute, int n_rows, int k_max, int value_dim);

/* out = sum over the tensor-parallel group of its ranks' pieces, in the tree of split.h. */
struct op_reduce { const float *pieces; int64_t piece_stride; int n_total, unit; };
int op_reduce(struct ops *o, struct tensor out, const struct op_reduce *r, struct err *err);

/* Rows of the embedding, of which this rank holds [first, first + embed->n_out), times scale.
 * ids [rows]; owner [rows] is the tensor-parallel index that holds each. */
struct op_embed { const struct linear *embed; int first; const int32_t *ids; const uint8_t *owner;
                  float scale; };
int op_embed(struct ops *o, struct tensor out, const struct op_embed *e, struct err *err);

/* Consecutive positions of one sequence: rows [row, row + n_rows) of the batch. */
struct op_run { int row, n_rows, position; const int32_t *pages; };
struct op_attention {
    struct tensor q, k, v;      /* [rows, heads_local head_dim], [rows, kv_local head_dim], .. */
    const struct kvcache *cache;
    int layer;                  /* local */
    const struct op_run *run;
    int n_runs;
    int heads_begin, heads_local, kv_begin, group;      /* query head h reads KV head h / group */
    int window;
    float scale, softcap;
    const float *sinks;         /* [heads_local] or NULL */
};
/* Writes k and v to the cache, then out [rows, heads_local value_dim] = attention of q over it. */
void op_attention(struct ops *o, struct tensor out, const struct op_attention *a);

/* out row i = x row rows[i]; out has its own memory. rows [out.rows]. */
void op_pick(struct ops *o, struct tensor out, struct tensor x, const int *rows);

/* Who carries the operations out when a model learns: the data of a view is then the name of a value,
 * no memory, and weights are known by their addresses. One function for each op, with its arguments. */
struct ops_tape {
    void (*rmsnorm)(struct ops_tape *t, struct tensor out, struct tensor x, const float *w, float eps);
    void (*head_rmsnorm)(struct ops_tape *t, struct tensor x, int head_dim, const float *w, float eps);
    void (*add)(struct ops_tape *t, struct tensor out, struct tensor a, struct tensor b);
    void (*add_row)(struct ops_tape *t, struct tensor x, const float *row);
    void (*softcap)(struct ops_tape *t, struct tensor x, float cap);
    void (*gate)(struct ops_tape *t, struct tensor out, struct tensor gate, struct tensor up,
                 enum ffn_act act, float limit);
    void (*rope)(struct ops_tape *t, struct tensor x, int head_dim, int n_rot, enum rope_kind kind,
                 const float *cosine, const float *sine);
    void (*linear)(struct ops_tape *t, const struct op_linear *l);
    int (*reduce)(struct ops_tape *t, struct tensor out, const struct op_reduce *r, struct err *err);
    int (*embed)(struct ops_tape *t, struct tensor out, const struct op_embed *e, struct err *err);
    void (*attention)(struct ops_tape *t, struct tensor out, const struct op_attention *a);
    void (*pick)(struct ops_tape *t, struct tensor out, struct tensor x, const int *rows);
};

/* For ops that live elsewhere (moe.c): one linear product of panels [p0, p1) on this thread. */
static inline void *ops_thread(const struct ops *o, int thread)
{
    return o->thread_scratch + (size_t)thread * o->thread_scratch_bytes;
}
/* Is a job over `numbers` floats too small to be worth a hand-out? */
static inline bool ops_small(int64_t numbers) { return numbers <= 8192; }
/* job(ctx, i, n) on the team, or at once on this thread when it is small. */
static inline void ops_run(struct ops *o, team_job *job, void *ctx, int64_t numbers)
{
    if (ops_small(numbers))
        job(ctx, 0, 1);
    else
        team_run(o->team, job, ctx);
}

#endif
