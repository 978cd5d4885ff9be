/* llmrun.h - runs a language model by hand-made steps, for tests: no coordinator, no text.
 * Ranks:  llmrun_open and the runs are collective on the workers of the layout. */
#ifndef MUSTER_TESTS_LLMRUN_H
#define MUSTER_TESTS_LLMRUN_H

#include "workers/models/decoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LLMRUN_SLOTS = 4, LLMRUN_CONTEXT = 256, LLMRUN_PAGE = 64, LLMRUN_ROWS = 192 };

struct llmrun {
    const struct model_config *c;
    struct mesh mesh;
    struct decoder_weights weights;
    struct decoder *decoder;
    struct comm *comm;
    bool sampler;               /* this rank gets the results */
    uint64_t step;
    int ranks[8 * MESH_TP_MAX], n_ranks;        /* of the layout */
};

#define LLMRUN_DO(expr)                                                                            \
    do {                                                                                           \
        struct err e_ = {0};                                                                       \
        struct err *err = &e_;                                                                     \
        if ((expr) != ERR_OK) {                                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, e_.msg);                            \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* The place of world rank `self` in a layout of tp x pp from rank `base` on; whether it has one.
 * uneven: ranks own 1, 2, ... parts of the segments instead of equal ones, stages 1, 2, ... parts of
 * the layers. */
static inline int llmrun_place(struct llmrun *r, const struct model_config *c, int tp, int pp, int base,
                               bool uneven, int self, int n_workers)
{
    Muster__StagePlan stage[8], *stages[8];
    uint32_t ranks[8][MESH_TP_MAX], ends[MESH_TP_MAX];
    r->n_ranks = 0;
    int leaves = split_leaves(tp), held = 0, parts = uneven ? tp * (tp + 1) / 2 : tp;
    for (int i = 0, at = 0; i < tp; i++) {
        at += uneven ? i + 1 : 1;
        ends[i] = (uint32_t)(leaves * at / parts);
    }
    for (int s = 0, at = 0, all = uneven ? pp * (pp + 1) / 2 : pp; s < pp; s++) {
        muster__stage_plan__init(&stage[s]);
        stages[s] = &stage[s];
        stage[s].layer_begin = (uint32_t)(c->n_layers * at / all);
        at += uneven ? s + 1 : 1;
        stage[s].layer_end = (uint32_t)(c->n_layers * at / all);
        for (int i = 0; i < tp; i++)
            ranks[s][i] = (uint32_t)(r->ranks[r->n_ranks++] = base + s * tp + i);
        stage[s].n_ranks = stage[s].n_segment_end = (size_t)tp;
        stage[s].ranks = ranks[s];
        stage[s].segment_end = ends;
    }
    Muster__ReplicaPlan replica = MUSTER__REPLICA_PLAN__INIT, *replicas = &replica;
    Muster__NetworkPlan network = MUSTER__NETWORK_PLAN__INIT, *networks = &network;
    Muster__Plan plan = MUSTER__PLAN__INIT;
    replica.n_stages = (size_t)pp;
    replica.stages = stages;
    network.name = (char *)"lm";
    network.tp = (uint32_t)tp;
    network.pp = (uint32_t)pp;
    network.dp = 1;
    network.n_replicas = 1;
    network.replicas = &replicas;
    plan.n_networks = 1;
    plan.networks = &networks;
    LLMRUN_DO(mesh_init(&r->mesh, &plan, 0, self, n_workers, c->n_layers, &held, err));
    return held;
}

static inline void llmrun_load(struct llmrun *r, const struct model_config *c, struct tensorfile *t,
                               struct comm *comm)
{
    r->c = c;
    r->comm = comm;
    r->sampler = r->mesh.tp_index == 0 && r->mesh.stage == r->mesh.n_stages - 1;
    LLMRUN_DO(decoder_weights_load(&r->weights, c, t, &r->mesh, comm, NULL, NULL, err));
}

static inline struct decoder_options llmrun_options(enum compute compute, enum dtype kv, int threads)
{
    struct decoder_options o = {.compute = compute, .kv_dtype = kv, .wire = WIRE_F32,
        .n_threads = threads, .max_rows = LLMRUN_ROWS, .max_slots = LLMRUN_SLOTS,
        .max_context = LLMRUN_CONTEXT, .page_tokens = LLMRUN_PAGE,
        .kv_pages = LLMRUN_SLOTS * LLMRUN_CONTEXT / LLMRUN_PAGE};
    LLMRUN_DO(isa_choose(&o.isa, err));
    return o;
}

/* Ends a decoder once every rank is through its steps: what one sends, another has then received. */
static inline void llmrun_end(struct llmrun *r)
{
    if (r->decoder != NULL)
        LLMRUN_DO(comm_agree(r->comm, r->ranks, r->n_ranks, ERR_OK, err));
    decoder_destroy(r->decoder);
    r->decoder = NULL;
}

static inline void llmrun_start(struct llmrun *r, const struct decoder_options *o)
{
    llmrun_end(r);
    LLMRUN_DO(decoder_new(&r->decoder, r->c, &r->weights, &r->mesh, r->comm, o, err));
}

static inline void llmrun_free(struct llmrun *r)
{
    llmrun_end(r);
    decoder_weights_free(&r->weights);
    memset(r, 0, sizeof *r);
}

/* --- steps */

/* A step under construction: everything it points to. */
struct llmstep {
    Muster__Step step;
    Muster__Run run[LLMRUN_SLOTS], *runs[LLMRUN_SLOTS];
    Muster__Admit admit[LLMRUN_SLOTS], *admits[LLMRUN_SLOTS];
    uint32_t token[LLMRUN_SLOTS][LLMRUN_CONTEXT], page[LLMRUN_SLOTS][LLMRUN_CONTEXT / LLMRUN_PAGE];
    uint32_t release[LLMRUN_SLOTS];
};

static inline void llmstep_init(struct llmstep *s, uint64_t id)
{
    muster__step__init(&s->step);
    s->step.id = id;
    s->step.runs = s->runs;
    s->step.admits = s->admits;
    s->step.release = s->release;
}

/* Admits slot's sequence; its pages, all that it can ever need, come with its first run. */
static inline void llmstep_admit(struct llmstep *s, int slot, int n_prompt, Muster__Sampling *sampling)
{
    Muster__Admit *a = &s->admit[s->step.n_admits];
    muster__admit__init(a);
    a->slot = (uint32_t)slot;
    a->sequence = 100 + (uint64_t)slot;
    a->prompt_tokens = (uint32_t)n_prompt;
    a->sampling = sampling;
    s->admits[s->step.n_admits++] = a;
}

static inline Muster__Run *llmstep_run(struct llmstep *s, int slot, int position, int n, bool generated)
{
    size_t i = s->step.n_runs++;
    Muster__Run *run = &s->run[i];
    muster__run__init(run);
    run->slot = (uint32_t)slot;
    run->position = (uint32_t)position;
    run->role = generated ? MUSTER__ROLE__ROLE_GENERATED : MUSTER__ROLE__ROLE_PROMPT;
    run->n_tokens = (size_t)n;
    run->tokens = s->token[i];
    if (position == 0) {
        run->n_new_pages = LLMRUN_CONTEXT / LLMRUN_PAGE;
        run->new_pages = s->page[i];
        for (uint32_t k = 0; k < run->n_new_pages; k++)     /* slots' pages interleave */
            s->page[i][k] = k * LLMRUN_SLOTS + (uint32_t)slot;
    }
    s->runs[i] = run;
    return run;
}

static inline void llmrun_step(struct llmrun *r, struct llmstep *s, struct decoder_result *out)
{
    LLMRUN_DO(decoder_step(r->decoder, &s->step, out, err));
}

static inline void llmrun_release(struct llmrun *r, int n)
{
    struct llmstep s = {0};
    struct decoder_result out;
    llmstep_init(&s, r->step++);
    for (int i = 0; i < n; i++)
        s.release[s.step.n_release++] = (uint32_t)i;
    llmrun_step(r, &s, &out);
}

/* Logits of n sequences of `len` ids fed side by side, `chunk` positions in a step; logits [n][len]
 * [vocab], written on the sampler. */
static inline void llmrun_logits(struct llmrun *r, const int64_t *ids, int n, int len, int chunk,
                                 bool generated, float *logits)
{
    for (int at = 0; at < len; at += chunk) {
        static struct llmstep s;
        struct decoder_result out;
        int rows = len - at < chunk ? len - at : chunk;
        memset(&s, 0, sizeof s);
        llmstep_init(&s, r->step++);
        for (int i = 0; i < n; i++) {
            if (at == 0)
                llmstep_admit(&s, i, len, NULL);
            Muster__Run *run = llmstep_run(&s, i, at, rows, generated);
            run->all_logits = true;
            for (int k = 0; k < rows; k++)
                run->tokens[k] = (uint32_t)ids[(int64_t)i * len + at + k];
        }
        llmrun_step(r, &s, &out);
        for (int i = 0; r->sampler && i < out.n_logits; i++)
            memcpy(logits + ((int64_t)out.logits[i].slot * len + out.logits[i].position) * r->c->vocab,
                   out.logits[i].data, sizeof(float) * (size_t)out.logits[i].rows * (size_t)r->c->vocab);
    }
    llmrun_release(r, n);
}

/* Sequence 0, `begin` ids as a prompt in chunks of 20, then the others `chunk` at a time; admitted with
 * the length of the prompt. logits [len][vocab]. */
static inline void llmrun_grow(struct llmrun *r, const int64_t *ids, int begin, int len, int chunk,
                               float *logits)
{
    for (int at = 0, rows; at < len; at += rows) {
        static struct llmstep s;
        struct decoder_result out;
        int end = at < begin ? begin : len, most = at < begin ? 20 : chunk;
        rows = end - at < most ? end - at : most;
        memset(&s, 0, sizeof s);
        llmstep_init(&s, r->step++);
        if (at == 0)
            llmstep_admit(&s, 0, begin, NULL);
        Muster__Run *run = llmstep_run(&s, 0, at, rows, at >= begin);
        run->all_logits = true;
        for (int k = 0; k < rows; k++)
            run->tokens[k] = (uint32_t)ids[at + k];
        llmrun_step(r, &s, &out);
        for (int i = 0; r->sampler && i < out.n_logits; i++)
            memcpy(logits + (int64_t)out.logits[i].position * r->c->vocab, out.logits[i].data,
                   sizeof(float) * (size_t)out.logits[i].rows * (size_t)r->c->vocab);
    }
    llmrun_release(r, 1);
}

/* Continues n prompts of `len` ids by n_new tokens each, in one batch, sampled by sampling [n]; tokens
 * [n][n_new] on the sampler. chunk: prompt positions in a step. */
static inline void llmrun_generate(struct llmrun *r, const int32_t *prompt, int n, int len, int chunk,
                                   int n_new, Muster__Sampling *const *sampling, int32_t *tokens)
{
    for (int at = 0; at < len + n_new - 1;) {
        static struct llmstep s;
        struct decoder_result out;
        int rows = at >= len ? 1 : len - at < chunk ? len - at : chunk;
        memset(&s, 0, sizeof s);
        llmstep_init(&s, r->step++);
        for (int i = 0; i < n; i++) {
            if (at == 0)
                llmstep_admit(&s, i, len, sampling[i]);
            Muster__Run *run = llmstep_run(&s, i, at, at < len ? rows : 0, at >= len);
            run->sample = at + rows >= len;
            for (int k = 0; k < rows && at < len; k++)
                run->tokens[k] = (uint32_t)prompt[i * len + at + k];
        }
        llmrun_step(r, &s, &out);
        for (int i = 0; r->sampler && i < out.n_tokens; i++)
            tokens[out.token[i].slot * n_new + out.token[i].position - len] = out.token[i].id;
        at += rows;
    }
    llmrun_release(r, n);
}

#endif
