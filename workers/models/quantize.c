#include "workers/models/quantize.h"

#include "workers/models/exportconfig.h"
#include "workers/models/exportplan.h"
#include "workers/models/exportrows.h"
#include "workers/models/exportvocab.h"
#include "workers/models/textfile.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* One conversion. */
struct job {
    const struct export_plan *plan;
    struct tensorfile file;
    struct model_config config;         /* of a folder */
    bool is_gguf;
    struct export_list list;
    struct export_rows rows;
    struct ggufwriter writer;
    struct quantize_progress progress;
    void (*call)(void *ctx, const struct quantize_progress *p);
    void *ctx;
};

static bool is_gguf_name(const char *path)
{
    size_t n = strlen(path);
    return n < 12 || strcmp(path + n - 12, ".safetensors") != 0;
}

/* Renaming over an input would destroy it; with split sets even while it is read. */
static int check_paths(const struct job *j, const char *out, struct err *err)
{
    struct stat a, b;
    if (stat(out, &a) != 0)
        return ERR_OK;
    for (int i = 0; i < j->file.n_files; i++)
        if (stat(j->file.path[i], &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            return err_set(err, ERR_INVAL, "%.120s: is the input too; write to another name", out);
    return ERR_OK;
}

/* Keys that speak of the old file's own layout, and are written anew. */
static bool is_layout_key(const char *key)
{
    static const char *const keys[] = {"general.alignment", "general.file_type",
                                       "general.quantization_version"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return strncmp(key, "split.", 6) == 0;
}

static int write_keys(struct job *j, const char *in, struct err *err)
{
    struct ggufwriter *w = &j->writer;
    if (j->is_gguf) {
        for (int i = 0; i < j->file.n_meta; i++)
            if (!is_layout_key(j->file.meta[i].key))
                ggufwriter_copy(w, j->file.meta[i].key, &j->file.meta[i].value);
    } else {
        char folder[PATH_MAX];
        TRY(textfile_folder(in, folder, sizeof folder, err));
        TRY(exportconfig_write(w, &j->config, err));
        TRY(exportvocab_write(w, folder, j->config.vocab, err));
    }
    ggufwriter_u32(w, "general.file_type", (uint32_t)exportplan_file_type(j->plan));
    ggufwriter_u32(w, "general.quantization_version", 2);
    return ERR_OK;
}

static int write_piece(void *ctx, const void *bytes, size_t n, struct err *err)
{
    struct job *j = ctx;
    TRY(ggufwriter_write(&j->writer, bytes, n, err));
    j->progress.done += n;
    if (j->call)
        j->call(j->ctx, &j->progress);
    return ERR_OK;
}

static uint64_t tensor_bytes(const struct export_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return dtype_bytes(t->type, n);
}

static int write_data(struct job *j, struct err *err)
{
    j->rows.file = &j->file;
    j->progress.n = j->list.n;
    for (int i = 0; i < j->list.n; i++)
        j->progress.all += tensor_bytes(&j->list.tensor[i]);
    TRY(ggufwriter_begin(&j->writer, err));
    for (int i = 0; i < j->list.n; i++) {
        j->progress.tensor = j->list.tensor[i].name;
        j->progress.i = i;
        TRY(exportrows_tensor(&j->rows, &j->list.tensor[i], write_piece, j, err));
    }
    return ERR_OK;
}

static int make_list(struct job *j, const char *in, struct err *err)
{
    j->is_gguf = is_gguf_name(j->file.path[0]);
    if (j->is_gguf)
        return exporttensors_gguf(&j->list, &j->file, err);
    TRY(model_config_read(&j->config, &j->file, in, err));
    TRY(tensormap_check(&j->config, &j->file, err));
    return exporttensors_folder(&j->list, &j->config, &j->file, err);
}

static int convert(struct job *j, const char *in, const char *out, struct quantize_report *r,
                   struct err *err)
{
    TRY(make_list(j, in, err));
    exportplan_apply(j->plan, &j->list, &r->n_fallback);
    TRY(check_paths(j, out, err));
    TRY(ggufwriter_open(&j->writer, out, err));
    TRY(write_keys(j, in, err));
    for (int i = 0; i < j->list.n; i++)
        ggufwriter_tensor(&j->writer, j->list.tensor[i].name, j->list.tensor[i].type,
                          j->list.tensor[i].n_dims, j->list.tensor[i].shape);
    TRY(write_data(j, err));
    r->n_tensors = j->list.n;
    r->bytes_in = j->file.bytes_read;
    r->bytes_out = j->writer.file.written;
    return ggufwriter_close(&j->writer, err);
}

int quantize_file(const char *in, const char *out, const char *type,
                  void (*progress)(void *ctx, const struct quantize_progress *p), void *ctx,
                  struct quantize_report *report, struct err *err)
{
    char names[300];
    struct quantize_report own, *r = report ? report : &own;
    struct job j = {.plan = exportplan_named(type), .call = progress, .ctx = ctx};
    memset(r, 0, sizeof *r);
    if (!j.plan)
        return err_set(err, ERR_INVAL, "--type %.20s: no such type; choose one of %s", type,
                       exportplan_names(names, sizeof names));
    TRY(tensorfile_open(&j.file, in, err));
    int rc = convert(&j, in, out, r, err);
    ggufwriter_abandon(&j.writer);
    exportrows_free(&j.rows);
    exporttensors_free(&j.list);
    model_config_free(&j.config);
    tensorfile_close(&j.file);
    return rc;
}
