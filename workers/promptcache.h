/* promptcache.h - encoded prompts of one rank, each computed once while it is in use or lately was.
 * Why:    a thousand pictures of one prompt need its encoding once; a thousand prompts must not need a
 *         thousand encodings' memory.
 * Owner:  the cache owns ids and numbers; a holder gives back what it got.
 * Ranks:  not collective. */
#ifndef MUSTER_PROMPTCACHE_H
#define MUSTER_PROMPTCACHE_H

#include "workers/imagepipe.h"

struct prompt {
    uint32_t *ids; int n;
    float *values;              /* [imagepipe_prompt_floats] */
    int users;
    uint64_t used_at;
};

struct promptcache {
    struct prompt *entry; int n, cap;
    uint64_t clock, encoded;    /* gets so far; of them computed */
};

/* cap: most entries; at least as many as are held at a time. */
int promptcache_init(struct promptcache *c, int cap, struct err *err);
void promptcache_free(struct promptcache *c);       /* accepts a zeroed cache */

/* The encoding of ids [n], computed by pipe in nn (which is reset) if need be. Until promptcache_put. */
int promptcache_get(struct promptcache *c, struct imagepipe *pipe, struct nn *nn,
                    const uint32_t *ids, int n,
                    struct prompt **out, struct err *err);
void promptcache_put(struct prompt *p);             /* accepts NULL */

#endif
