#include "coordinator/commands/picturejob.h"

#include "coordinator/commands/cli.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 30, SIDE_MAX = 32768, STEPS_MAX = 10000, N_MAX = 100000000 };

const char *const picturejob_computes[] = {"f32", "bf16", NULL};

/* --- jobs */

void picturejob_init(struct picturejob *j)
{
    memset(j, 0, sizeof *j);
    j->seed = j->seed_to = -1;
    j->n = 1;
    j->label = -1;
    j->guidance = j->eta = -1;
}

static void texts_of(struct picturejob *j, char **out[PICTUREJOB_TEXTS])
{
    char **all[PICTUREJOB_TEXTS] = {&j->prompt, &j->negative, &j->to, &j->from, &j->sampler,
                                    &j->spacing, &j->sigmas, &j->init, &j->mask, &j->ids,
                                    &j->compute};
    memcpy(out, all, sizeof all);
}

void picturejob_free(struct picturejob *j)
{
    char **text[PICTUREJOB_TEXTS];
    texts_of(j, text);
    for (int i = 0; i < PICTUREJOB_TEXTS; i++)
        free(*text[i]);
    free(j->token);
    free(j->negative_token);
    free(j->to_token);
    free(j->from_token);
    memset(j, 0, sizeof *j);
}

int picturejob_set_text(char **text, const char *value, struct err *err)
{
    char *copy = value != NULL ? strdup(value) : NULL;
    if (value != NULL && copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a prompt");
    free(*text);
    *text = copy;
    return ERR_OK;
}

int picturejob_copy(struct picturejob *out, const struct picturejob *j, struct err *err)
{
    char **from[PICTUREJOB_TEXTS], **to[PICTUREJOB_TEXTS];
    struct picturejob source = *j;
    *out = *j;
    out->token = out->negative_token = out->to_token = out->from_token = NULL;
    out->n_token = out->n_negative_token = out->n_to_token = out->n_from_token = 0;
    texts_of(&source, from);
    texts_of(out, to);
    for (int i = 0; i < PICTUREJOB_TEXTS; i++)
        *to[i] = NULL;
    for (int i = 0; i < PICTUREJOB_TEXTS; i++)
        TRY(picturejob_set_text(to[i], *from[i], err));
    return ERR_OK;
}

int picturejob_overlay(struct picturejob *j, const struct picturejob *over, struct err *err)
{
    struct picturejob none, source = *over;
    char **from[PICTUREJOB_TEXTS], **to[PICTUREJOB_TEXTS];
    picturejob_init(&none);
    texts_of(&source, from);
    texts_of(j, to);
    for (int i = 0; i < PICTUREJOB_TEXTS; i++)
        if (*from[i] != NULL)
            TRY(picturejob_set_text(to[i], *from[i], err));
#define OVER(field) if (over->field != none.field) j->field = over->field
    OVER(seed); OVER(seed_to); OVER(n); OVER(width); OVER(height); OVER(steps); OVER(label);
    OVER(guidance); OVER(rescale); OVER(shift); OVER(strength); OVER(eta); OVER(mix); OVER(prompt_mix);
    OVER(vary); OVER(truncation); OVER(strip);
#undef OVER
    return ERR_OK;
}

int picturejob_size(const char *text, int *width, int *height)
{
    char *end;
    long w = strtol(text, &end, 10), h = w;
    if (end != text && (*end == 'x' || *end == 'X')) {
        const char *second = end + 1;
        h = strtol(second, &end, 10);
        if (end == second)
            return ERR_INVAL;
    }
    if (end == text || *end != '\0' || w < 1 || h < 1 || w > SIDE_MAX || h > SIDE_MAX)
        return ERR_INVAL;
    *width = (int)w;
    *height = (int)h;
    return ERR_OK;
}

int picturejobs_append(struct picturejobs *all, const struct picturejob *j, struct err *err)
{
    if (all->n == all->cap) {
        int cap = all->cap > 0 ? 2 * all->cap : 16;
        struct picturejob *grown = realloc(all->job, (size_t)cap * sizeof *grown);
        if (grown == NULL)
            return err_set(err, ERR_NOMEM, "no memory for %d prompts", cap);
        all->job = grown;
        all->cap = cap;
    }
    int rc = picturejob_copy(&all->job[all->n], j, err);
    if (rc != ERR_OK)
        picturejob_free(&all->job[all->n]);
    else
        all->n++;
    return rc;
}

void picturejobs_free(struct picturejobs *all)
{
    for (int i = 0; i < all->n; i++)
        picturejob_free(&all->job[i]);
    free(all->job);
    memset(all, 0, sizeof *all);
}

int picturejobs_number(struct picturejobs *all, struct err *err)
{
    all->n_tasks = 0;
    for (int i = 0; i < all->n; i++) {
        all->job[i].first = all->n_tasks;
        all->n_tasks += all->job[i].n;
    }
    return all->n_tasks <= N_MAX ? ERR_OK
                                 : err_set(err, ERR_LIMIT, "%lld pictures: a batch has at most %d",
                                           (long long)all->n_tasks, N_MAX);
}

const struct picturejob *picturejobs_of(const struct picturejobs *all, int64_t task, int *k)
{
    int low = 0, high = all->n - 1;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if (all->job[mid].first <= task)
            low = mid;
        else
            high = mid - 1;
    }
    *k = (int)(task - all->job[low].first);
    return &all->job[low];
}

/* --- from JSON */

struct reader { struct picturejob *j; const char *where; struct err *err; };

static int take_text(struct reader *r, const json_t *v, const char *key, char **out)
{
    if (json_is_null(v))
        return picturejob_set_text(out, NULL, r->err);
    if (!json_is_string(v) || json_string_length(v) > PICTUREJOB_TEXT_MAX ||
        strlen(json_string_value(v)) != json_string_length(v))
        return err_set(r->err, ERR_FORMAT, "%s: \"%s\" wants a text", r->where, key);
    return picturejob_set_text(out, json_string_value(v), r->err);
}

static int take_number(struct reader *r, const json_t *v, const char *key, double low, double high,
                       double *out)
{
    if (!json_is_number(v) || !(json_number_value(v) >= low && json_number_value(v) <= high))
        return err_set(r->err, ERR_FORMAT, "%s: \"%s\" wants a number from %g to %g", r->where,
                       key, low, high);
    *out = json_number_value(v);
    return ERR_OK;
}

static int take_whole(struct reader *r, const json_t *v, const char *key, int low, int high, int *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high)
        return err_set(r->err, ERR_FORMAT, "%s: \"%s\" wants a whole number from %d to %d",
                       r->where, key, low,
                       high);
    *out = (int)json_integer_value(v);
    return ERR_OK;
}

static int take_seed(struct reader *r, const json_t *v, const char *key, int64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT64_MAX - N_MAX)
        return err_set(r->err, ERR_FORMAT, "%s: \"%s\" wants a whole number, 0 or more", r->where, key);
    *out = json_integer_value(v);
    return ERR_OK;
}

static int take_size(struct reader *r, const json_t *v)
{
    const char *text = json_string_value(v);
    if (json_is_integer(v) && json_integer_value(v) >= 1 && json_integer_value(v) <= SIDE_MAX) {
        r->j->width = r->j->height = (int)json_integer_value(v);
        return ERR_OK;
    }
    if (text == NULL || picturejob_size(text, &r->j->width, &r->j->height) != ERR_OK)
        return err_set(r->err, ERR_FORMAT, "%s: \"size\" wants WIDTHxHEIGHT", r->where);
    return ERR_OK;
}

static int text_key(struct reader *r, const char *key, const json_t *v, bool *known)
{
    struct picturejob *j = r->j;
    const struct { const char *key; char **at; } rows[] = {
        {"prompt", &j->prompt}, {"negative", &j->negative}, {"to", &j->to}, {"from", &j->from},
        {"sampler", &j->sampler}, {"spacing", &j->spacing}, {"sigmas", &j->sigmas}, {"init", &j->init},
        {"mask", &j->mask}, {"ids", &j->ids}, {"compute", &j->compute}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].key, key) == 0) {
            *known = true;
            return take_text(r, v, key, rows[i].at);
        }
    return ERR_OK;
}

static int number_key(struct reader *r, const char *key, const json_t *v, bool *known)
{
    struct picturejob *j = r->j;
    const struct { const char *key; double low, high, *at; } rows[] = {
        {"guidance", 0, 1000, &j->guidance}, {"rescale", 0, 1, &j->rescale}, {"shift", 0, 1000, &j->shift},
        {"strength", 0, 1, &j->strength}, {"eta", 0, 1, &j->eta}, {"mix", 0, 1, &j->mix},
        {"prompt_mix", 0, 1, &j->prompt_mix}, {"vary", 0, 1, &j->vary},
        {"truncation", 0, 100, &j->truncation}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].key, key) == 0) {
            *known = true;
            return take_number(r, v, key, rows[i].low, rows[i].high, rows[i].at);
        }
    return ERR_OK;
}

static int whole_key(struct reader *r, const char *key, const json_t *v, bool *known)
{
    struct picturejob *j = r->j;
    *known = true;
    if (strcmp(key, "seed") == 0)
        return take_seed(r, v, key, &j->seed);
    if (strcmp(key, "seed_to") == 0)
        return take_seed(r, v, key, &j->seed_to);
    if (strcmp(key, "n") == 0)
        return take_whole(r, v, key, 1, N_MAX, &j->n);
    if (strcmp(key, "steps") == 0)
        return take_whole(r, v, key, 1, STEPS_MAX, &j->steps);
    if (strcmp(key, "width") == 0)
        return take_whole(r, v, key, 1, SIDE_MAX, &j->width);
    if (strcmp(key, "height") == 0)
        return take_whole(r, v, key, 1, SIDE_MAX, &j->height);
    if (strcmp(key, "class") == 0)
        return take_whole(r, v, key, 0, INT_MAX, &j->label);
    if (strcmp(key, "line") == 0)
        return take_whole(r, v, key, 0, INT_MAX, &j->line);
    if (strcmp(key, "size") == 0)
        return take_size(r, v);
    *known = false;
    return ERR_OK;
}

static int take_key(struct reader *r, const char *key, const json_t *v)
{
    /* of a picture's record: nothing to ask for */
    static const char *const told[] = {"model", "model_hash", "id", "init_sha256", "mask_sha256", NULL};
    bool known = false;
    for (int i = 0; told[i] != NULL; i++)
        if (strcmp(told[i], key) == 0)
            return ERR_OK;
    if (strcmp(key, "strip") == 0) {
        r->j->strip = json_is_true(v);
        return ERR_OK;
    }
    TRY(text_key(r, key, v, &known));
    if (!known)
        TRY(number_key(r, key, v, &known));
    if (!known)
        TRY(whole_key(r, key, v, &known));
    return known ? ERR_OK : err_set(r->err, ERR_FORMAT, "%s: \"%.40s\" is not known", r->where, key);
}

/* Element i of a list, or the value itself. */
static const json_t *pick(const json_t *v, size_t i) { return json_is_array(v) ? json_array_get(v, i) : v; }
static size_t choices(const json_t *v) { return json_is_array(v) ? json_array_size(v) : 1; }

static int add_combination(struct picturejobs *all, const json_t *o, const struct picturejob *defaults,
                           const size_t at[3], const char *where, int line, struct err *err)
{
    static const char *const lists[] = {"prompt", "seed", "guidance"};
    struct picturejob j;
    struct reader r = {&j, where, err};
    const char *key;
    json_t *v;
    int rc = picturejob_copy(&j, defaults, err);
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        const json_t *one = v;
        for (int i = 0; i < 3; i++)
            if (strcmp(key, lists[i]) == 0)
                one = pick(v, at[i]);
        if (rc == ERR_OK)
            rc = take_key(&r, key, one);
    }
    if (line > 0)
        j.line = line;
    if (rc == ERR_OK)
        rc = picturejobs_append(all, &j, err);
    picturejob_free(&j);
    return rc;
}

int picturejobs_add(struct picturejobs *all, const json_t *o, const struct picturejob *defaults,
                    const char *where, int line, struct err *err)
{
    if (!json_is_object(o))
        return err_set(err, ERR_FORMAT, "%s: not a JSON object", where);
    size_t prompts = choices(json_object_get(o, "prompt")), seeds = choices(json_object_get(o, "seed"));
    size_t scales = choices(json_object_get(o, "guidance"));
    if (prompts == 0 || seeds == 0 || scales == 0 || prompts > N_MAX || seeds > N_MAX || scales > N_MAX ||
        (double)prompts * (double)seeds * (double)scales > N_MAX)
        return err_set(err, ERR_FORMAT, "%s: a list of no, or too many, choices", where);
    for (size_t p = 0; p < prompts; p++)
        for (size_t s = 0; s < seeds; s++)
            for (size_t g = 0; g < scales; g++) {
                size_t at[3] = {p, s, g};
                TRY(add_combination(all, o, defaults, at, where, line, err));
            }
    return ERR_OK;
}

static int add_line(struct picturejobs *all, const char *path, const char *text, size_t n, int line,
                    const struct picturejob *defaults, struct err *err)
{
    char where[80];
    json_error_t e;
    snprintf(where, sizeof where, "%.50s line %d", path, line);
    if (strspn(text, " \t\r") >= n)
        return ERR_OK;
    json_t *o = json_loadb(text, n, 0, &e);
    if (o == NULL)
        return err_set(err, ERR_FORMAT, "%s: %s", where, e.text);
    int rc = picturejobs_add(all, o, defaults, where, line, err);
    json_decref(o);
    return rc;
}

int picturejobs_read(struct picturejobs *all, const char *path, const struct picturejob *defaults,
                     struct err *err)
{
    char *text;
    size_t n, at = 0;
    int line = 1, rc = ERR_OK;
    TRY(cli_read(path, FILE_MAX, &text, &n, err));
    for (; at < n && rc == ERR_OK; line++) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end != NULL ? (size_t)(end - text) - at : n - at;
        rc = add_line(all, path, text + at, length, line, defaults, err);
        at += length + 1;
    }
    free(text);
    if (rc == ERR_OK && all->n == 0)
        rc = err_set(err, ERR_FORMAT, "%s: no prompts in it", path);
    return rc;
}

/* --- to JSON */

static void put_text(json_t *o, const char *key, const char *text)
{
    if (text != NULL)
        json_object_set_new(o, key, json_string(text));
}

static void put_number(json_t *o, const char *key, double v, double absent)
{
    if (v != absent)
        json_object_set_new(o, key, json_real(v));
}

/* What all pictures of a job share. */
static json_t *shared_json(const struct picturejob *j)
{
    json_t *o = json_object();
    if (o == NULL)
        return NULL;
    put_text(o, "prompt", j->prompt);
    put_text(o, "negative", j->negative);
    put_text(o, "to", j->to);
    put_text(o, "from", j->from);
    put_text(o, "ids", j->ids);
    put_text(o, "sampler", j->sampler);
    put_text(o, "spacing", j->spacing);
    put_text(o, "sigmas", j->sigmas);
    put_text(o, "init", j->init);
    put_text(o, "mask", j->mask);
    put_text(o, "compute", j->compute);
    if (j->steps > 0)
        json_object_set_new(o, "steps", json_integer(j->steps));
    if (j->width > 0) {
        json_object_set_new(o, "width", json_integer(j->width));
        json_object_set_new(o, "height", json_integer(j->height));
    }
    if (j->label >= 0)
        json_object_set_new(o, "class", json_integer(j->label));
    if (j->guidance >= 0)
        json_object_set_new(o, "guidance", json_real(j->guidance));
    put_number(o, "rescale", j->rescale, 0);
    put_number(o, "shift", j->shift, 0);
    put_number(o, "strength", j->strength, 0);
    put_number(o, "eta", j->eta, -1);
    put_number(o, "truncation", j->truncation, 0);
    return o;
}

json_t *picturejob_json(const struct picturejob *j)
{
    json_t *o = shared_json(j);
    if (o == NULL)
        return NULL;
    if (j->seed >= 0)
        json_object_set_new(o, "seed", json_integer(j->seed));
    if (j->seed_to >= 0)
        json_object_set_new(o, "seed_to", json_integer(j->seed_to));
    json_object_set_new(o, "n", json_integer(j->n));
    put_number(o, "mix", j->mix, 0);
    put_number(o, "prompt_mix", j->prompt_mix, 0);
    put_number(o, "vary", j->vary, 0);
    if (j->strip)
        json_object_set_new(o, "strip", json_true());
    if (j->line > 0)
        json_object_set_new(o, "line", json_integer(j->line));
    return o;
}

/* --- one picture */

struct picture_place picturejob_place(const struct picturejob *j, int k)
{
    struct picture_place p = {.seed = j->seed + k, .seed_to = j->seed_to, .mix = j->mix,
                              .prompt_mix = j->prompt_mix};
    if (j->strip) {
        double at = j->n > 1 ? (double)k / (j->n - 1) : 0;
        p.seed = j->seed;
        p.mix = j->seed_to >= 0 ? at : 0;
        p.prompt_mix = j->to != NULL ? at : 0;
    } else if (j->vary > 0) {
        p.seed = j->seed;
        p.seed_to = j->seed + 1 + k;
        p.mix = j->vary;
    }
    if (p.mix == 0)
        p.seed_to = -1;
    return p;
}

static json_t *record_json(const struct picturejob *j, int k, const char *model, const char *hash)
{
    struct picture_place p = picturejob_place(j, k);
    json_t *o = shared_json(j);
    if (o == NULL)
        return NULL;
    json_object_set_new(o, "seed", json_integer(p.seed));
    if (p.mix > 0) {
        json_object_set_new(o, "seed_to", json_integer(p.seed_to));
        json_object_set_new(o, "mix", json_real(p.mix));
    }
    put_number(o, "prompt_mix", p.prompt_mix, 0);
    if (p.prompt_mix == 0) {
        json_object_del(o, "to");
        json_object_del(o, "from");
    }
    /* where they lay is nobody's business; what they showed is */
    json_object_del(o, "init");
    json_object_del(o, "mask");
    put_text(o, "init_sha256", j->init_hash[0] != '\0' ? j->init_hash : NULL);
    put_text(o, "mask_sha256", j->mask_hash[0] != '\0' ? j->mask_hash : NULL);
    json_object_set_new(o, "model", json_string(model));
    json_object_set_new(o, "model_hash", json_string(hash));
    return o;
}

/* "PROMPT\nNegative prompt: ..\nSteps: .., Sampler: .., CFG scale: .., Seed: .., Size: ..": line breaks of
 * a prompt stay, since readers look for the last line. */
static char *parameters_text(const struct picturejob *j, int k, const char *model, const char *hash)
{
    struct picture_place p = picturejob_place(j, k);
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL)
        return NULL;
    fprintf(f, "%s\n", j->prompt != NULL ? j->prompt : "");
    if (j->negative != NULL && j->negative[0] != '\0')
        fprintf(f, "Negative prompt: %s\n", j->negative);
    fprintf(f, "Steps: %d, Sampler: %s, CFG scale: %g, Seed: %lld, Size: %dx%d, Model hash: "
            "%.10s, Model: %s",
            j->steps, j->sampler != NULL ? j->sampler : "", j->guidance, (long long)p.seed, j->width,
            j->height, hash, model);
    if (p.mix > 0)
        fprintf(f, ", Variation seed: %lld, Variation seed strength: %g", (long long)p.seed_to, p.mix);
    if (j->init != NULL)
        fprintf(f, ", Denoising strength: %g", j->strength);
    if (j->compute != NULL)
        fprintf(f, ", Compute: %s", j->compute);
    return fclose(f) == 0 ? text : (free(text), NULL);
}

int picturejob_record(const struct picturejob *j, int k, const char *model, const char *hash,
                      struct picture_record *r, struct err *err)
{
    json_t *o = record_json(j, k, model, hash);
    r->json = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    r->parameters = parameters_text(j, k, model, hash);
    json_decref(o);
    if (r->json != NULL && r->parameters != NULL)
        return ERR_OK;
    picture_record_free(r);
    return err_set(err, ERR_NOMEM, "no memory for a picture's record");
}

void picture_record_free(struct picture_record *r)
{
    free(r->json);
    free(r->parameters);
    memset(r, 0, sizeof *r);
}
