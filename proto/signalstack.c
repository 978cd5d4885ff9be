#include "proto/signalstack.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* The registers of a processor with AMX alone take 11 KB. */
enum { STACK_BYTES = 1 << 17 };

int signalstack_use(struct err *err)
{
    stack_t own;
    memset(&own, 0, sizeof own);
    own.ss_size = STACK_BYTES;
    own.ss_sp = malloc(STACK_BYTES);
    if (own.ss_sp != NULL && sigaltstack(&own, NULL) == 0)
        return ERR_OK;
    free(own.ss_sp);
    return err_set(err, ERR_NOMEM, "no stack for signals");
}
