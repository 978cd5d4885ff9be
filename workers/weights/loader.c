#include "workers/weights/loader.h"

#include "workers/weights/loaderread.h"
#include "workers/weights/tensortable.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

int loader_init(struct loader *ld, struct tensorfile *file, const struct load_group *group,
                struct err *err)
{
    memset(ld, 0, sizeof *ld);
    if (group->n < 1 || group->n > LOADER_RANKS_MAX)
        return err_set(err, ERR_LIMIT, "a stage of %d ranks; at most %d", group->n,
                       LOADER_RANKS_MAX);
    ld->file = file;
    ld->group = *group;
    ld->n_threads = omp_get_max_threads();
    ld->scratch = calloc((size_t)ld->n_threads, sizeof *ld->scratch);
    return ld->scratch ? ERR_OK : err_set(err, ERR_NOMEM, "no memory to load weights");
}

void loader_free(struct loader *ld)
{
    for (int i = 0; ld->scratch && i < ld->n_threads; i++)
        free(ld->scratch[i]);
    free(ld->scratch);
    free(ld->messages);
    memset(ld, 0, sizeof *ld);
}

int loaderread_room(struct loader *ld, size_t bytes, size_t message_bytes, struct err *err)
{
    for (int i = 0; i < ld->n_threads && bytes > ld->scratch_bytes; i++) {
        free(ld->scratch[i]);
        ld->scratch[i] = malloc(bytes);
        if (!ld->scratch[i]) {
            ld->scratch_bytes = 0;
            return err_set(err, ERR_NOMEM, "no memory for %zu bytes to load weights", bytes);
        }
    }
    if (bytes > ld->scratch_bytes)
        ld->scratch_bytes = bytes;
    if (message_bytes > ld->message_bytes) {
        free(ld->messages);
        ld->message_bytes = 0;
        ld->messages = malloc(message_bytes);
        if (!ld->messages)
            return err_set(err, ERR_NOMEM, "no memory for %zu bytes to load weights",
                           message_bytes);
        ld->message_bytes = message_bytes;
    }
    return ERR_OK;
}

bool loader_can_pack(enum dtype type)
{
    return dtype_info(type) && linear_packed_bytes(type, LINEAR_PANEL, 256, 0) > 0;
}

size_t loader_row_bytes(enum dtype type, int cols)
{
    return dtype_bytes(type, cols);
}

size_t loaderread_bytes(const struct load_source *s, int64_t n)
{
    size_t row = loader_row_bytes(s->type, s->cols);
    /* The split form is read behind the rows that it is put together into. */
    return (size_t)n * row * (s->form == LOAD_MXFP4_SPLIT ? 2 : 1);
}

/* n blocks: 16 bytes of adjacent pairs each and a scale, to ggml's 17: scale, then byte j holds
 * elements j and j + 16. */
static void join_mxfp4(uint8_t *out, const uint8_t *codes, const uint8_t *scales, int64_t n)
{
    for (int64_t b = 0; b < n; b++, out += 17, codes += 16) {
        out[0] = scales[b];
        for (int j = 0; j < 16; j++) {
            int low = codes[j / 2] >> 4 * (j & 1) & 15, high = codes[8 + j / 2] >> 4 * (j & 1) & 15;
            out[1 + j] = (uint8_t)(low | high << 4);
        }
    }
}

int loaderread_rows(struct loader *ld, const struct load_source *s, int64_t row, int64_t n,
                    uint8_t *dst, struct err *err)
{
    size_t row_bytes = loader_row_bytes(s->type, s->cols);
    if (s->form == LOAD_ROWS)
        return tensorfile_read(ld->file, s->data, (uint64_t)row * row_bytes, dst,
                               (size_t)n * row_bytes, err);
    int64_t blocks = s->cols / 32;
    uint8_t *codes = dst + (size_t)n * row_bytes, *scales = codes + (size_t)(n * blocks) * 16;
    TRY(tensorfile_read(ld->file, s->data, (uint64_t)(row * blocks) * 16, codes,
                        (size_t)(n * blocks) * 16, err));
    TRY(tensorfile_read(ld->file, s->scales, (uint64_t)(row * blocks), scales,
                        (size_t)(n * blocks), err));
    join_mxfp4(dst, codes, scales, n * blocks);
    return ERR_OK;
}

int loaderread_pack(const struct loader *ld, const struct load_source *s, struct linear *l, int row,
                    int n, const uint8_t *src, size_t stride, int64_t tensor_row, int step,
                    struct err *err)
{
    struct err local = {0};
    if (n == 0 || linear_pack(l, row, n, src, stride, &local) == ERR_OK)
        return ERR_OK;
    int i = 0;
    for (; i < n - 1; i++) {            /* which row was it? */
        local = (struct err){0};
        if (linear_pack(l, row + i, 1, src + (size_t)i * stride, stride, &local) != ERR_OK)
            break;
    }
    return err_set(err, ERR_FORMAT, "%s: tensor %s holds a NaN or infinity (row %lld): the file is "
                   "damaged", tensortable_tail(ld->file->path[s->data->file]), s->data->name,
                   (long long)(tensor_row + (int64_t)i * step));
}

void loaderread_progress(struct loader *ld, uint64_t n)
{
    ld->done += n;
    if (ld->progress)
        ld->progress(ld->progress_ctx, ld->done, ld->all);
}

/* A run of rows of one matrix that one thread reads and packs. */
struct piece { int mat, row, n; };

static int pack_piece(struct loader *ld, const struct load_source *s, struct split_range rows,
                      struct piece p, const struct load_target to[2], uint8_t *scratch,
                      struct err *err)
{
    size_t row_bytes = loader_row_bytes(s->type, s->cols);
    int64_t first = p.mat * s->mat_rows + s->row0 + (int64_t)(rows.begin + p.row) * s->lanes;
    TRY(loaderread_rows(ld, s, first, (int64_t)p.n * s->lanes, scratch, err));
    for (int lane = 0; lane < s->lanes; lane++) {
        struct linear *l = (struct linear *)((char *)to[lane].l + (size_t)p.mat * to[lane].stride);
        TRY(loaderread_pack(ld, s, l, p.row, p.n, scratch + (size_t)lane * row_bytes,
                            row_bytes * (size_t)s->lanes, first + lane, s->lanes, err));
    }
    return ERR_OK;
}

/* Rows of a piece: a thread's fair share, whole panels, at most a chunk. */
static int piece_rows(const struct loader *ld, const struct load_source *s, int n_rows)
{
    size_t row_bytes = loader_row_bytes(s->type, s->cols) * (size_t)s->lanes;
    int64_t most = (int64_t)(LOADER_CHUNK / (row_bytes ? row_bytes : 1));
    int64_t share = ((int64_t)n_rows + ld->n_threads - 1) / ld->n_threads;
    int64_t n = s->n_mats >= ld->n_threads ? n_rows : share;
    n = n < most ? n : most;
    n = (n + LINEAR_PANEL - 1) / LINEAR_PANEL * LINEAR_PANEL;
    return (int)n;
}

int loader_rows(struct loader *ld, const struct load_source *s, struct split_range rows,
                const struct load_target to[2], struct err *err)
{
    int n_rows = rows.end - rows.begin, step = piece_rows(ld, s, n_rows);
    if (n_rows == 0 || s->n_mats == 0)
        return ERR_OK;
    TRY(loaderread_room(ld, loaderread_bytes(s, (int64_t)step * s->lanes), 0, err));
    int64_t per_mat = (n_rows + step - 1) / step, n = per_mat * s->n_mats;
    struct err first = {0};
    /* Static: a thread touches first the panels that it will multiply later. */
#pragma omp parallel for schedule(static) num_threads(ld->n_threads)
    for (int64_t i = 0; i < n; i++) {
        struct err local = {0};
        struct piece p = {(int)(i / per_mat), (int)(i % per_mat) * step, 0};
        p.n = n_rows - p.row < step ? n_rows - p.row : step;
        int failed;
#pragma omp atomic read
        failed = first.code;
        if (failed == ERR_OK &&
            pack_piece(ld, s, rows, p, to, ld->scratch[omp_get_thread_num()], &local) != ERR_OK) {
#pragma omp critical(loader_error)
            if (first.code == ERR_OK) {
                memcpy(first.msg, local.msg, sizeof first.msg);
#pragma omp atomic write
                first.code = local.code;
            }
        }
    }
    loaderread_progress(ld, (uint64_t)n_rows * (uint64_t)s->n_mats * (uint64_t)s->lanes *
                                loader_row_bytes(s->type, s->cols));
    return first.code == ERR_OK ? ERR_OK : err_set(err, first.code, "%s", first.msg);
}

int loader_vector(struct loader *ld, const struct tensor_entry *e, int64_t first, int n, int step,
                  float add, float *out, struct err *err)
{
    const struct dtype_info *info = dtype_info(e->type);
    int64_t count = (int64_t)(n - 1) * step + 1;
    if (n == 0)
        return ERR_OK;
    if (!info || !info->dequantise || first % info->block != 0 || count % info->block != 0)
        return err_set(err, ERR_FORMAT, "%s: tensor %s has type %s, which no vector has",
                       tensortable_tail(ld->file->path[e->file]), e->name, info ? info->name : "unknown");
    size_t bytes = dtype_bytes(e->type, count), at = (bytes + 63) / 64 * 64;
    TRY(loaderread_room(ld, at + (size_t)count * sizeof(float), 0, err));
    float *wide = (float *)(ld->scratch[0] + at);
    TRY(tensorfile_read(ld->file, e, dtype_bytes(e->type, first), ld->scratch[0], bytes, err));
    info->dequantise(wide, ld->scratch[0], count);
    for (int i = 0; i < n; i++) {
        float v = wide[(int64_t)i * step];
        if (!isfinite(v))
            return err_set(err, ERR_FORMAT, "%s: tensor %s holds a NaN or infinity (row %lld): the "
                           "file is damaged", tensortable_tail(ld->file->path[e->file]), e->name,
                           (long long)(first + (int64_t)i * step));
        out[i] = v + add;
    }
    loaderread_progress(ld, bytes);
    return ERR_OK;
}
