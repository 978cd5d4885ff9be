/* The queue of pictures under random histories: late and double answers, pictures that come back,
 * replicas that die, a stop at any moment, resumed batches. Whatever happens, no picture is made twice
 * or forgotten, and nobody has more than two chunks. */
#include "coordinator/schedule/imagequeue.h"
#include "proto/philox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { TASKS_MAX = 300, REPLICAS_MAX = 5, HISTORIES = 3000 };

/* What the outside knows: who has which task, how often it was made. */
struct world {
    struct imagequeue q;
    int at[TASKS_MAX];              /* replica, -1 none */
    int made[TASKS_MAX];
    bool dead[REPLICAS_MAX];
    int64_t now;
    uint64_t seed, draws;
};

static int draw(struct world *w, int n)
{
    return (int)(philox_uniform(w->seed, w->draws++, 0, PHILOX_SCENE) * (float)n);
}

static void check(const struct world *w)
{
    int64_t out = 0, made = 0;
    for (int i = 0; i < w->q.n; i++) {
        assert_true(w->made[i] <= 1 && !(w->made[i] == 1 && w->at[i] >= 0));
        out += w->at[i] >= 0;
        made += w->made[i];
    }
    assert_int_equal(out, w->q.n_out);
    assert_int_equal(made, w->q.n_done);
}

static void send(struct world *w, int r)
{
    int64_t task[IMAGEQUEUE_CHUNK_MAX];
    int chunks = 0, n = imagequeue_chunk(&w->q, r, w->now, task);
    assert_true(n >= 0 && n <= IMAGEQUEUE_CHUNK_MAX && (n == 0 || (!w->dead[r] && !w->q.stopping)));
    for (int i = 0; i < n; i++) {
        assert_true(w->at[task[i]] < 0 && w->made[task[i]] == 0);
        w->at[task[i]] = r;
    }
    for (int k = 0; k < IMAGEQUEUE_CHUNKS; k++)
        chunks += w->q.replica[r].chunk[k].n > 0;
    assert_true(chunks <= 2 && (n == 0 || chunks > 0));
}

/* Any answer, right or wrong. */
static void answer(struct world *w)
{
    int task = draw(w, (int)w->q.n + 2) - 1, r = draw(w, w->q.n_replicas);
    bool back = draw(w, 8) == 0, right = task >= 0 && task < w->q.n && w->at[task] == r;
    assert_int_equal(back ? imagequeue_returned(&w->q, r, task) : imagequeue_done(&w->q, r, task), right);
    if (right) {
        w->at[task] = -1;
        w->made[task] += !back;
    }
}

static void lose(struct world *w, int r)
{
    imagequeue_lost(&w->q, r);
    w->dead[r] = true;
    for (int i = 0; i < w->q.n; i++)
        if (w->at[i] == r)
            w->at[i] = -1;
}

/* Everybody alive answers until nothing is left. */
static void finish(struct world *w)
{
    for (int round = 0; round < 10000 && !imagequeue_idle(&w->q); round++) {
        for (int r = 0; r < w->q.n_replicas; r++)
            send(w, r);
        for (int i = 0; i < w->q.n; i++)
            if (w->at[i] >= 0) {
                assert_true(imagequeue_done(&w->q, w->at[i], i));
                w->made[i]++;
                w->at[i] = -1;
            }
        w->now += 1000;
    }
    assert_true(imagequeue_idle(&w->q));
}

static void play(uint64_t seed)
{
    static struct world w;
    struct err err = {0};
    memset(&w, 0, sizeof w);
    memset(w.at, -1, sizeof w.at);
    w.seed = seed;
    w.now = 1000000;
    int n = 1 + draw(&w, TASKS_MAX - 1), replicas = 1 + draw(&w, REPLICAS_MAX);
    assert_int_equal(imagequeue_init(&w.q, n, replicas, 1 + draw(&w, 16), w.now, &err), ERR_OK);
    for (int i = draw(&w, n); i > 0; i--) {
        int task = draw(&w, n);
        imagequeue_made(&w.q, task);
        w.made[task] = 1;
    }
    for (int i = 0; i < 200; i++) {
        w.now += draw(&w, 300000);
        int what = draw(&w, 100);
        if (what < 50)
            send(&w, draw(&w, replicas));
        else if (what < 97)
            answer(&w);
        else if (what < 98)
            lose(&w, draw(&w, replicas));
        else if (what < 99 && draw(&w, 4) == 0)
            imagequeue_stop(&w.q);
        check(&w);
    }
    finish(&w);
    check(&w);
    bool anybody = false;
    for (int r = 0; r < replicas; r++)
        anybody |= !w.dead[r];
    if (anybody && !w.q.stopping)
        assert_int_equal(w.q.n_done, n);
    imagequeue_free(&w.q);
    imagequeue_free(&w.q);
}

static void test_histories(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < HISTORIES; seed++)
        play(seed);
}

/* A second's work a chunk; the end is shared; the forecast is the rate's. */
static void test_sizes(void **state)
{
    struct imagequeue q;
    struct err err = {0};
    int64_t task[IMAGEQUEUE_CHUNK_MAX], now = 5000000;
    (void)state;
    assert_int_equal(imagequeue_init(&q, 1000, 2, 4, now, &err), ERR_OK);
    assert_true(imagequeue_eta(&q, now) < 0);
    assert_int_equal(imagequeue_chunk(&q, 0, now, task), 4);
    assert_int_equal(imagequeue_chunk(&q, 0, now, task + 4), 4);
    assert_int_equal(imagequeue_chunk(&q, 0, now, task + 8), 0);
    for (int i = 0; i < 4; i++)
        assert_true(imagequeue_done(&q, 0, task[i]));
    now += 200000;      /* 20 a second */
    assert_int_equal(imagequeue_chunk(&q, 0, now, task), 20);
    assert_true(imagequeue_eta(&q, now) > 49 && imagequeue_eta(&q, now) < 51);
    imagequeue_free(&q);
    assert_int_equal(imagequeue_init(&q, 6, 2, 8, now, &err), ERR_OK);
    assert_int_equal(imagequeue_chunk(&q, 0, now, task), 2);        /* not all six to the first */
    assert_int_equal(imagequeue_chunk(&q, 1, now, task), 1);
    imagequeue_free(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_histories), cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
