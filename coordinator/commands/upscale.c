/* upscale.c - a picture made larger by a super-resolution network, block by block over the ranks. */
#include "coordinator/commands/command.h"

#include "coordinator/cluster/cluster.h"
#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/modelargs.h"
#include "coordinator/image/pngfile.h"
#include "coordinator/image/tiling.h"
#include "proto/wire.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_THREADS = 0x3000, OPT_TILES, TOGETHER_MAX = 16, IN_FLIGHT = 2 };

struct options { struct err *err; struct model_args model; const char *picture, *out; int tiles; };

/* Blocks of one size that travel together. */
struct parcel { int block[TOGETHER_MAX], n; };

struct upscale {
    const struct options *o;
    struct cluster cluster;
    struct picture in;              /* with sides that the network takes */
    int width, height;              /* of the picture as it was */
    struct tiling tiling;
    int scale, multiple, reach, together;
    char kind[64], hash[65];
    struct parcel *parcel; int n_parcels, next, done;
    bool *sent;                     /* [blocks] in a parcel */
    uint8_t *buf, *rgb;             /* of a message; the result, scale times the size of in */
};

static const struct argp_option option_table[] = {
    {"model", 'm', "FILE", 0, "An RRDBNet (ESRGAN) or SRVGGNetCompact .safetensors file", 0},
    {"out", 'o', "PNG", 0, "The picture to write (default: NAME.x4.png)", 0},
    {"tiles", OPT_TILES, "N", 0, "Blocks that a rank computes at a time (default: its threads); the result "
                                 "does not depend on it", 0},
    {"threads", OPT_THREADS, "N", 0, "Threads of each rank (default: the cores it is bound to)", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'm': o->model.model = arg; return 0;
    case 'o': o->out = arg; return 0;
    case OPT_TILES: return cli_int(o->err, "--tiles", arg, 1, TOGETHER_MAX, &o->tiles);
    case OPT_THREADS: return cli_int(o->err, "--threads", arg, 1, 1024, &o->model.threads);
    case ARGP_KEY_ARG:
        if (o->picture != NULL)
            return ARGP_ERR_UNKNOWN;
        o->picture = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp upscale_argp = {
    .options = option_table, .parser = parse, .args_doc = "PICTURE.png",
    .doc = "Makes a picture larger with a super-resolution network.\v"
           "Example:\n"
           "  mpirun -n 2 muster upscale photo.png -m realesr-animevideov3.safetensors -o large.png"};

static int check(void *options, struct err *err)
{
    const struct options *o = options;
    if (o->picture == NULL)
        return err_set(err, ERR_INVAL, "upscale wants a picture");
    return o->model.model != NULL ? ERR_OK
                                  : err_set(err, ERR_INVAL, "upscale wants a network: -m FILE.safetensors");
}

/* --- the network */

static int take_loaded(struct upscale *u, const Muster__UpscaleLoaded *l, int rank, struct err *err)
{
    if (l->scale < 1 || l->scale > 16 || l->reach > 4096 || l->multiple < 1 || l->multiple > 16)
        return err_set(err, ERR_PEER, "rank %d loaded a network that makes no sense", rank);
    if (u->hash[0] != '\0' && strcmp(u->hash, l->hash) != 0)
        return err_set(err, ERR_FORMAT, "rank %d sees another %s than the others", rank, u->o->model.model);
    snprintf(u->hash, sizeof u->hash, "%s", l->hash);
    snprintf(u->kind, sizeof u->kind, "%.60s", l->kind);
    u->scale = (int)l->scale;
    u->reach = (int)l->reach;
    u->multiple = (int)l->multiple;
    int together = (int)l->threads < TOGETHER_MAX ? (int)l->threads : TOGETHER_MAX;
    u->together = together > u->together ? together : u->together;
    return ERR_OK;
}

static int load_network(struct upscale *u, struct err *err)
{
    struct cluster *c = &u->cluster;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *answer;
    Muster__UpscaleLoad l = MUSTER__UPSCALE_LOAD__INIT;
    struct cluster_kernels kernels;
    char path[MODEL_PATH_MAX];
    int peer;
    TRY(model_args_path(&u->o->model, path, err));
    c->n_used = c->n_workers;
    memcpy(c->used, c->all, (size_t)c->n_workers * sizeof *c->used);
    TRY(cluster_kernels(c, &kernels, err));
    l.path = path;
    l.isa = (char *)(uintptr_t)kernels.isa;
    l.refused = kernels.refused;
    l.blas_tiles = kernels.blas_tiles;
    l.threads = (uint32_t)u->o->model.threads;
    m.body_case = MUSTER__ENVELOPE__BODY_UPSCALE_LOAD;
    m.upscale_load = &l;
    TRY(cluster_send_all(c, true, &m, err));
    for (int i = 0; i < c->n_workers; i++) {
        TRY(cluster_wait(c, "loading the network", &peer, &answer, err));
        if (answer->body_case != MUSTER__ENVELOPE__BODY_UPSCALE_LOADED)
            return err_set(err, ERR_PEER, "rank %d sent message %d while loading", peer,
                           (int)answer->body_case);
        TRY(take_loaded(u, answer->upscale_loaded, peer, err));
    }
    u->together = u->o->tiles > 0 ? u->o->tiles : u->together;
    return ERR_OK;
}

/* --- the picture */

/* Sides become multiples by repeating the last row and column; what they add is cut off again. */
static int pad_picture(struct upscale *u, struct err *err)
{
    struct picture *p = &u->in;
    int w = (p->width + u->multiple - 1) / u->multiple * u->multiple;
    int h = (p->height + u->multiple - 1) / u->multiple * u->multiple;
    u->width = p->width;
    u->height = p->height;
    if ((int64_t)w * h * u->scale * u->scale > PNGFILE_PIXELS_MAX)
        return err_set(err, ERR_LIMIT, "%s: %d x %d, %d times as large, is more than %d million pixels",
                       u->o->picture, w, h, u->scale, PNGFILE_PIXELS_MAX / 1000000);
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);
    if (rgb == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the picture");
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            size_t from = (size_t)(y < p->height ? y : p->height - 1) * (size_t)p->width +
                          (size_t)(x < p->width ? x : p->width - 1);
            memcpy(rgb + ((size_t)y * (size_t)w + (size_t)x) * 3, p->rgb + from * 3, 3);
        }
    free(p->rgb);
    p->rgb = rgb;
    p->width = w;
    p->height = h;
    return ERR_OK;
}

/* Blocks in order, those of one size up to `together` in a parcel. */
static int make_parcels(struct upscale *u, struct err *err)
{
    int n = tiling_count(&u->tiling);
    u->parcel = calloc((size_t)n, sizeof *u->parcel);
    u->sent = calloc((size_t)n, sizeof *u->sent);
    if (u->parcel == NULL || u->sent == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d blocks", n);
    for (int i = 0; i < n; i++) {
        if (u->sent[i])
            continue;
        struct parcel *p = &u->parcel[u->n_parcels++];
        struct tiling_block first = tiling_block(&u->tiling, i);
        for (int k = i; k < n && p->n < u->together; k++) {
            struct tiling_block b = tiling_block(&u->tiling, k);
            if (u->sent[k] || b.w != first.w || b.h != first.h)
                continue;
            u->sent[k] = true;
            p->block[p->n++] = k;
        }
    }
    return ERR_OK;
}

static int prepare(struct upscale *u, struct err *err)
{
    TRY(pad_picture(u, err));
    tiling_init(&u->tiling, u->in.width, u->in.height, u->reach, u->multiple);
    TRY(make_parcels(u, err));
    size_t side = (size_t)(u->tiling.core + 2 * u->tiling.halo);
    u->buf = malloc(side * side * 3 * (size_t)u->together);
    u->rgb = malloc((size_t)u->width * (size_t)u->height * 3 * (size_t)u->scale * (size_t)u->scale);
    return u->buf != NULL && u->rgb != NULL ? ERR_OK : err_set(err, ERR_NOMEM, "no memory for the picture");
}

/* --- blocks out and in */

static int send_parcel(struct upscale *u, int rank, int i, struct err *err)
{
    Muster__Envelope m = MUSTER__ENVELOPE__INIT;
    Muster__UpscaleTile t = MUSTER__UPSCALE_TILE__INIT;
    const struct parcel *p = &u->parcel[i];
    uint8_t *at = u->buf;
    for (int k = 0; k < p->n; k++) {
        struct tiling_block b = tiling_block(&u->tiling, p->block[k]);
        t.width = (uint32_t)b.w;
        t.height = (uint32_t)b.h;
        for (int y = b.y; y < b.y + b.h; y++, at += (size_t)b.w * 3)
            memcpy(at, u->in.rgb + ((size_t)y * (size_t)u->in.width + (size_t)b.x) * 3, (size_t)b.w * 3);
    }
    t.id = (uint64_t)i;
    t.n = (uint32_t)p->n;
    t.data = (ProtobufCBinaryData){(size_t)(at - u->buf), u->buf};
    m.body_case = MUSTER__ENVELOPE__BODY_UPSCALE_TILE;
    m.upscale_tile = &t;
    return cluster_send(&u->cluster, rank, &m, err);
}

/* The kept part of a block, but for what padding added. */
static void paste(struct upscale *u, const struct tiling_block *b, const uint8_t *from)
{
    int s = u->scale, w = b->w * s;
    int x0 = (b->keep_x - b->x) * s, y0 = (b->keep_y - b->y) * s;
    int right = b->keep_x + b->keep_w < u->width ? b->keep_x + b->keep_w : u->width;
    int bottom = b->keep_y + b->keep_h < u->height ? b->keep_y + b->keep_h : u->height;
    for (int y = 0; y < (bottom - b->keep_y) * s && right > b->keep_x; y++)
        memcpy(u->rgb + (((size_t)b->keep_y * (size_t)s + (size_t)y) * (size_t)u->width * (size_t)s +
                         (size_t)b->keep_x * (size_t)s) * 3,
               from + ((size_t)(y0 + y) * (size_t)w + (size_t)x0) * 3,
               (size_t)(right - b->keep_x) * (size_t)s * 3);
}

static int take_parcel(struct upscale *u, const Muster__UpscaleTile *t, int peer, struct err *err)
{
    const struct parcel *p = t->id < (uint64_t)u->n_parcels ? &u->parcel[t->id] : NULL;
    struct tiling_block b = p != NULL ? tiling_block(&u->tiling, p->block[0]) : (struct tiling_block){0};
    size_t each = (size_t)b.w * (size_t)b.h * 3 * (size_t)u->scale * (size_t)u->scale;
    if (p == NULL || t->n != (uint32_t)p->n || t->data.len != each * t->n)
        return err_set(err, ERR_PEER, "rank %d sent blocks of the wrong size", peer);
    for (int k = 0; k < p->n; k++) {
        b = tiling_block(&u->tiling, p->block[k]);
        paste(u, &b, t->data.data + each * (size_t)k);
    }
    u->done++;
    return ERR_OK;
}

static int run_blocks(struct upscale *u, struct err *err)
{
    struct cluster *c = &u->cluster;
    Muster__Envelope *m;
    int peer;
    for (int turn = 0; turn < IN_FLIGHT; turn++)
        for (int w = 0; w < c->n_workers && u->next < u->n_parcels; w++)
            TRY(send_parcel(u, w, u->next++, err));
    while (u->done < u->n_parcels) {
        TRY(cluster_wait(c, "waiting for blocks", &peer, &m, err));
        if (m->body_case != MUSTER__ENVELOPE__BODY_UPSCALE_TILE)
            return err_set(err, ERR_PEER, "rank %d sent message %d in place of a block", peer,
                           (int)m->body_case);
        TRY(take_parcel(u, m->upscale_tile, peer, err));
        if (u->next < u->n_parcels)
            TRY(send_parcel(u, peer, u->next++, err));
        if (isatty(2))
            fprintf(stderr, "\r\033[K%d of %d", u->done, u->n_parcels);
    }
    if (isatty(2))
        fprintf(stderr, "\r\033[K");
    return ERR_OK;
}

/* --- the result */

static int save(struct upscale *u, struct err *err)
{
    char path[4096], stem[3000];
    size_t n = strlen(u->o->picture);
    snprintf(stem, sizeof stem, "%.*s", (int)(n > 4 && n < 2900 ? n - 4 : n), u->o->picture);
    snprintf(path, sizeof path, "%s.x%d.png", stem, u->scale);
    const char *out = u->o->out != NULL ? u->o->out : path;
    json_t *o = json_pack("{s:s, s:s, s:i}", "upscaled_by", u->kind, "model_hash", u->hash,
                          "scale", u->scale);
    char *json = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (json == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the record");
    struct picture_text text = {(char *)"muster", json};
    int rc = pngfile_save(out, u->rgb, u->width * u->scale, u->height * u->scale, &text, 1, err);
    free(json);
    if (rc != ERR_OK)
        return rc;
    printf("%s: %d x %d by %s\n", out, u->width * u->scale, u->height * u->scale, u->kind);
    return cli_flush(err);
}

static int work(struct upscale *u, struct err *err)
{
    TRY(pngfile_load(&u->in, u->o->picture, err));
    TRY(load_network(u, err));
    TRY(prepare(u, err));
    TRY(run_blocks(u, err));
    return save(u, err);
}

static int run(void *options, struct comm *comm, struct err *err)
{
    struct upscale u = {.o = options};
    int rc = cluster_open(&u.cluster, comm, err);
    if (rc == ERR_OK)
        rc = work(&u, err);
    cluster_close(&u.cluster, rc, err);
    pngfile_free(&u.in);
    free(u.parcel);
    free(u.sent);
    free(u.buf);
    free(u.rgb);
    return rc;
}

const struct command command_upscale = {
    .name = "upscale", .summary = "Makes a picture larger, block by block over all ranks",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &upscale_argp,
    .check = check, .run = run};
