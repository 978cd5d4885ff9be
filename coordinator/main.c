/* main.c - the one place where a rank learns its role.
 * Why:    every rank starts the same binary. Each becomes a worker on its main thread; rank 0 also
 *         starts the coordinator, as a thread that reaches worker 0 by messages like any other.
 * Trap:   after a peer's death MPI_Finalize never returns; ranks that end with EXIT_PEER skip it. */
#define _GNU_SOURCE     /* sched_getaffinity, CPU_COUNT */
#include "coordinator/cluster/interrupt.h"
#include "coordinator/commands/command.h"
#include "coordinator/image/filesink.h"
#include "proto/comm.h"
#include "proto/control.h"
#include "proto/log.h"
#include "proto/signalstack.h"
#include "workers/node.h"
#include "workers/worker.h"

#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FINALIZE_PATIENCE_S = 10 };

/* --- before MPI */

static int number_of(const char *text) { return text != NULL ? atoi(text) : 0; }

/* Ranks of this host, as the launcher says; 1 when none does. */
static int launcher_local_ranks(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS",
                                        "PMI_LOCAL_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (number_of(getenv(names[i])) > 0)
            return number_of(getenv(names[i]));
    return 1;
}

static int threads_asked(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            return number_of(argv[i + 1]);
        if (strncmp(argv[i], "--threads=", 10) == 0)
            return number_of(argv[i] + 10);
    }
    return 0;
}

/* When the ranks of a host have more threads than it has cores, an OpenMP team that spins takes the
 * core from the one it waits for. libgomp reads its policy before main: so once more, from the top. */
static void wait_passively(int argc, char **argv)
{
    cpu_set_t set;
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN), local = launcher_local_ranks();
    int bound = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : cores;
    int threads = threads_asked(argc, argv);
    if (threads == 0)
        threads = bound < cores ? bound : cores / local > 0 ? cores / local : 1;
    if (getenv("OMP_WAIT_POLICY") != NULL || threads * local <= cores)
        return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);      /* where that fails, the run is only slower */
}

/* --- the two roles */

/* A party of this process: its end of the conversations, and the control thread with an end of its own. */
struct party { struct comm comm, beat; struct control control; };

static int open_party(struct party *p, int number, struct err *err)
{
    static const struct control_options options = {.leave = comm_mpi_leave,
        .asked_to_end = interrupt_asked, .end = interrupt_confirm};
    interrupt_defer();
    TRY(comm_mpi_open(&p->comm, number, err));
    TRY(comm_mpi_open(&p->beat, number, err));
    return control_start(&p->control, &p->beat, &p->comm, &options, err);
}

static void close_party(struct party *p)
{
    control_stop(&p->control);
    comm_close(&p->comm);
    comm_close(&p->beat);
}

struct coordinator {
    const struct command *command;
    void *options;
    struct party party;
    struct err err;
    int rc;
};

static void *coordinator_thread(void *arg)
{
    struct coordinator *c = arg;
    c->rc = c->command->run(c->options, &c->party.comm, &c->err);
    return NULL;
}

/* MPI_Allreduce, for `bench` to hold our sums against. */
static int allreduce(float *buf, int64_t n)
{
    return MPI_Allreduce(MPI_IN_PLACE, buf, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) == MPI_SUCCESS
               ? ERR_OK : ERR_PEER;
}

static int local_ranks(void)
{
    MPI_Comm host;
    int n = 1;
    if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host) ==
        MPI_SUCCESS) {
        MPI_Comm_size(host, &n);
        MPI_Comm_free(&host);
    }
    return n;
}

static int complain(int code, const char *message)
{
    fprintf(stderr, "muster: %s\n", message);
    return code;
}

/* The rank's life with workers: the worker here, on rank 0 the coordinator beside it. */
static int run_ranks(const struct command *command, void *options, uint64_t rss_start)
{
    struct coordinator c = {.command = command, .options = options};
    struct party worker = {0};
    struct err err = {0};
    struct filesink *files = NULL;
    struct sink sink;
    pthread_t thread;
    int rank = comm_mpi_rank(), coordinates = rank == 0;
    if (filesink_new(&files, &sink, &err) != ERR_OK)
        return complain(EXIT_NOFIT, err.msg);
    if (open_party(&worker, rank, &err) != ERR_OK ||
        (coordinates && open_party(&c.party, comm_mpi_size(), &err) != ERR_OK))
        return complain(EXIT_PEER, err.msg);
    if (coordinates && pthread_create(&thread, NULL, coordinator_thread, &c) != 0)
        return complain(EXIT_NOFIT, "cannot start the coordinator's thread");
    const char *version = getenv("MUSTER_TEST_VERSION");    /* so that tests can be of two versions */
    struct worker_options o = {.version = version != NULL ? version : MUSTER_VERSION,
                               .fails_at_step = number_of(getenv("MUSTER_TEST_FAILS_AT_STEP")),
                               .local_ranks = local_ranks(),
                               .rss_start = rss_start, .allreduce = allreduce, .sink = &sink};
    int code = worker_run(&worker.comm, &o);
    filesink_destroy(files);
    int revoked = *worker.comm.revoked;
    if (coordinates) {
        pthread_join(thread, NULL);
        close_party(&c.party);
        if (c.rc != ERR_OK)
            code = err_exit_code(c.rc);     /* cluster_close has said why */
    }
    close_party(&worker);
    if (code != EXIT_PEER)
        return code;
    fflush(NULL);
    comm_mpi_leave(code, control_speaks(rank, revoked));
}

/* --- the command line: read by every rank, answered by rank 0 */

static int usage(int rank, const char *what)
{
    if (rank == 0 && what[0] != '\0')
        fprintf(stderr, "muster: no command '%s'; muster --help lists them\n", what);
    else if (rank == 0)
        fprintf(stderr, "muster: a command is wanted; muster --help lists them\n");
    return EXIT_USAGE;
}

static int usage_sub(int rank, const struct command *command)
{
    if (rank == 0)
        fprintf(stderr, "muster: %s wants one of its commands; muster %s --help lists them\n",
                command->name, command->name);
    return EXIT_USAGE;
}

static int show_help(int rank, const struct command *command)
{
    if (rank == 0 && command != NULL)
        command_help(command);
    else if (rank == 0)
        command_list();
    return EXIT_OK;
}

static int run_command(const struct command *command, int argc, char **argv, int rank,
                       uint64_t rss_start)
{
    struct err err = {0};
    void *options = calloc(1, command->options_bytes);
    int code, rc = options == NULL ? err_set(&err, ERR_NOMEM, "no memory for options")
                                   : command_parse(command, options, argc, argv, &err);
    if (rc != ERR_OK) {
        if (rank == 0)
            complain(0, err.msg);
        code = err_exit_code(rc);
    } else if (command->needs_workers) {
        code = run_ranks(command, options, rss_start);
    } else {
        rc = rank == 0 ? command->run(options, NULL, &err) : ERR_OK;
        code = rc != ERR_OK ? complain(err_exit_code(rc), err.msg) : EXIT_OK;
    }
    if (options != NULL && command->free != NULL)
        command->free(options);
    free(options);
    return code;
}

static int dispatch(int argc, char **argv, int rank, uint64_t rss_start)
{
    if (argc < 2)
        return usage(rank, "");
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        if (rank == 0)
            printf("muster %s\n", MUSTER_VERSION);
        return EXIT_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "-?") == 0)
        return show_help(rank, NULL);
    if (strcmp(name, "help") == 0) {
        const struct command *command = argc > 2 ? command_find(argv[2]) : NULL;
        if (command != NULL && command->sub != NULL && argc > 3)
            command = command_sub(command, argv[3]);
        return argc > 2 && command == NULL ? usage(rank, argv[2]) : show_help(rank, command);
    }
    const struct command *command = command_find(name);
    if (command == NULL)
        return usage(rank, name);
    if (command->sub != NULL) {
        const struct command *sub = argc > 2 ? command_sub(command, argv[2]) : NULL;
        if (sub == NULL)
            return argc > 2 && command_wants_help(argc - 1, argv + 1) ? show_help(rank, command)
                                                                      : usage_sub(rank, command);
        command = sub;
        argc--;
        argv++;
    }
    if (command_wants_help(argc - 1, argv + 1))
        return show_help(rank, command);
    return run_command(command, argc - 1, argv + 1, rank, rss_start);
}

static volatile sig_atomic_t final_code;

static void give_up(int sig)
{
    (void)sig;
    _exit(final_code);
}

/* Ends MPI where all ranks can; a dead peer, or one that is stuck, must not keep us here. */
static int finish(int code)
{
    fflush(NULL);
    if (code == EXIT_PEER)
        comm_mpi_leave(code, 0);
    final_code = code;
    signal(SIGALRM, give_up);
    alarm(FINALIZE_PATIENCE_S);
    comm_mpi_finish();
    MPI_Finalize();
    return code;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    char host[128] = "";
    int provided = 0;
    wait_passively(argc, argv);
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS)
        return complain(EXIT_PEER, "MPI does not start");
    uint64_t rss_start = node_rss();
    if (provided < MPI_THREAD_MULTIPLE)
        return complain(EXIT_PEER, "this MPI library has no MPI_THREAD_MULTIPLE");
    if (signalstack_use(&err) != ERR_OK || comm_mpi_init(&err) != ERR_OK)
        return complain(EXIT_PEER, err.msg);
    gethostname(host, sizeof host - 1);
    log_init(comm_mpi_rank(), host, LOG_WARN);
    signal(SIGPIPE, SIG_IGN);
    interrupt_install();
    return finish(dispatch(argc, argv, comm_mpi_rank(), rss_start));
}
