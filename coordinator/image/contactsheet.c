#include "coordinator/image/contactsheet.h"

#include "coordinator/image/pngfile.h"

#include <stdlib.h>
#include <string.h>

enum { DOTS_WIDE = 5, DOTS_HIGH = 7 };

/* Rows from the top; the highest of five bits is on the left. */
static const struct { char letter; uint8_t row[DOTS_HIGH]; } font[] = {
    {' ', {0, 0, 0, 0, 0, 0, 0}}, {'!', {4, 4, 4, 4, 4, 0, 4}}, {'"', {10, 10, 0, 0, 0, 0, 0}},
    {'%', {24, 25, 2, 4, 8, 19, 3}}, {'\'', {4, 4, 0, 0, 0, 0, 0}}, {'(', {2, 4, 8, 8, 8, 4, 2}},
    {')', {8, 4, 2, 2, 2, 4, 8}}, {'+', {0, 4, 4, 31, 4, 4, 0}}, {',', {0, 0, 0, 0, 12, 4, 8}},
    {'-', {0, 0, 0, 31, 0, 0, 0}}, {'.', {0, 0, 0, 0, 0, 12, 12}}, {'/', {0, 1, 2, 4, 8, 16, 0}},
    {'0', {14, 17, 19, 21, 25, 17, 14}}, {'1', {4, 12, 4, 4, 4, 4, 14}},
    {'2', {14, 17, 1, 2, 4, 8, 31}}, {'3', {31, 2, 4, 2, 1, 17, 14}},
    {'4', {2, 6, 10, 18, 31, 2, 2}}, {'5', {31, 16, 30, 1, 1, 17, 14}},
    {'6', {6, 8, 16, 30, 17, 17, 14}}, {'7', {31, 1, 2, 4, 8, 8, 8}},
    {'8', {14, 17, 17, 14, 17, 17, 14}}, {'9', {14, 17, 17, 15, 1, 2, 12}},
    {':', {0, 12, 12, 0, 12, 12, 0}}, {'=', {0, 0, 31, 0, 31, 0, 0}}, {'>', {8, 4, 2, 1, 2, 4, 8}},
    {'?', {14, 17, 1, 2, 4, 0, 4}}, {'A', {14, 17, 17, 31, 17, 17, 17}},
    {'B', {30, 17, 17, 30, 17, 17, 30}}, {'C', {14, 17, 16, 16, 16, 17, 14}},
    {'D', {28, 18, 17, 17, 17, 18, 28}}, {'E', {31, 16, 16, 30, 16, 16, 31}},
    {'F', {31, 16, 16, 30, 16, 16, 16}}, {'G', {14, 17, 16, 23, 17, 17, 15}},
    {'H', {17, 17, 17, 31, 17, 17, 17}}, {'I', {14, 4, 4, 4, 4, 4, 14}},
    {'J', {7, 2, 2, 2, 2, 18, 12}}, {'K', {17, 18, 20, 24, 20, 18, 17}},
    {'L', {16, 16, 16, 16, 16, 16, 31}}, {'M', {17, 27, 21, 21, 17, 17, 17}},
    {'N', {17, 17, 25, 21, 19, 17, 17}}, {'O', {14, 17, 17, 17, 17, 17, 14}},
    {'P', {30, 17, 17, 30, 16, 16, 16}}, {'Q', {14, 17, 17, 17, 21, 18, 13}},
    {'R', {30, 17, 17, 30, 20, 18, 17}}, {'S', {15, 16, 16, 14, 1, 1, 30}},
    {'T', {31, 4, 4, 4, 4, 4, 4}}, {'U', {17, 17, 17, 17, 17, 17, 14}},
    {'V', {17, 17, 17, 17, 17, 10, 4}}, {'W', {17, 17, 17, 21, 21, 21, 10}},
    {'X', {17, 17, 10, 4, 10, 17, 17}}, {'Y', {17, 17, 17, 10, 4, 4, 4}},
    {'Z', {31, 1, 2, 4, 8, 16, 31}}, {'a', {0, 0, 14, 1, 15, 17, 15}},
    {'b', {16, 16, 22, 25, 17, 17, 30}}, {'c', {0, 0, 14, 16, 16, 17, 14}},
    {'d', {1, 1, 13, 19, 17, 17, 15}}, {'e', {0, 0, 14, 17, 31, 16, 14}},
    {'f', {6, 9, 8, 28, 8, 8, 8}}, {'g', {0, 15, 17, 17, 15, 1, 14}},
    {'h', {16, 16, 22, 25, 17, 17, 17}}, {'i', {4, 0, 12, 4, 4, 4, 14}},
    {'j', {2, 0, 6, 2, 2, 18, 12}}, {'k', {16, 16, 18, 20, 24, 20, 18}},
    {'l', {12, 4, 4, 4, 4, 4, 14}}, {'m', {0, 0, 26, 21, 21, 17, 17}},
    {'n', {0, 0, 22, 25, 17, 17, 17}}, {'o', {0, 0, 14, 17, 17, 17, 14}},
    {'p', {0, 0, 30, 17, 30, 16, 16}}, {'q', {0, 0, 13, 19, 15, 1, 1}},
    {'r', {0, 0, 22, 25, 16, 16, 16}}, {'s', {0, 0, 14, 16, 14, 1, 30}},
    {'t', {8, 8, 28, 8, 8, 9, 6}}, {'u', {0, 0, 17, 17, 17, 19, 13}},
    {'v', {0, 0, 17, 17, 17, 10, 4}}, {'w', {0, 0, 17, 17, 21, 21, 10}},
    {'x', {0, 0, 17, 10, 4, 10, 17}}, {'y', {0, 0, 17, 17, 15, 1, 14}},
    {'z', {0, 0, 31, 2, 4, 8, 31}},
};

int contactsheet_init(struct contactsheet *s, int width, int height, struct err *err)
{
    memset(s, 0, sizeof *s);
    if (width < 1 || height < 1 || width > PNGFILE_SIDE_MAX || height > PNGFILE_SIDE_MAX ||
        (int64_t)width * height > PNGFILE_PIXELS_MAX)
        return err_set(err, ERR_LIMIT, "a contact sheet of %d x %d pixels is too large", width, height);
    size_t n = (size_t)width * (size_t)height * 3;
    if ((s->rgb = malloc(n)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a contact sheet");
    memset(s->rgb, 255, n);
    s->width = width;
    s->height = height;
    return ERR_OK;
}

void contactsheet_free(struct contactsheet *s)
{
    free(s->rgb);
    memset(s, 0, sizeof *s);
}

static void dot(struct contactsheet *s, int x, int y, const uint8_t *rgb, int zoom)
{
    for (int i = y; i < y + zoom; i++)
        for (int k = x; k < x + zoom; k++)
            if (i >= 0 && i < s->height && k >= 0 && k < s->width)
                memcpy(s->rgb + ((size_t)i * (size_t)s->width + (size_t)k) * 3, rgb, 3);
}

void contactsheet_put(struct contactsheet *s, int x, int y, const uint8_t *rgb, int w, int h, int zoom)
{
    for (int i = 0; i < h; i++)
        for (int k = 0; k < w; k++)
            dot(s, x + k * zoom, y + i * zoom, rgb + ((size_t)i * (size_t)w + (size_t)k) * 3, zoom);
}

static const uint8_t *glyph_of(char letter)
{
    static const uint8_t box[DOTS_HIGH] = {31, 17, 17, 17, 17, 17, 31};
    for (size_t i = 0; i < sizeof font / sizeof *font; i++)
        if (font[i].letter == letter)
            return font[i].row;
    return box;
}

int contactsheet_write(struct contactsheet *s, int x, int y, const char *text, int width, int zoom)
{
    static const uint8_t black[3] = {0, 0, 0};
    int taken = 0;
    for (; *text != '\0' && taken + SHEET_GLYPH_WIDTH * zoom <= width; text++) {
        if (((unsigned char)*text & 0xc0) == 0x80)
            continue;       /* one box for a letter of several bytes */
        const uint8_t *row = glyph_of(*text);
        for (int i = 0; i < DOTS_HIGH; i++)
            for (int k = 0; k < DOTS_WIDE; k++)
                if (row[i] >> (DOTS_WIDE - 1 - k) & 1)
                    dot(s, x + taken + k * zoom, y + i * zoom, black, zoom);
        taken += SHEET_GLYPH_WIDTH * zoom;
    }
    return taken;
}
