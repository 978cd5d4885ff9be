/* make_model.c - writes a llama-architecture GGUF with random weights and a vocabulary of our own.
 * Why:    the default model, the models of the tests and the 1.1B-parameter model of the benchmark must
 *         be had without a network, and be the same bytes on every machine.
 * How:    streaming: a batch of rows at a time is drawn (Philox of tensor number and place), turned into
 *         blocks by all threads, and written. Types of 32 and plain types go through the table's own
 *         quantisers; superblocks of 256 are drawn directly, since what counts there is their layout.
 * Usage:  make_model --preset random-tiny|tinyllama|even|odd [--type q8_0] [--seed 1] --out FILE
 *         --layers --dim --heads --kv-heads --head-dim --ffn --vocab --context override the preset. */
#include "proto/philox.h"
#include "tests/bench/make_vocab.h"
#include "workers/tensor/dtype.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shape {
    const char *name;
    int layers, dim, heads, kv_heads, head_dim, ffn, vocab, context, merges;
    const char *type;
};

static const struct shape presets[] = {
    /* The default model: a few hundred kB. */
    {"random-tiny", 3, 128, 8, 4, 16, 256, 444, 512, 186, "q8_0"},
    /* The shape of TinyLlama 1.1B, for speed. */
    {"tinyllama", 22, 2048, 32, 4, 64, 5632, 32000, 2048, 254, "q8_0"},
    /* For layouts: whole superblocks; 5 layers, so that two stages are uneven. */
    {"even", 5, 256, 8, 4, 32, 768, 512, 512, 254, "f32"},
    /* The same with heads that nothing divides: 9 queries over 3 keys. */
    {"odd", 3, 288, 9, 3, 32, 416, 512, 512, 254, "f32"},
};

struct options {
    struct shape shape;
    const char *out;
    uint64_t seed;
    bool mixed;                         /* q4_k_m: some tensors as Q6_K */
    bool sparse;                        /* header only: the weights are a hole in the file */
};

struct tensor {
    char name[64];
    int rows, cols;                     /* cols 0: a vector of `rows` */
    const struct dtype_info *type;
    float std;                          /* 0: a norm's weight, near 1 */
    uint64_t offset;
};

enum { TENSORS_MAX = 1024 };
struct model {
    struct options opt;
    struct make_vocab vocab;
    int n_tensors;
    struct tensor tensor[TENSORS_MAX];
    uint64_t data_bytes;
};

/* ---- numbers ---- */

/* Uniform with the standard deviation std, mean 0. One Philox block gives four. */
static void draw_row(float *out, const struct model *m, int tensor, int64_t first, int n)
{
    float scale = m->tensor[tensor].std * 1.7320508f * 0x1p-23f;
    for (int i = 0; i < n; i += 4) {
        uint32_t r[4];
        philox_block(m->opt.seed, (uint64_t)(first + i) / 4, (uint32_t)tensor, PHILOX_WEIGHTS, r);
        for (int j = 0; j < 4 && i + j < n; j++)
            out[i + j] = (float)((int32_t)(r[j] >> 8) - (1 << 23)) * scale;
    }
}

static void store_f16(uint8_t *p, float f)
{
    uint16_t h = dtype_f32_to_f16(f);
    memcpy(p, &h, 2);
}

/* A superblock of Q4_K: 8 sub-blocks whose minimum is 7.5 steps down, so that the mean is 0. */
static void fill_q4_k(uint8_t block[144], const uint32_t r[36], float std)
{
    float d = std / (4.61f * 47.5f);    /* 4.61: deviation of 0..15; 47.5: mean of the scales 32..63 */
    store_f16(block, d);
    store_f16(block + 2, 7.5f * d);
    uint8_t *s = block + 4;
    memset(s, 0, 12);
    for (int j = 0; j < 8; j++) {
        uint8_t sc = 32 + ((r[32] >> 4 * j & 15) << 1 | (r[33] >> j & 1));
        if (j < 4) {
            s[j] |= sc;
            s[j + 4] |= sc;
        } else {
            s[j + 4] = (uint8_t)((sc & 15) | (sc & 15) << 4);
            s[j - 4] |= (uint8_t)(sc >> 4 << 6);
            s[j] |= (uint8_t)(sc >> 4 << 6);
        }
    }
    memcpy(block + 16, r, 128);
}

/* A superblock of Q6_K: 16 signed scales of 64..95. */
static void fill_q6_k(uint8_t block[210], const uint32_t r[64], float std)
{
    memcpy(block, r, 192);
    for (int j = 0; j < 16; j++) {
        int sc = 64 + (int)(r[48 + j / 4] >> 8 * (j % 4) & 31);
        block[192 + j] = (uint8_t)(int8_t)(r[52 + j / 8] >> j % 8 & 1 ? sc : -sc);
    }
    store_f16(block + 208, std / (18.5f * 79.5f));
}

static void fill_superblocks(uint8_t *out, const struct model *m, int tensor, int64_t first, int n)
{
    const struct tensor *t = &m->tensor[tensor];
    for (int i = 0; i < n; i += 256) {
        uint32_t r[64];
        for (int b = 0; b < 16; b++)
            philox_block(m->opt.seed, (uint64_t)(first + i) / 256 * 16 + b, (uint32_t)tensor,
                         PHILOX_WEIGHTS, r + 4 * b);
        if (t->type->id == DT_Q4_K)
            fill_q4_k(out + (size_t)i / 256 * 144, r, t->std);
        else
            fill_q6_k(out + (size_t)i / 256 * 210, r, t->std);
    }
}

/* So that a demo prints words and not control bytes: dimension 0 of the stream is the same for every
 * token, and the head reads from it which tokens are printable. Random numbers otherwise. */
static void favour_readable(float *row, const struct model *m, const struct tensor *t, int r)
{
    if (!strcmp(t->name, "token_embd.weight"))
        row[0] = 4.0f;
    else if (!strcmp(t->name, "output.weight"))
        row[0] = m->vocab.readable[r] ? (m->vocab.type[r] == 1 && r >= MAKE_VOCAB_MIN ? 0.5f : 0.0f)
                                      : -2.0f;
}

static void fill_row(uint8_t *out, float *scratch, const struct model *m, int tensor, int r)
{
    const struct tensor *t = &m->tensor[tensor];
    int n = t->cols;
    int64_t first = (int64_t)r * ((n + 3) / 4 * 4);
    if (t->type->id == DT_Q4_K || t->type->id == DT_Q6_K) {
        fill_superblocks(out, m, tensor, first, n);
        return;
    }
    draw_row(scratch, m, tensor, first, n);
    favour_readable(scratch, m, t, r);
    t->type->quantise(out, scratch, n);
}

static int write_tensor(FILE *f, const struct model *m, int tensor)
{
    const struct tensor *t = &m->tensor[tensor];
    if (!t->cols) {                     /* a norm */
        float *w = malloc((size_t)t->rows * sizeof *w);
        for (int i = 0; w && i < t->rows; i++)
            w[i] = 0.9f + 0.2f * philox_uniform(m->opt.seed, i, (uint32_t)tensor, PHILOX_WEIGHTS);
        size_t n = w ? fwrite(w, sizeof *w, (size_t)t->rows, f) : 0;
        free(w);
        return n == (size_t)t->rows ? 0 : -1;
    }
    size_t row_bytes = dtype_bytes(t->type->id, t->cols);
    int batch = (int)((4 << 20) / row_bytes) + 1, rc = 0;
    uint8_t *bytes = malloc(row_bytes * (size_t)batch);
    for (int r0 = 0; r0 < t->rows && rc == 0; r0 += batch) {
        int n = t->rows - r0 < batch ? t->rows - r0 : batch;
#pragma omp parallel
        {
            float *scratch = malloc((size_t)t->cols * sizeof *scratch);
#pragma omp for
            for (int i = 0; i < n; i++)
                fill_row(bytes + row_bytes * (size_t)i, scratch, m, tensor, r0 + i);
            free(scratch);
        }
        if (fwrite(bytes, row_bytes, (size_t)n, f) != (size_t)n)
            rc = -1;
    }
    free(bytes);
    return rc;
}

/* ---- the container ---- */

enum { GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 };

static void put(FILE *f, const void *p, size_t n) { fwrite(p, 1, n, f); }
static void put_u32(FILE *f, uint32_t v) { put(f, &v, 4); }
static void put_u64(FILE *f, uint64_t v) { put(f, &v, 8); }

static void put_string(FILE *f, const char *s)
{
    put_u64(f, strlen(s));
    put(f, s, strlen(s));
}

/* Keys are counted as they are written; the count is patched in at the end. */
static uint64_t n_keys;
static void put_key(FILE *f, const char *key, uint32_t type)
{
    n_keys++;
    put_string(f, key);
    put_u32(f, type);
}

static void key_u32(FILE *f, const char *key, int v)
{
    put_key(f, key, GGUF_U32);
    put_u32(f, (uint32_t)v);
}

static void key_f32(FILE *f, const char *key, float v)
{
    put_key(f, key, GGUF_F32);
    put(f, &v, sizeof v);
}

static void key_string(FILE *f, const char *key, const char *v)
{
    put_key(f, key, GGUF_STRING);
    put_string(f, v);
}

static void key_array(FILE *f, const char *key, uint32_t type, int n)
{
    put_key(f, key, GGUF_ARRAY);
    put_u32(f, type);
    put_u64(f, (uint64_t)n);
}

static void write_metadata(FILE *f, const struct model *m)
{
    const struct shape *s = &m->opt.shape;
    char name[96];
    snprintf(name, sizeof name, "random weights, %s", s->name);
    key_string(f, "general.architecture", "llama");
    key_string(f, "general.name", name);
    key_string(f, "general.license", "apache-2.0");
    key_u32(f, "llama.context_length", s->context);
    key_u32(f, "llama.embedding_length", s->dim);
    key_u32(f, "llama.block_count", s->layers);
    key_u32(f, "llama.feed_forward_length", s->ffn);
    key_u32(f, "llama.attention.head_count", s->heads);
    key_u32(f, "llama.attention.head_count_kv", s->kv_heads);
    key_u32(f, "llama.attention.key_length", s->head_dim);
    key_u32(f, "llama.attention.value_length", s->head_dim);
    key_u32(f, "llama.rope.dimension_count", s->head_dim);
    key_f32(f, "llama.rope.freq_base", 10000.0f);
    key_f32(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    key_u32(f, "llama.vocab_size", s->vocab);
    key_string(f, "tokenizer.ggml.model", "gpt2");
    key_string(f, "tokenizer.ggml.pre", "gpt-2");
    key_array(f, "tokenizer.ggml.tokens", GGUF_STRING, m->vocab.n);
    for (int i = 0; i < m->vocab.n; i++)
        put_string(f, m->vocab.token[i]);
    key_array(f, "tokenizer.ggml.token_type", GGUF_I32, m->vocab.n);
    put(f, m->vocab.type, sizeof *m->vocab.type * (size_t)m->vocab.n);
    key_array(f, "tokenizer.ggml.merges", GGUF_STRING, m->vocab.n_merges);
    for (int i = 0; i < m->vocab.n_merges; i++)
        put_string(f, m->vocab.merge[i]);
    key_u32(f, "tokenizer.ggml.bos_token_id", 0);
    key_u32(f, "tokenizer.ggml.eos_token_id", 1);
    put_key(f, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
    put(f, "\1", 1);
}

static void pad_to(FILE *f, long align)
{
    while (ftell(f) % align)
        fputc(0, f);
}

static int write_model(FILE *f, struct model *m)
{
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, (uint64_t)m->n_tensors);
    long keys_at = ftell(f);
    put_u64(f, 0);
    write_metadata(f, m);
    for (int i = 0; i < m->n_tensors; i++) {
        const struct tensor *t = &m->tensor[i];
        put_string(f, t->name);
        put_u32(f, t->cols ? 2 : 1);
        if (t->cols)
            put_u64(f, (uint64_t)t->cols);
        put_u64(f, (uint64_t)t->rows);
        put_u32(f, (uint32_t)t->type->id);
        put_u64(f, t->offset);
    }
    pad_to(f, 32);
    if (m->opt.sparse && (fflush(f) != 0 || ftruncate(fileno(f), ftell(f) + (off_t)m->data_bytes) != 0))
        return -1;
    for (int i = 0; i < m->n_tensors && !m->opt.sparse; i++) {
        if (write_tensor(f, m, i) != 0)
            return -1;
        pad_to(f, 32);
    }
    fseek(f, keys_at, SEEK_SET);
    put_u64(f, n_keys);
    return ferror(f) ? -1 : 0;
}

/* ---- which tensors ---- */

/* What llama.cpp's Q4_K_M keeps at 6 bits: the head, and V and ffn_down of the first and last eighth of
 * the layers and of every third between. */
static bool wants_more_bits(const char *name, int layer, int n_layers)
{
    if (!strcmp(name, "output.weight"))
        return true;
    if (!strstr(name, "attn_v") && !strstr(name, "ffn_down"))
        return false;
    return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

static void add(struct model *m, int layer, const char *name, int rows, int cols, float std)
{
    struct tensor *t = &m->tensor[m->n_tensors++];
    if (layer >= 0)
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
    else
        snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows;
    t->cols = cols;
    t->std = std;
    t->type = cols ? dtype_named(m->opt.shape.type) : dtype_info(DT_F32);
    if (cols && m->opt.mixed && wants_more_bits(name, layer, m->opt.shape.layers))
        t->type = dtype_info(DT_Q6_K);
    /* A row that is no whole number of blocks: the next type that fits, as converters do. */
    if (cols && t->type->block == 256 && cols % 256)
        t->type = dtype_info(DT_Q8_0);
    if (cols && cols % t->type->block)
        t->type = dtype_info(DT_F16);
}

static void list_tensors(struct model *m)
{
    const struct shape *s = &m->opt.shape;
    int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    float in = 1.0f / sqrtf((float)s->dim);
    add(m, -1, "token_embd.weight", s->vocab, s->dim, 1.0f);
    for (int l = 0; l < s->layers; l++) {
        add(m, l, "attn_norm.weight", s->dim, 0, 0);
        add(m, l, "attn_q.weight", q, s->dim, in);
        add(m, l, "attn_k.weight", kv, s->dim, in);
        add(m, l, "attn_v.weight", kv, s->dim, in);
        add(m, l, "attn_output.weight", s->dim, q, 1.0f / sqrtf((float)q));
        add(m, l, "ffn_norm.weight", s->dim, 0, 0);
        add(m, l, "ffn_gate.weight", s->ffn, s->dim, in);
        add(m, l, "ffn_up.weight", s->ffn, s->dim, in);
        add(m, l, "ffn_down.weight", s->dim, s->ffn, 1.0f / sqrtf((float)s->ffn));
    }
    add(m, -1, "output_norm.weight", s->dim, 0, 0);
    add(m, -1, "output.weight", s->vocab, s->dim, 3.0f * in);   /* logits of deviation 3 */
    uint64_t at = 0;
    for (int i = 0; i < m->n_tensors; i++) {
        struct tensor *t = &m->tensor[i];
        t->offset = at;
        at += dtype_bytes(t->type->id, t->cols ? t->cols : t->rows) * (size_t)(t->cols ? t->rows : 1);
        at = (at + 31) / 32 * 32;
    }
    m->data_bytes = at;
}

/* ---- the command line ---- */

/* The i-th number of a shape, in the order of the options below. */
static int *size_of_shape(struct shape *s, int i)
{
    int *const all[] = {&s->layers, &s->dim, &s->heads, &s->kv_heads, &s->head_dim, &s->ffn, &s->vocab,
                        &s->context};
    return all[i];
}

enum { OPT_SEED = 1000, OPT_SHAPE };    /* OPT_SHAPE + i: the i-th number of struct shape */
static const struct argp_option argp_options[] = {
    {"preset", 'p', "NAME", 0, "random-tiny, tinyllama, even, odd"},
    {"type", 't', "TYPE", 0, "f32, f16, bf16, q8_0, q4_0, q4_1, q4_k, q6_k, or q4_k_m: q4_k with q6_k"},
    {"out", 'o', "FILE", 0, "where to"},
    {"seed", OPT_SEED, "N", 0, "of the weights (1)"},
    {"sparse", 's', NULL, 0, "header only, the weights a hole: for sizes that no machine holds"},
    {"layers", OPT_SHAPE, "N", 0, ""},
    {"dim", OPT_SHAPE + 1, "N", 0, ""},
    {"heads", OPT_SHAPE + 2, "N", 0, ""},
    {"kv-heads", OPT_SHAPE + 3, "N", 0, ""},
    {"head-dim", OPT_SHAPE + 4, "N", 0, ""},
    {"ffn", OPT_SHAPE + 5, "N", 0, ""},
    {"vocab", OPT_SHAPE + 6, "N", 0, "258 or more"},
    {"context", OPT_SHAPE + 7, "N", 0, ""},
    {0}};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    if (key == 'p') {
        for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
            if (!strcmp(presets[i].name, arg)) {
                o->shape = presets[i];
                return 0;
            }
        argp_error(state, "no preset '%s'", arg);
    } else if (key == 't') {
        o->mixed = !strcmp(arg, "q4_k_m");
        o->shape.type = o->mixed ? "q4_k" : arg;
    } else if (key == 'o') {
        o->out = arg;
    } else if (key == 's') {
        o->sparse = true;
    } else if (key == OPT_SEED) {
        o->seed = strtoull(arg, NULL, 10);
    } else if (key >= OPT_SHAPE && key < OPT_SHAPE + 8) {
        *size_of_shape(&o->shape, key - OPT_SHAPE) = atoi(arg);
    } else {
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const char *check(struct options *o)
{
    struct shape *s = &o->shape;
    const struct dtype_info *t = dtype_named(s->type);
    if (!o->out)
        return "--out is missing";
    if (!t || (!t->quantise && t->id != DT_Q4_K && t->id != DT_Q6_K))
        return "unknown --type";
    for (int i = 0; i < 8; i++)
        if (*size_of_shape(s, i) < 1)
            return "sizes must be positive";
    if (s->vocab < MAKE_VOCAB_MIN || s->heads % s->kv_heads || s->head_dim % 2 ||
        9 * s->layers + 3 > TENSORS_MAX)
        return "the shape is impossible (vocab >= 258, heads a multiple of kv-heads, head-dim even)";
    return NULL;
}

int main(int argc, char **argv)
{
    static struct model m;
    m.opt = (struct options){.shape = presets[0], .seed = 1};
    const struct argp argp = {argp_options, parse_option, NULL,
                              "Writes a llama-architecture GGUF file with random weights."};
    argp_parse(&argp, argc, argv, 0, NULL, &m.opt);
    const char *wrong = check(&m.opt);
    if (wrong) {
        fprintf(stderr, "make_model: %s\n", wrong);
        return 2;
    }
    make_vocab(&m.vocab, m.opt.shape.vocab, m.opt.shape.merges);
    list_tensors(&m);
    char part[4096];
    snprintf(part, sizeof part, "%s.part", m.opt.out);
    FILE *f = fopen(part, "wb");
    int rc = f ? write_model(f, &m) : -1;
    if ((f && fclose(f) != 0) || rc != 0 || rename(part, m.opt.out) != 0) {
        fprintf(stderr, "make_model: %s: %s\n", m.opt.out, strerror(errno));
        remove(part);
        return 6;
    }
    make_vocab_free(&m.vocab);
    return 0;
}
