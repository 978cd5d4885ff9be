/* batchtext.c - text files as training data: all texts in one line of ids, cut into rows.
 * Rows:   texts follow each other, each between the tokenizer's begin and end tokens (where it has
 *         them); a row is the next `length` ids, wherever that cuts. The last twentieth of the rows is
 *         held out. Of a text with a prompt the prompt's ids are no targets.
 * Order:  every row once an epoch, shuffled by the seed. */
#include "coordinator/train/batchrows.h"

#include "coordinator/train/textfiles.h"
#include "proto/wire.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* given [n]: tokens of prompts, which are not learnt. */
struct rows { int32_t *ids; bool *given, any_given; int64_t n, cap; };

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static bool is_text(const char *name) { return ends_with(name, ".txt") || ends_with(name, ".jsonl"); }

/* A file of text, or a folder of them; one with metadata.jsonl holds pictures. */
static bool takes(const char *data, const struct batch_want *w)
{
    (void)w;
    struct stat st;
    bool any = false, pictures = false;
    DIR *d;
    if (stat(data, &st) != 0 || !S_ISDIR(st.st_mode) || (d = opendir(data)) == NULL)
        return is_text(data);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        any = any || is_text(e->d_name);
        pictures = pictures || strcmp(e->d_name, "metadata.jsonl") == 0;
    }
    closedir(d);
    return any && !pictures;
}

static int reserve(struct rows *r, int n, struct err *err)
{
    if (r->n + n <= r->cap)
        return ERR_OK;
    int64_t cap = 2 * r->cap > r->n + n ? 2 * r->cap : r->n + n + 4096;
    int32_t *ids = realloc(r->ids, (size_t)cap * sizeof *ids);
    r->ids = ids != NULL ? ids : r->ids;
    bool *given = ids != NULL ? realloc(r->given, (size_t)cap * sizeof *given) : NULL;
    if (given == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %lld tokens of text", (long long)cap);
    r->given = given;
    r->cap = cap;
    return ERR_OK;
}

static int append(struct rows *r, const int32_t *ids, int n, bool given, struct err *err)
{
    TRY(reserve(r, n, err));
    memcpy(r->ids + r->n, ids, (size_t)n * sizeof *ids);
    memset(r->given + r->n, given, (size_t)n * sizeof *r->given);
    r->any_given = r->any_given || (given && n > 0);
    r->n += n;
    return ERR_OK;
}

static int append_piece(struct rows *r, const struct tokenizer *t, const char *text, size_t n, bool given,
                        struct err *err)
{
    struct token_list list = {0};
    struct tokenize_options plain = {false, false};
    int rc = n > 0 ? tokenizer_encode(t, text, n, plain, &list, err) : ERR_OK;
    if (rc == ERR_OK)
        rc = append(r, list.id, list.n, given, err);
    token_list_free(&list);
    return rc;
}

/* Its first `prompt` bytes are given. */
static int append_text(struct rows *r, const struct tokenizer *t, const char *text, size_t n, size_t prompt,
                       struct err *err)
{
    int32_t begin = tokenizer_bos(t), end = tokenizer_eos(t);
    if (begin >= 0 && begin != end)
        TRY(append(r, &begin, 1, prompt > 0, err));
    TRY(append_piece(r, t, text, prompt, true, err));
    TRY(append_piece(r, t, text + prompt, n - prompt, false, err));
    return end >= 0 ? append(r, &end, 1, false, err) : ERR_OK;
}

static int read_texts(struct rows *r, const char *path, const struct tokenizer *t, struct err *err)
{
    struct textfiles *files;
    const char *text;
    size_t n;
    TRY(textfiles_open(&files, &path, 1, err));
    int rc = textfiles_next(files, &text, &n, err);
    while (rc == ERR_OK && text != NULL) {
        rc = append_text(r, t, text, n, textfiles_prompt(files), err);
        if (rc == ERR_OK)
            rc = textfiles_next(files, &text, &n, err);
    }
    textfiles_close(files);
    return rc;
}

static void close_text(struct batchsource *s)
{
    struct rows *r = s->state;
    free(r->ids);
    free(r->given);
    free(r);
}

static int open_text(struct batchsource *s, const char *path, const struct batch_want *w,
                     struct err *err)
{
    if (w->side > 0 || w->tokenizer == NULL || w->length < 2)
        return err_set(err, ERR_INVAL, "--data %.150s: text, where pictures are wanted", path);
    struct rows *r = s->state = calloc(1, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "no memory for text");
    int rc = read_texts(r, path, w->tokenizer, err);
    s->n_samples = (uint64_t)(r->n / w->length);
    if (rc == ERR_OK && s->n_samples == 0)
        rc = err_set(err, ERR_INVAL, "--data %.150s: %lld tokens of text, a row has %d", path,
                     (long long)r->n, w->length);
    if (rc != ERR_OK)
        close_text(s);
    return rc;
}

/* What the rows have to say: their ids, -1 for those that are given. */
static int fill_targets(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                        struct arena *mem, struct err *err)
{
    const struct rows *r = s->state;
    int length = s->want.length;
    int32_t *targets = batchsource_tensor(out, mem, "targets", WIRE_I32, 2,
                                          (uint64_t[]){(uint64_t)n, (uint64_t)length});
    if (targets == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a batch of %d rows", n);
    for (int i = 0; i < n; i++) {
        uint64_t at = batchsource_place(s, number[i]) * (uint64_t)length;
        for (int k = 0; k < length; k++)
            targets[(int64_t)i * length + k] = r->given[at + (uint64_t)k] ? -1 : r->ids[at + (uint64_t)k];
    }
    return ERR_OK;
}

static int fill(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                struct arena *mem, struct err *err)
{
    const struct rows *r = s->state;
    int length = s->want.length;
    int32_t *ids = batchsource_tensor(out, mem, "ids", WIRE_I32, 2,
                                      (uint64_t[]){(uint64_t)n, (uint64_t)length});
    if (ids == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a batch of %d rows", n);
    for (int i = 0; i < n; i++) {
        uint64_t at = batchsource_place(s, number[i]);
        memcpy(ids + (int64_t)i * length, r->ids + at * (uint64_t)length, (size_t)length * sizeof *ids);
    }
    return r->any_given ? fill_targets(s, number, n, out, mem, err) : ERR_OK;
}

const struct batchsource_row batchsource_text = {
    .takes = takes, .open = open_text, .fill = fill, .close = close_text};
