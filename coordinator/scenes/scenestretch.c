#include "coordinator/scenes/scenestretch.h"

#include <string.h>

void scenestretch_init(struct scenestretch *s, const struct scene *scene)
{
    s->scene = *scene;
    for (int i = 0; i < scene->n_things; i++)
        s->box[i] = scene_box_of(&scene->thing[i]);
}

/* --- views */

static float least(float a, float b, float c)
{
    float m = a < b ? a : b;
    return m < c ? m : c;
}

static float most(float a, float b, float c)
{
    float m = a > b ? a : b;
    return m > c ? m : c;
}

/* The frame around the picture takes what is next to it, so that it adds nothing to anybody's neighbours. */
static void frame(float *plane)
{
    for (int row = 1; row <= SCENE_SIDE; row++) {
        float *at = plane + row * SCENETABLE_STRIDE;
        at[0] = at[1];
        at[SCENE_SIDE + 1] = at[SCENE_SIDE];
    }
    memcpy(plane, plane + SCENETABLE_STRIDE, SCENETABLE_STRIDE * sizeof *plane);
    memcpy(plane + (SCENE_SIDE + 1) * SCENETABLE_STRIDE, plane + SCENE_SIDE * SCENETABLE_STRIDE,
           SCENETABLE_STRIDE * sizeof *plane);
}

/* Over 3 x 3 pixels, the share `slack` of the way there. */
static void look_at(const float *at, float slack, float *low_out, float *high_out)
{
    float low[SCENETABLE_PLANE] = {0}, high[SCENETABLE_PLANE] = {0};
    for (int row = 0; row < SCENETABLE_ROWS; row++)
        for (int i = row * SCENETABLE_STRIDE + 1; i <= row * SCENETABLE_STRIDE + SCENE_SIDE; i++) {
            low[i] = least(at[i - 1], at[i], at[i + 1]);
            high[i] = most(at[i - 1], at[i], at[i + 1]);
        }
    for (int i = SCENETABLE_STRIDE; i < SCENETABLE_PLANE - SCENETABLE_STRIDE; i++) {
        float under = least(low[i - SCENETABLE_STRIDE], low[i], low[i + SCENETABLE_STRIDE]);
        float over = most(high[i - SCENETABLE_STRIDE], high[i], high[i + SCENETABLE_STRIDE]);
        low_out[i] = at[i] - slack * (at[i] - under);
        high_out[i] = at[i] + slack * (over - at[i]);
    }
}

void scenestretch_look(struct scenestretch_view *v, int n_things)
{
    for (int ch = 0; ch < 3; ch++) {
        frame(v->at[ch]);
        look_at(v->at[ch], n_things == 2 ? 0.5f : 1, v->low[ch], v->high[ch]);
    }
}

void scenestretch_paint(const struct scenestretch *s, int side, struct scenestretch_view *v)
{
    uint8_t rgb[4 * SCENE_SIDE * SCENE_SIDE * 3];
    scene_paint_place(s->scene.place, s->scene.horizon, side, rgb);
    for (int i = 0; i < s->scene.n_things; i++)
        scene_paint_thing_in(s->scene.thing[i].kind, s->scene.thing[i].colour, &s->box[i], s->scene.place,
                             side, rgb);
    scenetable_planes(rgb, side, v->at);
    scenestretch_look(v, s->scene.n_things);
}

/* --- what is left */

static float beyond(float at, float low, float high)
{
    float under = low - at, over = at - high, d = under > over ? under : over;
    return d > 0 ? d : 0;
}

/* Adds the squares of one channel. Over the edge there is nothing. */
static void add_left(const float *a, const float *a_low, const float *a_high, const float *b,
                     const float *b_low, const float *b_high, float *square)
{
    float d[SCENETABLE_PLANE] = {0}, rows[SCENETABLE_PLANE] = {0};
    for (int row = 1; row <= SCENE_SIDE; row++)
        for (int i = row * SCENETABLE_STRIDE + 1; i <= row * SCENETABLE_STRIDE + SCENE_SIDE; i++) {
            float here = beyond(a[i], b_low[i], b_high[i]), there = beyond(b[i], a_low[i], a_high[i]);
            square[i] += here * here + there * there;
            d[i] = a[i] - b[i];
        }
    for (int i = SCENETABLE_STRIDE; i < SCENETABLE_PLANE - SCENETABLE_STRIDE; i++)
        rows[i] = (d[i - 1] + 2 * d[i] + d[i + 1]) / 4;
    for (int row = 1; row <= SCENE_SIDE; row++)
        for (int i = row * SCENETABLE_STRIDE + 1; i <= row * SCENETABLE_STRIDE + SCENE_SIDE; i++) {
            float blurred = (rows[i - SCENETABLE_STRIDE] + 2 * rows[i] + rows[i + SCENETABLE_STRIDE]) / 4;
            square[i] += blurred * blurred / 4;
        }
}

void scenestretch_left(const struct scenestretch_view *a, const struct scenestretch_view *b, float *square)
{
    memset(square, 0, SCENETABLE_PLANE * sizeof *square);
    for (int ch = 0; ch < 3; ch++)
        add_left(a->at[ch], a->low[ch], a->high[ch], b->at[ch], b->low[ch], b->high[ch], square);
}

double scenestretch_sum(const float *square, const struct scene_box *box)
{
    double sum = 0;
    for (int row = box->y - 1; row <= box->y + box->h; row++)
        for (int col = box->x - 1; col <= box->x + box->w; col++)
            if (row >= 0 && row < SCENE_SIDE && col >= 0 && col < SCENE_SIDE)
                sum += square[(row + 1) * SCENETABLE_STRIDE + col + 1];
    return sum;
}

/* --- the fit */

/* What the fit makes small: what an eye sees, and a quarter of all that is left, so that slopes have no
 * flats. */
static double cost(const struct scenestretch *s, int side, const struct scenestretch_view *picture)
{
    struct scenestretch_view again;
    float square[SCENETABLE_PLANE];
    double sum = 0, sharp = 0;
    scenestretch_paint(s, side, &again);
    scenestretch_left(picture, &again, square);
    for (int row = 1; row <= SCENE_SIDE; row++)
        for (int i = row * SCENETABLE_STRIDE + 1; i <= row * SCENETABLE_STRIDE + SCENE_SIDE; i++) {
            sum += square[i];
            for (int ch = 0; ch < 3; ch++) {
                float d = picture->at[ch][i] - again.at[ch][i];
                sharp += (double)d * d;
            }
        }
    return sum + sharp / 4;
}

/* Within the picture, and still a thing that one knows: no side over 4/3 of the other and a pixel. */
static bool sound(const struct scene_box *b)
{
    enum { LEAST = SCENETABLE_SIZE_MIN - 1, MOST = 28, FATTEST = 4 };
    return b->w >= LEAST && b->h >= LEAST && b->w <= MOST && b->h <= MOST && b->x >= 0 && b->y >= 0 &&
           b->x + b->w <= SCENE_SIDE && b->y + b->h <= SCENE_SIDE && 3 * b->w <= 4 * b->h + 3 &&
           3 * b->h <= 4 * b->w + 3 && b->longer >= -2 && b->longer <= 12 &&
           b->fatter >= 0 && b->fatter <= FATTEST &&
           b->y + b->h + b->longer <= SCENE_SIDE + 2;
}

static struct scene_box moved(struct scene_box b, enum thing kind, int edge, int step)
{
    switch (edge) {
    case 0: b.w += step; break;
    case 1: b.h += step; break;
    case 2: b.x += step; b.w -= step; break;
    case 3: b.y += step; b.h -= step; break;
    default: *(kind == THING_TREE ? &b.longer : &b.fatter) += step; break;
    }
    return b;
}

/* Edge by edge, until no step of one or four pixels is better. */
void scenestretch_fit(struct scenestretch *s, int i, int side, const struct scenestretch_view *picture)
{
    static const int steps[] = {1, -1, 4, -4};
    enum { STEPS = sizeof steps / sizeof *steps, TRIES_MAX = 96 };
    enum thing kind = s->scene.thing[i].kind;
    int edges = kind == THING_TREE || kind == THING_STAR ? 5 : 4;
    double best = cost(s, side, picture);
    for (int k = 0, since = 0; since < STEPS * edges && k < TRIES_MAX; k++, since++) {
        struct scene_box from = s->box[i];
        s->box[i] = moved(from, kind, k % edges, steps[k / edges % STEPS]);
        double c = sound(&s->box[i]) ? cost(s, side, picture) : best;
        if (c < best) {
            best = c;
            since = 0;
        } else
            s->box[i] = from;
    }
}
