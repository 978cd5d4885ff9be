/* schedulekeep.c - the prompt that stays when its sequence ends.
 * Why:    a conversation's next prompt is the last one and a little more; to read it all again makes every
 *         answer begin later than the one before.
 * Rule:   only rows that were prompt rows serve a prompt. Those of generated tokens may have come from
 *         other kernels, so the answer is read once more, as a part of the next prompt: what comes out is
 *         what the whole conversation gives when it is read anew. */
#include "coordinator/schedule/schedulestate.h"

#include <string.h>

static bool is_long(const struct schedule *s, int rows)
{
    return s->lim.longrope_original > 0 && rows > s->lim.longrope_original;
}

void schedulestate_keep(struct schedule *s, struct sequence *q)
{
    int n = q->fed < q->r.n_prompt ? q->fed : q->r.n_prompt;
    bool outgrown = is_long(s, q->fed) != is_long(s, q->r.n_prompt);
    if (!q->announced || q->r.as_generated || outgrown || n == 0) {
        schedulestate_leave(s, q);
        return;
    }
    schedulestate_drop(s);
    struct kept *k = &s->kept;
    k->slot = q->slot;
    k->n_pages = q->n_pages;
    k->n = n;
    k->is_long = is_long(s, q->r.n_prompt);
    memcpy(k->token, q->r.prompt, (size_t)n * sizeof *k->token);
    s->slot[q->slot] = NULL;
    s->n_running--;
    q->slot = -1;
    q->n_pages = 0;
}

int schedulestate_kept_rows(const struct schedule *s, const struct sequence *q)
{
    const struct kept *k = &s->kept;
    if (k->slot < 0 || q->r.as_generated || q->r.all_logits || q->r.n_targets > 0 ||
        k->is_long != is_long(s, q->r.n_prompt))
        return 0;
    int most = k->n < q->r.n_prompt - 1 ? k->n : q->r.n_prompt - 1, n = 0;
    while (n < most && k->token[n] == q->r.prompt[n])
        n++;
    return n;
}

bool schedulestate_drop(struct schedule *s)
{
    struct kept *k = &s->kept;
    if (k->slot < 0)
        return false;
    const uint32_t *page = s->slot_page + (size_t)k->slot * (size_t)s->pages_per_slot;
    for (int i = k->n_pages - 1; i >= 0; i--)
        s->free_page[s->n_free++] = page[i];
    s->release[s->n_release++] = (uint32_t)k->slot;
    k->slot = -1;
    return true;
}
