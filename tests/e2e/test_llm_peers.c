/* test_llm_peers.c - our GGUF files in other programs, a folder of transformers in ours.
 * Oracle: the gguf package, llama.cpp (llama-cpp-python) and transformers, where MUSTER_PYTHON (else
 * python3) has them; says so and is skipped without. */
#include "tests/e2e/e2e.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT_S = 100, SKIPPED = 77 };
#define IDS "1,5,9,100,42,7,300,12"
#define IDS_SMALL "1,5,9,100,42,7"

static bool no_python;

/* Runs llm_peers.py; skips the test when Python or a package is missing. */
static void python(const char *args)
{
    struct e2e_run r;
    const char *name = getenv("MUSTER_PYTHON");
    e2e_shell(&r, LIMIT_S, "'%s' '%s/tests/bench/llm_peers.py' %s", name != NULL ? name : "python3",
              E2E_SOURCE, args);
    int status = r.status;
    printf("%s", status == 127 ? "skipped: no Python\n" : r.out);
    if (status != SKIPPED && status != 127)
        e2e_expect(&r, 0);
    e2e_run_free(&r);
    if (status != 0) {
        no_python = true;
        skip();
    }
}

static void run(const char *args)
{
    struct e2e_run r;
    e2e_muster(&r, 0, LIMIT_S, "%s", args);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void quantised_files(void **state)
{
    static const char *const types[] = {"f16", "bf16", "q8_0", "q4_0", "q5_1", "q4_k", "q6_k", "iq4_nl"};
    const char *base = e2e_model("base.gguf", "--preset even --type f32 --layers 2"), *d = e2e_dir();
    char args[2048];
    (void)state;
    snprintf(args, sizeof args, "logits -m '%s' --compute f32 --ids " IDS " --out '%s/base.st'", base, d);
    run(args);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        snprintf(args, sizeof args, "quantize -m '%s' --type %s --out '%s/%s.gguf'", base, types[i], d, types[i]);
        run(args);
        snprintf(args, sizeof args, "logits -m '%s/%s.gguf' --compute f32 --ids " IDS " --out '%s/%s.st'", d,
                 types[i], d, types[i]);
        run(args);
        printf("%s: ", types[i]);
        snprintf(args, sizeof args, "read '%s/%s.gguf' '%s/base.st' '%s/%s.st' " IDS, d, types[i], d, d,
                 types[i]);
        python(args);
    }
}

static void folder_of_transformers(void **state)
{
    char args[2048];
    const char *d = e2e_dir();
    (void)state;
    snprintf(args, sizeof args, "write '%s/theirs' '%s/theirs.st' " IDS_SMALL, d, d);
    python(args);
    snprintf(args, sizeof args, "logits -m '%s/theirs' --compute f32 --ids " IDS_SMALL " --out '%s/ours.st'", d,
             d);
    run(args);
    snprintf(args, sizeof args, "same '%s/ours.st' '%s/theirs.st'", d, d);
    python(args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantised_files),
                                       cmocka_unit_test(folder_of_transformers)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed == 0 && no_python ? SKIPPED : failed;
}
