/* The small parts of training: event files, configurations, orders of samples, drawn numbers, lines of
 * numbers, and sums over parts on any number of ranks. */
#include "coordinator/image/pngfile.h"
#include "coordinator/scenes/scenecorpus.h"
#include "coordinator/scenes/scenepaint.h"
#include "coordinator/scenes/scenetext.h"
#include "coordinator/train/batchsource.h"
#include "coordinator/train/captiontokens.h"
#include "coordinator/train/eventfile.h"
#include "proto/wire.h"
#include "tensorboard.pb-c.h"
#include "tests/unit/rankteam.h"
#include "workers/models/nnrows.h"
#include "workers/parallel/sharesum.h"
#include "workers/train/dpsync.h"
#include "workers/train/trainconfig.h"
#include "workers/train/traindraw.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* --- event files */

static void test_crc(void **state)
{
    (void)state;
    assert_int_equal(eventfile_crc((const uint8_t *)"123456789", 9), 0xe3069283);     /* the catalogue's */
    uint32_t crc = 0xe3069283;
    assert_int_equal(eventfile_masked_crc((const uint8_t *)"123456789", 9),
                     (crc >> 15 | crc << 17) + 0xa282ead8u);
}

static uint64_t little(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* The next record of a file's bytes; its checksums must fit. */
static Tensorboard__Event *next_event(const uint8_t *bytes, size_t n, size_t *at)
{
    assert_true(*at + 16 <= n);
    uint64_t length = little(bytes + *at, 8);
    assert_int_equal(little(bytes + *at + 8, 4), eventfile_masked_crc(bytes + *at, 8));
    assert_true(*at + 16 + length <= n);
    const uint8_t *data = bytes + *at + 12;
    assert_int_equal(little(data + length, 4), eventfile_masked_crc(data, length));
    *at += 16 + length;
    return tensorboard__event__unpack(NULL, length, data);
}

static void test_event_file(void **state)
{
    (void)state;
    char dir[] = "/tmp/muster-events-XXXXXX";
    struct eventfile e;
    struct err err = {0};
    uint8_t bytes[4096];
    assert_non_null(mkdtemp(dir));
    assert_int_equal(eventfile_open(&e, dir, &err), ERR_OK);
    assert_int_equal(eventfile_scalar(&e, 7, "loss", 0.5, &err), ERR_OK);
    assert_int_equal(eventfile_picture(&e, 8, "preview", 3, 2, (const uint8_t *)"PNG", 3, &err), ERR_OK);
    FILE *f = fopen(e.path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f), at = 0;
    fclose(f);
    Tensorboard__Event *first = next_event(bytes, n, &at), *second = next_event(bytes, n, &at),
                       *third = next_event(bytes, n, &at);
    assert_int_equal(at, n);
    assert_string_equal(first->file_version, "brain.Event:2");
    assert_int_equal(second->step, 7);
    assert_string_equal(second->summary->value[0]->tag, "loss");
    assert_true(second->summary->value[0]->simple_value == 0.5f);
    assert_int_equal(third->summary->value[0]->image->width, 3);
    assert_int_equal(third->summary->value[0]->image->encoded_image_string.len, 3);
    tensorboard__event__free_unpacked(first, NULL);
    tensorboard__event__free_unpacked(second, NULL);
    tensorboard__event__free_unpacked(third, NULL);
    unlink(e.path);
    eventfile_close(&e);
    eventfile_close(&e);
    rmdir(dir);
    assert_int_equal(eventfile_open(&e, "/proc/nowhere", &err), ERR_OUTPUT);
}

/* --- configurations */

static void test_config(void **state)
{
    (void)state;
    struct trainconfig *c = calloc(1, sizeof *c);
    struct err err = {0};
    static const char *const words[] = {"flow", "v", NULL};
    assert_int_equal(trainconfig_open(c, "{\"task\": \"x\", \"batch\": 8, \"a\": 3, \"b\": 0.5, \"c\": true, "
                                         "\"d\": \"v\"}", &err), ERR_OK);
    assert_int_equal(c->batch, 8);
    assert_int_equal(trainconfig_int(c, "a", 0, 0, 10), 3);
    assert_true(trainconfig_real(c, "b", 0, 0, 1) == 0.5);
    assert_true(trainconfig_flag(c, "c", false));
    assert_int_equal(trainconfig_choice(c, "d", 0, words), 1);
    assert_int_equal(trainconfig_int(c, "absent", 5, 0, 10), 5);
    assert_int_equal(trainconfig_finish(c, &err), ERR_OK);
    trainconfig_close(c);
    trainconfig_close(c);
    assert_int_equal(trainconfig_open(c, "{\"a\": 30}", &err), ERR_OK);
    assert_int_equal(trainconfig_int(c, "a", 1, 0, 10), 1);
    assert_int_equal(trainconfig_finish(c, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "a wants a whole number from 0 to 10"));
    trainconfig_close(c);
    err = (struct err){0};
    assert_int_equal(trainconfig_open(c, "{\"wrong\": 1}", &err), ERR_OK);
    assert_int_equal(trainconfig_finish(c, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "wrong"));
    trainconfig_close(c);
    err = (struct err){0};
    assert_int_equal(trainconfig_open(c, "[1]", &err), ERR_INVAL);
    err = (struct err){0};
    assert_int_equal(trainconfig_open(c, "{", &err), ERR_INVAL);
    free(c);
}

/* --- samples */

static void test_shuffle(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 7, 64, 100, 257};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            uint8_t seen[257] = {0};
            for (uint64_t i = 0; i < counts[k]; i++) {
                uint64_t at = batchsource_shuffled(5, epoch * counts[k] + i, counts[k]);
                assert_true(at < counts[k] && !seen[at]);
                seen[at] = 1;
            }
        }
    int moved = 0;
    for (uint64_t i = 0; i < 100; i++)
        moved += batchsource_shuffled(5, i, 100) != batchsource_shuffled(5, 100 + i, 100);
    assert_true(moved > 80);
}

static void test_scenes(void **state)
{
    (void)state;
    char dir[] = "/tmp/muster-tokens-XXXXXX", command[64];
    struct tokenizer *t;
    struct batchsource s;
    struct arena mem;
    struct err err = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(captiontokens_learn(dir, BPETRAIN_CLIP, 1, 600, 24, &err), ERR_OK);
    assert_int_equal(captiontokens_open(&t, dir, &err), ERR_OK);
    struct batch_want w = {.seed = 3, .side = 64, .small = true, .length = 24, .caption_dropout = 0.5,
                           .wrong_caption = true, .tokenizer = t};
    assert_int_equal(arena_init(&mem, 16 << 20), ERR_OK);
    assert_int_equal(batchsource_open(&s, "scenes", &w, &err), ERR_OK);
    Muster__TrainBatch all = MUSTER__TRAIN_BATCH__INIT, one = MUSTER__TRAIN_BATCH__INIT;
    uint64_t number[64];
    for (int i = 0; i < 64; i++)
        number[i] = (uint64_t)i << (i % 2 ? 33 : 0);
    assert_int_equal(batchsource_fill(&s, number, 64, &all, &mem, &err), ERR_OK);
    assert_int_equal(batchsource_fill(&s, number + 9, 1, &one, &mem, &err), ERR_OK);
    assert_int_equal(all.n_tensor, 4);
    for (size_t k = 0; k < all.n_tensor; k++) {         /* a sample is the same in any batch */
        size_t each = one.tensor[k]->data.len;
        assert_int_equal(all.tensor[k]->data.len, 64 * each);
        assert_memory_equal(all.tensor[k]->data.data + 9 * each, one.tensor[k]->data.data, each);
    }
    const int32_t *ids = (const int32_t *)(const void *)all.tensor[2]->data.data;
    int dropped = 0, eos = tokenizer_eos(t);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(ids[24 * i], tokenizer_bos(t));
        assert_int_equal(ids[24 * i + 23], eos);
        assert_int_equal(batchsource_drops(&s, number[i]), ids[24 * i + 1] == eos);
        dropped += ids[24 * i + 1] == eos;
    }
    assert_in_range(dropped, 16, 48);
    batchsource_close(&s);
    batchsource_close(&s);
    w.side = 48;
    assert_int_equal(batchsource_open(&s, "scenes", &w, &err), ERR_INVAL);
    arena_free(&mem);
    tokenizer_close(t);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* Rows of texts: whole ones between end tokens, the same in any batch; others when held out. */
static void test_tales(void **state)
{
    (void)state;
    enum { LENGTH = 96, N = 8 };
    char dir[] = "/tmp/muster-tales-XXXXXX", command[64], text[SCENE_TEXT_MAX];
    struct tokenizer *t;
    struct batchsource s, held;
    struct arena mem;
    struct err err = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(captiontokens_learn(dir, BPETRAIN_BYTES, 1, 600, 1024, &err), ERR_OK);
    assert_int_equal(captiontokens_open(&t, dir, &err), ERR_OK);
    struct batch_want w = {.seed = 3, .length = LENGTH, .tokenizer = t};
    assert_int_equal(arena_init(&mem, 16 << 20), ERR_OK);
    assert_int_equal(batchsource_open(&s, "scenes", &w, &err), ERR_OK);
    w.held_out = true;
    assert_int_equal(batchsource_open(&held, "scenes", &w, &err), ERR_OK);
    Muster__TrainBatch all = MUSTER__TRAIN_BATCH__INIT, one = all, other = all;
    uint64_t number[N];
    for (int i = 0; i < N; i++)
        number[i] = (uint64_t)i << (i % 2 ? 40 : 0);
    assert_int_equal(batchsource_fill(&s, number, N, &all, &mem, &err), ERR_OK);
    assert_int_equal(batchsource_fill(&s, number + 5, 1, &one, &mem, &err), ERR_OK);
    assert_int_equal(batchsource_fill(&held, number + 5, 1, &other, &mem, &err), ERR_OK);
    assert_int_equal(all.n_tensor, 1);
    const int32_t *ids = (const int32_t *)(const void *)all.tensor[0]->data.data;
    assert_memory_equal(ids + 5 * LENGTH, one.tensor[0]->data.data, LENGTH * 4);
    assert_memory_not_equal(ids + 5 * LENGTH, other.tensor[0]->data.data, LENGTH * 4);
    assert_memory_not_equal(ids + 5 * LENGTH, ids + LENGTH, LENGTH * 4);

    /* row 0 is the end token, then texts 0, 1, .. of the seed */
    int at = 1;
    assert_int_equal(ids[0], tokenizer_eos(t));
    for (uint32_t k = 0; at < LENGTH; k++) {
        struct token_list want = {0};
        int n = scene_text(3, k, SET_SEEN, TEXT_ANY, NULL, text);
        assert_int_equal(tokenizer_encode(t, text, (size_t)n, (struct tokenize_options){false, false}, &want,
                                          &err), ERR_OK);
        for (int i = 0; i < want.n && at < LENGTH; i++)
            assert_int_equal(ids[at++], want.id[i]);
        if (at < LENGTH)
            assert_int_equal(ids[at++], tokenizer_eos(t));
        token_list_free(&want);
    }
    batchsource_close(&s);
    batchsource_close(&held);
    w.tokenizer = NULL;
    assert_int_equal(batchsource_open(&s, "scenes", &w, &err), ERR_INVAL);
    arena_free(&mem);
    tokenizer_close(t);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* Of a text with a prompt the completion and the end are to be learnt; all of a text without. */
static void test_completions(void **state)
{
    (void)state;
    enum { LENGTH = 8 };
    char dir[] = "/tmp/muster-completions-XXXXXX", path[64];
    struct tokenizer *t;
    struct batchsource s;
    struct arena mem;
    struct err err = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(captiontokens_learn(dir, BPETRAIN_BYTES, 1, 600, 1024, &err), ERR_OK);
    assert_int_equal(captiontokens_open(&t, dir, &err), ERR_OK);
    snprintf(path, sizeof path, "%s/x.jsonl", dir);
    FILE *list = fopen(path, "w");
    for (int i = 0; i < 30; i++)        /* three tokens and the end, each; 19 in 20 rows of two are no test's */
        fputs("{\"prompt\": \" red blue\", \"completion\": \" green\"}\n"
              "{\"text\": \" red blue green\"}\n", list);
    fclose(list);
    struct batch_want w = {.seed = 3, .length = LENGTH, .tokenizer = t};
    assert_int_equal(arena_init(&mem, 1 << 20), ERR_OK);
    assert_int_equal(batchsource_open(&s, path, &w, &err), ERR_OK);
    assert_int_equal(s.n_samples, 30);
    Muster__TrainBatch b = MUSTER__TRAIN_BATCH__INIT;
    assert_int_equal(batchsource_fill(&s, (const uint64_t[]){4}, 1, &b, &mem, &err), ERR_OK);
    assert_int_equal(b.n_tensor, 2);
    assert_string_equal(b.tensor[1]->name, "targets");
    const int32_t *ids = (const int32_t *)(const void *)b.tensor[0]->data.data;
    const int32_t *targets = (const int32_t *)(const void *)b.tensor[1]->data.data;
    assert_int_equal(ids[3], tokenizer_eos(t));
    for (int i = 0; i < LENGTH; i++) {
        assert_int_equal(ids[i], ids[i % 4]);       /* cut at the prompt's end or not: the same tokens */
        assert_int_equal(targets[i], i < 2 ? -1 : ids[i]);
    }
    batchsource_close(&s);
    arena_free(&mem);
    tokenizer_close(t);
    snprintf(path, sizeof path, "rm -r %s", dir);
    assert_int_equal(system(path), 0);
}

/* A folder with the world's own pictures is the world, in another order. */
static void test_pictures(void **state)
{
    (void)state;
    enum { N = 21, SIDE = 32, BYTES = 3 * SIDE * SIDE };
    char dir[] = "/tmp/muster-pictures-XXXXXX", path[64], text[SCENE_CAPTION_MAX];
    struct tokenizer *t;
    struct batchsource world, folder, held;
    struct arena mem;
    struct err err = {0};
    uint8_t rgb[BYTES], seen[N] = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(captiontokens_learn(dir, BPETRAIN_CLIP, 1, 1024, 24, &err), ERR_OK);
    assert_int_equal(captiontokens_open(&t, dir, &err), ERR_OK);
    snprintf(path, sizeof path, "%s/metadata.jsonl", dir);
    FILE *list = fopen(path, "w");
    for (uint32_t i = 0; i < N; i++) {
        struct scene s;
        scene_draw(&s, 3, i, SET_SEEN, 0);
        scene_paint(&s, SIDE, rgb);
        scene_caption(&s, 3, i, text);
        fprintf(list, "{\"file_name\": \"%u.png\", \"text\": \"%s\"}\n", i, text);
        snprintf(path, sizeof path, "%s/%u.png", dir, i);
        assert_int_equal(pngfile_save(path, rgb, SIDE, SIDE, NULL, 0, &err), ERR_OK);
    }
    fclose(list);
    struct batch_want w = {.seed = 3, .side = SIDE, .length = 24, .wrong_caption = true, .tokenizer = t};
    assert_int_equal(arena_init(&mem, 16 << 20), ERR_OK);
    assert_int_equal(batchsource_open(&world, "scenes", &w, &err), ERR_OK);
    assert_int_equal(batchsource_open(&folder, dir, &w, &err), ERR_OK);
    assert_int_equal(folder.n_samples, N);
    w.held_out = true;
    assert_int_equal(batchsource_open(&held, dir, &w, &err), ERR_OK);
    for (uint64_t i = 0; i < 2 * N; i++) {
        struct batchsource *from = i < N ? &folder : &held;
        Muster__TrainBatch a = MUSTER__TRAIN_BATCH__INIT, b = a;
        uint64_t place = batchsource_place(from, i);
        arena_reset(&mem);
        assert_true(i < N ? place < N - 2 : place >= N - 2 && place < N);
        assert_int_equal(batchsource_fill(from, &i, 1, &a, &mem, &err), ERR_OK);
        assert_int_equal(batchsource_fill(&world, &place, 1, &b, &mem, &err), ERR_OK);
        assert_memory_equal(a.tensor[0]->data.data, b.tensor[0]->data.data, BYTES);
        assert_memory_equal(a.tensor[1]->data.data, b.tensor[1]->data.data, 24 * 4);
        assert_memory_not_equal(a.tensor[1]->data.data, a.tensor[2]->data.data, 24 * 4);
        seen[place] += i < N - 2;
    }
    for (int i = 0; i < N - 2; i++)
        assert_int_equal(seen[i], 1);
    batchsource_close(&world);
    batchsource_close(&folder);
    batchsource_close(&held);
    arena_free(&mem);
    tokenizer_close(t);
    snprintf(path, sizeof path, "rm -r %s", dir);
    assert_int_equal(system(path), 0);
}

/* --- numbers */

static void test_normal(void **state)
{
    (void)state;
    enum { N = 100000 };
    static float x[N], y[N];
    double sum = 0, squares = 0, third = 0;
    traindraw_normal(9, 77, 0, x, N);
    traindraw_normal(9, 77, 256, y, N - 1024);       /* four numbers a draw */
    assert_memory_equal(x + 1024, y, (N - 1024) * sizeof *x);
    for (int i = 0; i < N; i++) {
        sum += x[i];
        squares += x[i] * x[i];
        third += x[i] * x[i] * x[i];
    }
    assert_true(fabs(sum / N) < 0.015 && fabs(squares / N - 1) < 0.02 && fabs(third / N) < 0.04);
    traindraw_normal(9, 78, 0, y, 16);
    assert_memory_not_equal(x, y, 16 * sizeof *x);
    traindraw_normal(9, 77 + (UINT64_C(1) << 32), 0, y, 16);
    assert_memory_not_equal(x, y, 16 * sizeof *x);
    assert_true(traindraw_uniform(1, 2, 3) >= 0 && traindraw_uniform(1, 2, 3) < 1);
    traindraw_weights_uniform(1, 2, 0.25, x, N);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(x[i]) <= 0.25f);
}

static void test_rows(void **state)
{
    (void)state;
    for (int n = 1; n <= 40; n++) {
        float x[40], w[40], y[40];
        double sum = 0, spread = 0, dot = 0;
        for (int i = 0; i < n; i++) {
            x[i] = (float)sin(i * 1.7 + n);
            w[i] = (float)cos(i * 0.3);
            sum += x[i];
            dot += (double)x[i] * w[i];
        }
        double mean = sum / n;
        for (int i = 0; i < n; i++)
            spread += (x[i] - mean) * (x[i] - mean);
        assert_true(fabs(nnrows_sum(x, n) - sum) < 1e-12 && fabs(nnrows_dot(x, w, n) - dot) < 1e-12);
        assert_true(fabs(nnrows_spread(x, mean, n) - spread) < 1e-12);
        float top = x[0];
        for (int i = 1; i < n; i++)
            top = x[i] > top ? x[i] : top;
        assert_true(nnrows_max(x, n) == top);
        nnrows_norm(y, x, (float)mean, 2, w, NULL, n);
        for (int i = 0; i < n; i++)
            assert_true(y[i] == (x[i] - (float)mean) * 2 * w[i]);
    }
}

/* --- sums over parts */

enum { N_NUMBERS = 5000, BATCH_MOST = 19 };

struct sums { int batch; float *out; int failures; };

static float part_number(int part, int i) { return (float)sin(part * 12.9898 + i * 78.233) * (float)(1 + i % 97); }

static void sum_body(struct comm *c, int rank, void *ctx)
{
    struct sums *s = ctx;
    static struct dpsync sync[RANKTEAM_MAX];
    struct dpsync *d = &sync[rank];
    struct err err = {0};
    struct nn nn;
    int first, n;
    if (dpsync_init(d, c, s->batch, N_NUMBERS, &err) != ERR_OK) {
        s->failures++;
        return;
    }
    nn_init(&nn, kernels_get(ISA_SCALAR), NULL);
    d->err = &err;
    dpsync_attach(d, &nn, s->batch);
    dpsync_samples(d, s->batch, &first, &n);
    int parts = d->part_end - d->part_begin;
    float *mine = malloc((size_t)parts * N_NUMBERS * sizeof *mine), *out = malloc(N_NUMBERS * sizeof *out);
    for (int p = 0; p < parts; p++)
        for (int i = 0; i < N_NUMBERS; i++)
            mine[p * N_NUMBERS + i] = part_number(d->part_begin + p, i);
    nn_fold(&nn, out, mine, N_NUMBERS);
    if (nn.failed || nn.part_begin[parts] != n)
        s->failures++;
    if (c->n_workers == 1)
        memcpy(s->out, out, N_NUMBERS * sizeof *out);
    else if (memcmp(s->out, out, N_NUMBERS * sizeof *out) != 0)
        s->failures++;
    free(mine);
    free(out);
    nn_free(&nn);
    dpsync_free(d);
}

static void test_sums(void **state)
{
    (void)state;
    static float out[N_NUMBERS];
    for (int batch = 4; batch <= BATCH_MOST; batch += batch < 9 ? 1 : 5)
        for (int ranks = 1; ranks <= 4; ranks++) {
            struct sums s = {.batch = batch, .out = out};
            assert_int_equal(rankteam_run(ranks, sum_body, &s), 0);
            if (s.failures != 0)
                fail_msg("batch %d on %d ranks: %d failures", batch, ranks, s.failures);
        }
    struct sums few = {.batch = 2, .out = out};         /* two parts, three ranks */
    assert_int_equal(rankteam_run(3, sum_body, &few), 0);
    assert_int_equal(few.failures, 3);
}

/* --- sums of which each rank wants a share, begun run by run */

enum { N_RUNS = 9, SHARED = 3 * SHARESUM_BUCKET };

/* Runs out of order, small and larger than a bucket, across borders of shares. */
static const int64_t run_border[N_RUNS + 1] = {0, 5, 70, 71, 40000, 40064, 120000, 190001, 190500, SHARED};
static const int run_order[N_RUNS] = {8, 3, 0, 7, 5, 6, 1, 4, 2};

struct shared { int batch; float *out; int failures; };

static float run_number(int part, int64_t i) { return part_number(part, (int)(i % 1009)); }

/* This rank's pieces [n_piece][SHARED], twice: what is sent must be this row's, not the one before. */
static void one_row(struct sharesum *s, const struct dpsync *d, int times, struct shared *test, float *own)
{
    int parts = d->part_end - d->part_begin, n_piece = d->program.n_piece, self = d->comm->self;
    float *mine = malloc((size_t)parts * SHARED * sizeof *mine);
    float *pieces = malloc((size_t)n_piece * SHARED * sizeof *pieces);
    struct err err = {0};
    for (int p = 0; p < parts; p++)
        for (int64_t i = 0; i < SHARED; i++)
            mine[p * (int64_t)SHARED + i] = (float)times * run_number(d->part_begin + p, i);
    dpsync_pieces(d, kernels_get(ISA_SCALAR), mine, SHARED, pieces, SHARED, SHARED);
    sharesum_begin(s, pieces, SHARED);
    for (int k = 0; k < N_RUNS; k++) {
        int64_t at = run_border[run_order[k]], n = run_border[run_order[k] + 1] - at;
        test->failures += sharesum_add(s, at, n, &err) != ERR_OK || sharesum_look(s, &err) != ERR_OK;
    }
    test->failures += sharesum_finish(s, own, &err) != ERR_OK || s->n_buckets < 2;
    for (int64_t i = s->border[self]; i < s->border[self + 1]; i++)
        test->failures += own[i - s->border[self]] != (float)times * test->out[i];
    free(mine);
    free(pieces);
}

static void shared_body(struct comm *c, int rank, void *ctx)
{
    struct shared *test = ctx;
    static struct dpsync sync[RANKTEAM_MAX];
    struct dpsync *d = &sync[rank];
    struct sharesum s;
    struct err err = {0};
    int64_t border[RANKTEAM_MAX + 1] = {0};
    float *own = malloc(SHARED * sizeof *own);
    for (int i = 1; i <= c->n_workers; i++)     /* the second of four has nothing to do */
        border[i] = i == 2 && c->n_workers == 4 ? border[1] : (int64_t)SHARED * i / c->n_workers;
    if (dpsync_init(d, c, test->batch, SHARED, &err) != ERR_OK ||
        sharesum_init(&s, c, &d->mesh, COMM_GRAD, border, d->n_parts, N_RUNS, &err) != ERR_OK) {
        test->failures++;
        return;
    }
    one_row(&s, d, 1, test, own);
    one_row(&s, d, 2, test, own);
    sharesum_free(&s);
    sharesum_free(&s);
    dpsync_free(d);
    free(own);
}

static void test_shared_sums(void **state)
{
    (void)state;
    float *out = malloc(SHARED * sizeof *out), *parts = malloc(8 * SHARED * sizeof *parts);
    for (int batch = 5; batch <= 8; batch += 3) {
        struct dpsync alone;
        struct comm one = {.n_workers = 1};
        struct err err = {0};
        assert_int_equal(dpsync_init(&alone, &one, batch, SHARED, &err), ERR_OK);
        for (int p = 0; p < batch; p++)
            for (int64_t i = 0; i < SHARED; i++)
                parts[p * (int64_t)SHARED + i] = run_number(p, i);
        dpsync_pieces(&alone, kernels_get(ISA_SCALAR), parts, SHARED, out, SHARED, SHARED);
        dpsync_free(&alone);
        for (int ranks = 2; ranks <= 4; ranks++) {
            struct shared test = {.batch = batch, .out = out};
            assert_int_equal(rankteam_run(ranks, shared_body, &test), 0);
            if (test.failures != 0)
                fail_msg("batch %d on %d ranks: %d failures", batch, ranks, test.failures);
        }
    }
    free(out);
    free(parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),    cmocka_unit_test(test_event_file), cmocka_unit_test(test_config),
        cmocka_unit_test(test_shuffle), cmocka_unit_test(test_scenes), cmocka_unit_test(test_tales),
        cmocka_unit_test(test_completions), cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_normal),
        cmocka_unit_test(test_rows),   cmocka_unit_test(test_sums), cmocka_unit_test(test_shared_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
