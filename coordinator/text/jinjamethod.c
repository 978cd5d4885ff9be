/* Methods of dict, list and loop, and how a method is found. Those that would change a value are not
 * there, as in jinja2's immutable sandbox. */
#include "coordinator/text/jinjarun.h"

#include <string.h>

/* --- loop */

static int loop_cycle(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    if (args->n == 0)
        return jinja_fail(r, "loop.cycle() of nothing");
    *out = args->at[self->loop->index % args->n];
    return ERR_OK;
}

/* Whether the values differ from the last call's. */
static int loop_changed(struct jinja_run *r, const struct jinja_value *self,
                        const struct jinja_args *args, struct jinja_value *out)
{
    struct jinja_loop *l = self->loop;
    struct jinja_value now;
    TRY(jinja_new_list(&r->heap, JINJA_TUPLE, 0, &now));
    for (size_t i = 0; i < args->n; i++)
        TRY(jinja_list_add(&r->heap, &now, args->at[i]));
    *out = jinja_bool(!l->has_changed || !jinja_equal(&l->changed, &now));
    l->changed = now;
    l->has_changed = true;
    return ERR_OK;
}

/* --- dict */

/* which: k keys, v values, i pairs. */
static int dict_list(struct jinja_run *r, const struct jinja_dict *d, char which,
                     struct jinja_value *out)
{
    TRY(jinja_spend(r, 16 * d->n));
    TRY(jinja_new_list(&r->heap, JINJA_LIST, d->n, out));
    for (size_t i = 0; i < d->n; i++) {
        struct jinja_value item = which == 'k' ? d->at[i].key : d->at[i].value;
        if (which == 'i') {
            TRY(jinja_new_list(&r->heap, JINJA_TUPLE, 2, &item));
            TRY(jinja_list_add(&r->heap, &item, d->at[i].key));
            TRY(jinja_list_add(&r->heap, &item, d->at[i].value));
        }
        TRY(jinja_list_add(&r->heap, out, item));
    }
    return ERR_OK;
}

static int dict_items(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    (void)args;
    return dict_list(r, self->dict, 'i', out);
}

static int dict_keys(struct jinja_run *r, const struct jinja_value *self,
                     const struct jinja_args *args, struct jinja_value *out)
{
    (void)args;
    return dict_list(r, self->dict, 'k', out);
}

static int dict_values(struct jinja_run *r, const struct jinja_value *self,
                       const struct jinja_args *args, struct jinja_value *out)
{
    (void)args;
    return dict_list(r, self->dict, 'v', out);
}

static int dict_get(struct jinja_run *r, const struct jinja_value *self,
                    const struct jinja_args *args, struct jinja_value *out)
{
    if (args->n < 1 || args->n > 2)
        return jinja_fail(r, "get() takes a key and a default");
    const struct jinja_value *v = jinja_dict_find(self->dict, &args->at[0]);
    *out = v != NULL ? *v : args->n == 2 ? args->at[1] : jinja_none();
    return ERR_OK;
}

static int any_copy(struct jinja_run *r, const struct jinja_value *self,
                    const struct jinja_args *args, struct jinja_value *out)
{
    (void)r;
    (void)args;
    *out = *self;               /* nothing changes a value: a copy is the value */
    return ERR_OK;
}

/* --- list */

static int list_index(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    for (size_t i = 0; args->n == 1 && i < self->list->n; i++)
        if (jinja_equal(&self->list->at[i], &args->at[0])) {
            *out = jinja_int((int64_t)i);
            return jinja_spend(r, 16 * i);
        }
    return jinja_fail(r, "index() of an item that is not there");
}

static int list_count(struct jinja_run *r, const struct jinja_value *self,
                      const struct jinja_args *args, struct jinja_value *out)
{
    int64_t n = 0;
    for (size_t i = 0; args->n == 1 && i < self->list->n; i++)
        n += jinja_equal(&self->list->at[i], &args->at[0]);
    *out = jinja_int(n);
    return jinja_spend(r, 16 * self->list->n);
}

static const struct jinja_method_row dict_methods[] = {
    {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}, {"get", dict_get},
    {"copy", any_copy}, {NULL, NULL}};
static const struct jinja_method_row list_methods[] = {
    {"index", list_index}, {"count", list_count}, {"copy", any_copy}, {NULL, NULL}};
static const struct jinja_method_row loop_methods[] = {
    {"cycle", loop_cycle}, {"changed", loop_changed}, {NULL, NULL}};

static jinja_method_fn *find_method_of(const struct jinja_value *object, struct jinja_string name)
{
    const struct jinja_method_row *row = NULL;
    switch (object->kind) {
    case JINJA_STRING: row = jinja_str_methods; break;
    case JINJA_DICT: row = dict_methods; break;
    case JINJA_LIST:
    case JINJA_TUPLE: row = list_methods; break;
    case JINJA_LOOP: row = loop_methods; break;
    default: return NULL;
    }
    while (row->name != NULL && !jinja_equals_text(name, row->name))
        row++;
    return row->run;
}

bool jinja_has_method(const struct jinja_value *object, struct jinja_string name)
{
    return find_method_of(object, name) != NULL;
}

int jinja_method(struct jinja_run *r, const struct jinja_value *self, struct jinja_string name,
                 const struct jinja_args *args, struct jinja_value *out)
{
    jinja_method_fn *run = find_method_of(self, name);
    if (run == NULL)
        return jinja_fail(r, "a %s has no method '%.*s'", jinja_kind_name(self),
                          name.n < 60 ? (int)name.n : 60, name.p);
    return run(r, self, args, out);
}
