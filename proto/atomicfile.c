#define _GNU_SOURCE     /* asprintf, mkostemp */
#include "proto/atomicfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER = 1 << 18 };

static const char *tail(const char *path)
{
    enum { TAIL = 120 };
    size_t n = strlen(path);
    return n > TAIL ? path + n - TAIL : path;
}

static int failed(const struct atomicfile *f, const char *doing, struct err *err)
{
    return err_set(err, ERR_OUTPUT, "%s: %s: %s", tail(f->path), doing, strerror(errno));
}

static int open_temporary(struct atomicfile *f, struct err *err)
{
    if (asprintf(&f->tmp, "%s.tmp-XXXXXX", f->path) < 0) {
        f->tmp = NULL;
        return err_set(err, ERR_NOMEM, "no memory for a path");
    }
    f->fd = mkostemp(f->tmp, O_CLOEXEC);
    if (f->fd < 0) {
        free(f->tmp);           /* nothing of that name is ours to remove */
        f->tmp = NULL;
        return failed(f, "cannot be created", err);
    }
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(f->fd, 0666 & ~mask) != 0)
        return failed(f, "cannot be created", err);
    return ERR_OK;
}

/* What was printed before stays before. */
static int open_standard_output(struct atomicfile *f, struct err *err)
{
    fflush(stdout);
    f->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    return f->fd < 0 ? failed(f, "cannot be opened", err) : ERR_OK;
}

static int open_path(struct atomicfile *f, struct err *err)
{
    struct stat st;
    if (strcmp(f->path, "-") == 0)
        return open_standard_output(f, err);
    bool there = stat(f->path, &st) == 0;
    if (there && S_ISDIR(st.st_mode))
        return err_set(err, ERR_OUTPUT, "%s: is a folder: give the name of a file", tail(f->path));
    if (there && !S_ISREG(st.st_mode))
        return (f->fd = open(f->path, O_WRONLY | O_CLOEXEC)) < 0 ? failed(f, "cannot be opened", err)
                                                                 : ERR_OK;
    char *target = there ? realpath(f->path, NULL) : NULL;
    if (target != NULL) {
        free(f->path);
        f->path = target;
    }
    return open_temporary(f, err);
}

int atomicfile_open(struct atomicfile *f, const char *path, struct err *err)
{
    memset(f, 0, sizeof *f);
    f->fd = -1;
    f->path = strdup(path);
    f->buf = malloc(BUFFER);
    int rc = f->path == NULL || f->buf == NULL ? err_set(err, ERR_NOMEM, "no memory to write a file")
                                               : open_path(f, err);
    if (rc != ERR_OK)
        atomicfile_abandon(f);
    return rc;
}

static int write_out(struct atomicfile *f, const uint8_t *p, size_t n, struct err *err)
{
    while (n > 0) {
        ssize_t put = write(f->fd, p, n < (1 << 30) ? n : 1 << 30);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return failed(f, "cannot be written", err);
        p += put;
        n -= (size_t)put;
    }
    return ERR_OK;
}

int atomicfile_write(struct atomicfile *f, const void *bytes, size_t n, struct err *err)
{
    if (n == 0)
        return ERR_OK;          /* bytes may be NULL */
    f->written += n;
    if (f->n_buf + n > BUFFER) {
        TRY(write_out(f, f->buf, f->n_buf, err));
        f->n_buf = 0;
        if (n >= BUFFER)
            return write_out(f, bytes, n, err);
    }
    memcpy(f->buf + f->n_buf, bytes, n);
    f->n_buf += n;
    return ERR_OK;
}

/* The new name must be on disk too. Best effort: some file systems cannot sync a folder. */
static void sync_folder(const char *path)
{
    char *dir = strdup(path), *slash = dir != NULL ? strrchr(dir, '/') : NULL;
    if (slash != NULL)
        slash[slash == dir] = '\0';
    int fd = dir != NULL ? open(slash != NULL ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(dir);
}

static int finish(struct atomicfile *f, struct err *err)
{
    TRY(write_out(f, f->buf, f->n_buf, err));
    if (f->tmp == NULL)
        return ERR_OK;
    if (fsync(f->fd) != 0)
        return failed(f, "cannot be written", err);
    if (rename(f->tmp, f->path) != 0)
        return failed(f, "cannot be renamed into place", err);
    sync_folder(f->path);
    free(f->tmp);
    f->tmp = NULL;
    return ERR_OK;
}

int atomicfile_commit(struct atomicfile *f, struct err *err)
{
    int rc = finish(f, err), fd = f->fd;
    f->fd = -1;
    if (close(fd) != 0 && rc == ERR_OK)
        rc = failed(f, "cannot be written", err);
    atomicfile_abandon(f);
    return rc;
}

void atomicfile_abandon(struct atomicfile *f)
{
    if (f->path == NULL && f->buf == NULL)
        return;         /* zeroed, or nothing was opened */
    if (f->fd >= 0)
        close(f->fd);
    if (f->tmp != NULL)
        unlink(f->tmp);
    free(f->path);
    free(f->tmp);
    free(f->buf);
    memset(f, 0, sizeof *f);
}
