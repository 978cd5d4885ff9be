#include "workers/noderates.h"

#include "workers/kernels/linear.h"
#include "workers/models/decoder.h"
#include "workers/models/team.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { FILL = 0x31,                     /* as any type a small finite number, as a scale too */
       COLUMNS = 2048, COLUMNS_WIDE = 4096, PROMPT_OUT = 2048,
       BIG_BYTES = 192 << 20,           /* past most last-level caches */
       PIECE_BYTES = 4 << 20,           /* of it multiplied at a time, as much as a layer's matrices are */
       ROUNDS_LEAST = 6, ROUNDS_MOST = 400, PREPARED = 16, PREPARE_ROUNDS = 50 };
static const double POINT_SECONDS = 0.03;   /* for one point, at least; each is visited twice */

static double better(double best, double seconds) { return best == 0 || seconds < best ? seconds : best; }

/* --- products */

struct product {
    struct linear w;
    struct split_program program;   /* K whole, or in the segments of a row-parallel product */
    enum isa isa;
    enum role role;
    int n_rows, n_threads;
    float *x, *out;
    uint8_t *xq, *scratch;
    size_t scratch_bytes;
};

static void *take(size_t bytes) { return aligned_alloc(4096, (bytes + 4095) / 4096 * 4096); }

/* A matrix of about `bytes`, one panel copied over it; packed NULL: no memory, or no weight type. */
static struct linear make_matrix(enum dtype type, int k, size_t bytes, int n_threads)
{
    const struct dtype_info *info = dtype_info((int)type);
    struct linear w = {.type = type, .n_out = LINEAR_PANEL, .k = k};
    if (info == NULL || info->dequantise == NULL || k % info->block != 0)
        return w;
    size_t row = dtype_bytes(type, k), panel = linear_packed_bytes(type, LINEAR_PANEL, k, 0);
    size_t n = panel > 0 ? (bytes + panel - 1) / panel : 0;
    uint8_t *src = n > 0 ? malloc(row * LINEAR_PANEL) : NULL;
    w.packed = src != NULL ? take(n * panel) : NULL;
    if (w.packed != NULL) {
        struct err ignored = {0};
        memset(src, FILL, row * LINEAR_PANEL);
        if (linear_pack(&w, 0, LINEAR_PANEL, src, row, &ignored) != ERR_OK) {
            free(w.packed);
            w.packed = NULL;
        } else {
#pragma omp parallel for num_threads(n_threads) schedule(static)
            for (size_t i = 1; i < n; i++)
                memcpy(w.packed + i * panel, w.packed, panel);
        }
    }
    free(src);
    w.n_out = (int)n * LINEAR_PANEL;
    return w;
}

/* Output panels [first, end). */
static double product_seconds(const struct product *p, int64_t first, int64_t end)
{
    double t0 = omp_get_wtime();
#pragma omp parallel num_threads(p->n_threads)
    {
        int64_t n = omp_get_num_threads(), i = omp_get_thread_num();
        int from = (int)(first + (end - first) * i / n), to = (int)(first + (end - first) * (i + 1) / n);
        linear_run(&p->w, p->isa, COMPUTE_DEFAULT, p->role, &p->program, p->out, p->w.n_out, 0, p->xq,
                   p->n_rows, from, to, p->scratch + (size_t)i * p->scratch_bytes);
    }
    return omp_get_wtime() - t0;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds a byte; late: by how much the slower of two that do the same is later. */
struct rate { double usual, late; };

/* The mean without its slowest tenth, or one: what other programs cost is no property of the machine, but
 * a step of a model waits for hundreds of products, not for the best of them. Ranks that add up their sums
 * wait for the slower one each time, which is the mean of the larger of any two; pauses of the machine
 * count as no more than twice the usual. */
static struct rate usual(double *v, int n)
{
    int keep = n > 1 ? n - (n + 9) / 10 : n;
    double sum = 0, larger = 0;
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    for (int i = 0; i < keep; i++)
        sum += v[i];
    for (int i = 0; i < n; i++)
        larger += (v[i] < 2 * sum / keep ? v[i] : 2 * sum / keep) * (2 * i + 1);
    larger /= (double)n * n;
    return (struct rate){sum / keep, larger > sum / keep ? larger - sum / keep : 0};
}

/* The rate over pieces of the matrix one after the other. */
static struct rate time_pieces(const struct product *p)
{
    size_t all = linear_packed_bytes(p->w.type, p->w.n_out, p->w.k, 0);
    int64_t n = all / PIECE_BYTES > 0 ? (int64_t)(all / PIECE_BYTES) : 1;
    int64_t panels = p->w.n_out / LINEAR_PANEL;
    double rate[ROUNDS_MOST], t0 = 0;
    int taken = 0;
    for (int i = -1; i < ROUNDS_MOST; i++) {        /* one to warm up */
        int64_t at = i < 0 ? n - 1 : i % n, first = panels * at / n, end = panels * (at + 1) / n;
        double bytes = (double)all * (double)(end - first) / (double)panels;
        double seconds = product_seconds(p, first, end);
        if (i < 0)
            t0 = omp_get_wtime();
        else
            rate[taken++] = seconds / bytes;
        if (i >= ROUNDS_LEAST && omp_get_wtime() - t0 > POINT_SECONDS)
            break;
    }
    return usual(rate, taken);
}

/* Seconds for each number of 16 rows of x that one thread makes ready. */
static double time_prepare(const struct product *p)
{
    int rows = p->n_rows < PREPARED ? p->n_rows : PREPARED;
    double best = 0;
    for (int i = 0; i < PREPARE_ROUNDS; i++) {
        double t0 = omp_get_wtime();
        linear_x_prepare(&p->w, p->isa, COMPUTE_DEFAULT, p->role, p->xq, p->x, p->w.k, p->n_rows, p->w.k, 0,
                         rows);
        best = better(best, omp_get_wtime() - t0);
    }
    return best / ((double)rows * p->w.k);
}

/* Zeros: no memory; *prepare (if not NULL) seconds for each number made ready. */
static struct rate time_product(struct product *p, double *prepare)
{
    size_t rows = (size_t)p->n_rows, k = (size_t)p->w.k;
    struct rate rate = {0};
    p->scratch_bytes = (linear_scratch_bytes(p->isa, COMPUTE_DEFAULT, p->role, p->n_rows, p->w.k) + 4095) /
                       4096 * 4096;
    p->x = take(rows * k * sizeof(float));
    p->out = take(rows * (size_t)p->w.n_out * sizeof(float));
    p->xq = take(linear_x_bytes(&p->w, p->isa, COMPUTE_DEFAULT, p->role, p->n_rows, p->w.k));
    p->scratch = take(p->scratch_bytes * (size_t)p->n_threads + 4096);
    if (p->x != NULL && p->out != NULL && p->xq != NULL && p->scratch != NULL) {
        for (size_t i = 0; i < rows * k; i++)
            p->x[i] = (float)(i % 17) * 0.1f - 0.8f;
        linear_x_prepare(&p->w, p->isa, COMPUTE_DEFAULT, p->role, p->xq, p->x, p->w.k, p->n_rows, p->w.k, 0,
                         p->n_rows);
        rate = time_pieces(p);
        if (prepare != NULL)
            *prepare = time_prepare(p);
    }
    free(p->x);
    free(p->out);
    free(p->xq);
    free(p->scratch);
    return rate;
}

static Muster__Rate *find_rate(struct node_facts *f, const struct product *p, uint32_t segment)
{
    bool prompt = p->role == ROLE_KIND_PROMPT;
    for (int i = 0; i < f->n_rates; i++) {
        Muster__Rate *r = &f->rate[i];
        if (r->type == (uint32_t)p->w.type && (r->prompt != 0) == prompt && r->rows == (uint32_t)p->n_rows &&
            r->columns == (uint32_t)p->w.k && r->segment == segment)
            return r;
    }
    return NULL;
}

/* A point visited again keeps the faster time: a pause of the machine is not its speed. */
static void add_rate(struct node_facts *f, const struct product *p, struct rate rate)
{
    uint32_t segment = p->program.n_seg > 1 ? COLUMNS / SPLIT_SEGMENTS : 0;
    Muster__Rate *r = find_rate(f, p, segment);
    if (rate.usual <= 0 || (r == NULL && f->n_rates == NODE_RATES_MAX))
        return;
    if (r != NULL) {
        r->s_per_byte = better(r->s_per_byte, rate.usual);
        r->late_s_per_byte = r->late_s_per_byte < rate.late ? r->late_s_per_byte : rate.late;
        return;
    }
    r = &f->rate[f->n_rates];
    muster__rate__init(r);
    r->type = (uint32_t)p->w.type;
    r->prompt = p->role == ROLE_KIND_PROMPT;
    r->rows = (uint32_t)p->n_rows;
    r->s_per_byte = rate.usual;
    r->late_s_per_byte = rate.late;
    r->columns = (uint32_t)p->w.k;
    r->segment = segment;
    f->rates[f->n_rates++] = r;
}

/* One role's points: rows [3], K whole or in segments; *prepare (may be NULL) as time_product says. */
static void measure_role(struct node_facts *f, struct product *p, bool cut, double *prepare)
{
    static const int generated[] = {1, 4, 16}, prompts[] = {16, 64, 256};
    p->program = cut ? split_program_for(p->w.k, SPLIT_GROUP, SPLIT_SEGMENTS,
                                         (struct split_range){0, SPLIT_SEGMENTS})
                     : split_whole(p->w.k);
    for (int i = 0; i < 3; i++) {
        p->n_rows = p->role == ROLE_KIND_PROMPT ? prompts[i] : generated[i];
        add_rate(f, p, time_product(p, i == 2 ? prepare : NULL));
    }
}

/* A prompt's rows that are too wide for the second-level cache are read again and again. */
static void measure_wide(struct node_facts *f, const struct product *like, enum dtype type)
{
    struct product p = *like;
    p.w = make_matrix(type, COLUMNS_WIDE, linear_packed_bytes(type, PROMPT_OUT, COLUMNS_WIDE, 0),
                      f->threads);
    if (p.w.packed != NULL)
        measure_role(f, &p, false, NULL);
    free(p.w.packed);
}

/* How long x takes to be made ready is the same for most types: the first one's counts. */
static void measure_type(struct node_facts *f, enum dtype type, size_t bytes)
{
    struct product p = {.isa = f->isa, .n_threads = f->threads};
    double prepare = 0, prepare_prompt = 0;
    p.w = make_matrix(type, COLUMNS, bytes, f->threads);
    int all = p.w.n_out;
    if (p.w.packed == NULL)
        return;
    for (int visit = 0; visit < 2; visit++) {
        p.role = ROLE_KIND_GENERATED;
        p.w.n_out = all;
        measure_role(f, &p, false, &prepare);
        measure_role(f, &p, true, NULL);
        p.role = ROLE_KIND_PROMPT;
        p.w.n_out = all < PROMPT_OUT ? all : PROMPT_OUT;
        measure_role(f, &p, false, &prepare_prompt);
        measure_role(f, &p, true, NULL);
        measure_wide(f, &p, type);
    }
    if (f->prepare_s == 0) {
        f->prepare_s = prepare;
        f->prepare_prompt_s = prepare_prompt;
    }
    free(p.w.packed);
}

/* --- layers beside their products: a decoder whose products are nearly nothing */

/* HANDOUTS: to the threads, of a real layer beyond those of this one, whose products are too small. */
enum { LAYERS_FEW = 2, LAYERS_MANY = 18, DIM = 64, FFN = 64, HEADS = 16, KV_HEADS = 4, HEAD_DIM = 64,
       VOCAB = 64, FAR = 1024, CHUNK = 64, PAGE = 64, MANY = 16, HANDOUTS = 4, HANDOUT_ROUNDS = 20,
       HANDOUT_TRIES = 200, MANY_ROUNDS = 9, FLUSH_BYTES = 32 << 20 };

struct sample_run { Muster__Run run; Muster__Admit admit; uint32_t tokens[CHUNK], pages[CHUNK / PAGE + 2]; };
struct sample {
    int n_slots;                /* sequences that go side by side */
    struct sample_run run[MANY];
    struct model_config c;
    struct layer_config layer_config[LAYERS_MANY];
    struct decoder_weights w;
    struct layer_weights layer[LAYERS_MANY];
    struct mesh mesh;
    struct decoder *decoder;
    float ones[DIM];
    int position;               /* of the next row */
    uint64_t step;
};

static void sample_config(struct sample *s, int n_layers)
{
    s->c = (struct model_config){.n_layers = n_layers, .dim = DIM, .n_heads = HEADS,
        .n_kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .value_dim = HEAD_DIM, .ffn_dim = FFN,
        .vocab = VOCAB, .context = FAR + 2 * CHUNK, .norm_eps = 1e-5f, .embed_scale = 1, .q_scale = 0.125f,
        .act = ACT_SILU, .rope_kind = ROPE_NEOX, .n_rot = HEAD_DIM, .layer = s->layer_config, .bos = -1};
    s->c.rope[0] = (struct rope_config){.base = 10000, .factor = 1, .attn_factor = 1};
    for (int i = 0; i < DIM; i++)
        s->ones[i] = 1;
}

/* Every matrix is the start of one; enough for the largest, HEADS HEAD_DIM rows of DIM. */
static void sample_weights(struct sample *s, const struct linear *one, const struct linear *wide)
{
    struct linear m = *one;
    struct layer_weights l = {.attn_norm = s->ones, .ffn_norm = s->ones, .q = m, .k = m, .v = m, .o = *wide,
                              .gate = m, .up = m, .down = m};
    l.q.n_out = HEADS * HEAD_DIM;
    l.k.n_out = l.v.n_out = KV_HEADS * HEAD_DIM;
    l.gate.n_out = l.up.n_out = FFN;
    l.down.n_out = l.o.n_out = DIM;
    for (int i = 0; i < s->c.n_layers; i++)
        s->layer[i] = l;
    m.n_out = VOCAB;
    s->w = (struct decoder_weights){.heads_local = HEADS, .kv_local = KV_HEADS, .ffn_local = FFN,
        .vocab_local = VOCAB, .embed = m, .head = m, .out_norm = s->ones, .layer = s->layer,
        .n_layers = s->c.n_layers};
}

static void sample_mesh(struct sample *s, int self)
{
    s->mesh = (struct mesh){.n_replicas = 1, .n_stages = 1, .tp = 1, .layer_end = s->c.n_layers,
        .leaves = SPLIT_SEGMENTS, .segments = {0, SPLIT_SEGMENTS}, .peer_segments = {{0, SPLIT_SEGMENTS}},
        .tp_ranks = {self}, .prev_ranks = {-1}, .next_ranks = {-1}, .first_ranks = {self},
        .last_ranks = {self}, .first_tp = 1, .last_tp = 1, .self = self};
}

/* The run of sequence `slot` that adds n rows at s->position; its pages lie beside those of the others. */
static void fill_run(const struct sample *s, struct sample_run *r, int slot, int n, Muster__Role role)
{
    muster__run__init(&r->run);
    muster__admit__init(&r->admit);
    r->admit.slot = r->run.slot = (uint32_t)slot;
    r->admit.sequence = (uint64_t)slot + 1;
    r->admit.prompt_tokens = (uint32_t)n;
    r->run.position = (uint32_t)s->position;
    r->run.tokens = r->tokens;
    r->run.n_tokens = (size_t)n;
    r->run.role = role;
    r->run.sample = true;
    r->run.new_pages = r->pages;
    int held = (s->position + PAGE - 1) / PAGE, pages = s->c.context / PAGE;
    for (int want = (s->position + n + PAGE - 1) / PAGE; held < want; held++)
        r->pages[r->run.n_new_pages++] = (uint32_t)(slot * pages + held);
}

/* One step of n rows of each sequence; *seconds is how long it took. */
static int sample_step(struct sample *s, int n, Muster__Role role, double *seconds, struct err *err)
{
    Muster__Step step = MUSTER__STEP__INIT;
    Muster__Sampling greedy = MUSTER__SAMPLING__INIT;
    Muster__Admit *admits[MANY];
    Muster__Run *runs[MANY];
    struct decoder_result result;
    greedy.top_p = greedy.typical_p = greedy.repeat_penalty = 1;
    for (int i = 0; i < s->n_slots; i++) {
        fill_run(s, &s->run[i], i, n, role);
        s->run[i].admit.sampling = &greedy;
        admits[i] = &s->run[i].admit;
        runs[i] = &s->run[i].run;
    }
    step.id = s->step++;
    step.admits = admits;
    step.n_admits = s->position == 0 ? (size_t)s->n_slots : 0;
    step.runs = runs;
    step.n_runs = (size_t)s->n_slots;
    s->position += n;
    double t0 = omp_get_wtime();
    TRY(decoder_step(s->decoder, &step, &result, err));
    *seconds = omp_get_wtime() - t0;
    return ERR_OK;
}

/* A step's time, and how many keys a row of it saw on the average. */
struct timed { double seconds, keys; };

/* The best of a few steps of n rows, one behind the other, and of what was best before. */
static int best_step(struct sample *s, int n, Muster__Role role, int rounds, struct timed *best,
                     struct err *err)
{
    for (int i = 0; i < rounds; i++) {
        double seconds, keys = s->position + 0.5 * n;
        TRY(sample_step(s, n, role, &seconds, err));
        if (best->seconds > 0 && seconds >= best->seconds)
            continue;
        *best = (struct timed){seconds, keys};
    }
    return ERR_OK;
}

/* Step times of a decoder of n_layers. */
struct steps { struct timed one, one_far, many, many_far, side_by_side; };

static int time_steps(struct sample *s, struct steps *t, struct err *err)
{
    struct timed warm = {0};
    TRY(best_step(s, CHUNK, MUSTER__ROLE__ROLE_PROMPT, 1, &warm, err));
    TRY(best_step(s, 1, MUSTER__ROLE__ROLE_GENERATED, CHUNK, &t->one, err));
    TRY(best_step(s, CHUNK, MUSTER__ROLE__ROLE_PROMPT, 3, &t->many, err));
    while (s->position < FAR - 2 * CHUNK)
        TRY(best_step(s, CHUNK, MUSTER__ROLE__ROLE_PROMPT, 1, &warm, err));
    TRY(best_step(s, CHUNK, MUSTER__ROLE__ROLE_PROMPT, 3, &t->many_far, err));
    return best_step(s, 1, MUSTER__ROLE__ROLE_GENERATED, CHUNK / 2, &t->one_far, err);
}

/* Reads enough other memory that the caches hold no keys, as a model's weights would. */
static void flush(uint8_t *memory)
{
    volatile uint8_t seen = 0;
    for (size_t i = 0; i < FLUSH_BYTES; i += 64)
        seen = (uint8_t)(seen + memory[i]++);
}

/* A step of one row of each of many sequences, the best of a few. */
static int time_side_by_side(struct sample *s, struct timed *t, struct err *err)
{
    double seconds;
    uint8_t *memory = calloc(FLUSH_BYTES, 1);
    int rc = memory == NULL ? err_set(err, ERR_NOMEM, "no memory to measure layers with")
                            : sample_step(s, PAGE / 4, MUSTER__ROLE__ROLE_GENERATED, &seconds, err);
    t->keys = s->position + 0.5 * MANY_ROUNDS;
    for (int i = 0; i < MANY_ROUNDS && rc == ERR_OK; i++) {
        flush(memory);
        rc = sample_step(s, 1, MUSTER__ROLE__ROLE_GENERATED, &seconds, err);
        if (rc == ERR_OK)
            t->seconds = better(t->seconds, seconds);
    }
    free(memory);
    return rc;
}

static int run_sample(const struct node_facts *f, struct sample *s, int n_layers, int n_slots,
                      const struct linear *one, const struct linear *wide, struct comm *comm,
                      struct steps *t, struct err *err)
{
    memset(s, 0, sizeof *s);
    s->n_slots = n_slots;
    sample_config(s, n_layers);
    sample_weights(s, one, wide);
    sample_mesh(s, comm->self);
    struct decoder_options o = {.isa = f->isa, .compute = COMPUTE_DEFAULT, .kv_dtype = DT_F16,
        .n_threads = f->threads, .max_rows = n_slots > 1 ? n_slots * PAGE / 4 : CHUNK,
        .max_slots = n_slots, .max_context = s->c.context, .page_tokens = PAGE,
        .kv_pages = n_slots * (s->c.context / PAGE)};
    TRY(decoder_new(&s->decoder, &s->c, &s->w, &s->mesh, comm, &o, err));
    int rc = n_slots > 1 ? time_side_by_side(s, &t->side_by_side, err) : time_steps(s, t, err);
    decoder_destroy(s->decoder);
    return rc;
}

/* --- hand-outs and lines of numbers */

static void nothing(void *ctx, int thread, int n_threads)
{
    (void)ctx;
    (void)thread;
    (void)n_threads;
}

struct handouts { struct team team; double seconds; };

static void hand_out(void *arg)
{
    struct handouts *h = arg;
    for (int k = 0; k < HANDOUT_TRIES; k++) {
        double t0 = omp_get_wtime();
        for (int i = 0; i < HANDOUT_ROUNDS; i++)
            team_run(&h->team, nothing, NULL);
        h->seconds = better(h->seconds, (omp_get_wtime() - t0) / HANDOUT_ROUNDS);
    }
}

/* Seconds for each number that a layer's small kernels pass over, on one thread: two norms, two sums and a
 * gate of a layer whose feed-forward is three times as wide as the model. */
static double time_numbers(enum isa isa)
{
    enum { WIDTH = 2048, WIDE = 3 * WIDTH, ROWS = 8 };
    const struct kernels *k = kernels_get(isa);
    float *a = calloc((size_t)ROWS * WIDE, sizeof *a), *b = calloc((size_t)ROWS * WIDE, sizeof *b), *w = a;
    double best = 0;
    for (int i = 0; i < 40 && a != NULL && b != NULL; i++) {
        double t0 = omp_get_wtime();
        for (int r = 0; r < ROWS; r++) {
            float *x = a + (size_t)r * WIDE, *y = b + (size_t)r * WIDE;
            k->rmsnorm(y, x, w, WIDTH, 1e-5f);
            k->add(x, x, y, WIDTH);
            k->rmsnorm(y, x, w, WIDTH, 1e-5f);
            k->silu_mul(y, y, x, WIDE);
            k->add(x, x, y, WIDTH);
        }
        best = better(best, omp_get_wtime() - t0);
    }
    free(a);
    free(b);
    return best / ROWS / (8.0 * WIDTH + 4.0 * WIDE);     /* the planner's count of passes */
}

/* Seconds for each key or value number, from two depths. */
static double attend_seconds(const struct timed *near, const struct timed *far, int rows)
{
    double numbers = (far->keys - near->keys) * HEADS * 2 * HEAD_DIM * LAYERS_MANY * rows;
    return (far->seconds - near->seconds) / numbers;
}

/* From a few and from many layers: what a layer adds, and what is left for the step. */
static void find_costs(struct node_facts *f, const struct steps *few, const struct steps *many,
                       double handout)
{
    double threads = f->threads > 1 ? f->threads : 1;
    double layers = LAYERS_MANY - LAYERS_FEW;
    double each = (many->one.seconds - few->one.seconds) / layers;
    double attend = attend_seconds(&many->one, &many->one_far, 1);
    double attend_prompt = attend_seconds(&many->many, &many->many_far, CHUNK);
    Muster__LayerCost *l = &f->layer;
    muster__layer_cost__init(l);
    l->fixed_us = (each > 0 ? each : 0) * 1e6 + HANDOUTS * handout * 1e6;
    l->step_us = (few->one.seconds - LAYERS_FEW * each) * 1e6;
    l->attend_s = attend > 0 ? attend : 0;
    l->attend_prompt_s = attend_prompt > 0 ? attend_prompt : 0;
    l->number_s = time_numbers(f->isa);
    l->prepare_s = f->prepare_s;
    l->prepare_prompt_s = f->prepare_prompt_s;
    /* Of the side by side rows, what is neither the layer's own time nor keys. */
    double rows = (many->side_by_side.seconds - few->side_by_side.seconds) / layers - each;
    rows -= l->attend_s * (MANY * many->side_by_side.keys - many->one.keys) * HEADS * 2 * HEAD_DIM;
    l->call_s = rows > 0 ? rows * threads / ((MANY - 1) * KV_HEADS) : 0;
    l->fixed_us -= 1e6 * l->call_s * (double)((KV_HEADS + (int)threads - 1) / (int)threads);
    l->fixed_us = l->fixed_us > 0 ? l->fixed_us : HANDOUTS * handout * 1e6;
    l->step_us = l->step_us > 0 ? l->step_us : 0;
    f->has_layer = l->fixed_us > 0;
}

/* What the samples of both depths gave, and a hand-out. */
struct layer_times { struct steps few, many; struct handouts handouts; };

/* Adds a visit; each time that is better than those of the visits before counts. */
static int visit_layers(struct node_facts *f, struct comm *comm, struct layer_times *t, struct err *err)
{
    struct linear one = make_matrix(DT_Q8_0, DIM, (size_t)HEADS * HEAD_DIM * DIM * 2, 1);
    struct linear wide = make_matrix(DT_Q8_0, HEADS * HEAD_DIM, (size_t)HEADS * HEAD_DIM * DIM * 2, 1);
    struct sample *s = malloc(sizeof *s);
    int rc = one.packed == NULL || wide.packed == NULL || s == NULL
                 ? err_set(err, ERR_NOMEM, "no memory to measure layers with") : ERR_OK;
    if (rc == ERR_OK)
        rc = run_sample(f, s, LAYERS_FEW, 1, &one, &wide, comm, &t->few, err);
    if (rc == ERR_OK)
        rc = run_sample(f, s, LAYERS_MANY, 1, &one, &wide, comm, &t->many, err);
    if (rc == ERR_OK)
        rc = run_sample(f, s, LAYERS_FEW, MANY, &one, &wide, comm, &t->few, err);
    if (rc == ERR_OK)
        rc = run_sample(f, s, LAYERS_MANY, MANY, &one, &wide, comm, &t->many, err);
    if (rc == ERR_OK) {
        team_init(&t->handouts.team, f->threads);
        team_enter(&t->handouts.team, hand_out, &t->handouts);
    }
    free(one.packed);
    free(wide.packed);
    free(s);
    return rc;
}

int noderates_measure(struct node_facts *f, const uint32_t *types, size_t n_types, struct comm *comm,
                      struct err *err)
{
    size_t room = f->memory_free / 8 / (size_t)f->local_ranks, bytes = BIG_BYTES < room ? BIG_BYTES : room;
    struct layer_times layers = {0};
    f->n_rates = 0;
    f->prepare_s = f->prepare_prompt_s = 0;
    if (n_types == 0)
        return ERR_OK;
    /* Before and after the products: hand-outs cost a thousand times as much while another program has one
     * of the cores. */
    TRY(visit_layers(f, comm, &layers, err));
    for (size_t i = 0; i < n_types; i++)
        if (types[i] < DT_MAX)
            measure_type(f, (enum dtype)types[i], bytes);
    TRY(visit_layers(f, comm, &layers, err));
    find_costs(f, &layers.few, &layers.many, layers.handouts.seconds);
    return ERR_OK;
}
