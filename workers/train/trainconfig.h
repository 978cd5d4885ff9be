/* trainconfig.h - what the coordinator wants trained, as JSON that every task reads its keys from.
 * Why:    keys differ from task to task; a key that nobody reads is a spelling mistake, and is said.
 * How:    getters never fail one by one: the first bad value is kept, and trainconfig_finish reports it.
 * Owner:  the config owns the tree; texts die with it.
 * Ranks:  not collective. */
#ifndef MUSTER_TRAINCONFIG_H
#define MUSTER_TRAINCONFIG_H

#include "proto/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { TRAINCONFIG_KEYS_MAX = 96 };

struct trainconfig {
    json_t *json;
    const char *seen[TRAINCONFIG_KEYS_MAX]; int n_seen;
    struct err first;                   /* the first bad value */
    /* Read at open, since all need them. */
    uint64_t seed;
    int batch;
    const char *from;                   /* an inference folder whose weights are the first; or NULL */
};

int trainconfig_open(struct trainconfig *c, const char *text, struct err *err);
void trainconfig_close(struct trainconfig *c);

bool trainconfig_has(struct trainconfig *c, const char *key);
int64_t trainconfig_int(struct trainconfig *c, const char *key, int64_t otherwise, int64_t low,
                        int64_t high);
double trainconfig_real(struct trainconfig *c, const char *key, double otherwise, double low,
                        double high);
bool trainconfig_flag(struct trainconfig *c, const char *key, bool otherwise);
/* NULL when absent and `otherwise` is NULL. */
const char *trainconfig_text(struct trainconfig *c, const char *key, const char *otherwise);
/* A list of texts, borrowed; NULL when absent. */
const json_t *trainconfig_texts(struct trainconfig *c, const char *key);
/* Index of the value in a NULL-terminated list. */
int trainconfig_choice(struct trainconfig *c, const char *key, int otherwise, const char *const *words);

/* ERR_INVAL: the first bad value, or a key that nothing has read. */
int trainconfig_finish(struct trainconfig *c, struct err *err);

#endif
