#include "workers/models/logitsfile.h"

#include "workers/kernels/kernels.h"
#include "workers/weights/tensorfile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One of the two files, and a row of it. */
struct side {
    const char *path;
    struct tensorfile file;
    bool open;
    const struct tensor_entry *logits;
    float *row;                 /* [vocab] */
    double *work;               /* [vocab] logits less the largest, then probabilities times sum */
    double log_sum;
    int64_t top;
};

static int open_side(struct side *s, const char *path, struct err *err)
{
    s->path = path;
    TRY(tensorfile_open(&s->file, path, err));
    s->open = true;
    s->logits = tensorfile_find(&s->file, "logits");
    if (s->logits == NULL)
        return err_set(err, ERR_FORMAT, "%s: no tensor named logits (is it from `muster logits`?)", path);
    if (s->logits->type != DT_F32 || s->logits->n_dims != 2 || s->logits->n_elements < 1)
        return err_set(err, ERR_FORMAT, "%s: logits is no F32 tensor of rows and vocabulary", path);
    size_t vocab = (size_t)s->logits->shape[1];
    s->row = malloc(vocab * sizeof *s->row);
    s->work = malloc(vocab * sizeof *s->work);
    if (s->row == NULL || s->work == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory for rows of %zu numbers", path, vocab);
    return ERR_OK;
}

static void close_side(struct side *s)
{
    if (s->open)
        tensorfile_close(&s->file);
    free(s->row);
    free(s->work);
}

/* log(x) of a double from the kernels' float one: one step of Newton for exp(y) = x. */
static double log_of(const struct kernels *k, double x)
{
    float f = (float)x, y;
    k->log(&y, &f, 1);
    double e = -(double)y;
    k->exp_f64(&e, &e, 1);
    return (double)y + (x * e - 1);
}

/* Row r: its largest logit, exponentials less that, and the log of their sum. */
static int take_row(struct side *s, const struct kernels *k, int64_t r, struct err *err)
{
    int64_t vocab = s->logits->shape[1];
    size_t bytes = (size_t)vocab * sizeof *s->row;
    double sum = 0;
    TRY(tensorfile_read(&s->file, s->logits, (uint64_t)r * bytes, s->row, bytes, err));
    for (int64_t i = 0; i < vocab; i++)
        if (!isfinite(s->row[i]))
            return err_set(err, ERR_FORMAT, "%s: row %lld of logits holds %g", s->path, (long long)r,
                           (double)s->row[i]);
    s->top = k->argmax(s->row, vocab);
    for (int64_t i = 0; i < vocab; i++)
        s->work[i] = (double)s->row[i] - (double)s->row[s->top];
    k->exp_f64(s->work, s->work, vocab);
    for (int64_t i = 0; i < vocab; i++)
        sum += s->work[i];
    s->log_sum = log_of(k, sum);
    return ERR_OK;
}

/* sum of p (log p - log q); never below zero but for rounding. */
static double divergence(const struct side *p, const struct side *q)
{
    int64_t vocab = p->logits->shape[1];
    double sum = 0, weights = 0, p_top = (double)p->row[p->top], q_top = (double)q->row[q->top];
    for (int64_t i = 0; i < vocab; i++) {
        sum += p->work[i] * (((double)p->row[i] - p_top) - ((double)q->row[i] - q_top));
        weights += p->work[i];
    }
    double kl = sum / weights + q->log_sum - p->log_sum;
    return kl > 0 ? kl : 0;
}

static int compare(struct side *base, struct side *other, logits_tell *tell, void *ctx,
                   struct logits_divergence *out, struct err *err)
{
    const struct kernels *k = kernels_get(isa_detect());
    double mean = 0, squares = 0, same = 0;
    int64_t n = out->rows;
    for (int64_t r = 0; r < n; r++) {
        TRY(take_row(base, k, r, err));
        TRY(take_row(other, k, r, err));
        double kl = divergence(base, other), step = kl - mean;
        mean += step / (double)(r + 1);         /* Welford's way: no difference of large sums */
        squares += step * (kl - mean);
        same += base->top == other->top;
        if (kl > out->max || r == 0) {
            out->max = kl;
            out->max_row = r;
        }
        if (tell != NULL)
            tell(ctx, (double)(r + 1) / (double)n);
    }
    out->mean = mean;
    out->same = same / (double)n;
    if (n > 1) {
        out->error = sqrt(squares / (double)(n - 1) / (double)n);
        out->same_error = sqrt(out->same * (1 - out->same) / (double)(n - 1));
    }
    return ERR_OK;
}

int logitsfile_compare(const char *base, const char *other, logits_tell *tell, void *ctx,
                       struct logits_divergence *out, struct err *err)
{
    struct side a = {0}, b = {0};
    memset(out, 0, sizeof *out);
    int rc = open_side(&a, base, err);
    if (rc == ERR_OK)
        rc = open_side(&b, other, err);
    if (rc == ERR_OK) {
        const int64_t *x = a.logits->shape, *y = b.logits->shape;
        out->rows = x[0];
        out->vocab = x[1];
        if (x[0] != y[0] || x[1] != y[1])
            rc = err_set(err, ERR_FORMAT, "%s has logits [%lld, %lld], %s [%lld, %lld]: make both from the "
                         "same ids", base, (long long)x[0], (long long)x[1], other, (long long)y[0],
                         (long long)y[1]);
        else
            rc = compare(&a, &b, tell, ctx, out, err);
    }
    close_side(&a);
    close_side(&b);
    return rc;
}
