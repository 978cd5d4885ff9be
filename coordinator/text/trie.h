/* trie.h - a set of byte strings that is walked byte by byte.
 * Why:    added tokens, user-defined pieces and unigram vocabularies ask "which of these start here?"
 *         at every place of a text.
 * Form:   nodes are numbers, 0 the root; edges live in one hash table (node, byte) -> node, so that a
 *         quarter of a million tokens stay small.
 * Owner:  the struct owns its tables; strings are not kept.
 * Ranks:  not collective. */
#ifndef MUSTER_TRIE_H
#define MUSTER_TRIE_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

struct trie {
    int32_t *value; uint32_t n_nodes, cap_nodes;        /* [nodes] -1: no string ends here */
    struct trie_edge { uint32_t key_node; uint32_t child_byte; } *edge; /* child << 8 | byte */
    uint32_t edge_mask;                                 /* slots - 1; slots 0 while empty */
    uint32_t root[256];                                 /* children of the root, 0: none */
};

int trie_init(struct trie *t, struct err *err);
void trie_free(struct trie *t);
/* value >= 0; a string that is there already keeps its first value. */
int trie_add(struct trie *t, const char *s, size_t n, int32_t value, struct err *err);
/* The child of node by byte, 0: none. */
uint32_t trie_step(const struct trie *t, uint32_t node, char byte);
/* Longest string that starts at s [n]: its value (-1: none) and bytes. */
int32_t trie_longest(const struct trie *t, const char *s, size_t n, size_t *len);

#endif
