/* The decoder on one rank, without MPI: every instruction set against the reference logits; a sequence
 * alone or among others, whole or in chunks, in pages of any size: the same bits. */
#include "tests/llmcases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <omp.h>
#include <cmocka.h>

static struct llmcases cases;

struct opened {
    struct comm comm[2];
    struct tensorfile file;
    struct model_config c;
    struct llmrun r;
    struct llmtruth truth, longer;
};

static void open_case(struct opened *o, const struct llmcase *fc)
{
    struct tensorfile expected;
    memset(o, 0, sizeof *o);
    LLMRUN_DO(comm_local_open(o->comm, 1, err));
    LLMRUN_DO(tensorfile_open(&expected, fc->expected, err));
    llmtruth_read(&expected, "input_ids", "logits", &o->truth);
    llmtruth_read(&expected, "long_input_ids", "long_logits", &o->longer);
    tensorfile_close(&expected);
    LLMRUN_DO(tensorfile_open(&o->file, fc->path, err));
    LLMRUN_DO(model_config_read(&o->c, &o->file, fc->path, err));
    llmrun_place(&o->r, &o->c, 1, 1, 0, false, 0, 1);
    llmrun_load(&o->r, &o->c, &o->file, &o->comm[0]);
}

static void close_case(struct opened *o)
{
    llmrun_free(&o->r);
    llmtruth_free(&o->truth);
    llmtruth_free(&o->longer);
    model_config_free(&o->c);
    tensorfile_close(&o->file);
    comm_close(&o->comm[0]);
    comm_close(&o->comm[1]);
}

static float *room(const struct llmtruth *t) { return malloc(sizeof(float) * (size_t)llmtruth_count(t)); }

static void test_every_instruction_set(void **state)
{
    for (int i = 0; i < cases.n; i++) {
        struct opened o;
        open_case(&o, &cases.item[i]);
        float *got = room(&o.truth);
        for (int isa = ISA_SCALAR; isa <= (int)isa_detect(); isa++) {
            struct decoder_options options = llmrun_options(COMPUTE_F32, DT_F32, 1);
            options.isa = (enum isa)isa;
            llmrun_start(&o.r, &options);
            o.truth.n = 1;      /* the start of the first sequence: plain C is slow */
            o.truth.len = o.truth.len < 20 ? o.truth.len : 20;
            llmrun_logits(&o.r, o.truth.ids, 1, o.truth.len, o.truth.len, false, got);
            double worst = llmtruth_worst(&o.truth, got);
            if (!(worst <= 2e-4)) {
                print_error("%s on %s: off by %g\n", cases.item[i].name, isa_name((enum isa)isa), worst);
                fail();
            }
        }
        free(got);
        close_case(&o);
    }
}

static bool is_folder(const struct llmcase *fc) { return strstr(fc->name, ".gguf") == NULL; }

/* Sequence 0 alone, then as one of several, in chunks, with another page size. */
static void test_company_never_shows(void **state)
{
    for (int i = 0; i < cases.n; i++) {
        struct opened o;
        if (!is_folder(&cases.item[i]))
            continue;
        open_case(&o, &cases.item[i]);
        const struct llmtruth *t = &o.truth;
        float *alone = room(t), *other = room(t);
        size_t bytes = sizeof(float) * (size_t)t->len * (size_t)t->vocab;
        struct decoder_options options = llmrun_options(COMPUTE_DEFAULT, DT_F16, 1);
        for (int generated = 0; generated < 2; generated++) {
            llmrun_start(&o.r, &options);
            llmrun_logits(&o.r, t->ids, 1, t->len, generated ? 1 : t->len, generated, alone);
            llmrun_logits(&o.r, t->ids, t->n, t->len, generated ? 1 : 11, generated, other);
            assert_memory_equal(alone, other, bytes);
            llmrun_logits(&o.r, t->ids, t->n, t->len, generated ? 3 : 1, generated, other);
            assert_memory_equal(alone, other, bytes);
        }
        free(alone);
        free(other);
        close_case(&o);
    }
}

/* Keys and values as Q8_0 cost little; the cache's type must not be lost on the way. */
static void test_quantised_cache(void **state)
{
    for (int i = 0; i < cases.n; i++) {
        struct opened o;
        if (!is_folder(&cases.item[i]))
            continue;
        open_case(&o, &cases.item[i]);
        const struct llmtruth *t = &o.truth;
        float *got = room(t);
        double error = 0, power = 0;
        struct decoder_options options = llmrun_options(COMPUTE_F32, DT_Q8_0, 1);
        llmrun_start(&o.r, &options);
        llmrun_logits(&o.r, t->ids, t->n, t->len, t->len, false, got);
        for (int64_t k = 0; k < llmtruth_count(t); k++) {
            error += ((double)got[k] - t->logits[k]) * ((double)got[k] - t->logits[k]);
            power += (double)t->logits[k] * t->logits[k];
        }
        if (!(error < 1e-2 * power && error > 1e-12 * power)) {
            print_error("%s: NMSE %g\n", cases.item[i].name, error / power);
            fail();
        }
        free(got);
        close_case(&o);
    }
}

/* A sequence that outgrows longrope's original context: what comes after must be what the reference
 * says of the whole sequence, fed at once. Others never notice. */
static void test_longrope_is_outgrown(void **state)
{
    for (int i = 0; i < cases.n; i++) {
        struct opened o;
        open_case(&o, &cases.item[i]);
        int original = o.c.rope[0].original_context;
        const struct llmtruth *t = &o.longer;
        if (o.c.rope[0].scaling != SCALING_LONGROPE || t->n == 0 || t->len < original + 10) {
            close_case(&o);
            continue;
        }
        struct decoder_options options = llmrun_options(COMPUTE_F32, DT_F32, 1);
        options.max_rows = 40;      /* so that it takes more than one pass */
        float *got = room(t);
        for (int chunk = 1; chunk < 40; chunk += 24) {
            llmrun_start(&o.r, &options);
            llmrun_grow(&o.r, t->ids, original - 3, t->len, chunk, got);
            for (int64_t k = (int64_t)(original + chunk) * t->vocab; k < llmtruth_count(t); k++)
                assert_true(got[k] - t->logits[k] < 2e-4 && t->logits[k] - got[k] < 2e-4);
        }
        free(got);
        close_case(&o);
    }
}

int main(void)
{
    if (!llmcases_list(&cases, FIXTURES_DEFAULT))
        return 77;
    omp_set_num_threads(1);     /* the models are tiny */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_instruction_set),
        cmocka_unit_test(test_company_never_shows),
        cmocka_unit_test(test_quantised_cache),
        cmocka_unit_test(test_longrope_is_outgrown),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    llmcases_free(&cases);
    return rc;
}
