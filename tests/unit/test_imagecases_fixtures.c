/* Every network that imagefamilies.c knows, through the calls that fixtures/diffusion, fixtures/gan and
 * the data folder's images hold: all outputs with a name in the expected files, within the READMEs'
 * tolerances. Folders and files are found by listing, so a new family or fixture needs nothing here. */
#include "tests/fixturetensor.h"
#include "workers/models/imagecases.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static struct nn nn;
static int failures, checks;

/* Of the largest error: absolute, or times the expected tensor's rms. */
struct measure { double limit; bool of_rms; };

static bool same_shape(const struct imagetensor *got, const struct tensor_entry *e)
{
    bool same = got->n_dims == e->n_dims;
    for (int i = 0; i < got->n_dims && same; i++)
        same = got->shape[i] == e->shape[i];
    return same;
}

static void check(struct tensorfile *t, const char *what, const char *name, const struct imagetensor *got,
                  struct measure m)
{
    const struct tensor_entry *e;
    double top, squares = 0, *want = fixture_values(t, name, &e);
    if (want == NULL)
        return;
    checks++;
    for (int64_t i = 0; i < e->n_elements; i++)
        squares += want[i] * want[i];
    double rms = sqrt(squares / (double)e->n_elements);
    double worst = same_shape(got, e) ? fixture_distance(got->data, want, e->n_elements, &top) : INFINITY;
    if (getenv("VERBOSE") != NULL)
        printf("%s: %s off by %.3g, rms %.3g\n", what, name, worst, rms);
    if (!(worst <= m.limit * (m.of_rms ? rms : 1))) {
        printf("%s: %s off by %.3g, rms %.3g\n", what, name, worst, rms);
        failures++;
    }
    free(want);
}

static void run_case(struct imagepart *p, struct tensorfile *t, const struct imagecase *c, const char *what,
                     struct measure m)
{
    struct imagetensors in = {0}, out = {0};
    struct err err = {0};
    char name[2 * IMAGE_NAME];
    nn_reset(&nn);
    int rc = imagecases_read(p, t, c, &in, &err);
    if (rc == ERR_OK)
        rc = imagepart_run(p, &nn, &in, &out, &err);
    if (rc != ERR_OK && !imageinput_missing(&err)) {
        printf("%s: %s*: %s\n", what, c->stem, err.msg);
        failures++;
    }
    for (int i = 0; rc == ERR_OK && i < out.n; i++) {
        snprintf(name, sizeof name, "%s%s", c->stem, out.t[i].name);
        check(t, what, name, &out.t[i], m);
    }
    imagecases_free(&in);
}

static void run_part(struct imagepart *p, const char *expected, struct measure m)
{
    static struct imagecase cases[IMAGECASES_MAX];
    struct tensorfile t;
    struct err err = {0};
    if (p->family == NULL)
        return;
    if (tensorfile_open(&t, expected, &err) != ERR_OK || imagepart_load(p, &err) != ERR_OK) {
        printf("%s\n", err.msg);
        failures++;
        return;
    }
    int before = checks, n = imagecases_list(p, &t, cases);
    for (int i = 0; i < n; i++)
        run_case(p, &t, &cases[i], p->file, m);
    printf("%-40s %-28s %d calls, %d checks\n", p->file, imagepart_kind(p), n, checks - before);
    tensorfile_close(&t);
}

/* Where several text encoders answer together, expected.safetensors names only what they make together. */
static bool text_stands_alone(const struct imagemodel *m)
{
    int n = 0;
    for (int i = 0; i < m->n_parts; i++)
        n += strncmp(m->part[i].name, "text_encoder", 12) == 0;
    return n == 1;
}

/* A T5 encoder beside others: what it makes of its own ids, text.I.ids_N, has a name of its own. */
static void run_t5(struct imagepart *p, const char *expected)
{
    struct tensorfile t;
    struct err err = {0};
    const char *end = strrchr(p->name, '_');
    if (tensorfile_open(&t, expected, &err) != ERR_OK)
        return;
    for (int i = 0; i < 3; i++) {
        struct imagetensors in = {0}, out = {0};
        const struct tensor_entry *e;
        char name[64];
        snprintf(name, sizeof name, "text.%d.ids%s", i, end);
        float *ids = fixture_floats(&t, name, &e);
        if (ids == NULL)
            continue;
        imagetensors_put(&in, "ids", ids, 2, e->shape);
        nn_reset(&nn);
        if (imagepart_run(p, &nn, &in, &out, &err) != ERR_OK) {
            printf("%s: %s\n", p->file, err.msg);
            failures++;
        } else {
            snprintf(name, sizeof name, "text.%d.t5_hidden", i);
            if (tensorfile_find(&t, name) == NULL)
                snprintf(name, sizeof name, "text.%d.context", i);
            check(&t, p->file, name, &out.t[0], (struct measure){1e-4, false});
        }
        free(ids);
    }
    tensorfile_close(&t);
}

static void run_diffusers(const char *folder)
{
    struct imagemodel m;
    struct err err = {0};
    char expected[1400];
    snprintf(expected, sizeof expected, "%s/model_index.json", folder);
    struct stat st;
    if (stat(expected, &st) != 0)
        return;
    snprintf(expected, sizeof expected, "%s/expected.safetensors", folder);
    if (imagemodel_open(&m, folder, &err) != ERR_OK) {
        printf("%s: %s\n", folder, err.msg);
        failures++;
        return;
    }
    for (int i = 0; i < m.n_parts; i++)
        if (strncmp(m.part[i].name, "text_encoder", 12) != 0 || text_stands_alone(&m))
            run_part(&m.part[i], expected, (struct measure){1e-4, false});
        else if (strcmp(imagepart_kind(&m.part[i]), "T5EncoderModel") == 0)
            run_t5(&m.part[i], expected);
    imagemodel_close(&m);
}

/* Does the part NAME or NAME_x belong to NAME.expected.safetensors? */
static bool expected_of(const char *part, const char *file, size_t stem)
{
    return strncmp(part, file, stem) == 0 && (part[stem] == '\0' || strcmp(part + stem, "_encoder") == 0 ||
                                              strcmp(part + stem, "_decoder") == 0);
}

static struct measure measure_of(const char *name, bool trained)
{
    if (trained)
        return (struct measure){strncmp(name, "taef2", 5) == 0 ? 2e-3 : 1e-4, false};
    bool loose = strncmp(name, "stylegan2", 9) == 0 || strncmp(name, "rrdbnet", 7) == 0;
    return (struct measure){loose ? 3e-4 : 1e-4, true};
}

static void run_files(const char *folder, bool trained)
{
    struct imagemodel m;
    struct err err = {0};
    DIR *d = opendir(folder);
    if (d == NULL)
        return;
    if (imagemodel_open(&m, folder, &err) != ERR_OK) {
        printf("%s: %s\n", folder, err.msg);
        failures++;
        closedir(d);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name), k = strlen(".expected.safetensors");
        char path[1400];
        if (n <= k || strcmp(e->d_name + n - k, ".expected.safetensors") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        for (int i = 0; i < m.n_parts; i++)
            if (expected_of(m.part[i].name, e->d_name, n - k))
                run_part(&m.part[i], path, measure_of(m.part[i].name, trained));
    }
    closedir(d);
    imagemodel_close(&m);
}

int main(void)
{
    const char *fixtures = getenv("MUSTER_FIXTURES"), *data = getenv("MUSTER_DATA");
    char path[600], folder[900];
    struct err err = {0};
    enum isa isa;
    if (isa_choose(&isa, &err) != ERR_OK)
        return 1;
    nn_init(&nn, kernels_get(isa), NULL);
    snprintf(path, sizeof path, "%s/diffusion", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(folder, sizeof folder, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.')
            run_diffusers(folder);
    }
    if (d != NULL)
        closedir(d);
    snprintf(path, sizeof path, "%s/gan", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    run_files(path, false);
    snprintf(path, sizeof path, "%s/image", data != NULL ? data : DATA_DEFAULT);
    run_files(path, true);
    nn_free(&nn);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 ? 1 : checks == 0 ? 77 : 0;
}
