#include "workers/models/exportrows.h"

#include "workers/weights/tensortable.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Of a chunk, in the source's type: large enough for a disk, small beside any model. */
enum { CHUNK_BYTES = 4 << 20 };

/* One chunk of a matrix: n rows of `cols` numbers from row `first`. */
struct chunk {
    const struct export_tensor *tensor;
    const struct export_piece *piece;
    int mat;
    int64_t first, n, cols;
    size_t in_bytes, out_bytes; /* of a row */
};

void exportrows_free(struct export_rows *r)
{
    free(r->raw);
    free(r->done);
    free(r->row);
    memset(r, 0, sizeof *r);
}

static int room(uint8_t **p, size_t *have, size_t want, struct err *err)
{
    if (want <= *have)
        return ERR_OK;
    free(*p);
    *have = 0;
    *p = malloc(want);
    if (!*p)
        return err_set(err, ERR_NOMEM, "no memory for %zu bytes to convert a tensor", want);
    *have = want;
    return ERR_OK;
}

static int row_room(struct export_rows *r, int64_t n, struct err *err)
{
    if (n <= r->row_n)
        return ERR_OK;
    free(r->row);
    r->row_n = 0;
    r->row = malloc((size_t)omp_get_max_threads() * (size_t)n * sizeof *r->row);
    if (!r->row)
        return err_set(err, ERR_NOMEM, "no memory for rows of %lld numbers", (long long)n);
    r->row_n = n;
    return ERR_OK;
}

/* A row of adjacent code pairs and its scales as ggml's blocks: scale, then byte j has elements j, j + 16. */
static void join_mxfp4(uint8_t *out, const uint8_t *codes, const uint8_t *scales, int64_t groups)
{
    for (int64_t g = 0; g < groups; g++, out += 17, codes += 16) {
        out[0] = scales[g];
        for (int j = 0; j < 16; j++) {
            int low = codes[j / 2] >> 4 * (j & 1) & 15, high = codes[8 + j / 2] >> 4 * (j & 1) & 15;
            out[1 + j] = (uint8_t)(low | high << 4);
        }
    }
}

/* How many tensor rows from one of ours to the next lie in the raw chunk. */
static int64_t stride(const struct chunk *k) { return k->piece->vector ? 1 : k->piece->source.lanes; }

/* Reads what the chunk needs: its rows with those between them, or the whole turned matrix. */
static int read_raw(struct export_rows *r, const struct chunk *k, struct err *err)
{
    const struct load_source *s = &k->piece->source;
    int64_t row = s->row0 + k->mat * s->mat_rows;
    if (s->form == LOAD_TRANSPOSED) {
        size_t bytes = dtype_bytes(s->type, (int64_t)s->cols * s->rows * s->lanes);
        TRY(room(&r->raw, &r->raw_bytes, bytes, err));
        return tensorfile_read(r->file, s->data, (uint64_t)k->mat * bytes, r->raw, bytes, err);
    }
    if (k->piece->vector) {     /* numbers are the rows here; the last stride has no rest */
        int64_t span = (k->cols - 1) * s->lanes + 1;
        TRY(room(&r->raw, &r->raw_bytes, dtype_bytes(s->type, span), err));
        return tensorfile_read(r->file, s->data, dtype_bytes(s->type, row), r->raw,
                               dtype_bytes(s->type, span), err);
    }
    int64_t from = row + k->first * s->lanes, n = (k->n - 1) * s->lanes + 1;
    if (s->form == LOAD_MXFP4_SPLIT) {
        size_t groups = (size_t)s->cols / 32;
        TRY(room(&r->raw, &r->raw_bytes, (size_t)n * groups * 17, err));
        TRY(tensorfile_read(r->file, s->data, (uint64_t)from * groups * 16, r->raw,
                            (size_t)n * groups * 16, err));
        return tensorfile_read(r->file, s->scales, (uint64_t)from * groups,
                               r->raw + (size_t)n * groups * 16, (size_t)n * groups, err);
    }
    size_t bytes = dtype_bytes(s->type, s->cols);
    TRY(room(&r->raw, &r->raw_bytes, (size_t)n * bytes, err));
    return tensorfile_read(r->file, s->data, (uint64_t)from * bytes, r->raw, (size_t)n * bytes, err);
}

/* Where row i of the output lies in the source: within a head, pair i of the first and second half
 * becomes two neighbours. */
static int64_t source_row(int64_t i, int head)
{
    return head == 0 ? i : i / head * head + i % head % 2 * (head / 2) + i % head / 2;
}

/* Row i of the chunk in the source's type; scratch holds a row of it. */
static const uint8_t *raw_row(const struct export_rows *r, const struct chunk *k, int64_t i,
                              uint8_t *scratch)
{
    const struct load_source *s = &k->piece->source;
    int64_t at = (source_row(k->first + i, k->piece->permute) - k->first) * stride(k);
    size_t number = (size_t)dtype_info((int)s->type)->bytes;    /* only plain numbers are scattered */
    if (s->form == LOAD_TRANSPOSED) {
        int64_t pitch = (int64_t)s->rows * s->lanes, at_col = s->row0 + (k->first + i) * s->lanes;
        for (int64_t c = 0; c < s->cols; c++)
            memcpy(scratch + (size_t)c * number, r->raw + (size_t)(c * pitch + at_col) * number, number);
        return scratch;
    }
    if (s->form == LOAD_MXFP4_SPLIT) {
        int64_t groups = s->cols / 32, n = (k->n - 1) * s->lanes + 1;
        join_mxfp4(scratch, r->raw + at * groups * 16, r->raw + n * groups * 16 + at * groups, groups);
        return scratch;
    }
    if (k->piece->vector && (s->lanes > 1 || k->piece->permute)) {
        for (int64_t c = 0; c < k->cols; c++)
            memcpy(scratch + (size_t)c * number,
                   r->raw + (size_t)(source_row(c, k->piece->permute) * s->lanes) * number, number);
        return scratch;
    }
    return r->raw + (size_t)at * k->in_bytes;
}

/* Row i of the chunk into its place in r->done. False: a number is not finite, or f16 has none so large. */
static bool convert_row(struct export_rows *r, const struct chunk *k, int64_t i)
{
    float *x = r->row + (size_t)omp_get_thread_num() * (size_t)r->row_n;
    uint8_t *out = r->done + (size_t)i * k->out_bytes;
    enum dtype from = k->piece->source.type, to = k->tensor->type;
    if (k->piece->values) {
        memcpy(out, k->piece->values, k->out_bytes);
        return true;
    }
    uint8_t *scratch = (uint8_t *)(x + k->cols);
    const uint8_t *raw = raw_row(r, k, i, scratch);
    if (from == to && k->piece->add == 0) {
        memcpy(out, raw, k->out_bytes);
        return true;
    }
    dtype_info((int)from)->dequantise(x, raw, k->cols);
    float most = to == DT_F16 ? 65504.0f : 3.4e38f;
    bool sound = true;
    for (int64_t c = 0; c < k->cols; c++) {
        x[c] += k->piece->add;
        sound &= fabsf(x[c]) <= most;
    }
    dtype_info((int)to)->quantise(out, x, k->cols);
    return sound;
}

static int convert_chunk(struct export_rows *r, const struct chunk *k, struct err *err)
{
    int64_t bad = INT64_MAX;
    if (!k->piece->values)
        TRY(read_raw(r, k, err));
    TRY(room(&r->done, &r->done_bytes, (size_t)k->n * k->out_bytes, err));
#pragma omp parallel for schedule(static) reduction(min : bad)
    for (int64_t i = 0; i < k->n; i++)
        if (!convert_row(r, k, i))
            bad = k->first + i < bad ? k->first + i : bad;
    if (bad != INT64_MAX)
        return err_set(err, ERR_FORMAT, "%s: tensor %.64s holds NaN or infinity in row %lld%s",
                       tensortable_tail(r->file->path[k->piece->source.data->file]),
                       k->piece->source.data->name, (long long)bad,
                       k->tensor->type == DT_F16 ? ", or a number too large for f16: try bf16"
                                                 : " (damaged file?)");
    return ERR_OK;
}

/* One matrix of a piece, chunk by chunk. */
static int convert_matrix(struct export_rows *r, struct chunk *k,
                          int (*sink)(void *ctx, const void *bytes, size_t n, struct err *err),
                          void *ctx, struct err *err)
{
    const struct load_source *s = &k->piece->source;
    int64_t all = k->piece->vector ? 1 : s->rows, step = (int64_t)(CHUNK_BYTES / (k->in_bytes + 1)) + 1;
    if (s->form == LOAD_TRANSPOSED)
        step = all;
    if (k->piece->permute)
        step = (step + k->piece->permute - 1) / k->piece->permute * k->piece->permute;
    for (k->first = 0; k->first < all; k->first += k->n) {
        k->n = step < all - k->first ? step : all - k->first;
        TRY(convert_chunk(r, k, err));
        TRY(sink(ctx, r->done, (size_t)k->n * k->out_bytes, err));
    }
    return ERR_OK;
}

int exportrows_tensor(struct export_rows *r, const struct export_tensor *t,
                      int (*sink)(void *ctx, const void *bytes, size_t n, struct err *err), void *ctx,
                      struct err *err)
{
    for (int p = 0; p < t->n_pieces; p++) {
        const struct load_source *s = &t->piece[p].source;
        struct chunk k = {.tensor = t, .piece = &t->piece[p]};
        k.cols = k.piece->vector ? s->rows : s->cols;
        k.in_bytes = dtype_bytes(s->type, k.cols);
        k.out_bytes = dtype_bytes(t->type, k.cols);
        TRY(row_room(r, 3 * k.cols, err));      /* as f32, and up to f64 in the source's type */
        for (k.mat = 0; k.mat < s->n_mats; k.mat++)
            TRY(convert_matrix(r, &k, sink, ctx, err));
    }
    return ERR_OK;
}
