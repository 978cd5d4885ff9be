/* SHA-256 against the examples of FIPS 180-4, in one piece and in many; normals against libm
 * and by their moments. */
#include "proto/sha256.h"
#include "workers/kernels/normal.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void expect(const char *text, size_t repeat, const char *want)
{
    char hex[SHA256_HEX];
    uint8_t digest[SHA256_BYTES];
    struct sha256 s;
    sha256_begin(&s);
    for (size_t i = 0; i < repeat; i++)
        sha256_add(&s, text, strlen(text));
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
    assert_string_equal(hex, want);
}

static void test_examples(void **state)
{
    (void)state;
    expect("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    expect("aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Against libm in double, and by their moments. */
static void test_normals(void **state)
{
    (void)state;
    enum { N = 40000 };
    static float x[N];
    double sum = 0, square = 0;
    normal_fill(x, N, 42, 3, PHILOX_IMAGE_NOISE);
    for (int i = 0; i < N; i++) {
        float four[4];
        normal_block(42, (uint64_t)i / 4, 3, PHILOX_IMAGE_NOISE, four);
        assert_true(x[i] == four[i % 4]);
        sum += x[i];
        square += (double)x[i] * x[i];
    }
    assert_true(fabs(sum / N) < 0.015 && fabs(square / N - 1) < 0.022);     /* three deviations */
    for (uint64_t block = 0; block < 64; block++) {
        uint32_t r[4];
        float four[4];
        philox_block(7, block, 0, PHILOX_IMAGE_STEP, r);
        normal_block(7, block, 0, PHILOX_IMAGE_STEP, four);
        double u = (r[0] >> 8) * 0x1p-24, v = (r[1] >> 8) * 0x1p-24;
        double want = sqrt(-2 * log(1 - u)) * cos(2 * 3.14159265358979323846 * v);
        assert_true(fabs(four[0] - want) < 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples), cmocka_unit_test(test_normals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
