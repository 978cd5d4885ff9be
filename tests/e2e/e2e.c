/* e2e.c - see e2e.h.
 * How: stdout and stderr go to files, so that nothing blocks on a pipe. mpirun gives its ranks process
 * groups of their own, so killing its group is not enough: this process is a sub-reaper, orphaned
 * ranks become its children, and it kills until it has none left. */
#include "tests/e2e/e2e.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char dir_path[128];

static void remove_dir(void)
{
    char cmd[160];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir_path);
    if (system(cmd) != 0)
        fprintf(stderr, "e2e: could not remove %s\n", dir_path);
}

const char *e2e_dir(void)
{
    if (!dir_path[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(dir_path, sizeof dir_path, "%.80s/muster-e2e.XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(dir_path)) {
            perror(dir_path);
            exit(99);
        }
        atexit(remove_dir);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    }
    return dir_path;
}

const char *e2e_place(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", e2e_dir(), name);
    return path[turn];
}

double e2e_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&t, NULL);
}

char *e2e_read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    size_t used = 0, cap = 65536;
    char *text = malloc(cap);
    for (size_t got; text && (got = fread(text + used, 1, cap - used - 1, f)) > 0;) {
        used += got;
        if (cap - used < 2)
            text = realloc(text, cap *= 2);
    }
    fclose(f);
    if (text)
        text[used] = 0;
    if (n)
        *n = used;
    return text;
}

void e2e_write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        fail_msg("cannot write %s: %s", path, strerror(errno));
}

/* ---- processes ---- */

struct proc { int pid, parent; };

/* All processes of the machine as (pid, parent), up to cap. */
static int list_processes(struct proc *p, int cap)
{
    DIR *d = opendir("/proc");
    int n = 0;
    for (struct dirent *e; d && n < cap && (e = readdir(d));) {
        int pid = atoi(e->d_name);
        char path[64], line[512];
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = pid > 0 ? fopen(path, "r") : NULL;
        if (!f)
            continue;
        /* The second field is a name in brackets that may hold anything, brackets too. */
        const char *end = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
        int parent;
        if (end && sscanf(end + 1, " %*c %d", &parent) == 1)
            p[n++] = (struct proc){pid, parent};
        fclose(f);
    }
    if (d)
        closedir(d);
    return n;
}

/* Descendants of this process, any depth. */
static int list_descendants(int *pids, int cap)
{
    static struct proc all[16384];
    int n_all = list_processes(all, 16384), n = 0;
    for (int grown = 1; grown;) {
        grown = 0;
        for (int i = 0; i < n_all; i++) {
            bool mine = all[i].parent == getpid(), known = false;
            for (int j = 0; j < n; j++) {
                mine = mine || all[i].parent == pids[j];
                known = known || all[i].pid == pids[j];
            }
            if (mine && !known && n < cap) {
                pids[n++] = all[i].pid;
                grown = 1;
            }
        }
    }
    return n;
}

void e2e_reap_all(void)
{
    for (int round = 0; round < 200; round++) {
        int pids[256], n = list_descendants(pids, 256);
        for (int i = 0; i < n; i++)
            kill(pids[i], SIGKILL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (n == 0)
            return;
        sleep_ms(10);
    }
}

/* The value of a variable in another process's environment, -1 when it is not there. */
static int process_env_int(int pid, const char *name)
{
    char path[64];
    size_t n = 0, len = strlen(name);
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    char *env = e2e_read_file(path, &n);
    int value = -1;
    for (size_t i = 0; env && i < n; i += strlen(env + i) + 1)
        if (!strncmp(env + i, name, len) && env[i + len] == '=')
            value = atoi(env + i + len + 1);
    free(env);
    return value;
}

int e2e_find_ranks(int *pids, int *ranks, int cap)
{
    int all[256], n_all = list_descendants(all, 256), n = 0;
    for (int i = 0; i < n_all && n < cap; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/cmdline", all[i]);
        char *cmd = e2e_read_file(path, NULL);
        if (cmd && !strcmp(cmd, E2E_MUSTER)) {
            pids[n] = all[i];
            ranks[n++] = process_env_int(all[i], "OMPI_COMM_WORLD_RANK");
        }
        free(cmd);
    }
    return n;
}

static void begin_command(struct e2e_process *p, const char *command)
{
    static int serial;
    serial++;
    snprintf(p->out_path, sizeof p->out_path, "%s/out.%d", e2e_dir(), serial);
    snprintf(p->err_path, sizeof p->err_path, "%s/err.%d", e2e_dir(), serial);
    p->started = e2e_now();
    p->pid = fork();
    if (p->pid == 0) {
        int out = open(p->out_path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        int err = open(p->err_path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        int in = open("/dev/null", O_RDONLY);
        if (out < 0 || err < 0 || in < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || dup2(in, 0) < 0)
            _exit(126);
        setpgid(0, 0);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (p->pid < 0)
        fail_msg("fork: %s", strerror(errno));
}

void e2e_begin(struct e2e_process *p, const char *fmt, ...)
{
    char command[20480];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    begin_command(p, command);
}

void e2e_end(struct e2e_process *p, struct e2e_run *r, double timeout_s)
{
    memset(r, 0, sizeof *r);
    int status = 0, pause_ms = 1;
    for (;;) {
        pid_t got = waitpid(p->pid, &status, WNOHANG);
        if (got == p->pid)
            break;
        if (!r->timed_out && e2e_now() - p->started > timeout_s) {
            r->timed_out = true;
            kill(-p->pid, SIGTERM);     /* mpirun takes its ranks along, if it still can */
        }
        if (r->timed_out && e2e_now() - p->started > timeout_s + 3)
            kill(-p->pid, SIGKILL);
        sleep_ms(pause_ms);
        pause_ms = pause_ms < 20 ? pause_ms + 1 : 20;
    }
    r->seconds = e2e_now() - p->started;
    r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    e2e_reap_all();
    r->out = e2e_read_file(p->out_path, &r->n_out);
    r->err = e2e_read_file(p->err_path, &r->n_err);
    unlink(p->out_path);
    unlink(p->err_path);
    for (int i = 0; i < E2E_RANKS_MAX; i++)
        r->rank_status[i] = -1;
}

void e2e_shell(struct e2e_run *r, double timeout_s, const char *fmt, ...)
{
    char command[20480];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    struct e2e_process p;
    begin_command(&p, command);
    e2e_end(&p, r, timeout_s);
}

void e2e_remove(const char *path)
{
    struct e2e_run r;
    e2e_shell(&r, 20, "rm -rf '%s'", path);
    e2e_run_free(&r);
}

const char *e2e_mpirun(void)
{
    return E2E_MPIRUN " " E2E_MPIRUN_FLAGS;
}

void e2e_muster(struct e2e_run *r, int n_ranks, double timeout_s, const char *args_fmt, ...)
{
    char args[16384], launcher[512] = "exec ";
    va_list ap;
    va_start(ap, args_fmt);
    vsnprintf(args, sizeof args, args_fmt, ap);
    va_end(ap);
    if (n_ranks > 0)
        snprintf(launcher, sizeof launcher, "exec %s -n %d ", e2e_mpirun(), n_ranks);
    e2e_shell(r, timeout_s, "%s%s %s", launcher, E2E_MUSTER, args);
    r->n_ranks = n_ranks;
}

static void status_path(char *path, size_t cap, int rank)
{
    snprintf(path, cap, "%s/status.%d", e2e_dir(), rank);
}

const char *e2e_noting_binary(int n_ranks)
{
    static char path[256];
    /* It ends with 0: at the first other code mpirun would kill the ranks that are still on their way
     * out, and their codes would be lost. */
    char script[512], status[256];
    snprintf(path, sizeof path, "%s/rank.sh", e2e_dir());
    snprintf(script, sizeof script,
             "#!/bin/sh\n'%s' \"$@\"\necho $? > '%s/status.'$OMPI_COMM_WORLD_RANK\nexit 0\n",
             E2E_MUSTER, e2e_dir());
    e2e_write_file(path, script, strlen(script));
    chmod(path, 0700);
    for (int i = 0; i < n_ranks; i++) {
        status_path(status, sizeof status, i);
        unlink(status);
    }
    return path;
}

void e2e_note_ranks(struct e2e_run *r, int n_ranks)
{
    r->n_ranks = n_ranks;
    for (int i = 0; i < n_ranks; i++) {
        char path[256];
        status_path(path, sizeof path, i);
        char *text = e2e_read_file(path, NULL);
        r->rank_status[i] = text && text[0] ? atoi(text) : -1;
        free(text);
    }
}

void e2e_ranks(struct e2e_run *r, int n_ranks, double timeout_s, const char *args_fmt, ...)
{
    char args[16384];
    va_list ap;
    va_start(ap, args_fmt);
    vsnprintf(args, sizeof args, args_fmt, ap);
    va_end(ap);
    e2e_shell(r, timeout_s, "exec %s -n %d %s %s", e2e_mpirun(), n_ranks, e2e_noting_binary(n_ranks),
              args);
    e2e_note_ranks(r, n_ranks);
}

void e2e_run_free(struct e2e_run *r)
{
    free(r->out);
    free(r->err);
    memset(r, 0, sizeof *r);
}

/* ---- verdicts ---- */

void e2e_expect_at(const struct e2e_run *r, int status, const char *file, int line)
{
    if (!r->timed_out && r->status == status)
        return;
    print_error("%s:%d: %s, status %d after %.1f s, wanted %d\nstdout: %.2000s\nstderr: %.3000s\n",
                file, line, r->timed_out ? "timed out" : "ended", r->status, r->seconds, status,
                r->out ? r->out : "", r->err ? r->err : "");
    fail();
}

/* Is s found in the line that begins at p? */
static bool line_has(const char *p, const char *s)
{
    const char *hit = strstr(p, s);
    return hit && hit < p + strcspn(p, "\n");
}

int e2e_count_errors(const char *text, const char **first)
{
    int n = 0;
    if (first)
        *first = NULL;
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        if (strncmp(p, "muster", 6) != 0)
            continue;
        if (first && n == 0)
            *first = p;
        n++;
    }
    return n;
}

void e2e_expect_error_at(const struct e2e_run *r, int status, const char *what, const char *file,
                         int line)
{
    const char *error;
    bool good = !r->timed_out && e2e_count_errors(r->err, &error) == 1 && line_has(error, what);
    for (int i = 0; i < r->n_ranks; i++)
        good = good && r->rank_status[i] == status;
    if (good)
        return;
    print_error("%s:%d: %safter %.1f s, wanted status %d on all ranks and one line with '%s'\n", file,
                line, r->timed_out ? "timed out " : "", r->seconds, status, what);
    for (int i = 0; i < r->n_ranks; i++)
        print_error("rank %d: status %d\n", i, r->rank_status[i]);
    print_error("stdout: %.1000s\nstderr: %.3000s\n", r->out ? r->out : "", r->err ? r->err : "");
    fail();
}

/* ---- models ---- */

const char *e2e_model(const char *name, const char *args)
{
    static char paths[32][256];
    static int n_paths;
    char path[256];
    snprintf(path, sizeof path, "%s/%.80s", e2e_dir(), name);
    for (int i = 0; i < n_paths; i++)
        if (!strcmp(paths[i], path))
            return paths[i];
    struct e2e_run r;
    e2e_shell(&r, 60, "exec %s %s --out '%s'", E2E_MODEL_MAKER, args, path);
    e2e_expect(&r, 0);
    e2e_run_free(&r);
    assert_true(n_paths < 32);
    memcpy(paths[n_paths], path, sizeof path);
    return paths[n_paths++];
}

const char *e2e_data(void)
{
    const char *path = getenv("MUSTER_DATA");
    if (!path)
        path = DATA_DEFAULT;
    return access(path, R_OK) == 0 ? path : NULL;
}

const char *e2e_chat_model(void)
{
    static char path[512];
    const char *own = getenv("MUSTER_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own)
        snprintf(path, sizeof path, "%s/smollm2.gguf", own);
    else if (xdg)
        snprintf(path, sizeof path, "%s/muster/smollm2.gguf", xdg);
    else
        snprintf(path, sizeof path, "%s/.cache/muster/smollm2.gguf", home ? home : "");
    return access(path, R_OK) == 0 ? path : NULL;
}
