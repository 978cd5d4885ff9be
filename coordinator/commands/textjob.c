#include "coordinator/commands/textjob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct err *err) { return err_set(err, ERR_NOMEM, "no memory for a prompt"); }

/* A prompt that cannot be read is bad input, not bad usage: it may come from a file. */
static int bad_input(struct err *err)
{
    if (err->code == ERR_INVAL)
        err->code = ERR_FORMAT;
    return err->code;
}

static int check_ids(const struct textjob *j, const struct session *s, struct err *err)
{
    int vocab = (int)s->cluster.spec->vocab;
    for (int i = 0; i < j->prompt.n; i++)
        if (j->prompt.id[i] < 0 || j->prompt.id[i] >= vocab)
            return err_set(err, ERR_INVAL, "token id %d is not in the vocabulary of %d",
                           j->prompt.id[i], vocab);
    for (int i = 0; i < j->args.n_bias; i++)
        if (j->args.bias_token[i] >= (uint32_t)vocab)
            return err_set(err, ERR_INVAL, "logit bias: token id %u is not in the vocabulary of %d",
                           j->args.bias_token[i], vocab);
    return ERR_OK;
}

/* How many new tokens there is room for. */
static int fit_context(struct textjob *j, int context, struct err *err)
{
    if (j->prompt.n == 0)
        return err_set(err, ERR_INVAL, "the prompt is empty, and the model has no token to begin with");
    if (j->prompt.n >= context)         /* bad input, exit code 3: no number of nodes makes it fit */
        return err_set(err, ERR_FORMAT, "the prompt has %d tokens, the context is %d: shorten the "
                       "prompt, or raise --ctx if the model allows", j->prompt.n, context);
    int room = context - j->prompt.n, n = j->args.n > 0 ? j->args.n : SAMPLING_N_DEFAULT;
    j->n_generate = n < room ? n : room;
    return ERR_OK;
}

static int prepare(struct textjob *j, const struct session *s, struct textjob_options o,
                   struct err *err)
{
    if (j->prompt_text != NULL && j->prompt.n == 0) {
        struct tokenize_options t = {.add_special = o.add_special, .parse_special = o.parse_special};
        if (tokenizer_encode(s->tokenizer, j->prompt_text, j->prompt_bytes, t, &j->prompt, err) != ERR_OK)
            return bad_input(err);
    }
    TRY(check_ids(j, s, err));
    TRY(fit_context(j, o.context, err));
    size_t n_bias = (size_t)j->args.n_bias + 1;
    j->bias = calloc(n_bias, sizeof *j->bias);
    j->bias_list = calloc(n_bias, sizeof *j->bias_list);
    j->got = calloc((size_t)j->n_generate + 1, sizeof *j->got);
    if (j->bias == NULL || j->bias_list == NULL || j->got == NULL)
        return no_memory(err);
    sampling_args_message(&j->args, &j->sampling, j->bias, j->bias_list);
    TRY(stop_scan_open(&j->stop, (const char *const *)j->args.stop, j->args.n_stop, err));
    return token_stream_open(&j->stream, s->tokenizer, j->prompt.id, j->prompt.n, true, err);
}

int textjob_prepare(struct textjob *j, const struct session *s, struct textjob_options o,
                    const char *where, struct err *err)
{
    int rc = prepare(j, s, o, err);
    if (rc == ERR_OK || where[0] == '\0')
        return rc;
    err_prefix(err, "%s", where);
    return bad_input(err);      /* a file's line, not an option */
}

int textjob_submit(struct textjob *j, struct session *s, uint64_t sequence, struct err *err)
{
    struct schedule_request r = {.sequence = sequence, .prompt = j->prompt.id,
        .n_prompt = j->prompt.n, .n_generate = j->n_generate, .keep = j->keep, .sampling = &j->sampling,
        .stop_ids = s->stop_ids, .n_stop_ids = j->args.ignore_eos ? 0 : s->n_stop_ids};
    return lm_submit(&s->lm, &r, err);
}

static int emit(struct textjob *j, const char *text, size_t n, textjob_sink *sink, void *ctx,
                struct err *err)
{
    if (n == 0)
        return ERR_OK;
    if (j->cap_text - j->n_text < n + 1) {
        size_t cap = (j->n_text + n + 1) * 2;
        char *more = realloc(j->text, cap);
        if (more == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a text");
        j->text = more;
        j->cap_text = cap;
    }
    memcpy(j->text + j->n_text, text, n);
    j->n_text += n;
    j->text[j->n_text] = '\0';
    return sink != NULL ? sink(ctx, text, n, err) : ERR_OK;
}

/* Text from the stream goes through the scan for stop texts. */
static int scan(struct textjob *j, const char *text, size_t n, bool end, bool *hit,
                textjob_sink *sink, void *ctx, struct err *err)
{
    const char *out;
    size_t n_out;
    TRY(stop_scan_push(j->stop, text, n, end, &out, &n_out, hit, err));
    return emit(j, out, n_out, sink, ctx, err);
}

int textjob_token(struct textjob *j, struct session *s, const struct schedule_token *t,
                  textjob_sink *sink, void *ctx, struct err *err)
{
    const char *text;
    size_t n;
    bool hit = false;
    if (t->finish != FINISH_STOP) {
        j->got[j->n_got++] = t->id;
        TRY(token_stream_push(j->stream, t->id, &text, &n, err));
        TRY(scan(j, text, n, false, &hit, sink, ctx, err));
    }
    if (hit) {
        if (t->finish == FINISH_NONE)
            lm_cancel(&s->lm, t->sequence);
        j->finish = FINISH_STOP;
        return ERR_OK;
    }
    j->finish = t->finish;
    if (t->finish == FINISH_NONE)
        return ERR_OK;
    TRY(token_stream_finish(j->stream, &text, &n, err));
    TRY(scan(j, text, n, true, &hit, sink, ctx, err));
    j->finish = hit ? FINISH_STOP : j->finish;
    return ERR_OK;
}

const char *textjob_finish_reason(const struct textjob *j)
{
    return j->finish == FINISH_STOP ? "stop" : "length";
}

void textjob_free(struct textjob *j)
{
    if (j->id != NULL)
        json_decref(j->id);
    free(j->prompt_text);
    token_list_free(&j->prompt);
    sampling_args_free(&j->args);
    free(j->bias);
    free(j->bias_list);
    free(j->got);
    token_stream_close(j->stream);
    stop_scan_close(j->stop);
    free(j->text);
    memset(j, 0, sizeof *j);
}
