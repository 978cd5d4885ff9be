/* describe.c - a model file's contents as a message for the coordinator (decoder_describe).
 * Why:    the side that plans never sees a weight; it sees every matrix with its shape, type, cut and
 *         bytes. Bundles are taken apart (q, k and v of one tensor are three entries of its name), the
 *         experts of a layer put together, so that one rule counts all files. */
#include "proto/arena.h"
#include "workers/models/decoderweights.h"
#include "workers/models/tensormap.h"
#include "workers/models/textfile.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 1 << 20, META_VALUE_MAX = 200 };

/* Bytes of the UTF-8 character at s (n left), 0 when it is none. Messages carry UTF-8 only. */
static size_t utf8_length(const uint8_t *s, size_t n)
{
    size_t want = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    if (want == 0 || want > n)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
        return 0;
    return want;
}

/* A copy in the arena with '?' for what is no UTF-8; NULL when the arena is full. */
static char *copy_text(struct arena *mem, const char *text, size_t n)
{
    char *out = arena_take(mem, n + 1);
    size_t at = 0;
    while (out && at < n) {
        size_t len = utf8_length((const uint8_t *)text + at, n - at);
        if (len == 0 || text[at] == '\0')
            out[at++] = '?';
        else
            for (; len > 0; len--, at++)
                out[at] = text[at];
    }
    if (out)
        out[n] = '\0';
    return out;
}

static int no_room(struct err *err)
{
    return err_set(err, ERR_LIMIT, "the model's description does not fit in a message");
}

/* --- tensors */

static const char *const lane_names[] = {" (gate)", " (up)"};

/* The tensor's name; "*" for the experts that have one each. */
static char *name_of(struct arena *mem, const struct model_config *c,
                     const struct tensormap_part *p, int lane)
{
    char name[200];
    snprintf(name, sizeof name, "%s%s", p->source.data->name,
             p->source.lanes == 2 && !p->vector ? lane_names[lane] : "");
    if (p->expert >= 0) {
        char pattern[200], number[16];
        snprintf(number, sizeof number, ".%d.", p->expert);
        const char *at = NULL;                  /* the last such number is the expert's */
        for (const char *s = name; (s = strstr(s, number)); s++)
            at = s;
        if (at) {
            snprintf(pattern, sizeof pattern, "%.*s.*.%s", (int)(at - name), name,
                     at + strlen(number));
            return copy_text(mem, pattern, strlen(pattern));
        }
    }
    return copy_text(mem, name, strlen(name));
}

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

static size_t packed_of(const struct tensormap_part *p)
{
    const struct load_source *s = &p->source;
    return p->vector ? aligned((size_t)s->rows * sizeof(float))
                     : aligned(linear_packed_bytes(s->type, s->rows, s->cols, 0));
}

/* Same role, type and layer as the entry before it: another expert of the same. */
static bool continues(const struct tensormap_part *p, const struct tensormap_part *before)
{
    return before && p->expert > 0 && p->slot == before->slot && p->layer == before->layer &&
           p->source.type == before->source.type;
}

static int add_tensor(Muster__TensorSpec **list, size_t *n, struct arena *mem,
                      const struct model_config *c, const struct tensormap_part *p, int lane,
                      struct err *err)
{
    const struct load_source *s = &p->source;
    Muster__TensorSpec *t = arena_take(mem, sizeof *t);
    uint64_t *shape = arena_take(mem, 3 * sizeof *shape);
    char *name = name_of(mem, c, p, lane);
    if (!t || !shape || !name)
        return no_room(err);
    muster__tensor_spec__init(t);
    t->name = name;
    t->type = s->type;
    t->type_name = (char *)(dtype_info(s->type) ? dtype_info(s->type)->name : "unknown");
    t->shape = shape;
    bool experts = p->slot >= SLOT_EXPERT_GATE;
    if (experts)
        shape[t->n_shape++] = (uint64_t)s->n_mats;
    shape[t->n_shape++] = (uint64_t)s->rows;
    if (experts || !p->vector)
        shape[t->n_shape++] = (uint64_t)s->cols;
    t->layer = p->layer;
    t->cut = p->cut;
    t->file_bytes = (uint64_t)s->n_mats * (uint64_t)s->rows *
                    (p->vector ? dtype_bytes(s->type, 1) : loader_row_bytes(s->type, s->cols));
    t->packed_bytes = (uint64_t)s->n_mats * packed_of(p);
    list[(*n)++] = t;
    return ERR_OK;
}

static int add_tensors(Muster__ModelSpec *spec, struct arena *mem, const struct model_config *c,
                       const struct tensormap *map, struct err *err)
{
    spec->tensor = arena_take(mem, 2 * (size_t)map->n * sizeof *spec->tensor);
    if (!spec->tensor)
        return no_room(err);
    const struct tensormap_part *before = NULL;
    for (int i = 0; i < map->n; i++) {
        const struct tensormap_part *p = &map->part[i];
        int lanes = p->vector ? 1 : p->source.lanes;
        spec->parameters += (uint64_t)p->source.n_mats * (uint64_t)p->source.rows *
                            (uint64_t)p->source.cols * (uint64_t)lanes;
        if (continues(p, before)) {
            Muster__TensorSpec *t = spec->tensor[spec->n_tensor - 1];
            uint64_t one = t->file_bytes / t->shape[0];
            t->shape[0]++;
            t->file_bytes += one;
            t->packed_bytes += packed_of(p);
        } else {
            for (int lane = 0; lane < lanes; lane++)
                TRY(add_tensor(spec->tensor, &spec->n_tensor, mem, c, p, lane, err));
        }
        before = p;
    }
    return ERR_OK;
}

/* The type that most bytes of matrices have. */
static char *commonest_type(const Muster__ModelSpec *spec, struct arena *mem)
{
    uint64_t bytes[DT_MAX] = {0};
    int best = DT_F32;
    for (size_t i = 0; i < spec->n_tensor; i++)
        if (spec->tensor[i]->n_shape > 1 && spec->tensor[i]->type < DT_MAX)
            bytes[spec->tensor[i]->type] += spec->tensor[i]->file_bytes;
    for (int i = 0; i < DT_MAX; i++)
        if (bytes[i] > bytes[best])
            best = i;
    const struct dtype_info *info = dtype_info(best);
    const char *name = info ? info->name : "unknown";
    return copy_text(mem, name, strlen(name));
}

/* --- words: metadata and the chat template */

static int add_meta(Muster__ModelSpec *spec, size_t cap, struct arena *mem, const char *key,
                    const char *value, size_t n, struct err *err)
{
    if (spec->n_meta == cap)
        return ERR_OK;
    Muster__MetaEntry *e = arena_take(mem, sizeof *e);
    if (!e)
        return no_room(err);
    muster__meta_entry__init(e);
    e->key = copy_text(mem, key, strlen(key));
    e->value = copy_text(mem, value, n < META_VALUE_MAX ? n : META_VALUE_MAX);
    if (!e->key || !e->value)
        return no_room(err);
    spec->meta[spec->n_meta++] = e;
    return ERR_OK;
}

static int add_gguf_meta(Muster__ModelSpec *spec, struct arena *mem, const struct tensorfile *t,
                         struct err *err)
{
    spec->meta = arena_take(mem, ((size_t)t->n_meta + 1) * sizeof *spec->meta);
    if (!spec->meta)
        return no_room(err);
    for (int i = 0; i < t->n_meta; i++) {
        const struct meta_value *v = &t->meta[i].value;
        char text[64];
        const char *value = text;
        if (v->kind == META_STRING)
            value = v->str;
        else if (v->kind == META_ARRAY)
            snprintf(text, sizeof text, "[%llu values]", (unsigned long long)v->len);
        else if (v->kind == META_FLOAT)
            snprintf(text, sizeof text, "%.9g", v->f);
        else if (v->kind == META_BOOL)
            snprintf(text, sizeof text, "%s", v->i ? "true" : "false");
        else
            snprintf(text, sizeof text, "%lld", (long long)v->i);
        TRY(add_meta(spec, (size_t)t->n_meta, mem, t->meta[i].key, value,
                     v->kind == META_STRING ? (size_t)v->len : strlen(value), err));
    }
    return ERR_OK;
}

/* Scalars of an object as they are written; objects one level down get "outer.inner". */
static int add_json_meta(Muster__ModelSpec *spec, size_t cap, struct arena *mem, const json_t *object,
                         const char *outer, struct err *err)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)object, key, v)
    {
        char full[160], text[META_VALUE_MAX + 1];
        snprintf(full, sizeof full, "%s%s%s", outer, outer[0] ? "." : "", key);
        if (json_is_object(v) && !outer[0])
            TRY(add_json_meta(spec, cap, mem, v, key, err));
        size_t n = json_dumpb(v, text, sizeof text, JSON_ENCODE_ANY | JSON_COMPACT |
                                                        JSON_REAL_PRECISION(9));
        if (!json_is_object(v) && n > 0 && n <= sizeof text)
            TRY(add_meta(spec, cap, mem, full, text, n, err));
    }
    return ERR_OK;
}

static int add_hf_meta(Muster__ModelSpec *spec, struct arena *mem, const char *folder,
                       struct err *err)
{
    enum { CAP = 256 };
    char *text;
    size_t n;
    TRY(textfile_read(folder, "config.json", TEXT_BYTES_MAX * 8, 1, &text, &n, err));
    json_t *j = json_loadb(text, n, 0, NULL);
    spec->meta = arena_take(mem, CAP * sizeof *spec->meta);
    int rc = !spec->meta ? no_room(err) : j ? add_json_meta(spec, CAP, mem, j, "", err) : ERR_OK;
    json_decref(j);
    free(text);
    return rc;
}

/* tokenizer_config.json holds one template, or a list of named ones. */
static char *template_in_config(struct arena *mem, const char *text, size_t n)
{
    json_t *j = json_loadb(text, n, JSON_DECODE_INT_AS_REAL, NULL);
    const json_t *t = json_object_get(j, "chat_template");
    const char *found = json_string_value(t);
    for (size_t i = 0; i < json_array_size(t); i++) {
        const json_t *one = json_array_get(t, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && (!found || strcmp(name, "default") == 0))
            found = json_string_value(json_object_get(one, "template"));
    }
    char *out = found ? copy_text(mem, found, strlen(found)) : NULL;
    json_decref(j);
    return out;
}

static int add_hf_template(Muster__ModelSpec *spec, struct arena *mem, const char *folder,
                           struct err *err)
{
    char *text, *found = NULL;
    size_t n;
    TRY(textfile_read(folder, "chat_template.jinja", TEXT_BYTES_MAX, 0, &text, &n, err));
    if (text) {
        found = copy_text(mem, text, n);
    } else {
        TRY(textfile_read(folder, "tokenizer_config.json", TEXT_BYTES_MAX * 64, 0, &text, &n, err));
        found = text ? template_in_config(mem, text, n) : NULL;
    }
    free(text);
    if (found)
        spec->chat_template = found;
    return ERR_OK;
}

static int add_words(Muster__ModelSpec *spec, struct arena *mem, const struct model_config *c,
                     const struct tensorfile *t, struct err *err)
{
    char folder[PATH_MAX];
    bool gguf = strcmp(c->format, "gguf") == 0;
    spec->tokenizer_kind = gguf ? "gguf" : "tokenizer.json";
    if (!gguf) {
        TRY(textfile_folder(t->path[0], folder, sizeof folder, err));
        TRY(add_hf_meta(spec, mem, folder, err));
        return add_hf_template(spec, mem, folder, err);
    }
    const struct meta_value *v = tensorfile_meta(t, "tokenizer.chat_template");
    if (v && v->kind == META_STRING && v->len <= TEXT_BYTES_MAX &&
        !(spec->chat_template = copy_text(mem, v->str, (size_t)v->len)))
        return no_room(err);
    return add_gguf_meta(spec, mem, t, err);
}

/* --- the whole */

static int add_layers(Muster__ModelSpec *spec, struct arena *mem, const struct model_config *c,
                      struct err *err)
{
    spec->layer = arena_take(mem, (size_t)c->n_layers * sizeof *spec->layer);
    spec->eos = arena_take(mem, sizeof *spec->eos * MODEL_EOS_MAX);
    if (!spec->layer || !spec->eos)
        return no_room(err);
    for (int i = 0; i < c->n_layers; i++) {
        Muster__LayerSpec *l = spec->layer[i] = arena_take(mem, sizeof *l);
        if (!l)
            return no_room(err);
        muster__layer_spec__init(l);
        l->moe = c->layer[i].moe;
        l->window = c->layer[i].window;
        spec->n_layer++;
    }
    for (int i = 0; i < c->n_eos; i++)
        spec->eos[spec->n_eos++] = (uint32_t)c->eos[i];
    return ERR_OK;
}

static void add_numbers(Muster__ModelSpec *spec, const struct model_config *c)
{
    spec->n_layers = (uint32_t)c->n_layers;
    spec->dim = (uint32_t)c->dim;
    spec->n_heads = (uint32_t)c->n_heads;
    spec->n_kv_heads = (uint32_t)c->n_kv_heads;
    spec->head_dim = (uint32_t)c->head_dim;
    spec->value_dim = (uint32_t)c->value_dim;
    spec->ffn_dim = (uint32_t)c->ffn_dim;
    spec->vocab = (uint32_t)c->vocab;
    spec->context = (uint32_t)c->context;
    spec->tied = c->tied;
    spec->n_experts = (uint32_t)c->n_experts;
    spec->n_experts_used = (uint32_t)c->n_experts_used;
    spec->expert_ffn_dim = (uint32_t)c->expert_ffn_dim;
    spec->bos = c->bos;
    if (c->rope[0].scaling == SCALING_LONGROPE)
        spec->longrope_original = (uint32_t)c->rope[0].original_context;
}

static int fill(Muster__ModelSpec *spec, struct arena *mem, const struct model_config *c,
                const struct tensorfile *t, struct tensormap *map, struct err *err)
{
    TRY(tensormap_check(c, t, err));
    TRY(tensormap_layer(map, c, t, TENSORMAP_BEFORE, err));
    for (int i = 0; i < c->n_layers; i++)
        TRY(tensormap_layer(map, c, t, i, err));
    TRY(tensormap_layer(map, c, t, TENSORMAP_AFTER, err));
    TRY(add_tensors(spec, mem, c, map, err));
    TRY(add_layers(spec, mem, c, err));
    add_numbers(spec, c);
    TRY(add_words(spec, mem, c, t, err));
    spec->name = copy_text(mem, c->name, strlen(c->name));
    spec->arch = copy_text(mem, c->arch, strlen(c->arch));
    spec->format = copy_text(mem, c->format, strlen(c->format));
    spec->type = commonest_type(spec, mem);
    Muster__FileDigest *d = spec->digest = arena_take(mem, sizeof *d);
    if (!spec->name || !spec->arch || !spec->format || !spec->type || !d)
        return no_room(err);
    muster__file_digest__init(d);
    tensorfile_digest(t, &d->size, &d->hash);
    d->path = copy_text(mem, t->path[0], strlen(t->path[0]));
    return d->path ? ERR_OK : no_room(err);
}

int decoder_describe(const struct model_config *c, const struct tensorfile *t, struct arena *mem,
                     Muster__ModelSpec **spec, struct err *err)
{
    struct tensormap map = {0};
    *spec = arena_take(mem, sizeof **spec);
    if (!*spec)
        return no_room(err);
    muster__model_spec__init(*spec);
    int rc = fill(*spec, mem, c, t, &map, err);
    tensormap_free(&map);
    if (rc != ERR_OK)
        *spec = NULL;
    return rc;
}
