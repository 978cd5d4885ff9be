/* e2e.h - drives the real binary under mpirun, as a user does.
 * Why:    what a user meets is an exit code, a line on stderr and bytes on stdout; and a hang must be a
 *         failed test, not a stuck machine.
 * Places: E2E_MUSTER, E2E_MODEL_MAKER, E2E_MPIRUN, E2E_MPIRUN_FLAGS come from CMake.
 * Owner:  a struct e2e_run owns its captured text: e2e_run_free. e2e_dir's folder is removed at exit.
 * Ranks:  the caller is no MPI process. */
#ifndef MUSTER_E2E_H
#define MUSTER_E2E_H

#include <stdbool.h>
#include <stddef.h>

/* cmocka wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

enum { E2E_RANKS_MAX = 16 };

struct e2e_run {
    int status;                 /* exit code of the command, 128 + signal if killed */
    bool timed_out;
    double seconds;
    char *out, *err;            /* NUL-terminated */
    size_t n_out, n_err;
    int n_ranks;
    int rank_status[E2E_RANKS_MAX];     /* of each rank's process, -1 unknown; e2e_ranks only */
};

/* Runs a shell command line with a deadline; nothing of it survives the call. */
void e2e_shell(struct e2e_run *r, double timeout_s, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* `mpirun -n N muster ARGS`; status is mpirun's. n_ranks 0: without mpirun. */
void e2e_muster(struct e2e_run *r, int n_ranks, double timeout_s, const char *args_fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same, each rank inside a shell that notes its exit code: fills rank_status. */
void e2e_ranks(struct e2e_run *r, int n_ranks, double timeout_s, const char *args_fmt, ...)
    __attribute__((format(printf, 4, 5)));

void e2e_run_free(struct e2e_run *r);

/* Fails the test, showing what the command printed, unless it ended in time with this status. */
#define e2e_expect(r, status) e2e_expect_at(r, status, __FILE__, __LINE__)
void e2e_expect_at(const struct e2e_run *r, int status, const char *file, int line);

/* Every rank ended with this status, and stderr has exactly one error line, which holds `what`. */
#define e2e_expect_error(r, status, what) e2e_expect_error_at(r, status, what, __FILE__, __LINE__)
void e2e_expect_error_at(const struct e2e_run *r, int status, const char *what, const char *file,
                         int line);

/* Lines of stderr that report an error: those that begin with "muster". *first is the first of them,
 * NULL when there is none; may be NULL. */
int e2e_count_errors(const char *text, const char **first);

/* A folder of this process, made at the first call. */
const char *e2e_dir(void);
/* The path of a name in it; four live at a time. */
const char *e2e_place(const char *name);

/* Whole file, NUL-terminated; NULL when it cannot be read. The caller frees. */
char *e2e_read_file(const char *path, size_t *n);
void e2e_write_file(const char *path, const void *bytes, size_t n);
/* A folder and what is in it, or a file; nothing where there is none. Ends processes begun before. */
void e2e_remove(const char *path);

/* Path of a model that the model maker writes on first use: `args` as on its command line. Lives in
 * e2e_dir; the string lives as long as the process. */
const char *e2e_model(const char *name, const char *args);

/* Folders of outside data, or NULL; and the chat model of deploy/get-model.sh, or NULL. */
const char *e2e_data(void);
const char *e2e_chat_model(void);

/* Seconds since some fixed moment. */
double e2e_now(void);

/* Kills what is left of this process's descendants; e2e_shell does it by itself. */
void e2e_reap_all(void);

/* Children of any depth of this process whose command line starts with the muster binary, up to cap;
 * returns how many. For tests that signal one rank; rank_of reads OMPI_COMM_WORLD_RANK. */
int e2e_find_ranks(int *pids, int *ranks, int cap);

/* Starts without waiting (a test that must act in mid-stream), then waits. Split: begin/end. */
struct e2e_process { int pid; double started; char out_path[256], err_path[256]; };
void e2e_begin(struct e2e_process *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void e2e_end(struct e2e_process *p, struct e2e_run *r, double timeout_s);

/* In place of the binary: a script that runs it and notes its exit code, for e2e_note_ranks afterwards
 * (e2e_ranks does both). It ends with 0 itself. */
const char *e2e_noting_binary(int n_ranks);
void e2e_note_ranks(struct e2e_run *r, int n_ranks);

/* The mpirun words before the binary, e.g. for MPMD command lines: "mpirun FLAGS". */
const char *e2e_mpirun(void);

#endif
