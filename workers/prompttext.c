#include "workers/prompttext.h"

#include "workers/models/imagefamily.h"
#include "workers/models/textfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* TOKENS_MAX: what PixArt-Sigma was trained with, the most of any. JOINT_TOKENS: of T5 in diffusers' SD3. */
enum { CONFIG_MAX = 1 << 20, VOCAB_MAX = 16 << 20, TOKENS_MAX = 300, JOINT_TOKENS = 256 };

/* --- which encoders */

static bool takes(const struct imagepart *p, const char *name)
{
    for (int i = 0; i < FAMILY_INPUTS_MAX && p->family->input[i].name != NULL; i++)
        if (strcmp(p->family->input[i].name, name) == 0)
            return true;
    return false;
}

static json_t *json_of(const char *folder, const char *name, size_t most)
{
    char *text = NULL;
    size_t n;
    struct err none = {0};
    if (textfile_read(folder, name, most, false, &text, &n, &none) != ERR_OK || text == NULL)
        return NULL;
    json_t *o = json_loads(text, 0, NULL);
    free(text);
    return o;
}

static int64_t whole_under(const json_t *o, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

/* How long prompts are is the tokenizer's to say; published folders say numbers that stand for "any". */
static int longest(const json_t *config, int most)
{
    int64_t n = whole_under(config, "model_max_length", most);
    return n >= 2 && n < most ? (int)n : most;
}

/* Ids by their texts: vocab.json, or what tokenizer.json holds of it. */
static json_t *vocabulary(const char *folder)
{
    json_t *vocab = json_of(folder, "vocab.json", VOCAB_MAX);
    if (vocab != NULL)
        return vocab;
    json_t *all = json_of(folder, "tokenizer.json", VOCAB_MAX);
    vocab = json_incref(json_object_get(json_object_get(all, "model"), "vocab"));
    json_decref(all);
    return vocab;
}

/* The id of "bos_token" and the like, which a configuration spells as a text or as {"content": text}. */
static int special(const json_t *config, const json_t *vocab, const char *key, int otherwise)
{
    const json_t *v = json_object_get(config, key);
    const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
    return text != NULL ? (int)whole_under(vocab, text, otherwise) : otherwise;
}

/* One encoder of the model, its tokens as the tokenizer's folder tells. Published CLIP configurations name
 * wrong ids for begin, end and padding, so `joint` ones go by the vocabulary. */
static void describe(struct prompttext_encoder *e, const struct imagemodel *m, bool joint)
{
    char folder[4096];
    bool t5 = takes(e->part, "mask");
    snprintf(folder, sizeof folder, "%.3800s/%.60s", m->path, e->tokenizer);
    json_t *config = json_of(folder, "tokenizer_config.json", CONFIG_MAX);
    json_t *vocab = joint && !t5 ? vocabulary(folder) : NULL;
    const struct imagefacts *f = &e->part->facts;
    e->tokens = t5      ? longest(config, joint ? JOINT_TOKENS : TOKENS_MAX)
                : joint ? longest(config, f->tokens) : f->tokens;
    e->bos = t5 ? -1 : special(config, vocab, "bos_token", f->bos);
    e->eos = t5 ? (int)whole_under(e->part->config, "eos_token_id", 1)
                : special(config, vocab, "eos_token", f->eos);
    e->pad = t5 ? 0 : special(config, vocab, "pad_token", f->pad);
    json_decref(config);
    json_decref(vocab);
}

static int open_one(struct prompttext *t, struct imagemodel *m, const struct imagepart *denoiser,
                    struct err *err)
{
    const struct imagefacts *d = &denoiser->facts;
    struct prompttext_encoder *e = &t->encoder[0];
    e->part = imagemodel_role(m, IMAGE_TEXT);
    e->tokenizer = "tokenizer";
    t->n = 1;
    if (e->part == NULL || e->part->facts.text_width != d->text_width ||
        (d->pooled_width > 0 && e->part->facts.pooled_width != d->pooled_width))
        return err_set(err, ERR_FORMAT, "%s: text of width %d (projection %d), the denoiser wants %d (%d)",
                       e->part != NULL ? e->part->file : m->path,
                       e->part != NULL ? e->part->facts.text_width : 0,
                       e->part != NULL ? e->part->facts.pooled_width : 0, d->text_width, d->pooled_width);
    describe(e, m, false);
    t->rows = e->tokens;
    return ERR_OK;
}

static bool is_kind(const struct imagepart *p, const char *kind)
{
    return p != NULL && p->family != NULL && strcmp(p->family->kind, kind) == 0;
}

/* SD3's. */
static int open_joint(struct prompttext *t, struct imagemodel *m, const struct imagepart *denoiser,
                      struct err *err)
{
    static const char *const names[][2] = {{"text_encoder", "tokenizer"}, {"text_encoder_2", "tokenizer_2"},
                                           {"text_encoder_3", "tokenizer_3"}};
    static const char CLIP[] = "CLIPTextModelWithProjection";
    struct prompttext_encoder *e = t->encoder;
    for (t->n = 0; t->n < PROMPTTEXT_MAX; t->n++) {
        e[t->n].part = imagemodel_part(m, names[t->n][0]);
        e[t->n].tokenizer = names[t->n][1];
        if (e[t->n].part != NULL && e[t->n].part->family != NULL)
            describe(&e[t->n], m, true);
    }
    if (!is_kind(e[0].part, CLIP) || !is_kind(e[1].part, CLIP) ||
        (e[2].part != NULL && !is_kind(e[2].part, "T5EncoderModel")))
        return err_set(err, ERR_FORMAT, "%s: with a text_encoder_2 the first two text encoders are %s, the "
                       "third a T5EncoderModel or left out", m->path, CLIP);
    const struct imagefacts *a = &e[0].part->facts, *b = &e[1].part->facts, *d = &denoiser->facts;
    int t5_width = e[2].part != NULL ? e[2].part->facts.text_width : d->text_width;
    if (a->text_width + b->text_width > d->text_width || t5_width != d->text_width ||
        a->pooled_width + b->pooled_width != d->pooled_width || e[0].tokens > b->tokens)
        return err_set(err, ERR_FORMAT, "%s: text encoders of width %d + %d and %d (projections %d + %d), "
                       "the denoiser wants %d (%d)", m->path, a->text_width, b->text_width, t5_width,
                       a->pooled_width, b->pooled_width, d->text_width, d->pooled_width);
    e[1].tokens = e[0].tokens;
    if (e[2].part == NULL)
        e[2].tokens = JOINT_TOKENS;
    t->rows = e[0].tokens + e[2].tokens;
    return ERR_OK;
}

int prompttext_open(struct prompttext *t, struct imagemodel *m, const struct imagepart *denoiser,
                    struct err *err)
{
    memset(t, 0, sizeof *t);
    if (denoiser->facts.text_width == 0)
        return ERR_OK;
    t->width = denoiser->facts.text_width;
    t->pooled = denoiser->facts.pooled_width;
    t->masked = takes(denoiser, "mask");
    return imagemodel_part(m, "text_encoder_2") != NULL ? open_joint(t, m, denoiser, err)
                                                        : open_one(t, m, denoiser, err);
}

int prompttext_load(struct prompttext *t, struct err *err)
{
    for (int i = 0; i < t->n; i++)
        if (t->encoder[i].part != NULL)
            TRY(imagepart_load(t->encoder[i].part, err));
    return ERR_OK;
}

uint64_t prompttext_parameters(const struct prompttext *t)
{
    uint64_t n = 0;
    for (int i = 0; i < t->n; i++)
        n += t->encoder[i].part != NULL ? t->encoder[i].part->parameters : 0;
    return n;
}

int64_t prompttext_floats(const struct prompttext *t)
{
    return (int64_t)t->rows * (t->width + t->masked) + t->pooled;
}

int prompttext_ids_max(const struct prompttext *t)
{
    int n = 0;
    for (int i = 0; i < t->n; i++)
        n += t->encoder[i].part != NULL ? t->encoder[i].tokens + (t->n > 1) : 0;
    return n;
}

/* --- encoding */

int prompttext_pad(struct nn *nn, int tokens, int pad, const uint32_t *ids, int n, struct imagetensors *in,
                   struct err *err)
{
    if (n < 1 || n > tokens)
        return err_set(err, ERR_INVAL, "a prompt of %d tokens; the text encoder takes 1 to %d", n, tokens);
    nn_reset(nn);
    float *padded = nn_take(nn, (size_t)tokens * sizeof *padded);
    for (int i = 0; i < tokens; i++)
        padded[i] = i < n ? (float)ids[i] : (float)pad;
    imagetensors_put(in, "ids", padded, 2, (const int64_t[]){1, tokens});
    return ERR_OK;
}

/* Runs encoder e on ids [n], padded: its answer in nn's memory. mask [tokens]: filled where it is wanted. */
static int run(const struct prompttext_encoder *e, struct nn *nn, const uint32_t *ids, int n, float *mask,
               struct imagetensors *answer, struct err *err)
{
    struct imagetensors in = {.n = 0};
    const int64_t shape[2] = {1, e->tokens}, one = 1;
    float yes = 1;
    TRY(prompttext_pad(nn, e->tokens, e->pad, ids, n, &in, err));
    imagetensors_put(&in, "penultimate", &yes, 1, &one);
    if (mask != NULL) {
        for (int i = 0; i < e->tokens; i++)
            mask[i] = i < n;
        imagetensors_put(&in, "mask", mask, 2, shape);
    }
    return imagepart_run(e->part, nn, &in, answer, err);
}

/* `name` of an answer, [rows, width], into rows of `stride` floats. */
static int take_rows(const struct prompttext_encoder *e, const struct imagetensors *answer, const char *name,
                     int rows, int width, float *out, int stride, struct err *err)
{
    const struct imagetensor *y = imagetensors_find(answer, name);
    if (y == NULL || y->n != (int64_t)rows * width)
        return err_set(err, ERR_FORMAT, "%s: no %s in its answer, or of another size than it said",
                       e->part->file, name);
    for (int i = 0; i < rows; i++)
        memcpy(out + (int64_t)i * stride, y->data + (int64_t)i * width, (size_t)width * sizeof *out);
    return ERR_OK;
}

static int encode_one(struct prompttext *t, struct nn *nn, const uint32_t *ids, int n, float *out,
                      struct err *err)
{
    struct imagetensors answer = {.n = 0};
    const struct prompttext_encoder *e = &t->encoder[0];
    float *pooled = out + (int64_t)t->rows * t->width, *mask = pooled + t->pooled;
    TRY(run(e, nn, ids, n, t->masked ? mask : NULL, &answer, err));
    TRY(take_rows(e, &answer, "hidden", t->rows, t->width, out, t->width, err));
    if (t->pooled == 0)
        return ERR_OK;
    return take_rows(e, &answer, "text_embeds", 1, t->pooled, pooled, t->pooled, err);
}

static int encode_joint(struct prompttext *t, struct nn *nn, const uint32_t *ids, int n, float *out,
                        struct err *err)
{
    const struct prompttext_encoder *e = t->encoder;
    float *pooled = out + (int64_t)t->rows * t->width, *context = out;
    int at = 0;
    memset(out, 0, (size_t)prompttext_floats(t) * sizeof *out);
    for (int i = 0; i < t->n; i++) {
        struct imagetensors answer = {.n = 0};
        if (e[i].part == NULL)
            continue;
        const struct imagefacts *f = &e[i].part->facts;
        int count = at < n && ids[at] <= (uint32_t)(n - at - 1) ? (int)ids[at] : 0;
        TRY(run(&e[i], nn, ids + at + 1, count, NULL, &answer, err));
        at += count + 1;
        if (i == 2)
            return take_rows(&e[i], &answer, "hidden", e[i].tokens, t->width,
                             out + (int64_t)e[0].tokens * t->width, t->width, err);
        TRY(take_rows(&e[i], &answer, "penultimate", e[i].tokens, f->text_width, context, t->width, err));
        TRY(take_rows(&e[i], &answer, "text_embeds", 1, f->pooled_width, pooled, f->pooled_width, err));
        context += f->text_width;
        pooled += f->pooled_width;
    }
    return ERR_OK;
}

int prompttext_encode(struct prompttext *t, struct nn *nn, const uint32_t *ids, int n, float *out,
                      struct err *err)
{
    return t->n > 1 ? encode_joint(t, nn, ids, n, out, err) : encode_one(t, nn, ids, n, out, err);
}

/* [n, count] of the prompts' floats from `at` on. */
static float *gather(struct nn *nn, int n, const float *const *prompts, int64_t at, int64_t count)
{
    float *all = nn_take(nn, (size_t)(n * count) * sizeof *all);
    for (int i = 0; i < n; i++)
        memcpy(all + i * count, prompts[i] + at, (size_t)count * sizeof *all);
    return all;
}

void prompttext_put(const struct prompttext *t, struct nn *nn, int n, const float *const *prompts,
                    struct imagetensors *in)
{
    const int64_t context[3] = {n, t->rows, t->width}, pooled[2] = {n, t->pooled}, mask[2] = {n, t->rows};
    int64_t at = (int64_t)t->rows * t->width;
    imagetensors_put(in, "context", gather(nn, n, prompts, 0, at), 3, context);
    if (t->pooled > 0)
        imagetensors_put(in, "pooled", gather(nn, n, prompts, at, t->pooled), 2, pooled);
    if (!t->masked)
        return;
    float *keep = gather(nn, n, prompts, at + t->pooled, t->rows);
    for (int64_t i = 0; i < (int64_t)n * t->rows; i++)
        keep[i] = keep[i] > 0;          /* between two prompts: of both */
    imagetensors_put(in, "mask", keep, 2, mask);
}
