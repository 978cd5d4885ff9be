/* Shards of every fixture model: whatever the layout, the ranks' packed rows and columns are the file's
 * numbers, bit for bit; a rank reads no more than its shard; sizes are what was promised. */
#include "workers/models/decoderweights.h"

#include "tests/unit/fixturemodels.h"
#include "tests/unit/meshmaker.h"
#include "tests/unit/rankteam.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* --- what the file says, read plainly: names and bundles spelled out here, not taken from the table */

enum kind { EMBED, HEAD, Q, K, V, O, GATE, UP, DOWN, ROUTER, X_GATE, X_UP, X_DOWN };
struct matrix { float *v; int rows, cols; };

static const struct tensor_entry *find(const struct tensorfile *t, const char *fmt, int layer,
                                       int expert)
{
    char name[200];
    snprintf(name, sizeof name, fmt, layer, expert);
    return tensorfile_find(t, name);
}

static float *read_all(struct tensorfile *t, const struct tensor_entry *e)
{
    struct err err = {0};
    uint8_t *raw = malloc(e->bytes);
    float *v = malloc((size_t)e->n_elements * sizeof *v);
    assert_int_equal(tensorfile_read(t, e, 0, raw, e->bytes, &err), ERR_OK);
    dtype_info(e->type)->dequantise(v, raw, e->n_elements);
    free(raw);
    return v;
}

/* Rows [row, row + rows) of a plain tensor whose last dimension is cols. */
static struct matrix slice(struct tensorfile *t, const struct tensor_entry *e, int row, int rows)
{
    struct matrix m = {.rows = rows, .cols = (int)e->shape[e->n_dims - 1]};
    float *all = read_all(t, e);
    size_t n = (size_t)rows * (size_t)m.cols;
    m.v = malloc(n * sizeof *m.v);
    memcpy(m.v, all + (size_t)row * (size_t)m.cols, n * sizeof *m.v);
    free(all);
    return m;
}

/* One expert of codes [E, rows, groups, 16] and scales, rows r * lanes + lane. */
static struct matrix split_mxfp4(struct tensorfile *t, const struct tensor_entry *codes,
                                 const struct tensor_entry *scales, int expert, int lanes, int lane)
{
    static const float value[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3,
                                    -4, -6};
    struct err err = {0};
    int64_t all_rows = codes->shape[1], groups = codes->shape[2];
    struct matrix m = {.rows = (int)(all_rows / lanes), .cols = (int)(groups * 32)};
    uint8_t *c = malloc(codes->bytes), *s = malloc(scales->bytes);
    assert_int_equal(tensorfile_read(t, codes, 0, c, codes->bytes, &err), ERR_OK);
    assert_int_equal(tensorfile_read(t, scales, 0, s, scales->bytes, &err), ERR_OK);
    m.v = malloc((size_t)m.rows * (size_t)m.cols * sizeof *m.v);
    for (int r = 0; r < m.rows; r++)
        for (int k = 0; k < m.cols; k++) {
            int64_t group = ((int64_t)expert * all_rows + (int64_t)r * lanes + lane) * groups + k / 32;
            int byte = c[group * 16 + k % 32 / 2], nibble = k % 2 ? byte >> 4 : byte & 15;
            m.v[(size_t)r * (size_t)m.cols + (size_t)k] = ldexpf(value[nibble], s[group] - 127);
        }
    free(c);
    free(s);
    return m;
}

/* One expert of [E, in, out * lanes]. */
static struct matrix turned(struct tensorfile *t, const struct tensor_entry *e, int expert, int lanes,
                            int lane)
{
    struct matrix m = {.rows = (int)e->shape[2] / lanes, .cols = (int)e->shape[1]};
    float *all = read_all(t, e);
    m.v = malloc((size_t)m.rows * (size_t)m.cols * sizeof *m.v);
    for (int r = 0; r < m.rows; r++)
        for (int k = 0; k < m.cols; k++)
            m.v[(size_t)r * (size_t)m.cols + (size_t)k] =
                all[((int64_t)expert * e->shape[1] + k) * e->shape[2] + r * lanes + lane];
    free(all);
    return m;
}

static struct matrix expert_matrix(struct tensorfile *t, enum kind kind, int layer, int expert)
{
    static const char *const stacked[] = {"blk.%d.ffn_gate_exps.weight", "blk.%d.ffn_up_exps.weight",
                                          "blk.%d.ffn_down_exps.weight"};
    static const char *const one[][3] = {
        {"model.layers.%d.mlp.experts.%d.gate_proj.weight",
         "model.layers.%d.block_sparse_moe.experts.%d.w1.weight", "blk.%d.ffn_gate.%d.weight"},
        {"model.layers.%d.mlp.experts.%d.up_proj.weight",
         "model.layers.%d.block_sparse_moe.experts.%d.w3.weight", "blk.%d.ffn_up.%d.weight"},
        {"model.layers.%d.mlp.experts.%d.down_proj.weight",
         "model.layers.%d.block_sparse_moe.experts.%d.w2.weight", "blk.%d.ffn_down.%d.weight"}};
    int i = kind - X_GATE, lane = kind == X_UP, lanes = kind == X_DOWN ? 1 : 2;
    const struct tensor_entry *e = find(t, stacked[i], layer, 0);
    if (e)
        return slice(t, e, expert * (int)e->shape[1], (int)e->shape[1]);
    for (int j = 0; j < 3; j++)
        if ((e = find(t, one[i][j], layer, expert)))
            return slice(t, e, 0, (int)e->shape[0]);
    const char *base = kind == X_DOWN ? "model.layers.%d.mlp.experts.down_proj"
                                      : "model.layers.%d.mlp.experts.gate_up_proj";
    char codes[100], scales[100];
    snprintf(codes, sizeof codes, "%s_blocks", base);
    snprintf(scales, sizeof scales, "%s_scales", base);
    if ((e = find(t, base, layer, 0)))
        return turned(t, e, expert, lanes, lane);
    return split_mxfp4(t, find(t, codes, layer, 0), find(t, scales, layer, 0), expert, lanes, lane);
}

static struct matrix expected(struct tensorfile *t, const struct model_config *c, enum kind kind,
                              int layer, int expert)
{
    static const char *const names[][2] = {
        [EMBED] = {"token_embd.weight", "model.embed_tokens.weight"},
        [HEAD] = {"output.weight", "lm_head.weight"},
        [Q] = {"blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight"},
        [K] = {"blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight"},
        [V] = {"blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight"},
        [O] = {"blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight"},
        [GATE] = {"blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight"},
        [UP] = {"blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight"},
        [DOWN] = {"blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight"},
    };
    static const char *const router[] = {
        "blk.%d.ffn_gate_inp.weight", "model.layers.%d.mlp.gate.weight",
        "model.layers.%d.mlp.router.weight", "model.layers.%d.block_sparse_moe.gate.weight"};
    const struct tensor_entry *e = NULL;
    if (kind >= X_GATE)
        return expert_matrix(t, kind, layer, expert);
    for (int i = 0; kind == ROUTER && i < 4 && !e; i++)
        e = find(t, router[i], layer, 0);
    for (int i = 0; kind != ROUTER && i < 2 && !e; i++)
        e = find(t, names[kind][i], layer, 0);
    int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    bool bundled = e && kind == UP && e->shape[0] == 2 * c->ffn_dim;
    if (e && !bundled)
        return slice(t, e, 0, (int)e->shape[0]);
    e = find(t, kind <= V ? "blk.%d.attn_qkv.weight" : "blk.%d.ffn_up.weight", layer, 0);
    if (!e)
        e = find(t, kind <= V ? "model.layers.%d.self_attn.qkv_proj.weight"
                              : "model.layers.%d.mlp.gate_up_proj.weight", layer, 0);
    assert_non_null(e);
    int row = kind == K ? q : kind == V ? q + kv : kind == UP ? c->ffn_dim : 0;
    return slice(t, e, row, kind == Q ? q : kind <= V ? kv : c->ffn_dim);
}

/* --- loading */

struct team {
    const char *path;
    int tp, pp;
    const int *ends;
    struct mesh mesh[RANKTEAM_MAX];
    struct tensorfile file[RANKTEAM_MAX];
    struct model_config config[RANKTEAM_MAX];
    struct decoder_weights w[RANKTEAM_MAX];
    struct err err[RANKTEAM_MAX];
    int rc[RANKTEAM_MAX];
    uint64_t progress[RANKTEAM_MAX];
};

static void note_progress(void *ctx, uint64_t done, uint64_t all)
{
    *(uint64_t *)ctx = done;
}

static void load_rank(struct comm *comm, int rank, void *ctx)
{
    struct team *t = ctx;
    omp_set_num_threads(2);
    t->rc[rank] = tensorfile_open(&t->file[rank], t->path, &t->err[rank]);
    if (t->rc[rank] == ERR_OK)
        t->rc[rank] = model_config_read(&t->config[rank], &t->file[rank], t->path, &t->err[rank]);
    if (t->rc[rank] != ERR_OK)
        return;
    t->mesh[rank] = mesh_make(rank, t->tp, t->pp, t->config[rank].n_layers, t->ends);
    t->file[rank].bytes_read = 0;
    t->rc[rank] = decoder_weights_load(&t->w[rank], &t->config[rank], &t->file[rank],
                                       &t->mesh[rank], comm, note_progress, &t->progress[rank],
                                       &t->err[rank]);
}

static void load_team(struct team *t)
{
    assert_int_equal(rankteam_run(t->tp * t->pp, load_rank, t), 0);
    for (int i = 0; i < t->tp * t->pp; i++)
        if (t->rc[i] != ERR_OK)
            fail_msg("%s, tp %d pp %d: rank %d: %s", t->path, t->tp, t->pp, i, t->err[i].msg);
}

static void free_team(struct team *t)
{
    for (int i = 0; i < t->tp * t->pp; i++) {
        decoder_weights_free(&t->w[i]);
        decoder_weights_free(&t->w[i]);
        model_config_free(&t->config[i]);
        tensorfile_close(&t->file[i]);
    }
}

/* --- comparison */

/* l holds rows [row, ...) and columns [col, ...) of m. */
static void same(const struct linear *l, const struct matrix *m, int row, int col, const char *what)
{
    float *got = malloc(((size_t)l->k + 256) * sizeof *got);
    assert_true(row + l->n_out <= m->rows && col + l->k <= m->cols);
    for (int r = 0; r < l->n_out && l->k > 0; r++) {
        linear_row(l, r, got);
        const float *want = m->v + (size_t)(row + r) * (size_t)m->cols + (size_t)col;
        if (memcmp(got, want, (size_t)l->k * sizeof *got) == 0)
            continue;
        for (int k = 0; k < l->k; k++)
            if (got[k] != want[k])
                fail_msg("%s: row %d column %d is %g, in the file %g", what, row + r, col + k,
                         (double)got[k], (double)want[k]);
    }
    free(got);
}

struct expect { enum kind kind; const struct linear *l; int row, col, n_out, k; };

static void check_layer(struct team *t, int rank, int layer, enum kind only,
                        const struct matrix *m, int expert)
{
    const struct decoder_weights *w = &t->w[rank];
    const struct model_config *c = &t->config[rank];
    const struct layer_weights *l = &w->layer[layer - t->mesh[rank].layer_begin];
    const struct expert_weights *x = c->layer[layer].moe ? &l->expert[expert] : NULL;
    int hd = c->head_dim, q0 = w->heads_begin * hd, q = w->heads_local * hd;
    int kv0 = w->kv_begin * hd, kv = w->kv_local * hd;
    int f0 = w->ffn_begin, f = w->ffn_local, e0 = w->expert_ffn_begin, e = w->expert_ffn_local;
    const struct expect list[] = {
        {Q, &l->q, q0, 0, q, c->dim}, {K, &l->k, kv0, 0, kv, c->dim}, {V, &l->v, kv0, 0, kv, c->dim},
        {O, &l->o, 0, q0, c->dim, q}, {GATE, &l->gate, f0, 0, f, c->dim},
        {UP, &l->up, f0, 0, f, c->dim}, {DOWN, &l->down, 0, f0, c->dim, f},
        {ROUTER, &l->router, 0, 0, c->n_experts, c->dim},
        {X_GATE, x ? &x->gate : NULL, e0, 0, e, c->dim}, {X_UP, x ? &x->up : NULL, e0, 0, e, c->dim},
        {X_DOWN, x ? &x->down : NULL, 0, e0, c->dim, e}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].kind != only)
            continue;
        char what[1600];
        snprintf(what, sizeof what, "%s tp %d pp %d rank %d layer %d kind %d expert %d", t->path,
                 t->tp, t->pp, rank, layer, only, expert);
        assert_int_equal(list[i].l->n_out, list[i].n_out);
        assert_int_equal(list[i].l->k, list[i].k);
        same(list[i].l, m, list[i].row, list[i].col, what);
    }
}

static void check_vocab(struct team *t, int rank, const struct linear *l, const struct matrix *m)
{
    assert_int_equal(l->n_out, t->w[rank].vocab_local);
    same(l, m, t->w[rank].vocab_begin, 0, t->path);
}

static void check_matrices(struct team *t)
{
    struct tensorfile *file = &t->file[0];
    const struct model_config *c = &t->config[0];
    struct matrix embed = expected(file, c, EMBED, 0, 0);
    struct matrix head = c->tied ? embed : expected(file, c, HEAD, 0, 0);
    for (int r = 0; r < t->tp; r++) {
        check_vocab(t, r, &t->w[r].embed, &embed);
        check_vocab(t, (t->pp - 1) * t->tp + r, &t->w[(t->pp - 1) * t->tp + r].head, &head);
    }
    for (int layer = 0; layer < c->n_layers; layer++)
        for (int kind = Q; kind <= X_DOWN; kind++) {
            bool moe = c->layer[layer].moe;
            if (kind >= ROUTER ? !moe : kind >= GATE && moe)
                continue;
            for (int x = 0; x < (kind >= X_GATE ? c->n_experts : 1); x++) {
                struct matrix m = expected(file, c, (enum kind)kind, layer, x);
                for (int r = 0; r < t->tp * t->pp; r++)
                    if (layer >= t->mesh[r].layer_begin && layer < t->mesh[r].layer_end)
                        check_layer(t, r, layer, (enum kind)kind, &m, x);
                free(m.v);
            }
        }
    if (!c->tied)
        free(head.v);
    free(embed.v);
}

/* Vectors: norms whole on every rank, with gemma's 1 added for folders; biases by row. */
static void check_vector(struct team *t, int rank, const float *got, const char *gguf,
                         const char *hf, int layer, int begin, int n, float add)
{
    struct tensorfile *file = &t->file[0];
    const struct tensor_entry *e = find(file, gguf, layer, 0);
    if (!e)
        e = find(file, hf, layer, 0);
    assert_int_equal(e != NULL, got != NULL);
    if (!e)
        return;
    float *all = read_all(file, e);
    for (int i = 0; i < n; i++)
        if (got[i] != all[begin + i] + add)
            fail_msg("%s rank %d: %s layer %d [%d] is %g", t->path, rank, hf, layer, i,
                     (double)got[i]);
    free(all);
}

static void check_vectors(struct team *t, int rank)
{
    const struct model_config *c = &t->config[rank];
    const struct decoder_weights *w = &t->w[rank];
    float one = strcmp(c->format, "hf") == 0 && strncmp(c->arch, "gemma", 5) == 0 ? 1 : 0;
    int hd = c->head_dim, q0 = w->heads_begin * hd, kv0 = w->kv_begin * hd;
    for (int i = t->mesh[rank].layer_begin; i < t->mesh[rank].layer_end; i++) {
        const struct layer_weights *l = &w->layer[i - t->mesh[rank].layer_begin];
        check_vector(t, rank, l->attn_norm, "blk.%d.attn_norm.weight",
                     "model.layers.%d.input_layernorm.weight", i, 0, c->dim, one);
        check_vector(t, rank, l->q_norm, "blk.%d.attn_q_norm.weight",
                     "model.layers.%d.self_attn.q_norm.weight", i, 0, hd, one);
        check_vector(t, rank, l->post_ffn_norm, "blk.%d.post_ffw_norm.weight",
                     "model.layers.%d.post_feedforward_layernorm.weight", i, 0, c->dim, one);
        check_vector(t, rank, l->q_bias, "blk.%d.attn_q.bias",
                     "model.layers.%d.self_attn.q_proj.bias", i, q0, w->heads_local * hd, 0);
        check_vector(t, rank, l->v_bias, "blk.%d.attn_v.bias",
                     "model.layers.%d.self_attn.v_proj.bias", i, kv0, w->kv_local * hd, 0);
        check_vector(t, rank, l->o_bias, "blk.%d.attn_output.bias",
                     "model.layers.%d.self_attn.o_proj.bias", i, 0, c->dim, 0);
        check_vector(t, rank, l->sinks, "blk.%d.attn_sinks.weight",
                     "model.layers.%d.self_attn.sinks", i, w->heads_begin, w->heads_local, 0);
        check_vector(t, rank, l->router_bias, "blk.%d.ffn_gate_inp.bias",
                     "model.layers.%d.mlp.router.bias", i, 0, c->n_experts, 0);
        for (int x = 0; c->layer[i].moe && c->expert_bias && x < c->n_experts; x++)
            check_vector(t, rank, l->expert[x].down_bias, "blk.%d.ffn_down_exps.bias",
                         "model.layers.%d.mlp.experts.down_proj_bias", i, x * c->dim, c->dim, 0);
    }
    if (t->mesh[rank].stage == t->pp - 1)
        check_vector(t, rank, w->out_norm, "output_norm.weight", "model.norm.weight", 0, 0, c->dim,
                     one);
}

static void check_sizes(struct team *t, int rank)
{
    size_t packed;
    uint64_t file_bytes;
    struct err err = {0};
    assert_int_equal(decoder_weights_size(&t->config[rank], &t->file[rank], &t->mesh[rank], &packed,
                                          &file_bytes, &err), ERR_OK);
    assert_int_equal(packed, t->w[rank].bytes);
    assert_int_equal(file_bytes, t->w[rank].file_bytes);
    uint64_t read = t->file[rank].bytes_read;
    if (read > file_bytes + file_bytes / 20)
        fail_msg("%s tp %d pp %d rank %d read %llu bytes for a shard of %llu", t->path, t->tp, t->pp,
                 rank, (unsigned long long)read, (unsigned long long)file_bytes);
    assert_int_equal(t->progress[rank], read);
}

static void check_layout(const char *path, int tp, int pp, const int *ends)
{
    struct team *t = calloc(1, sizeof *t);
    t->path = path;
    t->tp = tp;
    t->pp = pp;
    t->ends = ends;
    load_team(t);
    for (int i = 0; i < tp * pp; i++)
        check_sizes(t, i);
    check_matrices(t);
    for (int i = 0; i < tp * pp; i++)
        check_vectors(t, i);
    free_team(t);
    free(t);
}

static void check_model(const char *path, const char *folder)
{
    static const int uneven[] = {1, 6, 8};
    for (int tp = 1; tp <= 3; tp++)
        for (int pp = 1; pp <= 2; pp++)
            check_layout(path, tp, pp, NULL);
    check_layout(path, 3, 1, uneven);
}

static void test_shards_are_the_file(void **state)
{
    (void)state;
    assert_true(fixture_each(check_model) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shards_are_the_file)};
    if (!fixture_exists(fixture_root(), "."))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
