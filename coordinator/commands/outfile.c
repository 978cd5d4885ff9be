#include "coordinator/commands/outfile.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int outfile_open(struct outfile *o, const char *path, struct err *err)
{
    struct stat st;
    memset(o, 0, sizeof *o);
    if (strlen(path) + sizeof ".part" > sizeof o->part)
        return err_set(err, ERR_OUTPUT, "%.80s...: the path is too long", path);
    snprintf(o->path, sizeof o->path, "%s", path);
    if (strcmp(path, "-") == 0) {
        o->f = stdout;
        return ERR_OK;
    }
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode))
        snprintf(o->part, sizeof o->part, "%.4080s.part", path);
    o->f = fopen(o->part[0] != '\0' ? o->part : path, "wb");
    if (o->f == NULL)
        return err_set(err, ERR_OUTPUT, "%s: %s", path, strerror(errno));
    return ERR_OK;
}

void outfile_abort(struct outfile *o)
{
    if (o->f != NULL && o->f != stdout)
        fclose(o->f);
    if (o->part[0] != '\0')
        unlink(o->part);
    memset(o, 0, sizeof *o);
}

int outfile_commit(struct outfile *o, struct err *err)
{
    errno = 0;
    int bad = fflush(o->f) != 0 || ferror(o->f);
    if (!bad && o->part[0] != '\0')
        bad = fsync(fileno(o->f)) != 0;
    int why = errno;
    if (o->f != stdout) {
        if (fclose(o->f) != 0 && !bad) {
            bad = 1;
            why = errno;
        }
        o->f = NULL;
    }
    if (!bad && o->part[0] != '\0' && rename(o->part, o->path) != 0) {
        bad = 1;
        why = errno;
    }
    if (!bad)
        return ERR_OK;
    err_set(err, ERR_OUTPUT, "%s: %s", o->f == stdout ? "stdout" : o->path,
            why != 0 ? strerror(why) : "write failed");
    outfile_abort(o);
    return ERR_OUTPUT;
}
