#include "workers/models/tensormap.h"

#include "workers/models/modelcheck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum extent { X_ONE, X_DIM, X_Q, X_K, X_V, X_OUT, X_FFN, X_EXPERT_FFN, X_VOCAB, X_HEADS, X_EXPERTS,
              X_HEAD_DIM };

struct slot_info { enum extent rows, cols; Muster__Cut cut; };

#define CUT(x) MUSTER__CUT__CUT_##x
static const struct slot_info slots[SLOT_MODEL_COUNT] = {
    [SLOT_EMBED] = {X_VOCAB, X_DIM, CUT(VOCAB_ROWS)},
    [SLOT_HEAD] = {X_VOCAB, X_DIM, CUT(VOCAB_ROWS)},
    [SLOT_OUT_NORM] = {X_DIM, X_ONE, CUT(NONE)},
    [SLOT_ATTN_NORM] = {X_DIM, X_ONE, CUT(NONE)},
    [SLOT_POST_ATTN_NORM] = {X_DIM, X_ONE, CUT(NONE)},
    [SLOT_FFN_NORM] = {X_DIM, X_ONE, CUT(NONE)},
    [SLOT_POST_FFN_NORM] = {X_DIM, X_ONE, CUT(NONE)},
    [SLOT_Q_NORM] = {X_HEAD_DIM, X_ONE, CUT(NONE)},
    [SLOT_K_NORM] = {X_HEAD_DIM, X_ONE, CUT(NONE)},
    [SLOT_Q] = {X_Q, X_DIM, CUT(Q_ROWS)},
    [SLOT_K] = {X_K, X_DIM, CUT(KV_ROWS)},
    [SLOT_V] = {X_V, X_DIM, CUT(KV_ROWS)},
    [SLOT_O] = {X_DIM, X_OUT, CUT(HEAD_COLS)},
    [SLOT_Q_BIAS] = {X_Q, X_ONE, CUT(Q_ROWS)},
    [SLOT_K_BIAS] = {X_K, X_ONE, CUT(KV_ROWS)},
    [SLOT_V_BIAS] = {X_V, X_ONE, CUT(KV_ROWS)},
    [SLOT_O_BIAS] = {X_DIM, X_ONE, CUT(NONE)},
    [SLOT_SINKS] = {X_HEADS, X_ONE, CUT(HEADS)},
    [SLOT_GATE] = {X_FFN, X_DIM, CUT(FFN_ROWS)},
    [SLOT_UP] = {X_FFN, X_DIM, CUT(FFN_ROWS)},
    [SLOT_DOWN] = {X_DIM, X_FFN, CUT(FFN_COLS)},
    [SLOT_ROUTER] = {X_EXPERTS, X_DIM, CUT(NONE)},
    [SLOT_ROUTER_BIAS] = {X_EXPERTS, X_ONE, CUT(NONE)},
    [SLOT_EXPERT_GATE] = {X_EXPERT_FFN, X_DIM, CUT(EXPERT_ROWS)},
    [SLOT_EXPERT_UP] = {X_EXPERT_FFN, X_DIM, CUT(EXPERT_ROWS)},
    [SLOT_EXPERT_DOWN] = {X_DIM, X_EXPERT_FFN, CUT(EXPERT_COLS)},
    [SLOT_EXPERT_GATE_BIAS] = {X_EXPERT_FFN, X_ONE, CUT(EXPERT_ROWS)},
    [SLOT_EXPERT_UP_BIAS] = {X_EXPERT_FFN, X_ONE, CUT(EXPERT_ROWS)},
    [SLOT_EXPERT_DOWN_BIAS] = {X_DIM, X_ONE, CUT(NONE)},
};

static int extent(const struct model_config *c, enum extent x)
{
    switch (x) {
    case X_ONE:
        return 1;
    case X_DIM:
        return c->dim;
    case X_Q:
        return c->n_heads * c->head_dim;
    case X_K:
        return c->n_kv_heads * c->head_dim;
    case X_V:
        return c->n_kv_heads * c->value_dim;
    case X_OUT:
        return c->n_heads * c->value_dim;
    case X_FFN:
        return c->ffn_dim;
    case X_EXPERT_FFN:
        return c->expert_ffn_dim;
    case X_VOCAB:
        return c->vocab;
    case X_HEADS:
        return c->n_heads;
    case X_EXPERTS:
        return c->n_experts;
    case X_HEAD_DIM:
        return c->head_dim;
    }
    return 0;
}

void tensormap_shape(const struct model_config *c, enum slot slot, int *rows, int *cols)
{
    *rows = extent(c, slots[slot].rows);
    *cols = extent(c, slots[slot].cols);
}

/* What is being mapped: one layer of one file into one list. */
struct mapper {
    struct tensormap *map;
    const struct model_config *c;
    const struct tensorfile *t;
    int layer;
    struct err *err;
};

static const struct tensor_entry *find(const struct mapper *m, enum slot slot, int expert,
                                       char name[160])
{
    const char *found = arch_tensor_name(m->c, slot, m->layer, expert, name, 160);
    if (!found)
        name[0] = '\0';
    return found ? tensorfile_find(m->t, found) : NULL;
}

static int missing(const struct mapper *m, const char *name)
{
    char where[160];
    return err_set(m->err, ERR_FORMAT, "%s: tensor %s is missing (an incomplete download?)",
                   modelcheck_where(m->t->path[0], where, sizeof where), name);
}

static const char *shape_text(const int64_t *shape, int n, char *buf, size_t cap)
{
    size_t at = 0;
    buf[0] = '\0';
    for (int i = 0; i < n && at < cap; i++)
        at += (size_t)snprintf(buf + at, cap - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    return buf;
}

/* e must have these n dimensions and, unless it is bytes of a split form, a weight's type. */
static int check_entry(const struct mapper *m, const struct tensor_entry *e, bool matrix, int n,
                       const int64_t *shape)
{
    char where[160], found[80], expected[80];
    const struct dtype_info *info = dtype_info(e->type);
    modelcheck_where(m->t->path[e->file], where, sizeof where);
    if (e->n_dims != n || memcmp(e->shape, shape, (size_t)n * sizeof *shape) != 0)
        return err_set(m->err, ERR_FORMAT, "%s: tensor %s is [%s], expected [%s]", where, e->name,
                       shape_text(e->shape, e->n_dims, found, sizeof found),
                       shape_text(shape, n, expected, sizeof expected));
    bool bytes = n > 1 && e->type == DT_U8 && !matrix;
    if (bytes || (matrix ? loader_can_pack(e->type) : info && info->dequantise && info->block == 1))
        return ERR_OK;
    return err_set(m->err, ERR_FORMAT, "%s: tensor %s has type %s, which cannot be multiplied by",
                   where, e->name, info ? info->name : "unknown");
}

static int append(const struct mapper *m, const struct tensormap_part *part)
{
    struct tensormap *map = m->map;
    if (map->n == map->cap) {
        int cap = map->cap ? map->cap * 2 : 64;
        struct tensormap_part *grown = realloc(map->part, (size_t)cap * sizeof *grown);
        if (!grown)
            return err_set(m->err, ERR_NOMEM, "no memory for a list of %d tensors", cap);
        map->part = grown;
        map->cap = cap;
    }
    map->part[map->n++] = *part;
    return ERR_OK;
}

void tensormap_free(struct tensormap *map)
{
    free(map->part);
    memset(map, 0, sizeof *map);
}

/* A part of `slot` read from e as rows, one matrix. */
static struct tensormap_part part_of(const struct mapper *m, enum slot slot,
                                     const struct tensor_entry *e)
{
    struct tensormap_part p = {.slot = slot, .layer = m->layer, .expert = -1,
                               .cut = slots[slot].cut,
                               .source = {.data = e, .type = e->type, .n_mats = 1, .lanes = 1}};
    tensormap_shape(m->c, slot, &p.source.rows, &p.source.cols);
    p.vector = slots[slot].cols == X_ONE;
    p.source.mat_rows = p.source.rows;
    return p;
}

static int add_vector(const struct mapper *m, enum slot slot)
{
    char name[160];
    const struct tensor_entry *e = find(m, slot, 0, name);
    if (!e)
        return missing(m, name);
    struct tensormap_part p = part_of(m, slot, e);
    TRY(check_entry(m, e, false, 1, (int64_t[]){p.source.rows}));
    return append(m, &p);
}

static int add_matrix(const struct mapper *m, enum slot slot)
{
    char name[160];
    const struct tensor_entry *e = find(m, slot, 0, name);
    if (!e)
        return missing(m, name);
    struct tensormap_part p = part_of(m, slot, e);
    TRY(check_entry(m, e, true, 2, (int64_t[]){p.source.rows, p.source.cols}));
    return append(m, &p);
}

/* n slots that one tensor may hold in a row, `bundle`; or a tensor each. */
static int add_bundle(const struct mapper *m, enum slot bundle, const enum slot *slot, int n)
{
    char name[160];
    const struct tensor_entry *e = find(m, bundle, 0, name);
    if (!e && !name[0]) {
        for (int i = 0; i < n; i++)
            TRY(add_matrix(m, slot[i]));
        return ERR_OK;
    }
    if (!e)
        return missing(m, name);
    int64_t total = 0;
    for (int i = 0; i < n; i++)
        total += extent(m->c, slots[slot[i]].rows);
    TRY(check_entry(m, e, true, 2, (int64_t[]){total, m->c->dim}));
    int64_t row0 = 0;
    for (int i = 0; i < n; i++) {
        struct tensormap_part p = part_of(m, slot[i], e);
        p.source.row0 = row0;
        row0 += p.source.rows;
        TRY(append(m, &p));
    }
    return ERR_OK;
}

/* Experts stacked in one tensor, or one tensor each (older files). */
static int add_experts(const struct mapper *m, enum slot slot, enum slot one)
{
    char name[160];
    const struct tensor_entry *e = find(m, slot, 0, name);
    if (e) {
        struct tensormap_part p = part_of(m, slot, e);
        p.source.n_mats = m->c->n_experts;
        TRY(check_entry(m, e, true, 3,
                        (int64_t[]){p.source.n_mats, p.source.rows, p.source.cols}));
        return append(m, &p);
    }
    for (int x = 0; x < m->c->n_experts; x++) {
        char one_name[160];
        e = find(m, one, x, one_name);
        if (!e)
            return missing(m, name[0] ? name : one_name);
        struct tensormap_part p = part_of(m, slot, e);
        p.expert = x;
        TRY(check_entry(m, e, true, 2, (int64_t[]){p.source.rows, p.source.cols}));
        TRY(append(m, &p));
    }
    return ERR_OK;
}

/* gpt-oss of Hugging Face: codes and scales, rows of gate and up in turn (lanes 2). */
static int add_split(const struct mapper *m, enum slot slot, const struct tensor_entry *codes,
                     enum slot scales_slot, int lanes)
{
    char name[160];
    const struct tensor_entry *scales = find(m, scales_slot, 0, name);
    if (!scales)
        return missing(m, name);
    struct tensormap_part p = part_of(m, slot, codes);
    struct load_source *s = &p.source;
    int64_t groups = s->cols / 32, rows = (int64_t)s->rows * lanes;
    s->form = LOAD_MXFP4_SPLIT;
    s->scales = scales;
    s->type = DT_MXFP4;
    s->n_mats = m->c->n_experts;
    s->mat_rows = rows;
    s->lanes = lanes;
    if (s->cols % 32 != 0)
        return err_set(m->err, ERR_FORMAT, "tensor %s: %d columns are no whole blocks of 32", name,
                       s->cols);
    TRY(check_entry(m, codes, false, 4, (int64_t[]){s->n_mats, rows, groups, 16}));
    TRY(check_entry(m, scales, false, 3, (int64_t[]){s->n_mats, rows, groups}));
    if (codes->type != DT_U8 || scales->type != DT_U8)
        return err_set(m->err, ERR_FORMAT, "tensor %s: codes and scales are not bytes", name);
    return append(m, &p);
}

static int add_dense(const struct mapper *m, enum slot slot, const struct tensor_entry *e, int lanes)
{
    struct tensormap_part p = part_of(m, slot, e);
    struct load_source *s = &p.source;
    s->form = LOAD_TRANSPOSED;
    s->n_mats = m->c->n_experts;
    s->mat_rows = s->cols;
    s->lanes = lanes;
    const struct dtype_info *info = dtype_info(e->type);
    TRY(check_entry(m, e, true, 3, (int64_t[]){s->n_mats, s->cols, (int64_t)s->rows * lanes}));
    if (info->block != 1)
        return err_set(m->err, ERR_FORMAT, "tensor %s: type %s cannot be turned", e->name,
                       info->name);
    return append(m, &p);
}

static int add_gate_up_experts(const struct mapper *m)
{
    char name[160];
    const struct tensor_entry *e = find(m, SLOT_EXPERT_GATE_UP_BLOCKS, 0, name);
    if (e)
        return add_split(m, SLOT_EXPERT_GATE, e, SLOT_EXPERT_GATE_UP_SCALES, 2);
    e = find(m, SLOT_EXPERT_GATE_UP_DENSE, 0, name);
    if (e)
        return add_dense(m, SLOT_EXPERT_GATE, e, 2);
    if (name[0])
        return missing(m, name);
    TRY(add_experts(m, SLOT_EXPERT_GATE, SLOT_EXPERT_GATE_ONE));
    return add_experts(m, SLOT_EXPERT_UP, SLOT_EXPERT_UP_ONE);
}

static int add_down_experts(const struct mapper *m)
{
    char name[160];
    const struct tensor_entry *e = find(m, SLOT_EXPERT_DOWN_BLOCKS, 0, name);
    if (e)
        return add_split(m, SLOT_EXPERT_DOWN, e, SLOT_EXPERT_DOWN_SCALES, 1);
    e = find(m, SLOT_EXPERT_DOWN_DENSE, 0, name);
    if (e)
        return add_dense(m, SLOT_EXPERT_DOWN, e, 1);
    if (name[0])
        return missing(m, name);
    return add_experts(m, SLOT_EXPERT_DOWN, SLOT_EXPERT_DOWN_ONE);
}

/* A bias for each expert, [experts, rows]; in turn with another's when lanes is 2. */
static int add_expert_bias(const struct mapper *m, enum slot slot, const struct tensor_entry *e,
                           int lanes, int lane)
{
    struct tensormap_part p = part_of(m, slot, e);
    struct load_source *s = &p.source;
    s->n_mats = m->c->n_experts;
    s->lanes = lanes;
    s->row0 = lane;
    s->mat_rows = (int64_t)s->rows * lanes;
    TRY(check_entry(m, e, false, 2, (int64_t[]){s->n_mats, s->mat_rows}));
    return append(m, &p);
}

static int add_expert_biases(const struct mapper *m)
{
    char name[160];
    const struct tensor_entry *both = find(m, SLOT_EXPERT_GATE_UP_BIAS, 0, name);
    if (!both && name[0])
        return missing(m, name);
    static const enum slot slot[] = {SLOT_EXPERT_GATE_BIAS, SLOT_EXPERT_UP_BIAS};
    for (int i = 0; i < 2; i++) {
        const struct tensor_entry *e = both ? both : find(m, slot[i], 0, name);
        if (!e)
            return missing(m, name);
        TRY(add_expert_bias(m, slot[i], e, both ? 2 : 1, both ? i : 0));
    }
    const struct tensor_entry *down = find(m, SLOT_EXPERT_DOWN_BIAS, 0, name);
    return down ? add_expert_bias(m, SLOT_EXPERT_DOWN_BIAS, down, 1, 0) : missing(m, name);
}

static int add_layer_vectors(const struct mapper *m)
{
    const struct model_config *c = m->c;
    bool moe = c->layer[m->layer].moe;
    const struct { enum slot slot; bool wanted; } list[] = {
        {SLOT_ATTN_NORM, true}, {SLOT_POST_ATTN_NORM, c->post_norms}, {SLOT_FFN_NORM, true},
        {SLOT_POST_FFN_NORM, c->post_norms}, {SLOT_Q_NORM, c->qk_norm}, {SLOT_K_NORM, c->qk_norm},
        {SLOT_Q_BIAS, c->qkv_bias}, {SLOT_K_BIAS, c->qkv_bias}, {SLOT_V_BIAS, c->qkv_bias},
        {SLOT_O_BIAS, c->o_bias}, {SLOT_SINKS, c->sinks}, {SLOT_ROUTER_BIAS, moe && c->router_bias},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].wanted)
            TRY(add_vector(m, list[i].slot));
    return moe && c->expert_bias ? add_expert_biases(m) : ERR_OK;
}

static int add_layer(const struct mapper *m)
{
    static const enum slot qkv[] = {SLOT_Q, SLOT_K, SLOT_V}, gate_up[] = {SLOT_GATE, SLOT_UP};
    TRY(add_layer_vectors(m));
    TRY(add_bundle(m, SLOT_QKV, qkv, 3));
    if (m->c->layer[m->layer].moe) {
        TRY(add_matrix(m, SLOT_ROUTER));
        TRY(add_gate_up_experts(m));
        TRY(add_matrix(m, SLOT_O));
        return add_down_experts(m);
    }
    TRY(add_bundle(m, SLOT_GATE_UP, gate_up, 2));
    TRY(add_matrix(m, SLOT_O));
    return add_matrix(m, SLOT_DOWN);
}

int tensormap_layer(struct tensormap *map, const struct model_config *c, const struct tensorfile *t,
                    int layer, struct err *err)
{
    struct mapper m = {map, c, t, layer, err};
    if (layer == TENSORMAP_BEFORE)
        return add_matrix(&m, SLOT_EMBED);
    if (layer != TENSORMAP_AFTER)
        return add_layer(&m);
    TRY(add_vector(&m, SLOT_OUT_NORM));
    return c->tied ? ERR_OK : add_matrix(&m, SLOT_HEAD);
}

static int check_used(const struct model_config *c, const struct tensorfile *t,
                      const struct tensormap *map, uint8_t *used, struct err *err)
{
    char where[160];
    for (int i = 0; i < map->n; i++) {
        used[map->part[i].source.data - t->tensor] = 1;
        if (map->part[i].source.scales)
            used[map->part[i].source.scales - t->tensor] = 1;
    }
    for (int i = 0; i < t->n_tensors; i++)
        if (!used[i] && !arch_ignores(c, t->tensor[i].name))
            return err_set(err, ERR_FORMAT, "%s: tensor %s is no part of a %s decoder (a variant "
                           "that is not known here?)",
                           modelcheck_where(t->path[t->tensor[i].file], where, sizeof where),
                           t->tensor[i].name, c->arch);
    return ERR_OK;
}

int tensormap_check(const struct model_config *c, const struct tensorfile *t, struct err *err)
{
    struct tensormap map = {0};
    int rc = ERR_OK;
    for (int layer = TENSORMAP_AFTER; layer < c->n_layers && rc == ERR_OK; layer++)
        rc = tensormap_layer(&map, c, t, layer, err);
    uint8_t *used = rc == ERR_OK ? calloc((size_t)t->n_tensors + 1, 1) : NULL;
    if (rc == ERR_OK)
        rc = used ? check_used(c, t, &map, used, err)
                  : err_set(err, ERR_NOMEM, "no memory for a list of %d tensors", t->n_tensors);
    free(used);
    tensormap_free(&map);
    return rc;
}
