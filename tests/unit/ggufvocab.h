/* ggufvocab.h - for tests: writes the key/value part of a GGUF with a vocabulary. */
#ifndef MUSTER_TEST_GGUFVOCAB_H
#define MUSTER_TEST_GGUFVOCAB_H

#include "tests/unit/container.h"

static inline void gguf_text(struct container *c, const char *s)
{
    container_number(c, strlen(s), 8);
    container_put(c, s, strlen(s));
}

static inline void gguf_start(struct container *c, uint64_t n_keys)
{
    container_put(c, "GGUF", 4);
    container_number(c, 3, 4);
    container_number(c, 0, 8);
    container_number(c, n_keys, 8);
}

static inline void gguf_string(struct container *c, const char *key, const char *value)
{
    gguf_text(c, key);
    container_number(c, 8, 4);
    gguf_text(c, value);
}

static inline void gguf_u32(struct container *c, const char *key, uint32_t value)
{
    gguf_text(c, key);
    container_number(c, 4, 4);
    container_number(c, value, 4);
}

static inline void gguf_bool(struct container *c, const char *key, int value)
{
    gguf_text(c, key);
    container_number(c, 7, 4);
    container_number(c, (uint64_t)value, 1);
}

/* Starts an array; its elements follow by hand. */
static inline void gguf_array(struct container *c, const char *key, uint32_t type, uint64_t n)
{
    gguf_text(c, key);
    container_number(c, 9, 4);
    container_number(c, type, 4);
    container_number(c, n, 8);
}

static inline void gguf_strings(struct container *c, const char *key, const char *const *s, int n)
{
    gguf_array(c, key, 8, (uint64_t)n);
    for (int i = 0; i < n; i++)
        gguf_text(c, s[i]);
}

static inline void gguf_i32s(struct container *c, const char *key, const int32_t *v, int n)
{
    gguf_array(c, key, 5, (uint64_t)n);
    for (int i = 0; i < n; i++)
        container_number(c, (uint32_t)v[i], 4);
}

static inline void gguf_f32s(struct container *c, const char *key, const float *v, int n)
{
    gguf_array(c, key, 6, (uint64_t)n);
    container_put(c, v, (size_t)n * sizeof *v);
}

#endif
