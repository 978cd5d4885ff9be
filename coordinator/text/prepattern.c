#include "coordinator/text/prepattern.h"

#include <stddef.h>
#include <string.h>

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CLITICS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3(digits) \
    CLITICS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(clitics, digits) \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" clitics "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER \
    "*" clitics "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL
#define ASCII_PUNCTUATION "!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~"
/* CJK, kana and Hangul as DeepSeek's first models list them. */
#define CJK "[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+"
/* Letters as deepseek-llm lists them. */
#define DEEPSEEK_LETTERS \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}" \
    "\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}" \
    "\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}" \
    "\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}" \
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}" \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}" \
    "\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}" \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}" \
    "\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}" \
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}" \
    "\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}" \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}" \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}" \
    "\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}" \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}" \
    "\\x{1e900}-\\x{1e943}"
/* Punctuation runs as deepseek-llm lists them. */
#define DEEPSEEK_PUNCTUATION \
    "!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}"

enum {
    PRE_GPT2, PRE_DIGITS_GPT2, PRE_LLAMA3, PRE_QWEN2, PRE_QWEN35, PRE_DEEPSEEK_LLM,
    PRE_DEEPSEEK_CODER, PRE_DEEPSEEK_V3, PRE_GPT4O, PRE_TEKKEN, PRE_FALCON, PRE_DEFAULT
};

static const struct prepattern kinds[] = {
    [PRE_GPT2] = {{GPT2}, false, false, false},
    [PRE_DIGITS_GPT2] = {{"\\p{N}", GPT2}, false, false, false},
    [PRE_LLAMA3] = {{LLAMA3("\\p{N}{1,3}")}, true, false, true},
    [PRE_QWEN2] = {{LLAMA3("\\p{N}")}, false, true, false},
    [PRE_QWEN35] = {{CLITICS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?"
                             "[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" TAIL}, false, true, false},
    [PRE_DEEPSEEK_LLM] = {{"[\\r\\n]", "\\s?[" DEEPSEEK_LETTERS "]+", "\\s?[" DEEPSEEK_PUNCTUATION "]+",
                           "\\s+$", CJK, "\\p{N}+"}, false, false, false},
    [PRE_DEEPSEEK_CODER] = {{"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"},
                            false, false, false},
    [PRE_DEEPSEEK_V3] = {{"\\p{N}{1,3}",
                          "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
                          "[" ASCII_PUNCTUATION "][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
                          "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" TAIL}, false, false, false},
    [PRE_GPT4O] = {{CASED(CLITICS "?", "\\p{N}{1,3}")}, false, false, false},
    [PRE_TEKKEN] = {{CASED("", "\\p{N}")}, true, false, true},
    [PRE_FALCON] = {{"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}, false, false, false},
    [PRE_DEFAULT] = {{"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false, false},
};

static const struct { const char *name; int kind; } names[] = {
    {"gpt-2", PRE_GPT2}, {"gpt2", PRE_GPT2}, {"mpt", PRE_GPT2}, {"olmo", PRE_GPT2}, {"jais", PRE_GPT2},
    {"phi-2", PRE_GPT2}, {"gigachat", PRE_GPT2}, {"dbrx", PRE_LLAMA3}, {"smaug-bpe", PRE_LLAMA3},
    {"starcoder", PRE_DIGITS_GPT2}, {"refact", PRE_DIGITS_GPT2}, {"command-r", PRE_DIGITS_GPT2},
    {"smollm", PRE_DIGITS_GPT2}, {"codeshell", PRE_DIGITS_GPT2}, {"exaone", PRE_DIGITS_GPT2},
    {"minerva-7b", PRE_DIGITS_GPT2},
    {"llama-bpe", PRE_LLAMA3}, {"llama3", PRE_LLAMA3}, {"llama-v3", PRE_LLAMA3},
    {"falcon3", PRE_LLAMA3}, {"pixtral", PRE_LLAMA3}, {"falcon-h1", PRE_LLAMA3},
    {"midm-2.0", PRE_LLAMA3}, {"lfm2", PRE_LLAMA3},
    {"qwen2", PRE_QWEN2}, {"qwen3", PRE_QWEN2}, {"deepseek-r1-qwen", PRE_QWEN2},
    {"stablelm2", PRE_QWEN2}, {"megrez", PRE_QWEN2}, {"qwen35", PRE_QWEN35}, {"qwen3.5", PRE_QWEN35},
    {"deepseek-llm", PRE_DEEPSEEK_LLM}, {"deepseek-coder", PRE_DEEPSEEK_CODER},
    {"deepseek-v3", PRE_DEEPSEEK_V3}, {"deepseek-r1", PRE_DEEPSEEK_V3},
    {"gpt-4o", PRE_GPT4O}, {"llama4", PRE_GPT4O}, {"gpt-oss", PRE_GPT4O}, {"tekken", PRE_TEKKEN},
    {"falcon", PRE_FALCON}, {"default", PRE_DEFAULT}, {"", PRE_DEFAULT},
};

const struct prepattern *prepattern_find(const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0)
            return &kinds[names[i].kind];
    return NULL;
}
