#include "workers/train/trainflat.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Numbers that a thread takes at a time, inside one parameter: gradient, weight, moments and parts of a
 * chunk stay in L2 from the sum to the squares. */
enum { CHUNK = 8192 };

struct train_chunk { int param; int64_t at; int n; };      /* numbers [at, at + n) of the flat row */

static bool decays_by_name(const struct param *p)
{
    size_t n = strlen(p->name);
    return p->n_dims >= 2 && n >= 6 && strcmp(p->name + n - 6, "weight") == 0;
}

/* --- lists */

static int count_params(const struct train_task *task, int group)
{
    int n = 0;
    for (int s = 0; s < task->n_sets; s++)
        for (int i = 0; i < task->set[s].params.n && task->set[s].group == group; i++)
            n += !task->set[s].params.p[i].frozen;
    return n;
}

static void list_params(struct train_task *task, int group, struct train_flat *f)
{
    bool (*decays)(const struct param *) = task->group[group].decays;
    if (decays == NULL)
        decays = decays_by_name;
    for (int s = 0; s < task->n_sets; s++) {
        struct params *set = &task->set[s].params;
        for (int i = 0; i < set->n && task->set[s].group == group; i++) {
            if (set->p[i].frozen)
                continue;
            int k = f->n_params++;
            f->param[k] = &set->p[i];
            f->prefix[k] = task->set[s].prefix;
            f->decays[k] = decays(&set->p[i]);
            f->begin[k] = f->n;
            f->n += set->p[i].n;
        }
    }
    f->begin[f->n_params] = f->n;
}

static int make_chunks(struct train_flat *f, struct err *err)
{
    int n = 0;
    for (int k = 0; k < f->n_params; k++)
        n += (int)((f->param[k]->n + CHUNK - 1) / CHUNK);
    f->chunk = calloc((size_t)n + 1, sizeof *f->chunk);
    f->squares = calloc((size_t)n + 1, sizeof *f->squares);
    if (f->chunk == NULL || f->squares == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the optimiser");
    for (int k = 0; k < f->n_params; k++) {
        f->chunk_of[k] = f->n_chunks;
        for (int64_t at = 0; at < f->param[k]->n; at += CHUNK) {
            int64_t left = f->param[k]->n - at;
            f->chunk[f->n_chunks++] = (struct train_chunk){k, f->begin[k] + at,
                                                           (int)(left < CHUNK ? left : CHUNK)};
        }
    }
    f->chunk_of[f->n_params] = f->n_chunks;
    return ERR_OK;
}

static float *row_of(int64_t n)
{
    float *p = aligned_alloc(64, ((size_t)(n > 0 ? n : 1) * sizeof *p + 63) / 64 * 64);
    if (p != NULL)
        memset(p, 0, (size_t)(n > 0 ? n : 1) * sizeof *p);
    return p;
}

int trainflat_make(struct trainer *t, struct err *err)
{
    for (int g = 0; g < t->task.n_groups; g++) {
        struct train_flat *f = &t->flat[g];
        size_t n = (size_t)count_params(&t->task, g) + 1;
        f->param = calloc(n, sizeof *f->param);
        f->begin = calloc(n, sizeof *f->begin);
        f->prefix = calloc(n, sizeof *f->prefix);
        f->decays = calloc(n, sizeof *f->decays);
        f->whole = calloc(n, sizeof *f->whole);
        f->chunk_of = calloc(n, sizeof *f->chunk_of);
        if (f->param == NULL || f->begin == NULL || f->prefix == NULL || f->decays == NULL ||
            f->whole == NULL || f->chunk_of == NULL)
            return err_set(err, ERR_NOMEM, "no memory for the optimiser");
        list_params(&t->task, g, f);
        TRY(make_chunks(f, err));
    }
    return ERR_OK;
}

int64_t trainflat_longest(const struct trainer *t)
{
    int64_t longest = 1;
    for (int g = 0; g < t->task.n_groups; g++)
        longest = t->flat[g].n > longest ? t->flat[g].n : longest;
    return longest;
}

/* Shares are whole chunks: a rank knows the squares of its own, and their sum does not depend on borders. */
static int make_shares(struct train_flat *f, int self, int n_ranks, struct err *err)
{
    f->share = calloc((size_t)n_ranks + 1, sizeof *f->share);
    f->border = calloc((size_t)n_ranks + 1, sizeof *f->border);
    if (f->share == NULL || f->border == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the optimiser");
    for (int i = 1, at = 0; i <= n_ranks; i++) {
        while (at < f->n_chunks && f->chunk[at].at < f->n * i / n_ranks)
            at++;
        f->share[i] = at;
        f->border[i] = at < f->n_chunks ? f->chunk[at].at : f->n;
    }
    f->lo = f->border[self];
    f->hi = f->border[self + 1];
    return ERR_OK;
}

/* Numbers [begin, end) of parameter k that lie in [lo, hi), from where on in the parameter. */
static int64_t overlap(const struct train_flat *f, int k, int64_t lo, int64_t hi, int64_t *at)
{
    int64_t begin = f->begin[k] > lo ? f->begin[k] : lo;
    int64_t end = f->begin[k + 1] < hi ? f->begin[k + 1] : hi;
    *at = begin - f->begin[k];
    return end > begin ? end - begin : 0;
}

/* Numbers [lo, hi) of the row between the parameters and dense (its first number is lo's). */
static void copy_row(const struct train_flat *f, int64_t lo, int64_t hi, float *dense, bool to_params)
{
    for (int k = 0; k < f->n_params; k++) {
        int64_t at, n = overlap(f, k, lo, hi, &at);
        if (n == 0)
            continue;
        float *p = f->param[k]->data + at, *d = dense + f->begin[k] + at - lo;
        memcpy(to_params ? p : d, to_params ? d : p, (size_t)n * sizeof *p);
    }
}

/* --- gradients */

struct flat_job {
    struct trainer *t;
    struct train_flat *f;
    int begin, end;             /* chunks */
    const struct adam_config *adam;
    double scale, ema;
};

/* Chunks [begin, end) of a job for thread i of n. */
static void chunk_share(const struct flat_job *j, int i, int n, int *begin, int *end)
{
    int64_t count = j->end - j->begin;
    *begin = j->begin + (int)(count * i / n);
    *end = j->begin + (int)(count * (i + 1) / n);
}

static void run_chunks(struct flat_job *j, team_job *job)
{
    if (j->end - j->begin > 1)
        team_run(&j->t->team, job, j);
    else
        job(j, 0, 1);
}

static void piece_chunks(void *ctx, int thread, int n_threads)
{
    const struct flat_job *j = ctx;
    const struct dpsync *s = &j->t->sync;
    int begin, end, n_piece = s->program.n_piece;
    chunk_share(j, thread, n_threads, &begin, &end);
    for (int i = begin; i < end; i++) {
        struct train_chunk c = j->f->chunk[i];
        const struct param *p = j->f->param[c.param];
        const float *grad = p->bound != NULL ? p->bound->grad : NULL;
        float *pieces = j->f->pieces + c.at;
        int64_t at = c.at - j->f->begin[c.param];
        if (grad != NULL && p->bound->folded)
            continue;       /* its pieces are in their place already */
        if (grad != NULL)
            dpsync_pieces(s, j->t->nn.kernels, grad + at, p->n, pieces, j->f->n, c.n);
        else
            for (int k = 0; k < n_piece; k++)
                memset(pieces + k * j->f->n, 0, (size_t)c.n * sizeof(float));
    }
}

/* The gradient of parameter k, as its pieces are now, goes to those who step it. */
static int give(struct trainer *t, struct train_flat *f, int k, struct err *err)
{
    struct flat_job j = {.t = t, .f = f, .begin = f->chunk_of[k], .end = f->chunk_of[k + 1]};
    if (!f->summing)
        sharesum_begin(&f->sum, f->pieces, f->n);
    f->summing = f->whole[k] = true;
    run_chunks(&j, piece_chunks);
    return sharesum_add(&f->sum, f->begin[k], f->param[k]->n, err);
}

static struct trainer *trainer_of(struct nn_sync *self)
{
    return (struct trainer *)((char *)self - offsetof(struct trainer, sync));
}

/* The parameter whose pieces have their place where g's are to go; NULL: g is no parameter. */
static struct train_flat *flat_of(struct trainer *t, const struct nn_tensor *g, int *k)
{
    for (int i = 0; i < t->task.n_groups; i++) {
        struct train_flat *f = &t->flat[i];
        uintptr_t at = (uintptr_t)g->fold_to - (uintptr_t)f->pieces;
        if (g->fold_to == NULL || at >= (uintptr_t)f->n * sizeof(float))
            continue;
        int low = 0, high = f->n_params;
        while (high - low > 1) {
            int mid = (low + high) / 2;
            *(f->begin[mid] * (int64_t)sizeof(float) <= (int64_t)at ? &low : &high) = mid;
        }
        *k = low;
        return f;
    }
    return NULL;
}

static void grad_whole(struct nn_sync *self, struct nn_tensor *g)
{
    struct trainer *t = trainer_of(self);
    int k;
    struct train_flat *f = flat_of(t, g, &k);
    if (f != NULL && !t->nn.failed)
        t->nn.failed = give(t, f, k, t->sync.err) != ERR_OK;
}

static void grad_look(struct nn_sync *self)
{
    struct trainer *t = trainer_of(self);
    for (int g = 0; g < t->task.n_groups && !t->nn.failed; g++)
        if (t->flat[g].summing)
            t->nn.failed = sharesum_look(&t->flat[g].sum, t->sync.err) != ERR_OK;
}

int trainflat_sum(struct trainer *t, int group, struct err *err)
{
    struct train_flat *f = &t->flat[group];
    struct flat_job all = {.t = t, .f = f, .end = f->n_chunks};
    if (t->nn.failed)
        return err_set(err, ERR_PEER, "a sum over the ranks failed");
    if (!t->sync.joined) {
        run_chunks(&all, piece_chunks);
        return ERR_OK;
    }
    for (int k = 0; k < f->n_params; k++)       /* those that the way back did not come to the end of */
        if (!f->whole[k])
            TRY(give(t, f, k, err));
    memset(f->whole, 0, (size_t)f->n_params * sizeof *f->whole);
    f->summing = false;
    return sharesum_finish(&f->sum, f->grad, err);
}

static struct flat_job own_chunks(struct trainer *t, int group)
{
    const int *share = t->flat[group].share + t->comm->self;
    return (struct flat_job){.t = t, .f = &t->flat[group], .begin = share[0], .end = share[1]};
}

static void square_chunks(void *ctx, int thread, int n_threads)
{
    const struct flat_job *j = ctx;
    int begin, end;
    chunk_share(j, thread, n_threads, &begin, &end);
    for (int i = begin; i < end; i++)
        j->f->squares[i] = optimizer_squares(j->f->grad + (j->f->chunk[i].at - j->f->lo), j->f->chunk[i].n);
}

/* A square is a double, which moves as two f32 numbers: nothing looks at them on the way. */
static int gather_squares(struct trainer *t, struct train_flat *f, struct err *err)
{
    int64_t counts[MESH_TP_MAX];
    for (int i = 0; i < t->comm->n_workers; i++)
        counts[i] = 2 * (int64_t)(f->share[i + 1] - f->share[i]);
    return reduce_gather(&t->sync.reduce, (float *)f->squares,
                         (const float *)(f->squares + f->share[t->comm->self]), counts, err);
}

int trainflat_squares(struct trainer *t, int group, double *sum, struct err *err)
{
    struct train_flat *f = &t->flat[group];
    struct flat_job j = own_chunks(t, group);
    run_chunks(&j, square_chunks);
    if (t->sync.joined)
        TRY(gather_squares(t, f, err));
    *sum = 0;
    for (int i = 0; i < f->n_chunks; i++)
        *sum += f->squares[i];
    return ERR_OK;
}

/* --- shares */

/* Weights whose gradients are folded as they come put them in their place of the flat row. */
static int place_pieces(struct trainer *t, struct train_flat *f, struct err *err)
{
    f->grad = row_of(f->hi - f->lo);
    f->pieces = t->sync.joined ? row_of(f->n * t->sync.program.n_piece) : f->grad;
    if (f->grad == NULL || f->pieces == NULL)
        return err_set(err, ERR_NOMEM, "no memory for sums of %lld gradients", (long long)f->n);
    for (int k = 0; k < f->n_params; k++) {
        f->param[k]->fold_to = f->pieces + f->begin[k];
        f->param[k]->fold_stride = f->n;
    }
    return ERR_OK;
}

int trainflat_share(struct trainer *t, const char *resume, struct err *err)
{
    if ((t->wire = row_of(trainflat_longest(t))) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the optimiser");
    for (int g = 0; g < t->task.n_groups; g++) {
        struct train_flat *f = &t->flat[g];
        TRY(make_shares(f, t->comm->self, t->comm->n_workers, err));
        f->m = row_of(f->hi - f->lo);
        f->v = row_of(f->hi - f->lo);
        f->ema = t->task.group[g].ema > 0 ? row_of(f->hi - f->lo) : NULL;
        if (f->m == NULL || f->v == NULL || (f->ema == NULL && t->task.group[g].ema > 0))
            return err_set(err, ERR_NOMEM, "no memory for the optimiser's state");
        if (f->ema != NULL)
            copy_row(f, f->lo, f->hi, f->ema, false);
        TRY(place_pieces(t, f, err));
        if (t->sync.joined)
            TRY(sharesum_init(&f->sum, t->comm, &t->sync.mesh, COMM_GRAD, f->border, t->sync.n_parts,
                              f->n_params, err));
    }
    t->sync.sync.whole = grad_whole;
    t->sync.sync.between = grad_look;
    return resume != NULL ? trainer_resume(t, resume, err) : ERR_OK;
}

void trainflat_free(struct trainer *t)
{
    for (int g = 0; g < TRAIN_GROUPS_MAX; g++) {
        struct train_flat *f = &t->flat[g];
        free(f->param);
        free(f->begin);
        free(f->prefix);
        free(f->decays);
        free(f->chunk);
        free(f->chunk_of);
        free(f->share);
        free(f->border);
        free(f->whole);
        free(f->squares);
        sharesum_free(&f->sum);
        if (f->pieces != f->grad)
            free(f->pieces);
        free(f->grad);
        free(f->m);
        free(f->v);
        free(f->ema);
        memset(f, 0, sizeof *f);
    }
    free(t->wire);
    t->wire = NULL;
}

/* --- the step */

static void adam_chunks(void *ctx, int thread, int n_threads)
{
    const struct flat_job *j = ctx;
    const struct train_flat *f = j->f;
    int begin, end;
    chunk_share(j, thread, n_threads, &begin, &end);
    for (int i = begin; i < end; i++) {
        struct train_chunk c = f->chunk[i];
        struct adam_config a = *j->adam;
        int64_t at = c.at - f->lo;
        a.decay = f->decays[c.param] ? a.decay : 0;
        float *p = f->param[c.param]->data + (c.at - f->begin[c.param]);
        adam_step(&a, f->updates + 1, j->scale, p, f->grad + at, f->m + at, f->v + at, c.n);
        if (f->ema != NULL)
            optimizer_ema(f->ema + at, p, j->ema, c.n);
    }
}

void trainflat_adam(struct trainer *t, int group, const struct adam_config *c, double scale)
{
    struct flat_job j = own_chunks(t, group);
    j.adam = c;
    j.scale = scale;
    j.ema = t->task.group[group].ema;
    run_chunks(&j, adam_chunks);
}

static void shares_of(const struct trainer *t, const struct train_flat *f, int64_t *counts)
{
    for (int i = 0; i < t->comm->n_workers; i++)
        counts[i] = f->border[i + 1] - f->border[i];
}

int trainflat_gather(struct trainer *t, int group, struct err *err)
{
    struct train_flat *f = &t->flat[group];
    int64_t counts[MESH_TP_MAX];
    if (!t->sync.joined)
        return ERR_OK;
    shares_of(t, f, counts);
    copy_row(f, f->lo, f->hi, t->wire + f->lo, false);
    TRY(reduce_gather(&t->sync.reduce, t->wire, t->wire + f->lo, counts, err));
    copy_row(f, 0, f->lo, t->wire, true);
    copy_row(f, f->hi, f->n, t->wire + f->hi, true);
    return ERR_OK;
}

int trainflat_collect(struct trainer *t, int group, const float *mine, struct err *err)
{
    const struct train_flat *f = &t->flat[group];
    int64_t counts[MESH_TP_MAX];
    if (!t->sync.joined) {
        memcpy(t->wire, mine, (size_t)f->n * sizeof *mine);
        return ERR_OK;
    }
    shares_of(t, f, counts);
    return reduce_collect(&t->sync.reduce, 0, t->wire, mine, counts, err);
}

/* --- averages */

/* The twin of a set: its names and numbers. */
static int copy_set(struct params *to, const struct params *from, struct err *err)
{
    if (to->n == 0)
        for (int i = 0; i < from->n; i++)
            if (params_add(to, from->p[i].name, from->p[i].n_dims, from->p[i].shape) == NULL)
                return err_set(err, ERR_NOMEM, "no memory for averages of weights");
    for (int i = 0; i < from->n; i++)
        memcpy(to->p[i].data, from->p[i].data, (size_t)from->p[i].n * sizeof(float));
    return ERR_OK;
}

/* t->wire into the twins of a group's weights. */
static void spread(struct trainer *t, int group)
{
    const struct train_flat *f = &t->flat[group];
    for (int s = 0, k = 0; s < t->task.n_sets; s++) {
        const struct params *own = &t->task.set[s].params;
        for (int i = 0; i < own->n && t->task.set[s].group == group; i++)
            if (!own->p[i].frozen) {
                memcpy(t->average[s].p[i].data, t->wire + f->begin[k], (size_t)own->p[i].n * sizeof(float));
                k++;
            }
    }
}

int trainflat_average(struct trainer *t, struct train_weights *w, struct err *err)
{
    for (int s = 0; s < t->task.n_sets && t->comm->self == 0; s++) {
        TRY(copy_set(&t->average[s], &t->task.set[s].params, err));
        w->set[s] = &t->average[s];
    }
    for (int g = 0; g < t->task.n_groups; g++) {
        if (t->flat[g].ema == NULL)
            continue;
        TRY(trainflat_collect(t, g, t->flat[g].ema, err));
        if (t->comm->self == 0)
            spread(t, g);
    }
    return ERR_OK;
}
