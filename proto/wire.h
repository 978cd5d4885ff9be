/* wire.h - message <-> bytes.
 * Why:    every message between ranks is a serialized protobuf message of muster.proto; this is the
 *         only file that packs or unpacks one, so counts from peers are checked in one place.
 * Owner:  unpacked messages live in the caller's arena and die with it.
 * Ranks:  not collective, except where a function says otherwise. */
#ifndef MUSTER_WIRE_H
#define MUSTER_WIRE_H

#include "muster.pb-c.h"
#include "proto/arena.h"
#include "proto/comm.h"

/* Tensors on the wire. */
enum wire_dtype { WIRE_F32 = 0, WIRE_BF16 = 1, WIRE_Q8_0 = 2, WIRE_U8 = 3, WIRE_I32 = 4 };
enum wire_kind { WIRE_ACTIVATION = 0, WIRE_PARTIAL = 1, WIRE_EMBED = 2, WIRE_LOGITS = 3,
                 WIRE_CANDIDATES = 4, WIRE_WEIGHTS = 5, WIRE_SUM = 6, WIRE_SCORES = 7 };
enum { WIRE_DIMS_MAX = 4, WIRE_HEADER_MAX = 192 };

struct wire_tensor {
    uint32_t network, layer, kind, dtype;
    uint64_t step;
    int n_dims;
    uint64_t shape[WIRE_DIMS_MAX];      /* row-major, outermost first */
    const void *data;                   /* packed: to be copied; viewed: inside the message */
    size_t data_bytes;
};

/* Bytes of a tensor of n numbers in dtype (q8_0: for each 32 a bf16 scale and 32 signed bytes; n is
 * rounded up). */
size_t wire_data_bytes(enum wire_dtype dtype, uint64_t n);

/* An Activation message around data that the caller writes itself, in place: writes the header into
 * msg and sets *data to where t->data_bytes must go; returns the whole message's size. msg has room
 * for WIRE_HEADER_MAX + t->data_bytes; where msg is 64-byte aligned *data is too. No copy is made. */
size_t wire_tensor_begin(uint8_t *msg, uint32_t epoch, const struct wire_tensor *t, void **data);

/* Views the tensor in a received message; t->data points into msg. Checks that shape, dtype and data
 * agree and that epoch is the one given (an older one: ERR_CANCELLED). */
int wire_tensor_view(const uint8_t *msg, size_t bytes, uint32_t epoch, struct wire_tensor *t,
                     struct err *err);

/* n f32 numbers to dtype and back. */
void wire_encode(enum wire_dtype dtype, void *out, const float *in, uint64_t n);
void wire_decode(enum wire_dtype dtype, float *out, const void *in, uint64_t n);

/* Packs m and sends it to peer on COMM_CONTROL (or ch); blocks until it has left or the deadline. The
 * envelope's epoch is filled in. */
int wire_send(struct comm *c, int peer, enum comm_channel ch, Muster__Envelope *m, struct err *err);

/* Takes the next message waiting on ch, if any: *m = NULL when none. Checks sizes and counts against
 * limits before anything is allocated, and utf-8 of strings. Messages of an older epoch are dropped. */
int wire_poll(struct comm *c, enum comm_channel ch, struct arena *mem, int *peer,
              Muster__Envelope **m, struct err *err);

/* Blocks until a message comes (from any peer) or the deadline. */
int wire_recv(struct comm *c, enum comm_channel ch, struct arena *mem, int *peer,
              Muster__Envelope **m, struct err *err);

/* For files (plans) and fuzzing: bytes <-> message in an arena. */
int wire_unpack(const uint8_t *bytes, size_t n, struct arena *mem, Muster__Envelope **m,
                struct err *err);
size_t wire_packed_size(const Muster__Envelope *m);
size_t wire_pack(const Muster__Envelope *m, uint8_t *out);

/* Time spent packing and unpacking by the calling thread since the last call, in microseconds. */
double wire_pack_us(struct comm *c);

#endif
