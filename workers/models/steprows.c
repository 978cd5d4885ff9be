#include "workers/models/steprows.h"

#include <stdlib.h>
#include <string.h>

size_t steprows_bytes(int max_rows)
{
    struct steprows s;
    return (size_t)max_rows * (sizeof *s.run + sizeof *s.op_run + sizeof *s.token + sizeof *s.wanted +
                               sizeof *s.score);
}

int steprows_init(struct steprows *s, int max_rows, int vocab, struct err *err)
{
    memset(s, 0, sizeof *s);
    if (max_rows < 1 || max_rows > 1 << 20)
        return err_set(err, ERR_INVAL, "steps of %d rows: it must be 1 to %d", max_rows, 1 << 20);
    size_t n = (size_t)max_rows;
    s->max_rows = max_rows;
    s->vocab = vocab;
    s->run = calloc(n, sizeof *s->run);
    s->op_run = calloc(n, sizeof *s->op_run);
    s->token = calloc(n, sizeof *s->token);
    s->wanted = calloc(n, sizeof *s->wanted);
    s->score = calloc(n, sizeof *s->score);
    if (s->run == NULL || s->op_run == NULL || s->token == NULL || s->wanted == NULL ||
        s->score == NULL) {
        steprows_free(s);
        return err_set(err, ERR_NOMEM, "no memory for the table of %d rows", max_rows);
    }
    return ERR_OK;
}

void steprows_free(struct steprows *s)
{
    free(s->run);
    free(s->op_run);
    free(s->token);
    free(s->wanted);
    free(s->score);
    memset(s, 0, sizeof *s);
}

static int check_tokens(const struct steprows *s, const struct slot *slot, const Muster__Run *run,
                        struct err *err)
{
    for (size_t i = 0; i < run->n_tokens; i++)
        if (run->tokens[i] >= (uint32_t)s->vocab)
            return err_set(err, ERR_PEER, "a step holds token %u; the vocabulary has %d",
                           run->tokens[i], s->vocab);
    for (size_t i = 0; i < run->n_targets; i++)
        if (run->targets[i] >= (uint32_t)s->vocab)
            return err_set(err, ERR_PEER, "a step asks for token %u; the vocabulary has %d",
                           run->targets[i], s->vocab);
    if (run->n_tokens == 0 && !slot->has_sampled)
        return err_set(err, ERR_PEER, "a step continues slot %u, where nothing was sampled yet",
                       run->slot);
    return ERR_OK;
}

/* Where the run lies in its sequence: no gap before it, pages under all of it. */
static int check_place(const struct slots *slots, const struct slot *slot, const Muster__Run *run,
                       int n_rows, struct err *err)
{
    int64_t end = (int64_t)run->position + n_rows;
    if (run->position > (uint32_t)slot->length)
        return err_set(err, ERR_PEER, "a step goes on at position %u of slot %u, which holds %d",
                       run->position, run->slot, slot->length);
    if (end > slots->context_max || end > (int64_t)slot->n_pages * slots->page_tokens)
        return err_set(err, ERR_PEER, "a step writes up to position %lld of slot %u, which has pages "
                       "for %lld of %d", (long long)end, run->slot,
                       (long long)slot->n_pages * slots->page_tokens, slots->context_max);
    return ERR_OK;
}

static int add_run(struct steprows *s, struct slots *slots, const Muster__Run *run, struct err *err)
{
    struct slot *slot = NULL;
    TRY(slots_find(slots, run->slot, &slot, err));
    int n = run->n_tokens > 0 ? (int)run->n_tokens : 1;
    if (run->n_tokens > (size_t)s->max_rows || n > s->max_rows - s->n_rows)
        return err_set(err, ERR_PEER, "a step has more than %d rows", s->max_rows);
    TRY(check_tokens(s, slot, run, err));
    TRY(check_place(slots, slot, run, n, err));
    if (run->sample && !slot->samples)
        return err_set(err, ERR_PEER, "a step samples slot %u, admitted without sampling", run->slot);
    if (run->n_targets > (size_t)n)
        return err_set(err, ERR_PEER, "a step asks for %zu tokens after %d rows", run->n_targets, n);
    struct steprow_run *r = &s->run[s->n_runs];
    *r = (struct steprow_run){.slot = slot, .slot_index = (int)run->slot, .row = s->n_rows,
                              .n_rows = n, .position = (int)run->position, .sample = run->sample,
                              .all_logits = run->all_logits, .continues = run->n_tokens == 0,
                              .logits_row = -1, .score_at = s->n_scores,
                              .n_scores = (int)run->n_targets};
    for (int i = 0; i < r->n_scores; i++)
        s->score[s->n_scores++] = (struct steprow_score){.row = r->row + n - r->n_scores + i,
                                                         .target = (int32_t)run->targets[i]};
    s->op_run[s->n_runs++] = (struct op_run){s->n_rows, n, r->position, slot->pages};
    for (int i = 0; i < n; i++) {
        s->token[s->n_rows + i] = r->continues ? -1 : (int32_t)run->tokens[i];
        slot->history[r->position + i] = s->token[s->n_rows + i];
        slot->generated[r->position + i] = run->role != MUSTER__ROLE__ROLE_PROMPT;
    }
    s->n_rows += n;
    s->n_samples += r->sample;
    s->n_returned += r->all_logits ? n : 0;
    slot->length = r->position + n;
    if (s->n_samples > slots->n)
        return err_set(err, ERR_PEER, "a step samples more than %d times", slots->n);
    return ERR_OK;
}

static void list_wanted(struct steprows *s)
{
    s->n_wanted = s->n_wanted_prompt = 0;
    for (int i = 0; i < s->n_runs; i++) {
        struct steprow_run *r = &s->run[i];
        int first = r->all_logits ? 0 : r->n_rows - 1;
        if (!r->all_logits && !r->sample)
            continue;
        r->logits_row = s->n_wanted;
        for (int k = first; k < r->n_rows; k++) {
            s->wanted[s->n_wanted++] = r->row + k;
            s->n_wanted_prompt += r->row + k < s->n_prompt;
        }
    }
}

int steprows_build(struct steprows *s, struct slots *slots, const Muster__Step *step, struct err *err)
{
    s->step = step->id;
    s->n_runs = s->n_rows = s->n_prompt = s->n_samples = s->n_returned = s->n_scores = 0;
    for (size_t i = 0; i < step->n_release; i++)
        TRY(slots_release(slots, step->release[i], err));
    for (size_t i = 0; i < step->n_admits; i++)
        TRY(slots_admit(slots, step->admits[i], err));
    for (size_t i = 0; i < step->n_runs; i++) {
        struct slot *slot = NULL;
        TRY(slots_find(slots, step->runs[i]->slot, &slot, err));
        TRY(slots_grow(slots, slot, step->runs[i]->new_pages, step->runs[i]->n_new_pages, err));
    }
    for (size_t i = 0; i < step->n_runs; i++)
        if (step->runs[i]->role == MUSTER__ROLE__ROLE_PROMPT)
            TRY(add_run(s, slots, step->runs[i], err));
    s->n_prompt = s->n_rows;
    for (size_t i = 0; i < step->n_runs; i++)
        if (step->runs[i]->role != MUSTER__ROLE__ROLE_PROMPT)
            TRY(add_run(s, slots, step->runs[i], err));
    list_wanted(s);
    return ERR_OK;
}

int steprows_again(struct steprows *s, const struct steprow_run *like, uint64_t step, int at, int end)
{
    const struct slot *slot = like->slot;
    int n = 0;
    while (at + n < end && n < s->max_rows && slot->generated[at + n] == slot->generated[at]) {
        s->token[n] = slot->history[at + n];
        n++;
    }
    s->step = step;
    s->n_rows = n;
    s->n_prompt = slot->generated[at] ? 0 : n;
    s->n_runs = 1;
    s->n_wanted = s->n_wanted_prompt = s->n_samples = s->n_returned = s->n_scores = 0;
    s->run[0] = (struct steprow_run){.slot = like->slot, .slot_index = like->slot_index, .n_rows = n,
                                     .position = at, .logits_row = -1};
    s->op_run[0] = (struct op_run){0, n, at, slot->pages};
    return n;
}
