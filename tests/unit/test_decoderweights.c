/* Loading shards of made-up models: matrices larger than one read and one exchange round, every kind of
 * damage named on every rank, and nobody left waiting. */
#include "workers/models/decoderweights.h"

#include "tests/unit/filebytes.h"
#include "tests/unit/meshmaker.h"
#include "tests/unit/rankteam.h"
#include "tests/unit/tinymodel.h"
#include "tests/unit/tinyshard.h"

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct tinymodel small = {.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2,
                                       .head_dim = 16, .ffn = 96, .vocab = 100, .type = DT_F16};

struct team {
    int tp;
    int broken_rank;            /* whose disk fails in the tensor `broken` */
    const char *broken;
    bool check;
    struct decoder_weights w[RANKTEAM_MAX];
    struct err err[RANKTEAM_MAX];
    int rc[RANKTEAM_MAX], wrong[RANKTEAM_MAX];
    uint64_t read[RANKTEAM_MAX];
};

static int open_and_load(struct team *t, struct comm *comm, int rank, struct tensorfile *file,
                         struct model_config *c, struct err *err)
{
    TRY(tensorfile_open(file, tmp_dir, err));
    TRY(model_config_read(c, file, tmp_dir, err));
    /* The others read the whole file: only this rank looks past its end. */
    if (t->broken && rank == t->broken_rank)
        ((struct tensor_entry *)tensorfile_find(file, t->broken))->offset += 1 << 20;
    struct mesh m = mesh_make(rank, t->tp, 1, c->n_layers, NULL);
    file->bytes_read = 0;
    return decoder_weights_load(&t->w[rank], c, file, &m, comm, NULL, NULL, err);
}

static void load_rank(struct comm *comm, int rank, void *ctx)
{
    struct team *t = ctx;
    struct tensorfile file = {0};
    struct model_config c = {0};
    omp_set_num_threads(3);
    comm->deadline_us = 20000000;
    t->rc[rank] = open_and_load(t, comm, rank, &file, &c, &t->err[rank]);
    t->read[rank] = file.bytes_read;
    if (t->rc[rank] == ERR_OK && t->check)
        t->wrong[rank] = tinyshard_wrong(&t->w[rank], &c);
    model_config_free(&c);
    tensorfile_close(&file);
}

static void check_whole(const struct tinymodel *m, int tp)
{
    struct team t = {.tp = tp, .check = true};
    tinymodel_write(m, tmp_dir);
    assert_int_equal(rankteam_run(tp, load_rank, &t), 0);
    for (int i = 0; i < tp; i++) {
        if (t.rc[i] != ERR_OK)
            fail_msg("tp %d rank %d: %s", tp, i, t.err[i].msg);
        assert_int_equal(t.wrong[i], 0);
        assert_true(t.read[i] <= t.w[i].file_bytes + t.w[i].file_bytes / 20);
        decoder_weights_free(&t.w[i]);
    }
}

static void test_small_on_many_ranks(void **state)
{
    (void)state;
    struct tinymodel m = small;
    for (int tp = 1; tp <= 10; tp += tp < 5 ? 1 : 5)    /* more than there are units of heads, too */
        check_whole(&m, tp);
    m.tied = true;
    m.type = DT_BF16;
    m.vocab = 33;
    m.ffn = 40;
    check_whole(&m, 3);
}

static void test_larger_than_a_read_and_a_round(void **state)
{
    (void)state;
    struct tinymodel m = {.layers = 1, .dim = 128, .heads = 4, .kv_heads = 1, .head_dim = 32,
                          .ffn = 20000, .vocab = 9000, .type = DT_F32, .tied = true};
    check_whole(&m, 1);
    check_whole(&m, 2);
    check_whole(&m, 3);
}

static void test_text_part_of_a_larger_model(void **state)
{
    (void)state;
    static const char *const prefixes[][2] = {{"language_model.model.", "language_model."},
                                              {"model.language_model.", ""}, {"", ""}};
    for (int i = 0; i < 3; i++)
        for (int tied = 0; tied < 2; tied++) {
            struct tinymodel m = small;
            m.tied = tied;
            m.prefix = prefixes[i][0];
            m.head_prefix = prefixes[i][1];
            if (i == 1)
                m.extra = "vision_tower.patch_embed.weight";
            check_whole(&m, 2);
        }
}

static void refuse_at(const struct tinymodel *m, int tp, int rank, const char *broken,
                      const char *words)
{
    struct team t = {.tp = tp, .broken_rank = rank, .broken = broken};
    tinymodel_write(m, tmp_dir);
    assert_int_equal(rankteam_run(tp, load_rank, &t), 0);
    for (int i = 0; i < tp; i++) {
        char copy[200], *save;
        if (t.rc[i] != ERR_FORMAT)
            fail_msg("rank %d: code %d (%s)", i, t.rc[i], t.err[i].msg);
        snprintf(copy, sizeof copy, "%s", words);
        for (char *w = strtok_r(copy, ";", &save); w; w = strtok_r(NULL, ";", &save))
            if (!strstr(t.err[i].msg, w))
                fail_msg("rank %d: \"%s\" lacks \"%s\"", i, t.err[i].msg, w);
        assert_null(strchr(t.err[i].msg, '\n'));
        assert_null(t.w[i].base);
        assert_null(t.w[i].layer);
    }
}

static void refuse(const struct tinymodel *m, int tp, const char *words)
{
    refuse_at(m, tp, 0, NULL, words);
}

static void test_missing_and_misshapen(void **state)
{
    (void)state;
    struct tinymodel m = small;
    m.drop = "model.layers.1.mlp.up_proj.weight";
    refuse(&m, 2, "model.safetensors;model.layers.1.mlp.up_proj.weight is missing");
    m.drop = "lm_head.weight";
    refuse(&m, 2, "lm_head.weight is missing;tie_word_embeddings");
    m = small;
    m.reshape = "model.layers.0.self_attn.k_proj.weight";
    refuse(&m, 2, "k_proj.weight is [64, 32], expected [32, 64]");
    m.reshape = "model.norm.weight";
    refuse(&m, 2, "model.norm.weight is [1, 64], expected [64]");
    m = small;
    m.retype = "model.layers.0.mlp.gate_proj.weight";
    refuse(&m, 2, "gate_proj.weight;type i16");
    m = small;
    m.extra = "model.layers.0.self_attn.q_norm.weight";
    refuse(&m, 2, "q_norm.weight is no part of a llama decoder");
    m = small;
    m.extra = "model.layers.0.self_attn.q_proj.bias";
    refuse(&m, 2, "q_proj.bias is [4, 4], expected [64]");
}

/* Whoever meets it, all stop with the same line. */
static void test_nan(void **state)
{
    (void)state;
    struct tinymodel m = small;
    static const enum dtype types[] = {DT_F32, DT_F16, DT_BF16};
    for (int i = 0; i < 3; i++) {
        m.type = types[i];
        m.poison = "model.layers.1.self_attn.q_proj.weight";
        m.poison_at = 63 * 64 + 5;
        refuse(&m, 3, "q_proj.weight holds a NaN or infinity (row 63);damaged");
        m.poison = "model.layers.0.mlp.down_proj.weight";
        m.poison_at = 41 * 96 + 95;
        refuse(&m, 3, "down_proj.weight holds a NaN or infinity (row 41);damaged");
        m.poison = "model.layers.1.input_layernorm.weight";
        m.poison_at = 7;
        refuse(&m, 2, "input_layernorm.weight;(row 7);damaged");
        m.poison = "model.embed_tokens.weight";
        m.poison_at = 99 * 64;
        refuse(&m, 2, "embed_tokens.weight;(row 99);damaged");
    }
}

/* Only one rank's read fails: in a row cut, in an exchange, in what comes last. */
static void test_one_rank_cannot_read(void **state)
{
    (void)state;
    struct tinymodel m = small;
    refuse_at(&m, 3, 1, "model.layers.0.mlp.up_proj.weight", "model.safetensors");
    refuse_at(&m, 3, 2, "model.layers.0.mlp.down_proj.weight", "model.safetensors");
    refuse_at(&m, 3, 1, "model.layers.1.mlp.down_proj.weight", "model.safetensors");
    refuse_at(&m, 4, 3, "lm_head.weight", "model.safetensors");
}

static void test_vocab_range(void **state)
{
    (void)state;
    for (int tp = 1; tp <= 8; tp++)
        for (int vocab = 1; vocab < 400; vocab += 7) {
            int end = 0;
            for (int r = 0; r < tp; r++) {
                struct mesh m = mesh_make(0, tp, 1, 1, NULL);
                struct split_range v = decoder_vocab_range(vocab, &m, r);
                assert_int_equal(v.begin, end);
                assert_true(v.begin % LINEAR_PANEL == 0 || v.begin == vocab);
                end = v.end;
            }
            assert_int_equal(end, vocab);
        }
    struct model_config c = {.value_dim = 16};
    assert_int_equal(decoder_head_unit(&c), 2);
}

static int make_tmp(void **state)
{
    (void)state;
    tmp_make();
    return 0;
}
static int remove_tmp(void **state)
{
    (void)state;
    tmp_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_on_many_ranks),
        cmocka_unit_test(test_larger_than_a_read_and_a_round),
        cmocka_unit_test(test_text_part_of_a_larger_model),
        cmocka_unit_test(test_missing_and_misshapen),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_one_rank_cannot_read),
        cmocka_unit_test(test_vocab_range),
    };
    return cmocka_run_group_tests(tests, make_tmp, remove_tmp);
}
