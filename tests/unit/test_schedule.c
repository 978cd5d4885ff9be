/* The scheduler against a fake worker, in tens of thousands of random histories: late answers, small
 * page pools, preemption, cancellations, stop tokens. The fake keeps a real KV table, so a page given
 * to two sequences, a row out of place or a wrong replay shows as a wrong token. */
#include "coordinator/schedule/schedule.h"
#include "proto/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SLOTS_MAX = 6, PAGES_MAX = 40, CONTEXT_MAX = 48, SEQS_MAX = 12, VOCAB = 50, QUEUE_MAX = 8 };

/* --- randomness of a history */
struct dice { uint64_t seed, at; };
static int roll(struct dice *d, int n)
{
    return (int)(philox_uniform(d->seed, d->at++, 0, 99) * (float)n);
}

/* What the model says after history [n]: any function of all of it will do. */
static int next_token(const int32_t *history, int n)
{
    uint64_t h = 1469598103934665603u;
    for (int i = 0; i < n; i++)
        h = (h ^ (uint64_t)(history[i] + 1)) * 1099511628211u;
    return (int)((h >> 20) % VOCAB);
}

/* --- the fake worker */
struct fake_slot { uint64_t ticket; int n_pages, n_fed, prompt; uint32_t page[CONTEXT_MAX]; int last;
                   bool by_token[CONTEXT_MAX];      /* fed as generated */
                   bool is_long; };
struct fake {
    const struct schedule_limits *lim;
    struct fake_slot slot[SLOTS_MAX];
    int32_t kv[PAGES_MAX][CONTEXT_MAX];     /* the token fed at each place */
    int owner[PAGES_MAX];                   /* slot + 1, 0 free */
};

static void fake_release(struct fake *f, uint32_t slot)
{
    assert_true(slot < (uint32_t)f->lim->max_slots);
    struct fake_slot *s = &f->slot[slot];
    assert_true(s->ticket != 0);
    for (int i = 0; i < s->n_pages; i++)
        f->owner[s->page[i]] = 0;
    memset(s, 0, sizeof *s);
}

/* Feeds one row and returns what would be sampled after it. */
static int fake_row(struct fake *f, struct fake_slot *s, int position, int token)
{
    assert_int_equal(position, s->n_fed);
    assert_true(position < f->lim->max_context);
    assert_true(position / f->lim->page_tokens < s->n_pages);
    int32_t history[CONTEXT_MAX];
    f->kv[s->page[position / f->lim->page_tokens]][position % f->lim->page_tokens] = token;
    s->n_fed++;
    if (f->lim->longrope_original > 0 && s->n_fed > f->lim->longrope_original)
        s->is_long = true;
    for (int i = 0; i <= position; i++)
        history[i] = f->kv[s->page[i / f->lim->page_tokens]][i % f->lim->page_tokens];
    return next_token(history, position + 1);
}

static void fake_run(struct fake *f, const Muster__Run *r, Muster__Token *t, size_t *n_tokens)
{
    assert_true(r->slot < (uint32_t)f->lim->max_slots);
    struct fake_slot *s = &f->slot[r->slot];
    assert_true(s->ticket != 0);
    for (size_t i = 0; i < r->n_new_pages; i++) {
        assert_true(r->new_pages[i] < (uint32_t)f->lim->kv_pages);
        assert_int_equal(f->owner[r->new_pages[i]], 0);
        f->owner[r->new_pages[i]] = (int)r->slot + 1;
        s->page[s->n_pages++] = r->new_pages[i];
    }
    int next = -1, rows = r->n_tokens == 0 ? 1 : (int)r->n_tokens;
    for (int i = 0; i < rows; i++) {
        int position = (int)r->position + i;
        int token = r->n_tokens == 0 ? s->last : (int)r->tokens[i];
        next = fake_row(f, s, position, token);
        s->by_token[position] = r->role != MUSTER__ROLE__ROLE_PROMPT;
        if (r->role == MUSTER__ROLE__ROLE_PROMPT)
            assert_true(position < s->prompt);
    }
    int least = (s->n_fed + f->lim->page_tokens - 1) / f->lim->page_tokens;
    assert_true(s->n_pages >= least && (r->n_new_pages == 0 || s->n_pages == least));
    if (!r->sample)
        return;
    s->last = next;
    muster__token__init(&t[*n_tokens]);
    t[*n_tokens].slot = r->slot;
    t[*n_tokens].sequence = s->ticket;
    t[*n_tokens].position = (uint32_t)s->n_fed;
    t[(*n_tokens)++].id = (uint32_t)next;
}

/* The slot's next sequence may keep rows of the one before: prompt rows, with keys of the same kind. */
static void fake_admit(struct fake *f, const Muster__Admit *a)
{
    assert_true(a->slot < (uint32_t)f->lim->max_slots);
    struct fake_slot *s = &f->slot[a->slot];
    bool is_long = f->lim->longrope_original > 0 && (int)a->prompt_tokens > f->lim->longrope_original;
    if (a->kept_rows == 0) {
        assert_true(s->ticket == 0);
    } else {
        assert_true(s->ticket != 0 && (int)a->kept_rows <= s->n_fed && a->kept_rows < a->prompt_tokens);
        assert_int_equal(s->is_long, is_long);
        for (uint32_t i = 0; i < a->kept_rows; i++)
            assert_false(s->by_token[i]);
    }
    s->n_fed = (int)a->kept_rows;
    s->ticket = a->sequence;
    s->prompt = (int)a->prompt_tokens;
    s->is_long = is_long;
}

static size_t fake_step(struct fake *f, const Muster__Step *step, Muster__Token *t)
{
    size_t n_tokens = 0;
    int rows = 0;
    for (size_t i = 0; i < step->n_release; i++)
        fake_release(f, step->release[i]);
    for (size_t i = 0; i < step->n_admits; i++)
        fake_admit(f, step->admits[i]);
    for (size_t i = 0; i < step->n_runs; i++) {
        rows += step->runs[i]->n_tokens == 0 ? 1 : (int)step->runs[i]->n_tokens;
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(step->runs[i]->slot, step->runs[j]->slot);
        fake_run(f, step->runs[i], t, &n_tokens);
    }
    assert_true(rows > 0 && rows <= f->lim->max_rows);
    return n_tokens;
}

/* --- one history */
struct story {
    struct dice dice;
    struct schedule_limits lim;
    struct schedule *s;
    struct fake fake;
    struct arena mem[QUEUE_MAX];
    Muster__Step *queue[QUEUE_MAX];         /* sent, not yet answered, oldest first */
    struct arena queue_mem[QUEUE_MAX];
    int n_queue;
    int n_seqs;
    struct { int32_t prompt[CONTEXT_MAX], got[CONTEXT_MAX]; int n_prompt, n_generate, n_got, stop;
             bool as_generated, logits, keep, submitted, cancelled; enum finish finish; } seq[SEQS_MAX];
};

static const Muster__Sampling sampling_default = MUSTER__SAMPLING__INIT;

static void story_begin(struct story *st, uint64_t seed)
{
    memset(st, 0, sizeof *st);
    st->dice.seed = seed;
    struct dice *d = &st->dice;
    st->lim = (struct schedule_limits){.max_slots = 1 + roll(d, SLOTS_MAX), .max_rows = 1 + roll(d, 24),
        .max_context = 8 + roll(d, CONTEXT_MAX - 8), .page_tokens = 1 + roll(d, 8),
        .n_stages = 1 + roll(d, 4), .steps_ahead = 1 + roll(d, 2), .logits_rows = roll(d, 4)};
    st->lim.chunk_rows = 1 + roll(d, st->lim.max_rows);
    st->lim.kv_pages = 4 + roll(d, PAGES_MAX - 4);
    st->lim.longrope_original = roll(d, 3) == 0 ? 4 + roll(d, CONTEXT_MAX) : 0;
    st->fake.lim = &st->lim;
    assert_int_equal(schedule_new(&st->s, &st->lim, NULL), ERR_OK);
    for (int i = 0; i < QUEUE_MAX; i++)
        assert_int_equal(arena_init(&st->queue_mem[i], 1 << 15), ERR_OK);
    st->n_seqs = 1 + roll(d, SEQS_MAX);
    for (int i = 0; i < st->n_seqs; i++) {
        st->seq[i].n_prompt = 1 + roll(d, st->lim.max_context);
        st->seq[i].n_generate = roll(d, st->lim.max_context - st->seq[i].n_prompt + 2);
        st->seq[i].logits = st->seq[i].n_generate == 0;
        st->seq[i].as_generated = roll(d, 4) == 0;
        st->seq[i].stop = roll(d, 2) == 0 ? roll(d, VOCAB) : -1;
        st->seq[i].keep = roll(d, 2) == 0;
        int alike = i > 0 && roll(d, 2) == 0 ? roll(d, CONTEXT_MAX) : 0;    /* as the one before begins */
        for (int k = 0; k < st->seq[i].n_prompt; k++)
            st->seq[i].prompt[k] = k < alike && k < st->seq[i - 1].n_prompt ? st->seq[i - 1].prompt[k]
                                                                            : roll(d, VOCAB);
    }
}

static void story_end(struct story *st)
{
    schedule_destroy(st->s);
    for (int i = 0; i < QUEUE_MAX; i++)
        arena_free(&st->queue_mem[i]);
}

static void story_submit(struct story *st, int i)
{
    struct schedule_request r = {.sequence = 1000 + (uint64_t)i, .prompt = st->seq[i].prompt,
        .n_prompt = st->seq[i].n_prompt, .n_generate = st->seq[i].n_generate,
        .as_generated = st->seq[i].as_generated, .all_logits = st->seq[i].logits, .keep = st->seq[i].keep,
        .sampling = st->seq[i].logits ? NULL : &sampling_default,
        .stop_ids = &st->seq[i].stop, .n_stop_ids = 1};
    int rows = r.n_prompt + (r.n_generate > 0 ? r.n_generate - 1 : 0);
    int fits = (rows + st->lim.page_tokens - 1) / st->lim.page_tokens <= st->lim.kv_pages;
    st->seq[i].submitted = true;
    struct err err = {0};
    int rc = schedule_submit(st->s, &r, &err);
    assert_int_equal(rc, fits ? ERR_OK : ERR_LIMIT);
    st->seq[i].cancelled = !fits;
}

static void story_issue(struct story *st)
{
    Muster__Step *step;
    struct arena *mem = &st->queue_mem[st->n_queue];
    if (st->n_queue == QUEUE_MAX)
        return;
    arena_reset(mem);
    assert_int_equal(schedule_next(st->s, mem, &step, NULL), ERR_OK);
    if (step != NULL) {
        st->queue[st->n_queue++] = step;
        assert_true(st->n_queue <= st->lim.n_stages + st->lim.steps_ahead - 1);
    } else if (st->n_queue == 0) {
        assert_true(schedule_idle(st->s));      /* with nothing in flight, there is always a way on */
    }
}

static void story_answer(struct story *st)
{
    if (st->n_queue == 0)
        return;
    Muster__Token token[SLOTS_MAX], *pointer[SLOTS_MAX];
    Muster__Tokens t = MUSTER__TOKENS__INIT;
    t.step = st->queue[0]->id;
    t.n_tokens = fake_step(&st->fake, st->queue[0], token);
    for (size_t i = 0; i < t.n_tokens; i++)
        pointer[i] = &token[i];
    t.tokens = pointer;
    struct schedule_token out[SLOTS_MAX];
    int n_out;
    struct err err = {0};
    if (schedule_tokens(st->s, &t, out, SLOTS_MAX, &n_out, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    for (int i = 0; i < n_out; i++) {
        int q = (int)out[i].sequence - 1000;
        assert_true(q >= 0 && q < st->n_seqs && !st->seq[q].cancelled);
        assert_int_equal(st->seq[q].finish, FINISH_NONE);
        st->seq[q].finish = out[i].finish;
        if (out[i].id < 0) {
            assert_true(st->seq[q].logits);
            continue;
        }
        assert_int_equal(out[i].position, st->seq[q].n_prompt + st->seq[q].n_got);
        st->seq[q].got[st->seq[q].n_got++] = out[i].id;
    }
    struct arena used = st->queue_mem[0];
    st->n_queue--;
    memmove(st->queue, st->queue + 1, (size_t)st->n_queue * sizeof *st->queue);
    memmove(st->queue_mem, st->queue_mem + 1, (QUEUE_MAX - 1) * sizeof *st->queue_mem);
    st->queue_mem[QUEUE_MAX - 1] = used;
}

static void check_sequence(const struct story *st, int i)
{
    int32_t history[2 * CONTEXT_MAX];
    int n = st->seq[i].n_prompt, expect = 0;
    memcpy(history, st->seq[i].prompt, (size_t)n * sizeof *history);
    enum finish f = FINISH_LENGTH;
    for (; expect < st->seq[i].n_generate && f == FINISH_LENGTH; expect++) {
        history[n] = next_token(history, n);
        if (expect < st->seq[i].n_got)
            assert_int_equal(st->seq[i].got[expect], history[n]);
        if (history[n++] == st->seq[i].stop)
            f = FINISH_STOP;
    }
    if (st->seq[i].cancelled) {
        assert_true(st->seq[i].n_got <= expect);
        return;
    }
    assert_int_equal(st->seq[i].n_got, expect);
    assert_int_equal(st->seq[i].finish, f);
}

/* Counts what the hard paths did. */
static void play(uint64_t seed, struct schedule_counts *sum)
{
    static struct story st;
    story_begin(&st, seed);
    struct dice *d = &st.dice;
    int submitted = 0, turns = 0;
    while (submitted < st.n_seqs || !schedule_idle(st.s)) {
        assert_true(turns++ < 20000);
        int what = roll(d, 8);
        if (what < 2 && submitted < st.n_seqs)
            story_submit(&st, submitted++);
        else if (what < 5)
            story_issue(&st);
        else if (what < 7 || submitted < st.n_seqs)
            story_answer(&st);
        else if (roll(d, 30) == 0) {
            int i = roll(d, st.n_seqs);
            if (st.seq[i].submitted && st.seq[i].finish == FINISH_NONE && !st.seq[i].cancelled) {
                schedule_cancel(st.s, 1000 + (uint64_t)i);
                st.seq[i].cancelled = true;
            }
        }
    }
    struct schedule_counts c = schedule_counts(st.s);
    int held = 0;       /* pages of the prompt that stays */
    for (int i = 0; i < st.lim.kv_pages; i++)
        held += st.fake.owner[i] != 0;
    assert_true(c.free_pages == st.lim.kv_pages || c.free_pages + held >= st.lim.kv_pages);
    assert_int_equal(c.waiting + c.running + c.in_flight, 0);
    for (int i = 0; i < st.n_seqs; i++)
        check_sequence(&st, i);
    story_end(&st);
    sum->preempted += c.preempted;
    sum->kept_rows += c.kept_rows;
}

static void test_random_histories(void **state)
{
    (void)state;
    struct schedule_counts sum = {0};
    for (uint64_t seed = 0; seed < 30000; seed++)
        play(seed, &sum);
    assert_true(sum.preempted > 1000);      /* the hard paths are walked, too */
    assert_true(sum.kept_rows > 1000);
}

/* --- the policy, in small */

static struct schedule_limits limits_plain(void)
{
    return (struct schedule_limits){.max_slots = 8, .max_rows = 64, .max_context = 128,
        .page_tokens = 16, .kv_pages = 64, .chunk_rows = 32, .n_stages = 1, .steps_ahead = 2};
}

static void submit_plain(struct schedule *s, uint64_t name, const int32_t *prompt, int n, int gen)
{
    struct schedule_request r = {.sequence = name, .prompt = prompt, .n_prompt = n,
        .n_generate = gen, .sampling = gen > 0 ? &sampling_default : NULL};
    assert_int_equal(schedule_submit(s, &r, NULL), ERR_OK);
}

static void test_two_steps_ahead_and_no_more(void **state)
{
    (void)state;
    struct schedule_limits lim = limits_plain();
    struct schedule *s;
    struct arena mem;
    Muster__Step *a, *b, *c;
    int32_t prompt[3] = {1, 2, 3};
    arena_init(&mem, 1 << 16);
    assert_int_equal(schedule_new(&s, &lim, NULL), ERR_OK);
    submit_plain(s, 7, prompt, 3, 10);
    schedule_next(s, &mem, &a, NULL);
    schedule_next(s, &mem, &b, NULL);
    schedule_next(s, &mem, &c, NULL);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(c);
    assert_int_equal(a->runs[0]->n_tokens, 3);
    assert_int_equal(a->runs[0]->role, MUSTER__ROLE__ROLE_PROMPT);
    assert_true(a->runs[0]->sample);
    assert_int_equal(b->runs[0]->n_tokens, 0);          /* the workers know it before we do */
    assert_int_equal(b->runs[0]->role, MUSTER__ROLE__ROLE_GENERATED);
    assert_int_equal(b->runs[0]->position, 3);
    schedule_destroy(s);
    arena_free(&mem);
}

static void test_every_stage_has_a_micro_batch(void **state)
{
    (void)state;
    struct schedule_limits lim = limits_plain();
    lim.n_stages = 3;
    struct schedule *s;
    struct arena mem;
    int32_t prompt[2] = {1, 2};
    arena_init(&mem, 1 << 18);
    assert_int_equal(schedule_new(&s, &lim, NULL), ERR_OK);
    for (uint64_t i = 0; i < 6; i++)
        submit_plain(s, i, prompt, 2, 20);
    Muster__Token token[8], *pointer[8];
    Muster__Step *queue[8] = {0};
    int n = 0, full = 0;
    for (int turn = 0; turn < 40; turn++) {
        Muster__Step *step;
        while (schedule_next(s, &mem, &step, NULL) == ERR_OK && step != NULL)
            queue[n++] = step;
        full += n >= 3;
        Muster__Tokens t = MUSTER__TOKENS__INIT;
        t.step = queue[0]->id;
        t.tokens = pointer;
        for (size_t i = 0; i < queue[0]->n_runs; i++) {
            muster__token__init(pointer[i] = &token[i]);
            token[i].slot = queue[0]->runs[i]->slot;
            token[i].sequence = token[i].slot + 1;      /* tickets count up from 1, as slots do */
            token[i].position = queue[0]->runs[i]->position +
                                (uint32_t)(queue[0]->runs[i]->n_tokens ? queue[0]->runs[i]->n_tokens : 1);
        }
        t.n_tokens = queue[0]->n_runs;
        struct schedule_token out[8];
        int n_out;
        assert_int_equal(schedule_tokens(s, &t, out, 8, &n_out, NULL), ERR_OK);
        memmove(queue, queue + 1, 7 * sizeof *queue);
        n--;
    }
    assert_true(full >= 36);        /* all but the start and the end */
    schedule_destroy(s);
    arena_free(&mem);
}

/* One token of the only run of `step`. */
static void answer_one(struct schedule *s, const Muster__Step *step, uint64_t ticket, uint32_t position)
{
    Muster__Token token = MUSTER__TOKEN__INIT, *pointer = &token;
    Muster__Tokens t = MUSTER__TOKENS__INIT;
    struct schedule_token out[8];
    int n_out;
    t.step = step->id;
    t.tokens = &pointer;
    t.n_tokens = 1;
    token.sequence = ticket;
    token.position = position;
    assert_int_equal(schedule_tokens(s, &t, out, 8, &n_out, NULL), ERR_OK);
}

/* A conversation: the second prompt begins with the first, its answer, and goes on. */
static void test_the_next_prompt_goes_on(void **state)
{
    (void)state;
    static const int32_t first[20] = {1, 2, 3}, second[40] = {1, 2, 3, [25] = 9}, other[5] = {7};
    struct schedule_limits lim = limits_plain();
    lim.max_slots = 1;
    lim.steps_ahead = 1;
    struct schedule *s;
    struct arena mem;
    Muster__Step *step;
    arena_init(&mem, 1 << 16);
    assert_int_equal(schedule_new(&s, &lim, NULL), ERR_OK);
    struct schedule_request r = {.sequence = 1, .prompt = first, .n_prompt = 20, .n_generate = 1,
                                 .keep = true, .sampling = &sampling_default};
    assert_int_equal(schedule_submit(s, &r, NULL), ERR_OK);
    schedule_next(s, &mem, &step, NULL);
    answer_one(s, step, 1, 20);
    assert_true(schedule_idle(s));
    r = (struct schedule_request){.sequence = 2, .prompt = second, .n_prompt = 40, .n_generate = 1,
                                  .keep = true, .sampling = &sampling_default};
    assert_int_equal(schedule_submit(s, &r, NULL), ERR_OK);
    schedule_next(s, &mem, &step, NULL);
    assert_int_equal(step->n_release, 0);
    assert_int_equal(step->admits[0]->kept_rows, 20);
    assert_int_equal(step->runs[0]->position, 20);
    assert_int_equal(step->runs[0]->n_tokens, 20);
    assert_int_equal(step->runs[0]->n_new_pages, 1);    /* 40 rows on 3 pages of 16, of which 2 were there */
    answer_one(s, step, 2, 40);
    submit_plain(s, 3, other, 5, 1);                    /* something else: nothing stays */
    schedule_next(s, &mem, &step, NULL);
    assert_int_equal(step->n_release, 1);
    assert_int_equal(step->admits[0]->kept_rows, 0);
    assert_int_equal(step->runs[0]->position, 0);
    assert_int_equal(schedule_counts(s).kept_rows, 20);
    schedule_destroy(s);
    arena_free(&mem);
}

static void test_answers_are_checked(void **state)
{
    (void)state;
    struct schedule_limits lim = limits_plain();
    struct schedule *s;
    struct arena mem;
    Muster__Step *step;
    int32_t prompt[3] = {1, 2, 3};
    arena_init(&mem, 1 << 16);
    assert_int_equal(schedule_new(&s, &lim, NULL), ERR_OK);
    struct schedule_token out[8];
    int n_out;
    Muster__Tokens t = MUSTER__TOKENS__INIT;
    t.step = 1;
    assert_int_equal(schedule_tokens(s, &t, out, 8, &n_out, NULL), ERR_PEER);
    submit_plain(s, 7, prompt, 3, 10);
    schedule_next(s, &mem, &step, NULL);
    assert_int_equal(schedule_tokens(s, &t, out, 8, &n_out, NULL), ERR_PEER);   /* token missing */
    Muster__Token token = MUSTER__TOKEN__INIT, *pointer[2] = {&token, &token};
    token.slot = step->runs[0]->slot;
    token.sequence = step->admits[0]->sequence;
    token.position = 3;
    t.tokens = pointer;
    t.n_tokens = 2;
    assert_int_equal(schedule_tokens(s, &t, out, 8, &n_out, NULL), ERR_PEER);   /* twice */
    schedule_destroy(s);
    arena_free(&mem);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct schedule_limits lim = limits_plain();
    struct schedule *s;
    struct err err = {0};
    assert_int_equal(schedule_new(&s, &lim, NULL), ERR_OK);
    struct schedule_request r = {.n_prompt = 0, .n_generate = 1, .sampling = &sampling_default};
    assert_int_equal(schedule_submit(s, &r, NULL), ERR_INVAL);
    r.n_prompt = 100;
    r.n_generate = 40;
    assert_int_equal(schedule_submit(s, &r, &err), ERR_LIMIT);
    assert_non_null(strstr(err.msg, "context of 128"));
    r.n_prompt = INT32_MAX;
    r.n_generate = INT32_MAX;
    assert_int_equal(schedule_submit(s, &r, NULL), ERR_LIMIT);
    schedule_destroy(s);
    lim.page_tokens = 0;
    assert_int_equal(schedule_new(&s, &lim, NULL), ERR_INVAL);
    assert_null(s);
    schedule_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_histories),
        cmocka_unit_test(test_two_steps_ahead_and_no_more),
        cmocka_unit_test(test_every_stage_has_a_micro_batch),
        cmocka_unit_test(test_the_next_prompt_goes_on),
        cmocka_unit_test(test_answers_are_checked),
        cmocka_unit_test(test_bad_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
