/* Files that appear whole or not at all, and the two containers written into them and read back. */
#include "proto/safewriter.h"
#include "workers/weights/ggufwriter.h"
#include "workers/weights/gguf.h"

#include "tests/unit/filebytes.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <cmocka.h>

static int files_in_folder(void)
{
    int n = 0;
    DIR *d = opendir(tmp_dir);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_atomic_commit(void **state)
{
    (void)state;
    struct atomicfile f;
    struct err err = {0};
    struct stat st;
    char path[160], got[8] = {0};
    strcpy(path, tmp_write("a.bin", "old", 3));
    assert_int_equal(atomicfile_open(&f, path, &err), ERR_OK);
    assert_int_equal(atomicfile_write(&f, "new", 3, &err), ERR_OK);
    FILE *in = fopen(path, "rb");       /* until the end the old one stands */
    assert_int_equal(fread(got, 1, sizeof got, in), 3);
    assert_memory_equal(got, "old", 3);
    fclose(in);
    assert_int_equal(atomicfile_commit(&f, &err), ERR_OK);
    in = fopen(path, "rb");
    assert_int_equal(fread(got, 1, sizeof got, in), 3);
    assert_memory_equal(got, "new", 3);
    fclose(in);
    assert_int_equal(files_in_folder(), 1);
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
    atomicfile_abandon(&f);
}

/* A link leads on to where it led; what it led to is replaced. */
static void test_atomic_link(void **state)
{
    (void)state;
    struct atomicfile f;
    struct err err = {0};
    struct stat st;
    char path[160], link[160], got[8] = {0};
    strcpy(path, tmp_write("target.bin", "old", 3));
    strcpy(link, tmp_path("link.bin"));
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(atomicfile_open(&f, link, &err), ERR_OK);
    assert_int_equal(atomicfile_write(&f, "new", 3, &err), ERR_OK);
    assert_int_equal(atomicfile_commit(&f, &err), ERR_OK);
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    FILE *in = fopen(path, "rb");
    assert_int_equal(fread(got, 1, sizeof got, in), 3);
    assert_memory_equal(got, "new", 3);
    fclose(in);
    unlink(link);
    unlink(path);
}

static void test_atomic_abandon(void **state)
{
    (void)state;
    struct atomicfile f;
    struct err err = {0};
    assert_int_equal(atomicfile_open(&f, tmp_path("b.bin"), &err), ERR_OK);
    assert_int_equal(atomicfile_write(&f, "x", 1, &err), ERR_OK);
    atomicfile_abandon(&f);
    atomicfile_abandon(&f);
    assert_int_equal(files_in_folder(), 0);
}

static void test_atomic_large_pieces(void **state)
{
    (void)state;
    struct atomicfile f;
    struct err err = {0};
    struct stat st;
    static uint8_t big[1 << 20];
    assert_int_equal(atomicfile_open(&f, tmp_path("c.bin"), &err), ERR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(atomicfile_write(&f, "abc", 3, &err), ERR_OK);
        assert_int_equal(atomicfile_write(&f, big, sizeof big, &err), ERR_OK);
    }
    assert_int_equal(atomicfile_commit(&f, &err), ERR_OK);
    assert_int_equal(stat(tmp_path("c.bin"), &st), 0);
    assert_int_equal(st.st_size, 3 * (3 + sizeof big));
}

static void must_fail(int rc, const struct err *err, const char *words)
{
    assert_int_equal(rc, ERR_OUTPUT);
    if (strstr(err->msg, words) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", err->msg, words);
}

static void test_atomic_errors(void **state)
{
    (void)state;
    struct atomicfile f;
    struct err err = {0};
    must_fail(atomicfile_open(&f, tmp_path("no/such/folder"), &err), &err, "folder: cannot be created");
    err = (struct err){0};
    must_fail(atomicfile_open(&f, tmp_dir, &err), &err, "is a folder");
    err = (struct err){0};
    assert_int_equal(atomicfile_open(&f, "/dev/full", &err), ERR_OK);       /* a device: directly */
    assert_int_equal(atomicfile_write(&f, "x", 1, &err), ERR_OK);
    must_fail(atomicfile_commit(&f, &err), &err, "/dev/full: cannot be written: No space left");
    assert_int_equal(files_in_folder(), 0);
}

/* A disk that fills up in the middle, played by a limit on file sizes. */
static void test_atomic_disk_full(void **state)
{
    (void)state;
    struct atomicfile f;
    struct err err = {0};
    static uint8_t big[1 << 20];
    struct rlimit old, small = {1 << 19, 0};
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(atomicfile_open(&f, tmp_path("d.bin"), &err), ERR_OK);
    int rc = atomicfile_write(&f, big, sizeof big, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    must_fail(rc, &err, "d.bin: cannot be written");
    atomicfile_abandon(&f);
    assert_int_equal(files_in_folder(), 0);
}

/* --- containers */

static void test_safetensors(void **state)
{
    (void)state;
    struct safewriter w;
    struct tensorfile t;
    struct err err = {0};
    const float x[6] = {0, 1, 2, 3, 4, 5};
    const int64_t id = 7;
    assert_int_equal(safewriter_open(&w, tmp_path("x.safetensors"), &err), ERR_OK);
    safewriter_meta(&w, "format", "a \"quoted\"\n\\ line", &err);
    safewriter_meta(&w, "step", "3", &err);
    safewriter_tensor(&w, "layers.0.weight", "F32", 2, (int64_t[]){2, 3}, sizeof x, &err);
    safewriter_tensor(&w, "empty", "F16", 2, (int64_t[]){0, 5}, 0, &err);
    safewriter_tensor(&w, "id", "I64", 0, NULL, 8, &err);
    assert_int_equal(safewriter_begin(&w, &err), ERR_OK);
    assert_int_equal(safewriter_write(&w, x, 10, &err), ERR_OK);
    assert_int_equal(safewriter_write(&w, (const char *)x + 10, sizeof x - 10, &err), ERR_OK);
    assert_int_equal(safewriter_write(&w, &id, 8, &err), ERR_OK);
    assert_int_equal(safewriter_close(&w, &err), ERR_OK);
    safewriter_abandon(&w);

    if (tensorfile_open(&t, tmp_path("x.safetensors"), &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(tensorfile_meta(&t, "format")->str, "a \"quoted\"\n\\ line");
    assert_string_equal(tensorfile_meta(&t, "step")->str, "3");
    const struct tensor_entry *e = tensorfile_find(&t, "layers.0.weight");
    float got[6];
    assert_int_equal(e->shape[1], 3);
    assert_int_equal(e->offset % 8, 0);
    assert_int_equal(tensorfile_read(&t, e, 0, got, sizeof got, &err), ERR_OK);
    assert_memory_equal(got, x, sizeof x);
    int64_t back;
    assert_int_equal(tensorfile_read(&t, tensorfile_find(&t, "id"), 0, &back, 8, &err), ERR_OK);
    assert_int_equal(back, 7);
    assert_int_equal(tensorfile_find(&t, "empty")->n_elements, 0);
    tensorfile_close(&t);
}

/* Metadata and no tensor, tensors and no metadata, and neither. */
static void test_safetensors_corners(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct safewriter w;
        struct tensorfile t;
        struct err err = {0};
        assert_int_equal(safewriter_open(&w, tmp_path("y.safetensors"), &err), ERR_OK);
        if (i & 1)
            safewriter_meta(&w, "k", "v", &err);
        if (i & 2)
            safewriter_tensor(&w, "t", "U8", 1, (int64_t[]){1}, 1, &err);
        assert_int_equal(safewriter_begin(&w, &err), ERR_OK);
        if (i & 2)
            assert_int_equal(safewriter_write(&w, "x", 1, &err), ERR_OK);
        assert_int_equal(safewriter_close(&w, &err), ERR_OK);
        if (tensorfile_open(&t, tmp_path("y.safetensors"), &err) != ERR_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(t.n_tensors, i >> 1);
        assert_int_equal(t.n_meta, i & 1);
        tensorfile_close(&t);
    }
}

static void write_gguf(const char *path)
{
    struct ggufwriter w;
    struct err err = {0};
    const int32_t types[3] = {1, -3, 6};
    const uint8_t block[34] = {1, 60};
    const float x[4] = {1, 2, 3, 4};
    assert_int_equal(ggufwriter_open(&w, path, &err), ERR_OK);
    ggufwriter_string(&w, "general.architecture", "llama", 5);
    ggufwriter_u32(&w, "an.u32", 4000000000u);
    ggufwriter_f32(&w, "an.f32", 0.25f);
    ggufwriter_bool(&w, "a.bool", true);
    ggufwriter_array(&w, "types", GGUF_I32, types, 3);
    ggufwriter_strings_begin(&w, "tokens", 2);
    ggufwriter_strings_add(&w, "a", 1);
    ggufwriter_strings_add(&w, "", 0);
    ggufwriter_tensor(&w, "x", DT_F32, 2, (int64_t[]){1, 4});
    ggufwriter_tensor(&w, "q", DT_Q8_0, 2, (int64_t[]){1, 32});
    assert_int_equal(ggufwriter_begin(&w, &err), ERR_OK);
    assert_int_equal(ggufwriter_write(&w, x, 4, &err), ERR_OK);
    assert_int_equal(ggufwriter_write(&w, x + 1, 12, &err), ERR_OK);
    assert_int_equal(ggufwriter_write(&w, block, sizeof block, &err), ERR_OK);
    assert_int_equal(ggufwriter_close(&w, &err), ERR_OK);
    ggufwriter_abandon(&w);
}

static void test_gguf(void **state)
{
    (void)state;
    struct tensorfile t;
    struct err err = {0};
    write_gguf(tmp_path("m.gguf"));
    if (tensorfile_open(&t, tmp_path("m.gguf"), &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(t.n_meta, 6);
    assert_true(tensorfile_meta(&t, "an.u32")->i == 4000000000);
    assert_true(tensorfile_meta(&t, "an.f32")->f == 0.25);
    assert_int_equal(((const int32_t *)tensorfile_meta(&t, "types")->array)[1], -3);
    assert_string_equal(tensorfile_meta(&t, "tokens")->strings[0], "a");
    float x[4];
    uint8_t q[34];
    assert_int_equal(tensorfile_read(&t, tensorfile_find(&t, "x"), 0, x, sizeof x, &err), ERR_OK);
    assert_true(x[0] == 1 && x[3] == 4);
    assert_int_equal(tensorfile_read(&t, tensorfile_find(&t, "q"), 0, q, sizeof q, &err), ERR_OK);
    assert_int_equal(q[1], 60);
    assert_int_equal(t.file_bytes[0] % 32, 0);
    tensorfile_close(&t);
}

/* Every kind of value goes through a copy unchanged: the copy of a file is the file. */
static void test_gguf_copy(void **state)
{
    (void)state;
    struct tensorfile t;
    struct ggufwriter w;
    struct err err = {0};
    struct filebytes f = {.n = 0};
    uint64_t wide[] = {(uint64_t)-7, 1ull << 50, 0x400921fb54442d18u};
    put_gguf_start(&f, 3, 0, 12);
    for (uint32_t type = 0; type < 13; type++) {
        char key[8];
        uint64_t v = type == GGUF_F64 ? wide[2] : type == GGUF_U64 ? wide[1] : wide[0];
        float third = 1.0f / 3;
        snprintf(key, sizeof key, "k%u", (unsigned)type);
        if (type == GGUF_ARRAY)
            continue;
        put_str(&f, key);
        put_u32(&f, type);
        if (type == GGUF_STRING)
            put_str(&f, "text");
        else if (type == GGUF_F32)
            put_f32(&f, third);
        else if (type == GGUF_BOOL)
            put(&f, "\1", 1);
        else
            put(&f, &v, (size_t)gguf_type_bytes((int)type));
    }
    tmp_save("from.gguf", &f);
    if (tensorfile_open(&t, tmp_path("from.gguf"), &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(ggufwriter_open(&w, tmp_path("to.gguf"), &err), ERR_OK);
    for (int i = 0; i < t.n_meta; i++)
        ggufwriter_copy(&w, t.meta[i].key, &t.meta[i].value);
    tensorfile_close(&t);
    assert_int_equal(ggufwriter_begin(&w, &err), ERR_OK);
    assert_int_equal(ggufwriter_close(&w, &err), ERR_OK);
    uint8_t got[sizeof f.b];
    FILE *in = fopen(tmp_path("to.gguf"), "rb");
    assert_true(fread(got, 1, sizeof got, in) >= f.n);
    fclose(in);
    assert_memory_equal(got, f.b, f.n);
}

static int setup(void **state) { (void)state; tmp_make(); return 0; }
static int teardown(void **state) { (void)state; tmp_remove(); return 0; }

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_atomic_commit), IN_FOLDER(test_atomic_link), IN_FOLDER(test_atomic_abandon),
        IN_FOLDER(test_atomic_large_pieces), IN_FOLDER(test_atomic_errors),
        IN_FOLDER(test_atomic_disk_full), IN_FOLDER(test_safetensors),
        IN_FOLDER(test_safetensors_corners), IN_FOLDER(test_gguf), IN_FOLDER(test_gguf_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
