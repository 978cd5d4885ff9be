#include "coordinator/text/trie.h"

#include <stdlib.h>
#include <string.h>

enum { NODES_MAX = 1 << 24, EDGES_FIRST = 256 };

static uint32_t slot_of(const struct trie *t, uint32_t node, uint8_t byte)
{
    uint64_t h = ((uint64_t)node << 8 | byte) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) & t->edge_mask;
}

int trie_init(struct trie *t, struct err *err)
{
    *t = (struct trie){0};
    t->cap_nodes = 64;
    t->value = malloc(t->cap_nodes * sizeof *t->value);
    t->edge = calloc(EDGES_FIRST, sizeof *t->edge);
    if (t->value == NULL || t->edge == NULL) {
        trie_free(t);
        return err_set(err, ERR_NOMEM, "no memory for a token table");
    }
    t->edge_mask = EDGES_FIRST - 1;
    t->value[0] = -1;
    t->n_nodes = 1;
    return ERR_OK;
}

void trie_free(struct trie *t)
{
    free(t->value);
    free(t->edge);
    *t = (struct trie){0};
}

uint32_t trie_step(const struct trie *t, uint32_t node, char byte)
{
    if (node == 0)
        return t->root[(uint8_t)byte];
    for (uint32_t i = slot_of(t, node, (uint8_t)byte);; i = (i + 1) & t->edge_mask) {
        const struct trie_edge *e = &t->edge[i];
        if (e->child_byte == 0)
            return 0;
        if (e->key_node == node && (e->child_byte & 0xff) == (uint8_t)byte)
            return e->child_byte >> 8;
    }
}

static void put_edge(struct trie *t, struct trie_edge e)
{
    uint32_t i = slot_of(t, e.key_node, (uint8_t)e.child_byte);
    while (t->edge[i].child_byte != 0)
        i = (i + 1) & t->edge_mask;
    t->edge[i] = e;
}

/* Doubles whichever table the next node would fill (edges stay at most half full). */
static int grow(struct trie *t, struct err *err)
{
    if (t->n_nodes == NODES_MAX)
        return err_set(err, ERR_LIMIT, "vocabulary: its tokens need too big a table");
    if (t->n_nodes == t->cap_nodes) {
        int32_t *value = realloc(t->value, 2 * (size_t)t->cap_nodes * sizeof *value);
        if (value == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a token table");
        t->value = value;
        t->cap_nodes *= 2;
    }
    if (t->n_nodes <= t->edge_mask / 2)
        return ERR_OK;
    uint32_t slots = t->edge_mask + 1;
    struct trie_edge *old = t->edge, *edge = calloc(2 * (size_t)slots, sizeof *edge);
    if (edge == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a token table");
    t->edge = edge;
    t->edge_mask = 2 * slots - 1;
    for (uint32_t i = 0; i < slots; i++)
        if (old[i].child_byte != 0)
            put_edge(t, old[i]);
    free(old);
    return ERR_OK;
}

int trie_add(struct trie *t, const char *s, size_t n, int32_t value, struct err *err)
{
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t next = trie_step(t, node, s[i]);
        if (next == 0) {
            TRY(grow(t, err));
            next = t->n_nodes++;
            t->value[next] = -1;
            if (node == 0)
                t->root[(uint8_t)s[i]] = next;
            else
                put_edge(t, (struct trie_edge){node, next << 8 | (uint8_t)s[i]});
        }
        node = next;
    }
    if (n > 0 && t->value[node] < 0)
        t->value[node] = value;
    return ERR_OK;
}

int32_t trie_longest(const struct trie *t, const char *s, size_t n, size_t *len)
{
    int32_t found = -1;
    uint32_t node = 0;
    *len = 0;
    for (size_t i = 0; i < n; i++) {
        node = trie_step(t, node, s[i]);
        if (node == 0)
            break;
        if (t->value[node] >= 0) {
            found = t->value[node];
            *len = i + 1;
        }
    }
    return found;
}
