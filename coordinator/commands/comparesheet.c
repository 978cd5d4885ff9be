#include "coordinator/commands/comparesheet.h"

#include "coordinator/image/contactsheet.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { BORDER = 10, GAP = 4, SIDE = 96,         /* pixels; SIDE: what small pictures are enlarged to */
       TITLE_ZOOM = 2, TEXT_ZOOM = 2, LINE = SHEET_GLYPH_HEIGHT * TEXT_ZOOM + 4, WIDTH_MAX = 4096 };

static int zoom_of(const struct picture *p)
{
    return p->width > 0 && p->width < SIDE ? SIDE / p->width : 1;
}

static int width_of_text(const char *text, int zoom)
{
    int n = 0;
    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n * SHEET_GLYPH_WIDTH * zoom;
}

static int larger(int a, int b) { return a > b ? a : b; }

static int row_height(const struct comparesheet_row *r)
{
    int height = 0;
    for (int i = 0; i < r->n; i++)
        height = larger(height, r->picture[i].height * zoom_of(&r->picture[i]));
    return LINE + height + BORDER;
}

static int row_width(const struct comparesheet_row *r)
{
    int width = 0;
    for (int i = 0; i < r->n; i++)
        width += r->picture[i].width * zoom_of(&r->picture[i]) + GAP;
    return larger(width, width_of_text(r->label, TEXT_ZOOM));
}

static void measure(const struct comparesheet *s, int *width, int *height)
{
    *width = width_of_text(s->title, TITLE_ZOOM);
    *height = 2 * BORDER + LINE * (s->n_lines + 1) + BORDER;
    for (int i = 0; i < s->n_lines; i++)
        *width = larger(*width, width_of_text(s->line[i], TEXT_ZOOM));
    for (int i = 0; i < s->n_rows; i++) {
        *width = larger(*width, row_width(&s->row[i]));
        *height += row_height(&s->row[i]);
    }
    *width += 2 * BORDER;
    if (*width > WIDTH_MAX)
        *width = WIDTH_MAX;
}

/* The sheet's font has plain letters only. */
static void write_plain(struct contactsheet *to, int y, const char *text, int zoom)
{
    utf8proc_uint8_t *plain = NULL;
    utf8proc_map((const utf8proc_uint8_t *)text, 0, &plain,
                 UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_STRIPMARK);
    contactsheet_write(to, BORDER, y, plain != NULL ? (const char *)plain : text, to->width - 2 * BORDER,
                       zoom);
    free(plain);
}

static void put_row(struct contactsheet *to, int y, const struct comparesheet_row *r)
{
    int x = BORDER;
    write_plain(to, y, r->label, TEXT_ZOOM);
    for (int i = 0; i < r->n; i++) {
        const struct picture *p = &r->picture[i];
        contactsheet_put(to, x, y + LINE, p->rgb, p->width, p->height, zoom_of(p));
        x += p->width * zoom_of(p) + GAP;
    }
}

int comparesheet_save(const struct comparesheet *s, const char *path, struct err *err)
{
    struct contactsheet sheet;
    int width, height, y = BORDER;
    measure(s, &width, &height);
    TRY(contactsheet_init(&sheet, width, height, err));
    write_plain(&sheet, y, s->title, TITLE_ZOOM);
    y += LINE + BORDER / 2;
    for (int i = 0; i < s->n_lines; i++, y += LINE)
        write_plain(&sheet, y, s->line[i], TEXT_ZOOM);
    y += BORDER;
    for (int i = 0; i < s->n_rows; i++) {
        put_row(&sheet, y, &s->row[i]);
        y += row_height(&s->row[i]);
    }
    int rc = pngfile_save(path, sheet.rgb, sheet.width, sheet.height, NULL, 0, err);
    contactsheet_free(&sheet);
    return rc;
}
