#include "coordinator/cluster/interrupt.h"

#include "proto/err.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t pending, deferred, asked, softly, soft, gently, gentle;
static struct sigaction usr1_before;       /* the control threads' state line */

static void on_signal(int sig)
{
    if (sig == SIGINT && softly) {
        soft = 1;
        return;
    }
    if (sig == SIGTERM && deferred && !pending) {
        asked = 1;
        return;
    }
    if (sig == SIGINT && gently && !gentle) {
        gentle = 1;
        return;
    }
    if (pending)
        _exit(EXIT_INTERRUPTED);
    pending = 1;
}

void interrupt_install(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sa.sa_flags = SA_ONSTACK;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool interrupt_pending(void) { return pending != 0; }

void interrupt_defer(void) { deferred = 1; }
int interrupt_asked(void) { return asked; }
void interrupt_confirm(void)
{
    if (gently)
        gentle = 1;
    else
        pending = 1;
}

void interrupt_softly(bool on)
{
    soft = 0;
    softly = on;
}

bool interrupt_soft(void)
{
    bool was = soft != 0;
    soft = 0;
    return was;
}

static void on_usr1(int sig)
{
    gentle = 1;
    if ((usr1_before.sa_flags & SA_SIGINFO) == 0 && usr1_before.sa_handler != SIG_DFL &&
        usr1_before.sa_handler != SIG_IGN)
        usr1_before.sa_handler(sig);
}

void interrupt_gently(bool on)
{
    struct sigaction sa;
    if (on && !gently) {
        memset(&sa, 0, sizeof sa);
        sa.sa_handler = on_usr1;
        sa.sa_flags = SA_ONSTACK;
        sigemptyset(&sa.sa_mask);
        sigaction(SIGUSR1, &sa, &usr1_before);
    } else if (!on && gently) {
        sigaction(SIGUSR1, &usr1_before, NULL);
    }
    gently = on;
    gentle = on ? gentle : 0;
}

bool interrupt_gentle(void) { return gentle != 0; }
