#include "workers/promptcache.h"

#include <stdlib.h>
#include <string.h>

int promptcache_init(struct promptcache *c, int cap, struct err *err)
{
    memset(c, 0, sizeof *c);
    c->entry = calloc((size_t)cap, sizeof *c->entry);
    c->cap = cap;
    return c->entry != NULL ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for prompts");
}

void promptcache_free(struct promptcache *c)
{
    for (int i = 0; i < c->n; i++) {
        free(c->entry[i].ids);
        free(c->entry[i].values);
    }
    free(c->entry);
    memset(c, 0, sizeof *c);
}

static struct prompt *find(struct promptcache *c, const uint32_t *ids, int n)
{
    for (int i = 0; i < c->n; i++)
        if (c->entry[i].n == n && memcmp(c->entry[i].ids, ids, (size_t)n * sizeof *ids) == 0)
            return &c->entry[i];
    return NULL;
}

/* A new entry, or the one that nobody has held for longest. */
static struct prompt *take_entry(struct promptcache *c)
{
    struct prompt *oldest = NULL;
    if (c->n < c->cap)
        return &c->entry[c->n++];
    for (int i = 0; i < c->n; i++)
        if (c->entry[i].users == 0 && (oldest == NULL || c->entry[i].used_at < oldest->used_at))
            oldest = &c->entry[i];
    ASSERT(oldest != NULL);
    return oldest;
}

int promptcache_get(struct promptcache *c, struct imagepipe *pipe, struct nn *nn,
                    const uint32_t *ids, int n,
                    struct prompt **out, struct err *err)
{
    struct prompt *p = find(c, ids, n);
    *out = NULL;
    if (p == NULL) {
        p = take_entry(c);
        uint32_t *grown = realloc(p->ids, ((size_t)n + 1) * sizeof *ids);
        p->n = -1;      /* nobody's, until it is whole */
        if (grown != NULL)
            p->ids = grown;
        if (p->values == NULL)
            p->values = malloc((size_t)imagepipe_prompt_floats(pipe) * sizeof *p->values);
        if (grown == NULL || p->values == NULL)
            return err_set(err, ERR_NOMEM, "no memory for prompts");
        TRY(imagepipe_encode(pipe, nn, ids, n, p->values, err));
        memcpy(p->ids, ids, (size_t)n * sizeof *ids);
        p->n = n;
        c->encoded++;
    }
    p->users++;
    p->used_at = ++c->clock;
    *out = p;
    return ERR_OK;
}

void promptcache_put(struct prompt *p)
{
    if (p != NULL)
        p->users--;
}
