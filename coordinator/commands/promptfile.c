#include "coordinator/commands/promptfile.h"

#include "coordinator/commands/cli.h"
#include "proto/atomicfile.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { FILE_BYTES_MAX = 1 << 30 };

static int count_lines(const char *text, size_t n)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines < INT_MAX ? (int)lines : -1;
}

static int take_ids(struct textjob *j, const json_t *ids, const char *where, struct err *err)
{
    size_t n = json_array_size(ids);
    if (!json_is_array(ids) || n == 0 || n > INT_MAX)
        return err_set(err, ERR_FORMAT, "%s: \"prompt_ids\" wants an array of token ids", where);
    if ((j->prompt.id = malloc(n * sizeof *j->prompt.id)) == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", where);
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(ids, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > INT_MAX)
            return err_set(err, ERR_FORMAT, "%s: \"prompt_ids\" wants an array of token ids", where);
        j->prompt.id[j->prompt.n++] = (int32_t)json_integer_value(x);
    }
    return ERR_OK;
}

static int take_object(struct textjob *j, const json_t *o, int line, const char *where,
                       const struct sampling_args *defaults, struct err *err)
{
    const json_t *text = json_object_get(o, "prompt"), *ids = json_object_get(o, "prompt_ids");
    json_t *id = json_object_get(o, "id");
    if (!json_is_object(o))
        return err_set(err, ERR_FORMAT, "%s: not a JSON object", where);
    if ((text == NULL) == (ids == NULL))
        return err_set(err, ERR_FORMAT, "%s: one of \"prompt\" and \"prompt_ids\" is wanted", where);
    TRY(sampling_args_copy(&j->args, defaults, err));
    TRY(sampling_args_json(&j->args, o, where, err));
    j->id = id != NULL ? json_incref(id) : json_integer(line);
    if (ids != NULL)
        return take_ids(j, ids, where, err);
    if (!json_is_string(text))
        return err_set(err, ERR_FORMAT, "%s: \"prompt\" wants a text", where);
    j->prompt_bytes = json_string_length(text);
    j->prompt_text = malloc(j->prompt_bytes + 1);
    if (j->prompt_text == NULL || j->id == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory", where);
    memcpy(j->prompt_text, json_string_value(text), j->prompt_bytes + 1);
    return ERR_OK;
}

static int take_line(struct promptfile *p, const char *path, const char *text, size_t n, int line,
                     const struct sampling_args *defaults, struct err *err)
{
    char where[80];
    json_error_t e;
    snprintf(where, sizeof where, "%.50s line %d", path, line);
    if (strspn(text, " \t\r") >= n)
        return ERR_OK;
    json_t *o = json_loadb(text, n, JSON_ALLOW_NUL, &e);
    if (o == NULL)
        return err_set(err, ERR_FORMAT, "%s: %s", where, e.text);
    struct textjob *j = &p->job[p->n];
    memset(j, 0, sizeof *j);
    p->line[p->n++] = line;
    int rc = take_object(j, o, line, where, defaults, err);
    json_decref(o);
    return rc;
}

int promptfile_read(struct promptfile *p, const char *path, const struct sampling_args *defaults,
                    struct err *err)
{
    char *text;
    size_t n;
    memset(p, 0, sizeof *p);
    TRY(cli_read(path, FILE_BYTES_MAX, &text, &n, err));
    int lines = count_lines(text, n), rc = ERR_OK;
    p->job = lines > 0 ? calloc((size_t)lines, sizeof *p->job) : NULL;
    p->line = lines > 0 ? calloc((size_t)lines, sizeof *p->line) : NULL;
    if (p->job == NULL || p->line == NULL)
        rc = err_set(err, ERR_NOMEM, "%s: no memory for its lines", path);
    size_t at = 0;
    for (int line = 1; rc == ERR_OK && at < n; line++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end != NULL ? (size_t)(end - (text + at)) : n - at;
        rc = take_line(p, path, text + at, len, line, defaults, err);
        at += len + 1;
    }
    free(text);
    return rc;
}

/* A text that ended inside a character still has to be JSON. */
static json_t *text_json(const char *text, size_t n)
{
    json_t *whole = json_stringn(text, n);
    if (whole != NULL)
        return whole;
    char *repaired = malloc(3 * n + 1);
    size_t out = 0;
    for (size_t i = 0; repaired != NULL && i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                              (utf8proc_ssize_t)(n - i), &c);
        memcpy(repaired + out, k > 0 ? text + i : "\xef\xbf\xbd", k > 0 ? (size_t)k : 3);
        out += k > 0 ? (size_t)k : 3;
        i += k > 0 ? (size_t)k : 1;
    }
    whole = repaired != NULL ? json_stringn(repaired, out) : NULL;
    free(repaired);
    return whole;
}

static json_t *answer(const struct textjob *j)
{
    json_t *ids = json_array(), *o = json_object();
    for (int i = 0; i < j->n_got; i++)
        json_array_append_new(ids, json_integer(j->got[i]));
    json_object_set(o, "id", j->id);
    json_object_set_new(o, "text", text_json(j->text != NULL ? j->text : "", j->n_text));
    json_object_set_new(o, "ids", ids);
    json_object_set_new(o, "finish_reason", json_string(textjob_finish_reason(j)));
    return o;
}

static int write_lines(const struct promptfile *p, struct atomicfile *f, struct err *err)
{
    for (int i = 0; i < p->n; i++) {
        json_t *o = answer(&p->job[i]);
        char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
        json_decref(o);
        if (text == NULL)
            return err_set(err, ERR_NOMEM, "no memory for an answer");
        int rc = atomicfile_write(f, text, strlen(text), err);
        free(text);
        if (rc == ERR_OK)
            rc = atomicfile_write(f, "\n", 1, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

int promptfile_write(const struct promptfile *p, const char *path, struct err *err)
{
    struct atomicfile f;
    TRY(atomicfile_open(&f, path, err));
    int rc = write_lines(p, &f, err);
    if (rc == ERR_OK)
        return atomicfile_commit(&f, err);
    atomicfile_abandon(&f);
    return rc;
}

void promptfile_free(struct promptfile *p)
{
    for (int i = 0; i < p->n; i++)
        textjob_free(&p->job[i]);
    free(p->job);
    free(p->line);
    memset(p, 0, sizeof *p);
}
