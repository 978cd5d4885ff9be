enum { TALLEST = 8 };   /* query rows of a tile: 16 of the 32 registers accumulate */
#include "workers/kernels/attention_body.h"

const struct attention_row attention_avx512 = {run, store};
