#include "proto/err.h"

#include "proto/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (e == NULL || e->code != ERR_OK)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    for (char *p = e->msg; *p != '\0'; p++)
        if ((unsigned char)*p < ' ')    /* names from files may hold anything; a message is one line */
            *p = ' ';
    e->code = code;
    e->rank = -1;
    return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (e == NULL)
        return ERR_OK;
    char head[120], whole[sizeof head + sizeof e->msg + 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    snprintf(whole, sizeof whole, "%s: %s", head, e->msg);
    memcpy(e->msg, whole, sizeof e->msg - 1);
    e->msg[sizeof e->msg - 1] = '\0';
    return e->code;
}

int err_exit_code(int code)
{
    switch (code) {
    case ERR_OK: return EXIT_OK;
    case ERR_INVAL: return EXIT_USAGE;
    case ERR_IO:
    case ERR_FORMAT: return EXIT_INPUT;
    case ERR_NOMEM:
    case ERR_LIMIT: return EXIT_NOFIT;
    case ERR_PEER:
    case ERR_TIMEOUT: return EXIT_PEER;
    case ERR_OUTPUT: return EXIT_OUTPUT;
    case ERR_CANCELLED: return EXIT_INTERRUPTED;
    default: return EXIT_BUG;
    }
}

void err_bug(const char *what, const char *file, int line)
{
    log_line(LOG_ERROR, "bug", "assertion failed: %s (%s:%d)", what, file, line);
    _Exit(EXIT_BUG);
}
