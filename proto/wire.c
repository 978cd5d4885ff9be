#include "proto/wire.h"

#include <string.h>
#include <time.h>

enum {
    MESSAGE_MAX = 256 << 20,        /* bytes of a control message; tensors have their own buffers */
    ALIGN = 64,
    SMALL_MESSAGE = 4096,           /* packed on the stack */
};

/* --- the protobuf-c allocator: an arena; what is unpacked dies with it */

static void *arena_alloc(void *mem, size_t n) { return arena_take(mem, n); }
static void arena_no_free(void *mem, void *p) { (void)mem; (void)p; }

static ProtobufCAllocator allocator_of(struct arena *mem)
{
    return (ProtobufCAllocator){.alloc = arena_alloc, .free = arena_no_free, .allocator_data = mem};
}

/* --- checks of what protobuf-c lets through */

static int utf8_tail(const uint8_t *s, int n)
{
    for (int i = 1; i <= n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return 1;
}

/* Bytes of the character at s (NUL-terminated), 0 when it is not UTF-8. */
static int utf8_length(const uint8_t *s)
{
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        return utf8_tail(s, 1) ? 2 : 0;
    if (s[0] >= 0xe0 && s[0] <= 0xef && utf8_tail(s, 2)) {
        uint32_t c = (uint32_t)(s[0] & 15) << 12 | (uint32_t)(s[1] & 63) << 6 | (s[2] & 63);
        return c >= 0x800 && (c < 0xd800 || c > 0xdfff) ? 3 : 0;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4 && utf8_tail(s, 3)) {
        uint32_t c = (uint32_t)(s[0] & 7) << 18 | (uint32_t)(s[1] & 63) << 12;
        return c >= 0x10000 && c <= 0x10ffff ? 4 : 0;
    }
    return 0;
}

static int check_text(const char *text, const ProtobufCFieldDescriptor *f, struct err *err)
{
    const uint8_t *s = (const uint8_t *)text;
    while (s != NULL && *s != '\0') {
        int n = utf8_length(s);
        if (n == 0)
            return err_set(err, ERR_PEER, "message: %s is not UTF-8", f->name);
        s += n;
    }
    return ERR_OK;
}

static int check_message(ProtobufCMessage *m, struct err *err);

static int check_field(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct err *err)
{
    const uint8_t *at = (const uint8_t *)m + f->offset;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(const size_t *)((const uint8_t *)m + f->quantifier_offset);
        void *const *items = *(void *const *const *)at;
        for (size_t i = 0; i < n; i++) {
            if (f->type == PROTOBUF_C_TYPE_STRING)
                TRY(check_text(items[i], f, err));
            else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                TRY(check_message(items[i], err));
        }
        return ERR_OK;
    }
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
        *(const uint32_t *)((const uint8_t *)m + f->quantifier_offset) != f->id)
        return ERR_OK;
    if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
        return ERR_OK;          /* a number: nothing to follow, and `at` is no place of a pointer */
    void *p = *(void *const *)at;
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return check_text(p, f, err);
    return p != NULL ? check_message(p, err) : ERR_OK;
}

/* Fields that this version does not know are dropped: the library packs damaged ones so that they do not
 * unpack again. */
static int check_message(ProtobufCMessage *m, struct err *err)
{
    m->n_unknown_fields = 0;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++)
        TRY(check_field(m, &m->descriptor->fields[i], err));
    return ERR_OK;
}

/* --- whole messages */

size_t wire_packed_size(const Muster__Envelope *m) { return muster__envelope__get_packed_size(m); }
size_t wire_pack(const Muster__Envelope *m, uint8_t *out) { return muster__envelope__pack(m, out); }

int wire_unpack(const uint8_t *bytes, size_t n, struct arena *mem, Muster__Envelope **m,
                struct err *err)
{
    ProtobufCAllocator a = allocator_of(mem);
    size_t mark = arena_mark(mem);
    *m = muster__envelope__unpack(&a, n, bytes);
    int rc = ERR_OK;
    if (*m == NULL)
        rc = err_set(err, ERR_PEER, "a message of %zu bytes is damaged or needs more memory than it "
                                    "may have", n);
    else if ((*m)->body_case == MUSTER__ENVELOPE__BODY__NOT_SET)
        rc = err_set(err, ERR_PEER, "a message of a kind that this version does not know");
    else
        rc = check_message(&(*m)->base, err);
    if (rc != ERR_OK) {
        *m = NULL;
        arena_release(mem, mark);
    }
    return rc;
}

static int64_t thread_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Nanoseconds spent here by the calling thread: a counter of the thread, not of a model. */
static _Thread_local int64_t pack_ns;

double wire_pack_us(struct comm *c)
{
    (void)c;
    double us = (double)pack_ns / 1000;
    pack_ns = 0;
    return us;
}

int wire_send(struct comm *c, int peer, enum comm_channel ch, Muster__Envelope *m, struct err *err)
{
    uint8_t small[SMALL_MESSAGE], *out = small;
    struct arena big = {0};
    int64_t begun = thread_ns();
    m->epoch = c->epoch;
    size_t n = wire_packed_size(m);
    if (n > MESSAGE_MAX)
        return err_set(err, ERR_LIMIT, "a control message of %zu bytes", n);
    if (n > sizeof small) {
        if (arena_init(&big, n) != ERR_OK)
            return err_set(err, ERR_NOMEM, "no memory for a message of %zu bytes", n);
        out = big.base;
    }
    wire_pack(m, out);
    pack_ns += thread_ns() - begun;
    int rc = comm_send(c, peer, ch, out, n, err);
    arena_free(&big);
    return rc;
}

int wire_poll(struct comm *c, enum comm_channel ch, struct arena *mem, int *peer,
              Muster__Envelope **m, struct err *err)
{
    size_t n = 0, got = 0, mark = arena_mark(mem);
    *m = NULL;
    TRY(c->table->poll(c, ch, peer, &n, err));
    c->activity = *peer < 0 ? COMM_IDLE : COMM_WORKING;
    if (*peer < 0)
        return ERR_OK;
    if (n > MESSAGE_MAX)
        return err_set(err, ERR_PEER, "a control message of %zu bytes from party %d", n, *peer);
    uint8_t *bytes = arena_take(mem, n);
    if (bytes == NULL)
        return err_set(err, ERR_LIMIT, "a message of %zu bytes from party %d does not fit its arena", n,
                       *peer);
    TRY(comm_recv(c, *peer, ch, bytes, n, &got, err));
    int64_t begun = thread_ns();
    int rc = wire_unpack(bytes, got, mem, m, err);
    pack_ns += thread_ns() - begun;
    if (rc == ERR_OK && (*m)->epoch < c->epoch) {
        *m = NULL;      /* of a plan that is no more */
        arena_release(mem, mark);
    }
    return rc;
}

int wire_recv(struct comm *c, enum comm_channel ch, struct arena *mem, int *peer,
              Muster__Envelope **m, struct err *err)
{
    int64_t begun = comm_now_us(c);
    for (;;) {
        TRY(wire_poll(c, ch, mem, peer, m, err));
        if (*m != NULL)
            return ERR_OK;
        TRY(comm_check_wait(c, begun, err));
        comm_give_way(comm_now_us(c) - begun);
    }
}

/* --- tensors: Activation by hand, so that data is never copied */

enum { FIELD_EPOCH = 1, FIELD_NETWORK, FIELD_STEP, FIELD_LAYER, FIELD_KIND, FIELD_DTYPE, FIELD_SHAPE,
       FIELD_PAD = 14, FIELD_DATA = 15, TYPE_VARINT = 0, TYPE_I64 = 1, TYPE_BYTES = 2, TYPE_I32 = 5 };

size_t wire_data_bytes(enum wire_dtype dtype, uint64_t n)
{
    switch (dtype) {
    case WIRE_F32:
    case WIRE_I32: return n * 4;
    case WIRE_BF16: return n * 2;
    case WIRE_Q8_0: return (n + 31) / 32 * 34;
    case WIRE_U8: return n;
    }
    return 0;
}

static uint8_t *put_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *put_number(uint8_t *p, int field, uint64_t v)
{
    if (v == 0)
        return p;       /* proto3: the default is not sent */
    *p++ = (uint8_t)(field << 3 | TYPE_VARINT);
    return put_varint(p, v);
}

static int varint_bytes(uint64_t v)
{
    int n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

size_t wire_tensor_begin(uint8_t *msg, uint32_t epoch, const struct wire_tensor *t, void **data)
{
    int64_t begun = thread_ns();
    uint8_t shape[WIRE_DIMS_MAX * 10], *s = shape, *p = msg;
    ASSERT(t->n_dims >= 0 && t->n_dims <= WIRE_DIMS_MAX);
    for (int i = 0; i < t->n_dims; i++)
        s = put_varint(s, t->shape[i]);
    p = put_number(p, FIELD_EPOCH, epoch);
    p = put_number(p, FIELD_NETWORK, t->network);
    p = put_number(p, FIELD_STEP, t->step);
    p = put_number(p, FIELD_LAYER, t->layer);
    p = put_number(p, FIELD_KIND, t->kind);
    p = put_number(p, FIELD_DTYPE, t->dtype);
    *p++ = FIELD_SHAPE << 3 | TYPE_BYTES;
    p = put_varint(p, (uint64_t)(s - shape));
    memcpy(p, shape, (size_t)(s - shape));
    p += s - shape;
    size_t tail = 1 + (size_t)varint_bytes(t->data_bytes);      /* key and length of data */
    size_t at = (size_t)(p - msg) + 2 + tail;                   /* with an empty pad */
    size_t pad = (ALIGN - at % ALIGN) % ALIGN;
    *p++ = FIELD_PAD << 3 | TYPE_BYTES;
    *p++ = (uint8_t)pad;
    memset(p, 0, pad);
    p += pad;
    *p++ = FIELD_DATA << 3 | TYPE_BYTES;
    p = put_varint(p, t->data_bytes);
    *data = p;
    pack_ns += thread_ns() - begun;
    return (size_t)(p - msg) + t->data_bytes;
}

struct reader { const uint8_t *p, *end; };

/* 0 on success. */
static int get_varint(struct reader *r, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        uint8_t b = *r->p++;
        *v |= (uint64_t)(b & 0x7f) << shift;
        if ((b & 0x80) == 0)
            return 0;
    }
    return -1;
}

static int get_bytes(struct reader *r, struct reader *inner)
{
    uint64_t n;
    if (get_varint(r, &n) != 0 || n > (uint64_t)(r->end - r->p))
        return -1;
    inner->p = r->p;
    inner->end = r->p + n;
    r->p += n;
    return 0;
}

static int get_shape(struct reader s, struct wire_tensor *t)
{
    while (s.p < s.end) {
        if (t->n_dims == WIRE_DIMS_MAX || get_varint(&s, &t->shape[t->n_dims]) != 0)
            return -1;
        t->n_dims++;
    }
    return 0;
}

static void set_number(struct wire_tensor *t, uint32_t *epoch, uint64_t field, uint64_t v)
{
    switch (field) {
    case FIELD_EPOCH: *epoch = (uint32_t)v; break;
    case FIELD_NETWORK: t->network = (uint32_t)v; break;
    case FIELD_STEP: t->step = v; break;
    case FIELD_LAYER: t->layer = (uint32_t)v; break;
    case FIELD_KIND: t->kind = (uint32_t)v; break;
    case FIELD_DTYPE: t->dtype = (uint32_t)v; break;
    default: break;     /* of a later version */
    }
}

/* One top-level field into t; 0 on success. */
static int get_field(struct reader *r, struct wire_tensor *t, uint32_t *epoch)
{
    uint64_t key, v;
    struct reader inner;
    if (get_varint(r, &key) != 0)
        return -1;
    switch (key & 7) {
    case TYPE_VARINT:
        if (get_varint(r, &v) != 0)
            return -1;
        set_number(t, epoch, key >> 3, v);
        return 0;
    case TYPE_BYTES:
        if (get_bytes(r, &inner) != 0)
            return -1;
        if (key >> 3 == FIELD_SHAPE)
            return get_shape(inner, t);
        if (key >> 3 == FIELD_DATA) {
            t->data = inner.p;
            t->data_bytes = (size_t)(inner.end - inner.p);
        }
        return 0;
    case TYPE_I64:
    case TYPE_I32: {
        ptrdiff_t n = (key & 7) == TYPE_I64 ? 8 : 4;
        if (r->end - r->p < n)
            return -1;
        r->p += n;
        return 0;
    }
    default: return -1;
    }
}

int wire_tensor_view(const uint8_t *msg, size_t bytes, uint32_t epoch, struct wire_tensor *t,
                     struct err *err)
{
    struct reader r = {msg, msg + bytes};
    uint32_t sent_in = 0;
    uint64_t n = 1;
    int64_t begun = thread_ns();
    memset(t, 0, sizeof *t);
    while (r.p < r.end)
        if (get_field(&r, t, &sent_in) != 0)
            return err_set(err, ERR_PEER, "a tensor message of %zu bytes is damaged", bytes);
    if (sent_in != epoch)
        return err_set(err, ERR_CANCELLED, "a tensor of epoch %u, now is %u", sent_in, epoch);
    for (int i = 0; i < t->n_dims; i++)
        if (__builtin_mul_overflow(n, t->shape[i], &n) || n > UINT64_MAX / 8)
            return err_set(err, ERR_PEER, "a tensor message with an absurd shape");
    uint64_t row = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 1;    /* q8_0 blocks do not cross rows */
    uint64_t rows = row > 0 ? n / row : 0;
    if (t->data_bytes > 0 && (size_t)((const uint8_t *)t->data - msg) % ALIGN != 0)
        return err_set(err, ERR_PEER, "a tensor message whose numbers are not aligned");
    if (t->dtype > WIRE_I32 || wire_data_bytes((enum wire_dtype)t->dtype, row) * rows != t->data_bytes)
        return err_set(err, ERR_PEER, "a tensor message of %llu numbers holds %zu bytes (dtype %u)",
                       (unsigned long long)n, t->data_bytes, t->dtype);
    pack_ns += thread_ns() - begun;
    return ERR_OK;
}

/* --- f32 <-> what travels */

static void encode_bf16(uint16_t *out, const float *in, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &in[i], sizeof u);
        uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
        out[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : rounded);
    }
}

static void decode_bf16(float *out, const uint16_t *in, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)in[i] << 16;
        memcpy(&out[i], &u, sizeof u);
    }
}

/* Largest magnitude of 32 numbers. As integers, since their maximum may be taken in any order: so the
 * loop vectorises. A NaN is larger than all. */
static float top_of(const float in[32])
{
    int32_t top = 0;
    for (int i = 0; i < 32; i++) {
        int32_t u;
        memcpy(&u, &in[i], sizeof u);
        u &= 0x7fffffff;
        top = u > top ? u : top;
    }
    float value;
    memcpy(&value, &top, sizeof value);
    return value;
}

/* The nearest integer, ties to even, of |x| < 2^22; any byte for other numbers. */
static int8_t nearest(float x)
{
    float shifted = x + 0x1.8p23f;
    int32_t u;
    memcpy(&u, &shifted, sizeof u);
    return (int8_t)(uint8_t)u;
}

/* Blocks of 32 with a bf16 scale: unlike a half it has the range of activations. */
static void encode_q8(uint8_t *out, const float *numbers, uint64_t n)
{
    for (uint64_t b = 0; b < n; b += 32, out += 34) {
        float last[32] = {0}, scale;
        const float *in = numbers + b;
        if (n - b < 32)
            in = memcpy(last, in, (size_t)(n - b) * sizeof *in);
        float top = top_of(in);
        uint16_t half;
        float wanted = top / 127;
        encode_bf16(&half, &wanted, 1);
        decode_bf16(&scale, &half, 1);
        if (scale * 127 < top) {        /* never clip: the next larger scale */
            half++;
            decode_bf16(&scale, &half, 1);
        }
        memcpy(out, &half, sizeof half);
        float inverse = scale > 0 ? 1 / scale : 0;
        for (int i = 0; i < 32; i++)
            out[2 + i] = (uint8_t)nearest(in[i] * inverse);
    }
}

static void decode_q8(float *out, const uint8_t *in, uint64_t n)
{
    for (uint64_t b = 0; b < n; b += 32, in += 34) {
        uint16_t half;
        float scale;
        memcpy(&half, in, sizeof half);
        decode_bf16(&scale, &half, 1);
        for (uint64_t i = 0; i < 32 && b + i < n; i++)
            out[b + i] = scale * (float)(int8_t)in[2 + i];
    }
}

void wire_encode(enum wire_dtype dtype, void *out, const float *in, uint64_t n)
{
    if (dtype == WIRE_BF16)
        encode_bf16(out, in, n);
    else if (dtype == WIRE_Q8_0)
        encode_q8(out, in, n);
    else
        memcpy(out, in, n * sizeof *in);
}

void wire_decode(enum wire_dtype dtype, float *out, const void *in, uint64_t n)
{
    if (dtype == WIRE_BF16)
        decode_bf16(out, in, n);
    else if (dtype == WIRE_Q8_0)
        decode_q8(out, in, n);
    else
        memcpy(out, in, n * sizeof *out);
}
