/* The reduction cases over MPI. */
#include "tests/reduce_cases.h"

#include <mpi.h>

int main(int argc, char **argv)
{
    struct err err = {0};
    struct comm c;
    int provided, wrong = 1, all = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    if (comm_mpi_init(&err) == ERR_OK && comm_mpi_open(&c, comm_mpi_rank(), &err) == ERR_OK) {
        wrong = run_reduce_cases(&c, comm_mpi_rank(), comm_mpi_size());
        comm_close(&c);
    }
    MPI_Allreduce(&wrong, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (comm_mpi_rank() == 0)
        printf("%d passed, %d failed\n", all == 0, all != 0);
    comm_mpi_finish();
    MPI_Finalize();
    return all != 0;
}
