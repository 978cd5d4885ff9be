#include "coordinator/cluster/imagecluster.h"

#include "proto/split.h"
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

/* Stage `stage` of group k: ranks in order, layers and segments as even as can be. */
static int lay_stage(const struct imagecluster_load *l, int layers, int k, int stage, Muster__StagePlan *s,
                     struct arena *mem)
{
    s->ranks = arena_take(mem, (size_t)l->tp * sizeof *s->ranks);
    s->segment_end = arena_take(mem, (size_t)l->tp * sizeof *s->segment_end);
    if (s->ranks == NULL || s->segment_end == NULL)
        return ERR_NOMEM;
    s->n_ranks = s->n_segment_end = (size_t)l->tp;
    s->layer_begin = (uint32_t)(layers * stage / l->pp);
    s->layer_end = (uint32_t)(layers * (stage + 1) / l->pp);
    for (int i = 0; i < l->tp; i++) {
        s->ranks[i] = (uint32_t)((k * l->pp + stage) * l->tp + i);
        s->segment_end[i] = (uint32_t)split_even(split_leaves(l->tp), l->tp, i).end;
    }
    return ERR_OK;
}

static int lay_group(const struct imagecluster_load *l, int layers, int k, Muster__ReplicaPlan *r,
                     struct arena *mem)
{
    Muster__StagePlan *s = arena_take(mem, (size_t)l->pp * sizeof *s);
    r->stages = arena_take(mem, (size_t)l->pp * sizeof *r->stages);
    if (s == NULL || r->stages == NULL)
        return ERR_NOMEM;
    r->n_stages = (size_t)l->pp;
    for (int i = 0; i < l->pp; i++) {
        muster__stage_plan__init(r->stages[i] = &s[i]);
        TRY(lay_stage(l, layers, k, i, &s[i], mem));
    }
    return ERR_OK;
}

/* The plan of the denoiser: n groups of tp x pp ranks. */
static Muster__Plan *lay_plan(const struct imagecluster_load *l, int layers, int n, struct arena *mem)
{
    Muster__Plan *p = arena_take(mem, sizeof *p);
    Muster__NetworkPlan *net = arena_take(mem, sizeof *net), **list = arena_take(mem, sizeof *list);
    Muster__ReplicaPlan *r = arena_take(mem, (size_t)n * sizeof *r);
    Muster__ReplicaPlan **replicas = arena_take(mem, (size_t)n * sizeof *replicas);
    if (p == NULL || net == NULL || list == NULL || r == NULL || replicas == NULL)
        return NULL;
    muster__plan__init(p);
    muster__network_plan__init(*list = net);
    for (int k = 0; k < n; k++) {
        muster__replica_plan__init(replicas[k] = &r[k]);
        if (lay_group(l, layers, k, &r[k], mem) != ERR_OK)
            return NULL;
    }
    net->name = (char *)"denoiser";
    net->tp = (uint32_t)l->tp;
    net->pp = (uint32_t)l->pp;
    net->dp = (uint32_t)n;
    net->replicas = replicas;
    net->n_replicas = (size_t)n;
    p->networks = list;
    p->n_networks = 1;
    return p;
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
    if (group > 1 && layers == 0)
        return err_set(err, ERR_INVAL, "%s cannot be shared by ranks: leave --tp and --pp out",
                       i->spec->kind);
    if (l->pp > 1 && l->pp > layers)
        return err_set(err, ERR_INVAL, "--pp %d: %s has %d layers", l->pp, i->spec->name, layers);
    if (group > n)
        return err_set(err, ERR_INVAL, "--tp %d --pp %d wants %d ranks, there are %d", l->tp, l->pp, group,
                       n);
    load->plan = lay_plan(l, layers > 0 ? layers : 1, n / group, &i->cluster->keep);
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
