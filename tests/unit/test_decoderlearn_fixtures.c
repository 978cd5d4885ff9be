/* A decoder that learns, against fixtures/train: five steps of llama_train (losses, gradient norms,
 * gradients, weights, moving averages) and the four parts of dp/, whose gradients lie apart and add up. */
#include "tests/fixturetensor.h"
#include "workers/models/decoderlearn.h"
#include "workers/models/learnweights.h"
#include "workers/train/optimizer.h"

#include <jansson.h>
#include <string.h>

static int failures, checks;

static void expect(bool ok, const char *what, double is, double limit)
{
    checks++;
    if (!ok) {
        printf("%s: %.3g, limit %.3g\n", what, is, limit);
        failures++;
    }
}

static struct tensorfile open_file(const char *folder, const char *name)
{
    char path[1200];
    struct tensorfile t;
    struct err err = {0};
    snprintf(path, sizeof path, name[0] ? "%s/%s" : "%s", folder, name);
    if (tensorfile_open(&t, path, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        exit(1);
    }
    return t;
}

static json_t *open_json(const char *folder, const char *name)
{
    char path[1200];
    json_error_t e;
    snprintf(path, sizeof path, name[0] ? "%s/%s" : "%s", folder, name);
    return json_load_file(path, 0, &e);
}

/* --- one model under test */

struct model {
    struct model_config c;
    struct params w;
    struct decoderlearn *d;
    struct nn nn;
    float **start, **m, **v, **ema, **grad;     /* by parameter */
};

static float *copy(const float *x, int64_t n) { return memcpy(malloc((size_t)n * 4 + 4), x, (size_t)n * 4); }

static void open_model(struct model *k, const char *folder, const struct kernels *kernels)
{
    struct tensorfile t = open_file(folder, "");
    struct err err = {0};
    memset(k, 0, sizeof *k);
    if (model_config_read(&k->c, &t, folder, &err) != ERR_OK || params_load(&k->w, &t, &err) != ERR_OK ||
        decoderlearn_new(&k->d, &k->c, &k->w, folder, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        exit(1);
    }
    tensorfile_close(&t);
    nn_init(&k->nn, kernels, NULL);
    k->w.train = true;
    size_t n = (size_t)k->w.n * sizeof(float *);
    float ***all[5] = {&k->start, &k->m, &k->v, &k->ema, &k->grad};
    for (int i = 0; i < 5; i++)
        *all[i] = malloc(n);
    for (int i = 0; i < k->w.n; i++) {
        const struct param *p = &k->w.p[i];
        k->start[i] = copy(p->data, p->n);
        k->ema[i] = copy(p->data, p->n);
        k->m[i] = calloc((size_t)p->n, 4);
        k->v[i] = calloc((size_t)p->n, 4);
        k->grad[i] = calloc((size_t)p->n, 4);
    }
}

static void close_model(struct model *k)
{
    float **all[5] = {k->start, k->m, k->v, k->ema, k->grad};
    for (int a = 0; a < 5; a++) {
        for (int i = 0; i < k->w.n; i++)
            free(all[a][i]);
        free(all[a]);
    }
    decoderlearn_destroy(k->d);
    params_free(&k->w);
    model_config_free(&k->c);
    nn_free(&k->nn);
}

/* Loss of ids [b, t] whose labels [b, t] count where >= 0 (label i is predicted from position i - 1), and
 * all gradients; the parts stay in the tape, their sums come into k->grad. */
static double forward_backward(struct model *k, const int32_t *ids, const int32_t *labels, int b, int t)
{
    struct nn_tensor *logits;
    struct err err = {0};
    int32_t *next = malloc((size_t)(b * t) * sizeof *next);
    nn_reset(&k->nn);
    k->nn.recording = true;
    params_begin(&k->w);
    if (decoderlearn_forward(k->d, &k->nn, ids, b, t, &logits, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        exit(1);
    }
    for (int i = 0; i < b * t; i++)
        next[i] = (i + 1) % t == 0 ? -100 : labels[i + 1];
    struct nn_tensor *loss = nn_cross_entropy(&k->nn, logits, next, true);
    nn_backward(&k->nn, loss, 1);
    for (int i = 0; i < k->w.n; i++)
        nn_fold(&k->nn, k->grad[i], k->w.p[i].bound->grad, k->w.p[i].n);
    free(next);
    return loss->data[0];
}

static void set_parts(struct model *k, int b, int n_parts)
{
    int64_t begin[NN_PARTS_MAX + 1];
    for (int p = 0; p <= n_parts; p++)
        begin[p] = (int64_t)b * p / n_parts;
    nn_set_parts(&k->nn, n_parts, begin);
}

/* --- against the files */

/* Worst tensor's max |got - want| / max |want| over the tensors of t that begin with prefix. */
static double worst_gradient(const struct model *k, struct tensorfile *t, const char *prefix,
                             const float *(*of)(const struct model *k, int i, int part), int part)
{
    double worst = 0;
    for (int i = 0; i < k->w.n; i++) {
        const struct tensor_entry *e;
        char name[300];
        double top;
        snprintf(name, sizeof name, "%s%s", prefix, k->w.p[i].name);
        double *want = fixture_values(t, name, &e);
        if (want == NULL)
            continue;
        double off = fixture_distance(of(k, i, part), want, e->n_elements, &top);
        worst = off / top > worst ? off / top : worst;
        checks++;
        free(want);
    }
    return worst;
}

static const float *summed(const struct model *k, int i, int part) { return k->grad[i]; }
static const float *of_part(const struct model *k, int i, int part)
{
    return k->w.p[i].bound->grad + part * k->w.p[i].n;
}

/* Worst tensor's |(p - p0) - (q - q0)| / |q - q0|. */
static double worst_update(const struct model *k, struct tensorfile *t, bool ema)
{
    double worst = 0;
    for (int i = 0; i < k->w.n; i++) {
        const struct tensor_entry *e;
        double *want = fixture_values(t, k->w.p[i].name, &e), off = 0, norm = 0;
        const float *got = ema ? k->ema[i] : k->w.p[i].data;
        for (int64_t j = 0; want != NULL && j < e->n_elements; j++) {
            double step = want[j] - k->start[i][j], ours = (double)got[j] - k->start[i][j];
            off += (ours - step) * (ours - step);
            norm += step * step;
        }
        worst = fmax(worst, sqrt(off / norm));
        free(want);
    }
    return worst;
}

static double number(const json_t *j, const char *key, int at)
{
    const json_t *v = json_object_get(j, key);
    return json_number_value(at < 0 ? v : json_array_get(v, (size_t)at));
}

static void optimise(struct model *k, const json_t *expected, int step)
{
    double squares = 0, decay = number(expected, "weight_decay", -1);
    struct adam_config a = {.lr = number(expected, "lr", step), .beta1 = number(expected, "betas", 0),
                            .beta2 = number(expected, "betas", 1), .eps = number(expected, "eps", -1)};
    for (int i = 0; i < k->w.n; i++)
        squares += optimizer_squares(k->grad[i], k->w.p[i].n);
    double want = number(expected, "grad_norm_f64", step), off = fabs(sqrt(squares) - want) / want;
    expect(off < 1e-5, "gradient norm", off, 1e-5);
    double clip = optimizer_clip(sqrt(squares), number(expected, "clip", -1));
    for (int i = 0; i < k->w.n; i++) {
        struct param *p = &k->w.p[i];
        a.decay = p->n_dims >= 2 ? decay : 0;
        adam_step(&a, step + 1, clip, p->data, k->grad[i], k->m[i], k->v[i], p->n);
        optimizer_ema(k->ema[i], p->data, number(expected, "ema_decay", -1), p->n);
    }
}

static int32_t *ids_of(struct tensorfile *t, const char *name, const struct tensor_entry **e)
{
    double *v = fixture_values(t, name, e);
    int32_t *ids = malloc((size_t)(*e)->n_elements * sizeof *ids);
    for (int64_t i = 0; i < (*e)->n_elements; i++)
        ids[i] = (int32_t)v[i];
    free(v);
    return ids;
}

static void run_steps(const char *folder, const struct kernels *kernels, int n_parts)
{
    char path[1200], after[1300];
    struct model k;
    const struct tensor_entry *e;
    struct tensorfile data = open_file(folder, "data.safetensors");
    json_t *expected = open_json(folder, "expect.json");
    snprintf(path, sizeof path, "%s/model", folder);
    open_model(&k, path, kernels);
    int32_t *ids = ids_of(&data, "ids", &e);
    int b = (int)e->shape[1], t = (int)e->shape[2];
    set_parts(&k, b, n_parts < b ? n_parts : b);
    for (int step = 0; step < (int)e->shape[0]; step++) {
        const int32_t *x = ids + (int64_t)step * b * t;
        double loss = forward_backward(&k, x, x, b, t), off = fabs(loss - number(expected, "loss_f64", step));
        expect(off < 1e-5, "loss", off, 1e-5);
        if (step == 0) {
            struct tensorfile g = open_file(folder, "grads_step1.safetensors");
            off = worst_gradient(&k, &g, "", summed, 0);
            expect(off < 1e-5, "gradient", off, 1e-5);
            tensorfile_close(&g);
        }
        optimise(&k, expected, step);
        snprintf(after, sizeof after, "%s/after_step%d.safetensors", folder, step + 1);
        FILE *there = fopen(after, "rb");
        if (there == NULL)
            continue;
        fclose(there);
        struct tensorfile w = open_file(after, "");
        off = worst_update(&k, &w, false);
        expect(off < 1e-3, after, off, 1e-3);
        tensorfile_close(&w);
    }
    snprintf(after, sizeof after, "ema_step%d.safetensors", (int)e->shape[0]);
    struct tensorfile w = open_file(folder, after);
    double off = worst_update(&k, &w, true);
    expect(off < 1e-3, "moving average", off, 1e-3);
    tensorfile_close(&w);
    tensorfile_close(&data);
    json_decref(expected);
    free(ids);
    close_model(&k);
}

/* One sequence a part: the parts' gradients, then the masked batch. */
static void run_parts(const char *folder, const char *dp, const struct kernels *kernels)
{
    char path[1200];
    struct model k;
    const struct tensor_entry *e;
    struct tensorfile data = open_file(folder, "data.safetensors");
    snprintf(path, sizeof path, "%s/model", folder);
    open_model(&k, path, kernels);
    int32_t *ids = ids_of(&data, "ids", &e);
    int b = (int)e->shape[1], t = (int)e->shape[2];
    set_parts(&k, b, b);
    forward_backward(&k, ids, ids, b, t);
    for (int p = 0; p < b; p++) {
        snprintf(path, sizeof path, "part%d.safetensors", p);
        struct tensorfile g = open_file(dp, path);
        double off = worst_gradient(&k, &g, "", of_part, p);
        expect(off < 1e-5, path, off, 1e-5);
        tensorfile_close(&g);
    }
    struct tensorfile masked = open_file(dp, "masked.safetensors");
    int32_t *labels = ids_of(&masked, "labels", &e);
    json_t *expected = open_json(dp, "dp.json");
    double loss = forward_backward(&k, ids, labels, b, t);
    double off = fabs(loss - number(json_object_get(expected, "masked"), "loss", -1));
    expect(off < 1e-5, "masked loss", off, 1e-5);
    off = worst_gradient(&k, &masked, "grad.", summed, 0);
    expect(off < 1e-5, "masked gradient", off, 1e-5);
    json_decref(expected);
    tensorfile_close(&masked);
    tensorfile_close(&data);
    free(labels);
    free(ids);
    close_model(&k);
}

/* What serves but does not learn is refused in one line; so are ids past the vocabulary. */
static void refuse(const char *folder, const struct kernels *kernels)
{
    char path[1200];
    struct model k;
    struct decoderlearn *d;
    struct nn_tensor *logits;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/model", folder);
    open_model(&k, path, kernels);
    const int32_t wild[2] = {0, k.c.vocab};
    checks += 3;
    failures += decoderlearn_forward(k.d, &k.nn, wild, 1, 2, &logits, &err) != ERR_FORMAT ||
                strstr(err.msg, "not in a vocabulary") == NULL;
    err = (struct err){0};
    k.c.layer[0].window = 16;
    failures += decoderlearn_new(&d, &k.c, &k.w, "x", &err) != ERR_FORMAT ||
                strstr(err.msg, "sliding windows") == NULL;
    err = (struct err){0};
    k.c.layer[0].window = 0;
    k.c.ffn_dim++;
    failures += decoderlearn_new(&d, &k.c, &k.w, "x", &err) != ERR_FORMAT ||
                strstr(err.msg, "the configuration says") == NULL;
    k.c.ffn_dim--;
    struct params fresh = {0};
    checks++;
    failures += learnweights_add(&k.c, &fresh, &err) != ERR_OK || fresh.n != k.w.n;
    params_free(&fresh);
    close_model(&k);
}

int main(void)
{
    const char *fixtures = getenv("MUSTER_FIXTURES");
    char folder[600], dp[600], probe[700];
    struct err err = {0};
    enum isa isa;
    if (isa_choose(&isa, &err) != ERR_OK)
        return 1;
    snprintf(folder, sizeof folder, "%s/train/llama_train", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    snprintf(dp, sizeof dp, "%s/train/dp", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    snprintf(probe, sizeof probe, "%s/expect.json", folder);
    FILE *there = fopen(probe, "rb");
    if (there == NULL)
        return 77;
    fclose(there);
    for (int parts = 1; parts <= 4; parts++)
        run_steps(folder, kernels_get(isa), parts);
    run_parts(folder, dp, kernels_get(isa));
    refuse(folder, kernels_get(isa));
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 || checks == 0;
}
