#include "workers/models/imagemodel.h"

#include "workers/models/imagefamily.h"
#include "workers/models/netshard.h"
#include "workers/models/textfile.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_MAX = 4 << 20, PATH_ROOM = 4096, PARTS_MAX = 64 };

/* --- named tensors */

struct imagetensor *imagetensors_put(struct imagetensors *s, const char *name, float *data, int n_dims,
                                     const int64_t *shape)
{
    struct imagetensor *t = NULL;
    for (int i = 0; i < s->n && t == NULL; i++)
        if (strcmp(s->t[i].name, name) == 0)
            t = &s->t[i];
    if (t == NULL && (s->n == IMAGE_TENSORS_MAX || strlen(name) >= IMAGE_NAME || n_dims > NN_DIMS_MAX))
        return NULL;
    if (t == NULL)
        t = &s->t[s->n++];
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->n_dims = n_dims;
    t->n = 1;
    for (int i = 0; i < n_dims; i++)
        t->n *= t->shape[i] = shape[i];
    t->data = data;
    return t;
}

const struct imagetensor *imagetensors_find(const struct imagetensors *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->t[i].name, name) == 0)
            return &s->t[i];
    return NULL;
}

/* --- files */

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Published configurations hold -Infinity, which is no JSON: spelled as a number too large for a double
 * it would be refused as well, so as the largest one. */
static void tame_infinity(char *text)
{
    static const char word[] = "Infinity", number[] = "1.0e+300";
    for (char *at = text; (at = strstr(at, word)) != NULL; at += sizeof word - 1)
        memcpy(at, number, sizeof word - 1);
}

/* folder/name as a JSON object; *out NULL when there is no such file and it is not required. */
static int read_json(const char *folder, const char *name, bool required, json_t **out, struct err *err)
{
    char *text;
    size_t n;
    json_error_t e;
    *out = NULL;
    TRY(textfile_read(folder, name, CONFIG_MAX, required, &text, &n, err));
    if (text == NULL)
        return ERR_OK;
    tame_infinity(text);
    *out = json_loads(text, 0, &e);
    free(text);
    if (json_is_object(*out))
        return ERR_OK;
    bool parsed = *out != NULL;
    json_decref(*out);
    *out = NULL;
    return err_set(err, ERR_FORMAT, "%s/%s: line %d: %s", folder, name, parsed ? 1 : e.line,
                   parsed ? "no JSON object" : e.text);
}

/* --- a part */

/* The class that a configuration names: diffusers' key, or transformers'. */
static const char *class_of(const json_t *config)
{
    const char *name = json_string_value(json_object_get(config, "_class_name"));
    if (name != NULL)
        return name;
    return json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
}

static void count_weights(struct imagepart *p, const struct tensorfile *t)
{
    for (int i = 0; i < t->n_tensors; i++)
        p->parameters += params_is_weight(&t->tensor[i]) ? (uint64_t)t->tensor[i].n_elements : 0;
    for (int i = 0; i < t->n_files; i++)
        p->file_bytes += t->file_bytes[i];
}

/* The last two names of a path, for messages. */
static void short_name(const char *path, char *out, size_t cap)
{
    const char *cut = path + strlen(path);
    for (int names = 0; cut > path && names < 2;)
        names += *--cut == '/';
    snprintf(out, cap, "%s", *cut == '/' ? cut + 1 : cut);
}

/* hint: the class that the index names, or NULL. A part of no known family stays without one. */
static int open_part(struct imagepart *p, const char *name, const char *path, const char *hint,
                     struct err *err)
{
    struct tensorfile t;
    char folder[PATH_ROOM];
    snprintf(p->name, sizeof p->name, "%s", name);
    short_name(path, p->file, sizeof p->file);
    if ((p->path = strdup(path)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    TRY(textfile_folder(path, folder, sizeof folder, err));
    if (is_folder(path))
        TRY(read_json(folder, "config.json", false, &p->config, err));
    const char *class_name = class_of(p->config);
    class_name = class_name != NULL ? class_name : hint;
    p->family = class_name != NULL ? imagefamily_named(class_name) : NULL;
    TRY(tensorfile_open(&t, path, err));
    count_weights(p, &t);
    tensorfile_digest(&t, &(uint64_t){0}, &p->file_hash);
    /* the tensors of a class that is unknown here may be of any kind */
    int rc = class_name == NULL || p->family != NULL ? params_outline(&p->w, &t, err) : ERR_OK;
    tensorfile_close(&t);
    TRY(rc);
    if (class_name == NULL)
        p->family = imagefamily_of(&p->w);
    return p->family != NULL ? p->family->open(p, err) : ERR_OK;
}

static void close_part(struct imagepart *p)
{
    params_free(&p->w);
    json_decref(p->config);
    free(p->path);
    free(p->state);
}

/* A zeroed part at the end. */
static struct imagepart *new_part(struct imagemodel *m)
{
    struct imagepart *p = realloc(m->part, ((size_t)m->n_parts + 1) * sizeof *p);
    if (p == NULL)
        return NULL;
    m->part = p;
    return memset(&p[m->n_parts++], 0, sizeof *p);
}

static int add_part(struct imagemodel *m, const char *name, const char *path, const char *hint,
                    struct err *err)
{
    struct imagepart *p = m->n_parts < PARTS_MAX ? new_part(m) : NULL;
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory for another part", m->path);
    return open_part(p, name, path, hint, err);
}

/* --- a model */

/* Tokenizers and schedulers have no weights. */
static bool has_weights(const char *key)
{
    return key[0] != '_' && strncmp(key, "scheduler", 9) != 0 && strncmp(key, "tokenizer", 9) != 0 &&
           strstr(key, "processor") == NULL && strcmp(key, "feature_extractor") != 0;
}

/* The folders that model_index.json names: "vae": ["diffusers", "AutoencoderKL"]. */
static int open_indexed(struct imagemodel *m, struct err *err)
{
    const char *key, *name = json_string_value(json_object_get(m->index, "_class_name"));
    json_t *value;
    char path[PATH_ROOM];
    if (name != NULL && (m->class_name = strdup(name)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a name");
    json_object_foreach(m->index, key, value) {
        const char *class_name = json_string_value(json_array_get(value, 1));
        if (!has_weights(key) || class_name == NULL)
            continue;
        if (strchr(key, '/') != NULL ||
            snprintf(path, sizeof path, "%s/%s", m->path, key) >= (int)sizeof path)
            return err_set(err, ERR_FORMAT, "%s/model_index.json: '%.40s' is no name of a folder", m->path,
                           key);
        if (!is_folder(path))
            return err_set(err, ERR_IO, "%s: model_index.json names %s/, which is not there (incomplete "
                           "download?)", m->path, key);
        TRY(add_part(m, key, path, class_name, err));
    }
    snprintf(path, sizeof path, "%s/scheduler", m->path);
    if (is_folder(path))
        TRY(read_json(path, "scheduler_config.json", false, &m->scheduler, err));
    return ERR_OK;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcmp(s + n - k, end) == 0;
}

/* Names of the weight files of a folder, sorted; what a network is expected to compute is no network. */
static int list_files(const char *path, char names[PARTS_MAX][64], int *n, struct err *err)
{
    DIR *d = opendir(path);
    *n = 0;
    if (d == NULL)
        return err_set(err, ERR_IO, "%s: no folder that can be read", path);
    for (struct dirent *e; (e = readdir(d)) != NULL && *n < PARTS_MAX;)
        if (ends_with(e->d_name, ".safetensors") && !ends_with(e->d_name, ".expected.safetensors") &&
            strlen(e->d_name) < 64)
            strcpy(names[(*n)++], e->d_name);
    closedir(d);
    qsort(names, (size_t)*n, 64, (int (*)(const void *, const void *))strcmp);
    return *n > 0 ? ERR_OK : err_set(err, ERR_IO, "%s: no model_index.json and no .safetensors in it", path);
}

static int open_files(struct imagemodel *m, struct err *err)
{
    char names[PARTS_MAX][64], path[PATH_ROOM];
    int n;
    snprintf(path, sizeof path, "%s/config.json", m->path);
    struct stat st;
    if (stat(path, &st) == 0) {         /* a network's own folder */
        char file[512];
        short_name(m->path, file, sizeof file);
        const char *name = strrchr(file, '/');
        return add_part(m, name != NULL ? name + 1 : file, m->path, NULL, err);
    }
    TRY(list_files(m->path, names, &n, err));
    for (int i = 0; i < n; i++) {
        char stem[64];
        if (snprintf(path, sizeof path, "%s/%s", m->path, names[i]) >= (int)sizeof path)
            return err_set(err, ERR_IO, "%s: the path is too long", m->path);
        snprintf(stem, sizeof stem, "%.*s", (int)(strlen(names[i]) - strlen(".safetensors")), names[i]);
        TRY(add_part(m, stem, path, NULL, err));
    }
    return ERR_OK;
}

static int open_single(struct imagemodel *m, struct err *err)
{
    char stem[64];
    const char *slash = strrchr(m->path, '/'), *base = slash != NULL ? slash + 1 : m->path;
    const char *dot = strrchr(base, '.');
    snprintf(stem, sizeof stem, "%.*s", dot != NULL ? (int)(dot - base) : 63, base);
    TRY(add_part(m, stem, m->path, NULL, err));
    if (m->part[0].family == NULL)
        return err_set(err, ERR_FORMAT, "%s: its tensors are those of no image network known here",
                       m->part[0].file);
    return ERR_OK;
}

static int open_any(struct imagemodel *m, struct err *err)
{
    struct stat st;
    if (stat(m->path, &st) != 0)
        return err_set(err, ERR_IO, "%s: no such file or folder (check the path of the model)", m->path);
    if (!S_ISDIR(st.st_mode))
        return open_single(m, err);
    TRY(read_json(m->path, "model_index.json", false, &m->index, err));
    return m->index != NULL ? open_indexed(m, err) : open_files(m, err);
}

int imagemodel_open(struct imagemodel *m, const char *path, struct err *err)
{
    memset(m, 0, sizeof *m);
    if ((m->path = strdup(path)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    for (size_t n = strlen(m->path); n > 1 && m->path[n - 1] == '/';)
        m->path[--n] = '\0';
    int rc = open_any(m, err);
    if (rc != ERR_OK)
        imagemodel_close(m);
    return rc;
}

void imagemodel_close(struct imagemodel *m)
{
    for (int i = 0; i < m->n_parts; i++)
        close_part(&m->part[i]);
    free(m->part);
    free(m->path);
    free(m->class_name);
    json_decref(m->index);
    json_decref(m->scheduler);
    memset(m, 0, sizeof *m);
}

struct imagepart *imagemodel_part(struct imagemodel *m, const char *name)
{
    for (int i = 0; i < m->n_parts; i++)
        if (strcmp(m->part[i].name, name) == 0)
            return &m->part[i];
    return NULL;
}

struct imagepart *imagemodel_role(struct imagemodel *m, enum imagerole role)
{
    for (int i = 0; i < m->n_parts; i++)
        if (m->part[i].family != NULL && m->part[i].family->role == role)
            return &m->part[i];
    return NULL;
}

int imagemodel_want(struct imagemodel *m, const char *name, struct imagepart **p, struct err *err)
{
    char all[160] = "";
    *p = imagemodel_part(m, name);
    if (*p != NULL)
        return ERR_OK;
    for (int i = 0; i < m->n_parts; i++) {
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i > 0 ? ", " : "", m->part[i].name);
    }
    return err_set(err, ERR_INVAL, "%.60s has no part '%.40s'; it has %s", m->path, name, all);
}

/* --- what a part does */

const char *imagepart_kind(const struct imagepart *p)
{
    const char *named = class_of(p->config);
    return p->family != NULL ? p->family->kind : named != NULL ? named : "unknown";
}

enum imagerole imagepart_role(const struct imagepart *p) { return p->family->role; }

uint64_t imagepart_memory(const struct imagepart *p) { return p->parameters * sizeof(float); }

/* cut NULL: all. */
static int load_cut(struct imagepart *p, params_cut *cut, void *ctx, struct err *err)
{
    struct tensorfile t;
    if (p->loaded)
        return ERR_OK;
    TRY(tensorfile_open(&t, p->path, err));
    struct params w = {0};
    int rc = params_load_cut(&w, &t, cut, ctx, err);
    tensorfile_close(&t);
    if (rc != ERR_OK) {
        params_free(&w);
        return rc;
    }
    params_free(&p->w);
    p->w = w;
    p->w.fixed = true;
    p->loaded = true;
    return ERR_OK;
}

int imagepart_load(struct imagepart *p, struct err *err) { return load_cut(p, NULL, NULL, err); }

int imagepart_load_share(struct imagepart *p, const struct netshard_held *held, struct err *err)
{
    ASSERT(imagepart_splits(p));
    return load_cut(p, netshard_cut, (void *)(uintptr_t)held, err);
}

bool imagepart_splits(const struct imagepart *p) { return p->family != NULL && p->family->split != NULL; }

int imagepart_run(struct imagepart *p, struct nn *nn, const struct imagetensors *in,
                  struct imagetensors *out, struct err *err)
{
    if (p->family == NULL)
        return err_set(err, ERR_FORMAT, "%s: %s is no network known here", p->file, imagepart_kind(p));
    TRY(imagepart_load(p, err));
    params_begin(&p->w);
    out->n = 0;
    return p->family->run(p, nn, in, out, err);
}
