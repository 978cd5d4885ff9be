#include "tests/e2e/badtraining.h"

#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_S = 90, INPUT = 3, OUTPUT = 6, ARGS_BYTES = 2600 };

void badtraining_fails(int status, const char *what, const char *args)
{
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "train %s --threads 1", args);
    e2e_expect_error(&r, status, what);
    e2e_run_free(&r);
}

void badtraining_output(const struct badtraining *b)
{
    char args[ARGS_BYTES];
    snprintf(args, sizeof args, "%s --out /proc/run --steps 3", b->args);
    badtraining_fails(OUTPUT, "/proc/run", args);
}

void badtraining_disk(const struct badtraining *b)
{
    struct e2e_run r;
    const char *small = e2e_place("small");
    char path[600];
    mkdir(small, 0700);
    if (geteuid() != 0 || mount("tmpfs", small, "tmpfs", 0, "size=200k") != 0)
        skip();
    e2e_ranks(&r, 2, LIMIT_S, "train %s --out '%s' --steps 20 --threads 1", b->args, small);
    snprintf(path, sizeof path, "%s/checkpoint.json", small);
    bool left = access(path, F_OK) == 0;
    umount(small);
    e2e_expect_error(&r, OUTPUT, "small");
    assert_false(left);
    e2e_run_free(&r);
}

/* A bit of a file of the run is turned (at < 0 counts from its end), or its second half cut off. */
static void damage(const struct badtraining *b, const char *file, long at, bool cut)
{
    char path[600];
    size_t n;
    snprintf(path, sizeof path, "%s/%s/%s", e2e_dir(), b->run, file);
    char *bytes = e2e_read_file(path, &n);
    assert_non_null(bytes);
    if (!cut)
        bytes[at < 0 ? (long)n + at : at] ^= 1;
    e2e_write_file(path, bytes, cut ? n / 2 : n);
    free(bytes);
}

void badtraining_checkpoint(const struct badtraining *b)
{
    char args[ARGS_BYTES], file[64];
    int kind = (int)strcspn(b->args, " "), at;
    snprintf(file, sizeof file, "checkpoint-%06d.safetensors", b->steps);
    at = snprintf(args, sizeof args, "%.*s --out '%s/%s' --resume --steps %d ", kind, b->args, e2e_dir(), b->run,
                  b->steps + 40);
    snprintf(args + at, sizeof args - (size_t)at, "%s", b->other);
    badtraining_fails(INPUT, "another model", args);
    args[at] = '\0';
    damage(b, file, -9, false);
    badtraining_fails(INPUT, "not those written", args);
    damage(b, file, 0, true);
    badtraining_fails(INPUT, file, args);
    damage(b, "checkpoint.json", 0, true);
    badtraining_fails(INPUT, "checkpoint", args);
}
