/* Linear layers of networks that do not learn: weights packed once, all rows of a step in one product. */
#include "workers/models/nn.h"

#include "workers/kernels/linear.h"
#include "workers/models/nnhalf.h"

#include <stdlib.h>
#include <string.h>

enum nn_form nn_form(const struct nn *nn)
{
    return !nn->half ? NN_FORM_F32 : nn->kernels->isa == ISA_AMX ? NN_FORM_TILES : NN_FORM_PAIRS;
}

static int pairs_of(int k) { return (k + 1) / 2; }

static struct linear linear_of(const struct nn_packed *p)
{
    return (struct linear){DT_BF16, p->n, p->k, 0, (uint8_t *)p->data};
}

static size_t packed_bytes(const struct nn_packed *p)
{
    int across = p->form == NN_FORM_PAIRS ? pairs_of(p->k) : p->k;
    size_t n = p->form == NN_FORM_TILES ? linear_packed_bytes(DT_BF16, p->n, p->k, 0)
                                        : matmul_packed_floats(p->n, across) * sizeof(float);
    return n > 0 ? (n + 63) / 64 * 64 : 64;
}

/* Rows of x [rows, k] as bfloat16 numbers [rows][pairs of k][2]; an odd k gets a zero. */
static void round_rows(float *pairs, const float *x, int64_t rows, int k)
{
    uint16_t *out = (uint16_t *)pairs;
    if (k % 2 == 0) {
        nnhalf_round(out, x, rows * k);
        return;
    }
    for (int64_t r = 0; r < rows; r++, out += k + 1, x += k) {
        nnhalf_round(out, x, k);
        out[k] = 0;
    }
}

static int pack_half(struct nn_packed *p, const float *w, struct err *err)
{
    int pairs = pairs_of(p->k);
    float *rounded = malloc(((size_t)p->n * (size_t)pairs + 1) * sizeof *rounded);
    if (rounded == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a matrix of %d x %d", p->n, p->k);
    round_rows(rounded, w, p->n, p->k);
    int rc = ERR_OK;
    if (p->form == NN_FORM_PAIRS) {
        matmul_pack(p->data, rounded, pairs, p->n, pairs);
    } else {
        struct linear l = linear_of(p);
        rc = linear_pack(&l, 0, p->n, (const uint8_t *)rounded, (size_t)pairs * sizeof *rounded, err);
    }
    free(rounded);
    return rc;
}

int nn_pack(struct nn_packed *p, const float *w, int n, int k, enum nn_form form, struct err *err)
{
    *p = (struct nn_packed){.n = n, .k = k, .form = form};
    p->data = aligned_alloc(64, packed_bytes(p));
    if (p->data == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a matrix of %d x %d", n, k);
    if (form == NN_FORM_F32) {
        matmul_pack(p->data, w, k, n, k);
        return ERR_OK;
    }
    int rc = pack_half(p, w, err);
    if (rc != ERR_OK)
        nn_packed_free(p);
    return rc;
}

void nn_packed_free(struct nn_packed *p)
{
    free(p->data);
    memset(p, 0, sizeof *p);
}

/* Rows that are rounded and multiplied before the next ones: whole tiles of both kinds of kernel. */
enum { CHUNK = 224 };

struct product {
    const struct nn_packed *w;
    matmul_run *run;
    enum isa isa;
    struct matmul_call call;    /* of pairs: over pairs of columns */
    const float *bias, *x;      /* x [rows, w->k] */
    int64_t rows;
    char *room; size_t x_bytes, each;   /* of a thread: its rounded rows, and scratch */
};

/* What a thread does of a product: rows [row0, row1), panels [panel0, panel1) of matmul.h. */
struct part { int64_t row0, row1; int panel0, panel1; char *room; };

static void run_pairs(const struct product *p, const struct part *part, int64_t r, int64_t n)
{
    struct matmul_call call = p->call;
    float *x = (float *)part->room;
    round_rows(x, p->x + r * p->w->k, n, p->w->k);
    call.x = x;
    call.out += r * call.ldo;
    p->run(&call, 0, n, part->panel0, part->panel1);
}

static void run_tiles(const struct product *p, const struct part *part, int64_t r, int64_t n)
{
    const struct linear l = linear_of(p->w);
    int all = (l.n_out + LINEAR_PANEL - 1) / LINEAR_PANEL, more = MATMUL_PANEL / LINEAR_PANEL;
    int end = part->panel1 * more < all ? part->panel1 * more : all, begin = part->panel0 * more;
    float *out = p->call.out + r * p->call.ldo;
    if (begin >= end)
        return;
    linear_x_prepare(&l, p->isa, COMPUTE_DEFAULT, ROLE_KIND_PROMPT, part->room, p->x + r * l.k, l.k, (int)n,
                     l.k, 0, (int)n);
    linear_run(&l, p->isa, COMPUTE_DEFAULT, ROLE_KIND_PROMPT, p->call.prog, out, p->call.ldo,
               p->call.piece_stride, part->room, (int)n, begin, end, part->room + p->x_bytes);
    int from = begin * LINEAR_PANEL, to = end * LINEAR_PANEL < l.n_out ? end * LINEAR_PANEL : l.n_out;
    for (int64_t i = 0; i < n && p->bias != NULL; i++)
        for (int c = from; c < to; c++)
            out[i * p->call.ldo + c] += p->bias[c];
}

static void run_part(const struct product *p, const struct part *part)
{
    if (p->w->form == NN_FORM_F32) {
        p->run(&p->call, part->row0, part->row1, part->panel0, part->panel1);
        return;
    }
    for (int64_t r = part->row0; r < part->row1; r += CHUNK) {
        int64_t n = part->row1 - r < CHUNK ? part->row1 - r : CHUNK;
        if (p->w->form == NN_FORM_PAIRS)
            run_pairs(p, part, r, n);
        else
            run_tiles(p, part, r, n);
    }
}

/* Rows are shared out where each thread gets a tile of them, else columns. */
static void product_share(void *ctx, int thread, int n_threads)
{
    enum { TILE = 14 };
    const struct product *p = ctx;
    struct part part = {0, p->rows, 0, matmul_panels(p->w->n), p->room + (size_t)thread * p->each};
    int64_t begin, end;
    if (p->rows >= (int64_t)n_threads * TILE) {
        team_share(p->rows, 1, thread, n_threads, &part.row0, &part.row1);
    } else {
        team_share(part.panel1, 1, thread, n_threads, &begin, &end);
        part.panel0 = (int)begin;
        part.panel1 = (int)end;
    }
    run_part(p, &part);
}

/* The program over pairs of columns: segments begin at multiples of 32. */
static struct split_program halved(const struct split_program *prog)
{
    struct split_program p = *prog;
    for (int i = 0; i < p.n_seg; i++) {
        ASSERT(p.seg[i].k_begin % 2 == 0);
        p.seg[i].k_begin /= 2;
        p.seg[i].k_end = pairs_of(p.seg[i].k_end);
    }
    return p;
}

static void take_room(struct nn *nn, struct product *p)
{
    int rows = p->rows < CHUNK ? (int)p->rows : CHUNK, k = p->w->k;
    struct linear l = linear_of(p->w);
    bool tiles = p->w->form == NN_FORM_TILES;
    size_t x = tiles ? linear_x_bytes(&l, p->isa, COMPUTE_DEFAULT, ROLE_KIND_PROMPT, rows, k)
                     : (size_t)rows * (size_t)pairs_of(k) * sizeof(float);
    size_t scratch = tiles ? linear_scratch_bytes(p->isa, COMPUTE_DEFAULT, ROLE_KIND_PROMPT, rows, k) : 0;
    p->x_bytes = (x + 63) / 64 * 64;
    p->each = p->x_bytes + (scratch + 63) / 64 * 64;
    int threads = nn->team != NULL ? nn->team->n_threads : 1;
    p->room = (char *)nn_scratch(nn, 0, threads * (int64_t)(p->each / sizeof(float)));
}

void nn_packed_product(struct nn *nn, const struct nn_packed *w, const struct split_program *prog,
                       const float *bias, const float *x, int64_t rows, float *out, int64_t piece_stride)
{
    struct split_program whole = split_whole(w->k), pairs;
    struct product p = {.w = w, .run = nn->kernels->matmul, .isa = nn->kernels->isa, .bias = bias, .x = x,
                        .rows = rows};
    p.call = (struct matmul_call){
        .packed = w->data, .n = w->n, .k = w->k, .prog = prog != NULL ? prog : &whole, .bias = bias,
        .x = x, .ldx = w->k, .out = out, .ldo = w->n, .piece_stride = piece_stride};
    if (w->form != NN_FORM_F32)
        take_room(nn, &p);
    if (w->form == NN_FORM_PAIRS) {
        pairs = halved(p.call.prog);
        p.run = kernels_matmul_pairs(nn->kernels->isa);
        p.call.prog = &pairs;
        p.call.ldx = p.call.k = pairs_of(w->k);
    }
    if (nn->team != NULL)
        team_run(nn->team, product_share, &p);
    else
        product_share(&p, 0, 1);
}
