/* loader_exchange.c - column cuts: whole rows are read by one rank each, pieces travel as messages. */
#include "workers/weights/loaderread.h"

#include "proto/wire.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct span { size_t begin, end; };             /* bytes of a row */

/* Rows that every rank needs a piece of. read and sink are called with whole runs of rows. */
struct exchange {
    int64_t n_rows;
    size_t row_bytes, chunk_bytes;              /* chunk_bytes: scratch that a round's read needs */
    int64_t round_rows;
    int64_t share[LOADER_RANKS_MAX + 1];        /* rank i reads rows [share[i], share[i + 1]) */
    struct span slice[LOADER_RANKS_MAX];        /* what rank i needs of each row */
    int (*read)(void *ctx, int64_t row, int64_t n, uint8_t *dst, struct err *err);
    int (*sink)(void *ctx, int64_t row, int64_t n, const uint8_t *src, size_t stride,
                struct err *err);
    void *ctx;
};

struct round { int64_t row, n; };

/* What rank i reads in round r. */
static struct round round_of(const struct exchange *x, int i, int64_t r)
{
    struct round out = {x->share[i] + r * x->round_rows, 0};
    int64_t left = x->share[i + 1] - out.row;
    out.n = left <= 0 ? 0 : left < x->round_rows ? left : x->round_rows;
    return out;
}

static size_t slice_bytes(const struct exchange *x, int i)
{
    return x->slice[i].end - x->slice[i].begin;
}

/* Room for one message of rank i's piece of a round. */
static size_t message_room(const struct exchange *x, int i)
{
    return (WIRE_HEADER_MAX + (size_t)x->round_rows * slice_bytes(x, i) + 63) / 64 * 64;
}

static size_t send_message(struct loader *ld, const struct exchange *x, int peer, int64_t n,
                           const uint8_t *rows, uint8_t *msg)
{
    size_t bytes = slice_bytes(x, peer);
    struct wire_tensor t = {.network = ld->group.network, .kind = WIRE_WEIGHTS, .dtype = WIRE_U8,
                            .step = ld->step, .n_dims = 2, .shape = {(uint64_t)n, bytes},
                            .data_bytes = (size_t)n * bytes};
    void *data;
    size_t size = wire_tensor_begin(msg, ld->group.comm->epoch, &t, &data);
    for (int64_t i = 0; i < n; i++)
        memcpy((uint8_t *)data + (size_t)i * bytes,
               rows + (size_t)i * x->row_bytes + x->slice[peer].begin, bytes);
    return size;
}

/* The pieces of one round on their way. */
struct flight {
    struct comm_req req[2 * LOADER_RANKS_MAX];
    int n;
    int from[LOADER_RANKS_MAX], recv_req[LOADER_RANKS_MAX], n_recv;
    uint8_t *in[LOADER_RANKS_MAX];
};

static int post_round(struct loader *ld, const struct exchange *x, int64_t r, const uint8_t *rows,
                      struct flight *f, struct err *err)
{
    const struct load_group *g = &ld->group;
    uint8_t *at = ld->messages;
    memset(f, 0, sizeof *f);
    for (int p = 0; p < g->n; p++) {
        if (p == g->index || round_of(x, p, r).n == 0 || slice_bytes(x, g->index) == 0)
            continue;
        f->from[f->n_recv] = p;
        f->recv_req[f->n_recv] = f->n;
        f->in[f->n_recv++] = at;
        TRY(g->comm->table->recv_begin(g->comm, g->ranks[p], COMM_LOAD, at,
                                       message_room(x, g->index), &f->req[f->n++], err));
        at += message_room(x, g->index);
    }
    int64_t n = round_of(x, g->index, r).n;
    for (int p = 0; p < g->n && n > 0; p++) {
        if (p == g->index || slice_bytes(x, p) == 0)
            continue;
        size_t size = send_message(ld, x, p, n, rows, at);
        TRY(g->comm->table->send_begin(g->comm, g->ranks[p], COMM_LOAD, at, size,
                                       &f->req[f->n++], err));
        at += message_room(x, p);
    }
    return ERR_OK;
}

static int view_piece(struct loader *ld, const struct exchange *x, struct flight *f, int i,
                      int64_t n, struct wire_tensor *t, struct err *err)
{
    const struct load_group *g = &ld->group;
    size_t bytes = f->req[f->recv_req[i]].bytes;
    struct err old = {0};
    int rc;
    /* A piece of an abandoned plan may still lie in the channel: drop it and wait for ours. */
    while ((rc = wire_tensor_view(f->in[i], bytes, g->comm->epoch, t, &old)) == ERR_CANCELLED) {
        old = (struct err){0};
        TRY(comm_recv(g->comm, g->ranks[f->from[i]], COMM_LOAD, f->in[i],
                      message_room(x, g->index), &bytes, err));
    }
    if (rc != ERR_OK)
        return err_set(err, rc, "%s", old.msg);
    if (t->kind != WIRE_WEIGHTS || t->step != ld->step || t->n_dims != 2 ||
        t->shape[0] != (uint64_t)n || t->shape[1] != slice_bytes(x, g->index))
        return err_set(err, ERR_PEER, "rank %d sent other weights than expected (do all ranks see "
                       "the same file?)", g->ranks[f->from[i]]);
    return ERR_OK;
}

/* *kept takes an error of the file, after which the round still goes on; the result is of the
 * communication alone. */
static int run_round(struct loader *ld, const struct exchange *x, int64_t r, struct err *kept,
                     struct err *err)
{
    const struct load_group *g = &ld->group;
    struct round mine = round_of(x, g->index, r);
    uint8_t *rows = ld->scratch[0];
    struct flight f;
    if (mine.n > 0 && x->read(x->ctx, mine.row, mine.n, rows, kept) != ERR_OK)
        memset(rows, 0, (size_t)mine.n * x->row_bytes);
    int rc = post_round(ld, x, r, rows, &f, err);
    if (rc != ERR_OK) {
        for (int i = 0; i < f.n; i++)
            g->comm->table->cancel(g->comm, &f.req[i]);
        return rc;
    }
    if (mine.n > 0 && slice_bytes(x, g->index) > 0)
        x->sink(x->ctx, mine.row, mine.n, rows + x->slice[g->index].begin, x->row_bytes, kept);
    TRY(comm_wait_all(g->comm, f.req, f.n, err));
    for (int i = 0; i < f.n_recv; i++) {
        struct round theirs = round_of(x, f.from[i], r);
        struct wire_tensor t;
        TRY(view_piece(ld, x, &f, i, theirs.n, &t, err));
        x->sink(x->ctx, theirs.row, theirs.n, t.data, slice_bytes(x, g->index), kept);
    }
    ld->step++;
    return ERR_OK;
}

static int run_exchange(struct loader *ld, struct exchange *x, struct err *err)
{
    const struct load_group *g = &ld->group;
    int64_t rounds = 0;
    size_t messages = 0;
    for (int i = 0; i < g->n; i++) {
        int64_t n = (x->share[i + 1] - x->share[i] + x->round_rows - 1) / x->round_rows;
        rounds = n > rounds ? n : rounds;
        messages += message_room(x, i) + message_room(x, g->index);
    }
    struct err kept = {0}, wire = {0};
    int rc = loaderread_room(ld, x->chunk_bytes, messages, err);
    if (rc != ERR_OK)
        return rc;
    for (int64_t r = 0; r < rounds && rc == ERR_OK; r++)
        rc = run_round(ld, x, r, &kept, &wire);
    if (rc != ERR_OK)
        return err_set(err, rc, "%s", wire.msg);
    loaderread_progress(ld, (uint64_t)(x->share[g->index + 1] - x->share[g->index]) *
                                x->row_bytes);
    return kept.code == ERR_OK ? ERR_OK : err_set(err, kept.code, "%s", kept.msg);
}

/* Rows of a round: at most a chunk, whole panels where that is more than one. */
static int64_t rows_of_round(size_t row_bytes)
{
    int64_t n = (int64_t)(LOADER_CHUNK / (row_bytes ? row_bytes : 1));
    return n >= LINEAR_PANEL ? n / LINEAR_PANEL * LINEAR_PANEL : n > 0 ? n : 1;
}

/* Rows in proportion to what each rank holds of [0, whole). */
static void share_rows(struct exchange *x, const struct split_range *held, int n, int whole)
{
    for (int i = 0; i < n; i++)
        x->share[i] = x->n_rows * held[i].begin / whole;
    for (int i = n - 1; i >= 0; i--)        /* empty ranges may lie anywhere: keep the order */
        if (held[i].begin >= held[i].end)
            x->share[i] = i == n - 1 ? x->n_rows : x->share[i + 1];
    x->share[0] = 0;
    x->share[n] = x->n_rows;
}

/* --- columns of LOAD_ROWS and LOAD_MXFP4_SPLIT */

struct columns { struct loader *ld; const struct load_source *s; struct load_target to; };

/* A run of rows inside one matrix: the runs of all matrices follow one another. */
static int64_t run_in_matrix(const struct load_source *s, int64_t row, int64_t n, int *mat, int *at)
{
    *mat = (int)(row / s->rows);
    *at = (int)(row % s->rows);
    return n < s->rows - *at ? n : s->rows - *at;
}

static int columns_read(void *ctx, int64_t row, int64_t n, uint8_t *dst, struct err *err)
{
    struct columns *c = ctx;
    size_t row_bytes = loader_row_bytes(c->s->type, c->s->cols);
    while (n > 0) {
        int mat, at;
        int64_t run = run_in_matrix(c->s, row, n, &mat, &at);
        TRY(loaderread_rows(c->ld, c->s, mat * c->s->mat_rows + c->s->row0 + at, run, dst, err));
        dst += (size_t)run * row_bytes;
        row += run;
        n -= run;
    }
    return ERR_OK;
}

/* Packs rows [row, row + n) of one matrix with all threads, cut at panels. */
static int pack_parallel(const struct loader *ld, const struct load_source *s, struct linear *l,
                         int row, int n, const uint8_t *src, size_t stride, int64_t tensor_row,
                         struct err *err)
{
    int p0 = row / LINEAR_PANEL, panels = (row + n + LINEAR_PANEL - 1) / LINEAR_PANEL - p0;
    int parts = panels < ld->n_threads ? panels : ld->n_threads;
    struct err first = {0};
#pragma omp parallel for schedule(static) num_threads(parts)
    for (int i = 0; i < parts; i++) {
        struct err local = {0};
        int begin = (p0 + (int)((int64_t)panels * i / parts)) * LINEAR_PANEL;
        int end = (p0 + (int)((int64_t)panels * (i + 1) / parts)) * LINEAR_PANEL;
        begin = begin < row ? row : begin;
        end = end > row + n ? row + n : end;
        if (loaderread_pack(ld, s, l, begin, end - begin, src + (size_t)(begin - row) * stride,
                            stride, tensor_row + begin - row, 1, &local) != ERR_OK) {
#pragma omp critical(loader_error)
            err_set(&first, local.code, "%s", local.msg);
        }
    }
    return first.code == ERR_OK ? ERR_OK : err_set(err, first.code, "%s", first.msg);
}

static int columns_sink(void *ctx, int64_t row, int64_t n, const uint8_t *src, size_t stride,
                        struct err *err)
{
    struct columns *c = ctx;
    while (n > 0) {
        int mat, at;
        int64_t run = run_in_matrix(c->s, row, n, &mat, &at);
        struct linear *l = (struct linear *)((char *)c->to.l + (size_t)mat * c->to.stride);
        TRY(pack_parallel(c->ld, c->s, l, at, (int)run, src, stride,
                          mat * c->s->mat_rows + c->s->row0 + at, err));
        src += (size_t)run * stride;
        row += run;
        n -= run;
    }
    return ERR_OK;
}

int loader_columns(struct loader *ld, const struct load_source *s, const struct split_range *cols,
                   struct load_target to, struct err *err)
{
    const struct dtype_info *info = dtype_info(s->type);
    struct columns c = {ld, s, to};
    if (ld->group.n == 1) {
        struct load_target both[2] = {to, {0}};
        return loader_rows(ld, s, (struct split_range){0, s->rows}, both, err);
    }
    struct exchange x = {.n_rows = (int64_t)s->n_mats * s->rows, .ctx = &c, .read = columns_read,
                         .sink = columns_sink, .row_bytes = loader_row_bytes(s->type, s->cols)};
    x.round_rows = rows_of_round(x.row_bytes);
    x.chunk_bytes = loaderread_bytes(s, x.round_rows);
    share_rows(&x, cols, ld->group.n, s->cols);
    for (int i = 0; i < ld->group.n; i++) {
        size_t first = (size_t)(cols[i].begin / info->block);
        size_t last = ((size_t)cols[i].end + (size_t)info->block - 1) / (size_t)info->block;
        if (cols[i].begin < cols[i].end)
            x.slice[i] = (struct span){first * (size_t)info->bytes, last * (size_t)info->bytes};
    }
    return run_exchange(ld, &x, err);
}

/* --- LOAD_TRANSPOSED: one matrix at a time is gathered, turned and packed */

struct gather {
    struct loader *ld;
    const struct load_source *s;
    int mat;
    uint8_t *t;                 /* [columns held][bytes], bytes a row of this rank's numbers */
    size_t bytes;
};

static int gather_read(void *ctx, int64_t row, int64_t n, uint8_t *dst, struct err *err)
{
    struct gather *g = ctx;
    size_t row_bytes = loader_row_bytes(g->s->type, g->s->rows) * (size_t)g->s->lanes;
    return tensorfile_read(g->ld->file, g->s->data,
                           ((uint64_t)g->mat * (uint64_t)g->s->cols + (uint64_t)row) * row_bytes,
                           dst, (size_t)n * row_bytes, err);
}

static int gather_sink(void *ctx, int64_t row, int64_t n, const uint8_t *src, size_t stride,
                       struct err *err)
{
    struct gather *g = ctx;
    for (int64_t i = 0; i < n; i++)
        memcpy(g->t + (size_t)(row + i) * g->bytes, src + (size_t)i * stride, g->bytes);
    return ERR_OK;
}

/* Turns rows [row, row + n) of a lane into out [n][k] of es-byte numbers. */
static void turn(const struct gather *g, int lane, int row, int n, int k, size_t es, uint8_t *out)
{
    size_t lanes = (size_t)g->s->lanes;
    for (int i = 0; i < k; i++)
        for (int r = 0; r < n; r++)
            memcpy(out + ((size_t)r * (size_t)k + (size_t)i) * es,
                   g->t + (size_t)i * g->bytes + ((size_t)(row + r) * lanes + (size_t)lane) * es,
                   es);
}

static int pack_turned(struct gather *g, const struct load_target to[2], struct err *err)
{
    struct loader *ld = g->ld;
    for (int lane = 0; lane < g->s->lanes; lane++) {
        struct linear *l = (struct linear *)((char *)to[lane].l + (size_t)g->mat * to[lane].stride);
        size_t es = dtype_bytes(g->s->type, 1), stride = (size_t)l->k * es;
        if (l->n_out == 0 || l->k == 0)
            continue;
        TRY(loaderread_room(ld, stride * LINEAR_PANEL, 0, err));
        struct err first = {0};
#pragma omp parallel for schedule(static) num_threads(ld->n_threads)
        for (int row = 0; row < l->n_out; row += LINEAR_PANEL) {
            struct err local = {0};
            int n = l->n_out - row < LINEAR_PANEL ? l->n_out - row : LINEAR_PANEL;
            uint8_t *out = ld->scratch[omp_get_thread_num()];
            turn(g, lane, row, n, l->k, es, out);
            if (loaderread_pack(ld, g->s, l, row, n, out, stride,
                                (int64_t)g->mat * g->s->cols, 0, &local) != ERR_OK) {
#pragma omp critical(loader_error)
                err_set(&first, local.code, "%s", local.msg);
            }
        }
        if (first.code != ERR_OK)
            return err_set(err, first.code, "%s", first.msg);
    }
    return ERR_OK;
}

static int gather_room(struct gather *g, int cols, struct err *err)
{
    size_t bytes = (size_t)cols * g->bytes;
    g->t = malloc(bytes ? bytes : 1);
    return g->t ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for %zu bytes to load weights", bytes);
}

int loader_transposed_rows(struct loader *ld, const struct load_source *s,
                           const struct split_range *rows, const struct load_target to[2],
                           struct err *err)
{
    size_t unit = dtype_bytes(s->type, 1) * (size_t)s->lanes;
    struct gather g = {.ld = ld, .s = s};
    struct exchange x = {.n_rows = s->cols, .row_bytes = (size_t)s->rows * unit, .ctx = &g,
                         .read = gather_read, .sink = gather_sink};
    x.round_rows = rows_of_round(x.row_bytes);
    x.chunk_bytes = (size_t)x.round_rows * x.row_bytes;
    share_rows(&x, rows, ld->group.n, s->rows);
    for (int i = 0; i < ld->group.n; i++)
        if (rows[i].begin < rows[i].end)
            x.slice[i] = (struct span){(size_t)rows[i].begin * unit, (size_t)rows[i].end * unit};
    g.bytes = slice_bytes(&x, ld->group.index);
    struct err kept = {0};
    int rc = gather_room(&g, s->cols, err);
    for (g.mat = 0; rc == ERR_OK && g.mat < s->n_mats; g.mat++) {
        struct err local = {0};
        rc = run_exchange(ld, &x, &local);
        if (rc == ERR_OK)
            pack_turned(&g, to, &kept);
        else if (rc == ERR_PEER || rc == ERR_TIMEOUT || rc == ERR_NOMEM || rc == ERR_CANCELLED)
            err_set(err, rc, "%s", local.msg);
        else                                /* of the file: the peers go on with us */
            rc = (err_set(&kept, rc, "%s", local.msg), ERR_OK);
    }
    free(g.t);
    if (rc == ERR_OK && kept.code != ERR_OK)
        rc = err_set(err, kept.code, "%s", kept.msg);
    return rc;
}

int loader_transposed_columns(struct loader *ld, const struct load_source *s,
                              struct split_range cols, struct load_target to, struct err *err)
{
    int n = cols.end - cols.begin;
    struct gather g = {.ld = ld, .s = s, .bytes = loader_row_bytes(s->type, s->rows)};
    struct load_target both[2] = {to, {0}};
    if (n == 0)
        return ERR_OK;
    int rc = gather_room(&g, n, err);
    for (g.mat = 0; rc == ERR_OK && g.mat < s->n_mats; g.mat++) {
        rc = gather_read(&g, cols.begin, n, g.t, err);
        if (rc == ERR_OK)
            rc = pack_turned(&g, both, err);
        loaderread_progress(ld, (uint64_t)n * g.bytes);
    }
    free(g.t);
    return rc;
}
