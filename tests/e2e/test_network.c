/* test_network.c - two and three hosts, joined by TCP, print what one host prints.
 * How: the hosts are network namespaces, made by the tool that MUSTER_HOSTS names (see its notes).
 * Skipped without it, without root or without the right to make namespaces. */
#include "tests/e2e/e2e.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { LIMIT_S = 60 };

static const char *hosts(void)
{
    const char *path = getenv("MUSTER_HOSTS");
    return path ? path : E2E_SOURCE "/../shared/hosts/hosts";
}

static int down(void **state)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "%s down", hosts());
    e2e_run_free(&r);
    return 0;
}

/* False when this machine cannot have them. */
static bool up(int n, const char *rate)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "%s up %d %s", hosts(), n, rate);
    bool good = r.status == 0;
    if (!good)
        print_message("no hosts here: %s", r.err);
    e2e_run_free(&r);
    return good;
}

static char *on_hosts(int n, const char *args)
{
    struct e2e_run r;
    e2e_shell(&r, LIMIT_S, "exec %s mpirun -n %d %s %s", hosts(), n, E2E_MUSTER, args);
    e2e_expect(&r, 0);
    free(r.err);
    return r.out;
}

static char *on_one_host(const char *args)
{
    struct e2e_run r;
    e2e_muster(&r, 0, LIMIT_S, "%s", args);
    e2e_expect(&r, 0);
    free(r.err);
    return r.out;
}

static void same_text_over_a_network(void **state)
{
    const char *model = e2e_model("net.gguf", "--preset even --type q8_0");
    char args[512];
    snprintf(args, sizeof args, "generate -m '%s' -p 'Once upon a time' -n 60 --seed 11", model);
    char *want = on_one_host(args);
    assert_true(strlen(want) > 80);
    static const struct { int hosts; const char *rate, *flags; } cases[] = {
        {2, "", "--tp 2"}, {2, "", "--pp 2"}, {2, "1gbit", "--tp 2"}, {2, "1gbit", "--pp 2"},
        {3, "", "--tp 3"}, {3, "", "--pp 3"}, {3, "", ""}};
    int n_up = 0;
    const char *rate = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].hosts != n_up || cases[i].rate != rate) {
            if (!up(cases[i].hosts, cases[i].rate)) {
                free(want);
                skip();
            }
            n_up = cases[i].hosts;
            rate = cases[i].rate;
        }
        char line[640];
        snprintf(line, sizeof line, "%s %s", args, cases[i].flags);
        char *got = on_hosts(cases[i].hosts, line);
        if (strcmp(got, want) != 0)
            fail_msg("%d hosts %s %s: %s", cases[i].hosts, cases[i].rate, cases[i].flags, got);
        free(got);
    }
    free(want);
}

/* The doctor sees that the ranks are on different hosts. */
static void doctor_over_a_network(void **state)
{
    if (!up(2, "1gbit"))
        skip();
    char *text = on_hosts(2, "doctor");
    assert_non_null(strstr(text, "h1"));
    assert_non_null(strstr(text, "h2"));
    free(text);
}

int main(void)
{
    if (geteuid() != 0 || access(hosts(), X_OK) != 0)
        return 77;
    /* The hosts are the machine's: one test at a time. */
    int lock = open("/tmp/muster-hosts.lock", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (lock >= 0)
        flock(lock, LOCK_EX);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(same_text_over_a_network, down),
        cmocka_unit_test_teardown(doctor_over_a_network, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
