#include "coordinator/text/stopstring.h"

#include <stdlib.h>
#include <string.h>

struct stop_scan {
    int n;
    char **stop; size_t *len;
    char *held; size_t n_held, cap;     /* not shown yet */
    char *out; size_t cap_out;
};

int stop_scan_open(struct stop_scan **out, const char *const *stops, int n, struct err *err)
{
    struct stop_scan *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "no memory for stop texts");
    s->stop = calloc((size_t)n + 1, sizeof *s->stop);
    s->len = calloc((size_t)n + 1, sizeof *s->len);
    for (int i = 0; s->stop != NULL && s->len != NULL && i < n; i++) {
        s->len[i] = strlen(stops[i]);
        if (s->len[i] > 0 && (s->stop[s->n] = strdup(stops[i])) != NULL)
            s->len[s->n++] = s->len[i];
    }
    if (s->stop == NULL || s->len == NULL) {
        stop_scan_close(s);
        return err_set(err, ERR_NOMEM, "no memory for stop texts");
    }
    *out = s;
    return ERR_OK;
}

void stop_scan_close(struct stop_scan *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < s->n; i++)
        free(s->stop[i]);
    free(s->stop);
    free(s->len);
    free(s->held);
    free(s->out);
    free(s);
}

static int grow(char **buf, size_t *cap, size_t need, struct err *err)
{
    if (need <= *cap)
        return ERR_OK;
    char *more = realloc(*buf, need * 2);
    if (more == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a text");
    *buf = more;
    *cap = need * 2;
    return ERR_OK;
}

/* The longest stop that ends at byte `end` of the held text; 0 none. */
static size_t stop_ending_at(const struct stop_scan *s, size_t end)
{
    size_t best = 0;
    for (int i = 0; i < s->n; i++)
        if (s->len[i] <= end && s->len[i] > best &&
            memcmp(s->held + end - s->len[i], s->stop[i], s->len[i]) == 0)
            best = s->len[i];
    return best;
}

/* Bytes at the end of the held text that may be the beginning of a stop. */
static size_t doubtful(const struct stop_scan *s)
{
    size_t most = 0;
    for (int i = 0; i < s->n; i++)
        for (size_t k = s->len[i] - 1; k > most; k--)
            if (k <= s->n_held && memcmp(s->held + s->n_held - k, s->stop[i], k) == 0)
                most = k;
    return most;
}

int stop_scan_push(struct stop_scan *s, const char *text, size_t n, bool end, const char **out,
                   size_t *n_out, bool *hit, struct err *err)
{
    size_t before = s->n_held, show;
    *hit = false;
    *n_out = 0;
    *out = "";
    TRY(grow(&s->held, &s->cap, s->n_held + n + 1, err));
    memcpy(s->held + s->n_held, text, n);
    s->n_held += n;
    show = end ? s->n_held : s->n_held - doubtful(s);
    for (size_t at = before + 1; at <= s->n_held && !*hit; at++) {
        size_t len = stop_ending_at(s, at);
        if (len > 0) {
            *hit = true;
            show = at - len;
        }
    }
    TRY(grow(&s->out, &s->cap_out, show + 1, err));
    memcpy(s->out, s->held, show);
    s->out[show] = '\0';
    s->n_held = *hit ? 0 : s->n_held - show;
    memmove(s->held, s->held + show, s->n_held);
    *out = s->out;
    *n_out = show;
    return ERR_OK;
}
