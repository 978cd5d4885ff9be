/* Stop texts in a stream, cut anywhere. */
#include "coordinator/text/stopstring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* What is shown of text, fed in pieces of `piece` bytes; *hit whether it was ended. */
static void feed(const char *const *stops, int n, const char *text, size_t piece, char *shown,
                 bool *hit)
{
    struct stop_scan *s;
    assert_int_equal(stop_scan_open(&s, stops, n, NULL), ERR_OK);
    size_t len = strlen(text), used = 0;
    *hit = false;
    for (size_t at = 0; at <= len && !*hit; at += piece) {
        const char *out;
        size_t n_out, here = len - at < piece ? len - at : piece;
        bool end = at + piece > len;
        assert_int_equal(stop_scan_push(s, text + at, here, end, &out, &n_out, hit, NULL), ERR_OK);
        memcpy(shown + used, out, n_out);
        used += n_out;
    }
    shown[used] = '\0';
    stop_scan_close(s);
}

static void test_any_cut_shows_the_same(void **state)
{
    (void)state;
    static const struct { const char *stops[3]; int n; const char *text, *shown; bool hit; } cases[] = {
        {{"END"}, 1, "one two END three", "one two ", true},
        {{"END"}, 1, "one EN two E", "one EN two E", false},
        {{"\n\n", "User:"}, 2, "hello\nUser: x", "hello\n", true},
        {{"aab"}, 1, "aaaab", "aa", true},
        {{"abc", "b"}, 2, "xabc", "xa", true},
        {{"bc", "abc"}, 2, "xabc", "x", true},
        {{"END"}, 1, "END", "", true},
        {{NULL}, 0, "nothing stops me", "nothing stops me", false},
        {{"\xc3\xa9"}, 1, "caf\xc3\xa9!", "caf", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece <= 20; piece++) {
            char shown[64];
            bool hit;
            feed(cases[i].stops, cases[i].n, cases[i].text, piece, shown, &hit);
            assert_string_equal(shown, cases[i].shown);
            assert_int_equal(hit, cases[i].hit);
        }
}

static void test_holds_back_no_more_than_needed(void **state)
{
    (void)state;
    const char *stops[] = {"END"}, *out;
    struct stop_scan *s;
    size_t n;
    bool hit;
    assert_int_equal(stop_scan_open(&s, stops, 1, NULL), ERR_OK);
    stop_scan_push(s, "abE", 3, false, &out, &n, &hit, NULL);
    assert_int_equal(n, 2);
    stop_scan_push(s, "x", 1, false, &out, &n, &hit, NULL);
    assert_string_equal(out, "Ex");
    stop_scan_close(s);
    stop_scan_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_cut_shows_the_same),
        cmocka_unit_test(test_holds_back_no_more_than_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
