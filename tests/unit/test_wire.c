/* Messages to bytes and back: round trips, and what damaged or foreign bytes do. */
#include "proto/wire.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static size_t pack_tokens(uint8_t *out, char *text)
{
    Muster__Envelope e = MUSTER__ENVELOPE__INIT;
    Muster__Failure f = MUSTER__FAILURE__INIT;
    e.epoch = 7;
    e.body_case = MUSTER__ENVELOPE__BODY_FAILURE;
    e.failure = &f;
    f.rank = 3;
    f.code = -4;
    f.message = text;
    return wire_pack(&e, out);
}

static void test_envelope_round_trip(void **state)
{
    (void)state;
    uint8_t bytes[256];
    struct arena mem;
    struct err err = {0};
    Muster__Envelope *m;
    assert_int_equal(arena_init(&mem, 4096), ERR_OK);
    size_t n = pack_tokens(bytes, "r\xc3\xa9seau");
    assert_int_equal(wire_unpack(bytes, n, &mem, &m, &err), ERR_OK);
    assert_int_equal(m->epoch, 7);
    assert_int_equal(m->failure->code, -4);
    assert_string_equal(m->failure->message, "r\xc3\xa9seau");
    arena_free(&mem);
}

static void test_damaged_envelopes(void **state)
{
    (void)state;
    uint8_t bytes[256], cut[256];
    struct arena mem;
    Muster__Envelope *m;
    assert_int_equal(arena_init(&mem, 4096), ERR_OK);
    size_t n = pack_tokens(bytes, "text");
    for (size_t k = 0; k < n; k++) {        /* every truncation ends in an error or a message */
        struct err err = {0};
        memcpy(cut, bytes, k);
        if (wire_unpack(cut, k, &mem, &m, &err) != ERR_OK)
            assert_int_equal(err.code, ERR_PEER);
        arena_reset(&mem);
    }
    struct err err = {0};
    n = pack_tokens(bytes, "\xff\xfe");
    assert_int_equal(wire_unpack(bytes, n, &mem, &m, &err), ERR_PEER);
    assert_non_null(strstr(err.msg, "UTF-8"));
    err = (struct err){0};
    assert_int_equal(wire_unpack((const uint8_t *)"\x08\x01", 2, &mem, &m, &err), ERR_PEER);
    arena_free(&mem);
}

static void test_unpack_is_bounded_by_its_arena(void **state)
{
    (void)state;
    struct arena mem;
    struct err err = {0};
    Muster__Envelope e = MUSTER__ENVELOPE__INIT, *m;
    Muster__Step s = MUSTER__STEP__INIT;
    Muster__Run run = MUSTER__RUN__INIT, *runs[2000];
    for (int i = 0; i < 2000; i++)
        runs[i] = &run;
    e.body_case = MUSTER__ENVELOPE__BODY_STEP;
    e.step = &s;
    s.n_runs = 2000;
    s.runs = runs;
    uint8_t *bytes = malloc(wire_packed_size(&e));
    size_t n = wire_pack(&e, bytes);
    assert_int_equal(arena_init(&mem, 8192), ERR_OK);
    assert_int_equal(wire_unpack(bytes, n, &mem, &m, &err), ERR_PEER);
    assert_int_equal(arena_mark(&mem), 0);
    arena_free(&mem);
    free(bytes);
}

static void test_tensor_round_trip(void **state)
{
    (void)state;
    _Alignas(64) uint8_t msg[WIRE_HEADER_MAX + 4096];
    for (int rows = 1; rows < 200; rows += 7) {
        struct wire_tensor t = {.network = 1, .layer = 300, .kind = WIRE_PARTIAL, .dtype = WIRE_F32,
                                .step = 1u << 20, .n_dims = 2, .shape = {(uint64_t)rows, 5},
                                .data_bytes = (size_t)rows * 20}, v;
        void *data;
        struct err err = {0};
        size_t n = wire_tensor_begin(msg, 9, &t, &data);
        assert_true(n <= WIRE_HEADER_MAX + t.data_bytes);
        assert_int_equal((uintptr_t)data % 64, 0);
        for (int i = 0; i < rows * 5; i++)
            ((float *)data)[i] = (float)i;
        assert_int_equal(wire_tensor_view(msg, n, 9, &v, &err), ERR_OK);
        assert_ptr_equal(v.data, data);
        assert_int_equal(v.layer, 300);
        assert_int_equal(v.step, 1u << 20);
        assert_int_equal(v.n_dims, 2);
        assert_int_equal(v.shape[0], rows);
        assert_int_equal(v.kind, WIRE_PARTIAL);
        assert_int_equal(wire_tensor_view(msg, n, 10, &v, &err), ERR_CANCELLED);
        /* the protobuf library reads the same message */
        Muster__Activation *a = muster__activation__unpack(NULL, n, msg);
        assert_non_null(a);
        assert_int_equal(a->epoch, 9);
        assert_int_equal(a->n_shape, 2);
        assert_int_equal(a->data.len, t.data_bytes);
        assert_memory_equal(a->data.data, data, t.data_bytes);
        muster__activation__free_unpacked(a, NULL);
    }
}

static void test_damaged_tensors(void **state)
{
    (void)state;
    _Alignas(64) uint8_t msg[WIRE_HEADER_MAX + 256];
    struct wire_tensor t = {.dtype = WIRE_F32, .n_dims = 1, .shape = {16}, .data_bytes = 64}, v;
    void *data;
    size_t n = wire_tensor_begin(msg, 0, &t, &data);
    memset(data, 0, 64);
    for (size_t k = 0; k < n; k++) {
        struct err err = {0};
        if (k < n - 64)     /* any header cut off: no data, so shape and data disagree */
            assert_int_not_equal(wire_tensor_view(msg, k, 0, &v, &err), ERR_OK);
    }
    for (size_t at = 0; at < n - 64; at++) {    /* any byte changed: an error or a smaller view */
        uint8_t before = msg[at];
        for (int x = 1; x < 256; x += 37) {
            struct err err = {0};
            msg[at] = (uint8_t)(before ^ x);
            if (wire_tensor_view(msg, n, 0, &v, &err) == ERR_OK && v.data_bytes > 0)
                assert_true((const uint8_t *)v.data >= msg &&
                            (const uint8_t *)v.data + v.data_bytes <= msg + n);
        }
        msg[at] = before;
    }
    struct err unaligned = {0};
    uint8_t shifted[128] = {6 << 3, WIRE_F32, 7 << 3 | 2, 1, 4, 15 << 3 | 2, 16};
    assert_int_equal(wire_tensor_view(shifted, 7 + 16, 0, &v, &unaligned), ERR_PEER);
    assert_non_null(strstr(unaligned.msg, "aligned"));
    struct wire_tensor huge = {.dtype = WIRE_F32, .n_dims = 4,
                               .shape = {1u << 31, 1u << 31, 1u << 31, 4}, .data_bytes = 0};
    struct err err = {0};
    n = wire_tensor_begin(msg, 0, &huge, &data);
    assert_int_equal(wire_tensor_view(msg, n, 0, &v, &err), ERR_PEER);
}

/* A NaN or an infinity among the numbers must arrive as something that is not finite, and break nothing. */
static void test_encodings_of_bad_numbers(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++)
        for (int d = WIRE_F32; d <= WIRE_Q8_0; d++) {
            float in[40], out[40];
            uint8_t bytes[160];
            for (int i = 0; i < 40; i++)
                in[i] = (float)i;
            in[7] = bad[k];
            wire_encode((enum wire_dtype)d, bytes, in, 40);
            wire_decode((enum wire_dtype)d, out, bytes, 40);
            assert_false(isfinite(out[7]));
            assert_true(fabsf(out[39] - 39) < 0.2f);
        }
}

static void test_encodings(void **state)
{
    (void)state;
    enum { N = 77 };
    float in[N], out[N];
    uint8_t bytes[N * 4];
    for (int i = 0; i < N; i++)
        in[i] = (float)(i - 38) * 0.37f * (i % 3 == 0 ? 100 : 1);
    for (int d = WIRE_F32; d <= WIRE_Q8_0; d++) {
        assert_true(wire_data_bytes((enum wire_dtype)d, N) <= sizeof bytes);
        wire_encode((enum wire_dtype)d, bytes, in, N);
        wire_decode((enum wire_dtype)d, out, bytes, N);
        for (int i = 0; i < N; i++) {
            float top = 0;
            for (int k = i / 32 * 32; k < i / 32 * 32 + 32 && k < N; k++)
                top = fabsf(in[k]) > top ? fabsf(in[k]) : top;
            float bound = d == WIRE_F32 ? 0 : d == WIRE_BF16 ? fabsf(in[i]) / 256 : top / 127 * 0.51f;
            assert_true(fabsf(in[i] - out[i]) <= bound);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope_round_trip),
        cmocka_unit_test(test_damaged_envelopes),
        cmocka_unit_test(test_unpack_is_bounded_by_its_arena),
        cmocka_unit_test(test_tensor_round_trip),
        cmocka_unit_test(test_damaged_tensors),
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_encodings_of_bad_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
