/* The transport in one process: order, deadlines, revocation, agreement. */
#include "proto/comm.h"
#include "proto/wire.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { WORKERS = 3 };

static void close_all(struct comm *c)
{
    for (int i = 0; i <= WORKERS; i++)
        comm_close(&c[i]);
}

static void test_order_and_channels(void **state)
{
    (void)state;
    struct comm c[WORKERS + 1];
    struct err err = {0};
    char buf[8];
    size_t n;
    int peer;
    assert_int_equal(comm_local_open(c, WORKERS, &err), ERR_OK);
    assert_int_equal(comm_send(&c[0], 1, COMM_TP, "one", 4, &err), ERR_OK);
    assert_int_equal(comm_send(&c[0], 1, COMM_PP, "pp", 3, &err), ERR_OK);
    assert_int_equal(comm_send(&c[0], 1, COMM_TP, "two", 4, &err), ERR_OK);
    assert_int_equal(comm_send(&c[WORKERS], 1, COMM_CONTROL, "boss", 5, &err), ERR_OK);
    assert_int_equal(comm_recv(&c[1], 0, COMM_TP, buf, sizeof buf, &n, &err), ERR_OK);
    assert_string_equal(buf, "one");
    assert_int_equal(n, 4);
    assert_int_equal(comm_recv(&c[1], 0, COMM_TP, buf, sizeof buf, &n, &err), ERR_OK);
    assert_string_equal(buf, "two");
    assert_int_equal(c[1].table->poll(&c[1], COMM_CONTROL, &peer, &n, &err), ERR_OK);
    assert_int_equal(peer, comm_coordinator(&c[1]));
    assert_int_equal(n, 5);
    assert_int_equal(c[1].table->poll(&c[1], COMM_DP, &peer, &n, &err), ERR_OK);
    assert_int_equal(peer, -1);
    close_all(c);
}

static void test_waits_end(void **state)
{
    (void)state;
    struct comm c[WORKERS + 1];
    struct err err = {0};
    char buf[4];
    size_t n;
    volatile int revoked = 0;
    assert_int_equal(comm_local_open(c, WORKERS, &err), ERR_OK);
    c[1].deadline_us = 20000;
    assert_int_equal(comm_recv(&c[1], 2, COMM_TP, buf, sizeof buf, &n, &err), ERR_TIMEOUT);
    assert_non_null(strstr(err.msg, "rank 2"));
    assert_non_null(strstr(err.msg, "tp"));
    err = (struct err){0};
    c[1].deadline_us = 30000000;
    c[1].revoked = &revoked;
    revoked = 1;
    assert_int_equal(comm_recv(&c[1], 2, COMM_TP, buf, sizeof buf, &n, &err), ERR_PEER);
    err = (struct err){0};
    revoked = 0;
    assert_int_equal(comm_send(&c[2], 1, COMM_TP, "too long", 9, &err), ERR_OK);
    assert_int_equal(comm_recv(&c[1], 2, COMM_TP, buf, sizeof buf, &n, &err), ERR_PEER);
    err = (struct err){0};
    assert_int_equal(comm_send(&c[1], WORKERS + 1, COMM_TP, "x", 1, &err), ERR_INVAL);
    close_all(c);
}

static void test_old_epochs_are_dropped(void **state)
{
    (void)state;
    struct comm c[WORKERS + 1];
    struct err err = {0};
    struct arena mem;
    Muster__Envelope e = MUSTER__ENVELOPE__INIT, *m;
    Muster__Stop stop = MUSTER__STOP__INIT;
    int peer;
    e.body_case = MUSTER__ENVELOPE__BODY_STOP;
    e.stop = &stop;
    assert_int_equal(arena_init(&mem, 4096), ERR_OK);
    assert_int_equal(comm_local_open(c, WORKERS, &err), ERR_OK);
    assert_int_equal(wire_send(&c[0], 1, COMM_CONTROL, &e, &err), ERR_OK);
    c[0].epoch = 2;
    assert_int_equal(wire_send(&c[0], 1, COMM_CONTROL, &e, &err), ERR_OK);
    c[1].epoch = 2;
    assert_int_equal(wire_recv(&c[1], COMM_CONTROL, &mem, &peer, &m, &err), ERR_OK);
    assert_int_equal(m->epoch, 2);
    assert_int_equal(wire_poll(&c[1], COMM_CONTROL, &mem, &peer, &m, &err), ERR_OK);
    assert_null(m);
    arena_free(&mem);
    close_all(c);
}

static void test_what_a_party_is_at(void **state)
{
    (void)state;
    struct comm c[WORKERS + 1];
    struct err err = {0};
    struct arena mem;
    Muster__Envelope *m;
    char buf[4], name[24];
    size_t n;
    int peer;
    assert_int_equal(comm_local_open(c, WORKERS, &err), ERR_OK);
    assert_int_equal(arena_init(&mem, 4096), ERR_OK);
    assert_int_equal(c[1].activity, COMM_WORKING);
    assert_int_equal(wire_poll(&c[1], COMM_CONTROL, &mem, &peer, &m, &err), ERR_OK);
    assert_int_equal(c[1].activity, COMM_IDLE);
    c[1].deadline_us = 1000;
    uint64_t before = c[1].progress;
    assert_int_equal(comm_recv(&c[1], 2, COMM_PP, buf, sizeof buf, &n, &err), ERR_TIMEOUT);
    assert_int_equal(c[1].wait_peer, 2);
    assert_int_equal(c[1].wait_channel, COMM_PP);
    assert_int_equal(c[1].activity, COMM_IDLE);
    assert_true(c[1].progress > before && c[1].wait_us >= 1000);
    assert_string_equal(comm_party_name(&c[0], 2, name), "rank 2");
    assert_string_equal(comm_party_name(&c[0], WORKERS, name), "the coordinator");
    assert_string_equal(comm_channel_name(COMM_TP), "tp");
    assert_string_equal(comm_channel_name(COMM_N_CHANNELS), "?");
    assert_string_equal(comm_channel_name(-1), "?");
    arena_free(&mem);
    close_all(c);
}

/* A short wait spins, a long one sleeps. */
static void test_giving_way(void **state)
{
    (void)state;
    struct comm c[WORKERS + 1];
    assert_int_equal(comm_local_open(c, WORKERS, NULL), ERR_OK);
    int64_t begun = comm_now_us(&c[0]);
    for (int i = 0; i < 20; i++)
        comm_give_way(1000000);
    assert_true(comm_now_us(&c[0]) - begun >= 20 * 50);
    close_all(c);
}

struct voter { struct comm *c; int rc, got; struct err err; };

static void *vote(void *arg)
{
    static const int ranks[WORKERS] = {0, 1, 2};
    struct voter *v = arg;
    if (v->rc != ERR_OK)
        err_set(&v->err, v->rc, "rank %d: no such file", v->c->self);
    v->got = comm_agree(v->c, ranks, WORKERS, v->rc, &v->err);
    return NULL;
}

static void test_agreement(void **state)
{
    (void)state;
    static const int codes[][WORKERS] = {{0, 0, 0}, {0, ERR_IO, 0}, {ERR_INVAL, 0, ERR_FORMAT}};
    for (size_t k = 0; k < 3; k++) {
        struct comm c[WORKERS + 1];
        struct voter v[WORKERS];
        struct err err = {0};
        pthread_t t[WORKERS];
        int worst = 0;
        assert_int_equal(comm_local_open(c, WORKERS, &err), ERR_OK);
        for (int i = 0; i < WORKERS; i++) {
            v[i] = (struct voter){.c = &c[i], .rc = codes[k][i]};
            worst = codes[k][i] < worst ? codes[k][i] : worst;
            pthread_create(&t[i], NULL, vote, &v[i]);
        }
        for (int i = 0; i < WORKERS; i++) {
            pthread_join(t[i], NULL);
            assert_int_equal(v[i].got, worst);
            if (worst != 0) {
                assert_int_equal(v[i].err.code, worst);
                assert_int_equal(codes[k][v[i].err.rank], worst);
                assert_non_null(strstr(v[i].err.msg, "no such file"));
            }
        }
        close_all(c);
    }
}

/* Last: it holds for the whole process. */
static void test_a_rank_with_little_time_sleeps(void **state)
{
    (void)state;
    struct comm c[WORKERS + 1];
    assert_int_equal(comm_local_open(c, WORKERS, NULL), ERR_OK);
    comm_spare_time();
    int64_t begun = comm_now_us(&c[0]);
    for (int i = 0; i < 20; i++)
        comm_give_way(0);           /* another rank would go on at once */
    assert_true(comm_now_us(&c[0]) - begun >= 20 * 50);
    close_all(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_channels),
        cmocka_unit_test(test_waits_end),
        cmocka_unit_test(test_old_epochs_are_dropped),
        cmocka_unit_test(test_what_a_party_is_at),
        cmocka_unit_test(test_giving_way),
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_a_rank_with_little_time_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
