#include "workers/models/exportplan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* better: the type of attn_v and ffn_down in the layers that matter most, as llama.cpp's _M mixes
 * have it; head: of the output matrix. */
struct export_plan { const char *name; enum dtype type, head, better; int file_type; };

static const struct export_plan plans[] = {
    {"f32", DT_F32, DT_F32, DT_F32, 0},         {"f16", DT_F16, DT_F16, DT_F16, 1},
    {"bf16", DT_BF16, DT_BF16, DT_BF16, 32},    {"q8_0", DT_Q8_0, DT_Q8_0, DT_Q8_0, 7},
    {"q4_0", DT_Q4_0, DT_Q6_K, DT_Q4_0, 2},     {"q4_1", DT_Q4_1, DT_Q6_K, DT_Q4_1, 3},
    {"q5_0", DT_Q5_0, DT_Q6_K, DT_Q5_0, 8},     {"q5_1", DT_Q5_1, DT_Q6_K, DT_Q5_1, 9},
    {"q2_k", DT_Q2_K, DT_Q6_K, DT_Q2_K, 21},    {"q3_k", DT_Q3_K, DT_Q6_K, DT_Q3_K, 11},
    {"q4_k", DT_Q4_K, DT_Q6_K, DT_Q4_K, 14},    {"q4_k_m", DT_Q4_K, DT_Q6_K, DT_Q6_K, 15},
    {"q5_k", DT_Q5_K, DT_Q6_K, DT_Q5_K, 16},    {"q5_k_m", DT_Q5_K, DT_Q6_K, DT_Q6_K, 17},
    {"q6_k", DT_Q6_K, DT_Q6_K, DT_Q6_K, 18},    {"iq4_nl", DT_IQ4_NL, DT_Q6_K, DT_IQ4_NL, 25},
    {"iq4_xs", DT_IQ4_XS, DT_Q6_K, DT_IQ4_XS, 30},
    {"iq3_s", DT_IQ3_S, DT_Q6_K, DT_IQ3_S, 26}, {"iq3_xxs", DT_IQ3_XXS, DT_Q6_K, DT_IQ3_XXS, 23},
    {"iq2_s", DT_IQ2_S, DT_Q6_K, DT_IQ2_S, 28},
    {"tq1_0", DT_TQ1_0, DT_Q6_K, DT_TQ1_0, 36}, {"tq2_0", DT_TQ2_0, DT_Q6_K, DT_TQ2_0, 37},
    {"mxfp4", DT_MXFP4, DT_Q8_0, DT_MXFP4, 38},
};
enum { N_PLANS = sizeof plans / sizeof *plans };

const struct export_plan *exportplan_named(const char *name)
{
    for (int i = 0; i < N_PLANS; i++)
        if (strcasecmp(plans[i].name, name) == 0)
            return &plans[i];
    return NULL;
}

const char *exportplan_names(char *buf, size_t cap)
{
    size_t at = 0;
    buf[0] = '\0';
    for (int i = 0; i < N_PLANS && at < cap; i++)
        at += (size_t)snprintf(buf + at, cap - at, "%s%s", i > 0 ? " " : "", plans[i].name);
    return buf;
}

int exportplan_file_type(const struct export_plan *p) { return p->file_type; }

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* Vectors, norms, biases, routers and tables are small and touchy. */
static bool stays_f32(const struct export_tensor *t)
{
    return t->n_dims < 2 || !ends_with(t->name, ".weight") || ends_with(t->name, "_norm.weight")
           || ends_with(t->name, "ffn_gate_inp.weight");
}

/* The next type that the row length allows. */
static enum dtype fallback(enum dtype type, int64_t cols)
{
    while (cols % dtype_info((int)type)->block != 0)
        switch (type) {
        case DT_Q2_K:
        case DT_Q3_K:
        case DT_TQ1_0:
        case DT_TQ2_0: type = DT_Q4_0; break;
        case DT_Q4_K: type = DT_Q5_0; break;
        case DT_Q5_K: type = DT_Q5_1; break;
        case DT_Q6_K: type = DT_Q8_0; break;
        case DT_IQ3_S:
        case DT_IQ3_XXS:
        case DT_IQ2_S:
        case DT_IQ4_XS: type = DT_IQ4_NL; break;
        default: type = DT_F16; break;
        }
    return type;
}

/* Bits of a number, times 256. */
static int bits(enum dtype type)
{
    const struct dtype_info *i = dtype_info((int)type);
    return i->bytes * 8 * 256 / i->block;
}

/* First and last eighth of the layers, and every third between. */
static bool matters_more(int layer, int n_layers)
{
    int edge = n_layers / 8;
    return layer < edge || layer >= 7 * n_layers / 8 || (layer - edge) % 3 == 2;
}

static int layer_of(const struct export_tensor *t)
{
    return strncmp(t->name, "blk.", 4) == 0 ? (int)strtol(t->name + 4, NULL, 10) : -1;
}

/* What the list says about the model as a whole. */
struct shape { bool head, experts; int n_layers; };

static struct shape shape_of(const struct export_list *l)
{
    struct shape s = {0};
    for (int i = 0; i < l->n; i++) {
        int layer = layer_of(&l->tensor[i]);
        s.head |= strcmp(l->tensor[i].name, "output.weight") == 0;
        s.experts |= strstr(l->tensor[i].name, "_exps.") != NULL;
        s.n_layers = layer >= s.n_layers ? layer + 1 : s.n_layers;
    }
    return s;
}

static enum dtype wanted(const struct export_plan *p, const struct shape *s,
                         const struct export_tensor *t)
{
    if (strcmp(t->name, s->head ? "output.weight" : "token_embd.weight") == 0)
        return p->head;
    if (p->type == DT_MXFP4 && s->experts)      /* made for experts; what all tokens share is kept better */
        return strstr(t->name, "_exps.") ? DT_MXFP4 : DT_Q8_0;
    bool touchy = strstr(t->name, "attn_v.") || strstr(t->name, "ffn_down");
    return touchy && matters_more(layer_of(t), s->n_layers) ? p->better : p->type;
}

void exportplan_apply(const struct export_plan *p, struct export_list *l, int *n_fallback)
{
    struct shape s = shape_of(l);
    *n_fallback = 0;
    for (int i = 0; i < l->n; i++) {
        struct export_tensor *t = &l->tensor[i];
        enum dtype from = t->type;
        if (!dtype_info((int)from)->dequantise)
            continue;           /* whole numbers: no weights */
        if (stays_f32(t)) {
            t->type = DT_F32;
            continue;
        }
        enum dtype want = wanted(p, &s, t);
        t->type = fallback(want, t->shape[t->n_dims - 1]);
        *n_fallback += t->type != want;
        /* Numbers that are already coarser gain nothing by a second rounding. */
        if (dtype_info((int)p->type)->block > 1 && dtype_info((int)from)->block > 1
            && bits(from) <= bits(t->type))
            t->type = from;
    }
}
