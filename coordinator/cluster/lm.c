#include "coordinator/cluster/lm.h"

#include <stdlib.h>
#include <string.h>

/* Most that a Step message takes: runs, admits (with biases), tokens, pages. */
static size_t step_bytes(const struct cluster_load *load)
{
    size_t slots = (size_t)load->slots, rows = (size_t)load->max_rows;
    return 65536 + slots * 1024 + rows * 64 +
           slots * ((size_t)load->context / CLUSTER_PAGE_TOKENS + 1) * 8;
}

int lm_open(struct lm *l, struct cluster *c, const struct cluster_load *load, struct err *err)
{
    memset(l, 0, sizeof *l);
    l->cluster = c;
    l->vocab = (int)c->spec->vocab;
    l->max_slots = load->slots;
    int logits_rows = (16 << 20) / 4 / (l->vocab > 0 ? l->vocab : 1);
    struct schedule_limits lim = {.max_slots = load->slots, .max_rows = load->max_rows,
        .max_context = load->context, .page_tokens = CLUSTER_PAGE_TOKENS,
        .kv_pages = c->plan.kv_pages, .chunk_rows = load->chunk, .n_stages = c->plan.pp,
        .steps_ahead = 2, .logits_rows = logits_rows > 0 ? logits_rows : 1};
    int rc = arena_init(&l->step_mem, step_bytes(load));
    if (rc == ERR_OK && (l->out = calloc((size_t)load->slots, sizeof *l->out)) == NULL)
        rc = ERR_NOMEM;
    if (rc != ERR_OK)
        err_set(err, rc, "no memory for the steps");
    else
        rc = schedule_new(&l->schedule, &lim, err);
    if (rc != ERR_OK)
        lm_close(l);
    return rc;
}

void lm_close(struct lm *l)
{
    schedule_destroy(l->schedule);
    arena_free(&l->step_mem);
    free(l->out);
    memset(l, 0, sizeof *l);
}

int lm_submit(struct lm *l, const struct schedule_request *r, struct err *err)
{
    return schedule_submit(l->schedule, r, err);
}

void lm_cancel(struct lm *l, uint64_t sequence) { schedule_cancel(l->schedule, sequence); }

static void count_rows(struct lm *l, const Muster__Step *step)
{
    for (size_t i = 0; i < step->n_runs; i++) {
        const Muster__Run *r = step->runs[i];
        if (r->role == MUSTER__ROLE__ROLE_PROMPT)
            l->prompt_rows += r->n_tokens;
        else
            l->generated_rows += r->n_tokens > 0 ? r->n_tokens : 1;
    }
}

static int send_steps(struct lm *l, struct err *err)
{
    for (;;) {
        Muster__Step *step;
        arena_reset(&l->step_mem);
        TRY(schedule_next(l->schedule, &l->step_mem, &step, err));
        if (step == NULL)
            return ERR_OK;
        Muster__Envelope m = MUSTER__ENVELOPE__INIT;
        m.body_case = MUSTER__ENVELOPE__BODY_STEP;
        m.step = step;
        count_rows(l, step);
        TRY(cluster_send_all(l->cluster, false, &m, err));
    }
}

static int take_tokens(struct lm *l, const Muster__Tokens *t, lm_on_event *on, void *ctx,
                       struct err *err)
{
    int n;
    TRY(schedule_tokens(l->schedule, t, l->out, l->max_slots, &n, err));
    for (int i = 0; i < n; i++) {
        struct lm_event e = {.sequence = l->out[i].sequence, .token = &l->out[i],
            .message = l->out[i].index >= 0 ? t->tokens[l->out[i].index] : NULL};
        TRY(on(ctx, &e, err));
    }
    return ERR_OK;
}

static int take_logits(struct lm *l, const Muster__Logits *g, lm_on_event *on, void *ctx,
                       struct err *err)
{
    struct lm_event e = {.position = (int)g->position, .rows = (int)g->rows, .vocab = l->vocab,
        .logits = (const float *)(const void *)g->data.data};
    if ((int)g->vocab != l->vocab || g->rows > (1u << 20) ||
        g->data.len != (size_t)g->rows * (size_t)l->vocab * sizeof(float))
        return err_set(err, ERR_PEER, "logits of %u rows came in %zu bytes", g->rows, g->data.len);
    if (!schedule_who(l->schedule, g->step, (int)g->slot, &e.sequence))
        return ERR_OK;
    return on(ctx, &e, err);
}

int lm_turn(struct lm *l, int64_t wait_us, lm_on_event *on, void *ctx, struct err *err)
{
    TRY(send_steps(l, err));
    Muster__Envelope *m;
    int peer;
    l->cluster->comm->doing = "waiting for tokens";
    TRY(cluster_next(l->cluster, wait_us, &peer, &m, err));
    if (m == NULL)
        return ERR_OK;
    if (m->body_case == MUSTER__ENVELOPE__BODY_TOKENS)
        return take_tokens(l, m->tokens, on, ctx, err);
    if (m->body_case == MUSTER__ENVELOPE__BODY_LOGITS)
        return take_logits(l, m->logits, on, ctx, err);
    return err_set(err, ERR_PEER, "rank %d sent message %d instead of tokens", peer,
                   (int)m->body_case);
}

int lm_run(struct lm *l, lm_on_event *on, void *ctx, struct err *err)
{
    while (!schedule_idle(l->schedule))
        TRY(lm_turn(l, 1000000, on, ctx, err));
    return ERR_OK;
}
