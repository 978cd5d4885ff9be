/* The trainer on the folders train/dit_train and train/mmdit_train: three steps of every objective on one,
 * two and four ranks, by the measures of the README there: loss, summed gradients, clipped AdamW steps; and
 * the ranks' weights bit for bit. */
#include "tests/unit/rankteam.h"
#include "tests/fixturetensor.h"
#include "workers/train/trainer.h"

#include <string.h>

static int failures, checks;

struct run {
    const char *folder, *objective;
    json_t *expect;
    int n_ranks;
    float *weights; int64_t n_weights;  /* after the last step, by rank 0 */
    const float *compare;               /* weights of one rank, or NULL */
};

static void note(const struct run *r, const char *what)
{
    printf("%s %s on %d: %s\n", r->folder, r->objective, r->n_ranks, what);
    failures++;
}

static bool listed(const struct run *r, const char *list, const char *name)
{
    const json_t *all = json_object_get(r->expect, list);
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(json_string_value(json_array_get(all, i)), name) == 0)
            return true;
    return false;
}

static void check_grads(const struct run *r, struct trainer *t)
{
    char path[1400], what[400], name[320];
    struct tensorfile file;
    struct err err = {0};
    const struct train_flat *f = &t->flat[0];
    snprintf(path, sizeof path, "%s/%s/grads_step1.safetensors", r->folder, r->objective);
    if (tensorfile_open(&file, path, &err) != ERR_OK) {
        note(r, err.msg);
        return;
    }
    int found = 0;
    for (int k = 0; k < f->n_params; k++) {
        const struct tensor_entry *e;
        double top, *want;
        if (f->begin[k] < f->lo || f->begin[k + 1] > f->hi)
            continue;       /* another rank's to sum and to step */
        snprintf(name, sizeof name, "%s%s", f->prefix[k], f->param[k]->name);
        if ((want = fixture_values(&file, name, &e)) == NULL)
            continue;
        double worst = fixture_distance(f->grad + (f->begin[k] - f->lo), want, e->n_elements, &top);
        bool zero = listed(r, "gradient_is_zero_in_exact_arithmetic", name) ||
                    listed(r, "gradient_is_exactly_zero", name);
        found++;
        checks++;
        if (!(worst <= (zero ? 1e-7 : 1e-4 * top))) {
            snprintf(what, sizeof what, "gradient of %s off by %.3g of %.3g", name, worst, top);
            note(r, what);
        }
        free(want);
    }
    if (found == 0)
        note(r, "no gradient was compared");
    tensorfile_close(&file);
}

/* |(p - p0) - (q - q0)| / |q - q0| of a tensor; p0 is q0. */
static void check_update(const struct run *r, struct tensorfile *after, const char *name, const float *p,
                         const float *start)
{
    const struct tensor_entry *e;
    char what[400];
    double *q = fixture_values(after, name, &e), off = 0, moved = 0;
    for (int64_t i = 0; q != NULL && i < e->n_elements; i++) {
        off += (p[i] - q[i]) * (p[i] - q[i]);
        moved += (q[i] - start[i]) * (q[i] - start[i]);
    }
    if (q != NULL && !listed(r, "gradient_is_zero_in_exact_arithmetic", name)) {
        checks++;
        if (!(sqrt(off) <= 2e-2 * sqrt(moved) + 1e-12)) {
            snprintf(what, sizeof what, "update of %s off by %.3g of %.3g", name, sqrt(off), sqrt(moved));
            note(r, what);
        }
    }
    free(q);
}

static void check_weights(struct run *r, struct trainer *t, const float *start)
{
    char path[1400], name[320];
    struct tensorfile file;
    struct err err = {0};
    const struct train_flat *f = &t->flat[0];
    snprintf(path, sizeof path, "%s/%s/after_step3.safetensors", r->folder, r->objective);
    r->n_weights = f->n;
    r->weights = malloc((size_t)f->n * sizeof *r->weights);
    if (r->weights == NULL || tensorfile_open(&file, path, &err) != ERR_OK) {
        note(r, err.msg);
        return;
    }
    for (int k = 0; k < f->n_params; k++) {
        snprintf(name, sizeof name, "%s%s", f->prefix[k], f->param[k]->name);
        check_update(r, &file, name, f->param[k]->data, start + f->begin[k]);
        memcpy(r->weights + f->begin[k], f->param[k]->data, (size_t)f->param[k]->n * sizeof(float));
    }
    checks++;
    if (r->compare != NULL && memcmp(r->compare, r->weights, (size_t)f->n * sizeof(float)) != 0)
        note(r, "the weights are not those of one rank");
    tensorfile_close(&file);
}

/* Samples [first, first + n) of step k of an input, as floats or ids. */
static struct train_tensor slice(struct tensorfile *in, const char *from, const char *name, int k, int first,
                                 int n, void **owner)
{
    const struct tensor_entry *e;
    double *v = fixture_values(in, from, &e);
    struct train_tensor t = {.name = name, .n_dims = e->n_dims - 1};
    int64_t each = e->n_elements / e->shape[0] / e->shape[1];
    t.dtype = strcmp(name, "ids") == 0 ? WIRE_I32 : WIRE_F32;
    for (int i = 0; i < t.n_dims; i++)
        t.shape[i] = e->shape[i + 1];
    t.shape[0] = n;
    int32_t *out = malloc((size_t)(n * each) * 4);
    for (int64_t i = 0; i < n * each; i++) {
        double x = v[(k * e->shape[1] + first) * each + i];
        if (t.dtype == WIRE_I32)
            out[i] = (int32_t)x;
        else
            ((float *)out)[i] = (float)x;
    }
    free(v);
    t.data = *owner = out;
    return t;
}

static void one_step(struct run *r, struct trainer *t, struct tensorfile *in, int k)
{
    bool flow = strcmp(r->objective, "flow") == 0;
    uint64_t sample[64];
    void *owner[4];
    struct err err = {0};
    struct train_metrics metrics;
    char what[400];
    struct train_tensor tensor[4] = {
        slice(in, "x0", "x0", k, t->first, t->n_local, &owner[0]),
        slice(in, "noise", "noise", k, t->first, t->n_local, &owner[1]),
        slice(in, "ids", "ids", k, t->first, t->n_local, &owner[2]),
        slice(in, flow ? "s" : "t", "time", k, t->first, t->n_local, &owner[3])};
    for (int i = 0; i < t->n_local; i++)
        sample[i] = (uint64_t)(t->first + i);
    struct train_batch b = {k + 1, t->n_local, sample, tensor, 4, false};
    if (trainer_step(t, &b, &metrics, &err) != ERR_OK) {
        note(r, err.msg);
    } else if (t->comm->self == 0) {
        const json_t *o = json_object_get(json_object_get(r->expect, "objectives"), r->objective);
        double want = json_number_value(json_array_get(json_object_get(o, "loss_f64"), (size_t)k));
        checks++;
        if (!(fabs(metrics.m[0].value - want) <= 2e-5)) {
            snprintf(what, sizeof what, "loss of step %d is %.9g, not %.9g", k + 1, metrics.m[0].value, want);
            note(r, what);
        }
        if (k == 0)
            check_grads(r, t);
    }
    for (int i = 0; i < 4; i++)
        free(owner[i]);
}

static void rank_body(struct comm *c, int rank, void *ctx)
{
    struct run *r = ctx;
    struct trainer t;
    struct tensorfile in;
    struct err err = {0};
    char path[1400], config[2000];
    struct trainer_options o = {.threads = 1};
    isa_choose(&o.isa, &err);
    snprintf(config, sizeof config,
             "{\"task\": \"diffusion\", \"batch\": 4, \"from\": \"%s\", \"objective\": \"%s\", \"schedule\": "
             "\"cosine\", \"lr\": 1e-3, \"decay\": 0.01, \"clip\": 1.0, \"warmup\": 0, \"ema\": 0.99}",
             r->folder, r->objective);
    snprintf(path, sizeof path, "%s/inputs.safetensors", r->folder);
    if (tensorfile_open(&in, path, &err) != ERR_OK || trainer_open(&t, config, &o, c, &err) != ERR_OK) {
        note(r, err.msg);
        return;
    }
    const struct train_flat *f = &t.flat[0];
    float *start = malloc((size_t)f->n * sizeof *start);
    for (int k = 0; k < f->n_params; k++)
        memcpy(start + f->begin[k], f->param[k]->data, (size_t)f->param[k]->n * sizeof *start);
    for (int k = 0; k < 3; k++)
        one_step(r, &t, &in, k);
    if (rank == 0)
        check_weights(r, &t, start);
    free(start);
    tensorfile_close(&in);
    trainer_close(&t);
}

static void run_objective(const char *folder, json_t *expect, const char *objective)
{
    float *alone = NULL;
    for (int n = 1; n <= 4; n *= 2) {
        struct run r = {.folder = folder, .objective = objective, .expect = expect, .n_ranks = n,
                        .compare = alone};
        if (rankteam_run(n, rank_body, &r) != 0)
            note(&r, "the ranks do not start");
        if (n == 1)
            alone = r.weights;
        else
            free(r.weights);
    }
    free(alone);
}

int main(void)
{
    static const char *const names[] = {"dit_train", "mmdit_train"};
    const char *root = getenv("MUSTER_FIXTURES");
    for (int i = 0; i < 2; i++) {
        char folder[1200], path[1300];
        snprintf(folder, sizeof folder, "%s/train/%s", root != NULL ? root : FIXTURES_DEFAULT, names[i]);
        snprintf(path, sizeof path, "%s/expect.json", folder);
        json_t *expect = json_load_file(path, 0, NULL), *o;
        const char *objective;
        json_object_foreach(json_object_get(expect, "objectives"), objective, o)
            run_objective(folder, expect, objective);
        json_decref(expect);
    }
    if (checks == 0)
        return 77;
    printf("%d checks, %d failed\n", checks, failures);
    return failures > 0;
}
