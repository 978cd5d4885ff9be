/* GGUF and safetensors headers: what is read from sound files, and one message for each kind of
 * damage. */
#include "workers/weights/tensorfile.h"

#include "tests/unit/filebytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Opening path must fail with this code and a message that holds all of `words` (";" between). */
static void refuse(const char *path, int code, const char *words)
{
    struct tensorfile t;
    struct err err = {0};
    char copy[200], *save, *word;
    int rc = tensorfile_open(&t, path, &err);
    if (rc != code)
        fail_msg("%s: code %d instead of %d (%s)", path, rc, code, err.msg);
    snprintf(copy, sizeof copy, "%s", words);
    for (word = strtok_r(copy, ";", &save); word != NULL; word = strtok_r(NULL, ";", &save))
        if (strstr(err.msg, word) == NULL)
            fail_msg("\"%s\" lacks \"%s\"", err.msg, word);
    assert_null(strchr(err.msg, '\n'));
    assert_int_equal(t.n_files, 0);
    tensorfile_close(&t);       /* a failed open owes nothing; closing is harmless */
}

static void refuse_bytes(const struct filebytes *f, const char *words)
{
    refuse(tmp_save("bad.gguf", f), ERR_FORMAT, words);
}

/* A sound file of two tensors and all kinds of keys, of this version. */
static struct filebytes sound(uint32_t version)
{
    struct filebytes f = {.n = 0};
    put_gguf_start(&f, version, 2, 8);
    put_key_str(&f, "general.architecture", "llama");
    put_key_u32(&f, "general.alignment", 64);
    put_key_i32(&f, "an.int", -5);
    put_str(&f, "a.float"), put_u32(&f, 6), put_f32(&f, 0.5f);
    put_str(&f, "a.bool"), put_u32(&f, 7), put(&f, "\1", 1);
    put_str(&f, "tokens"), put_u32(&f, 9), put_u32(&f, 8), put_u64(&f, 3);
    put_str(&f, "a"), put_str(&f, ""), put_str(&f, "longer than eight");
    put_str(&f, "scores"), put_u32(&f, 9), put_u32(&f, 6), put_u64(&f, 2);
    put_f32(&f, 1.5f), put_f32(&f, -2.0f);
    put_str(&f, "a.u64"), put_u32(&f, 10), put_u64(&f, 1ull << 40);
    put_tensor(&f, "first", 4, 3, 0, 0);
    put_tensor(&f, "second", 64, 2, 8, 64);
    put_align(&f, 64);
    for (int i = 0; i < 12; i++)
        put_f32(&f, (float)i);
    put_align(&f, 64);
    put_zeros(&f, 4 * 34);
    return f;
}

static void check_sound(uint32_t version)
{
    struct tensorfile t;
    struct err err = {0};
    struct filebytes f = sound(version);
    assert_int_equal(tensorfile_open(&t, tmp_save("model.gguf", &f), &err), ERR_OK);
    assert_int_equal(t.n_tensors, 2);
    assert_int_equal(t.n_meta, 8);
    assert_string_equal(tensorfile_meta(&t, "general.architecture")->str, "llama");
    assert_int_equal(tensorfile_meta(&t, "an.int")->i, -5);
    assert_true(tensorfile_meta(&t, "a.float")->f == 0.5);
    assert_int_equal(tensorfile_meta(&t, "a.bool")->kind, META_BOOL);
    assert_int_equal(tensorfile_meta(&t, "a.bool")->i, 1);
    assert_true(tensorfile_meta(&t, "a.u64")->i == (int64_t)1 << 40);
    const struct meta_value *v = tensorfile_meta(&t, "tokens");
    assert_int_equal(v->len, 3);
    assert_string_equal(v->strings[0], "a");
    assert_string_equal(v->strings[1], "");
    assert_string_equal(v->strings[2], "longer than eight");
    assert_int_equal(v->string_lens[2], 17);
    v = tensorfile_meta(&t, "scores");
    assert_int_equal((uintptr_t)v->array % 8, 0);
    assert_true(((const float *)v->array)[1] == -2.0f);
    assert_null(tensorfile_meta(&t, "absent"));

    const struct tensor_entry *e = tensorfile_find(&t, "first");
    assert_int_equal(e->n_dims, 2);
    assert_int_equal(e->shape[0], 3);       /* outermost first */
    assert_int_equal(e->shape[1], 4);
    assert_int_equal(e->bytes, 48);
    float x[2];
    assert_int_equal(tensorfile_read(&t, e, 4 * 4, x, sizeof x, &err), ERR_OK);
    assert_true(x[0] == 4.0f && x[1] == 5.0f);
    assert_int_equal(t.bytes_read, sizeof x);
    e = tensorfile_find(&t, "second");
    assert_int_equal(e->type, DT_Q8_0);
    assert_int_equal(e->bytes, 4 * 34);
    assert_null(tensorfile_find(&t, "third"));
    tensorfile_close(&t);
    tensorfile_close(&t);
}

static void test_gguf_is_read(void **state)
{
    (void)state;
    check_sound(2);
    check_sound(3);
}

/* Cut anywhere, a file is refused with a message, and never crashes. */
static void test_gguf_truncated_anywhere(void **state)
{
    (void)state;
    struct filebytes f = sound(3);
    for (size_t n = 0; n < f.n; n++) {
        struct tensorfile t;
        struct err err = {0};
        assert_int_equal(tensorfile_open(&t, tmp_write("cut.gguf", f.b, n), &err), ERR_FORMAT);
        assert_non_null(strstr(err.msg, n < 16 ? "cut.gguf" : "truncated"));
    }
}

static void test_gguf_start(void **state)
{
    (void)state;
    struct filebytes f = {.n = 0};
    refuse(tmp_path("nowhere.gguf"), ERR_IO, "nowhere.gguf;No such file");
    put_gguf_start(&f, 1, 0, 0);
    refuse_bytes(&f, "version 1;convert");
    f.n = 0, put_gguf_start(&f, 0x03000000, 0, 0);
    refuse_bytes(&f, "big-endian");
    f.n = 0, put_gguf_start(&f, 3, 1u << 30, 0), put_zeros(&f, 100);
    refuse_bytes(&f, "1073741824 tensors");
    f.n = 0, put_gguf_start(&f, 3, 0, UINT64_MAX), put_zeros(&f, 100);
    refuse_bytes(&f, "18446744073709551615 keys");
    refuse(tmp_write("empty.gguf", "", 0), ERR_FORMAT, "neither GGUF nor safetensors");
}

static void test_gguf_keys(void **state)
{
    (void)state;
    struct filebytes f = {.n = 0};
    put_gguf_start(&f, 3, 0, 1), put_u64(&f, 0), put_u32(&f, 4), put_u32(&f, 1);
    refuse_bytes(&f, "key at byte 24 is empty");
    f.n = 0, put_gguf_start(&f, 3, 0, 1), put_u64(&f, 1ull << 60), put_zeros(&f, 64);
    refuse_bytes(&f, "past the end");
    f.n = 0, put_gguf_start(&f, 3, 0, 1), put_u64(&f, 3), put(&f, "a\0b", 3), put_zeros(&f, 64);
    refuse_bytes(&f, "not text");
    f.n = 0, put_gguf_start(&f, 3, 0, 1), put_str(&f, "k"), put_u32(&f, 13), put_zeros(&f, 64);
    refuse_bytes(&f, "key k has type 13");
    f.n = 0, put_gguf_start(&f, 3, 0, 1), put_str(&f, "k"), put_u32(&f, 9), put_u32(&f, 9);
    put_zeros(&f, 64);
    refuse_bytes(&f, "key k is an array of type 9");
    f.n = 0, put_gguf_start(&f, 3, 0, 1), put_str(&f, "k"), put_u32(&f, 9), put_u32(&f, 8);
    put_u64(&f, 1ull << 61), put_zeros(&f, 64);
    refuse_bytes(&f, "key k claims 2305843009213693952 elements");
    f.n = 0, put_gguf_start(&f, 3, 0, 2), put_key_u32(&f, "k", 1), put_key_u32(&f, "k", 2);
    refuse_bytes(&f, "key k is there twice");
    for (uint32_t a = 0; a < 49; a += 24) {
        f.n = 0, put_gguf_start(&f, 3, 0, 1), put_key_u32(&f, "general.alignment", a);
        refuse_bytes(&f, "general.alignment;not a power of two");
    }
}

/* A file of one tensor with these numbers and 256 bytes of data. */
static void one_tensor(struct filebytes *f, uint64_t columns, uint64_t rows, uint32_t type,
                       uint64_t offset)
{
    f->n = 0;
    put_gguf_start(f, 3, 1, 0);
    put_tensor(f, "blk.3.ffn_up.weight", columns, rows, type, offset);
    put_align(f, 32);
    put_zeros(f, 256);
}

static void test_gguf_tensors(void **state)
{
    (void)state;
    struct filebytes f;
    one_tensor(&f, 65536, 5000, 0, 0);
    refuse_bytes(&f, "bad.gguf: tensor blk.3.ffn_up.weight wants 1.3 GB past the end;truncated");
    one_tensor(&f, 64, 1, 0, 32);
    refuse_bytes(&f, "wants 32 bytes past the end");
    one_tensor(&f, 64, 1, 0, UINT64_MAX - 31);
    refuse_bytes(&f, "past the end");
    one_tensor(&f, 1ull << 40, 1ull << 40, 0, 0);
    refuse_bytes(&f, "more than 2^63 elements");
    one_tensor(&f, 1ull << 31, 1ull << 31, 0, 0);
    refuse_bytes(&f, "wants more than 2^64 bytes");
    one_tensor(&f, 1ull << 63, 1, 0, 0);
    refuse_bytes(&f, "dimension of 9223372036854775808");
    one_tensor(&f, 0, 1, 0, 0);
    refuse_bytes(&f, "dimension of 0");
    one_tensor(&f, 4, 4, 77, 0);
    refuse_bytes(&f, "type 77, which this program does not know");
    one_tensor(&f, 4, 4, 100, 0);       /* ours, not GGUF's */
    refuse_bytes(&f, "type 100");
    one_tensor(&f, 48, 1, 8, 0);
    refuse_bytes(&f, "rows of 48;q8_0's block of 32");
    one_tensor(&f, 4, 4, 0, 8);
    refuse_bytes(&f, "starts at 8, no multiple of the alignment 32");
    f.n = 0, put_gguf_start(&f, 3, 1, 0), put_str(&f, "t"), put_u32(&f, 5), put_zeros(&f, 128);
    refuse_bytes(&f, "tensor t has 5 dimensions");
    f.n = 0, put_gguf_start(&f, 3, 2, 0);
    put_tensor(&f, "t", 4, 1, 0, 0), put_tensor(&f, "t", 4, 1, 0, 32), put_zeros(&f, 128);
    refuse_bytes(&f, "tensor t is there twice");
    f.n = 0, put_gguf_start(&f, 3, 2, 0);
    put_tensor(&f, "t", 16, 1, 0, 0), put_tensor(&f, "u", 4, 1, 0, 32), put_zeros(&f, 128);
    refuse_bytes(&f, "tensors t and u overlap");
}

/* --- split sets */

static void write_part(const char *name, int no, int count, int total, const char *tensor)
{
    struct filebytes f = {.n = 0};
    put_gguf_start(&f, 3, 1, no == 0 ? 4 : 3);
    put_key_u16(&f, "split.no", (uint16_t)no);
    put_key_u16(&f, "split.count", (uint16_t)count);
    put_key_i32(&f, "split.tensors.count", total);
    if (no == 0)
        put_key_str(&f, "general.architecture", "llama");
    put_tensor(&f, tensor, 8, 1, 0, 0);
    put_align(&f, 32);
    for (int i = 0; i < 8; i++)
        put_f32(&f, (float)(10 * no + i));
    tmp_save(name, &f);
}

static void test_gguf_split(void **state)
{
    (void)state;
    struct tensorfile t;
    struct err err = {0};
    char first[160];
    strcpy(first, tmp_path("m-00001-of-00003.gguf"));
    write_part("m-00001-of-00003.gguf", 0, 3, 3, "a");
    write_part("m-00002-of-00003.gguf", 1, 3, 3, "b");
    refuse(first, ERR_IO, "m-00003-of-00003.gguf;No such file");
    write_part("m-00003-of-00003.gguf", 2, 3, 3, "c");
    assert_int_equal(tensorfile_open(&t, first, &err), ERR_OK);
    assert_int_equal(t.n_files, 3);
    assert_int_equal(t.n_tensors, 3);
    float x;
    assert_int_equal(tensorfile_read(&t, tensorfile_find(&t, "c"), 4, &x, 4, &err), ERR_OK);
    assert_true(x == 21.0f);
    tensorfile_close(&t);

    refuse(tmp_path("m-00002-of-00003.gguf"), ERR_INVAL, "part 2 of 3;first part");
    write_part("m-00002-of-00003.gguf", 2, 3, 3, "b");
    refuse(first, ERR_FORMAT, "says it is part 3 of 3, not 2 of 3");
    write_part("m-00002-of-00003.gguf", 1, 3, 3, "a");
    refuse(first, ERR_FORMAT, "tensor a is there twice");
    write_part("m-00001-of-00003.gguf", 0, 3, 4, "a");
    write_part("m-00002-of-00003.gguf", 1, 3, 4, "b");
    refuse(first, ERR_FORMAT, "hold 3 tensors, 4 were promised");
    write_part("renamed.gguf", 0, 3, 3, "a");
    refuse(tmp_path("renamed.gguf"), ERR_FORMAT, "must end in -00001-of-00003.gguf");
}

/* --- safetensors */

static void refuse_json(const char *json, size_t data, const char *words)
{
    struct filebytes f = {.n = 0};
    put_safetensors(&f, json, data);
    refuse(tmp_save("bad.safetensors", &f), ERR_FORMAT, words);
}

static void test_safetensors_is_read(void **state)
{
    (void)state;
    struct tensorfile t;
    struct err err = {0};
    struct filebytes f = {.n = 0};
    put_safetensors(&f, "{\"__metadata__\":{\"format\":\"pt\"},"
                    "\"b\":{\"dtype\":\"U8\",\"shape\":[2,3],\"data_offsets\":[4,10]},"
                    "\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                    "\"none\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[10,10]},"
                    "\"one\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[10,11]}}   ", 11);
    assert_int_equal(tensorfile_open(&t, tmp_save("x.safetensors", &f), &err), ERR_OK);
    assert_int_equal(t.n_tensors, 4);
    assert_string_equal(t.tensor[0].name, "a");
    const struct tensor_entry *e = tensorfile_find(&t, "b");
    uint8_t got[2];
    assert_int_equal(e->shape[0], 2);
    assert_int_equal(e->shape[1], 3);
    assert_int_equal(tensorfile_read(&t, e, 3, got, 2, &err), ERR_OK);
    assert_int_equal(got[0], 7);
    assert_int_equal(tensorfile_find(&t, "none")->bytes, 0);
    assert_int_equal(tensorfile_find(&t, "one")->n_elements, 1);
    assert_string_equal(tensorfile_meta(&t, "format")->str, "pt");
    tensorfile_close(&t);
}

static void test_safetensors_damage(void **state)
{
    (void)state;
    struct filebytes f = {.n = 0};
    put_u64(&f, 1ull << 40), put_zeros(&f, 16);
    refuse(tmp_save("bad.safetensors", &f), ERR_FORMAT, "neither GGUF nor safetensors;1.1 TB");
    refuse_json("{\"a\":", 0, "JSON header is wrong");
    refuse_json("[1]", 0, "not a JSON object");
    refuse_json("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "duplicate");
    refuse_json("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor a lacks dtype");
    refuse_json("{\"a\":3}", 1, "tensor a lacks dtype");
    refuse_json("{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype F4;BF16");
    refuse_json("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
                "more than 8 dimensions");
    refuse_json("{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "whole numbers");
    refuse_json("{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,1]}}", 1, "whole numbers");
    refuse_json("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "data_offsets");
    refuse_json("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", 2,
                "1 bytes of data, its shape wants 2");
    refuse_json("{\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}", 30,
                "tensor a wants 2 bytes past the end;truncated");
    refuse_json("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,8],\"data_offsets\":[0,32]}}",
                32, "2^63");
    refuse_json("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3,
                "tensors a and b overlap");
    refuse_json("{\"\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "name is empty");
}

/* --- folders */

static void write_shard(const char *name, const char *tensor)
{
    char json[200];
    struct filebytes f = {.n = 0};
    snprintf(json, sizeof json, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
             tensor);
    put_safetensors(&f, json, 2);
    tmp_save(name, &f);
}

static void write_index(const char *text)
{
    tmp_write("model.safetensors.index.json", text, strlen(text));
}

static void test_folder(void **state)
{
    (void)state;
    struct tensorfile t;
    struct err err = {0};
    refuse(tmp_dir, ERR_IO, "holds no .safetensors file;convert");
    write_shard("model-1.safetensors", "a");
    write_shard("other.safetensors", "b");
    char slash[80];
    snprintf(slash, sizeof slash, "%s//", tmp_dir);
    assert_int_equal(tensorfile_open(&t, slash, &err), ERR_OK);     /* all files */
    assert_int_equal(t.n_files, 2);
    tensorfile_close(&t);
    write_shard("model.safetensors", "c");
    assert_int_equal(tensorfile_open(&t, tmp_dir, &err), ERR_OK);   /* the usual name */
    assert_int_equal(t.n_files, 1);
    assert_non_null(tensorfile_find(&t, "c"));
    tensorfile_close(&t);
    write_index("{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"other.safetensors\"}}");
    assert_int_equal(tensorfile_open(&t, slash, &err), ERR_OK);     /* those of the index */
    assert_int_equal(t.n_files, 2);
    assert_int_equal(t.n_tensors, 2);
    uint64_t size, hash, again;
    tensorfile_digest(&t, &size, &hash);
    assert_true(size == t.file_bytes[0] + t.file_bytes[1]);
    tensorfile_close(&t);
    tmp_write("config.json", "{}", 2);
    assert_int_equal(tensorfile_open(&t, tmp_dir, &err), ERR_OK);
    tensorfile_digest(&t, &size, &again);
    assert_true(again != hash);     /* another description is another model */
    tensorfile_close(&t);
}

static void test_folder_damage(void **state)
{
    (void)state;
    write_shard("model-1.safetensors", "a");
    write_shard("other.safetensors", "b");
    write_index("{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"gone.safetensors\"}}");
    refuse(tmp_dir, ERR_IO, "index.json: names gone.safetensors, which is not in the folder");
    write_index("{\"weight_map\":{\"a\":\"../etc/passwd\"}}");
    refuse(tmp_dir, ERR_FORMAT, "no plain file name");
    write_index("{\"weight_map\":{\"a\":7}}");
    refuse(tmp_dir, ERR_FORMAT, "weight_map of a is not a file name");
    write_index("{\"weight_map\":{\"z\":\"model-1.safetensors\"}}");
    refuse(tmp_dir, ERR_FORMAT, "tensor z is not in model-1.safetensors");
    write_index("{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-1.safetensors\"}}");
    refuse(tmp_dir, ERR_FORMAT, "tensor b is not in model-1.safetensors");
    write_index("{}");
    refuse(tmp_dir, ERR_FORMAT, "has no weight_map");
    write_index("{");
    refuse(tmp_dir, ERR_FORMAT, "wrong JSON in line 1");
}

static void test_digest_tells_headers_apart(void **state)
{
    (void)state;
    struct tensorfile t;
    struct err err = {0};
    uint64_t size, hash[2];
    struct filebytes f = sound(3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tensorfile_open(&t, tmp_save("d.gguf", &f), &err), ERR_OK);
        tensorfile_digest(&t, &size, &hash[i]);
        assert_true(size == f.n);
        tensorfile_close(&t);
        f.b[64] ^= 1;       /* inside the value of the first key */
    }
    assert_true(hash[0] != hash[1]);
}

static int setup(void **state) { (void)state; tmp_make(); return 0; }
static int teardown(void **state) { (void)state; tmp_remove(); return 0; }

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_gguf_is_read), IN_FOLDER(test_gguf_truncated_anywhere),
        IN_FOLDER(test_gguf_start), IN_FOLDER(test_gguf_keys), IN_FOLDER(test_gguf_tensors),
        IN_FOLDER(test_gguf_split), IN_FOLDER(test_safetensors_is_read),
        IN_FOLDER(test_safetensors_damage), IN_FOLDER(test_folder), IN_FOLDER(test_folder_damage),
        IN_FOLDER(test_digest_tells_headers_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
