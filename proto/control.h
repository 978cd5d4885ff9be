/* control.h - the control thread of a party: heartbeats, revoke, the state line.
 * Why:    a send to a dead rank never completes and a receive from it neither; somebody who waits for
 *         nothing must notice and end the waits of the others.
 * How:    a worker's thread tells the coordinator twice a second what the worker is at, while it loads
 *         for minutes too. The coordinator's thread watches (liveness.h), vouches for all ranks as often
 *         as it hears them, and revokes when one is at fault: waits of every party then return ERR_PEER.
 *         A worker that hears nothing of the coordinator revokes itself. Whoever has not come to an
 *         end some seconds after that is ended by its control thread, and a watchdog without MPI ends a
 *         rank whose control thread is itself stuck inside MPI.
 *         A rank that fails for a reason of its own tells the coordinator itself, whose party then sets
 *         called_off: waits end as after a revoke, and the workers take their Stop.
 * Owner:  the control owns its threads; it borrows both comms, and a `party` reads from it until
 *         control_stop.
 * Ranks:  one for each party; rank 0 has two, the worker's and the coordinator's.
 *
 * What Open MPI 4.1.4's mpirun does when a rank ends without finalizing MPI (three ranks, one host):
 *   SIGKILL of a rank      the others get SIGCONT, a second later SIGTERM, then SIGKILL: about a second
 *                          later, or as soon as one of them has left. mpirun ends with 137 after 1.5 s.
 *                          Who stays on after SIGTERM may still write its line and exit.
 *   SIGSTOP of a rank      mpirun notices nothing. When a survivor then exits with 5, mpirun ends the
 *                          rest as above, the stopped one included, and itself with 5: 0.6 s.
 *   --enable-recovery, SIGKILL   the others live on, unsignalled; each must notice and exit by itself.
 *                          mpirun waits for the last and ends with 0, whatever they exited with.
 *   --enable-recovery, SIGSTOP   mpirun waits for the stopped rank for ever, unless a rank calls
 *                          an abort by MPI: that ends it, and mpirun ends with 0.
 * So survivors leave by _exit(5) with SIGTERM ignored (comm_mpi_leave); under recovery the last of them
 * aborts through MPI. The line on stderr is written before anybody leaves. And since a ctrl-C reaches the
 * ranks as SIGTERM too, a SIGTERM makes the control threads ask who is still there: who answers within
 * 0.3 s is alive, and there is time left to say who is not. */
#ifndef MUSTER_CONTROL_H
#define MUSTER_CONTROL_H

#include "proto/comm.h"

struct control_options {
    int64_t beat_us, first_us, silent_us, stuck_us;     /* 0: 0.5 s, 20 s, 5 s, 30 s */
    int64_t grace_us;       /* from a revoke to leave(); 0: 3 s */
    /* Ends the process (comm_mpi_leave); NULL: a revoke only ends waits. */
    void (*leave)(int exit_code, int last);
    /* Has somebody asked this process to end (SIGTERM)? May be NULL. */
    int (*asked_to_end)(void);
    /* Called once after that by the coordinator's thread, when all ranks are alive: it was meant. */
    void (*end)(void);
};

struct control { struct control_state *state; };

/* The line that says why a run is revoked is written by the control thread; a main writes none then.
 *
 * Starts the thread of the party `party`; beat is another end of the same party, used by nobody else.
 * If beat is the coordinator's, the thread watches all workers. Sets party's revoked, revoked_why and
 * vouched_us, and a handler for SIGUSR1. If it fails you owe nothing. */
int control_start(struct control *c, struct comm *beat, struct comm *party,
                  const struct control_options *options, struct err *err);

/* Tells the others that this party ends in good order, and ends the thread. Accepts a zeroed control.
 * party's revoked_why stays readable until the process ends. */
void control_stop(struct control *c);

/* Is this the rank that speaks, and leaves last, when `revoked` (COMM_REVOKED, COMM_ALONE) ends the job?
 * Rank 0, or the next one when rank 0 is gone. */
int control_speaks(int rank, int revoked);

#endif
