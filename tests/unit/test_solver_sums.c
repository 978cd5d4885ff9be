/* The sums that the reference library's own tests publish for its samplers, to the printed digits: a
 * fake model x t / (t + 1) on a ramp, ten steps or so. Needs no files. The library draws its noise from
 * a Mersenne Twister, so this test has one. */
#include "workers/diffusion/solver.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 4, N = 3 * 8 * 8, ALL = BATCH * N };

/* --- torch's CPU normal numbers: MT19937, 24-bit uniforms, Box-Muller on blocks of 16 */

struct twister { uint32_t word[624]; int at; };

static void twister_seed(struct twister *m, uint32_t seed)
{
    m->word[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        m->word[i] = 1812433253u * (m->word[i - 1] ^ (m->word[i - 1] >> 30)) + i;
    m->at = 624;
}

static uint32_t twister_next(struct twister *m)
{
    if (m->at == 624) {
        for (int i = 0; i < 624; i++) {
            uint32_t y = (m->word[i] & 0x80000000u) | (m->word[(i + 1) % 624] & 0x7fffffffu);
            m->word[i] = m->word[(i + 397) % 624] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
        }
        m->at = 0;
    }
    uint32_t y = m->word[m->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static void twister_normals(struct twister *m, float *out, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (float)(twister_next(m) & 0xffffff) / 16777216.0f;
    for (int b = 0; b + 16 <= n; b += 16) {
        for (int j = 0; j < 8; j++) {
            double u = 1 - out[b + j], v = out[b + j + 8];
            double radius = sqrt(-2 * log(u)), angle = 2 * M_PI * v;
            out[b + j] = (float)(radius * cos(angle));
            out[b + j + 8] = (float)(radius * sin(angle));
        }
    }
}

static void test_twister(void **state)
{
    (void)state;
    struct twister m;
    float x[16];
    twister_seed(&m, 0);
    twister_normals(&m, x, 16);
    assert_true(fabsf(x[0] + 1.1258f) < 1e-4f && fabsf(x[1] + 1.1524f) < 1e-4f);
}

/* --- the library's test set-up */

/* arange(768) / 768 laid out [3, 8, 8, 4] and permuted to [4, 3, 8, 8]; reversed: its noise. */
static void ramp(float *x, int reversed)
{
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i < N; i++) {
            int at = i * BATCH + b;
            x[b * N + i] = reversed ? (float)(ALL - 1 - at) / ALL : (float)at / ALL;
        }
}

struct row {
    const char *solver, *settings;
    int steps, start;           /* start < 0: from the beginning */
    int overwrite;              /* its tests overwrite the sample by its scaled input */
    double sum, mean;           /* of |x|; the one that is published */
};

static const struct row rows[] = {
    {"ddpm", "{}", 1000, -1, 0, 258.9606, 0},
    {"ddpm", "{\"prediction_type\":\"v_prediction\"}", 1000, -1, 0, 202.0296, 0},
    {"ddpm", "{}", 1000, 998, 0, 387.9466, 0},
    {"ddim", "{}", 10, -1, 0, 172.0067, 0},
    {"ddim", "{\"prediction_type\":\"v_prediction\"}", 10, -1, 0, 52.5302, 0},
    {"ddim", "{\"beta_start\":0.01}", 10, -1, 0, 149.8295, 0},
    {"ddim", "{\"beta_start\":0.01,\"set_alpha_to_one\":false}", 10, -1, 0, 149.0784, 0},
    {"ddim", "{}", 10, 8, 0, 354.5418, 0},
    {"euler", "{\"num_train_timesteps\":1100}", 10, -1, 1, 10.0807, 0},
    {"euler", "{\"num_train_timesteps\":1100,\"prediction_type\":\"v_prediction\"}", 10, -1, 1, 0.0002, 0},
    {"euler", "{\"num_train_timesteps\":1100,\"use_karras_sigmas\":true}", 10, -1, 1, 124.5230, 0},
    {"euler", "{\"num_train_timesteps\":1100}", 10, 8, 1, 57062.9297, 0},
    {"euler_a", "{\"num_train_timesteps\":1100}", 10, -1, 1, 152.3192, 0},
    {"euler_a", "{\"num_train_timesteps\":1100,\"prediction_type\":\"v_prediction\"}", 10, -1, 1, 108.4439, 0},
    {"euler_a", "{\"num_train_timesteps\":1100}", 10, 8, 1, 56163.0508, 0},
    {"lms", "{\"num_train_timesteps\":1100}", 10, -1, 1, 1006.388, 0},
    {"lms", "{\"num_train_timesteps\":1100,\"prediction_type\":\"v_prediction\"}", 10, -1, 1, 0.0017, 0},
    {"lms", "{\"num_train_timesteps\":1100}", 10, 8, 1, 27663.6895, 0},
    {"heun", "{\"num_train_timesteps\":1100}", 10, -1, 1, 0.1233, 0},
    {"heun", "{\"num_train_timesteps\":1100}", 10, 16, 1, 75074.8906, 0},
    {"dpmpp_2m", "{\"lower_order_final\":false,\"final_sigmas_type\":\"sigma_min\"}", 10, -1, 0, 0, 0.3301},
    {"dpmpp_2m", "{\"lower_order_final\":false,\"final_sigmas_type\":\"sigma_min\","
                 "\"prediction_type\":\"v_prediction\"}", 10, -1, 0, 0, 0.2251},
    {"dpmpp_2m", "{\"lower_order_final\":false,\"final_sigmas_type\":\"sigma_min\","
                 "\"use_karras_sigmas\":true,\"prediction_type\":\"v_prediction\"}", 10, -1, 0, 0, 0.2096},
    {"dpmpp_2m", "{\"lower_order_final\":false,\"final_sigmas_type\":\"sigma_min\"}", 10, 5, 0, 318.4111, 0},
    {"unipc", "{\"final_sigmas_type\":\"sigma_min\"}", 10, -1, 0, 0, 0.2464},
    {"unipc", "{\"final_sigmas_type\":\"sigma_min\",\"use_karras_sigmas\":true}", 10, -1, 0, 0, 0.2925},
    {"unipc", "{\"final_sigmas_type\":\"sigma_min\",\"prediction_type\":\"v_prediction\"}", 10, -1, 0, 0, 0.1014},
    {"unipc", "{\"final_sigmas_type\":\"sigma_min\"}", 10, 8, 0, 315.5757, 0},
    {"lcm", "{}", 1, -1, 0, 18.7097, 0},
    {"lcm", "{}", 10, -1, 0, 197.7616, 0},
    {"pndm", "{\"beta_schedule\":\"linear\"}", 10, -1, 0, 198.1318, 0},
    {"pndm", "{\"prediction_type\":\"v_prediction\"}", 10, -1, 0, 67.3986, 0},
    {"pndm", "{\"beta_start\":0.01,\"set_alpha_to_one\":true}", 10, -1, 0, 230.0399, 0},
    {"pndm", "{\"beta_start\":0.01,\"set_alpha_to_one\":false}", 10, -1, 0, 186.9482, 0},
};

static void run_row(const struct solver_plan *p, const struct row *r, float *x)
{
    static float memory[(SOLVER_HISTORY + 2) * ALL], out[ALL], noise[ALL];
    struct twister m;
    struct solver_state s;
    int first = r->start < 0 ? 0 : r->start;
    twister_seed(&m, 0);
    ramp(x, 0);
    for (int i = 0; r->overwrite && i < ALL; i++)
        x[i] = (float)(x[i] * p->init_scale);
    if (r->start >= 0) {
        ramp(noise, 1);
        solver_add_noise(p, first, x, noise, x, ALL);
    }
    solver_state_init(&s, ALL, first, memory);
    for (int call = first; call < p->n_calls; call++) {
        double t = p->timestep[call], scale = solver_input_scale(p, call);
        for (int i = 0; i < ALL; i++) {
            float in = (float)(x[i] * scale);
            if (r->overwrite)
                x[i] = in;
            out[i] = (float)(in * t / (t + 1));
        }
        if (solver_draws_noise(p, call))
            twister_normals(&m, noise, ALL);
        solver_step(p, call, &s, out, x, noise);
    }
}

static void test_published_sums(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        const struct solver *solver = solver_find(r->solver);
        assert_non_null(solver);
        struct solver_config c = solver_config_default(solver);
        struct solver_plan p;
        struct err err = {0};
        json_t *settings = json_loads(r->settings, 0, NULL);
        assert_int_equal(solver_config_read(&c, settings, &err), ERR_OK);
        assert_int_equal(solver_plan_init(&p, solver, &c, r->steps, &err), ERR_OK);
        static float x[ALL];
        run_row(&p, r, x);
        double sum = 0;
        for (int k = 0; k < ALL; k++)
            sum += fabs(x[k]);
        double got = r->mean > 0 ? sum / ALL : sum, want = r->mean > 0 ? r->mean : r->sum;
        /* the library's own tolerances: 1e-2 of a sum, 1e-3 of a mean, float32 of large ones */
        if (fabs(got - want) > (r->mean > 0 ? 1e-3 : 1e-2 + 2e-7 * want)) {
            printf("%s %s start %d: %.4f, published %.4f\n", r->solver, r->settings, r->start, got, want);
            wrong++;
        }
        solver_plan_free(&p);
        json_decref(settings);
    }
    assert_int_equal(wrong, 0);
}

static int plan_error(const char *name, const char *settings, int steps, struct err *err)
{
    const struct solver *solver = solver_find(name);
    struct solver_config c = solver_config_default(solver);
    struct solver_plan p;
    json_t *j = json_loads(settings, 0, NULL);
    int rc = solver_config_read(&c, j, err);
    if (rc == ERR_OK && (rc = solver_plan_init(&p, solver, &c, steps, err)) == ERR_OK)
        solver_plan_free(&p);
    json_decref(j);
    return rc;
}

static void test_bad_settings(void **state)
{
    (void)state;
    static const struct { const char *solver, *settings; int steps; const char *says; } bad[] = {
        {"euler", "{}", 0, "0 steps"},
        {"ddim", "{}", 1001, "1001 steps"},
        {"lcm", "{}", 60, "60 steps"},
        {"pndm", "{}", 2, "Runge-Kutta"},
        {"euler", "{\"beta_schedule\":\"wavy\"}", 10, "beta_schedule wavy"},
        {"euler", "{\"beta_start\":\"x\"}", 10, "beta_start"},
        {"euler", "{\"beta_end\":2}", 10, "beta_end"},
        {"dpmpp_2m", "{\"solver_order\":4}", 10, "order 4"},
        {"dpmpp_2m", "{\"algorithm_type\":\"dpmsolver\"}", 10, "sigma_min"},
        {"ddim", "{\"steps_offset\":500}", 10, "timestep"},
        {"flow_euler", "{\"shift\":-1}", 10, "shift"},
        {"ddpm", "{\"num_train_timesteps\":0}", 10, "steps"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        assert_true(plan_error(bad[i].solver, bad[i].settings, bad[i].steps, &err) != ERR_OK);
        if (strstr(err.msg, bad[i].says) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", err.msg, bad[i].says);
    }
    assert_null(solver_find("warp"));
    char names[256];
    solver_names(names, sizeof names);
    assert_non_null(strstr(names, "dpmpp_2m_sde"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twister),
        cmocka_unit_test(test_published_sums),
        cmocka_unit_test(test_bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
