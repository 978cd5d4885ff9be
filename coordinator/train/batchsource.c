#include "coordinator/train/batchsource.h"

#include "coordinator/train/batchrows.h"
#include "proto/philox.h"
#include "proto/wire.h"

#include <string.h>

enum { TENSORS_MAX = 8, HELD_SHARE = 20 };
/* Draws of a sample that have a place of their own among PHILOX_TRAIN's. */
static const uint64_t DROP_DRAW = 1u << 30, SHUFFLE_DRAW = 1u << 31;

static const struct batchsource_row *const rows[] = {&batchsource_scenes, &batchsource_tales,
                                                 &batchsource_pictures, &batchsource_text, NULL};

int batchsource_open(struct batchsource *s, const char *data, const struct batch_want *w,
                     struct err *err)
{
    memset(s, 0, sizeof *s);
    s->want = *w;
    for (int i = 0; rows[i] != NULL && s->row == NULL; i++)
        if (rows[i]->takes(data, w))
            s->row = rows[i];
    if (s->row == NULL)
        return err_set(err, ERR_INVAL, "--data %.200s: neither 'scenes' nor data that can be read", data);
    int rc = s->row->open(s, data, w, err);
    if (rc != ERR_OK)
        memset(s, 0, sizeof *s);
    return rc;
}

int batchsource_fill(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                     struct arena *mem, struct err *err)
{
    out->n_tensor = 0;
    out->tensor = arena_take(mem, TENSORS_MAX * sizeof *out->tensor);
    if (out->tensor == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a batch");
    return s->row->fill(s, number, n, out, mem, err);
}

void batchsource_close(struct batchsource *s)
{
    if (s->row != NULL)
        s->row->close(s);
    memset(s, 0, sizeof *s);
}

void *batchsource_tensor(Muster__TrainBatch *out, struct arena *mem, const char *name, int dtype,
                         int n_dims, const uint64_t *shape)
{
    Muster__TrainTensor *t = arena_take(mem, sizeof *t);
    uint64_t *sizes = arena_take(mem, (size_t)n_dims * sizeof *sizes), n = 1;
    if (t == NULL || sizes == NULL || out->n_tensor == TENSORS_MAX)
        return NULL;
    for (int i = 0; i < n_dims; i++)
        n *= sizes[i] = shape[i];
    muster__train_tensor__init(t);
    t->name = (char *)name;
    t->dtype = (uint32_t)dtype;
    t->shape = sizes;
    t->n_shape = (size_t)n_dims;
    t->data.len = wire_data_bytes((enum wire_dtype)dtype, n);
    t->data.data = arena_take_zeroed(mem, t->data.len);
    if (t->data.data == NULL)
        return NULL;
    out->tensor[out->n_tensor++] = t;
    return t->data.data;
}

int batchsource_caption(const struct batchsource *s, const char *text, int32_t *ids, struct err *err)
{
    const struct tokenizer *t = s->want.tokenizer;
    struct token_list list = {0};
    struct tokenize_options plain = {false, false};
    int length = s->want.length, rc = ERR_OK;
    int eos = tokenizer_eos(t), bos = tokenizer_bos(t);
    if (text != NULL)
        rc = tokenizer_encode(t, text, strlen(text), plain, &list, err);
    int n = 0, most = length - 1;
    if (rc == ERR_OK && bos >= 0 && n < most)
        ids[n++] = bos;
    for (int i = 0; rc == ERR_OK && i < list.n && n < most; i++)
        ids[n++] = list.id[i];
    for (; n < length; n++)
        ids[n] = eos >= 0 ? eos : 0;    /* the end token, and the padding: CLIP's are the same */
    token_list_free(&list);
    return rc;
}

bool batchsource_drops(const struct batchsource *s, uint64_t number)
{
    float u = philox_uniform(s->want.seed, DROP_DRAW + (number >> 32), (uint32_t)number, PHILOX_TRAIN);
    return u < s->want.caption_dropout;
}

uint64_t batchsource_place(const struct batchsource *s, uint64_t number)
{
    uint64_t all = s->n_samples, held = all < 2 ? 0 : (all + HELD_SHARE - 1) / HELD_SHARE;
    if (s->want.held_out && held > 0)
        return all - held + number % held;
    return s->want.held_out ? 0 : batchsource_shuffled(s->want.seed, number, all - held);
}

/* Four rounds of a Feistel network over an even number of bits, walked until it lands below count: a
 * permutation of 0 .. count - 1 that needs no table. */
uint64_t batchsource_shuffled(uint64_t seed, uint64_t number, uint64_t count)
{
    uint64_t epoch = number / count, at = number % count;
    int half = 1;
    while (half < 31 && (uint64_t)1 << (2 * half) < count)
        half++;
    uint32_t mask = (uint32_t)((1u << half) - 1);
    do {
        uint32_t left = (uint32_t)(at >> half), right = (uint32_t)at & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t r[4];
            philox_block(seed, SHUFFLE_DRAW + (epoch << 2 | round), right, PHILOX_TRAIN, r);
            uint32_t next = left ^ (r[0] & mask);
            left = right;
            right = next;
        }
        at = (uint64_t)left << half | right;
    } while (at >= count);
    return at;
}
