/* Every tiny model of fixtures/llm, as Hugging Face folder and as GGUF, on every layout of exactly this
 * many ranks: logits and greedy ids against the reference implementation, the default arithmetic
 * within its limits, and the same bits as one rank alone. Cases come from listing the folder. */
#include "coordinator/text/tokenizer.h"
#include "tests/llmcases.h"

#include <mpi.h>

static struct llmcases cases;
static int failures, rank, n_ranks;

#define COMPLAIN(...)                                                                              \
    do {                                                                                           \
        failures++;                                                                                \
        fprintf(stderr, __VA_ARGS__);                                                              \
    } while (0)

/* Limits of the default arithmetic: 3 x the figures of the fixtures' README for the kind of weights. */
static double nmse_limit(const struct tensorfile *t, const struct model_config *c)
{
    double limit = 3e-6;        /* f32, f16: only the key/value cache is rounded (to f16) */
    for (int i = 0; i < t->n_tensors; i++) {
        enum dtype type = t->tensor[i].type;
        double more = type == DT_BF16 ? 3 * 1e-4
                      : dtype_info(type)->block == 1 ? 0
                      : dtype_info(type)->block == 256 ? 3 * 1.4e-3 : 3 * 7e-4;
        if (type == DT_U8)      /* packed fp4 of a Hugging Face folder */
            more = 3 * 7e-4;
        limit = more > limit ? more : limit;
    }
    return c->n_experts > 0 && limit > 1e-4 ? 3 * 5e-3 : limit;
}

static void check_close(const char *what, const struct llmtruth *t, const float *got)
{
    double worst = llmtruth_worst(t, got);
    if (!(worst <= 2e-4))
        COMPLAIN("%s: logits off by %g\n", what, worst);
}

static int argmax_of(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static void check_nmse(const char *what, const struct llmtruth *t, const float *got, double limit)
{
    double error = 0, power = 0;
    int same = 0, rows = t->n * t->len;
    for (int64_t i = 0; i < llmtruth_count(t); i++) {
        error += ((double)got[i] - t->logits[i]) * ((double)got[i] - t->logits[i]);
        power += (double)t->logits[i] * t->logits[i];
    }
    for (int r = 0; r < rows; r++)
        same += argmax_of(got + (int64_t)r * t->vocab, t->vocab) ==
                argmax_of(t->logits + (int64_t)r * t->vocab, t->vocab);
    if (!(error <= limit * power) || same < 0.9 * rows)
        COMPLAIN("%s: NMSE %.3g (limit %.3g), %d of %d argmax agree\n", what, error / power, limit,
                 same, rows);
    else if (getenv("MUSTER_TEST_VERBOSE") != NULL)
        fprintf(stderr, "%s: NMSE %.3g (limit %.3g), %d of %d\n", what, error / power, limit, same,
                rows);
}

/* --- one model on one layout */

enum { F32_SHORT, F32_LONG, PROMPT, GENERATED, LONG_GENERATED, RUNS };
static const char *const run_names[RUNS] = {"f32", "f32 long", "default prompt", "default generated",
                                            "default generated long"};
enum { GREEDY_SEQS = 3, GREEDY_LEN = 64 };

/* What one layout said; kept of the one-rank layout to compare the others with, bit for bit. */
struct said {
    float *logits[RUNS];
    int32_t greedy[GREEDY_SEQS * GREEDY_LEN], sampled[GREEDY_SEQS * GREEDY_LEN];
};

struct model {
    const struct llmcase *fc;
    struct tensorfile file;
    struct model_config c;
    struct llmtruth shorter, longer;
    bool has_longer;
    double limit;
};

static const struct llmtruth *truth_of(const struct model *m, int run)
{
    return run == F32_LONG || run == LONG_GENERATED ? &m->longer : &m->shorter;
}

static void run_greedy(struct llmrun *r, const struct model *m, struct said *s)
{
    int32_t prompt[GREEDY_SEQS * GREEDY_LEN];
    const json_t *first = json_array_get(m->fc->greedy, 0);
    int n = (int)json_array_size(m->fc->greedy);
    int len = (int)json_array_size(json_object_get(first, "prompt"));
    int n_new = (int)json_array_size(json_object_get(first, "tokens"));
    n = n < GREEDY_SEQS ? n : GREEDY_SEQS;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < len; k++)
            prompt[i * len + k] = (int32_t)json_integer_value(json_array_get(
                json_object_get(json_array_get(m->fc->greedy, (size_t)i), "prompt"), (size_t)k));
    Muster__Sampling greedy = MUSTER__SAMPLING__INIT;       /* temperature 0 */
    llmrun_generate(r, prompt, n, len, 5, n_new, (Muster__Sampling *[]){&greedy, &greedy, &greedy},
                    s->greedy);
    for (int i = 0; r->sampler && i < n * n_new; i++) {
        int want = (int)json_integer_value(json_array_get(json_object_get(
            json_array_get(m->fc->greedy, (size_t)(i / n_new)), "tokens"), (size_t)(i % n_new)));
        if (s->greedy[i] != want) {
            COMPLAIN("%s: greedy token %d of prompt %d is %d, not %d\n", m->fc->name, i % n_new,
                     i / n_new, s->greedy[i], want);
            return;
        }
    }
}

/* Three ways to sample side by side: without filters, by the few best, by all that there is. */
static void run_sampled(struct llmrun *r, const struct model *m, int chunk, struct said *s)
{
    enum { LEN = 12, NEW = 20 };
    int32_t prompt[GREEDY_SEQS * LEN];
    Muster__Sampling warm = MUSTER__SAMPLING__INIT, few = warm, full = warm;
    Muster__Bias bias = MUSTER__BIAS__INIT, *biases = &bias;
    for (int i = 0; i < GREEDY_SEQS * LEN; i++)
        prompt[i] = (int32_t)m->shorter.ids[i];
    warm.temperature = few.temperature = full.temperature = 0.8;
    few.top_k = 7;
    few.seed = 5;
    full.top_p = 0.9;
    full.min_p = 0.01;
    full.repeat_penalty = 1.3;
    full.frequency_penalty = 0.2;
    full.no_repeat_ngram = 2;
    full.n_logprobs = 3;
    full.n_bias = 1;
    full.bias = &biases;
    bias.token = 7;
    bias.value = 1.5f;
    llmrun_generate(r, prompt, GREEDY_SEQS, LEN, chunk, NEW,
                    (Muster__Sampling *[]){&warm, &few, &full}, s->sampled);
}

static void run_all(struct llmrun *r, const struct model *m, struct said *s)
{
    struct decoder_options f32 = llmrun_options(COMPUTE_F32, DT_F32, 1);
    struct decoder_options plain = llmrun_options(COMPUTE_DEFAULT, DT_F16, 1);
    const struct llmtruth *a = &m->shorter, *b = &m->longer;
    for (int i = 0; i < RUNS; i++)
        if (r->sampler && llmtruth_count(truth_of(m, i)) > 0)
            s->logits[i] = malloc(sizeof(float) * (size_t)llmtruth_count(truth_of(m, i)));
    llmrun_start(r, &f32);
    llmrun_logits(r, a->ids, a->n, a->len, a->len, false, s->logits[F32_SHORT]);
    if (m->has_longer)
        llmrun_logits(r, b->ids, b->n, b->len, b->len, false, s->logits[F32_LONG]);
    if (m->fc->greedy != NULL)
        run_greedy(r, m, s);
    llmrun_start(r, &plain);
    llmrun_logits(r, a->ids, a->n, a->len, 29, false, s->logits[PROMPT]);
    llmrun_logits(r, a->ids, a->n, a->len, 1, true, s->logits[GENERATED]);
    if (m->has_longer)
        llmrun_logits(r, b->ids, b->n, b->len, 1, true, s->logits[LONG_GENERATED]);
    run_sampled(r, m, 12, s);
}

/* The default arithmetic once more, in other chunks; with two threads where only one rank wants the
 * cores (threads of several ranks would wait for each other's turns). */
static void run_again(struct llmrun *r, const struct model *m, struct said *s)
{
    struct decoder_options plain = llmrun_options(COMPUTE_DEFAULT, DT_F16, n_ranks == 1 ? 2 : 1);
    const struct llmtruth *a = &m->shorter;
    if (r->sampler)
        s->logits[PROMPT] = malloc(sizeof(float) * (size_t)llmtruth_count(a));
    llmrun_start(r, &plain);
    llmrun_logits(r, a->ids, a->n, a->len, 7, false, s->logits[PROMPT]);
    run_sampled(r, m, 5, s);
}

static void check_truth(const struct model *m, const struct said *s)
{
    for (int i = 0; i < RUNS; i++) {
        char what[400];
        snprintf(what, sizeof what, "%s, %s", m->fc->name, run_names[i]);
        if (s->logits[i] == NULL)
            continue;
        if (i <= F32_LONG)
            check_close(what, truth_of(m, i), s->logits[i]);
        else
            check_nmse(what, truth_of(m, i), s->logits[i], m->limit);
    }
}

static void check_same(const struct model *m, const struct said *alone, const struct said *s,
                       const char *layout)
{
    for (int i = 0; i < RUNS; i++)
        if (s->logits[i] != NULL && memcmp(s->logits[i], alone->logits[i],
                                           sizeof(float) * (size_t)llmtruth_count(truth_of(m, i))) != 0)
            COMPLAIN("%s, %s: %s has other bits than one rank\n", m->fc->name, run_names[i], layout);
    if (s->logits[F32_SHORT] != NULL && memcmp(s->greedy, alone->greedy, sizeof s->greedy) != 0)
        COMPLAIN("%s: %s has other greedy tokens than one rank\n", m->fc->name, layout);
    if (memcmp(s->sampled, alone->sampled, sizeof s->sampled) != 0)
        COMPLAIN("%s: %s samples other tokens than one rank\n", m->fc->name, layout);
}

static void drop_said(struct said *s)
{
    for (int i = 0; i < RUNS; i++)
        free(s->logits[i]);
    memset(s, 0, sizeof *s);
}

/* On exactly this many ranks; up to 8 ranks side by side have one rank's bits. */
static bool is_layout(int tp, int pp) { return tp * pp == n_ranks && tp <= 8 && pp <= 2; }

static void check_layout(struct model *m, struct comm *comm, int tp, int pp, bool again,
                         const struct said *alone)
{
    struct llmrun r = {0};
    struct said s = {0};
    char layout[64];
    if (tp > m->c.n_heads || pp > m->c.n_layers ||
        !llmrun_place(&r, &m->c, tp, pp, 0, again, rank, n_ranks))
        return;
    snprintf(layout, sizeof layout, "tp %d x pp %d%s", tp, pp, again ? ", uneven, other chunks" : "");
    llmrun_load(&r, &m->c, &m->file, comm);
    (again ? run_again : run_all)(&r, m, &s);
    if (r.sampler) {
        check_truth(m, &s);
        check_same(m, alone, &s, layout);
    }
    drop_said(&s);
    llmrun_free(&r);
}

static void check_model(const struct llmcase *fc, struct comm *comm)
{
    struct model m = {.fc = fc};
    struct tensorfile expected;
    struct said alone = {0};
    bool samples = false;
    LLMRUN_DO(tensorfile_open(&expected, fc->expected, err));
    llmtruth_read(&expected, "input_ids", "logits", &m.shorter);
    m.has_longer = llmtruth_read(&expected, "long_input_ids", "long_logits", &m.longer);
    tensorfile_close(&expected);
    LLMRUN_DO(tensorfile_open(&m.file, fc->path, err));
    LLMRUN_DO(model_config_read(&m.c, &m.file, fc->path, err));
    m.limit = nmse_limit(&m.file, &m.c);
    for (int pp = 1; pp <= 2; pp++)
        for (int tp = 1; tp <= 8; tp++)
            samples = samples || (is_layout(tp, pp) && rank == (pp - 1) * tp);
    if (samples) {      /* one rank alone: what all layouts must equal */
        struct llmrun r = {0};
        llmrun_place(&r, &m.c, 1, 1, rank, false, rank, n_ranks);
        llmrun_load(&r, &m.c, &m.file, comm);
        run_all(&r, &m, &alone);
        llmrun_free(&r);
    }
    for (int pp = 1; pp <= 2; pp++)
        for (int tp = 1; tp <= 8; tp++)
            for (int again = 0; again < 2 && is_layout(tp, pp); again++)
                check_layout(&m, comm, tp, pp, again, &alone);
    drop_said(&alone);
    llmtruth_free(&m.shorter);
    llmtruth_free(&m.longer);
    model_config_free(&m.c);
    tensorfile_close(&m.file);
}

/* --- a real model: its greedy text is known */

static void check_story(const char *path, const char *text_path, struct comm *comm, int tp, int pp)
{
    enum { LEN = 5, NEW = 200 };
    static const int32_t prompt[LEN] = {1, 403, 407, 261, 378};     /* BOS Once upon a time */
    static int32_t ids[LEN + NEW];
    struct tensorfile file;
    struct model_config c;
    struct llmrun r = {0};
    Muster__Sampling greedy = MUSTER__SAMPLING__INIT;
    struct decoder_options o = llmrun_options(COMPUTE_DEFAULT, DT_F16, 1);
    LLMRUN_DO(tensorfile_open(&file, path, err));
    LLMRUN_DO(model_config_read(&c, &file, path, err));
    if (llmrun_place(&r, &c, tp, pp, 0, false, rank, n_ranks)) {
        llmrun_load(&r, &c, &file, comm);
        llmrun_start(&r, &o);
        memcpy(ids, prompt, sizeof prompt);
        llmrun_generate(&r, prompt, 1, LEN, LEN, NEW, (Muster__Sampling *[]){&greedy}, ids + LEN);
        if (r.sampler) {
            char want[4096] = {0}, *text;
            uint8_t *bytes;
            size_t n;
            struct tokenizer *t;
            FILE *f = fopen(text_path, "rb");
            n = f != NULL ? fread(want, 1, sizeof want - 1, f) : 0;
            if (f != NULL)
                fclose(f);
            while (n > 0 && want[n - 1] == '\n')
                want[--n] = '\0';
            LLMRUN_DO(model_tokenizer_bytes(&file, path, &bytes, &n, err));
            LLMRUN_DO(tokenizer_open(&t, bytes, n, err));
            LLMRUN_DO(tokenizer_decode(t, ids, LEN + NEW, true, &text, &n, err));
            if (want[0] == '\0' || strcmp(text, want) != 0)
                COMPLAIN("%s, tp %d x pp %d: \"%s\" is not the known text\n", path, tp, pp, text);
            free(text);
            free(bytes);
            tokenizer_close(t);
        }
    }
    llmrun_free(&r);
    model_config_free(&c);
    tensorfile_close(&file);
}

static void check_stories(struct comm *comm)
{
    char path[600], text[600];
    const char *base = getenv("MUSTER_DATA");
    snprintf(path, sizeof path, "%s/llm/stories260K.gguf", base != NULL ? base : DATA_DEFAULT);
    snprintf(text, sizeof text, "%s/llm/stories260K.greedy200.txt", base != NULL ? base : DATA_DEFAULT);
    if (access(path, R_OK) != 0 || access(text, R_OK) != 0)
        return;
    for (int pp = 1; pp <= 2; pp++)
        for (int tp = 1; tp <= 8; tp++)
            if (is_layout(tp, pp))
                check_story(path, text, comm, tp, pp);
}

int main(int argc, char **argv)
{
    int provided, all = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    struct comm comm;
    LLMRUN_DO(comm_mpi_init(err));
    rank = comm_mpi_rank();
    n_ranks = comm_mpi_size();
    LLMRUN_DO(comm_mpi_open(&comm, rank, err));
    if (!llmcases_list(&cases, FIXTURES_DEFAULT)) {
        MPI_Finalize();
        return 77;
    }
    for (int i = 0; i < cases.n; i++)
        check_model(&cases.item[i], &comm);
    int n = cases.n;
    check_stories(&comm);
    llmcases_free(&cases);
    MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%d models on %d ranks: %d failures\n", n, n_ranks, all);
    comm_close(&comm);
    comm_mpi_finish();
    MPI_Finalize();
    return all > 0 || n == 0;
}
