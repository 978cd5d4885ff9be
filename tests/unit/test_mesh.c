/* Where a rank stands in a plan, and plans that no rank may follow. */
#include "workers/parallel/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { TP = 3, PP = 2, WORKERS = 7, LAYERS = 10 };

/* One replica of two stages of three ranks; rank 6 holds nothing. Uneven shares in the second stage. */
struct plan_room {
    Muster__Plan plan;
    Muster__NetworkPlan network, *networks[1];
    Muster__ReplicaPlan replica, *replicas[1];
    Muster__StagePlan stage[PP], *stages[PP];
    uint32_t ranks[PP][TP], ends[PP][TP];
};

static void make_plan(struct plan_room *p)
{
    static const uint32_t ranks[PP][TP] = {{2, 0, 4}, {1, 5, 3}}, ends[PP][TP] = {{2, 5, 8}, {1, 1, 8}};
    muster__plan__init(&p->plan);
    muster__network_plan__init(&p->network);
    muster__replica_plan__init(&p->replica);
    memcpy(p->ranks, ranks, sizeof ranks);
    memcpy(p->ends, ends, sizeof ends);
    for (int i = 0; i < PP; i++) {
        muster__stage_plan__init(p->stages[i] = &p->stage[i]);
        p->stage[i].n_ranks = p->stage[i].n_segment_end = TP;
        p->stage[i].ranks = p->ranks[i];
        p->stage[i].segment_end = p->ends[i];
        p->stage[i].layer_begin = i == 0 ? 0 : 4;
        p->stage[i].layer_end = i == 0 ? 4 : LAYERS;
    }
    p->replica.n_stages = PP;
    p->replica.stages = p->stages;
    p->replicas[0] = &p->replica;
    p->network.tp = TP;
    p->network.pp = PP;
    p->network.n_replicas = 1;
    p->network.replicas = p->replicas;
    p->networks[0] = &p->network;
    p->plan.n_networks = 1;
    p->plan.networks = p->networks;
}

static int init_mesh(struct mesh *m, const struct plan_room *p, int self, int *held, struct err *err)
{
    *err = (struct err){0};
    return mesh_init(m, &p->plan, 0, self, WORKERS, LAYERS, held, err);
}

static void test_places(void **state)
{
    (void)state;
    struct plan_room p;
    struct mesh m;
    struct err err;
    int held;
    make_plan(&p);
    assert_int_equal(init_mesh(&m, &p, 0, &held, &err), ERR_OK);
    assert_true(held);
    assert_int_equal(m.stage, 0);
    assert_int_equal(m.n_stages, PP);
    assert_int_equal(m.tp_index, 1);
    assert_int_equal(m.tp, TP);
    assert_int_equal(m.leaves, 8);
    assert_int_equal(m.segments.begin, 2);
    assert_int_equal(m.segments.end, 5);
    assert_int_equal(m.layer_begin, 0);
    assert_int_equal(m.layer_end, 4);
    assert_int_equal(m.tp_ranks[2], 4);
    assert_int_equal(m.prev_tp, 0);
    assert_int_equal(m.prev_ranks[0], -1);
    assert_int_equal(m.next_tp, TP);
    assert_int_equal(m.next_ranks[1], 5);
    assert_int_equal(m.first_ranks[0], 2);
    assert_int_equal(m.last_ranks[2], 3);
    assert_int_equal(m.self, 0);

    assert_int_equal(init_mesh(&m, &p, 5, &held, &err), ERR_OK);
    assert_true(held);
    assert_int_equal(m.stage, 1);
    assert_int_equal(m.segments.begin, m.segments.end);     /* it takes part with nothing */
    assert_int_equal(m.prev_ranks[2], 4);
    assert_int_equal(m.next_tp, 0);
    assert_int_equal(m.peer_segments[2].begin, 1);

    assert_int_equal(init_mesh(&m, &p, 6, &held, &err), ERR_OK);
    assert_false(held);
}

/* Each way to spoil a plan, and what the message must name. */
static void spoil(struct plan_room *p, int how, const char **names)
{
    static const char *const words[] = {"ranks", "layers", "rank 7", "border", "border", "layer", "layer",
                                        "tp", "tp", "two places", "stages", "replicas", "borders"};
    *names = words[how];
    switch (how) {
    case 0: p->stage[1].n_ranks = 2; break;
    case 1: p->stage[0].layer_end = LAYERS + 1; break;
    case 2: p->ranks[1][2] = WORKERS; break;
    case 3: p->ends[0][1] = 1; break;
    case 4: p->ends[1][2] = 7; break;
    case 5: p->stage[1].layer_begin = 5; break;
    case 6: p->stage[1].layer_end = LAYERS - 1; break;
    case 7: p->network.tp = 0; break;
    case 8: p->network.tp = MESH_TP_MAX + 1; break;
    case 9: p->ranks[1][1] = 2; break;
    case 10: p->replica.n_stages = 0; break;
    case 11: p->network.n_replicas = 0; break;
    default: p->stage[0].n_segment_end = 2; break;
    }
}

static void test_spoilt_plans(void **state)
{
    (void)state;
    for (int how = 0; how <= 12; how++)
        for (int self = 0; self < WORKERS; self++) {    /* also those whose own place is sound */
            struct plan_room p;
            struct mesh m;
            struct err err;
            const char *names;
            int held;
            make_plan(&p);
            spoil(&p, how, &names);
            assert_int_equal(init_mesh(&m, &p, self, &held, &err), ERR_INVAL);
            if (strstr(err.msg, names) == NULL)
                fail_msg("case %d: \"%s\" does not name %s", how, err.msg, names);
        }
    struct plan_room p;
    struct mesh m;
    struct err err = {0};
    int held;
    make_plan(&p);
    assert_int_equal(mesh_init(&m, &p.plan, 1, 0, WORKERS, LAYERS, &held, &err), ERR_INVAL);
    err = (struct err){0};
    assert_int_equal(mesh_init(&m, &p.plan, -1, 0, WORKERS, LAYERS, &held, &err), ERR_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_spoilt_plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
