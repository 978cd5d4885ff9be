/* Diffusion models of latents, or told a class or nothing, whole: the pipelines of DiT, PixArt and SD3 folders step by
 * step to their pictures (tokens and encoder of the prompts included), the
 * digits' DDIM steps, and what LeNet reads of fifty digits. Needs fixtures/diffusion and the data folder. */
#include "tests/fixturetensor.h"
#include "workers/diffusion/guidance.h"
#include "workers/imagepipe.h"
#include "workers/kernels/normal.h"
#include "workers/models/imagefamily.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

enum { IDS_MAX = 512, DIGITS = 50, DIGIT_STEPS = 12, SIDE = 28, AREA = SIDE * SIDE };

static struct nn nn;
static struct team team;
static int failures, checks;

static void expect_within(const char *what, double off, double limit)
{
    checks++;
    printf("%s: off by %.3g, limit %.3g\n", what, off, limit);
    failures += !(off <= limit);
}

static void must(int rc, const struct err *err)
{
    if (rc == ERR_OK)
        return;
    printf("%s\n", err->msg);
    exit(1);
}

static double rms_of(const double *v, int64_t n)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += v[i] * v[i];
    return sqrt(squares / (double)n);
}

/* A sampler's run over b samples of n numbers in x; *state is of one sample. */
struct run {
    struct imagepipe *pipe;
    struct solver_plan plan;
    struct solver_state state[DIGITS];
    float *floats, *x;
    int b, height, width;
    int64_t n;
};

static void begin(struct run *r, const char *path, int b, int height, int width, int steps,
                  const double *custom)
{
    struct err err = {0};
    struct solver_config c;
    memset(r, 0, sizeof *r);
    must(imagepipe_open(&r->pipe, path, &err), &err);
    const struct imagepipe_facts *f = imagepipe_facts(r->pipe);
    must(imagepipe_settings(r->pipe, f->solver, width * f->pixels, height * f->pixels, &c, &err), &err);
    c.custom = custom;
    c.n_custom = custom != NULL ? steps : 0;
    must(solver_plan_init(&r->plan, f->solver, &c, steps, &err), &err);
    r->b = b;
    r->height = height;
    r->width = width;
    r->n = (int64_t)f->channels * height * width;
    r->floats = calloc((size_t)(b * solver_state_floats(r->n)), sizeof(float));
    r->x = calloc((size_t)(b * r->n), sizeof(float));
    for (int i = 0; i < b; i++)
        solver_state_init(&r->state[i], r->n, 0, r->floats + i * solver_state_floats(r->n));
}

static void end(struct run *r)
{
    solver_plan_free(&r->plan);
    imagepipe_close(r->pipe);
    free(r->floats);
    free(r->x);
}

/* One call: samples that are told[i], led away from `away` by `guidance`; told NULL: nothing. */
static void advance(struct run *r, int call, const float *const *told, const float *away, double guidance)
{
    static float in[2 * DIGITS * AREA], lead[AREA];
    const float *prompts[NN_PARTS_MAX] = {0}, *out;
    double times[NN_PARTS_MAX];
    struct err err = {0};
    int n = told != NULL ? 2 * r->b : r->b;
    for (int i = 0; i < n; i++) {
        memcpy(in + i * r->n, r->x + i % r->b * r->n, (size_t)r->n * sizeof *in);
        times[i] = r->plan.timestep[call];
        prompts[i] = told == NULL ? NULL : i < r->b ? told[i] : away;
    }
    struct diffusionmodel_call c = {n, in, r->height, r->width, times, prompts};
    must(imagepipe_denoise(r->pipe, &nn, NULL, &c, &out, &err), &err);
    for (int i = 0; i < r->b; i++) {
        const float *answer = out + i * r->n;
        if (told != NULL) {
            guidance_apply(lead, answer, out + (i + r->b) * r->n, r->n, guidance, 0);
            answer = lead;
        }
        solver_step(&r->plan, call, &r->state[i], answer, r->x + i * r->n, NULL);
    }
}

static double *all_of(const char *path, const char *name, const struct tensor_entry **e)
{
    static struct tensorfile t;
    static struct tensor_entry entry;
    struct err err = {0};
    must(tensorfile_open(&t, path, &err), &err);
    double *v = fixture_values(&t, name, e);
    if (v == NULL) {
        printf("%s has no %s\n", path, name);
        exit(1);
    }
    entry = **e;
    *e = &entry;
    tensorfile_close(&t);
    return v;
}

/* --- folders */

/* Ids NAME of the expected file without their padding, as imagine makes them: those that the mask keeps, or
 * up to the first end. */
static int ids_of(const char *path, const char *name, const char *mask_name, int eos, uint32_t *ids)
{
    const struct tensor_entry *e;
    double *mask = mask_name != NULL ? all_of(path, mask_name, &e) : NULL, *id = all_of(path, name, &e);
    int n = 0;
    for (int64_t i = 0; i < e->n_elements && n < IDS_MAX; i++) {
        if (mask != NULL && mask[i] == 0)
            continue;
        ids[n++] = (uint32_t)id[i];
        if (mask == NULL && (int)id[i] == eos)
            break;
    }
    free(mask);
    free(id);
    return n;
}

/* What three encoders made of prompt `which`, where the file tells. */
static void compare_text(const struct run *r, const char *path, int which, const float *got)
{
    const struct tensor_entry *e;
    char name[32];
    double top;
    snprintf(name, sizeof name, "text.%d.context", which);
    double *want = all_of(path, name, &e);
    expect_within("context", fixture_distance(got, want, e->n_elements, &top), 1e-4);
    int64_t at = e->n_elements;
    free(want);
    snprintf(name, sizeof name, "text.%d.pooled", which);
    want = all_of(path, name, &e);
    expect_within("pooled", fixture_distance(got + at, want, e->n_elements, &top), 1e-4);
    expect_within("floats of a prompt", (double)(at + e->n_elements - imagepipe_prompt_floats(r->pipe)), 0);
    free(want);
}

/* Prompt `which` of the expected file, encoded. */
static float *encoded(struct run *r, const char *path, int which)
{
    const struct imagepipe_facts *f = imagepipe_facts(r->pipe);
    struct err err = {0};
    uint32_t ids[3 * (IDS_MAX + 1)];
    char name[32], mask[32];
    int n = 0;
    snprintf(name, sizeof name, "text.%d.ids", which);
    snprintf(mask, sizeof mask, "text.%d.mask", which);
    if (f->n_texts == 1)
        n = ids_of(path, name, mask, 0, ids);
    for (int i = 0; i < f->n_texts && f->n_texts > 1; i++) {
        if (i > 0)
            snprintf(name, sizeof name, "text.%d.ids_%d", which, i + 1);
        ids[n] = (uint32_t)ids_of(path, name, NULL, f->text[i].eos, ids + n + 1);
        n += 1 + (int)ids[n];
    }
    float *out = calloc((size_t)imagepipe_prompt_floats(r->pipe), sizeof *out);
    must(imagepipe_encode(r->pipe, &nn, ids, n, out, &err), &err);
    if (f->n_texts > 1)
        compare_text(r, path, which, out);
    return out;
}

/* Prompt 0 away from prompt 2; or the labels of the expected file away from none. */
static void tell(struct run *r, const char *path, float **told, float **away)
{
    const struct tensor_entry *e;
    if (imagepipe_facts(r->pipe)->n_texts > 0) {
        told[0] = encoded(r, path, 0);
        *away = encoded(r, path, 2);
        return;
    }
    double *label = all_of(path, "pipe.labels", &e);
    for (int i = 0; i < r->b; i++)
        *(told[i] = calloc(1, sizeof(float))) = (float)label[i];
    *(*away = calloc(1, sizeof(float))) = (float)imagepipe_facts(r->pipe)->none;
    free(label);
}

static void compare_picture(struct run *r, const char *path)
{
    const struct tensor_entry *e;
    double *image = all_of(path, "pipe.image", &e), worst = 0;
    int64_t area = e->shape[1] * e->shape[2];
    for (int s = 0; s < r->b; s++) {
        const float *out;
        struct err err = {0};
        must(imagepipe_decode(r->pipe, &nn, r->x + s * r->n, r->height, r->width, &out, &err), &err);
        for (int64_t i = 0; i < 3 * area; i++) {
            double v = 0.5 * out[i % 3 * area + i / 3] + 0.5;
            v = fabs((v < 0 ? 0 : v > 1 ? 1 : v) - image[s * 3 * area + i]);
            worst = v > worst ? v : worst;
        }
    }
    expect_within("picture", worst, 2e-3);
    free(image);
}

/* A picture becomes the middle of what the autoencoder takes for possible. */
static void compare_encoding(struct run *r, const char *folder, const char *path)
{
    const struct tensor_entry *e;
    struct imagemodel m;
    struct err err = {0};
    double *picture = all_of(path, "vae.encode.in", &e), worst = 0;
    int height = (int)e->shape[2], width = (int)e->shape[3], k = imagepipe_facts(r->pipe)->pixels;
    float *in = calloc((size_t)(3 * height * width), sizeof *in);
    const float *got;
    for (int64_t i = 0; i < 3 * height * width; i++)
        in[i] = (float)picture[i];
    double *want = all_of(path, "vae.encode.mean", &e);
    must(imagepipe_encode_picture(r->pipe, &nn, in, height / k, width / k, &got, &err), &err);
    must(imagemodel_open(&m, folder, &err), &err);
    const struct imagefacts *f = &imagemodel_role(&m, IMAGE_VAE)->facts;
    for (int64_t i = 0; i < e->n_elements / e->shape[0]; i++) {
        double off = fabs(got[i] / f->scaling + f->shift - want[i]);
        worst = off > worst ? off : worst;
    }
    imagemodel_close(&m);
    expect_within("latents of a picture", worst, 1e-4);
    free(picture);
    free(want);
    free(in);
}

static void pipeline(const char *folder)
{
    const struct tensor_entry *e;
    char path[1000];
    struct run r;
    float *told[8] = {0}, *away;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    double *noise = all_of(path, "pipe.noise", &e), top;
    int b = (int)e->shape[0], height = (int)e->shape[2], width = (int)e->shape[3];
    double *want = all_of(path, "pipe.latents_per_step", &e);
    int steps = (int)e->shape[0];
    printf("%s\n", folder);
    begin(&r, folder, b, height, width, steps, NULL);
    for (int64_t i = 0; i < b * r.n; i++)
        r.x[i] = (float)(noise[i] * r.plan.init_scale);
    tell(&r, path, told, &away);
    for (int k = 0; k < steps; k++) {
        const double *now = want + k * b * r.n;
        advance(&r, k, (const float *const *)told, away, 5);
        expect_within("latents", fixture_distance(r.x, now, b * r.n, &top), 1e-3 * rms_of(now, b * r.n));
    }
    compare_picture(&r, path);
    compare_encoding(&r, folder, path);
    for (int i = 0; i < b; i++)
        free(told[i]);
    free(away);
    end(&r);
    free(noise);
    free(want);
}

/* --- digits */

static void digit_steps(const char *folder)
{
    const double times[] = {1000, 900, 800, 700, 600, 500, 400, 300, 200, 100};
    const struct tensor_entry *e;
    char file[900], path[900];
    struct run r;
    snprintf(path, sizeof path, "%s/ddpm_mnist.expected.safetensors", folder);
    snprintf(file, sizeof file, "%s/ddpm_mnist.safetensors", folder);
    double *noise = all_of(path, "ddim10.noise", &e), top;
    int b = (int)e->shape[0];
    double *want = all_of(path, "ddim10.samples", &e);
    begin(&r, file, b, SIDE, SIDE, 10, times);
    r.plan.table.alpha_bar[0] = 1;      /* where the file's own sampler ends; its table has 0.9999 */
    for (int64_t i = 0; i < b * r.n; i++)
        r.x[i] = (float)noise[i];
    for (int k = 0; k < 10; k++) {
        advance(&r, k, NULL, NULL, 1);
        expect_within("digits", fixture_distance(r.x, want + k * b * r.n, b * r.n, &top), 1e-4);
    }
    end(&r);
    free(noise);
    free(want);
}

/* Mean of LeNet's largest probability. The reference's own samplers reach 0.81 with 10 DDIM steps and 0.83 with
 * 50, so that a schedule that is off by a step or a factor does not. */
static void digits_read(const char *folder)
{
    static float image[DIGITS * AREA];
    char path[900];
    struct run r;
    struct imagemodel m;
    struct err err = {0};
    double sum = 0;
    snprintf(path, sizeof path, "%s/ddpm_mnist.safetensors", folder);
    begin(&r, path, DIGITS, SIDE, SIDE, DIGIT_STEPS, NULL);
    for (int i = 0; i < DIGITS; i++)
        normal_fill(r.x + i * r.n, r.n, (uint64_t)(1 + i), 0, PHILOX_IMAGE_NOISE);
    for (int k = 0; k < DIGIT_STEPS; k++)
        advance(&r, k, NULL, NULL, 1);
    for (int64_t i = 0; i < DIGITS * AREA; i++) {
        float v = r.x[i] + 0.5f;
        image[i] = v < 0 ? 0 : v > 1 ? 1 : v;
    }
    end(&r);
    snprintf(path, sizeof path, "%s/lenet_mnist.safetensors", folder);
    must(imagemodel_open(&m, path, &err), &err);
    struct imagetensors in = {0}, out = {0};
    imagetensors_put(&in, "image", image, 4, (const int64_t[]){DIGITS, 1, SIDE, SIDE});
    nn_reset(&nn);
    must(imagepart_run(&m.part[0], &nn, &in, &out, &err), &err);
    const struct imagetensor *p = imagetensors_find(&out, "probability");
    for (int i = 0; i < DIGITS; i++) {
        float most = 0;
        for (int k = 0; k < 10; k++)
            most = p->data[i * 10 + k] > most ? p->data[i * 10 + k] : most;
        sum += (double)most;
    }
    imagemodel_close(&m);
    printf("LeNet's mean top probability of %d digits, %d DDIM steps: %.3f\n", DIGITS, DIGIT_STEPS,
           sum / DIGITS);
    expect_within("what a top probability of 0.8 lacks", 0.8 - sum / DIGITS, 0);
}

/* A folder with an autoencoder, of a denoiser that is known here? */
static bool suits(const char *folder)
{
    struct imagepipe *pipe;
    struct err err = {0};
    char vae[900];
    snprintf(vae, sizeof vae, "%s/vae", folder);
    if (access(vae, R_OK) != 0 || imagepipe_open(&pipe, folder, &err) != ERR_OK)
        return false;
    imagepipe_close(pipe);
    return true;
}

static void all(void *arg)
{
    const char *fixtures = getenv("MUSTER_FIXTURES"), *data = getenv("MUSTER_DATA");
    char path[900], folder[800];
    snprintf(path, sizeof path, "%s/diffusion", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(folder, sizeof folder, "%s/diffusion/%.200s",
                 fixtures != NULL ? fixtures : FIXTURES_DEFAULT, e->d_name);
        if (e->d_name[0] != '.' && suits(folder))
            pipeline(folder);
    }
    if (d != NULL)
        closedir(d);
    snprintf(folder, sizeof folder, "%s/image", data != NULL ? data : DATA_DEFAULT);
    snprintf(path, sizeof path, "%s/ddpm_mnist.safetensors", folder);
    if (access(path, R_OK) == 0) {
        digit_steps(folder);
        digits_read(folder);
    }
}

int main(void)
{
    struct err err = {0};
    enum isa isa;
    if (isa_choose(&isa, &err) != ERR_OK)
        return 1;
    team_init(&team, 2);
    nn_init(&nn, kernels_get(isa), &team);
    team_enter(&team, all, NULL);
    nn_free(&nn);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 ? 1 : checks == 0 ? 77 : 0;
}
