/* filebytes.h - builds small model files byte by byte, for tests.
 * Owner: a struct filebytes is a fixed buffer; files go to a temporary folder that tests remove. */
#ifndef MUSTER_TESTS_FILEBYTES_H
#define MUSTER_TESTS_FILEBYTES_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct filebytes { uint8_t b[16384]; size_t n; };

static inline void put(struct filebytes *f, const void *p, size_t n)
{
    if (f->n + n > sizeof f->b)
        abort();
    memcpy(f->b + f->n, p, n);
    f->n += n;
}
static inline void put_u32(struct filebytes *f, uint32_t v) { put(f, &v, 4); }
static inline void put_u64(struct filebytes *f, uint64_t v) { put(f, &v, 8); }
static inline void put_f32(struct filebytes *f, float v) { put(f, &v, 4); }

/* GGUF's string: length and bytes. */
static inline void put_str(struct filebytes *f, const char *s)
{
    put_u64(f, strlen(s));
    put(f, s, strlen(s));
}

static inline void put_gguf_start(struct filebytes *f, uint32_t version, uint64_t tensors, uint64_t keys)
{
    put(f, "GGUF", 4);
    put_u32(f, version);
    put_u64(f, tensors);
    put_u64(f, keys);
}
static inline void put_key_u32(struct filebytes *f, const char *key, uint32_t v)
{
    put_str(f, key);
    put_u32(f, 4);
    put_u32(f, v);
}
static inline void put_key_u16(struct filebytes *f, const char *key, uint16_t v)
{
    put_str(f, key);
    put_u32(f, 2);
    put(f, &v, 2);
}
static inline void put_key_i32(struct filebytes *f, const char *key, int32_t v)
{
    put_str(f, key);
    put_u32(f, 5);
    put(f, &v, 4);
}
static inline void put_key_str(struct filebytes *f, const char *key, const char *v)
{
    put_str(f, key);
    put_u32(f, 8);
    put_str(f, v);
}
/* A matrix of `rows` rows of `columns`. */
static inline void put_tensor(struct filebytes *f, const char *name, uint64_t columns, uint64_t rows,
                              uint32_t type, uint64_t offset)
{
    put_str(f, name);
    put_u32(f, 2);
    put_u64(f, columns);
    put_u64(f, rows);
    put_u32(f, type);
    put_u64(f, offset);
}
static inline void put_zeros(struct filebytes *f, size_t n)
{
    static const uint8_t zeros[4096];
    for (; n > sizeof zeros; n -= sizeof zeros)
        put(f, zeros, sizeof zeros);
    put(f, zeros, n);
}
static inline void put_align(struct filebytes *f, size_t a) { put_zeros(f, (a - f->n % a) % a); }

/* Length, JSON text and n bytes of data 0, 1, 2 ... */
static inline void put_safetensors(struct filebytes *f, const char *json, size_t n)
{
    put_str(f, json);
    for (size_t i = 0; i < n; i++)
        put(f, &(uint8_t){(uint8_t)i}, 1);
}

/* --- the temporary folder */

static char tmp_dir[64];

static inline void tmp_make(void)
{
    strcpy(tmp_dir, "/tmp/muster-test-XXXXXX");
    if (mkdtemp(tmp_dir) == NULL)
        abort();
}
/* Removes what is in it (one level), and itself. */
static inline void tmp_remove(void)
{
    char path[600];
    DIR *d = opendir(tmp_dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", tmp_dir, e->d_name);
        if (e->d_name[0] != '.' || strlen(e->d_name) > 2)
            unlink(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(tmp_dir);
}
/* The path of a file in it; up to four are valid at once. */
static inline const char *tmp_path(const char *name)
{
    static char path[4][160];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", tmp_dir, name);
    return path[turn];
}
static inline const char *tmp_write(const char *name, const void *p, size_t n)
{
    const char *path = tmp_path(name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(p, 1, n, f) != n || fclose(f) != 0)
        abort();
    return path;
}
static inline const char *tmp_save(const char *name, const struct filebytes *f)
{
    return tmp_write(name, f->b, f->n);
}

#endif
