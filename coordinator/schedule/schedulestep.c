/* schedulestep.c - the next step: who runs, with which rows and pages.
 * Why:    the policy (admission, micro-batches, preemption) is one thing to read. */
#include "coordinator/schedule/schedulestate.h"

#include <string.h>

enum { PIPELINE_CHUNK_MIN = 64 };   /* smaller prompt pieces waste more than an idle stage does */

static void preempt(struct schedule *s, struct sequence *q)
{
    schedulestate_leave(s, q);
    schedulestate_wait(s, q);
    s->preempted++;
}

/* The step under construction. */
struct build {
    struct arena *mem;
    Muster__Step *step;
    struct flight *flight;
    int rows_left, prompt_left;
};

/* Pages that running sequences will yet take for the rows they are known to have. */
static int pages_promised(const struct schedule *s)
{
    int n = 0;
    for (int i = 0; i < s->lim.max_slots; i++) {
        const struct sequence *q = s->slot[i];
        if (q != NULL && schedulestate_pages(s, q->known) > q->n_pages)
            n += schedulestate_pages(s, q->known) - q->n_pages;
    }
    return n;
}

static int free_slot(const struct schedule *s)
{
    for (int i = 0; i < s->lim.max_slots; i++)
        if (s->slot[i] == NULL && i != s->kept.slot)
            return i;
    return -1;
}

/* The workers hear of a sequence in the step that holds its first run. */
static int announce(struct build *b, struct sequence *q)
{
    if (q->announced)
        return ERR_OK;
    Muster__Admit *a = arena_take(b->mem, sizeof *a);
    if (a == NULL)
        return ERR_NOMEM;
    muster__admit__init(a);
    a->slot = (uint32_t)q->slot;
    a->sequence = q->ticket;
    a->prompt_tokens = (uint32_t)q->r.n_prompt;
    a->sampling = (Muster__Sampling *)q->r.sampling;    /* only read, by the packer */
    a->kept_rows = (uint32_t)q->kept;
    b->step->admits[b->step->n_admits++] = a;
    q->announced = true;
    return ERR_OK;
}

static void enter_slot(struct schedule *s, struct sequence *q, int slot)
{
    schedulestate_unwait(s, q);
    q->slot = slot;
    q->ticket = s->next_ticket++;
    q->known = q->r.n_prompt + q->n_generated;
    q->kept = q->fed = q->n_pages = 0;
    q->announced = q->considered = q->in_step = false;
    q->asked = q->n_generated;
    q->chunk = s->lim.chunk_rows;
    if (s->lim.n_stages > 1) {      /* cut a prompt so that all stages have a piece of it */
        int even = (q->known + s->lim.n_stages - 1) / s->lim.n_stages;
        even = even < PIPELINE_CHUNK_MIN ? PIPELINE_CHUNK_MIN : even;
        q->chunk = even < q->chunk ? even : q->chunk;
    }
    s->slot[slot] = q;
    s->n_running++;
}

/* q goes on where the kept prompt lies, from its row `rows`. */
static void enter_kept(struct schedule *s, struct sequence *q, int rows)
{
    enter_slot(s, q, s->kept.slot);
    q->kept = q->fed = rows;
    q->n_pages = s->kept.n_pages;
    s->kept.slot = -1;
    s->kept_rows += (uint64_t)rows;
}

/* Admits waiting sequences while a slot is free and pages for what is known of them, keeping one page
 * back for each running one so that it is not thrown out again at once. */
static void admit(struct schedule *s)
{
    while (s->waiting != NULL) {
        struct sequence *q = s->waiting;
        int64_t rows = schedulestate_rows(&q->r), known = q->r.n_prompt + q->n_generated + 1;
        int need = schedulestate_pages(s, (int)(known < rows ? known : rows));
        int kept = schedulestate_kept_rows(s, q), slot = free_slot(s);
        int room = s->n_free - pages_promised(s) - s->n_running;
        if (q->in_flight > 0)
            return;
        if (kept > 0 && room >= need - s->kept.n_pages)
            enter_kept(s, q, kept);
        else if (slot >= 0 && room >= need)
            enter_slot(s, q, slot);
        else if (!schedulestate_drop(s))
            return;
    }
}

/* The youngest sequence that is younger than q and not in this step. */
static struct sequence *victim_for(const struct schedule *s, const struct sequence *q)
{
    struct sequence *v = NULL;
    for (int i = 0; i < s->lim.max_slots; i++) {
        struct sequence *x = s->slot[i];
        if (x != NULL && !x->in_step && x->age > q->age && (v == NULL || x->age > v->age))
            v = x;
    }
    return v;
}

/* How many of `rows` more rows of q there are pages for, after throwing out younger sequences. */
static int rows_with_pages(struct schedule *s, struct sequence *q, int rows)
{
    for (;;) {
        int need = schedulestate_pages(s, q->fed + rows) - q->n_pages;
        struct sequence *v;
        if (need <= s->n_free)
            return rows;
        if (schedulestate_drop(s))
            continue;
        if ((v = victim_for(s, q)) == NULL)
            break;
        preempt(s, v);
    }
    int room = (q->n_pages + s->n_free) * s->lim.page_tokens - q->fed;
    return room < rows ? room : rows;
}

static int take_pages(struct schedule *s, struct build *b, struct sequence *q, int rows,
                      Muster__Run *run)
{
    int need = schedulestate_pages(s, q->fed + rows) - q->n_pages;
    if (need <= 0)
        return ERR_OK;
    run->new_pages = arena_take(b->mem, (size_t)need * sizeof *run->new_pages);
    if (run->new_pages == NULL)
        return ERR_NOMEM;
    uint32_t *page = s->slot_page + (size_t)q->slot * (size_t)s->pages_per_slot;
    for (int i = 0; i < need; i++)
        page[q->n_pages++] = run->new_pages[run->n_new_pages++] = s->free_page[--s->n_free];
    return ERR_OK;
}

static int token_at(const struct sequence *q, int position)
{
    return position < q->r.n_prompt ? q->r.prompt[position]
                                    : q->generated[position - q->r.n_prompt];
}

/* Rows that q could add now: what is known of one role, or one sampled row. */
static int rows_wanted(const struct schedule *s, const struct build *b, const struct sequence *q)
{
    if (q->fed >= q->known)
        return 1;
    int end = q->fed < q->r.n_prompt ? q->r.n_prompt : q->known, rows = end - q->fed;
    int most = b->prompt_left < q->chunk ? b->prompt_left : q->chunk;
    if (q->r.as_generated)
        most = most < 1 ? most : 1;
    if (q->r.all_logits && s->lim.logits_rows > 0 && most > s->lim.logits_rows)
        most = s->lim.logits_rows;
    return rows < most ? rows : most;
}

static int add_tokens(struct build *b, const struct sequence *q, int rows, Muster__Run *run)
{
    if (q->fed >= q->known)
        return ERR_OK;
    run->tokens = arena_take(b->mem, (size_t)rows * sizeof *run->tokens);
    if (run->tokens == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < rows; i++)
        run->tokens[run->n_tokens++] = (uint32_t)token_at(q, q->fed + i);
    return ERR_OK;
}

/* The targets among rows [first, first + rows) of q. */
static int add_targets(struct build *b, const struct sequence *q, int first, int rows, Muster__Run *run)
{
    int scored_from = q->r.n_prompt - q->r.n_targets, end = first + rows;
    end = end < q->r.n_prompt ? end : q->r.n_prompt;
    int from = first > scored_from ? first : scored_from;
    if (from >= end)
        return ERR_OK;
    run->targets = arena_take(b->mem, (size_t)(end - from) * sizeof *run->targets);
    if (run->targets == NULL)
        return ERR_NOMEM;
    for (int i = from; i < end; i++)
        run->targets[run->n_targets++] = (uint32_t)q->r.targets[i - scored_from];
    return ERR_OK;
}

/* Adds a run of q to the step, as far as rows and pages allow; none is no error. */
static int add_run(struct schedule *s, struct build *b, struct sequence *q)
{
    q->considered = true;
    int rows = rows_wanted(s, b, q);
    rows = rows < b->rows_left ? rows : b->rows_left;
    if (rows > 0)
        rows = rows_with_pages(s, q, rows);
    if (rows <= 0)
        return ERR_OK;
    Muster__Run *run = arena_take(b->mem, sizeof *run);
    if (run == NULL)
        return ERR_NOMEM;
    muster__run__init(run);
    bool known = q->fed < q->known, prompt = q->fed < q->r.n_prompt && !q->r.as_generated;
    TRY(announce(b, q));
    TRY(take_pages(s, b, q, rows, run));
    TRY(add_tokens(b, q, rows, run));
    TRY(add_targets(b, q, q->fed, rows, run));
    run->slot = (uint32_t)q->slot;
    run->position = (uint32_t)q->fed;
    run->role = prompt ? MUSTER__ROLE__ROLE_PROMPT : MUSTER__ROLE__ROLE_GENERATED;
    run->all_logits = q->r.all_logits && q->fed < q->r.n_prompt;
    q->fed += rows;
    run->sample = q->fed >= q->known && q->asked < q->r.n_generate;
    q->asked += run->sample;
    b->rows_left -= rows;
    b->prompt_left -= known ? rows : 0;
    b->step->runs[b->step->n_runs++] = run;
    b->flight->answer[b->flight->n++] = (struct answer){.seq = q, .ticket = q->ticket,
        .slot = q->slot, .position = q->fed, .sampled = run->sample};
    q->in_step = true;
    q->in_flight++;
    q->last_step = b->step->id;
    return ERR_OK;
}

static bool decodes(const struct sequence *q)
{
    return q != NULL && q->fed >= q->known && q->asked < q->r.n_generate;
}

/* The sequence, decoding or with known rows left, that has waited longest for a step. */
static struct sequence *next_candidate(const struct schedule *s, bool decoding)
{
    struct sequence *best = NULL;
    for (int i = 0; i < s->lim.max_slots; i++) {
        struct sequence *q = s->slot[i];
        if (q == NULL || q->considered)
            continue;
        if (decoding ? !decodes(q) || q->in_flight >= s->lim.steps_ahead : q->fed >= q->known)
            continue;
        if (best == NULL || (decoding && q->last_step != best->last_step
                                 ? q->last_step < best->last_step : q->age < best->age))
            best = q;
    }
    return best;
}

/* Sequences that decode are shared out so that every stage has a micro-batch of them. */
static int add_decoding(struct schedule *s, struct build *b)
{
    int n = 0;
    for (int i = 0; i < s->lim.max_slots; i++)
        n += decodes(s->slot[i]);
    int quota = (n + s->lim.n_stages - 1) / s->lim.n_stages;
    struct sequence *q;
    while (quota > 0 && b->rows_left > 0 && (q = next_candidate(s, true)) != NULL) {
        TRY(add_run(s, b, q));
        quota -= q->in_step;
    }
    return ERR_OK;
}

static int add_known(struct schedule *s, struct build *b)
{
    struct sequence *q;
    while (b->rows_left > 0 && b->prompt_left > 0 && (q = next_candidate(s, false)) != NULL)
        TRY(add_run(s, b, q));
    return ERR_OK;
}

static int build_begin(struct schedule *s, struct arena *mem, struct build *b)
{
    size_t slots = (size_t)s->lim.max_slots;
    *b = (struct build){.mem = mem, .rows_left = s->lim.max_rows, .prompt_left = s->lim.chunk_rows};
    b->flight = &s->flight[(s->flight_at + s->n_flights) % s->flights_max];
    b->flight->n = 0;
    b->step = arena_take(mem, sizeof *b->step);
    if (b->step == NULL)
        return ERR_NOMEM;
    muster__step__init(b->step);
    b->step->id = b->flight->id = s->next_step;
    b->step->replica = (uint32_t)s->lim.replica;
    b->step->admits = arena_take(mem, slots * sizeof *b->step->admits);
    b->step->runs = arena_take(mem, slots * sizeof *b->step->runs);
    b->step->release = arena_take(mem, slots * sizeof *b->step->release);
    return b->step->admits && b->step->runs && b->step->release ? ERR_OK : ERR_NOMEM;
}

/* Slots freed go out with the step; those admitted in it may be the same ones. */
static void build_release(struct schedule *s, struct build *b)
{
    memcpy(b->step->release, s->release, (size_t)s->n_release * sizeof *s->release);
    b->step->n_release = (size_t)s->n_release;
    s->n_release = 0;
}

int schedule_next(struct schedule *s, struct arena *mem, Muster__Step **step, struct err *err)
{
    *step = NULL;
    if (s->n_flights == s->flights_max || (s->n_running == 0 && s->waiting == NULL))
        return ERR_OK;
    struct build b;
    int rc = build_begin(s, mem, &b);
    for (int i = 0; i < s->lim.max_slots; i++)
        if (s->slot[i] != NULL)
            s->slot[i]->considered = s->slot[i]->in_step = false;
    admit(s);
    if (rc == ERR_OK)
        rc = add_decoding(s, &b);
    if (rc == ERR_OK)
        rc = add_known(s, &b);
    if (rc != ERR_OK)
        return err_set(err, rc, "a step does not fit its arena");
    if (b.step->n_runs == 0)
        return ERR_OK;
    build_release(s, &b);
    s->next_step++;
    s->steps++;
    s->n_flights++;
    *step = b.step;
    return ERR_OK;
}
