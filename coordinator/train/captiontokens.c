#include "coordinator/train/captiontokens.h"

#include "coordinator/scenes/scenecorpus.h"
#include "coordinator/scenes/scenetext.h"
#include "proto/atomicfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

_Static_assert((int)SCENE_CAPTION_MAX <= (int)SCENE_TEXT_MAX, "one buffer is for both");
enum { FILE_MAX = 64 << 20, LEARNT_FROM = 20000, PATH_BYTES = 4200 };

static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                    "vocab.json", "merges.txt"};
enum { N_NAMES = sizeof names / sizeof *names };

struct container { uint8_t *bytes; size_t n; };

static int append(struct container *c, const void *bytes, size_t n, struct err *err)
{
    uint8_t *grown = realloc(c->bytes, c->n + n + 1);
    if (grown == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a tokenizer");
    memcpy(grown + c->n, bytes, n);
    c->bytes = grown;
    c->n += n;
    return ERR_OK;
}

/* A whole file; *text NULL when there is none. */
static int read_file(const char *folder, const char *name, char **text, size_t *n, struct err *err)
{
    char path[PATH_BYTES];
    *text = NULL;
    *n = 0;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return err_set(err, ERR_INVAL, "a path of more than %d bytes: %.100s..", PATH_BYTES, folder);
    FILE *f = fopen(path, "rb");
    if (f == NULL && (errno == ENOENT || errno == ENOTDIR))
        return ERR_OK;
    if (f == NULL)
        return err_set(err, ERR_IO, "%.150s: %s", path, strerror(errno));
    int rc = fseek(f, 0, SEEK_END) == 0 && ftell(f) >= 0 && ftell(f) <= FILE_MAX
                 ? ERR_OK : err_set(err, ERR_FORMAT, "%.150s: no file of a tokenizer", path);
    if (rc == ERR_OK) {
        *n = (size_t)ftell(f);
        rewind(f);
        *text = malloc(*n + 1);
        if (*text == NULL)
            rc = err_set(err, ERR_NOMEM, "no memory for %.150s", path);
        else if (fread(*text, 1, *n, f) != *n)
            rc = err_set(err, ERR_IO, "%.150s: cannot be read", path);
    }
    fclose(f);
    if (rc != ERR_OK) {
        free(*text);
        *text = NULL;
    }
    return rc;
}

static int append_file(struct container *c, const char *folder, const char *name, int *found,
                       struct err *err)
{
    char *text;
    size_t n;
    uint32_t length = (uint32_t)strlen(name);
    TRY(read_file(folder, name, &text, &n, err));
    if (text == NULL)
        return ERR_OK;
    uint64_t bytes = n;
    int rc = append(c, &length, sizeof length, err);
    if (rc == ERR_OK)
        rc = append(c, name, length, err);
    if (rc == ERR_OK)
        rc = append(c, &bytes, sizeof bytes, err);
    if (rc == ERR_OK)
        rc = append(c, text, n, err);
    free(text);
    ++*found;
    return rc;
}

int captiontokens_open(struct tokenizer **t, const char *folder, struct err *err)
{
    struct container c = {0};
    int found = 0;
    int rc = append(&c, "MTOK", 4, err);
    for (int i = 0; i < N_NAMES && rc == ERR_OK; i++)
        rc = append_file(&c, folder, names[i], &found, err);
    if (rc == ERR_OK && found == 0)
        rc = err_set(err, ERR_IO, "%.150s: no tokenizer there (muster train tokenizer makes one)", folder);
    if (rc == ERR_OK && tokenizer_open(t, c.bytes, c.n, err) != ERR_OK)
        rc = err_prefix(err, "%.100s", folder);
    free(c.bytes);
    return rc;
}

static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return ERR_OK;
    return err_set(err, ERR_OUTPUT, "%.150s: %s", path, strerror(errno));
}

static int copy_file(const char *from, const char *to, const char *name, struct err *err)
{
    struct atomicfile f = {0};
    char path[PATH_BYTES], *text;
    size_t n;
    TRY(read_file(from, name, &text, &n, err));
    if (text == NULL)
        return ERR_OK;
    snprintf(path, sizeof path, "%s/%s", to, name);
    int rc = atomicfile_open(&f, path, err);
    if (rc == ERR_OK)
        rc = atomicfile_write(&f, text, n, err);
    if (rc == ERR_OK)
        rc = atomicfile_commit(&f, err);
    atomicfile_abandon(&f);
    free(text);
    return rc;
}

int captiontokens_copy(const char *from, const char *to, struct err *err)
{
    TRY(make_folder(to, err));
    for (int i = 0; i < N_NAMES; i++)
        TRY(copy_file(from, to, names[i], err));
    return ERR_OK;
}

int captiontokens_count(struct bpetrain *t, enum bpetrain_kind kind, uint64_t seed, struct err *err)
{
    char text[SCENE_TEXT_MAX];
    for (uint32_t i = 0; i < LEARNT_FROM; i++) {
        struct scene s;
        int n;
        if (kind == BPETRAIN_CLIP) {
            scene_draw(&s, seed, i, SET_SEEN, 0);
            n = scene_caption(&s, seed, i, text);
        } else {
            n = scene_text(seed, i, SET_SEEN, TEXT_ANY, NULL, text);
        }
        TRY(bpetrain_add(t, text, (size_t)n, err));
    }
    return ERR_OK;
}

int captiontokens_learn(const char *folder, enum bpetrain_kind kind, uint64_t seed, int vocab, int length,
                        struct err *err)
{
    struct bpetrain *t = NULL;
    TRY(make_folder(folder, err));
    int rc = bpetrain_open(&t, kind, err);
    if (rc == ERR_OK)
        rc = captiontokens_count(t, kind, seed, err);
    if (rc == ERR_OK)
        rc = bpetrain_learn(t, vocab, err);
    if (rc == ERR_OK)
        rc = bpetrain_save(t, folder, length, err);
    bpetrain_close(t);
    return rc;
}
