/* batchsource.h - where training samples come from: the built-in world, folders, text files.
 * Why:    workers see ids and tensors only; drawing, decoding and tokenising is the coordinator's.
 * Fixed:  sample k is a function of (seed, k): the same on any number of ranks and after a resume.
 * Shapes: a sample's tensors are small rows; a batch stacks them along axis 0.
 * Owner:  a source owns what it opened; tensors of a fill belong to the caller's arena.
 * Ranks:  the coordinator only; a source may be used by one thread at a time. */
#ifndef MUSTER_BATCHSOURCE_H
#define MUSTER_BATCHSOURCE_H

#include "coordinator/text/tokenizer.h"
#include "muster.pb-c.h"
#include "proto/arena.h"

#include <stdbool.h>

/* What a task wants of a sample. */
struct batch_want {
    uint64_t seed;
    int side;                   /* pictures of side x side; 0: none */
    bool small;                 /* also at half the side ("small") */
    int length;                 /* ids of a caption, or of a packed row of text; 0: none */
    double caption_dropout;     /* share of captions that are empty */
    bool wrong_caption;         /* also ids of another sample's caption ("wrong_ids") */
    bool held_out;              /* samples that training never sees (evaluation) */
    int classes;                /* labels below that, where the data have classes; 0, 1: none */
    const struct tokenizer *tokenizer;  /* borrowed; NULL when length is 0 */
};

/* Tensors by name: "pixels" u8 [n, 3, side, side], "small" u8 [n, 3, side/2, side/2], "ids" i32
 * [n, length], "wrong_ids", "labels" i32 [n] (class ids, where there are any). */
struct batchsource;
struct batchsource_row {
    /* Is --data one of its, for what is wanted? Looks at the name and what is there. */
    bool (*takes)(const char *data, const struct batch_want *w);
    /* Sets n_samples and state; after an error nothing is left to close. */
    int (*open)(struct batchsource *s, const char *path, const struct batch_want *w, struct err *err);
    /* Samples number[0 .. n) into out's tensors, with memory of mem. */
    int (*fill)(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                struct arena *mem, struct err *err);
    void (*close)(struct batchsource *s);
};
struct batchsource {
    const struct batchsource_row *row;
    struct batch_want want;
    uint64_t n_samples;         /* 0: endless */
    void *state;                /* the row's own */
};

/* data: "scenes", or the path of a folder with pictures, a text file, .jsonl. ERR_INVAL when empty. */
int batchsource_open(struct batchsource *s, const char *data, const struct batch_want *w,
                     struct err *err);
int batchsource_fill(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                     struct arena *mem, struct err *err);
void batchsource_close(struct batchsource *s);      /* accepts a zeroed one */

/* For rows (batchrows.h lists them): another tensor of out (at most 8), zeroed; NULL when memory is
 * out. dtype: enum wire_dtype. */
void *batchsource_tensor(Muster__TrainBatch *out, struct arena *mem, const char *name, int dtype,
                         int n_dims, const uint64_t *shape);
/* BOS, the caption's ids, EOS, padding; a long caption is cut. text NULL: the empty caption. */
int batchsource_caption(const struct batchsource *s, const char *text, int32_t *ids, struct err *err);
/* Is the caption of sample `number` dropped? */
bool batchsource_drops(const struct batchsource *s, uint64_t number);
/* Of a source with n_samples: which of them sample `number` is. Those to learn from come shuffled, each once
 * an epoch; the last twentieth is held out, in order. One alone is both. */
uint64_t batchsource_place(const struct batchsource *s, uint64_t number);
/* Sample `number` of a run over `count` things: each once an epoch, in an order of its own. */
uint64_t batchsource_shuffled(uint64_t seed, uint64_t number, uint64_t count);

#endif
