#include "workers/imagepipe.h"

#include "workers/filehash.h"
#include "workers/models/textfile.h"
#include "workers/prompttext.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_MAX = 1 << 20, SIDE_MAX = 4096 };

struct imagepipe {
    struct imagepipe_facts facts;
    const char **words; int n_words;    /* into hints */
    json_t *hints;                  /* muster.json, or NULL */
    struct diffusionmodel diffusion;
    struct imagemodel gan, captions;    /* captions: a GAN's text encoder */
    struct imagepart *generator, *caption;      /* NULL: no GAN; it takes no text */
    int caption_width;
};

/* --- files */

static int read_json(const char *folder, const char *name, json_t **out, struct err *err)
{
    char *text;
    size_t n;
    json_error_t e;
    TRY(textfile_read(folder, name, CONFIG_MAX, 1, &text, &n, err));
    *out = json_loads(text, 0, &e);
    free(text);
    if (!json_is_object(*out))
        return err_set(err, ERR_FORMAT, "%s/%s: line %d: %s", folder, name, e.line,
                       *out == NULL ? e.text : "no JSON object");
    return ERR_OK;
}

static double number_under(const json_t *o, const char *key, double otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* --- opening */

static void take_name(struct imagepipe *p, const char *folder)
{
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    size_t begin = n;
    while (begin > 0 && folder[begin - 1] != '/')
        begin--;
    snprintf(p->facts.name, sizeof p->facts.name, "%.*s", (int)(n - begin < 120 ? n - begin : 120),
             folder + begin);
}

/* What suits the model, where the folder says so. */
static int read_hints(struct imagepipe *p, const char *folder, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/muster.json", folder);
    if (access(path, F_OK) != 0)
        return ERR_OK;
    TRY(read_json(folder, "muster.json", &p->hints, err));
    double steps = number_under(p->hints, "steps", 0), guidance = number_under(p->hints, "guidance", 0);
    double residual = number_under(p->hints, "residual", 0);
    if (!(steps >= 0 && steps <= SOLVER_STEPS_MAX) || !(guidance >= 0 && guidance <= 1000) ||
        !(residual >= 0 && residual <= 1000))
        return err_set(err, ERR_FORMAT, "%s: steps %g, guidance %g, residual %g make no sense", path, steps,
                       guidance, residual);
    p->facts.residual = residual;
    p->facts.steps = (int)steps;
    p->facts.guidance = guidance;
    const json_t *words = json_object_get(p->hints, "words");
    size_t n = json_array_size(words);
    if (n == 0 || n > 1 << 20)
        return ERR_OK;
    if ((p->words = calloc(n, sizeof *p->words)) == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory for its words", path);
    for (size_t i = 0; i < n; i++)
        if (json_is_string(json_array_get(words, i)))
            p->words[p->n_words++] = json_string_value(json_array_get(words, i));
    return ERR_OK;
}

const char *const *imagepipe_words(const struct imagepipe *p, int *n)
{
    *n = p->n_words;
    return p->words;
}

/* --- a GAN */

/* A GAN that paints in grey does so in three colours here. */
static void spread_grey(float *out, const float *in, int64_t n, int64_t area)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < 3; k++)
            memcpy(out + (i * 3 + k) * area, in + i * area, (size_t)area * sizeof *out);
}

static bool is_gan(const char *path)
{
    char generator[PATH_MAX];
    struct stat st;
    snprintf(generator, sizeof generator, "%.4000s/generator", path);
    return is_folder(generator) || (stat(path, &st) == 0 && S_ISREG(st.st_mode));
}

static int open_captions(struct imagepipe *p, const char *folder, struct err *err)
{
    struct imagepipe_facts *f = &p->facts;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/text_encoder", folder);
    if (!is_folder(path))
        return err_set(err, ERR_IO, "%s: no folder text_encoder/ in it: a part of the model is missing",
                       folder);
    TRY(imagemodel_open(&p->captions, path, err));
    p->caption = imagemodel_role(&p->captions, IMAGE_TEXT);
    const struct imagefacts *c = p->caption != NULL ? &p->caption->facts : &(struct imagefacts){0};
    p->caption_width = c->pooled_width > 0 ? c->pooled_width : c->text_width;
    if (p->caption_width != p->generator->facts.pooled_width)
        return err_set(err, ERR_FORMAT, "%s: captions of width %d, the generator wants %d", path,
                       p->caption_width, p->generator->facts.pooled_width);
    f->text[0] = (struct imagepipe_text){"tokenizer", c->tokens, c->vocab, c->bos, c->eos};
    f->n_texts = 1;
    f->ids_max = c->tokens;
    f->parameters += p->caption->parameters;
    return ERR_OK;
}

static int open_gan(struct imagepipe *p, const char *path, struct err *err)
{
    char file[PATH_MAX];
    struct imagepipe_facts *f = &p->facts;
    take_name(p, path);
    snprintf(file, sizeof file, is_folder(path) ? "%.4000s/generator/model.safetensors" : "%.4000s", path);
    TRY(imagemodel_open(&p->gan, file, err));
    p->generator = imagemodel_role(&p->gan, IMAGE_GENERATOR);
    if (p->generator == NULL)
        return err_set(err, ERR_FORMAT, "%s: neither a diffusion folder nor a GAN's generator", path);
    const struct imagefacts *g = &p->generator->facts;
    if (g->latent < 1 || g->side < 1 || g->side > SIDE_MAX ||
        (g->channels_out != 3 && g->channels_out != 1))
        return err_set(err, ERR_FORMAT, "%s: a generator of %d channels from %d numbers; pictures "
                       "have 3, or 1 in grey", file, g->channels_out, g->latent);
    snprintf(f->kind, sizeof f->kind, "%.60s", imagepart_kind(p->generator));
    f->channels = f->channels_out = 3;
    f->patch = f->side = f->side_max = g->side;
    f->latent = g->latent;
    f->classes = g->pooled_width > 0 ? 0 : g->classes;
    f->none = -1;
    f->pixels = 1;
    f->parameters = p->generator->parameters;
    return g->pooled_width > 0 ? open_captions(p, path, err) : ERR_OK;
}

int imagepipe_generate(struct imagepipe *p, struct nn *nn, int n, const float *z, const float *labels,
                       const float *const *prompts, const float **out, struct err *err)
{
    struct imagetensors in = {.n = 0}, answer = {.n = 0};
    const struct imagefacts *g = &p->generator->facts;
    const int64_t z_shape[2] = {n, g->latent}, label_shape[1] = {n}, caption_shape[2] = {n, p->caption_width};
    nn_reset(nn);
    imagetensors_put(&in, "z", (float *)(uintptr_t)z, 2, z_shape);
    if (p->facts.classes > 0)
        imagetensors_put(&in, "labels", (float *)(uintptr_t)labels, 1, label_shape);
    if (p->caption != NULL) {
        int w = p->caption_width;
        float *caption = nn_take(nn, (size_t)(n * w) * sizeof *caption);
        for (int i = 0; i < n; i++)
            memcpy(caption + i * w, prompts[i], (size_t)w * sizeof *caption);
        imagetensors_put(&in, "caption", caption, 2, caption_shape);
    }
    TRY(imagepart_run(p->generator, nn, &in, &answer, err));
    const struct imagetensor *image = imagetensors_find(&answer, "image");
    int64_t area = (int64_t)p->facts.side * p->facts.side;
    if (image == NULL || image->n != n * g->channels_out * area)
        return err_set(err, ERR_FORMAT, "%s: an answer of another size than it said", p->generator->file);
    *out = image->data;
    if (g->channels_out == 1) {
        float *colours = nn_take(nn, (size_t)(n * 3 * area) * sizeof *colours);
        spread_grey(colours, image->data, n, area);
        *out = colours;
    }
    return ERR_OK;
}

/* --- a denoiser */

/* The folder's own sampler. */
static int take_solver(struct imagepipe *p, const char *path, struct err *err)
{
    const char *name = json_string_value(json_object_get(p->diffusion.schedule, "_class_name"));
    p->facts.solver = name != NULL ? solver_find(name) : NULL;
    if (p->facts.solver == NULL)
        return err_set(err, ERR_FORMAT, "%s: a scheduler '%s' is not known", path,
                       name != NULL ? name : "");
    return ERR_OK;
}

static void take_texts(struct imagepipe *p)
{
    struct imagepipe_facts *f = &p->facts;
    const struct prompttext *t = &p->diffusion.text;
    for (int i = 0; i < t->n; i++) {
        const struct prompttext_encoder *e = &t->encoder[i];
        if (e->part != NULL)
            f->text[f->n_texts++] = (struct imagepipe_text){e->tokenizer, e->tokens, e->part->facts.vocab,
                                                            e->bos, e->eos};
    }
    f->ids_max = t->n > 0 ? prompttext_ids_max(t) : f->classes > 0;
}

static int open_diffusion(struct imagepipe *p, const char *path, struct err *err)
{
    struct imagepipe_facts *f = &p->facts;
    struct diffusionmodel *m = &p->diffusion;
    take_name(p, path);
    if (is_folder(path))
        TRY(read_hints(p, path, err));
    TRY(diffusionmodel_open(m, path, err));
    TRY(take_solver(p, path, err));
    const struct imagefacts *d = &m->denoiser->facts;
    snprintf(f->kind, sizeof f->kind, "%.60s", imagepart_kind(m->denoiser));
    f->channels = m->channels;
    f->channels_out = m->channels_out;
    f->pixels = m->pixels;
    f->patch = d->patch * f->pixels;
    f->side = d->side * f->pixels;
    int most = d->side_max > 0 && d->side_max <= SIDE_MAX / f->pixels ? d->side_max * f->pixels : SIDE_MAX;
    f->side_max = most / f->patch * f->patch;
    f->decodes = diffusionmodel_decodes(m);
    f->classes = d->classes;
    f->none = d->classes > 0 ? d->classes : -1;
    f->layers = imagepart_splits(m->denoiser) ? d->layers : 0;
    f->head_dim = d->head_dim;
    f->parameters = diffusionmodel_parameters(m);
    take_texts(p);
    return ERR_OK;
}

int imagepipe_decode(struct imagepipe *p, struct nn *nn, const float *x, int height, int width,
                     const float **out, struct err *err)
{
    return diffusionmodel_decode(&p->diffusion, nn, x, height, width, out, err);
}

int imagepipe_encode_picture(struct imagepipe *p, struct nn *nn, const float *picture, int height, int width,
                             const float **out, struct err *err)
{
    return diffusionmodel_encode_picture(&p->diffusion, nn, picture, height, width, out, err);
}

int imagepipe_open(struct imagepipe **out, const char *folder, struct err *err)
{
    struct imagepipe *p = calloc(1, sizeof *p);
    *out = NULL;
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a model");
    if (!is_folder(folder) && !is_gan(folder)) {
        free(p);
        return err_set(err, ERR_IO, "%s: no folder of an image model there", folder);
    }
    int rc = is_gan(folder) && !diffusionmodel_is_file(folder) ? open_gan(p, folder, err)
                                                               : open_diffusion(p, folder, err);
    if (rc != ERR_OK) {
        imagepipe_close(p);
        return rc;
    }
    *out = p;
    return ERR_OK;
}

void imagepipe_close(struct imagepipe *p)
{
    if (p == NULL)
        return;
    imagemodel_close(&p->gan);
    imagemodel_close(&p->captions);
    diffusionmodel_close(&p->diffusion);
    json_decref(p->hints);
    free(p->words);
    free(p);
}

int imagepipe_load(struct imagepipe *p, const struct netshard_held *held, struct err *err)
{
    if (p->generator == NULL)
        return diffusionmodel_load(&p->diffusion, held, err);
    if (held == NULL)
        return ERR_OK;
    TRY(imagepart_load(p->generator, err));
    return p->caption != NULL ? imagepart_load(p->caption, err) : ERR_OK;
}

/* Floats that are in memory, packed or not. */
static uint64_t floats_held(const struct imagemodel *m)
{
    uint64_t n = 0;
    for (int i = 0; i < m->n_parts; i++)
        for (int k = 0; k < m->part[i].w.n; k++) {
            const struct param *w = &m->part[i].w.p[k];
            n += w->data != NULL || w->packed.data != NULL ? (uint64_t)w->n : 0;
        }
    return n;
}

uint64_t imagepipe_weights_bytes(const struct imagepipe *p)
{
    return (floats_held(&p->diffusion.model) + floats_held(&p->gan) + floats_held(&p->captions)) *
           sizeof(float);
}

const struct imagepipe_facts *imagepipe_facts(const struct imagepipe *p) { return &p->facts; }

static void add_digest(const struct imagemodel *m, uint64_t *size, uint64_t *hash)
{
    for (int i = 0; i < m->n_parts; i++) {
        *size += m->part[i].file_bytes;
        *hash = *hash * 31 + m->part[i].file_hash;
    }
}

void imagepipe_digest(const struct imagepipe *p, uint64_t *size, uint64_t *hash)
{
    *size = *hash = 0;
    add_digest(&p->diffusion.model, size, hash);
    add_digest(&p->gan, size, hash);
    add_digest(&p->captions, size, hash);
}

int imagepipe_hash(const struct imagepipe *p, char hex[65], struct err *err)
{
    if (p->generator == NULL)
        return diffusionmodel_hash(&p->diffusion, hex, err);
    char *const one[] = {p->gan.path};
    return filehash_hex(one, 1, hex, err);
}

/* --- samplers */

/* Does the sampler work on x = (1 - s) x0 + s noise? Its own, or the DPM family over flow sigmas. */
static bool suits_flow(const struct solver *s)
{
    static const char *const others[] = {"dpmpp_2m", "dpmpp_2m_sde", "dpmpp_s", "deis", "unipc"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(s->name, others[i]) == 0)
            return true;
    return s->flow;
}

static bool is_flow(const struct imagepipe *p)
{
    const char *prediction = json_string_value(json_object_get(p->diffusion.schedule, "prediction_type"));
    return p->facts.solver->flow ||
           (prediction != NULL && strcmp(prediction, "flow_prediction") == 0);
}

static bool suits(const struct imagepipe *p, const struct solver *s)
{
    return is_flow(p) ? suits_flow(s) : !s->flow;
}

void imagepipe_samplers(const struct imagepipe *p, char *out, size_t cap)
{
    size_t at = 0;
    snprintf(out, cap, "%s", p->generator != NULL ? "gan" : "");
    for (int i = 0; p->generator == NULL && solver_table[i] != NULL; i++)
        if (suits(p, solver_table[i]) && at < cap)
            at += (size_t)snprintf(out + at, cap - at, "%s%s", at > 0 ? ", " : "", solver_table[i]->name);
}

/* The shift of a dynamic schedule: linear in the number of tokens. */
static double dynamic_mu(const struct imagepipe *p, int width, int height)
{
    const json_t *s = p->diffusion.schedule;
    double n0 = number_under(s, "base_image_seq_len", 256), n1 = number_under(s, "max_image_seq_len", 4096);
    double m0 = number_under(s, "base_shift", 0.5), m1 = number_under(s, "max_shift", 1.15);
    double tokens = (double)(width / p->facts.patch) * (height / p->facts.patch);
    return n1 > n0 ? m0 + (tokens - n0) * (m1 - m0) / (n1 - n0) : m0;
}

int imagepipe_settings(const struct imagepipe *p, const struct solver *s, int width, int height,
                       struct solver_config *c, struct err *err)
{
    char names[512];
    if (!suits(p, s)) {
        imagepipe_samplers(p, names, sizeof names);
        return err_set(err, ERR_INVAL, "sampler %s does not suit this model; these do: %s", s->name, names);
    }
    *c = solver_config_default(s);
    TRY(solver_config_read(c, p->diffusion.schedule, err));
    if (is_flow(p) && !s->flow) {
        c->prediction = PREDICT_FLOW;
        c->sigmas = SIGMA_FLOW;
    }
    if (s != p->facts.solver) {         /* the algorithm is the sampler's, not the folder's */
        struct solver_config own = solver_config_default(s);
        c->algorithm = own.algorithm;
        c->order = own.order;
        c->variant = own.variant;
    }
    if (c->dynamic_shift)
        c->mu = dynamic_mu(p, width, height);
    return ERR_OK;
}

/* --- the networks */

int64_t imagepipe_prompt_floats(const struct imagepipe *p)
{
    return p->generator != NULL ? p->caption_width : diffusionmodel_prompt_floats(&p->diffusion);
}

/* A GAN's caption. */
static int encode_caption(struct imagepipe *p, struct nn *nn, const uint32_t *ids, int n, float *out,
                          struct err *err)
{
    const struct imagefacts *f = &p->caption->facts;
    struct imagetensors in = {.n = 0}, answer = {.n = 0};
    TRY(prompttext_pad(nn, f->tokens, f->pad, ids, n, &in, err));
    TRY(imagepart_run(p->caption, nn, &in, &answer, err));
    const struct imagetensor *y = imagetensors_find(&answer, f->pooled_width > 0 ? "text_embeds" : "pooled");
    if (y == NULL || y->n != p->caption_width)
        return err_set(err, ERR_FORMAT, "%s: no text_projection in it", p->caption->file);
    memcpy(out, y->data, (size_t)y->n * sizeof *out);
    return ERR_OK;
}

int imagepipe_encode(struct imagepipe *p, struct nn *nn, const uint32_t *ids, int n, float *out,
                     struct err *err)
{
    return p->caption != NULL ? encode_caption(p, nn, ids, n, out, err)
                              : diffusionmodel_encode(&p->diffusion, nn, ids, n, out, err);
}

struct imagepart *imagepipe_denoiser(struct imagepipe *p) { return p->diffusion.denoiser; }

int imagepipe_denoise(struct imagepipe *p, struct nn *nn, struct imagegroup *g,
                      const struct diffusionmodel_call *c, const float **out, struct err *err)
{
    return diffusionmodel_denoise(&p->diffusion, nn, g, c, out, err);
}
