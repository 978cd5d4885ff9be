/* Paged attention: against a plain softmax in double, for every row, type and shape; and the promise
 * that chunks, neighbours and page size never change a bit. */
#include "workers/kernels/attention.h"
#include "workers/kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS = 150, GROUP_MAX = 5, DIM_MAX = 256 };

struct shape { enum dtype type; int head_dim, value_dim, n_group, window, page_tokens; float softcap;
               bool sinks; };

static float q[TOKENS][GROUP_MAX * DIM_MAX], k[TOKENS][DIM_MAX], v[TOKENS][DIM_MAX];
static float out[TOKENS][GROUP_MAX * DIM_MAX], again[TOKENS][GROUP_MAX * DIM_MAX];
static const float sinks[GROUP_MAX] = {0.5f, -1, 2, 0, 9};
static uint8_t *memory;
static void *scratch;

static float noise(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static void fill(void)
{
    unsigned seed = 7;
    for (int t = 0; t < TOKENS; t++) {
        for (int i = 0; i < GROUP_MAX * DIM_MAX; i++)
            q[t][i] = 2 * noise(&seed);
        for (int i = 0; i < DIM_MAX; i++) {
            k[t][i] = 2 * noise(&seed);
            v[t][i] = noise(&seed);
        }
    }
}

static struct attention_cache cache_of(const struct shape *s, int32_t *pages)
{
    struct attention_cache c = {
        .layout = attention_page_layout(s->type, s->head_dim, s->value_dim, s->page_tokens),
        .base = memory, .pages = pages};
    c.page_stride = c.layout.bytes + 64;
    for (int i = 0; i < 8; i++)
        pages[i] = (i * 3 + 2) % 8;
    return c;
}

static struct attention_call call_of(const struct shape *s, float (*to)[GROUP_MAX * DIM_MAX], int row,
                                     int n)
{
    return (struct attention_call){.q = q[row], .out = to[row], .q_stride = GROUP_MAX * DIM_MAX,
        .out_stride = GROUP_MAX * DIM_MAX, .n_rows = n, .n_group = s->n_group, .position = row,
        .window = s->window, .scale = 0.11f, .softcap = s->softcap, .sinks = s->sinks ? sinks : NULL};
}

/* Fills the cache and computes all rows, `chunk` positions at a time. Unwritten memory is NaN. */
static void run_chunks(const struct attention_row *row, const struct shape *s,
                       float (*to)[GROUP_MAX * DIM_MAX], int chunk)
{
    int32_t pages[8];
    struct attention_cache c = cache_of(s, pages);
    memset(memory, 0xff, (c.layout.bytes + 64) * 8);
    int most = ATTENTION_ROWS / s->n_group;
    for (int t = 0; t < TOKENS; t += chunk) {
        int n = TOKENS - t < chunk ? TOKENS - t : chunk;
        row->store(&c, k[t], DIM_MAX, v[t], DIM_MAX, t, n);
        for (int i = 0; i < n; i += most) {
            struct attention_call call = call_of(s, to, t + i, n - i < most ? n - i : most);
            row->run(&c, &call, scratch);
        }
    }
}

static double score(const struct shape *s, int t, int g, int key)
{
    double dot = 0;
    for (int d = 0; d < s->head_dim; d++)
        dot += (double)q[t][g * s->head_dim + d] * k[key][d];
    dot *= 0.11f;
    return s->softcap > 0 ? s->softcap * tanh(dot / s->softcap) : dot;
}

static double worst_error(const struct shape *s)
{
    double worst = 0;
    for (int t = 0; t < TOKENS; t++)
        for (int g = 0; g < s->n_group; g++) {
            int first = s->window > 0 && t - s->window + 1 > 0 ? t - s->window + 1 : 0;
            double p[TOKENS], total = s->sinks ? exp(sinks[g]) : 0;
            for (int key = first; key <= t; key++)
                total += p[key] = exp(score(s, t, g, key));
            for (int d = 0; d < s->value_dim; d++) {
                double y = 0;
                for (int key = first; key <= t; key++)
                    y += p[key] / total * v[key][d];
                double e = fabs(y - out[t][g * s->value_dim + d]);
                worst = !(e <= worst) ? e : worst;
            }
        }
    return worst;
}

static const struct shape shapes[] = {
    {DT_F32, 64, 64, 4, 0, 64, 0, false},       {DT_F32, 16, 16, 1, 16, 64, 0, false},
    {DT_F32, 80, 80, 2, 0, 64, 0, true},        {DT_F32, 128, 128, 5, 33, 64, 6, true},
    {DT_F32, 256, 256, 1, 0, 64, 2, false},     {DT_F32, 20, 12, 3, 1, 64, 0, false},
    {DT_F16, 64, 64, 4, 0, 64, 0, false},       {DT_F16, 16, 16, 3, 15, 128, 0, true},
    {DT_F16, 80, 40, 1, 40, 64, 5, false},      {DT_F16, 96, 96, 2, 100, 64, 0, false},
    {DT_Q8_0, 64, 64, 4, 0, 64, 0, false},      {DT_Q8_0, 16, 16, 2, 16, 64, 0, true},
    {DT_Q8_0, 80, 80, 3, 0, 64, 3, false},      {DT_Q8_0, 128, 72, 1, 50, 64, 0, false},
};

static void test_against_plain_softmax(void **state)
{
    for (int isa = ISA_SCALAR; isa <= (int)isa_detect(); isa++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            const struct shape *s = &shapes[i];
            run_chunks(kernels_get(isa)->attention, s, out, TOKENS);
            double worst = worst_error(s);
            double limit = s->type == DT_F32 ? 2e-6 : s->type == DT_F16 ? 1e-3 : 2e-2;
            if (!(worst < limit)) {
                print_error("isa %d shape %zu: error %g\n", isa, i, worst);
                fail();
            }
        }
}

static void same_bits(const struct shape *s)
{
    for (int t = 0; t < TOKENS; t++)
        assert_memory_equal(out[t], again[t], sizeof(float) * (size_t)(s->n_group * s->value_dim));
}

static void test_chunks_never_show(void **state)
{
    static const int chunks[] = {1, 7, 32, 50};
    for (int isa = ISA_SCALAR; isa <= (int)isa_detect(); isa++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            run_chunks(kernels_get(isa)->attention, &shapes[i], out, TOKENS);
            for (size_t j = 0; j < sizeof chunks / sizeof *chunks; j++) {
                run_chunks(kernels_get(isa)->attention, &shapes[i], again, chunks[j]);
                same_bits(&shapes[i]);
            }
            struct shape other = shapes[i];
            other.page_tokens = 192;
            run_chunks(kernels_get(isa)->attention, &other, again, TOKENS);
            same_bits(&shapes[i]);
        }
}

/* Heads of a group one by one: a neighbour in the tile never shows. */
static void test_heads_alone(void **state)
{
    for (int isa = ISA_SCALAR; isa <= (int)isa_detect(); isa++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            const struct shape *s = &shapes[i];
            const struct attention_row *row = kernels_get(isa)->attention;
            int32_t pages[8];
            run_chunks(row, s, out, TOKENS);
            struct attention_cache c = cache_of(s, pages);
            for (int t = 0; t < TOKENS; t++)
                for (int g = 0; g < s->n_group; g++) {
                    struct attention_call call = call_of(s, again, t, 1);
                    call.n_group = 1;
                    call.q += g * s->head_dim;
                    call.out += g * s->value_dim;
                    call.sinks = s->sinks ? sinks + g : NULL;
                    row->run(&c, &call, scratch);
                }
            same_bits(s);
        }
}

/* What one row stores, every row stores: caches may be written and read by different sets. */
static void test_rows_store_the_same(void **state)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int32_t pages[8];
        struct attention_cache c = cache_of(&shapes[i], pages);
        size_t bytes = (c.layout.bytes + 64) * 8;
        uint8_t *first = malloc(bytes);
        for (int isa = ISA_SCALAR; isa <= (int)isa_detect(); isa++) {
            memset(memory, 0, bytes);
            kernels_get(isa)->attention->store(&c, k[0], DIM_MAX, v[0], DIM_MAX, 0, TOKENS);
            if (isa == ISA_SCALAR)
                memcpy(first, memory, bytes);
            assert_memory_equal(first, memory, bytes);
        }
        free(first);
    }
}

static void test_huge_numbers_stay_finite(void **state)
{
    struct shape s = {DT_F16, 16, 16, 1, 0, 64, 0, false};
    float big = v[3][0];
    v[3][0] = 1e9f;
    for (int isa = ISA_SCALAR; isa <= (int)isa_detect(); isa++) {
        run_chunks(kernels_get(isa)->attention, &s, out, TOKENS);
        for (int t = 0; t < TOKENS; t++)
            assert_true(isfinite(out[t][0]) && out[t][0] < 65505);
    }
    v[3][0] = big;
}

static void test_quantise(void **state)
{
    float x[40];
    int8_t numbers[80];
    uint16_t scales[2];
    unsigned seed = 3;
    for (int i = 0; i < 40; i++)
        x[i] = i < 32 ? noise(&seed) * 100 : 0;
    attention_quantise(numbers, 2, scales, 1, x, 40);
    for (int i = 0; i < 40; i++) {
        float d = dtype_f16_to_f32(scales[i / 32]);
        assert_true(fabsf(numbers[2 * i] * d - x[i]) <= 0.51f * d);
    }
    assert_int_equal(scales[1], 0);
    assert_int_equal(attention_f16(1e30f), 0x7bff);
    assert_int_equal(attention_f16(-1e30f), 0xfbff);
}

int main(void)
{
    memory = aligned_alloc(64, 8 << 20);
    scratch = aligned_alloc(64, attention_scratch_bytes(DIM_MAX));
    fill();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_plain_softmax), cmocka_unit_test(test_chunks_never_show),
        cmocka_unit_test(test_heads_alone),           cmocka_unit_test(test_rows_store_the_same),
        cmocka_unit_test(test_huge_numbers_stay_finite), cmocka_unit_test(test_quantise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
