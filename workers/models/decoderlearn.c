#include "workers/models/decoderlearn.h"

#include "workers/models/decoderstate.h"
#include "workers/models/learnops.h"
#include "workers/models/learnweights.h"

#include <stdlib.h>
#include <string.h>

/* What the layers call buffers are names here (learnops.h). */
enum name { NAME_X, NAME_H, NAME_Q, NAME_K, NAME_V, NAME_ATTENDED, NAME_PIECES, NAME_GATE, NAME_UP,
            NAME_LOGITS, NAME_COUNT };

struct decoderlearn {
    struct decoder d;           /* what decoderlayer.c looks at; the rest stays zero */
    struct decoder_weights w;
    struct mesh mesh;           /* of one rank: a layer is not cut */
    struct learnops ops;
    struct params *params;
    struct slot slot;           /* of every sequence: short, for longrope */
    float name[NAME_COUNT];
    int rows_cap;
    bool separate;              /* texts of a sequence do not see each other */
};

/* --- life */

static int check_learns(const struct model_config *c, const char *file, struct err *err)
{
    const char *what = c->sinks ? "attention sinks" : c->attn_softcap > 0 ? "capped attention scores"
                       : c->norm_plus_one ? "norms that store w - 1"
                       : c->act == ACT_SWIGLU_OSS ? "this activation" : NULL;
    for (int i = 0; i < c->n_layers && what == NULL; i++)
        what = c->layer[i].moe ? "experts" : c->layer[i].window > 0 ? "sliding windows" : NULL;
    if (what == NULL)
        return ERR_OK;
    return err_set(err, ERR_FORMAT, "%s: a %s with %s does not learn here (llama, mistral, qwen2 and qwen3 "
                   "without windows do)", file, c->arch, what);
}

static void name_buffers(struct decoder *d, float name[NAME_COUNT])
{
    float **place[NAME_COUNT] = {&d->x, &d->h, &d->q, &d->k, &d->v, &d->attended, &d->pieces, &d->gate,
                                 &d->up, &d->logits};
    for (int i = 0; i < NAME_COUNT; i++)
        *place[i] = &name[i];
}

static int prepare(struct decoderlearn *d, const struct model_config *c, const char *file,
                   struct err *err)
{
    d->mesh = (struct mesh){.tp = 1, .n_stages = 1, .layer_end = c->n_layers, .leaves = 1,
                            .segments = {0, 1}, .peer_segments = {{0, 1}}};
    d->d.c = c;
    d->d.m = &d->mesh;
    d->d.w = &d->w;
    d->d.is_first = d->d.is_last = true;
    d->d.ops.tape = &d->ops.tape;
    name_buffers(&d->d, d->name);
    TRY(check_learns(c, file, err));
    for (int i = 0; i < c->n_layers; i++)
        d->d.n_ropes = c->layer[i].rope + 1 > d->d.n_ropes ? c->layer[i].rope + 1 : d->d.n_ropes;
    for (int i = 0; i < d->d.n_ropes; i++)
        TRY(rope_init(&d->d.rope[i], &c->rope[i], c->n_rot, err));
    return learnweights_find(&d->w, c, d->params, file, err);
}

int decoderlearn_new(struct decoderlearn **out, const struct model_config *c, struct params *w,
                     const char *file, struct err *err)
{
    size_t size = (sizeof(struct decoderlearn) + 63) / 64 * 64;
    struct decoderlearn *d = aligned_alloc(64, size);
    *out = NULL;
    if (d == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a decoder");
    memset(d, 0, size);
    d->params = w;
    int rc = prepare(d, c, file, err);
    if (rc != ERR_OK) {
        decoderlearn_destroy(d);
        return rc;
    }
    *out = d;
    return ERR_OK;
}

static void free_rows(struct decoderlearn *d)
{
    steprows_free(&d->d.rows);
    free(d->d.owner);
    d->d.owner = NULL;
    for (int i = 0; i < 2; i++) {
        free(d->d.cosine[i]);
        free(d->d.sine[i]);
        d->d.cosine[i] = d->d.sine[i] = NULL;
    }
    d->rows_cap = 0;
}

void decoderlearn_destroy(struct decoderlearn *d)
{
    if (d == NULL)
        return;
    free_rows(d);
    for (int i = 0; i < 2; i++)
        rope_free(&d->d.rope[i]);
    learnweights_free(&d->w);
    free(d);
}

/* --- forward */

/* Tables for n rows; they only grow. */
static int make_rows(struct decoderlearn *d, int n, struct err *err)
{
    size_t angles = (size_t)n * (size_t)(d->d.c->n_rot / 2) * sizeof(float);
    if (n <= d->rows_cap)
        return ERR_OK;
    free_rows(d);
    TRY(steprows_init(&d->d.rows, n, d->d.c->vocab, err));
    d->d.owner = calloc((size_t)n, 1);
    bool ok = d->d.owner != NULL;
    for (int i = 0; i < d->d.n_ropes; i++) {
        d->d.cosine[i] = malloc(angles + 1);
        d->d.sine[i] = malloc(angles + 1);
        ok = ok && d->d.cosine[i] != NULL && d->d.sine[i] != NULL;
    }
    if (!ok)
        return err_set(err, ERR_NOMEM, "no memory for steps of %d tokens", n);
    d->rows_cap = n;
    return ERR_OK;
}

/* The rows of a step: each sequence a prompt from position 0, and the logits of all wanted. */
static void fill_rows(struct decoderlearn *d, const int32_t *ids, int sequences, int length)
{
    struct steprows *r = &d->d.rows;
    r->n_rows = r->n_prompt = r->n_wanted = r->n_wanted_prompt = sequences * length;
    r->n_runs = sequences;
    memcpy(r->token, ids, (size_t)r->n_rows * sizeof *ids);
    for (int i = 0; i < r->n_rows; i++)
        r->wanted[i] = i;
    for (int i = 0; i < sequences; i++) {
        r->run[i] = (struct steprow_run){.slot = &d->slot, .row = i * length, .n_rows = length};
        r->op_run[i] = (struct op_run){.row = i * length, .n_rows = length};
    }
}

void decoderlearn_separate(struct decoderlearn *d) { d->separate = true; }

static bool begins_text(const struct model_config *c, int32_t id)
{
    bool begins = id == c->bos;
    for (int i = 0; i < c->n_eos; i++)
        begins = begins || id == c->eos[i];
    return begins;
}

/* Where the text of each token begins in its sequence: [sequences, length], in nn's memory. */
static int32_t *text_starts(const struct decoderlearn *d, struct nn *nn, const int32_t *ids, int sequences,
                            int length)
{
    int32_t *first = nn_take(nn, (size_t)sequences * (size_t)length * sizeof *first);
    for (int64_t i = 0; i < (int64_t)sequences * length; i++) {
        int32_t at = (int32_t)(i % length);
        first[i] = at == 0 || begins_text(d->d.c, ids[i]) ? at : first[i - 1];
    }
    return first;
}

int decoderlearn_forward(struct decoderlearn *d, struct nn *nn, const int32_t *ids, int sequences,
                         int length, struct nn_tensor **logits, struct err *err)
{
    *logits = NULL;
    for (int64_t i = 0; i < (int64_t)sequences * length; i++)
        if (ids[i] < 0 || ids[i] >= d->d.c->vocab)
            return err_set(err, ERR_FORMAT, "token %d is not in a vocabulary of %d (another tokenizer?)",
                           ids[i], d->d.c->vocab);
    if ((int64_t)sequences * length > 1 << 20 || length > d->d.c->context)
        return err_set(err, ERR_LIMIT, "%d sequences of %d tokens: a step has at most %d tokens, "
                       "this model "
                       "reads %d", sequences, length, 1 << 20, d->d.c->context);
    TRY(make_rows(d, sequences * length, err));
    fill_rows(d, ids, sequences, length);
    learnops_begin(&d->ops, nn, d->params, length,
                   d->separate ? text_starts(d, nn, ids, sequences, length) : NULL);
    TRY(decoderlayer_embed(&d->d, err));
    TRY(decoderlayer_all(&d->d, err));
    decoderlayer_logits(&d->d, d->d.rows.wanted, d->d.rows.n_wanted, d->d.rows.n_wanted_prompt);
    *logits = learnops_value(&d->ops, d->d.logits);
    return ERR_OK;
}
