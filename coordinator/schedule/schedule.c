/* schedule.c - continuous batching over slots and KV pages.
 *
 * A sequence waits, runs in a slot, and ends. Running, it is fed what is known of it (its prompt, and
 * after a preemption its own tokens again, in their own role, so that the bits repeat), and then one
 * row at a time whose token the workers put in themselves. Steps of one slot may be in flight before
 * their tokens are seen: that keeps the coordinator off the critical path. What comes back for a
 * sequence that has ended meanwhile is surplus and dropped.
 *
 * Pages are handed out as rows are issued. When none is left, the youngest sequence gives its slot
 * back and waits again; the oldest can always go on, so everything ends.
 *
 * A step releases slots before it admits, and every worker runs steps in order; so slots and pages of
 * a sequence that ended can be given away in the very next step. A sequence may leave its prompt behind,
 * in its slot, for the next one (schedulekeep.c). */
#include "coordinator/schedule/schedulestate.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int limits_check(const struct schedule_limits *l, struct err *err)
{
    if (l->max_slots < 1 || l->max_rows < 1 || l->max_context < 1 || l->page_tokens < 1 ||
        l->kv_pages < 1 || l->chunk_rows < 1 || l->n_stages < 1 || l->steps_ahead < 1 ||
        l->logits_rows < 0)
        return err_set(err, ERR_INVAL, "schedule: a limit is not positive");
    return ERR_OK;
}

int schedule_new(struct schedule **out, const struct schedule_limits *limits, struct err *err)
{
    *out = NULL;
    TRY(limits_check(limits, err));
    struct schedule *s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the schedule");
    s->lim = *limits;
    s->flights_max = limits->n_stages + limits->steps_ahead - 1;
    s->pages_per_slot = schedulestate_pages(s, limits->max_context);
    size_t slots = (size_t)limits->max_slots;
    s->slot = calloc(slots, sizeof *s->slot);
    s->free_page = calloc((size_t)limits->kv_pages, sizeof *s->free_page);
    s->slot_page = calloc(slots * (size_t)s->pages_per_slot, sizeof *s->slot_page);
    s->release = calloc(slots, sizeof *s->release);
    s->flight = calloc((size_t)s->flights_max, sizeof *s->flight);
    s->kept = (struct kept){.slot = -1, .token = calloc((size_t)limits->max_context, sizeof *s->kept.token)};
    bool ok = s->slot && s->free_page && s->slot_page && s->release && s->flight && s->kept.token;
    for (int i = 0; ok && i < s->flights_max; i++)
        ok = (s->flight[i].answer = calloc(slots, sizeof *s->flight[i].answer)) != NULL;
    if (!ok) {
        schedule_destroy(s);
        return err_set(err, ERR_NOMEM, "no memory for the schedule");
    }
    s->n_free = limits->kv_pages;
    for (int i = 0; i < s->n_free; i++)         /* the lowest page is on top */
        s->free_page[i] = (uint32_t)(s->n_free - 1 - i);
    s->next_ticket = s->next_step = 1;
    *out = s;
    return ERR_OK;
}

static void sequence_free(struct sequence *q)
{
    free(q->generated);
    free(q);
}

void schedule_destroy(struct schedule *s)
{
    if (s == NULL)
        return;
    for (int i = 0; s->slot != NULL && i < s->lim.max_slots; i++)
        if (s->slot[i] != NULL)
            sequence_free(s->slot[i]);
    for (struct sequence *q = s->waiting, *next; q != NULL; q = next) {
        next = q->next;
        sequence_free(q);
    }
    for (int i = 0; s->flight != NULL && i < s->flights_max; i++)
        free(s->flight[i].answer);
    free(s->slot);
    free(s->free_page);
    free(s->slot_page);
    free(s->release);
    free(s->flight);
    free(s->kept.token);
    free(s);
}

void schedulestate_wait(struct schedule *s, struct sequence *q)
{
    struct sequence **at = &s->waiting;
    if (s->waiting_last != NULL && s->waiting_last->age < q->age)
        at = &s->waiting_last->next;    /* a new one: no walk past thousands */
    while (*at != NULL && (*at)->age < q->age)
        at = &(*at)->next;
    q->next = *at;
    *at = q;
    if (q->next == NULL)
        s->waiting_last = q;
}

void schedulestate_unwait(struct schedule *s, struct sequence *q)
{
    struct sequence *before = NULL;
    for (struct sequence **at = &s->waiting; *at != NULL; before = *at, at = &(*at)->next)
        if (*at == q) {
            *at = q->next;
            if (s->waiting_last == q)
                s->waiting_last = before;
            return;
        }
}

static int request_check(const struct schedule *s, const struct schedule_request *r, struct err *err)
{
    if (r->n_prompt < 1)
        return err_set(err, ERR_INVAL, "the prompt is empty: give at least one token");
    if (r->n_generate < 0 || (r->n_generate > 0) != (r->sampling != NULL))
        return err_set(err, ERR_INVAL, "new tokens need sampling parameters, and they tokens");
    if (r->n_targets < 0 || r->n_targets > r->n_prompt)
        return err_set(err, ERR_INVAL, "%d tokens to score after a prompt of %d", r->n_targets,
                       r->n_prompt);
    if (schedulestate_rows(r) > s->lim.max_context)
        return err_set(err, ERR_LIMIT,
                       "the prompt's %d tokens and %d new ones do not fit a context of %d",
                       r->n_prompt, r->n_generate, s->lim.max_context);
    int pages = schedulestate_pages(s, (int)schedulestate_rows(r));
    if (pages > s->lim.kv_pages)
        return err_set(err, ERR_LIMIT, "%lld tokens need %d pages of KV cache, there are %d",
                       (long long)schedulestate_rows(r), pages, s->lim.kv_pages);
    return ERR_OK;
}

int schedule_submit(struct schedule *s, const struct schedule_request *r, struct err *err)
{
    TRY(request_check(s, r, err));
    struct sequence *q = calloc(1, sizeof *q);
    if (q != NULL)
        q->generated = calloc((size_t)r->n_generate + 1, sizeof *q->generated);
    if (q == NULL || q->generated == NULL) {
        free(q);
        return err_set(err, ERR_NOMEM, "no memory for a sequence");
    }
    q->r = *r;
    q->slot = -1;
    q->age = s->next_age++;
    schedulestate_wait(s, q);
    return ERR_OK;
}

void schedulestate_leave(struct schedule *s, struct sequence *q)
{
    const uint32_t *page = s->slot_page + (size_t)q->slot * (size_t)s->pages_per_slot;
    for (int i = q->n_pages - 1; i >= 0; i--)
        s->free_page[s->n_free++] = page[i];
    if (q->announced || q->kept > 0)    /* the workers' slot is in use */
        s->release[s->n_release++] = (uint32_t)q->slot;
    s->slot[q->slot] = NULL;
    s->n_running--;
    q->slot = -1;
    q->n_pages = 0;
}

/* The sequence is over: what is still in flight for it will be surplus. */
static void end_sequence(struct schedule *s, struct sequence *q)
{
    if (q->slot >= 0 && q->r.keep)
        schedulestate_keep(s, q);
    else if (q->slot >= 0)
        schedulestate_leave(s, q);
    else
        schedulestate_unwait(s, q);
    for (int f = 0; f < s->n_flights; f++) {
        struct flight *fl = &s->flight[(s->flight_at + f) % s->flights_max];
        for (int i = 0; i < fl->n; i++)
            if (fl->answer[i].seq == q)
                fl->answer[i].seq = NULL;
    }
    sequence_free(q);
}

void schedule_cancel(struct schedule *s, uint64_t sequence)
{
    for (int i = 0; i < s->lim.max_slots; i++)
        if (s->slot[i] != NULL && s->slot[i]->r.sequence == sequence) {
            end_sequence(s, s->slot[i]);
            return;
        }
    for (struct sequence *q = s->waiting; q != NULL; q = q->next)
        if (q->r.sequence == sequence) {
            end_sequence(s, q);
            return;
        }
}

/* --- a step came back */

static bool is_stop(const struct sequence *q, int id)
{
    for (int i = 0; i < q->r.n_stop_ids; i++)
        if (q->r.stop_ids[i] == id)
            return true;
    return false;
}

static enum finish take_token(struct sequence *q, int id)
{
    q->generated[q->n_generated++] = id;
    if (is_stop(q, id))
        return FINISH_STOP;
    return q->n_generated == q->r.n_generate ? FINISH_LENGTH : FINISH_NONE;
}

static struct answer *find_answer(struct flight *fl, const Muster__Token *t)
{
    for (int i = 0; i < fl->n; i++)
        if (fl->answer[i].ticket == t->sequence && (uint32_t)fl->answer[i].slot == t->slot)
            return &fl->answer[i];
    return NULL;
}

/* Every row that was to be sampled has one token, at its position. */
static int answers_check(struct flight *fl, const Muster__Tokens *t, struct err *err)
{
    for (size_t i = 0; i < t->n_tokens; i++) {
        struct answer *a = find_answer(fl, t->tokens[i]);
        if (a == NULL || !a->sampled || a->seen ||
            t->tokens[i]->position != (uint32_t)a->position || t->tokens[i]->id > INT_MAX)
            return err_set(err, ERR_PEER, "step %llu came back with a token nobody asked for",
                           (unsigned long long)fl->id);
        a->seen = true;
    }
    for (int i = 0; i < fl->n; i++)
        if (fl->answer[i].sampled && !fl->answer[i].seen)
            return err_set(err, ERR_PEER, "step %llu came back without the token of slot %d",
                           (unsigned long long)fl->id, fl->answer[i].slot);
    return ERR_OK;
}

/* Every row issued has come back, and there was nothing to sample. */
static bool logits_done(const struct sequence *q)
{
    return q->r.n_generate == 0 && q->slot >= 0 && q->fed == q->r.n_prompt && q->in_flight == 0;
}

int schedule_tokens(struct schedule *s, const Muster__Tokens *t, struct schedule_token *out, int cap,
                    int *n_out, struct err *err)
{
    *n_out = 0;
    struct flight *fl = &s->flight[s->flight_at];
    if (s->n_flights == 0 || fl->id != t->step)
        return err_set(err, ERR_PEER, "step %llu came back out of turn",
                       (unsigned long long)t->step);
    TRY(answers_check(fl, t, err));
    ASSERT(cap >= fl->n);
    s->flight_at = (s->flight_at + 1) % s->flights_max;
    s->n_flights--;
    for (int i = 0; i < fl->n; i++)
        if (fl->answer[i].seq != NULL)
            fl->answer[i].seq->in_flight--;
    for (size_t i = 0; i < t->n_tokens; i++) {
        struct sequence *q = find_answer(fl, t->tokens[i])->seq;
        if (q == NULL)
            continue;
        int id = (int)t->tokens[i]->id;
        enum finish f = take_token(q, id);
        out[(*n_out)++] = (struct schedule_token){.sequence = q->r.sequence, .id = id,
            .position = (int)t->tokens[i]->position, .index = (int)i,
            .logprob = t->tokens[i]->logprob, .finish = f};
        if (f != FINISH_NONE) {
            find_answer(fl, t->tokens[i])->seq = NULL;
            end_sequence(s, q);
        }
    }
    for (int i = 0; i < fl->n; i++) {
        struct sequence *q = fl->answer[i].seq;
        if (q == NULL || !logits_done(q))
            continue;
        out[(*n_out)++] = (struct schedule_token){.sequence = q->r.sequence, .id = -1,
            .position = q->r.n_prompt, .index = -1, .finish = FINISH_LENGTH};
        end_sequence(s, q);
    }
    fl->n = 0;
    return ERR_OK;
}

bool schedule_who(const struct schedule *s, uint64_t step, int slot, uint64_t *sequence)
{
    const struct flight *fl = &s->flight[s->flight_at];
    if (s->n_flights == 0 || fl->id != step)
        return false;
    for (int i = 0; i < fl->n; i++)
        if (fl->answer[i].slot == slot && fl->answer[i].seq != NULL) {
            *sequence = fl->answer[i].seq->r.sequence;
            return true;
        }
    return false;
}

bool schedule_idle(const struct schedule *s)
{
    return s->waiting == NULL && s->n_running == 0 && s->n_flights == 0;
}

struct schedule_counts schedule_counts(const struct schedule *s)
{
    struct schedule_counts c = {.running = s->n_running, .in_flight = s->n_flights,
        .free_pages = s->n_free, .steps = s->steps, .preempted = s->preempted,
        .kept_rows = s->kept_rows};
    for (const struct sequence *q = s->waiting; q != NULL; q = q->next)
        c.waiting++;
    return c;
}
