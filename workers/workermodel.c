#include "workers/workermodel.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

static void drop_shard(struct workermodel *m)
{
    decoder_destroy(m->decoder);
    m->decoder = NULL;
    decoder_weights_free(&m->weights);
    m->held = 0;
}

void workermodel_free(struct workermodel *m)
{
    drop_shard(m);
    if (m->config_read)
        model_config_free(&m->config);
    if (m->file_open)
        tensorfile_close(&m->file);
    free(m->path);
    memset(m, 0, sizeof *m);
}

int workermodel_open(struct workermodel *m, const char *path, struct err *err)
{
    workermodel_free(m);
    if ((m->path = strdup(path)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    TRY(tensorfile_open(&m->file, path, err));
    m->file_open = true;
    return ERR_OK;
}

static int read_config(struct workermodel *m, struct err *err)
{
    if (m->config_read)
        return ERR_OK;
    if (!m->file_open)
        return err_set(err, ERR_PEER, "a model is loaded that was not described");
    TRY(model_config_read(&m->config, &m->file, m->path, err));
    m->config_read = true;
    return ERR_OK;
}

int workermodel_describe(struct workermodel *m, struct arena *mem, Muster__ModelSpec **spec,
                         struct err *err)
{
    TRY(read_config(m, err));
    return decoder_describe(&m->config, &m->file, mem, spec, err);
}

/* The layers that the plan covers: known even to a rank whose file is broken. */
static int plan_layers(const Muster__Plan *p)
{
    if (p == NULL || p->n_networks == 0 || p->networks[0]->n_replicas == 0 ||
        p->networks[0]->replicas[0]->n_stages == 0)
        return 0;
    const Muster__ReplicaPlan *r = p->networks[0]->replicas[0];
    return (int)r->stages[r->n_stages - 1]->layer_end;
}

static int read_options(struct decoder_options *o, const Muster__Load *l, int threads, struct err *err)
{
    int isa = isa_named(l->isa);
    if (isa < 0 || (enum isa)isa > isa_detect())
        return err_set(err, ERR_PEER, "this rank cannot run instruction set '%s'", l->isa);
    if (l->kv_dtype != DT_F32 && l->kv_dtype != DT_F16 && l->kv_dtype != DT_Q8_0)
        return err_set(err, ERR_PEER, "keys and values of type %u", l->kv_dtype);
    *o = (struct decoder_options){.isa = (enum isa)isa,
        .compute = strcmp(l->compute, "f32") == 0 ? COMPUTE_F32 : COMPUTE_DEFAULT,
        .kv_dtype = (enum dtype)l->kv_dtype, .wire = (enum wire_dtype)l->wire_dtype,
        .n_threads = threads, .max_rows = (int)l->max_rows, .max_slots = (int)l->max_slots,
        .max_context = (int)l->max_context, .page_tokens = (int)l->page_tokens,
        .kv_pages = (int)l->kv_pages};
    return ERR_OK;
}

static int make_decoder(struct workermodel *m, struct comm *comm, const struct decoder_options *o,
                        Muster__Loaded *done, struct err *err)
{
    struct decoder_sizes sizes;
    TRY(decoder_sizes(&m->config, &m->mesh, &m->weights, o, &sizes, err));
    TRY(decoder_new(&m->decoder, &m->config, &m->weights, &m->mesh, comm, o, err));
    done->weights_bytes = m->weights.bytes;
    done->kv_bytes = sizes.kv_bytes;
    done->scratch_bytes = sizes.scratch_bytes + sizes.state_bytes;
    return ERR_OK;
}

int workermodel_load(struct workermodel *m, const Muster__Load *l, struct comm *comm, int threads,
                     Muster__Loaded *done, struct err *err)
{
    struct decoder_options o;
    drop_shard(m);
    m->threads = threads;
    omp_set_num_threads(threads);
    linear_disable(l->refused, l->blas_tiles);
    TRY(mesh_init(&m->mesh, l->plan, 0, comm->self, comm->n_workers, plan_layers(l->plan), &m->held,
                  err));
    if (!m->held)
        return ERR_OK;
    int rc = read_options(&o, l, threads, err);
    if (rc == ERR_OK)
        rc = read_config(m, err);
    if (rc == ERR_OK && m->config.n_layers != plan_layers(l->plan))
        rc = err_set(err, ERR_PEER, "%s has %d layers, the plan %d", m->path, m->config.n_layers,
                     plan_layers(l->plan));
    TRY(comm_agree(comm, m->mesh.tp_ranks, m->mesh.tp, rc, err));
    uint64_t before = m->file.bytes_read;
    TRY(decoder_weights_load(&m->weights, &m->config, &m->file, &m->mesh, comm, NULL, NULL, err));
    done->file_bytes_read = m->file.bytes_read - before;
    done->shard_file_bytes = m->weights.file_bytes;
    done->seconds = m->weights.seconds;
    return make_decoder(m, comm, &o, done, err);
}

bool workermodel_samples(const struct workermodel *m)
{
    return m->held && m->mesh.tp_index == 0 && m->mesh.stage == m->mesh.n_stages - 1;
}
