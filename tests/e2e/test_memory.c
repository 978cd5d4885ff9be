/* test_memory.c - what a rank takes: resident memory and bytes read of a 1.1B-parameter model, seen from
 * outside, against what the plan prints and against a formula.
 * How: /proc/PID/status and /proc/PID/io of the ranks while they stream. What a process takes before it
 * has a model is measured on a tiny model, which has next to nothing to hold.
 * Skipped where the disk has no room for the model (1.2 GB). */
#include "tests/e2e/e2e.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { RANKS_MAX = 4, CONTEXT = 2048 };

struct seen { double peak, read; };             /* bytes */

/* The number after `key` in a file of /proc. */
static double proc_number(int pid, const char *file, const char *key)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    char *text = e2e_read_file(path, NULL), *at = text ? strstr(text, key) : NULL;
    double value = at ? atof(at + strlen(key)) : -1;
    free(text);
    return value;
}

/* Starts a generation, looks at its ranks once text is streaming, ends it. */
static void look_at_ranks(int n_ranks, const char *model, const char *flags, struct seen *seen)
{
    struct e2e_process p;
    char ids[2048] = "0";
    for (int i = 1; i < 256; i++)
        sprintf(ids + strlen(ids), ",%d", 2 + i);
    e2e_begin(&p, "exec %s -n %d %s generate %s %s --ctx %d --prompt-ids %s -n 1700 --ignore-eos "
              "--temp 0 --no-echo --batch 1 --threads 1", e2e_mpirun(), n_ranks, E2E_MUSTER, model,
              flags, *model ? CONTEXT : 512, *model ? ids : "0,2,3");
    struct stat st;
    bool streaming = false;
    for (double t0 = e2e_now(); !streaming && e2e_now() - t0 < 60;) {
        nanosleep(&(struct timespec){0, 20000000}, NULL);
        streaming = stat(p.out_path, &st) == 0 && st.st_size > 4;
    }
    int pids[RANKS_MAX], ranks[RANKS_MAX], n = e2e_find_ranks(pids, ranks, RANKS_MAX);
    for (int i = 0; i < n; i++)
        if (ranks[i] >= 0 && ranks[i] < RANKS_MAX)
            seen[ranks[i]] = (struct seen){proc_number(pids[i], "status", "VmHWM:") * 1024,
                                           proc_number(pids[i], "io", "rchar:")};
    struct e2e_run r;
    e2e_end(&p, &r, 0);                         /* has seen enough */
    if (!streaming || n != n_ranks)
        fail_msg("%d of %d ranks, streaming %d: %s", n, n_ranks, streaming, r.err);
    e2e_run_free(&r);
}

/* Bytes of a rank's matrices in Q8_0 (34 bytes for 32 numbers) and norms in F32, from the shape. */
static double formula_weights(int tp, int pp, int stage, int layers)
{
    const double dim = 2048, ffn = 5632, kv = 256, vocab = 32000;
    double layer = (dim * dim * 2 + dim * kv * 2 + dim * ffn * 3) / tp * 34 / 32 + 2 * dim * 4;
    double ends = (stage == 0 ? vocab * dim / tp * 34 / 32 : 0) +
                  (stage == pp - 1 ? vocab * dim / tp * 34 / 32 + dim * 4 : 0);
    return layers * layer + ends;
}

static double formula_kv(int tp, int layers)
{
    return layers * 2.0 * CONTEXT * (4.0 / tp) * 64 * 2;       /* f16 keys and values */
}

static double share(const json_t *rank, const char *key)
{
    return (double)json_integer_value(json_object_get(rank, key));
}

static void one_layout(const char *model, int tp, int pp)
{
    struct seen bare[RANKS_MAX] = {{0}}, full[RANKS_MAX] = {{0}};
    char flags[64], name[512];
    snprintf(flags, sizeof flags, "--tp %d --pp %d", tp, pp);
    snprintf(name, sizeof name, "-m %s", model);
    look_at_ranks(tp * pp, "", flags, bare);
    look_at_ranks(tp * pp, name, flags, full);
    struct e2e_run r;
    e2e_muster(&r, 0, 60, "inspect %s --json %s --ctx %d --batch 1", name, flags, CONTEXT);
    e2e_expect(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL);
    const json_t *list = json_object_get(json_object_get(o, "layout"), "ranks");
    assert_int_equal(json_array_size(list), tp * pp);
    int n_layers = 0;
    for (int i = 0; i < tp * pp; i++) {
        const json_t *x = json_array_get(list, (size_t)i);
        double weights = share(x, "weights_bytes"), kv = share(x, "kv_bytes");
        double file = share(x, "file_bytes"), scratch = share(x, "scratch_bytes");
        const json_t *run = json_object_get(x, "layers");       /* stages may be uneven */
        int layers = (int)(json_integer_value(json_array_get(run, 1)) -
                           json_integer_value(json_array_get(run, 0)));
        double own = full[i].peak - bare[i].peak, planned = weights + kv + scratch;
        double want_weights = formula_weights(tp, pp, i / tp, layers), want_kv = formula_kv(tp, layers);
        n_layers += i % tp == 0 ? layers : 0;
        print_message("tp %d pp %d rank %d: %.0f MB of its own; printed %.0f (weights %.0f, kv %.0f, "
                      "scratch %.0f), formula %.0f + %.0f; read %.0f MB of %.0f\n", tp, pp, i, own / 1e6,
                      planned / 1e6, weights / 1e6, kv / 1e6, scratch / 1e6,
                      want_weights / 1e6, want_kv / 1e6, full[i].read / 1e6,
                      file / 1e6);
        assert_true(own > 0.9 * weights);       /* it did load them */
        assert_true(own <= 1.15 * planned);
        assert_true(own <= 1.15 * (want_weights + want_kv + scratch));
        assert_true(full[i].read <= 1.05 * file);
        assert_true(file <= 1.001 * want_weights);
    }
    assert_int_equal(n_layers, 22);
    json_decref(o);
    e2e_run_free(&r);
}

static void a_rank_holds_its_share(void **state)
{
    struct statvfs disk;
    if (statvfs(e2e_dir(), &disk) != 0 || (double)disk.f_bavail * (double)disk.f_frsize < 3e9)
        skip();
    const char *model = e2e_model("1b.gguf", "--preset tinyllama --type q8_0");
    one_layout(model, 1, 1);
    one_layout(model, 2, 1);
    one_layout(model, 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_rank_holds_its_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
