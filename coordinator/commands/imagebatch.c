#include "coordinator/commands/imagebatch.h"

#include "coordinator/commands/samplingargs.h"
#include "proto/sha256.h"

#include <string.h>
#include <unistd.h>

enum { STEPS_DEFAULT = 20, SLOTS_DEFAULT = 8, SEED_BITS = 32 };
static const double GUIDANCE_DEFAULT = 5, STRENGTH_DEFAULT = 0.6;

int imagebatch_describe(struct imagebatch *b, struct cluster *c, const char *path, struct err *err)
{
    TRY(imagecluster_describe(&b->images, c, path, err));
    TRY(picturetext_open(&b->text, b->images.spec, err));
    b->run.images = &b->images;
    b->run.jobs = &b->jobs;
    b->run.folder = &b->folder;
    b->run.model = b->images.spec->name;
    b->run.hash = b->images.spec->hash;
    b->run.enlarges = b->images.spec->low > 0;
    b->run.tty = isatty(2);
    return ERR_OK;
}

/* Of the pixels: the same picture in another file is the same. */
static void hash_picture(const struct picture *p, char hex[SHA256_HEX])
{
    struct sha256 s;
    uint8_t digest[SHA256_BYTES];
    sha256_begin(&s);
    sha256_add(&s, p->rgb, (size_t)p->width * (size_t)p->height * 3);
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
}

/* --- defaults and checks: after this a job says all that a task needs */

/* `name` is one of "a, b, c". */
static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; (p = strstr(p, name)) != NULL; p += n)
        if ((p == list || p[-1] == ' ') && (p[n] == ',' || p[n] == '\0'))
            return n > 0;
    return false;
}

static int check_size(const struct imagebatch *b, const struct picturejob *j, struct err *err)
{
    const Muster__ImageSpec *s = b->images.spec;
    int multiple = (int)s->multiple, most = (int)s->largest;
    if (j->width % multiple != 0 || j->height % multiple != 0 || j->width > most ||
        j->height > most)
        return err_set(err, ERR_INVAL,
                       "--size %dx%d: sides of %s are multiples of %d, at most "
                       "%d",
                       j->width, j->height, s->name, multiple, most);
    return ERR_OK;
}

/* A model is loaded once, for all pictures of a batch. */
static int settle_compute(struct imagebatch *b, struct picturejob *j, struct err *err)
{
    const char *first = b->jobs.job[0].compute, *own = j->compute != NULL ? j->compute : "f32";
    if (strcmp(own, "f32") != 0 && strcmp(own, "bf16") != 0)
        return err_set(err, ERR_INVAL, "compute '%.40s' is not known: f32 or bf16", own);
    if (strcmp(own, first != NULL ? first : "f32") != 0)
        return err_set(err, ERR_INVAL, "compute %s, and %s before: a batch has one", own,
                       first != NULL ? first : "f32");
    return strcmp(own, "f32") == 0 ? picturejob_set_text(&j->compute, NULL, err) : ERR_OK;
}

static int settle(struct imagebatch *b, struct picturejob *j, struct err *err)
{
    const Muster__ImageSpec *s = b->images.spec;
    TRY(settle_compute(b, j, err));
    if (j->sampler == NULL)
        TRY(picturejob_set_text(&j->sampler, s->sampler, err));
    if (!listed(s->samplers, j->sampler))
        return err_set(err, ERR_INVAL, "no sampler '%.40s' for this model; there are %s",
                       j->sampler, s->samplers);
    if (s->classes > 0 && (j->label < 0 || j->label >= (int)s->classes))
        return err_set(err, ERR_INVAL, "%s takes classes: --class 0 to %u", s->name,
                       s->classes - 1);
    if (s->latent > 0)
        j->steps = 1;
    if (s->latent > 0 || (s->tokens == 0 && s->classes == 0))
        j->guidance = 1;        /* nothing to lead towards */
    j->steps = j->steps > 0 ? j->steps : s->steps > 0 ? (int)s->steps : STEPS_DEFAULT;
    j->guidance = j->guidance >= 0 ? j->guidance : s->guidance > 0 ? s->guidance : GUIDANCE_DEFAULT;
    TRY(imagerun_load(&b->run, j, err));
    if (s->low > 0 && j->init == NULL)
        return err_set(err, ERR_INVAL, "%s enlarges a picture: name it with --init", s->name);
    if (j->mask != NULL)
        hash_picture(&b->run.mask.picture, j->mask_hash);
    if (j->init != NULL) {
        hash_picture(&b->run.init.picture, j->init_hash);
        int times = s->low > 0 ? 2 : 1;
        j->width = times * b->run.init.picture.width;
        j->height = times * b->run.init.picture.height;
        j->strength = s->low > 0        ? 1
                      : j->strength > 0 ? j->strength
                      : j->mask != NULL ? 1
                                        : STRENGTH_DEFAULT;
    } else if (j->width == 0) {
        j->width = (int)s->width;
        j->height = (int)s->height;
    }
    TRY(check_size(b, j, err));
    if (j->seed < 0)
        j->seed = (int64_t)(sampling_args_random_seed() >> (64 - SEED_BITS));
    return picturetext_encode(&b->text, j, err);
}

int imagebatch_settle(struct imagebatch *b, const char *file, struct err *err)
{
    for (int i = 0; i < b->jobs.n; i++)
        if (settle(b, &b->jobs.job[i], err) != ERR_OK) {
            int line = b->jobs.job[i].line;
            return line > 0 ? err_prefix(err, "%.50s line %d", file != NULL ? file : "", line)
                            : err->code;
        }
    return picturejobs_number(&b->jobs, err);
}

int imagebatch_load(struct imagebatch *b, const struct imagebatch_load *how, struct err *err)
{
    Muster__SinkOpen sink = MUSTER__SINK_OPEN__INIT;
    sink.folder = b->folder.path;
    sink.shards = b->folder.shard_pictures > 0;
    sink.shard_pictures = (uint32_t)b->folder.shard_pictures;
    sink.run = (uint32_t)b->folder.run;
    sink.locked = b->folder.single[0] == '\0';
    struct imagecluster_load l = {.threads = how->threads,
                                  .slots = how->slots > 0 ? how->slots : SLOTS_DEFAULT,
                                  .tp = how->tp > 0 ? how->tp : 1,
                                  .pp = how->pp > 0 ? how->pp : 1,
                                  .guidance_parallel = how->guidance_parallel,
                                  .compute = b->jobs.job[0].compute,
                                  .sink = &sink};
    return imagecluster_load(&b->images, &l, err);
}

int imagebatch_make(struct imagebatch *b, struct err *err)
{
    int rc = imagerun_make(&b->run, err);
    if (rc != ERR_OK && rc != ERR_CANCELLED && rc != ERR_OUTPUT)
        return rc;
    struct err second = {0}; /* the first one counts */
    int also = picturefolder_index(&b->folder, &b->jobs, b->run.model, b->run.hash, &second);
    return rc == ERR_OK && also != ERR_OK ? err_set(err, also, "%s", second.msg) : rc;
}

void imagebatch_free(struct imagebatch *b)
{
    imagerun_free(&b->run);
    picturetext_close(&b->text);
    picturejobs_free(&b->jobs);
}
