#include "coordinator/journal/journal.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GROUP_MAX = 256, BUSY_MS = 10000 };
static const int64_t GROUP_US = 200 * 1000;

struct journal {
    sqlite3 *db;
    sqlite3_stmt *mark, *set, *add;
    bool open_group;
    int n_group;
    int64_t group_us;
    char path[4096];
};

static const char schema[] =
    "CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT NULL);"
    "CREATE TABLE request(id INTEGER PRIMARY KEY, json TEXT NOT NULL);"
    "CREATE TABLE picture(task INTEGER PRIMARY KEY, file TEXT NOT NULL, offset INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, sha256 BLOB NOT NULL);"
    "PRAGMA user_version=1;";

static int failed(struct journal *j, struct err *err)
{
    int code = sqlite3_errcode(j->db);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_SCHEMA || code == SQLITE_ERROR)
        return err_set(err, ERR_FORMAT, "%s: the journal is damaged (%s); its pictures are whole: begin "
                       "anew with another -o", j->path, sqlite3_errmsg(j->db));
    return err_set(err, ERR_OUTPUT, "%s: %s", j->path, sqlite3_errmsg(j->db));
}

static int run(struct journal *j, const char *sql, struct err *err)
{
    return sqlite3_exec(j->db, sql, NULL, NULL, NULL) == SQLITE_OK ? ERR_OK : failed(j, err);
}

static int prepare(struct journal *j, const char *sql, sqlite3_stmt **s, struct err *err)
{
    return sqlite3_prepare_v2(j->db, sql, -1, s, NULL) == SQLITE_OK ? ERR_OK : failed(j, err);
}

static int prepare_all(struct journal *j, struct err *err)
{
    TRY(prepare(j, "INSERT OR REPLACE INTO picture VALUES(?,?,?,?,?)", &j->mark, err));
    TRY(prepare(j, "INSERT OR REPLACE INTO setting VALUES(?,?)", &j->set, err));
    return prepare(j, "INSERT INTO request(json) VALUES(?)", &j->add, err);
}

static int connect(struct journal **out, const char *path, int flags, struct err *err)
{
    struct journal *j = calloc(1, sizeof *j);
    if ((*out = j) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a journal");
    snprintf(j->path, sizeof j->path, "%s", path);
    if (sqlite3_open_v2(path, &j->db, flags, NULL) != SQLITE_OK)
        return err_set(err, flags & SQLITE_OPEN_CREATE ? ERR_OUTPUT : ERR_IO, "%s: %s", path,
                       j->db != NULL ? sqlite3_errmsg(j->db) : "no memory");
    sqlite3_busy_timeout(j->db, BUSY_MS);
    return run(j, "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;", err);
}

static void drop(struct journal **j)
{
    sqlite3_finalize((*j)->mark);
    sqlite3_finalize((*j)->set);
    sqlite3_finalize((*j)->add);
    sqlite3_close((*j)->db);
    free(*j);
    *j = NULL;
}

int journal_create(struct journal **j, const char *path, struct err *err)
{
    *j = NULL;
    if (path != NULL && access(path, F_OK) == 0)
        return err_set(err, ERR_INVAL, "%s: there already", path);
    int rc = connect(j, path != NULL ? path : ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
    if (rc == ERR_OK)
        rc = run(*j, schema, err);
    if (rc == ERR_OK)
        rc = prepare_all(*j, err);
    if (rc != ERR_OK && *j != NULL)
        drop(j);
    return rc;
}

static int check(struct journal *j, struct err *err)
{
    sqlite3_stmt *s;
    TRY(prepare(j, "PRAGMA quick_check(1)", &s, err));
    int code = sqlite3_step(s);
    const char *said = code == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
    int rc = code != SQLITE_ROW ? failed(j, err)
             : said == NULL || strcmp(said, "ok") != 0
                 ? err_set(err, ERR_FORMAT, "%s: the journal is damaged (%.80s); its pictures are whole: "
                           "begin anew with another -o", j->path, said != NULL ? said : "unreadable")
                 : ERR_OK;
    sqlite3_finalize(s);
    return rc;
}

int journal_open(struct journal **j, const char *path, struct err *err)
{
    *j = NULL;
    if (access(path, F_OK) != 0)
        return err_set(err, ERR_IO, "%s: no journal there: nothing to go on with", path);
    int rc = connect(j, path, SQLITE_OPEN_READWRITE, err);
    if (rc == ERR_OK)
        rc = check(*j, err);
    if (rc == ERR_OK)
        rc = prepare_all(*j, err);
    if (rc != ERR_OK && *j != NULL)
        drop(j);
    return rc;
}

int journal_close(struct journal *j, struct err *err)
{
    if (j == NULL)
        return ERR_OK;
    int rc = journal_commit(j, err);
    drop(&j);
    return rc;
}

/* --- groups */

static int begin_group(struct journal *j, int64_t now_us, struct err *err)
{
    if (j->open_group)
        return ERR_OK;
    TRY(run(j, "BEGIN IMMEDIATE", err));
    j->open_group = true;
    j->n_group = 0;
    j->group_us = now_us;
    return ERR_OK;
}

int journal_commit(struct journal *j, struct err *err)
{
    if (!j->open_group)
        return ERR_OK;
    int rc = run(j, "COMMIT", err);
    if (rc != ERR_OK)       /* what it held is made again: the files say so themselves */
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    j->open_group = false;
    return rc;
}

static int finish(struct journal *j, sqlite3_stmt *s, struct err *err)
{
    int rc = sqlite3_step(s) == SQLITE_DONE ? ERR_OK : failed(j, err);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return rc;
}

/* --- what is asked */

int journal_set(struct journal *j, const char *key, const char *value, struct err *err)
{
    TRY(begin_group(j, 0, err));
    sqlite3_bind_text(j->set, 1, key, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(j->set, 2, value, -1, SQLITE_TRANSIENT);
    return finish(j, j->set, err);
}

int journal_get(struct journal *j, const char *key, char **value, struct err *err)
{
    sqlite3_stmt *s;
    *value = NULL;
    TRY(prepare(j, "SELECT value FROM setting WHERE key=?", &s, err));
    sqlite3_bind_text(s, 1, key, -1, SQLITE_TRANSIENT);
    int code = sqlite3_step(s), rc = ERR_OK;
    if (code == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        if ((*value = strdup(text != NULL ? text : "")) == NULL)
            rc = err_set(err, ERR_NOMEM, "no memory for the journal");
    } else if (code != SQLITE_DONE) {
        rc = failed(j, err);
    }
    sqlite3_finalize(s);
    return rc;
}

int journal_add_request(struct journal *j, const char *json, struct err *err)
{
    TRY(begin_group(j, 0, err));
    sqlite3_bind_text(j->add, 1, json, -1, SQLITE_TRANSIENT);
    return finish(j, j->add, err);
}

int journal_requests(struct journal *j, int (*each)(void *ctx, const char *json, struct err *err),
                     void *ctx,
                     struct err *err)
{
    sqlite3_stmt *s;
    int code, rc = ERR_OK;
    TRY(prepare(j, "SELECT json FROM request ORDER BY id", &s, err));
    while (rc == ERR_OK && (code = sqlite3_step(s)) != SQLITE_DONE) {
        const char *text = code == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
        rc = code != SQLITE_ROW ? failed(j, err) : each(ctx, text != NULL ? text : "", err);
    }
    sqlite3_finalize(s);
    return rc;
}

/* --- what is made */

int journal_mark(struct journal *j, const struct journal_picture *p, int64_t now_us, struct err *err)
{
    TRY(begin_group(j, now_us, err));
    sqlite3_bind_int64(j->mark, 1, p->task);
    sqlite3_bind_text(j->mark, 2, p->file, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(j->mark, 3, (sqlite3_int64)p->offset);
    sqlite3_bind_int64(j->mark, 4, (sqlite3_int64)p->bytes);
    sqlite3_bind_blob(j->mark, 5, p->sha256, sizeof p->sha256, SQLITE_TRANSIENT);
    TRY(finish(j, j->mark, err));
    j->n_group++;
    return j->n_group >= GROUP_MAX || now_us - j->group_us >= GROUP_US ? journal_commit(j, err) : ERR_OK;
}

int journal_pictures(struct journal *j,
                     int (*each)(void *ctx, const struct journal_picture *p, struct err *err), void *ctx,
                     struct err *err)
{
    sqlite3_stmt *s;
    int code, rc = ERR_OK;
    TRY(prepare(j, "SELECT task, file, offset, bytes, sha256 FROM picture ORDER BY task", &s, err));
    while (rc == ERR_OK && (code = sqlite3_step(s)) != SQLITE_DONE) {
        if (code != SQLITE_ROW) {
            rc = failed(j, err);
            break;
        }
        const char *file = (const char *)sqlite3_column_text(s, 1);
        struct journal_picture p = {.task = sqlite3_column_int64(s, 0), .file = file != NULL ? file : "",
                                    .offset = (uint64_t)sqlite3_column_int64(s, 2),
                                    .bytes = (uint64_t)sqlite3_column_int64(s, 3)};
        if (sqlite3_column_bytes(s, 4) == (int)sizeof p.sha256)
            memcpy(p.sha256, sqlite3_column_blob(s, 4), sizeof p.sha256);
        rc = each(ctx, &p, err);
    }
    sqlite3_finalize(s);
    return rc;
}
