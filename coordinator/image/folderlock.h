/* folderlock.h - who writes into a folder of pictures.
 * Why:    two batches in one folder would take each other's place; and after a kill the last rank may
 *         still be writing when the next run begins.
 * How:    POSIX record locks on FOLDER/.muster.lock, which network file systems know too and which the
 *         kernel gives back when a process dies: byte 0 is the coordinator's, byte 1 + r that of rank r.
 * Trap:   closing any descriptor of the file gives back all locks of the process. So descriptors stay
 *         open until the process ends; folderlock_free is for tests.
 * Ranks:  not collective. */
#ifndef MUSTER_FOLDERLOCK_H
#define MUSTER_FOLDERLOCK_H

#include "proto/err.h"

struct folderlock { int fd; };      /* zeroed: none */

/* The coordinator's: alone in the folder. wait_s > 0: waits so long for ranks of an earlier run to go.
 * ERR_INVAL when somebody else has it. */
int folderlock_take_all(struct folderlock *l, const char *folder, double wait_s, struct err *err);
/* Byte 1 + rank. */
int folderlock_take_rank(struct folderlock *l, const char *folder, int rank, struct err *err);
void folderlock_free(struct folderlock *l);

#endif
