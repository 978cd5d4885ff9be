#include "workers/imagepipe.h"

#include "workers/filehash.h"
#include "workers/latentmodel.h"
#include "workers/models/cliptext.h"
#include "workers/models/imagemodel.h"
#include "workers/models/mmdit.h"
#include "workers/models/pixart.h"
#include "workers/models/textfile.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_MAX = 1 << 20, SIDE_MAX = 4096 };

/* A network's folder: configuration and weights. */
struct part {
    char path[PATH_MAX];
    json_t *config;
    struct params w;
    uint64_t size, hash;
    char **files; int n_files;
};

struct imagepipe {
    struct imagepipe_facts facts;
    struct part text, denoiser;
    json_t *schedule;               /* scheduler_config.json */
    const char **words; int n_words;    /* into hints */
    json_t *hints;                  /* muster.json, or NULL */
    struct cliptext_config clip;
    struct imagemodel gan; struct imagepart *generator;     /* NULL: no GAN */
    struct latentmodel latent; bool is_latent;
    bool pixart;
    struct mmdit_config mm;
    struct pixart_config px;
    int64_t context, pooled;        /* floats of a prompt: [tokens, width], then [pooled], then mask */
};

/* --- files */

/* Writers of these files put Python's infinities into JSON; a number as large does as well. */
static void tame_infinity(char *text)
{
    static const char name[] = "Infinity", number[] = "1e+00308";
    for (char *at = text; (at = strstr(at, name)) != NULL; at += sizeof name - 1)
        memcpy(at, number, sizeof number - 1);
}

static int read_json(const char *folder, const char *name, json_t **out, struct err *err)
{
    char *text;
    size_t n;
    json_error_t e;
    TRY(textfile_read(folder, name, CONFIG_MAX, 1, &text, &n, err));
    tame_infinity(text);
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

static int keep_names(struct part *p, const struct tensorfile *t, struct err *err)
{
    p->files = calloc((size_t)t->n_files, sizeof *p->files);
    for (int i = 0; p->files != NULL && i < t->n_files; i++, p->n_files = i)
        if ((p->files[i] = strdup(t->path[i])) == NULL)
            break;
    return p->files != NULL && p->n_files == t->n_files ? ERR_OK
                                                        : err_set(err, ERR_NOMEM, "no memory for a path");
}

static int open_part(struct part *p, const char *folder, const char *name, struct err *err)
{
    struct tensorfile t;
    if (snprintf(p->path, sizeof p->path, "%s/%s", folder, name) >= (int)sizeof p->path)
        return err_set(err, ERR_INVAL, "%s: the path is too long", folder);
    if (!is_folder(p->path))
        return err_set(err, ERR_IO, "%s: no folder %s/ in it: a part of the model is missing", folder,
                       name);
    TRY(read_json(p->path, "config.json", &p->config, err));
    TRY(tensorfile_open(&t, p->path, err));
    tensorfile_digest(&t, &p->size, &p->hash);
    int rc = keep_names(p, &t, err);
    if (rc == ERR_OK)
        rc = params_outline(&p->w, &t, err);
    tensorfile_close(&t);
    return rc;
}

/* Weights in the place of their outlines. cut NULL: all. */
static int load_part(struct part *p, params_cut *cut, void *ctx, struct err *err)
{
    struct tensorfile t;
    params_free(&p->w);
    TRY(tensorfile_open(&t, p->path, err));
    int rc = params_load_cut(&p->w, &t, cut, ctx, err);
    tensorfile_close(&t);
    p->w.fixed = true;
    return rc;
}

static void close_part(struct part *p)
{
    params_free(&p->w);
    json_decref(p->config);
    for (int i = 0; i < p->n_files; i++)
        free(p->files[i]);
    free(p->files);
}

/* --- opening */

static int read_denoiser(struct imagepipe *p, struct err *err)
{
    struct part *d = &p->denoiser;
    struct imagepipe_facts *f = &p->facts;
    const char *name = json_string_value(json_object_get(d->config, "_class_name"));
    int patches = SIDE_MAX;
    snprintf(f->kind, sizeof f->kind, "%.60s", name != NULL ? name : "?");
    p->pixart = strcmp(f->kind, "PixArtTransformer2DModel") == 0;
    if (!p->pixart && strcmp(f->kind, "SD3Transformer2DModel") != 0)
        return err_set(err, ERR_FORMAT, "%s: a %s; imagine runs SD3Transformer2DModel and "
                       "PixArtTransformer2DModel", d->path, f->kind);
    if (p->pixart) {
        TRY(pixart_config_read(&p->px, d->config, d->path, err));
        TRY(pixart_check(&p->px, &d->w, d->path, err));
        f->channels = p->px.in_channels;
        f->channels_out = p->px.out_channels;
        f->patch = p->px.patch;
        f->side = p->px.sample;
        f->layers = p->px.layers;
        f->head_dim = p->px.head_dim;
        p->pooled = p->clip.positions;      /* the mask */
    } else {
        TRY(mmdit_config_read(&p->mm, d->config, d->path, err));
        TRY(mmdit_check(&p->mm, &d->w, d->path, err));
        f->channels = p->mm.in_channels;
        f->channels_out = p->mm.out_channels;
        f->patch = p->mm.patch;
        f->side = p->mm.sample;
        f->layers = p->mm.layers;
        f->head_dim = p->mm.head_dim;
        patches = p->mm.positions;
        p->pooled = p->mm.pooled;
    }
    f->side_max = patches < SIDE_MAX / f->patch ? patches * f->patch : SIDE_MAX / f->patch * f->patch;
    int width = p->pixart ? p->px.caption : p->mm.joint;
    if (width != p->clip.width || (!p->pixart && p->mm.pooled != p->clip.projection))
        return err_set(err, ERR_FORMAT, "%s: text of width %d (projection %d), the denoiser wants %d (%d)",
                       p->text.path, p->clip.width, p->clip.projection, width,
                       p->pixart ? 0 : p->mm.pooled);
    if ((f->channels != 3 && f->channels != 6) || f->channels_out != 3)
        return err_set(err, ERR_FORMAT, "%s: %d channels in and %d out; pictures have 3, or 6 "
                       "beside a small "
                       "one, and 3 out", d->path, f->channels, f->channels_out);
    return ERR_OK;
}

static uint64_t count_parameters(const struct params *w)
{
    uint64_t n = 0;
    for (int i = 0; i < w->n; i++)
        n += w->p[i].frozen ? 0 : (uint64_t)w->p[i].n;
    return n;
}

/* The folder's own sampler. */
static int take_solver(struct imagepipe *p, const char *path, struct err *err)
{
    const char *name = json_string_value(json_object_get(p->schedule, "_class_name"));
    p->facts.solver = name != NULL ? solver_find(name) : NULL;
    if (p->facts.solver == NULL)
        return err_set(err, ERR_FORMAT, "%s: a scheduler '%s' is not known", path,
                       name != NULL ? name : "");
    return ERR_OK;
}

static int read_scheduler(struct imagepipe *p, const char *folder, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/scheduler", folder);
    if (!is_folder(path))
        return err_set(err, ERR_IO, "%s: no folder scheduler/ in it: a part of the model is missing",
                       folder);
    TRY(read_json(path, "scheduler_config.json", &p->schedule, err));
    return take_solver(p, path, err);
}

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
    if (!(steps >= 0 && steps <= SOLVER_STEPS_MAX) || !(guidance >= 0 && guidance <= 1000))
        return err_set(err, ERR_FORMAT, "%s: steps %g, guidance %g make no sense", path, steps, guidance);
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

static int open_parts(struct imagepipe *p, const char *folder, struct err *err)
{
    json_t *index;
    struct imagepipe_facts *f = &p->facts;
    TRY(read_json(folder, "model_index.json", &index, err));
    json_decref(index);
    take_name(p, folder);
    TRY(read_hints(p, folder, err));
    TRY(read_scheduler(p, folder, err));
    TRY(open_part(&p->text, folder, "text_encoder", err));
    TRY(cliptext_config_read(&p->clip, p->text.config, p->text.path, err));
    TRY(open_part(&p->denoiser, folder, "transformer", err));
    TRY(read_denoiser(p, err));
    f->pixels = 1;
    f->none = -1;
    f->tokens = p->clip.positions;
    f->vocab = p->clip.vocab;
    f->bos = p->clip.bos;
    f->eos = p->clip.eos;
    f->pad = p->clip.pad;
    f->parameters = count_parameters(&p->text.w) + count_parameters(&p->denoiser.w);
    p->context = (int64_t)p->clip.positions * p->clip.width;
    return ERR_OK;
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
    TRY(open_part(&p->text, folder, "text_encoder", err));
    TRY(cliptext_config_read(&p->clip, p->text.config, p->text.path, err));
    int width = p->clip.projection > 0 ? p->clip.projection : p->clip.width;
    if (width != p->generator->facts.pooled_width)
        return err_set(err, ERR_FORMAT, "%s: captions of width %d, the generator wants %d", p->text.path,
                       width, p->generator->facts.pooled_width);
    f->tokens = p->clip.positions;
    f->vocab = p->clip.vocab;
    f->bos = p->clip.bos;
    f->eos = p->clip.eos;
    f->pad = p->clip.pad;
    p->pooled = width;
    f->parameters += count_parameters(&p->text.w);
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
    TRY(imagepart_load(p->generator, err));
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
    f->bos = f->eos = f->none = -1;
    f->pixels = 1;
    f->parameters = p->generator->parameters;
    return g->pooled_width > 0 ? open_captions(p, path, err) : ERR_OK;
}

int imagepipe_generate(struct imagepipe *p, struct nn *nn, int n, const float *z, const float *labels,
                       const float *const *prompts, const float **out, struct err *err)
{
    struct imagetensors in = {.n = 0}, answer = {.n = 0};
    const struct imagefacts *g = &p->generator->facts;
    const int64_t z_shape[2] = {n, g->latent}, label_shape[1] = {n}, caption_shape[2] = {n, p->pooled};
    nn_reset(nn);
    imagetensors_put(&in, "z", (float *)(uintptr_t)z, 2, z_shape);
    if (p->facts.classes > 0)
        imagetensors_put(&in, "labels", (float *)(uintptr_t)labels, 1, label_shape);
    if (p->facts.tokens > 0) {
        float *caption = nn_take(nn, (size_t)(n * p->pooled) * sizeof *caption);
        for (int i = 0; i < n; i++)
            memcpy(caption + i * p->pooled, prompts[i], (size_t)p->pooled * sizeof *caption);
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

/* --- a denoiser of latents, of digits */

static int open_latent(struct imagepipe *p, const char *path, struct err *err)
{
    struct imagepipe_facts *f = &p->facts;
    take_name(p, path);
    if (is_folder(path))
        TRY(read_hints(p, path, err));
    TRY(latentmodel_open(&p->latent, path, err));
    p->is_latent = true;
    p->schedule = json_incref(p->latent.schedule);
    TRY(take_solver(p, path, err));
    const struct imagefacts *d = &p->latent.denoiser->facts;
    snprintf(f->kind, sizeof f->kind, "%.60s", imagepart_kind(p->latent.denoiser));
    f->channels = f->channels_out = d->channels_in;
    f->pixels = p->latent.pixels;
    f->patch = d->patch * f->pixels;
    f->side = d->side * f->pixels;
    f->side_max = d->side_max > 0 ? d->side_max * f->pixels : SIDE_MAX / f->patch * f->patch;
    f->decodes = true;
    f->classes = d->classes;
    f->none = d->classes > 0 ? d->classes : -1;
    f->bos = f->eos = -1;
    f->parameters = latentmodel_parameters(&p->latent);
    if (p->latent.text != NULL) {
        f->tokens = p->latent.tokens;
        f->vocab = p->latent.text->facts.vocab;
        f->eos = p->latent.eos;
    }
    p->context = latentmodel_prompt_floats(&p->latent);
    return ERR_OK;
}

int imagepipe_decode(struct imagepipe *p, struct nn *nn, const float *x, int height, int width,
                     const float **out, struct err *err)
{
    return latentmodel_decode(&p->latent, nn, x, height, width, out, err);
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
    int rc = latentmodel_is(folder) ? open_latent(p, folder, err)
             : is_gan(folder)       ? open_gan(p, folder, err)
                                    : open_parts(p, folder, err);
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
    close_part(&p->text);
    close_part(&p->denoiser);
    imagemodel_close(&p->gan);
    latentmodel_close(&p->latent);
    json_decref(p->schedule);
    json_decref(p->hints);
    free(p->words);
    free(p);
}

int imagepipe_load(struct imagepipe *p, const struct netshard_held *held, struct err *err)
{
    bool leads = held != NULL && held->leads;
    if (p->text.config != NULL && leads)
        TRY(load_part(&p->text, NULL, NULL, err));
    if (p->denoiser.config == NULL || held == NULL)
        return ERR_OK;
    return load_part(&p->denoiser, netshard_cut, (void *)(uintptr_t)held, err);
}

/* Packed or not, once they are there. */
static uint64_t floats_held(const struct params *w)
{
    uint64_t n = 0;
    for (int i = 0; i < w->n; i++)
        n += w->p[i].data != NULL || w->p[i].packed.data != NULL ? (uint64_t)w->p[i].n : 0;
    return n;
}

uint64_t imagepipe_weights_bytes(const struct imagepipe *p)
{
    uint64_t n = floats_held(&p->text.w) + floats_held(&p->denoiser.w);
    return (p->facts.layers > 0 ? n : p->facts.parameters) * sizeof(float);
}

const struct imagepipe_facts *imagepipe_facts(const struct imagepipe *p) { return &p->facts; }

void imagepipe_digest(const struct imagepipe *p, uint64_t *size, uint64_t *hash)
{
    *size = p->text.size + p->denoiser.size + (p->generator != NULL ? p->generator->file_bytes : 0) +
            (p->is_latent ? p->latent.denoiser->file_bytes : 0);
    *hash = p->text.hash * 31 + p->denoiser.hash;
}

int imagepipe_hash(const struct imagepipe *p, char hex[65], struct err *err)
{
    if (p->generator != NULL) {
        char *const one[] = {p->gan.path};
        return filehash_hex(one, 1, hex, err);
    }
    if (p->is_latent)
        return latentmodel_hash(&p->latent, hex, err);
    return filehash_hex(p->denoiser.files, p->denoiser.n_files, hex, err);
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
    const char *prediction = json_string_value(json_object_get(p->schedule, "prediction_type"));
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
    double n0 = number_under(p->schedule, "base_image_seq_len", 256);
    double n1 = number_under(p->schedule, "max_image_seq_len", 4096);
    double m0 = number_under(p->schedule, "base_shift", 0.5), m1 = number_under(p->schedule,
                                                                                "max_shift", 1.15);
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
    TRY(solver_config_read(c, p->schedule, err));
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

int64_t imagepipe_prompt_floats(const struct imagepipe *p) { return p->context + p->pooled; }

static void one_part_a_sample(struct nn *nn, int n)
{
    int64_t begin[NN_PARTS_MAX + 1];
    for (int i = 0; i <= n; i++)
        begin[i] = i;
    nn_reset(nn);
    nn_set_parts(nn, n, begin);
}

int imagepipe_encode(struct imagepipe *p, struct nn *nn, const uint32_t *ids, int n, float *out,
                     struct err *err)
{
    int l = p->clip.positions;
    struct cliptext_out text;
    if (p->is_latent)
        return latentmodel_encode(&p->latent, nn, ids, n, out, err);
    if (n < 1 || n > l)
        return err_set(err, ERR_INVAL, "a prompt of %d tokens; the text encoder takes 1 to %d", n, l);
    one_part_a_sample(nn, 1);
    int32_t *padded = nn_take(nn, (size_t)l * sizeof *padded);
    for (int i = 0; i < l; i++)
        padded[i] = i < n && ids[i] <= INT32_MAX ? (int32_t)ids[i] : i < n ? -1 : p->clip.pad;
    params_begin(&p->text.w);
    TRY(cliptext_forward(nn, &p->clip, &p->text.w, p->text.path, padded, 1, l, &text, err));
    if (p->context > 0)
        memcpy(out, text.hidden->data, (size_t)p->context * sizeof *out);
    if (p->pixart)
        for (int i = 0; i < l; i++)
            out[p->context + i] = i < n ? 1 : 0;
    else if (text.embeds != NULL)
        memcpy(out + p->context, text.embeds->data, (size_t)p->pooled * sizeof *out);
    else if (p->generator != NULL)
        memcpy(out + p->context, text.pooled->data, (size_t)p->pooled * sizeof *out);
    else
        return err_set(err, ERR_FORMAT, "%s: no text_projection in it", p->text.path);
    return ERR_OK;
}

/* [n, count] of the prompts' floats from `at` on. */
static struct nn_tensor *gather(struct nn *nn, const float *const *prompts, int64_t at, int n_dims,
                                const int64_t *shape)
{
    struct nn_tensor *t = nn_new(nn, n_dims, shape);
    int64_t count = t->n / shape[0];
    for (int64_t i = 0; i < shape[0]; i++)
        memcpy(t->data + i * count, prompts[i] + at, (size_t)count * sizeof(float));
    return t;
}

/* A caption's input of n pictures. */
static struct pixart_input pixart_in(struct imagepipe *p, struct nn *nn, struct nn_tensor *x,
                                     struct nn_tensor *caption, const double *times,
                                     const float *const *prompts)
{
    int64_t n = x->shape[0], l = p->clip.positions;
    uint8_t *mask = nn_take(nn, (size_t)(n * l));
    double *sizes = nn_take(nn, (size_t)n * 3 * sizeof *sizes), *aspect = sizes + 2 * n;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < l; k++)
            mask[i * l + k] = prompts[i][p->context + k] != 0;
        sizes[2 * i] = (double)x->shape[2];
        sizes[2 * i + 1] = (double)x->shape[3];
        aspect[i] = (double)x->shape[2] / (double)x->shape[3];
    }
    return (struct pixart_input){x, caption, times, mask, p->px.sizes ? sizes : NULL,
                                 p->px.sizes ? aspect : NULL};
}

void imagepipe_step(struct imagepipe *p, struct nn *nn, int n)
{
    ASSERT(n >= 1 && n <= NN_PARTS_MAX);
    one_part_a_sample(nn, n);
    params_begin(&p->denoiser.w);
}

static struct params_reader reader(struct imagepipe *p, struct nn *nn, struct err *err)
{
    return (struct params_reader){.set = &p->denoiser.w, .nn = nn, .file = p->denoiser.path, .err = err};
}

int imagepipe_begin(struct imagepipe *p, struct nn *nn, const struct imagepipe_call *c, struct netrows *h,
                    struct err *err)
{
    const int64_t shape[4] = {c->n, p->facts.channels, c->height, c->width};
    const int64_t text[3] = {c->n, p->clip.positions, p->clip.width}, pooled[2] = {c->n, p->pooled};
    struct params_reader r = reader(p, nn, err);
    imagepipe_step(p, nn, c->n);
    struct nn_tensor *x = nn_input(nn, (float *)(uintptr_t)c->x, 4, shape);
    struct nn_tensor *context = gather(nn, c->prompts, 0, 3, text);
    if (!p->pixart)
        return mmdit_begin(&r, &p->mm, x, c->times, context,
                           gather(nn, c->prompts, p->context, 2, pooled), h);
    struct pixart_input in = pixart_in(p, nn, x, context, c->times, c->prompts);
    return pixart_begin(&r, &p->px, &in, h);
}

int imagepipe_layers(struct imagepipe *p, struct nn *nn, const struct netshard_held *held,
                     struct netrows *h, struct err *err)
{
    struct params_reader r = reader(p, nn, err);
    r.shard = held->shard;
    return p->pixart ? pixart_layers(&r, &p->px, held->first, held->end, h)
                     : mmdit_layers(&r, &p->mm, held->first, held->end, h);
}

int imagepipe_end(struct imagepipe *p, struct nn *nn, const struct netrows *h, int height, int width,
                  const float **out, struct err *err)
{
    struct params_reader r = reader(p, nn, err);
    struct nn_tensor *y;
    int rows = height / p->facts.patch, cols = width / p->facts.patch;
    TRY(p->pixart ? pixart_end(&r, &p->px, h, rows, cols, &y) : mmdit_end(&r, &p->mm, h, rows, cols, &y));
    *out = y->data;
    return ERR_OK;
}

int imagepipe_row_width(const struct imagepipe *p)
{
    return p->pixart ? p->px.heads * p->px.head_dim : p->mm.caption;
}

int imagepipe_extra_rows(const struct imagepipe *p, int text_tokens)
{
    return p->pixart ? pixart_extra_rows(&p->px, text_tokens) : 1;
}

int imagepipe_denoise(struct imagepipe *p, struct nn *nn, int n, const float *x, int height, int width,
                      const double *times, const float *const *prompts, const float **out,
                      struct err *err)
{
    if (p->is_latent)
        return latentmodel_denoise(&p->latent, nn, n, x, height, width, times, prompts, out, err);
    struct nn_tensor *answer;
    const int64_t shape[4] = {n, p->facts.channels, height, width};
    const int64_t text_shape[3] = {n, p->clip.positions, p->clip.width}, pooled_shape[2] = {n, p->pooled};
    imagepipe_step(p, nn, n);
    struct nn_tensor *in = nn_input(nn, (float *)(uintptr_t)x, 4, shape);
    struct nn_tensor *context = gather(nn, prompts, 0, 3, text_shape);
    if (p->pixart) {
        struct pixart_input all = pixart_in(p, nn, in, context, times, prompts);
        TRY(pixart_forward(nn, &p->px, &p->denoiser.w, p->denoiser.path, &all, &answer, err));
    } else
        TRY(mmdit_forward(nn, &p->mm, &p->denoiser.w, p->denoiser.path, in, times, context,
                          gather(nn, prompts, p->context, 2, pooled_shape), &answer, err));
    *out = answer->data;
    return ERR_OK;
}
