/* grammarrules.c - what is said about scenes: version 1, fixed as the scenes are. */
#include "coordinator/scenes/grammar.h"

#define RULE(...) .n = sizeof((const struct grammar_alternative[]){__VA_ARGS__}) /                    \
                       sizeof(struct grammar_alternative),                                            \
                  .alternative = (const struct grammar_alternative[]){__VA_ARGS__}
#define ALWAYS .on = FACT_NONE
#define BY_COUNT .on = FACT_THINGS
#define BY_KIND .on = FACT_KIND, .of_thing = true
#define BY_SIZE .on = FACT_SIZE, .of_thing = true
#define BY_RELATION .on = FACT_RELATION
#define BY_TURN .on = CHOICE_TURNED

enum { ONE, TWO };              /* FACT_THINGS */
enum { NEITHER, SMALL, BIG };   /* FACT_SIZE */
enum { LEFT, ABOVE };           /* FACT_RELATION */
enum { NO, YES };               /* choices */

const struct grammar_rule grammar_rules[] = {
    {"text", ALWAYS, RULE({1, ANY, "<description>"}, {2, ANY, "<questions>"}, {1, ANY, "<summary>"},
                          {1, ANY, "<dialogue>"}, {1, ANY, "<couplet>"}, {1, ANY, "<french>"},
                          {1, ANY, "<spanish>"})},

    /* --- a thing: [article] [size] [colour] [noun]; as captions have it */
    {"np", ALWAYS, RULE({1, ANY, "<the or a><say size><np words>"})},
    {"np words", .on = CHOICE_SIZED, .of_thing = true,
     RULE({1, NO, "<article> <colour> <name>"}, {1, YES, "<size article> <size> <colour> <name>"})},
    {"name", BY_KIND,
     RULE({1, THING_CAR, "car"}, {1, THING_CAR, "automobile"}, {1, THING_HOUSE, "house"},
          {1, THING_HOUSE, "home"}, {1, THING_TREE, "tree"}, {1, THING_BOAT, "boat"},
          {1, THING_BOAT, "ship"}, {1, THING_BALL, "ball"}, {1, THING_STAR, "star"})},
    {"size", BY_SIZE, RULE({2, SMALL, "small"}, {1, SMALL, "little"}, {1, SMALL, "tiny"}, {2, BIG, "big"},
                           {1, BIG, "large"}, {1, BIG, "huge"})},
    {"plain np", ALWAYS, RULE({1, ANY, "<a> <colour> <noun>"})},

    /* --- a place, and two things */
    {"place", ALWAYS, RULE({1, ANY, "<the or a place><place adjective><place words>"})},
    {"pair", ALWAYS, RULE({1, ANY, "<turn><pair words>"})},
    {"pair words", BY_TURN, RULE({1, NO, "<np 0> <forth> <np 1>"}, {1, YES, "<np 1> <back> <np 0>"})},
    {"pair is", ALWAYS, RULE({1, ANY, "<turn><pair is words>"})},
    {"pair is words", BY_TURN,
     RULE({1, NO, "<np 0> is <forth> <np 1>"}, {1, YES, "<np 1> is <back> <np 0>"})},
    {"forth", BY_RELATION, RULE({1, LEFT, "left of"}, {1, LEFT, "to the left of"}, {1, ABOVE, "above"},
                                {1, ABOVE, "over"})},
    {"back", BY_RELATION, RULE({1, LEFT, "right of"}, {1, LEFT, "to the right of"}, {1, ABOVE, "below"},
                               {1, ABOVE, "under"})},

    /* --- descriptions, summaries */
    {"description", BY_COUNT,
     RULE({2, ONE, "There is <np 0> <place>."}, {1, ONE, "You can see <np 0> <place>."},
          {1, ONE, "<^><np 0> is <place>."}, {1, ONE, "<^><place> there is <np 0>."},
          {2, TWO, "There is <pair> <place>."}, {1, TWO, "You can see <pair> <place>."},
          {1, TWO, "<^><pair is>. They are <place>."}, {1, TWO, "<^><place> there is <pair>."})},
    {"summary", ALWAYS, RULE({1, ANY, "<description>\nSummary: <plain>"})},
    {"plain", BY_COUNT,
     RULE({1, ONE, "<plain np 0> <plain place>"},
          {1, TWO, "<plain np 0> <plain relation> <plain np 1> <plain place>"})},
    {"plain relation", BY_RELATION, RULE({1, LEFT, "left of"}, {1, ABOVE, "above"})},

    /* --- questions: four of different types */
    {"questions", ALWAYS, RULE({1, ANY, "<description>\n<question>\n<question>\n<question>\n<question>"})},
    {"question", BY_COUNT, .once = true,
     RULE({1, ANY, "<ask what>"}, {1, ANY, "<ask colour>"}, {1, ANY, "<ask where>"},
          {1, ANY, "<ask count>"}, {1, ANY, "<ask yes or no>"}, {1, TWO, "<ask relation>"})},
    {"ask what", BY_COUNT,
     RULE({1, ONE, "Q: What is there?\nA: a <noun 0>"},
          {1, TWO, "Q: What is there?\nA: a <noun 0> and a <noun 1>"})},
    {"ask colour", BY_COUNT,
     RULE({1, ANY, "<ask colour of 0>"}, {1, TWO, "<ask colour of 1>"})},
    {"ask colour of", ALWAYS, RULE({1, ANY, "Q: What colour is the <noun>?\nA: <colour>"})},
    {"ask where", BY_COUNT, RULE({1, ANY, "<ask where of 0>"}, {1, TWO, "<ask where of 1>"})},
    {"ask where of", ALWAYS, RULE({1, ANY, "Q: Where is the <noun>?\nA: <plain place>"})},
    {"ask count", ALWAYS, RULE({1, ANY, "Q: How many things are there?\nA: <number>"})},
    {"number", BY_COUNT, RULE({1, ONE, "one"}, {1, TWO, "two"})},
    {"ask yes or no", BY_COUNT,
     RULE({1, ANY, "<ask yes or no of 0>"}, {1, TWO, "<ask yes or no of 1>"})},
    {"ask yes or no of", ALWAYS,
     RULE({1, ANY, "<choose colour>Q: Is the <noun> <asked colour>?\nA: <yes or no>"})},
    {"ask relation", ALWAYS,
     RULE({1, ANY, "Q: What is <forth> the <noun 1>?\nA: the <noun 0>"},
          {1, ANY, "Q: What is <back> the <noun 0>?\nA: the <noun 1>"})},
    /* one question, as an examination */
    {"exam what", ALWAYS, RULE({1, ANY, "<description>\n<ask what>"})},
    {"exam colour", ALWAYS, RULE({1, ANY, "<description>\n<ask colour>"})},
    {"exam where", ALWAYS, RULE({1, ANY, "<description>\n<ask where>"})},
    {"exam count", ALWAYS, RULE({1, ANY, "<description>\n<ask count>"})},
    {"exam yes or no", ALWAYS, RULE({1, ANY, "<description>\n<ask yes or no>"})},
    {"exam relation", ALWAYS, RULE({1, ANY, "<description>\n<ask relation>"})},

    /* --- dialogue */
    {"dialogue", BY_COUNT,
     RULE({1, ONE, "<opening>\nBen: I see <np 0>.\nAnn: How big is it?\nBen: It is <how big 0>."},
          {1, TWO, "<opening>\nBen: I see <pair>.\n<detail>"})},
    {"opening", ALWAYS, RULE({1, ANY, "Ann: What do you see <place>?"}, {1, ANY, "Ann: What is <place>?"})},
    {"detail", ALWAYS, RULE({1, ANY, "<detail colour 0>"}, {1, ANY, "<detail colour 1>"},
                            {1, ANY, "<detail size 0>"}, {1, ANY, "<detail size 1>"})},
    {"detail colour", ALWAYS, RULE({1, ANY, "Ann: What colour is the <noun>?\nBen: It is <colour>."})},
    {"detail size", ALWAYS, RULE({1, ANY, "Ann: How big is the <noun>?\nBen: It is <how big>."})},
    {"how big", BY_SIZE, RULE({1, NEITHER, "not small and not big"}, {1, SMALL, "small"}, {1, BIG, "big"})},

    /* --- couplets: the second line rhymes with the thing that ends the first (grammar_rhymes) */
    {"couplet", BY_COUNT,
     RULE({1, ONE, "I see <plain np 0>,\n<rhyme 0>"}, {1, ONE, "Look, there is <plain np 0>,\n<rhyme 0>"},
          {1, TWO, "I see <plain np 0> <forth> <plain np 1>,\n<rhyme 1>"},
          {1, TWO, "Look, there is <plain np 0> <forth> <plain np 1>,\n<rhyme 1>"})},
    {"rhyme", BY_KIND,
     RULE({1, THING_CAR, "and <place> it drives so far."}, {1, THING_CAR, "and <place> it smells of tar."},
          {1, THING_HOUSE, "and <place> there lives a mouse."},
          {1, THING_HOUSE, "and <place> it feeds a mouse."},
          {1, THING_TREE, "and <place> it stands so free."}, {1, THING_TREE, "and <place> it waits for me."},
          {1, THING_BOAT, "and <place> it starts to float."},
          {1, THING_BOAT, "and <place> it wears a coat."}, {1, THING_BALL, "and <place> it will not fall."},
          {1, THING_BALL, "and <place> it rolls for all."},
          {1, THING_STAR, "and <place> it shines so far."},
          {1, THING_STAR, "and <place> it calls from afar."})},

    /* --- translation */
    {"french", BY_COUNT,
     RULE({1, ONE, "English: <np 0> <place>\nFrench: <fr np 0> <fr place>"},
          {1, TWO, "English: <pair> <place>\nFrench: <fr pair> <fr place>"})},
    {"fr pair", BY_TURN, RULE({1, NO, "<fr np 0> <fr forth> <fr de np 1>"},
                              {1, YES, "<fr np 1> <fr back> <fr de np 0>"})},
    {"fr forth", BY_RELATION, RULE({1, LEFT, "à gauche"}, {1, ABOVE, "au-dessus"})},
    {"fr back", BY_RELATION, RULE({1, LEFT, "à droite"}, {1, ABOVE, "au-dessous"})},
    {"spanish", BY_COUNT,
     RULE({1, ONE, "English: <np 0> <place>\nSpanish: <es np 0> <es place>"},
          {1, TWO, "English: <pair> <place>\nSpanish: <es pair> <es place>"})},
    {"es pair", BY_TURN, RULE({1, NO, "<es np 0> <es forth> <es de np 1>"},
                              {1, YES, "<es np 1> <es back> <es de np 0>"})},
    {"es forth", BY_RELATION, RULE({1, LEFT, "a la izquierda"}, {1, ABOVE, "encima"})},
    {"es back", BY_RELATION, RULE({1, LEFT, "a la derecha"}, {1, ABOVE, "debajo"})},
    {.name = NULL},
};
