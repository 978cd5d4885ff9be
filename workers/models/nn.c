#include "workers/models/nn.h"

#include "proto/err.h"
#include "proto/log.h"
#include "proto/split.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_MIN = 32 << 20, ALIGN = 64 };

/* Memory was planned before the run; when the system has less after all, the rank says so and ends:
 * an operation has no way to go on without its result. */
static void out_of_memory(size_t bytes)
{
    log_line(LOG_ERROR, "nn", "out of memory (%zu bytes more were wanted): fewer samples a step, or more "
                              "ranks", bytes);
    _Exit(EXIT_NOFIT);
}

void nn_init(struct nn *nn, const struct kernels *kernels, struct team *team)
{
    memset(nn, 0, sizeof *nn);
    nn->kernels = kernels;
    nn->team = team;
    nn->n_parts = 1;
    nn->part_begin[1] = 1;
    nn->leaves = 1;
    nn->n_pieces = 1;
    openblas_set_num_threads(1);    /* our threads run parts; the library's would change the bits */
}

/* Parts among leaves [first, last): where both halves hold some, one more fold after the last of them. */
static bool program_folds(struct nn *nn, int first, int last, int *at)
{
    if (*at >= nn->n_parts || nn->leaf[*at] >= last)
        return false;
    if (last - first == 1) {
        ++*at;
        return true;
    }
    int mid = (first + last) / 2;
    bool left = program_folds(nn, first, mid, at), right = program_folds(nn, mid, last, at);
    if (left && right)
        nn->folds[*at - 1]++;
    return left || right;
}

void nn_set_parts(struct nn *nn, int n_parts, const int64_t *part_begin)
{
    ASSERT(n_parts >= 1 && n_parts <= NN_PARTS_MAX);
    nn->n_parts = n_parts;
    memcpy(nn->part_begin, part_begin, ((size_t)n_parts + 1) * sizeof *part_begin);
    nn->leaves = 1;
    while (nn->leaves < n_parts)
        nn->leaves *= 2;
    for (int p = 0; p < n_parts; p++)
        nn->leaf[p] = p;
    int at = 0;
    memset(nn->folds, 0, sizeof nn->folds);
    program_folds(nn, 0, nn->leaves, &at);
    nn->n_pieces = 1;
}

void nn_free(struct nn *nn)
{
    for (struct nn_block *b = nn->first, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    for (int p = 0; p < NN_PARTS_MAX; p++)
        free(nn->scratch[p]);
    memset(nn, 0, sizeof *nn);
}

void nn_reset(struct nn *nn)
{
    for (struct nn_block *b = nn->first; b != NULL; b = b->next)
        b->used = ALIGN;
    nn->current = nn->first;
    nn->last = NULL;
}

static struct nn_block *new_block(size_t bytes)
{
    size_t cap = bytes + ALIGN > BLOCK_MIN ? bytes + ALIGN : BLOCK_MIN;
    cap = (cap + ALIGN - 1) / ALIGN * ALIGN;
    struct nn_block *b = aligned_alloc(ALIGN, cap);
    if (b == NULL)
        out_of_memory(cap);
    *b = (struct nn_block){.cap = cap, .used = ALIGN};
    return b;
}

void *nn_take(struct nn *nn, size_t bytes)
{
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (nn->first == NULL)
        nn->first = nn->current = new_block(bytes);
    while (nn->current->cap - nn->current->used < bytes) {
        if (nn->current->next == NULL)
            nn->current->next = new_block(bytes);
        nn->current = nn->current->next;
    }
    void *p = (uint8_t *)nn->current + nn->current->used;
    nn->current->used += bytes;
    return p;
}

void *nn_take_zeroed(struct nn *nn, size_t bytes) { return memset(nn_take(nn, bytes), 0, bytes); }

float *nn_scratch(struct nn *nn, int part, int64_t floats)
{
    if ((size_t)floats > nn->scratch_floats[part]) {
        free(nn->scratch[part]);
        size_t bytes = ((size_t)floats * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
        nn->scratch[part] = aligned_alloc(ALIGN, bytes);
        if (nn->scratch[part] == NULL)
            out_of_memory(bytes);
        nn->scratch_floats[part] = (size_t)floats;
    }
    return nn->scratch[part];
}

static struct nn_tensor *make(struct nn *nn, int n_dims, const int64_t *shape)
{
    struct nn_tensor *t = nn_take_zeroed(nn, sizeof *t);
    ASSERT(n_dims >= 0 && n_dims <= NN_DIMS_MAX);
    t->n_dims = n_dims;
    t->n = 1;
    for (int i = 0; i < n_dims; i++)
        t->n *= t->shape[i] = shape[i];
    return t;
}

struct nn_tensor *nn_new(struct nn *nn, int n_dims, const int64_t *shape)
{
    struct nn_tensor *t = make(nn, n_dims, shape);
    t->data = nn_take(nn, (size_t)t->n * sizeof *t->data);
    return t;
}

struct nn_tensor *nn_input(struct nn *nn, float *data, int n_dims, const int64_t *shape)
{
    struct nn_tensor *t = make(nn, n_dims, shape);
    t->data = data;
    return t;
}

struct nn_tensor *nn_param(struct nn *nn, float *data, int n_dims, const int64_t *shape)
{
    struct nn_tensor *t = nn_input(nn, data, n_dims, shape);
    t->wants_grad = t->unbatched = true;
    return t;
}

float *nn_grad(struct nn *nn, struct nn_tensor *t)
{
    if (t == NULL || !t->wants_grad)
        return NULL;
    if (t->grad == NULL)
        t->grad = nn_take_zeroed(nn, (size_t)t->n * sizeof(float) *
                                         (size_t)(t->unbatched ? nn->n_parts : 1));
    return t->grad;
}

bool nn_grad_fresh(struct nn *nn, struct nn_tensor *t)
{
    if (t == NULL || !t->wants_grad || t->grad != NULL)
        return false;
    t->grad = nn_take(nn, (size_t)t->n * sizeof(float) * (size_t)(t->unbatched ? nn->n_parts : 1));
    return true;
}

bool nn_grad_share(struct nn_tensor *t, const struct nn_tensor *of)
{
    if (!t->wants_grad || t->grad != NULL || t->n != of->n || t->unbatched != of->unbatched)
        return false;
    t->grad = of->grad;
    return true;
}

struct nn_node *nn_record(struct nn *nn, struct nn_tensor *out,
                          void (*backward)(struct nn *, const struct nn_node *),
                          struct nn_tensor *a, struct nn_tensor *b, struct nn_tensor *c)
{
    struct nn_tensor *in[3] = {a, b, c};
    bool wants = false;
    for (int i = 0; i < 3; i++)
        wants |= in[i] != NULL && in[i]->wants_grad;
    if (!nn->recording || !wants)
        return NULL;
    struct nn_node *node = nn_take_zeroed(nn, sizeof *node);
    node->before = nn->last;
    node->backward = backward;
    node->out = out;
    memcpy(node->in, in, sizeof in);
    for (int i = 0; i < 3; i++)
        if (in[i] != NULL && in[i]->unbatched)
            in[i]->uses++;
    out->wants_grad = true;
    nn->last = node;
    return node;
}

/* An operation is done with: are the gradients of its weights whole now? */
static void went_back(struct nn *nn, const struct nn_node *node)
{
    for (int i = 0; i < 3; i++) {
        struct nn_tensor *t = node->in[i];
        if (t != NULL && t->unbatched && ++t->gone == t->uses && t->grad != NULL)
            nn->sync->whole(nn->sync, t);
    }
    if (nn->sync->between != NULL)
        nn->sync->between(nn->sync);
}

void nn_backward(struct nn *nn, struct nn_tensor *of, float seed)
{
    float *g = nn_grad(nn, of);
    if (g == NULL)
        return;     /* nothing that wants a gradient led here */
    for (int64_t i = 0; i < of->n; i++)
        g[i] += seed;
    for (const struct nn_node *node = nn->last; node != NULL; node = node->before)
        if (node->out->grad != NULL) {
            node->backward(nn, node);
            if (nn->sync != NULL && nn->sync->whole != NULL)
                went_back(nn, node);
        }
}

struct nn_range nn_part(const struct nn *nn, const struct nn_tensor *t, int p)
{
    if (t->n_dims == 0 || nn->n_parts == 1)
        return (struct nn_range){0, t->n_dims == 0 ? 1 : t->shape[0]};
    int64_t batch = nn->part_begin[nn->n_parts], each = t->shape[0] / batch;
    ASSERT(each * batch == t->shape[0]);
    return (struct nn_range){nn->part_begin[p] * each, nn->part_begin[p + 1] * each};
}

struct parts_job { void (*job)(void *, int); void *ctx; int n; };

static void run_parts(void *ctx, int thread, int n_threads)
{
    const struct parts_job *j = ctx;
    for (int p = thread; p < j->n; p += n_threads)
        j->job(j->ctx, p);
}

void nn_parts(struct nn *nn, void (*job)(void *ctx, int part), void *ctx)
{
    struct parts_job j = {job, ctx, nn->n_parts};
    if (nn->team == NULL || nn->n_parts == 1)
        run_parts(&j, 0, 1);
    else
        team_run(nn->team, run_parts, &j);
}

/* Sum of the subtree of leaves [first, last) into out; returns whether it holds anything. room has n
 * floats for each level. */
static bool fold_subtree(const struct nn *nn, float *out, const float *parts, int64_t n, int first,
                         int last, int *at, float *room)
{
    if (*at >= nn->n_parts || nn->leaf[*at] >= last)
        return false;
    if (last - first == 1) {
        memcpy(out, parts + (int64_t)(*at)++ * n, (size_t)n * sizeof *out);
        return true;
    }
    int mid = (first + last) / 2;
    bool left = fold_subtree(nn, out, parts, n, first, mid, at, room + n);
    bool right = fold_subtree(nn, left ? room : out, parts, n, mid, last, at, room + n);
    if (left && right)
        for (int64_t i = 0; i < n; i++)
            out[i] += room[i];
    return left || right;
}

void nn_fold(struct nn *nn, float *out, const float *parts, int64_t n)
{
    if (nn->sync != NULL) {
        nn->failed |= nn->sync->sum(nn->sync, out, parts, n) != ERR_OK;
        return;
    }
    int at = 0;
    float *room = nn_scratch(nn, 0, 8 * n);
    if (!fold_subtree(nn, out, parts, n, 0, nn->leaves, &at, room))
        memset(out, 0, (size_t)n * sizeof *out);
}
