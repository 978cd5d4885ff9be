/* GGUF headers, and what a decoder's description makes of their keys. */
#define _GNU_SOURCE     /* memfd_create */
#include "tests/fuzz/memoryfile.h"
#include "workers/models/tensormap.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(struct tensorfile *t, const char *path)
{
    struct err err = {0};
    struct model_config c;
    uint8_t byte;
    for (int i = 0; i < t->n_tensors; i++) {
        const struct tensor_entry *e = &t->tensor[i];
        if (tensorfile_find(t, e->name) != e)
            abort();
        /* What passed the checks can be read to its last byte. */
        if (e->bytes > 0 && tensorfile_read(t, e, e->bytes - 1, &byte, 1, &err) != ERR_OK)
            abort();
    }
    for (int i = 0; i < t->n_meta; i++)
        if (tensorfile_meta(t, t->meta[i].key) != &t->meta[i].value)
            abort();
    if (model_config_read(&c, t, path, &err) == ERR_OK) {
        tensormap_check(&c, t, &err);
        model_config_free(&c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tensorfile t;
    struct err err = {0};
    char path[64];
    int fd = memoryfile(data, n, path);
    if (tensorfile_open(&t, path, &err) == ERR_OK)
        use(&t, path);
    else if (err.msg[0] == '\0' || strchr(err.msg, '\n') != NULL)
        abort();        /* every refusal says why, in one line */
    tensorfile_close(&t);
    close(fd);
    return 0;
}
