/* Linear layers of networks that do not learn: weights packed once, all rows of a step in one product. */
#include "workers/models/nn.h"

#include <stdlib.h>
#include <string.h>

int nn_pack(struct nn_packed *p, const float *w, int n, int k, struct err *err)
{
    size_t bytes = (matmul_packed_floats(n, k) * sizeof *p->data + 63) / 64 * 64;
    *p = (struct nn_packed){.data = aligned_alloc(64, bytes > 0 ? bytes : 64), .n = n, .k = k};
    if (p->data == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a matrix of %d x %d", n, k);
    matmul_pack(p->data, w, k, n, k);
    return ERR_OK;
}

void nn_packed_free(struct nn_packed *p)
{
    free(p->data);
    memset(p, 0, sizeof *p);
}

struct product { const struct kernels *kernels; struct matmul_call call; int64_t rows; };

/* Rows are shared out where each thread gets a tile of them, else columns. */
static void product_share(void *ctx, int thread, int n_threads)
{
    enum { TILE = 14 };
    const struct product *p = ctx;
    int64_t begin, end, panels = matmul_panels(p->call.n);
    if (p->rows >= (int64_t)n_threads * TILE) {
        team_share(p->rows, 1, thread, n_threads, &begin, &end);
        p->kernels->matmul(&p->call, begin, end, 0, (int)panels);
    } else {
        team_share(panels, 1, thread, n_threads, &begin, &end);
        p->kernels->matmul(&p->call, 0, p->rows, (int)begin, (int)end);
    }
}

void nn_packed_product(struct nn *nn, const struct nn_packed *w, const struct split_program *prog,
                       const float *bias, const float *x, int64_t rows, float *out, int64_t piece_stride)
{
    struct split_program whole = split_whole(w->k);
    const struct matmul_call call = {
        .packed = w->data, .n = w->n, .k = w->k, .prog = prog != NULL ? prog : &whole, .bias = bias,
        .x = x, .ldx = w->k, .out = out, .ldo = w->n, .piece_stride = piece_stride};
    struct product p = {.kernels = nn->kernels, .call = call, .rows = rows};
    if (nn->team != NULL)
        team_run(nn->team, product_share, &p);
    else
        product_share(&p, 0, 1);
}
