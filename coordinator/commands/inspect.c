/* inspect.c - what is in a model file, and what each rank of a layout would hold. Reads headers only,
 * and needs no ranks but one: the layout is of ranks that need not exist. */
#include "coordinator/commands/command.h"

#include "coordinator/commands/cli.h"
#include "coordinator/commands/commandlist.h"
#include "coordinator/commands/session.h"
#include "coordinator/image/pngfile.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_JSON = 0x3000, OPT_TENSORS, OPT_META };

struct options {
    struct err *err;
    struct model_args model;
    bool json, tensors, meta;
    const char *picture;        /* in place of a model */
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "Output:", 0},
    {"json", OPT_JSON, NULL, 0, "Print JSON, with all tensors and metadata", 0},
    {"tensors", OPT_TENSORS, NULL, 0, "List the tensors", 0},
    {"meta", OPT_META, NULL, 0, "List the metadata", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return model_args_begin(&o->model, o->err, state);
    case ARGP_KEY_ARG:
        if (o->picture != NULL)
            return ARGP_ERR_UNKNOWN;
        o->picture = arg;
        return 0;
    case OPT_JSON: o->json = true; return 0;
    case OPT_TENSORS: o->tensors = true; return 0;
    case OPT_META: o->meta = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp inspect_argp = {
    .options = option_table, .parser = parse, .children = model_args_child,
    .args_doc = "[PICTURE.png]",
    .doc = "Says what is in a model file, and what each rank of a layout would hold; or how a picture was "
           "made.\v"
           "Example:\n"
           "  muster inspect -m llama.gguf --tp 4 --pp 2"};

/* --- the layout, of as many ranks as it asks for */

static int imagine_plan(const struct options *o, struct session *s, struct plan *p, struct err *err)
{
    struct arena *mem = &s->cluster.keep;
    int tp = o->model.tp > 0 ? o->model.tp : 1, pp = o->model.pp > 0 ? o->model.pp : 1, n = tp * pp;
    Muster__NodeReport *report = arena_take(mem, (size_t)n * sizeof *report);
    Muster__NodeReport **list = arena_take(mem, (size_t)n * sizeof *list);
    int context;
    TRY(session_context(s, &o->model, &context, err));
    if (report == NULL || list == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %d ranks", n);
    for (int i = 0; i < n; i++) {
        muster__node_report__init(list[i] = &report[i]);
        report[i].host = (char *)"one";
    }
    struct plan_request q = {.n_ranks = n, .reports = list, .spec = s->cluster.spec, .tp = tp,
        .pp = pp, .slots = o->model.batch > 0 ? o->model.batch : 1, .context = context,
        .page_tokens = CLUSTER_PAGE_TOKENS, .max_rows = o->model.chunk > 0 ? o->model.chunk : 512,
        .kv_block_bytes = cluster_kv_block_bytes(model_args_kv(&o->model)),
        .memory_most = o->model.memory, .even = true};
    return plan_layout(p, &q, tp, pp, mem, err);
}

/* --- text */

static const char *size_text(uint64_t bytes, char out[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    snprintf(out, 24, u == 0 ? "%.0f %s" : "%.2f %s", v, units[u]);
    return out;
}

static uint64_t file_bytes(const Muster__ModelSpec *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->n_tensor; i++)
        n += m->tensor[i]->file_bytes;
    return n;
}

static void print_model(const struct session *s)
{
    const Muster__ModelSpec *m = s->cluster.spec;
    char size[24];
    printf("%s\n", s->path);
    printf("  %s%s%s, %s, mostly %s: %.2f M parameters, %s\n", m->name, m->name[0] ? ": " : "",
           m->arch, m->format, m->type, (double)m->parameters / 1e6, size_text(file_bytes(m), size));
    printf("  %u layers of width %u; %u query heads of %u, %u KV heads; FFN %u; vocabulary %u%s; "
           "context %u\n", m->n_layers, m->dim, m->n_heads, m->head_dim, m->n_kv_heads, m->ffn_dim,
           m->vocab, m->tied ? " (tied)" : "", m->context);
    if (m->n_experts > 0)
        printf("  %u experts of %u, %u for each token\n", m->n_experts, m->expert_ffn_dim,
               m->n_experts_used);
    printf("  begins with id %d, ends with", m->bos);
    for (size_t i = 0; i < m->n_eos; i++)
        printf(" %u", m->eos[i]);
    printf("%s\n", m->n_eos == 0 ? " none" : "");
}

static const char *const cut_names[] = {"whole", "query heads", "KV heads", "head columns",
    "FFN rows", "FFN columns", "vocabulary", "expert rows", "expert columns", "heads"};

static const char *cut_name(int cut)
{
    return cut >= 0 && cut < (int)(sizeof cut_names / sizeof *cut_names) ? cut_names[cut] : "?";
}

static void print_tensors(const Muster__ModelSpec *m)
{
    printf("tensors (%zu):\n", m->n_tensor);
    for (size_t i = 0; i < m->n_tensor; i++) {
        const Muster__TensorSpec *t = m->tensor[i];
        char shape[64] = "";
        for (size_t k = 0; k < t->n_shape; k++)
            snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%llu", k ? ", " : "",
                     (unsigned long long)t->shape[k]);
        printf("  %-44s %-6s [%s]  by %s\n", t->name, t->type_name, shape, cut_name((int)t->cut));
    }
}

static void print_layout(const struct plan *p)
{
    char w[24], k[24], c[24], f[24];
    printf("layout tp %d x pp %d:\n", p->tp, p->pp);
    printf("  %4s %5s  %-8s %-8s %-8s %-13s %-14s %10s %10s %10s %10s\n", "rank", "stage", "layers",
           "heads", "KV heads", "FFN columns", "vocabulary", "weights", "of file", "KV", "scratch");
    for (int i = 0; i < p->n_shares; i++) {
        const struct plan_share *s = &p->share[i];
        printf("  %4d %5d  %3d-%-4d %3d-%-4d %3d-%-4d %6d-%-6d %6d-%-7d %10s %10s %10s %10s\n", s->rank,
               s->stage, s->layer_begin, s->layer_end, s->heads.begin, s->heads.end,
               s->kv_heads.begin, s->kv_heads.end, s->ffn.begin, s->ffn.end, s->vocab.begin,
               s->vocab.end, size_text(s->weights_bytes, w), size_text(s->file_bytes, f),
               size_text(s->kv_bytes, k), size_text(s->scratch_bytes, c));
    }
}

static int print_text(const struct options *o, const struct session *s, const struct plan *p,
                      struct err *err)
{
    const Muster__ModelSpec *m = s->cluster.spec;
    print_model(s);
    if (o->meta)
        for (size_t i = 0; i < m->n_meta; i++)
            printf("  %s = %s\n", m->meta[i]->key, m->meta[i]->value);
    if (o->tensors)
        print_tensors(m);
    print_layout(p);
    return cli_flush(err);
}

/* --- JSON */

static json_t *tensors_json(const Muster__ModelSpec *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->n_tensor; i++) {
        const Muster__TensorSpec *t = m->tensor[i];
        json_t *shape = json_array();
        for (size_t k = 0; k < t->n_shape; k++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:i, s:s, s:I, s:I}", "name", t->name,
            "type", t->type_name, "shape", shape, "layer", (int)t->layer, "cut",
            cut_name((int)t->cut), "file_bytes", (json_int_t)t->file_bytes, "packed_bytes",
            (json_int_t)t->packed_bytes));
    }
    return list;
}

static json_t *range_json(int begin, int end) { return json_pack("[i, i]", begin, end); }

static json_t *layout_json(const struct plan *p)
{
    json_t *ranks = json_array();
    for (int i = 0; i < p->n_shares; i++) {
        const struct plan_share *s = &p->share[i];
        json_array_append_new(ranks, json_pack("{s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, "
                                               "s:I, s:I}",
            "rank", s->rank, "stage", s->stage, "tp_index", s->tp_index,
            "layers", range_json(s->layer_begin, s->layer_end),
            "segments", range_json(s->segments.begin, s->segments.end),
            "heads", range_json(s->heads.begin, s->heads.end),
            "kv_heads", range_json(s->kv_heads.begin, s->kv_heads.end),
            "ffn", range_json(s->ffn.begin, s->ffn.end),
            "vocab", range_json(s->vocab.begin, s->vocab.end),
            "weights_bytes", (json_int_t)s->weights_bytes, "file_bytes", (json_int_t)s->file_bytes,
            "kv_bytes", (json_int_t)s->kv_bytes, "scratch_bytes", (json_int_t)s->scratch_bytes));
    }
    return json_pack("{s:i, s:i, s:o}", "tp", p->tp, "pp", p->pp, "ranks", ranks);
}

static int print_json(const struct session *s, const struct plan *p, struct err *err)
{
    const Muster__ModelSpec *m = s->cluster.spec;
    json_t *meta = json_object(), *eos = json_array();
    for (size_t i = 0; i < m->n_meta; i++)
        json_object_set_new(meta, m->meta[i]->key, json_string(m->meta[i]->value));
    for (size_t i = 0; i < m->n_eos; i++)
        json_array_append_new(eos, json_integer(m->eos[i]));
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:i, "
        "s:i, s:o, s:s, s:o, s:o, s:o}",
        "path", s->path, "name", m->name, "arch", m->arch, "format", m->format, "type", m->type,
        "parameters", (json_int_t)m->parameters, "file_bytes", (json_int_t)file_bytes(m),
        "layers", (int)m->n_layers, "dim", (int)m->dim, "heads", (int)m->n_heads,
        "kv_heads", (int)m->n_kv_heads, "head_dim", (int)m->head_dim, "ffn_dim", (int)m->ffn_dim,
        "vocab", (int)m->vocab, "context", (int)m->context, "tied", (int)m->tied,
        "experts", (int)m->n_experts, "experts_used", (int)m->n_experts_used, "bos", (int)m->bos,
        "eos", eos, "tokenizer", m->tokenizer_kind, "tensors", tensors_json(m), "meta", meta,
        "layout", layout_json(p));
    if (root == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the report");
    json_dumpf(root, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(root);
    return cli_flush(err);
}

/* --- a picture: its texts, imagine's record among them */

static int print_picture(const struct options *o, struct err *err)
{
    struct picture p;
    TRY(pngfile_load(&p, o->picture, err));
    const char *record = pngfile_text_of(&p, "muster");
    if (o->json)
        printf("%s\n", record != NULL ? record : "{}");
    else
        printf("%s: %d x %d\n", o->picture, p.width, p.height);
    for (int i = 0; i < p.n_text && !o->json; i++)
        printf("%s: %s\n", p.text[i].key, p.text[i].value);
    pngfile_free(&p);
    return cli_flush(err);
}

static int run_picture(const struct options *o, struct comm *comm, struct err *err)
{
    struct cluster c;
    int rc = cluster_open(&c, comm, err);
    if (rc == ERR_OK)
        rc = print_picture(o, err);
    cluster_close(&c, rc, err);
    return rc;
}

static int run(void *options, struct comm *comm, struct err *err)
{
    const struct options *o = options;
    struct session s;
    struct plan p;
    if (o->picture != NULL)
        return run_picture(o, comm, err);
    int rc = session_open(&s, comm, &o->model, SESSION_TENSORS, err);
    if (rc == ERR_OK)
        rc = imagine_plan(o, &s, &p, err);
    if (rc == ERR_OK)
        rc = o->json ? print_json(&s, &p, err) : print_text(o, &s, &p, err);
    return session_close(&s, rc, err);
}

const struct command command_inspect = {
    .name = "inspect", .summary = "What is in a model file, and what each rank would hold",
    .options_bytes = sizeof(struct options), .needs_workers = true, .argp = &inspect_argp, .run = run};
