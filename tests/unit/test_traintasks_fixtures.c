/* The language model's and the GANs' tasks in the trainer, against fixtures/train: losses of every step,
 * summed gradients of the first, weights, averages and buffers after the last; on one, two and four ranks,
 * whose weights are the same bit for bit. */
#include "tests/trainset.h"
#include "tests/unit/rankteam.h"
#include "workers/train/trainer.h"
#include "workers/train/trainfolder.h"

#include <unistd.h>

/* A batch's tensor: step `step` of a file's tensor. */
struct feed { const char *from, *name; enum wire_dtype dtype; };

struct run {
    const char *what, *folder, *config, *inputs;
    const struct feed *feed; int n_feed;
    const json_t *expect;
    int steps;
    const char *loss[2], *metric[2];    /* of the expectations, and what the task calls them */
    double loss_limit, gradient_limit, update_limit;
    const char *start[2];               /* folders of the first weights, by set */
    int n_ranks;
    uint64_t hash;                      /* of the weights after the last step */
};

static void note(const struct run *r, const char *what, double is, double limit)
{
    char text[400];
    snprintf(text, sizeof text, "%s on %d ranks: %s", r->what, r->n_ranks, what);
    expect(is <= limit, text, is, limit);
}

/* --- the batch */

static struct train_tensor slice(struct tensorfile *in, const struct feed *feed, int step,
                                 const struct trainer *t, void **owner)
{
    const struct tensor_entry *e;
    double *v = fixture_values(in, feed->from, &e);
    struct train_tensor out = {.name = feed->name, .dtype = feed->dtype, .n_dims = e->n_dims - 1};
    int64_t each = e->n_elements / e->shape[0] / e->shape[1];
    for (int i = 0; i < out.n_dims; i++)
        out.shape[i] = e->shape[i + 1];
    out.shape[0] = t->n_local;
    int32_t *to = malloc((size_t)(t->n_local * each) * 4 + 4);
    for (int64_t i = 0; i < t->n_local * each; i++) {
        double x = v[(step * e->shape[1] + t->first) * each + i];
        if (feed->dtype == WIRE_I32)
            to[i] = (int32_t)x;
        else
            ((float *)to)[i] = (float)x;
    }
    free(v);
    out.data = *owner = to;
    return out;
}

/* --- what came of it */

/* The files number DCGAN's layers without the word before. */
static void file_name(char out[320], const char *prefix, const char *name)
{
    snprintf(out, 320, "%s%s", prefix, strncmp(name, "main.", 5) == 0 ? name + 5 : name);
}

static void check_losses(const struct run *r, const struct train_metrics *m, int step)
{
    for (int k = 0; k < 2 && r->loss[k] != NULL; k++) {
        double off = INFINITY;
        for (int i = 0; i < m->n; i++)
            if (strcmp(m->m[i].name, r->metric[k]) == 0)
                off = fabs(m->m[i].value - number(r->expect, r->loss[k], step));
        note(r, r->metric[k], off, r->loss_limit);
    }
}

static void check_gradients(const struct run *r, struct trainer *t)
{
    struct tensorfile file = open_file(r->folder, "grads_step1.safetensors");
    int found = 0;
    for (int g = 0; g < t->task.n_groups; g++) {
        const struct train_flat *f = &t->flat[g];
        for (int k = 0; k < f->n_params; k++) {
            const struct tensor_entry *e;
            char name[320];
            double top;
            if (f->begin[k] < f->lo || f->begin[k + 1] > f->hi)
                continue;       /* another rank's to sum and to step */
            file_name(name, f->prefix[k], f->param[k]->name);
            double *want = fixture_values(&file, name, &e);
            if (want == NULL)
                continue;
            double off = fixture_distance(f->grad + (f->begin[k] - f->lo), want, e->n_elements, &top);
            note(r, name, off / top, r->gradient_limit);
            found++;
            free(want);
        }
        note(r, "a group without gradients to compare", found == 0, 0);
        found = 0;
    }
    tensorfile_close(&file);
}

/* As worst_update of trainset.h, over a set whose first weights are `start`. */
static void check_set(const struct run *r, const struct params *w, const struct params *start,
                      struct tensorfile *after, const char *prefix)
{
    int found = 0;
    for (int i = 0; i < w->n; i++) {
        const struct param *p = &w->p[i], *p0 = params_find(start, p->name);
        const struct tensor_entry *e;
        char name[320];
        double top, off = 0, norm = 0;
        file_name(name, prefix, p->name);
        double *want = fixture_values(after, name, &e);
        for (int64_t j = 0; want != NULL && j < e->n_elements; j++) {
            double step = want[j] - p0->data[j], ours = (double)p->data[j] - p0->data[j];
            off += (ours - step) * (ours - step);
            norm += step * step;
        }
        if (want != NULL && p->frozen)
            note(r, name, fixture_distance(p->data, want, e->n_elements, &top) / top, 1e-5);
        else if (want != NULL)
            note(r, name, sqrt(off / norm), r->update_limit);
        found += want != NULL;
        free(want);
    }
    note(r, "a set without weights to compare", found == 0, 0);
}

static void check_after(const struct run *r, struct trainer *t, const struct params *start, int step)
{
    char name[64];
    snprintf(name, sizeof name, "%s/after_step%d.safetensors", "", step);
    char path[1400];
    snprintf(path, sizeof path, "%s%s", r->folder, name);
    if (access(path, F_OK) != 0)
        return;
    struct tensorfile after = open_file(path, "");
    for (int s = 0; s < t->task.n_sets; s++)
        check_set(r, &t->task.set[s].params, &start[s], &after, t->task.set[s].prefix);
    tensorfile_close(&after);
}

static uint64_t hash_weights(const struct trainer *t)
{
    uint64_t h = 1469598103934665603u;
    for (int s = 0; s < t->task.n_sets; s++)
        for (int i = 0; i < t->task.set[s].params.n; i++) {
            const struct param *p = &t->task.set[s].params.p[i];
            const uint8_t *b = (const uint8_t *)p->data;
            for (int64_t k = 0; k < p->n * 4; k++)
                h = (h ^ b[k]) * 1099511628211u;
        }
    return h;
}

/* The exported folder holds the moving averages, buffers copied. */
static void check_export(const struct run *r, struct trainer *t, const struct params *start)
{
    char dir[] = "/tmp/muster-traintask-XXXXXX", path[1400];
    struct params w = {0};
    struct err err = {0};
    bool llm = t->task.n_sets == 1;
    static char shared[sizeof dir];     /* rank 0 makes the folder, all ranks name it */
    if (t->comm->self == 0) {
        if (mkdtemp(dir) == NULL)
            exit(1);
        memcpy(shared, dir, sizeof dir);
    }
    int rc = trainer_export(t, shared, DT_F32, &err);
    if (t->comm->self != 0)
        return;
    note(r, rc == ERR_OK ? "export" : err.msg, rc != ERR_OK, 0);
    snprintf(path, sizeof path, "%s%s", shared, llm ? "" : "/generator");
    rc = trainfolder_read_weights(path, "model.safetensors", &w, &err);
    note(r, rc == ERR_OK ? "exported weights" : err.msg, rc != ERR_OK, 0);
    for (int i = 0; i < w.n; i++) {
        const struct param *p = params_find(&start[0], w.p[i].name);
        w.p[i].frozen = p != NULL && p->frozen;
    }
    snprintf(path, sizeof path, llm ? "%s/ema_step%d.safetensors" : "%s/after_step%d.safetensors", r->folder,
             r->steps);
    struct tensorfile after = open_file(path, "");
    if (rc == ERR_OK)
        check_set(r, &w, &start[0], &after, llm ? "" : "ema.");
    tensorfile_close(&after);
    params_free(&w);
    trainfolder_remove(shared);
}

/* --- a rank */

static struct params *copy_sets(const struct trainer *t)
{
    struct params *start = calloc((size_t)t->task.n_sets, sizeof *start);
    for (int s = 0; s < t->task.n_sets; s++)
        for (int i = 0; i < t->task.set[s].params.n; i++) {
            const struct param *p = &t->task.set[s].params.p[i];
            struct param *q = params_add(&start[s], p->name, p->n_dims, p->shape);
            memcpy(q->data, p->data, (size_t)p->n * sizeof(float));
            q->frozen = p->frozen;
        }
    return start;
}

static bool one_step(struct run *r, struct trainer *t, struct tensorfile *in, int step)
{
    struct train_tensor tensor[8];
    void *owner[8];
    uint64_t sample[64];
    struct train_metrics metrics;
    struct err err = {0};
    for (int i = 0; i < r->n_feed; i++)
        tensor[i] = slice(in, &r->feed[i], step, t, &owner[i]);
    for (int i = 0; i < t->n_local; i++)
        sample[i] = (uint64_t)(t->first + i);
    struct train_batch b = {step + 1, t->n_local, sample, tensor, r->n_feed, false};
    int rc = trainer_step(t, &b, &metrics, &err);
    if (t->comm->self == 0) {
        note(r, rc == ERR_OK ? "a step" : err.msg, rc != ERR_OK, 0);
        if (rc == ERR_OK)
            check_losses(r, &metrics, step);
        if (rc == ERR_OK && step == 0)
            check_gradients(r, t);
    }
    for (int i = 0; i < r->n_feed; i++)
        free(owner[i]);
    return rc == ERR_OK;
}

static void rank_body(struct comm *c, int rank, void *ctx)
{
    struct run *r = ctx;
    struct trainer t;
    struct err err = {0};
    struct tensorfile in = open_file(r->folder, r->inputs);
    struct trainer_options o = {.threads = 1};
    isa_choose(&o.isa, &err);
    int rc = trainer_open(&t, r->config, &o, c, &err);
    if (rank == 0)
        note(r, rc == ERR_OK ? "opens" : err.msg, rc != ERR_OK, 0);
    if (rc != ERR_OK)
        return;
    struct params *start = copy_sets(&t);
    bool ok = true;
    for (int k = 0; k < r->steps && ok; k++) {
        ok = one_step(r, &t, &in, k);
        if (rank == 0 && ok)
            check_after(r, &t, start, k + 1);
    }
    if (rank == 0)
        r->hash = hash_weights(&t);
    if (ok && number(r->expect, "ema_decay", -1) > 0)
        check_export(r, &t, start);
    for (int s = 0; s < t.task.n_sets; s++)
        params_free(&start[s]);
    free(start);
    tensorfile_close(&in);
    trainer_close(&t);
}

static void on_all_ranks(struct run *r)
{
    uint64_t alone = 0;
    for (r->n_ranks = 1; r->n_ranks <= 4; r->n_ranks *= 2) {
        note(r, "ranks start", rankteam_run(r->n_ranks, rank_body, r), 0);
        alone = r->n_ranks == 1 ? r->hash : alone;
        note(r, "weights of one rank", r->hash != alone, 0);
    }
}

/* --- the runs */

static void run_llama(const char *root)
{
    static const struct feed feed[] = {{"ids", "ids", WIRE_I32}};
    char folder[600], config[1400];
    snprintf(folder, sizeof folder, "%s/llama_train", root);
    json_t *e = open_json(folder, "expect.json");
    if (e == NULL)
        return;
    int steps = (int)number(e, "steps", -1), warmup = 1;
    while (number(e, "lr", warmup) > number(e, "lr", warmup - 1))
        warmup++;
    snprintf(config, sizeof config,
             "{\"task\": \"llm\", \"batch\": %d, \"from\": \"%s/model\", \"lr\": %.17g, \"lr_floor\": %.17g, "
             "\"warmup\": %d, \"steps\": %d, \"beta1\": %.17g, \"beta2\": %.17g, \"eps\": %.17g, \"decay\": "
             "%.17g, \"clip\": %.17g, \"ema\": %.17g}",
             (int)number(e, "batch", 0), folder, number(e, "lr", warmup - 1), number(e, "lr", steps - 1),
             warmup, steps, number(e, "betas", 0), number(e, "betas", 1), number(e, "eps", -1),
             number(e, "weight_decay", -1), number(e, "clip", -1), number(e, "ema_decay", -1));
    struct run r = {.what = "llama", .folder = folder, .config = config, .inputs = "data.safetensors",
                    .feed = feed, .n_feed = 1, .expect = e, .steps = steps, .loss = {"loss_f64"},
                    .metric = {"loss"}, .loss_limit = 1e-5, .gradient_limit = 1e-5, .update_limit = 1e-3};
    on_all_ranks(&r);
    json_decref(e);
}

/* start.safetensors as the folder that a run goes on from. */
static void write_start(const char *folder, const char *dir, const char *rename_to)
{
    struct tensorfile t = open_file(folder, "start.safetensors");
    struct params all = {0};
    struct err err = {0};
    bool ok = params_load(&all, &t, &err) == ERR_OK;
    static const char *const parts[2] = {"generator", "discriminator"};
    for (int k = 0; k < 2 && ok; k++) {
        struct params w = {0};
        char name[300], path[300];
        for (int i = 0; i < all.n; i++) {
            const struct param *p = &all.p[i];
            if (p->name[0] != "GD"[k])
                continue;
            snprintf(name, sizeof name, "%s%s", rename_to, p->name + 2);
            memcpy(params_add(&w, name, p->n_dims, p->shape)->data, p->data, (size_t)p->n * sizeof(float));
        }
        snprintf(path, sizeof path, "%s/model.safetensors", parts[k]);
        ok = trainfolder_make(dir, parts[k], &err) == ERR_OK &&
             trainfolder_weights(dir, path, &w, DT_F32, NULL, &err) == ERR_OK;
        params_free(&w);
    }
    if (!ok) {
        printf("%s\n", err.msg);
        exit(1);
    }
    params_free(&all);
    tensorfile_close(&t);
}

/* "a-b-c" of a list. */
static const char *widths(const json_t *list, char out[64])
{
    int at = 0;
    for (size_t i = 0; i < json_array_size(list) && at < 50; i++)
        at += snprintf(out + at, 64 - (size_t)at, "%s%d", i > 0 ? "-" : "",
                       (int)json_integer_value(json_array_get(list, i)));
    return out;
}

static void adam_keys(const json_t *e, char out[300])
{
    const json_t *o = json_object_get(e, "optimizer");
    double lr = number(o, "lr", -1), b1 = number(o, "betas", 0), b2 = number(o, "betas", 1);
    snprintf(out, 300, "\"lr\": %.17g, \"beta1\": %.17g, \"beta2\": %.17g, \"d_lr\": %.17g, \"d_beta1\": %.17g, "
             "\"d_beta2\": %.17g, \"ema\": %.17g", lr, b1, b2, lr, b1, b2, number(e, "ema_decay", -1));
}

static void run_gan(const char *root, bool dcgan)
{
    static const struct feed resnet_feed[] = {
        {"real", "pixels", WIRE_F32}, {"real_y", "labels", WIRE_I32}, {"z_d", "z_d", WIRE_F32},
        {"y_d", "labels_d", WIRE_I32}, {"z_g", "z_g", WIRE_F32}, {"y_g", "labels_g", WIRE_I32}};
    static const struct feed dcgan_feed[] = {{"real", "pixels", WIRE_F32}, {"z", "z_d", WIRE_F32}};
    char folder[600], config[1400], adam[300], g[64], d[64], dir[] = "/tmp/muster-gantask-XXXXXX";
    snprintf(folder, sizeof folder, "%s/gan_train", root);
    json_t *all = open_json(folder, "expect.json");
    const json_t *e = json_object_get(all, dcgan ? "dcgan" : "resnet");
    snprintf(folder, sizeof folder, "%s/gan_train/%s", root, dcgan ? "dcgan" : "resnet");
    if (e == NULL || mkdtemp(dir) == NULL)
        return;
    write_start(folder, dir, dcgan ? "main." : "");
    adam_keys(e, adam);
    int f = (int)number(e, "f", -1);
    if (dcgan)
        snprintf(config, sizeof config, "\"arch\": \"dcgan\", \"side\": 16, \"g\": \"%d-%d\", \"d\": \"%d-%d\"",
                 2 * f, f, f, 2 * f);
    else
        snprintf(config, sizeof config, "\"side\": %d, \"g\": \"%s\", \"d\": \"%s\", \"condition\": %d, "
                 "\"classes\": %d", (int)number(e, "image", -1), widths(json_object_get(e, "g_channels"), g),
                 widths(json_object_get(e, "d_channels"), d), (int)number(e, "cond", -1),
                 (int)number(e, "classes", -1));
    char whole[2400];
    snprintf(whole, sizeof whole, "{\"task\": \"gan\", \"batch\": %d, \"from\": \"%s\", \"z\": %d, %s, %s}",
             (int)number(e, "batch", -1), dir, (int)number(e, "z", -1), config, adam);
    struct run r = {.what = dcgan ? "dcgan" : "resnet", .folder = folder, .config = whole,
                    .inputs = "data.safetensors", .feed = dcgan ? dcgan_feed : resnet_feed,
                    .n_feed = dcgan ? 2 : 6, .expect = e, .steps = (int)number(e, "steps", -1),
                    .loss = {"loss_d_f64", "loss_g_f64"}, .metric = {"loss", "loss_g"},
                    .loss_limit = 2e-5, .gradient_limit = 1e-4, .update_limit = 5e-3};
    on_all_ranks(&r);
    trainfolder_remove(dir);
    json_decref(all);
}

int main(void)
{
    const char *fixtures = getenv("MUSTER_FIXTURES");
    char root[500];
    snprintf(root, sizeof root, "%s/train", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    run_llama(root);
    run_gan(root, false);
    run_gan(root, true);
    if (checks == 0)
        return 77;
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0;
}
