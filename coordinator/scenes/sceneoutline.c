#include "coordinator/scenes/sceneoutline.h"

#include <math.h>

enum { TURNS = 6 };

struct outline { double along[TURNS], across[TURNS]; };

/* 0 where the picture is as the empty place, 1 where anybody sees a thing: 40 to 120 levels away. */
static double stands_out(const struct scenestretch_view *v, const struct scenestretch_view *empty, int at)
{
    double sum = 0;
    for (int ch = 0; ch < 3; ch++) {
        double d = v->at[ch][at] - empty->at[ch][at];
        sum += d * d;
    }
    return fmin(1, fmax(0, (sqrt(sum) - 40) / 80));
}

/* Turn k of a pixel at (x, y) from the middle: its direction as a complex number, to the power k. */
static void add_pixel(struct outline *o, double weight, double x, double y)
{
    double r = sqrt(x * x + y * y), along = 1, across = 0;
    for (int k = 0; k < TURNS && r > 0; k++) {
        double turned = (along * x - across * y) / r;
        across = (along * y + across * x) / r;
        along = turned;
        o->along[k] += weight * r * r * along;
        o->across[k] += weight * r * r * across;
    }
}

struct window { int x0, y0, x1, y1; };

static struct outline outline_of(const struct scenestretch_view *v, const struct scenestretch_view *empty,
                                 struct window w)
{
    double there[SCENE_SIDE * SCENE_SIDE], sum = 1e-6, x = 0, y = 0, spread = 1e-6;
    struct outline o = {{0}, {0}};
    for (int row = w.y0; row < w.y1; row++)
        for (int col = w.x0; col < w.x1; col++) {
            double m = stands_out(v, empty, (row + 1) * SCENETABLE_STRIDE + col + 1);
            there[row * SCENE_SIDE + col] = m;
            sum += m;
            x += m * col;
            y += m * row;
        }
    x /= sum;
    y /= sum;
    for (int row = w.y0; row < w.y1; row++)
        for (int col = w.x0; col < w.x1; col++) {
            double m = there[row * SCENE_SIDE + col];
            spread += m * ((col - x) * (col - x) + (row - y) * (row - y));
            add_pixel(&o, m, col - x, row - y);
        }
    for (int k = 0; k < TURNS; k++) {
        o.along[k] /= spread;
        o.across[k] /= spread;
    }
    return o;
}

double sceneoutline_apart(const struct scenestretch_view *a, const struct scenestretch_view *b,
                          const struct scenestretch_view *empty, const struct scene_box *box)
{
    struct window w = {box->x > 0 ? box->x - 1 : 0, box->y > 0 ? box->y - 1 : 0, box->x + box->w + 1,
                       box->y + box->h + 1};
    w.x1 = w.x1 < SCENE_SIDE ? w.x1 : SCENE_SIDE;
    w.y1 = w.y1 < SCENE_SIDE ? w.y1 : SCENE_SIDE;
    struct outline p = outline_of(a, empty, w), q = outline_of(b, empty, w);
    double sum = 0;
    for (int k = 0; k < TURNS; k++) {
        double along = p.along[k] - q.along[k], across = p.across[k] - q.across[k];
        sum += along * along + across * across;
    }
    return sqrt(sum);
}
