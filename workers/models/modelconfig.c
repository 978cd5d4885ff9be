#include "workers/models/modelconfig.h"

#include "workers/models/ggufconfig.h"
#include "workers/models/hfconfig.h"
#include "workers/models/modelcheck.h"
#include "workers/models/textfile.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 8 << 20 };

static bool is_gguf(const struct tensorfile *t)
{
    const char *first = t->n_files > 0 ? t->path[0] : "";
    size_t n = strlen(first);
    return n < 12 || strcmp(first + n - 12, ".safetensors") != 0;
}

static bool has_slot(const struct model_config *c, const struct tensorfile *t, enum slot slot)
{
    char name[160];
    const char *found = arch_tensor_name(c, slot, 0, 0, name, sizeof name);
    return found && tensorfile_find(t, found);
}

/* Folders differ in what stands before "layers.0": a bare network, the text part of a larger one. */
static void find_prefix(struct model_config *c, const struct tensorfile *t)
{
    static const char *const known[][2] = {{"model.", ""}, {"language_model.model.", "language_model."},
                                           {"model.language_model.", ""}, {"", ""}};
    size_t n = sizeof known / sizeof *known;
    for (size_t i = 0; i <= n; i++) {
        snprintf(c->prefix, sizeof c->prefix, "%s", known[i % n][0]);
        snprintf(c->head_prefix, sizeof c->head_prefix, "%s", known[i % n][1]);
        if (has_slot(c, t, SLOT_EMBED))
            return;
    }
}

/* What only the presence of tensors tells. c->tied comes in as "may be tied". */
static int ask_tensors(struct model_config *c, const struct tensorfile *t, const char *where,
                       struct err *err)
{
    char name[160];
    if (strcmp(c->format, "hf") == 0)
        find_prefix(c, t);
    bool head = has_slot(c, t, SLOT_HEAD);
    if (!head && !c->tied)
        return err_set(err, ERR_FORMAT, "%s: tensor %s is missing, and tie_word_embeddings is false",
                       where, arch_tensor_name(c, SLOT_HEAD, 0, 0, name, sizeof name));
    c->tied = !head;
    c->qkv_bias |= has_slot(c, t, SLOT_Q_BIAS);
    c->o_bias |= has_slot(c, t, SLOT_O_BIAS);
    return ERR_OK;
}

/* A name for people: the last part of the path where the file gives none. */
static void name_it(struct model_config *c, const char *path)
{
    if (c->name[0])
        return;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    snprintf(c->name, sizeof c->name, "%.*s", (int)(n - from), path + from);
}

static int read_folder(struct model_config *c, const char *path, struct err *err)
{
    char folder[PATH_MAX], file[PATH_MAX + 16], where[160], *text = NULL, *generation = NULL;
    size_t n = 0, n_generation = 0;
    TRY(textfile_folder(path, folder, sizeof folder, err));
    snprintf(file, sizeof file, "%s/config.json", folder);
    int rc = textfile_read(folder, "config.json", CONFIG_BYTES_MAX, 1, &text, &n, err);
    if (rc == ERR_OK)
        rc = textfile_read(folder, "generation_config.json", CONFIG_BYTES_MAX, 0, &generation,
                           &n_generation, err);
    if (rc == ERR_OK)
        rc = hfconfig_parse(c, text, n, generation, n_generation,
                            modelcheck_where(file, where, sizeof where), err);
    free(text);
    free(generation);
    return rc;
}

int model_config_read(struct model_config *c, struct tensorfile *t, const char *path,
                      struct err *err)
{
    char where[160];
    memset(c, 0, sizeof *c);
    modelcheck_where(path, where, sizeof where);
    int rc = is_gguf(t) ? ggufconfig_parse(c, t, where, err) : read_folder(c, path, err);
    if (rc == ERR_OK)
        rc = ask_tensors(c, t, where, err);
    if (rc == ERR_OK)
        name_it(c, path);
    else
        model_config_free(c);
    return rc;
}
