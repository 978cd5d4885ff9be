#include "workers/latentmodel.h"

#include "workers/filehash.h"
#include "workers/models/imagefamily.h"
#include "workers/models/textfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_MAX = 1 << 20, PIXELS_MAX = 64 };

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

/* The class of a folder's transformer, looked at before the folder is opened. */
static bool is_class_told(const char *path)
{
    char folder[4096], *text = NULL;
    size_t n;
    struct err err = {0};
    snprintf(folder, sizeof folder, "%.4000s/transformer", path);
    if (textfile_read(folder, "config.json", CONFIG_MAX, false, &text, &n, &err) != ERR_OK || text == NULL)
        return false;
    json_t *config = json_loads(text, 0, NULL);
    const char *name = json_string_value(json_object_get(config, "_class_name"));
    bool yes = name != NULL && strcmp(name, "DiTTransformer2DModel") == 0;
    json_decref(config);
    free(text);
    return yes;
}

bool latentmodel_is(const char *path)
{
    struct imagemodel m;
    struct err err = {0};
    if (!is_file(path))
        return is_class_told(path);
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
    return m->denoiser->parameters + (m->vae != NULL ? m->vae->parameters : 0);
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

int latentmodel_denoise(struct latentmodel *m, struct nn *nn, int n, const float *x, int height, int width,
                        const double *times, const float *labels, const float **out, struct err *err)
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
    if (f->classes > 0)
        imagetensors_put(&in, "y", (float *)(uintptr_t)labels, 1, shape);
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
