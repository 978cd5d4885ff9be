/* fixturetensor.h - tensors of fixture files as doubles or floats, for tests.
 * The caller frees what is returned; a missing tensor is NULL. */
#ifndef MUSTER_FIXTURETENSOR_H
#define MUSTER_FIXTURETENSOR_H

#include "workers/weights/tensorfile.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static inline double *fixture_values(struct tensorfile *t, const char *name,
                                     const struct tensor_entry **entry)
{
    const struct tensor_entry *e = tensorfile_find(t, name);
    struct err err = {0};
    *entry = e;
    if (e == NULL)
        return NULL;
    uint8_t *raw = malloc(e->bytes + 8);
    double *v = malloc((size_t)(e->n_elements + 1) * sizeof *v);
    if (raw == NULL || v == NULL || tensorfile_read(t, e, 0, raw, e->bytes, &err) != ERR_OK) {
        fprintf(stderr, "%s: %s\n", name, err.msg);
        exit(1);
    }
    for (int64_t i = 0; i < e->n_elements; i++)
        v[i] = e->type == DT_F64    ? ((double *)raw)[i]
               : e->type == DT_F32  ? ((float *)raw)[i]
               : e->type == DT_F16  ? dtype_f16_to_f32(((uint16_t *)raw)[i])
               : e->type == DT_BOOL ? raw[i]
                                    : (double)((int64_t *)raw)[i];
    free(raw);
    return v;
}

static inline float *fixture_floats(struct tensorfile *t, const char *name,
                                    const struct tensor_entry **entry)
{
    double *v = fixture_values(t, name, entry);
    if (v == NULL)
        return NULL;
    float *f = malloc((size_t)((*entry)->n_elements + 1) * sizeof *f);
    for (int64_t i = 0; f != NULL && i < (*entry)->n_elements; i++)
        f[i] = (float)v[i];
    free(v);
    return f;
}

/* Largest |got - want| and largest |want| of n numbers; NaN counts as infinite. */
static inline double fixture_distance(const float *got, const double *want, int64_t n, double *top)
{
    double worst = 0;
    *top = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(got[i] - want[i]);
        *top = fabs(want[i]) > *top ? fabs(want[i]) : *top;
        worst = isnan(d) ? INFINITY : d > worst ? d : worst;
    }
    return worst;
}

#endif
