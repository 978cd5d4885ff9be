#include "coordinator/text/chat.h"

#include "coordinator/text/jinja.h"
#include "proto/log.h"

#include <stdlib.h>
#include <string.h>

struct chat { struct jinja_template *plain, *tools; json_t *names; };

static const char chatml[] =
    "{%- for message in messages -%}\n"
    "{{ '<|im_start|>' + message.role + '\\n' }}\n"
    "{%- if message.content is string -%}\n"
    "{{ message.content }}\n"
    "{%- else -%}\n"
    "{%- for part in message.content if part.text is defined -%}{{ part.text }}{%- endfor -%}\n"
    "{%- endif -%}\n"
    "{{ '<|im_end|>\\n' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}\n";

/* --- opening */

int chat_open_source(struct chat **c, const char *source, size_t n, const char *bos, const char *eos,
                     struct err *err)
{
    *c = NULL;
    struct chat *x = calloc(1, sizeof *x);
    if (x == NULL || (x->names = json_object()) == NULL) {
        free(x);
        return err_set(err, ERR_NOMEM, "no memory for a chat template");
    }
    int rc = jinja_parse(&x->plain, source, n, err);
    if (rc != ERR_OK) {
        chat_close(x);
        return rc;
    }
    if (bos != NULL)
        json_object_set_new(x->names, "bos_token", json_string(bos));
    if (eos != NULL)
        json_object_set_new(x->names, "eos_token", json_string(eos));
    *c = x;
    return ERR_OK;
}

int chat_open(struct chat **c, const struct tokenizer *t, const char *name, struct err *err)
{
    const char *source = tokenizer_chat_template(t, name);
    const char *tools = name == NULL ? tokenizer_chat_template(t, "tool_use") : NULL;
    *c = NULL;
    if (source == NULL && name != NULL)
        return err_set(err, ERR_INVAL, "the model has no chat template named '%.60s'", name);
    if (source == NULL) {
        log_line(LOG_WARN, "chat", "the model has no chat template; ChatML is used");
        source = chatml;
    }
    int rc = chat_open_source(c, source, strlen(source), tokenizer_token_text(t, tokenizer_bos(t)),
                              tokenizer_token_text(t, tokenizer_eos(t)), err);
    if (rc == ERR_OK && tools != NULL)
        rc = jinja_parse(&(*c)->tools, tools, strlen(tools), err);
    if (rc != ERR_OK) {
        chat_close(*c);
        *c = NULL;
    }
    if (rc == ERR_LIMIT && err != NULL)
        rc = err->code = ERR_FORMAT;    /* the model's file is at fault, not the machine */
    return rc;
}

void chat_close(struct chat *c)
{
    if (c == NULL)
        return;
    jinja_free(c->plain);
    jinja_free(c->tools);
    json_decref(c->names);
    free(c);
}

/* --- messages in the template's form */

/* {"function": {"arguments": "{...}"}}: the text becomes what it says, if it is an object. */
static void parse_arguments(json_t *call)
{
    json_t *function = json_object_get(call, "function");
    if (function == NULL)
        function = call;
    const json_t *text = json_object_get(function, "arguments");
    if (!json_is_string(text))
        return;
    json_t *parsed = json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL,
                                NULL);
    if (json_is_object(parsed))
        json_object_set(function, "arguments", parsed);
    json_decref(parsed);
}

/* Reasoning under all names that templates read; a message's own `thinking` stays. */
static json_t *alias_reasoning(json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *found = NULL, *copy;
    for (int i = 0; i < 3 && found == NULL; i++) {
        json_t *v = json_object_get(message, names[i]);
        found = v != NULL && !json_is_null(v) ? v : NULL;
    }
    if (found == NULL)
        return json_incref(message);
    copy = json_pack("{s:O}", "thinking", found);       /* first, as dicts keep their order */
    json_object_update(copy, message);
    json_object_set(copy, "reasoning_content", found);
    return copy;
}

static int prepare_messages(const struct chat_request *q, json_t **out, struct err *err)
{
    json_t *message, *call;
    size_t i, k;
    *out = NULL;
    if (!json_is_array(q->messages))
        return err_set(err, ERR_FORMAT, "messages: a list of {\"role\", \"content\"} is needed");
    json_t *copy = json_deep_copy(q->messages), *list = json_array();
    json_array_foreach(copy, i, message) {
        if (!json_is_string(json_object_get(message, "role"))) {
            json_decref(copy);
            json_decref(list);
            return err_set(err, ERR_FORMAT, "messages[%zu] has no \"role\"", i);
        }
        if (!q->arguments_as_sent)
            json_array_foreach(json_object_get(message, "tool_calls"), k, call)
                parse_arguments(call);
        json_array_append_new(list, alias_reasoning(message));
    }
    json_decref(copy);
    *out = list;
    return ERR_OK;
}

static json_t *all_names(const struct chat *c, const struct chat_request *q, json_t *messages)
{
    json_t *names = json_copy(c->names);
    json_object_set(names, "messages", messages);
    json_object_set_new(names, "tools", q->tools != NULL ? json_incref((json_t *)q->tools)
                                                         : json_null());
    json_object_set_new(names, "documents", json_null());
    json_object_set_new(names, "add_generation_prompt", json_boolean(q->add_generation_prompt));
    if (q->variables != NULL)
        json_object_update(names, (json_t *)q->variables);
    return names;
}

int chat_render(const struct chat *c, const struct chat_request *q, char **text, size_t *n,
                struct err *err)
{
    json_t *messages;
    if (q->tools != NULL && !json_is_array(q->tools) && !json_is_null(q->tools))
        return err_set(err, ERR_FORMAT, "tools: a list is needed");
    if (q->variables != NULL && !json_is_object(q->variables))
        return err_set(err, ERR_FORMAT, "template variables: an object is needed");
    TRY(prepare_messages(q, &messages, err));
    json_t *names = all_names(c, q, messages);
    bool with_tools = c->tools != NULL && json_is_array(q->tools);
    int rc = names == NULL ? err_set(err, ERR_NOMEM, "no memory for a conversation")
                           : jinja_render(with_tools ? c->tools : c->plain, names, q->now, NULL, text,
                                          n, err);
    json_decref(names);
    json_decref(messages);
    return rc;
}
