#include "workers/models/kvcache.h"

#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

size_t kvcache_bytes(enum dtype type, int n_layers, int n_pages, int kv_heads, int head_dim,
                     int value_dim, int page_tokens)
{
    size_t one = attention_page_layout(type, head_dim, value_dim, page_tokens).bytes, all;
    if (__builtin_mul_overflow(one, (size_t)kv_heads, &all) ||
        __builtin_mul_overflow(all, (size_t)n_pages, &all) ||
        __builtin_mul_overflow(all, (size_t)n_layers, &all) || all > SIZE_MAX / 2)
        return 0;
    return all;
}

int kvcache_init(struct kvcache *c, enum dtype type, int n_layers, int n_pages, int kv_heads,
                 int head_dim, int value_dim, int page_tokens, struct err *err)
{
    memset(c, 0, sizeof *c);
    if (type != DT_F32 && type != DT_F16 && type != DT_Q8_0)
        return err_set(err, ERR_INVAL, "the key/value cache may be f32, f16 or q8_0");
    if (n_pages < 1 || page_tokens < 1 || page_tokens % ATTENTION_BLOCK != 0)
        return err_set(err, ERR_INVAL, "%d key/value pages of %d tokens: pages hold a multiple of %d",
                       n_pages, page_tokens, ATTENTION_BLOCK);
    if (head_dim < 1 || value_dim < 1 || head_dim > ATTENTION_DIM_MAX ||
        value_dim > ATTENTION_DIM_MAX)
        return err_set(err, ERR_LIMIT, "heads of %d and %d numbers; %d is the limit", head_dim,
                       value_dim, ATTENTION_DIM_MAX);
    c->layout = attention_page_layout(type, head_dim, value_dim, page_tokens);
    c->n_layers = n_layers;
    c->n_pages = n_pages;
    c->kv_heads = kv_heads;
    c->bytes = kvcache_bytes(type, n_layers, n_pages, kv_heads, head_dim, value_dim, page_tokens);
    if (c->bytes == 0)
        return n_layers == 0 || kv_heads == 0
                   ? ERR_OK     /* a rank without heads */
                   : err_set(err, ERR_LIMIT, "%d key/value pages are more than memory has", n_pages);
    c->base = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (c->base == MAP_FAILED) {
        size_t mib = c->bytes >> 20;
        memset(c, 0, sizeof *c);
        return err_set(err, ERR_NOMEM, "no memory for a key/value cache of %zu MiB (fewer sequences or "
                       "a shorter context would do)", mib);
    }
    if (c->bytes >= HUGE_PAGE)
        madvise(c->base, c->bytes, MADV_HUGEPAGE);      /* a wish; small pages work too */
    return ERR_OK;
}

void kvcache_free(struct kvcache *c)
{
    if (c->base != NULL)
        munmap(c->base, c->bytes);
    memset(c, 0, sizeof *c);
}

struct attention_cache kvcache_view(const struct kvcache *c, int layer, int kv_head,
                                    const int32_t *pages)
{
    size_t stride = c->layout.bytes * (size_t)c->kv_heads;
    return (struct attention_cache){
        .layout = c->layout,
        .base = c->base + (size_t)layer * stride * (size_t)c->n_pages +
                (size_t)kv_head * c->layout.bytes,
        .page_stride = stride,
        .pages = pages,
    };
}
