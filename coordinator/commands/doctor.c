/* doctor.c - who the ranks are, and the usual mistakes in how they were started. */
#include "coordinator/commands/command.h"

#include "coordinator/cluster/cluster.h"
#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OPT_JSON = 0x3000, OPT_QUICK };

struct options { struct err *err; bool json, quick; };

static const struct argp_option option_table[] = {
    {"json", OPT_JSON, NULL, 0, "Print JSON", 0},
    {"quick", OPT_QUICK, NULL, 0, "Do not measure bandwidth, products and links", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    (void)arg;
    switch (key) {
    case OPT_JSON: o->json = true; return 0;
    case OPT_QUICK: o->quick = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp doctor_argp = {
    .options = option_table, .parser = parse,
    .doc = "Says who the ranks are: host, cores, instruction sets, libraries, memory, links; and warns "
           "of the usual mistakes.\v"
           "Example:\n"
           "  mpirun -n 4 muster doctor"};

/* --- warnings: each one says what is wrong and what to do */

struct warnings { char text[64][280]; int n; };

__attribute__((format(printf, 2, 3)))
static void warn(struct warnings *w, const char *fmt, ...)
{
    va_list ap;
    if (w->n == 64)
        return;
    va_start(ap, fmt);
    vsnprintf(w->text[w->n++], sizeof w->text[0], fmt, ap);
    va_end(ap);
}

static bool same_host(const Muster__NodeReport *a, const Muster__NodeReport *b)
{
    return strcmp(a->host, b->host) == 0;
}

static bool first_of_host(const struct cluster *c, int rank)
{
    for (int i = 0; i < rank; i++)
        if (same_host(c->report[i], c->report[rank]))
            return false;
    return true;
}

static void check_cores(const struct cluster *c, int rank, struct warnings *w)
{
    const Muster__NodeReport *r = c->report[rank];
    int ranks = 0, threads = 0;
    for (int i = 0; i < c->n_workers; i++)
        if (same_host(c->report[i], r)) {
            ranks++;
            threads += (int)c->report[i]->threads;
        }
    if (r->cores == 1 && r->cores_host >= 2u * (unsigned)ranks)
        warn(w, "rank %d on %s is bound to one core of %u, with %d ranks there: start with mpirun "
                "--bind-to none, or --map-by slot:PE=%u", rank, r->host, r->cores_host, ranks,
             r->cores_host / (unsigned)ranks);
    if (first_of_host(c, rank) && (unsigned)ranks > r->cores_host)
        warn(w, "%s has %d ranks on %u cores: they take turns", r->host, ranks, r->cores_host);
    else if (first_of_host(c, rank) && (unsigned)threads > r->cores_host)
        warn(w, "%s has %d threads on %u cores: give ranks fewer with --threads", r->host, threads,
             r->cores_host);
}

static void check_quota(const struct cluster *c, int rank, struct warnings *w)
{
    const Muster__NodeReport *r = c->report[rank];
    if (r->cpu_quota > 0 && r->cpu_quota < r->threads)
        warn(w, "rank %d on %s has a cpu quota of %.2f cores for its %u threads: raise the container's "
                "limit, or give it a smaller part with --shares", rank, r->host, r->cpu_quota,
             r->threads);
}

static void check_kernels(const struct cluster *c, int rank, struct warnings *w)
{
    const Muster__NodeReport *r = c->report[rank], *first = c->report[0];
    for (size_t i = 0; i < r->n_refused; i++)
        warn(w, "rank %d on %s refused kernels that compute wrongly there: %s", rank, r->host,
             r->refused[i]);
    if (!r->blas_invariant)
        warn(w, "rank %d on %s: %s fails its check; our own kernel serves f32 products (is OpenBLAS older "
                "than the processor? OPENBLAS_CORETYPE picks a core)", rank, r->host, r->blas);
    if (strcmp(r->isa, first->isa) != 0)
        warn(w, "rank %d on %s has instruction set %s, rank 0 %s: all will use the smaller one", rank,
             r->host, r->isa, first->isa);
    if (r->memory_free > 0 && r->memory_free < r->memory_total / 10)
        warn(w, "rank %d on %s: only %.1f of %.1f GiB are free", rank, r->host,
             (double)r->memory_free / (1 << 30), (double)r->memory_total / (1 << 30));
}

/* A link between hosts that is much slower than its interface claims, or than a gigabit. */
static void check_links(const struct cluster *c, int rank, struct warnings *w)
{
    const Muster__NodeReport *r = c->report[rank];
    for (size_t i = 0; i < r->n_links; i++) {
        const Muster__Link *l = r->links[i];
        unsigned mbit = 0;
        if ((int)l->peer <= rank || (int)l->peer >= c->n_workers ||
            same_host(r, c->report[l->peer]))
            continue;
        if (sscanf(r->interface, "%*s %u", &mbit) == 1 && l->bytes_per_s * 8 < mbit * 1e6 / 4)
            warn(w, "the link from %s to %s moves %.2f Gbit/s, its interface %s could do more: a slower "
                    "one may be in use (--mca btl_tcp_if_include)", r->host, c->report[l->peer]->host,
                 l->bytes_per_s * 8e-9, r->interface);
        else if (l->bytes_per_s < 100e6)
            warn(w, "the link from %s to %s moves only %.2f Gbit/s: prefer --pp over --tp across it",
                 r->host, c->report[l->peer]->host, l->bytes_per_s * 8e-9);
    }
}

/* --- output */

static void print_text(const struct cluster *c, const struct warnings *w)
{
    for (int i = 0; i < c->n_workers; i++) {
        const Muster__NodeReport *r = c->report[i];
        printf("rank %d: %s, %s\n", i, r->host, r->cpu);
        printf("  cores %u of %u (%s), %u threads, %u NUMA node%s, instruction set %s\n", r->cores,
               r->cores_host, r->binding, r->threads, r->numa_nodes, r->numa_nodes == 1 ? "" : "s",
               r->isa);
        printf("  %s, tiles %s; muster %s\n", r->blas, r->blas_invariant ? "pass the check" : "refused",
               r->version);
        printf("  memory %.1f GiB free of %.1f", (double)r->memory_free / (1 << 30),
               (double)r->memory_total / (1 << 30));
        if (r->memory_bw > 0)
            printf(", reads %.1f GB/s; sgemm %.2f TFLOP/s", r->memory_bw * 1e-9,
                   r->sgemm_flops * 1e-12);
        printf("\n");
        if (r->interface[0] != '\0')
            printf("  network interface %s\n", r->interface);
        for (size_t k = 0; k < r->n_links; k++)
            printf("  to rank %u: %.1f us, %.2f GB/s\n", r->links[k]->peer, r->links[k]->latency_us,
                   r->links[k]->bytes_per_s * 1e-9);
    }
    for (int i = 0; i < w->n; i++)
        printf("warning: %s\n", w->text[i]);
    if (w->n == 0)
        printf("no complaints\n");
}

static json_t *rank_json(const Muster__NodeReport *r)
{
    json_t *links = json_array(), *refused = json_array();
    for (size_t k = 0; k < r->n_links; k++)
        json_array_append_new(links, json_pack("{s:i, s:f, s:f}", "peer", (int)r->links[k]->peer,
            "latency_us", r->links[k]->latency_us, "bytes_per_s", r->links[k]->bytes_per_s));
    for (size_t k = 0; k < r->n_refused; k++)
        json_array_append_new(refused, json_string(r->refused[k]));
    return json_pack("{s:i, s:s, s:s, s:s, s:i, s:i, s:s, s:i, s:i, s:s, s:s, s:b, s:I, s:I, s:f, s:f, "
                     "s:s, s:o, s:o}",
        "rank", (int)r->rank, "host", r->host, "cpu", r->cpu, "version", r->version,
        "cores", (int)r->cores, "cores_host", (int)r->cores_host, "binding", r->binding,
        "threads", (int)r->threads, "numa_nodes", (int)r->numa_nodes, "isa", r->isa, "blas", r->blas,
        "blas_invariant", (int)r->blas_invariant, "memory_free", (json_int_t)r->memory_free,
        "memory_total", (json_int_t)r->memory_total, "memory_bw", r->memory_bw,
        "sgemm_flops", r->sgemm_flops, "interface", r->interface, "links", links, "refused", refused);
}

static int print_json(const struct cluster *c, const struct warnings *w, struct err *err)
{
    json_t *ranks = json_array(), *list = json_array();
    for (int i = 0; i < c->n_workers; i++)
        json_array_append_new(ranks, rank_json(c->report[i]));
    for (int i = 0; i < w->n; i++)
        json_array_append_new(list, json_string(w->text[i]));
    json_t *root = json_pack("{s:o, s:o}", "ranks", ranks, "warnings", list);
    if (root == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the report");
    json_dumpf(root, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(root);
    return ERR_OK;
}

static int work(const struct options *o, struct cluster *c, struct err *err)
{
    static struct warnings w;
    w.n = 0;
    if (!o->quick)
        TRY(cluster_measure(c, false, err));
    for (int i = 0; i < c->n_workers; i++) {
        check_cores(c, i, &w);
        check_quota(c, i, &w);
        check_kernels(c, i, &w);
        check_links(c, i, &w);
    }
    if (o->json)
        TRY(print_json(c, &w, err));
    else
        print_text(c, &w);
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct cluster c;
    int rc = cluster_open(&c, comm, err);
    if (rc == ERR_OK)
        rc = work(options, &c, err);
    cluster_close(&c, rc, err);
    return rc;
}

const struct command command_doctor = {
    .name = "doctor", .summary = "Who the ranks are, and what is wrong with how they were started",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &doctor_argp, .run = run};
