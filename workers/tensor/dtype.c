#include "workers/tensor/dtype.h"
