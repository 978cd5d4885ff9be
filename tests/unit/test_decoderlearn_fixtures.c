/* A decoder that learns, against fixtures/train: five steps of llama_train (losses, gradient norms,
 * gradients, weights, moving averages) and the four parts of dp/, whose gradients lie apart and add up. */
#include "tests/trainset.h"
#include "workers/models/decoderlearn.h"
#include "workers/models/learnweights.h"

/* --- one model under test */

struct model {
    struct model_config c;
    struct trainset s;
    struct decoderlearn *d;
    struct nn nn;
};

static void open_model(struct model *k, const char *folder, const struct kernels *kernels)
{
    struct tensorfile t = open_file(folder, "");
    struct err err = {0};
    memset(k, 0, sizeof *k);
    if (model_config_read(&k->c, &t, folder, &err) != ERR_OK || params_load(&k->s.w, &t, &err) != ERR_OK ||
        decoderlearn_new(&k->d, &k->c, &k->s.w, folder, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        exit(1);
    }
    tensorfile_close(&t);
    nn_init(&k->nn, kernels, NULL);
    k->s.w.train = true;
    trainset_begin(&k->s);
}

static void close_model(struct model *k)
{
    decoderlearn_destroy(k->d);
    trainset_free(&k->s);
    model_config_free(&k->c);
    nn_free(&k->nn);
}

/* Loss of ids [b, t] whose labels [b, t] count where >= 0 (label i is predicted from position i - 1), and
 * all gradients; the parts stay in the tape, their sums come into k->s.grad. */
static double forward_backward(struct model *k, const int32_t *ids, const int32_t *labels, int b, int t)
{
    struct nn_tensor *logits;
    struct err err = {0};
    int32_t *next = malloc((size_t)(b * t) * sizeof *next);
    nn_reset(&k->nn);
    k->nn.recording = true;
    params_begin(&k->s.w);
    if (decoderlearn_forward(k->d, &k->nn, ids, b, t, &logits, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        exit(1);
    }
    for (int i = 0; i < b * t; i++)
        next[i] = (i + 1) % t == 0 ? -100 : labels[i + 1];
    struct nn_tensor *loss = nn_cross_entropy(&k->nn, logits, next, true);
    nn_backward(&k->nn, loss, 1);
    trainset_fold(&k->s, &k->nn);
    free(next);
    return loss->data[0];
}

static void optimise(struct model *k, const json_t *expected, int step)
{
    struct adam_config a = {.lr = number(expected, "lr", step), .beta1 = number(expected, "betas", 0),
                            .beta2 = number(expected, "betas", 1), .eps = number(expected, "eps", -1),
                            .decay = number(expected, "weight_decay", -1)};
    double norm = trainset_norm(&k->s), want = number(expected, "grad_norm_f64", step);
    expect(fabs(norm - want) / want < 1e-5, "gradient norm", fabs(norm - want) / want, 1e-5);
    trainset_step(&k->s, a, step + 1, optimizer_clip(norm, number(expected, "clip", -1)),
                  number(expected, "ema_decay", -1));
}

static void run_steps(const char *folder, const struct kernels *kernels, int n_parts)
{
    char path[1200], after[1300];
    double buffers;
    struct model k;
    const struct tensor_entry *e;
    struct tensorfile data = open_file(folder, "data.safetensors");
    json_t *expected = open_json(folder, "expect.json");
    snprintf(path, sizeof path, "%s/model", folder);
    open_model(&k, path, kernels);
    int32_t *ids = ids_of(&data, "ids", &e);
    int b = (int)e->shape[1], t = (int)e->shape[2];
    trainset_parts(&k.nn, b, n_parts < b ? n_parts : b);
    for (int step = 0; step < (int)e->shape[0]; step++) {
        const int32_t *x = ids + (int64_t)step * b * t;
        double loss = forward_backward(&k, x, x, b, t), off = fabs(loss - number(expected, "loss_f64", step));
        expect(off < 1e-5, "loss", off, 1e-5);
        if (step == 0) {
            struct tensorfile g = open_file(folder, "grads_step1.safetensors");
            off = worst_gradient(&k.s, &g, "", -1);
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
        off = worst_update(&k.s, &w, "", false, &buffers);
        expect(off < 1e-3, after, off, 1e-3);
        tensorfile_close(&w);
    }
    snprintf(after, sizeof after, "ema_step%d.safetensors", (int)e->shape[0]);
    struct tensorfile w = open_file(folder, after);
    double off = worst_update(&k.s, &w, "", true, &buffers);
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
    trainset_parts(&k.nn, b, b);
    forward_backward(&k, ids, ids, b, t);
    for (int p = 0; p < b; p++) {
        snprintf(path, sizeof path, "part%d.safetensors", p);
        struct tensorfile g = open_file(dp, path);
        double off = worst_gradient(&k.s, &g, "", p);
        expect(off < 1e-5, path, off, 1e-5);
        tensorfile_close(&g);
    }
    struct tensorfile masked = open_file(dp, "masked.safetensors");
    int32_t *labels = ids_of(&masked, "labels", &e);
    json_t *expected = open_json(dp, "dp.json");
    double loss = forward_backward(&k, ids, labels, b, t);
    double off = fabs(loss - number(json_object_get(expected, "masked"), "loss", -1));
    expect(off < 1e-5, "masked loss", off, 1e-5);
    off = worst_gradient(&k.s, &masked, "grad.", -1);
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
    failures += decoderlearn_new(&d, &k.c, &k.s.w, "x", &err) != ERR_FORMAT ||
                strstr(err.msg, "sliding windows") == NULL;
    err = (struct err){0};
    k.c.layer[0].window = 0;
    k.c.ffn_dim++;
    failures += decoderlearn_new(&d, &k.c, &k.s.w, "x", &err) != ERR_FORMAT ||
                strstr(err.msg, "the configuration says") == NULL;
    k.c.ffn_dim--;
    struct params fresh = {0};
    checks++;
    failures += learnweights_add(&k.c, &fresh, &err) != ERR_OK || fresh.n != k.s.w.n;
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
