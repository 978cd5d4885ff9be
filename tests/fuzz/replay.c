/* replay.c - runs a fuzz target on a folder of inputs, without a fuzzer: each file as it is, then copies
 * with bytes changed, cut out or doubled, always the same ones.
 * Usage:  X_replay FOLDER [COPIES]        (300 copies of each file) */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INPUT_MAX = 1 << 20 };

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return below ? (uint32_t)(*state >> 33) % below : 0;
}

/* A damaged copy of in [n], at most twice as long, in out; its length. */
static size_t damage(uint8_t *out, const uint8_t *in, size_t n, uint64_t *state)
{
    memcpy(out, in, n);
    for (uint32_t k = draw(state, 4) + 1; k > 0 && n > 0; k--) {
        uint32_t at = draw(state, (uint32_t)n), len = draw(state, 16) + 1;
        size_t run = n - at < len ? n - at : len;
        switch (draw(state, 4)) {
        case 0:
            out[at] = (uint8_t)draw(state, 256);
            break;
        case 1:
            out[at] ^= (uint8_t)(1u << draw(state, 8));
            break;
        case 2:
            memmove(out + at, out + at + run, n - at - run);
            n -= run;
            break;
        default:
            memmove(out + at + run, out + at, n - at);
            n += run;
        }
    }
    return n;
}

/* The input is copied to a block of its own size, so that a sanitizer sees a read past its end. */
static void feed(const uint8_t *in, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact)
        abort();
    memcpy(exact, in, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static int replay_file(const char *path, int copies)
{
    static uint8_t in[INPUT_MAX], out[INPUT_MAX * 2 + 128];
    FILE *f = fopen(path, "rb");
    if (!f)
        return 1;
    size_t n = fread(in, 1, sizeof in, f);
    fclose(f);
    feed(in, n);
    uint64_t state = n;
    for (int i = 0; i < copies; i++)
        feed(out, damage(out, in, n, &state));
    return 0;
}

int main(int argc, char **argv)
{
    int copies = argc > 2 ? atoi(argv[2]) : 300, n = 0;
    DIR *d = argc > 1 ? opendir(argv[1]) : NULL;
    if (!d) {
        fprintf(stderr, "usage: %s FOLDER [COPIES]\n", argv[0]);
        return 2;
    }
    for (struct dirent *e; (e = readdir(d));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        if (e->d_name[0] != '.' && replay_file(path, copies) == 0)
            n++;
    }
    closedir(d);
    printf("%d inputs, %d damaged copies of each\n", n, copies);
    return n > 0 ? 0 : 1;
}
