#include "workers/models/exporttensors.h"

#include "workers/models/rope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct arch *exporttensors_arch(const struct model_config *c)
{
    return c->row->gguf ? c->row : arch_of_gguf("llama");
}

void exporttensors_free(struct export_list *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->tensor[i].piece);
    free(l->tensor);
    free(l->divisors);
    memset(l, 0, sizeof *l);
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the list of tensors to write");
}

/* A new tensor at the end of the list. */
static struct export_tensor *add_tensor(struct export_list *l, const char *name)
{
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 64;
        struct export_tensor *more = realloc(l->tensor, (size_t)cap * sizeof *more);
        if (!more)
            return NULL;
        l->tensor = more;
        l->cap = cap;
    }
    struct export_tensor *t = &l->tensor[l->n++];
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

static int add_piece(struct export_tensor *t, const struct export_piece *piece, struct err *err)
{
    /* Grown one by one: a tensor has at most as many pieces as the model has experts. */
    struct export_piece *more = realloc(t->piece, (size_t)(t->n_pieces + 1) * sizeof *more);
    if (!more)
        return no_memory(err);
    t->piece = more;
    t->piece[t->n_pieces++] = *piece;
    return ERR_OK;
}

int exporttensors_gguf(struct export_list *l, const struct tensorfile *t, struct err *err)
{
    for (int i = 0; i < t->n_tensors; i++) {
        const struct tensor_entry *e = &t->tensor[i];
        int64_t cols = e->n_dims > 0 ? e->shape[e->n_dims - 1] : 1, rows = e->n_elements / cols;
        if (strlen(e->name) >= sizeof l->tensor->name || cols > INT32_MAX || rows > INT32_MAX)
            return err_set(err, ERR_LIMIT, "%.90s: tensor %.64s is too large or its name too long",
                           t->path[e->file], e->name);
        struct export_tensor *out = add_tensor(l, e->name);
        if (!out)
            return no_memory(err);
        out->type = e->type;
        out->n_dims = e->n_dims;
        memcpy(out->shape, e->shape, sizeof out->shape);
        struct export_piece piece = {.source = {.data = e, .type = e->type, .n_mats = 1, .lanes = 1,
                                                .rows = (int)rows, .cols = (int)cols,
                                                .mat_rows = rows}};
        TRY(add_piece(out, &piece, err));
    }
    return ERR_OK;
}

/* --- folders */

struct export {
    struct export_list *list;
    const struct model_config *c;       /* of the folder */
    struct model_config gguf;           /* the same, named as GGUF names */
    bool permute;                       /* q and k go into adjacent pairs */
    struct err *err;
};

/* The tensor that a slot's rows go to, and the bundle where GGUF has no tensor for the slot alone. */
static const char *target_name(const struct export *x, enum slot slot, int layer, char *buf, size_t cap)
{
    const char *name = arch_tensor_name(&x->gguf, slot, layer, 0, buf, cap);
    if (name)
        return name;
    bool qkv = slot == SLOT_Q || slot == SLOT_K || slot == SLOT_V;
    bool gate_up = slot == SLOT_GATE || slot == SLOT_UP;
    return qkv       ? arch_tensor_name(&x->gguf, SLOT_QKV, layer, 0, buf, cap)
           : gate_up ? arch_tensor_name(&x->gguf, SLOT_GATE_UP, layer, 0, buf, cap)
                     : NULL;
}

static bool is_expert_slot(enum slot slot)
{
    return slot >= SLOT_EXPERT_GATE && slot <= SLOT_EXPERT_DOWN_BIAS;
}

/* Pieces of one bundle follow each other in the list, so only the last tensor can be continued. */
static struct export_tensor *target(const struct export *x, const char *name)
{
    struct export_list *l = x->list;
    if (l->n > 0 && strcmp(l->tensor[l->n - 1].name, name) == 0)
        return &l->tensor[l->n - 1];
    return add_tensor(l, name);
}

static void grow_shape(struct export_tensor *out, const struct export_piece *p, bool experts)
{
    const struct load_source *s = &p->source;
    if (experts) {
        out->shape[0] += s->n_mats;
        out->shape[1] = s->rows;
        out->shape[2] = s->cols;
        out->n_dims = p->vector ? 2 : 3;
    } else {
        out->shape[0] += s->rows;
        out->shape[1] = s->cols;
        out->n_dims = p->vector ? 1 : 2;
    }
}

static int add_part(const struct export *x, const struct tensormap_part *part, enum slot slot, int lane)
{
    char name[160];
    const char *found = target_name(x, slot, part->layer, name, sizeof name);
    if (!found)
        return err_set(x->err, ERR_FORMAT, "tensor %.64s: GGUF's %s has no place for it",
                       part->source.data->name, x->gguf.row->gguf);
    struct export_tensor *out = target(x, found);
    if (!out)
        return no_memory(x->err);
    struct export_piece piece = {.source = part->source, .vector = part->vector};
    piece.source.row0 += part->vector ? 0 : lane;
    bool rotary = slot == SLOT_Q || slot == SLOT_K || slot == SLOT_Q_BIAS || slot == SLOT_K_BIAS;
    piece.permute = rotary && x->permute ? x->c->head_dim : 0;
    piece.add = slot <= SLOT_K_NORM && part->vector && x->c->norm_plus_one ? 1.0f : 0.0f;
    out->type = part->source.type;
    grow_shape(out, &piece, is_expert_slot(slot));
    return add_piece(out, &piece, x->err);
}

static int add_parts(const struct export *x, const struct tensormap *map)
{
    for (int i = 0; i < map->n; i++) {
        const struct tensormap_part *p = &map->part[i];
        bool two = p->source.lanes == 2 && !p->vector;      /* gate and up in turn */
        TRY(add_part(x, p, p->slot, 0));
        if (two)
            TRY(add_part(x, p, SLOT_EXPERT_UP, 1));
    }
    return ERR_OK;
}

/* A table of the description that GGUF keeps as a tensor. */
static int add_values(const struct export *x, enum slot slot, const float *values)
{
    char name[160];
    if (!values || !arch_tensor_name(&x->gguf, slot, 0, 0, name, sizeof name))
        return ERR_OK;
    struct export_tensor *out = add_tensor(x->list, name);
    if (!out)
        return no_memory(x->err);
    int n = x->c->n_rot / 2;
    struct export_piece piece = {.source = {.type = DT_F32, .n_mats = 1, .rows = n, .cols = 1,
                                            .lanes = 1}, .vector = true, .values = values};
    out->type = DT_F32;
    out->n_dims = 1;
    out->shape[0] = n;
    return add_piece(out, &piece, x->err);
}

/* What llama3's scaling divides each frequency by; GGUF keeps the quotients. */
static int rope_divisors(struct export_list *l, const struct model_config *c, struct err *err)
{
    struct rope_config plain = c->rope[0];
    struct rope with, without;
    if (plain.scaling != SCALING_LLAMA3)
        return ERR_OK;
    plain.scaling = SCALING_NONE;
    plain.divisors = NULL;
    l->divisors = malloc((size_t)c->n_rot * sizeof *l->divisors + 1);
    if (!l->divisors)
        return no_memory(err);
    TRY(rope_init(&with, &c->rope[0], c->n_rot, err));
    int rc = rope_init(&without, &plain, c->n_rot, err);
    if (rc == ERR_OK) {
        for (int i = 0; i < c->n_rot / 2; i++)
            l->divisors[i] = (float)(without.frequency[i] / with.frequency[i]);
        rope_free(&without);
    }
    rope_free(&with);
    return rc;
}

int exporttensors_folder(struct export_list *l, const struct model_config *c,
                         const struct tensorfile *t, struct err *err)
{
    struct export x = {.list = l, .c = c, .gguf = *c, .err = err};
    snprintf(x.gguf.format, sizeof x.gguf.format, "gguf");
    x.gguf.row = exporttensors_arch(c);
    x.permute = x.gguf.row->flags & ARCH_ROPE_NORM_GGUF;
    TRY(rope_divisors(l, c, err));
    TRY(add_values(&x, SLOT_ROPE_DIVISORS, l->divisors));
    TRY(add_values(&x, SLOT_ROPE_SHORT, c->rope[0].short_factors));
    TRY(add_values(&x, SLOT_ROPE_LONG, c->rope[0].long_factors));
    for (int i = -1; i <= c->n_layers; i++) {
        int layer = i < 0 ? TENSORMAP_BEFORE : i < c->n_layers ? i : TENSORMAP_AFTER;
        struct tensormap map = {0};
        int rc = tensormap_layer(&map, c, t, layer, err);
        if (rc == ERR_OK)
            rc = add_parts(&x, &map);
        tensormap_free(&map);
        TRY(rc);
    }
    return ERR_OK;
}
