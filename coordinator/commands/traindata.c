/* traindata.c - `train data`: the built-in world as ordinary files, so that others can train on the same.
 * Files:  pictures: OUT/train/000000.png.. and metadata.jsonl ({"file_name", "text", "set"}), which
 *         comes last (Hugging Face imagefolder); text: OUT/train/text.jsonl ({"text", "set"}). Held out:
 *         test in place of train.
 * Fixed:  picture or text k of a seed is sample k of `--data scenes` with that seed, for ever. */
#include "coordinator/commands/cli.h"
#include "coordinator/commands/trainlist.h"
#include "coordinator/commands/trainprogress.h"
#include "coordinator/image/pngfile.h"
#include "coordinator/scenes/scenecorpus.h"
#include "coordinator/scenes/scenepaint.h"
#include "coordinator/scenes/scenetext.h"
#include "proto/atomicfile.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPT_KIND = 0x3000, OPT_OUT, OPT_SIZE, OPT_SEED, OPT_HELD_OUT };
enum { PICTURES, TEXT };
enum { COUNT_MAX = 10000000, PATH_BYTES = 4200 };

struct options { struct err *err; int kind, n, size; bool held_out; uint64_t seed; const char *out; };

static const struct argp_option option_table[] = {
    {"kind", OPT_KIND, "KIND", 0, "pictures (with captions; default) or text", 0},
    {"out", OPT_OUT, "FOLDER", 0, "The folder to write into; made if it is not there", 0},
    {"number", 'n', "N", 0, "How many (default 1000)", 0},
    {"size", OPT_SIZE, "PIXELS", 0, "Side of a picture: 32 (default) or 64", 0},
    {"seed", OPT_SEED, "N", 0, "Sample k is that of `--data scenes` with this seed (default 0)", 0},
    {"held-out", OPT_HELD_OUT, 0, 0,
     "Scenes that no model trains on: pairs, triples and relations in turn", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const kinds[] = {"pictures", "text", NULL};
    struct options *o = state->input;
    switch (key) {
    case OPT_KIND: return cli_choice(o->err, "--kind", arg, kinds, &o->kind);
    case OPT_OUT: o->out = arg; return 0;
    case 'n': return cli_int(o->err, "-n", arg, 1, COUNT_MAX, &o->n);
    case OPT_SIZE: return cli_int(o->err, "--size", arg, 32, 64, &o->size);
    case OPT_SEED: return cli_u64(o->err, "--seed", arg, &o->seed);
    case OPT_HELD_OUT: o->held_out = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp data_argp = {
    .options = option_table, .parser = parse,
    .doc = "Writes pictures with captions, or texts, of the built-in world as ordinary files: the "
           "Hugging Face imagefolder layout, or JSONL.\v"
           "Example:\n"
           "  muster train data --kind pictures --out my-scenes -n 20000"};

static int check(void *options, struct err *err)
{
    struct options *o = options;
    o->n = o->n > 0 ? o->n : 1000;
    o->size = o->size > 0 ? o->size : SCENE_SIDE;
    if (o->out == NULL)
        return err_set(err, ERR_INVAL, "train data wants --out FOLDER");
    if (o->size != 32 && o->size != 64)
        return err_set(err, ERR_INVAL, "--size %d: 32 or 64", o->size);
    return ERR_OK;
}

static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return ERR_OK;
    return err_set(err, ERR_OUTPUT, "--out %.150s: cannot be made: %s", path, strerror(errno));
}

static enum scene_set set_of(const struct options *o, int number)
{
    return o->held_out ? (enum scene_set)(SET_PAIR + number % (N_SETS - SET_PAIR)) : SET_SEEN;
}

/* A line of the list; name NULL: text only. */
static int put_line(struct atomicfile *list, const char *name, const char *text, enum scene_set set,
                    struct err *err)
{
    static const char *const sets[N_SETS] = {"seen", "pair", "triple", "relation"};
    json_t *row = json_pack("{s:s*, s:s, s:s}", "file_name", name, "text", text, "set", sets[set]);
    char *line = row != NULL ? json_dumps(row, JSON_COMPACT) : NULL;
    json_decref(row);
    if (line == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a line");
    int rc = atomicfile_write(list, line, strlen(line), err);
    free(line);
    return rc != ERR_OK ? rc : atomicfile_write(list, "\n", 1, err);
}

static int put_picture(const struct options *o, struct atomicfile *list, const char *folder, int number,
                       struct err *err)
{
    struct scene s;
    uint8_t rgb[64 * 64 * 3];
    char path[PATH_BYTES], text[SCENE_CAPTION_MAX], name[32];
    scene_draw(&s, o->seed, (uint32_t)number, set_of(o, number), 0);
    scene_paint(&s, o->size, rgb);
    scene_caption(&s, o->seed, (uint32_t)number, text);
    snprintf(name, sizeof name, "%06d.png", number);
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= PATH_BYTES)
        return err_set(err, ERR_INVAL, "--out: a path of more than %d bytes", PATH_BYTES);
    TRY(pngfile_save(path, rgb, o->size, o->size, NULL, 0, err));
    return put_line(list, name, text, set_of(o, number), err);
}

static int put_text(const struct options *o, struct atomicfile *list, int number, struct err *err)
{
    char text[SCENE_TEXT_MAX];
    scene_text(o->seed, (uint32_t)number, set_of(o, number), TEXT_ANY, NULL, text);
    return put_line(list, NULL, text, set_of(o, number), err);
}

static int put_all(const struct options *o, struct atomicfile *list, const char *folder, struct err *err)
{
    struct trainprogress p = {0};
    int rc = ERR_OK;
    for (int i = 0; i < o->n && rc == ERR_OK; i++) {
        rc = o->kind == TEXT ? put_text(o, list, i, err) : put_picture(o, list, folder, i, err);
        trainprogress_show(&p, "writing", (double)(i + 1) / o->n);
    }
    trainprogress_wipe();
    return rc;
}

static int run(void *options, struct comm *comm, struct err *err)
{
    const struct options *o = options;
    const char *split = o->held_out ? "test" : "train";
    char folder[PATH_BYTES], path[PATH_BYTES + 32];
    struct atomicfile list = {0};
    (void)comm;
    TRY(make_folder(o->out, err));
    if (snprintf(folder, sizeof folder, "%s/%s", o->out, split) >= PATH_BYTES - 32)
        return err_set(err, ERR_INVAL, "--out: a path of more than %d bytes", PATH_BYTES - 32);
    snprintf(path, sizeof path, "%s/%s", folder, o->kind == TEXT ? "text.jsonl" : "metadata.jsonl");
    if (access(path, F_OK) == 0)
        return err_set(err, ERR_INVAL, "--out %.150s is there already: choose another folder", path);
    TRY(make_folder(folder, err));
    TRY(atomicfile_open(&list, path, err));
    int rc = put_all(o, &list, folder, err);
    if (rc == ERR_OK)
        rc = atomicfile_commit(&list, err);
    atomicfile_abandon(&list);
    TRY(rc);
    printf("%s: %d %s\n", o->kind == TEXT ? path : folder, o->n, o->kind == TEXT ? "texts" : "pictures");
    return cli_flush(err);
}

const struct command train_data = {
    .name = "train data", .summary = "Pictures or texts of the built-in world, as ordinary files",
    .options_bytes = sizeof(struct options), .argp = &data_argp, .check = check, .run = run};
