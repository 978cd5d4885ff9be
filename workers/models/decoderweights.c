#include "workers/models/decoderweights.h"

#include "workers/models/tensormap.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { ALIGN = 64 };
#define HUGE_FROM ((size_t)64 << 20)    /* below, a half-used huge page would show in the memory figure */

int decoder_head_unit(const struct model_config *c) { return split_head_unit(c->value_dim); }

struct split_range decoder_vocab_range(int vocab, const struct mesh *m, int i)
{
    int64_t panels = ((int64_t)vocab + LINEAR_PANEL - 1) / LINEAR_PANEL;
    int64_t begin = panels * m->peer_segments[i].begin / m->leaves * LINEAR_PANEL;
    int64_t end = panels * m->peer_segments[i].end / m->leaves * LINEAR_PANEL;
    return (struct split_range){(int)(begin < vocab ? begin : vocab),
                                (int)(end < vocab ? end : vocab)};
}

static struct split_range heads_of(const struct model_config *c, const struct mesh *m, int i)
{
    return split_owned(c->n_heads, decoder_head_unit(c), m->leaves, m->peer_segments[i]);
}

/* KV heads that the query heads read. */
static struct split_range kv_of(const struct model_config *c, struct split_range heads)
{
    int group = c->n_heads / c->n_kv_heads;
    if (heads.begin >= heads.end)
        return (struct split_range){0, 0};
    return (struct split_range){heads.begin / group, (heads.end + group - 1) / group};
}

static struct split_range scaled(struct split_range r, int by)
{
    return (struct split_range){r.begin * by, r.end * by};
}

/* What rank i of the stage holds of a part: rows of a row cut, columns of a column cut. */
static struct split_range held(const struct model_config *c, const struct mesh *m, int i,
                               const struct tensormap_part *p)
{
    struct split_range heads = heads_of(c, m, i);
    switch (p->cut) {
    case MUSTER__CUT__CUT_Q_ROWS:
        return scaled(heads, c->head_dim);
    case MUSTER__CUT__CUT_KV_ROWS:
        return scaled(kv_of(c, heads), p->source.rows / c->n_kv_heads);
    case MUSTER__CUT__CUT_HEAD_COLS:
        return scaled(heads, c->value_dim);
    case MUSTER__CUT__CUT_HEADS:
        return heads;
    case MUSTER__CUT__CUT_FFN_ROWS:
    case MUSTER__CUT__CUT_FFN_COLS:
        return split_owned(c->ffn_dim, SPLIT_GROUP, m->leaves, m->peer_segments[i]);
    case MUSTER__CUT__CUT_EXPERT_ROWS:
    case MUSTER__CUT__CUT_EXPERT_COLS:
        return split_owned(c->expert_ffn_dim, SPLIT_GROUP, m->leaves, m->peer_segments[i]);
    case MUSTER__CUT__CUT_VOCAB_ROWS:
        return decoder_vocab_range(c->vocab, m, i);
    default:
        return (struct split_range){0, p->source.rows};
    }
}

static bool cuts_columns(const struct tensormap_part *p)
{
    return p->cut == MUSTER__CUT__CUT_HEAD_COLS || p->cut == MUSTER__CUT__CUT_FFN_COLS ||
           p->cut == MUSTER__CUT__CUT_EXPERT_COLS;
}

/* Loaded by all ranks of the stage together. */
static bool is_collective(const struct tensormap_part *p)
{
    return !p->vector && cuts_columns(p) != (p->source.form == LOAD_TRANSPOSED) &&
           (cuts_columns(p) || p->cut == MUSTER__CUT__CUT_EXPERT_ROWS);
}

/* The parts that a mesh place loads, layer after layer. */
static int list_parts(struct tensormap *map, const struct model_config *c,
                      const struct tensorfile *t, const struct mesh *m, struct err *err)
{
    bool first = m->stage == 0, last = m->stage == m->n_stages - 1;
    int rc = ERR_OK;
    if (m->layer_begin < 0 || m->layer_begin > m->layer_end || m->layer_end > c->n_layers)
        return err_set(err, ERR_INVAL, "layers %d to %d of a model of %d", m->layer_begin,
                       m->layer_end, c->n_layers);
    if (first || (last && c->tied))
        rc = tensormap_layer(map, c, t, TENSORMAP_BEFORE, err);
    for (int i = m->layer_begin; i < m->layer_end && rc == ERR_OK; i++)
        rc = tensormap_layer(map, c, t, i, err);
    if (last && rc == ERR_OK)
        rc = tensormap_layer(map, c, t, TENSORMAP_AFTER, err);
    return rc;
}

/* Where a slot's pointer (vectors) or linear lies in the tables. */
struct field { size_t at; bool expert; };
#define LAYER(slot, member) [slot] = {offsetof(struct layer_weights, member), false}
#define EXPERT(slot, member) [slot] = {offsetof(struct expert_weights, member), true}
static const struct field fields[SLOT_MODEL_COUNT] = {
    LAYER(SLOT_ATTN_NORM, attn_norm), LAYER(SLOT_POST_ATTN_NORM, post_attn_norm),
    LAYER(SLOT_FFN_NORM, ffn_norm), LAYER(SLOT_POST_FFN_NORM, post_ffn_norm),
    LAYER(SLOT_Q_NORM, q_norm), LAYER(SLOT_K_NORM, k_norm), LAYER(SLOT_Q, q), LAYER(SLOT_K, k),
    LAYER(SLOT_V, v), LAYER(SLOT_O, o), LAYER(SLOT_Q_BIAS, q_bias), LAYER(SLOT_K_BIAS, k_bias),
    LAYER(SLOT_V_BIAS, v_bias), LAYER(SLOT_O_BIAS, o_bias), LAYER(SLOT_SINKS, sinks),
    LAYER(SLOT_GATE, gate), LAYER(SLOT_UP, up), LAYER(SLOT_DOWN, down),
    LAYER(SLOT_ROUTER, router), LAYER(SLOT_ROUTER_BIAS, router_bias),
    EXPERT(SLOT_EXPERT_GATE, gate), EXPERT(SLOT_EXPERT_UP, up), EXPERT(SLOT_EXPERT_DOWN, down),
    EXPERT(SLOT_EXPERT_GATE_BIAS, gate_bias), EXPERT(SLOT_EXPERT_UP_BIAS, up_bias),
    EXPERT(SLOT_EXPERT_DOWN_BIAS, down_bias),
};

/* The table entry of lane's slot of matrix `mat`. */
static void *entry_of(struct decoder_weights *w, const struct mesh *m,
                      const struct tensormap_part *p, int lane, int mat)
{
    if (p->slot == SLOT_EMBED)
        return &w->embed;
    if (p->slot == SLOT_HEAD)
        return &w->head;
    if (p->slot == SLOT_OUT_NORM)
        return &w->out_norm;
    enum slot slot = lane == 1 && !p->vector ? SLOT_EXPERT_UP : p->slot;
    struct layer_weights *l = &w->layer[p->layer - m->layer_begin];
    if (!fields[slot].expert)
        return (char *)l + fields[slot].at;
    return (char *)&l->expert[p->expert >= 0 ? p->expert : mat] + fields[slot].at;
}

/* Hands out places in the shard; with a NULL base it only counts. */
struct placer { uint8_t *base; size_t used; uint64_t file_bytes; };

static uint8_t *take(struct placer *pl, size_t bytes)
{
    uint8_t *at = pl->base ? pl->base + pl->used : NULL;
    pl->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

static size_t packed_bytes(const struct linear *l)
{
    return l->n_out && l->k ? linear_packed_bytes(l->type, l->n_out, l->k, l->k_origin) : 0;
}

/* Bytes of the file that n rows (or columns) of a part stand for. */
static uint64_t file_share(const struct tensormap_part *p, int lanes, int n)
{
    const struct load_source *s = &p->source;
    uint64_t whole = (uint64_t)(cuts_columns(p) ? s->cols : s->rows);
    uint64_t bytes = (uint64_t)s->n_mats * (uint64_t)lanes * (uint64_t)s->rows *
                     loader_row_bytes(s->type, s->cols);
    return bytes / whole * (uint64_t)n + bytes % whole * (uint64_t)n / whole;
}

/* Sizes a part and, where w is given, points the tables at it. */
static void place(struct placer *pl, const struct model_config *c, const struct mesh *m,
                  const struct tensormap_part *p, struct decoder_weights *w)
{
    const struct load_source *s = &p->source;
    struct split_range mine = held(c, m, m->tp_index, p);
    int n = mine.end - mine.begin;
    int lanes = p->vector ? 1 : s->lanes;
    struct linear l = {.type = s->type, .n_out = n, .k = s->cols};
    if (cuts_columns(p))
        l = (struct linear){.type = s->type, .n_out = s->rows, .k = n, .k_origin = mine.begin};
    for (int lane = 0; lane < lanes; lane++)
        for (int mat = 0; mat < s->n_mats; mat++) {
            void *entry = w ? entry_of(w, m, p, lane, mat) : NULL;
            if (p->vector) {
                float *at = (float *)take(pl, (size_t)n * sizeof(float));
                if (w)
                    *(float **)entry = at;
                continue;
            }
            l.packed = take(pl, packed_bytes(&l));
            if (w)
                *(struct linear *)entry = l;
        }
    pl->file_bytes += file_share(p, lanes, n);
}

static void place_all(struct placer *pl, const struct model_config *c, const struct mesh *m,
                      const struct tensormap *map, struct decoder_weights *w)
{
    for (int i = 0; i < map->n; i++)
        place(pl, c, m, &map->part[i], w);
    if (w && c->tied && m->stage == m->n_stages - 1)
        w->head = w->embed;
}

int decoder_weights_size(const struct model_config *c, const struct tensorfile *t,
                         const struct mesh *m, size_t *packed, uint64_t *file_bytes,
                         struct err *err)
{
    struct tensormap map = {0};
    struct placer pl = {0};
    int rc = list_parts(&map, c, t, m, err);
    if (rc == ERR_OK)
        place_all(&pl, c, m, &map, NULL);
    tensormap_free(&map);
    *packed = pl.used;
    *file_bytes = pl.file_bytes;
    return rc;
}

void decoder_weights_free(struct decoder_weights *w)
{
    if (w->layer)
        for (int i = 0; i < w->n_layers; i++)
            free(w->layer[i].expert);
    free(w->layer);
    if (w->base)
        munmap(w->base, w->bytes);
    memset(w, 0, sizeof *w);
}

static int make_tables(struct decoder_weights *w, const struct model_config *c,
                       const struct mesh *m, struct err *err)
{
    w->n_layers = m->layer_end - m->layer_begin;
    w->layer = calloc((size_t)w->n_layers + 1, sizeof *w->layer);
    bool ok = w->layer != NULL;
    for (int i = 0; ok && i < w->n_layers; i++)
        if (c->layer[m->layer_begin + i].moe) {
            w->layer[i].expert = calloc((size_t)c->n_experts, sizeof *w->layer[i].expert);
            ok = w->layer[i].expert != NULL;
        }
    return ok ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the tables of %d layers",
                                 w->n_layers);
}

static void note_ranges(struct decoder_weights *w, const struct model_config *c,
                        const struct mesh *m)
{
    struct split_range heads = heads_of(c, m, m->tp_index), kv = kv_of(c, heads);
    struct split_range ffn = split_owned(c->ffn_dim, SPLIT_GROUP, m->leaves, m->segments);
    struct split_range expert = split_owned(c->expert_ffn_dim, SPLIT_GROUP, m->leaves, m->segments);
    struct split_range vocab = decoder_vocab_range(c->vocab, m, m->tp_index);
    w->heads_begin = heads.begin;
    w->heads_local = heads.end - heads.begin;
    w->kv_begin = kv.begin;
    w->kv_local = kv.end - kv.begin;
    w->ffn_begin = ffn.begin;
    w->ffn_local = ffn.end - ffn.begin;
    w->expert_ffn_begin = expert.begin;
    w->expert_ffn_local = expert.end - expert.begin;
    w->vocab_begin = vocab.begin;
    w->vocab_local = vocab.end - vocab.begin;
}

/* One mapping for the whole shard; its pages come to life where they are first written. */
static int map_shard(struct decoder_weights *w, size_t bytes, struct err *err)
{
    if (bytes == 0)
        return ERR_OK;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(err, ERR_NOMEM, "no memory for a shard of %zu bytes", bytes);
    if (bytes >= HUGE_FROM)
        madvise(p, bytes, MADV_HUGEPAGE);       /* fewer page walks while reading; else no matter */
    w->base = p;
    w->bytes = bytes;
    return ERR_OK;
}

/* Everything that can fail without a peer: checks, tables, memory. */
static int prepare(struct decoder_weights *w, struct tensormap *map, const struct model_config *c,
                   const struct tensorfile *t, const struct mesh *m, struct err *err)
{
    struct placer count = {0};
    TRY(tensormap_check(c, t, err));
    TRY(list_parts(map, c, t, m, err));
    place_all(&count, c, m, map, NULL);
    TRY(make_tables(w, c, m, err));
    TRY(map_shard(w, count.used, err));
    struct placer pl = {.base = w->base};
    place_all(&pl, c, m, map, w);
    w->file_bytes = pl.file_bytes;
    note_ranges(w, c, m);
    return ERR_OK;
}

static int load_vector(struct loader *ld, const struct model_config *c, const struct mesh *m,
                       const struct tensormap_part *p, struct decoder_weights *w, struct err *err)
{
    const struct load_source *s = &p->source;
    struct split_range mine = held(c, m, m->tp_index, p);
    bool is_norm = p->cut == MUSTER__CUT__CUT_NONE && p->slot <= SLOT_K_NORM;
    float add = is_norm && c->norm_plus_one ? 1.0f : 0.0f;
    for (int mat = 0; mat < s->n_mats; mat++)
        TRY(loader_vector(ld, s->data, mat * s->mat_rows + s->row0 + (int64_t)mine.begin * s->lanes,
                          mine.end - mine.begin, s->lanes, add,
                          *(float **)entry_of(w, m, p, 0, mat), err));
    return ERR_OK;
}

static int load_part(struct loader *ld, const struct model_config *c, const struct mesh *m,
                     const struct tensormap_part *p, struct decoder_weights *w, struct err *err)
{
    if (p->vector)
        return load_vector(ld, c, m, p, w, err);
    const struct load_source *s = &p->source;
    struct split_range all[LOADER_RANKS_MAX], mine = held(c, m, m->tp_index, p);
    struct load_target to[2] = {{entry_of(w, m, p, 0, 0), sizeof(struct expert_weights)}};
    if (s->lanes == 2)
        to[1] = (struct load_target){entry_of(w, m, p, 1, 0), sizeof(struct expert_weights)};
    for (int i = 0; i < m->tp; i++)
        all[i] = held(c, m, i, p);
    if (s->form == LOAD_TRANSPOSED)
        return cuts_columns(p) ? loader_transposed_columns(ld, s, mine, to[0], err)
                               : loader_transposed_rows(ld, s, all, to, err);
    return cuts_columns(p) ? loader_columns(ld, s, all, to[0], err)
                           : loader_rows(ld, s, mine, to, err);
}

/* Parts [begin, end) are one layer: first what each rank does alone, then, if nobody failed, the
 * exchanges. *kept holds a failure of the file until the ranks agree. */
static int load_layer(struct loader *ld, const struct model_config *c, const struct mesh *m,
                      const struct tensormap_part *part, int n, struct decoder_weights *w,
                      struct err *kept, struct err *err)
{
    for (int i = 0; i < n && kept->code == ERR_OK; i++)
        if (!is_collective(&part[i]))
            load_part(ld, c, m, &part[i], w, kept);
    if (comm_agree(ld->group.comm, m->tp_ranks, m->tp, kept->code, kept) != ERR_OK)
        return err_set(err, kept->code, "%s", kept->msg);
    for (int i = 0; i < n; i++) {
        if (!is_collective(&part[i]))
            continue;
        struct err local = {0};
        int rc = load_part(ld, c, m, &part[i], w, &local);
        if (rc != ERR_OK && rc != ERR_FORMAT && rc != ERR_IO)       /* of a peer: no exchange more */
            return err_set(err, rc, "%s", local.msg);
        if (rc != ERR_OK)
            err_set(kept, rc, "%s", local.msg);
    }
    return ERR_OK;
}

static int load_all(struct loader *ld, const struct model_config *c, const struct mesh *m,
                    const struct tensormap *map, struct decoder_weights *w, struct err *err)
{
    struct err kept = {0};
    for (int i = 0, n; i < map->n; i += n) {
        for (n = 1; i + n < map->n && map->part[i + n].layer == map->part[i].layer; n++)
            ;
        TRY(load_layer(ld, c, m, &map->part[i], n, w, &kept, err));
    }
    if (comm_agree(ld->group.comm, m->tp_ranks, m->tp, kept.code, &kept) != ERR_OK)
        return err_set(err, kept.code, "%s", kept.msg);
    return ERR_OK;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int decoder_weights_load(struct decoder_weights *w, const struct model_config *c,
                         struct tensorfile *t, const struct mesh *m, struct comm *comm,
                         void (*progress)(void *ctx, uint64_t done, uint64_t all), void *ctx,
                         struct err *err)
{
    struct tensormap map = {0};
    struct loader ld = {0};
    struct load_group group = {.comm = comm, .ranks = m->tp_ranks, .n = m->tp,
                               .index = m->tp_index, .network = (uint32_t)m->network};
    double start = seconds_now();
    memset(w, 0, sizeof *w);
    int rc = prepare(w, &map, c, t, m, err);
    if (rc == ERR_OK)
        rc = loader_init(&ld, t, &group, err);
    rc = comm_agree(comm, m->tp_ranks, m->tp, rc, err);
    if (rc == ERR_OK) {
        ld.progress = progress;
        ld.progress_ctx = ctx;
        ld.all = w->file_bytes;
        rc = load_all(&ld, c, m, &map, w, err);
    }
    loader_free(&ld);
    tensormap_free(&map);
    w->seconds = seconds_now() - start;
    if (rc != ERR_OK)
        decoder_weights_free(w);
    return rc;
}
