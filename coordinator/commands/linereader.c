#include "coordinator/commands/linereader.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WAIT_MS = 100, GROW = 4096, LINE_MAX_BYTES = 16 << 20 };

static int make_room(struct linereader *r, struct err *err)
{
    if (r->taken > 0) {
        memmove(r->buf, r->buf + r->taken, r->n - r->taken);
        r->n -= r->taken;
        r->taken = 0;
    }
    if (r->cap - r->n > GROW)           /* one byte stays for the final NUL */
        return ERR_OK;
    if (r->n > LINE_MAX_BYTES)
        return err_set(err, ERR_FORMAT, "stdin: a line of more than %d bytes", LINE_MAX_BYTES);
    char *more = realloc(r->buf, r->cap * 2 + 2 * GROW);
    if (more == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a line");
    r->buf = more;
    r->cap = r->cap * 2 + 2 * GROW;
    return ERR_OK;
}

/* Waits for more bytes, or the end. */
static int fill(struct linereader *r, linereader_idle *idle, void *ctx, struct err *err)
{
    TRY(make_room(r, err));
    for (;;) {
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        if (poll(&p, 1, WAIT_MS) <= 0) {        /* nothing yet, or a signal */
            TRY(idle(ctx, err));
            continue;
        }
        ssize_t got = read(r->fd, r->buf + r->n, GROW);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return err_set(err, ERR_IO, "stdin: %s", strerror(errno));
        r->ended = got == 0;
        r->n += (size_t)got;
        return ERR_OK;
    }
}

int linereader_next(struct linereader *r, linereader_idle *idle, void *ctx, char **line, size_t *n,
                    struct err *err)
{
    *line = NULL;
    *n = 0;
    char *end = NULL;
    for (size_t seen = 0;;) {
        size_t have = r->n - r->taken;
        if (have > seen)
            end = memchr(r->buf + r->taken + seen, '\n', have - seen);
        if (end != NULL || r->ended)
            break;
        seen = have;
        TRY(fill(r, idle, ctx, err));
    }
    if (end == NULL && r->n == r->taken)
        return ERR_OK;
    if (end == NULL)
        end = r->buf + r->n;            /* the last line, without a newline */
    *line = r->buf + r->taken;
    *n = (size_t)(end - *line);
    r->taken = (size_t)(end - r->buf) + (end < r->buf + r->n);
    *end = '\0';
    return ERR_OK;
}

void linereader_free(struct linereader *r)
{
    free(r->buf);
    memset(r, 0, sizeof *r);
}
