#include "coordinator/text/unicode.h"

#include <string.h>
#include <utf8proc.h>

static bool is_tail(char c)
{
    return ((uint8_t)c & 0xc0) == 0x80;
}

int unicode_decode(const char *s, size_t n, int32_t *cp)
{
    static const int32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (n == 0)
        return 0;
    uint8_t b = (uint8_t)s[0];
    if (b < 0x80) {
        *cp = b;
        return 1;
    }
    int len = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
    if (b < 0xc2 || b > 0xf4 || n < (size_t)len)
        return 0;
    int32_t c = b & (0x7f >> len);
    for (int i = 1; i < len; i++) {
        if (!is_tail(s[i]))
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *cp = c;
    return len;
}

size_t unicode_check(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        int32_t cp;
        uint64_t eight;
        if (i + 8 <= n && (memcpy(&eight, s + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        int len = unicode_decode(s + i, n - i, &cp);
        if (len == 0)
            return i;
        i += (size_t)len;
    }
    return n;
}

int unicode_encode(int32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    int len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (cp & 0x3f));
        cp >>= 6;
    }
    out[0] = (char)((0xf00 >> len) | cp);
    return len;
}

size_t unicode_partial(const char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        uint8_t b = (uint8_t)s[n - back];
        if (is_tail((char)b))
            continue;
        if (b < 0xc2 || b > 0xf4 || (size_t)unicode_bytes((char)b) <= back)
            return 0;
        /* The second byte may already rule the character out (overlong, surrogate, too big). */
        if (back >= 2) {
            uint8_t second = (uint8_t)s[n - back + 1];
            if ((b == 0xe0 && second < 0xa0) || (b == 0xed && second > 0x9f) ||
                (b == 0xf0 && second < 0x90) || (b == 0xf4 && second > 0x8f))
                return 0;
        }
        return back;
    }
    return 0;
}

bool unicode_is_space(int32_t cp)
{
    return (cp >= 9 && cp <= 13) || cp == ' ' || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
           cp == 0x205f || cp == 0x3000;
}

bool unicode_is_number(int32_t cp)
{
    utf8proc_category_t c = utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool unicode_is_word(int32_t cp)
{
    /* Alphabetic symbols (So): circled and squared letters. */
    if ((cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) ||
        (cp >= 0x1f150 && cp <= 0x1f169) || (cp >= 0x1f170 && cp <= 0x1f189) || cp == 0x200c ||
        cp == 0x200d)
        return true;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
    }
}

bool unicode_is_punctuation(int32_t cp)
{
    if (cp < 0x80)
        return cp > ' ' && cp != 0x7f && !(cp >= '0' && cp <= '9') &&
               !((cp | 32) >= 'a' && (cp | 32) <= 'z');
    utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}
