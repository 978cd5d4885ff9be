#include "workers/train/trainconfig.h"

#include <string.h>

int trainconfig_open(struct trainconfig *c, const char *text, struct err *err)
{
    json_error_t why;
    memset(c, 0, sizeof *c);
    c->json = json_loads(text, 0, &why);
    if (c->json == NULL)
        return err_set(err, ERR_INVAL, "training configuration: line %d: %.120s", why.line, why.text);
    if (!json_is_object(c->json)) {
        trainconfig_close(c);
        return err_set(err, ERR_INVAL, "the training configuration is not a JSON object");
    }
    c->seed = (uint64_t)trainconfig_int(c, "seed", 0, 0, INT64_MAX);
    c->batch = (int)trainconfig_int(c, "batch", 16, 1, 1 << 20);
    c->from = trainconfig_text(c, "from", NULL);
    trainconfig_text(c, "data", NULL);      /* these are the coordinator's */
    trainconfig_text(c, "tokenizer", NULL);
    trainconfig_real(c, "caption_dropout", 0, 0, 1);
    return ERR_OK;
}

void trainconfig_close(struct trainconfig *c)
{
    json_decref(c->json);
    memset(c, 0, sizeof *c);
}

/* The value, and a note that the key is known. */
static const json_t *get(struct trainconfig *c, const char *key)
{
    int i = 0;
    while (i < c->n_seen && strcmp(c->seen[i], key) != 0)
        i++;
    if (i == c->n_seen && c->n_seen < TRAINCONFIG_KEYS_MAX)
        c->seen[c->n_seen++] = key;
    return json_object_get(c->json, key);
}

bool trainconfig_has(struct trainconfig *c, const char *key) { return get(c, key) != NULL; }

int64_t trainconfig_int(struct trainconfig *c, const char *key, int64_t otherwise, int64_t low,
                        int64_t high)
{
    const json_t *v = get(c, key);
    if (v == NULL)
        return otherwise;
    if (json_is_integer(v) && json_integer_value(v) >= low && json_integer_value(v) <= high)
        return json_integer_value(v);
    err_set(&c->first, ERR_INVAL, "%s wants a whole number from %lld to %lld", key, (long long)low,
            (long long)high);
    return otherwise;
}

double trainconfig_real(struct trainconfig *c, const char *key, double otherwise, double low,
                        double high)
{
    const json_t *v = get(c, key);
    if (v == NULL)
        return otherwise;
    if (json_is_number(v) && json_number_value(v) >= low && json_number_value(v) <= high)
        return json_number_value(v);
    err_set(&c->first, ERR_INVAL, "%s wants a number from %g to %g", key, low, high);
    return otherwise;
}

bool trainconfig_flag(struct trainconfig *c, const char *key, bool otherwise)
{
    const json_t *v = get(c, key);
    if (v != NULL && !json_is_boolean(v))
        err_set(&c->first, ERR_INVAL, "%s wants true or false", key);
    return v == NULL ? otherwise : json_is_true(v);
}

const char *trainconfig_text(struct trainconfig *c, const char *key, const char *otherwise)
{
    const json_t *v = get(c, key);
    if (v == NULL)
        return otherwise;
    if (!json_is_string(v))
        err_set(&c->first, ERR_INVAL, "%s wants a text", key);
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

const json_t *trainconfig_texts(struct trainconfig *c, const char *key)
{
    const json_t *v = get(c, key);
    bool good = v == NULL || json_is_array(v);
    for (size_t i = 0; good && i < json_array_size(v); i++)
        good = json_is_string(json_array_get(v, i));
    if (!good)
        err_set(&c->first, ERR_INVAL, "%s wants a list of texts", key);
    return good ? v : NULL;
}

int trainconfig_choice(struct trainconfig *c, const char *key, int otherwise, const char *const *words)
{
    const char *word = trainconfig_text(c, key, NULL);
    char list[160] = "";
    if (word == NULL)
        return otherwise;
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], word) == 0)
            return i;
        if (strlen(list) + strlen(words[i]) + 3 < sizeof list) {
            strcat(list, i > 0 ? ", " : "");
            strcat(list, words[i]);
        }
    }
    err_set(&c->first, ERR_INVAL, "%s wants one of %s, not '%.40s'", key, list, word);
    return otherwise;
}

int trainconfig_finish(struct trainconfig *c, struct err *err)
{
    const char *key;
    json_t *value;
    if (c->first.code != ERR_OK)
        return err_set(err, c->first.code, "%s", c->first.msg);
    json_object_foreach(c->json, key, value)
    {
        int i = 0;
        while (i < c->n_seen && strcmp(c->seen[i], key) != 0)
            i++;
        if (i == c->n_seen && strcmp(key, "task") != 0)
            return err_set(err, ERR_INVAL, "nothing here is called '%.60s'; see --help", key);
    }
    return ERR_OK;
}
