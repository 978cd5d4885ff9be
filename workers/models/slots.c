#include "workers/models/slots.h"

#include <stdlib.h>
#include <string.h>

static int pages_for(int context_max, int page_tokens)
{
    return (int)(((int64_t)context_max + page_tokens - 1) / page_tokens);
}

size_t slots_bytes(int n, int context_max, int page_tokens)
{
    size_t each = (size_t)pages_for(context_max, page_tokens) + (size_t)context_max;
    return (size_t)n * (sizeof(struct slot) + each * sizeof(int32_t) + (size_t)context_max);
}

int slots_init(struct slots *s, int n, int context_max, int page_tokens, int n_pages, int vocab,
               int longrope_original, struct err *err)
{
    memset(s, 0, sizeof *s);
    if (n < 1 || context_max < 1 || page_tokens < 1 || n > 1 << 20 || context_max > 1 << 28)
        return err_set(err, ERR_INVAL, "%d sequences of %d tokens: both must be positive and sane", n,
                       context_max);
    size_t each = (size_t)pages_for(context_max, page_tokens) + (size_t)context_max;
    s->slot = calloc((size_t)n, sizeof *s->slot);
    s->tables = calloc((size_t)n * each, sizeof *s->tables);    /* pages come to life when written */
    s->roles = calloc((size_t)n, (size_t)context_max);
    if (s->slot == NULL || s->tables == NULL || s->roles == NULL) {
        slots_free(s);
        return err_set(err, ERR_NOMEM, "no memory for the tables of %d sequences of %d tokens", n,
                       context_max);
    }
    s->n = n;
    s->pages_max = pages_for(context_max, page_tokens);
    s->context_max = context_max;
    s->page_tokens = page_tokens;
    s->n_pages = n_pages;
    s->vocab = vocab;
    s->longrope_original = longrope_original;
    for (int i = 0; i < n; i++) {
        s->slot[i].pages = s->tables + (size_t)i * each;
        s->slot[i].history = s->slot[i].pages + s->pages_max;
        s->slot[i].generated = s->roles + (size_t)i * (size_t)context_max;
    }
    return ERR_OK;
}

static void forget(struct slot *slot)
{
    free(slot->bias_token);
    free(slot->bias_value);
    struct slot empty = {.pages = slot->pages, .history = slot->history,
                         .generated = slot->generated};
    *slot = empty;
}

void slots_free(struct slots *s)
{
    for (int i = 0; s->slot != NULL && i < s->n; i++)
        forget(&s->slot[i]);
    free(s->slot);
    free(s->tables);
    free(s->roles);
    memset(s, 0, sizeof *s);
}

int slots_find(struct slots *s, uint32_t index, struct slot **slot, struct err *err)
{
    if (index >= (uint32_t)s->n || !s->slot[index].used)
        return err_set(err, ERR_PEER, "a step names slot %u of %d, which holds no sequence", index,
                       s->n);
    *slot = &s->slot[index];
    return ERR_OK;
}

int slots_release(struct slots *s, uint32_t index, struct err *err)
{
    struct slot *slot = NULL;
    TRY(slots_find(s, index, &slot, err));
    forget(slot);
    return ERR_OK;
}

/* Copies the parameters of a message. Fields that proto3 leaves at 0 and that cannot be 0 are off. */
static int copy_params(struct slot *slot, const Muster__Sampling *m, int vocab, struct err *err)
{
    if (m->top_k > INT32_MAX || m->no_repeat_ngram > INT32_MAX || m->n_logprobs > INT32_MAX ||
        m->n_bias > (size_t)vocab)
        return err_set(err, ERR_PEER, "an admission's sampling parameters are out of range");
    struct sampler_params *p = &slot->params;
    *p = (struct sampler_params){
        .temperature = m->temperature, .top_p = m->top_p > 0 ? m->top_p : 1, .min_p = m->min_p,
        .typical_p = m->typical_p > 0 ? m->typical_p : 1,
        .repeat_penalty = m->repeat_penalty > 0 ? m->repeat_penalty : 1,
        .presence_penalty = m->presence_penalty, .frequency_penalty = m->frequency_penalty,
        .top_k = (int)m->top_k, .no_repeat_ngram = (int)m->no_repeat_ngram,
        .n_logprobs = (int)m->n_logprobs, .seed = m->seed};
    if (m->n_bias > 0) {
        slot->bias_token = malloc(m->n_bias * sizeof *slot->bias_token);
        slot->bias_value = malloc(m->n_bias * sizeof *slot->bias_value);
        if (slot->bias_token == NULL || slot->bias_value == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %zu logit biases", m->n_bias);
        for (size_t i = 0; i < m->n_bias; i++) {
            slot->bias_token[i] = m->bias[i]->token;
            slot->bias_value[i] = m->bias[i]->value;
        }
        p->n_bias = (int)m->n_bias;
        p->bias_token = slot->bias_token;
        p->bias_value = slot->bias_value;
    }
    return sampler_params_check(p, vocab, err);
}

/* Leaves the first rows of the sequence that the slot held, with their pages. Only rows of a prompt serve
 * another prompt: those of generated tokens came from other kernels. */
static int keep_rows(struct slot *slot, const Muster__Admit *a, bool is_long, struct err *err)
{
    uint32_t n = a->kept_rows;
    if (!slot->used || n > (uint32_t)slot->length || n >= a->prompt_tokens || slot->is_long != is_long ||
        memchr(slot->generated, 1, n) != NULL)
        return err_set(err, ERR_PEER, "a step keeps %u rows of slot %u that do not serve the new sequence", n,
                       a->slot);
    int n_pages = slot->n_pages;
    forget(slot);
    slot->n_pages = n_pages;
    slot->length = (int)n;
    return ERR_OK;
}

int slots_admit(struct slots *s, const Muster__Admit *a, struct err *err)
{
    if (a->slot >= (uint32_t)s->n || (s->slot[a->slot].used && a->kept_rows == 0))
        return err_set(err, ERR_PEER, "a step admits to slot %u of %d, which is not free", a->slot,
                       s->n);
    if (a->prompt_tokens > (uint32_t)s->context_max)
        return err_set(err, ERR_PEER, "a sequence of %u tokens is admitted; %d is the limit",
                       a->prompt_tokens, s->context_max);
    struct slot *slot = &s->slot[a->slot];
    bool is_long = s->longrope_original > 0 && a->prompt_tokens > (uint32_t)s->longrope_original;
    if (a->kept_rows > 0)
        TRY(keep_rows(slot, a, is_long, err));
    slot->used = true;
    slot->sequence = a->sequence;
    slot->n_prompt = (int)a->prompt_tokens;
    slot->is_long = is_long;
    if (a->sampling == NULL)
        return ERR_OK;
    slot->samples = true;
    int rc = copy_params(slot, a->sampling, s->vocab, err);
    if (rc != ERR_OK)
        forget(slot);
    return rc;
}

int slots_grow(struct slots *s, struct slot *slot, const uint32_t *pages, size_t n, struct err *err)
{
    if (n > (size_t)(s->pages_max - slot->n_pages))
        return err_set(err, ERR_PEER, "a step gives a sequence more than %d pages", s->pages_max);
    for (size_t i = 0; i < n; i++) {
        if (pages[i] >= (uint32_t)s->n_pages)
            return err_set(err, ERR_PEER, "a step names key/value page %u of %d", pages[i], s->n_pages);
        slot->pages[slot->n_pages++] = (int32_t)pages[i];
    }
    return ERR_OK;
}
