/* What goes from stage to stage: activations forwards, sampled tokens back to the first. */
#include "workers/models/decoderstate.h"

#include <string.h>

/* --- sampled tokens */

static void take_tokens(struct decoder *d, const Muster__Tokens *t)
{
    for (size_t i = 0; i < t->n_tokens; i++) {
        const Muster__Token *token = t->tokens[i];
        if (token->slot >= (uint32_t)d->slots.n || token->id >= (uint32_t)d->c->vocab)
            continue;
        struct slot *slot = &d->slots.slot[token->slot];
        /* A late token of a sequence that has left the slot belongs to nobody. */
        if (slot->used && slot->waits && slot->sampled_step == t->step &&
            slot->sequence == token->sequence) {
            slot->sampled = (int32_t)token->id;
            slot->waits = false;
        }
    }
}

/* Takes a waiting Tokens message; blocks for one where `wait`. *some = 0 when there is none. */
static int next_tokens(struct decoder *d, bool wait, int *some, struct err *err)
{
    Muster__Envelope *m = NULL;
    int peer;
    arena_reset(&d->messages);
    TRY((wait ? wire_recv : wire_poll)(d->comm, COMM_TOKENS, &d->messages, &peer, &m, err));
    *some = m != NULL;
    if (m == NULL)
        return ERR_OK;
    if (m->body_case != MUSTER__ENVELOPE__BODY_TOKENS)
        return err_set(err, ERR_PEER, "rank %d sent message %d where sampled tokens are expected", peer,
                       (int)m->body_case);
    take_tokens(d, m->tokens);
    return ERR_OK;
}

int decoderlink_tokens(struct decoder *d, struct err *err)
{
    int some = 1;
    if (!d->is_first && !d->is_sampler)
        return ERR_OK;
    while (d->is_first && !d->is_sampler && some)       /* what nobody waits for must not pile up */
        TRY(next_tokens(d, false, &some, err));
    for (int i = 0; i < d->rows.n_runs; i++) {
        struct steprow_run *run = &d->rows.run[i];
        if (!run->continues)
            continue;
        while (run->slot->waits)
            TRY(next_tokens(d, true, &some, err));
        d->rows.token[run->row] = run->slot->sampled;
        run->slot->history[run->position] = run->slot->sampled;
    }
    return ERR_OK;
}

int decoderlink_announce(struct decoder *d, struct err *err)
{
    for (int i = 0; i < d->rows.n_runs; i++)
        if (d->rows.run[i].sample) {
            struct slot *slot = d->rows.run[i].slot;
            slot->has_sampled = true;
            slot->waits = d->is_first && !d->is_sampler;
            slot->sampled_step = d->rows.step;
        }
    if (!d->is_sampler || d->n_tokens == 0)
        return ERR_OK;
    arena_reset(&d->messages);
    size_t n = (size_t)d->n_tokens;
    Muster__Token *token = arena_take(&d->messages, n * sizeof *token);
    Muster__Token **list = arena_take(&d->messages, n * sizeof *list);
    ASSERT(token != NULL && list != NULL);
    for (int i = 0; i < d->n_tokens; i++) {
        const struct decoder_token *t = &d->token[i];
        muster__token__init(&token[i]);
        token[i].slot = (uint32_t)t->slot;
        token[i].sequence = t->sequence;
        token[i].position = (uint32_t)t->position;
        token[i].id = (uint32_t)t->id;
        list[i] = &token[i];
    }
    Muster__Tokens tokens = MUSTER__TOKENS__INIT;
    tokens.step = d->rows.step;
    tokens.replica = (uint32_t)d->m->replica;
    tokens.n_tokens = n;
    tokens.tokens = list;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    m.body_case = MUSTER__ENVELOPE__BODY_TOKENS;
    m.tokens = &tokens;
    for (int i = 0; i < d->m->first_tp; i++)
        if (d->m->first_ranks[i] != d->m->self)
            TRY(wire_send(d->comm, d->m->first_ranks[i], COMM_TOKENS, &m, err));
    return ERR_OK;
}

/* --- activations */

int decoderlink_receive(struct decoder *d, struct err *err)
{
    const struct mesh *m = d->m;
    int from = m->prev_ranks[m->tp_index % m->prev_tp];
    size_t bytes = 0;
    struct wire_tensor t;
    TRY(comm_recv(d->comm, from, COMM_PP, d->in, d->activation_bytes, &bytes, err));
    int64_t start = comm_now_us(d->comm);
    TRY(wire_tensor_view(d->in, bytes, d->comm->epoch, &t, err));
    if (t.kind != WIRE_ACTIVATION || t.step != d->rows.step || t.n_dims != 2 ||
        t.shape[0] != (uint64_t)d->rows.n_rows || t.shape[1] != (uint64_t)d->c->dim ||
        t.layer != (uint32_t)m->layer_begin)
        return err_set(err, ERR_PEER, "rank %d sent activations of step %llu, layer %u; step %llu, "
                       "layer %d are expected", from, (unsigned long long)t.step, t.layer,
                       (unsigned long long)d->rows.step, m->layer_begin);
    wire_decode((enum wire_dtype)t.dtype, d->x, t.data, t.shape[0] * t.shape[1]);
    d->link_us += (double)(comm_now_us(d->comm) - start);
    d->link_bytes += bytes;
    return ERR_OK;
}

static int finish(struct decoder *d, struct decoder_outgoing *o, struct err *err)
{
    int n = o->n;
    o->n = 0;
    return comm_wait_all(d->comm, o->req, n, err);
}

int decoderlink_send(struct decoder *d, struct err *err)
{
    const struct mesh *m = d->m;
    struct decoder_outgoing *o = &d->out[d->n_sent++ % DECODER_SENDS];
    TRY(finish(d, o, err));
    int64_t start = comm_now_us(d->comm);
    uint64_t n = (uint64_t)d->rows.n_rows * (uint64_t)d->c->dim;
    struct wire_tensor t = {.network = (uint32_t)m->network, .layer = (uint32_t)m->layer_end,
                            .kind = WIRE_ACTIVATION, .dtype = d->opt.wire, .step = d->rows.step,
                            .n_dims = 2, .shape = {(uint64_t)d->rows.n_rows, (uint64_t)d->c->dim},
                            .data_bytes = wire_data_bytes(d->opt.wire, n)};
    void *data;
    size_t bytes = wire_tensor_begin(o->msg, d->comm->epoch, &t, &data);
    wire_encode(d->opt.wire, data, d->x, n);
    for (int i = 0; i < m->next_tp; i++) {
        if (i % m->tp != m->tp_index)
            continue;
        TRY(d->comm->table->send_begin(d->comm, m->next_ranks[i], COMM_PP, o->msg, bytes,
                                       &o->req[o->n], err));
        o->n++;
        d->link_bytes += bytes;
    }
    d->link_us += (double)(comm_now_us(d->comm) - start);
    return ERR_OK;
}

int decoderlink_progress(struct decoder *d, struct err *err)
{
    for (int i = 0; i < DECODER_SENDS; i++)
        for (int k = 0; k < d->out[i].n; k++) {
            int done = 1;
            if (d->out[i].req[k].handle != NULL)
                TRY(d->comm->table->test(d->comm, &d->out[i].req[k], &done, err));
        }
    return ERR_OK;
}

void decoderlink_cancel(struct decoder *d)
{
    for (int i = 0; i < DECODER_SENDS; i++)
        for (int k = 0; k < d->out[i].n; k++)
            if (d->out[i].req[k].handle != NULL)
                d->comm->table->cancel(d->comm, &d->out[i].req[k]);
}
