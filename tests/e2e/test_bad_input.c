/* test_bad_input.c - what the outside world can get wrong, met by two ranks: each case ends on both of
 * them within ten seconds, with one line that says what is wrong and the right exit code. */
#include "tests/e2e/e2e.h"
#include "tests/e2e/breakgguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_S = 10, INPUT = 3, USAGE = 2, NOFIT = 4, OUTPUT = 6 };

/* 5 layers of 8 heads in F32: numbers in it can be found and broken. */
static const char *sound(void)
{
    return e2e_model("sound.gguf", "--preset even --type f32 --layers 2 --ffn 256");
}

/* Two ranks generate from this model and must fail like this. */
static void expect_failure(const char *model, int status, const char *what)
{
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' -p 'Once upon a time' -n 4 --temp 0", model);
    e2e_expect_error(&r, status, what);
    e2e_run_free(&r);
}

/* The other direction: the file that the cases start from works. */
static void sound_model_works(void **state)
{
    struct e2e_run r;
    e2e_ranks(&r, 2, 30, "generate -m '%s' -p 'Once upon a time' -n 4 --temp 0", sound());
    e2e_expect(&r, 0);
    assert_int_equal(r.rank_status[0], 0);
    assert_int_equal(r.rank_status[1], 0);
    assert_memory_equal(r.out, "Once upon a time", strlen("Once upon a time"));
    e2e_run_free(&r);
}

static void missing_file(void **state) { expect_failure("nowhere/model.gguf", INPUT, "nowhere/model.gguf"); }

static void truncated_gguf(void **state)
{
    struct breakgguf b = breakgguf_open(sound());
    size_t whole = b.n;
    b.n = whole * 3 / 4;                /* in the weights */
    expect_failure(breakgguf_save(&b), INPUT, "truncated");
    b.n = 700;                          /* in the metadata */
    expect_failure(breakgguf_save(&b), INPUT, "broken.gguf");
    b.n = 3;                            /* in the magic number */
    expect_failure(breakgguf_save(&b), INPUT, "broken.gguf");
    breakgguf_free(&b);
}

static void absurd_counts(void **state)
{
    struct breakgguf b = breakgguf_open(sound());
    static const size_t places[] = {8, 16};     /* tensors, keys */
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint64_t kept, absurd = UINT64_C(1) << 60;
        memcpy(&kept, b.bytes + places[i], 8);
        memcpy(b.bytes + places[i], &absurd, 8);
        expect_failure(breakgguf_save(&b), INPUT, "broken.gguf");
        memcpy(b.bytes + places[i], &kept, 8);
    }
    uint64_t absurd = UINT64_C(1) << 62;        /* the length of the first key's name */
    memcpy(b.bytes + 24, &absurd, 8);
    expect_failure(breakgguf_save(&b), INPUT, "broken.gguf");
    breakgguf_free(&b);
}

static void unknown_architecture(void **state)
{
    struct breakgguf b = breakgguf_open(sound());
    breakgguf_replace_value(&b, "general.architecture", "llama", "lemur");
    expect_failure(breakgguf_save(&b), INPUT, "lemur");
    breakgguf_free(&b);
}

static void unknown_tensor_type(void **state)
{
    struct breakgguf b = breakgguf_open(sound());
    breakgguf_tensor(&b, "blk.0.attn_q.weight")->type[0] = 77;
    expect_failure(breakgguf_save(&b), INPUT, "blk.0.attn_q.weight");
    breakgguf_free(&b);
}

static void missing_tensor(void **state)
{
    struct breakgguf b = breakgguf_open(sound());
    breakgguf_tensor(&b, "blk.1.ffn_up.weight")->name[8] = 'X';
    expect_failure(breakgguf_save(&b), INPUT, "blk.1.ffn_up.weight");
    breakgguf_free(&b);
}

static void wrong_shape(void **state)
{
    struct breakgguf b = breakgguf_open(sound());
    struct breakgguf_tensor *t = breakgguf_tensor(&b, "blk.1.attn_k.weight");
    uint8_t kept[8];
    memcpy(kept, t->dim[0], 8);         /* the same number of bytes, the other way round */
    memcpy(t->dim[0], t->dim[1], 8);
    memcpy(t->dim[1], kept, 8);
    expect_failure(breakgguf_save(&b), INPUT, "blk.1.attn_k.weight");
    breakgguf_free(&b);
}

/* Rows that are no whole number of a block type's blocks, and data that the file does not have. */
static void rare_types_of_wrong_size(void **state)
{
    enum { Q2_K = 10, IQ2_XXS = 16, IQ4_NL = 20, IQ4_XS = 23, MXFP4 = 39 };
    static const uint8_t types[] = {Q2_K, IQ2_XXS, IQ4_NL, IQ4_XS, MXFP4};
    for (size_t i = 0; i < sizeof types; i++) {
        struct breakgguf b = breakgguf_open(sound());
        struct breakgguf_tensor *t = breakgguf_tensor(&b, "blk.0.attn_q.weight");
        t->type[0] = types[i];
        *t->dim[0] += 16;               /* a multiple of no block */
        expect_failure(breakgguf_save(&b), INPUT, "blk.0.attn_q.weight");
        *t->dim[0] -= 16;
        t->dim[1][2] = 0x7f;            /* of a size that the file does not have */
        expect_failure(breakgguf_save(&b), INPUT, "blk.0.attn_q.weight");
        breakgguf_free(&b);
    }
}

/* A folder whose index names two parts of which one is not there. */
static void missing_shard(void **state)
{
    char dir[256], path[512];
    snprintf(dir, sizeof dir, "%s/folder", e2e_dir());
    mkdir(dir, 0700);
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 32, "
        "\"intermediate_size\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": 1, "
        "\"num_key_value_heads\": 1, \"vocab_size\": 4, \"max_position_embeddings\": 64, "
        "\"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0}";
    static const char index[] =
        "{\"metadata\": {}, \"weight_map\": {\"model.norm.weight\": \"model-00001-of-00002.safetensors\", "
        "\"lm_head.weight\": \"model-00002-of-00002.safetensors\"}}";
    char part[512] = {0};
    static const char header[] =
        "{\"model.norm.weight\": {\"dtype\": \"F32\", \"shape\": [32], \"data_offsets\": [0, 128]}}";
    uint64_t n = sizeof header - 1;
    memcpy(part, &n, 8);
    memcpy(part + 8, header, n);
    snprintf(path, sizeof path, "%s/config.json", dir);
    e2e_write_file(path, config, sizeof config - 1);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    e2e_write_file(path, index, sizeof index - 1);
    snprintf(path, sizeof path, "%s/model-00001-of-00002.safetensors", dir);
    e2e_write_file(path, part, 8 + n + 128);
    expect_failure(dir, INPUT, "model-00002-of-00002.safetensors");
}

static void nan_weights(void **state)
{
    struct breakgguf b = breakgguf_open(sound());
    static const char *const names[] = {"blk.1.attn_q.weight", "blk.0.ffn_norm.weight",
                                        "token_embd.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint8_t *number = b.bytes + breakgguf_data(&b, names[i]) + 4 * 77, kept[4];
        float nan = __builtin_nanf("");
        memcpy(kept, number, 4);
        memcpy(number, &nan, 4);
        expect_failure(breakgguf_save(&b), INPUT, names[i]);
        memcpy(number, kept, 4);
    }
    breakgguf_free(&b);
    /* In a quantised tensor it is the scale of a block. */
    b = breakgguf_open(e2e_model("q8.gguf", "--preset even --type q8_0 --layers 2 --ffn 256"));
    memcpy(b.bytes + breakgguf_data(&b, "blk.0.ffn_down.weight") + 34, "\x01\x7e", 2);
    expect_failure(breakgguf_save(&b), INPUT, "blk.0.ffn_down.weight");
    breakgguf_free(&b);
}

static void prompt_longer_than_context(void **state)
{
    char ids[4096], *p = ids;
    for (int i = 0; i < 513; i++)       /* the model's context is 512 */
        p += sprintf(p, "%s%d", i ? "," : "", 2 + i % 400);
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' --prompt-ids %s -n 4", sound(), ids);
    e2e_expect_error(&r, INPUT, "context");
    e2e_run_free(&r);
}

static void more_ranks_than_heads(void **state)
{
    const char *one_head = e2e_model(
        "one.gguf", "--preset even --layers 1 --heads 1 --kv-heads 1 --head-dim 256 --ffn 256");
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' --tp 2 -p Hello -n 4", one_head);
    e2e_expect_error(&r, USAGE, "head");
    e2e_run_free(&r);
    /* A layout that does not use the ranks there are. */
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' --tp 2 --pp 2 -p Hello -n 4", sound());
    e2e_expect_error(&r, USAGE, "2");
    e2e_run_free(&r);
}

/* A model of half a trillion parameters, of which the file holds only the header. */
static void does_not_fit(void **state)
{
    const char *huge = e2e_model("huge.gguf",
                                 "--preset tinyllama --sparse --type f16 --layers 110 --dim 16384 "
                                 "--heads 128 --kv-heads 128 --head-dim 128 --ffn 65536");
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' -p Hello -n 4", huge);
    e2e_expect_error(&r, NOFIT, "GiB");
    e2e_run_free(&r);
}

static void invalid_utf8_prompt(void **state)
{
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' -p \"$(printf 'abc\\377def')\" -n 4", sound());
    e2e_expect_error(&r, INPUT, "UTF-8");
    e2e_run_free(&r);
    /* A surrogate, and an overlong slash. */
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' -p \"$(printf '\\355\\240\\200')\" -n 4", sound());
    e2e_expect_error(&r, INPUT, "UTF-8");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' -p \"$(printf '\\300\\257')\" -n 4", sound());
    e2e_expect_error(&r, INPUT, "UTF-8");
    e2e_run_free(&r);
}

static void disk_full(void **state)
{
    char prompts[256];
    static const char line[] = "{\"id\": 1, \"prompt\": \"Hello\", \"n\": 4, \"seed\": 1}\n";
    snprintf(prompts, sizeof prompts, "%s/one.jsonl", e2e_dir());
    e2e_write_file(prompts, line, sizeof line - 1);
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' --prompts '%s' --out /dev/full", sound(), prompts);
    e2e_expect_error(&r, OUTPUT, "/dev/full");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, LIMIT_S, "logits -m '%s' --ids 5,9,2 --out /dev/full", sound());
    e2e_expect_error(&r, OUTPUT, "/dev/full");
    e2e_run_free(&r);
    /* stdout: mpirun stands between a rank and the disk, so this one has no mpirun. */
    e2e_shell(&r, LIMIT_S, "%s generate -m '%s' -p Hello -n 4 > /dev/full", E2E_MUSTER, sound());
    e2e_expect(&r, OUTPUT);
    assert_int_equal(e2e_count_errors(r.err, NULL), 1);
    e2e_run_free(&r);
}

/* A real file system that fills up in the middle: no half-written file stays behind. */
static void disk_fills_up(void **state)
{
    char small[256], out[512];
    snprintf(small, sizeof small, "%s/small", e2e_dir());
    mkdir(small, 0700);
    if (geteuid() != 0 || mount("tmpfs", small, "tmpfs", 0, "size=64k") != 0)
        skip();
    snprintf(out, sizeof out, "%s/logits.safetensors", small);
    char ids[4096], *p = ids;
    for (int i = 0; i < 200; i++)       /* 200 rows of 512 logits: 400 kB */
        p += sprintf(p, "%s%d", i ? "," : "", 2 + i);
    struct e2e_run logits, quantize;
    e2e_ranks(&logits, 2, LIMIT_S, "logits -m '%s' --ids %s --out '%s'", sound(), ids, out);
    bool left = access(out, F_OK) == 0;
    e2e_ranks(&quantize, 2, LIMIT_S, "quantize -m '%s' --type q8_0 --out '%s/q.gguf'", sound(), small);
    e2e_shell(&(struct e2e_run){0}, 5, "ls -la '%s'; true", small);
    snprintf(out, sizeof out, "%s/q.gguf", small);
    bool left_too = access(out, F_OK) == 0;
    umount(small);
    e2e_expect_error(&logits, OUTPUT, "logits.safetensors");
    e2e_expect_error(&quantize, OUTPUT, "q.gguf");
    assert_false(left);
    assert_false(left_too);
    e2e_run_free(&logits);
    e2e_run_free(&quantize);
}

static void bad_usage(void **state)
{
    static const char *const args[][2] = {
        {"generate --no-such-flag", "no-such-flag"}, {"generate -n minus", "minus"},
        {"generate --tp 0", "--tp"}, {"generate --temp -1 -p x", "--temp"}, {"frobnicate", "frobnicate"},
        {"logits", "--ids"}, {"quantize", "-m"}};
    for (size_t i = 0; i < sizeof args / sizeof args[0]; i++) {
        struct e2e_run r;
        e2e_ranks(&r, 2, LIMIT_S, "%s", args[i][0]);
        e2e_expect_error(&r, USAGE, args[i][1]);
        e2e_run_free(&r);
    }
}

static void bad_jsonl(void **state)
{
    static const struct { const char *line, *what; } cases[] = {
        {"{\"id\": 1, \"prompt\": ", "line 2"}, {"{\"id\": 1}", "line 2"},
        {"{\"id\": 1, \"prompt\": 7}", "line 2"}, {"{\"id\": 1, \"prompt_ids\": [5, 100000]}", "line 2"},
        {"{\"id\": 1, \"prompt\": \"x\", \"top_p\": 7}", "top_p"}, {"[1]", "line 2"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[256], text[512];
        snprintf(path, sizeof path, "%s/bad.jsonl", e2e_dir());
        snprintf(text, sizeof text, "{\"id\": 0, \"prompt\": \"fine\", \"n\": 1}\n%s\n", cases[i].line);
        e2e_write_file(path, text, strlen(text));
        struct e2e_run r;
        e2e_ranks(&r, 2, LIMIT_S, "generate -m '%s' --prompts '%s' -n 2", sound(), path);
        e2e_expect_error(&r, INPUT, cases[i].what);
        e2e_run_free(&r);
    }
}

/* mpirun itself must hand the code on, too. */
static void mpirun_passes_the_code_on(void **state)
{
    struct e2e_run r;
    e2e_muster(&r, 2, LIMIT_S, "generate -m nowhere.gguf -p x");
    e2e_expect(&r, INPUT);
    assert_int_equal(e2e_count_errors(r.err, NULL), 1);
    e2e_run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_model_works),
        cmocka_unit_test(missing_file),
        cmocka_unit_test(truncated_gguf),
        cmocka_unit_test(absurd_counts),
        cmocka_unit_test(unknown_architecture),
        cmocka_unit_test(unknown_tensor_type),
        cmocka_unit_test(missing_tensor),
        cmocka_unit_test(wrong_shape),
        cmocka_unit_test(rare_types_of_wrong_size),
        cmocka_unit_test(missing_shard),
        cmocka_unit_test(nan_weights),
        cmocka_unit_test(prompt_longer_than_context),
        cmocka_unit_test(more_ranks_than_heads),
        cmocka_unit_test(does_not_fit),
        cmocka_unit_test(invalid_utf8_prompt),
        cmocka_unit_test(disk_full),
        cmocka_unit_test(disk_fills_up),
        cmocka_unit_test(bad_usage),
        cmocka_unit_test(bad_jsonl),
        cmocka_unit_test(mpirun_passes_the_code_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
