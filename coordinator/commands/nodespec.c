#include "coordinator/commands/nodespec.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double GIB = 1024.0 * 1024 * 1024;
static const int CORES_DEFAULT = 16;
static const uint64_t MEMORY_DEFAULT = (uint64_t)64 << 30;
static const double CORE_BYTES_PER_S = 4e9, CORE_FLOPS = 60e9;     /* with all cores at work */

/* What a message between two such hosts takes, our packing and the MPI library included. */
static const struct nodespec_link links[] = {
    {"1GbE", 50, 0.11e9}, {"10GbE", 30, 1.1e9}, {"25GbE", 20, 2.8e9}, {"40GbE", 18, 4.4e9},
    {"100GbE", 8, 11e9}, {"200GbE", 6, 22e9}, {"ib-edr", 4, 11e9}, {"ib-hdr", 3, 22e9},
    {"ib-ndr", 3, 44e9},
};

/* A number with K, M, G or T behind it, each `step` times the one before. */
static int scaled(const char *text, double step, double *out)
{
    static const char units[] = "KMGT";
    char *end;
    *out = strtod(text, &end);
    const char *u = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
    for (const char *p = units; u != NULL && p <= u; p++)
        *out *= step;
    end += u != NULL;
    return end != text && *end == '\0' && *out > 0 && *out < 1e18 ? ERR_OK : ERR_INVAL;
}

static int bad_node(const char *text, struct err *err)
{
    return err_set(err, ERR_INVAL, "--nodes wants groups like 'cores=32,mem=64G,bw=80G*8', not '%.80s'",
                   text);
}

/* "cores=32" into the group. */
static int parse_key(struct nodespec_group *g, const char *item, struct err *err)
{
    const char *value = strchr(item, '=');
    double v;
    size_t key = value != NULL ? (size_t)(value - item) : 0;
    bool binary = key == 3 && strncmp(item, "mem", 3) == 0;
    if (value == NULL || scaled(value + 1, binary ? 1024 : 1000, &v) != ERR_OK)
        return bad_node(item, err);
    if (binary)
        g->memory = (uint64_t)v;
    else if (key == 2 && strncmp(item, "bw", 2) == 0)
        g->bandwidth = v;
    else if (key == 5 && strncmp(item, "flops", 5) == 0)
        g->flops = v;
    else if (key == 5 && strncmp(item, "cores", 5) == 0 && v <= 4096)
        g->cores = (int)v;
    else if (key == 5 && strncmp(item, "ranks", 5) == 0 && v <= NODESPEC_RANKS_MAX)
        g->ranks = (int)v;
    else
        return err_set(err, ERR_INVAL, "--nodes knows cores, mem, bw, flops and ranks, not '%.60s'", item);
    return (g->cores == 0 && key == 5 && item[0] == 'c') || (g->ranks == 0 && item[0] == 'r')
               ? bad_node(item, err) : ERR_OK;
}

static int parse_group(struct nodespec_group *g, char *text, struct err *err)
{
    char *times = strrchr(text, '*'), *save, *end;
    *g = (struct nodespec_group){.count = 1};
    if (times != NULL) {
        long n = strtol(times + 1, &end, 10);
        if (end == times + 1 || *end != '\0' || n < 1 || n > NODESPEC_RANKS_MAX)
            return bad_node(text, err);
        g->count = (int)n;
        *times = '\0';
    }
    for (char *item = strtok_r(text, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save))
        TRY(parse_key(g, item, err));
    return ERR_OK;
}

int nodespec_parse(struct nodespec *n, const char *text, struct err *err)
{
    char copy[1024], *save;
    int ranks = 0;
    n->n_groups = 0;
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return bad_node(text, err);
    for (char *g = strtok_r(copy, ";", &save); g != NULL; g = strtok_r(NULL, ";", &save)) {
        if (n->n_groups == NODESPEC_GROUPS_MAX)
            return err_set(err, ERR_INVAL, "--nodes has more than %d groups", NODESPEC_GROUPS_MAX);
        struct nodespec_group *made = &n->group[n->n_groups++];
        TRY(parse_group(made, g, err));
        ranks += made->count * (made->ranks > 0 ? made->ranks : 1);
        if (ranks > NODESPEC_RANKS_MAX)
            return err_set(err, ERR_INVAL, "--nodes asks for more than %d ranks", NODESPEC_RANKS_MAX);
    }
    return n->n_groups > 0 ? ERR_OK : bad_node(text, err);
}

int nodespec_parse_link(struct nodespec_link *l, const char *text, struct err *err)
{
    char list[128] = "", bytes[32];
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        if (strcmp(links[i].name, text) == 0) {
            *l = links[i];
            return ERR_OK;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", links[i].name);
    }
    memset(l, 0, sizeof *l);
    snprintf(l->name, sizeof l->name, "%.40s", text);
    if (sscanf(text, "latency=%lfus,bw=%30s", &l->latency_us, bytes) == 2 && l->latency_us >= 0 &&
        l->latency_us < 1e6 && scaled(bytes, 1000, &l->bytes_per_s) == ERR_OK)
        return ERR_OK;
    return err_set(err, ERR_INVAL, "--link wants one of %s, or 'latency=30us,bw=1.1G', not '%.40s'", list,
                   text);
}

/* A rank of the group on host `host`. */
static Muster__NodeReport *make_rank(const struct nodespec_group *g, const Muster__NodeReport *like,
                                     int rank, int host, struct arena *mem)
{
    Muster__NodeReport *r = arena_take(mem, sizeof *r);
    char *name = arena_take(mem, 16);
    int ranks = g->ranks > 0 ? g->ranks : 1;
    if (r == NULL || name == NULL)
        return NULL;
    muster__node_report__init(r);
    snprintf(name, 16, "node%d", host);
    r->host = name;
    r->rank = (uint32_t)rank;
    int cores = g->cores > 0 ? g->cores : like != NULL ? (int)like->threads * ranks : CORES_DEFAULT;
    r->cores_host = (uint32_t)cores;
    r->threads = r->cores = (uint32_t)(cores / ranks > 0 ? cores / ranks : 1);
    r->memory_free = g->memory > 0 ? g->memory : like != NULL ? like->memory_free : MEMORY_DEFAULT;
    r->memory_total = r->memory_free;
    bool same = like != NULL && g->cores == 0 && ranks == 1;
    r->memory_bw = g->bandwidth > 0 ? g->bandwidth / ranks
                   : same && like->memory_bw > 0 ? like->memory_bw : CORE_BYTES_PER_S * r->threads;
    r->sgemm_flops = g->flops > 0 ? g->flops / ranks
                     : same && like->sgemm_flops > 0 ? like->sgemm_flops : CORE_FLOPS * r->threads;
    if (same && g->bandwidth <= 0 && g->flops <= 0) {
        r->n_rates = like->n_rates;
        r->rates = like->rates;
        r->layer = like->layer;
    }
    return r;
}

int nodespec_reports(const struct nodespec *n, const Muster__NodeReport *like, struct arena *mem,
                     Muster__NodeReport ***reports, int *n_ranks, struct err *err)
{
    Muster__NodeReport **list = arena_take(mem, NODESPEC_RANKS_MAX * sizeof *list);
    int rank = 0, host = 0;
    for (int g = 0; g < n->n_groups && list != NULL; g++)
        for (int i = 0; i < n->group[g].count; i++, host++)
            for (int k = 0; k < (n->group[g].ranks > 0 ? n->group[g].ranks : 1); k++, rank++)
                if ((list[rank] = make_rank(&n->group[g], like, rank, host, mem)) == NULL)
                    return err_set(err, ERR_NOMEM, "no memory for the nodes");
    *reports = list;
    *n_ranks = rank;
    return list != NULL ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the nodes");
}

void nodespec_text(const struct nodespec *n, char *out, size_t cap)
{
    out[0] = '\0';
    for (int i = 0; i < n->n_groups; i++) {
        const struct nodespec_group *g = &n->group[i];
        char part[160];
        int at = snprintf(part, sizeof part, "%s%d node%s", i > 0 ? "; " : "", g->count,
                          g->count > 1 ? "s" : "");
        const char *sep = " of ";
        if (g->cores > 0) {
            at += snprintf(part + at, sizeof part - (size_t)at, "%s%d cores", sep, g->cores);
            sep = ", ";
        }
        if (g->memory > 0) {
            at += snprintf(part + at, sizeof part - (size_t)at, "%s%.1f GiB", sep, (double)g->memory / GIB);
            sep = ", ";
        }
        if (g->bandwidth > 0) {
            at += snprintf(part + at, sizeof part - (size_t)at, "%s%.1f GB/s", sep, g->bandwidth * 1e-9);
            sep = ", ";
        }
        if (g->ranks > 1)
            snprintf(part + at, sizeof part - (size_t)at, "%s%d ranks", sep, g->ranks);
        snprintf(out + strlen(out), cap - strlen(out), "%s", part);
    }
}
