/* test_bad_parsers.c - what a model brings along besides weights, broken: chat templates that never end,
 * tokenizer.json section by section, config.json's rarer fields. Two ranks, one line, exit code 3, soon.
 * Oracle: the message names the section or field. */
#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LIMIT_S = 30, INPUT = 3, ALIGN = 32 };
static const double SOON_S = 10;

/* ---- chat templates ---- */

/* The small model with a chat template put in front of its other keys; padded so that the data stay on
 * their border. */
static const char *with_template(const char *text)
{
    static char path[256];
    static const char key[] = "tokenizer.chat_template";
    size_t n, at = 24, n_key = sizeof key - 1, n_text = strlen(text), more = 8 + n_key + 4 + 8 + n_text;
    size_t pad = (ALIGN - more % ALIGN) % ALIGN;
    uint64_t lengths[2] = {n_key, n_text + pad}, n_keys;
    uint32_t string = 8;
    char *file = e2e_read_file(e2e_model("chat.gguf", "--preset even --type q8_0 --layers 2"), &n);
    char *out = malloc(n + more + pad), *p = out;
    memcpy(&n_keys, file + 16, 8);
    n_keys++;
    memcpy(p, file, 16);
    memcpy(p + 16, &n_keys, 8);
    p += at;
    memcpy(p, &lengths[0], 8);
    memcpy(p += 8, key, n_key);
    memcpy(p += n_key, &string, 4);
    memcpy(p += 4, &lengths[1], 8);
    memcpy(p += 8, text, n_text);
    memset(p += n_text, ' ', pad);
    memcpy(p + pad, file + at, n - at);
    snprintf(path, sizeof path, "%s/template.gguf", e2e_dir());
    e2e_write_file(path, out, n + more + pad);
    free(out);
    free(file);
    return path;
}

static void expect(int status, const char *what, const char *args)
{
    struct e2e_run r;
    e2e_ranks(&r, 2, LIMIT_S, "%s", args);
    if (status == 0)
        e2e_expect(&r, 0);
    else
        e2e_expect_error(&r, status, what);
    if (r.seconds > SOON_S)
        fail_msg("%s: took %.1f s", what, r.seconds);
    e2e_run_free(&r);
}

static void chat(const char *template, int status, const char *what)
{
    char messages[256], args[1024];
    static const char text[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Once\"}], \"tools\": [{}]}";
    snprintf(messages, sizeof messages, "%s/messages.json", e2e_dir());
    e2e_write_file(messages, text, sizeof text - 1);
    snprintf(args, sizeof args, "generate -m '%s' --chat '%s' -n 2 --temp 0", with_template(template),
             messages);
    expect(status, what, args);
}

static void chat_templates(void **state)
{
    static char nested[20000], calls[400];
    memset(nested, '(', sizeof nested - 1);
    memcpy(nested, "{{ ", 3);
    snprintf(calls, sizeof calls, "{%% macro f(n) %%}{{ f(n + 1) }}{%% endmacro %%}{{ f(0) }}");
    chat("{{ messages[0]['content'] }}", 0, "sound");
    chat("{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}"
         "{% endfor %}{% endfor %}{% endfor %}", INPUT, "template");
    chat("{% for a in range(1000000000) %}x{% endfor %}", INPUT, "template");
    chat("{% set ns = namespace(s='abcdefgh') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
         INPUT, "template");
    chat("{{ 'x' * 10000000000 }}", INPUT, "template");
    chat(calls, INPUT, "template");
    chat(nested, INPUT, "template");
    chat("{{ raise_exception('only the user may begin') }}", INPUT, "only the user may begin");
    chat("{% if messages %}", INPUT, "template");
    chat("{{ messages | nonsense }}", INPUT, "nonsense");
    chat("{{ tools[7]['function']['name'] }}", INPUT, "template");
}

/* ---- tokenizer.json and config.json ---- */

static const char *folder(void)
{
    static char dir[256];
    snprintf(dir, sizeof dir, "%s/folder", e2e_dir());
    mkdir(dir, 0700);
    return dir;
}

static void write_part(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder(), name);
    e2e_write_file(path, text, strlen(text));
}

/* config.json with `fields` put before the usual ones: of two alike the last counts, so they come last. */
static void write_config(const char *fields)
{
    char text[4096];
    snprintf(text, sizeof text, "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], "
             "\"hidden_size\": 32, \"intermediate_size\": 32, \"num_hidden_layers\": 1, "
             "\"num_attention_heads\": 1, \"num_key_value_heads\": 1, \"vocab_size\": 4, "
             "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0%s%s}",
             *fields ? ", " : "", fields);
    write_part("config.json", text);
}

static void write_folder(void)
{
    char path[512], part[512] = {0};
    static const char header[] =
        "{\"model.norm.weight\": {\"dtype\": \"F32\", \"shape\": [32], \"data_offsets\": [0, 128]}}";
    uint64_t n = sizeof header - 1;
    memcpy(part, &n, 8);
    memcpy(part + 8, header, n);
    snprintf(path, sizeof path, "%s/model.safetensors", folder());
    e2e_write_file(path, part, 8 + n + 128);
    write_config("");
}

static void tokenizer_sections(void **state)
{
#define BPE "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}"
    static const struct { const char *sections, *what; } cases[] = {
        {BPE, NULL},
        {BPE ", \"normalizer\": {\"type\": \"Magic\"}", "Magic"},
        {BPE ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": 5}", "normalizers"},
        {BPE ", \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"(\"}, \"content\": \"\"}",
         "parenthesis"},
        {BPE ", \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}",
         "precompiled_charsmap"},
        {BPE ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a\"}, "
             "\"behavior\": \"Isolated\"}", "terminating ]"},
        {BPE ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, "
             "\"behavior\": \"Sideways\"}", "behavior"},
        {BPE ", \"decoder\": {\"type\": \"Strip\", \"content\": 5, \"start\": -1, \"stop\": 0}", "Strip"},
        {BPE ", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
             "{\"id\": \"[X]\", \"type_id\": 0}}], \"special_tokens\": {}}", "[X]"},
        {BPE ", \"added_tokens\": [{\"id\": -1, \"content\": \"x\"}]", "token id -1"},
        {"\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", \"high\"]], \"unk_id\": 0}", "vocab[0]"},
        {"\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1.0]], \"unk_id\": 5}", "unk_id"},
        {"\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999999}, \"merges\": []}", "99999999999"},
        {"\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a z\"]}", "merge 0"},
        {"\"model\": {\"type\": \"Quantum\"}", "Quantum"}};
    write_folder();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[2048], args[512];
        snprintf(text, sizeof text, "{\"version\": \"1.0\", %s}", cases[i].sections);
        write_part("tokenizer.json", text);
        snprintf(args, sizeof args, "tokenize -m '%s' -p ab", folder());
        expect(cases[i].what == NULL ? 0 : INPUT, cases[i].what, args);
    }
}

static void config_fields(void **state)
{
    static const struct { const char *fields, *what; } cases[] = {
        {"\"rope_scaling\": 5", "rope_scaling is not an object"},
        {"\"rope_parameters\": [8.0]", "rope_parameters is not an object"},
        {"\"rope_scaling\": {\"type\": \"yarn\"}", "rope_scaling.factor"},
        {"\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": -2}", "factor is -2"},
        {"\"rope_scaling\": {\"rope_type\": \"magic\", \"factor\": 2}", "magic"},
        {"\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1]}",
         "short_factor"},
        {"\"model_type\": \"mixtral\", \"architectures\": [\"MixtralForCausalLM\"], "
         "\"num_local_experts\": 0, \"num_experts_per_tok\": 2", "num_local_experts"},
        {"\"model_type\": \"mixtral\", \"architectures\": [\"MixtralForCausalLM\"], "
         "\"num_local_experts\": 2, \"num_experts_per_tok\": 9", "num_experts_per_tok"},
        {"\"num_key_value_heads\": 5, \"num_attention_heads\": 7", "KV heads"},
        {"\"head_dim\": 1099511627776", "head_dim"},
        {"\"vocab_size\": -3", "vocab_size"},
        {"\"rope_theta\": \"high\"", "rope_theta"}};
    write_folder();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char args[512];
        write_config(cases[i].fields);
        snprintf(args, sizeof args, "inspect -m '%s'", folder());
        expect(INPUT, cases[i].what, args);
    }
}

/* A folder of before tokenizer.json: six tokens, <unk> <s> </s> <0x41> " a" b, in a SentencePiece model that
 * puts no blank before a text. */
static void sentencepiece_models(void **state)
{
    enum { ROWS = 6, BYTES = ROWS * 32 * 4 };
    static const char header[] =
        "{\"model.embed_tokens.weight\": {\"dtype\": \"F32\", \"shape\": [6, 32], \"data_offsets\": [0, 768]}}";
    static const struct { const char *corpus; size_t cut; const char *what; } cases[] = {
        {"spm", 0, NULL}, {"spm", 9, "SentencePiece"}, {"spm_unigram", 0, "Unigram"},
        {"spm_long_varint", 0, "SentencePiece"}};
    char path[512], part[8 + sizeof header - 1 + BYTES], args[512];
    uint64_t n = sizeof header - 1;
    memset(part, 0, sizeof part);
    memcpy(part, &n, 8);
    memcpy(part + 8, header, n);
    write_folder();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder());
    remove(path);
    snprintf(path, sizeof path, "%s/model.safetensors", folder());
    e2e_write_file(path, part, sizeof part);
    snprintf(args, sizeof args, "tokenize -m '%s' -p ' ab'", folder());
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bytes;
        snprintf(path, sizeof path, "%s/tests/fuzz/corpus/fuzz_pieces/%s", E2E_SOURCE, cases[i].corpus);
        char *model = e2e_read_file(path, &bytes);
        snprintf(path, sizeof path, "%s/tokenizer.model", folder());
        e2e_write_file(path, model, bytes - cases[i].cut);
        free(model);
        if (cases[i].what != NULL) {
            expect(INPUT, cases[i].what, args);
            continue;
        }
        struct e2e_run r;
        e2e_ranks(&r, 1, LIMIT_S, "%s", args);
        e2e_expect(&r, 0);
        assert_string_equal(r.out, "[1, 4, 5]\n");
        e2e_run_free(&r);
    }
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_templates),
        cmocka_unit_test(tokenizer_sections),
        cmocka_unit_test(config_fields),
        cmocka_unit_test(sentencepiece_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
