/* Vocabularies on their way into a GGUF file: tokenizer.json, or (first byte not '{') tokenizer.model. */
#include "workers/models/exportpieces.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The worst that a writer does with a table: reads all of it. */
static void use(const struct pieces *p)
{
    size_t sum = 0;
    for (int i = 0; i < p->n; i++)
        for (size_t k = 0; p->piece[i].text != NULL && k < p->piece[i].n; k++)
            sum += (uint8_t)p->piece[i].text[k];
    if (exportpieces_find(p, "<s>") >= p->n || sum == SIZE_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct pieces p;
    struct err err = {0};
    json_t *root = NULL;
    int rc = ERR_OK;
    if (exportpieces_init(&p, 64, &err) != ERR_OK)
        abort();
    if (n > 0 && data[0] == '{') {
        root = json_loadb((const char *)data, n, JSON_ALLOW_NUL, NULL);
        rc = exportpieces_json(&p, root, "tokenizer.json", &err);
        exportpieces_added(&p, json_object_get(root, "added_tokens"), json_object_get(root, "table"));
        exportpieces_pre(root);
    } else {
        rc = exportpieces_spm(&p, data, n, "tokenizer.model", &err);
    }
    if (rc != ERR_OK && err.msg[0] == '\0')
        abort();
    use(&p);
    exportpieces_free(&p);
    json_decref(root);
    return 0;
}
