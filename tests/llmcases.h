/* llmcases.h - the models of fixtures/llm and what the reference implementation says of them.
 * Why:    two tests look at them, and both must find their cases by listing the folder. */
#ifndef MUSTER_TESTS_LLMCASES_H
#define MUSTER_TESTS_LLMCASES_H

#include "tests/llmrun.h"

#include <dirent.h>
#include <jansson.h>
#include <unistd.h>

enum { LLMCASES_MAX = 256, LLMCASES_SEQ_MAX = 4 };

struct llmcase {
    char name[256], path[1024], expected[1024];
    const json_t *greedy;       /* NULL: the file's numbers are not the folder's */
};

struct llmcases {
    char folder[512];
    struct llmcase item[LLMCASES_MAX];
    int n;
    json_t *kept[LLMCASES_MAX];
    int n_kept;
};

/* --- the list of cases */

static inline bool llmcases_ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static inline void llmcases_add(struct llmcases *all, const char *dir, const char *truth_dir,
                                const char *file, const char *expected, const json_t *greedy)
{
    struct llmcase *c = &all->item[all->n++];
    char name[sizeof c->name], path[sizeof c->path], truth[sizeof c->expected];
    const char *slash = file[0] != '\0' ? "/" : "";
    snprintf(name, sizeof name, "%s%s%s", dir, slash, file);
    snprintf(path, sizeof path, "%s/%s", all->folder, name);
    snprintf(truth, sizeof truth, "%s/%s/%s", all->folder, truth_dir, expected);
    memcpy(c->name, name, sizeof name);
    memcpy(c->path, path, sizeof path);
    memcpy(c->expected, truth, sizeof truth);
    c->greedy = strcmp(expected, "expected.safetensors") == 0 ? greedy : NULL;
}

/* The folder whose expected.json speaks for `dir`: itself, or the longest name that dir's starts with. */
static inline bool llmcases_find_truth(const struct llmcases *all, const char *dir, char *truth,
                                       size_t cap)
{
    char path[1024];
    for (size_t n = strlen(dir); n > 0; n--) {
        snprintf(truth, cap, "%.*s", (int)n, dir);
        snprintf(path, sizeof path, "%s/%s/expected.json", all->folder, truth);
        if (access(path, R_OK) == 0)
            return true;
    }
    return false;
}

static inline int llmcases_by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* A split GGUF stands for the file of its name without the numbers. */
static inline const json_t *llmcases_gguf(const json_t *gguf, const char *file)
{
    char whole[256];
    const char *part = strstr(file, "-00001-of-");
    if (part == NULL)
        return json_object_get(gguf, file);
    snprintf(whole, sizeof whole, "%.*s.gguf", (int)(part - file), file);
    return json_object_get(gguf, whole);
}

static inline void llmcases_list_folder(struct llmcases *all, const char *dir)
{
    char truth[256], path[1024];
    struct dirent **entry;
    bool safetensors = false;
    if (!llmcases_find_truth(all, dir, truth, sizeof truth))
        return;
    snprintf(path, sizeof path, "%s/%s/expected.json", all->folder, truth);
    json_t *root = json_load_file(path, 0, NULL);
    const json_t *greedy = json_object_get(root, "greedy");
    all->kept[all->n_kept++] = root;
    snprintf(path, sizeof path, "%s/%s", all->folder, dir);
    int n = scandir(path, &entry, NULL, llmcases_by_name);
    for (int i = 0; i < n; i++) {
        const char *file = entry[i]->d_name;
        if (llmcases_ends_with(file, ".safetensors") && strncmp(file, "expected", 8) != 0)
            safetensors = true;
        const json_t *e = llmcases_gguf(json_object_get(root, "gguf"), file);
        if (llmcases_ends_with(file, ".gguf") && e != NULL)
            llmcases_add(all, dir, truth, file, json_string_value(json_object_get(e, "expected")), greedy);
        free(entry[i]);
    }
    free(entry);
    if (safetensors)
        llmcases_add(all, dir, truth, "", "expected.safetensors", greedy);
}

/* false when there is no such folder. */
static inline bool llmcases_list(struct llmcases *all, const char *fallback)
{
    const char *base = getenv("MUSTER_FIXTURES");
    memset(all, 0, sizeof *all);
    snprintf(all->folder, sizeof all->folder, "%s/llm", base != NULL ? base : fallback);
    struct dirent **entry;
    int n = scandir(all->folder, &entry, NULL, llmcases_by_name);
    const char *only = getenv("MUSTER_TEST_CASE");      /* part of a name, to look at one */
    if (n < 0)
        return false;
    for (int i = 0; i < n; i++) {
        if (entry[i]->d_name[0] != '.')
            llmcases_list_folder(all, entry[i]->d_name);
        free(entry[i]);
    }
    free(entry);
    for (int i = 0; only != NULL && i < all->n; i++)
        if (strstr(all->item[i].name, only) == NULL)
            all->item[i--] = all->item[--all->n];
    return true;
}

static inline void llmcases_free(struct llmcases *all)
{
    for (int i = 0; i < all->n_kept; i++)
        json_decref(all->kept[i]);
    memset(all, 0, sizeof *all);
}

/* --- what is expected */

struct llmtruth { int n, len, vocab; int64_t *ids; float *logits; };

static inline bool llmtruth_read(struct tensorfile *t, const char *ids, const char *logits, struct llmtruth *out)
{
    const struct tensor_entry *i = tensorfile_find(t, ids), *l = tensorfile_find(t, logits);
    if (i == NULL || l == NULL)
        return false;
    out->n = (int)l->shape[0] < LLMCASES_SEQ_MAX ? (int)l->shape[0] : LLMCASES_SEQ_MAX;
    out->len = (int)l->shape[1];
    out->vocab = (int)l->shape[2];
    out->ids = malloc(i->bytes);
    out->logits = malloc(l->bytes);
    LLMRUN_DO(tensorfile_read(t, i, 0, out->ids, i->bytes, err));
    LLMRUN_DO(tensorfile_read(t, l, 0, out->logits, l->bytes, err));
    return true;
}

static inline void llmtruth_free(struct llmtruth *t)
{
    free(t->ids);
    free(t->logits);
    memset(t, 0, sizeof *t);
}

static inline int64_t llmtruth_count(const struct llmtruth *t) { return (int64_t)t->n * t->len * t->vocab; }

/* Largest distance of got [n][len][vocab] from the truth. */
static inline double llmtruth_worst(const struct llmtruth *t, const float *got)
{
    double worst = 0;
    for (int64_t i = 0; i < llmtruth_count(t); i++) {
        double e = (double)got[i] - t->logits[i];
        e = e < 0 ? -e : e;
        worst = e <= worst ? worst : e;
    }
    return worst;
}

#endif
