/* make_wire_corpus.c - writes one message of each kind, every field of it filled, for fuzz_wire.
 * Usage: make_wire_corpus FOLDER        (run by hand when muster.proto changes) */
#include "proto/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS = 2 };     /* of a repeated field */

static ProtobufCMessage *make_message(const ProtobufCMessageDescriptor *d);

static void fill_value(const ProtobufCFieldDescriptor *f, void *at, int k)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_FLOAT: *(float *)at = 1.5f + (float)k; break;
    case PROTOBUF_C_TYPE_DOUBLE: *(double *)at = 2.5 + k; break;
    case PROTOBUF_C_TYPE_STRING: *(char **)at = strdup(k ? "zwei \xc3\xa4" : "one"); break;
    case PROTOBUF_C_TYPE_BYTES:
        *(ProtobufCBinaryData *)at = (ProtobufCBinaryData){3, (uint8_t *)strdup("\x01\x02\x03")};
        break;
    case PROTOBUF_C_TYPE_MESSAGE: *(ProtobufCMessage **)at = make_message(f->descriptor); break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: *(uint64_t *)at = 300 + (uint64_t)k; break;
    default: *(uint32_t *)at = 1 + (uint32_t)k; break;
    }
}

static size_t size_of(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return 8;
    default: return 4;
    }
}

static ProtobufCMessage *make_message(const ProtobufCMessageDescriptor *d)
{
    uint8_t *m = calloc(1, d->sizeof_message);
    if (m == NULL)
        exit(1);
    d->message_init((ProtobufCMessage *)m);
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
            continue;
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            fill_value(f, m + f->offset, 0);
            continue;
        }
        uint8_t *items = calloc(ITEMS, size_of(f));
        if (items == NULL)
            exit(1);
        for (int k = 0; k < ITEMS; k++)
            fill_value(f, items + (size_t)k * size_of(f), k);
        *(uint8_t **)(m + f->offset) = items;
        *(size_t *)(m + f->quantifier_offset) = ITEMS;
    }
    return (ProtobufCMessage *)m;
}

static void write_input(const char *folder, const char *name, int kind, const uint8_t *bytes, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fputc(kind, f) == EOF || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        fprintf(stderr, "make_wire_corpus: %s cannot be written\n", path);
        exit(1);
    }
}

static void write_tensors(const char *folder)
{
    _Alignas(64) static uint8_t msg[WIRE_HEADER_MAX + 512];
    for (int d = WIRE_F32; d <= WIRE_I32; d++) {
        struct wire_tensor t = {.network = 1, .layer = 3, .kind = WIRE_PARTIAL, .dtype = (uint32_t)d,
                                .step = 77, .n_dims = 2, .shape = {2, 40},
                                .data_bytes = wire_data_bytes((enum wire_dtype)d, 80)};
        char name[32];
        void *data;
        size_t n = wire_tensor_begin(msg, 1, &t, &data);
        memset(data, 0x3c, t.data_bytes);
        snprintf(name, sizeof name, "tensor_%d", d);
        write_input(folder, name, 1, msg, n);
    }
}

int main(int argc, char **argv)
{
    static uint8_t bytes[1 << 16];
    const ProtobufCMessageDescriptor *d = &muster__envelope__descriptor;
    if (argc != 2)
        return 2;
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        Muster__Envelope e = MUSTER__ENVELOPE__INIT;
        if (!(f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
            continue;
        e.epoch = 1;
        e.body_case = (Muster__Envelope__BodyCase)f->id;
        *(ProtobufCMessage **)((uint8_t *)&e + f->offset) = make_message(f->descriptor);
        if (wire_packed_size(&e) > sizeof bytes)
            return 1;
        write_input(argv[1], f->name, 0, bytes, wire_pack(&e, bytes));
    }
    write_tensors(argv[1]);
    return 0;
}
