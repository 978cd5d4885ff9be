/* test_signalstack.c - handlers of a run that may be asked to end run beside the stack of what computes. */
#include "coordinator/cluster/interrupt.h"
#include "proto/signalstack.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static volatile sig_atomic_t beside;

/* Called from within the handler under test: on which stack does that run? */
static void look(int sig)
{
    stack_t now;
    (void)sig;
    beside = sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_ONSTACK) != 0;
}

static void asked_to_end(void **state)
{
    (void)state;
    struct err err = {0};
    struct sigaction plain;
    memset(&plain, 0, sizeof plain);
    plain.sa_handler = look;
    assert_int_equal(sigaction(SIGUSR1, &plain, NULL), 0);
    assert_int_equal(signalstack_use(&err), ERR_OK);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_false(beside);
    interrupt_gently(true);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_true(beside);
    assert_true(interrupt_gentle());
    interrupt_gently(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(asked_to_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
