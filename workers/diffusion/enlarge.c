#include "workers/diffusion/enlarge.h"

enum { TAPS = 4 };
/* The kernel at 1.25, 0.25, 0.75 and 1.75 pixels: an even pixel lies a quarter before the small one's
 * middle, an odd one a quarter behind. */
static const float TAP[2][TAPS] = {{-0.0234375f, 0.2265625f, 0.8671875f, -0.0703125f},
                                   {-0.0703125f, 0.8671875f, 0.2265625f, -0.0234375f}};

static int inside(int at, int n) { return at < 0 ? 0 : at >= n ? n - 1 : at; }

static float pixel(const float *small, int height, int width, int y, int x)
{
    int first_y = (y + 1) / 2 - 2, first_x = (x + 1) / 2 - 2;
    float sum = 0;
    for (int i = 0; i < TAPS; i++) {
        const float *row = small + (int64_t)inside(first_y + i, height) * width;
        float along = 0;
        for (int k = 0; k < TAPS; k++)
            along += TAP[x % 2][k] * row[inside(first_x + k, width)];
        sum += TAP[y % 2][i] * along;
    }
    return sum;
}

void enlarge_bicubic(const float *small, int channels, int height, int width, float *large)
{
    for (int c = 0; c < channels; c++, small += (int64_t)height * width)
        for (int y = 0; y < 2 * height; y++)
            for (int x = 0; x < 2 * width; x++)
                *large++ = pixel(small, height, width, y, x);
}
