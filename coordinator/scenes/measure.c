#include "coordinator/scenes/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct measure_interval measure_share(int right, int n)
{
    const double z = 1.959963984540054;
    if (n <= 0)
        return (struct measure_interval){0, 0, 1};
    double p = (double)right / n, scale = 1 / (1 + z * z / n), centre = p + z * z / (2 * n);
    double half = z * sqrt(p * (1 - p) / n + z * z / (4.0 * n * n));
    double low = scale * (centre - half), high = scale * (centre + half);
    return (struct measure_interval){p, low < 0 ? 0 : low, high > 1 ? 1 : high};
}

/* --- Frechet distance */

void measure_add(struct moments *m, const uint8_t *rgb, int side)
{
    double v[MEASURE_DIMS] = {0};
    int box = side / MEASURE_BOXES;
    for (int i = 0; i < side * side * 3; i++) {
        int row = i / 3 / side / box, col = i / 3 % side / box;
        v[(row * MEASURE_BOXES + col) * 3 + i % 3] += (double)rgb[i] / (box * box);
    }
    m->n++;
    for (int i = 0; i < MEASURE_DIMS; i++) {
        m->sum[i] += v[i];
        for (int k = 0; k < MEASURE_DIMS; k++)
            m->product[i][k] += v[i] * v[k];
    }
}

/* One rotation that makes a[p][q] zero, on rows and columns; vectors NULL: not wanted. */
static void rotate(int n, double *a, double *vectors, int p, int q)
{
    double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
    double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (int k = 0; k < n; k++) {
        double kp = a[k * n + p], kq = a[k * n + q];
        a[k * n + p] = c * kp - s * kq;
        a[k * n + q] = s * kp + c * kq;
    }
    for (int k = 0; k < n; k++) {
        double pk = a[p * n + k], qk = a[q * n + k];
        a[p * n + k] = c * pk - s * qk;
        a[q * n + k] = s * pk + c * qk;
    }
    for (int k = 0; k < n && vectors != NULL; k++) {
        double pk = vectors[p * n + k], qk = vectors[q * n + k];
        vectors[p * n + k] = c * pk - s * qk;
        vectors[q * n + k] = s * pk + c * qk;
    }
}

/* Eigenvalues of a symmetric matrix [n, n] onto its diagonal, by cyclic Jacobi; vectors [n, n] as rows.
 *                                                        (Golub, Van Loan: Matrix Computations, 8.5) */
static void eigen(int n, double *a, double *vectors)
{
    double scale = 0;
    for (int i = 0; i < n * n; i++)
        scale += a[i] * a[i];
    for (int i = 0; i < n * n && vectors != NULL; i++)
        vectors[i] = i / n == i % n;
    for (int sweep = 0; sweep < 40; sweep++) {
        double off = 0;
        for (int i = 0; i < n * n; i++)
            off += i / n != i % n ? a[i] * a[i] : 0;
        if (off <= 1e-26 * scale)
            break;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++)
                if (fabs(a[p * n + q]) > 1e-18 * sqrt(scale))
                    rotate(n, a, vectors, p, q);
    }
}

/* out [n, n] = a b. */
static void multiply(int n, double *out, const double *a, const double *b)
{
    memset(out, 0, (size_t)(n * n) * sizeof *out);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            for (int j = 0; j < n; j++)
                out[i * n + j] += a[i * n + k] * b[k * n + j];
}

/* root [n, n]: root root = cov. work, vectors [n, n]. */
static void root_of(int n, const double *cov, double *root, double *work, double *vectors)
{
    memcpy(work, cov, (size_t)(n * n) * sizeof *work);
    eigen(n, work, vectors);
    memset(root, 0, (size_t)(n * n) * sizeof *root);
    for (int v = 0; v < n; v++) {
        double r = work[v * n + v] > 0 ? sqrt(work[v * n + v]) : 0;
        for (int i = 0; i < n; i++)
            for (int k = 0; k < n; k++)
                root[i * n + k] += r * vectors[v * n + i] * vectors[v * n + k];
    }
}

int measure_frechet_of(int n, const double *mean_a, const double *cov_a, const double *mean_b,
                       const double *cov_b, double *distance, struct err *err)
{
    size_t square = (size_t)n * (size_t)n;
    double *root = malloc(3 * square * sizeof *root), d = 0;
    if (root == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a Frechet distance");
    double *work = root + square, *other = work + square;
    root_of(n, cov_a, root, work, other);
    multiply(n, work, root, cov_b);
    multiply(n, other, work, root);
    eigen(n, other, NULL);
    for (int i = 0; i < n; i++) {
        double gap = mean_a[i] - mean_b[i], value = other[i * n + i];
        d += gap * gap + cov_a[i * n + i] + cov_b[i * n + i] - 2 * (value > 0 ? sqrt(value) : 0);
    }
    free(root);
    *distance = d > 0 ? d : 0;
    return ERR_OK;
}

static void mean_and_covariance(const struct moments *m, double *mean, double *cov)
{
    for (int i = 0; i < MEASURE_DIMS; i++)
        mean[i] = m->sum[i] / (double)m->n;
    for (int i = 0; i < MEASURE_DIMS; i++)
        for (int k = 0; k < MEASURE_DIMS; k++)
            cov[i * MEASURE_DIMS + k] =
                (m->product[i][k] - (double)m->n * mean[i] * mean[k]) / (double)(m->n - 1);
}

int measure_frechet(const struct moments *a, const struct moments *b, double *distance, struct err *err)
{
    const size_t square = (size_t)MEASURE_DIMS * MEASURE_DIMS;
    double mean[2][MEASURE_DIMS];
    if (a->n < 2 || b->n < 2)
        return err_set(err, ERR_INVAL, "a Frechet distance takes two pictures or more on either side");
    double *cov = malloc(2 * square * sizeof *cov);
    if (cov == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a Frechet distance");
    mean_and_covariance(a, mean[0], cov);
    mean_and_covariance(b, mean[1], cov + square);
    int rc = measure_frechet_of(MEASURE_DIMS, mean[0], cov, mean[1], cov + square, distance, err);
    free(cov);
    return rc;
}

/* --- diversity */

static bool fits(int asked, int there) { return asked < 0 || asked == there; }

/* Colours do not matter to where things stand and how large they are. */
static bool is_like(const struct scene *s, const struct scene_facts *f)
{
    bool like = fits(f->place, (int)s->place) && s->n_things == f->things &&
                (f->things < 2 || fits(f->relation, s->relation == RELATION_ABOVE));
    for (int i = 0; i < s->n_things && like; i++) {
        int size = scene_size_class(s, i);
        like = fits(f->kind[i], (int)s->thing[i].kind) &&
               (f->size[i] <= 0 || f->size[i] == (size < 0 ? 1 : size * 2));
    }
    return like;
}

bool measure_scene(struct scene *s, const struct scene_facts *asked, uint64_t seed, uint32_t index)
{
    struct scene_facts draw = *asked;
    bool two = asked->things == 2 && asked->kind[0] >= 0 && asked->kind[1] >= 0;
    if (asked->things < 1 || asked->things > 2)
        return false;
    if (two && asked->kind[0] == asked->kind[1])
        draw.kind[1] = -1;
    bool held = two && scene_relation_held((enum thing)asked->kind[0], (enum thing)asked->kind[1]);
    for (uint32_t i = 0; i < 1000000; i++) {    /* about one in 500 will do */
        scene_draw(s, seed ^ (uint64_t)index << 32, i, held ? SET_RELATION : SET_SEEN, asked->things);
        if (!is_like(s, &draw))
            continue;
        for (int k = 0; k < s->n_things; k++) {
            struct scene_thing *t = &s->thing[k];
            t->kind = asked->kind[k] >= 0 ? (enum thing)asked->kind[k] : t->kind;
            t->colour = asked->colour[k] >= 0 ? (enum colour)asked->colour[k] : t->colour;
        }
        return true;
    }
    return false;
}

void measure_spread_add(struct spread *p, const struct scene *s, const struct scene_facts *asked)
{
    if (s->n_things != asked->things)
        return;
    p->n++;
    for (int i = 0; i < s->n_things; i++) {
        const struct scene_thing *t = &s->thing[i];
        double v[MEASURE_COORDINATES] = {t->x + t->size / 2.0, t->y + t->size / 2.0, t->size};
        for (int c = 0; c < MEASURE_COORDINATES; c++) {
            p->sum[i][c] += v[c];
            p->square[i][c] += v[c] * v[c];
        }
    }
}

/* Variance of a coordinate, the mean of both things. */
static double variance_of(const struct spread *p, int things, int c)
{
    double sum = 0;
    for (int i = 0; i < things; i++)
        sum += (p->square[i][c] - p->sum[i][c] * p->sum[i][c] / p->n) / (p->n - 1);
    return sum / things;
}

void measure_diversity_add(struct diversity *d, const struct spread *p, const struct scene_facts *asked)
{
    struct spread real = {0};
    struct scene s;
    if (p->n < 2)
        return;
    for (uint32_t i = 0; i < MEASURE_LIKE; i++) {
        if (!measure_scene(&s, asked, 1, i))
            return;
        measure_spread_add(&real, &s, asked);
    }
    d->n++;
    for (int c = 0; c < MEASURE_COORDINATES; c++) {
        d->there[c] += variance_of(p, asked->things, c);
        d->real[c] += variance_of(&real, asked->things, c);
    }
}

double measure_diversity(const struct diversity *d)
{
    double sum = 0;
    for (int c = 0; c < MEASURE_COORDINATES && d->n > 0; c++)
        sum += sqrt(d->there[c] / d->real[c]) / MEASURE_COORDINATES;
    return sum;
}
