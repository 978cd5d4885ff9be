/* Every thread gets every job once, shares cover everything once, and a team can be entered again. */
#include "workers/models/team.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { THREADS = 3, N = 1000 };

struct count { struct team *team; int seen[THREADS]; int cell[N]; int jobs; };

static void mark(void *ctx, int thread, int n_threads)
{
    struct count *c = ctx;
    int64_t begin, end;
    c->seen[thread]++;
    team_share(N, 16, thread, n_threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        c->cell[i]++;
}

static void body(void *arg)
{
    struct count *c = arg;
    for (int i = 0; i < c->jobs; i++)
        team_run(c->team, mark, c);
}

static void check(int n_threads, int jobs)
{
    struct team team;
    struct count c;
    team_init(&team, n_threads);
    for (int again = 0; again < 3; again++) {
        memset(&c, 0, sizeof c);
        c.team = &team;
        c.jobs = jobs;
        team_enter(&team, body, &c);
        for (int i = 0; i < n_threads; i++)
            assert_int_equal(c.seen[i], jobs);
        for (int i = 0; i < N; i++)
            assert_int_equal(c.cell[i], jobs);
        assert_int_equal(team.n_running, 1);
    }
}

static void test_each_job_runs_once_on_each_thread(void **state)
{
    check(1, 5);
    check(2, 200);
    check(THREADS, 200);
    check(2, 0);
}

static void test_outside_it_runs_alone(void **state)
{
    struct team team;
    struct count c = {.team = &team};
    team_init(&team, 2);
    team_run(&team, mark, &c);
    assert_int_equal(c.seen[0], 1);
    assert_int_equal(c.cell[N - 1], 1);
}

static void test_shares(void **state)
{
    for (int n = 0; n < 70; n++)
        for (int threads = 1; threads < 9; threads++) {
            int64_t at = 0, begin, end;
            for (int i = 0; i < threads; i++) {
                team_share(n, 16, i, threads, &begin, &end);
                assert_true(begin == at && end >= begin);
                assert_true(end % 16 == 0 || end == n);
                at = end;
            }
            assert_int_equal(at, n);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_job_runs_once_on_each_thread),
        cmocka_unit_test(test_outside_it_runs_alone),
        cmocka_unit_test(test_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
