#include "coordinator/plan/planfile.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

enum { LIST_MAX = 65536 };      /* more networks, stages or ranks than any machine has */

static int bad(const char *path, const char *what, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: not a plan: %s", path, what);
}

static int numbers(const char *path, const json_t *list, struct arena *mem, uint32_t **out, size_t *n,
                   struct err *err)
{
    *n = json_array_size(list);
    if (!json_is_array(list) || *n == 0 || *n > LIST_MAX)
        return bad(path, "layers, ranks and segment_end are arrays of numbers", err);
    if ((*out = arena_take(mem, *n * sizeof **out)) == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    for (size_t i = 0; i < *n; i++) {
        const json_t *x = json_array_get(list, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > LIST_MAX)
            return bad(path, "layers, ranks and segment_end are arrays of small numbers", err);
        (*out)[i] = (uint32_t)json_integer_value(x);
    }
    return ERR_OK;
}

static int read_stage(const char *path, const json_t *j, Muster__StagePlan **out, struct arena *mem,
                      struct err *err)
{
    Muster__StagePlan *s = arena_take(mem, sizeof *s);
    uint32_t *layers;
    size_t n_layers;
    if (s == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    muster__stage_plan__init(s);
    TRY(numbers(path, json_object_get(j, "layers"), mem, &layers, &n_layers, err));
    if (n_layers != 2)
        return bad(path, "\"layers\" is [begin, end]", err);
    s->layer_begin = layers[0];
    s->layer_end = layers[1];
    TRY(numbers(path, json_object_get(j, "ranks"), mem, &s->ranks, &s->n_ranks, err));
    TRY(numbers(path, json_object_get(j, "segment_end"), mem, &s->segment_end, &s->n_segment_end,
                err));
    *out = s;
    return ERR_OK;
}

/* Room for a list of pointers of a JSON array; ERR_FORMAT when it is none. */
static int list_room(const char *path, const json_t *list, const char *name, struct arena *mem,
                     void *out, size_t *n, struct err *err)
{
    *n = json_array_size(list);
    if (!json_is_array(list) || *n == 0 || *n > LIST_MAX)
        return bad(path, name, err);
    void **room = arena_take_zeroed(mem, *n * sizeof *room);
    if (room == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    memcpy(out, &room, sizeof room);
    return ERR_OK;
}

static int read_replica(const char *path, const json_t *j, Muster__ReplicaPlan **out,
                        struct arena *mem, struct err *err)
{
    Muster__ReplicaPlan *r = arena_take(mem, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    muster__replica_plan__init(r);
    const json_t *stages = json_object_get(j, "stages");
    TRY(list_room(path, stages, "\"stages\" is missing", mem, &r->stages, &r->n_stages, err));
    for (size_t i = 0; i < r->n_stages; i++)
        TRY(read_stage(path, json_array_get(stages, i), &r->stages[i], mem, err));
    *out = r;
    return ERR_OK;
}

static int read_network(const char *path, const json_t *j, Muster__NetworkPlan **out,
                        struct arena *mem, struct err *err)
{
    Muster__NetworkPlan *n = arena_take(mem, sizeof *n);
    if (n == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    muster__network_plan__init(n);
    n->name = (char *)"lm";
    const json_t *reps = json_object_get(j, "replicas");
    TRY(list_room(path, reps, "\"replicas\" is missing", mem, &n->replicas, &n->n_replicas, err));
    n->dp = (uint32_t)n->n_replicas;
    for (size_t i = 0; i < n->n_replicas; i++)
        TRY(read_replica(path, json_array_get(reps, i), &n->replicas[i], mem, err));
    *out = n;
    return ERR_OK;
}

static int read_json(const char *path, const json_t *root, Muster__Plan **out, struct arena *mem,
                     struct err *err)
{
    Muster__Plan *p = arena_take(mem, sizeof *p);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    muster__plan__init(p);
    const json_t *nets = json_object_get(root, "networks");
    TRY(list_room(path, nets, "\"networks\" is missing", mem, &p->networks, &p->n_networks, err));
    for (size_t i = 0; i < p->n_networks; i++)
        TRY(read_network(path, json_array_get(nets, i), &p->networks[i], mem, err));
    *out = p;
    return ERR_OK;
}

int planfile_read(const char *path, Muster__Plan **plan, struct arena *mem, struct err *err)
{
    json_error_t e;
    errno = 0;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (root == NULL && errno != 0 && e.line < 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (root == NULL)
        return err_set(err, ERR_FORMAT, "%s: line %d: %s", path, e.line, e.text);
    int rc = read_json(path, root, plan, mem, err);
    json_decref(root);
    return rc;
}

/* --- writing */

static json_t *json_numbers(const uint32_t *v, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(v[i]));
    return list;
}

static json_t *json_replica(const Muster__ReplicaPlan *r)
{
    json_t *stages = json_array();
    for (size_t i = 0; i < r->n_stages; i++) {
        const Muster__StagePlan *s = r->stages[i];
        uint32_t layers[2] = {s->layer_begin, s->layer_end};
        json_t *stage = json_object();
        json_object_set_new(stage, "layers", json_numbers(layers, 2));
        json_object_set_new(stage, "ranks", json_numbers(s->ranks, s->n_ranks));
        json_object_set_new(stage, "segment_end", json_numbers(s->segment_end, s->n_segment_end));
        json_array_append_new(stages, stage);
    }
    return json_pack("{s:o}", "stages", stages);
}

static json_t *json_plan(const Muster__Plan *plan)
{
    json_t *nets = json_array();
    for (size_t i = 0; i < plan->n_networks; i++) {
        json_t *reps = json_array();
        for (size_t k = 0; k < plan->networks[i]->n_replicas; k++)
            json_array_append_new(reps, json_replica(plan->networks[i]->replicas[k]));
        json_array_append_new(nets, json_pack("{s:s, s:o}", "name", plan->networks[i]->name,
                                              "replicas", reps));
    }
    return json_pack("{s:o}", "networks", nets);
}

char *planfile_text(const Muster__Plan *plan)
{
    json_t *root = json_plan(plan);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
    json_decref(root);
    return text;
}
