/* GANs that learn, against fixtures/train/gan_train: losses, gradients and pictures of the first step;
 * weights, running statistics, power iterations and moving averages after the last. */
#include "tests/trainset.h"
#include "workers/models/gan.h"

static const double LOSS = 2e-5, GRADIENT = 1e-4, UPDATE = 5e-3;

static struct nn nn;

static void load(struct trainset *s, const char *folder, const char *prefix)
{
    struct tensorfile t = open_file(folder, "start.safetensors");
    struct params all = {0};
    struct err err = {0};
    memset(s, 0, sizeof *s);
    if (params_load(&all, &t, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        exit(1);
    }
    for (int i = 0; i < all.n; i++) {
        const struct param *p = &all.p[i];
        if (strncmp(p->name, prefix, strlen(prefix)) != 0)
            continue;
        struct param *q = params_add(&s->w, p->name + strlen(prefix), p->n_dims, p->shape);
        memcpy(q->data, p->data, (size_t)p->n * sizeof(float));
    }
    params_free(&all);
    tensorfile_close(&t);
    gan_freeze_buffers(&s->w);
    trainset_begin(s);
}

/* Step `step` of a tensor whose first axis counts steps. */
static struct nn_tensor *of_step(struct tensorfile *t, const char *name, int step)
{
    const struct tensor_entry *e;
    float *all = fixture_floats(t, name, &e);
    struct nn_tensor *x = nn_new(&nn, e->n_dims - 1, e->shape + 1);
    memcpy(x->data, all + step * x->n, (size_t)x->n * sizeof(float));
    free(all);
    return x;
}

static const int32_t *labels_of(struct tensorfile *t, const char *name, int step)
{
    struct nn_tensor *x = of_step(t, name, step);
    int32_t *labels = nn_take(&nn, (size_t)x->n * sizeof *labels);
    for (int64_t i = 0; i < x->n; i++)
        labels[i] = (int32_t)x->data[i];
    return labels;
}

static void must(int rc, const struct err *err)
{
    if (rc != ERR_OK) {
        printf("%s\n", err->msg);
        exit(1);
    }
}

static void same_values(struct tensorfile *t, const char *name, const float *got, double limit)
{
    const struct tensor_entry *e;
    double top, *want = fixture_values(t, name, &e), off = fixture_distance(got, want, e->n_elements, &top);
    expect(off <= limit * top, name, off / top, limit);
    free(want);
}

static void begin(struct trainset *learns, struct trainset *rests)
{
    params_begin(&learns->w);
    params_begin(&rests->w);
    learns->w.train = true;
    rests->w.train = false;
}

static struct adam_config adam_of(const json_t *expected)
{
    const json_t *o = json_object_get(expected, "optimizer");
    return (struct adam_config){.lr = number(o, "lr", -1), .beta1 = number(o, "betas", 0),
                                .beta2 = number(o, "betas", 1), .eps = number(o, "eps", -1)};
}

static void learn(struct trainset *s, struct nn_tensor *loss, const json_t *expected, const char *key,
                  int step, struct tensorfile *grads, const char *prefix, double ema)
{
    double off = fabs(loss->data[0] - number(expected, key, step));
    expect(off < LOSS, key, off, LOSS);
    nn_backward(&nn, loss, 1);
    trainset_fold(s, &nn);
    if (step == 0) {
        off = worst_gradient(s, grads, prefix, -1);
        expect(off < GRADIENT, prefix, off, GRADIENT);
    }
    trainset_step(s, adam_of(expected), step + 1, 1, ema);
}

static void check_after(const struct trainset *s, struct tensorfile *t, const char *prefix, bool ema)
{
    double buffers, off = worst_update(s, t, prefix, ema, &buffers);
    expect(off < UPDATE, prefix, off, UPDATE);
    expect(buffers < 1e-5, "running statistics", buffers, 1e-5);
}

static void step_resnet(const char *folder, struct trainset *g, struct trainset *d, const json_t *expected,
                        int step)
{
    struct tensorfile data = open_file(folder, "data.safetensors");
    struct tensorfile grads = open_file(folder, "grads_step1.safetensors");
    struct tensorfile first = open_file(folder, "step1.safetensors");
    struct gan_net generator = {&nn, &g->w, "G", true}, discriminator = {&nn, &d->w, "D", true};
    struct nn_tensor *fake, *on_real, *on_fake;
    struct err err = {0};
    nn_reset(&nn);
    begin(d, g);
    nn.recording = true;
    struct gan_condition y = {labels_of(&data, "y_d", step), NULL};
    struct gan_condition real_y = {labels_of(&data, "real_y", step), NULL};
    must(resgan_generator(&generator, of_step(&data, "z_d", step), &y, &fake, &err), &err);
    must(resgan_discriminator(&discriminator, of_step(&data, "real", step), &real_y, NULL, &on_real, NULL,
                              &err), &err);
    must(resgan_discriminator(&discriminator, fake, &y, NULL, &on_fake, NULL, &err), &err);
    if (step == 0) {
        float both[2 * 64];
        memcpy(both, on_real->data, (size_t)on_real->n * sizeof(float));
        memcpy(both + on_real->n, on_fake->data, (size_t)on_fake->n * sizeof(float));
        same_values(&first, "fake", fake->data, 1e-5);
        same_values(&first, "d_out", both, 1e-5);
    }
    learn(d, nn_hinge_d(&nn, on_real, on_fake), expected, "loss_d_f64", step, &grads, "D.", 0);
    nn_reset(&nn);
    begin(g, d);
    y.labels = labels_of(&data, "y_g", step);
    must(resgan_generator(&generator, of_step(&data, "z_g", step), &y, &fake, &err), &err);
    must(resgan_discriminator(&discriminator, fake, &y, NULL, &on_fake, NULL, &err), &err);
    learn(g, nn_hinge_g(&nn, on_fake), expected, "loss_g_f64", step, &grads, "G.",
          number(expected, "ema_decay", -1));
    tensorfile_close(&data);
    tensorfile_close(&grads);
    tensorfile_close(&first);
}

static void step_dcgan(const char *folder, struct trainset *g, struct trainset *d, const json_t *expected,
                       int step)
{
    struct tensorfile data = open_file(folder, "data.safetensors");
    struct tensorfile grads = open_file(folder, "grads_step1.safetensors");
    struct gan_net generator = {&nn, &g->w, "G", true}, discriminator = {&nn, &d->w, "D", true};
    struct nn_tensor *fake, *on_real, *on_fake;
    struct err err = {0};
    nn_reset(&nn);
    begin(d, g);
    nn.recording = true;
    g->w.train = true;          /* one forward of G serves both */
    struct nn_tensor *z = of_step(&data, "z", step);
    z = nn_reshape(&nn, z, 4, (const int64_t[]){z->shape[0], z->shape[1], 1, 1});
    must(dcgan_generator(&generator, z, &fake, &err), &err);
    if (step == 0)
        same_values(&grads, "fake", fake->data, 1e-5);
    struct nn_node *tape = nn.last;
    struct nn_tensor *still = nn_input(&nn, fake->data, fake->n_dims, fake->shape);
    must(dcgan_discriminator(&discriminator, of_step(&data, "real", step), &on_real, &err), &err);
    must(dcgan_discriminator(&discriminator, still, &on_fake, &err), &err);
    learn(d, nn_softplus_d(&nn, on_real, on_fake), expected, "loss_d_f64", step, &grads, "D.", 0);
    nn.last = tape;             /* D's part of the tape is spent */
    params_begin(&d->w);
    d->w.train = false;
    must(dcgan_discriminator(&discriminator, fake, &on_fake, &err), &err);
    learn(g, nn_softplus_g(&nn, on_fake), expected, "loss_g_f64", step, &grads, "G.", 0);
    tensorfile_close(&data);
    tensorfile_close(&grads);
}

typedef void step_of(const char *folder, struct trainset *g, struct trainset *d, const json_t *expected,
                     int step);

static void run(const char *folder, const json_t *expected, step_of *step, int n_parts)
{
    struct trainset g, d;
    char after[64];
    int steps = (int)number(expected, "steps", -1), b = (int)number(expected, "batch", -1);
    load(&g, folder, "G.");
    load(&d, folder, "D.");
    trainset_parts(&nn, b, n_parts < b ? n_parts : b);
    for (int i = 0; i < steps; i++)
        step(folder, &g, &d, expected, i);
    snprintf(after, sizeof after, "after_step%d.safetensors", steps);
    struct tensorfile t = open_file(folder, after);
    check_after(&g, &t, "G.", false);
    check_after(&d, &t, "D.", false);
    if (json_object_get(expected, "ema_decay") != NULL)
        check_after(&g, &t, "ema.", true);
    tensorfile_close(&t);
    trainset_free(&g);
    trainset_free(&d);
}

int main(void)
{
    const char *fixtures = getenv("MUSTER_FIXTURES");
    char folder[600], one[700];
    struct err err = {0};
    enum isa isa;
    if (isa_choose(&isa, &err) != ERR_OK)
        return 1;
    snprintf(folder, sizeof folder, "%s/train/gan_train", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    json_t *expected = open_json(folder, "expect.json");
    if (expected == NULL)
        return 77;
    nn_init(&nn, kernels_get(isa), NULL);
    for (int parts = 1; parts <= 4; parts++) {
        snprintf(one, sizeof one, "%s/resnet", folder);
        run(one, json_object_get(expected, "resnet"), step_resnet, parts);
        snprintf(one, sizeof one, "%s/dcgan", folder);
        run(one, json_object_get(expected, "dcgan"), step_dcgan, parts);
    }
    json_decref(expected);
    nn_free(&nn);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 || checks == 0;
}
