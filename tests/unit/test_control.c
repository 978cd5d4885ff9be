/* Control threads over the transport of one process: beats, revoke, the lost coordinator, the line. */
#include "proto/control.h"
#include "proto/wire.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { WORKERS = 2 };

/* Milliseconds instead of seconds. */
static const struct control_options quick = {.beat_us = 5000, .first_us = 2000000,
                                             .silent_us = 600000, .stuck_us = 300000};

struct house {
    struct comm party[WORKERS + 1], beat[WORKERS + 1];
    struct control control[WORKERS + 1];
};

static void open_house(struct house *h)
{
    struct err err = {0};
    memset(h, 0, sizeof *h);
    assert_int_equal(comm_local_open(h->party, WORKERS, &err), ERR_OK);
    memcpy(h->beat, h->party, sizeof h->beat);      /* a second end of each party, closed with the first */
}

static void start(struct house *h, int party)
{
    struct err err = {0};
    assert_int_equal(control_start(&h->control[party], &h->beat[party], &h->party[party], &quick, &err),
                     ERR_OK);
}

static void close_house(struct house *h)
{
    for (int i = 0; i <= WORKERS; i++) {
        control_stop(&h->control[i]);
        control_stop(&h->control[i]);
    }
    for (int i = 0; i <= WORKERS; i++)
        comm_close(&h->party[i]);
}

static void sleep_ms(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }

/* Waits for a flag, at most five seconds. */
static int wait_for(const volatile int *flag)
{
    for (int i = 0; i < 500 && *flag == 0; i++)
        sleep_ms(10);
    return *flag;
}

static void test_all_well(void **state)
{
    (void)state;
    struct house h;
    open_house(&h);
    for (int i = 0; i <= WORKERS; i++) {
        start(&h, i);
        h.party[i].activity = COMM_IDLE;
    }
    sleep_ms(700);
    for (int i = 0; i <= WORKERS; i++) {
        assert_int_equal(*h.party[i].revoked, 0);
        assert_true(comm_now_us(&h.party[i]) - *h.party[i].vouched_us < 600000);
    }
    /* One that ends in good order is missed by nobody, nor is the coordinator. */
    control_stop(&h.control[1]);
    sleep_ms(800);
    assert_int_equal(*h.party[0].revoked, 0);
    control_stop(&h.control[WORKERS]);
    sleep_ms(800);
    assert_int_equal(*h.party[0].revoked, 0);
    close_house(&h);
}

/* A heartbeat in a dead rank's name, so that its silence begins now. */
static void beat_once(struct house *h, int rank)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Heartbeat b = MUSTER__HEARTBEAT__INIT;
    b.rank = (uint32_t)rank;
    b.doing = "loading the model";
    m.body_case = MUSTER__ENVELOPE__BODY_HEARTBEAT;
    m.heartbeat = &b;
    assert_int_equal(wire_send(&h->beat[rank], WORKERS, COMM_BEAT, &m, NULL), ERR_OK);
}

static void test_a_dead_worker(void **state)
{
    (void)state;
    struct house h;
    struct err err = {0};
    char buf[8];
    size_t n;
    open_house(&h);
    beat_once(&h, 1);
    start(&h, 0);
    start(&h, WORKERS);
    /* Worker 0 waits for the dead one; its deadline is far, the revoke is not. */
    assert_int_equal(comm_recv(&h.party[0], 1, COMM_TP, buf, sizeof buf, &n, &err), ERR_PEER);
    assert_non_null(strstr(err.msg, "rank 1 is dead or stopped"));
    assert_non_null(strstr(err.msg, "loading the model"));
    assert_int_equal(wait_for(h.party[WORKERS].revoked), COMM_REVOKED);
    assert_non_null(strstr(h.party[WORKERS].revoked_why, "rank 1"));
    close_house(&h);
}

/* A rank that failed by itself: the one that waits for it is let go, the coordinator's waits go on. */
static void test_called_off(void **state)
{
    (void)state;
    struct house h;
    struct err err = {0};
    char buf[8];
    size_t n;
    open_house(&h);
    for (int i = 0; i <= WORKERS; i++)
        start(&h, i);
    h.party[WORKERS].called_off = 1;
    assert_int_equal(comm_recv(&h.party[0], 1, COMM_TP, buf, sizeof buf, &n, &err), ERR_PEER);
    assert_non_null(strstr(err.msg, "another rank has failed"));
    assert_int_equal(*h.party[0].revoked, COMM_CALLED_OFF);
    assert_int_equal(*h.party[WORKERS].revoked, 0);
    close_house(&h);
}

static void test_a_dead_coordinator(void **state)
{
    (void)state;
    struct house h;
    open_house(&h);
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__Heartbeat b = MUSTER__HEARTBEAT__INIT;
    m.body_case = MUSTER__ENVELOPE__BODY_HEARTBEAT;
    m.heartbeat = &b;
    assert_int_equal(wire_send(&h.beat[WORKERS], 0, COMM_BEAT, &m, NULL), ERR_OK);
    start(&h, 0);
    assert_int_equal(wait_for(h.party[0].revoked), COMM_ALONE);
    assert_non_null(strstr(h.party[0].revoked_why, "rank 0"));
    close_house(&h);
}

static void test_lost_messages(void **state)
{
    (void)state;
    struct house h;
    struct err err = {0};
    char buf[8];
    size_t n;
    open_house(&h);
    for (int i = 0; i <= WORKERS; i++) {
        start(&h, i);
        h.party[i].activity = COMM_IDLE;
    }
    assert_int_equal(comm_recv(&h.party[0], 1, COMM_TP, buf, sizeof buf, &n, &err), ERR_PEER);
    assert_non_null(strstr(err.msg, "rank 0 is stuck"));
    assert_non_null(strstr(err.msg, "waiting for rank 1 on tp"));
    close_house(&h);
}

/* A deadline counts from the moment when all were last known to be well. */
static void test_deadline_by_progress(void **state)
{
    (void)state;
    struct house h;
    struct err err = {0};
    open_house(&h);
    volatile int64_t vouched = comm_now_us(&h.party[0]);
    h.party[0].vouched_us = &vouched;
    h.party[0].deadline_us = 1000000;
    assert_int_equal(comm_check_wait(&h.party[0], vouched - 5000000, &err), ERR_OK);
    vouched -= 2000000;
    assert_int_equal(comm_check_wait(&h.party[0], vouched - 5000000, &err), ERR_TIMEOUT);
    close_house(&h);
}

static volatile int asked, ended;
static int is_asked(void) { return asked; }
static void note_end(void) { ended = 1; }

/* Somebody asks the process to end: a rank that does not answer is the reason, else the user is. */
static void test_asked_to_end(void **state)
{
    (void)state;
    for (int dead = 0; dead < 2; dead++) {
        struct house h;
        struct err err = {0};
        struct control_options o = quick;
        o.asked_to_end = is_asked;
        o.end = note_end;
        o.silent_us = o.first_us;       /* long: silence alone says nothing here */
        asked = ended = 0;
        open_house(&h);
        for (int i = dead; i <= WORKERS; i++)
            assert_int_equal(control_start(&h.control[i], &h.beat[i], &h.party[i], &o, &err), ERR_OK);
        beat_once(&h, 0);
        asked = 1;
        wait_for(dead ? h.party[WORKERS].revoked : &ended);
        assert_int_equal(ended, !dead);
        assert_int_equal(*h.party[WORKERS].revoked, dead ? COMM_REVOKED : 0);
        if (dead)
            assert_non_null(strstr(h.party[WORKERS].revoked_why, "rank 0 is dead or stopped"));
        close_house(&h);
    }
    asked = 0;
}

static volatile int left_with;
static void note_leave(int code, int last) { left_with = code * 10 + last; }

/* Who has not come to an end some time after the revoke is made to. */
static void test_made_to_leave(void **state)
{
    (void)state;
    struct house h;
    struct err err = {0};
    struct control_options o = quick;
    o.leave = note_leave;
    o.grace_us = 100000;
    left_with = 0;
    open_house(&h);
    beat_once(&h, 0);
    assert_int_equal(control_start(&h.control[WORKERS], &h.beat[WORKERS], &h.party[WORKERS], &quick, &err),
                     ERR_OK);
    assert_int_equal(control_start(&h.control[1], &h.beat[1], &h.party[1], &o, &err), ERR_OK);
    assert_int_equal(wait_for(&left_with), EXIT_PEER * 10);
    assert_int_equal(*h.party[1].revoked, COMM_REVOKED);
    close_house(&h);
}

static void test_state_line(void **state)
{
    (void)state;
    struct house h;
    char text[512] = "";
    int ends[2], saved = dup(STDERR_FILENO);
    open_house(&h);
    start(&h, 1);
    h.party[1].doing = "adding up";
    h.party[1].activity = COMM_WAITING;
    h.party[1].wait_peer = 0;
    h.party[1].wait_channel = COMM_PP;
    h.party[1].wait_begun_us = comm_now_us(&h.party[1]) - 1234000;
    h.party[1].progress = 77;
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    raise(SIGUSR1);
    dup2(saved, STDERR_FILENO);
    close(ends[1]);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    close(ends[0]);
    close(saved);
    assert_non_null(strstr(text, "rank 1@"));
    assert_non_null(strstr(text, "waiting for rank 0 on pp while adding up since 123"));
    assert_non_null(strstr(text, "message 77\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    close_house(&h);
}

static void test_who_speaks(void **state)
{
    (void)state;
    assert_true(control_speaks(0, COMM_REVOKED));
    assert_false(control_speaks(1, COMM_REVOKED));
    assert_true(control_speaks(1, COMM_ALONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_well),
        cmocka_unit_test(test_a_dead_worker),
        cmocka_unit_test(test_called_off),
        cmocka_unit_test(test_a_dead_coordinator),
        cmocka_unit_test(test_lost_messages),
        cmocka_unit_test(test_deadline_by_progress),
        cmocka_unit_test(test_asked_to_end),
        cmocka_unit_test(test_made_to_leave),
        cmocka_unit_test(test_state_line),
        cmocka_unit_test(test_who_speaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
