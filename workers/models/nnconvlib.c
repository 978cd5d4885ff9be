#include "workers/models/nnconvlib.h"

#include "proto/err.h"
#include "workers/models/nnlibrary.h"
#include "workers/models/nnprepared.h"

#include <string.h>

/* --- what differs between the library's second and third version */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout;        /* the library's or ours */
typedef dnnl_memory_desc_t own_layout;
static layout view(const own_layout *d) { return *d; }
static void forget(own_layout *d) { dnnl_memory_desc_destroy(*d); }
static bool describe(own_layout *d, int n_dims, const dnnl_dims_t dims, dnnl_data_type_t type,
                     dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_by_tag(d, n_dims, dims, type, tag) == dnnl_success;
}
#else
typedef const dnnl_memory_desc_t *layout;
typedef dnnl_memory_desc_t own_layout;
static layout view(const own_layout *d) { return d; }
static void forget(own_layout *d) { (void)d; }
static bool describe(own_layout *d, int n_dims, const dnnl_dims_t dims, dnnl_data_type_t type,
                     dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(d, n_dims, dims, type, tag) == dnnl_success;
}
#endif

/* Layouts of a convolution's pictures, weights and lines. */
struct sides { own_layout pictures, weights, lines; };

#if DNNL_VERSION_MAJOR >= 3
static bool describe_run(dnnl_primitive_desc_t *p, const struct nnconvlib *c, int kind,
                         const struct sides *s, dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t stride = {c->stride, c->stride}, pad = {c->padding, c->padding}, dense = {0, 0};
    dnnl_engine_t e = nnlibrary_engine();
    if (kind == NNCONVLIB_FORWARD)
        return dnnl_convolution_forward_primitive_desc_create(
                   p, e, dnnl_forward_training, dnnl_convolution_direct, s->pictures, s->weights, NULL,
                   s->lines, stride, dense, pad, pad, attr) == dnnl_success;
    if (kind == NNCONVLIB_BACK)
        return dnnl_convolution_backward_data_primitive_desc_create(
                   p, e, dnnl_convolution_direct, s->pictures, s->weights, s->lines, stride, dense, pad, pad,
                   hint, attr) == dnnl_success;
    return dnnl_convolution_backward_weights_primitive_desc_create(
               p, e, dnnl_convolution_direct, s->pictures, s->weights, NULL, s->lines, stride, dense, pad,
               pad, hint, attr) == dnnl_success;
}
#else
static bool describe_run(dnnl_primitive_desc_t *p, const struct nnconvlib *c, int kind,
                         const struct sides *s, dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t stride = {c->stride, c->stride}, pad = {c->padding, c->padding};
    dnnl_convolution_desc_t d;
    dnnl_status_t rc;
    if (kind == NNCONVLIB_FORWARD)
        rc = dnnl_convolution_forward_desc_init(&d, dnnl_forward_training, dnnl_convolution_direct,
                                                &s->pictures, &s->weights, NULL, &s->lines, stride, pad, pad);
    else if (kind == NNCONVLIB_BACK)
        rc = dnnl_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, &s->pictures, &s->weights,
                                                      &s->lines, stride, pad, pad);
    else
        rc = dnnl_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, &s->pictures,
                                                         &s->weights, NULL, &s->lines, stride, pad, pad);
    return rc == dnnl_success &&
           dnnl_primitive_desc_create(p, &d, attr, nnlibrary_engine(), hint) == dnnl_success;
}
#endif

/* --- what is prepared for a shape */

enum { A, B, TO, SIDES, ALIGN = 64 };

/* One of a run's arrays: plain, as the caller has it, and as the library wants it. */
struct side {
    int argument;
    dnnl_memory_t plain, inside;
    dnnl_primitive_t relay;     /* NULL: both are the same */
    size_t bytes;               /* inside */
};

struct prepared {
    struct nnconvlib shape;
    dnnl_primitive_t run;
    struct side side[SIDES];
    dnnl_memory_t room;         /* the library's own scratch */
    size_t room_bytes;
};

static bool describe_sides(struct sides *s, const struct nnconvlib *c, dnnl_data_type_t in[3],
                           bool any)
{
    const dnnl_dims_t p = {c->n, c->c, c->h, c->w}, l = {c->n, c->out, c->oh, c->ow};
    const dnnl_dims_t one = {c->out, c->c, c->kh, c->kw};
    const dnnl_dims_t many = {c->groups, c->out / c->groups, c->c / c->groups, c->kh, c->kw};
    bool grouped = c->groups > 1;
    dnnl_format_tag_t plain = any ? dnnl_format_tag_any : dnnl_abcd;
    dnnl_format_tag_t weights = any ? dnnl_format_tag_any : grouped ? dnnl_abcde : dnnl_abcd;
    return describe(&s->pictures, 4, p, in[0], plain) &&
           describe(&s->weights, grouped ? 5 : 4, grouped ? many : one, in[1], weights) &&
           describe(&s->lines, 4, l, in[2], plain);
}

static void forget_sides(struct sides *s)
{
    forget(&s->pictures);
    forget(&s->weights);
    forget(&s->lines);
}

static bool make_relay(struct side *s, layout from, layout to, bool add)
{
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t d;
    bool done = dnnl_primitive_attr_create(&attr) == dnnl_success &&
                (!add || nnlibrary_add_to_result(attr)) &&
                dnnl_reorder_primitive_desc_create(&d, from, nnlibrary_engine(), to, nnlibrary_engine(),
                                                   attr) == dnnl_success &&
                dnnl_primitive_create(&s->relay, d) == dnnl_success;
    ASSERT(done);
    dnnl_primitive_desc_destroy(d);
    dnnl_primitive_attr_destroy(attr);
    return done;
}

/* How one array passes between the caller's layout and the library's. */
static bool make_side(struct side *s, int argument, layout plain, layout inside, bool out, bool add)
{
    bool same = dnnl_memory_desc_equal(plain, inside) && !add;
    s->argument = argument;
    s->bytes = (dnnl_memory_desc_get_size(inside) + ALIGN - 1) / ALIGN * ALIGN;
    return dnnl_memory_create(&s->plain, plain, nnlibrary_engine(), DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&s->inside, inside, nnlibrary_engine(), DNNL_MEMORY_NONE) == dnnl_success &&
           (same || make_relay(s, out ? inside : plain, out ? plain : inside, add));
}

/* A row for each kind: the library's names of the three arrays. */
static const struct { int argument[3]; dnnl_query_t layout[3]; } names[3] = {
    {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
     {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md}},
    {{DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC},
     {dnnl_query_diff_dst_md, dnnl_query_weights_md, dnnl_query_diff_src_md}},
    {{DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS},
     {dnnl_query_src_md, dnnl_query_diff_dst_md, dnnl_query_diff_weights_md}}};

static bool make_sides(struct prepared *p, dnnl_primitive_desc_t d)
{
    dnnl_data_type_t f32[3] = {dnnl_f32, dnnl_f32, dnnl_f32};
    int kind = p->shape.kind;
    struct sides plain;
    bool done = describe_sides(&plain, &p->shape, f32, false);
    layout pictures = view(&plain.pictures), weights = view(&plain.weights), lines = view(&plain.lines);
    layout of[3][3] = {{pictures, weights, lines}, {lines, weights, pictures}, {pictures, lines, weights}};
    for (int i = 0; i < SIDES && done; i++)
        done = make_side(&p->side[i], names[kind].argument[i], of[kind][i],
                         dnnl_primitive_desc_query_md(d, names[kind].layout[i], 0), i == TO,
                         i == TO && p->shape.add);
    layout room = dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
    p->room_bytes = (dnnl_memory_desc_get_size(room) + ALIGN - 1) / ALIGN * ALIGN;
    done = done && dnnl_memory_create(&p->room, room, nnlibrary_engine(), DNNL_MEMORY_NONE) == dnnl_success;
    forget_sides(&plain);
    return done;
}

static void prepare(void *entry)
{
    struct prepared *p = entry;
    const struct nnconvlib *c = &p->shape;
    dnnl_data_type_t in = c->half ? dnnl_bf16 : dnnl_f32;
    dnnl_data_type_t forward[3] = {in, in, dnnl_f32}, run[3] = {in, in, in};
    struct sides hint_sides, sides;
    dnnl_primitive_desc_t hint = NULL, d = NULL;
    dnnl_primitive_attr_t attr;
    run[c->kind == NNCONVLIB_FORWARD ? 2 : c->kind == NNCONVLIB_BACK ? 0 : 1] = dnnl_f32;
    bool done = dnnl_primitive_attr_create(&attr) == dnnl_success &&
                dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
                describe_sides(&hint_sides, c, forward, true) && describe_sides(&sides, c, run, true) &&
                describe_run(&hint, c, NNCONVLIB_FORWARD, &hint_sides, NULL, attr) &&
                describe_run(&d, c, c->kind, &sides, hint, attr) &&
                dnnl_primitive_create(&p->run, d) == dnnl_success && make_sides(p, d);
    ASSERT(done);
    dnnl_primitive_desc_destroy(d);
    dnnl_primitive_desc_destroy(hint);
    dnnl_primitive_attr_destroy(attr);
    forget_sides(&hint_sides);
    forget_sides(&sides);
}

static void unprepare(void *entry)
{
    struct prepared *p = entry;
    for (int k = 0; k < SIDES; k++) {
        dnnl_primitive_destroy(p->side[k].relay);
        dnnl_memory_destroy(p->side[k].plain);
        dnnl_memory_destroy(p->side[k].inside);
    }
    dnnl_memory_destroy(p->room);
    dnnl_primitive_destroy(p->run);
}

static struct prepared *find(const struct nnconvlib *c)
{
    static const struct nnprepared_kind kind = {sizeof *c, sizeof(struct prepared), prepare, unprepare};
    static _Thread_local struct nnprepared *mine;
    return nnprepared_find(&mine, &kind, c);
}

/* --- runs */

static void execute(dnnl_primitive_t p, int n, const dnnl_exec_arg_t *args)
{
    ASSERT(dnnl_primitive_execute(p, nnlibrary_stream(), n, args) == dnnl_success);
    ASSERT(dnnl_stream_wait(nnlibrary_stream()) == dnnl_success);
}

static void relay(const struct side *s, bool out)
{
    const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, out ? s->inside : s->plain},
                                     {DNNL_ARG_TO, out ? s->plain : s->inside}};
    execute(s->relay, 2, args);
}

static void point(dnnl_memory_t m, const void *at)
{
    ASSERT(dnnl_memory_set_data_handle(m, (void *)(uintptr_t)at) == dnnl_success);
}

int64_t nnconvlib_weight_floats(const struct nnconvlib *c)
{
    return (int64_t)(find(c)->side[B].bytes / sizeof(float));
}

void nnconvlib_weights(const struct nnconvlib *c, void *inside, const float *weights)
{
    struct side *s = &find(c)->side[B];
    if (s->relay == NULL) {
        memcpy(inside, weights, (size_t)(c->out * c->c / c->groups * c->kh * c->kw) * sizeof *weights);
        return;
    }
    int threads = nnlibrary_begin();
    point(s->plain, weights);
    point(s->inside, inside);
    relay(s, false);
    nnlibrary_end(threads);
}

int64_t nnconvlib_room(const struct nnconvlib *c)
{
    const struct prepared *p = find(c);
    size_t bytes = p->room_bytes;
    for (int i = 0; i < SIDES; i++)
        bytes += p->side[i].relay != NULL ? p->side[i].bytes : 0;
    return (int64_t)(bytes / sizeof(float));
}

/* Points an array to the caller's numbers, or to a place in the room; returns where the room goes on. */
static char *place(struct side *s, const void *plain, char *room)
{
    if (s->relay == NULL) {
        point(s->inside, plain);
        return room;
    }
    point(s->plain, plain);
    point(s->inside, room);
    return room + s->bytes;
}

void nnconvlib_run(const struct nnconvlib *c, const float *a, const void *b, float *to, float *room)
{
    struct prepared *p = find(c);
    bool weights_inside = c->kind != NNCONVLIB_WEIGHTS;
    int threads = nnlibrary_begin();
    char *left = place(&p->side[A], a, (char *)room);
    if (weights_inside)
        point(p->side[B].inside, b);
    else
        left = place(&p->side[B], b, left);
    left = place(&p->side[TO], to, left);
    point(p->room, left);
    if (p->side[A].relay != NULL)
        relay(&p->side[A], false);
    if (p->side[B].relay != NULL && !weights_inside)
        relay(&p->side[B], false);
    const dnnl_exec_arg_t args[SIDES + 1] = {{p->side[A].argument, p->side[A].inside},
                                             {p->side[B].argument, p->side[B].inside},
                                             {p->side[TO].argument, p->side[TO].inside},
                                             {DNNL_ARG_SCRATCHPAD, p->room}};
    execute(p->run, SIDES + 1, args);
    if (p->side[TO].relay != NULL)
        relay(&p->side[TO], true);
    nnlibrary_end(threads);
}
