/* batchtales.c - texts of the built-in world as training data, without end.
 * Rows:   a row is the tokenizer's begin token (or its end token), then whole texts, each with the end
 *         token behind it, as many as fit; the last one is cut. Texts of a row are its own. */
#include "coordinator/train/batchrows.h"

#include "coordinator/scenes/scenecorpus.h"
#include "proto/wire.h"

#include <string.h>

static bool takes(const char *data, const struct batch_want *w)
{
    return strcmp(data, "scenes") == 0 && w->side == 0;
}

static int open_tales(struct batchsource *s, const char *path, const struct batch_want *w,
                      struct err *err)
{
    if (w->tokenizer == NULL || w->length < 2)
        return err_set(err, ERR_INVAL, "--data %s: neither pictures nor text are wanted", path);
    s->n_samples = 0;
    return ERR_OK;
}

/* A text's ids and the end token, as much as there is room for. Returns how many; < 0: ERR_. */
static int add_text(const struct tokenizer *t, const char *text, int n, int32_t *ids, int room,
                    struct err *err)
{
    struct token_list list = {0};
    struct tokenize_options plain = {false, false};
    int rc = tokenizer_encode(t, text, (size_t)n, plain, &list, err), at = 0;
    for (; rc == ERR_OK && at < list.n && at < room; at++)
        ids[at] = list.id[at];
    if (rc == ERR_OK && at < room && tokenizer_eos(t) >= 0)
        ids[at++] = tokenizer_eos(t);
    token_list_free(&list);
    return rc != ERR_OK ? rc : at;
}

/* Every text has a token or more: `length` of them always fill a row. */
static int fill_row(const struct batchsource *s, uint64_t number, int32_t *ids, struct err *err)
{
    const struct batch_want *w = &s->want;
    char text[SCENE_TEXT_MAX];
    int begin = tokenizer_bos(w->tokenizer), at = 0;
    begin = begin >= 0 ? begin : tokenizer_eos(w->tokenizer);
    if (begin >= 0)
        ids[at++] = begin;
    for (int k = 0; at < w->length; k++) {
        uint64_t seed = w->seed + (w->held_out ? BATCHROWS_HELD_OUT : 0);
        uint32_t index;
        batchrows_world(&seed, &index, number * (uint64_t)w->length + (uint64_t)k);
        int n = scene_text(seed, index, SET_SEEN, TEXT_ANY, NULL, text);
        int more = add_text(w->tokenizer, text, n, ids + at, w->length - at, err);
        if (more < 0)
            return more;
        at += more;
    }
    return ERR_OK;
}

static int fill(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                struct arena *mem, struct err *err)
{
    int length = s->want.length;
    int32_t *ids = batchsource_tensor(out, mem, "ids", WIRE_I32, 2,
                                      (uint64_t[]){(uint64_t)n, (uint64_t)length});
    if (ids == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a batch of %d rows", n);
    for (int i = 0; i < n; i++)
        TRY(fill_row(s, number[i], ids + (int64_t)i * length, err));
    return ERR_OK;
}

static void close_tales(struct batchsource *s) { (void)s; }

const struct batchsource_row batchsource_tales = {
    .takes = takes, .open = open_tales, .fill = fill, .close = close_tales};
