/* log.h - one line, one write, to stderr: time, level, rank@host, module, message.
 * Why:    lines of many ranks share one terminal; a line written in pieces is torn apart.
 * Owner:  the process has one log; log_init is called once by the main.
 * Ranks:  not collective. */
#ifndef MUSTER_LOG_H
#define MUSTER_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Names the process in its lines; host may be NULL. Lines below `least` are dropped. */
void log_init(int rank, const char *host, enum log_level least);

void log_line(enum log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
