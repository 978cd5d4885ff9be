#include "coordinator/train/trainpreview.h"

#include "coordinator/image/pngfile.h"
#include "proto/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ACROSS = 8, GAP = 2, PATH_BYTES = 4200, SIDE_MAX = 1024 };

/* Picture [3, side, side] into its place of the sheet [height, width, 3]. */
static void place(uint8_t *sheet, int width, const uint8_t *planes, int side, int at)
{
    int left = at % ACROSS * (side + GAP), top = at / ACROSS * (side + GAP);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < 3; c++)
                sheet[((top + y) * width + left + x) * 3 + c] = planes[(c * side + y) * side + x];
}

static int save_sheet(const Muster__TrainPreview *p, const char *dir, const uint8_t *sheet, int width,
                      int height, struct eventfile *events, struct err *err)
{
    char path[PATH_BYTES];
    uint8_t *png;
    size_t n;
    snprintf(path, sizeof path, "%s/preview-%06llu.png", dir, (unsigned long long)p->step);
    TRY(pngfile_save(path, sheet, width, height, NULL, 0, err));
    TRY(pngfile_encode(sheet, width, height, NULL, 0, &png, &n, err));
    int rc = eventfile_picture(events, (int64_t)p->step, "preview", width, height, png, n, err);
    free(png);
    return rc;
}

static int take_pictures(const Muster__TrainPreview *p, const char *dir, struct eventfile *events,
                         struct err *err)
{
    const Muster__TrainTensor *t = p->tensor[0];
    uint64_t n = t->shape[0], side = t->shape[3];
    if (n < 1 || n > TRAINPREVIEW_MAX || t->shape[1] != 3 || t->shape[2] != side || side < 1 ||
        side > SIDE_MAX || t->data.len != n * 3 * side * side)
        return err_set(err, ERR_PEER, "previews that are no pictures");
    int across = n < ACROSS ? (int)n : ACROSS, down = ((int)n + ACROSS - 1) / ACROSS, step = (int)side + GAP;
    int width = across * step - GAP, height = down * step - GAP;
    uint8_t *sheet = calloc((size_t)width * (size_t)height, 3);
    if (sheet == NULL)
        return err_set(err, ERR_NOMEM, "no memory for previews");
    for (int i = 0; i < (int)n; i++)
        place(sheet, width, t->data.data + (size_t)i * 3 * side * side, (int)side, i);
    int rc = save_sheet(p, dir, sheet, width, height, events, err);
    free(sheet);
    return rc;
}

static int put_line(FILE *f, const struct tokenizer *t, const int32_t *ids, int n, uint64_t step,
                    struct err *err)
{
    char *text;
    size_t bytes;
    TRY(tokenizer_decode(t, ids, n, true, &text, &bytes, err));
    fprintf(f, "step %llu: %s\n", (unsigned long long)step, text);
    free(text);
    return ERR_OK;
}

/* ids [n, length] */
static int take_text(const Muster__TrainPreview *p, const char *dir, const struct tokenizer *t,
                     struct err *err)
{
    const Muster__TrainTensor *ids = p->tensor[0];
    uint64_t n = ids->shape[0], length = ids->shape[1];
    char path[PATH_BYTES];
    if (t == NULL || n > TRAINPREVIEW_MAX || length > 1 << 16 || ids->data.len != n * length * 4)
        return err_set(err, ERR_PEER, "previews that are no text");
    snprintf(path, sizeof path, "%s/preview.txt", dir);
    FILE *f = fopen(path, "a");
    if (f == NULL)
        return err_set(err, ERR_OUTPUT, "%.150s: %s", path, strerror(errno));
    int rc = ERR_OK;
    for (uint64_t i = 0; i < n && rc == ERR_OK; i++)
        rc = put_line(f, t, (const int32_t *)(const void *)ids->data.data + i * length, (int)length, p->step,
                      err);
    if (fclose(f) != 0 && rc == ERR_OK)
        rc = err_set(err, ERR_OUTPUT, "%.150s: %s", path, strerror(errno));
    return rc;
}

int trainpreview_take(const Muster__TrainPreview *p, const char *dir, const struct tokenizer *t,
                      struct eventfile *events, struct err *err)
{
    if (p->n_tensor == 1 && p->tensor[0]->dtype == WIRE_U8 && p->tensor[0]->n_shape == 4)
        return take_pictures(p, dir, events, err);
    if (p->n_tensor == 1 && p->tensor[0]->dtype == WIRE_I32 && p->tensor[0]->n_shape == 2)
        return take_text(p, dir, t, err);
    return err_set(err, ERR_PEER, "previews of a kind that is unknown");
}
