/* test_peers.c - ranks that do not belong together, stop or die: the others end in time, and say why. */
#include "tests/e2e/e2e.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_S = 10, INPUT = 3, NOFIT = 4, PEER = 5, INTERRUPTED = 130 };

static const char *model(void) { return e2e_model("peers.gguf", "--preset even --type q8_0 --context 65536"); }

static void sleep_s(double s)
{
    struct timespec t = {(time_t)s, (long)((s - (double)(time_t)s) * 1e9)};
    nanosleep(&t, NULL);
}

static void ranks_of_different_versions(void **state)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "exec %s -n 1 %s generate -m '%s' -p Hello -n 4 : "
              "-n 1 env MUSTER_TEST_VERSION=99.0.0 %s generate -m '%s' -p Hello -n 4",
              e2e_mpirun(), E2E_MUSTER, model(), E2E_MUSTER, model());
    e2e_expect(&r, PEER);
    assert_int_equal(e2e_count_errors(r.err, NULL), 1);
    assert_non_null(strstr(r.err, "99.0.0"));
    e2e_run_free(&r);
}

/* One name, two folders: what happens when a copy on one node is older than the other. */
static void ranks_that_see_different_files(void **state)
{
    char a[256], b[256];
    snprintf(a, sizeof a, "%s/a", e2e_dir());
    snprintf(b, sizeof b, "%s/b", e2e_dir());
    mkdir(a, 0700);
    mkdir(b, 0700);
    struct e2e_run r;
    e2e_shell(&r, 60, "%s --preset even --type q8_0 --out %s/m.gguf && "
              "%s --preset even --type q8_0 --layers 4 --out %s/m.gguf",
              E2E_MODEL_MAKER, a, E2E_MODEL_MAKER, b);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_shell(&r, LIMIT_S, "exec %s -n 1 -wdir %s %s generate -m ./m.gguf -p Hello -n 4 : "
              "-n 1 -wdir %s %s generate -m ./m.gguf -p Hello -n 4",
              e2e_mpirun(), a, E2E_MUSTER, b, E2E_MUSTER);
    e2e_expect(&r, INPUT);
    assert_int_equal(e2e_count_errors(r.err, NULL), 1);
    assert_non_null(strstr(r.err, "m.gguf"));
    e2e_run_free(&r);
    /* And one that has no file at all. */
    snprintf(b + strlen(b), 16, "/m.gguf");
    unlink(b);
    b[strlen(b) - strlen("/m.gguf")] = 0;
    e2e_shell(&r, LIMIT_S, "exec %s -n 1 -wdir %s %s generate -m ./m.gguf -p Hello -n 4 : "
              "-n 1 -wdir %s %s generate -m ./m.gguf -p Hello -n 4",
              e2e_mpirun(), a, E2E_MUSTER, b, E2E_MUSTER);
    e2e_expect(&r, INPUT);
    assert_int_equal(e2e_count_errors(r.err, NULL), 1);
    e2e_run_free(&r);
}

/* One rank of a pair that sums up fails by itself, with the other in the middle of the same step. */
static void a_rank_that_fails_in_a_step(void **state)
{
    static const char *const layouts[] = {"--tp 2", "--pp 2"};
    for (int failing = 0; failing < 2; failing++)
        for (int i = 0; i < 2; i++) {
            struct e2e_run r;
            char env[2][64] = {"", ""};
            snprintf(env[failing], sizeof env[failing], "env MUSTER_TEST_FAILS_AT_STEP=9");
            e2e_shell(&r, LIMIT_S, "exec %s -n 1 %s %s generate -m '%s' %s -p Hello -n 40 : "
                      "-n 1 %s %s generate -m '%s' %s -p Hello -n 40", e2e_mpirun(), env[0], E2E_MUSTER,
                      model(), layouts[i], env[1], E2E_MUSTER, model(), layouts[i]);
            e2e_expect(&r, NOFIT);
            assert_int_equal(e2e_count_errors(r.err, NULL), 1);
            assert_non_null(strstr(r.err, "let step 9 fail"));
            e2e_run_free(&r);
        }
}

/* Starts a long generation and returns when text is streaming. */
static void begin_stream(struct e2e_process *p, int n_ranks, const char *mpi_flags,
                         const char *binary, const char *flags)
{
    e2e_begin(p, "exec %s %s -n %d %s generate -m '%s' %s --ctx 40000 -n 39000 --ignore-eos "
              "--temp 0 -p Hello", e2e_mpirun(), mpi_flags, n_ranks, binary, model(), flags);
    for (double t0 = e2e_now(); e2e_now() - t0 < 30; sleep_s(0.02)) {
        struct stat st;
        if (stat(p->out_path, &st) == 0 && st.st_size > 40)
            return;
    }
    struct e2e_run r;
    e2e_end(p, &r, 0);
    fail_msg("nothing streamed in 30 s; stderr: %s", r.err);
}

static void signal_rank(int rank, int signal_number)
{
    int pids[8], ranks[8], n = e2e_find_ranks(pids, ranks, 8);
    for (int i = 0; i < n; i++)
        if (ranks[i] == rank) {
            assert_int_equal(kill(pids[i], signal_number), 0);
            return;
        }
    fail_msg("rank %d is not among %d processes", rank, n);
}

static void end_stream(struct e2e_process *p, struct e2e_run *r, double signalled)
{
    e2e_end(p, r, signalled - p->started + LIMIT_S);
    if (r->timed_out)
        fail_msg("still there %d s after the signal; stderr: %s", LIMIT_S, r->err);
}

/* `victim` stops; the others say so and end. */
static void stopped_rank(int n_ranks, int victim, const char *flags)
{
    struct e2e_process p;
    begin_stream(&p, n_ranks, "", E2E_MUSTER, flags);
    signal_rank(victim, SIGSTOP);
    struct e2e_run r;
    end_stream(&p, &r, e2e_now());
    e2e_expect(&r, PEER);
    if (e2e_count_errors(r.err, NULL) != 1)
        fail_msg("not one line: %s", r.err);
    char name[16];
    snprintf(name, sizeof name, "rank %d", victim);
    if (!strstr(r.err, name))
        fail_msg("does not name %s: %s", name, r.err);
    e2e_run_free(&r);
}

static void a_rank_stops_tp(void **state) { stopped_rank(2, 1, "--tp 2"); }
static void a_rank_stops_pp(void **state) { stopped_rank(2, 1, "--pp 2"); }
static void one_of_three_stops(void **state) { stopped_rank(3, 2, "--tp 3"); }

/* Under plain mpirun the launcher ends the others; under --enable-recovery they live on and must find
 * out by themselves. */
static void a_rank_dies(void **state)
{
    struct e2e_process p;
    struct e2e_run r;
    begin_stream(&p, 2, "", E2E_MUSTER, "--tp 2");
    signal_rank(1, SIGKILL);
    end_stream(&p, &r, e2e_now());
    assert_int_not_equal(r.status, 0);
    e2e_run_free(&r);

    begin_stream(&p, 2, "--enable-recovery", e2e_noting_binary(2), "--tp 2");
    signal_rank(1, SIGKILL);
    end_stream(&p, &r, e2e_now());      /* such an mpirun ends with 0 */
    e2e_note_ranks(&r, 2);
    assert_int_equal(r.rank_status[0], PEER);
    if (e2e_count_errors(r.err, NULL) != 1 || !strstr(r.err, "rank 1"))
        fail_msg("the survivor said: %s", r.err);
    e2e_run_free(&r);
}

/* Rank 0, where the coordinator lives: the worker that is left must not stay for ever. */
static void the_coordinator_dies(void **state)
{
    struct e2e_process p;
    struct e2e_run r;
    begin_stream(&p, 2, "--enable-recovery", e2e_noting_binary(2), "--pp 2");
    signal_rank(0, SIGKILL);
    end_stream(&p, &r, e2e_now());
    e2e_note_ranks(&r, 2);
    assert_int_equal(r.rank_status[1], PEER);
    e2e_run_free(&r);
}

/* What was streamed before stays valid text, and Ctrl-C is 130. */
static void interrupted(void **state)
{
    struct e2e_process p;
    struct e2e_run r;
    e2e_begin(&p, "exec %s generate -m '%s' --ctx 40000 -n 39000 --ignore-eos --temp 0 -p Hello",
              E2E_MUSTER, model());
    for (int i = 0; i < 500; i++) {
        struct stat st;
        if (stat(p.out_path, &st) == 0 && st.st_size > 40)
            break;
        sleep_s(0.02);
    }
    kill(p.pid, SIGINT);
    double signalled = e2e_now();
    end_stream(&p, &r, signalled);
    e2e_expect(&r, INTERRUPTED);
    assert_true(r.n_out > 40);
    e2e_run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_different_versions),
        cmocka_unit_test(ranks_that_see_different_files),
        cmocka_unit_test(a_rank_that_fails_in_a_step),
        cmocka_unit_test(a_rank_stops_tp),
        cmocka_unit_test(a_rank_stops_pp),
        cmocka_unit_test(one_of_three_stops),
        cmocka_unit_test(a_rank_dies),
        cmocka_unit_test(the_coordinator_dies),
        cmocka_unit_test(interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
