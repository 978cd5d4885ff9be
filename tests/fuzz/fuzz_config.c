/* config.json and generation_config.json, one after the other with a zero byte between. What is accepted
 * must keep what later code relies on. */
#include "workers/models/archs.h"
#include "workers/models/hfconfig.h"
#include "workers/models/modelcheck.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const struct model_config *c)
{
    char name[160];
    ASSERT(c->n_layers >= 1 && c->n_layers <= MODEL_LAYERS_MAX && c->layer);
    ASSERT(c->n_heads % c->n_kv_heads == 0 && c->head_dim % 2 == 0 && c->n_rot % 2 == 0);
    ASSERT(c->n_rot <= c->head_dim && c->head_dim <= MODEL_HEAD_DIM_MAX);
    ASSERT(c->dim > 0 && c->ffn_dim > 0 && c->vocab > 0 && c->context > 0);
    ASSERT(c->n_experts_used <= c->n_experts && c->n_eos <= MODEL_EOS_MAX);
    ASSERT(isfinite(c->q_scale) && isfinite(c->rope[0].base) && isfinite(c->rope[0].attn_factor));
    for (int i = 0; i < c->n_eos; i++)
        ASSERT(c->eos[i] >= 0 && c->eos[i] < c->vocab);
    for (int i = 0; i < c->n_layers; i++)
        ASSERT(c->layer[i].window >= 0 && (c->layer[i].rope & ~1) == 0);
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        arch_tensor_name(c, (enum slot)slot, c->n_layers - 1, c->n_experts, name, sizeof name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct model_config c;
    struct err err = {0};
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    size_t first = zero ? (size_t)(zero - data) : n;
    const char *second = zero ? (const char *)zero + 1 : NULL;
    int rc = hfconfig_parse(&c, (const char *)data, first, second, zero ? n - first - 1 : 0,
                            "config.json", &err);
    if (rc == ERR_OK)
        check(&c);
    else
        ASSERT(err.code == rc && err.msg[0]);
    model_config_free(&c);
    return 0;
}
