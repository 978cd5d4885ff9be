#!/usr/bin/env python3
"""Writes workers/tensor/dtype_iqgrid.c: the code points of the IQ formats, which are facts of the format.

    python3 tests/golden/make_iq_grids.py > workers/tensor/dtype_iqgrid.c

Needs the gguf package (0.19.0 was used), which carries them in its own packing. Here a row of 8 elements
is 8 fields of 2 bits, a row of 4 elements 4 fields of 4 bits, element 0 lowest; a field is an index
into the values beside the table."""
import numpy as np
from gguf import quants as q


def rows(cls, bits):
    cls.init_grid()
    grid = np.asarray(cls.grid).reshape(cls.grid_shape)
    index = np.argmax(grid[..., None] == np.array(cls.grid_map, np.float32), axis=-1)
    return [sum(int(v) << bits * j for j, v in enumerate(row)) for row in index]


print('''/* dtype_iqgrid.c - the code points of the IQ formats; written by tests/golden/make_iq_grids.py. */
#include "workers/tensor/dtype_iq.h"

/* clang-format off */''')
for cls, bits in ((q.IQ2_XXS, 2), (q.IQ2_XS, 2), (q.IQ2_S, 2), (q.IQ3_XXS, 4), (q.IQ3_S, 4),
                  (q.IQ1_S, 2)):
    name, r = cls.__name__.lower(), rows(cls, bits)
    assert len(set(r)) == len(r)
    print(f"static const uint16_t rows_{name}[{len(r)}] = {{")
    for i in range(0, len(r), 14):
        print("    " + " ".join(f"{v}," for v in r[i:i + 14]))
    print("};")
    values = ", ".join(str(v) for v in cls.grid_map)
    print(f"const struct iq_grid iq_grid_{name} = {{rows_{name}, {len(r)}, {cls.grid_shape[1]}, {bits},"
          f"\n    {{{values}}}}};\n")
