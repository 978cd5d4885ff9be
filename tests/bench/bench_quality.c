/* bench_quality - prompts that a picture model is judged by, the same for ever: see quality.sh.
 *   bench_quality SET N THINGS [SEEDS] > prompts.jsonl
 *       SET: seen, pair, triple, relation (scene.h says which scenes they hold). THINGS: 1, 2, or 0 for one
 *       and two in turn. Prompt i has seed i and the caption of scene i with all its synonyms; with SEEDS,
 *       SEEDS pictures of each plain caption, for diversity. N: pictures. */
#include "coordinator/scenes/scenetext.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of no model's training data: those have small seeds. */
static const uint64_t SEED = UINT64_C(0x7175616c69747931);

static int usage(void)
{
    fprintf(stderr, "usage: bench_quality seen|pair|triple|relation N THINGS [SEEDS]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const char *const sets[N_SETS] = {"seen", "pair", "triple", "relation"};
    int set = 0, n = argc > 2 ? atoi(argv[2]) : 0, things = argc > 3 ? atoi(argv[3]) : -1;
    int seeds = argc > 4 ? atoi(argv[4]) : 1;
    while (argc > 1 && set < N_SETS && strcmp(argv[1], sets[set]) != 0)
        set++;
    if (argc < 4 || argc > 5 || set == N_SETS || n < 1 || things < 0 || things > 2 || seeds < 1)
        return usage();
    for (int i = 0; i < n; i++) {
        struct scene s;
        char text[SCENE_CAPTION_MAX];
        uint32_t index = (uint32_t)(i / seeds);
        scene_draw(&s, SEED, index, (enum scene_set)set, things > 0 ? things : 1 + (int)index % 2);
        if (seeds > 1)
            scene_caption_plain(&s, text);
        else
            scene_caption(&s, SEED, index, text);
        printf("{\"prompt\": \"%s\", \"seed\": %d}\n", text, i);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
