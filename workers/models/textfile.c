#include "workers/models/textfile.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int read_open(FILE *f, const char *path, size_t max, char **text, size_t *n, struct err *err)
{
    struct stat st;
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_IO, "%s: not a regular file", path);
    if (st.st_size < 0 || (uint64_t)st.st_size > max)
        return err_set(err, ERR_LIMIT, "%s: %lld bytes, more than the %zu that are read", path,
                       (long long)st.st_size, max);
    char *p = malloc((size_t)st.st_size + 1);
    if (!p)
        return err_set(err, ERR_NOMEM, "%s: no memory for %lld bytes", path, (long long)st.st_size);
    size_t got = fread(p, 1, (size_t)st.st_size, f);
    if (got != (size_t)st.st_size) {
        free(p);
        return err_set(err, ERR_IO, "%s: read %zu of %lld bytes", path, got, (long long)st.st_size);
    }
    p[got] = '\0';
    *text = p;
    *n = got;
    return ERR_OK;
}

int textfile_read(const char *folder, const char *name, size_t max, int required, char **text,
                  size_t *n, struct err *err)
{
    char path[PATH_MAX];
    *text = NULL;
    *n = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return err_set(err, ERR_INVAL, "%.100s...: path too long", folder);
    FILE *f = fopen(path, "rb");
    if (!f && !required && errno == ENOENT)
        return ERR_OK;
    if (!f)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    int rc = read_open(f, path, max, text, n, err);
    fclose(f);
    return rc;
}

int textfile_folder(const char *path, char *buf, size_t cap, struct err *err)
{
    struct stat st;
    if ((size_t)snprintf(buf, cap, "%s", path) >= cap)
        return err_set(err, ERR_INVAL, "%.100s...: path too long", path);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return ERR_OK;
    char *slash = strrchr(buf, '/');
    if (!slash)
        snprintf(buf, cap, ".");
    else
        slash[slash == buf] = '\0';
    return ERR_OK;
}
