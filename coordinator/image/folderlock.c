#include "coordinator/image/folderlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 50 };

static int open_lock(struct folderlock *l, const char *folder, struct err *err)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/.muster.lock", folder) >= (int)sizeof path)
        return err_set(err, ERR_INVAL, "%.100s..: the path is too long", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_set(err, ERR_OUTPUT, "%s: cannot be written: %s", path, strerror(errno));
    l->fd = fd;
    return ERR_OK;
}

/* 0: got it; else errno. n 0: all bytes from `at` on. */
static int try_lock(int fd, off_t at, off_t n)
{
    struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = n};
    return fcntl(fd, F_SETLK, &f) == 0 ? 0 : errno;
}

static void unlock(int fd, off_t at, off_t n)
{
    struct flock f = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = n};
    fcntl(fd, F_SETLK, &f);
}

static int holder(int fd)
{
    struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_GETLK, &f) == 0 && f.l_type != F_UNLCK ? (int)f.l_pid : 0;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int folderlock_take_all(struct folderlock *l, const char *folder, double wait_s, struct err *err)
{
    double begun = seconds();
    int code;
    TRY(open_lock(l, folder, err));
    while ((code = try_lock(l->fd, 0, 0)) == EACCES || code == EAGAIN) {
        if (seconds() - begun >= wait_s)
            return err_set(err, ERR_INVAL, "%s: another run is writing there (process %d); wait for it, or "
                           "choose another -o", folder, holder(l->fd));
        nanosleep(&(struct timespec){0, LOOK_MS * 1000000L}, NULL);
    }
    if (code != 0)
        return err_set(err, ERR_OUTPUT, "%s: no locks on this file system: %s", folder, strerror(code));
    unlock(l->fd, 1, 0);        /* the ranks take theirs */
    return ERR_OK;
}

int folderlock_take_rank(struct folderlock *l, const char *folder, int rank, struct err *err)
{
    TRY(open_lock(l, folder, err));
    int code = try_lock(l->fd, 1 + rank, 1);
    if (code == 0)
        return ERR_OK;
    return err_set(err, ERR_OUTPUT, "%s: rank %d cannot lock its place: %s", folder, rank, strerror(code));
}

void folderlock_free(struct folderlock *l)
{
    if (l->fd > 0)
        close(l->fd);
    l->fd = 0;
}
