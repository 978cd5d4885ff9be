#include "workers/latentmodel.h"

#include "workers/filehash.h"
#include "workers/models/imagefamily.h"
#include "workers/models/textfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* TOKENS_MAX: what PixArt-Sigma was trained with, the most of any. */
enum { CONFIG_MAX = 1 << 20, PIXELS_MAX = 64, TOKENS_MAX = 300 };

/* The schedule of the digits' file: its table has an entry for time 0, too. Pictures are -0.5..0.5. */
static const char DIGITS_SCHEDULE[] =
    "{\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 1001, \"beta_schedule\": \"linear\", "
    "\"beta_start\": 0.0001, \"beta_end\": 0.02, \"prediction_type\": \"epsilon\", \"clip_sample\": false, "
    "\"set_alpha_to_one\": true, \"timestep_spacing\": \"trailing\"}";
static const double DIGITS_GAIN = 2;

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* What model_index.json says, looked at before the folder is opened. */
static bool is_latent_folder(const char *path)
{
    char *text = NULL;
    size_t n;
    struct err err = {0};
    if (textfile_read(path, "model_index.json", CONFIG_MAX, false, &text, &n, &err) != ERR_OK || text == NULL)
        return false;
    json_t *index = json_loads(text, 0, NULL);
    const char *name = json_string_value(json_array_get(json_object_get(index, "transformer"), 1));
    bool yes = name != NULL && (strcmp(name, "DiTTransformer2DModel") == 0 ||
                                (strcmp(name, "PixArtTransformer2DModel") == 0 &&
                                 json_is_array(json_object_get(index, "vae"))));
    json_decref(index);
    free(text);
    return yes;
}

bool latentmodel_is(const char *path)
{
    struct imagemodel m;
    struct err err = {0};
    if (!is_file(path))
        return is_latent_folder(path);
    if (imagemodel_open(&m, path, &err) != ERR_OK)
        return false;
    bool yes = imagemodel_role(&m, IMAGE_DENOISER) != NULL;
    imagemodel_close(&m);
    return yes;
}

static int take_schedule(struct latentmodel *m, struct err *err)
{
    bool digits = strcmp(imagepart_kind(m->denoiser), "DDPM of digits") == 0;
    m->gain = digits ? DIGITS_GAIN : 1;
    m->schedule = digits ? json_loads(DIGITS_SCHEDULE, 0, NULL) : json_incref(m->model.scheduler);
    return m->schedule != NULL ? ERR_OK
                               : err_set(err, ERR_IO, "%s: no scheduler/scheduler_config.json in it: a part "
                                         "of the model is missing", m->model.path);
}

static int64_t whole_under(const json_t *o, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

/* How long prompts are is the tokenizer's to say; published folders say numbers that stand for "any". */
static int take_text(struct latentmodel *m, struct err *err)
{
    char folder[4096], *text = NULL;
    size_t n;
    m->text = imagemodel_role(&m->model, IMAGE_TEXT);
    if (m->text == NULL || m->text->facts.text_width != m->denoiser->facts.text_width)
        return err_set(err, ERR_FORMAT, "%s: no text encoder of width %d in it, which the denoiser wants",
                       m->model.path, m->denoiser->facts.text_width);
    snprintf(folder, sizeof folder, "%.4000s/tokenizer", m->model.path);
    TRY(textfile_read(folder, "tokenizer_config.json", CONFIG_MAX, false, &text, &n, err));
    json_t *config = text != NULL ? json_loads(text, 0, NULL) : NULL;
    int64_t longest = whole_under(config, "model_max_length", TOKENS_MAX);
    json_decref(config);
    free(text);
    m->tokens = longest >= 2 && longest < TOKENS_MAX ? (int)longest : TOKENS_MAX;
    m->eos = (int)whole_under(m->text->config, "eos_token_id", 1);
    return imagepart_load(m->text, err);
}

static int take_parts(struct latentmodel *m, struct err *err)
{
    m->denoiser = imagemodel_role(&m->model, IMAGE_DENOISER);
    m->vae = imagemodel_role(&m->model, IMAGE_VAE);
    if (m->denoiser == NULL)
        return err_set(err, ERR_FORMAT, "%s: no denoiser in it", m->model.path);
    const struct imagefacts *d = &m->denoiser->facts;
    m->pixels = m->vae != NULL ? m->vae->facts.scale : 1;
    if (m->vae == NULL ? d->channels_in != 1 && d->channels_in != 3
                       : m->vae->facts.channels_in != d->channels_in || m->vae->facts.channels_out != 3)
        return err_set(err, ERR_FORMAT, "%s: a denoiser of %d channels and no decoder from these to a "
                       "picture", m->model.path, d->channels_in);
    if (m->pixels < 1 || m->pixels > PIXELS_MAX || d->patch < 1 || d->side < 1 ||
        (d->channels_out != d->channels_in && d->channels_out != 2 * d->channels_in))
        return err_set(err, ERR_FORMAT, "%s: %d channels from %d make no sense", m->denoiser->file,
                       d->channels_out, d->channels_in);
    TRY(imagepart_load(m->denoiser, err));
    if (d->text_width > 0)
        TRY(take_text(m, err));
    return m->vae != NULL ? imagepart_load(m->vae, err) : ERR_OK;
}

int latentmodel_open(struct latentmodel *m, const char *path, struct err *err)
{
    memset(m, 0, sizeof *m);
    TRY(imagemodel_open(&m->model, path, err));
    int rc = take_parts(m, err);
    if (rc == ERR_OK)
        rc = take_schedule(m, err);
    if (rc != ERR_OK)
        latentmodel_close(m);
    return rc;
}

void latentmodel_close(struct latentmodel *m)
{
    json_decref(m->schedule);
    imagemodel_close(&m->model);
    memset(m, 0, sizeof *m);
}

uint64_t latentmodel_parameters(const struct latentmodel *m)
{
    return m->denoiser->parameters + (m->text != NULL ? m->text->parameters : 0) +
           (m->vae != NULL ? m->vae->parameters : 0);
}

int latentmodel_hash(const struct latentmodel *m, char hex[65], struct err *err)
{
    struct tensorfile t;
    TRY(tensorfile_open(&t, m->denoiser->path, err));
    int rc = filehash_hex(t.path, t.n_files, hex, err);
    tensorfile_close(&t);
    return rc;
}

/* --- the networks */

int64_t latentmodel_prompt_floats(const struct latentmodel *m)
{
    return m->text != NULL ? (int64_t)m->tokens * (m->text->facts.text_width + 1)
                           : m->denoiser->facts.classes > 0;
}

int latentmodel_encode(struct latentmodel *m, struct nn *nn, const uint32_t *ids, int n, float *out,
                       struct err *err)
{
    struct imagetensors in = {.n = 0}, answer = {.n = 0};
    const int64_t shape[2] = {1, m->tokens};
    if (m->text == NULL) {              /* a class */
        out[0] = n == 1 ? (float)ids[0] : -1;
        return ERR_OK;
    }
    if (n < 1 || n > m->tokens)
        return err_set(err, ERR_INVAL, "a prompt of %d tokens; the text encoder takes 1 to %d", n, m->tokens);
    float *mask = out + (int64_t)m->tokens * m->text->facts.text_width;
    nn_reset(nn);
    float *padded = nn_take(nn, (size_t)m->tokens * sizeof *padded);
    for (int i = 0; i < m->tokens; i++) {
        padded[i] = i < n ? (float)ids[i] : 0;
        mask[i] = i < n;
    }
    imagetensors_put(&in, "ids", padded, 2, shape);
    imagetensors_put(&in, "mask", mask, 2, shape);
    TRY(imagepart_run(m->text, nn, &in, &answer, err));
    const struct imagetensor *y = imagetensors_find(&answer, "hidden");
    if (y == NULL || y->n != (int64_t)m->tokens * m->text->facts.text_width)
        return err_set(err, ERR_FORMAT, "%s: an answer of another size than it said", m->text->file);
    memcpy(out, y->data, (size_t)y->n * sizeof *out);
    return ERR_OK;
}

/* What a caption became and which tokens there are, and the size that the picture will have. */
static void put_captions(const struct latentmodel *m, struct nn *nn, int n, int height, int width,
                         const float *const *prompts, struct imagetensors *in)
{
    const int64_t t = m->tokens, d = m->text->facts.text_width;
    float *context = nn_take(nn, (size_t)(n * t * d) * sizeof *context);
    float *mask = nn_take(nn, (size_t)(n * t) * sizeof *mask);
    float *size = nn_take(nn, (size_t)n * 3 * sizeof *size), *aspect = size + 2 * n;
    for (int i = 0; i < n; i++) {
        memcpy(context + i * t * d, prompts[i], (size_t)(t * d) * sizeof *context);
        for (int64_t k = 0; k < t; k++)         /* between two prompts: of both */
            mask[i * t + k] = prompts[i][t * d + k] > 0;
        size[2 * i] = (float)(height * m->pixels);
        size[2 * i + 1] = (float)(width * m->pixels);
        aspect[i] = (float)((double)height / width);
    }
    imagetensors_put(in, "context", context, 3, (const int64_t[]){n, t, d});
    imagetensors_put(in, "mask", mask, 2, (const int64_t[]){n, t});
    imagetensors_put(in, "resolution", size, 2, (const int64_t[]){n, 2});
    imagetensors_put(in, "aspect_ratio", aspect, 2, (const int64_t[]){n, 1});
}

int latentmodel_denoise(struct latentmodel *m, struct nn *nn, int n, const float *x, int height, int width,
                        const double *times, const float *const *prompts, const float **out,
                        struct err *err)
{
    const struct imagefacts *f = &m->denoiser->facts;
    struct imagetensors in = {.n = 0}, answer = {.n = 0};
    const int64_t shape[4] = {n, f->channels_in, height, width}, each = shape[1] * height * width;
    nn_reset(nn);
    float *t = nn_take(nn, (size_t)n * sizeof *t);
    for (int i = 0; i < n; i++)
        t[i] = (float)times[i];
    imagetensors_put(&in, "in", (float *)(uintptr_t)x, 4, shape);
    imagetensors_put(&in, "t", t, 1, shape);
    float *labels = nn_take(nn, (size_t)n * sizeof *labels);
    for (int i = 0; i < n && f->classes > 0; i++)
        labels[i] = prompts[i][0];
    if (f->classes > 0)
        imagetensors_put(&in, "y", labels, 1, shape);
    if (m->text != NULL)
        put_captions(m, nn, n, height, width, prompts, &in);
    TRY(imagepart_run(m->denoiser, nn, &in, &answer, err));
    const struct imagetensor *y = imagetensors_find(&answer, "out");
    if (y == NULL || y->n != n * each * f->channels_out / f->channels_in)
        return err_set(err, ERR_FORMAT, "%s: an answer of another size than it said", m->denoiser->file);
    int64_t step = y->n / n;
    for (int i = 1; i < n && step != each; i++)        /* noise, then variance: the first half stays */
        memmove(y->data + i * each, y->data + i * step, (size_t)each * sizeof *y->data);
    *out = y->data;
    return ERR_OK;
}

/* gain x, one channel three times. */
static void paint(float *out, const float *x, int64_t channels, int64_t area, double gain)
{
    for (int64_t k = 0; k < 3; k++)
        for (int64_t i = 0; i < area; i++)
            out[k * area + i] = (float)(gain * x[(channels == 3 ? k : 0) * area + i]);
}

int latentmodel_decode(struct latentmodel *m, struct nn *nn, const float *x, int height, int width,
                       const float **out, struct err *err)
{
    const int64_t c = m->denoiser->facts.channels_in, area = (int64_t)height * width;
    struct imagetensors in = {.n = 0}, answer = {.n = 0};
    nn_reset(nn);
    float *z = nn_take(nn, (size_t)((c > 3 ? c : 3) * area) * sizeof *z);
    if (m->vae == NULL) {
        paint(z, x, c, area, m->gain);
        *out = z;
        return ERR_OK;
    }
    for (int64_t i = 0; i < c * area; i++)
        z[i] = (float)(x[i] / m->vae->facts.scaling + m->vae->facts.shift);
    imagetensors_put(&in, "decode.in", z, 4, (const int64_t[]){1, c, height, width});
    TRY(imagepart_run(m->vae, nn, &in, &answer, err));
    const struct imagetensor *y = imagetensors_find(&answer, "decode.out");
    if (y == NULL || y->n != 3 * area * m->pixels * m->pixels)
        return err_set(err, ERR_FORMAT, "%s: an answer of another size than it said", m->vae->file);
    *out = y->data;
    return ERR_OK;
}
