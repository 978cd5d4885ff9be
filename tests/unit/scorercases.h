/* scorercases.h - shares of damaged scenes that the scorer reads rightly, or refuses. */
#ifndef MUSTER_SCORERCASES_H
#define MUSTER_SCORERCASES_H

#include "coordinator/scenes/scorer.h"
#include "tests/unit/damagedscenes.h"

#include <stdio.h>

/* Place, things, colours, relation; of clean pictures also horizon, sizes and places of things. */
static bool scorercases_agree(const struct scene *a, const struct scene *b, bool exactly)
{
    bool same = a->place == b->place && a->n_things == b->n_things && a->relation == b->relation &&
                (!exactly || a->horizon == b->horizon);
    for (int i = 0; i < a->n_things && same; i++) {
        const struct scene_thing *x = &a->thing[i], *y = &b->thing[i];
        same = x->kind == y->kind && x->colour == y->colour &&
               (!exactly || (x->size == y->size && x->x == y->x && x->y == y->y));
    }
    return same;
}

static void scorercases_read(struct scorer *s, enum damage d, uint32_t n, int side, double share)
{
    static uint8_t rgb[64 * 64 * 3];
    uint32_t right = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct scene scene;
        struct scorer_reading r;
        damaged_scene(d, 11, i, (enum scene_set)(i % N_SETS), side, &scene, rgb);
        scorer_read(s, rgb, side, &r);
        bool agree = r.verdict == SCORER_READ && scorercases_agree(&scene, &r.scene, d == DAMAGE_NONE);
        right += agree;
        if (!agree)
            print_message("%s %u: %s, rms %.1f, beside %.1f, misfit %.2f, rival %.2f\n", damage_names[d], i,
                          scorer_verdict_name(r.verdict), r.rms, r.beside, r.misfit, r.rival);
    }
    print_message("%s, side %d: %u of %u read rightly\n", damage_names[d], side, right, n);
    assert_true(right >= share * n);
}

static void scorercases_refuse(struct scorer *s, enum damage d, uint32_t n, int side, double share)
{
    static uint8_t rgb[64 * 64 * 3];
    uint32_t refused = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct scene scene;
        struct scorer_reading r;
        damaged_scene(d, 12, i, (enum scene_set)(i % N_SETS), side, &scene, rgb);
        scorer_read(s, rgb, side, &r);
        refused += r.verdict != SCORER_READ;
    }
    print_message("%s, side %d: %u of %u unreadable\n", damage_names[d], side, refused, n);
    assert_true(refused >= share * n);
}

#endif
