#include "coordinator/image/tiling.h"

enum { CORE_LEAST = 64 };

static int rounded(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

/* A core of twice the reach: three quarters of the work is for the surroundings, but a picture of a
 * few hundred pixels still has several blocks to share out. */
void tiling_init(struct tiling *t, int width, int height, int reach, int multiple)
{
    t->width = width;
    t->height = height;
    t->halo = rounded(reach, multiple);
    t->core = rounded(2 * reach > CORE_LEAST ? 2 * reach : CORE_LEAST, multiple);
    t->columns = (width + t->core - 1) / t->core;
    t->rows = (height + t->core - 1) / t->core;
}

static void span(int size, int core, int halo, int i, int *at, int *n, int *keep, int *n_keep)
{
    int begin = i * core, end = begin + core < size ? begin + core : size;
    int first = begin - halo > 0 ? begin - halo : 0, last = end + halo < size ? end + halo : size;
    *at = first;
    *n = last - first;
    *keep = begin;
    *n_keep = end - begin;
}

struct tiling_block tiling_block(const struct tiling *t, int i)
{
    struct tiling_block b;
    span(t->width, t->core, t->halo, i % t->columns, &b.x, &b.w, &b.keep_x, &b.keep_w);
    span(t->height, t->core, t->halo, i / t->columns, &b.y, &b.h, &b.keep_y, &b.keep_h);
    return b;
}
