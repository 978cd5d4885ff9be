/* imagefamilies.c - the table of image networks, and how its rows read their inputs. */
#include "workers/models/imagefamily.h"

#include "workers/models/imagerows.h"
#include "workers/models/netshard.h"

#include <stdio.h>
#include <string.h>

const struct imagefamily *const imagefamilies[] = {
    &imagefamily_clip_projected, &imagefamily_clip, &imagefamily_mmdit, &imagefamily_pixart,
    &imagefamily_dit, &imagefamily_dcgan_generator, &imagefamily_dcgan_discriminator,
    &imagefamily_resgan_generator, &imagefamily_resgan_discriminator, &imagefamily_rrdb,
    &imagefamily_srvgg, &imagefamily_vaekl, &imagefamily_vaetiny, &imagefamily_stylegan,
    &imagefamily_gan_mlp, &imagefamily_gan_digits, &imagefamily_lenet, &imagefamily_ddpm,
    &imagefamily_t5, NULL,
};

const struct imagefamily *imagefamily_named(const char *kind)
{
    for (int i = 0; imagefamilies[i] != NULL; i++)
        if (strcmp(imagefamilies[i]->kind, kind) == 0)
            return imagefamilies[i];
    return NULL;
}

const struct imagefamily *imagefamily_of(const struct params *outline)
{
    for (int i = 0; imagefamilies[i] != NULL; i++)
        if (imagefamilies[i]->recognise != NULL && imagefamilies[i]->recognise(outline))
            return imagefamilies[i];
    return NULL;
}

static const double ANGLE_MOST = 1e6;      /* such numbers become angles (nnangle.h) */
static const char MISSING[] = " is missing";

static int missing(const char *name, struct err *err)
{
    return err_set(err, ERR_INVAL, "the input %s%s", name, MISSING);
}

bool imageinput_missing(const struct err *err)
{
    size_t n = strlen(err->msg), k = strlen(MISSING);
    return err->code == ERR_INVAL && n > k && strcmp(err->msg + n - k, MISSING) == 0;
}

/* "3 x 16 x ?" */
static void spell(char *out, size_t cap, int n_dims, const int64_t *sizes)
{
    size_t at = 0;
    for (int i = 0; i < n_dims && at < cap; i++)
        at += (size_t)(sizes[i] > 0 ? snprintf(out + at, cap - at, "%s%lld", i > 0 ? " x " : "",
                                               (long long)sizes[i])
                                    : snprintf(out + at, cap - at, "%s?", i > 0 ? " x " : ""));
}

int imageinput_tensor(struct nn *nn, const struct imagetensors *in, const char *name, bool needed,
                      int n_dims, const int64_t *sizes, struct nn_tensor **out, struct err *err)
{
    const struct imagetensor *t = imagetensors_find(in, name);
    char have[96] = "", want[96] = "";
    *out = NULL;
    if (t == NULL)
        return needed ? missing(name, err) : ERR_OK;
    bool same = t->n_dims == n_dims && t->n > 0;
    for (int i = 0; i < n_dims && same; i++)
        same = sizes[i] <= 0 || sizes[i] == t->shape[i];
    if (!same) {
        spell(have, sizeof have, t->n_dims, t->shape);
        spell(want, sizeof want, n_dims, sizes);
        return err_set(err, ERR_INVAL, "the input %s is %s, the network takes %s", name, have, want);
    }
    *out = nn_input(nn, t->data, n_dims, t->shape);
    return ERR_OK;
}

int imageinput_whole(struct nn *nn, const struct imagetensors *in, const char *name, bool needed,
                     int64_t n, int64_t limit, int32_t **out, struct err *err)
{
    const struct imagetensor *t = imagetensors_find(in, name);
    *out = NULL;
    if (t == NULL)
        return needed ? missing(name, err) : ERR_OK;
    if (t->n != n)
        return err_set(err, ERR_INVAL, "the input %s holds %lld numbers, expected %lld", name,
                       (long long)t->n, (long long)n);
    *out = nn_take(nn, (size_t)n * sizeof **out);
    for (int64_t i = 0; i < n; i++) {
        float v = t->data[i];
        if (!(v >= 0 && v < (float)limit) || v != (float)(int32_t)v)
            return err_set(err, ERR_INVAL, "the input %s holds %g: whole numbers 0 to %lld are known", name,
                           (double)v, (long long)limit - 1);
        (*out)[i] = (int32_t)v;
    }
    return ERR_OK;
}

int imageinput_doubles(struct nn *nn, const struct imagetensors *in, const char *name, bool needed,
                       int64_t n, double **out, struct err *err)
{
    const struct imagetensor *t = imagetensors_find(in, name);
    *out = NULL;
    if (t == NULL)
        return needed ? missing(name, err) : ERR_OK;
    if (t->n != n && t->n != 1)
        return err_set(err, ERR_INVAL, "the input %s holds %lld numbers, expected %lld", name,
                       (long long)t->n, (long long)n);
    *out = nn_take(nn, (size_t)n * sizeof **out);
    for (int64_t i = 0; i < n; i++) {
        int64_t k = t->n == 1 ? 0 : i;
        double v = (*out)[i] = t->exact != NULL ? t->exact[k] : t->data[k];
        if (!(v >= -ANGLE_MOST && v <= ANGLE_MOST))
            return err_set(err, ERR_INVAL, "the input %s holds %g: numbers up to %g are known", name, v,
                           ANGLE_MOST);
    }
    return ERR_OK;
}

int imageinput_parts(struct nn *nn, int64_t n, struct err *err)
{
    int64_t begin[NN_PARTS_MAX + 1];
    if (n < 1 || n > IMAGE_BATCH_MAX)
        return err_set(err, ERR_LIMIT, "%lld samples in one call, at most %d", (long long)n,
                       IMAGE_BATCH_MAX);
    for (int64_t i = 0; i <= n; i++)
        begin[i] = i;
    nn_set_parts(nn, (int)n, begin);
    return ERR_OK;
}

struct params_reader imagepart_reader(struct imagepart *p, struct nn *nn, struct err *err)
{
    return (struct params_reader){.set = &p->w, .nn = nn, .file = p->file, .err = err};
}

int imagesplit_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                   struct imagetensors *out, struct err *err)
{
    const struct imagesplit *s = p->family->split;
    struct netrows h = {0};
    struct nn_tensor *y;
    TRY(s->begin(p, nn, in, &h, err));
    const int64_t *shape = imagetensors_find(in, "in")->shape;
    TRY(s->layers(p, nn, NULL, &h, err));
    TRY(s->end(p, nn, &h, (int)shape[2] / p->facts.patch, (int)shape[3] / p->facts.patch, &y, err));
    imageoutput(out, "out", y);
    return ERR_OK;
}

void imageoutput(struct imagetensors *out, const char *name, const struct nn_tensor *t)
{
    imagetensors_put(out, name, t->data, t->n_dims, t->shape);
}
