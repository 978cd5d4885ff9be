/* A chat template and, behind a zero byte, messages as JSON. */
#include "coordinator/text/chat.h"
#include "coordinator/text/jinja.h"
#include "coordinator/text/unicode.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void render(const char *source, size_t n, const json_t *variables)
{
    static const struct jinja_limits small = {.steps = 100000, .depth = 500, .memory = 16 << 20,
                                              .output = 1 << 20};
    struct jinja_template *t = NULL;
    struct err err = {0};
    char *text = NULL;
    size_t len = 0;
    int rc = jinja_parse(&t, source, n, &err);
    ASSERT(rc == err.code && (rc == ERR_OK) == (t != NULL));
    if (t != NULL) {
        rc = jinja_render(t, variables, NULL, &small, &text, &len, &err);
        ASSERT(rc == err.code);
        ASSERT(rc != ERR_OK || (strlen(text) <= len && len <= small.output + (1 << 20)));
    }
    free(text);
    jinja_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *zero = n > 0 ? memchr(data, 0, n) : NULL;
    size_t first = zero != NULL ? (size_t)(zero - data) : n;
    json_t *messages = zero == NULL ? NULL
                                    : json_loadb((const char *)zero + 1, n - first - 1, 0, NULL);
    json_t *variables = json_pack("{s:o?, s:n, s:b, s:s}", "messages", messages, "tools",
                                  "add_generation_prompt", 1, "bos_token", "<s>");
    render((const char *)data, first, variables);
    json_decref(variables);
    struct chat *c = NULL;
    if (chat_open_source(&c, "{{ messages }}", 14, NULL, NULL, NULL) == ERR_OK && zero != NULL) {
        json_t *again = json_loadb((const char *)zero + 1, n - first - 1, 0, NULL);
        struct chat_request q = {.messages = again};
        char *text = NULL;
        size_t len;
        if (again != NULL && chat_render(c, &q, &text, &len, NULL) == ERR_OK)
            ASSERT(unicode_check(text, len) == len);
        free(text);
        json_decref(again);
    }
    chat_close(c);
    return 0;
}
