#include "coordinator/cluster/imagecluster.h"

#include "proto/groupplan.h"
#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

/* A message beyond the next one's coming: once more, into what the cluster keeps. */
static int keep(struct cluster *c, const Muster__Envelope *m, Muster__Envelope **out, struct err *err)
{
    size_t n = wire_packed_size(m);
    uint8_t *bytes = arena_take(&c->keep, n);
    if (bytes == NULL)
        return err_set(err, ERR_LIMIT, "the model's description has %zu bytes: too many", n);
    wire_pack(m, bytes);
    return wire_unpack(bytes, n, &c->keep, out, err);
}

static int unexpected(const Muster__Envelope *m, int peer, const char *doing, struct err *err)
{
    return err_set(err, ERR_PEER, "rank %d sent message %d while %s", peer, (int)m->body_case, doing);
}

/* Every worker has opened the same folder. */
static int check_digest(const struct cluster *c, const Muster__FileDigest *first,
                        const Muster__FileDigest *d, const char *path, struct err *err)
{
    if (d->size == first->size && d->hash == first->hash)
        return ERR_OK;
    return err_set(err, ERR_FORMAT, "rank %u on %s sees another %s than rank 0 on %s", d->rank,
                   c->report[d->rank]->host, path, c->report[0]->host);
}

int imagecluster_describe(struct imagecluster *i, struct cluster *c, const char *path, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *answer, *kept;
    Muster__ImageDescribe d = MUSTER__IMAGE_DESCRIBE__INIT;
    Muster__FileDigest *digest = arena_take_zeroed(&c->keep, (size_t)c->n_workers * sizeof *digest);
    int peer, n = 0;
    i->cluster = c;
    i->spec = NULL;
    if (digest == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the coordinator");
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_DESCRIBE;
    m.image_describe = &d;
    d.path = (char *)(uintptr_t)path;
    TRY(cluster_send_all(c, true, &m, err));
    while (n < c->n_workers || i->spec == NULL) {
        TRY(cluster_wait(c, "waiting for the model's description", &peer, &answer, err));
        if (answer->body_case == MUSTER__ENVELOPE__BODY_IMAGE_SPEC && peer == 0 && i->spec == NULL) {
            TRY(keep(c, answer, &kept, err));
            i->spec = kept->image_spec;
        } else if (answer->body_case == MUSTER__ENVELOPE__BODY_FILE_DIGEST && peer < c->n_workers) {
            digest[peer].size = answer->file_digest->size;
            digest[peer].hash = answer->file_digest->hash;
            digest[peer].rank = (uint32_t)peer;
            n++;
        } else {
            return unexpected(answer, peer, "describing the model", err);
        }
    }
    for (int w = 1; w < c->n_workers; w++)
        TRY(check_digest(c, &digest[0], &digest[w], path, err));
    c->n_used = c->n_workers;
    for (int w = 0; w < c->n_workers; w++)
        c->used[w] = w;
    return ERR_OK;
}

/* Groups in order, two by two where guidance is shared; a replica is known by its leaders. */
static int lay_replicas(struct imagecluster *i, const struct imagecluster_load *l, int n_groups,
                        Muster__ImageLoad *load, struct err *err)
{
    struct arena *mem = &i->cluster->keep;
    int each = l->guidance_parallel ? 2 : 1;
    size_t most = (size_t)n_groups;
    Muster__ImageReplica *r = arena_take(mem, most * sizeof *r);
    Muster__ImageReplica **list = arena_take(mem, most * sizeof *list);
    uint32_t *leader = arena_take(mem, most * sizeof *leader);
    i->rank = arena_take(mem, most * sizeof *i->rank);
    if (r == NULL || list == NULL || leader == NULL || i->rank == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the coordinator");
    i->n_replicas = 0;
    for (int g = 0; g < n_groups; g++)
        leader[g] = (uint32_t)(g * l->tp * l->pp);
    for (int g = 0; g < n_groups; g += each) {
        int k = i->n_replicas++;
        muster__image_replica__init(list[k] = &r[k]);
        r[k].ranks = &leader[g];
        r[k].n_ranks = (size_t)(n_groups - g < each ? n_groups - g : each);
        i->rank[k] = (int)leader[g];
    }
    load->replicas = list;
    load->n_replicas = (size_t)i->n_replicas;
    return ERR_OK;
}

static int lay_out(struct imagecluster *i, const struct imagecluster_load *l, Muster__ImageLoad *load,
                   struct err *err)
{
    int n = i->cluster->n_workers, layers = (int)i->spec->layers, group = l->tp * l->pp;
    struct groupplan g = {"denoiser", layers, l->tp, l->pp, 1};
    TRY(groupplan_check(&g, n, i->spec->kind, i->spec->name, err));
    g.layers = layers > 0 ? layers : 1;
    g.groups = n / group;
    load->plan = groupplan_lay(&g, &i->cluster->keep);
    if (load->plan == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the coordinator");
    return lay_replicas(i, l, n / group, load, err);
}

int imagecluster_load(struct imagecluster *i, const struct imagecluster_load *l, struct err *err)
{
    struct cluster *c = i->cluster;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *answer;
    Muster__ImageLoad load = MUSTER__IMAGE_LOAD__INIT;
    struct cluster_kernels kernels;
    TRY(cluster_kernels(c, &kernels, err));
    TRY(lay_out(i, l, &load, err));
    load.isa = (char *)(uintptr_t)kernels.isa;
    load.refused = kernels.refused;
    load.blas_tiles = kernels.blas_tiles;
    load.threads = (uint32_t)l->threads;
    load.slots = (uint32_t)l->slots;
    load.sink = l->sink;
    load.compute = l->compute != NULL ? (char *)(uintptr_t)l->compute : load.compute;
    i->slots = l->slots;
    m.body_case = MUSTER__ENVELOPE__BODY_IMAGE_LOAD;
    m.image_load = &load;
    TRY(cluster_send_all(c, true, &m, err));
    for (int n = 0; n < c->n_workers; n++) {
        int peer;
        TRY(cluster_wait(c, "loading the model", &peer, &answer, err));
        if (answer->body_case != MUSTER__ENVELOPE__BODY_LOADED)
            return unexpected(answer, peer, "loading", err);
    }
    return ERR_OK;
}

int imagecluster_send(struct imagecluster *i, int replica, Muster__Envelope *m, struct err *err)
{
    return cluster_send(i->cluster, i->rank[replica], m, err);
}

int imagecluster_replica(const struct imagecluster *i, int rank)
{
    for (int k = 0; k < i->n_replicas; k++)
        if (i->rank[k] == rank)
            return k;
    return -1;
}
