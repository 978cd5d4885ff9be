/* Every case of train/ops.json: outputs and input gradients against float64, by max |a-b| over max |b|.
 * Cases, shapes and numbers come from the files. */
#include "workers/models/nn.h"
#include "workers/weights/tensorfile.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tensorfile file;
static struct nn nn;
static int failures, cases_run;

struct fixture { const char *name; json_t *attrs; };

static double *read_tensor(const char *full, const struct tensor_entry **entry)
{
    const struct tensor_entry *e = tensorfile_find(&file, full);
    struct err err = {0};
    *entry = e;
    if (e == NULL)
        return NULL;
    uint8_t *raw = malloc(e->bytes + 8);
    double *v = malloc((size_t)(e->n_elements + 1) * sizeof *v);
    if (raw == NULL || v == NULL || tensorfile_read(&file, e, 0, raw, e->bytes, &err) != ERR_OK)
        exit(1);
    for (int64_t i = 0; i < e->n_elements; i++)
        v[i] = e->type == DT_F64   ? ((double *)raw)[i]
               : e->type == DT_F32 ? ((float *)raw)[i]
                                   : (double)((int64_t *)raw)[i];
    free(raw);
    return v;
}

/* An input as a tensor that wants a gradient; NULL when the case has none of that name. */
static struct nn_tensor *input(const struct fixture *c, const char *name)
{
    char full[256];
    const struct tensor_entry *e;
    snprintf(full, sizeof full, "%s.%s", c->name, name);
    double *v = read_tensor(full, &e);
    if (v == NULL)
        return NULL;
    struct nn_tensor *t = nn_new(&nn, e->n_dims, e->shape);
    for (int64_t i = 0; i < t->n; i++)
        t->data[i] = (float)v[i];
    t->wants_grad = true;
    free(v);
    return t;
}

static int32_t *ids(const struct fixture *c, const char *name, struct nn_tensor **shape)
{
    struct nn_tensor *t = *shape = input(c, name);
    int32_t *out = nn_take(&nn, (size_t)t->n * sizeof *out);
    for (int64_t i = 0; i < t->n; i++)
        out[i] = (int32_t)t->data[i];
    return out;
}

static int64_t number(const struct fixture *c, const char *key, int64_t otherwise)
{
    json_t *v = json_object_get(c->attrs, key);
    return v != NULL ? (int64_t)json_number_value(v) : otherwise;
}

static double real(const struct fixture *c, const char *key)
{
    return json_number_value(json_object_get(c->attrs, key));
}

static int is(const struct fixture *c, const char *op)
{
    size_t n = strlen(op);
    return strncmp(c->name, op, n) == 0 && c->name[n] == '.';
}

static void compare(const struct fixture *c, const char *what, const float *got, double limit)
{
    char full[256];
    const struct tensor_entry *e;
    snprintf(full, sizeof full, "%s.%s", c->name, what);
    double *want = read_tensor(full, &e), top = 0, worst = 0;
    if (want == NULL)
        return;
    for (int64_t i = 0; i < e->n_elements; i++) {
        double d = got != NULL ? fabs(got[i] - want[i]) : fabs(want[i]);
        top = fabs(want[i]) > top ? fabs(want[i]) : top;
        worst = d > worst || isnan(d) ? d : worst;
    }
    if (!(worst <= limit * (top > 0 ? top : 1))) {
        printf("%s: off by %.3g of %.3g\n", full, worst, top);
        failures++;
    }
    free(want);
}

/* Seeds the gradient of `y` with the upstream one and walks back; compares output and gradients. */
static void upstream(const struct fixture *c, struct nn_tensor *y, const char *name)
{
    char full[256];
    const struct tensor_entry *e;
    snprintf(full, sizeof full, "%s.g_%s", c->name, name);
    double *g = read_tensor(full, &e);
    if (g == NULL || nn_grad(&nn, y) == NULL)
        return;
    for (int64_t i = 0; i < y->n; i++)
        y->grad[i] += (float)g[i];
    free(g);
}

static void walk_back(void)
{
    for (const struct nn_node *n = nn.last; n != NULL; n = n->before)
        if (n->out->grad != NULL)
            n->backward(&nn, n);
}

static void finish(const struct fixture *c, struct nn_tensor *y, struct nn_tensor *const *in,
                   const char *const *names)
{
    compare(c, "y", y->data, 1e-5);
    upstream(c, y, "y");
    walk_back();
    for (int i = 0; names[i] != NULL; i++) {
        char what[64];
        snprintf(what, sizeof what, "d_%s", names[i]);
        if (in[i] != NULL)
            compare(c, what, in[i]->grad, 1e-5);
    }
}

static const struct { const char *name; enum nn_act act; } acts[] = {
    {"silu", NN_SILU}, {"gelu_erf", NN_GELU_ERF}, {"gelu_tanh", NN_GELU_TANH},
    {"quick_gelu", NN_QUICK_GELU}, {"relu", NN_RELU}, {"leaky_relu", NN_LEAKY_RELU},
    {"tanh", NN_TANH}, {"sigmoid", NN_SIGMOID}, {"softplus", NN_SOFTPLUS},
};

static unsigned axes_of(const struct fixture *c, const struct nn_tensor *x)
{
    json_t *a = json_object_get(c->attrs, "axes");
    unsigned mask = 0;
    if (!json_is_array(a))
        return (1u << x->n_dims) - 1;
    for (size_t i = 0; i < json_array_size(a); i++)
        mask |= 1u << json_integer_value(json_array_get(a, i));
    return mask;
}

/* Operations of x, w, b. */
static struct nn_tensor *run_weighted(const struct fixture *c, struct nn_tensor **in)
{
    struct nn_tensor *x = in[0], *w = in[1], *b = in[2];
    int stride = (int)number(c, "stride", 1), pad = (int)number(c, "padding", 0);
    if (is(c, "linear"))
        return nn_linear(&nn, x, w, b);
    if (is(c, "rms_norm"))
        return nn_rms_norm(&nn, x, w, real(c, "eps"));
    if (is(c, "layer_norm"))
        return nn_layer_norm(&nn, x, w, b, real(c, "eps"));
    if (is(c, "group_norm"))
        return nn_group_norm(&nn, x, w, b, (int)number(c, "groups", 1), real(c, "eps"));
    if (is(c, "conv2d"))
        return nn_conv2d(&nn, x, w, b, stride, pad, (int)number(c, "groups", 1));
    if (is(c, "conv_transpose2d"))
        return nn_conv_transpose2d(&nn, x, w, b, stride, pad, (int)number(c, "output_padding", 0));
    return NULL;
}

static struct nn_tensor *run_slice(const struct fixture *c, struct nn_tensor *x)
{
    const char *spec = json_string_value(json_object_get(c->attrs, "x"));
    for (int axis = 0; spec != NULL; axis++, spec = strchr(spec, ',') ? strchr(spec, ',') + 1 : NULL) {
        long begin = 0, end = axis < x->n_dims ? (long)x->shape[axis] : 0;
        const char *s = spec + strspn(spec, "[ "), *colon = strchr(s, ':');
        if (*s != ':')
            begin = strtol(s, NULL, 10);
        const char *after = colon != NULL ? colon + 1 : "";
        if (*after == '-' || (*after >= '0' && *after <= '9')) {
            end = strtol(after, NULL, 10);
            end = end < 0 ? end + (long)x->shape[axis] : end;
        }
        if (axis > 0 && (begin > 0 || end < x->shape[axis]))
            x = nn_slice(&nn, x, axis, begin, end);
    }
    return x;
}

/* Operations of one x. */
static struct nn_tensor *run_unary(const struct fixture *c, struct nn_tensor *x)
{
    int patch = (int)number(c, "patch", 1);
    json_t *grid = json_object_get(c->attrs, "grid");
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (is(c, acts[i].name))
            return nn_activation(&nn, x, acts[i].act, real(c, "slope"));
    if (is(c, "softmax"))
        return nn_softmax(&nn, x);
    if (is(c, "upsample_nearest2"))
        return nn_upsample_nearest2(&nn, x);
    if (is(c, "upsample_bilinear2"))
        return nn_upsample_bilinear2(&nn, x);
    if (is(c, "avg_pool2"))
        return nn_avg_pool2(&nn, x);
    if (is(c, "sum_pool"))
        return nn_sum_pool(&nn, x);
    if (strcmp(c->name, "sum.squares") == 0)
        return nn_sum(&nn, nn_mul(&nn, x, x), axes_of(c, x));
    if (is(c, "sum"))
        return nn_sum(&nn, x, axes_of(c, x));
    if (is(c, "mean"))
        return nn_mean(&nn, x, axes_of(c, x));
    if (is(c, "patchify"))
        return nn_patchify(&nn, x, patch);
    if (is(c, "unpatchify"))
        return nn_unpatchify(&nn, x, patch, (int)json_integer_value(json_array_get(grid, 0)),
                             (int)json_integer_value(json_array_get(grid, 1)));
    if (is(c, "slice"))
        return run_slice(c, x);
    if (is(c, "transpose")) {
        int axes[NN_DIMS_MAX];
        for (int i = 0; i < x->n_dims; i++)
            axes[i] = (int)json_integer_value(
                json_array_get(json_object_get(c->attrs, "axes"), (size_t)i));
        return nn_transpose(&nn, x, axes);
    }
    return NULL;
}

/* Operations of two or three named inputs. */
static const struct row { const char *op, *names[4]; } rows[] = {
    {"add", {"a", "b"}}, {"mul", {"a", "b"}}, {"concat", {"a", "b"}}, {"mse", {"x", "target"}},
    {"hinge_d", {"real", "fake"}}, {"hinge_g", {"fake"}}, {"softplus_d", {"real", "fake"}},
    {"softplus_g", {"fake"}}, {"swiglu", {"gate", "up"}}, {"modulate", {"x", "scale", "shift"}},
    {"gate", {"residual", "gate", "x"}}, {"attention_causal", {"q", "k", "v"}},
    {"attention_full", {"q", "k", "v"}}, {"attention_cross", {"q", "k", "v"}},
};

static struct nn_tensor *run_named(const struct fixture *c, struct nn_tensor **in)
{
    if (is(c, "add"))
        return nn_add(&nn, in[0], in[1]);
    if (is(c, "mul"))
        return nn_mul(&nn, in[0], in[1]);
    if (is(c, "concat"))
        return nn_concat(&nn, in[0], in[1], (int)number(c, "axis", 0));
    if (is(c, "mse"))
        return nn_mse(&nn, in[0], in[1]);
    if (is(c, "hinge_d"))
        return nn_hinge_d(&nn, in[0], in[1]);
    if (is(c, "hinge_g"))
        return nn_hinge_g(&nn, in[0]);
    if (is(c, "softplus_d"))
        return nn_softplus_d(&nn, in[0], in[1]);
    if (is(c, "softplus_g"))
        return nn_softplus_g(&nn, in[0]);
    if (is(c, "swiglu"))
        return nn_swiglu(&nn, in[0], in[1]);
    if (is(c, "modulate"))
        return nn_modulate(&nn, in[0], in[1], in[2]);
    if (is(c, "gate"))
        return nn_gate(&nn, in[0], in[1], in[2]);
    if (is(c, "attention_causal"))
        return nn_attention(&nn, in[0], in[1], in[2], true, NULL);
    struct nn_tensor *mask = input(c, "mask");
    uint8_t *bytes = mask != NULL ? nn_take(&nn, (size_t)mask->n) : NULL;
    for (int64_t i = 0; mask != NULL && i < mask->n; i++)
        bytes[i] = mask->data[i] != 0;
    return nn_attention(&nn, in[0], in[1], in[2], false, bytes);
}

static int run_special(const struct fixture *c)
{
    struct nn_tensor *in[3] = {0}, *t;
    if (is(c, "embedding")) {
        in[0] = input(c, "table");
        int32_t *id = ids(c, "ids", &t);
        finish(c, nn_embedding(&nn, id, t->n_dims, t->shape, in[0]), in, (const char *const[]){"table", NULL});
    } else if (is(c, "cross_entropy")) {
        const char *how = json_string_value(json_object_get(c->attrs, "reduction"));
        in[0] = input(c, "logits");
        int32_t *labels = ids(c, "labels", &t);
        finish(c, nn_cross_entropy(&nn, in[0], labels, strncmp(how, "mean", 4) == 0), in,
               (const char *const[]){"logits", NULL});
    } else if (is(c, "rope")) {
        in[0] = input(c, "x");
        int32_t *p = ids(c, "positions", &t);
        int64_t *wide = nn_take(&nn, (size_t)t->n * sizeof *wide);
        for (int64_t i = 0; i < t->n; i++)
            wide[i] = p[i];
        const char *pairing = json_string_value(json_object_get(c->attrs, "pairing"));
        finish(c, nn_rope(&nn, in[0], wide, real(c, "theta"), strstr(pairing, "(i,") != NULL), in,
               (const char *const[]){"x", NULL});
    } else if (is(c, "dropout")) {
        in[0] = input(c, "x");
        finish(c, nn_dropout(&nn, in[0], input(c, "keep")->data, real(c, "p")), in,
               (const char *const[]){"x", NULL});
    } else if (is(c, "batch_norm")) {
        struct nn_tensor *mean = input(c, "running_mean"), *var = input(c, "running_var");
        in[0] = input(c, "x");
        in[1] = input(c, "w");
        in[2] = input(c, "b");
        t = nn_batch_norm(&nn, in[0], in[1], in[2], mean->data, var->data,
                          json_is_true(json_object_get(c->attrs, "training")), real(c, "momentum"),
                          real(c, "eps"));
        finish(c, t, in, (const char *const[]){"x", "w", "b", NULL});
        compare(c, "running_mean_after", mean->data, 1e-5);
        compare(c, "running_var_after", var->data, 1e-5);
    } else if (is(c, "spectral_norm")) {
        in[0] = input(c, "w");
        struct nn_tensor *u = input(c, "u");
        float *v = nn_take_zeroed(&nn, (size_t)in[0]->n * sizeof *v);
        t = nn_spectral_norm(&nn, in[0], u->data, v, true);
        finish(c, t, in, (const char *const[]){"w", NULL});
        compare(c, "u_after", u->data, 1e-5);
        compare(c, "v_after", v, 1e-5);
    } else if (is(c, "timestep_embedding")) {
        t = input(c, "t");
        double *times = nn_take(&nn, (size_t)t->n * sizeof *times);
        for (int64_t i = 0; i < t->n; i++)
            times[i] = t->data[i];
        t = nn_timestep_embedding(&nn, times, t->n, (int)number(c, "dim", 0));
        compare(c, "y", t->data, 1e-6);
    } else if (is(c, "pos_embed_2d")) {
        json_t *grid = json_object_get(c->attrs, "grid");
        int dim = (int)number(c, "dim", 0), r = (int)json_integer_value(json_array_get(grid, 0));
        int w = (int)json_integer_value(json_array_get(grid, 1));
        float *out = nn_take(&nn, (size_t)(dim * r * w) * sizeof *out);
        nn_pos_embed_2d(out, dim, r, w, 1, 1);
        compare(c, "y", out, 1e-6);
    } else if (is(c, "split")) {
        json_t *sizes = json_object_get(c->attrs, "sizes");
        int64_t at = 0;
        in[0] = input(c, "x");
        struct nn_tensor *y[8];
        for (size_t i = 0; i < json_array_size(sizes); i++) {
            char name[8];
            int64_t n = json_integer_value(json_array_get(sizes, i));
            y[i] = nn_slice(&nn, in[0], (int)number(c, "axis", -1), at, at + n);
            at += n;
            snprintf(name, sizeof name, "y%zu", i);
            compare(c, name, y[i]->data, 0);
            upstream(c, y[i], name);
        }
        walk_back();
        compare(c, "d_x", in[0]->grad, 1e-6);
    } else {
        return 0;
    }
    return 1;
}

static void run_case(const struct fixture *c)
{
    static const char *const weighted[] = {"x", "w", "b", NULL};
    struct nn_tensor *in[4] = {0}, *y;
    nn_reset(&nn);
    nn.recording = true;
    cases_run++;
    if (run_special(c))
        return;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!is(c, rows[i].op))
            continue;
        for (int k = 0; rows[i].names[k] != NULL; k++)
            in[k] = input(c, rows[i].names[k]);
        finish(c, run_named(c, in), in, rows[i].names);
        return;
    }
    for (int k = 0; k < 3; k++)
        in[k] = input(c, weighted[k]);
    y = run_weighted(c, in);
    if (y == NULL)
        y = run_unary(c, in[0]);
    if (y == NULL) {
        printf("%s: no such operation here\n", c->name);
        failures++;
        return;
    }
    finish(c, y, in, weighted);
}

int main(void)
{
    const char *root = getenv("MUSTER_FIXTURES");
    char path[1024];
    struct err err = {0};
    enum isa isa;
    json_error_t je;
    snprintf(path, sizeof path, "%s/train/ops.json", root != NULL ? root : FIXTURES_DEFAULT);
    json_t *j = json_load_file(path, 0, &je), *row;
    snprintf(path, sizeof path, "%s/train/ops.safetensors", root != NULL ? root : FIXTURES_DEFAULT);
    if (j == NULL || tensorfile_open(&file, path, &err) != ERR_OK) {
        printf("skipped: no %s\n", path);
        return 77;
    }
    if (isa_choose(&isa, &err) != ERR_OK)
        return 1;
    nn_init(&nn, kernels_get(isa), NULL);
    size_t i;
    json_array_foreach(json_object_get(j, "cases"), i, row) {
        struct fixture c = {json_string_value(json_object_get(row, "name")), json_object_get(row, "attrs")};
        run_case(&c);
    }
    nn_free(&nn);
    tensorfile_close(&file);
    json_decref(j);
    printf("%d cases, %d failures\n", cases_run, failures);
    return failures > 0 || cases_run == 0;
}
