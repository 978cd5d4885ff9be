/* Every step of every sampler case against the reference library's states. The cases, their settings
 * and sizes come from the files: <class>.json and <class>.safetensors. */
#include "workers/diffusion/guidance.h"
#include "workers/diffusion/solver.h"
#include "workers/weights/tensorfile.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *folder;
static int failures, cases_run;

static void *xmalloc(size_t n)
{
    void *p = malloc(n > 0 ? n : 1);
    if (p == NULL) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return p;
}

/* Values of a tensor as doubles; NULL when absent. */
static double *read_values(struct tensorfile *t, const char *name, int64_t *n)
{
    const struct tensor_entry *e = tensorfile_find(t, name);
    struct err err = {0};
    if (e == NULL)
        return NULL;
    uint8_t *raw = xmalloc(e->bytes);
    if (tensorfile_read(t, e, 0, raw, e->bytes, &err) != ERR_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    double *v = xmalloc((size_t)e->n_elements * sizeof *v);
    for (int64_t i = 0; i < e->n_elements; i++)
        v[i] = e->type == DT_F64   ? ((double *)raw)[i]
               : e->type == DT_F32 ? ((float *)raw)[i]
                                   : (double)((int64_t *)raw)[i];
    free(raw);
    *n = e->n_elements;
    return v;
}

static float *read_floats(struct tensorfile *t, const char *name, int64_t *n)
{
    double *v = read_values(t, name, n);
    if (v == NULL)
        return NULL;
    float *f = xmalloc((size_t)*n * sizeof *f);
    for (int64_t i = 0; i < *n; i++)
        f[i] = (float)v[i];
    free(v);
    return f;
}

static double *read_case(struct tensorfile *t, const char *name, const char *part, int64_t *n)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", name, part);
    return read_values(t, full, n);
}

/* The README's denoiser; with learned variance a second half. */
static void fake_model(float *out, const float *x, int64_t n, double scale, double t, bool variance)
{
    for (int64_t i = 0; i < n; i++) {
        double v = (double)(float)(x[i] * scale);
        out[i] = (float)(0.5 * v * cos(t / 1000) + 0.1 * sin(v));
        if (variance)
            out[n + i] = (float)sin(v + t / 500);
    }
}

static bool agree(const char *what, const char *name, int at, const double *want, const float *got,
                  int64_t n, double gap)
{
    double top = 1, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(want[i] - got[i]);
        top = fabs(want[i]) > top ? fabs(want[i]) : top;
        worst = d > worst || isnan(d) ? d : worst;
    }
    if (worst <= (3 * gap + 1e-5) * top)
        return true;
    printf("%s: %s %d differs by %.3g of %.3g (gap %.3g)\n", name, what, at, worst, top, gap);
    failures++;
    return false;
}

/* Timesteps agree; those cut off to whole numbers may be one lower in the reference, where the rounding
 * of a float32 logarithm fell below: then the reference's are used. */
static bool check_timesteps(struct solver_plan *p, const double *want, int64_t n, const char *name)
{
    bool cut = p->config.sigmas == SIGMA_EXPONENTIAL || p->config.sigmas == SIGMA_BETA ||
               p->config.sigmas == SIGMA_FLOW ||
               (p->config.sigmas != SIGMA_TABLE && p->config.beta_kind == BETA_COSINE);
    if (n != p->n_calls) {
        printf("%s: %d calls, expected %d\n", name, p->n_calls, (int)n);
        failures++;
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(p->timestep[i] - want[i]);
        if (d > (cut ? 1 : 2e-3 + 1e-5 * fabs(want[i]))) {
            printf("%s: timestep %d is %g, expected %g\n", name, (int)i, p->timestep[i], want[i]);
            failures++;
            return false;
        }
        p->timestep[i] = want[i];
    }
    return true;
}

static void run_steps(const struct solver_plan *p, struct tensorfile *t, const char *name, int first,
                      double gap, float *x, int64_t n, const double *samples)
{
    int64_t noise_n;
    float *noise = read_floats(t, "noise", &noise_n), *out = xmalloc(2 * (size_t)n * sizeof *out);
    float *memory = xmalloc((size_t)solver_state_floats(n) * sizeof *memory);
    struct solver_state s;
    bool variance = p->config.variance == VARIANCE_LEARNED_RANGE;
    solver_state_init(&s, n, first, memory);
    for (int call = first; call < p->n_calls; call++) {
        bool draws = solver_draws_noise(p, call);
        if (draws && (call + 1) * n > noise_n) {
            printf("%s: wants noise row %d, of %d\n", name, call, (int)(noise_n / n));
            failures++;
            break;
        }
        fake_model(out, x, n, solver_input_scale(p, call), p->timestep[call], variance);
        solver_step(p, call, &s, out, x, draws ? noise + call * n : NULL);
        if (!agree("step", name, call, samples + (call - first) * n, x, n, gap))
            break;
    }
    free(noise);
    free(out);
    free(memory);
}

static void run_case(const struct solver *solver, struct tensorfile *t, const char *name, json_t *row)
{
    struct solver_config c = solver_config_default(solver);
    struct solver_plan p;
    struct err err = {0};
    json_t *set = json_object_get(row, "set_timesteps"), *list;
    double custom[64], gap = json_number_value(json_object_get(row, "gap"));
    if (solver_config_read(&c, json_object_get(row, "config"), &err) != ERR_OK ||
        solver_config_read(&c, set, &err) != ERR_OK ||
        (json_object_get(row, "step") != NULL &&
         solver_config_read(&c, json_object_get(row, "step"), &err) != ERR_OK)) {
        printf("%s: %s\n", name, err.msg);
        failures++;
        return;
    }
    if ((list = json_object_get(set, "sigmas")) != NULL)
        c.custom_sigmas = true;
    else
        list = json_object_get(set, "timesteps");
    c.custom = custom;
    c.n_custom = (int)json_array_size(list);
    for (int i = 0; i < c.n_custom; i++)
        custom[i] = json_number_value(json_array_get(list, (size_t)i));
    int steps = (int)json_integer_value(json_object_get(set, "num_inference_steps"));
    if (solver_plan_init(&p, solver, &c, steps, &err) != ERR_OK) {
        printf("%s: %s\n", name, err.msg);
        failures++;
        return;
    }
    int64_t n = 0, n_t = 0, n_s = 0, m;
    double *want_t = read_case(t, name, "timesteps", &n_t), *init = read_case(t, name, "init", &n);
    double *samples = read_case(t, name, "samples", &n_s);
    double *scale = read_case(t, name, "init_noise_sigma", &m);
    json_t *start = json_object_get(row, "start");
    int first = start == NULL ? 0 : solver_first_call(&p, 1 - json_integer_value(start) / (double)p.n_steps
                                                              + 1e-9);
    if (check_timesteps(&p, want_t, n_t, name)) {
        int64_t k;
        float *x_T = read_floats(t, "x_T", &k), *x0 = read_floats(t, "x0", &k);
        float *x = xmalloc((size_t)n * sizeof *x);
        if (start != NULL)
            solver_add_noise(&p, first, x0, x_T, x, n);
        else
            for (int64_t i = 0; i < n; i++)
                x[i] = (float)(x_T[i] * p.init_scale);
        if (scale != NULL && fabs(p.init_scale - scale[0]) > (3 * gap + 1e-5) * fabs(scale[0])) {
            printf("%s: init scale %g, expected %g\n", name, p.init_scale, scale[0]);
            failures++;
        }
        if (agree("init", name, 0, init, x, n, gap))
            run_steps(&p, t, name, first, gap, x, n, samples);
        free(x_T);
        free(x0);
        free(x);
    }
    cases_run++;
    free(want_t);
    free(init);
    free(samples);
    free(scale);
    solver_plan_free(&p);
}

static void run_class(const char *json_path)
{
    json_error_t je;
    json_t *j = json_load_file(json_path, 0, &je);
    json_t *cases = json_object_get(j, "cases"), *row;
    const char *class_name = json_string_value(json_object_get(j, "class")), *name;
    if (cases != NULL && class_name != NULL) {
        const struct solver *solver = solver_find(class_name);
        char path[1024];
        struct tensorfile t;
        struct err err = {0};
        snprintf(path, sizeof path, "%.*s.safetensors", (int)(strlen(json_path) - 5), json_path);
        if (solver == NULL || tensorfile_open(&t, path, &err) != ERR_OK) {
            printf("%s: %s\n", class_name, solver == NULL ? "no such sampler" : err.msg);
            failures++;
        } else {
            int before = cases_run;
            json_object_foreach(cases, name, row)
                run_case(solver, &t, name, row);
            printf("%s: %d cases\n", class_name, cases_run - before);
            tensorfile_close(&t);
        }
    }
    json_decref(j);
}

static void check_guidance(void)
{
    char path[1024];
    struct tensorfile t;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/guidance.safetensors", folder);
    if (tensorfile_open(&t, path, &err) != ERR_OK)
        return;
    int64_t n;
    float *cond = read_floats(&t, "cond", &n), *uncond = read_floats(&t, "uncond", &n);
    float *out = xmalloc((size_t)n * sizeof *out);
    for (int i = 0; i < t.n_tensors; i++) {
        const char *name = t.tensor[i].name, *r = strstr(name, ".rescale.");
        int64_t m;
        if (strncmp(name, "cfg.", 4) != 0)
            continue;
        double *want = read_values(&t, name, &m);
        guidance_apply(out, cond, uncond, n, strtod(name + 4, NULL), r != NULL ? strtod(r + 9, NULL) : 0);
        agree("guidance", name, 0, want, out, n, 0);
        free(want);
        cases_run++;
    }
    free(cond);
    free(uncond);
    free(out);
    tensorfile_close(&t);
}

static void check_tables(void)
{
    static const struct { const char *name; enum beta_kind kind; double start, end; } rows[] = {
        {"sd", BETA_SCALED_LINEAR, 0.00085, 0.012},
        {"lin", BETA_LINEAR, 1e-4, 0.02},
        {"cos", BETA_COSINE, 1e-4, 0.02},
    };
    char path[1024];
    struct tensorfile f;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/noise_tables.safetensors", folder);
    if (tensorfile_open(&f, path, &err) != ERR_OK)
        return;
    for (int k = 0; k < 6; k++) {
        char name[64];
        int64_t n;
        struct noise_table t;
        snprintf(name, sizeof name, "%s.%salphas_cumprod", rows[k / 2].name, k % 2 ? "znsr." : "");
        double *want = read_values(&f, name, &n);
        if (want == NULL)
            continue;
        if (noise_table_init(&t, rows[k / 2].kind, rows[k / 2].start, rows[k / 2].end, (int)n, k % 2,
                             &err) != ERR_OK)
            failures++;
        for (int64_t i = 0; i < n; i++) {
            /* a last digit of float32 may round the other way; the zero-SNR rescale gathers a few */
            if (fabs(t.alpha_bar[i] - want[i]) > (k % 2 ? 1e-5 : 3e-7) * fabs(want[i]) + 1e-12) {
                printf("%s[%d] is %.9g, expected %.9g\n", name, (int)i, t.alpha_bar[i], want[i]);
                failures++;
                break;
            }
        }
        noise_table_free(&t);
        free(want);
        cases_run++;
    }
    tensorfile_close(&f);
}

int main(void)
{
    const char *root = getenv("MUSTER_FIXTURES");
    char path[1024];
    snprintf(path, sizeof path, "%s/schedulers", root != NULL ? root : FIXTURES_DEFAULT);
    folder = path;
    DIR *d = opendir(path);
    if (d == NULL) {
        printf("skipped: no %s\n", path);
        return 77;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t len = strlen(e->d_name);
        char file[1400];
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (len > 5 && strcmp(e->d_name + len - 5, ".json") == 0)
            run_class(file);
    }
    closedir(d);
    check_guidance();
    check_tables();
    printf("%d cases, %d failures\n", cases_run, failures);
    return failures > 0 || cases_run == 0;
}
