#include "workers/workertrain.h"

#include "workers/kernels/linear.h"

#include <string.h>

enum { TENSORS_MAX = 8 };

bool workertrain_takes(const Muster__Envelope *m)
{
    return m->body_case == MUSTER__ENVELOPE__BODY_TRAIN_SETUP ||
           m->body_case == MUSTER__ENVELOPE__BODY_TRAIN_BATCH ||
           m->body_case == MUSTER__ENVELOPE__BODY_TRAIN_SAVE ||
           m->body_case == MUSTER__ENVELOPE__BODY_TRAIN_SAMPLE;
}

void workertrain_free(struct workertrain *w)
{
    if (w->open)
        trainer_close(&w->trainer);
    memset(w, 0, sizeof *w);
}

static int answer(struct comm *comm, Muster__Envelope *m, struct err *err)
{
    return wire_send(comm, comm_coordinator(comm), COMM_CONTROL, m, err);
}

/* --- setup */

static int setup(struct workertrain *w, const Muster__TrainSetup *s, struct comm *comm, int threads,
                 struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__TrainReady ready = MUSTER__TRAIN_READY__INIT;
    int isa = isa_named(s->isa);
    if (isa < 0 || (enum isa)isa > isa_detect())
        return err_set(err, ERR_PEER, "this rank cannot run instruction set '%.20s'", s->isa);
    if (s->threads > 4096)
        return err_set(err, ERR_PEER, "%u threads", s->threads);
    workertrain_free(w);
    linear_disable(s->refused, s->blas_tiles);
    struct trainer_options o = {.isa = (enum isa)isa, .threads = s->threads > 0 ? (int)s->threads : threads,
                                .resume = s->resume[0] != '\0' ? s->resume : NULL};
    TRY(trainer_open(&w->trainer, s->config, &o, comm, err));
    w->open = true;
    ready.rank = (uint32_t)comm->self;
    ready.step = (uint64_t)w->trainer.step;
    for (int g = 0; g < w->trainer.task.n_groups; g++)
        ready.parameters += (uint64_t)w->trainer.flat[g].n;
    ready.first = (uint32_t)w->trainer.first;
    ready.samples = (uint32_t)w->trainer.n_local;
    m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_READY;
    m.train_ready = &ready;
    return answer(comm, &m, err);
}

/* --- batches */

/* Shape, dtype and bytes agree, and the first axis counts the samples. */
static int take_tensor(const Muster__TrainTensor *from, size_t n_samples, struct train_tensor *to,
                       struct err *err)
{
    uint64_t n = 1;
    bool known = from->dtype == WIRE_F32 || from->dtype == WIRE_I32 || from->dtype == WIRE_U8;
    if (!known || from->n_shape < 1 || from->n_shape > WIRE_DIMS_MAX || from->shape[0] != n_samples)
        return err_set(err, ERR_PEER, "a batch's tensor %.40s has %zu dimensions of type %u for %zu samples",
                       from->name, from->n_shape, from->dtype, n_samples);
    *to = (struct train_tensor){.name = from->name, .dtype = (enum wire_dtype)from->dtype,
                                .n_dims = (int)from->n_shape, .data = from->data.data};
    for (size_t i = 0; i < from->n_shape; i++) {
        if (from->shape[i] < 1 || from->shape[i] > INT32_MAX || n > INT32_MAX)
            return err_set(err, ERR_PEER, "a batch's tensor %.40s is too large", from->name);
        n *= from->shape[i];
        to->shape[i] = (int64_t)from->shape[i];
    }
    if (from->data.len != wire_data_bytes(to->dtype, n))
        return err_set(err, ERR_PEER, "a batch's tensor %.40s has %zu bytes for %llu numbers", from->name,
                       from->data.len, (unsigned long long)n);
    return ERR_OK;
}

static int take_batch(const Muster__TrainBatch *from, struct train_tensor tensor[TENSORS_MAX],
                      struct train_batch *to, struct err *err)
{
    if (from->n_tensor > TENSORS_MAX || from->n_sample < 1 || from->n_sample > INT32_MAX)
        return err_set(err, ERR_PEER, "a batch of %zu samples with %zu tensors", from->n_sample,
                       from->n_tensor);
    for (size_t i = 0; i < from->n_tensor; i++)
        TRY(take_tensor(from->tensor[i], from->n_sample, &tensor[i], err));
    *to = (struct train_batch){.step = (int64_t)from->step, .n = (int)from->n_sample,
        .sample = from->sample, .tensor = tensor, .n_tensors = (int)from->n_tensor,
        .evaluate = from->evaluate};
    return ERR_OK;
}

static int send_progress(const struct train_metrics *metrics, const struct train_batch *b,
                         struct comm *comm, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__TrainProgress p = MUSTER__TRAIN_PROGRESS__INIT;
    Muster__TrainMetric metric[TRAIN_METRICS_MAX], *list[TRAIN_METRICS_MAX];
    for (int i = 0; i < metrics->n; i++) {
        muster__train_metric__init(list[i] = &metric[i]);
        metric[i].name = (char *)(uintptr_t)metrics->m[i].name;
        metric[i].value = metrics->m[i].value;
    }
    p.step = (uint64_t)b->step;
    p.evaluate = b->evaluate;
    p.n_metric = (size_t)metrics->n;
    p.metric = list;
    m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_PROGRESS;
    m.train_progress = &p;
    return answer(comm, &m, err);
}

static int batch(struct workertrain *w, const Muster__TrainBatch *from, struct comm *comm, struct err *err)
{
    struct train_tensor tensor[TENSORS_MAX];
    struct train_batch b;
    struct train_metrics metrics = {0};
    TRY(take_batch(from, tensor, &b, err));
    TRY(trainer_step(&w->trainer, &b, &metrics, err));
    return comm->self == 0 ? send_progress(&metrics, &b, comm, err) : ERR_OK;
}

/* --- files and previews */

static int save(struct workertrain *w, const Muster__TrainSave *s, struct comm *comm, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__TrainSaved saved = MUSTER__TRAIN_SAVED__INIT;
    if (s->kind == MUSTER__TRAIN_SAVE_KIND__TRAIN_CHECKPOINT)
        TRY(trainer_checkpoint(&w->trainer, s->path, err));
    else
        TRY(trainer_export(&w->trainer, s->path,
                           s->kind == MUSTER__TRAIN_SAVE_KIND__TRAIN_FOLDER_BF16 ? DT_BF16 : DT_F32, err));
    if (comm->self != 0)
        return ERR_OK;
    saved.step = s->step;
    saved.kind = s->kind;
    m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_SAVED;
    m.train_saved = &saved;
    return answer(comm, &m, err);
}

static int send_preview(const struct train_tensor *t, uint64_t step, struct comm *comm, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__TrainPreview p = MUSTER__TRAIN_PREVIEW__INIT;
    Muster__TrainTensor out = MUSTER__TRAIN_TENSOR__INIT, *list = &out;
    uint64_t shape[WIRE_DIMS_MAX], n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= shape[i] = (uint64_t)t->shape[i];
    out.name = (char *)(uintptr_t)t->name;
    out.dtype = (uint32_t)t->dtype;
    out.n_shape = (size_t)t->n_dims;
    out.shape = shape;
    out.data.data = (uint8_t *)(uintptr_t)t->data;
    out.data.len = wire_data_bytes(t->dtype, n);
    p.step = step;
    p.n_tensor = 1;
    p.tensor = &list;
    m.body_case = MUSTER__ENVELOPE__BODY_TRAIN_PREVIEW;
    m.train_preview = &p;
    return answer(comm, &m, err);
}

static int sample(struct workertrain *w, const Muster__TrainSample *s, struct comm *comm, struct err *err)
{
    struct train_tensor tensor[TENSORS_MAX], out = {0};
    struct train_batch b;
    if (s->batch == NULL)
        return err_set(err, ERR_PEER, "previews of nothing");
    TRY(take_batch(s->batch, tensor, &b, err));
    TRY(trainer_sample(&w->trainer, &b, &out, err));
    return comm->self == 0 ? send_preview(&out, s->batch->step, comm, err) : ERR_OK;
}

int workertrain_serve(struct workertrain *w, const Muster__Envelope *m, struct comm *comm, int threads,
                      struct err *err)
{
    if (m->body_case == MUSTER__ENVELOPE__BODY_TRAIN_SETUP)
        return setup(w, m->train_setup, comm, threads, err);
    if (!w->open)
        return err_set(err, ERR_PEER, "a batch came before the training was set up");
    if (m->body_case == MUSTER__ENVELOPE__BODY_TRAIN_BATCH)
        return batch(w, m->train_batch, comm, err);
    if (m->body_case == MUSTER__ENVELOPE__BODY_TRAIN_SAVE)
        return save(w, m->train_save, comm, err);
    return sample(w, m->train_sample, comm, err);
}
