/* quality_language - how well a language model knows the built-in world.
 *   quality_language MUSTER MODEL [--texts N] [--exams N] [--threads N]
 * Bits:     held-out texts, all tokens of each and the end, against the exact information of the grammar.
 * Answers:  `MUSTER generate --temp 0` goes on from a question, the English of a translation, or the first
 *           line of a couplet; the line that comes must be the right one (of couplets: rhyme). N of each
 *           type and each set of scenes: seen, and those that no model is trained on.
 * MODEL is a Hugging Face folder that `train llm` wrote. */
#include "coordinator/scenes/scenecorpus.h"
#include "coordinator/train/captiontokens.h"
#include "workers/models/decoderlearn.h"
#include "workers/models/hfconfig.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEED = 0x0a11ce, ROWS = 32, LENGTH_MAX = 256, PROMPTS_MAX = 1 << 17 };
/* What is asked: the six types of questions, then these. */
enum { FRENCH = N_QUESTIONS, SPANISH, COUPLETS, N_ASKED };

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "quality_language: %s\n", what);
    exit(3);
}

/* --- bits */

struct model { struct model_config c; struct params w; struct decoderlearn *d; struct nn nn; };

static void open_model(struct model *m, const char *folder)
{
    struct tensorfile t;
    struct err err = {0};
    if (tensorfile_open(&t, folder, &err) != ERR_OK || model_config_read(&m->c, &t, folder, &err) != ERR_OK ||
        params_load(&m->w, &t, &err) != ERR_OK || decoderlearn_new(&m->d, &m->c, &m->w, folder, &err) != ERR_OK)
        fail(err.msg);
    tensorfile_close(&t);
    nn_init(&m->nn, kernels_get(isa_detect()), NULL);
}

/* -log2 of the probability of targets id[1 .. n) in one row of logits [length, vocab]. */
static double bits_of_row(const float *logits, int vocab, const int32_t *id, int n)
{
    double bits = 0;
    for (int i = 0; i + 1 < n; i++) {
        const float *row = logits + (int64_t)i * vocab;
        double top = row[0], sum = 0;
        for (int k = 1; k < vocab; k++)
            top = row[k] > top ? row[k] : top;
        for (int k = 0; k < vocab; k++)
            sum += exp(row[k] - top);
        bits -= (row[id[i + 1]] - top - log(sum)) / log(2);
    }
    return bits;
}

struct rows { int32_t id[ROWS][LENGTH_MAX]; int n[ROWS], kind[ROWS], count, longest; double exact[ROWS]; };
struct bits { double model[N_TEXT_KINDS], exact[N_TEXT_KINDS]; int texts[N_TEXT_KINDS], tokens; };

static void weigh(struct model *m, struct rows *r, struct bits *b)
{
    struct err err = {0};
    struct nn_tensor *logits;
    int32_t *ids = calloc((size_t)r->count * (size_t)r->longest + 1, sizeof *ids);
    for (int i = 0; i < r->count; i++)
        memcpy(ids + i * r->longest, r->id[i], (size_t)r->n[i] * sizeof *ids);
    nn_reset(&m->nn);
    nn_set_parts(&m->nn, 1, (const int64_t[]){0, r->count});
    params_begin(&m->w);
    if (decoderlearn_forward(m->d, &m->nn, ids, r->count, r->longest, &logits, &err) != ERR_OK)
        fail(err.msg);
    for (int i = 0; i < r->count; i++) {
        b->model[r->kind[i]] += bits_of_row(logits->data + (int64_t)i * r->longest * m->c.vocab, m->c.vocab,
                                            r->id[i], r->n[i]);
        b->exact[r->kind[i]] += r->exact[i];
        b->texts[r->kind[i]]++;
        b->tokens += r->n[i] - 1;
    }
    free(ids);
    r->count = r->longest = 0;
}

/* The begin token, the text, the end token. */
static void add_text(struct rows *r, const struct tokenizer *t, const char *text, int kind)
{
    struct token_list list = {0};
    struct err err = {0};
    int n = 0;
    if (tokenizer_encode(t, text, strlen(text), (struct tokenize_options){false, false}, &list, &err) != ERR_OK)
        fail(err.msg);
    if (list.n + 2 > LENGTH_MAX)
        fail("a text of too many tokens");
    int32_t *id = r->id[r->count];
    id[n++] = tokenizer_bos(t) >= 0 ? tokenizer_bos(t) : tokenizer_eos(t);
    memcpy(id + n, list.id, (size_t)list.n * sizeof *id);
    n += list.n;
    id[n++] = tokenizer_eos(t);
    r->n[r->count] = n;
    r->kind[r->count] = kind;
    r->exact[r->count++] = scene_text_bits(TEXT_ANY, text);
    r->longest = n > r->longest ? n : r->longest;
    token_list_free(&list);
}

/* The kinds have marks of their own. */
static int kind_of(const char *text)
{
    return strstr(text, "\nQ: ") != NULL ? TEXT_QUESTIONS : strstr(text, "\nSummary: ") != NULL ? TEXT_SUMMARY
           : strstr(text, "\nBen: ") != NULL ? TEXT_DIALOGUE : strstr(text, "\nFrench: ") != NULL ? TEXT_FRENCH
           : strstr(text, "\nSpanish: ") != NULL ? TEXT_SPANISH
           : strchr(text, '\n') != NULL ? TEXT_COUPLET : TEXT_DESCRIPTION;
}

static void measure_bits(const char *folder, int n_texts)
{
    static struct model m;
    static struct rows rows;
    struct bits b = {.tokens = 0};
    struct err err = {0};
    struct tokenizer *t;
    double model = 0, exact = 0;
    if (captiontokens_open(&t, folder, &err) != ERR_OK)
        fail(err.msg);
    open_model(&m, folder);
    for (int i = 0; i < n_texts; i++) {
        char text[SCENE_TEXT_MAX];
        scene_text(SEED, (uint32_t)i, SET_SEEN, TEXT_ANY, NULL, text);
        add_text(&rows, t, text, kind_of(text));
        if (rows.count == ROWS || i + 1 == n_texts)
            weigh(&m, &rows, &b);
    }
    printf("bits of %d held-out texts, %d tokens:\n", n_texts, b.tokens);
    for (int k = 0; k < N_TEXT_KINDS; k++) {
        printf("  %-12s %6d texts  model %10.1f  exact %10.1f  %.4f x\n", scene_text_kind_name(k), b.texts[k],
               b.model[k], b.exact[k], b.model[k] / b.exact[k]);
        model += b.model[k];
        exact += b.exact[k];
    }
    printf("  %-12s %6d texts  model %10.1f  exact %10.1f  %.4f x (goal 1.03)\n", "all", n_texts, model, exact,
           model / exact);
    decoderlearn_destroy(m.d);
    params_free(&m.w);
    model_config_free(&m.c);
    nn_free(&m.nn);
    tokenizer_close(t);
}

/* --- answers */

struct asked { int what, set; char *prompt, *answer; };
static struct asked asked[PROMPTS_MAX];
static int n_asked;

static void ask(int what, int set, uint32_t index)
{
    char prompt[SCENE_TEXT_MAX], answer[SCENE_TEXT_MAX] = "";
    if (what < N_QUESTIONS) {
        scene_text_exam(SEED, index, (enum scene_set)set, (enum scene_question)what, prompt, answer);
    } else if (what < COUPLETS) {
        scene_text_translation(SEED, index, (enum scene_set)set, what == FRENCH ? TEXT_FRENCH : TEXT_SPANISH,
                               prompt, answer);
    } else {
        scene_text(SEED, index, (enum scene_set)set, TEXT_COUPLET, NULL, prompt);
        strchr(prompt, '\n')[1] = '\0';
    }
    if (n_asked == PROMPTS_MAX)
        fail("too many prompts");
    asked[n_asked++] = (struct asked){what, set, strdup(prompt), strdup(answer)};
}

static void write_prompts(const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        fail("no room for prompts");
    for (int i = 0; i < n_asked; i++) {
        json_t *row = json_pack("{s:i, s:s}", "id", i, "prompt", asked[i].prompt);
        json_dumpf(row, f, JSON_COMPACT);
        fputc('\n', f);
        json_decref(row);
    }
    fclose(f);
}

static bool right(const struct asked *a, const char *text)
{
    char both[2 * SCENE_TEXT_MAX];
    size_t n = strcspn(text, "\n");
    if (a->what == COUPLETS) {
        snprintf(both, sizeof both, "%s%.*s", a->prompt, (int)n, text);
        return scene_text_rhymes(both);
    }
    while (n > 0 && *text == ' ')
        text++, n--;
    return strlen(a->answer) == n && memcmp(a->answer, text, n) == 0;
}

/* Lines of {"id", "text"} into good and all by what and set. */
static void read_answers(FILE *f, int good[N_ASKED][N_SETS], int all[N_ASKED][N_SETS])
{
    char *line = NULL;
    size_t cap = 0;
    int shown[N_ASKED] = {0};
    while (getline(&line, &cap, f) > 0) {
        json_t *row = json_loads(line, 0, NULL);
        json_int_t id = json_integer_value(json_object_get(row, "id"));
        const char *text = json_string_value(json_object_get(row, "text"));
        if (text == NULL || id < 0 || id >= n_asked)
            fail("generate wrote a line that is no answer");
        const struct asked *a = &asked[id];
        bool ok = right(a, text);
        good[a->what][a->set] += ok;
        all[a->what][a->set]++;
        if (!ok && a->set == SET_SEEN && shown[a->what]++ < 2)
            printf("  wrong: %s%.*s | wanted: %s\n", a->prompt, (int)strcspn(text, "\n"), text, a->answer);
        json_decref(row);
    }
    free(line);
}

/* Share, with its 95% interval (Wilson). */
static void print_share(int good, int all)
{
    double n = all, p = all > 0 ? good / n : 0, z = 1.96, mid = (p + z * z / 2 / n) / (1 + z * z / n);
    double off = z * sqrt(p * (1 - p) / n + z * z / 4 / n / n) / (1 + z * z / n);
    printf(" %5.1f [%4.1f %5.1f]", 100 * p, 100 * fmax(mid - off, 0), 100 * (mid + off));
}

static void measure_answers(const char *muster, const char *folder, int each, int threads)
{
    static const char *const more[] = {"French", "Spanish", "rhymes"};
    char path[] = "/tmp/quality-language-XXXXXX", command[4096];
    int good[N_ASKED][N_SETS] = {{0}}, all[N_ASKED][N_SETS] = {{0}}, fd = mkstemp(path);
    for (int what = 0; what < N_ASKED; what++)
        for (int set = 0; set < N_SETS; set++)
            for (int i = 0; i < each; i++)
                ask(what, set, (uint32_t)i);
    write_prompts(path);
    snprintf(command, sizeof command, "'%s' generate -m '%s' --prompts '%s' --temp 0 -n 48 --batch 64 "
             "--ctx 256 --threads %d", muster, folder, path, threads);
    FILE *f = fd < 0 ? NULL : popen(command, "r");
    if (f == NULL)
        fail("generate did not start");
    read_answers(f, good, all);
    if (pclose(f) != 0)
        fail("generate failed");
    close(fd);
    unlink(path);
    printf("right at the first try, %%, of %d each [95%% interval]:\n  %-12s %19s %19s %19s %19s\n", each, "",
           "seen", "pair", "triple", "relation");
    for (int what = 0; what < N_ASKED; what++) {
        printf("  %-12s", what < N_QUESTIONS ? scene_question_name((enum scene_question)what)
                                             : more[what - N_QUESTIONS]);
        for (int set = 0; set < N_SETS; set++)
            print_share(good[what][set], all[what][set]);
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    int texts = 2000, exams = 250, threads = 1;
    if (argc < 3)
        fail("MUSTER MODEL [--texts N] [--exams N] [--threads N]");
    for (int i = 3; i + 1 < argc; i += 2) {
        int n = atoi(argv[i + 1]);
        *(strcmp(argv[i], "--texts") == 0 ? &texts : strcmp(argv[i], "--exams") == 0 ? &exams : &threads) = n;
    }
    if (texts > 0)
        measure_bits(argv[2], texts);
    fflush(stdout);
    if (exams > 0)
        measure_answers(argv[1], argv[2], exams, threads > 0 ? threads : 1);
    return 0;
}
