#include "coordinator/scenes/scoresheet.h"

#include "coordinator/scenes/scenepaint.h"

#include <stdlib.h>
#include <string.h>

int scoresheet_init(struct scoresheet *s, struct scorer *scorer, struct err *err)
{
    *s = (struct scoresheet){.scorer = scorer};
    s->there = calloc(1, sizeof *s->there);
    return s->there == NULL ? err_set(err, ERR_NOMEM, "no memory for a score sheet") : ERR_OK;
}

void scoresheet_free(struct scoresheet *s)
{
    for (int i = 0; i < s->n_prompts; i++)
        free(s->prompt[i].caption);
    free(s->prompt);
    free(s->there);
    *s = (struct scoresheet){0};
}

static int prompt_of(struct scoresheet *s, const char *caption, struct scoresheet_prompt **out,
                     struct err *err)
{
    struct scene_facts asked;
    for (int i = s->n_prompts - 1; i >= 0; i--)         /* its pictures mostly come one after the other */
        if (strcmp(s->prompt[i].caption, caption) == 0) {
            *out = &s->prompt[i];
            return ERR_OK;
        }
    if (!scenemarks_read_caption(caption, &asked))
        return err_set(err, ERR_INVAL, "'%.100s' names no one or two things of the built-in world", caption);
    if (s->n_prompts == s->cap) {
        int cap = s->cap == 0 ? 64 : 2 * s->cap;
        struct scoresheet_prompt *grown = realloc(s->prompt, (size_t)cap * sizeof *grown);
        if (grown == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %d captions", cap);
        s->prompt = grown;
        s->cap = cap;
    }
    char *copy = strdup(caption);
    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a caption");
    s->prompt[s->n_prompts] = (struct scoresheet_prompt){.caption = copy, .asked = asked};
    *out = &s->prompt[s->n_prompts++];
    return ERR_OK;
}

int scoresheet_add(struct scoresheet *s, const uint8_t *rgb, int side, const char *caption,
                   struct scorer_reading *out, struct scenemarks *marks, struct err *err)
{
    struct scorer_reading reading;
    struct scenemarks m;
    struct scoresheet_prompt *p = NULL;
    TRY(prompt_of(s, caption, &p, err));
    scorer_read(s->scorer, rgb, side, &reading);
    scenemarks(&reading, &p->asked, &m);
    scenemarks_add(&s->tally[SCORESHEET_ALL], &reading, &m);
    scenemarks_add(&s->tally[p->asked.things == 1 ? SCORESHEET_ONE : SCORESHEET_TWO], &reading, &m);
    if (reading.verdict == SCORER_READ)
        measure_spread_add(&p->spread, &reading.scene, &p->asked);
    measure_add(s->there, rgb, side);
    p->n++;
    s->side = side;
    if (out != NULL)
        *out = reading;
    if (marks != NULL)
        *marks = m;
    return ERR_OK;
}

static struct diversity diversity_of(const struct scoresheet *s)
{
    struct diversity d = {0};
    for (int i = 0; i < s->n_prompts; i++)
        measure_diversity_add(&d, &s->prompt[i].spread, &s->prompt[i].asked);
    return d;
}

double scoresheet_diversity(const struct scoresheet *s, int *n)
{
    struct diversity d = diversity_of(s);
    *n = d.n;
    return measure_diversity(&d);
}

/* As many real pictures of each caption as there are. */
static int add_real(const struct scoresheet *s, uint64_t seed, struct moments *m, struct err *err)
{
    uint8_t rgb[4 * SCENE_SIDE * SCENE_SIDE * 3];
    uint32_t index = 0;
    for (int i = 0; i < s->n_prompts; i++)
        for (int k = 0; k < s->prompt[i].n; k++) {
            struct scene scene;
            if (!measure_scene(&scene, &s->prompt[i].asked, seed, index++))
                return err_set(err, ERR_INVAL, "the built-in world has no scene of '%.100s'",
                               s->prompt[i].caption);
            scene_paint(&scene, s->side, rgb);
            measure_add(m, rgb, s->side);
        }
    return ERR_OK;
}

int scoresheet_frechet(const struct scoresheet *s, double *there, double *real, struct err *err)
{
    struct moments *m = calloc(2, sizeof *m);
    int rc = m == NULL ? err_set(err, ERR_NOMEM, "no memory for real pictures") : ERR_OK;
    for (int i = 0; i < 2 && rc == ERR_OK; i++)
        rc = add_real(s, 1000 + (uint64_t)i, &m[i], err);
    if (rc == ERR_OK)
        rc = measure_frechet(s->there, &m[0], there, err);
    if (rc == ERR_OK)
        rc = measure_frechet(&m[1], &m[0], real, err);
    free(m);
    return rc;
}

/* --- the table. The last column takes what is unreadable at its best fit: what a model is on the way to. */

static void print_marks(const struct scoresheet *s, FILE *out)
{
    fprintf(out, "%-10s", "");
    for (int g = 0; g < SCORESHEET_GROUPS; g++) {
        static const char *const names[SCORESHEET_GROUPS] = {"all", "one thing", "two things"};
        if (s->tally[g].n > 0)
            fprintf(out, "  %-26s", names[g]);
    }
    fprintf(out, "  best guess");
    for (int m = 0; m < N_MARKS; m++) {
        fprintf(out, "\n%-10s", scenemarks_name((enum scenemark)m));
        for (int g = 0; g < SCORESHEET_GROUPS; g++) {
            const struct scenemarks_tally *t = &s->tally[g];
            struct measure_interval v = measure_share(t->right[m], t->asked[m]);
            if (t->n > 0 && t->asked[m] > 0)
                fprintf(out, "  %5.1f%% (%4.1f-%5.1f) of %-4d", 100 * v.share, 100 * v.low, 100 * v.high,
                        t->asked[m]);
            else if (t->n > 0)
                fprintf(out, "  %-26s", "    -");
        }
        const struct scenemarks_tally *all = &s->tally[SCORESHEET_ALL];
        if (all->asked[m] > 0)
            fprintf(out, "  %5.1f%%", 100.0 * all->guess[m] / all->asked[m]);
    }
    fprintf(out, "\n");
}

int scoresheet_print(const struct scoresheet *s, bool distance, FILE *out, struct err *err)
{
    const struct scenemarks_tally *t = &s->tally[SCORESHEET_ALL];
    fprintf(out, "%d pictures of %d captions; unreadable:", t->n, s->n_prompts);
    for (int v = SCORER_READ + 1; v < N_SCORER_VERDICTS; v++)
        fprintf(out, " %s %d", scorer_verdict_name((enum scorer_verdict)v), t->verdict[v]);
    fprintf(out, "\n");
    print_marks(s, out);
    struct diversity d = diversity_of(s);
    if (d.n > 0)
        fprintf(out, "diversity   %.2f of real pictures' (%d captions with several that are read)\n",
                measure_diversity(&d), d.n);
    if (distance) {
        double there, real;
        TRY(scoresheet_frechet(s, &there, &real, err));
        fprintf(out, "distance    %.0f, real pictures %.0f (Frechet, 8 x 8 boxes of RGB, %d against %d)\n",
                there, real, t->n, t->n);
    }
    return ERR_OK;
}
