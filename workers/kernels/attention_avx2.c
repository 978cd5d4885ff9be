enum { TALLEST = 4 };   /* query rows of a tile: 8 of the 16 registers accumulate */
#include "workers/kernels/attention_body.h"

const struct attention_row attention_avx2 = {run, store};
