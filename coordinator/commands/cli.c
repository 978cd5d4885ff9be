#include "coordinator/commands/cli.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The outer parser: hands the options on, and puts argp's own complaints into words. */
struct outer { void *options; struct err *err; const char *name; };

static error_t parse_outer(int key, char *arg, struct argp_state *state)
{
    struct outer *o = state->input;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = o->options;
        return 0;
    }
    if (key == ARGP_KEY_ERROR) {
        int last = state->next - 1;
        if (last < 1 || state->argv[last][0] != '-')
            last = state->next;         /* not an option: what argp did not take */
        err_set(o->err, ERR_INVAL, "%s: '%s' is unknown, lacks its value or is one too many; see --help",
                o->name, last < state->argc ? state->argv[last] : "");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

int cli_parse(const struct argp *argp, const char *name, int argc, char **argv, void *options,
              struct err *err)
{
    const struct argp_child children[] = {{argp, 0, NULL, 0}, {NULL, 0, NULL, 0}};
    const struct argp outer = {.parser = parse_outer, .children = children};
    struct outer o = {.options = options, .err = err, .name = name};
    struct err **slot = options;
    *slot = err;
    int rc = argp_parse(&outer, argc, argv, ARGP_SILENT, NULL, &o);
    *slot = NULL;
    if (err->code != ERR_OK)
        return err->code;
    return rc == 0 ? ERR_OK : err_set(err, ERR_INVAL, "%s: bad arguments; see --help", name);
}

error_t cli_int(struct err *err, const char *option, const char *text, int low, int high, int *out)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < low || v > high) {
        if (high == INT_MAX)
            err_set(err, ERR_INVAL, "%s wants a whole number from %d, not '%s'", option, low, text);
        else
            err_set(err, ERR_INVAL, "%s wants a whole number from %d to %d, not '%s'", option, low,
                    high, text);
        return EINVAL;
    }
    *out = (int)v;
    return 0;
}

error_t cli_u64(struct err *err, const char *option, const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (end == text || *end != '\0' || errno != 0 || strchr(text, '-') != NULL) {
        err_set(err, ERR_INVAL, "%s wants a whole number of at most 64 bits, not '%s'", option, text);
        return EINVAL;
    }
    *out = v;
    return 0;
}

error_t cli_float(struct err *err, const char *option, const char *text, float low, float high,
                  float *out)
{
    char *end;
    errno = 0;
    float v = strtof(text, &end);
    if (end == text || *end != '\0' || isnan(v) || v < low || v > high) {
        if (high >= FLT_MAX)
            err_set(err, ERR_INVAL, "%s wants a number from %g, not '%s'", option, (double)low, text);
        else
            err_set(err, ERR_INVAL, "%s wants a number from %g to %g, not '%s'", option, (double)low,
                    (double)high, text);
        return EINVAL;
    }
    *out = v;
    return 0;
}

error_t cli_bytes(struct err *err, const char *option, const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    static const char units[] = "KMGT";
    const char *u = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (end != text && u != NULL) {
        for (const char *p = units; p <= u; p++)
            v *= 1024;
        end++;
    }
    if (end == text || *end != '\0' || !(v >= 1 && v < 1e18)) {
        err_set(err, ERR_INVAL, "%s wants a size like 800M or 4G, not '%s'", option, text);
        return EINVAL;
    }
    *out = (uint64_t)v;
    return 0;
}

error_t cli_choice(struct err *err, const char *option, const char *text, const char *const *words,
                   int *out)
{
    char list[160] = "";
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return 0;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    err_set(err, ERR_INVAL, "%s wants one of %s, not '%s'", option, list, text);
    return EINVAL;
}

/* Skips blanks, and the brackets of a JSON array. */
static const char *skip(const char *p, const char *also)
{
    while (*p != '\0' && (isspace((unsigned char)*p) || strchr(also, *p) != NULL))
        p++;
    return p;
}

error_t cli_ids(struct err *err, const char *option, const char *text, int32_t **ids, int *n)
{
    size_t most = 1;
    for (const char *p = text; *p != '\0'; p++)
        most += *p == ',';
    *n = 0;
    *ids = most < INT_MAX ? malloc(most * sizeof **ids) : NULL;
    if (*ids == NULL) {
        err_set(err, ERR_NOMEM, "%s: no memory for the ids", option);
        return ENOMEM;
    }
    const char *p = skip(text, "[");
    while (*p != '\0' && *p != ']') {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno != 0 || v < 0 || v > INT_MAX || (size_t)*n == most)
            goto bad;
        (*ids)[(*n)++] = (int32_t)v;
        p = skip(end, "");
        if (*p == ',')
            p = skip(p + 1, "");
        else if (*p != ']' && *p != '\0')
            goto bad;
    }
    if (*skip(p, "]") == '\0')
        return 0;
bad:
    free(*ids);
    *ids = NULL;
    *n = 0;
    err_set(err, ERR_INVAL, "%s wants token ids like 5,9,2", option);
    return EINVAL;
}

static int read_stream(FILE *f, const char *path, size_t most, char **text, size_t *n,
                       struct err *err)
{
    size_t cap = 1 << 16;
    char *buf = malloc(cap);
    *n = 0;
    while (buf != NULL) {
        size_t got = fread(buf + *n, 1, cap - *n - 1, f);
        *n += got;
        if (got == 0)
            break;
        if (*n > most) {
            free(buf);
            return err_set(err, ERR_LIMIT, "%s: longer than %zu bytes", path, most);
        }
        if (cap - *n < 2) {
            char *more = realloc(buf, cap *= 2);
            if (more == NULL)
                free(buf);
            buf = more;
        }
    }
    if (buf == NULL)
        return err_set(err, ERR_NOMEM, "%s: no memory to read it", path);
    if (ferror(f)) {
        free(buf);
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    }
    buf[*n] = '\0';
    *text = buf;
    return ERR_OK;
}

int cli_read(const char *path, size_t most, char **text, size_t *n, struct err *err)
{
    *text = NULL;
    if (strcmp(path, "-") == 0)
        return read_stream(stdin, "stdin", most, text, n, err);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    int rc = read_stream(f, path, most, text, n, err);
    fclose(f);
    return rc;
}

int cli_flush(struct err *err)
{
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set(err, ERR_OUTPUT, "stdout: %s", errno ? strerror(errno) : "write failed");
    return ERR_OK;
}
