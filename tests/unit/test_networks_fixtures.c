/* Generators, discriminators and upscalers against the reference's outputs: fixtures/gan and the trained
 * upscalers of the data folder. Files are found by listing; what a file holds is told by its tensors and
 * the names of its expected inputs. */
#include "tests/fixturetensor.h"
#include "workers/models/gan.h"
#include "workers/models/upscaler.h"

#include <dirent.h>
#include <string.h>

static struct nn nn;
static int failures, checks;

static struct nn_tensor *tensor_from(struct tensorfile *t, const char *name)
{
    const struct tensor_entry *e;
    float *v = fixture_floats(t, name, &e);
    if (v == NULL)
        return NULL;
    struct nn_tensor *x = nn_new(&nn, e->n_dims, e->shape);
    memcpy(x->data, v, (size_t)x->n * sizeof *v);
    free(v);
    return x;
}

/* Off by more than limit of the tensor's rms? */
static void check(struct tensorfile *t, const char *file, const char *name, const float *got, double limit)
{
    const struct tensor_entry *e;
    double top, squares = 0, *want = fixture_values(t, name, &e);
    if (want == NULL || got == NULL) {
        printf("%s: nothing to compare for %s\n", file, name);
        failures++;
        return;
    }
    for (int64_t i = 0; i < e->n_elements; i++)
        squares += want[i] * want[i];
    double rms = sqrt(squares / (double)e->n_elements);
    double worst = fixture_distance(got, want, e->n_elements, &top);
    checks++;
    if (!(worst <= limit * rms)) {
        printf("%s: %s off by %.3g, rms %.3g\n", file, name, worst, rms);
        failures++;
    }
    free(want);
}

static int32_t *labels_from(struct tensorfile *t)
{
    struct nn_tensor *l = tensor_from(t, "labels");
    int32_t *out = l != NULL ? nn_take(&nn, (size_t)l->n * sizeof *out) : NULL;
    for (int64_t i = 0; l != NULL && i < l->n; i++)
        out[i] = (int32_t)l->data[i];
    return out;
}

static void one_sample_a_part(int64_t b)
{
    int64_t begin[NN_PARTS_MAX + 1];
    for (int64_t i = 0; i <= b; i++)
        begin[i] = i;
    nn_set_parts(&nn, (int)b, begin);
}

static void run_gan(const char *file, struct params *w, struct tensorfile *t)
{
    struct err err = {0};
    struct nn_tensor *z = tensor_from(t, "z"), *image = tensor_from(t, "image"), *out = NULL;
    const int32_t *labels = labels_from(t);
    bool generator = z != NULL, training = strstr(file, "_train") != NULL;
    struct nn_tensor *x = generator ? z : image;
    int rc;
    if (x == NULL)
        return;
    if (training) {     /* statistics of the batch: one part holds all */
        const int64_t begin[2] = {0, x->shape[0]};
        nn_set_parts(&nn, 1, begin);
    } else {
        one_sample_a_part(x->shape[0]);
    }
    struct gan_net net = {&nn, w, file, generator && training};
    struct gan_condition y = {labels, NULL};
    if (generator)
        rc = labels != NULL ? resgan_generator(&net, z, &y, &out, &err) : dcgan_generator(&net, z, &out, &err);
    else
        rc = labels != NULL ? resgan_discriminator(&net, x, &y, NULL, &out, NULL, &err)
                            : dcgan_discriminator(&net, x, &out, &err);
    if (rc != ERR_OK) {
        printf("%s: %s\n", file, err.msg);
        failures++;
        return;
    }
    check(t, file, generator ? "image" : "logit", out->data, 1e-4);
}

static void run_upscaler(const char *file, struct params *w, struct tensorfile *t, const char *in,
                         const char *out)
{
    struct upscaler u;
    struct err err = {0};
    struct nn_tensor *x = tensor_from(t, in);
    if (upscaler_describe(&u, w, file, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        failures++;
        return;
    }
    one_sample_a_part(x->shape[0]);
    check(t, file, out, upscaler_forward(&nn, &u, w, x)->data, 3e-4);
}

static void run_file(const char *folder, const char *name)
{
    char path[1400];
    struct tensorfile weights, t;
    struct params w = {0};
    struct err err = {0};
    size_t stem = strlen(name) - strlen(".expected.safetensors");
    snprintf(path, sizeof path, "%s/%.*s.safetensors", folder, (int)stem, name);
    if (tensorfile_open(&weights, path, &err) != ERR_OK)
        return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (tensorfile_open(&t, path, &err) != ERR_OK)
        exit(1);
    nn_reset(&nn);
    if (params_load(&w, &weights, &err) != ERR_OK) {
        printf("%s: %s\n", name, err.msg);
        failures++;
    } else if (params_find(&w, "conv_first.weight") != NULL || params_find(&w, "body.0.weight") != NULL ||
               params_find(&w, "model.1.sub.0.RDB1.conv1.0.weight") != NULL) {
        bool trained = tensorfile_find(&t, "input") != NULL;
        run_upscaler(name, &w, &t, trained ? "input" : "in", trained ? "output" : "out");
    } else if (params_find(&w, "main.0.weight") != NULL ||
               params_find(&w, "blocks.0.conv1.weight") != NULL ||
               params_find(&w, "blocks.0.conv1.weight_orig") != NULL) {
        run_gan(name, &w, &t);
    }
    params_free(&w);
    tensorfile_close(&weights);
    tensorfile_close(&t);
}

static bool run_folder(const char *folder)
{
    DIR *d = opendir(folder);
    if (d == NULL)
        return false;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name), m = strlen(".expected.safetensors");
        if (n > m && strcmp(e->d_name + n - m, ".expected.safetensors") == 0)
            run_file(folder, e->d_name);
    }
    closedir(d);
    return true;
}

static void refuse_damaged(void)
{
    struct params w = {0};
    struct upscaler u;
    struct err err = {0};
    params_add(&w, "conv_first.weight", 4, (const int64_t[]){8, 3, 3, 3});
    params_add(&w, "conv_first.bias", 1, (const int64_t[]){8});
    checks++;
    if (upscaler_describe(&u, &w, "x", &err) != ERR_FORMAT || strstr(err.msg, "conv_body") == NULL) {
        printf("a cut RRDBNet: %s\n", err.msg);
        failures++;
    }
    params_free(&w);
}

int main(void)
{
    const char *fixtures = getenv("MUSTER_FIXTURES"), *data = getenv("MUSTER_DATA");
    char path[600];
    struct err err = {0};
    enum isa isa;
    if (isa_choose(&isa, &err) != ERR_OK)
        return 1;
    nn_init(&nn, kernels_get(isa), NULL);
    snprintf(path, sizeof path, "%s/gan", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    bool any = run_folder(path);
    snprintf(path, sizeof path, "%s/image", data != NULL ? data : DATA_DEFAULT);
    any |= run_folder(path);
    if (!any)
        return 77;
    refuse_damaged();
    nn_free(&nn);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 || checks == 0;
}
