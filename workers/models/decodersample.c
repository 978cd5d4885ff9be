/* From slices of logits on every rank of the last stage to tokens on its first rank: whole rows where
 * the sampling looks at everything, the few best of each slice where they suffice. */
#include "workers/models/decoderstate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *slice_row(const struct decoder *d, int row)
{
    return d->logits + (int64_t)row * d->w->vocab_local;
}

static int sampled_row(const struct steprow_run *run)
{
    return run->logits_row + (run->all_logits ? run->n_rows - 1 : 0);
}

static bool needs_few(const struct decoder *d, const struct steprow_run *run)
{
    return d->m->tp > 1 && run->sample && sampler_needs_few(&run->slot->params);
}

static bool any_few(const struct decoder *d)
{
    for (int i = 0; i < d->rows.n_runs; i++)
        if (needs_few(d, &d->rows.run[i]))
            return true;
    return false;
}

/* Logits of all rows are many: their room is made when they are first wanted. */
static int grow(float **p, bool *owned, int64_t floats, struct err *err)
{
    float *more = floats < INT64_MAX / 8 ? malloc((size_t)floats * sizeof *more) : NULL;
    if (more == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %lld logits of one step: feed fewer rows at a time",
                       (long long)floats);
    if (*owned)
        free(*p);
    *owned = true;
    *p = more;
    return ERR_OK;
}

int decodersample_room(struct decoder *d, struct err *err)
{
    int scored = decoderscore_block(d), rows = d->rows.n_wanted > scored ? d->rows.n_wanted : scored;
    if (rows > d->logit_rows) {
        TRY(grow(&d->logits, &d->own_logits, (int64_t)rows * d->w->vocab_local, err));
        d->logit_rows = rows;
    }
    int64_t returned = (int64_t)d->rows.n_returned * d->c->vocab;
    bool owned = d->returned != NULL;
    if (d->is_sampler && d->m->tp > 1 && returned > d->returned_floats) {
        TRY(grow(&d->returned, &owned, returned, err));
        d->returned_floats = returned;
    }
    return ERR_OK;
}

/* --- messages */

struct wire_tensor decodersample_header(const struct decoder *d, enum wire_kind kind,
                                        enum wire_dtype dtype, int64_t n)
{
    return (struct wire_tensor){.network = (uint32_t)d->m->network, .kind = kind, .dtype = dtype,
                                .step = d->rows.step, .n_dims = 1, .shape = {(uint64_t)n},
                                .data_bytes = (size_t)n * 4};
}

int decodersample_receive(struct decoder *d, int peer, enum wire_kind kind, enum wire_dtype dtype,
                          int64_t n, uint8_t *msg, size_t cap, struct wire_tensor *t, struct err *err)
{
    size_t bytes = 0;
    TRY(comm_recv(d->comm, d->m->tp_ranks[peer], COMM_TP, msg, cap, &bytes, err));
    TRY(wire_tensor_view(msg, bytes, d->comm->epoch, t, err));
    bool fits = t->n_dims == 1 && (n >= 0 ? t->shape[0] == (uint64_t)n : t->shape[0] <= (uint64_t)-n);
    if (t->kind != kind || t->dtype != dtype || t->step != d->rows.step || !fits)
        return err_set(err, ERR_PEER, "rank %d sent tensor kind %u where logits of step %llu are expected",
                       d->m->tp_ranks[peer], t->kind, (unsigned long long)d->rows.step);
    return ERR_OK;
}

/* A rank's answer for the rows where few suffice: for each a count (-1: the slice follows whole), then
 * ids, then logits. */
static int64_t write_few(struct decoder *d, int32_t *out)
{
    int64_t at = 0;
    for (int i = 0; i < d->rows.n_runs; i++) {
        const struct steprow_run *run = &d->rows.run[i];
        if (!needs_few(d, run))
            continue;
        uint32_t ids[SAMPLER_FEW_ROOM];
        float values[SAMPLER_FEW_ROOM];
        int n = sampler_few(&run->slot->params, d->ops.kernels, slice_row(d, sampled_row(run)),
                            d->w->vocab_local, d->w->vocab_begin, ids, values, d->sampler_scratch);
        out[at++] = n;
        if (n < 0)
            continue;
        memcpy(out + at, ids, sizeof *out * (size_t)n);
        memcpy(out + at + n, values, sizeof *out * (size_t)n);
        at += 2 * (int64_t)n;
    }
    return at;
}

static int send_slice(struct decoder *d, int row, struct err *err)
{
    void *data;
    struct wire_tensor t = decodersample_header(d, WIRE_LOGITS, WIRE_F32, d->w->vocab_local);
    size_t bytes = wire_tensor_begin(d->slice_msg, d->comm->epoch, &t, &data);
    memcpy(data, slice_row(d, row), t.data_bytes);
    return comm_send(d->comm, d->m->tp_ranks[0], COMM_TP, d->slice_msg, bytes, err);
}

/* What a rank that does not sample sends, in the order in which the sampler asks for it. */
static int send_all(struct decoder *d, struct err *err)
{
    const int32_t *count = NULL;
    if (any_few(d)) {
        int32_t *few = (int32_t *)d->few_id;    /* room for every row's answer */
        void *data;
        struct wire_tensor t = decodersample_header(d, WIRE_CANDIDATES, WIRE_I32, write_few(d, few));
        size_t bytes = wire_tensor_begin(d->few_msg, d->comm->epoch, &t, &data);
        memcpy(data, few, t.data_bytes);
        TRY(comm_send(d->comm, d->m->tp_ranks[0], COMM_TP, d->few_msg, bytes, err));
        count = few;
    }
    for (int i = 0; i < d->rows.n_runs; i++) {
        const struct steprow_run *run = &d->rows.run[i];
        for (int r = 0; run->all_logits && r < run->n_rows; r++)
            TRY(send_slice(d, run->logits_row + r, err));
        if (needs_few(d, run)) {
            int n = *count;
            count += 1 + (n > 0 ? 2 * n : 0);
            if (n < 0)
                TRY(send_slice(d, sampled_row(run), err));
        } else if (run->sample) {
            TRY(send_slice(d, sampled_row(run), err));
        }
    }
    return ERR_OK;
}

/* --- the sampler */

static struct split_range vocab_of(const struct decoder *d, int i)
{
    return decoder_vocab_range(d->c->vocab, d->m, i);
}

static int take_slice(struct decoder *d, int peer, float *row, struct err *err)
{
    struct split_range v = vocab_of(d, peer);
    struct wire_tensor t;
    TRY(decodersample_receive(d, peer, WIRE_LOGITS, WIRE_F32, v.end - v.begin, d->slice_msg,
                              d->slice_bytes, &t, err));
    memcpy(row + v.begin, t.data, t.data_bytes);
    return ERR_OK;
}

/* Puts row [vocab] together from everybody's slices. */
static int take_row(struct decoder *d, int row, float *out, struct err *err)
{
    memcpy(out + d->w->vocab_begin, slice_row(d, row), sizeof *out * (size_t)d->w->vocab_local);
    for (int i = 1; i < d->m->tp; i++)
        TRY(take_slice(d, i, out, err));
    return ERR_OK;
}

/* The peers' answers, each read from its start on. */
struct answers { const int32_t *at[MESH_TP_MAX], *end[MESH_TP_MAX]; };

static int take_answers(struct decoder *d, struct answers *a, struct err *err)
{
    int64_t most = (int64_t)(d->few_bytes - WIRE_HEADER_MAX) / 4;
    for (int i = 1; i < d->m->tp; i++) {
        struct wire_tensor t;
        uint8_t *msg = d->few_msg + (size_t)i * d->few_bytes;
        TRY(decodersample_receive(d, i, WIRE_CANDIDATES, WIRE_I32, -most, msg, d->few_bytes, &t, err));
        memmove(msg, t.data, t.data_bytes);     /* to where whole numbers may lie */
        a->at[i] = (const int32_t *)msg;
        a->end[i] = a->at[i] + t.shape[0];
    }
    return ERR_OK;
}

/* The next answer of a peer, appended to the sampler's list; *n = -1 when its slice follows whole. */
static int next_answer(struct decoder *d, struct answers *a, int peer, int at, int *n, struct err *err)
{
    struct split_range v = vocab_of(d, peer);
    int64_t left = a->end[peer] - a->at[peer];
    int32_t count = left > 0 ? *a->at[peer]++ : -2;
    bool sound = count >= -1 && count <= SAMPLER_FEW_ROOM && 2 * (int64_t)count <= left - 1;
    for (int i = 0; sound && i < count; i++)
        sound = a->at[peer][i] >= v.begin && a->at[peer][i] < v.end;
    if (!sound)
        return err_set(err, ERR_PEER, "rank %d sent candidates that are none", d->m->tp_ranks[peer]);
    *n = count;
    if (count > 0) {
        memcpy(d->few_id + at, a->at[peer], sizeof *d->few_id * (size_t)count);
        memcpy(d->few_value + at, a->at[peer] + count, sizeof *d->few_value * (size_t)count);
        a->at[peer] += 2 * count;
    }
    return ERR_OK;
}

/* A slice that came whole among others that sent few: the rest of the row cannot matter. */
static int draw_mixed(struct decoder *d, const struct steprow_run *run, const bool *whole, int n,
                      int position, int *id, struct err *err)
{
    for (int i = 0; i < d->c->vocab; i++)
        d->whole[i] = -INFINITY;
    for (int i = 0; i < n; i++)
        d->whole[d->few_id[i]] = d->few_value[i];
    if (whole[0])
        memcpy(d->whole + d->w->vocab_begin, slice_row(d, sampled_row(run)),
               sizeof *d->whole * (size_t)d->w->vocab_local);
    for (int i = 1; i < d->m->tp; i++)
        if (whole[i])
            TRY(take_slice(d, i, d->whole, err));
    *id = sampler_draw(&run->slot->params, d->ops.kernels, d->whole, d->c->vocab, NULL, 0, 0, position,
                       d->sampler_scratch, NULL);
    return ERR_OK;
}

static int draw_few(struct decoder *d, const struct steprow_run *run, struct answers *a, int position,
                    int *id, struct err *err)
{
    const struct sampler_params *p = &run->slot->params;
    bool whole[MESH_TP_MAX] = {false}, mixed = false;
    int n = sampler_few(p, d->ops.kernels, slice_row(d, sampled_row(run)), d->w->vocab_local,
                        d->w->vocab_begin, d->few_id, d->few_value, d->sampler_scratch);
    mixed = whole[0] = n < 0;
    n = n > 0 ? n : 0;
    for (int i = 1; i < d->m->tp; i++) {
        int more = 0;
        TRY(next_answer(d, a, i, n, &more, err));
        whole[i] = more < 0;
        mixed = mixed || whole[i];
        n += more > 0 ? more : 0;
    }
    if (mixed)
        return draw_mixed(d, run, whole, n, position, id, err);
    *id = sampler_draw_few(p, d->ops.kernels, d->few_id, d->few_value, n, position,
                           d->sampler_scratch);
    return ERR_OK;
}

static int draw_whole(struct decoder *d, const struct steprow_run *run, int position, int *id,
                      struct sampler_logprobs *lp, struct err *err)
{
    const struct slot *slot = run->slot;
    float *logits = slice_row(d, sampled_row(run));
    if (d->m->tp > 1 || run->all_logits) {      /* drawing changes them */
        TRY(take_row(d, sampled_row(run), d->whole, err));
        logits = d->whole;
    }
    *id = sampler_draw(&slot->params, d->ops.kernels, logits, d->c->vocab, slot->history, position,
                       slot->n_prompt < position ? slot->n_prompt : position, position,
                       d->sampler_scratch, lp);
    return ERR_OK;
}

static int draw(struct decoder *d, struct steprow_run *run, struct answers *a, struct err *err)
{
    int position = run->position + run->n_rows, id = 0, n = d->n_tokens++;
    struct sampler_logprobs *lp = &d->logprobs[n];
    lp->n_top = 0;
    lp->drawn = 0;
    if (needs_few(d, run))
        TRY(draw_few(d, run, a, position, &id, err));
    else
        TRY(draw_whole(d, run, position, &id, lp, err));
    run->slot->sampled = id;
    d->token[n] = (struct decoder_token){.slot = run->slot_index, .sequence = run->slot->sequence,
                                         .position = position, .id = id, .logprob = lp->drawn,
                                         .n_top = lp->n_top, .top_ids = lp->top_id,
                                         .top_logprobs = lp->top};
    return ERR_OK;
}

/* Logits of all rows of a run: in place with one rank, else put together. */
static int return_rows(struct decoder *d, const struct steprow_run *run, int64_t *at, struct err *err)
{
    const float *data = slice_row(d, run->logits_row);
    if (d->m->tp > 1) {
        data = d->returned + *at;
        for (int r = 0; r < run->n_rows; r++, *at += d->c->vocab)
            TRY(take_row(d, run->logits_row + r, d->returned + *at, err));
    }
    d->result_logits[d->n_result_logits++] = (struct decoder_logits){
        .slot = run->slot_index, .position = run->position, .rows = run->n_rows, .data = data};
    return ERR_OK;
}

int decodersample_all(struct decoder *d, struct err *err)
{
    struct answers answers;
    int64_t at = 0;
    if (!d->is_sampler)
        return send_all(d, err);
    if (any_few(d))
        TRY(take_answers(d, &answers, err));
    for (int i = 0; i < d->rows.n_runs; i++) {
        struct steprow_run *run = &d->rows.run[i];
        if (run->all_logits)
            TRY(return_rows(d, run, &at, err));
        if (run->sample)
            TRY(draw(d, run, &answers, err));
    }
    return ERR_OK;
}
