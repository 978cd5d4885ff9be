/* planmemory.h - bytes of one rank's share, as the workers will hold them.
 * Why:    the memory budget is known before a byte is read; the borders are those of proto/split.h,
 *         which the workers use too.
 * Ranks:  not collective; pure arithmetic. */
#ifndef MUSTER_PLANMEMORY_H
#define MUSTER_PLANMEMORY_H

#include "coordinator/plan/plan.h"

/* Fills heads .. read_bytes of s from its stage, layers, segments and tp index; `tp` ranks own
 * segment_end [tp] segments of `leaves`. kv_bytes is for `pages` pages. */
void planmemory_share(struct plan_share *s, const struct plan_request *q, int n_stages, int tp,
                      int leaves, const uint32_t *segment_end, int pages);

/* KV bytes of one page, for `layers` layers and `kv_heads` heads. */
uint64_t planmemory_page(const struct plan_request *q, int layers, int kv_heads);

/* Bytes that a decode step reads of one layer, whole; of the head (rows of the last stage). */
uint64_t planmemory_layer_read(const Muster__ModelSpec *spec, int layer);
uint64_t planmemory_head_read(const Muster__ModelSpec *spec);

#endif
