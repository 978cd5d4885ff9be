#include "coordinator/image/tarshard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 512, NAME_MAX_BYTES = 100 };

static int failed(const char *path, struct err *err)
{
    return err_set(err, ERR_OUTPUT, "%s: %s", path, strerror(errno));
}

int tarshard_open(struct tarshard *t, const char *path, struct err *err)
{
    memset(t, 0, sizeof *t);
    snprintf(t->path, sizeof t->path, "%s", path);
    t->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (t->fd >= 0)
        return ERR_OK;
    t->fd = 0;
    return failed(path, err);
}

static int put(int fd, const char *path, uint64_t at, const void *bytes, size_t n, struct err *err)
{
    for (const uint8_t *p = bytes; n > 0;) {
        ssize_t done = pwrite(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return failed(path, err);
        p += done;
        n -= (size_t)done;
        at += (uint64_t)done;
    }
    return ERR_OK;
}

/* No owner and no time: the same members give the same bytes. */
static void header(char h[BLOCK], const char *name, size_t n)
{
    unsigned sum = 0;
    memset(h, 0, BLOCK);
    snprintf(h, NAME_MAX_BYTES, "%s", name);
    memcpy(h + 100, "0000644", 8);
    memcpy(h + 108, "0000000", 8);
    memcpy(h + 116, "0000000", 8);
    snprintf(h + 124, 12, "%011llo", (unsigned long long)n);
    memcpy(h + 136, "00000000000", 12);
    memset(h + 148, ' ', 8);
    h[156] = '0';
    memcpy(h + 257, "ustar\00000", 8);
    for (int i = 0; i < BLOCK; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
    h[155] = ' ';
}

int tarshard_add(struct tarshard *t, const char *name, const void *bytes, size_t n, uint64_t *offset,
                 struct err *err)
{
    char h[BLOCK], zeros[BLOCK] = {0};
    size_t pad = (BLOCK - n % BLOCK) % BLOCK;
    if (strlen(name) >= NAME_MAX_BYTES)
        return err_set(err, ERR_OUTPUT, "%s: a member's name has at most %d bytes", name,
                       NAME_MAX_BYTES - 1);
    header(h, name, n);
    TRY(put(t->fd, t->path, t->size, h, BLOCK, err));
    TRY(put(t->fd, t->path, t->size + BLOCK, bytes, n, err));
    TRY(put(t->fd, t->path, t->size + BLOCK + n, zeros, pad, err));
    *offset = t->size + BLOCK;
    t->size += BLOCK + n + pad;
    return ERR_OK;
}

int tarshard_sync(struct tarshard *t, struct err *err)
{
    return fdatasync(t->fd) == 0 ? ERR_OK : failed(t->path, err);
}

int tarshard_close(struct tarshard *t, struct err *err)
{
    char zeros[2 * BLOCK] = {0};
    if (t->fd <= 0)
        return ERR_OK;
    int rc = put(t->fd, t->path, t->size, zeros, sizeof zeros, err);
    if (rc == ERR_OK)
        rc = tarshard_sync(t, err);
    close(t->fd);
    t->fd = 0;
    return rc;
}

int tarshard_trim(const char *path, uint64_t end, struct err *err)
{
    char zeros[2 * BLOCK] = {0};
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return failed(path, err);
    end = (end + BLOCK - 1) / BLOCK * BLOCK;
    int rc = ftruncate(fd, (off_t)end) == 0 ? ERR_OK : failed(path, err);
    if (rc == ERR_OK)
        rc = put(fd, path, end, zeros, sizeof zeros, err);
    if (rc == ERR_OK && fdatasync(fd) != 0)
        rc = failed(path, err);
    close(fd);
    return rc;
}
