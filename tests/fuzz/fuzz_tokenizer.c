/* A vocabulary, and a text to encode with it: the input is a container (tokenizer.h), then a zero byte and
 * the text. Whatever is accepted must give ids of the vocabulary, and a stream that decodes as the whole. */
#include "coordinator/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_stream(const struct tokenizer *t, const struct token_list *ids, const char *want,
                         size_t n)
{
    struct token_stream *s;
    struct err err = {0};
    size_t at = 0, len;
    if (token_stream_open(&s, t, NULL, 0, false, &err) != ERR_OK)
        return;
    for (int i = 0; i <= ids->n; i++) {
        const char *text;
        int rc = i < ids->n ? token_stream_push(s, ids->id[i], &text, &len, &err)
                            : token_stream_finish(s, &text, &len, &err);
        ASSERT(rc == ERR_OK && at + len <= n && memcmp(want + at, text, len) == 0);
        at += len;
    }
    ASSERT(at == n);
    token_stream_close(s);
}

static void check_text(const struct tokenizer *t, const char *text, size_t n)
{
    struct token_list ids = {0};
    struct err err = {0};
    struct tokenize_options opt = {true, true};
    char *back = NULL;
    size_t len = 0;
    int rc = tokenizer_encode(t, text, n, opt, &ids, &err);
    ASSERT(rc == err.code && (rc == ERR_OK || err.msg[0] != '\0'));
    for (int i = 0; i < ids.n; i++)
        ASSERT(ids.id[i] >= 0 && ids.id[i] < tokenizer_vocab_size(t));
    if (rc == ERR_OK && tokenizer_decode(t, ids.id, ids.n, false, &back, &len, &err) == ERR_OK)
        check_stream(t, &ids, back, len);
    free(back);
    token_list_free(&ids);
}

/* Where the text starts: behind the last whole entry of the container. */
static size_t container_end(const uint8_t *p, size_t n)
{
    size_t at = 4;
    while (at + 12 <= n) {
        uint32_t name;
        uint64_t len;
        memcpy(&name, p + at, 4);
        if (name == 0 || name > n - at - 12)
            break;
        memcpy(&len, p + at + 4 + name, 8);
        if (len > n - at - 12 - name)
            break;
        at += 12 + name + (size_t)len;
    }
    return at < n ? at : n;
}

static const char greeting[] = "Hello, w\xc3\xb6rld  12345 <s>\xe4\xbd\xa0\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t end = n < 4 ? n : container_end(data, n);
    struct tokenizer *t = NULL;
    struct err err = {0};
    int rc = tokenizer_open(&t, data, end, &err);
    ASSERT(rc == err.code && (rc == ERR_OK) == (t != NULL));
    if (t != NULL) {
        tokenizer_chat_template(t, NULL);
        ASSERT(tokenizer_bos(t) < tokenizer_vocab_size(t) && tokenizer_eos(t) < tokenizer_vocab_size(t));
        check_text(t, greeting, sizeof greeting - 1);
        if (end < n)
            check_text(t, (const char *)data + end + 1, n - end - 1);
    }
    tokenizer_close(t);
    return 0;
}
