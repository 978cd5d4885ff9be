/* Pictures as PNG: what goes out comes in, every kind of PNG becomes RGB, broken ones are one line. */
#include "coordinator/image/pngfile.h"

#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { W = 13, H = 7 };

static void make_rgb(uint8_t rgb[W * H * 3])
{
    for (int i = 0; i < W * H * 3; i++)
        rgb[i] = (uint8_t)(i * 37 + i / 5);
}

static void test_round_trip(void **state)
{
    (void)state;
    static char long_text[100000];
    memset(long_text, 'x', sizeof long_text - 1);
    const struct picture_text text[] = {{"parameters", "a blue car\nSteps: 20, Seed: 7"},
                                        {"muster", "{\"prompt\": \"caf\xc3\xa9 \xe2\x98\x83\"}"},
                                        {"Empty", ""},
                                        {"Long", long_text}};
    uint8_t rgb[W * H * 3], *bytes, *again;
    size_t n, n_again;
    struct picture p;
    struct err err = {0};
    make_rgb(rgb);
    assert_int_equal(pngfile_encode(rgb, W, H, text, 4, &bytes, &n, &err), ERR_OK);
    assert_int_equal(pngfile_encode(rgb, W, H, text, 4, &again, &n_again, &err), ERR_OK);
    assert_int_equal(n, n_again);
    assert_memory_equal(bytes, again, n);
    assert_int_equal(pngfile_decode(&p, bytes, n, "x.png", &err), ERR_OK);
    assert_int_equal(p.width, W);
    assert_int_equal(p.height, H);
    assert_memory_equal(p.rgb, rgb, sizeof rgb);
    assert_int_equal(p.n_text, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(pngfile_text_of(&p, text[i].key), text[i].value);
    assert_null(pngfile_text_of(&p, "other"));
    pngfile_free(&p);
    pngfile_free(&p);
    free(bytes);
    free(again);
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_png.XXXXXX", path[64], other[64];
    uint8_t rgb[W * H * 3];
    struct picture p;
    struct err err = {0};
    make_rgb(rgb);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.png", dir);
    assert_int_equal(pngfile_save(path, rgb, W, H, NULL, 0, &err), ERR_OK);
    assert_int_equal(pngfile_load(&p, path, &err), ERR_OK);
    assert_memory_equal(p.rgb, rgb, sizeof rgb);
    assert_int_equal(p.n_text, 0);
    pngfile_free(&p);
    snprintf(other, sizeof other, "%s/none/b.png", dir);
    assert_int_equal(pngfile_save(other, rgb, W, H, NULL, 0, &err), ERR_OUTPUT);
    assert_non_null(strstr(err.msg, "none/b.png"));
    err = (struct err){0};
    assert_int_equal(pngfile_load(&p, other, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "none/b.png: No such file"));
    assert_null(p.rgb);
    err = (struct err){0};
    assert_int_equal(pngfile_load(&p, dir, &err), ERR_IO);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);    /* no temporary file is left */
}

static void test_bad_arguments(void **state)
{
    (void)state;
    uint8_t rgb[W * H * 3] = {0}, *bytes;
    size_t n;
    struct err err = {0};
    assert_int_equal(pngfile_encode(rgb, 0, H, NULL, 0, &bytes, &n, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "0 x 7"));
    static const char *const keys[] = {"", " a", "a ", "a  b", "a\nb", "caf\xe9",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct picture_text t = {(char *)keys[i], "v"};
        err = (struct err){0};
        assert_int_equal(pngfile_encode(rgb, W, H, &t, 1, &bytes, &n, &err), ERR_INVAL);
        assert_non_null(strstr(err.msg, "cannot name a text"));
        assert_null(bytes);
    }
}

/* --- kinds of PNG, written by libpng itself */

struct kind { int type, bits, interlace; bool trns; };

struct memory { uint8_t p[1 << 16]; size_t n; };

static void put(png_structp png, png_bytep bytes, size_t n)
{
    struct memory *m = png_get_io_ptr(png);
    assert_true(m->n + n <= sizeof m->p);
    memcpy(m->p + m->n, bytes, n);
    m->n += n;
}

static void put_flush(png_structp png) { (void)png; }

/* Sample c of pixel i, in the depth of k: something that varies. */
static unsigned sample(const struct kind *k, int i, int c)
{
    unsigned most = k->type == PNG_COLOR_TYPE_PALETTE ? 3 : (1u << k->bits) - 1;
    return (unsigned)(i * 71 + c * 1013 + i * i * 3) % (most + 1);
}

static const png_color palette[4] = {{1, 2, 3}, {200, 100, 50}, {0, 255, 9}, {77, 66, 55}};
static const png_byte palette_alpha[2] = {0, 128};

static void write_kind(const struct kind *k, struct memory *m)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    uint8_t row[H][W * 8] = {{0}};
    png_bytep rows[H];
    int channels = k->type == PNG_COLOR_TYPE_RGBA ? 4 : k->type == PNG_COLOR_TYPE_RGB ? 3
                 : k->type == PNG_COLOR_TYPE_GRAY_ALPHA ? 2 : 1;
    m->n = 0;
    png_set_write_fn(png, m, put, put_flush);
    png_set_IHDR(png, info, W, H, k->bits, k->type, k->interlace, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (k->type == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 4);
        if (k->trns)
            png_set_tRNS(png, info, (png_bytep)palette_alpha, 2, NULL);
    }
    for (int i = 0; i < W * H * channels; i++) {
        int y = i / (W * channels), at = i % (W * channels);
        unsigned v = sample(k, i / channels, i % channels);
        if (k->bits == 16) {
            row[y][2 * at] = (uint8_t)(v >> 8);
            row[y][2 * at + 1] = (uint8_t)v;
        } else {
            row[y][at * k->bits / 8] |= (uint8_t)(v << (8 - k->bits - at * k->bits % 8));
        }
        rows[y] = row[y];
    }
    png_write_info(png, info);
    png_write_image(png, rows);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
}

/* What pixel i, channel c of 3 must be. */
static int wanted(const struct kind *k, int i, int c)
{
    int most = (1 << k->bits) - 1, v = 0, alpha = 255;
    if (k->type == PNG_COLOR_TYPE_PALETTE) {
        unsigned at = sample(k, i, 0);
        v = c == 0 ? palette[at].red : c == 1 ? palette[at].green : palette[at].blue;
        alpha = k->trns && at < 2 ? palette_alpha[at] : 255;
    } else {
        bool grey = k->type == PNG_COLOR_TYPE_GRAY || k->type == PNG_COLOR_TYPE_GRAY_ALPHA;
        v = ((int)sample(k, i, grey ? 0 : c) * 255 * 2 + most) / (2 * most);
        if (k->type & PNG_COLOR_MASK_ALPHA)
            alpha = ((int)sample(k, i, grey ? 1 : 3) * 255 * 2 + most) / (2 * most);
    }
    return (v * alpha + 255 * (255 - alpha) + 127) / 255;
}

static void test_kinds(void **state)
{
    (void)state;
    static struct memory m;
    static const struct kind kinds[] = {
        {PNG_COLOR_TYPE_GRAY, 1, 0, false},       {PNG_COLOR_TYPE_GRAY, 2, 1, false},
        {PNG_COLOR_TYPE_GRAY, 4, 0, false},       {PNG_COLOR_TYPE_GRAY, 8, 1, false},
        {PNG_COLOR_TYPE_GRAY, 16, 0, false},      {PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0, false},
        {PNG_COLOR_TYPE_GRAY_ALPHA, 16, 1, false},{PNG_COLOR_TYPE_RGB, 8, 1, false},
        {PNG_COLOR_TYPE_RGB, 16, 0, false},       {PNG_COLOR_TYPE_RGBA, 8, 0, false},
        {PNG_COLOR_TYPE_RGBA, 16, 1, false},      {PNG_COLOR_TYPE_PALETTE, 2, 0, false},
        {PNG_COLOR_TYPE_PALETTE, 8, 1, true},
    };
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        struct picture p;
        struct err err = {0};
        write_kind(&kinds[n], &m);
        assert_int_equal(pngfile_decode(&p, m.p, m.n, "kind.png", &err), ERR_OK);
        assert_int_equal(p.width, W);
        assert_int_equal(p.height, H);
        for (int i = 0; i < W * H * 3; i++)
            if (p.rgb[i] != wanted(&kinds[n], i / 3, i % 3))
                fail_msg("kind %zu, pixel %d, channel %d: %d, not %d", n, i / 3, i % 3, p.rgb[i],
                         wanted(&kinds[n], i / 3, i % 3));
        pngfile_free(&p);
    }
}

/* --- broken files */

static void test_every_cut_is_an_error(void **state)
{
    (void)state;
    const struct picture_text text = {"parameters", "a blue car"};
    uint8_t rgb[W * H * 3], *bytes;
    size_t n;
    struct picture p;
    struct err err = {0};
    make_rgb(rgb);
    assert_int_equal(pngfile_encode(rgb, W, H, &text, 1, &bytes, &n, &err), ERR_OK);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, bytes, cut);
        err = (struct err){0};
        assert_int_equal(pngfile_decode(&p, exact, cut, "cut.png", &err), ERR_FORMAT);
        assert_non_null(strstr(err.msg, cut < 8 ? "cut.png: is no PNG" : "the file ends too early"));
        assert_null(p.rgb);
        free(exact);
    }
    /* a bit turned anywhere: an error, or (in a text, whose chunk is left out) the same pixels */
    for (size_t bit = 0; bit < n * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        err = (struct err){0};
        int rc = pngfile_decode(&p, bytes, n, "bit.png", &err);
        if (rc == ERR_OK) {
            assert_memory_equal(p.rgb, rgb, sizeof rgb);
            assert_int_equal(p.n_text, 0);
        } else if (rc == ERR_LIMIT || rc == ERR_FORMAT) {
            assert_non_null(strstr(err.msg, "bit.png: "));
        } else {
            fail_msg("bit %zu: code %d", bit, rc);
        }
        pngfile_free(&p);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(bytes);
}

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* A sound header that promises more than there is or than is read. */
static void test_huge_sizes(void **state)
{
    (void)state;
    static const struct { uint32_t width, height; int code; } cases[] = {
        {20000, 20000, ERR_LIMIT}, {32768, 32768, ERR_LIMIT}, {40000, 1, ERR_FORMAT},
        {0x7fffffff, 0x7fffffff, ERR_FORMAT}, {0, 5, ERR_FORMAT}, {1000, 1000, ERR_FORMAT}};
    uint8_t rgb[W * H * 3] = {0}, *bytes;
    size_t n;
    struct picture p;
    struct err err = {0};
    assert_int_equal(pngfile_encode(rgb, W, H, NULL, 0, &bytes, &n, &err), ERR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_be32(bytes + 16, cases[i].width);
        put_be32(bytes + 20, cases[i].height);
        put_be32(bytes + 29, crc_of(bytes + 12, 17));
        err = (struct err){0};
        assert_int_equal(pngfile_decode(&p, bytes, n, "huge.png", &err), cases[i].code);
        assert_non_null(strstr(err.msg, "huge.png: "));
        assert_null(p.rgb);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_files),
        cmocka_unit_test(test_bad_arguments),cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_every_cut_is_an_error), cmocka_unit_test(test_huge_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
