#include "coordinator/commands/trainprogress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <unistd.h>

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void trainprogress_show(struct trainprogress *p, const char *what, double share)
{
    enum { EVERY_MS = 250 };
    int64_t now = now_ms();
    if (p->begun_ms == 0)
        p->begun_ms = now;
    if (!isatty(2) || (share < 1 && now - p->shown_ms < EVERY_MS))
        return;
    p->shown_ms = now;
    double left = share > 0 ? (double)(now - p->begun_ms) * (1 - share) / share / 1000 : 0;
    if (share > 0.01 && share < 1)
        fprintf(stderr, "\r%s %.0f%%, %.0f s to go\033[K", what, share * 100, left);
    else
        fprintf(stderr, "\r%s\033[K", what);
}

void trainprogress_wipe(void)
{
    if (isatty(2))
        fprintf(stderr, "\r\033[K");
}
