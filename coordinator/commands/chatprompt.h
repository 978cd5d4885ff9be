/* chatprompt.h - a conversation as the prompt of a job.
 * Why:    `generate --chat` and `chat` show the model the same tokens for the same messages.
 * Rules:  what the model's own template renders is the whole prompt: its special tokens count, and no
 *         begin-of-text token is put before it. Only without a template the tokenizer adds what it adds
 *         to any text, unless the text begins with it.
 * Ranks:  the coordinator's thread only. */
#ifndef MUSTER_CHATPROMPT_H
#define MUSTER_CHATPROMPT_H

#include "coordinator/commands/textjob.h"
#include "coordinator/text/chat.h"

/* A file ("-": stdin) with [{"role", "content", ...}, ...] or {"messages": [...], "tools": [...]}.
 * *root is json_decref'd by the caller; messages and tools (or NULL) borrow from it. What is wrong with
 * the file is ERR_FORMAT. */
int chatprompt_read(const char *path, json_t **root, const json_t **messages, const json_t **tools,
                    struct err *err);
/* The messages, and the beginning of an answer, into j's prompt text; *how is for textjob_prepare, all
 * but its context. tools may be NULL. */
int chatprompt_render(const struct chat *c, const struct tokenizer *t, const json_t *messages,
                      const json_t *tools, struct textjob *j, struct textjob_options *how,
                      struct err *err);

#endif
