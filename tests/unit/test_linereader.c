/* test_linereader.c - lines from a pipe: pieces, empty lines, a last one without a newline; waiting. */
#include "coordinator/commands/linereader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>

struct feed { int fd, calls; };

/* The rest of a line comes while the reader waits; then the end. */
static int feed_more(void *ctx, struct err *err)
{
    struct feed *f = ctx;
    if (f->calls++ == 0)
        assert_int_equal(write(f->fd, "rd\n\nlast", 8), 8);
    else
        close(f->fd);
    return ERR_OK;
}

static void lines(void **state)
{
    static const char *const want[] = {"first", "third", "", "last"};
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], "first\nthi", 9), 9);
    struct linereader r = {.fd = fd[0]};
    struct feed f = {.fd = fd[1]};
    struct err err = {0};
    char *line;
    size_t n;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_int_equal(linereader_next(&r, feed_more, &f, &line, &n, &err), ERR_OK);
        assert_string_equal(line, want[i]);
        assert_int_equal(n, strlen(want[i]));
    }
    assert_int_equal(linereader_next(&r, feed_more, &f, &line, &n, &err), ERR_OK);
    assert_null(line);
    linereader_free(&r);
    close(fd[0]);
}

static int give_up(void *ctx, struct err *err) { return err_set(err, ERR_PEER, "lost"); }

static void wait_ends(void **state)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    struct linereader r = {.fd = fd[0]};
    struct err err = {0};
    char *line;
    size_t n;
    assert_int_equal(linereader_next(&r, give_up, NULL, &line, &n, &err), ERR_PEER);
    linereader_free(&r);
    close(fd[0]);
    close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines), cmocka_unit_test(wait_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
