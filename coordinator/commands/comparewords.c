#include "coordinator/commands/comparewords.h"

#include "coordinator/commands/textjob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEW_TOKENS = 40 };

/* Around the caption: a line of the world's texts, up to where the model goes on. */
static const struct { const char *label, *before, *after; } forms[COMPARE_WORDS] = {
    {"in short", "There is ", ".\nSummary:"},
    {"what is there?", "There is ", ".\nQ: What is there?\nA:"},
    {"in French", "English: ", "\nFrench:"},
    {"in Spanish", "English: ", "\nSpanish:"},
};

static int make_job(struct textjob *j, int form, const char *caption, struct err *err)
{
    size_t n = strlen(forms[form].before) + strlen(caption) + strlen(forms[form].after);
    sampling_args_init(&j->args);
    j->args.temperature = 0;
    j->args.n = NEW_TOKENS;
    j->args.stop[0] = strdup("\n");
    j->args.n_stop = 1;
    if (j->args.stop[0] == NULL || (j->prompt_text = malloc(n + 1)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a prompt");
    snprintf(j->prompt_text, n + 1, "%s%s%s", forms[form].before, caption, forms[form].after);
    j->prompt_bytes = n;
    return ERR_OK;
}

struct asking { struct session *s; struct textjob job[COMPARE_WORDS]; };

static int on_event(void *ctx, const struct lm_event *e, struct err *err)
{
    struct asking *a = ctx;
    if (e->token == NULL)
        return ERR_OK;
    return textjob_token(&a->job[e->sequence], a->s, e->token, NULL, NULL, err);
}

static int ask(struct asking *a, const struct model_args *m, const char *caption, double *seconds,
               struct err *err)
{
    struct session_need need = {.sequences = COMPARE_WORDS};
    struct textjob_options how = {.add_special = true};
    TRY(session_context(a->s, m, &how.context, err));
    for (int i = 0; i < COMPARE_WORDS; i++) {
        struct textjob *j = &a->job[i];
        TRY(make_job(j, i, caption, err));
        TRY(textjob_prepare(j, a->s, how, "the language model", err));
        int all = j->prompt.n + j->n_generate;
        need.longest = all > need.longest ? all : need.longest;
        need.longest_prompt = j->prompt.n > need.longest_prompt ? j->prompt.n : need.longest_prompt;
    }
    TRY(session_load(a->s, m, &need, err));
    int64_t begun = comm_now_us(a->s->cluster.comm);
    for (int i = 0; i < COMPARE_WORDS; i++)
        TRY(textjob_submit(&a->job[i], a->s, (uint64_t)i, err));
    TRY(lm_run(&a->s->lm, on_event, a, err));
    *seconds = (double)(comm_now_us(a->s->cluster.comm) - begun) / 1e6;
    return ERR_OK;
}

int comparewords_ask(struct comparewords *w, struct session *s, const struct model_args *a,
                     const char *caption, struct err *err)
{
    struct asking all = {.s = s};
    int rc = ask(&all, a, caption, &w->seconds, err);
    for (int i = 0; i < COMPARE_WORDS; i++) {
        struct textjob *j = &all.job[i];
        const char *text = j->text != NULL ? j->text : "";
        w->said[i].label = forms[i].label;
        if (rc == ERR_OK && (w->said[i].text = strdup(text + strspn(text, " "))) == NULL)
            rc = err_set(err, ERR_NOMEM, "no memory for a text");
        textjob_free(j);
    }
    return rc;
}

void comparewords_free(struct comparewords *w)
{
    for (int i = 0; i < COMPARE_WORDS; i++)
        free(w->said[i].text);
    memset(w, 0, sizeof *w);
}
