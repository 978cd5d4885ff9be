/* tinymodel.h - writes a Hugging Face llama folder of any size with random weights, and damages it on
 * request: one tensor left out, reshaped, retyped, added or holding a NaN.
 * Numbers: element i of a tensor is a function of its name and i, so tests need no copy of the file. */
#ifndef MUSTER_TESTS_TINYMODEL_H
#define MUSTER_TESTS_TINYMODEL_H

#include "workers/tensor/dtype.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tinymodel {
    int layers, dim, heads, kv_heads, head_dim, ffn, vocab;
    enum dtype type;                /* F32, F16 or BF16 */
    bool tied;
    /* Another beginning than "model." (and of lm_head), as the text part of a larger model. */
    const char *prefix, *head_prefix;
    /* damage: a tensor's name, or NULL */
    const char *drop, *reshape, *retype, *poison, *extra;
    long poison_at;                 /* element that becomes NaN */
};

static inline uint64_t tinymodel_seed(const char *name)
{
    uint64_t h = 1469598103934665603u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 1099511628211u;
    return h;
}

/* Element i of a tensor, by its name's seed: in [-1, 1), exact in bf16. */
static inline float tinymodel_value(uint64_t seed, uint64_t i)
{
    uint64_t h = (seed ^ i) * 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
    h *= 0xBF58476D1CE4E5B9u;
    return (float)((int)(h >> 56) - 128) / 128.0f;
}

struct tinymodel_writer { const struct tinymodel *m; FILE *json, *data; uint64_t at; int n; };

static inline void tinymodel_tensor(struct tinymodel_writer *w, const char *name, int rows, int cols)
{
    const struct tinymodel *m = w->m;
    if (m->drop && strcmp(m->drop, name) == 0)
        return;
    int64_t n = (int64_t)rows * (cols ? cols : 1);
    const char *type = m->type == DT_F32 ? "F32" : m->type == DT_F16 ? "F16" : "BF16";
    size_t width = m->type == DT_F32 ? 4 : 2;
    if (m->retype && strcmp(m->retype, name) == 0)
        type = width == 4 ? "I32" : "I16";
    bool inner = m->prefix && strncmp(name, "model.", 6) == 0;
    fprintf(w->json, "%s\"%s%s\": {\"dtype\": \"%s\", \"shape\": [", w->n++ ? ", " : "{",
            inner ? m->prefix : m->head_prefix ? m->head_prefix : "", inner ? name + 6 : name, type);
    if (m->reshape && strcmp(m->reshape, name) == 0)
        fprintf(w->json, "%d, %d], ", cols ? cols : 1, rows);
    else
        fprintf(w->json, cols ? "%d, %d], " : "%d], ", rows, cols);
    fprintf(w->json, "\"data_offsets\": [%llu, %llu]}", (unsigned long long)w->at,
            (unsigned long long)(w->at + (uint64_t)n * width));
    w->at += (uint64_t)n * width;
    uint64_t seed = tinymodel_seed(name);
    bool poisoned = m->poison && strcmp(m->poison, name) == 0;
    for (int64_t i = 0; i < n; i++) {
        float v = tinymodel_value(seed, (uint64_t)i);
        if (poisoned && i == m->poison_at)
            v = (float)(0.0 / (v - v));
        uint16_t half = m->type == DT_F16 ? dtype_f32_to_f16(v) : dtype_f32_to_bf16(v);
        fwrite(width == 4 ? (void *)&v : (void *)&half, width, 1, w->data);
    }
}

static inline void tinymodel_layer(struct tinymodel_writer *w, int layer)
{
    const struct tinymodel *m = w->m;
    const struct { const char *name; int rows, cols; } list[] = {
        {"input_layernorm", m->dim, 0}, {"post_attention_layernorm", m->dim, 0},
        {"self_attn.q_proj", m->heads * m->head_dim, m->dim},
        {"self_attn.k_proj", m->kv_heads * m->head_dim, m->dim},
        {"self_attn.v_proj", m->kv_heads * m->head_dim, m->dim},
        {"self_attn.o_proj", m->dim, m->heads * m->head_dim},
        {"mlp.gate_proj", m->ffn, m->dim}, {"mlp.up_proj", m->ffn, m->dim},
        {"mlp.down_proj", m->dim, m->ffn}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, list[i].name);
        tinymodel_tensor(w, name, list[i].rows, list[i].cols);
    }
}

static inline void tinymodel_config(const struct tinymodel *m, const char *folder)
{
    char path[300];
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    if (!f)
        abort();
    fprintf(f, "%s{\"model_type\": \"llama\", \"hidden_size\": %d, \"num_hidden_layers\": %d, "
            "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, "
            "\"intermediate_size\": %d, \"vocab_size\": %d, \"max_position_embeddings\": 512, "
            "\"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": %s}%s",
            m->prefix ? "{\"model_type\": \"picture_and_text\", \"text_config\": " : "", m->dim,
            m->layers, m->heads, m->kv_heads, m->head_dim, m->ffn, m->vocab, m->tied ? "true" : "false",
            m->prefix ? "}" : "");
    fclose(f);
}

/* Writes config.json and model.safetensors into folder. */
static inline void tinymodel_write(const struct tinymodel *m, const char *folder)
{
    char path[300], *json = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/model.data", folder);
    struct tinymodel_writer w = {.m = m, .json = open_memstream(&json, &n), .data = fopen(path, "w+b")};
    if (!w.json || !w.data)
        abort();
    tinymodel_config(m, folder);
    tinymodel_tensor(&w, "model.embed_tokens.weight", m->vocab, m->dim);
    for (int i = 0; i < m->layers; i++)
        tinymodel_layer(&w, i);
    tinymodel_tensor(&w, "model.norm.weight", m->dim, 0);
    if (!m->tied)
        tinymodel_tensor(&w, "lm_head.weight", m->vocab, m->dim);
    if (m->extra)
        tinymodel_tensor(&w, m->extra, 4, 4);
    fputc('}', w.json);
    fclose(w.json);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *out = fopen(path, "wb");
    uint64_t length = n;
    if (!out || fwrite(&length, 8, 1, out) != 1 || fwrite(json, 1, n, out) != n)
        abort();
    rewind(w.data);
    static char block[1 << 16];
    for (size_t got; (got = fread(block, 1, sizeof block, w.data)) > 0;)
        fwrite(block, 1, got, out);
    fclose(w.data);
    if (fclose(out) != 0)
        abort();
    free(json);
    snprintf(path, sizeof path, "%s/model.data", folder);
    remove(path);
}

#endif
