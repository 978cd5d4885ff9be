#include "workers/filehash.h"

#include "proto/err.h"

#include <stdio.h>
#include <stdlib.h>

static int hash_file(struct sha256 *s, const char *path, struct err *err)
{
    static const size_t piece = 1 << 20;
    FILE *f = fopen(path, "rb");
    uint8_t *buf = malloc(piece);
    size_t n = 0;
    int rc = f == NULL ? err_set(err, ERR_IO, "%s: cannot be read", path)
             : buf == NULL ? err_set(err, ERR_NOMEM, "no memory to read %s", path) : ERR_OK;
    while (rc == ERR_OK && (n = fread(buf, 1, piece, f)) > 0)
        sha256_add(s, buf, n);
    if (rc == ERR_OK && ferror(f))
        rc = err_set(err, ERR_IO, "%s: cannot be read", path);
    free(buf);
    if (f != NULL)
        fclose(f);
    return rc;
}

int filehash_hex(char *const *paths, int n, char hex[SHA256_HEX], struct err *err)
{
    struct sha256 s;
    uint8_t digest[SHA256_BYTES];
    sha256_begin(&s);
    for (int i = 0; i < n; i++)
        TRY(hash_file(&s, paths[i], err));
    sha256_end(&s, digest);
    sha256_hex(digest, hex);
    return ERR_OK;
}
