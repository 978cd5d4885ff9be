#include "coordinator/scenes/scenecorpus.h"

#include "coordinator/scenes/grammar.h"
#include "proto/err.h"
#include "proto/philox.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* Draws of (seed, index): the scene's own come first, captions at 2^24, texts behind them. */
static const uint64_t TEXT_DRAWS = 1u << 25;

static const char *const kinds[N_TEXT_KINDS + 1] = {"description", "questions", "summary", "dialogue",
                                                    "couplet",     "french",    "spanish", "text"};
static const char *const exams[N_QUESTIONS] = {"exam what",  "exam colour",    "exam where",
                                               "exam count", "exam yes or no", "exam relation"};

const char *scene_text_kind_name(enum scene_text_kind k) { return kinds[k]; }
const char *scene_question_name(enum scene_question q) { return exams[q] + strlen("exam "); }

static int write(const char *rule, uint64_t seed, uint32_t index, enum scene_set set, int things,
                 struct scene *scene, char *out)
{
    struct scene s;
    struct scene_facts facts;
    struct scene_random r = {seed, index, PHILOX_SCENE, TEXT_DRAWS};
    struct grammar_picker picker = {grammar_pick_random, &r};
    scene_draw(&s, seed, index, set, things);
    sceneprior_facts(&s, &facts);
    if (scene != NULL)
        *scene = s;
    return grammar_write(rule, &facts, picker, out, SCENE_TEXT_MAX);
}

int scene_text(uint64_t seed, uint32_t index, enum scene_set set, enum scene_text_kind kind,
               struct scene *scene, char out[SCENE_TEXT_MAX])
{
    return write(kinds[kind], seed, index, set, 0, scene, out);
}

/* Cuts the text behind the last `mark`. */
static void cut(char *prompt, const char *mark, char *answer)
{
    char *at = NULL;
    for (char *p = prompt; (p = strstr(p, mark)) != NULL; p++)
        at = p;
    ASSERT(at != NULL);
    at += strlen(mark);
    strcpy(answer, at + 1);             /* as long as the text at most; behind a blank */
    *at = '\0';
}

void scene_text_exam(uint64_t seed, uint32_t index, enum scene_set set, enum scene_question q,
                     char *prompt, char *answer)
{
    write(exams[q], seed, index, set, q == QUESTION_RELATION ? 2 : 0, NULL, prompt);
    cut(prompt, "\nA:", answer);
}

void scene_text_translation(uint64_t seed, uint32_t index, enum scene_set set, enum scene_text_kind kind,
                            char *prompt, char *answer)
{
    ASSERT(kind == TEXT_FRENCH || kind == TEXT_SPANISH);
    write(kinds[kind], seed, index, set, 0, NULL, prompt);
    cut(prompt, kind == TEXT_FRENCH ? "\nFrench:" : "\nSpanish:", answer);
}

double scene_text_bits(enum scene_text_kind kind, const char *text)
{
    return -log2(grammar_probability(kinds[kind], text));
}

/* --- rhymes: words of one row sound alike at the end */

static const char *const rhymes[][8] = {
    {"car", "star", "far", "afar", "tar"}, {"house", "mouse"},         {"tree", "free", "me", "sea"},
    {"boat", "float", "coat"},             {"ball", "fall", "all"},
};

/* The row of the last word of a line [n], and its place there; -1: it rhymes with nothing. */
static int row_of(const char *line, size_t n, size_t *column)
{
    while (n > 0 && !isalpha((unsigned char)line[n - 1]))
        n--;
    size_t first = n;
    while (first > 0 && isalpha((unsigned char)line[first - 1]))
        first--;
    for (size_t row = 0; row < sizeof rhymes / sizeof *rhymes; row++)
        for (*column = 0; *column < 8 && rhymes[row][*column] != NULL; ++*column)
            if (strlen(rhymes[row][*column]) == n - first &&
                memcmp(rhymes[row][*column], line + first, n - first) == 0)
                return (int)row;
    return -1;
}

bool scene_text_rhymes(const char *text)
{
    const char *end = strchr(text, '\n');
    size_t a, b;
    if (end == NULL || strchr(end + 1, '\n') != NULL)
        return false;
    int row = row_of(text, (size_t)(end - text), &a);
    return row >= 0 && row == row_of(end + 1, strlen(end + 1), &b) && a != b;
}
