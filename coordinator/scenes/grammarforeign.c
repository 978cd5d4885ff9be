/* grammarforeign.c - the facts that a caption named, in French and Spanish: genders and contractions. */
#include "coordinator/scenes/grammar.h"

#include <stdio.h>

enum gender { MASCULINE, FEMININE };
enum { NEITHER, SMALL, BIG };           /* FACT_SIZE */

/* vowel: the article before it is elided (l'arbre). */
struct noun { const char *text; enum gender gender; bool vowel; };

static const struct noun french[N_THINGS] = {{"voiture", FEMININE, false}, {"maison", FEMININE, false},
                                             {"arbre", MASCULINE, true},   {"bateau", MASCULINE, false},
                                             {"balle", FEMININE, false},   {"étoile", FEMININE, true}};
static const struct noun spanish[N_THINGS] = {{"coche", MASCULINE, false},  {"casa", FEMININE, false},
                                              {"árbol", MASCULINE, false},  {"barco", MASCULINE, false},
                                              {"pelota", FEMININE, false},  {"estrella", FEMININE, false}};
static const char *const french_colour[N_COLOURS][2] = {
    {"rouge", "rouge"}, {"orange", "orange"},   {"jaune", "jaune"},   {"vert", "verte"},
    {"bleu", "bleue"},  {"violet", "violette"}, {"blanc", "blanche"}, {"noir", "noire"}};
static const char *const spanish_colour[N_COLOURS][2] = {
    {"rojo", "roja"}, {"naranja", "naranja"}, {"amarillo", "amarilla"}, {"verde", "verde"},
    {"azul", "azul"}, {"morado", "morada"},   {"blanco", "blanca"},     {"negro", "negra"}};

/* [place][the][adjective of scene_place_words, 0: none]; NULL: is always "the". */
static const char *const french_place[N_PLACES][2][3] = {
    {{"dans un champ", "dans un champ vert", "dans un champ herbeux"},
     {"dans le champ", "dans le champ vert", "dans le champ herbeux"}},
    {{NULL}, {"sur la mer", "sur la mer bleue", "sur la mer immense"}},
    {{"sur une route", "sur une route grise", "sur une longue route"},
     {"sur la route", "sur la route grise", "sur la longue route"}},
    {{NULL}, {"dans le ciel nocturne", "dans le sombre ciel nocturne", "dans le sombre ciel nocturne"}},
    {{"dans un désert", "dans un désert sableux", "dans un désert aride"},
     {"dans le désert", "dans le désert sableux", "dans le désert aride"}},
    {{NULL}, {"dans la neige", "dans la neige blanche", "dans la neige froide"}},
};
static const char *const spanish_place[N_PLACES][2][3] = {
    {{"en un campo", "en un campo verde", "en un campo herboso"},
     {"en el campo", "en el campo verde", "en el campo herboso"}},
    {{NULL}, {"en el mar", "en el mar azul", "en el ancho mar"}},
    {{"en una carretera", "en una carretera gris", "en una larga carretera"},
     {"en la carretera", "en la carretera gris", "en la larga carretera"}},
    {{NULL}, {"en el cielo nocturno", "en el oscuro cielo nocturno", "en el oscuro cielo nocturno"}},
    {{"en un desierto", "en un desierto arenoso", "en un desierto seco"},
     {"en el desierto", "en el desierto arenoso", "en el desierto seco"}},
    {{NULL}, {"en la nieve", "en la nieve blanca", "en la nieve fría"}},
};

static int said_size(const int8_t *facts, int thing)
{
    return facts[CHOICE_SIZED + thing] ? facts[FACT_SIZE + thing] : NEITHER;
}

/* le, la, l', un, une; behind "de": du, de la, de l', d'un, d'une. The article stands before the size word
 * where there is one, which never begins with a vowel. */
static void say_french(const int8_t *facts, int thing, bool of, char out[GRAMMAR_WORD_MAX])
{
    static const char *const small[2] = {"petit ", "petite "}, *const big[2] = {"grand ", "grande "};
    static const char *const the[2][2] = {{"le ", "la "}, {"du ", "de la "}};
    static const char *const a[2][2] = {{"un ", "une "}, {"d'un ", "d'une "}};
    const struct noun *n = &french[facts[FACT_KIND + thing]];
    int size = said_size(facts, thing);
    const char *article = facts[CHOICE_THE + thing] ? the[of][n->gender] : a[of][n->gender];
    if (facts[CHOICE_THE + thing] && n->vowel && size == NEITHER)
        article = of ? "de l'" : "l'";
    snprintf(out, GRAMMAR_WORD_MAX, "%s%s%s %s", article,
             size == SMALL ? small[n->gender] : size == BIG ? big[n->gender] : "", n->text,
             french_colour[facts[FACT_COLOUR + thing]][n->gender]);
}

/* el, la, un, una; behind "de": del, de la, de un, de una. "grande" before its noun is "gran". */
static void say_spanish(const int8_t *facts, int thing, bool of, char out[GRAMMAR_WORD_MAX])
{
    static const char *const small[2] = {"pequeño ", "pequeña "};
    static const char *const the[2][2] = {{"el ", "la "}, {"del ", "de la "}};
    static const char *const a[2][2] = {{"un ", "una "}, {"de un ", "de una "}};
    const struct noun *n = &spanish[facts[FACT_KIND + thing]];
    int size = said_size(facts, thing);
    snprintf(out, GRAMMAR_WORD_MAX, "%s%s%s %s",
             facts[CHOICE_THE + thing] ? the[of][n->gender] : a[of][n->gender],
             size == SMALL ? small[n->gender] : size == BIG ? "gran " : "", n->text,
             spanish_colour[facts[FACT_COLOUR + thing]][n->gender]);
}

static void say_fr(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say_french(facts, thing, false, out);
}

static void say_fr_de(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say_french(facts, thing, true, out);
}

static void say_es(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say_spanish(facts, thing, false, out);
}

static void say_es_de(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    say_spanish(facts, thing, true, out);
}

static void say_fr_place(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    (void)thing;
    snprintf(out, GRAMMAR_WORD_MAX, "%s",
             french_place[facts[FACT_PLACE]][facts[CHOICE_PLACE_THE]][facts[CHOICE_PLACE_ADJECTIVE]]);
}

static void say_es_place(const int8_t *facts, int thing, char out[GRAMMAR_WORD_MAX])
{
    (void)thing;
    snprintf(out, GRAMMAR_WORD_MAX, "%s",
             spanish_place[facts[FACT_PLACE]][facts[CHOICE_PLACE_THE]][facts[CHOICE_PLACE_ADJECTIVE]]);
}

#define OF_THING {FACT_KIND, FACT_COLOUR, FACT_SIZE, CHOICE_THE, CHOICE_SIZED, FACT_NONE}
#define OF_PLACE {FACT_PLACE, CHOICE_PLACE_THE, CHOICE_PLACE_ADJECTIVE, FACT_NONE}

const struct grammar_word grammar_foreign_words[] = {
    {"fr np", OF_THING, say_fr},
    {"fr de np", OF_THING, say_fr_de},
    {"fr place", OF_PLACE, say_fr_place},
    {"es np", OF_THING, say_es},
    {"es de np", OF_THING, say_es_de},
    {"es place", OF_PLACE, say_es_place},
    {.name = NULL},
};
