/* interrupt.h - ctrl-C as a flag that loops look at.
 * Why:    an interrupted run must still tell its ranks to stop, and end with 130.
 * State:  the one thing of the process that a signal handler can reach.
 * Ranks:  not collective. */
#ifndef MUSTER_INTERRUPT_H
#define MUSTER_INTERRUPT_H

#include <stdbool.h>

/* SIGINT and SIGTERM set the flag; a second one ends the process at once with 130. */
void interrupt_install(void);
bool interrupt_pending(void);

/* From now on a SIGTERM only asks: it may be the launcher's, that has lost another rank. The control
 * thread finds out, and confirms. */
void interrupt_defer(void);
int interrupt_asked(void);
void interrupt_confirm(void);

/* While on, SIGINT only sets a flag of its own, which the question takes down. */
void interrupt_softly(bool on);
bool interrupt_soft(void);

/* While on, SIGINT, SIGUSR1 and a SIGTERM that was meant only ask for an end: interrupt_gentle says so from
 * then on. A second SIGINT is a ctrl-C as ever. */
void interrupt_gently(bool on);
bool interrupt_gentle(void);

#endif
