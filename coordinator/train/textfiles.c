#define _GNU_SOURCE     /* asprintf, getline */
#include "coordinator/train/textfiles.h"

#include "coordinator/text/unicode.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES_MAX = 1 << 20, LINE_BYTES_MAX = 1 << 26 };
static const int64_t text_bytes_max = INT64_C(1) << 31;

struct textfile { char *path; int64_t bytes; };

struct textfiles {
    struct textfile *file;
    int n, cap;
    int64_t bytes, before;      /* of all files; of those already left */
    int at;                     /* the file that is read */
    FILE *open;                 /* .jsonl in progress, else NULL */
    int line;
    char *text;                 /* handed out: a whole file or a line */
    size_t cap_text;
    json_t *row;                /* handed out: a line's tree */
    char *joined;               /* handed out: a prompt and its completion, or NULL */
    size_t prompt;              /* bytes of it */
};

static const char *tail(const char *path)
{
    enum { TAIL = 120 };
    size_t n = strlen(path);
    return n > TAIL ? path + n - TAIL : path;
}

static bool ends_in(const char *name, const char *what)
{
    size_t n = strlen(name), k = strlen(what);
    return n >= k && strcmp(name + n - k, what) == 0;
}

/* --- the list */

/* Takes path. */
static int add_file(struct textfiles *f, char *path, int64_t bytes, struct err *err)
{
    if (f->n == f->cap) {
        int cap = f->cap == 0 ? 16 : 2 * f->cap;
        struct textfile *file = cap > FILES_MAX ? NULL : realloc(f->file, (size_t)cap * sizeof *file);
        if (file == NULL) {
            free(path);
            return err_set(err, cap > FILES_MAX ? ERR_LIMIT : ERR_NOMEM, "more than %d text files", f->cap);
        }
        f->file = file;
        f->cap = cap;
    }
    f->file[f->n++] = (struct textfile){path, bytes};
    f->bytes += bytes;
    return ERR_OK;
}

static int add_folder(struct textfiles *f, const char *folder, struct err *err)
{
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort), before = f->n, rc = ERR_OK;
    if (n < 0)
        return err_set(err, ERR_IO, "%s: %s", tail(folder), strerror(errno));
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        struct stat st;
        char *path;
        if (rc == ERR_OK && name[0] != '.' && (ends_in(name, ".txt") || ends_in(name, ".jsonl"))) {
            if (asprintf(&path, "%s/%s", folder, name) < 0)
                rc = err_set(err, ERR_NOMEM, "no memory for a path");
            else if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
                free(path);
            else
                rc = add_file(f, path, st.st_size, err);
        }
        free(list[i]);
    }
    free(list);
    if (rc == ERR_OK && f->n == before)
        rc = err_set(err, ERR_FORMAT, "%s: empty data set: no .txt or .jsonl file in this folder",
                     tail(folder));
    return rc;
}

static int add_path(struct textfiles *f, const char *path, struct err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
    if (S_ISDIR(st.st_mode))
        return add_folder(f, path, err);
    char *copy = strdup(path);
    return copy == NULL ? err_set(err, ERR_NOMEM, "no memory for a path")
                        : add_file(f, copy, st.st_size, err);
}

int textfiles_open(struct textfiles **out, const char *const *path, int n_paths, struct err *err)
{
    struct textfiles *f = calloc(1, sizeof *f);
    int rc = f == NULL ? err_set(err, ERR_NOMEM, "no memory for a list of files") : ERR_OK;
    for (int i = 0; i < n_paths && rc == ERR_OK; i++)
        rc = add_path(f, path[i], err);
    if (rc != ERR_OK) {
        textfiles_close(f);
        f = NULL;
    }
    *out = f;
    return rc;
}

/* What was handed out of a line goes. */
static void leave_line(struct textfiles *f)
{
    json_decref(f->row);
    free(f->joined);
    f->row = NULL;
    f->joined = NULL;
    f->prompt = 0;
}

static void leave_file(struct textfiles *f)
{
    if (f->open != NULL)
        fclose(f->open);
    f->open = NULL;
    leave_line(f);
}

void textfiles_close(struct textfiles *f)
{
    if (f == NULL)
        return;
    leave_file(f);
    for (int i = 0; i < f->n; i++)
        free(f->file[i].path);
    free(f->file);
    free(f->text);
    free(f);
}

void textfiles_rewind(struct textfiles *f)
{
    leave_file(f);
    f->at = 0;
    f->before = 0;
}

double textfiles_share(const struct textfiles *f)
{
    int64_t here = f->open != NULL ? ftell(f->open) : 0;
    return f->bytes > 0 ? (double)(f->before + here) / (double)f->bytes : 1;
}

/* --- texts */

/* A file as one text; grows with what is read, so that a pipe may be one. */
static int read_whole(struct textfiles *f, FILE *in, const char *path, size_t *n, struct err *err)
{
    *n = 0;
    do {
        if (*n + 1 >= f->cap_text) {
            size_t cap = f->cap_text < 1 << 16 ? 1 << 16 : 2 * f->cap_text;
            char *text = realloc(f->text, cap);
            if (text == NULL)
                return err_set(err, ERR_NOMEM, "%s: no memory to read it", tail(path));
            f->text = text;
            f->cap_text = cap;
        }
        *n += fread(f->text + *n, 1, f->cap_text - *n - 1, in);
        if (ferror(in))
            return err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
        if ((int64_t)*n > text_bytes_max)
            return err_set(err, ERR_LIMIT, "%s: more than 2 GiB in one text: cut it into files", tail(path));
    } while (!feof(in));
    f->text[*n] = '\0';
    size_t bad = unicode_check(f->text, *n);
    if (bad < *n)
        return err_set(err, ERR_FORMAT, "%s: not valid UTF-8 at byte %zu", tail(path), bad);
    return ERR_OK;
}

static int next_whole(struct textfiles *f, const char **text, size_t *n, struct err *err)
{
    const char *path = f->file[f->at].path;
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        return err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
    int rc = read_whole(f, in, path, n, err);
    fclose(in);
    f->before += f->file[f->at++].bytes;
    *text = rc == ERR_OK ? f->text : NULL;
    return rc;
}

size_t textfiles_prompt(const struct textfiles *f) { return f->prompt; }

/* "prompt" and "completion" as one text. */
static int join(struct textfiles *f, const json_t *prompt, const json_t *completion, const char **text,
                size_t *n, struct err *err)
{
    const char *path = tail(f->file[f->at].path);
    size_t a = json_string_length(prompt), b = json_string_length(completion);
    if (b == 0)
        return err_set(err, ERR_FORMAT, "%s: line %d: an empty \"completion\": there is nothing to learn",
                       path, f->line);
    f->joined = malloc(a + b + 1);
    if (f->joined == NULL)
        return err_set(err, ERR_NOMEM, "%s: line %d: no memory for it", path, f->line);
    memcpy(f->joined, json_string_value(prompt), a);
    memcpy(f->joined + a, json_string_value(completion), b + 1);
    f->prompt = a;
    *text = f->joined;
    *n = a + b;
    return ERR_OK;
}

static int parse_line(struct textfiles *f, size_t len, const char **text, size_t *n, struct err *err)
{
    const char *path = tail(f->file[f->at].path);
    json_error_t why;
    f->row = json_loadb(f->text, len, JSON_ALLOW_NUL, &why);
    if (f->row == NULL)
        return err_set(err, ERR_FORMAT, "%s: line %d: %.80s", path, f->line, why.text);
    const json_t *value = json_object_get(f->row, "text"), *prompt = json_object_get(f->row, "prompt"),
                 *completion = json_object_get(f->row, "completion");
    if (value == NULL && json_is_string(prompt) && json_is_string(completion))
        return join(f, prompt, completion, text, n, err);
    if (!json_is_string(value))
        return err_set(err, ERR_FORMAT, "%s: line %d: no \"text\", nor a \"prompt\" with a \"completion\"",
                       path, f->line);
    *text = json_string_value(value);
    *n = json_string_length(value);
    return ERR_OK;
}

/* The next line that is not blank; *text stays NULL at the end of the file. */
static int next_line(struct textfiles *f, const char **text, size_t *n, struct err *err)
{
    const char *path = tail(f->file[f->at].path);
    ssize_t len;
    leave_line(f);
    while (errno = 0, (len = getline(&f->text, &f->cap_text, f->open)) >= 0) {
        f->line++;
        if (len > LINE_BYTES_MAX)
            return err_set(err, ERR_LIMIT, "%s: line %d has more than %d MB", path, f->line,
                           LINE_BYTES_MAX >> 20);
        if (strspn(f->text, " \t\r\n") != (size_t)len)
            return parse_line(f, (size_t)len, text, n, err);
    }
    if (ferror(f->open))
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    leave_file(f);
    f->before += f->file[f->at++].bytes;
    return ERR_OK;
}

int textfiles_next(struct textfiles *f, const char **text, size_t *n, struct err *err)
{
    *text = NULL;
    *n = 0;
    while (*text == NULL && f->at < f->n) {
        const char *path = f->file[f->at].path;
        if (!ends_in(path, ".jsonl"))
            return next_whole(f, text, n, err);
        if (f->open == NULL) {
            f->line = 0;
            f->open = fopen(path, "rb");
            if (f->open == NULL)
                return err_set(err, ERR_IO, "%s: %s", tail(path), strerror(errno));
        }
        TRY(next_line(f, text, n, err));
    }
    return ERR_OK;
}
