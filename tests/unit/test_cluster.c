/* The coordinator and real workers in one process: threads joined by queues instead of MPI. The model is
 * the small one that ships. */
#include "coordinator/cluster/cluster.h"
#include "coordinator/cluster/lm.h"
#include "coordinator/cluster/outbox.h"
#include "coordinator/commands/session.h"
#include "coordinator/commands/textjob.h"
#include "proto/wire.h"
#include "workers/worker.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define MODEL GOLDEN_DIR "/../../deploy/models/random-llama-tiny.gguf"

enum { WORKERS_MAX = 6, TOKENS_MAX = 40, SEQS = 5 };

/* --- a team of workers */

struct team {
    int n;
    struct comm comm[WORKERS_MAX + 1];
    pthread_t thread[WORKERS_MAX];
    const char *version[WORKERS_MAX];
    int exit_code[WORKERS_MAX];
};
struct member { struct team *team; int rank; };
static struct member members[WORKERS_MAX];

static void *worker_main(void *arg)
{
    struct member *m = arg;
    struct worker_options o = {.version = m->team->version[m->rank], .local_ranks = m->team->n};
    m->team->exit_code[m->rank] = worker_run(&m->team->comm[m->rank], &o);
    return NULL;
}

static void team_start(struct team *t, int n)
{
    memset(t, 0, sizeof *t);
    t->n = n;
    assert_int_equal(comm_local_open(t->comm, n, NULL), ERR_OK);
    for (int i = 0; i < n; i++)
        t->version[i] = "1";
}

static void team_run(struct team *t)
{
    for (int i = 0; i < t->n; i++) {
        members[i] = (struct member){t, i};
        assert_int_equal(pthread_create(&t->thread[i], NULL, worker_main, &members[i]), 0);
    }
}

/* All workers end with this code. */
static void team_end(struct team *t, int exit_code)
{
    for (int i = 0; i < t->n; i++)
        pthread_join(t->thread[i], NULL);
    for (int i = 0; i < t->n; i++)
        assert_int_equal(t->exit_code[i], exit_code);
    for (int i = 0; i <= t->n; i++)
        comm_close(&t->comm[i]);
}

static struct comm *coordinator_end(struct team *t) { return &t->comm[t->n]; }

/* --- generating on a layout */

struct said {
    int32_t id[SEQS][TOKENS_MAX]; int n[SEQS]; enum finish finish[SEQS];
    int logits_rows;
    float logprob[TOKENS_MAX], from_logits[TOKENS_MAX];    /* of sequence 4's targets, by row */
};

static const int32_t prompt[] = {0, 300, 17, 42, 301, 5, 9, 350, 33};
enum { SCORED = 5 };        /* of the 7 tokens of sequence 4 the last ones' successors */
static const int32_t targets[SCORED] = {42, 0, 5, 350, 383};

/* The log probability of row r's target, the slow way. */
static float from_row(const float *row, int vocab, int target)
{
    double sum = 0;
    for (int i = 0; i < vocab; i++)
        sum += exp((double)row[i]);
    return (float)((double)row[target] - log(sum));
}

static int hear(void *ctx, const struct lm_event *e, struct err *err)
{
    struct said *s = ctx;
    (void)err;
    for (int i = 0; e->logprobs != NULL && i < e->rows; i++)
        s->logprob[e->position + i] = e->logprobs[i];
    for (int i = 0; e->logits != NULL && i < e->rows; i++)
        if (e->position + i >= 7 - SCORED)
            s->from_logits[e->position + i] = from_row(e->logits + (size_t)i * (size_t)e->vocab, e->vocab,
                                                       targets[e->position + i - (7 - SCORED)]);
    if (e->token == NULL) {
        s->logits_rows += e->logits != NULL ? e->rows : 0;
        return ERR_OK;
    }
    if (e->token->id >= 0)
        s->id[e->sequence][s->n[e->sequence]++] = e->token->id;
    s->finish[e->sequence] = e->token->finish;
    return ERR_OK;
}

static void generate(struct cluster *c, const struct cluster_load *load, struct said *said)
{
    Muster__Sampling sampling[SEQS];
    struct lm lm;
    struct err err = {0};
    memset(said, 0, sizeof *said);
    if (lm_open(&lm, c, load, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    for (int i = 0; i < SEQS; i++) {
        muster__sampling__init(&sampling[i]);
        sampling[i].temperature = i % 2 ? 0.9f : 0;
        sampling[i].top_p = sampling[i].typical_p = sampling[i].repeat_penalty = 1;
        sampling[i].seed = (uint64_t)i;
        struct schedule_request r = {.sequence = (uint64_t)i, .prompt = prompt, .n_prompt = 3 + i,
            .n_generate = i == 4 ? 0 : 12 + i, .sampling = i == 4 ? NULL : &sampling[i],
            .all_logits = i == 4, .targets = targets, .n_targets = i == 4 ? SCORED : 0};
        assert_int_equal(lm_submit(&lm, &r, NULL), ERR_OK);
    }
    if (lm_run(&lm, hear, said, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_true(lm.prompt_rows == 3 + 4 + 5 + 6 + 7);
    lm_close(&lm);
    lm_close(&lm);
}

static void run_layout(int n, int tp, int pp, int dp, struct said *said)
{
    struct team t;
    struct cluster c;
    struct err err = {0};
    team_start(&t, n);
    team_run(&t);
    assert_int_equal(cluster_open(&c, coordinator_end(&t), NULL), ERR_OK);
    assert_string_equal(c.report[0]->version, "1");
    assert_int_equal(cluster_describe(&c, MODEL, true, true, NULL), ERR_OK);
    assert_non_null(c.tokenizer);
    assert_true(c.spec->n_layers > 0 && c.spec->n_tensor > 0);
    struct cluster_load load = {.tp = tp, .pp = pp, .dp = dp, .threads = 1, .slots = 3,
                                .context = 64, .kv_dtype = 1,
                                .chunk = 4, .max_rows = 7};
    if (cluster_plan(&c, &load, &err) != ERR_OK || cluster_load(&c, &load, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    generate(&c, &load, said);
    Muster__Stats stats[WORKERS_MAX];
    Muster__StatsRequest q = MUSTER__STATS_REQUEST__INIT;
    q.measure_read = true;
    assert_int_equal(cluster_stats(&c, &q, stats, NULL), ERR_OK);
    for (int i = 0; i < n; i++) {
        assert_int_equal(cluster_uses(&c, i), i < tp * pp * dp);
        assert_true(cluster_uses(&c, i) == (stats[i].steps > 0));
    }
    assert_true(stats[0].read_bw > 0);
    cluster_close(&c, ERR_OK, NULL);
    team_end(&t, EXIT_OK);
}

static void test_layouts_say_the_same(void **state)
{
    (void)state;
    static const int layouts[][4] = {{2, 2, 1, 1}, {2, 1, 2, 1}, {4, 2, 2, 1}, {3, 3, 1, 1}, {3, 1, 1, 1},
                                     {2, 1, 1, 2}, {4, 2, 1, 2}};
    struct said alone, other;
    run_layout(1, 1, 1, 1, &alone);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(alone.n[i], 12 + i);
        assert_int_equal(alone.finish[i], FINISH_LENGTH);
    }
    assert_int_equal(alone.logits_rows, 7);
    for (int i = 0; i < TOKENS_MAX; i++) {
        assert_true((alone.logprob[i] != 0) == (i >= 7 - SCORED && i < 7));
        assert_true(fabsf(alone.logprob[i] - alone.from_logits[i]) < 2e-6f);
    }
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        run_layout(layouts[i][0], layouts[i][1], layouts[i][2], layouts[i][3],
                   &other);
        assert_memory_equal(&alone, &other, sizeof alone);
    }
}

/* --- what goes wrong */

static void test_missing_model(void **state)
{
    (void)state;
    struct team t;
    struct cluster c;
    struct err err = {0};
    team_start(&t, 3);
    team_run(&t);
    assert_int_equal(cluster_open(&c, coordinator_end(&t), NULL), ERR_OK);
    assert_int_equal(cluster_describe(&c, "/nonexistent/model.gguf", true, true, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "/nonexistent/model.gguf"));
    cluster_close(&c, err.code, &err);
    team_end(&t, EXIT_INPUT);
}

static void test_versions_differ(void **state)
{
    (void)state;
    struct team t;
    struct cluster c;
    struct err err = {0};
    team_start(&t, 3);
    t.version[2] = "2";
    team_run(&t);
    assert_int_equal(cluster_open(&c, coordinator_end(&t), &err), ERR_PEER);
    assert_non_null(strstr(err.msg, "rank 2"));
    cluster_close(&c, err.code, &err);
    team_end(&t, EXIT_PEER);
}

static void test_jobs_answer(void **state)
{
    (void)state;
    struct team t;
    struct cluster c;
    struct err err = {0};
    Muster__JobDone *done;
    team_start(&t, 1);
    team_run(&t);
    assert_int_equal(cluster_open(&c, coordinator_end(&t), NULL), ERR_OK);
    assert_int_equal(cluster_job(&c, "nonsense", NULL, 0, false, &done, &err), ERR_INVAL);
    assert_non_null(strstr(err.msg, "nonsense"));
    memset(&err, 0, sizeof err);
    char out[] = "/tmp/muster-cluster-XXXXXX.gguf";
    int fd = mkstemps(out, 5);
    assert_true(fd >= 0);
    close(fd);
    char model[] = MODEL, type[] = "f16", *args[] = {model, out, type};
    if (cluster_job(&c, "quantize", args, 3, false, &done, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_true(done->n_results > 0);
    unlink(out);
    cluster_close(&c, ERR_OK, NULL);
    team_end(&t, EXIT_OK);
}

static void test_measuring(void **state)
{
    (void)state;
    struct team t;
    struct cluster c;
    team_start(&t, 3);
    team_run(&t);
    assert_int_equal(cluster_open(&c, coordinator_end(&t), NULL), ERR_OK);
    assert_int_equal(cluster_measure(&c, false, NULL), ERR_OK);
    for (int i = 0; i < 3; i++) {
        assert_true(c.report[i]->memory_bw > 0 && c.report[i]->sgemm_flops > 0);
        assert_int_equal(c.report[i]->n_links, 2);      /* every pair has met once */
        assert_int_not_equal(c.report[i]->links[0]->peer, c.report[i]->links[1]->peer);
        for (int k = 0; k < 2; k++)
            assert_int_not_equal(c.report[i]->links[k]->peer, i);
    }
    cluster_close(&c, ERR_OK, NULL);
    team_end(&t, EXIT_OK);
}

/* --- sending without waiting */

static void test_outbox(void **state)
{
    (void)state;
    struct comm c[3];
    struct outbox o;
    struct arena mem;
    Muster__Envelope m = MUSTER__ENVELOPE__INIT, *got;
    Muster__Stop stop = MUSTER__STOP__INIT;
    int peers[] = {0, 1}, peer;
    assert_int_equal(comm_local_open(c, 2, NULL), ERR_OK);
    assert_int_equal(arena_init(&mem, 1 << 16), ERR_OK);
    outbox_init(&o, &c[2]);
    m.body_case = MUSTER__ENVELOPE__BODY_STOP;
    m.stop = &stop;
    for (int i = 0; i < 20; i++) {
        stop.code = i;
        assert_int_equal(outbox_send(&o, peers, 2, &m, NULL), ERR_OK);
        assert_int_equal(outbox_tend(&o, NULL), ERR_OK);
    }
    assert_int_equal(outbox_flush(&o, 1000), 0);
    for (int i = 0; i < 20; i++)
        for (int w = 0; w < 2; w++) {
            arena_reset(&mem);
            assert_int_equal(wire_poll(&c[w], COMM_CONTROL, &mem, &peer, &got, NULL), ERR_OK);
            assert_true(got != NULL && got->stop->code == i);
        }
    outbox_free(&o);
    outbox_free(&o);
    arena_free(&mem);
    for (int i = 0; i < 3; i++)
        comm_close(&c[i]);
}

/* --- a whole session: text in, text out */

static int collect(void *ctx, const char *text, size_t n, struct err *err)
{
    (void)err;
    strncat(ctx, text, n);
    return ERR_OK;
}

struct talk { struct session *s; struct textjob *job; char shown[1024]; };

static int on_talk(void *ctx, const struct lm_event *e, struct err *err)
{
    struct talk *t = ctx;
    return textjob_token(t->job, t->s, e->token, collect, t->shown, err);
}

static void say(struct session *s, const char *stop, struct talk *t)
{
    struct textjob j = {0};
    struct err err = {0};
    memset(t, 0, sizeof *t);
    t->s = s;
    t->job = &j;
    sampling_args_init(&j.args);
    j.args.temperature = 0;
    j.args.n = 24;
    j.args.ignore_eos = true;
    if (stop != NULL)
        j.args.stop[j.args.n_stop++] = strdup(stop);
    j.prompt_text = strdup("Once upon a time");
    j.prompt_bytes = strlen(j.prompt_text);
    struct textjob_options o = {.add_special = true, .context = 64};
    if (textjob_prepare(&j, s, o, "", &err) != ERR_OK ||
        textjob_submit(&j, s, 1, &err) != ERR_OK || lm_run(&s->lm, on_talk, t, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_memory_equal(j.text, t->shown, strlen(t->shown));
    assert_string_equal(textjob_finish_reason(&j), stop ? "stop" : "length");
    if (stop == NULL)
        assert_int_equal(j.n_got, 24);
    textjob_free(&j);
    textjob_free(&j);
}

static void test_session(void **state)
{
    (void)state;
    struct team t;
    struct session s;
    struct err err = {0};
    struct model_args a = {.model = MODEL, .threads = 1};
    struct session_need need = {.sequences = 1, .longest = 64, .longest_prompt = 32};
    struct talk whole, cut;
    int context;
    team_start(&t, 2);
    team_run(&t);
    if (session_open(&s, coordinator_end(&t), &a, SESSION_TOKENIZER | SESSION_TENSORS, &err) ||
        session_load(&s, &a, &need, &err))
        fail_msg("%s", err.msg);
    assert_true(s.n_stop_ids > 0);
    assert_int_equal(session_context(&s, &a, &context, NULL), ERR_OK);
    assert_int_equal(context, s.cluster.spec->context);
    a.context = context + 1;
    assert_int_equal(session_context(&s, &a, &context, NULL), ERR_INVAL);
    say(&s, NULL, &whole);
    assert_true(strlen(whole.shown) > 12);
    char stop[4] = {0};
    memcpy(stop, whole.shown + 8, 3);
    say(&s, stop, &cut);
    assert_int_equal(strlen(cut.shown), strstr(whole.shown, stop) - whole.shown);
    assert_memory_equal(cut.shown, whole.shown, strlen(cut.shown));
    session_close(&s, ERR_OK, NULL);
    team_end(&t, EXIT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts_say_the_same),
        cmocka_unit_test(test_missing_model),
        cmocka_unit_test(test_versions_differ),
        cmocka_unit_test(test_jobs_answer),
        cmocka_unit_test(test_measuring),
        cmocka_unit_test(test_outbox),
        cmocka_unit_test(test_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
