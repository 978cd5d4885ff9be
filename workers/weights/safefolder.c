/* safefolder.c - which safetensors files of a folder make up the model. */
#define _GNU_SOURCE     /* asprintf */
#include "workers/weights/safetensors.h"

#include "workers/weights/tensortable.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The two names that published folders use: transformers' and diffusers'. */
static const char *const stems[] = {"model", "diffusion_pytorch_model"};
enum { N_STEMS = sizeof stems / sizeof *stems };

static int join(const char *dir, const char *name, const char *end, char **path, struct err *err)
{
    if (asprintf(path, "%s/%s%s", dir, name, end) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    return ERR_OK;
}

static int add_and_parse(struct tensorfile *t, const char *path, struct err *err)
{
    int file;
    TRY(tensortable_add_file(t, path, &file, err));
    return safetensors_read_header(t, file, err);
}

/* Opens the shard `name` that the index at `path` names, unless it is open. *file: its number. */
static int open_shard(struct tensorfile *t, const char *dir, const char *index, const char *name,
                      int *file, struct err *err)
{
    char *path;
    for (*file = 0; *file < t->n_files; (*file)++)
        if (strcmp(t->path[*file] + strlen(dir) + 1, name) == 0)
            return ERR_OK;
    if (name[0] == '\0' || strchr(name, '/') != NULL)
        return err_set(err, ERR_FORMAT, "%s: names the file %.64s, which is no plain file name",
                       tensortable_tail(index), name);
    TRY(join(dir, name, "", &path, err));
    int rc = ERR_OK;
    if (access(path, F_OK) != 0)
        rc = err_set(err, ERR_IO, "%s: names %.64s, which is not in the folder (incomplete"
                     " download?)", tensortable_tail(index), name);
    if (rc == ERR_OK)
        rc = add_and_parse(t, path, err);
    free(path);
    return rc;
}

static int open_shards(struct tensorfile *t, const char *dir, const char *index, json_t *map,
                       struct err *err)
{
    const char *key;
    json_t *value;
    int file;
    json_object_foreach(map, key, value) {
        if (!json_is_string(value))
            return err_set(err, ERR_FORMAT, "%s: weight_map of %.64s is not a file name",
                           tensortable_tail(index), key);
        TRY(open_shard(t, dir, index, json_string_value(value), &file, err));
    }
    return ERR_OK;
}

static int check_map(struct tensorfile *t, const char *dir, const char *index, json_t *map,
                     struct err *err)
{
    const char *key;
    json_t *value;
    TRY(tensortable_finish(t, err));
    json_object_foreach(map, key, value) {
        const struct tensor_entry *e = tensorfile_find(t, key);
        const char *name = json_string_value(value);
        if (e == NULL || strcmp(t->path[e->file] + strlen(dir) + 1, name) != 0)
            return err_set(err, ERR_FORMAT, "%s: tensor %.64s is not in %.64s, where the index has it"
                           " (files of different models mixed?)", tensortable_tail(index), key, name);
    }
    return ERR_OK;
}

static int read_index(struct tensorfile *t, const char *dir, const char *index, struct err *err)
{
    json_error_t e;
    json_t *root = json_load_file(index, JSON_REJECT_DUPLICATES, &e);
    if (root == NULL)
        return err_set(err, ERR_FORMAT, "%s: wrong JSON in line %d: %.100s", tensortable_tail(index),
                       e.line, e.text);
    json_t *map = json_object_get(root, "weight_map");
    int rc = ERR_OK;
    if (!json_is_object(map) || json_object_size(map) == 0)
        rc = err_set(err, ERR_FORMAT, "%s: has no weight_map", tensortable_tail(index));
    if (rc == ERR_OK)
        rc = open_shards(t, dir, index, map, err);
    if (rc == ERR_OK)
        rc = check_map(t, dir, index, map, err);
    json_decref(root);
    return rc;
}

static int is_safetensors(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 12 && strcmp(d->d_name + n - 12, ".safetensors") == 0 && d->d_name[0] != '.';
}

static int read_all(struct tensorfile *t, const char *dir, struct err *err)
{
    struct dirent **list;
    int n = scandir(dir, &list, is_safetensors, alphasort), rc = ERR_OK;
    if (n < 0)
        return err_set(err, ERR_IO, "%s: %s", tensortable_tail(dir), strerror(errno));
    if (n == 0)
        rc = err_set(err, ERR_IO, "%s: holds no .safetensors file (give a .gguf file by its own"
                     " name; convert .bin and .pt files first)", tensortable_tail(dir));
    for (int i = 0; i < n; i++) {
        char *path;
        if (rc == ERR_OK && (rc = join(dir, list[i]->d_name, "", &path, err)) == ERR_OK) {
            rc = add_and_parse(t, path, err);
            free(path);
        }
        free(list[i]);
    }
    free(list);
    return rc == ERR_OK ? tensortable_finish(t, err) : rc;
}

/* One of the usual names with this ending, malloc'd; NULL when none exists. */
static int usual_name(const char *dir, const char *end, char **path, struct err *err)
{
    for (int i = 0; i < N_STEMS; i++) {
        TRY(join(dir, stems[i], end, path, err));
        if (access(*path, F_OK) == 0)
            return ERR_OK;
        free(*path);
    }
    *path = NULL;
    return ERR_OK;
}

int safetensors_read_folder(struct tensorfile *t, const char *dir, struct err *err)
{
    char *path;
    int rc;
    TRY(usual_name(dir, ".safetensors.index.json", &path, err));
    if (path != NULL) {
        rc = read_index(t, dir, path, err);
        free(path);
        return rc;
    }
    TRY(usual_name(dir, ".safetensors", &path, err));
    if (path != NULL) {
        rc = add_and_parse(t, path, err);
        free(path);
        return rc == ERR_OK ? tensortable_finish(t, err) : rc;
    }
    return read_all(t, dir, err);
}
