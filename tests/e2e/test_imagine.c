/* test_imagine.c - pictures as a user makes them: the same bytes for every layout, after kills too; what
 * journal, index and folder say agrees; records are read back. What can be wrong: test_imagine_bad.c.
 * Usage:  test_imagine [kills N]      N random kills and resumes instead of the rest */
#include "tests/e2e/e2e.h"
#include "tests/e2e/imagefolder.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_PROMPTS = 16, LIMIT_S = 60, USAGE = 2, INTERRUPTED = 130 };

static const char *model(void) { return imagefolder_make("paint"); }

/* 16 prompts of different steps, samplers, guidance, sizes, one of them for three pictures. */
static const char *prompts(void)
{
    static const char *const samplers[] = {"flow_euler", "flow_heun", "dpmpp_2m", "dpmpp_2m_sde"};
    char text[8192] = "";
    for (int i = 0; i < N_PROMPTS; i++)
        sprintf(text + strlen(text),
                "{\"prompt\": \"a %s car\", \"seed\": %d, \"steps\": %d, \"sampler\": \"%s\", "
                "\"guidance\": %s, \"size\": \"%s\"%s%s}\n",
                i % 2 ? "red" : "blue", 100 + 7 * i, 3 + i % 5, samplers[i % 4], i % 3 ? "4" : "1",
                i % 6 == 5 ? "24x16" : "16x16", i == 4 ? ", \"n\": 3" : "",
                i % 4 == 1 ? ", \"negative\": \"field\"" : "");
    e2e_write_file(e2e_place("prompts.jsonl"), text, strlen(text));
    return e2e_place("prompts.jsonl");
}

enum { N_PICTURES = N_PROMPTS + 2 };

static void run_prompts(const char *folder, int ranks, const char *flags)
{
    struct e2e_run r;
    e2e_remove(folder);
    e2e_muster(&r, ranks, LIMIT_S, "imagine -m '%s' --prompts '%s' -o '%s' %s", model(), prompts(), folder,
               flags);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void expect_same_file(const char *a, const char *b, const char *name)
{
    char pa[600], pb[600];
    size_t na, nb;
    snprintf(pa, sizeof pa, "%s/%s", a, name);
    snprintf(pb, sizeof pb, "%s/%s", b, name);
    char *ta = e2e_read_file(pa, &na), *tb = e2e_read_file(pb, &nb);
    if (ta == NULL || tb == NULL || na != nb || memcmp(ta, tb, na) != 0)
        fail_msg("%s and %s differ", pa, pb);
    free(ta);
    free(tb);
}

/* The folder has these pictures and no other file that looks like one. */
static void expect_same_folder(const char *a, const char *b, int n)
{
    char name[32];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%06d.png", i);
        expect_same_file(a, b, name);
    }
    expect_same_file(a, b, "index.jsonl");
    DIR *d = opendir(b);
    int found = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        found += strstr(e->d_name, ".png") != NULL;
    closedir(d);
    assert_int_equal(found, n);
}

/* --- same seed, same bytes */

static void every_layout(void **state)
{
    static const struct { int ranks; const char *flags; } layouts[] = {
        {2, "--batch 8"}, {3, "--batch 1"}, {4, "--batch 3"}, {2, "--guidance-parallel"},
        {3, "--guidance-parallel --batch 1"}, {4, "--guidance-parallel --batch 8"}, {1, "--threads 2"},
        {2, "--tp 2"}, {2, "--pp 2 --batch 4"}, {6, "--tp 3 --pp 2 --batch 5"},
        {5, "--tp 2 --guidance-parallel"}};
    char alone[512];
    snprintf(alone, sizeof alone, "%s", e2e_place("alone"));
    run_prompts(alone, 1, "--batch 1 --threads 1");
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        run_prompts(e2e_place("other"), layouts[i].ranks, layouts[i].flags);
        expect_same_folder(alone, e2e_place("other"), N_PICTURES);
    }
}

/* Other bytes than those of f32, and the same for every layout; records say which they are. */
static void every_layout_in_bf16(void **state)
{
    static const struct { int ranks; const char *flags; } layouts[] = {
        {2, "--batch 8"}, {3, "--guidance-parallel --batch 1"}, {1, "--threads 2"},
        {6, "--tp 3 --pp 2 --batch 5"}};
    struct e2e_run r;
    char alone[512], flags[96];
    size_t n[2];
    snprintf(alone, sizeof alone, "%s", e2e_place("half"));
    e2e_remove(alone);
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' --prompts '%s' -o '%s' --compute bf16 --batch 1 --threads 1",
               model(), prompts(), alone);
    if (r.status == USAGE && strstr(r.err, "bfloat16") != NULL) {
        e2e_run_free(&r);
        skip();
    }
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        snprintf(flags, sizeof flags, "--compute bf16 %s", layouts[i].flags);
        run_prompts(e2e_place("other"), layouts[i].ranks, flags);
        expect_same_folder(alone, e2e_place("other"), N_PICTURES);
    }
    char *half = e2e_read_file(e2e_place("half/000005.png"), &n[0]);
    char *whole = e2e_read_file(e2e_place("alone/000005.png"), &n[1]);
    assert_true(half != NULL && whole != NULL);
    assert_true(n[0] != n[1] || memcmp(half, whole, n[0]) != 0);
    free(half);
    free(whole);
}

static void make_again(const char *folder)
{
    struct e2e_run r;
    char alone[512];
    snprintf(alone, sizeof alone, "%s", e2e_place(folder));
    unlink(e2e_place("like.png"));
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' --like '%s/000005.png' -o '%s'", model(), alone,
               e2e_place("like.png"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    char copy[600];
    snprintf(copy, sizeof copy, "cp '%s' '%s/../000005.png'", e2e_place("like.png"), alone);
    assert_int_equal(system(copy), 0);
    expect_same_file(alone, e2e_dir(), "000005.png");
}

/* A picture of the batch alone, by its own record. */
static void like_another(void **state)
{
    make_again("alone");
    if (access(e2e_place("half/000005.png"), F_OK) == 0)
        make_again("half");
}

static void tar_shards(void **state)
{
    struct e2e_run r;
    char alone[512];
    snprintf(alone, sizeof alone, "%s", e2e_place("alone"));
    run_prompts(e2e_place("shards"), 2, "--shards=4");
    e2e_shell(&r, 20, "cd '%s' && for t in shard-*.tar; do tar xf $t || exit 1; done; ls *.png | wc -l",
              e2e_place("shards"));
    e2e_expect(&r, 0);
    assert_int_equal(atoi(r.out), N_PICTURES);
    e2e_run_free(&r);
    for (int i = 0; i < N_PICTURES; i++) {
        char name[32];
        snprintf(name, sizeof name, "%06d.png", i);
        expect_same_file(alone, e2e_place("shards"), name);
    }
}

/* Without Python and Pillow there is nobody to ask: not an error. */
static void pillow_reads_the_record(void **state)
{
    struct e2e_run r;
    e2e_shell(&r, 30, "python3 -c \"from PIL import Image; i = Image.open('%s/000001.png'); "
              "print(i.text['muster']); print(i.text['parameters'])\"", e2e_place("alone"));
    if (r.status == 0) {
        assert_non_null(strstr(r.out, "\"prompt\":\"a red car\""));
        assert_non_null(strstr(r.out, "\"seed\":107"));
        assert_non_null(strstr(r.out, "Negative prompt: field\nSteps: 4, Sampler: flow_heun, CFG scale: 4, "
                                      "Seed: 107, Size: 16x16, Model hash: "));
    }
    e2e_run_free(&r);
}

static void inspect_shows_the_record(void **state)
{
    struct e2e_run r;
    e2e_muster(&r, 0, 20, "inspect --json '%s/000001.png'", e2e_place("alone"));
    e2e_expect(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "prompt")), "a red car");
    assert_string_equal(json_string_value(json_object_get(o, "negative")), "field");
    assert_int_equal(json_integer_value(json_object_get(o, "seed")), 107);
    assert_int_equal(json_integer_value(json_object_get(o, "steps")), 4);
    assert_null(json_object_get(o, "host"));
    json_decref(o);
    e2e_run_free(&r);
}

/* Picture k has seed + k, whichever way it is asked for. */
static void seeds_count_up(void **state)
{
    struct e2e_run r;
    e2e_remove(e2e_place("three"));
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a red car' -n 3 --seed 5 --steps 3 -o '%s' "
               "--grid", model(),
               e2e_place("three"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' 'a red car' --seed 7 --steps 3 -o '%s/one.png'", model(),
               e2e_place("three"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    char copy[700];
    snprintf(copy, sizeof copy, "cd '%s' && cmp one.png 000002.png && ! cmp -s one.png 000001.png "
             "&& test -s grid.png",
             e2e_place("three"));
    assert_int_equal(system(copy), 0);
}

/* --- from other pictures */

static void first_pictures_and_masks(void **state)
{
    struct e2e_run r;
    char alone[512];
    snprintf(alone, sizeof alone, "%s", e2e_place("alone"));
    for (int ranks = 1; ranks <= 2; ranks++) {
        e2e_remove(e2e_place(ranks == 1 ? "again1" : "again2"));
        e2e_muster(&r, ranks, LIMIT_S, "imagine -m '%s' 'a red car' -n 4 --seed 3 --steps 6 --init "
                   "'%s/000000.png' --strength 0.5 -o '%s'", model(), alone,
                   e2e_place(ranks == 1 ? "again1" : "again2"));
        e2e_expect(&r, 0);
        e2e_run_free(&r);
    }
    char first[512];
    snprintf(first, sizeof first, "%s", e2e_place("again1"));
    expect_same_folder(first, e2e_place("again2"), 4);
    /* a black mask keeps all: the picture comes back, but for its record */
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' 'a red car' --seed 3 --steps 3 --init '%s/000000.png' "
               "--strength 0 -o '%s'", model(), alone, e2e_place("kept.png"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void strips_and_variations(void **state)
{
    struct e2e_run r;
    e2e_remove(e2e_place("strip"));
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a red car' --to 'a blue car' -n 5 --seed 3 "
               "--steps 3 -o '%s' "
               "--grid", model(), e2e_place("strip"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' 'a red car' --seed 3 --steps 3 -o '%s/first.png'", model(),
               e2e_place("strip"));
    e2e_run_free(&r);
    e2e_remove(e2e_place("vary"));
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a red car' --vary 0.2 -n 3 --seed 3 --steps 3 -o "
               "'%s'", model(),
               e2e_place("vary"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    char check[900];
    snprintf(check, sizeof check, "cd '%s' && cmp first.png 000000.png && ! cmp -s 000000.png "
             "000004.png && "
             "! cmp -s ../vary/000000.png ../vary/000001.png", e2e_place("strip"));
    assert_int_equal(system(check), 0);
}

/* "red -> blue" found in two captions and moved along by a third: a strip begins with the plain picture, its
 * last is what one picture alone gets, and each is made again from its own record. */
static void edits(void **state)
{
    (void)state;
    struct e2e_run r;
    char check[1400];
    e2e_remove(e2e_place("edit"));
    const char *plain = "--seed 3 --steps 3";
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a car' %s --edit 'a red car -> a blue car' -n 3 -o '%s'",
               model(), plain, e2e_place("edit"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' 'a car' %s -o '%s/plain.png'", model(), plain, e2e_place("edit"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' 'a car' %s --edit 'a red car->a blue car' -o '%s/whole.png'",
               model(), plain, e2e_place("edit"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' --like '%s/000001.png' -o '%s/like.png'", model(),
               e2e_place("edit"), e2e_place("edit"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    snprintf(check, sizeof check, "cd '%s' && cmp plain.png 000000.png && cmp whole.png 000002.png && "
             "cmp like.png 000001.png && ! cmp -s 000000.png 000001.png && ! cmp -s 000001.png 000002.png",
             e2e_place("edit"));
    assert_int_equal(system(check), 0);
    e2e_ranks(&r, 2, 20, "imagine -m '%s' 'a car' --edit 'red' -o '%s'", model(), e2e_place("x.png"));
    e2e_expect_error(&r, USAGE, "--edit wants 'A -> B'");
    e2e_run_free(&r);
}

/* Generators of the fixtures, where they are: one by one or together, a strip, classes. */
static void generators(void **state)
{
    const char *fixtures = getenv("MUSTER_FIXTURES");
    char dcgan[600], resnet[600], check[900];
    struct e2e_run r;
    snprintf(dcgan, sizeof dcgan, "%s/gan/dcgan_generator.safetensors",
             fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    snprintf(resnet, sizeof resnet, "%s/gan/resnet_generator.safetensors",
             fixtures != NULL ? fixtures : FIXTURES_DEFAULT);
    if (access(dcgan, R_OK) != 0 || access(resnet, R_OK) != 0)
        skip();
    for (int ranks = 1; ranks <= 3; ranks += 2) {
        e2e_remove(e2e_place(ranks == 1 ? "gan1" : "gan3"));
        e2e_muster(&r, ranks, LIMIT_S, "imagine -m '%s' -n 7 --seed 3 -o '%s' --batch %d", dcgan,
                   e2e_place(ranks == 1 ? "gan1" : "gan3"), ranks);
        e2e_expect(&r, 0);
        e2e_run_free(&r);
    }
    char first[512];
    snprintf(first, sizeof first, "%s", e2e_place("gan1"));
    expect_same_folder(first, e2e_place("gan3"), 7);
    e2e_remove(e2e_place("classes"));
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' --class 3 -n 5 --seed 3 --to-seed 9 --truncation "
               "0.7 -o '%s'",
               resnet, e2e_place("classes"));
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    snprintf(check, sizeof check, "cd '%s' && ! cmp -s 000000.png 000004.png", e2e_place("classes"));
    assert_int_equal(system(check), 0);
    e2e_ranks(&r, 2, 20, "imagine -m '%s' -o '%s'", resnet, e2e_place("x.png"));
    e2e_expect_error(&r, USAGE, "--class 0 to");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, 20, "imagine -m '%s' --tp 2 -o '%s'", dcgan, e2e_place("x.png"));
    e2e_expect_error(&r, USAGE, "cannot be shared by ranks");
    e2e_run_free(&r);
    e2e_ranks(&r, 2, 20, "imagine -m '%s' 'a red car' -o '%s'", dcgan, e2e_place("x.png"));
    e2e_expect_error(&r, USAGE, "takes no prompt");
    e2e_run_free(&r);
}

/* --- ends before the end */

static const char *slow_prompts(int n)
{
    char *text = calloc(1, (size_t)n * 80 + 1);
    for (int i = 0; i < n; i++)
        sprintf(text + strlen(text), "{\"prompt\": \"a red car\", \"seed\": %d, \"steps\": %d}\n",
                i, 30 + i % 7);
    e2e_write_file(e2e_place("slow.jsonl"), text, strlen(text));
    free(text);
    return e2e_place("slow.jsonl");
}

static void time_limit_and_resume(void **state)
{
    struct e2e_run r;
    e2e_remove(e2e_place("limit"));
    e2e_ranks(&r, 2, LIMIT_S, "imagine -m '%s' --prompts '%s' -o '%s' --time-limit 0.4", model(),
              slow_prompts(400), e2e_place("limit"));
    e2e_expect_error(&r, INTERRUPTED, "to go on: muster imagine --resume -o");
    e2e_run_free(&r);
    e2e_muster(&r, 1, LIMIT_S, "imagine -m '%s' 'a red car' -o '%s'", model(), e2e_place("limit"));
    e2e_expect(&r, USAGE);
    assert_non_null(strstr(r.err, "holds a batch already"));
    e2e_run_free(&r);
    e2e_muster(&r, 2, 120, "imagine --resume -o '%s'", e2e_place("limit"));
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.out, "400 pictures, "));
    e2e_run_free(&r);
}

/* SIGUSR1 to mpirun reaches the ranks: the run ends in good order. */
static void sigusr1_ends_in_good_order(void **state)
{
    struct e2e_process p;
    struct e2e_run r;
    e2e_remove(e2e_place("usr1"));
    e2e_begin(&p, "%s -n 2 %s imagine -m '%s' --prompts '%s' -o '%s'", e2e_mpirun(), E2E_MUSTER, model(),
              slow_prompts(2000), e2e_place("usr1"));
    int pids[E2E_RANKS_MAX], ranks[E2E_RANKS_MAX], n = 0;
    for (int i = 0; i < 200 && access(e2e_place("usr1/000/000002.png"), F_OK) != 0; i++)
        usleep(50000);
    n = e2e_find_ranks(pids, ranks, E2E_RANKS_MAX);
    for (int i = 0; i < n; i++)
        if (ranks[i] == 0)
            kill(pids[i], SIGUSR1);
    e2e_end(&p, &r, LIMIT_S);
    e2e_expect(&r, INTERRUPTED);
    assert_non_null(strstr(r.err, "interrupted: finishing what is in the making"));
    e2e_run_free(&r);
}

/* --- kills */

static int n_kills = 3;

/* Enough work that a run is killed, not finished. */
static int n_killed_pictures(void) { return n_kills > 3 ? 500 : 300; }

/* All that the journal says is made lies there, byte for byte, and no picture is half written. Without Python
 * there is nobody to look. */
static void expect_true_journal(const char *folder)
{
    static const char look[] =
        "import glob, hashlib, sqlite3, sys\n"
        "f = sys.argv[1]\n"
        "made = sqlite3.connect(f + '/journal.sqlite', 10).execute('select file, bytes, sha256 from picture')\n"
        "for name, n, digest in made.fetchall():\n"
        "    b = open(f + '/' + name, 'rb').read()\n"
        "    assert len(b) == n and hashlib.sha256(b).digest() == digest, name\n"
        "for name in glob.glob(f + '/*.png'):\n"
        "    assert open(name, 'rb').read().endswith(b'IEND\\xaeB`\\x82'), name\n";
    struct e2e_run r;
    e2e_write_file(e2e_place("look.py"), look, sizeof look - 1);
    e2e_shell(&r, 30, "command -v python3 > /dev/null || exit 0; python3 '%s' '%s'", e2e_place("look.py"), folder);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

/* What the index of a finished run says is what lies there. */
static void kill_and_resume(const char *folder, int kills, unsigned seed)
{
    struct e2e_process p;
    struct e2e_run r;
    bool finished = false;
    char first[600];
    snprintf(first, sizeof first, "%s/000000.png", folder);
    e2e_remove(folder);
    for (int k = 0; k < kills && !finished; k++) {
        char what[1024];
        if (k == 0)
            snprintf(what, sizeof what, "-m '%s' --prompts '%s'", model(), slow_prompts(n_killed_pictures()));
        else
            snprintf(what, sizeof what, "--resume");
        seed = seed * 1103515245 + 12345;
        e2e_begin(&p, "exec %s -n %d %s imagine %s -o '%s'", e2e_mpirun(),
                  1 + (int)(seed >> 20) % 3, E2E_MUSTER,
                  what, folder);
        for (int i = 0; k == 0 && i < 2000 && access(first, F_OK) != 0; i++)
            usleep(20000);
        usleep(k == 0 ? 50000 : 200000 + (seed >> 8) % 700000);
        kill(p.pid, SIGKILL);
        e2e_end(&p, &r, LIMIT_S);
        finished = r.status == 0;
        e2e_run_free(&r);
        expect_true_journal(folder);
    }
    e2e_muster(&r, 2, 300, "imagine --resume -o '%s'", folder);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

static void kills(void **state)
{
    char whole[512], killed[512];
    struct e2e_run r;
    snprintf(whole, sizeof whole, "%s", e2e_place("whole"));
    snprintf(killed, sizeof killed, "%s", e2e_place("killed"));
    e2e_remove(whole);
    e2e_muster(&r, 2, 300, "imagine -m '%s' --prompts '%s' -o '%s'", model(), slow_prompts(n_killed_pictures()), whole);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    kill_and_resume(killed, n_kills, (unsigned)n_kills);
    expect_same_folder(whole, killed, n_killed_pictures());
    e2e_shell(&r, 20, "cd '%s' && ls -A | grep -v -e png -e index.jsonl -e journal.sqlite -e .muster.lock; "
              "sqlite3 journal.sqlite 'select count(*), count(distinct file) from picture' 2>&1 || true",
              killed);
    if (strstr(r.out, "not found") == NULL)
        assert_string_equal(r.out, n_kills > 3 ? "500|500\n" : "300|300\n");
    e2e_run_free(&r);
}

static void two_runs_in_one_folder(void **state)
{
    struct e2e_process p;
    struct e2e_run r;
    e2e_remove(e2e_place("live"));
    e2e_begin(&p, "%s -n 1 %s imagine -m '%s' --prompts '%s' -o '%s'", e2e_mpirun(), E2E_MUSTER, model(),
              slow_prompts(1500), e2e_place("live"));
    for (int i = 0; i < 200 && access(e2e_place("live/000/000000.png"), F_OK) != 0; i++)
        usleep(50000);
    /* e2e_shell would end the first run too */
    char second[2000];
    snprintf(second, sizeof second, "%s -n 1 %s imagine -m '%s' 'a red car' -o '%s' 2> '%s'", e2e_mpirun(),
             E2E_MUSTER, model(), e2e_place("live"), e2e_place("second.err"));
    int status = system(second);
    char *said = e2e_read_file(e2e_place("second.err"), NULL);
    assert_int_equal(WEXITSTATUS(status), USAGE);
    assert_non_null(strstr(said, "another run is writing there"));
    free(said);
    e2e_end(&p, &r, 120);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
}

/* --- before anything is made */

static void dry_run(void **state)
{
    struct e2e_run r;
    e2e_muster(&r, 2, LIMIT_S, "imagine -m '%s' 'a red car' -n 100 --steps 4 --dry-run -o '%s'", model(),
               e2e_place("never"));
    e2e_expect(&r, 0);
    assert_non_null(strstr(r.out, "100 pictures of 1 prompts"));
    assert_non_null(strstr(r.out, "400 steps: about"));
    assert_int_equal(access(e2e_place("never"), F_OK), -1);
    e2e_run_free(&r);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest only_kills[] = {cmocka_unit_test(kills)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout), cmocka_unit_test(every_layout_in_bf16),
        cmocka_unit_test(like_another), cmocka_unit_test(tar_shards),
        cmocka_unit_test(pillow_reads_the_record), cmocka_unit_test(inspect_shows_the_record),
        cmocka_unit_test(seeds_count_up), cmocka_unit_test(first_pictures_and_masks),
        cmocka_unit_test(strips_and_variations), cmocka_unit_test(edits), cmocka_unit_test(generators),
        cmocka_unit_test(time_limit_and_resume), cmocka_unit_test(sigusr1_ends_in_good_order),
        cmocka_unit_test(kills), cmocka_unit_test(two_runs_in_one_folder), cmocka_unit_test(dry_run)};
    if (argc == 3 && strcmp(argv[1], "kills") == 0) {
        n_kills = atoi(argv[2]);
        return cmocka_run_group_tests(only_kills, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
