/* score.c - do the pictures of the built-in world show what their captions say? */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/image/pngfile.h"
#include "coordinator/scenes/scoresheet.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OPT_EACH = 0x3000, OPT_DISTANCE };

struct options { struct err *err; const char *path; bool each, distance; };

static const struct argp_option option_table[] = {
    {"each", OPT_EACH, NULL, 0, "One JSON line for each picture in place of the table", 0},
    {"distance", OPT_DISTANCE, NULL, 0, "Also the Frechet distance to real pictures of the captions", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case OPT_EACH: o->each = true; return 0;
    case OPT_DISTANCE: o->distance = true; return 0;
    case ARGP_KEY_ARG:
        if (o->path != NULL)
            return ARGP_ERR_UNKNOWN;
        o->path = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp score_argp = {
    .options = option_table, .parser = parse, .args_doc = "FOLDER|PICTURE.png",
    .doc = "Reads pictures of the built-in world that `muster imagine` made, 32x32 or 64x64, and compares "
           "them with their captions: place, number, things, colours, relation, sizes where they were asked "
           "for, with 95% intervals, and how much the pictures of a caption vary. The scorer fits the "
           "world's own renderer; what it cannot fit is unreadable and counts as wrong.\v"
           "Example:\n"
           "  muster imagine \"a blue car on a green field\" -n 16 -o cars && muster score cars"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    if (o->path == NULL)
        return err_set(err, ERR_INVAL, "score wants a folder of pictures, or one");
    return ERR_OK;
}

struct work { const struct options *o; struct scoresheet sheet; int left_out; };

/* --- one picture */

static int print_reading(const char *path, const char *caption, const struct scorer_reading *r,
                         const struct scenemarks *m, struct err *err)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:f, s:s, s:[]}", "file", path, "caption", caption,
                          "verdict", scorer_verdict_name(r->verdict), "right", m->right[MARK_ALL], "rms",
                          r->rms, "place", scene_place_name(r->scene.place), "things");
    json_t *things = json_object_get(o, "things");
    for (int i = 0; i < r->scene.n_things && things != NULL; i++) {
        const struct scene_thing *t = &r->scene.thing[i];
        json_array_append_new(things, json_pack("{s:s, s:s, s:i, s:i, s:i}", "thing",
                                                scene_thing_name(t->kind), "colour",
                                                scene_colour_name(t->colour), "size", t->size, "x", t->x,
                                                "y", t->y));
    }
    char *text = o == NULL ? NULL : json_dumps(o, JSON_REAL_PRECISION(4));
    if (text != NULL)
        puts(text);
    int rc = text == NULL ? err_set(err, ERR_NOMEM, "%s: no memory for its reading", path) : ERR_OK;
    free(text);
    json_decref(o);
    return rc;
}

/* The prompt of a picture's own record, a new reference; NULL: it has none. */
static json_t *caption_of(const struct picture *p)
{
    const char *record = pngfile_text_of(p, "muster");
    json_t *o = record == NULL ? NULL : json_loads(record, 0, NULL);
    json_t *prompt = json_incref(json_object_get(o, "prompt"));
    json_decref(o);
    if (json_is_string(prompt))
        return prompt;
    json_decref(prompt);
    return NULL;
}

static int score_decoded(struct work *w, const char *path, const struct picture *p, const char *caption,
                         struct err *err)
{
    struct scorer_reading r;
    struct scenemarks m;
    if (p->width != p->height || (p->width != SCENE_SIDE && p->width != 2 * SCENE_SIDE))
        return err_set(err, ERR_FORMAT, "%s: %d x %d; the built-in world has pictures of 32 x 32 and 64 x 64",
                       path, p->width, p->height);
    int rc = scoresheet_add(&w->sheet, p->rgb, p->width, caption, &r, &m, err);
    if (rc == ERR_INVAL) {
        struct err why = *err;
        *err = (struct err){0};
        return err_set(err, ERR_FORMAT, "%s: %s", path, why.msg);
    }
    return rc != ERR_OK || !w->o->each ? rc : print_reading(path, caption, &r, &m, err);
}

/* Pictures without a record, as contact sheets, are left out. */
static int score_file(struct work *w, const char *path, struct err *err)
{
    struct picture p = {0};
    TRY(pngfile_load(&p, path, err));
    json_t *caption = caption_of(&p);
    int rc = ERR_OK;
    if (caption == NULL)
        w->left_out++;
    else
        rc = score_decoded(w, path, &p, json_string_value(caption), err);
    json_decref(caption);
    pngfile_free(&p);
    return rc;
}

/* --- folders, and folders of a thousand in them */

static bool is_png(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".png") == 0;
}

static int score_folder(struct work *w, const char *path, int depth, struct err *err)
{
    struct dirent **entry;
    int n = scandir(path, &entry, NULL, alphasort), rc = ERR_OK;
    if (n < 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    for (int i = 0; i < n; i++) {
        char below[PATH_MAX];
        struct stat st;
        const char *name = entry[i]->d_name;
        int length = snprintf(below, sizeof below, "%s/%s", path, name);
        if (rc == ERR_OK && name[0] != '.' && length < (int)sizeof below && stat(below, &st) == 0) {
            if (S_ISDIR(st.st_mode) && depth > 0)
                rc = score_folder(w, below, depth - 1, err);
            else if (S_ISREG(st.st_mode) && is_png(name))
                rc = score_file(w, below, err);
        }
        free(entry[i]);
    }
    free(entry);
    return rc;
}

static int score(struct work *w, struct err *err)
{
    struct stat st;
    const char *path = w->o->path;
    if (stat(path, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    TRY(S_ISDIR(st.st_mode) ? score_folder(w, path, 2, err) : score_file(w, path, err));
    if (w->sheet.tally[SCORESHEET_ALL].n == 0)
        return err_set(err, ERR_FORMAT, "%s: no picture with the record of a caption, as imagine writes them",
                       path);
    if (w->left_out > 0)
        fprintf(stderr, "%s: %d pictures without a record left out\n", path, w->left_out);
    if (!w->o->each)
        TRY(scoresheet_print(&w->sheet, w->o->distance, stdout, err));
    return cli_flush(err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct work w = {.o = options};
    struct scorer *scorer = scorer_new(err);
    (void)comm;
    int rc = scorer == NULL ? err->code : scoresheet_init(&w.sheet, scorer, err);
    if (rc == ERR_OK)
        rc = score(&w, err);
    scoresheet_free(&w.sheet);
    scorer_destroy(scorer);
    return rc;
}

const struct command command_score = {
    .name = "score", .summary = "pictures of the built-in world against their captions",
    .options_bytes = sizeof(struct options), .needs_workers = false, .argp = &score_argp,
    .check = check, .run = run};
