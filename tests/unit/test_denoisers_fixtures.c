/* The transformer denoisers and the CLIP text encoder: every folder of diffusion/ with an
 * SD3Transformer2DModel or a PixArtTransformer2DModel at its seams, and three training steps of
 * train/mmdit_train and train/dit_train (loss, gradients, weights), by the measures of the README there. */
#include "tests/fixturetensor.h"
#include "workers/models/cliptext.h"
#include "workers/models/mmdit.h"
#include "workers/models/pixart.h"
#include "workers/train/optimizer.h"

#include <dirent.h>
#include <string.h>

static struct nn nn;
static int failures, checks;
/* How far an answer may be off: in f32, and with products of bfloat16 numbers, there as a share of the largest
 * (measured: 0.0100). */
static const double LIMIT_F32 = 1e-4, LIMIT_HALF = 2e-2;

static double limit_of(void) { return nn.half ? LIMIT_HALF : LIMIT_F32; }

struct network { struct params w; json_t *config; char file[1300]; };

static bool open_network(struct network *n, const char *folder, const char *weights)
{
    struct tensorfile t;
    struct err err = {0};
    char path[1200];
    memset(n, 0, sizeof *n);
    snprintf(path, sizeof path, "%s/config.json", folder);
    n->config = json_load_file(path, 0, NULL);
    snprintf(n->file, sizeof n->file, "%s/%s", folder, weights);
    if (n->config == NULL || tensorfile_open(&t, n->file, &err) != ERR_OK)
        return false;
    int rc = params_load(&n->w, &t, &err);
    tensorfile_close(&t);
    if (rc != ERR_OK) {
        printf("%s\n", err.msg);
        failures++;
    }
    return rc == ERR_OK;
}

static void close_network(struct network *n)
{
    params_free(&n->w);
    json_decref(n->config);
}

static void check(struct tensorfile *t, const char *name, const float *got, double limit, bool relative)
{
    const struct tensor_entry *e;
    double top, *want = fixture_values(t, name, &e);
    if (want == NULL)
        return;
    double worst = fixture_distance(got, want, e->n_elements, &top);
    checks++;
    if (!(worst <= limit * (relative ? top : 1))) {
        printf("%s: off by %.3g of %.3g\n", name, worst, top);
        failures++;
    }
    free(want);
}

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

static int32_t *ids_from(struct tensorfile *t, const char *name, int64_t *b, int64_t *l)
{
    const struct tensor_entry *e;
    double *v = fixture_values(t, name, &e);
    if (v == NULL)
        return NULL;
    int32_t *ids = nn_take(&nn, (size_t)e->n_elements * sizeof *ids);
    for (int64_t i = 0; i < e->n_elements; i++)
        ids[i] = (int32_t)v[i];
    *b = e->shape[0];
    *l = e->shape[1];
    free(v);
    return ids;
}

static void note(const char *where, const struct err *err)
{
    printf("%s: %s\n", where, err->msg);
    failures++;
}

/* Rows of a tensor [b, ..] from the first on. */
static struct nn_tensor *first_rows(struct nn_tensor *x, int64_t n)
{
    int64_t shape[NN_DIMS_MAX];
    memcpy(shape, x->shape, sizeof shape);
    shape[0] = n;
    return nn_input(&nn, x->data, x->n_dims, shape);
}

/* Either family behind one call. */
struct denoiser {
    struct network net;
    bool pixart;
    struct mmdit_config mm;
    struct pixart_config px;
};

struct text_input {
    struct nn_tensor *context, *pooled;
    const uint8_t *mask;
    const double *resolution, *aspect;
};

static int open_denoiser(struct denoiser *d, const char *folder, struct err *err)
{
    if (!open_network(&d->net, folder, "diffusion_pytorch_model.safetensors"))
        return 0;
    const char *name = json_string_value(json_object_get(d->net.config, "_class_name"));
    d->pixart = name != NULL && strcmp(name, "PixArtTransformer2DModel") == 0;
    if (name == NULL || (!d->pixart && strcmp(name, "SD3Transformer2DModel") != 0)) {
        close_network(&d->net);
        return 0;
    }
    int rc = d->pixart ? pixart_config_read(&d->px, d->net.config, d->net.file, err)
                       : mmdit_config_read(&d->mm, d->net.config, d->net.file, err);
    if (rc == ERR_OK)
        rc = d->pixart ? pixart_check(&d->px, &d->net.w, d->net.file, err)
                       : mmdit_check(&d->mm, &d->net.w, d->net.file, err);
    if (rc != ERR_OK)
        note(folder, err);
    return 1;
}

static int denoise(struct denoiser *d, struct nn_tensor *x, const double *times,
                   const struct text_input *text, struct nn_tensor **out, struct err *err)
{
    struct pixart_input in = {x, text->context, times, text->mask, text->resolution, text->aspect};
    if (d->pixart)
        return pixart_forward(&nn, &d->px, &d->net.w, d->net.file, &in, out, err);
    return mmdit_forward(&nn, &d->mm, &d->net.w, d->net.file, x, times, text->context, text->pooled, out,
                         err);
}

static void run_call(struct tensorfile *t, struct denoiser *d, const char *in_name, const char *out_name,
                     const double *times, const struct text_input *text)
{
    struct err err = {0};
    struct nn_tensor *x = tensor_from(t, in_name), *out;
    params_begin(&d->net.w);
    int64_t b = x->shape[0], begin[NN_PARTS_MAX + 1];
    for (int64_t i = 0; i <= b; i++)
        begin[i] = i;
    nn_set_parts(&nn, (int)b, begin);
    struct text_input rows = *text;
    rows.context = first_rows(text->context, b);
    rows.pooled = text->pooled != NULL ? first_rows(text->pooled, b) : NULL;
    if (denoise(d, x, times, &rows, &out, &err) != ERR_OK) {
        note(in_name, &err);
        return;
    }
    check(t, out_name, out->data, limit_of(), nn.half);
}

/* NAME as bytes, or as doubles; NULL when absent. */
static const uint8_t *mask_from(struct tensorfile *t, const char *name)
{
    const struct tensor_entry *e;
    double *v = fixture_values(t, name, &e);
    uint8_t *out = v != NULL ? nn_take(&nn, (size_t)e->n_elements) : NULL;
    for (int64_t i = 0; v != NULL && i < e->n_elements; i++)
        out[i] = v[i] != 0;
    free(v);
    return out;
}

static const double *doubles_from(struct tensorfile *t, const char *name)
{
    const struct tensor_entry *e;
    double *v = fixture_values(t, name, &e), *out = NULL;
    if (v != NULL)
        out = memcpy(nn_take(&nn, (size_t)e->n_elements * sizeof *v), v,
                     (size_t)e->n_elements * sizeof *v);
    free(v);
    return out;
}

/* Text of a folder that has ids and its own encoder; NULL otherwise. */
static bool run_text(struct tensorfile *t, const char *folder, struct nn_tensor **context,
                     struct nn_tensor **pooled)
{
    struct network text;
    struct cliptext_config c;
    struct cliptext_out out;
    struct err err = {0};
    char path[1200];
    int64_t b, l;
    int32_t *ids = ids_from(t, "ids", &b, &l);
    snprintf(path, sizeof path, "%s/text_encoder", folder);
    if (ids == NULL || !open_network(&text, path, "model.safetensors"))
        return false;
    const int64_t begin[2] = {0, b};
    nn_set_parts(&nn, 1, begin);
    bool ok = cliptext_config_read(&c, text.config, text.file, &err) == ERR_OK &&
              cliptext_forward(&nn, &c, &text.w, text.file, ids, b, l, &out, &err) == ERR_OK;
    if (ok) {
        check(t, "text.hidden", out.hidden->data, limit_of(), nn.half);
        check(t, "text.pooled", out.pooled->data, limit_of(), nn.half);
        if (out.embeds != NULL)
            check(t, "text.text_embeds", out.embeds->data, limit_of(), nn.half);
        *context = out.hidden;
        *pooled = out.embeds;
    } else {
        note(path, &err);
    }
    close_network(&text);
    return ok;
}

/* The text that comes with the call STEM.in, where the folder has no encoder of its own. */
static void text_of_call(struct tensorfile *t, const char *stem, struct text_input *text)
{
    char name[320];
    snprintf(name, sizeof name, "%s.context", stem);
    text->context = tensor_from(t, name);
    snprintf(name, sizeof name, "%s.pooled", stem);
    text->pooled = tensor_from(t, name);
    snprintf(name, sizeof name, "%s.mask", stem);
    text->mask = mask_from(t, name);
    snprintf(name, sizeof name, "%s.resolution", stem);
    text->resolution = doubles_from(t, name);
    snprintf(name, sizeof name, "%s.aspect_ratio", stem);
    text->aspect = doubles_from(t, name);
}

/* All calls FAMILY.tT of the expected file. */
static void run_calls(struct tensorfile *t, struct denoiser *d, const char *family, bool own_text,
                      struct text_input *text)
{
    for (int i = 0; i < t->n_tensors; i++) {
        const char *name = t->tensor[i].name, *dot = strrchr(name, '.');
        char stem[300], out[320];
        double times[64];
        size_t n = strlen(family);
        if (dot == NULL || strcmp(dot, ".in") != 0 || strncmp(name, family, n) != 0 ||
            strncmp(name + n, ".t", 2) != 0)
            continue;
        for (int k = 0; k < 64; k++)
            times[k] = strtod(name + n + 2, NULL);
        snprintf(stem, sizeof stem, "%.*s", (int)(dot - name), name);
        if (!own_text)
            text_of_call(t, stem, text);
        snprintf(out, sizeof out, "%s.out", stem);
        run_call(t, d, name, out, times, text);
    }
}

/* fixed: as painters run it, else as learners do. */
static void run_folder_as(const char *folder, bool fixed)
{
    struct denoiser d = {0};
    struct tensorfile t;
    struct err err = {0};
    struct text_input text = {0};
    char path[1200];
    snprintf(path, sizeof path, "%s/transformer", folder);
    if (!open_denoiser(&d, path, &err))
        return;
    d.net.w.fixed = fixed;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (tensorfile_open(&t, path, &err) != ERR_OK) {
        note(path, &err);
        close_network(&d.net);
        return;
    }
    nn_reset(&nn);
    bool own_text = run_text(&t, folder, &text.context, &text.pooled);
    text.mask = d.pixart ? mask_from(&t, "mask") : NULL;
    run_calls(&t, &d, d.pixart ? "dit" : "mmdit", own_text, &text);
    const double *mixed = doubles_from(&t, d.pixart ? "dit.mixed_t" : "mmdit.mixed_t");
    if (mixed != NULL)
        run_call(&t, &d, d.pixart ? "dit.t500.in" : "mmdit.t500.in",
                 d.pixart ? "dit.mixed_t.out" : "mmdit.mixed_t.out", mixed, &text);
    if (tensorfile_find(&t, "mmdit.wide.in") != NULL)
        run_call(&t, &d, "mmdit.wide.in", "mmdit.wide.out", (const double[]){500}, &text);
    tensorfile_close(&t);
    close_network(&d.net);
}

static void run_folder(const char *folder)
{
    run_folder_as(folder, false);
    run_folder_as(folder, true);
    nn.half = isa_has_bf16();
    if (nn.half)
        run_folder_as(folder, true);
    nn.half = false;
}

/* --- training */

struct training {
    struct denoiser denoiser;
    struct network text;
    struct cliptext_config tc;
    struct tensorfile in;
    float *m[2], *v[2];         /* moments of both networks, one after the other */
    json_t *expect;
};

static float *floats(struct tensorfile *t, const char *name, int64_t *n)
{
    const struct tensor_entry *e;
    float *v = fixture_floats(t, name, &e);
    *n = e->n_elements;
    return v;
}

/* x_t and target of step k (from 0), and what the model is told. */
static void noised(struct training *s, int k, const char *objective, struct nn_tensor **x_t,
                   struct nn_tensor **target, double *times)
{
    bool flow = strcmp(objective, "flow") == 0, v = strcmp(objective, "v") == 0;
    int64_t all;
    float *x0 = floats(&s->in, "x0", &all), *noise = floats(&s->in, "noise", &all);
    float *when = floats(&s->in, flow ? "s" : "t", &(int64_t){0});
    const struct tensor_entry *e = tensorfile_find(&s->in, "x0");
    int64_t b = e->shape[1], n = all / e->shape[0] / b;
    *x_t = nn_new(&nn, 4, e->shape + 1);
    *target = nn_new(&nn, 4, e->shape + 1);
    for (int64_t i = 0; i < b; i++) {
        double w = when[k * b + i], a = 1 - w, g = w;
        if (!flow) {        /* the cosine table, in double */
            double bar = 1;
            for (int q = 0; q <= (int)w; q++) {
                double u = q / 1000.0, z = (q + 1) / 1000.0;
                double f0 = cos((u + .008) / 1.008 * M_PI / 2), f1 = cos((z + .008) / 1.008 * M_PI / 2);
                double beta = 1 - f1 * f1 / (f0 * f0);
                bar *= 1 - (beta < .999 ? beta : .999);
            }
            a = sqrt(bar);
            g = sqrt(1 - bar);
        }
        times[i] = flow ? 1000.0 * when[k * b + i] : w;
        for (int64_t j = 0; j < n; j++) {
            float clean = x0[(k * b + i) * n + j], e1 = noise[(k * b + i) * n + j];
            (*x_t)->data[i * n + j] = (float)(a * clean + g * e1);
            (*target)->data[i * n + j] = flow ? e1 - clean : v ? (float)(a * e1 - g * clean) : e1;
        }
    }
    free(x0);
    free(noise);
    free(when);
}

static struct nn_tensor *loss_of(struct training *s, int k, const char *objective, struct err *err)
{
    struct nn_tensor *x_t, *target, *pred;
    struct cliptext_out text;
    double times[64];
    int64_t b, l, rows;
    const struct tensor_entry *e = tensorfile_find(&s->in, "ids");
    rows = e->shape[1];
    int32_t *ids = ids_from(&s->in, "ids", &b, &l) + k * rows * e->shape[2];
    noised(s, k, objective, &x_t, &target, times);
    const uint8_t *mask = mask_from(&s->in, "mask");
    if (cliptext_forward(&nn, &s->tc, &s->text.w, s->text.file, ids, rows, e->shape[2], &text, err) != 0)
        return NULL;
    struct text_input in = {.context = text.hidden, .pooled = text.embeds,
                            .mask = mask != NULL ? mask + k * rows * e->shape[2] : NULL};
    if (denoise(&s->denoiser, x_t, times, &in, &pred, err) != ERR_OK)
        return NULL;
    return nn_mse(&nn, pred, target);
}

/* Folded gradients of all parameters in place of the first part; returns the norm. */
static double fold_gradients(struct params *w, float **grads)
{
    double squares = 0;
    for (int i = 0; i < w->n; i++) {
        struct param *p = &w->p[i];
        grads[i] = NULL;
        if (p->frozen || p->bound == NULL || p->bound->grad == NULL)
            continue;
        grads[i] = nn_take(&nn, (size_t)p->n * sizeof(float));
        nn_fold(&nn, grads[i], p->bound->grad, p->n);
        squares += optimizer_squares(grads[i], p->n);
    }
    return squares;
}

static void step_network(struct params *w, float **grads, double scale, int64_t step, float *m, float *v,
                         const json_t *decayed, const char *prefix)
{
    static float zeros[1 << 16];
    for (int i = 0; i < w->n; i++) {
        struct param *p = &w->p[i];
        char full[300];
        bool decays = false;
        size_t k;
        json_t *name;
        snprintf(full, sizeof full, "%s%s", prefix, p->name);
        json_array_foreach(decayed, k, name)
            decays |= strcmp(json_string_value(name), full) == 0;
        struct adam_config c = {1e-3, .9, .999, 1e-8, decays ? 0.01 : 0};
        if (!p->frozen)
            adam_step(&c, step, scale, p->data, grads[i] != NULL ? grads[i] : zeros, m, v, p->n);
        m += p->n;
        v += p->n;
    }
}

static bool listed(const json_t *names, const char *name)
{
    size_t k;
    json_t *v;
    json_array_foreach(names, k, v)
        if (strcmp(json_string_value(v), name) == 0)
            return true;
    return false;
}

static void compare_gradients(struct training *s, struct tensorfile *want, struct params *w,
                              float **grads, const char *prefix)
{
    const json_t *zero = json_object_get(s->expect, "gradient_is_zero_in_exact_arithmetic");
    for (int i = 0; i < w->n; i++) {
        char full[300];
        double largest = 0;
        snprintf(full, sizeof full, "%s%s", prefix, w->p[i].name);
        for (int64_t k = 0; grads[i] != NULL && k < w->p[i].n; k++)
            largest = fabs(grads[i][k]) > largest ? fabs(grads[i][k]) : largest;
        if (listed(zero, full) ||
            listed(json_object_get(s->expect, "gradient_is_exactly_zero"), full)) {
            checks++;
            if (largest > 1e-7) {
                printf("%s: gradient %.3g, expected none\n", full, largest);
                failures++;
            }
        } else if (grads[i] != NULL) {
            check(want, full, grads[i], 1e-4, true);
        }
    }
}

/* |(p - p0) - (q - q0)| / |q - q0| of each tensor after the last step. */
static void compare_updates(struct training *s, struct tensorfile *want, struct network *net,
                            struct network *start, const char *prefix)
{
    for (int i = 0; i < net->w.n; i++) {
        const struct tensor_entry *e;
        char full[300];
        double top = 0, off = 0;
        snprintf(full, sizeof full, "%s%s", prefix, net->w.p[i].name);
        double *q = fixture_values(want, full, &e);
        if (q == NULL || listed(json_object_get(s->expect, "gradient_is_zero_in_exact_arithmetic"), full)) {
            free(q);
            continue;
        }
        const float *p = net->w.p[i].data, *p0 = start->w.p[i].data;
        for (int64_t k = 0; k < net->w.p[i].n; k++) {
            double d = q[k] - p0[k], mine = (double)p[k] - p0[k];
            top += d * d;
            off += (mine - d) * (mine - d);
        }
        checks++;
        if (top > 0 && sqrt(off / top) > 2e-2) {
            printf("%s: update off by %.3g\n", full, sqrt(off / top));
            failures++;
        }
        free(q);
    }
}

static void open_training(struct training *s, const char *folder)
{
    char path[1200];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/transformer", folder);
    if (!open_denoiser(&s->denoiser, path, &err))
        exit(1);
    snprintf(path, sizeof path, "%s/text_encoder", folder);
    if (!open_network(&s->text, path, "model.safetensors"))
        exit(1);
    struct param *table = params_find(&s->denoiser.net.w, "pos_embed.pos_embed");
    if (table != NULL)
        table->frozen = true;
    s->denoiser.net.w.train = s->text.w.train = true;
    if (cliptext_config_read(&s->tc, s->text.config, s->text.file, &err) != ERR_OK)
        note(folder, &err);
}

static void train(const char *folder, const char *objective, int n_parts)
{
    struct training s = {0}, start = {0};
    struct tensorfile want_g, want_p;
    struct err err = {0};
    char path[1200];
    float *grads[2][512];
    open_training(&s, folder);
    open_training(&start, folder);
    snprintf(path, sizeof path, "%s/inputs.safetensors", folder);
    if (tensorfile_open(&s.in, path, &err) != ERR_OK)
        exit(1);
    snprintf(path, sizeof path, "%s/expect.json", folder);
    s.expect = json_load_file(path, 0, NULL);
    snprintf(path, sizeof path, "%s/%s/grads_step1.safetensors", folder, objective);
    if (tensorfile_open(&want_g, path, &err) != ERR_OK)
        exit(1);
    snprintf(path, sizeof path, "%s/%s/after_step3.safetensors", folder, objective);
    if (tensorfile_open(&want_p, path, &err) != ERR_OK)
        exit(1);
    struct network *nets[2] = {&s.denoiser.net, &s.text};
    for (int i = 0; i < 2; i++) {
        int64_t total = 0;
        for (int k = 0; k < nets[i]->w.n; k++)
            total += nets[i]->w.p[k].n;
        s.m[i] = calloc((size_t)total, sizeof(float));
        s.v[i] = calloc((size_t)total, sizeof(float));
    }
    const json_t *losses = json_object_get(
        json_object_get(json_object_get(s.expect, "objectives"), objective), "loss_f64");
    int64_t b = tensorfile_find(&s.in, "ids")->shape[1], begin[NN_PARTS_MAX + 1];
    for (int p = 0; p <= n_parts; p++)
        begin[p] = b * p / n_parts;
    for (int k = 0; k < (int)json_array_size(losses); k++) {
        nn_reset(&nn);
        nn_set_parts(&nn, n_parts, begin);
        nn.recording = true;
        params_begin(&s.denoiser.net.w);
        params_begin(&s.text.w);
        struct nn_tensor *loss = loss_of(&s, k, objective, &err);
        if (loss == NULL) {
            note(objective, &err);
            break;
        }
        double expected = json_number_value(json_array_get(losses, (size_t)k));
        checks++;
        if (fabs(loss->data[0] - expected) > 2e-5) {
            printf("%s step %d: loss %.8g, expected %.8g\n", objective, k + 1, loss->data[0], expected);
            failures++;
        }
        nn_backward(&nn, loss, 1);
        double squares = fold_gradients(&s.denoiser.net.w, grads[0]) + fold_gradients(&s.text.w, grads[1]);
        if (k == 0) {
            compare_gradients(&s, &want_g, &s.denoiser.net.w, grads[0], "transformer.");
            compare_gradients(&s, &want_g, &s.text.w, grads[1], "text_encoder.");
        }
        double scale = optimizer_clip(sqrt(squares), 1);
        for (int i = 0; i < 2; i++)
            step_network(&nets[i]->w, grads[i], scale, k + 1, s.m[i], s.v[i],
                         json_object_get(s.expect, "decayed"), i == 0 ? "transformer." : "text_encoder.");
    }
    compare_updates(&s, &want_p, &s.denoiser.net, &start.denoiser.net, "transformer.");
    compare_updates(&s, &want_p, &s.text, &start.text, "text_encoder.");
    nn.recording = false;
    for (int i = 0; i < 2; i++) {
        free(s.m[i]);
        free(s.v[i]);
    }
    tensorfile_close(&s.in);
    tensorfile_close(&want_g);
    tensorfile_close(&want_p);
    json_decref(s.expect);
    close_network(&s.denoiser.net);
    close_network(&s.text);
    close_network(&start.denoiser.net);
    close_network(&start.text);
}

int main(void)
{
    const char *root = getenv("MUSTER_FIXTURES");
    char path[600], folder[900];
    struct err err = {0};
    enum isa isa;
    snprintf(path, sizeof path, "%s/diffusion", root != NULL ? root : FIXTURES_DEFAULT);
    DIR *d = opendir(path);
    if (d == NULL) {
        printf("skipped: no %s\n", path);
        return 77;
    }
    if (isa_choose(&isa, &err) != ERR_OK)
        return 1;
    nn_init(&nn, kernels_get(isa), NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        snprintf(folder, sizeof folder, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.')
            run_folder(folder);
    }
    closedir(d);
    for (int parts = 1; parts <= 4; parts *= 4) {
        static const char *const objectives[] = {"flow", "epsilon", "v"};
        for (int k = 0; k < 5; k++) {
            snprintf(folder, sizeof folder, "%s/train/%s", root != NULL ? root : FIXTURES_DEFAULT,
                     k < 3 ? "dit_train" : "mmdit_train");
            train(folder, objectives[k % 3], parts);
        }
    }
    nn_free(&nn);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 || checks == 0;
}
