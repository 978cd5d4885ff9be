#include "coordinator/commands/planreport.h"

#include "coordinator/commands/cli.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const double GIB = 1024.0 * 1024 * 1024;

static double gib(uint64_t bytes) { return (double)bytes / GIB; }

static uint64_t share_bytes(const struct plan_share *s)
{
    return s->weights_bytes + s->kv_bytes + s->scratch_bytes;
}

static const char *bytes_text(uint64_t bytes, char out[24])
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 10000 && u < 3; u++)
        v /= 1000;
    snprintf(out, 24, "%.0f %s", v, units[u]);
    return out;
}

static uint64_t file_bytes(const Muster__ModelSpec *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->n_tensor; i++)
        n += m->tensor[i]->file_bytes;
    return n;
}

static void print_head(const struct planreport *r)
{
    const Muster__ModelSpec *m = r->q->spec;
    printf("%s, %s: %.2f G parameters, %.2f GiB; context %d, %d sequence%s at a time, KV %s\n", r->model,
           m->type, (double)m->parameters * 1e-9, gib(file_bytes(m)), r->q->context, r->q->slots,
           r->q->slots > 1 ? "s" : "", r->kv);
    printf("%s%s%s\n\n", r->nodes, r->link[0] ? "; " : "", r->link);
}

/* Are two ranks alike in all but their place? Then one line speaks for both. */
static bool alike(const struct plan_share *a, const struct plan_share *b)
{
    return a->replica == b->replica && a->layer_begin == b->layer_begin &&
           a->heads.end - a->heads.begin == b->heads.end - b->heads.begin &&
           a->ffn.end - a->ffn.begin == b->ffn.end - b->ffn.begin && share_bytes(a) == share_bytes(b);
}

static void print_shares(const struct planreport *r)
{
    const struct plan *p = r->plan;
    printf("layout: tp %d x pp %d%s\n", p->tp, p->pp, p->dp > 1 ? ", replicas beside each other:" : "");
    printf("  ranks     node        layers   heads KV heads FFN columns  weights     KV  scratch     sum  "
           "free there (GiB)\n");
    for (int i = 0; i < p->n_shares;) {
        const struct plan_share *s = &p->share[i];
        const Muster__NodeReport *node = r->q->reports[s->rank];
        char ranks[24], nodes[32];
        int n = 1;
        while (i + n < p->n_shares && alike(s, &p->share[i + n]))
            n++;
        snprintf(ranks, sizeof ranks, n > 1 ? "%d-%d" : "%d", s->rank, p->share[i + n - 1].rank);
        const char *last = r->q->reports[p->share[i + n - 1].rank]->host;
        snprintf(nodes, sizeof nodes, strcmp(last, node->host) ? "%.9s.." : "%.11s", node->host);
        printf("  %-9s %-11s %3d-%-4d %6d %8d %11d %8.2f %6.2f %8.2f %7.2f %8.2f\n", ranks, nodes,
               s->layer_begin, s->layer_end, s->heads.end - s->heads.begin,
               s->kv_heads.end - s->kv_heads.begin, s->ffn.end - s->ffn.begin, gib(s->weights_bytes),
               gib(s->kv_bytes), gib(s->scratch_bytes), gib(share_bytes(s)), gib(node->memory_free));
        i += n;
    }
}

/* Sequences of full length that the pages hold. */
static int whole_sequences(const struct planreport *r)
{
    int one = (r->q->context + r->q->page_tokens - 1) / r->q->page_tokens;
    return one > 0 ? r->plan->kv_pages / one : 0;
}

static void print_speed(const struct planreport *r)
{
    const struct plan_speed *v = &r->plan->speed;
    char a[24], b[24];
    printf("\npredicted: one sequence %.2f tokens/s (%.1f ms a token)", 1e6 / v->token_us,
           v->token_us * 1e-3);
    if (r->q->slots * r->plan->dp > 1)
        printf(", all %d together %.2f", r->q->slots * r->plan->dp, v->decode_tps);
    printf("; a prompt of %d tokens in %.2f s (%.1f tokens/s)\n", r->q->prompt, v->prefill_us * 1e-6,
           v->prefill_tps);
    if (v->link_bytes > 0)
        printf("links: for each token a rank sends %s to the others of its stage, a stage %s to the next\n",
               bytes_text(v->sum_bytes, a), bytes_text(v->hop_bytes, b));
    if (whole_sequences(r) < r->q->slots)
        printf("memory holds %d of %d sequences at full length; more take turns\n", whole_sequences(r),
               r->q->slots);
}

static int count_fits(const struct planreport *r)
{
    int n = 0;
    for (int i = 0; i < r->n_list; i++)
        n += r->list[i].fits;
    return n;
}

static void print_why(const struct planreport *r)
{
    const struct plan *p = r->plan;
    int fits = count_fits(r), shown = 0;
    printf("why: %d of %d layouts fit; ", fits, r->n_list);
    if (p->tp == 1 && p->pp == 1)
        printf("one rank needs nobody");
    else
        printf("of this one's time for a token %.0f%% is spent on sums and hops between ranks%s",
               p->speed.sum_share * 100, p->pp > 1 && r->q->slots < p->pp
                   ? ", and with fewer sequences than stages some stages wait" : "");
    printf("\n");
    for (int i = 0; i < r->n_list && shown < PLANREPORT_NEXT && r->list[i].fits; i++) {
        const struct plan_candidate *c = &r->list[i];
        if (c->tp == p->tp && c->pp == p->pp)
            continue;
        printf("%s tp %d x pp %d%s: %.2f tokens/s together, one sequence %.2f, prompts %.1f\n",
               shown == 0 ? "next:" : "     ", c->tp, c->pp,
               c->tp * c->pp < p->tp * p->pp ? " (fewer ranks)" : "", c->speed.decode_tps,
               1e6 / c->speed.token_us, c->speed.prefill_tps);
        shown++;
    }
}

int planreport_text(const struct planreport *r, struct err *err)
{
    print_head(r);
    print_shares(r);
    print_speed(r);
    print_why(r);
    return cli_flush(err);
}

/* --- JSON */

static json_t *speed_json(const struct plan_speed *v)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:I, s:I, s:f}", "decode_tps", v->decode_tps, "token_ms",
                     v->token_us * 1e-3, "prefill_tps", v->prefill_tps, "prefill_s", v->prefill_us * 1e-6,
                     "sum_bytes", (json_int_t)v->sum_bytes, "hop_bytes", (json_int_t)v->hop_bytes,
                     "share_between_ranks", v->sum_share);
}

static json_t *range_json(int begin, int end) { return json_pack("[i, i]", begin, end); }

static json_t *shares_json(const struct planreport *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->plan->n_shares; i++) {
        const struct plan_share *s = &r->plan->share[i];
        json_array_append_new(list, json_pack("{s:i, s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:I, s:I, s:I, "
                                              "s:I, s:I}",
            "rank", s->rank, "node", r->q->reports[s->rank]->host, "replica", s->replica, "stage",
            s->stage, "tp_index", s->tp_index, "layers", range_json(s->layer_begin, s->layer_end), "heads",
            range_json(s->heads.begin, s->heads.end), "kv_heads",
            range_json(s->kv_heads.begin, s->kv_heads.end), "ffn", range_json(s->ffn.begin, s->ffn.end),
            "weights_bytes", (json_int_t)s->weights_bytes, "kv_bytes", (json_int_t)s->kv_bytes,
            "scratch_bytes", (json_int_t)s->scratch_bytes, "read_bytes", (json_int_t)s->read_bytes,
            "memory_free", (json_int_t)r->q->reports[s->rank]->memory_free));
    }
    return list;
}

static json_t *list_json(const struct planreport *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n_list; i++) {
        const struct plan_candidate *c = &r->list[i];
        json_t *one = c->fits ? speed_json(&c->speed) : json_object();
        json_object_set_new(one, "tp", json_integer(c->tp));
        json_object_set_new(one, "pp", json_integer(c->pp));
        json_object_set_new(one, "fits", json_boolean(c->fits));
        json_array_append_new(list, one);
    }
    return list;
}

/* What was measured of rank 0, so that a prediction can be followed. */
static json_t *measured_json(const struct planreport *r)
{
    const Muster__NodeReport *n = r->q->reports[0];
    json_t *rates = json_array();
    for (size_t i = 0; i < n->n_rates; i++) {
        const Muster__Rate *x = n->rates[i];
        json_array_append_new(rates, json_pack("{s:i, s:b, s:i, s:i, s:i, s:f}", "type", (int)x->type,
                                               "prompt", (int)x->prompt, "rows", (int)x->rows, "columns",
                                               (int)x->columns, "segment", (int)x->segment, "bytes_per_s",
                                               x->s_per_byte > 0 ? 1 / x->s_per_byte : 0.0));
    }
    json_t *o = json_pack("{s:f, s:f, s:o}", "memory_bytes_per_s", n->memory_bw, "sgemm_flops",
                          n->sgemm_flops, "rates", rates);
    if (n->layer != NULL)
        json_object_set_new(o, "layer", json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "fixed_us",
            n->layer->fixed_us, "number_ns", n->layer->number_s * 1e9, "attend_ns",
            n->layer->attend_s * 1e9, "attend_prompt_ns", n->layer->attend_prompt_s * 1e9, "step_us",
            n->layer->step_us, "call_us", n->layer->call_s * 1e6, "prepare_ns", n->layer->prepare_s * 1e9,
            "prepare_prompt_ns", n->layer->prepare_prompt_s * 1e9));
    return o;
}

int planreport_json(const struct planreport *r, struct err *err)
{
    const Muster__ModelSpec *m = r->q->spec;
    json_t *root = speed_json(&r->plan->speed);
    json_t *rest = json_pack(
        "{s:s, s:s, s:I, s:I, s:s, s:s, s:i, s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:o, s:o}",
        "model", r->model, "type", m->type, "parameters", (json_int_t)m->parameters, "file_bytes",
        (json_int_t)file_bytes(m), "nodes", r->nodes, "link", r->link, "context", r->q->context, "batch",
        r->q->slots, "kv", r->kv, "tp", r->plan->tp, "pp", r->plan->pp, "dp", r->plan->dp,
        "prompt_tokens", r->q->prompt, "sequences_that_fit", whole_sequences(r), "ranks", shares_json(r),
        "layouts", list_json(r));
    if (root == NULL || rest == NULL) {
        json_decref(root);
        json_decref(rest);
        return err_set(err, ERR_NOMEM, "no memory for the report");
    }
    json_object_update(root, rest);
    json_object_set_new(root, "measured", measured_json(r));
    json_decref(rest);
    json_dumpf(root, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
    printf("\n");
    json_decref(root);
    return cli_flush(err);
}
