#include "workers/node.h"

#include "workers/kernels/linear.h"
#include "workers/kernels/membw.h"

#include <cblas.h>
#include <hwloc.h>
#include <ifaddrs.h>
#include <math.h>
#include <net/if.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BW_BYTES = 256 << 20,        /* past most last-level caches */
       BW_ROUNDS = 4, SGEMM_ROUNDS = 4, PING_ROUNDS = 40, PING_BYTES = 1 << 20, PING_BIG = 4,
       PEERS_MAX = 16 };            /* links measured of one rank */

/* --- files of the kernel */

/* The number after `key` in a file of "key value" lines; 0 when there is none. key "" is the start. */
static uint64_t number_in(const char *path, const char *key)
{
    char line[256];
    uint64_t v = 0;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    while (v == 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            v = strtoull(line + strlen(key), NULL, 10);
    fclose(f);
    return v;
}

static void read_memory(struct node_facts *f)
{
    f->memory_total = number_in("/proc/meminfo", "MemTotal:") * 1024;
    f->memory_free = number_in("/proc/meminfo", "MemAvailable:") * 1024;
    uint64_t most = number_in("/sys/fs/cgroup/memory.max", "");     /* "max": no limit, reads as 0 */
    uint64_t used = number_in("/sys/fs/cgroup/memory.current", "");
    if (most > 0 && most < f->memory_total) {
        f->memory_total = most;
        uint64_t left = most > used ? most - used : 0;
        f->memory_free = left < f->memory_free ? left : f->memory_free;
    }
}

static void read_cpu(struct node_facts *f)
{
    char line[256];
    FILE *in = fopen("/proc/cpuinfo", "r");
    while (in != NULL && f->cpu[0] == '\0' && fgets(line, sizeof line, in) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(f->cpu, sizeof f->cpu, "%.120s", colon + 2);
    }
    if (in != NULL)
        fclose(in);
}

/* Two numbers of files in a control group's folder, or in the first file alone. */
static bool read_pair(const char *folder, const char *first, const char *second, double *a, double *b)
{
    char path[512];
    snprintf(path, sizeof path, "/sys/fs/cgroup%.400s/%s", folder, first);
    FILE *f = fopen(path, "r");
    int n = f != NULL ? fscanf(f, "%lf %lf", a, b) : 0;
    if (f != NULL)
        fclose(f);
    if (n == 1 && second != NULL) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%.400s/%s", folder, second);
        f = fopen(path, "r");
        n += f != NULL ? fscanf(f, "%lf", b) : 0;
        if (f != NULL)
            fclose(f);
    }
    return n == 2 && *a > 0 && *b > 0;
}

/* Cores' worth of time that this process's control group may use: of the first hierarchy that says so;
 * 0 no limit. A container sees its own group as the root. */
static double cpu_quota(void)
{
    char line[512], folder[512];
    double quota, period, found = 0;
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f != NULL && found == 0 && fgets(line, sizeof line, f) != NULL) {
        char *names = strchr(line, ':'), *path = names != NULL ? strchr(names + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        bool cpu = strncmp(names, ":cpu", 4) == 0 && (names[4] == '\0' || names[4] == ',');
        snprintf(folder, sizeof folder, "%s%.400s", cpu ? "/cpu" : "", path);
        if (cpu && read_pair(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us", &quota, &period))
            found = quota / period;
        else if (names[1] == '\0' && read_pair(folder, "cpu.max", NULL, &quota, &period))
            found = quota / period;
    }
    if (f != NULL)
        fclose(f);
    if (found == 0 && (read_pair("", "cpu.max", NULL, &quota, &period) ||
                       read_pair("/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us", &quota, &period)))
        found = quota / period;
    return found;
}

static int count_inside(hwloc_topology_t t, hwloc_const_cpuset_t set, hwloc_obj_type_t type)
{
    int n = hwloc_get_nbobjs_inside_cpuset_by_type(t, set, type);
    return n > 0 ? n : 0;
}

static void read_cores(struct node_facts *f)
{
    hwloc_topology_t t;
    f->cores = f->cores_host = (int)sysconf(_SC_NPROCESSORS_ONLN);
    f->numa_nodes = 1;
    if (hwloc_topology_init(&t) != 0)
        return;
    hwloc_cpuset_t bound = hwloc_bitmap_alloc();
    if (bound != NULL && hwloc_topology_load(t) == 0 &&
        hwloc_get_cpubind(t, bound, HWLOC_CPUBIND_PROCESS) == 0) {
        hwloc_const_cpuset_t all = hwloc_topology_get_topology_cpuset(t);
        int cores = count_inside(t, bound, HWLOC_OBJ_CORE);
        int units = count_inside(t, bound, HWLOC_OBJ_PU);
        f->cores = cores > 0 ? cores : units > 0 ? units : 1;
        f->cores_host = count_inside(t, all, HWLOC_OBJ_CORE);
        if (f->cores_host < f->cores)
            f->cores_host = f->cores;
        int nodes = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
        f->numa_nodes = nodes > 0 ? nodes : 1;
        hwloc_bitmap_list_snprintf(f->binding, sizeof f->binding, bound);
    }
    hwloc_bitmap_free(bound);
    hwloc_topology_destroy(t);
}

/* Threads: the cores of the binding, shared among the ranks of the host where nobody bound them. */
static void choose_threads(struct node_facts *f)
{
    int cores = f->cores;
    f->cpu_quota = cpu_quota();
    if (f->cpu_quota > 0 && f->cpu_quota < cores)
        cores = (int)ceil(f->cpu_quota);
    if (f->cores == f->cores_host && f->local_ranks > 1)
        cores /= f->local_ranks;
    f->threads = cores > 0 ? cores : 1;
}

/* The first interface that is up and leaves the host, with its speed where the system tells. */
static void read_interface(struct node_facts *f)
{
    struct ifaddrs *list, *i;
    if (getifaddrs(&list) != 0)
        return;
    for (i = list; i != NULL; i = i->ifa_next)
        if (i->ifa_addr != NULL && (i->ifa_flags & IFF_UP) && !(i->ifa_flags & IFF_LOOPBACK))
            break;
    if (i != NULL) {
        char path[128];
        snprintf(path, sizeof path, "/sys/class/net/%.40s/speed", i->ifa_name);
        uint64_t speed = number_in(path, "");
        if (speed > 0 && speed < 10000000)
            snprintf(f->interface, sizeof f->interface, "%.40s %llu Mbit/s", i->ifa_name,
                     (unsigned long long)speed);
        else
            snprintf(f->interface, sizeof f->interface, "%.40s", i->ifa_name);
    }
    freeifaddrs(list);
}

/* The check switches kernels of the process on and off; a process may hold several workers (in tests). */
static void check_kernels(struct node_facts *f)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&one_at_a_time);
    linear_self_check(f->isa, f->refused, sizeof f->refused);
    f->blas_invariant = linear_blas_tiles_ok();
    pthread_mutex_unlock(&one_at_a_time);
}

int node_facts_init(struct node_facts *f, const char *version, int local_ranks, uint64_t rss_start,
                    struct err *err)
{
    memset(f, 0, sizeof *f);
    snprintf(f->version, sizeof f->version, "%s", version);
    if (gethostname(f->host, sizeof f->host - 1) != 0)
        snprintf(f->host, sizeof f->host, "unknown");
    f->local_ranks = local_ranks > 0 ? local_ranks : 1;
    f->rss_start = rss_start;
    read_memory(f);
    read_cpu(f);
    read_cores(f);
    read_interface(f);
    choose_threads(f);
    omp_set_num_threads(f->threads);
    TRY(isa_choose(&f->isa, err));
    check_kernels(f);
    snprintf(f->blas, sizeof f->blas, "OpenBLAS, core %.60s", openblas_get_corename());
    return ERR_OK;
}

void node_facts_free(struct node_facts *f)
{
    free(f->link);
    free(f->links);
    f->link = NULL;
    f->links = NULL;
    f->n_links = 0;
}

/* --- measuring */

int node_measure(struct node_facts *f, struct err *err)
{
    size_t bytes = BW_BYTES, room = f->memory_free / 8 / (size_t)f->local_ranks;
    bytes = bytes < room ? bytes : room / 4096 * 4096;
    size_t work = (size_t)f->threads * 3 * MEMBW_SGEMM_DIM * MEMBW_SGEMM_DIM;
    uint8_t *buf = bytes > 0 ? aligned_alloc(4096, bytes) : NULL;
    float *mats = calloc(work, sizeof *mats);
    if (buf == NULL || mats == NULL) {
        free(buf);
        free(mats);
        return err_set(err, ERR_NOMEM, "no memory to measure the node with");
    }
    for (size_t begin = 0; begin < bytes; begin += MEMBW_PIECE) {
        size_t end = begin + MEMBW_PIECE < bytes ? begin + MEMBW_PIECE : bytes;
#pragma omp parallel for num_threads(f->threads) schedule(static)
        for (size_t page = begin; page < end; page += 4096)
            memset(buf + page, 1, 4096);    /* each thread touches what it will read */
    }
    f->memory_bw = membw_read_best(buf, bytes, f->threads, BW_ROUNDS);
    f->sgemm_flops = membw_sgemm(mats, f->threads, SGEMM_ROUNDS);
    free(buf);
    free(mats);
    return ERR_OK;
}

/* One side sends, the other answers with as much; microseconds of a round trip, best of n. */
static int ping(struct comm *c, int peer, uint8_t *buf, size_t bytes, int n, double *best,
                struct err *err)
{
    size_t got;
    *best = 1e12;
    for (int i = 0; i < n; i++) {
        int64_t t0 = comm_now_us(c);
        if (c->self < peer)
            TRY(comm_send(c, peer, COMM_DP, buf, bytes, err));
        TRY(comm_recv(c, peer, COMM_DP, buf, bytes, &got, err));
        if (c->self > peer)
            TRY(comm_send(c, peer, COMM_DP, buf, bytes, err));
        double us = (double)(comm_now_us(c) - t0);
        *best = us < *best ? us : *best;
    }
    return ERR_OK;
}

static int measure_link(struct node_facts *f, struct comm *c, int peer, uint8_t *buf,
                        struct err *err)
{
    double small, big, many;
    int64_t t0;
    TRY(ping(c, peer, buf, 8, 4, &small, err));     /* both are here, the path is warm */
    t0 = comm_now_us(c);
    TRY(ping(c, peer, buf, 8, PING_ROUNDS, &small, err));
    many = (double)(comm_now_us(c) - t0) / PING_ROUNDS;
    TRY(ping(c, peer, buf, PING_BYTES, PING_BIG, &big, err));
    Muster__Link *l = &f->link[f->n_links];
    muster__link__init(l);
    l->peer = (uint32_t)peer;
    l->latency_us = many / 2;
    double one_way = (big - small) / 2;
    l->bytes_per_s = PING_BYTES / (one_way > 1 ? one_way : 1) * 1e6;
    f->links[f->n_links++] = l;
    return ERR_OK;
}

/* The partner in round r of a round robin of n (even) players; the last one stays, the others turn. */
static int partner(int self, int r, int n)
{
    int m = n - 1;
    if (self == m)
        return (r * (n / 2)) % m;           /* the x with 2 x = r modulo m */
    int other = ((r - self) % m + m) % m;
    return other == self ? m : other;
}

int node_links(struct node_facts *f, struct comm *comm, struct err *err)
{
    int n = comm->n_workers, even = n + n % 2, rounds = n > 1 ? even - 1 : 0;
    node_facts_free(f);
    rounds = rounds < PEERS_MAX ? rounds : PEERS_MAX;
    uint8_t *buf = calloc(1, PING_BYTES);
    f->link = calloc((size_t)rounds + 1, sizeof *f->link);
    f->links = calloc((size_t)rounds + 1, sizeof *f->links);
    int rc = ERR_OK;
    if (buf == NULL || f->link == NULL || f->links == NULL)
        rc = err_set(err, ERR_NOMEM, "no memory to measure links with");
    for (int r = 0; r < rounds && rc == ERR_OK; r++) {
        int peer = partner(comm->self, r, even);
        if (peer < n)
            rc = measure_link(f, comm, peer, buf, err);
    }
    free(buf);
    return rc;
}

void node_report(struct node_facts *f, int rank, Muster__NodeReport *m)
{
    muster__node_report__init(m);
    m->rank = (uint32_t)rank;
    m->host = f->host;
    m->version = f->version;
    m->cores = (uint32_t)f->cores;
    m->cores_host = (uint32_t)f->cores_host;
    m->threads = (uint32_t)f->threads;
    m->cpu_quota = f->cpu_quota;
    m->isa = (char *)isa_name(f->isa);
    m->blas = f->blas;
    m->blas_invariant = f->blas_invariant;
    m->memory_free = f->memory_free;
    m->memory_total = f->memory_total;
    m->memory_bw = f->memory_bw;
    m->sgemm_flops = f->sgemm_flops;
    m->n_links = (size_t)f->n_links;
    m->links = f->links;
    m->n_refused = f->refused[0] != '\0';
    f->refused_list[0] = f->refused;
    m->refused = f->refused_list;
    m->rss_start = f->rss_start;
    m->cpu = f->cpu;
    m->binding = f->binding;
    m->interface = f->interface;
    m->n_rates = (size_t)f->n_rates;
    m->rates = f->rates;
    m->layer = f->has_layer ? &f->layer : NULL;
    m->numa_nodes = (uint32_t)f->numa_nodes;
}

uint64_t node_rss_peak(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024 : 0;
}

uint64_t node_rss(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL && fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    if (f != NULL)
        fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
