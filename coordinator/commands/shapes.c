#include "coordinator/commands/shapes.h"

#include <stdio.h>
#include <string.h>

struct shape {
    const char *name, *type, *expert_type;      /* as published */
    int layers, dim, heads, kv_heads, head_dim, ffn, vocab, context;
    bool tied;
    int experts, used;                          /* 0: dense; else ffn is an expert's */
    int window, global_every;                   /* 0: no window; else every so many layers see all */
};

static const struct shape shapes[] = {
    {"smollm2-135m", "bf16", NULL, 30, 576, 9, 3, 64, 1536, 49152, 8192, true, 0, 0, 0, 0},
    {"tinyllama-1.1b", "bf16", NULL, 22, 2048, 32, 4, 64, 5632, 32000, 2048, false, 0, 0, 0, 0},
    {"llama-3.2-1b", "bf16", NULL, 16, 2048, 32, 8, 64, 8192, 128256, 131072, true, 0, 0, 0, 0},
    {"llama-3.2-3b", "bf16", NULL, 28, 3072, 24, 8, 128, 8192, 128256, 131072, true, 0, 0, 0, 0},
    {"llama-3.1-8b", "bf16", NULL, 32, 4096, 32, 8, 128, 14336, 128256, 131072, false, 0, 0, 0, 0},
    {"llama-3.1-70b", "bf16", NULL, 80, 8192, 64, 8, 128, 28672, 128256, 131072, false, 0, 0, 0, 0},
    {"llama-3.1-405b", "bf16", NULL, 126, 16384, 128, 8, 128, 53248, 128256, 131072, false, 0, 0, 0, 0},
    {"mistral-7b", "bf16", NULL, 32, 4096, 32, 8, 128, 14336, 32768, 32768, false, 0, 0, 0, 0},
    {"mixtral-8x7b", "bf16", NULL, 32, 4096, 32, 8, 128, 14336, 32000, 32768, false, 8, 2, 0, 0},
    {"mixtral-8x22b", "bf16", NULL, 56, 6144, 48, 8, 128, 16384, 32768, 65536, false, 8, 2, 0, 0},
    {"qwen2.5-7b", "bf16", NULL, 28, 3584, 28, 4, 128, 18944, 152064, 32768, false, 0, 0, 0, 0},
    {"qwen2.5-32b", "bf16", NULL, 64, 5120, 40, 8, 128, 27648, 152064, 32768, false, 0, 0, 0, 0},
    {"qwen2.5-72b", "bf16", NULL, 80, 8192, 64, 8, 128, 29568, 152064, 32768, false, 0, 0, 0, 0},
    {"qwen3-8b", "bf16", NULL, 36, 4096, 32, 8, 128, 12288, 151936, 40960, false, 0, 0, 0, 0},
    {"qwen3-32b", "bf16", NULL, 64, 5120, 64, 8, 128, 25600, 151936, 40960, false, 0, 0, 0, 0},
    {"qwen3-30b-a3b", "bf16", NULL, 48, 2048, 32, 4, 128, 768, 151936, 40960, false, 128, 8, 0, 0},
    {"qwen3-235b-a22b", "bf16", NULL, 94, 4096, 64, 4, 128, 1536, 151936, 40960, false, 128, 8, 0, 0},
    {"gemma-3-27b", "bf16", NULL, 62, 5376, 32, 16, 128, 21504, 262208, 131072, true, 0, 0, 1024, 6},
    {"gpt-oss-20b", "bf16", "mxfp4", 24, 2880, 64, 8, 64, 2880, 201088, 131072, false, 32, 4, 128, 2},
    {"gpt-oss-120b", "bf16", "mxfp4", 36, 2880, 64, 8, 64, 2880, 201088, 131072, false, 128, 4, 128, 2},
};

/* Sizes only: what a block holds is the workers' business. */
struct type { const char *name; uint32_t id, block, bytes; };
static const struct type types[] = {
    {"f32", 0, 1, 4}, {"f16", 1, 1, 2}, {"bf16", 30, 1, 2}, {"q8_0", 8, 32, 34}, {"q6_k", 14, 256, 210},
    {"q5_k", 13, 256, 176}, {"q5_1", 7, 32, 24}, {"q5_0", 6, 32, 22}, {"q4_1", 3, 32, 20},
    {"q4_k", 12, 256, 144}, {"q4_0", 2, 32, 18}, {"iq4_nl", 20, 32, 18}, {"mxfp4", 39, 32, 17},
    {"iq4_xs", 23, 256, 136}, {"q3_k", 11, 256, 110}, {"q2_k", 10, 256, 84},
};

static const struct shape *find_shape(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

static const struct type *find_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

bool shapes_known(const char *name) { return find_shape(name) != NULL; }

void shapes_names(char *out, size_t cap)
{
    out[0] = '\0';
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        snprintf(out + strlen(out), cap - strlen(out), "%s%s", i > 0 ? " " : "", shapes[i].name);
}

static uint64_t bytes_of(const struct type *t, uint64_t weights)
{
    return (weights + t->block - 1) / t->block * t->bytes;
}

/* --- making a specification */

struct maker { Muster__ModelSpec *spec; struct arena *mem; size_t cap; bool full; };

/* experts 0: a matrix [rows, cols], or a vector where cols is 0. */
static void add(struct maker *m, int layer, Muster__Cut cut, const struct type *type, uint64_t experts,
                uint64_t rows, uint64_t cols)
{
    Muster__TensorSpec *t = arena_take(m->mem, sizeof *t);
    uint64_t *shape = arena_take(m->mem, 3 * sizeof *shape), n = 0;
    if (t == NULL || shape == NULL || m->spec->n_tensor == m->cap) {
        m->full = true;
        return;
    }
    muster__tensor_spec__init(t);
    if (experts > 0)
        shape[n++] = experts;
    shape[n++] = rows;
    if (cols > 0)
        shape[n++] = cols;
    uint64_t weights = 1;
    for (uint64_t i = 0; i < n; i++)
        weights *= shape[i];
    t->shape = shape;
    t->n_shape = n;
    t->layer = layer;
    t->cut = cut;
    t->type = type->id;
    t->type_name = (char *)type->name;
    t->file_bytes = t->packed_bytes = bytes_of(type, weights);
    m->spec->parameters += weights;
    m->spec->tensor[m->spec->n_tensor++] = t;
}

static void add_layer(struct maker *m, const struct shape *s, const struct type *type,
                      const struct type *expert, int l)
{
    uint64_t dim = (uint64_t)s->dim, ffn = (uint64_t)s->ffn, hd = (uint64_t)s->head_dim;
    uint64_t q = (uint64_t)s->heads * hd, kv = (uint64_t)s->kv_heads * hd, e = (uint64_t)s->experts;
    const struct type *plain = find_type("f32");
    add(m, l, MUSTER__CUT__CUT_NONE, plain, 0, dim, 0);
    add(m, l, MUSTER__CUT__CUT_Q_ROWS, type, 0, q, dim);
    add(m, l, MUSTER__CUT__CUT_KV_ROWS, type, 0, kv, dim);
    add(m, l, MUSTER__CUT__CUT_KV_ROWS, type, 0, kv, dim);
    add(m, l, MUSTER__CUT__CUT_HEAD_COLS, type, 0, dim, q);
    add(m, l, MUSTER__CUT__CUT_NONE, plain, 0, dim, 0);
    if (e > 0)
        add(m, l, MUSTER__CUT__CUT_NONE, plain, 0, e, dim);
    add(m, l, e ? MUSTER__CUT__CUT_EXPERT_ROWS : MUSTER__CUT__CUT_FFN_ROWS, expert, e, ffn, dim);
    add(m, l, e ? MUSTER__CUT__CUT_EXPERT_ROWS : MUSTER__CUT__CUT_FFN_ROWS, expert, e, ffn, dim);
    add(m, l, e ? MUSTER__CUT__CUT_EXPERT_COLS : MUSTER__CUT__CUT_FFN_COLS, expert, e, dim, ffn);
}

static int add_windows(const struct shape *s, Muster__ModelSpec *spec, struct arena *mem)
{
    spec->layer = arena_take(mem, (size_t)s->layers * sizeof *spec->layer);
    for (int l = 0; l < s->layers && spec->layer != NULL; l++) {
        Muster__LayerSpec *one = arena_take(mem, sizeof *one);
        if (one == NULL)
            return ERR_NOMEM;
        muster__layer_spec__init(one);
        one->moe = s->experts > 0;
        one->window = s->window > 0 && (l + 1) % s->global_every != 0 ? s->window : 0;
        spec->layer[spec->n_layer++] = one;
    }
    return spec->layer != NULL ? ERR_OK : ERR_NOMEM;
}

static void copy_numbers(const struct shape *s, const struct type *type, Muster__ModelSpec *spec)
{
    spec->name = spec->arch = (char *)s->name;
    spec->format = (char *)"published shape";
    spec->type = (char *)type->name;
    spec->n_layers = (uint32_t)s->layers;
    spec->dim = (uint32_t)s->dim;
    spec->n_heads = (uint32_t)s->heads;
    spec->n_kv_heads = (uint32_t)s->kv_heads;
    spec->head_dim = spec->value_dim = (uint32_t)s->head_dim;
    spec->ffn_dim = s->experts > 0 ? 0 : (uint32_t)s->ffn;
    spec->expert_ffn_dim = s->experts > 0 ? (uint32_t)s->ffn : 0;
    spec->n_experts = (uint32_t)s->experts;
    spec->n_experts_used = (uint32_t)s->used;
    spec->vocab = (uint32_t)s->vocab;
    spec->context = (uint32_t)s->context;
    spec->tied = s->tied;
}

int shapes_spec(const char *name, const char *type, struct arena *mem, Muster__ModelSpec **out,
                struct err *err)
{
    const struct shape *s = find_shape(name);
    const struct type *t = find_type(type != NULL ? type : s != NULL ? s->type : "");
    char names[512];
    shapes_names(names, sizeof names);
    if (s == NULL)
        return err_set(err, ERR_INVAL, "no shape named %.60s; there are %.150s ...", name, names);
    if (t == NULL)
        return err_set(err, ERR_INVAL, "--type: no weight type named %.40s", type);
    const struct type *expert = type == NULL && s->expert_type != NULL ? find_type(s->expert_type) : t;
    Muster__ModelSpec *spec = arena_take(mem, sizeof *spec);
    struct maker m = {.spec = spec, .mem = mem, .cap = (size_t)s->layers * 10 + 3};
    if (spec == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a model's shape");
    muster__model_spec__init(spec);
    copy_numbers(s, s->experts > 0 ? expert : t, spec);
    spec->tensor = arena_take(mem, m.cap * sizeof *spec->tensor);
    if (spec->tensor == NULL || add_windows(s, spec, mem) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for a model's shape");
    add(&m, -1, MUSTER__CUT__CUT_VOCAB_ROWS, t, 0, (uint64_t)s->vocab, (uint64_t)s->dim);
    for (int l = 0; l < s->layers; l++)
        add_layer(&m, s, t, expert, l);
    add(&m, -2, MUSTER__CUT__CUT_NONE, find_type("f32"), 0, (uint64_t)s->dim, 0);
    if (!s->tied)
        add(&m, -2, MUSTER__CUT__CUT_VOCAB_ROWS, t, 0, (uint64_t)s->vocab, (uint64_t)s->dim);
    *out = spec;
    return m.full ? err_set(err, ERR_NOMEM, "no memory for a model's shape") : ERR_OK;
}

int shapes_retype(const Muster__ModelSpec *spec, const char *type, struct arena *mem,
                  Muster__ModelSpec **out, struct err *err)
{
    const struct type *t = find_type(type);
    Muster__ModelSpec *copy = arena_take(mem, sizeof *copy);
    Muster__TensorSpec *one = arena_take(mem, spec->n_tensor * sizeof *one);
    Muster__TensorSpec **list = arena_take(mem, spec->n_tensor * sizeof *list);
    if (t == NULL)
        return err_set(err, ERR_INVAL, "--type: no weight type named %.40s", type);
    if (copy == NULL || one == NULL || list == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a model's shape");
    *copy = *spec;
    copy->tensor = list;
    copy->type = (char *)t->name;
    for (size_t i = 0; i < spec->n_tensor; i++) {
        list[i] = &one[i];
        one[i] = *spec->tensor[i];
        uint64_t weights = 1;
        for (size_t k = 0; k < one[i].n_shape; k++)
            weights *= one[i].shape[k];
        if (one[i].n_shape < 2 || bytes_of(t, weights) >= one[i].file_bytes)
            continue;
        one[i].file_bytes = one[i].packed_bytes = bytes_of(t, weights);
        one[i].type = t->id;
        one[i].type_name = (char *)t->name;
    }
    *out = copy;
    return ERR_OK;
}
