/* breakgguf.h - finds the bytes of a GGUF file that a test wants to break.
 * Why:    damaged files are made from a sound one in the test itself, so that each differs from it in the
 *         one thing that the case is about.
 * Owner:  the struct owns the bytes; breakgguf_free. Pointers into them die with it.
 * Trap:   the search is for the name as text, which is enough for files that make_model wrote. */
#ifndef MUSTER_BREAKGGUF_H
#define MUSTER_BREAKGGUF_H

#include <stddef.h>
#include <stdint.h>

struct breakgguf_tensor {
    char *name;                 /* not terminated */
    uint8_t *dim[4];            /* 8 bytes each, innermost first */
    int n_dims;
    uint8_t *type, *offset;     /* 4 and 8 bytes */
};
struct breakgguf {
    uint8_t *bytes;
    size_t n;                   /* may be lowered to cut the file short */
    struct breakgguf_tensor found;
};

struct breakgguf breakgguf_open(const char *path);
void breakgguf_free(struct breakgguf *b);

/* Writes the bytes to broken.gguf in the test's folder; returns its path. */
const char *breakgguf_save(const struct breakgguf *b);

/* The entry of a tensor; valid until the next call. Fails the test when it is not there. */
struct breakgguf_tensor *breakgguf_tensor(struct breakgguf *b, const char *name);

/* Where a tensor's data begins, from the start of the file. The data section comes after the last entry,
 * which in make_model's files is output.weight's, at a multiple of 32. */
size_t breakgguf_data(struct breakgguf *b, const char *name);

/* Replaces the text value of a key by one of the same length. */
void breakgguf_replace_value(struct breakgguf *b, const char *key, const char *from, const char *to);

#endif
