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

static struct schedule_limits limits_of(const struct cluster *c, const struct cluster_load *load,
                                        int replica)
{
    int vocab = (int)c->spec->vocab, logits_rows = (16 << 20) / 4 / (vocab > 0 ? vocab : 1);
    return (struct schedule_limits){.max_slots = load->slots, .max_rows = load->max_rows,
        .max_context = load->context, .page_tokens = CLUSTER_PAGE_TOKENS,
        .kv_pages = c->plan.kv_pages, .chunk_rows = load->chunk, .n_stages = c->plan.pp,
        .steps_ahead = 2, .logits_rows = logits_rows > 0 ? logits_rows : 1, .replica = replica,
        .longrope_original = (int)c->spec->longrope_original};
}

static int open_replica(struct lm *l, const struct cluster_load *load, int index, struct err *err)
{
    const struct plan *p = &l->cluster->plan;
    struct lm_replica *r = &l->replica[index];
    struct schedule_limits lim = limits_of(l->cluster, load, index);
    if ((r->ranks = calloc((size_t)p->n_shares, sizeof *r->ranks)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the steps");
    for (int i = 0; i < p->n_shares; i++)
        if (p->share[i].replica == index)
            r->ranks[r->n_ranks++] = p->share[i].rank;
    return schedule_new(&r->schedule, &lim, err);
}

int lm_open(struct lm *l, struct cluster *c, const struct cluster_load *load, struct err *err)
{
    memset(l, 0, sizeof *l);
    l->cluster = c;
    l->vocab = (int)c->spec->vocab;
    l->max_slots = load->slots;
    int n = c->plan.dp > 0 ? c->plan.dp : 1, rc = arena_init(&l->step_mem, step_bytes(load));
    l->out = calloc((size_t)load->slots, sizeof *l->out);
    l->replica = calloc((size_t)n, sizeof *l->replica);
    if (rc == ERR_OK && (l->out == NULL || l->replica == NULL))
        rc = ERR_NOMEM;
    if (rc != ERR_OK)
        err_set(err, rc, "no memory for the steps");
    for (; rc == ERR_OK && l->n_replicas < n; l->n_replicas++)
        rc = open_replica(l, load, l->n_replicas, err);
    if (rc != ERR_OK)
        lm_close(l);
    return rc;
}

void lm_close(struct lm *l)
{
    for (int i = 0; i < l->n_replicas; i++) {
        schedule_destroy(l->replica[i].schedule);
        free(l->replica[i].ranks);
    }
    arena_free(&l->step_mem);
    free(l->replica);
    free(l->pending);
    free(l->out);
    memset(l, 0, sizeof *l);
}

/* --- requests */

/* The replica with the fewest sequences, if it has a slot free. */
static struct lm_replica *free_replica(const struct lm *l)
{
    struct lm_replica *best = NULL;
    int least = l->max_slots;
    for (int i = 0; i < l->n_replicas; i++) {
        struct schedule_counts n = schedule_counts(l->replica[i].schedule);
        if (n.running + n.waiting < least) {
            least = n.running + n.waiting;
            best = &l->replica[i];
        }
    }
    return best;
}

static int hand_out(struct lm *l, struct err *err)
{
    struct lm_replica *r;
    while (l->n_pending > 0 && (r = free_replica(l)) != NULL) {
        TRY(schedule_submit(r->schedule, &l->pending[l->pending_at], err));
        l->pending_at++;
        l->n_pending--;
    }
    return ERR_OK;
}

int lm_submit(struct lm *l, const struct schedule_request *r, struct err *err)
{
    if (l->n_replicas == 1)
        return schedule_submit(l->replica[0].schedule, r, err);
    if (l->pending_at + l->n_pending == l->cap_pending) {
        int cap = l->n_pending * 2 + 64;
        struct schedule_request *more = malloc((size_t)cap * sizeof *more);
        if (more == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a request");
        if (l->n_pending > 0)
            memcpy(more, l->pending + l->pending_at, (size_t)l->n_pending * sizeof *more);
        free(l->pending);
        l->pending = more;
        l->pending_at = 0;
        l->cap_pending = cap;
    }
    l->pending[l->pending_at + l->n_pending++] = *r;
    return ERR_OK;
}

void lm_cancel(struct lm *l, uint64_t sequence)
{
    for (int i = l->pending_at; i < l->pending_at + l->n_pending; i++)
        if (l->pending[i].sequence == sequence) {
            l->n_pending--;
            memmove(&l->pending[i], &l->pending[i + 1],
                    (size_t)(l->pending_at + l->n_pending - i) * sizeof *l->pending);
            return;
        }
    for (int i = 0; i < l->n_replicas; i++)
        schedule_cancel(l->replica[i].schedule, sequence);
}

/* --- steps and answers */

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

static int send_replica(struct lm *l, const struct lm_replica *r, struct err *err)
{
    for (;;) {
        Muster__Step *step;
        arena_reset(&l->step_mem);
        TRY(schedule_next(r->schedule, &l->step_mem, &step, err));
        if (step == NULL)
            return ERR_OK;
        Muster__Envelope m = MUSTER__ENVELOPE__INIT;
        m.body_case = MUSTER__ENVELOPE__BODY_STEP;
        m.step = step;
        count_rows(l, step);
        TRY(cluster_send_some(l->cluster, r->ranks, r->n_ranks, &m, err));
    }
}

static int send_steps(struct lm *l, struct err *err)
{
    TRY(hand_out(l, err));
    for (int i = 0; i < l->n_replicas; i++)
        TRY(send_replica(l, &l->replica[i], err));
    return ERR_OK;
}

/* Whose rank is this? NULL: nobody's. */
static struct lm_replica *replica_of(const struct lm *l, int peer)
{
    for (int i = 0; i < l->n_replicas; i++)
        for (int k = 0; k < l->replica[i].n_ranks; k++)
            if (l->replica[i].ranks[k] == peer)
                return &l->replica[i];
    return NULL;
}

static int take_tokens(struct lm *l, const struct lm_replica *r, const Muster__Tokens *t, lm_on_event *on,
                       void *ctx, struct err *err)
{
    int n;
    TRY(schedule_tokens(r->schedule, t, l->out, l->max_slots, &n, err));
    for (int i = 0; i < n; i++) {
        struct lm_event e = {.sequence = l->out[i].sequence, .token = &l->out[i],
            .message = l->out[i].index >= 0 ? t->tokens[l->out[i].index] : NULL};
        TRY(on(ctx, &e, err));
    }
    return ERR_OK;
}

static int take_logits(struct lm *l, const struct lm_replica *r, const Muster__Logits *g, lm_on_event *on,
                       void *ctx, struct err *err)
{
    struct lm_event e = {.position = (int)g->position, .rows = (int)g->rows, .vocab = l->vocab,
        .logits = (const float *)(const void *)g->data.data};
    if ((int)g->vocab != l->vocab || g->rows > (1u << 20) ||
        g->data.len != (size_t)g->rows * (size_t)l->vocab * sizeof(float))
        return err_set(err, ERR_PEER, "logits of %u rows came in %zu bytes", g->rows, g->data.len);
    if (!schedule_who(r->schedule, g->step, (int)g->slot, &e.sequence))
        return ERR_OK;
    return on(ctx, &e, err);
}

static int take_scores(struct lm *l, const struct lm_replica *r, const Muster__Scores *g, lm_on_event *on,
                       void *ctx, struct err *err)
{
    struct lm_event e = {.position = (int)g->position, .rows = (int)g->n_logprob, .vocab = l->vocab,
                         .logprobs = g->logprob};
    if (g->n_logprob == 0 || g->n_logprob > (1u << 20) || g->position > (1u << 30))
        return err_set(err, ERR_PEER, "%zu log probabilities came for one run", g->n_logprob);
    if (!schedule_who(r->schedule, g->step, (int)g->slot, &e.sequence))
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
    const struct lm_replica *r = replica_of(l, peer);
    if (m->body_case == MUSTER__ENVELOPE__BODY_TOKENS && r != NULL)
        return take_tokens(l, r, m->tokens, on, ctx, err);
    if (m->body_case == MUSTER__ENVELOPE__BODY_LOGITS && r != NULL)
        return take_logits(l, r, m->logits, on, ctx, err);
    if (m->body_case == MUSTER__ENVELOPE__BODY_SCORES && r != NULL)
        return take_scores(l, r, m->scores, on, ctx, err);
    return err_set(err, ERR_PEER, "rank %d sent message %d instead of tokens", peer,
                   (int)m->body_case);
}

bool lm_idle(const struct lm *l)
{
    for (int i = 0; i < l->n_replicas; i++)
        if (!schedule_idle(l->replica[i].schedule))
            return false;
    return l->n_pending == 0;
}

int lm_run(struct lm *l, lm_on_event *on, void *ctx, struct err *err)
{
    while (!lm_idle(l))
        TRY(lm_turn(l, 1000000, on, ctx, err));
    return ERR_OK;
}
