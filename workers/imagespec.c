#include "workers/imagespec.h"

#include "workers/models/modelconfig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The bytes of folder/name, in mem; none where there is no such tokenizer. */
static int add_tokenizer(const char *folder, const char *name, struct arena *mem, ProtobufCBinaryData *out,
                         struct err *err)
{
    struct tensorfile none = {0};
    char path[4096 + 80];
    struct stat st;
    uint8_t *bytes = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%.4096s/%.64s", folder, name);
    if (stat(path, &st) == 0)
        TRY(model_tokenizer_bytes(&none, path, &bytes, &n, err));
    out->data = arena_take(mem, n + 1);
    int rc = out->data == NULL ? err_set(err, ERR_NOMEM, "no memory for the tokenizer") : ERR_OK;
    if (rc == ERR_OK && n > 0)
        memcpy(out->data, bytes, n);
    out->len = rc == ERR_OK ? n : 0;
    free(bytes);
    return rc;
}

/* The first text encoder's facts are the spec's own. */
static int add_texts(const struct imagepipe_facts *f, const char *path, struct arena *mem,
                     Muster__ImageSpec *s, struct err *err)
{
    Muster__ImageText *more = arena_take(mem, PROMPTTEXT_MAX * sizeof *more);
    Muster__ImageText **list = arena_take(mem, PROMPTTEXT_MAX * sizeof *list);
    if (more == NULL || list == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a model's description");
    s->bos = s->eos = -1;
    s->more_texts = list;
    for (int i = 0; i < f->n_texts; i++) {
        const struct imagepipe_text *t = &f->text[i];
        Muster__ImageText *m = i > 0 ? &more[s->n_more_texts] : NULL;
        if (m == NULL) {
            s->tokens = (uint32_t)t->tokens;
            s->vocab = (uint32_t)t->vocab;
            s->bos = t->bos;
            s->eos = t->eos;
            TRY(add_tokenizer(path, t->tokenizer, mem, &s->tokenizer, err));
            continue;
        }
        muster__image_text__init(list[s->n_more_texts++] = m);
        m->tokens = (uint32_t)t->tokens;
        m->vocab = (uint32_t)t->vocab;
        m->bos = t->bos;
        m->eos = t->eos;
        TRY(add_tokenizer(path, t->tokenizer, mem, &m->tokenizer, err));
    }
    return ERR_OK;
}

/* Words that training saw, as the folder tells them; a folder need not. */
static void add_words(const struct imagepipe *pipe, struct arena *mem, Muster__ImageSpec *s)
{
    int n = 0;
    const char *const *words = imagepipe_words(pipe, &n);
    char **list = n > 0 ? arena_take(mem, (size_t)n * sizeof *list) : NULL;
    for (int i = 0; list != NULL && i < n; i++)
        list[i] = (char *)(uintptr_t)words[i];
    s->words = list;
    s->n_words = list != NULL ? (size_t)n : 0;
}

int imagespec_make(const struct imagepipe *pipe, const char *path, struct arena *mem, Muster__ImageSpec **out,
                   struct err *err)
{
    enum { NAMES = 512 };
    const struct imagepipe_facts *f = imagepipe_facts(pipe);
    Muster__ImageSpec *s = arena_take(mem, sizeof *s);
    char *hash = arena_take(mem, 65), *samplers = arena_take(mem, NAMES);
    if (s == NULL || hash == NULL || samplers == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a model's description");
    muster__image_spec__init(s);
    TRY(imagepipe_hash(pipe, hash, err));
    imagepipe_samplers(pipe, samplers, NAMES);
    s->name = (char *)(uintptr_t)f->name;
    s->kind = (char *)(uintptr_t)f->kind;
    s->hash = hash;
    s->samplers = samplers;
    s->sampler = f->solver != NULL ? (char *)(uintptr_t)f->solver->name : (char *)"gan";
    s->parameters = f->parameters;
    s->width = s->height = (uint32_t)f->side;
    s->multiple = (uint32_t)f->patch;
    s->largest = (uint32_t)f->side_max;
    s->steps = (uint32_t)f->steps;
    s->guidance = f->guidance;
    s->latent = (uint32_t)f->latent;
    s->classes = (uint32_t)f->classes;
    s->layers = (uint32_t)f->layers;
    s->low = f->channels == 6 ? (uint32_t)f->side / 2 : 0;
    add_words(pipe, mem, s);
    *out = s;
    return add_texts(f, path, mem, s, err);
}
