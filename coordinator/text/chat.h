/* chat.h - a conversation as the text that a model was trained to see.
 * Why:    the model's own template says how; what the API sends is put in the template's form first.
 * Rules:  arguments of tool calls that come as a JSON text (as the HTTP API sends them) are parsed, or
 *         many templates would quote them twice; a message's reasoning is there under all its names;
 *         a model without a template gets ChatML; with tools, a template named "tool_use" goes first.
 * Owner:  a chat copies what it needs of the tokenizer. Const once open: may be shared.
 * Ranks:  not collective. */
#ifndef MUSTER_CHAT_H
#define MUSTER_CHAT_H

#include "coordinator/text/tokenizer.h"

#include <jansson.h>
#include <time.h>

struct chat;

/* The template of that name (NULL: the default one). */
int chat_open(struct chat **c, const struct tokenizer *t, const char *name, struct err *err);
/* A template given as text; bos and eos may be NULL. */
int chat_open_source(struct chat **c, const char *source, size_t n, const char *bos, const char *eos,
                     struct err *err);
void chat_close(struct chat *c);

struct chat_request {
    const json_t *messages;         /* a list of {"role", "content", ...} */
    const json_t *tools;            /* a list, or NULL */
    const json_t *variables;        /* more names for the template (enable_thinking, ...), or NULL */
    bool add_generation_prompt;     /* end with the beginning of the answer */
    bool arguments_as_sent;         /* leave arguments of tool calls that are texts */
    const struct tm *now;           /* for templates that print the date; NULL: the time of day */
};

/* malloc'd NUL-terminated text; *n bytes. A template's own complaint (raise_exception) is the error. */
int chat_render(const struct chat *c, const struct chat_request *q, char **text, size_t *n,
                struct err *err);

#endif
