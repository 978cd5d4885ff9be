#include "tests/e2e/imagefolder.h"

#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WIDTH = 32, HEADS = 2, BLOCKS = 2, PATCH = 4, TEXT = 24, POOLED = 16, POSITIONS = 8, LETTERS = 26,
       VOCAB = 2 * LETTERS + 2, FFN = 96, TEXT_LAYERS = 1 };

struct writer { FILE *json, *data; uint64_t at, seed; int n; };

/* Numbers of about 1 / sqrt(columns); a norm's weights are about 1. */
static void tensor(struct writer *w, const char *name, int rows, int cols, int more)
{
    uint64_t n = (uint64_t)rows * (uint64_t)(cols ? cols : 1) * (uint64_t)(more ? more * more : 1);
    bool norm = strstr(name, "norm") != NULL && strstr(name, "weight") != NULL && cols == 0;
    double scale = cols ? 1.5 / (double)(cols > 64 ? 8 : cols > 24 ? 5 : 4) : 0.1;
    fprintf(w->json, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d", w->n++ ? "," : "", name, rows);
    if (cols)
        fprintf(w->json, ",%d", cols);
    if (more)
        fprintf(w->json, ",%d,%d", more, more);
    fprintf(w->json, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->at,
            (unsigned long long)(w->at + 4 * n));
    for (uint64_t i = 0; i < n; i++) {
        w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
        float v = (float)((double)(w->seed >> 40) / (1 << 24) - 0.5) * (float)scale + (norm ? 1 : 0);
        fwrite(&v, sizeof v, 1, w->data);
    }
    w->at += 4 * n;
}

static void linear(struct writer *w, const char *prefix, const char *name, int out, int in)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    tensor(w, full, out, in, 0);
    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    tensor(w, full, out, 0, 0);
}

static void vector(struct writer *w, const char *prefix, const char *name, int n)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    tensor(w, full, n, 0, 0);
}

static void block(struct writer *w, int i)
{
    static const char *const all[] = {"attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj",
                                      "attn.add_k_proj", "attn.add_v_proj", "attn.to_out.0"};
    static const char *const norms[] = {"attn.norm_q.weight", "attn.norm_k.weight",
                                        "attn.norm_added_q.weight", "attn.norm_added_k.weight"};
    bool last = i == BLOCKS - 1;
    char p[64];
    snprintf(p, sizeof p, "transformer_blocks.%d.", i);
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        linear(w, p, all[k], WIDTH, WIDTH);
    for (size_t k = 0; k < sizeof norms / sizeof *norms; k++)
        vector(w, p, norms[k], WIDTH / HEADS);
    linear(w, p, "ff.net.0.proj", 4 * WIDTH, WIDTH);
    linear(w, p, "ff.net.2", WIDTH, 4 * WIDTH);
    linear(w, p, "norm1.linear", 6 * WIDTH, WIDTH);
    linear(w, p, "norm1_context.linear", last ? 2 * WIDTH : 6 * WIDTH, WIDTH);
    if (last)
        return;
    linear(w, p, "attn.to_add_out", WIDTH, WIDTH);
    linear(w, p, "ff_context.net.0.proj", 4 * WIDTH, WIDTH);
    linear(w, p, "ff_context.net.2", WIDTH, 4 * WIDTH);
}

static void denoiser(struct writer *w)
{
    linear(w, "", "context_embedder", WIDTH, TEXT);
    linear(w, "", "norm_out.linear", 2 * WIDTH, WIDTH);
    tensor(w, "pos_embed.proj.weight", WIDTH, 3, PATCH);
    vector(w, "", "pos_embed.proj.bias", WIDTH);
    linear(w, "", "proj_out", PATCH * PATCH * 3, WIDTH);
    linear(w, "time_text_embed.", "text_embedder.linear_1", WIDTH, POOLED);
    linear(w, "time_text_embed.", "text_embedder.linear_2", WIDTH, WIDTH);
    linear(w, "time_text_embed.", "timestep_embedder.linear_1", WIDTH, 256);
    linear(w, "time_text_embed.", "timestep_embedder.linear_2", WIDTH, WIDTH);
    for (int i = 0; i < BLOCKS; i++)
        block(w, i);
    /* [1, positions^2, width] */
    fprintf(w->json, ",\"pos_embed.pos_embed\":{\"dtype\":\"F32\",\"shape\":[1,%d,%d],\"data_offsets\":[%llu,",
            POSITIONS * POSITIONS, WIDTH, (unsigned long long)w->at);
    for (int i = 0; i < POSITIONS * POSITIONS * WIDTH; i++) {
        float v = (float)((i * 37 + i / WIDTH * 11) % 64) / 32 - 1;
        fwrite(&v, sizeof v, 1, w->data);
    }
    w->at += 4u * POSITIONS * POSITIONS * WIDTH;
    fprintf(w->json, "%llu]}", (unsigned long long)w->at);
}

static void text_encoder(struct writer *w)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                        "self_attn.out_proj"};
    tensor(w, "text_model.embeddings.token_embedding.weight", VOCAB, TEXT, 0);
    tensor(w, "text_model.embeddings.position_embedding.weight", IMAGEFOLDER_TOKENS, TEXT, 0);
    for (int i = 0; i < TEXT_LAYERS; i++) {
        char p[64];
        snprintf(p, sizeof p, "text_model.encoder.layers.%d.", i);
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            linear(w, p, names[k], TEXT, TEXT);
        linear(w, p, "mlp.fc1", FFN, TEXT);
        linear(w, p, "mlp.fc2", TEXT, FFN);
        vector(w, p, "layer_norm1.weight", TEXT);
        vector(w, p, "layer_norm1.bias", TEXT);
        vector(w, p, "layer_norm2.weight", TEXT);
        vector(w, p, "layer_norm2.bias", TEXT);
    }
    vector(w, "text_model.", "final_layer_norm.weight", TEXT);
    vector(w, "text_model.", "final_layer_norm.bias", TEXT);
    tensor(w, "text_projection.weight", POOLED, TEXT, 0);
}

static void write_weights(const char *path, void (*fill)(struct writer *w), uint64_t seed)
{
    char *json, *data;
    size_t n_json, n_data;
    struct writer w = {.json = open_memstream(&json, &n_json), .data = open_memstream(&data, &n_data),
                       .seed = seed};
    fprintf(w.json, "{");
    fill(&w);
    fprintf(w.json, "}");
    fclose(w.json);
    fclose(w.data);
    uint64_t n = n_json;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(&n, sizeof n, 1, f);
    fwrite(json, 1, n_json, f);
    fwrite(data, 1, n_data, f);
    fclose(f);
    free(json);
    free(data);
}

static void text(const char *folder, const char *name, const char *what)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    e2e_write_file(path, what, strlen(what));
}

/* Letters, alone and at the end of a word; no merges. */
static void tokenizer(const char *folder)
{
    char vocab[4096] = "{";
    for (int i = 0; i < LETTERS; i++)
        sprintf(vocab + strlen(vocab), "\"%c\":%d,\"%c</w>\":%d,", 'a' + i, i, 'a' + i, LETTERS + i);
    sprintf(vocab + strlen(vocab), "\"<|startoftext|>\":%d,\"<|endoftext|>\":%d}", VOCAB - 2, VOCAB - 1);
    text(folder, "tokenizer/vocab.json", vocab);
    text(folder, "tokenizer/merges.txt", "#version: 0.2\n");
    text(folder, "tokenizer/tokenizer_config.json",
         "{\"tokenizer_class\":\"CLIPTokenizer\",\"bos_token\":\"<|startoftext|>\","
         "\"eos_token\":\"<|endoftext|>\",\"unk_token\":\"<|endoftext|>\",\"pad_token\":\"<|endoftext|>\"}");
}

static void configs(const char *folder)
{
    char json[2048];
    text(folder, "model_index.json", "{\"_class_name\":\"PixelMMDiT\","
         "\"scheduler\":[\"diffusers\",\"FlowMatchEulerDiscreteScheduler\"],"
         "\"text_encoder\":[\"transformers\",\"CLIPTextModelWithProjection\"],"
         "\"transformer\":[\"diffusers\",\"SD3Transformer2DModel\"]}");
    text(folder, "muster.json", "{\"words\":[\"a\",\"blue\",\"car\",\"red\",\"on\",\"field\"]}");
    text(folder, "scheduler/scheduler_config.json",
         "{\"_class_name\":\"FlowMatchEulerDiscreteScheduler\",\"num_train_timesteps\":1000,\"shift\":1.0}");
    snprintf(json, sizeof json, "{\"_class_name\":\"SD3Transformer2DModel\",\"sample_size\":%d,\"patch_size\":%d,"
             "\"in_channels\":3,\"out_channels\":3,\"num_layers\":%d,\"attention_head_dim\":%d,"
             "\"num_attention_heads\":%d,\"joint_attention_dim\":%d,\"caption_projection_dim\":%d,"
             "\"pooled_projection_dim\":%d,\"pos_embed_max_size\":%d,\"qk_norm\":\"rms_norm\"}",
             IMAGEFOLDER_SIDE, PATCH, BLOCKS, WIDTH / HEADS, HEADS, TEXT, WIDTH, POOLED, POSITIONS);
    text(folder, "transformer/config.json", json);
    snprintf(json, sizeof json, "{\"architectures\":[\"CLIPTextModelWithProjection\"],\"vocab_size\":%d,"
             "\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
             "\"num_attention_heads\":2,\"max_position_embeddings\":%d,\"projection_dim\":%d,"
             "\"bos_token_id\":%d,\"eos_token_id\":%d,\"pad_token_id\":0,\"hidden_act\":\"quick_gelu\"}",
             VOCAB, TEXT, FFN, TEXT_LAYERS, IMAGEFOLDER_TOKENS, POOLED, VOCAB - 2, VOCAB - 1);
    text(folder, "text_encoder/config.json", json);
}

const char *imagefolder_make(const char *name)
{
    static const char *const parts[] = {"", "/scheduler", "/transformer", "/text_encoder", "/tokenizer"};
    char *folder = malloc(512), path[600];
    struct stat st;
    snprintf(folder, 512, "%s/%s", e2e_dir(), name);
    if (stat(folder, &st) == 0)
        return folder;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(path, sizeof path, "%s%s", folder, parts[i]);
        assert_int_equal(mkdir(path, 0777), 0);
    }
    configs(folder);
    tokenizer(folder);
    snprintf(path, sizeof path, "%s/transformer/diffusion_pytorch_model.safetensors", folder);
    write_weights(path, denoiser, 1);
    snprintf(path, sizeof path, "%s/text_encoder/model.safetensors", folder);
    write_weights(path, text_encoder, 2);
    return folder;
}
