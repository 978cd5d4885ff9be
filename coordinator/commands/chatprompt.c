#include "coordinator/commands/chatprompt.h"

#include "coordinator/commands/cli.h"

#include <stdlib.h>
#include <string.h>

enum { CHAT_BYTES_MAX = 64 << 20 };

static int check_messages(const json_t *messages, const char *path, struct err *err)
{
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return err_set(err, ERR_FORMAT, "%s: wants a JSON array of messages, or an object with one as "
                       "\"messages\"", path);
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_string(json_object_get(json_array_get(messages, i), "role")))
            return err_set(err, ERR_FORMAT, "%s: message %zu wants {\"role\": TEXT, \"content\": TEXT}",
                           path, i + 1);
    return ERR_OK;
}

static int take_root(const char *path, const json_t *root, const json_t **messages,
                     const json_t **tools, struct err *err)
{
    *messages = json_is_object(root) ? json_object_get(root, "messages") : root;
    *tools = json_is_object(root) ? json_object_get(root, "tools") : NULL;
    if (json_is_null(*tools))
        *tools = NULL;
    if (*tools != NULL && !json_is_array(*tools))
        return err_set(err, ERR_FORMAT, "%s: \"tools\" wants an array", path);
    return check_messages(*messages, path, err);
}

int chatprompt_read(const char *path, json_t **root, const json_t **messages, const json_t **tools,
                    struct err *err)
{
    char *text;
    size_t n;
    json_error_t why;
    *root = NULL;
    TRY(cli_read(path, CHAT_BYTES_MAX, &text, &n, err));
    const char *name = strcmp(path, "-") == 0 ? "stdin" : path;
    *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (*root == NULL)
        return err_set(err, ERR_FORMAT, "%s line %d: %s", name, why.line, why.text);
    int rc = take_root(name, *root, messages, tools, err);
    if (rc != ERR_OK) {
        json_decref(*root);
        *root = NULL;
    }
    return rc;
}

/* Does the text begin with the token that the tokenizer may put before it? */
static bool begins_with_bos(const struct tokenizer *t, const char *text, size_t n)
{
    const char *bos = tokenizer_bos(t) >= 0 ? tokenizer_token_text(t, tokenizer_bos(t)) : NULL;
    return bos != NULL && n >= strlen(bos) && memcmp(text, bos, strlen(bos)) == 0;
}

int chatprompt_render(const struct chat *c, const struct tokenizer *t, const json_t *messages,
                      const json_t *tools, struct textjob *j, struct textjob_options *how,
                      struct err *err)
{
    struct chat_request q = {.messages = messages, .tools = tools, .add_generation_prompt = true};
    if (chat_render(c, &q, &j->prompt_text, &j->prompt_bytes, err) != ERR_OK) {
        if (err->code == ERR_INVAL || err->code == ERR_LIMIT)
            err->code = ERR_FORMAT;     /* messages that do not suit the model, an endless template: input */
        return strncmp(err->msg, "chat template", 13) == 0 ? err->code : err_prefix(err, "chat template");
    }
    *how = (struct textjob_options){
        .parse_special = true,
        .add_special = tokenizer_chat_template(t, NULL) == NULL &&
                       !begins_with_bos(t, j->prompt_text, j->prompt_bytes)};
    return ERR_OK;
}
