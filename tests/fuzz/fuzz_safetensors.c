/* safetensors headers. */
#define _GNU_SOURCE     /* memfd_create */
#include "tests/fuzz/memoryfile.h"
#include "workers/weights/tensorfile.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Of the input only the JSON and the data: the length before them is made right, or the fuzzer would seldom
 * get past it. Inputs that start with 0xff are taken whole, length and all. */
static int place(const uint8_t *data, size_t n, char path[64])
{
    if (n > 0 && data[0] == 0xff)
        return memoryfile(data + 1, n - 1, path);
    const uint8_t *end = n > 0 ? memchr(data, '\n', n) : NULL;  /* JSON, newline, data */
    uint64_t head = end != NULL ? (uint64_t)(end - data) : n;
    uint8_t *file = malloc(8 + n);
    if (file == NULL)
        abort();
    memcpy(file, &head, 8);
    memcpy(file + 8, data, head);
    size_t rest = n - head - (end != NULL);
    memcpy(file + 8 + head, data + n - rest, rest);
    int fd = memoryfile(file, 8 + head + rest, path);
    free(file);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tensorfile t;
    struct err err = {0};
    uint8_t byte;
    char path[64];
    int fd = place(data, n, path);
    if (tensorfile_open(&t, path, &err) != ERR_OK && (err.msg[0] == '\0' || strchr(err.msg, '\n') != NULL))
        abort();
    for (int i = 0; i < t.n_tensors; i++) {
        const struct tensor_entry *e = &t.tensor[i];
        if (tensorfile_find(&t, e->name) != e
            || (e->bytes > 0 && tensorfile_read(&t, e, e->bytes - 1, &byte, 1, &err) != ERR_OK))
            abort();
    }
    tensorfile_close(&t);
    close(fd);
    return 0;
}
