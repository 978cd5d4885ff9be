/* Five steps of each setting in train/optim.safetensors: weights, moments, moving averages, in f32
 * against float64. */
#include "tests/fixturetensor.h"
#include "workers/train/optimizer.h"

#include <jansson.h>
#include <string.h>

enum { TENSORS = 2, NUMBERS_MAX = 64 };

static const char *const names[TENSORS] = {"w", "b"};
static int failures, checks;

struct state { float p[NUMBERS_MAX], m[NUMBERS_MAX], v[NUMBERS_MAX], ema[NUMBERS_MAX]; int64_t n; };

static void check(struct tensorfile *t, const char *name, const float *got)
{
    const struct tensor_entry *e;
    double top, *want = fixture_values(t, name, &e);
    if (want == NULL)
        return;
    double worst = fixture_distance(got, want, e->n_elements, &top);
    checks++;
    if (worst > 1e-6 * (top > 1 ? top : 1)) {
        printf("%s: off by %.3g of %.3g\n", name, worst, top);
        failures++;
    }
    free(want);
}

static void take_step(struct tensorfile *t, json_t *row, struct state *s, int step)
{
    json_t *betas = json_object_get(row, "betas"), *clip = json_object_get(row, "clip");
    const struct tensor_entry *e;
    float *g[TENSORS];
    double squares = 0;
    for (int i = 0; i < TENSORS; i++) {
        char name[64];
        snprintf(name, sizeof name, "grad.%d.%s", step, names[i]);
        g[i] = fixture_floats(t, name, &e);
        squares += optimizer_squares(g[i], s[i].n);
    }
    double scale = optimizer_clip(sqrt(squares), json_is_number(clip) ? json_number_value(clip) : 0);
    for (int i = 0; i < TENSORS; i++) {
        struct adam_config c = {
            json_number_value(json_array_get(json_object_get(row, "lr"), (size_t)step - 1)),
            json_number_value(json_array_get(betas, 0)), json_number_value(json_array_get(betas, 1)),
            json_number_value(json_object_get(row, "eps")),
            json_number_value(json_object_get(json_object_get(row, "weight_decay"), names[i]))};
        adam_step(&c, step, scale, s[i].p, g[i], s[i].m, s[i].v, s[i].n);
        optimizer_ema(s[i].ema, s[i].p, json_number_value(json_object_get(row, "ema_decay")), s[i].n);
        free(g[i]);
    }
}

static void run_setting(struct tensorfile *t, const char *setting, json_t *row)
{
    struct state s[TENSORS] = {0};
    char name[64];
    for (int i = 0; i < TENSORS; i++) {
        const struct tensor_entry *e;
        snprintf(name, sizeof name, "start.%s", names[i]);
        float *start = fixture_floats(t, name, &e);
        s[i].n = e->n_elements;
        memcpy(s[i].p, start, (size_t)s[i].n * sizeof *start);
        memcpy(s[i].ema, start, (size_t)s[i].n * sizeof *start);
        free(start);
    }
    int steps = (int)json_array_size(json_object_get(row, "lr"));
    for (int step = 1; step <= steps; step++) {
        take_step(t, row, s, step);
        for (int i = 0; i < TENSORS; i++) {
            snprintf(name, sizeof name, "%s.after%d.%s", setting, step, names[i]);
            check(t, name, s[i].p);
        }
    }
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "%s.m%d.%s", setting, steps, names[i]);
        check(t, name, s[i].m);
        snprintf(name, sizeof name, "%s.v%d.%s", setting, steps, names[i]);
        check(t, name, s[i].v);
        snprintf(name, sizeof name, "%s.ema%d.%s", setting, steps, names[i]);
        check(t, name, s[i].ema);
    }
}

int main(void)
{
    const char *root = getenv("MUSTER_FIXTURES"), *setting;
    char path[1024];
    struct tensorfile t;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/train/ops.json", root != NULL ? root : FIXTURES_DEFAULT);
    json_t *j = json_load_file(path, 0, NULL), *row;
    snprintf(path, sizeof path, "%s/train/optim.safetensors", root != NULL ? root : FIXTURES_DEFAULT);
    if (j == NULL || tensorfile_open(&t, path, &err) != ERR_OK) {
        printf("skipped: no %s\n", path);
        return 77;
    }
    json_object_foreach(json_object_get(j, "optim"), setting, row)
        run_setting(&t, setting, row);
    tensorfile_close(&t);
    json_decref(j);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 || checks == 0;
}
