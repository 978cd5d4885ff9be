/* bench_train - samples per second of a training task, data in memory; peer: train_peers.py.
 *   bench_train TASK [--threads N] [--batch N] [--steps N] [--rounds N] [--length N] [--vocab N]
 *               [--set KEY=VALUE]..
 * Times rounds of steps after one round to warm up, and prints each round and the median. */
#include "tests/bench/median.h"
#include "tests/unit/rankteam.h"
#include "workers/train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MAX = 64 };

struct options { const char *task; int threads, batch, steps, rounds, length, vocab; json_t *config; };

struct data { uint8_t *pixels; int32_t *ids, *wrong, *labels; uint64_t *sample; };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t key(const struct options *o, const char *name, int64_t otherwise)
{
    const json_t *v = json_object_get(o->config, name);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

static void *made(size_t n, size_t each)
{
    void *p = calloc(n + 1, each);
    if (p == NULL)
        exit(4);
    return p;
}

/* One batch of anything: pictures, ids below the vocabulary, labels. */
static struct train_batch fill(const struct options *o, struct data *d, struct train_tensor tensor[4])
{
    int64_t side = key(o, "side", 32), n = o->batch, vocab = key(o, "vocab", o->vocab);
    size_t pixels = (size_t)(n * 3 * side * side), ids = (size_t)(n * o->length);
    uint32_t x = 1;
    *d = (struct data){made(pixels, 1), made(ids, 4), made(ids, 4), made((size_t)n, 4), made((size_t)n, 8)};
    for (size_t i = 0; i < pixels; i++)
        d->pixels[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    for (size_t i = 0; i < ids; i++) {
        d->ids[i] = (int32_t)(((x = x * 1664525 + 1013904223) >> 8) % (uint32_t)vocab);
        d->wrong[i] = (int32_t)(((x = x * 1664525 + 1013904223) >> 8) % (uint32_t)vocab);
    }
    tensor[0] = (struct train_tensor){"pixels", WIRE_U8, 4, {(uint64_t)n, 3, (uint64_t)side, (uint64_t)side},
                                      d->pixels};
    tensor[1] = (struct train_tensor){"ids", WIRE_I32, 2, {(uint64_t)n, (uint64_t)o->length}, d->ids};
    tensor[2] = (struct train_tensor){"wrong_ids", WIRE_I32, 2, {(uint64_t)n, (uint64_t)o->length}, d->wrong};
    tensor[3] = (struct train_tensor){"labels", WIRE_I32, 1, {(uint64_t)n}, d->labels};
    return (struct train_batch){.n = o->batch, .sample = d->sample, .tensor = tensor, .n_tensors = 4};
}

static void body(struct comm *c, int rank, void *ctx)
{
    const struct options *o = ctx;
    struct trainer t;
    struct err err = {0};
    struct trainer_options options = {.threads = o->threads};
    struct train_metrics metrics;
    struct data data;
    struct train_tensor tensor[4];
    char *text = json_dumps(o->config, 0);
    double rate[ROUNDS_MAX];
    isa_choose(&options.isa, &err);
    if (trainer_open(&t, text, &options, c, &err) != ERR_OK) {
        fprintf(stderr, "bench_train: %s\n", err.msg);
        exit(3);
    }
    free(text);
    struct train_batch b = fill(o, &data, tensor);
    for (int round = -1; round < o->rounds; round++) {
        double start = now();
        for (int i = 0; i < o->steps; i++) {
            b.step = t.step + 1;
            for (int k = 0; k < o->batch; k++)
                data.sample[k] = (uint64_t)(t.step * o->batch + k);
            if (trainer_step(&t, &b, &metrics, &err) != ERR_OK) {
                fprintf(stderr, "bench_train: %s\n", err.msg);
                exit(1);
            }
        }
        if (round >= 0) {
            rate[round] = o->steps * o->batch / (now() - start);
            printf("%.1f ", rate[round]);
            fflush(stdout);
        }
    }
    printf("\n%s: %.1f samples/s\n", o->task, median(rate, o->rounds));
    trainer_close(&t);
}

static void set_key(json_t *config, const char *text)
{
    char name[64];
    const char *value = strchr(text, '=');
    if (value == NULL || value - text >= (int)sizeof name)
        exit(2);
    snprintf(name, sizeof name, "%.*s", (int)(value - text), text);
    json_t *v = json_loads(value + 1, JSON_DECODE_ANY, NULL);
    json_object_set_new(config, name, v != NULL ? v : json_string(value + 1));
}

int main(int argc, char **argv)
{
    struct options o = {.task = argc > 1 ? argv[1] : "", .threads = 2, .batch = 32, .steps = 10, .rounds = 5,
                        .length = 128, .vocab = 1024, .config = json_object()};
    for (int i = 2; i + 1 < argc; i += 2) {
        struct { const char *name; int *to; } number[] = {
            {"--threads", &o.threads}, {"--batch", &o.batch}, {"--steps", &o.steps}, {"--rounds", &o.rounds},
            {"--length", &o.length}, {"--vocab", &o.vocab}};
        for (int k = 0; k < 6; k++)
            if (strcmp(argv[i], number[k].name) == 0)
                *number[k].to = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--set") == 0)
            set_key(o.config, argv[i + 1]);
    }
    if (o.rounds < 1 || o.rounds > ROUNDS_MAX || o.steps < 1 || o.batch < 1)
        return 2;
    json_object_set_new(o.config, "task", json_string(o.task));
    json_object_set_new(o.config, "batch", json_integer(o.batch));
    int rc = rankteam_run(1, body, &o);
    json_decref(o.config);
    return rc;
}
