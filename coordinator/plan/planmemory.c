#include "coordinator/plan/planmemory.h"

enum { PANEL = 16 };    /* output rows are packed in panels of this many (the workers' linear.h) */

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

static uint64_t dim_at(const Muster__TensorSpec *t, size_t from_end)
{
    return t->n_shape > from_end ? t->shape[t->n_shape - 1 - from_end] : 1;
}

/* bytes x part / whole without overflow for anything a disk can hold. */
static uint64_t portion(uint64_t bytes, uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (uint64_t)((__uint128_t)bytes * part / whole);
}

static int length(struct split_range r) { return r.end - r.begin; }

/* How much of a tensor's cut dimension the share holds: part of whole, and rounded up to panels when
 * the rows are cut. */
static void cut_part(const struct plan_share *s, const Muster__ModelSpec *m,
                     const Muster__TensorSpec *t, uint64_t *part, uint64_t *whole)
{
    uint64_t rows = dim_at(t, t->n_shape > 1 ? 1 : 0), cols = dim_at(t, 0);
    switch (t->cut) {
    case MUSTER__CUT__CUT_Q_ROWS:
        *whole = rows;
        *part = round_up(portion(rows, (uint64_t)length(s->heads), m->n_heads), PANEL);
        break;
    case MUSTER__CUT__CUT_KV_ROWS:
        *whole = rows;
        *part = round_up(portion(rows, (uint64_t)length(s->kv_heads), m->n_kv_heads), PANEL);
        break;
    case MUSTER__CUT__CUT_HEAD_COLS:
        *whole = cols;
        *part = portion(cols, (uint64_t)length(s->heads), m->n_heads);
        break;
    case MUSTER__CUT__CUT_FFN_ROWS:
    case MUSTER__CUT__CUT_EXPERT_ROWS:
        *whole = rows;
        *part = round_up((uint64_t)length(s->ffn), PANEL);
        if (t->cut == MUSTER__CUT__CUT_EXPERT_ROWS && m->ffn_dim != m->expert_ffn_dim && m->ffn_dim)
            *part = round_up(portion(rows, (uint64_t)length(s->ffn), m->ffn_dim), PANEL);
        break;
    case MUSTER__CUT__CUT_FFN_COLS:
    case MUSTER__CUT__CUT_EXPERT_COLS:
        *whole = m->ffn_dim ? m->ffn_dim : cols;
        *part = (uint64_t)length(s->ffn);
        break;
    case MUSTER__CUT__CUT_VOCAB_ROWS:
        *whole = rows;
        *part = round_up((uint64_t)length(s->vocab), PANEL);
        break;
    case MUSTER__CUT__CUT_HEADS:
        *whole = m->n_heads;
        *part = (uint64_t)length(s->heads);
        break;
    default:
        *whole = *part = 1;
    }
    if (*part > round_up(*whole, PANEL))
        *part = *whole;
}

static bool is_expert(const Muster__TensorSpec *t)
{
    return t->cut == MUSTER__CUT__CUT_EXPERT_ROWS || t->cut == MUSTER__CUT__CUT_EXPERT_COLS;
}

/* Bytes of `bytes` that one generated token reads. */
static uint64_t read_of(const Muster__ModelSpec *m, const Muster__TensorSpec *t, uint64_t bytes)
{
    return is_expert(t) && m->n_experts > 0 ? portion(bytes, m->n_experts_used, m->n_experts) : bytes;
}

/* Does a stage with these ends hold the tensor, and read all of it for each token? */
static bool holds(const Muster__ModelSpec *m, const Muster__TensorSpec *t, int layer_begin,
                  int layer_end, bool *reads)
{
    bool first = layer_begin == 0, last = layer_end == (int)m->n_layers;
    *reads = true;
    if (t->layer >= 0)
        return t->layer >= layer_begin && t->layer < layer_end;
    if (t->layer == -2)
        return last;
    bool head_too = m->tied && t->cut == MUSTER__CUT__CUT_VOCAB_ROWS;
    *reads = last && head_too;              /* as an embedding, one row of it */
    return first || (last && head_too);
}

/* Counts a matrix with those of its type and kind; a model with more types than there is room for is
 * counted under its last ones. */
static void add_part(struct plan_share *s, const struct plan_part *add)
{
    for (int i = 0; i < s->n_parts; i++) {
        struct plan_part *p = &s->part[i];
        bool same = p->type == add->type && p->expert == add->expert && p->head == add->head &&
                    p->segment == add->segment && p->columns == add->columns;
        if (!same && i < PLAN_PARTS_MAX - 1)
            continue;
        p->bytes += add->bytes;
        p->weights += add->weights;
        return;
    }
    s->part[s->n_parts++] = *add;
}

/* Columns of a segment where the tensor is cut by them: it is multiplied that way on one rank, too. */
static int segment_of(const Muster__TensorSpec *t)
{
    bool cut = t->cut == MUSTER__CUT__CUT_HEAD_COLS || t->cut == MUSTER__CUT__CUT_FFN_COLS ||
               t->cut == MUSTER__CUT__CUT_EXPERT_COLS;
    int columns = t->n_shape > 0 ? (int)t->shape[t->n_shape - 1] : 0;
    return cut ? (columns + SPLIT_SEGMENTS - 1) / SPLIT_SEGMENTS : 0;
}

/* held: the share's part of the dimension that is cut. */
static struct plan_part part_of(const Muster__TensorSpec *t, uint64_t packed, double held)
{
    struct plan_part p = {.type = t->type, .expert = is_expert(t), .head = t->layer < 0, .bytes = packed,
                          .segment = segment_of(t)};
    p.columns = t->n_shape > 0 ? (int)((double)t->shape[t->n_shape - 1] * (p.segment > 0 ? held : 1)) : 0;
    p.weights = t->packed_bytes > 0 ? (double)packed / (double)t->packed_bytes : 0;
    for (size_t i = 0; i < t->n_shape; i++)
        p.weights *= (double)t->shape[i];
    return p;
}

uint64_t planmemory_layer_read(const Muster__ModelSpec *spec, int layer)
{
    uint64_t n = 0;
    for (size_t i = 0; i < spec->n_tensor; i++)
        if (spec->tensor[i]->layer == layer)
            n += read_of(spec, spec->tensor[i], spec->tensor[i]->packed_bytes);
    return n;
}

uint64_t planmemory_head_read(const Muster__ModelSpec *spec)
{
    uint64_t n = 0;
    for (size_t i = 0; i < spec->n_tensor; i++) {
        const Muster__TensorSpec *t = spec->tensor[i];
        if (t->layer == -2 || (t->layer == -1 && spec->tied && t->cut == MUSTER__CUT__CUT_VOCAB_ROWS))
            n += t->packed_bytes;
    }
    return n;
}

uint64_t planmemory_page(const struct plan_request *q, int layers, int kv_heads)
{
    uint64_t values = (uint64_t)kv_heads * (q->spec->head_dim + q->spec->value_dim);
    return (uint64_t)layers * values * (uint64_t)q->page_tokens / 32 * (uint64_t)q->kv_block_bytes;
}

/* Activations of a step: a few buffers as wide as the model, the share's own, and the logits. */
static uint64_t scratch_of(const struct plan_share *s, const struct plan_request *q, int tp)
{
    const Muster__ModelSpec *m = q->spec;
    uint64_t rows = (uint64_t)q->max_rows, dim = m->dim;
    uint64_t own = (uint64_t)length(s->heads) * (m->head_dim + m->value_dim) +
                   (uint64_t)length(s->kv_heads) * (m->head_dim + m->value_dim) +
                   2 * (uint64_t)length(s->ffn);
    uint64_t pieces = tp > 1 ? 4 : 2;
    uint64_t logits = s->layer_end == (int)m->n_layers ? (uint64_t)q->slots * m->vocab * 4 : 0;
    return rows * 4 * ((4 + pieces) * dim + own) + 2 * logits;
}

static struct split_range heads_of(const Muster__ModelSpec *m, int leaves, struct split_range segs)
{
    int dim = m->value_dim > 0 ? (int)m->value_dim : 1, unit = split_head_unit(dim);
    struct split_range own = split_owned((int)m->n_heads * dim, unit * dim, leaves, segs);
    return (struct split_range){own.begin / dim, own.end / dim};
}

static struct split_range kv_of(const Muster__ModelSpec *m, struct split_range heads)
{
    int group = m->n_kv_heads > 0 ? (int)(m->n_heads / m->n_kv_heads) : 1;
    if (heads.begin >= heads.end || group < 1)
        return (struct split_range){0, 0};
    return (struct split_range){heads.begin / group, (heads.end + group - 1) / group};
}

/* Whole panels of the vocabulary, in proportion to the segments. */
static struct split_range vocab_of(const Muster__ModelSpec *m, int leaves, struct split_range segs)
{
    int64_t panels = ((int64_t)m->vocab + PANEL - 1) / PANEL;
    int64_t begin = panels * segs.begin / leaves * PANEL, end = panels * segs.end / leaves * PANEL;
    if (begin > (int64_t)m->vocab)
        begin = m->vocab;
    return (struct split_range){(int)begin, end > (int64_t)m->vocab ? (int)m->vocab : (int)end};
}

void planmemory_share(struct plan_share *s, const struct plan_request *q, int n_stages, int tp,
                      int leaves, const uint32_t *segment_end, int pages)
{
    const Muster__ModelSpec *m = q->spec;
    (void)n_stages;
    s->segments.begin = s->tp_index > 0 ? (int)segment_end[s->tp_index - 1] : 0;
    s->segments.end = (int)segment_end[s->tp_index];
    s->heads = heads_of(m, leaves, s->segments);
    s->kv_heads = kv_of(m, s->heads);
    int ffn = (int)(m->ffn_dim ? m->ffn_dim : m->expert_ffn_dim);
    s->ffn = split_owned(ffn, SPLIT_GROUP, leaves, s->segments);
    s->vocab = vocab_of(m, leaves, s->segments);
    s->weights_bytes = s->file_bytes = s->read_bytes = 0;
    s->n_parts = 0;
    for (size_t i = 0; i < m->n_tensor; i++) {
        uint64_t part, whole;
        bool reads;
        if (!holds(m, m->tensor[i], s->layer_begin, s->layer_end, &reads))
            continue;
        cut_part(s, m, m->tensor[i], &part, &whole);
        uint64_t packed = portion(m->tensor[i]->packed_bytes, part, round_up(whole, PANEL));
        if (part >= whole)
            packed = m->tensor[i]->packed_bytes;
        s->weights_bytes += packed;
        s->file_bytes += portion(m->tensor[i]->file_bytes, part < whole ? part : whole, whole);
        if (!reads)
            continue;
        struct plan_part add = part_of(m->tensor[i], packed, whole > 0 ? (double)part / (double)whole : 1);
        s->read_bytes += read_of(m, m->tensor[i], packed);
        if (m->tensor[i]->n_shape > 1)
            add_part(s, &add);
    }
    s->kv_bytes = (uint64_t)pages *
                  planmemory_page(q, s->layer_end - s->layer_begin, length(s->kv_heads));
    s->scratch_bytes = scratch_of(s, q, tp);
}
