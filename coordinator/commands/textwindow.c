#include "coordinator/commands/textwindow.h"

int textwindow_scored(const struct textwindows *t)
{
    int n = t->n - (t->lead > 0 ? 0 : 1);
    return n > 0 ? n : 0;
}

int textwindow_count(const struct textwindows *t)
{
    if (textwindow_scored(t) == 0)
        return 0;
    int past = t->n - t->width;         /* tokens that the first window does not hold */
    return past > 0 ? 1 + (past - 1) / t->stride + 1 : 1;
}

struct textwindow textwindow_at(const struct textwindows *t, int i)
{
    struct textwindow w = {.begin = i * t->stride};
    int before = i > 0 ? w.begin - t->stride + t->width : t->n - textwindow_scored(t);
    w.end = t->n - w.begin < t->width ? t->n : w.begin + t->width;
    w.scored = w.end - before;
    return w;
}
