/* plancommand.c - `muster plan`: does a model fit some nodes, who would hold what, and how fast would it be?
 * Nothing is loaded, and the nodes need not exist. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/nodespec.h"
#include "coordinator/commands/planreport.h"
#include "coordinator/commands/session.h"
#include "coordinator/commands/shapes.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { OPT_NODES = 0x3000, OPT_LINK, OPT_TYPE, OPT_JSON, OPT_MEASURE, OPT_PROMPT, OPT_DEPTH };
enum { CONTEXT_DEFAULT = 4096, CHUNK_DEFAULT = 512, NODES_SEARCHED = 1024 };

struct options {
    struct err *err;
    struct model_args model;
    struct nodespec nodes;              /* n_groups 0: the ranks there are */
    struct nodespec_link link;
    const char *type;
    int prompt, depth;
    bool json, measure, published;
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "Nodes:", 0},
    {"nodes", OPT_NODES, "SPEC", 0, "Nodes to plan for, as 'cores=32,mem=64G,bw=80G*8'; keys cores, mem, bw "
                                    "(reading memory, bytes/s), flops (of f32 products), ranks (of a node); "
                                    "groups with ; between (default: the ranks there are, measured)", 0},
    {"link", OPT_LINK, "NAME", 0, "Network between them: 1GbE to 200GbE, ib-edr, ib-hdr, ib-ndr, or "
                                  "'latency=30us,bw=1.1G' (default 10GbE)", 0},
    {"measure", OPT_MEASURE, NULL, 0, "What --nodes does not say is as on this machine", 0},
    {NULL, 0, NULL, 0, "What to predict:", 0},
    {"type", OPT_TYPE, "TYPE", 0, "As if the matrices were of this type, as q4_k", 0},
    {"prompt", OPT_PROMPT, "N", 0, "Tokens of the prompt (default 512)", 0},
    {"depth", OPT_DEPTH, "N", 0, "Tokens before the one that is generated (default: half of --ctx)", 0},
    {"json", OPT_JSON, NULL, 0, "Print JSON, with all layouts", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        o->prompt = CHUNK_DEFAULT;
        model_args_begin(&o->model, o->err, state);
        return nodespec_parse_link(&o->link, "10GbE", o->err) == ERR_OK ? 0 : EINVAL;
    case ARGP_KEY_ARG:
        if (o->model.model != NULL)
            return ARGP_ERR_UNKNOWN;
        o->model.model = arg;
        return 0;
    case OPT_NODES: return nodespec_parse(&o->nodes, arg, o->err) == ERR_OK ? 0 : EINVAL;
    case OPT_LINK: return nodespec_parse_link(&o->link, arg, o->err) == ERR_OK ? 0 : EINVAL;
    case OPT_MEASURE: o->measure = true; return 0;
    case OPT_TYPE: o->type = arg; return 0;
    case OPT_PROMPT: return cli_int(o->err, "--prompt", arg, 1, 1 << 24, &o->prompt);
    case OPT_DEPTH: return cli_int(o->err, "--depth", arg, 1, 1 << 24, &o->depth);
    case OPT_JSON: o->json = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp plan_argp = {
    .options = option_table, .parser = parse, .children = model_args_child, .args_doc = "[MODEL]",
    .doc = "Says who would hold what of a model, whether it fits, and how fast it would be. MODEL is "
           "as of -m, or the name of a published model of which no file is needed, as llama-3.1-70b.\v"
           "Example:\n"
           "  muster plan llama-3.1-70b --type q4_k --nodes 'cores=32,mem=64G,bw=80G*8' --link 10GbE"};

static int check(void *options, struct err *err)
{
    struct options *o = options;
    struct stat st;
    const char *name = o->model.model;
    o->published = name != NULL && stat(name, &st) != 0 && shapes_known(name);
    if (o->model.n_shares > 0)
        return err_set(err, ERR_INVAL, "plan knows no --shares: uneven nodes are groups of --nodes");
    if (o->model.plan_file != NULL || o->model.save_plan != NULL)
        return err_set(err, ERR_INVAL, "plan knows no --plan and --save-plan: generate has them");
    return ERR_OK;
}

/* --- the model and the nodes */

static int open_model(struct options *o, struct session *s, struct comm *comm, struct err *err)
{
    if (!o->published) {
        char names[512];
        if (session_open(s, comm, &o->model, SESSION_TENSORS, err) == ERR_OK)
            return o->type == NULL ? ERR_OK
                                   : shapes_retype(s->cluster.spec, o->type, &s->cluster.keep,
                                                   &s->cluster.spec, err);
        shapes_names(names, sizeof names);
        if (err != NULL && err->code == ERR_IO && o->model.model != NULL && s->cluster.spec == NULL)
            fprintf(stderr, "published shapes: %s\n", names);
        return err != NULL ? err->code : ERR_IO;
    }
    memset(s, 0, sizeof *s);
    TRY(cluster_open(&s->cluster, comm, err));
    snprintf(s->path, sizeof s->path, "%s", o->model.model);
    return shapes_spec(o->model.model, o->type, &s->cluster.keep, &s->cluster.spec, err);
}

static int find_nodes(const struct options *o, struct session *s, struct plan_request *q, struct err *err)
{
    struct cluster *c = &s->cluster;
    if (o->measure || o->nodes.n_groups == 0)
        TRY(cluster_measure(c, true, err));
    q->reports = c->report;
    q->n_ranks = c->n_workers;
    if (o->nodes.n_groups == 0)
        return ERR_OK;
    Muster__NodeReport **reports;
    TRY(nodespec_reports(&o->nodes, o->measure ? c->report[0] : NULL, &c->keep, &reports, &q->n_ranks,
                         err));
    q->reports = reports;
    return ERR_OK;
}

static int fill_request(const struct options *o, struct session *s, struct plan_request *q, struct err *err)
{
    const struct model_args *a = &o->model;
    int context;
    TRY(session_context(s, a, &context, err));
    if (a->context == 0 && context > CONTEXT_DEFAULT)
        context = CONTEXT_DEFAULT;
    int slots = a->batch > 0 ? a->batch : 1, chunk = a->chunk > 0 ? a->chunk : CHUNK_DEFAULT;
    int prompt = o->prompt < context ? o->prompt : context;
    *q = (struct plan_request){.spec = s->cluster.spec, .tp = a->tp, .pp = a->pp, .dp = a->dp,
        .slots = slots, .context = context, .page_tokens = CLUSTER_PAGE_TOKENS, .max_rows = chunk,
        .kv_block_bytes = cluster_kv_block_bytes(model_args_kv(a)), .memory_most = a->memory,
        .prompt = prompt, .depth = o->depth, .far_us = o->link.latency_us,
        .far_bytes_per_s = o->link.bytes_per_s};
    return find_nodes(o, s, q, err);
}

/* --- what would fit */

static bool fits(const struct plan_request *q, struct arena *mem)
{
    struct plan_candidate best;
    size_t mark = arena_mark(mem);
    int n = plan_list(&best, 1, q, false, mem, NULL);
    arena_release(mem, mark);
    return n > 0 && best.fits;
}

/* The smallest number of nodes like the first group's that the model fits; 0: none up to the limit. */
static int nodes_that_fit(const struct options *o, const struct session *s, struct plan_request q,
                          struct arena *mem)
{
    struct nodespec one = {.group = {o->nodes.group[0]}, .n_groups = 1};
    const Muster__NodeReport *like = o->measure ? s->cluster.report[0] : NULL;
    int low = 0, high = 1, ranks = one.group[0].ranks > 0 ? one.group[0].ranks : 1;
    for (bool found = false; high - low > 1 || !found;) {
        int n = found ? low + (high - low) / 2 : high;
        size_t mark = arena_mark(mem);
        Muster__NodeReport **reports;
        if (n * ranks > NODES_SEARCHED)
            return 0;
        one.group[0].count = n;
        if (nodespec_reports(&one, like, mem, &reports, &q.n_ranks, NULL) != ERR_OK)
            return 0;
        q.reports = reports;
        bool ok = fits(&q, mem);
        arena_release(mem, mark);
        if (ok)
            high = n;
        else
            low = n;
        if (!found && !ok)
            high = 2 * n;
        found = found || ok;
    }
    return high;
}

/* Appends "A, or B" to the message. */
static void suggest(char *list, size_t cap, const char *what)
{
    size_t used = strlen(list);
    snprintf(list + used, cap - used, "%s%s", used > 0 ? ", or " : "", what);
}

/* Replaces the planner's general advice by what was tried and fits. */
static int what_would_fit(const struct options *o, struct session *s, const struct plan_request *q,
                          const struct err *why, struct err *err)
{
    static const char *const types[] = {"q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k"};
    struct arena *mem = &s->cluster.keep;
    char list[160] = "", one[64];
    struct plan_request r = *q;
    if (o->nodes.n_groups > 0) {
        int n = nodes_that_fit(o, s, *q, mem);
        snprintf(one, sizeof one, "%d such nodes", n);
        if (n > 0)
            suggest(list, sizeof list, one);
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        Muster__ModelSpec *smaller;
        size_t mark = arena_mark(mem);
        if (shapes_retype(q->spec, types[i], mem, &smaller, err) != ERR_OK)
            return err->code;
        r.spec = smaller;
        bool ok = fits(&r, mem);
        arena_release(mem, mark);
        if (!ok)
            continue;
        snprintf(one, sizeof one, "--type %s here", types[i]);
        suggest(list, sizeof list, one);
        break;
    }
    r = *q;
    for (r.context = q->context / 2; r.context >= 256 && !fits(&r, mem);)
        r.context /= 2;
    snprintf(one, sizeof one, "--ctx %d", r.context);
    if (r.context >= 256)
        suggest(list, sizeof list, one);
    const char *end = strstr(why->msg, ": use about");
    int n = end != NULL ? (int)(end - why->msg) : (int)strlen(why->msg);
    return err_set(err, ERR_LIMIT, "%.*s; what would fit: %s", n < 150 ? n : 150, why->msg,
                   list[0] != '\0' ? list : "nothing that was tried");
}

/* --- the command */

static void nodes_text(const struct options *o, const struct plan_request *q, char *out, size_t cap)
{
    if (o->nodes.n_groups > 0) {
        nodespec_text(&o->nodes, out, cap);
        return;
    }
    const Muster__NodeReport *r = q->reports[0];
    snprintf(out, cap, "%d rank%s as measured; rank 0 on %.40s: %u threads, %.1f GB/s, %s", q->n_ranks,
             q->n_ranks > 1 ? "s" : "", r->host, r->threads, r->memory_bw * 1e-9, r->isa);
}

static int report(const struct options *o, struct session *s, const struct plan_request *q,
                  struct err *err)
{
    static const char *const kvs[] = {[0] = "f32", [1] = "f16", [8] = "q8_0"};
    static struct plan_candidate list[PLANREPORT_LIST];
    struct plan plan;
    struct err why = {0};
    char nodes[320], link[96];
    int rc = plan_choose(&plan, q, &s->cluster.keep, &why);
    if (rc == ERR_LIMIT)
        return what_would_fit(o, s, q, &why, err);
    if (rc != ERR_OK)
        return err_set(err, rc, "%s", why.msg);
    struct planreport r = {.model = s->path, .nodes = nodes, .link = link, .q = q, .plan = &plan,
        .list = list, .kv = kvs[model_args_kv(&o->model)]};
    nodes_text(o, q, nodes, sizeof nodes);
    snprintf(link, sizeof link, "%s (%.0f us, %.2f GB/s)", o->link.name, o->link.latency_us,
             o->link.bytes_per_s * 1e-9);
    if (o->nodes.n_groups == 0)
        link[0] = '\0';
    r.n_list = plan_list(list, PLANREPORT_LIST, q, true, &s->cluster.keep, NULL);
    return o->json ? planreport_json(&r, err) : planreport_text(&r, err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct options *o = options;
    struct session s;
    struct plan_request q;
    int rc = open_model(o, &s, comm, err);
    if (rc == ERR_OK)
        rc = fill_request(o, &s, &q, err);
    if (rc == ERR_OK)
        rc = report(o, &s, &q, err);
    return session_close(&s, rc, err);
}

const struct command command_plan = {
    .name = "plan", .summary = "Whether a model fits some nodes, who holds what, and how fast",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &plan_argp, .check = check,
    .run = run};
