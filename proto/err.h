/* err.h - how a failure of the outside world travels.
 * Why:    a bad file, prompt or peer must become one line and an exit code, never an abort.
 * Owner:  the caller owns the struct; the first message set wins, later ones are dropped.
 * Ranks:  not collective. */
#ifndef MUSTER_ERR_H
#define MUSTER_ERR_H

enum {
    ERR_OK = 0,
    ERR_NOMEM = -1,
    ERR_INVAL = -2,     /* the caller's argument, a flag, a prompt */
    ERR_IO = -3,        /* reading or writing failed: errno's world */
    ERR_FORMAT = -4,    /* a file or message that is not what it claims to be */
    ERR_LIMIT = -5,     /* sound, but more than fits */
    ERR_PEER = -6,      /* another rank is dead, stuck or of another version */
    ERR_TIMEOUT = -7,
    ERR_CANCELLED = -8,
    ERR_OUTPUT = -9     /* the result could not be written */
};

/* Exit codes of the program. */
enum {
    EXIT_OK = 0,
    EXIT_BUG = 1,
    EXIT_USAGE = 2,
    EXIT_INPUT = 3,
    EXIT_NOFIT = 4,
    EXIT_PEER = 5,
    EXIT_OUTPUT = 6,
    EXIT_INTERRUPTED = 130
};

struct err {
    int code;           /* ERR_*, 0 while nothing is wrong */
    int rank;           /* world rank that met it, -1 unknown */
    char msg[240];      /* one line, no newline */
};

/* Sets e if nothing is set yet; e may be NULL. Returns code, so that it can be returned at once. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message that e holds (for context on the way up). Returns e's code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The program's exit code for an ERR_* code. */
int err_exit_code(int code);

/* Returns early with the failed code; only where the function owns nothing that needs undoing. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        int rc_ = (expr);                                                                          \
        if (rc_ != ERR_OK)                                                                         \
            return rc_;                                                                            \
    } while (0)

/* Our own bug: says where and ends the job with exit code 1. Never for outside input. */
#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond))                                                                               \
            err_bug(#cond, __FILE__, __LINE__);                                                    \
    } while (0)
void err_bug(const char *what, const char *file, int line) __attribute__((noreturn));

#endif
