#include "workers/models/decoder.h"

#include "workers/models/decoderstate.h"

#include <stdlib.h>
#include <string.h>

/* --- sizes */

static int max_int(int a, int b) { return a > b ? a : b; }

/* What follows from the arguments alone: ranges, cuts, numbers of things. */
static void derive(struct decoder *d, const struct model_config *c, const struct mesh *m,
                   const struct decoder_weights *w, const struct decoder_options *o)
{
    memset(d, 0, sizeof *d);
    d->c = c;
    d->w = w;
    d->m = m;
    d->opt = *o;
    d->is_first = m->stage == 0;
    d->is_last = m->stage == m->n_stages - 1;
    d->is_sampler = d->is_last && m->tp_index == 0;
    for (int i = 0; i < c->n_layers; i++)
        d->n_ropes = max_int(d->n_ropes, c->layer[i].rope + 1);
    d->heads_k = c->n_heads * c->value_dim;
    d->heads_unit = decoder_head_unit(c) * c->value_dim;
    d->heads_program = split_program_for(d->heads_k, d->heads_unit, m->leaves, m->segments);
    d->ffn_program = split_program_for(c->ffn_dim, SPLIT_GROUP, m->leaves, m->segments);
    d->expert_program = split_program_for(c->expert_ffn_dim, SPLIT_GROUP, m->leaves, m->segments);
    d->max_pieces = max_int(1, max_int(d->heads_program.n_piece, max_int(d->ffn_program.n_piece,
                                                                         d->expert_program.n_piece)));
}

static int check_options(const struct model_config *c, const struct decoder_options *o, struct err *err)
{
    if (o->max_rows < 1 || o->max_slots < 1 || o->max_context < 1 || o->kv_pages < 1 ||
        o->n_threads < 1)
        return err_set(err, ERR_INVAL, "rows %d, sequences %d, context %d, pages %d, threads %d: each "
                       "must be at least 1", o->max_rows, o->max_slots, o->max_context, o->kv_pages,
                       o->n_threads);
    if (o->max_rows > 1 << 20 || (int64_t)o->max_rows * c->dim > INT32_MAX)
        return err_set(err, ERR_LIMIT, "steps of %d rows of %d numbers are more than one tensor may "
                       "have", o->max_rows, c->dim);
    return ERR_OK;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Largest need of ops' arena over all products of this rank, with max_rows rows. */
static size_t product_scratch(const struct decoder *d)
{
    const struct decoder_options *o = &d->opt;
    size_t most = 0;
#define NEED(...)                                                                                  \
    most = larger(most, ops_linear_scratch(o->isa, o->compute,                                     \
                                           (const struct linear *const[]){__VA_ARGS__},            \
                                           sizeof((const struct linear *[]){__VA_ARGS__}) /        \
                                               sizeof(struct linear *), o->max_rows))
    for (int i = 0; i < d->m->layer_end - d->m->layer_begin; i++) {
        const struct layer_weights *l = &d->w->layer[i];
        NEED(&l->q, &l->k, &l->v);
        NEED(&l->o);
        if (d->c->layer[d->m->layer_begin + i].moe) {
            NEED(&l->router);
            most = larger(most, moe_scratch_bytes(d->c, &l->expert[0], o->isa, o->compute,
                                                  o->max_rows));
        } else {
            NEED(&l->gate, &l->up);
            NEED(&l->down);
        }
    }
    if (d->is_last)
        NEED(&d->w->head);
#undef NEED
    return most;
}

static bool has_experts(const struct decoder *d)
{
    for (int i = d->m->layer_begin; i < d->m->layer_end; i++)
        if (d->c->layer[i].moe)
            return true;
    return false;
}

static size_t thread_scratch(struct decoder *d)
{
    const struct model_config *c = d->c;
    int k_max = max_int(max_int(c->dim, d->heads_k), max_int(c->ffn_dim, c->expert_ffn_dim));
    size_t bytes = ops_thread_scratch(d->opt.isa, d->opt.compute, d->opt.max_rows, k_max,
                                      c->value_dim);
    d->moe_linear_bytes = bytes;
    if (has_experts(d))
        bytes += moe_thread_bytes(c, &d->expert_program, d->opt.max_rows);
    return (bytes + 4095) / 4096 * 4096;
}

/* --- one block of memory, placed */

struct placer { uint8_t *base; size_t used; };

static void *place(struct placer *p, size_t count, size_t each)
{
    uint8_t *at = p->base != NULL ? p->base + p->used : NULL;
    p->used += (count * each + 63) / 64 * 64;
    return at;
}

static void place_layers(struct decoder *d, struct placer *p)
{
    const struct model_config *c = d->c;
    size_t rows = (size_t)d->opt.max_rows, n = sizeof(float);
    d->x = place(p, rows * (size_t)c->dim, n);
    d->h = place(p, (size_t)max_int(d->opt.max_rows, d->opt.max_slots) * (size_t)c->dim, n);
    d->q = place(p, rows * (size_t)d->w->heads_local * (size_t)c->head_dim, n);
    d->k = place(p, rows * (size_t)d->w->kv_local * (size_t)c->head_dim, n);
    d->v = place(p, rows * (size_t)d->w->kv_local * (size_t)c->value_dim, n);
    d->attended = place(p, rows * (size_t)d->w->heads_local * (size_t)c->value_dim, n);
    d->pieces = place(p, (size_t)d->max_pieces * rows * (size_t)c->dim, n);
    d->gate = place(p, rows * (size_t)d->w->ffn_local, n);
    d->up = place(p, rows * (size_t)d->w->ffn_local, n);
    for (int i = 0; i < d->n_ropes; i++) {
        d->cosine[i] = place(p, rows * (size_t)(c->n_rot / 2), n);
        d->sine[i] = place(p, rows * (size_t)(c->n_rot / 2), n);
    }
    d->owner = place(p, rows, 1);
    if (has_experts(d)) {
        size_t bytes = moe_buffers_place(&d->moe, NULL, c, d->opt.max_rows, d->w->expert_ffn_local);
        uint8_t *at = place(p, bytes, 1);
        moe_buffers_place(&d->moe, at, c, d->opt.max_rows, d->w->expert_ffn_local);
    }
}

/* On the ranks of the last stage. */
static void place_scores(struct decoder *d, struct placer *p)
{
    const struct mesh *m = d->m;
    size_t rows = (size_t)d->opt.max_rows;
    int widest = 0;
    for (int i = 0; i < m->tp; i++)
        widest = max_int(widest, m->peer_segments[i].end - m->peer_segments[i].begin);
    d->score_part = place(p, decoderscore_bytes(d, m->segments.end - m->segments.begin), 1);
    d->score_msg_bytes = WIRE_HEADER_MAX + decoderscore_bytes(d, widest);
    if (m->tp > 1)
        d->score_msg = place(p, d->score_msg_bytes, 1);
    if (!d->is_sampler)
        return;
    d->score_all = place(p, decoderscore_bytes(d, m->leaves), 1);
    d->score = place(p, rows, sizeof *d->score);
    d->result_scores = place(p, rows, sizeof *d->result_scores);
}

static void place_links(struct decoder *d, struct placer *p)
{
    const struct mesh *m = d->m;
    d->activation_bytes = WIRE_HEADER_MAX + wire_data_bytes(d->opt.wire, (uint64_t)d->opt.max_rows *
                                                                            (uint64_t)d->c->dim);
    for (int i = 0; i < DECODER_SENDS && !d->is_last; i++)
        d->out[i].msg = place(p, d->activation_bytes, 1);
    if (!d->is_first)
        d->in = place(p, d->activation_bytes, 1);
    size_t tokens = (size_t)d->opt.max_slots * 256 + 65536;
    d->messages.base = place(p, tokens, 1);
    d->messages.cap = tokens;
    if (!d->is_last)
        return;
    size_t slots = (size_t)d->opt.max_slots, answers = slots * (1 + 2 * SAMPLER_FEW_ROOM);
    size_t list = (size_t)m->tp * SAMPLER_FEW_ROOM;
    d->logit_rows = d->opt.max_slots;
    d->logits = place(p, slots * (size_t)d->w->vocab_local, sizeof(float));
    d->sampler_scratch = place(p, sampler_scratch_bytes(max_int(d->c->vocab, (int)list)), 1);
    if (m->tp > 1) {
        int widest = 0;
        for (int i = 0; i < m->tp; i++) {
            struct split_range v = decoder_vocab_range(d->c->vocab, m, i);
            widest = max_int(widest, v.end - v.begin);
        }
        d->slice_bytes = WIRE_HEADER_MAX + (size_t)widest * sizeof(float);
        d->slice_msg = place(p, d->slice_bytes, 1);
        d->few_bytes = (WIRE_HEADER_MAX + answers * 4 + 63) / 64 * 64;
        d->few_msg = place(p, d->few_bytes, d->is_sampler ? (size_t)m->tp : 1);
        d->few_id = place(p, d->is_sampler ? list : answers, 4);
        d->few_value = place(p, list, sizeof(float));
    }
    place_scores(d, p);
    if (!d->is_sampler)
        return;
    d->whole = place(p, (size_t)d->c->vocab, sizeof(float));
    d->token = place(p, slots, sizeof *d->token);
    d->logprobs = place(p, slots, sizeof *d->logprobs);
    d->result_logits = place(p, (size_t)d->opt.max_rows, sizeof *d->result_logits);
}

static size_t place_all(struct decoder *d, uint8_t *memory)
{
    struct placer p = {.base = memory};
    place_layers(d, &p);
    place_links(d, &p);
    d->scratch.cap = product_scratch(d) + 4096;
    d->scratch.base = place(&p, d->scratch.cap, 1);
    d->ops.thread_scratch_bytes = thread_scratch(d);
    p.used = (p.used + 4095) / 4096 * 4096;     /* threads' parts share no page */
    d->ops.thread_scratch = place(&p, d->ops.thread_scratch_bytes, (size_t)d->opt.n_threads);
    return p.used;
}

static int longrope_original(const struct model_config *c)
{
    return c->rope[0].scaling == SCALING_LONGROPE ? c->rope[0].original_context : 0;
}

int decoder_sizes(const struct model_config *c, const struct mesh *m,
                  const struct decoder_weights *w, const struct decoder_options *o,
                  struct decoder_sizes *sizes, struct err *err)
{
    struct decoder d;
    memset(sizes, 0, sizeof *sizes);
    TRY(check_options(c, o, err));
    derive(&d, c, m, w, o);
    sizes->scratch_bytes = place_all(&d, NULL);
    sizes->kv_bytes = kvcache_bytes(o->kv_dtype, m->layer_end - m->layer_begin, o->kv_pages,
                                    w->kv_local, c->head_dim, c->value_dim, o->page_tokens);
    sizes->state_bytes = sizeof d + slots_bytes(o->max_slots, o->max_context, o->page_tokens) +
                         steprows_bytes(o->max_rows) * (longrope_original(c) > 0 ? 2 : 1);
    return ERR_OK;
}

/* --- life */

static void set_ops(struct decoder *d)
{
    d->ops.kernels = kernels_get(d->opt.isa);
    d->ops.isa = d->opt.isa;
    d->ops.compute = d->opt.compute;
    d->ops.scratch = &d->scratch;
    d->ops.reduce = &d->reduce;
    d->ops.team = &d->team;
    team_init(&d->team, d->opt.n_threads);
}

static int open_parts(struct decoder *d, struct err *err)
{
    const struct decoder_options *o = &d->opt;
    const struct model_config *c = d->c;
    size_t bytes = place_all(d, NULL);
    d->memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (d->memory == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu MiB of scratch (fewer rows in a step would do)",
                       bytes >> 20);
    d->memory_bytes = place_all(d, d->memory);
    set_ops(d);
    for (int i = 0; i < d->n_ropes; i++)
        TRY(rope_init(&d->rope[i], &c->rope[i], c->n_rot, err));
    TRY(kvcache_init(&d->kv, o->kv_dtype, d->m->layer_end - d->m->layer_begin, o->kv_pages,
                     d->w->kv_local, c->head_dim, c->value_dim, o->page_tokens, err));
    TRY(slots_init(&d->slots, o->max_slots, o->max_context, o->page_tokens, o->kv_pages, c->vocab,
                   longrope_original(c), err));
    TRY(steprows_init(&d->rows, o->max_rows, c->vocab, err));
    if (longrope_original(c) > 0)
        TRY(steprows_init(&d->again, o->max_rows, c->vocab, err));
    return reduce_init(&d->reduce, d->comm, d->m, o->wire, (int64_t)o->max_rows * c->dim, err);
}

int decoder_new(struct decoder **out, const struct model_config *c, const struct decoder_weights *w,
                const struct mesh *m, struct comm *comm, const struct decoder_options *o,
                struct err *err)
{
    *out = NULL;
    TRY(check_options(c, o, err));
    size_t size = (sizeof(struct decoder) + 63) / 64 * 64;
    struct decoder *d = aligned_alloc(64, size);
    if (d == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a decoder");
    derive(d, c, m, w, o);
    d->comm = comm;
    int rc = open_parts(d, err);
    if (rc != ERR_OK) {
        decoder_destroy(d);
        return rc;
    }
    *out = d;
    return ERR_OK;
}

void decoder_destroy(struct decoder *d)
{
    if (d == NULL)
        return;
    decoderlink_cancel(d);
    reduce_free(&d->reduce);
    steprows_free(&d->rows);
    steprows_free(&d->again);
    slots_free(&d->slots);
    kvcache_free(&d->kv);
    for (int i = 0; i < 2; i++)
        rope_free(&d->rope[i]);
    if (d->own_logits)
        free(d->logits);
    free(d->returned);
    free(d->memory);
    free(d);
}

/* --- a step */

struct pass { struct decoder *d; struct err *err; int rc; };

static int pass_layers(struct decoder *d, struct err *err)
{
    if (d->is_first)
        TRY(decoderlayer_embed(d, err));
    TRY(decoderlayer_all(d, err));
    if (d->is_last && d->rows.n_scores > 0)
        decoderscore_local(d);
    if (d->is_last && d->rows.n_wanted > 0)
        decoderlayer_logits(d, d->rows.wanted, d->rows.n_wanted, d->rows.n_wanted_prompt);
    return ERR_OK;
}

static void run_pass(void *arg)
{
    struct pass *p = arg;
    p->rc = pass_layers(p->d, p->err);
}

static int forward(struct decoder *d, struct err *err)
{
    struct pass pass = {.d = d, .err = err};
    if (!d->is_first)
        TRY(decoderlink_receive(d, err));
    if (d->is_last)
        TRY(decodersample_room(d, err));
    team_enter(&d->team, run_pass, &pass);
    TRY(pass.rc);
    if (!d->is_last)
        return decoderlink_send(d, err);
    if (d->rows.n_scores > 0)
        TRY(decoderscore_all(d, err));
    return d->rows.n_wanted > 0 ? decodersample_all(d, err) : ERR_OK;
}

/* Keys and values of the run's sequence before the run, once more, now with the long factors. */
static int compute_again(struct decoder *d, const struct steprow_run *run, struct err *err)
{
    struct steprows rows = d->rows;
    int rc = ERR_OK, n;
    run->slot->is_long = true;
    for (int at = 0; at < run->position && rc == ERR_OK; at += n) {
        n = steprows_again(&d->again, run, rows.step, at, run->position);
        d->rows = d->again;
        rc = forward(d, err);
    }
    d->rows = rows;
    return rc;
}

/* Sequences that outgrow the context which the short factors are for. */
static int outgrow(struct decoder *d, struct err *err)
{
    int original = d->slots.longrope_original;
    for (int i = 0; original > 0 && i < d->rows.n_runs; i++) {
        const struct steprow_run *first = &d->rows.run[i];
        if (first->slot->is_long || first->slot->length <= original)
            continue;
        for (int k = i + 1; k < d->rows.n_runs; k++)    /* of its runs in this step the first */
            if (d->rows.run[k].slot == first->slot && d->rows.run[k].position < first->position)
                first = &d->rows.run[k];
        TRY(compute_again(d, first, err));
    }
    return ERR_OK;
}

int decoder_step(struct decoder *d, const Muster__Step *step, struct decoder_result *out,
                 struct err *err)
{
    memset(out, 0, sizeof *out);
    d->n_tokens = d->n_result_logits = d->n_result_scores = 0;
    TRY(steprows_build(&d->rows, &d->slots, step, err));
    if (d->rows.n_rows == 0)
        return ERR_OK;
    int64_t start = comm_now_us(d->comm);
    TRY(decoderlink_tokens(d, err));
    TRY(outgrow(d, err));
    TRY(forward(d, err));
    TRY(decoderlink_announce(d, err));
    d->step_us += (double)(comm_now_us(d->comm) - start);
    d->n_steps++;
    *out = (struct decoder_result){.n_tokens = d->n_tokens, .token = d->token,
                                   .n_logits = d->n_result_logits, .logits = d->result_logits,
                                   .n_scores = d->n_result_scores, .scores = d->result_scores};
    return ERR_OK;
}

void decoder_stats(struct decoder *d, struct decoder_stats *out, bool reset)
{
    double wait = (double)d->comm->wait_us - d->start_wait_us;
    double reduce = d->reduce.us - d->reduce.wait_us;
    *out = (struct decoder_stats){
        .reduce_us = reduce > 0 ? reduce : 0, .wait_us = wait,
        .wire_us = d->reduce.wire_us + d->link_us,
        .wire_bytes = d->reduce.bytes + d->link_bytes, .steps = d->n_steps};
    double compute = d->step_us - out->reduce_us - wait - d->link_us;
    out->compute_us = compute > 0 ? compute : 0;
    if (!reset)
        return;
    d->step_us = d->link_us = 0;
    d->n_steps = d->link_bytes = 0;
    d->start_wait_us = (double)d->comm->wait_us;
    d->reduce.us = d->reduce.wait_us = d->reduce.wire_us = 0;
    d->reduce.bytes = 0;
}
