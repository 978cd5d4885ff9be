/* bench_super - does a super-resolution model beat bicubic? Scenes at 32 x 32 and the same at 64 x 64.
 *   bench_super make FOLDER N       seen scenes of another seed: pictures in FOLDER/small, FOLDER/prompts.jsonl
 *   muster imagine -m MODEL --prompts FOLDER/prompts.jsonl -o FOLDER/made
 *   bench_super score FOLDER N      PSNR in dB of nearest, bicubic (Keys, a = -0.5) and what was made: of
 *                                   the mean square error over all pictures, and mean over pictures; and
 *                                   of how many the scorer reads what was in the small picture */
#include "coordinator/image/pngfile.h"
#include "coordinator/scenes/measure.h"
#include "coordinator/scenes/scenemarks.h"
#include "coordinator/scenes/scenepaint.h"
#include "coordinator/scenes/scenetext.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SIDE = 2 * SCENE_SIDE, N_MAX = 1000 };       /* the batch's folder has no sub-folders then */
static const uint64_t SEED = 20240607;

static int stop(const struct err *err)
{
    fprintf(stderr, "bench_super: %s\n", err->msg);
    return 1;
}

static int make(const char *folder, int n)
{
    char path[4200], text[SCENE_CAPTION_MAX];
    uint8_t small[SCENE_SIDE * SCENE_SIDE * 3];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/small", folder);
    mkdir(folder, 0777);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/prompts.jsonl", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; f != NULL && i < n; i++) {
        struct scene s;
        scene_draw(&s, SEED, (uint32_t)i, SET_SEEN, 0);
        scene_paint(&s, SCENE_SIDE, small);
        scene_caption(&s, SEED, (uint32_t)i, text);
        snprintf(path, sizeof path, "%s/small/%06d.png", folder, i);
        if (pngfile_save(path, small, SCENE_SIDE, SCENE_SIDE, NULL, 0, &err) != ERR_OK)
            return stop(&err);
        fprintf(f, "{\"prompt\": \"%s\", \"init\": \"%s\", \"seed\": %d}\n", text, path, i);
    }
    return f != NULL && fclose(f) == 0 ? 0 : 1;
}

/* Pixel o of an axis twice as long: four taps at a quarter or three quarters, clamped at the edges. */
static double bicubic_axis(const double v[4], int o)
{
    static const double near[4] = {-0.0703125, 0.8671875, 0.2265625, -0.0234375};   /* a quarter behind */
    double sum = 0;
    for (int k = 0; k < 4; k++)
        sum += v[k] * near[o % 2 ? k : 3 - k];
    return sum;
}

static int clamp(int v, int most) { return v < 0 ? 0 : v > most ? most : v; }

static double bicubic(const uint8_t *small, int x, int y, int c)
{
    double rows[4], v[4];
    int x0 = (x + 1) / 2 - 2, y0 = (y + 1) / 2 - 2;
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++)
            v[k] = small[(clamp(y0 + i, SCENE_SIDE - 1) * SCENE_SIDE + clamp(x0 + k, SCENE_SIDE - 1)) * 3 + c];
        rows[i] = bicubic_axis(v, x);
    }
    double sum = bicubic_axis(rows, y);
    return clamp((int)floor(sum + 0.5), 255);
}

enum { NEAREST, BICUBIC, MADE, WAYS };
struct sums { double squares, decibels; };

static double decibels(double mean_square) { return 10 * log10(255.0 * 255.0 / fmax(mean_square, 1e-3)); }

static void add(struct sums s[WAYS], const uint8_t *small, const uint8_t *large, const uint8_t *made)
{
    double squares[WAYS] = {0};
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        int c = i % 3, x = i / 3 % SIDE, y = i / 3 / SIDE;
        double of[WAYS] = {small[(y / 2 * SCENE_SIDE + x / 2) * 3 + c], bicubic(small, x, y, c), made[i]};
        for (int k = 0; k < WAYS; k++)
            squares[k] += (of[k] - large[i]) * (of[k] - large[i]) / (SIDE * SIDE * 3);
    }
    for (int k = 0; k < WAYS; k++) {
        s[k].squares += squares[k];
        s[k].decibels += decibels(squares[k]);
    }
}

/* Place, number, things, colours, relation and sizes as in the scene? */
static bool reads_the_same(struct scorer *scorer, const uint8_t *made, const struct scene *s)
{
    struct scene_facts asked;
    struct scorer_reading r;
    struct scenemarks m;
    sceneprior_facts(s, &asked);
    scorer_read(scorer, made, SIDE, &r);
    scenemarks(&r, &asked, &m);
    return m.right[MARK_ALL];
}

static int score(const char *folder, int n)
{
    static const char *const names[WAYS] = {"nearest", "bicubic", "made"};
    struct sums sums[WAYS] = {{0, 0}};
    struct err why = {0};
    struct scorer *scorer = scorer_new(&why);
    int same = 0;
    if (scorer == NULL)
        return stop(&why);
    for (int i = 0; i < n; i++) {
        char path[4200];
        uint8_t small[SCENE_SIDE * SCENE_SIDE * 3], large[SIDE * SIDE * 3];
        struct picture made;
        struct scene s;
        struct err err = {0};
        scene_draw(&s, SEED, (uint32_t)i, SET_SEEN, 0);
        scene_paint(&s, SCENE_SIDE, small);
        scene_paint(&s, SIDE, large);
        snprintf(path, sizeof path, "%s/made/%06d.png", folder, i);
        if (pngfile_load(&made, path, &err) != ERR_OK)
            return stop(&err);
        if (made.width != SIDE || made.height != SIDE)
            return 1;
        add(sums, small, large, made.rgb);
        same += reads_the_same(scorer, made.rgb, &s);
        pngfile_free(&made);
    }
    for (int k = 0; k < WAYS; k++)
        printf("%s: PSNR %.2f dB over all, %.2f dB on average\n", names[k], decibels(sums[k].squares / n),
               sums[k].decibels / n);
    struct measure_interval share = measure_share(same, n);
    printf("read as the small pictures: %d of %d, %.1f%% (%.1f-%.1f)\n", same, n, 100 * share.share,
           100 * share.low, 100 * share.high);
    scorer_destroy(scorer);
    return 0;
}

int main(int argc, char **argv)
{
    int n = argc == 4 ? atoi(argv[3]) : 0;
    if (n < 1 || n > N_MAX) {
        fprintf(stderr, "bench_super make|score FOLDER N (at most %d)\n", N_MAX);
        return 2;
    }
    return strcmp(argv[1], "make") == 0 ? make(argv[2], n) : score(argv[2], n);
}
