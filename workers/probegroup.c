#include "workers/probegroup.h"

#include "proto/groupplan.h"
#include "proto/wire.h"

#include <string.h>

enum { MESSAGE_MAX = 4096, LEADER = 0 };

int probegroup_ranks(const struct probegroup *g) { return g->tp * g->pp; }

bool probegroup_shares(const struct probegroup *g, const struct imagepart *part)
{
    return probegroup_ranks(g) > 1 && imagepart_splits(part);
}

/* To all others: the part that is next; NULL: none. */
static int tell(struct probegroup *g, const char *name, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Job job = MUSTER__JOB__INIT;
    char *args[] = {(char *)(uintptr_t)name};
    job.name = (char *)"part";
    job.args = args;
    job.n_args = name != NULL;
    m.body_case = MUSTER__ENVELOPE__BODY_JOB;
    m.job = &job;
    for (int i = 1; i < probegroup_ranks(g); i++)
        TRY(wire_send(g->comm, i, COMM_CONTROL, &m, err));
    return ERR_OK;
}

static int load_share(struct probegroup *g, struct imagepart *part, struct err *err)
{
    struct arena mem;
    const struct groupplan p = {part->name, part->facts.layers, g->tp, g->pp, 1};
    TRY(groupplan_check(&p, g->comm->n_workers, imagepart_kind(part), part->name, err));
    if (arena_init(&mem, GROUPPLAN_ARENA) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for a plan");
    imagegroup_free(&g->group);
    Muster__Plan *plan = groupplan_lay(&p, &mem);
    int rc = plan == NULL ? err_set(err, ERR_NOMEM, "no memory for a plan")
                          : imagegroup_init(&g->group, g->comm, plan, part->facts.layers,
                                            part->facts.head_dim, err);
    arena_free(&mem);
    return rc == ERR_OK ? imagepart_load_share(part, &g->group.held, err) : rc;
}

int probegroup_agree(struct probegroup *g, int rc, struct err *err)
{
    int ranks[MESH_TP_MAX * MESH_PP_MAX];
    for (int i = 0; i < probegroup_ranks(g); i++)
        ranks[i] = i;
    return comm_agree(g->comm, ranks, probegroup_ranks(g), rc, err);
}

int probegroup_begin(struct probegroup *g, struct imagepart *part, struct err *err)
{
    TRY(tell(g, part->name, err));
    int rc = probegroup_agree(g, load_share(g, part, err), err);
    g->broken = rc != ERR_OK;
    return rc;
}

void probegroup_end(struct probegroup *g)
{
    struct err lost = {0};
    if (!g->broken)
        tell(g, NULL, &lost);   /* who does not hear it is gone */
    imagegroup_free(&g->group);
}

/* --- the others */

struct share {
    struct probegroup *g;
    struct imagepart *part;
    struct nn *nn;
    const Muster__ImageStep *step;
    int rc;
    struct err *err;
};

static void serve_step(void *arg)
{
    struct share *s = arg;
    s->rc = imagegroup_serve(&s->g->group, s->part, s->nn, s->step, LEADER, s->err);
}

/* The leader's next message; those of others stay where they are. */
static int hear(struct probegroup *g, struct arena *mem, Muster__Envelope **m, struct err *err)
{
    uint8_t bytes[MESSAGE_MAX];
    size_t n;
    arena_reset(mem);
    TRY(comm_recv(g->comm, LEADER, COMM_CONTROL, bytes, sizeof bytes, &n, err));
    return wire_unpack(bytes, n, mem, m, err);
}

static int next_part(struct share *s, struct imagemodel *m, const char *name, struct err *err)
{
    s->part = imagemodel_part(m, name);
    if (s->part == NULL || !imagepart_splits(s->part))
        return err_set(err, ERR_PEER, "rank %d sees another model: no part '%.40s' to share", LEADER, name);
    return probegroup_agree(s->g, load_share(s->g, s->part, err), err);
}

int probegroup_serve(struct probegroup *g, struct imagemodel *m, struct nn *nn, struct team *team,
                     struct err *err)
{
    struct share s = {.g = g, .nn = nn, .err = err};
    struct arena mem;
    int rc = ERR_OK;
    if (arena_init(&mem, 16 * MESSAGE_MAX) != ERR_OK)
        return err_set(err, ERR_NOMEM, "no memory for messages");
    for (bool more = true; more && rc == ERR_OK;) {
        Muster__Envelope *in = NULL;
        rc = hear(g, &mem, &in, err);
        if (rc != ERR_OK)
            break;
        if (in->body_case == MUSTER__ENVELOPE__BODY_JOB) {
            more = in->job->n_args > 0;
            rc = more ? next_part(&s, m, in->job->args[0], err) : ERR_OK;
        } else if (in->body_case == MUSTER__ENVELOPE__BODY_IMAGE_STEP && s.part != NULL) {
            s.step = in->image_step;
            team_enter(team, serve_step, &s);
            rc = s.rc;
        } else {
            rc = err_set(err, ERR_PEER, "rank %d sent message %d to a probe", LEADER, (int)in->body_case);
        }
    }
    imagegroup_free(&g->group);
    arena_free(&mem);
    return rc;
}
