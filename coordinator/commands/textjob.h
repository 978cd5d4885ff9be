/* textjob.h - one sequence on its way from a prompt to a text.
 * Why:    one prompt on a terminal and a thousand in a file are continued alike; what differs is where
 *         the text goes.
 * Owner:  a job owns its prompt, ids and text; textjob_free. It may not move once submitted (requests
 *         borrow from it).
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_TEXTJOB_H
#define MUSTER_TEXTJOB_H

#include "coordinator/commands/samplingargs.h"
#include "coordinator/commands/session.h"
#include "coordinator/text/stopstring.h"

struct textjob {
    json_t *id;                         /* of a JSONL line; NULL */
    char *prompt_text; size_t prompt_bytes;     /* as given; NULL when ids were given */
    struct token_list prompt;
    struct sampling_args args;
    Muster__Sampling sampling;
    Muster__Bias *bias, **bias_list;
    int n_generate;
    bool keep;                          /* schedule_request's: set before it is submitted */
    int32_t *got; int n_got;            /* new ids, without the one that ended it */
    struct token_stream *stream;
    struct stop_scan *stop;
    char *text; size_t n_text, cap_text;        /* of the continuation, up to a stop text */
    enum finish finish;
};

/* Called with each piece of text that is final (whole characters, no part of a stop text). */
typedef int textjob_sink(void *ctx, const char *text, size_t n, struct err *err);

/* Tokenises the prompt (unless ids are there), checks it against `context`, fixes n_generate and the
 * sampling message. `where` names the job in errors ("" for the only one). */
struct textjob_options { bool add_special, parse_special; int context; };
int textjob_prepare(struct textjob *j, const struct session *s, struct textjob_options o,
                    const char *where, struct err *err);
int textjob_submit(struct textjob *j, struct session *s, uint64_t sequence, struct err *err);
/* A token came. Cancels the sequence when a stop text is met. sink may be NULL. */
int textjob_token(struct textjob *j, struct session *s, const struct schedule_token *t,
                  textjob_sink *sink, void *ctx, struct err *err);
const char *textjob_finish_reason(const struct textjob *j);     /* "stop" or "length" */
void textjob_free(struct textjob *j);

#endif
