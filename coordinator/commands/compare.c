/* compare.c - one caption given to all three kinds of model: what a language model says of it, what a
 * diffusion model and a GAN paint, on one picture and in one table. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/comparesheet.h"
#include "coordinator/commands/comparewords.h"
#include "coordinator/commands/imagebatch.h"
#include "coordinator/scenes/scenetext.h"
#include "coordinator/scenes/scoresheet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPT_LANGUAGE = 0x5000, OPT_DIFFUSION, OPT_GAN, OPT_SEED, OPT_THREADS, OPT_MEASURE, OPT_COMPUTE };
enum { PAINTERS = 2, PICTURES_DEFAULT = 8, PICTURES_MAX = 64, LINE_MAX_BYTES = 512,
       MEASURE_MAX = 100000, MEASURE_EACH = 16, MEASURE_SEED = 2 };

struct options {
    struct err *err;
    char caption[512];
    const char *model[1 + PAINTERS];    /* language, diffusion, GAN; NULL: the one that ships */
    const char *out;
    int n, threads, measure;
    int compute;                        /* of the pictures: of picturejob_computes */
    uint64_t seed;
};

static const struct argp_option option_table[] = {
    {NULL, 'n', "N", 0, "Pictures of each model (default: 8)", 1},
    {"seed", OPT_SEED, "N", 0, "Of the first picture (default: 0); picture k has seed + k", 1},
    {"out", 'o', "FOLDER", 0, "Where compare.png and the pictures go (default: compare)", 1},
    {"measure", OPT_MEASURE, "N", 0, "Judge the picture models by N pictures more, 16 of each of N / 16 "
     "captions of the built-in world: how many are as asked, diversity, Frechet distance", 1},
    {"language", OPT_LANGUAGE, "MODEL", 0, "A language model (default: the one that ships)", 2},
    {"diffusion", OPT_DIFFUSION, "FOLDER", 0, "A diffusion model (default: the one that ships)", 2},
    {"gan", OPT_GAN, "FOLDER", 0, "A GAN (default: the one that ships)", 2},
    {"compute", OPT_COMPUTE, "TYPE", 0, "Matrix products of pictures in f32 (default) or bf16, with f32 "
     "sums", 3},
    {"threads", OPT_THREADS, "N", 0, "Of each rank (default: the cores it is bound to)", 3},
    {0}};

static error_t add_words(struct options *o, const char *arg)
{
    size_t n = strlen(o->caption);
    if (n + strlen(arg) + 2 > sizeof o->caption) {
        err_set(o->err, ERR_INVAL, "the caption is longer than %zu bytes", sizeof o->caption - 1);
        return EINVAL;
    }
    snprintf(o->caption + n, sizeof o->caption - n, "%s%s", n > 0 ? " " : "", arg);
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'n': return cli_int(o->err, "-n", arg, 1, PICTURES_MAX, &o->n);
    case 'o': o->out = arg; return 0;
    case OPT_SEED: return cli_u64(o->err, "--seed", arg, &o->seed);
    case OPT_LANGUAGE: o->model[0] = arg; return 0;
    case OPT_DIFFUSION: o->model[1] = arg; return 0;
    case OPT_GAN: o->model[2] = arg; return 0;
    case OPT_MEASURE: return cli_int(o->err, "--measure", arg, MEASURE_EACH, MEASURE_MAX, &o->measure);
    case OPT_COMPUTE: return cli_choice(o->err, "--compute", arg, picturejob_computes, &o->compute);
    case OPT_THREADS: return cli_int(o->err, "--threads", arg, 1, 4096, &o->threads);
    case ARGP_KEY_ARG: return add_words(o, arg);
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp compare_argp = {
    .options = option_table, .parser = parse, .args_doc = "CAPTION",
    .doc = "Asks a language model, a diffusion model and a GAN for one caption: one picture of what "
           "they made of it, compare.png, and a table.\v"
           "Example:\n"
           "  mpirun -n 2 muster compare \"a blue car on a green field\" -o cars"};

static int check(void *options, struct err *err)
{
    struct options *o = options;
    if (o->caption[0] == '\0')
        return err_set(err, ERR_INVAL, "which caption? As: muster compare \"a red boat on the sea\"");
    o->n = o->n > 0 ? o->n : PICTURES_DEFAULT;
    o->out = o->out != NULL ? o->out : "compare";
    if (o->seed > INT64_MAX - PICTURES_MAX)
        return err_set(err, ERR_INVAL, "--seed: at most %lld", (long long)INT64_MAX - PICTURES_MAX);
    return ERR_OK;
}

/* --- what the models made */

/* A picture model at work. */
struct painter {
    const char *name, *shipped;
    struct picture *picture; int n;     /* [n] */
    double seconds, parameters;         /* of all it made, loading left out */
    struct scoresheet sheet;            /* of the pictures that are judged */
    char label[160];
};

struct compare {
    const struct options *o;
    struct session s;               /* of the language model; its cluster is everybody's */
    struct comparewords words;
    struct scorer *scorer;
    bool readable;                  /* the caption is one of the built-in world */
    struct painter painter[PAINTERS];
};

/* --- the language model */

static struct model_args model_of(const struct options *o, int which)
{
    return (struct model_args){.model = o->model[which], .threads = o->threads};
}

static int open_language(struct compare *c, struct comm *comm, struct err *err)
{
    struct model_args a = model_of(c->o, 0);
    return session_open(&c->s, comm, &a, SESSION_TOKENIZER | SESSION_TENSORS, err);
}

static int ask(struct compare *c, struct err *err)
{
    struct model_args a = model_of(c->o, 0);
    return comparewords_ask(&c->words, &c->s, &a, c->o->caption, err);
}

/* --- the painters */

static int add_job(const struct compare *c, struct imagebatch *b, const char *caption, int64_t seed, int n,
                   struct err *err)
{
    struct picturejob j;
    picturejob_init(&j);
    int rc = picturejob_set_text(&j.prompt, caption, err);
    if (rc == ERR_OK)
        rc = picturejob_set_text(&j.compute, picturejob_computes[c->o->compute], err);
    j.seed = seed;
    j.n = n;
    if (rc == ERR_OK)
        rc = picturejobs_append(&b->jobs, &j, err);
    picturejob_free(&j);
    return rc;
}

/* The caption first; then those that only measure. */
static int set_jobs(const struct compare *c, struct imagebatch *b, struct err *err)
{
    TRY(add_job(c, b, c->o->caption, (int64_t)c->o->seed, c->o->n, err));
    for (int i = 0; i < c->o->measure / MEASURE_EACH; i++) {
        struct scene s;
        char caption[SCENE_CAPTION_MAX];
        scene_draw(&s, MEASURE_SEED, (uint32_t)i, SET_SEEN, 0);
        scene_caption(&s, MEASURE_SEED, (uint32_t)i, caption);
        TRY(add_job(c, b, caption, (int64_t)i * MEASURE_EACH, MEASURE_EACH, err));
    }
    return imagebatch_settle(b, NULL, err);
}

static bool can_be_read(const struct picture *p)
{
    return p->width == p->height && (p->width == SCENE_SIDE || p->width == 2 * SCENE_SIDE);
}

/* Judged are the pictures that measure; without them those of the caption, if it can be read. */
static int judge(const struct compare *c, struct painter *p, const struct picture *picture, bool measures,
                 const char *caption, struct err *err)
{
    bool wanted = c->o->measure > 0 ? measures : c->readable;
    if (!wanted || !can_be_read(picture))
        return ERR_OK;
    return scoresheet_add(&p->sheet, picture->rgb, picture->width, caption, NULL, NULL, err);
}

struct taking { const struct compare *c; struct painter *p; struct imagebatch *b; };

static int take_picture(void *ctx, const struct journal_picture *made, struct err *err)
{
    struct taking *t = ctx;
    struct picture picture;
    uint8_t *bytes;
    int k;
    const struct picturejob *j = picturejobs_of(&t->b->jobs, made->task, &k);
    bool measures = made->task >= t->p->n;
    TRY(picturefolder_bytes(&t->b->folder, made, &bytes, err));
    int rc = pngfile_decode(&picture, bytes, made->bytes, made->file, err);
    free(bytes);
    if (rc == ERR_OK)
        rc = judge(t->c, t->p, &picture, measures, j->prompt, err);
    if (rc == ERR_OK && !measures)
        t->p->picture[made->task] = picture;
    else
        pngfile_free(&picture);
    return rc;
}

static int make_pictures(struct compare *c, struct painter *p, struct imagebatch *b, const char *path,
                         struct err *err)
{
    struct imagebatch_load how = {.threads = c->o->threads};
    struct taking t = {c, p, b};
    char folder[PICTUREFOLDER_PATH];
    TRY(set_jobs(c, b, err));
    snprintf(folder, sizeof folder, "%.3900s/%s", c->o->out, p->name);
    TRY(picturefolder_create(&b->folder, folder, "{index}.png", 0, path, b->images.spec->hash, &b->jobs,
                             err));
    TRY(imagebatch_load(b, &how, err));
    int64_t begun = comm_now_us(c->s.cluster.comm);
    TRY(imagebatch_make(b, err));
    p->seconds = (double)(comm_now_us(c->s.cluster.comm) - begun) / 1e6;
    return journal_pictures(b->folder.journal, take_picture, &t, err);
}

static int paint(struct compare *c, int which, struct err *err)
{
    struct painter *p = &c->painter[which];
    struct model_args a = model_of(c->o, 1 + which);
    struct imagebatch b = {0};
    char path[MODEL_PATH_MAX];
    TRY(model_args_path_of(&a, p->shipped, "a folder with a picture model", path, err));
    if ((p->picture = calloc((size_t)c->o->n, sizeof *p->picture)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for pictures");
    p->n = c->o->n;
    TRY(scoresheet_init(&p->sheet, c->scorer, err));
    int rc = imagebatch_describe(&b, &c->s.cluster, path, err);
    if (rc == ERR_OK) {
        p->parameters = (double)b.images.spec->parameters;
        snprintf(p->label, sizeof p->label, "%s (%.100s)", p->name, b.images.spec->name);
        rc = make_pictures(c, p, &b, path, err);
    }
    struct err second = {0};
    int closed = picturefolder_close(&b.folder, &second);
    imagebatch_free(&b);
    return rc == ERR_OK && closed != ERR_OK ? err_set(err, closed, "%s", second.msg) : rc;
}

/* --- the result */

static int save_sheet(const struct compare *c, struct err *err)
{
    char line[COMPARE_WORDS][LINE_MAX_BYTES], path[PICTUREFOLDER_PATH];
    const char *lines[COMPARE_WORDS];
    struct comparesheet_row row[PAINTERS];
    for (int i = 0; i < COMPARE_WORDS; i++) {
        snprintf(line[i], sizeof line[i], "%s: %.400s", c->words.said[i].label, c->words.said[i].text);
        lines[i] = line[i];
    }
    for (int i = 0; i < PAINTERS; i++)
        row[i] = (struct comparesheet_row){c->painter[i].label, c->painter[i].picture, c->painter[i].n};
    struct comparesheet sheet = {.title = c->o->caption, .line = lines, .n_lines = COMPARE_WORDS, .row = row,
                                 .n_rows = PAINTERS};
    snprintf(path, sizeof path, "%.4000s/compare.png", c->o->out);
    TRY(comparesheet_save(&sheet, path, err));
    fprintf(stderr, "%s\n", path);
    return ERR_OK;
}

/* What the scorer says; "-" where there is nothing to say. */
static int print_judged(const struct compare *c, const struct painter *p, double *real, struct err *err)
{
    const struct scenemarks_tally *t = &p->sheet.tally[SCORESHEET_ALL];
    char asked[32] = "-", diversity[32] = "-", distance[32] = "-";
    double there = 0;
    int n = 0;
    double varied = scoresheet_diversity(&p->sheet, &n);
    if (t->n > 0 && c->o->measure == 0)
        snprintf(asked, sizeof asked, "%d of %d", t->right[MARK_ALL], t->n);
    else if (t->n > 0)
        snprintf(asked, sizeof asked, "%.1f%%", 100.0 * t->right[MARK_ALL] / t->n);
    if (n > 0)
        snprintf(diversity, sizeof diversity, "%.2f", varied);
    if (c->o->measure > 0 && t->n > 1) {
        TRY(scoresheet_frechet(&p->sheet, &there, real, err));
        snprintf(distance, sizeof distance, "%.1f", there);
    }
    printf("%-12s %10.2f M %12.1f %12s %10s %10s\n", p->name, p->parameters / 1e6,
           1e3 * p->seconds / (p->n + c->o->measure / MEASURE_EACH * MEASURE_EACH), asked, diversity,
           distance);
    return ERR_OK;
}

static int print(const struct compare *c, struct err *err)
{
    double real = 0;
    for (int i = 0; i < COMPARE_WORDS; i++)
        printf("%-16s %s\n", c->words.said[i].label, c->words.said[i].text);
    printf("\n%-12s %12s %12s %12s %10s %10s\n", "", "parameters", "ms/picture", "as asked",
           "diversity", "Frechet");
    for (int i = 0; i < PAINTERS; i++)
        TRY(print_judged(c, &c->painter[i], &real, err));
    if (real > 0)
        printf("%-12s %12s %12s %12s %10s %10.1f\n", "drawn", "", "", "100.0%", "1.00", real);
    return cli_flush(err);
}

/* Before anything is loaded. Pictures of an earlier comparison are not painted over. */
static int make_folder(const struct compare *c, struct err *err)
{
    char path[PICTUREFOLDER_PATH];
    if (mkdir(c->o->out, 0777) != 0 && errno != EEXIST)
        return err_set(err, ERR_OUTPUT, "%s: %s", c->o->out, strerror(errno));
    for (int i = 0; i < PAINTERS; i++) {
        snprintf(path, sizeof path, "%.3900s/%s", c->o->out, c->painter[i].name);
        if (access(path, F_OK) == 0)
            return err_set(err, ERR_INVAL, "%s is there already: remove it, or take another -o", path);
    }
    return ERR_OK;
}

static int run_all(struct compare *c, struct comm *comm, struct err *err)
{
    TRY(open_language(c, comm, err));
    TRY(make_folder(c, err));
    TRY(ask(c, err));
    struct scene_facts asked;
    c->readable = scenemarks_read_caption(c->o->caption, &asked);
    if ((c->scorer = scorer_new(err)) == NULL)
        return err->code;
    for (int i = 0; i < PAINTERS; i++)
        TRY(paint(c, i, err));
    TRY(save_sheet(c, err));
    return print(c, err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct compare *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_NOMEM, "no memory for pictures");
    c->o = options;
    c->painter[0] = (struct painter){.name = "diffusion", .shipped = "scenes-diffusion"};
    c->painter[1] = (struct painter){.name = "gan", .shipped = "scenes-gan"};
    int rc = session_close(&c->s, run_all(c, comm, err), err);
    for (int i = 0; i < PAINTERS; i++) {
        for (int k = 0; k < c->painter[i].n; k++)
            pngfile_free(&c->painter[i].picture[k]);
        free(c->painter[i].picture);
        scoresheet_free(&c->painter[i].sheet);
    }
    scorer_destroy(c->scorer);
    comparewords_free(&c->words);
    free(c);
    return rc;
}

const struct command command_compare = {
    .name = "compare", .summary = "One caption, three kinds of model: a picture and a table",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &compare_argp,
    .check = check, .run = run};
