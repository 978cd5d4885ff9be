/* Sums over up to 11 ranks, each a thread, over the transport of one process: bit-equal to one rank. */
#include "tests/reduce_cases.h"

#include <pthread.h>

struct rank { struct comm *comm; int self, tp, wrong; };

static void *run(void *arg)
{
    struct rank *r = arg;
    r->wrong = run_reduce_cases(r->comm, r->self, r->tp);
    return NULL;
}

int main(void)
{
    static const int tps[] = {1, 2, 3, 5, 8, 11};
    int wrong = 0;
    for (size_t k = 0; k < sizeof tps / sizeof *tps; k++) {
        struct comm c[12];
        struct rank rank[11];
        pthread_t thread[11];
        struct err err = {0};
        if (comm_local_open(c, tps[k], &err) != ERR_OK)
            return 1;
        for (int i = 0; i < tps[k]; i++) {
            rank[i] = (struct rank){&c[i], i, tps[k], 0};
            pthread_create(&thread[i], NULL, run, &rank[i]);
        }
        for (int i = 0; i < tps[k]; i++) {
            pthread_join(thread[i], NULL);
            wrong += rank[i].wrong;
        }
        for (int i = 0; i <= tps[k]; i++)
            comm_close(&c[i]);
    }
    printf("%d passed, %d failed\n", wrong == 0, wrong != 0);
    return wrong != 0;
}
