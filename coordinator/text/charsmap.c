#include "coordinator/text/charsmap.h"

#include <stdlib.h>
#include <string.h>

int charsmap_open(struct charsmap *c, const uint8_t *blob, size_t n, struct err *err)
{
    *c = (struct charsmap){0};
    if (n == 0)
        return ERR_OK;
    size_t array = n < 4 ? 0 : blob[0] | (size_t)blob[1] << 8 | (size_t)blob[2] << 16 |
                               (size_t)blob[3] << 24;
    if (array == 0 || array % 4 != 0 || array > n - 4)
        return err_set(err, ERR_FORMAT, "vocabulary: precompiled_charsmap is damaged");
    c->n_units = array / 4;
    c->n_text = n - 4 - array;
    c->unit = malloc(array);
    c->text = malloc(c->n_text + 1);
    if (c->unit == NULL || c->text == NULL) {
        charsmap_close(c);
        return err_set(err, ERR_NOMEM, "vocabulary: no memory for precompiled_charsmap");
    }
    for (size_t i = 0; i < c->n_units; i++) {
        const uint8_t *p = blob + 4 + 4 * i;
        c->unit[i] = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    }
    memcpy(c->text, blob + 4 + array, c->n_text);
    c->text[c->n_text] = '\0';
    return ERR_OK;
}

void charsmap_close(struct charsmap *c)
{
    free(c->unit);
    free(c->text);
    *c = (struct charsmap){0};
}

/* A unit's children are at its place XOR this. */
static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

const char *charsmap_find(const struct charsmap *c, const char *s, size_t n, bool longest,
                          size_t *used, size_t *n_to)
{
    const char *found = NULL;
    if (c->n_units == 0)
        return NULL;
    size_t at = offset_of(c->unit[0]);
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)s[i];
        at ^= byte;
        if (at >= c->n_units || (c->unit[at] & 0x800000ffu) != byte)
            break;
        uint32_t unit = c->unit[at];
        at ^= offset_of(unit);
        if ((unit >> 8 & 1) == 0)
            continue;
        size_t to = at < c->n_units ? c->unit[at] & 0x7fffffffu : c->n_text;
        if (to >= c->n_text)
            continue;
        found = c->text + to;
        *n_to = strlen(found);
        *used = i + 1;
        if (!longest)
            break;
    }
    return found;
}
