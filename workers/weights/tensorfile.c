#include "workers/weights/tensorfile.h"

#include "workers/weights/gguf.h"
#include "workers/weights/safetensors.h"
#include "workers/weights/tensortable.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int open_single(struct tensorfile *t, const char *path, struct err *err)
{
    int file;
    TRY(tensortable_add_file(t, path, &file, err));
    TRY(gguf_is(t, file) ? gguf_read_headers(t, err) : safetensors_read_header(t, file, err));
    return tensortable_finish(t, err);
}

/* A folder's config.json is part of what the ranks must agree on. */
static void hash_config(struct tensorfile *t, const char *dir)
{
    char buf[4096], path[4096];
    size_t n;
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return;
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return;
    while ((n = fread(buf, 1, sizeof buf, f)) > 0)
        tensortable_hash(t, buf, n);
    fclose(f);
}

static int open_folder(struct tensorfile *t, const char *path, struct err *err)
{
    size_t n = strlen(path);
    char *dir = strdup(path);
    if (dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    while (n > 1 && dir[n - 1] == '/')
        dir[--n] = '\0';
    int rc = safetensors_read_folder(t, dir, err);
    if (rc == ERR_OK)
        hash_config(t, dir);
    free(dir);
    return rc;
}

int tensorfile_open(struct tensorfile *t, const char *path, struct err *err)
{
    struct stat st;
    memset(t, 0, sizeof *t);
    if (stat(path, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s (check the path of the model)", tensortable_tail(path),
                       strerror(errno));
    TRY(tensortable_init(t, err));
    int rc = S_ISDIR(st.st_mode) ? open_folder(t, path, err) : open_single(t, path, err);
    if (rc != ERR_OK)
        tensorfile_close(t);
    return rc;
}

int tensorfile_read(struct tensorfile *t, const struct tensor_entry *e, uint64_t offset, void *buf,
                    size_t n, struct err *err)
{
    ASSERT(offset <= e->bytes && n <= e->bytes - offset);
    TRY(tensortable_pread(t, e->file, e->offset + offset, buf, n, err));
    __atomic_fetch_add(&t->bytes_read, n, __ATOMIC_RELAXED);    /* several threads may read */
    return ERR_OK;
}
