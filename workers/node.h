/* node.h - what this rank can do: cores and binding, memory, instruction set, bandwidth, links.
 * Why:    the coordinator plans from what nodes say of themselves, and `doctor` shows the usual
 *         mistakes.
 * Owner:  strings of the report live in the caller's node_facts.
 * Ranks:  not collective, except node_links. */
#ifndef MUSTER_NODE_H
#define MUSTER_NODE_H

#include "muster.pb-c.h"
#include "proto/comm.h"
#include "workers/kernels/kernels.h"

enum { NODE_RATES_MAX = 96 };

struct node_facts {
    char host[128], blas[160], cpu[128], binding[128], interface[64], refused[256], version[32];
    char *refused_list[1];
    enum isa isa;
    int cores, cores_host, threads, numa_nodes, local_ranks;
    bool blas_invariant;
    uint64_t memory_free, memory_total, rss_start;
    double memory_bw, sgemm_flops;
    double cpu_quota;           /* cores' worth of time, 0 no limit */
    Muster__Rate rate[NODE_RATES_MAX], *rates[NODE_RATES_MAX]; int n_rates;     /* noderates.h */
    double prepare_s, prepare_prompt_s;
    Muster__LayerCost layer; bool has_layer;
    Muster__Link *link, **links; int n_links;   /* malloc'd: node_facts_free */
};

/* Everything that takes no time: also the kernels' self-check. local_ranks: ranks of this host; they
 * share its cores where nobody bound them. ERR_INVAL for a MUSTER_ISA that cannot run here. */
int node_facts_init(struct node_facts *f, const char *version, int local_ranks, uint64_t rss_start,
                    struct err *err);
void node_facts_free(struct node_facts *f);

/* Reading and multiplying, with all threads of the rank; all ranks of a host measure at once, so each
 * gets its share. About 0.2 s. */
int node_measure(struct node_facts *f, struct err *err);

/* Ping-pong with every other worker (with the nearest ones, when there are many), in rounds of disjoint
 * pairs. Collective on all workers. */
int node_links(struct node_facts *f, struct comm *comm, struct err *err);

/* m points into f. */
void node_report(struct node_facts *f, int rank, Muster__NodeReport *m);

/* Most bytes that this process had resident so far, and has now. */
uint64_t node_rss_peak(void);
uint64_t node_rss(void);

#endif
