/* test_enlarge.c - bicubic enlargement: Keys' kernel (a = -1/2) gives polynomials of second degree back
 * exactly, wherever no edge is near; beyond an edge is the edge. */
#include "workers/diffusion/enlarge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { H = 9, W = 12 };

static float surface(double y, double x, int channel)
{
    return (float)(channel == 0 ? 3 : 0.25 * x * x - y * x + 0.5 * y * y + x - 2 * channel);
}

static void polynomials(void **state)
{
    (void)state;
    float small[2 * H * W], large[2 * 4 * H * W];
    for (int i = 0; i < 2 * H * W; i++)
        small[i] = surface(i / W % H, i % W, i / (H * W));
    enlarge_bicubic(small, 2, H, W, large);
    for (int i = 0; i < 2 * 4 * H * W; i++) {
        int y = i / (2 * W) % (2 * H), x = i % (2 * W), channel = i / (4 * H * W);
        bool inside = y >= 4 && y < 2 * H - 4 && x >= 4 && x < 2 * W - 4;
        if (inside || channel == 0)
            assert_float_equal(large[i], surface(0.5 * y - 0.25, 0.5 * x - 0.25, channel), 1e-4);
    }
}

/* One step from 0 to 1 in a row: the values are the kernel's own sums. */
static void step_edge(void **state)
{
    (void)state;
    const float small[] = {0, 0, 1, 1}, want[] = {0, -0.0234375f, -0.0703125f, 0.203125f,
                                               0.796875f, 1.0703125f, 1.0234375f, 1};
    float large[16];
    enlarge_bicubic(small, 1, 1, 4, large);
    for (int i = 0; i < 16; i++)
        assert_float_equal(large[i], want[i % 8], 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(polynomials), cmocka_unit_test(step_edge)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
