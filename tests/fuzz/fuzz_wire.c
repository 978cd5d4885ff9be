/* Messages from peers: the first byte chooses an envelope or a tensor. What is accepted must stay inside
 * the bytes, and pack to a message that is accepted again. */
#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { ARENA_BYTES = 1 << 20 };

static void try_envelope(const uint8_t *bytes, size_t n)
{
    struct arena mem, again;
    struct err err = {0};
    Muster__Envelope *m, *m2;
    ASSERT(arena_init(&mem, ARENA_BYTES) == ERR_OK && arena_init(&again, 4 * ARENA_BYTES) == ERR_OK);
    int rc = wire_unpack(bytes, n, &mem, &m, &err);
    if (rc == ERR_OK) {
        size_t size = wire_packed_size(m);
        uint8_t *out = malloc(size > 0 ? size : 1);
        ASSERT(out != NULL && wire_pack(m, out) == size);
        ASSERT(wire_unpack(out, size, &again, &m2, &err) == ERR_OK && m2->body_case == m->body_case);
        free(out);
    } else {
        ASSERT(m == NULL && err.code == rc && err.msg[0] != '\0' && arena_mark(&mem) == 0);
    }
    arena_free(&mem);
    arena_free(&again);
}

static void try_tensor(const uint8_t *bytes, size_t n)
{
    struct wire_tensor t;
    struct err err = {0};
    uint8_t *msg = aligned_alloc(64, (n + 64) / 64 * 64);   /* messages lie in aligned buffers */
    ASSERT(msg != NULL);
    memcpy(msg, bytes, n);
    int rc = wire_tensor_view(msg, n, 1, &t, &err);
    if (rc == ERR_OK) {
        uint64_t count = 1;
        for (int i = 0; i < t.n_dims; i++)
            count *= t.shape[i];
        ASSERT(wire_data_bytes((enum wire_dtype)t.dtype, count) == t.data_bytes);
        ASSERT(t.data_bytes == 0 ||
               ((const uint8_t *)t.data >= msg && (const uint8_t *)t.data + t.data_bytes <= msg + n));
        if (t.dtype <= WIRE_Q8_0 && count > 0 && count < ARENA_BYTES) {
            float *numbers = malloc((size_t)count * sizeof *numbers);
            ASSERT(numbers != NULL);
            wire_decode((enum wire_dtype)t.dtype, numbers, t.data, count);
            free(numbers);
        }
    } else {
        ASSERT(err.code == rc && err.msg[0] != '\0');
    }
    free(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    if (data[0] % 2 == 0)
        try_envelope(data + 1, n - 1);
    else
        try_tensor(data + 1, n - 1);
    return 0;
}
