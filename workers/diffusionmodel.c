#include "workers/diffusionmodel.h"

#include "workers/filehash.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PIXELS_MAX = 64 };

/* The schedule of the digits' file: its table has an entry for time 0, too. Pictures are -0.5..0.5. */
static const char DIGITS_SCHEDULE[] =
    "{\"_class_name\": \"DDIMScheduler\", \"num_train_timesteps\": 1001, \"beta_schedule\": \"linear\", "
    "\"beta_start\": 0.0001, \"beta_end\": 0.02, \"prediction_type\": \"epsilon\", \"clip_sample\": false, "
    "\"set_alpha_to_one\": true, \"timestep_spacing\": \"trailing\"}";
static const double DIGITS_GAIN = 2;

bool diffusionmodel_is_file(const char *path)
{
    struct imagemodel m;
    struct stat st;
    struct err err = {0};
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || imagemodel_open(&m, path, &err) != ERR_OK)
        return false;
    bool yes = imagemodel_role(&m, IMAGE_DENOISER) != NULL;
    imagemodel_close(&m);
    return yes;
}

static int take_schedule(struct diffusionmodel *m, struct err *err)
{
    bool digits = strcmp(imagepart_kind(m->denoiser), "DDPM of digits") == 0;
    m->gain = digits ? DIGITS_GAIN : 1;
    m->schedule = digits ? json_loads(DIGITS_SCHEDULE, 0, NULL) : json_incref(m->model.scheduler);
    return m->schedule != NULL ? ERR_OK
                               : err_set(err, ERR_IO, "%s: no scheduler/scheduler_config.json in it: a part "
                                         "of the model is missing", m->model.path);
}

static int no_denoiser(struct diffusionmodel *m, struct err *err)
{
    for (int i = 0; i < m->model.n_parts; i++)
        if (m->model.part[i].family == NULL)
            return err_set(err, ERR_FORMAT, "%s: a %s; imagine runs SD3Transformer2DModel, "
                           "PixArtTransformer2DModel and DiTTransformer2DModel", m->model.part[i].file,
                           imagepart_kind(&m->model.part[i]));
    return err_set(err, ERR_FORMAT, "%s: no denoiser in it", m->model.path);
}

/* Pictures have three channels or are grey; beside a small one to be enlarged they have six. */
static bool fits_pictures(const struct diffusionmodel *m)
{
    const struct imagefacts *d = &m->denoiser->facts;
    if (m->vae != NULL)
        return m->vae->facts.channels_in == d->channels_in && m->vae->facts.channels_out == 3;
    return d->channels_in == 1 || d->channels_in == 3 || (d->channels_in == 6 && d->channels_out == 3);
}

static int take_parts(struct diffusionmodel *m, struct err *err)
{
    m->denoiser = imagemodel_role(&m->model, IMAGE_DENOISER);
    m->vae = imagemodel_role(&m->model, IMAGE_VAE);
    if (m->denoiser == NULL)
        return no_denoiser(m, err);
    const struct imagefacts *d = &m->denoiser->facts;
    m->pixels = m->vae != NULL ? m->vae->facts.scale : 1;
    m->channels = d->channels_in;
    m->channels_out = m->vae == NULL && d->channels_in == 6 ? 3 : d->channels_in;
    if (!fits_pictures(m))
        return err_set(err, ERR_FORMAT, "%s: a denoiser of %d channels and no decoder from these to a "
                       "picture", m->model.path, d->channels_in);
    if (m->pixels < 1 || m->pixels > PIXELS_MAX || d->patch < 1 || d->side < 1 ||
        (d->channels_out != m->channels_out && d->channels_out != 2 * m->channels_out))
        return err_set(err, ERR_FORMAT, "%s: %d channels from %d make no sense", m->denoiser->file,
                       d->channels_out, d->channels_in);
    return prompttext_open(&m->text, &m->model, m->denoiser, err);
}

int diffusionmodel_open(struct diffusionmodel *m, const char *path, struct err *err)
{
    memset(m, 0, sizeof *m);
    TRY(imagemodel_open(&m->model, path, err));
    int rc = take_parts(m, err);
    if (rc == ERR_OK)
        rc = take_schedule(m, err);
    if (rc != ERR_OK)
        diffusionmodel_close(m);
    return rc;
}

int diffusionmodel_load(struct diffusionmodel *m, const struct netshard_held *held, struct err *err)
{
    if (held == NULL)
        return ERR_OK;
    TRY(imagepart_splits(m->denoiser) ? imagepart_load_share(m->denoiser, held, err)
                                      : imagepart_load(m->denoiser, err));
    if (!held->leads)
        return ERR_OK;
    TRY(prompttext_load(&m->text, err));
    return m->vae != NULL ? imagepart_load(m->vae, err) : ERR_OK;
}

void diffusionmodel_close(struct diffusionmodel *m)
{
    json_decref(m->schedule);
    imagemodel_close(&m->model);
    memset(m, 0, sizeof *m);
}

uint64_t diffusionmodel_parameters(const struct diffusionmodel *m)
{
    return m->denoiser->parameters + prompttext_parameters(&m->text) +
           (m->vae != NULL ? m->vae->parameters : 0);
}

int diffusionmodel_hash(const struct diffusionmodel *m, char hex[65], struct err *err)
{
    struct tensorfile t;
    TRY(tensorfile_open(&t, m->denoiser->path, err));
    int rc = filehash_hex(t.path, t.n_files, hex, err);
    tensorfile_close(&t);
    return rc;
}

bool diffusionmodel_decodes(const struct diffusionmodel *m)
{
    return m->vae != NULL || m->channels == 1 || m->gain != 1;
}

/* --- what it is told */

int64_t diffusionmodel_prompt_floats(const struct diffusionmodel *m)
{
    return m->text.n > 0 ? prompttext_floats(&m->text) : m->denoiser->facts.classes > 0;
}

int diffusionmodel_encode(struct diffusionmodel *m, struct nn *nn, const uint32_t *ids, int n, float *out,
                          struct err *err)
{
    if (m->text.n > 0)
        return prompttext_encode(&m->text, nn, ids, n, out, err);
    out[0] = n == 1 ? (float)ids[0] : -1;       /* a class */
    return ERR_OK;
}

/* --- the networks */

/* The size that the pictures will have. */
static void put_sizes(const struct diffusionmodel *m, struct nn *nn, const struct diffusionmodel_call *c,
                      struct imagetensors *in)
{
    float *size = nn_take(nn, (size_t)c->n * 3 * sizeof *size), *aspect = size + 2 * c->n;
    for (int i = 0; i < c->n; i++) {
        size[2 * i] = (float)(c->height * m->pixels);
        size[2 * i + 1] = (float)(c->width * m->pixels);
        aspect[i] = (float)((double)c->height / c->width);
    }
    imagetensors_put(in, "resolution", size, 2, (const int64_t[]){c->n, 2});
    imagetensors_put(in, "aspect_ratio", aspect, 2, (const int64_t[]){c->n, 1});
}

static void put_inputs(const struct diffusionmodel *m, struct nn *nn, const struct diffusionmodel_call *c,
                       struct imagetensors *in)
{
    const int64_t shape[4] = {c->n, m->channels, c->height, c->width};
    float *t = nn_take(nn, (size_t)c->n * sizeof *t), *y = nn_take(nn, (size_t)c->n * sizeof *y);
    imagetensors_put(in, "in", (float *)(uintptr_t)c->x, 4, shape);
    for (int i = 0; i < c->n; i++)
        t[i] = (float)c->times[i];
    imagetensors_put(in, "t", t, 1, shape)->exact = c->times;
    for (int i = 0; i < c->n && m->denoiser->facts.classes > 0; i++)
        y[i] = c->prompts[i][0];
    if (m->denoiser->facts.classes > 0)
        imagetensors_put(in, "y", y, 1, shape);
    if (m->text.n > 0)
        prompttext_put(&m->text, nn, c->n, c->prompts, in);
    put_sizes(m, nn, c, in);
}

int diffusionmodel_denoise(struct diffusionmodel *m, struct nn *nn, struct imagegroup *g,
                           const struct diffusionmodel_call *c, const float **out, struct err *err)
{
    struct imagetensors in = {.n = 0}, answer = {.n = 0};
    const int64_t each = (int64_t)m->channels_out * c->height * c->width;
    nn_reset(nn);
    put_inputs(m, nn, c, &in);
    TRY(g != NULL ? imagegroup_run(g, m->denoiser, nn, &in, &answer, err)
                  : imagepart_run(m->denoiser, nn, &in, &answer, err));
    const struct imagetensor *y = imagetensors_find(&answer, "out");
    if (y == NULL || y->n != c->n * each * m->denoiser->facts.channels_out / m->channels_out)
        return err_set(err, ERR_FORMAT, "%s: an answer of another size than it said", m->denoiser->file);
    int64_t step = y->n / c->n;
    for (int i = 1; i < c->n && step != each; i++)        /* noise, then variance: the first half stays */
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

/* The autoencoder's answer [n] to the input `name` [1, channels, h, w]: the first, which is the mean where
 * there are a mean and a variance. */
static int run_vae(struct diffusionmodel *m, struct nn *nn, const char *name, float *in,
                   const int64_t shape[4], int64_t n, float **out, struct err *err)
{
    struct imagetensors asked = {.n = 0}, answer = {.n = 0};
    imagetensors_put(&asked, name, in, 4, shape);
    TRY(imagepart_run(m->vae, nn, &asked, &answer, err));
    if (answer.n < 1 || answer.t[0].n != n)
        return err_set(err, ERR_FORMAT, "%s: an answer of another size than it said", m->vae->file);
    *out = answer.t[0].data;
    return ERR_OK;
}

int diffusionmodel_decode(struct diffusionmodel *m, struct nn *nn, const float *x, int height, int width,
                          const float **out, struct err *err)
{
    const int64_t c = m->channels_out, area = (int64_t)height * width;
    const int64_t shape[4] = {1, c, height, width};
    float *y;
    nn_reset(nn);
    float *z = nn_take(nn, (size_t)((c > 3 ? c : 3) * area) * sizeof *z);
    *out = z;
    if (m->vae == NULL) {
        paint(z, x, c, area, m->gain);
        return ERR_OK;
    }
    for (int64_t i = 0; i < c * area; i++)
        z[i] = (float)(x[i] / m->vae->facts.scaling + m->vae->facts.shift);
    TRY(run_vae(m, nn, "decode.in", z, shape, 3 * area * m->pixels * m->pixels, &y, err));
    *out = y;
    return ERR_OK;
}

/* The other way of paint: grey is the mean of three channels. */
static void unpaint(float *out, const float *picture, int64_t channels, int64_t area, double gain)
{
    for (int64_t k = 0; k < channels; k++)
        for (int64_t i = 0; i < area; i++) {
            double v = channels == 3 ? picture[k * area + i]
                                     : ((double)picture[i] + picture[area + i] + picture[2 * area + i]) / 3;
            out[k * area + i] = (float)(v / gain);
        }
}

int diffusionmodel_encode_picture(struct diffusionmodel *m, struct nn *nn, const float *picture, int height,
                                  int width, const float **out, struct err *err)
{
    const int64_t c = m->channels_out, area = (int64_t)height * width;
    const int64_t shape[4] = {1, 3, (int64_t)height * m->pixels, (int64_t)width * m->pixels};
    float *z;
    nn_reset(nn);
    if (m->vae == NULL) {
        z = nn_take(nn, (size_t)(c * area) * sizeof *z);
        unpaint(z, picture, c, area, m->gain);
        *out = z;
        return ERR_OK;
    }
    TRY(run_vae(m, nn, "encode.in", (float *)(uintptr_t)picture, shape, c * area, &z, err));
    for (int64_t i = 0; i < c * area; i++)
        z[i] = (float)((z[i] - m->vae->facts.shift) * m->vae->facts.scaling);
    *out = z;
    return ERR_OK;
}
