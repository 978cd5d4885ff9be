/* Errors: the first message wins, prefixes keep it, codes become exit codes; a bug ends the process. */
#include "proto/err.h"
#include "proto/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void test_first_message_wins(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, ERR_IO, "%s: no such file", "a.gguf"), ERR_IO);
    assert_int_equal(err_set(&e, ERR_PEER, "another"), ERR_PEER);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(e.rank, -1);
    assert_string_equal(e.msg, "a.gguf: no such file");
    assert_int_equal(err_prefix(&e, "rank %d", 3), ERR_IO);
    assert_string_equal(e.msg, "rank 3: a.gguf: no such file");
    assert_int_equal(err_set(NULL, ERR_LIMIT, "nobody listens"), ERR_LIMIT);
    assert_int_equal(err_prefix(NULL, "nobody listens"), ERR_OK);
}

static void test_one_line_of_bounded_length(void **state)
{
    (void)state;
    struct err e = {0};
    char name[500];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    name[3] = '\n';
    name[4] = '\t';
    err_set(&e, ERR_FORMAT, "%s", name);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_null(strpbrk(e.msg, "\n\t"));
    err_prefix(&e, "%s", name);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

static void test_exit_codes(void **state)
{
    (void)state;
    static const int codes[][2] = {
        {ERR_OK, 0}, {ERR_NOMEM, 4}, {ERR_INVAL, 2}, {ERR_IO, 3}, {ERR_FORMAT, 3}, {ERR_LIMIT, 4},
        {ERR_PEER, 5}, {ERR_TIMEOUT, 5}, {ERR_CANCELLED, 130}, {ERR_OUTPUT, 6}, {-99, 1}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        assert_int_equal(err_exit_code(codes[i][0]), codes[i][1]);
}

static int half(int n, struct err *err)
{
    return n % 2 == 0 ? ERR_OK : err_set(err, ERR_INVAL, "%d is odd", n);
}

static int quarter(int n, struct err *err)
{
    TRY(half(n, err));
    return half(n / 2, err);
}

static void test_try(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(quarter(8, &e), ERR_OK);
    assert_int_equal(quarter(7, &e), ERR_INVAL);
    assert_string_equal(e.msg, "7 is odd");
}

/* Runs a child with stderr in a pipe; returns its exit code and what it wrote. */
static int run_child(void (*body)(void), char *text, size_t size)
{
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        body();
        _exit(99);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; n < size - 1 && (got = read(ends[0], text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void make_bug(void) { ASSERT(1 + 1 == 3); }

static void make_lines(void)
{
    log_init(4, "host7", LOG_INFO);
    log_line(LOG_DEBUG, "quiet", "not this");
    log_line(LOG_WARN, "net", "slow: %d", 12);
}

static void test_bug_and_log(void **state)
{
    (void)state;
    char text[1024];
    assert_int_equal(run_child(make_bug, text, sizeof text), EXIT_BUG);
    assert_non_null(strstr(text, "1 + 1 == 3"));
    assert_non_null(strstr(text, "test_err.c:"));
    assert_int_equal(run_child(make_lines, text, sizeof text), 99);
    assert_null(strstr(text, "not this"));
    assert_non_null(strstr(text, " warn 4@host7 net: slow: 12\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_message_wins),
        cmocka_unit_test(test_one_line_of_bounded_length),
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_try),
        cmocka_unit_test(test_bug_and_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
