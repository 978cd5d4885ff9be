/* nodespec.h - nodes and links that need not exist, from a line of text.
 * Form:   nodes: 'cores=32,mem=64G,bw=80G*8', groups with semicolons between; keys cores, mem, bw (reading,
 *         bytes per second), flops (f32 products), ranks (of a node). link: a name as 10GbE, or
 *         'latency=30us,bw=1.1G'.
 *         What is not said is 0 in the group.
 * Owner:  reports live in the caller's arena.
 * Ranks:  not collective. */
#ifndef MUSTER_NODESPEC_H
#define MUSTER_NODESPEC_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/err.h"

enum { NODESPEC_GROUPS_MAX = 16, NODESPEC_RANKS_MAX = 1024 };

struct nodespec_group { int count, cores, ranks; uint64_t memory; double bandwidth, flops; };
struct nodespec { struct nodespec_group group[NODESPEC_GROUPS_MAX]; int n_groups; };
struct nodespec_link { char name[48]; double latency_us, bytes_per_s; };

int nodespec_parse(struct nodespec *n, const char *text, struct err *err);
int nodespec_parse_link(struct nodespec_link *l, const char *text, struct err *err);

/* A report for each rank of the nodes. What a group does not say comes from `like` (a measured rank of this
 * machine; NULL: constants), whose rates count where neither cores nor bandwidth are said. */
int nodespec_reports(const struct nodespec *n, const Muster__NodeReport *like, struct arena *mem,
                     Muster__NodeReport ***reports, int *n_ranks, struct err *err);
/* As a phrase: "8 nodes of 32 cores, 64.0 GiB, 80.0 GB/s". */
void nodespec_text(const struct nodespec *n, char *out, size_t cap);

#endif
