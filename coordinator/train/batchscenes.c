/* batchscenes.c - the built-in world as training data: a picture, its caption, one of another scene. */
#include "coordinator/train/batchrows.h"

#include "coordinator/scenes/scenepaint.h"
#include "coordinator/scenes/scenetext.h"
#include "proto/wire.h"

#include <string.h>

static bool takes(const char *data, const struct batch_want *w)
{
    return strcmp(data, "scenes") == 0 && w->side > 0;
}

static int open_scenes(struct batchsource *s, const char *path, const struct batch_want *w,
                       struct err *err)
{
    (void)path;
    if (w->side != 32 && w->side != 64)
        return err_set(err, ERR_INVAL, "scenes are pictures of 32 or 64 pixels, not %d", w->side);
    if (w->small && w->side != 64)
        return err_set(err, ERR_INVAL, "scenes twice as large as 32 are 64 pixels, not %d", w->side);
    s->n_samples = 0;
    return ERR_OK;
}

static void draw(struct scene *out, uint64_t seed, uint64_t number)
{
    uint32_t index;
    batchrows_world(&seed, &index, number);
    scene_draw(out, seed, index, SET_SEEN, 0);
}

/* [side, side, 3] bytes to [3, side, side]. */
static void to_planes(const uint8_t *rgb, int side, uint8_t *out)
{
    int n = side * side;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            out[c * n + i] = rgb[3 * i + c];
}

struct places { uint8_t *pixels, *small; int32_t *ids, *wrong; };

static int fill_one(const struct batchsource *s, uint64_t number, int at, const struct places *to,
                    struct err *err)
{
    const struct batch_want *w = &s->want;
    struct scene scene;
    uint8_t rgb[2 * SCENE_SIDE * 2 * SCENE_SIDE * 3];
    char text[SCENE_CAPTION_MAX];
    uint64_t seed = w->seed + (w->held_out ? BATCHROWS_HELD_OUT : 0);
    draw(&scene, seed, number);
    if (to->pixels != NULL) {
        scene_paint(&scene, w->side, rgb);
        to_planes(rgb, w->side, to->pixels + (size_t)at * 3 * (size_t)(w->side * w->side));
    }
    if (to->small != NULL) {
        scene_paint(&scene, w->side / 2, rgb);
        to_planes(rgb, w->side / 2, to->small + (size_t)at * 3 * (size_t)(w->side * w->side / 4));
    }
    if (to->ids != NULL) {
        scene_caption(&scene, seed, (uint32_t)number, text);
        TRY(batchsource_caption(s, batchsource_drops(s, number) ? NULL : text, to->ids + at * w->length,
                                err));
    }
    if (to->wrong != NULL) {
        draw(&scene, w->seed + BATCHROWS_WRONG, number);
        scene_caption(&scene, w->seed + BATCHROWS_WRONG, (uint32_t)number, text);
        TRY(batchsource_caption(s, text, to->wrong + at * w->length, err));
    }
    return ERR_OK;
}

static int fill(struct batchsource *s, const uint64_t *number, int n, Muster__TrainBatch *out,
                struct arena *mem, struct err *err)
{
    const struct batch_want *w = &s->want;
    uint64_t count = (uint64_t)n, side = (uint64_t)w->side, length = (uint64_t)w->length;
    struct places to = {0};
    if (w->side > 0)
        to.pixels = batchsource_tensor(out, mem, "pixels", WIRE_U8, 4,
                                       (uint64_t[]){count, 3, side, side});
    if (w->small)
        to.small = batchsource_tensor(out, mem, "small", WIRE_U8, 4,
                                      (uint64_t[]){count, 3, side / 2, side / 2});
    if (w->length > 0)
        to.ids = batchsource_tensor(out, mem, "ids", WIRE_I32, 2, (uint64_t[]){count, length});
    if (w->wrong_caption && w->length > 0)
        to.wrong = batchsource_tensor(out, mem, "wrong_ids", WIRE_I32, 2, (uint64_t[]){count, length});
    if (out->n_tensor != (size_t)((w->side > 0) + w->small + (w->length > 0) +
                                  (w->wrong_caption && w->length > 0)))
        return err_set(err, ERR_NOMEM, "no memory for a batch of %d scenes", n);
    for (int i = 0; i < n; i++)
        TRY(fill_one(s, number[i], i, &to, err));
    return ERR_OK;
}

static void close_scenes(struct batchsource *s) { (void)s; }

const struct batchsource_row batchsource_scenes = {
    .takes = takes, .open = open_scenes, .fill = fill, .close = close_scenes};
