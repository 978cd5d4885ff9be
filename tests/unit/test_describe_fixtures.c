/* What the coordinator is told of every fixture model: the bytes of its entries add up to the file's and
 * to the packed shard's, both formats of a model count alike, and the message survives the wire. */
#include "workers/models/decoderweights.h"

#include "proto/arena.h"
#include "proto/wire.h"
#include "tests/unit/fixturemodels.h"
#include "tests/unit/meshmaker.h"
#include "workers/models/archs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct told { struct tensorfile file; struct model_config config; struct arena mem;
              Muster__ModelSpec *spec; };

static void tell(struct told *t, const char *path)
{
    struct err err = {0};
    assert_int_equal(arena_init(&t->mem, 8 << 20), ERR_OK);
    if (tensorfile_open(&t->file, path, &err) != ERR_OK ||
        model_config_read(&t->config, &t->file, path, &err) != ERR_OK ||
        decoder_describe(&t->config, &t->file, &t->mem, &t->spec, &err) != ERR_OK)
        fail_msg("%s", err.msg);
}

static void untell(struct told *t)
{
    model_config_free(&t->config);
    tensorfile_close(&t->file);
    arena_free(&t->mem);
}

static void check_sums(const char *path, const char *folder)
{
    struct told t;
    struct err err = {0};
    size_t packed;
    uint64_t file_bytes, in_file = 0, sum_file = 0, sum_packed = 0, numbers = 0;
    tell(&t, path);
    for (int i = 0; i < t.file.n_tensors; i++)
        if (!arch_ignores(&t.config, t.file.tensor[i].name))
            in_file += t.file.tensor[i].bytes;
    for (size_t i = 0; i < t.spec->n_tensor; i++) {
        const Muster__TensorSpec *s = t.spec->tensor[i];
        uint64_t n = 1;
        for (size_t d = 0; d < s->n_shape; d++)
            n *= s->shape[d];
        numbers += n;
        sum_file += s->file_bytes;
        sum_packed += s->packed_bytes;
        assert_true(s->packed_bytes > 0);
    }
    struct mesh m = mesh_make(0, 1, 1, t.config.n_layers, NULL);
    assert_int_equal(decoder_weights_size(&t.config, &t.file, &m, &packed, &file_bytes, &err),
                     ERR_OK);
    assert_int_equal(sum_file, in_file);
    assert_int_equal(sum_file, file_bytes);
    assert_int_equal(sum_packed, packed);
    assert_int_equal(numbers, t.spec->parameters);
    untell(&t);
}

static void test_bytes_add_up(void **state)
{
    (void)state;
    assert_true(fixture_each(check_sums) > 0);
}

static void check_formats(const char *path, const char *folder)
{
    struct told a, b;
    if (path == folder || !fixture_has_weights(folder))
        return;
    tell(&a, path);
    tell(&b, folder);
    assert_int_equal(a.spec->parameters, b.spec->parameters);
    assert_int_equal(a.spec->n_layer, b.spec->n_layer);
    assert_int_equal(a.spec->vocab, b.spec->vocab);
    assert_int_equal(a.spec->longrope_original, b.spec->longrope_original);
    assert_int_equal(strlen(a.spec->chat_template) > 0, strlen(b.spec->chat_template) > 0);
    bool templated = fixture_exists(folder, "chat_template.jinja");
    assert_int_equal(strlen(b.spec->chat_template) > 0, templated);
    assert_true(a.spec->n_meta > 10 && b.spec->n_meta > 10);
    untell(&a);
    untell(&b);
}

static void test_formats_count_alike(void **state)
{
    (void)state;
    assert_true(fixture_each(check_formats) > 0);
}

static void check_wire(const char *path, const char *folder)
{
    struct told t;
    struct err err = {0};
    struct arena mem;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *back;
    tell(&t, path);
    m.body_case = MUSTER__ENVELOPE__BODY_MODEL_SPEC;
    m.model_spec = t.spec;
    size_t n = wire_packed_size(&m);
    uint8_t *bytes = malloc(n);
    assert_int_equal(wire_pack(&m, bytes), n);
    assert_int_equal(arena_init(&mem, 8 << 20), ERR_OK);
    if (wire_unpack(bytes, n, &mem, &back, &err) != ERR_OK)
        fail_msg("%s: %s", path, err.msg);
    const Muster__ModelSpec *s = back->model_spec;
    assert_int_equal(s->n_tensor, t.spec->n_tensor);
    assert_string_equal(s->name, t.config.name);
    assert_string_equal(s->arch, t.config.arch);
    assert_int_equal(s->n_eos, t.config.n_eos);
    assert_true(s->digest->size > 0);
    free(bytes);
    arena_free(&mem);
    untell(&t);
}

static void test_survives_the_wire(void **state)
{
    (void)state;
    assert_true(fixture_each(check_wire) > 0);
}

/* The container's entries must be there and lie inside it; text is the file's, byte for byte. */
static void check_tokenizer(const char *path, const char *folder)
{
    struct tensorfile file;
    struct err err = {0};
    uint8_t *bytes;
    size_t n, at = 4, entries = 0;
    assert_int_equal(tensorfile_open(&file, path, &err), ERR_OK);
    assert_int_equal(model_tokenizer_bytes(&file, path, &bytes, &n, &err), ERR_OK);
    assert_memory_equal(bytes, "MTOK", 4);
    while (at < n) {
        uint32_t name_len;
        uint64_t len;
        char name[64];
        memcpy(&name_len, bytes + at, 4);
        assert_true(name_len < sizeof name && at + 12 + name_len <= n);
        snprintf(name, sizeof name, "%.*s", (int)name_len, bytes + at + 4);
        memcpy(&len, bytes + at + 4 + name_len, 8);
        at += 12 + name_len;
        assert_true(len <= n - at);
        if (path != folder) {           /* a GGUF beside its folder */
            assert_string_equal(name, "gguf");
            assert_memory_equal(bytes + at, "GGUF\3\0\0\0\0\0\0\0\0\0\0\0", 16);
        } else {
            char file_path[1700], *text = malloc(len + 1);
            snprintf(file_path, sizeof file_path, "%s/%s", folder, name);
            FILE *f = fopen(file_path, "rb");
            assert_non_null(f);
            assert_int_equal(fread(text, 1, len + 1, f), len);
            assert_memory_equal(text, bytes + at, len);
            fclose(f);
            free(text);
        }
        at += len;
        entries++;
    }
    assert_int_equal(at, n);
    assert_true(entries >= 1);
    free(bytes);
    tensorfile_close(&file);
}

/* The GGUF entry, opened as a GGUF again, holds every tokenizer key with the same value. */
static void check_gguf_entry(const char *path, const char *folder)
{
    struct tensorfile file, again;
    struct err err = {0};
    uint8_t *bytes;
    size_t n;
    char name[64] = "/tmp/muster-test-tokenizer-XXXXXX";
    if (path == folder)
        return;
    assert_int_equal(tensorfile_open(&file, path, &err), ERR_OK);
    assert_int_equal(model_tokenizer_bytes(&file, path, &bytes, &n, &err), ERR_OK);
    int fd = mkstemp(name);
    FILE *f = fdopen(fd, "wb");
    assert_int_equal(fwrite(bytes + 20, 1, n - 20, f), n - 20);
    fclose(f);
    if (tensorfile_open(&again, name, &err) != ERR_OK)
        fail_msg("%s: %s", path, err.msg);
    int keys = 0;
    for (int i = 0; i < file.n_meta; i++) {
        const struct meta_value *a = &file.meta[i].value, *b;
        if (strncmp(file.meta[i].key, "tokenizer.", 10) != 0)
            continue;
        keys++;
        b = tensorfile_meta(&again, file.meta[i].key);
        assert_non_null(b);
        assert_int_equal(a->kind, b->kind);
        assert_true(a->i == b->i && a->f == b->f && a->len == b->len);
        for (uint64_t k = 0; a->strings && k < a->len; k++)
            assert_memory_equal(a->strings[k], b->strings[k], a->string_lens[k]);
        if (a->kind == META_STRING)
            assert_string_equal(a->str, b->str);
        if (a->array)
            assert_int_equal(a->elem_type, b->elem_type);
    }
    assert_int_equal(again.n_meta, keys + 1);
    assert_int_equal(again.n_tensors, 0);
    remove(name);
    free(bytes);
    tensorfile_close(&file);
    tensorfile_close(&again);
}

static void test_tokenizer_bytes(void **state)
{
    (void)state;
    assert_true(fixture_each(check_tokenizer) > 0);
    assert_true(fixture_each(check_gguf_entry) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_add_up),
        cmocka_unit_test(test_formats_count_alike),
        cmocka_unit_test(test_survives_the_wire),
        cmocka_unit_test(test_tokenizer_bytes),
    };
    if (!fixture_exists(fixture_root(), "."))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
