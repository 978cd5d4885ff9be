/* Pictures from outside: PNG files. */
#include "coordinator/image/pngfile.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct picture p;
    struct err err = {0};
    size_t sum = 0;
    if (pngfile_decode(&p, data, n, "fuzz.png", &err) != ERR_OK) {
        if (err.msg[0] == '\0' || p.rgb != NULL)
            abort();
        return 0;
    }
    for (size_t i = 0; i < (size_t)p.width * (size_t)p.height * 3; i++)
        sum += p.rgb[i];
    for (int i = 0; i < p.n_text; i++)
        for (const char *s = p.text[i].value; *s != '\0'; s++)
            sum += (uint8_t)*s;
    if (p.width < 1 || p.height < 1 || sum == SIZE_MAX)
        abort();
    pngfile_free(&p);
    return 0;
}
