#include "coordinator/text/bytelevel.h"

#include "coordinator/text/unicode.h"

/* The bytes that do not print, in order, get 0x100, 0x101, ...: 0..32, 127..160, 173. */
int32_t bytelevel_cp(uint8_t byte)
{
    if (byte <= 32)
        return 0x100 + byte;
    if (byte >= 127 && byte <= 160)
        return 0x100 + 33 + byte - 127;
    return byte == 173 ? 0x100 + 67 : byte;
}

int bytelevel_byte(int32_t cp)
{
    if (cp >= 0x100 && cp <= 0x100 + 67) {
        int i = cp - 0x100;
        return i <= 32 ? i : i < 67 ? 127 + i - 33 : 173;
    }
    return cp > 32 && cp < 0x100 && bytelevel_cp((uint8_t)cp) == cp ? cp : -1;
}

int bytelevel_add(struct textbuf *out, const char *s, size_t n, struct err *err)
{
    TRY(textbuf_reserve(out, 2 * n, err));
    for (size_t i = 0; i < n; i++) {
        int32_t cp = bytelevel_cp((uint8_t)s[i]);
        if (cp < 0x80)
            out->p[out->n++] = (char)cp;
        else
            out->n += (size_t)unicode_encode(cp, out->p + out->n);
    }
    return ERR_OK;
}

int bytelevel_add_bytes(struct textbuf *out, const char *s, size_t n, struct err *err)
{
    size_t begin = out->n;
    TRY(textbuf_reserve(out, n, err));
    for (size_t i = 0; i < n;) {
        int32_t cp = -1;
        int len = unicode_decode(s + i, n - i, &cp), byte = bytelevel_byte(cp);
        if (len == 0 || byte < 0) {
            out->n = begin;
            return textbuf_add(out, s, n, err);
        }
        out->p[out->n++] = (char)byte;
        i += (size_t)len;
    }
    return ERR_OK;
}
