/* Prepared calls: a shape is prepared once in a thread, for each thread anew; when too many have passed, all
 * are given back and preparing begins anew. */
#include "workers/models/nnprepared.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct shape { int64_t a, b; };
struct entry { struct shape shape; int64_t answer; };

static atomic_int prepared, forgotten;

static void prepare(void *entry)
{
    struct entry *e = entry;
    e->answer += 1000 * e->shape.a + e->shape.b;        /* was zero */
    prepared++;
}

static void forget(void *entry)
{
    struct entry *e = entry;
    e->answer = -1;
    forgotten++;
}

static const struct nnprepared_kind kind = {sizeof(struct shape), sizeof(struct entry), prepare, forget};

/* Asks for n shapes, each twice. */
static void *ask(void *n)
{
    static _Thread_local struct nnprepared *mine;
    for (int64_t i = 0; i < *(int *)n; i++)
        for (int twice = 0; twice < 2; twice++) {
            const struct shape s = {i % 7, i};
            const struct entry *e = nnprepared_find(&mine, &kind, &s);
            if (e->answer != 1000 * s.a + s.b || e->shape.b != i)
                prepared = -1000000;
        }
    return NULL;
}

static void in_a_thread(int n)
{
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, ask, &n), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
}

static void once_in_a_thread(void **unused)
{
    (void)unused;
    prepared = forgotten = 0;
    in_a_thread(NNPREPARED_MAX);
    assert_int_equal(prepared, NNPREPARED_MAX);
    in_a_thread(5);
    assert_int_equal(prepared, NNPREPARED_MAX + 5);
    assert_int_equal(forgotten, 0);
}

static void begun_anew(void **unused)
{
    (void)unused;
    prepared = forgotten = 0;
    in_a_thread(2 * NNPREPARED_MAX + 1);
    assert_int_equal(prepared, 2 * NNPREPARED_MAX + 1);
    assert_int_equal(forgotten, 2 * NNPREPARED_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(once_in_a_thread), cmocka_unit_test(begun_anew)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
