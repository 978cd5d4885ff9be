/* diffusiongrow.c - a trained denoiser with more layers than it had, that computes the same at first.
 * How:    the new blocks stand before the last one, with the weights of the block before them and
 *         modulations of zero: their gates are closed (adaLN-Zero), and they open as they learn.
 * Source: Peebles & Xie 2212.09748 (blocks that begin as the identity), Gong et al. 2019, "Efficient
 *         training of BERT by progressively stacking" (new layers as copies). */
#include "workers/train/diffusiontask.h"

#include <stdio.h>
#include <string.h>

static const char BLOCK[] = "transformer_blocks.";
enum { NAME_BYTES = 256 };

/* Number of the block that a tensor belongs to, and what follows the number; -1: none. */
static int block_of(const char *name, const char **rest)
{
    int i = -1, n = 0;
    *rest = name;
    if (strncmp(name, BLOCK, sizeof BLOCK - 1) == 0 && sscanf(name + sizeof BLOCK - 1, "%d%n", &i, &n) == 1)
        *rest = name + sizeof BLOCK - 1 + n;
    return i;
}

static int copy(struct params *to, const char *name, const struct param *from, struct err *err)
{
    struct param *p = params_find(to, name);
    if (p == NULL || p->n != from->n)
        return err_set(err, ERR_FORMAT, "tensor %.150s: networks that have it cannot get more layers", name);
    memcpy(p->data, from->data, (size_t)p->n * sizeof *p->data);
    return ERR_OK;
}

/* One tensor of the old denoiser, to where it stands in the new one; and into the new blocks. */
static int place(struct params *to, const struct param *from, int had, int layers, struct err *err)
{
    char name[NAME_BYTES];
    const char *rest;
    int block = block_of(from->name, &rest);
    if (block < 0)
        return copy(to, from->name, from, err);
    bool modulation = strstr(rest, ".norm1") != NULL;
    int moved = block == had - 1 ? layers - 1 : block;
    int copies = block == had - 2 && !modulation ? layers - had : 0;
    for (int i = moved; i <= moved + copies; i++) {
        snprintf(name, sizeof name, "%s%d%s", BLOCK, i, rest);
        TRY(copy(to, name, from, err));
    }
    return ERR_OK;
}

static int place_all(struct train_task *t, const struct params old[2], int had, int layers, struct err *err)
{
    const struct params *text = &old[DIFFUSION_TEXT], *denoiser = &old[DIFFUSION_DENOISER];
    for (int i = 0; i < text->n; i++)
        TRY(copy(&t->set[DIFFUSION_TEXT].params, text->p[i].name, &text->p[i], err));
    for (int i = 0; i < denoiser->n; i++)
        TRY(place(&t->set[DIFFUSION_DENOISER].params, &denoiser->p[i], had, layers, err));
    return ERR_OK;
}

int diffusion_grow(struct diffusion *d, struct train_task *t, int layers, struct err *err)
{
    int had = d->layout == LAYOUT_MMDIT ? d->mmdit.layers : d->pixart.layers;
    if (layers == had)
        return ERR_OK;
    if (d->layout != LAYOUT_MMDIT || layers < had || had < 2)
        return err_set(err, ERR_INVAL, "layers=%d: the model to go on from has %d, and only an "
                       "SD3Transformer2DModel of two and more can get more", layers, had);
    struct params old[2];
    for (int s = 0; s < 2; s++) {
        old[s] = t->set[s].params;
        memset(&t->set[s].params, 0, sizeof old[s]);
    }
    json_object_set_new(d->denoiser_json, "num_layers", json_integer(layers));
    d->mmdit.layers = layers;
    int rc = diffusion_new_weights(d, t, err);
    if (rc == ERR_OK)
        rc = place_all(t, old, had, layers, err);
    for (int s = 0; s < 2; s++)
        params_free(&old[s]);
    return rc;
}
