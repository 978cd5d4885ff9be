/* SentencePiece files of the diffusion folders: the ids of the prompts there as the reference has them; and what
 * is wrong with a file that is cut. */
#include "coordinator/text/tokenizer.h"
#include "tests/fixturetensor.h"
#include "tests/unit/container.h"

#include <dirent.h>
#include <jansson.h>
#include <string.h>

static int failures, checks;

static struct tokenizer *open_pieces(const char *folder, size_t most, struct err *err)
{
    char path[1400];
    size_t n = 0;
    struct container c = {0};
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/spiece.model", folder);
    char *bytes = file_bytes(path, &n);
    if (bytes == NULL)
        return NULL;
    container_add(&c, "spiece.model", bytes, n < most ? n : most);
    container_add(&c, "tokenizer_config.json", "{\"eos_token\": \"</s>\"}", 21);
    tokenizer_open(&t, c.p, c.n, err);
    container_free(&c);
    free(bytes);
    return t;
}

/* Prompt i as ids with the end token, padded with zeros; `name`: text.I.ids, text.I.ids_2, ... */
static void compare(const struct tokenizer *t, struct tensorfile *file, const char *name, const char *prompt)
{
    const struct tensor_entry *e;
    struct token_list ids = {0};
    struct err err = {0};
    double *want = fixture_values(file, name, &e);
    if (want == NULL || tokenizer_encode(t, prompt, strlen(prompt), (struct tokenize_options){0}, &ids,
                                         &err) != ERR_OK) {
        printf("%s: %s\n", name, want == NULL ? "missing" : err.msg);
        failures++;
        return;
    }
    checks++;
    for (int64_t i = 0; i < e->n_elements; i++) {
        int have = i < ids.n && i < e->n_elements - 1 ? ids.id[i] : i <= ids.n ? tokenizer_eos(t) : 0;
        if (have == (int)want[i])
            continue;
        printf("%s of '%s': id %d is %d, expected %g\n", name, prompt, (int)i, have, want[i]);
        failures++;
        break;
    }
    token_list_free(&ids);
    free(want);
}

static void run_tokenizer(const char *folder, const char *tokenizer, const char *end)
{
    char path[1400], name[64];
    struct tensorfile file;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, tokenizer);
    struct tokenizer *t = open_pieces(path, SIZE_MAX, &err);
    if (t == NULL && err.code == ERR_OK)
        return;
    snprintf(path, sizeof path, "%s/expected.json", folder);
    json_t *root = json_load_file(path, 0, NULL), *prompt;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (t == NULL || tensorfile_open(&file, path, &err) != ERR_OK) {
        printf("%s: %s\n", folder, err.msg);
        failures++;
        return;
    }
    size_t i;
    json_array_foreach(json_object_get(root, "prompts"), i, prompt) {
        snprintf(name, sizeof name, "text.%zu.ids%s", i, end);
        compare(t, &file, name, json_string_value(prompt));
    }
    tensorfile_close(&file);
    json_decref(root);
    tokenizer_close(t);
}

/* Cut anywhere, it is refused with its name, or has fewer pieces. */
static void refuse_cut(const char *folder)
{
    char path[1400];
    snprintf(path, sizeof path, "%s/tokenizer", folder);
    for (size_t most = 1; most < 3000; most += 97) {
        struct err err = {0};
        struct tokenizer *t = open_pieces(path, most, &err);
        if (t == NULL && err.code == ERR_OK)
            return;
        checks++;
        if (t == NULL && strstr(err.msg, "spiece.model") == NULL && strstr(err.msg, "vocabulary") == NULL) {
            printf("cut to %zu bytes: %s\n", most, err.msg);
            failures++;
        }
        tokenizer_close(t);
    }
}

int main(void)
{
    const char *fixtures = getenv("MUSTER_FIXTURES");
    char root[600], folder[900];
    snprintf(root, sizeof root, "%s/diffusion", fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    DIR *d = opendir(root);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(folder, sizeof folder, "%s/%s", root, e->d_name);
        run_tokenizer(folder, "tokenizer", "");
        run_tokenizer(folder, "tokenizer_2", "_2");
        run_tokenizer(folder, "tokenizer_3", "_3");
        refuse_cut(folder);
    }
    if (d != NULL)
        closedir(d);
    printf("%d checks, %d failures\n", checks, failures);
    return failures > 0 ? 1 : checks == 0 ? 77 : 0;
}
