/* kvcache.h - paged key/value cache of one worker.
 * Why:    requests grow at different speeds; pages admit one without reserving its worst case.
 * Shapes: [layers_local][pages][kv_heads_local] of attention.h's page parts (K, then V).
 * Owner:  the cache owns its memory; views die at kvcache_free(). Who holds which page is the
 *         coordinator's business: block tables come with the steps.
 * Ranks:  not collective. */
#ifndef MUSTER_KVCACHE_H
#define MUSTER_KVCACHE_H

#include "proto/err.h"
#include "workers/kernels/attention.h"

struct kvcache {
    struct attention_page layout;       /* of one KV head */
    int n_layers, n_pages, kv_heads;
    uint8_t *base;
    size_t bytes;
};

/* Bytes that kvcache_init will take; 0 when a count overflows. */
size_t kvcache_bytes(enum dtype type, int n_layers, int n_pages, int kv_heads, int head_dim,
                     int value_dim, int page_tokens);

/* page_tokens must be a multiple of ATTENTION_BLOCK. Memory is touched when it is first written. */
int kvcache_init(struct kvcache *c, enum dtype type, int n_layers, int n_pages, int kv_heads,
                 int head_dim, int value_dim, int page_tokens, struct err *err);
void kvcache_free(struct kvcache *c);

/* Keys and values of a local layer and KV head for the sequence that has `pages`. */
struct attention_cache kvcache_view(const struct kvcache *c, int layer, int kv_head,
                                    const int32_t *pages);

#endif
