/* A million texts of the corpus: nothing that is held out is said in any of the three languages, and every
 * word has partners. Reads the words, not the scene that they came from. */
#include "coordinator/scenes/scenecorpus.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <cmocka.h>

enum role { OTHER, THING, COLOUR, PLACE, FORTH, BACK };
struct word { const char *text; enum role role; int value; };

/* "orange" is one word of two languages; "or" and the like are not here. */
static const struct word words[] = {
    {"car", THING, THING_CAR}, {"automobile", THING, THING_CAR}, {"voiture", THING, THING_CAR},
    {"coche", THING, THING_CAR}, {"house", THING, THING_HOUSE}, {"home", THING, THING_HOUSE},
    {"maison", THING, THING_HOUSE}, {"casa", THING, THING_HOUSE}, {"tree", THING, THING_TREE},
    {"arbre", THING, THING_TREE}, {"árbol", THING, THING_TREE}, {"boat", THING, THING_BOAT},
    {"ship", THING, THING_BOAT}, {"bateau", THING, THING_BOAT}, {"barco", THING, THING_BOAT},
    {"ball", THING, THING_BALL}, {"balle", THING, THING_BALL}, {"pelota", THING, THING_BALL},
    {"star", THING, THING_STAR}, {"étoile", THING, THING_STAR}, {"estrella", THING, THING_STAR},
    {"red", COLOUR, COLOUR_RED}, {"rouge", COLOUR, COLOUR_RED}, {"rojo", COLOUR, COLOUR_RED},
    {"roja", COLOUR, COLOUR_RED}, {"orange", COLOUR, COLOUR_ORANGE}, {"naranja", COLOUR, COLOUR_ORANGE},
    {"yellow", COLOUR, COLOUR_YELLOW}, {"jaune", COLOUR, COLOUR_YELLOW}, {"amarillo", COLOUR, COLOUR_YELLOW},
    {"amarilla", COLOUR, COLOUR_YELLOW}, {"green", COLOUR, COLOUR_GREEN}, {"vert", COLOUR, COLOUR_GREEN},
    {"verte", COLOUR, COLOUR_GREEN}, {"verde", COLOUR, COLOUR_GREEN}, {"blue", COLOUR, COLOUR_BLUE},
    {"bleu", COLOUR, COLOUR_BLUE}, {"bleue", COLOUR, COLOUR_BLUE}, {"azul", COLOUR, COLOUR_BLUE},
    {"purple", COLOUR, COLOUR_PURPLE}, {"violet", COLOUR, COLOUR_PURPLE}, {"violette", COLOUR, COLOUR_PURPLE},
    {"morado", COLOUR, COLOUR_PURPLE}, {"morada", COLOUR, COLOUR_PURPLE}, {"white", COLOUR, COLOUR_WHITE},
    {"blanc", COLOUR, COLOUR_WHITE}, {"blanche", COLOUR, COLOUR_WHITE}, {"blanco", COLOUR, COLOUR_WHITE},
    {"blanca", COLOUR, COLOUR_WHITE}, {"black", COLOUR, COLOUR_BLACK}, {"noir", COLOUR, COLOUR_BLACK},
    {"noire", COLOUR, COLOUR_BLACK}, {"negro", COLOUR, COLOUR_BLACK}, {"negra", COLOUR, COLOUR_BLACK},
    {"field", PLACE, PLACE_FIELD}, {"sea", PLACE, PLACE_SEA}, {"road", PLACE, PLACE_ROAD},
    {"sky", PLACE, PLACE_NIGHT}, {"desert", PLACE, PLACE_DESERT}, {"snow", PLACE, PLACE_SNOW},
    {"champ", PLACE, PLACE_FIELD}, {"mer", PLACE, PLACE_SEA}, {"route", PLACE, PLACE_ROAD},
    {"ciel", PLACE, PLACE_NIGHT}, {"désert", PLACE, PLACE_DESERT}, {"neige", PLACE, PLACE_SNOW},
    {"campo", PLACE, PLACE_FIELD}, {"mar", PLACE, PLACE_SEA}, {"carretera", PLACE, PLACE_ROAD},
    {"cielo", PLACE, PLACE_NIGHT}, {"desierto", PLACE, PLACE_DESERT}, {"nieve", PLACE, PLACE_SNOW},
    {"left", FORTH, 0}, {"above", FORTH, 0}, {"over", FORTH, 0}, {"gauche", FORTH, 0}, {"dessus", FORTH, 0},
    {"izquierda", FORTH, 0}, {"encima", FORTH, 0}, {"right", BACK, 0}, {"below", BACK, 0}, {"under", BACK, 0},
    {"droite", BACK, 0}, {"dessous", BACK, 0}, {"derecha", BACK, 0}, {"debajo", BACK, 0},
};
enum { WORDS = sizeof words / sizeof *words, SLOTS = 1024, SAID_MAX = 160 };

static int16_t slot[SLOTS];
static bool with[WORDS][WORDS];

static uint32_t hash_of(const char *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)tolower((uint8_t)s[i])) * 16777619u;
    return (h ^ h >> 15) & (SLOTS - 1);
}

static int find(const char *s, size_t n)
{
    for (uint32_t h = hash_of(s, n);; h = (h + 1) & (SLOTS - 1)) {
        if (slot[h] == 0)
            return -1;
        const char *w = words[slot[h] - 1].text;
        if (strlen(w) == n && strncasecmp(w, s, n) == 0)
            return slot[h] - 1;
    }
}

static int index_words(void **state)
{
    (void)state;
    for (int i = 0; i < WORDS; i++) {
        uint32_t h = hash_of(words[i].text, strlen(words[i].text));
        while (slot[h] != 0)
            h = (h + 1) & (SLOTS - 1);
        slot[h] = (int16_t)(i + 1);
    }
    return 0;
}

static bool in_word(char c) { return isalpha((unsigned char)c) || (uint8_t)c >= 0x80; }

/* Words of a text in order; -1 for those that are not in the list; -2 where a line or a sentence ends. */
static int cut(const char *text, int *said)
{
    int n = 0;
    for (const char *p = text; *p != '\0' && n < SAID_MAX;) {
        const char *from = p;
        while (in_word(*p))
            p++;
        if (p > from)
            said[n++] = find(from, (size_t)(p - from));
        else if (*p == '\n' || *p == '.' || *p == '?')
            said[n++] = -2;
        p += p == from;
    }
    return n;
}

static enum role role(int w) { return w < 0 ? OTHER : words[w].role; }

/* A colour belongs to the thing beside it: before it in English, behind it elsewhere (where a noun always
 * has its colour behind it, so that the one behind counts). */
static bool leaks(const int *said, int n)
{
    int place = -1, first = -1, direction = 0;
    for (int i = 0; i < n && place < 0; i++)
        if (role(said[i]) == PLACE)
            place = words[said[i]].value;
    bool asked = false;
    for (int i = 0; i < n; i++) {
        int w = said[i];
        if (w == -2) {
            first = asked ? first : -1;
            continue;
        }
        if (role(w) == THING) {
            enum thing t = (enum thing)words[w].value;
            int colour = -1;
            if (i > 0 && role(said[i - 1]) == COLOUR)
                colour = words[said[i - 1]].value;
            if (i + 1 < n && role(said[i + 1]) == COLOUR)       /* foreign, or "Is the car red?" */
                colour = words[said[i + 1]].value;
            if (colour >= 0 && (scene_pair_held(t, (enum colour)colour) ||
                                scene_triple_held(t, (enum colour)colour, (enum place)place)))
                return true;
            if (direction != 0 && first >= 0) {
                enum thing a = direction > 0 ? (enum thing)first : t, b = direction > 0 ? t : (enum thing)first;
                if (scene_relation_held(a, b))
                    return true;
                direction = 0;
            }
            first = (int)t;
        } else if (role(w) == FORTH || role(w) == BACK) {
            direction = role(w) == FORTH ? 1 : -1;
            asked = first < 0;          /* "What is left of the house? A: the boat" */
            if (asked)
                direction = -direction;
        }
    }
    return place < 0;
}

/* The same for lines of questions: "What colour is the N?" with its answer. */
static bool colour_answer_leaks(const char *text)
{
    for (const char *q = text; (q = strstr(q, "What colour is the ")) != NULL; q++) {
        const char *noun = q + strlen("What colour is the "), *end = strchr(noun, '?');
        const char *answer = strpbrk(end + 2, ":") + 2;
        answer += strncmp(answer, "It is ", 6) == 0 ? 6 : 0;
        int t = find(noun, (size_t)(end - noun)), c = find(answer, strcspn(answer, ".\n"));
        if (role(t) != THING || role(c) != COLOUR ||
            scene_pair_held((enum thing)words[t].value, (enum colour)words[c].value))
            return true;
    }
    return false;
}

static void test_a_million(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000000; i++) {
        char text[SCENE_TEXT_MAX];
        int said[SAID_MAX], n;
        scene_text(1, i, SET_SEEN, TEXT_ANY, NULL, text);
        n = cut(text, said);
        if (leaks(said, n) || colour_answer_leaks(text))
            fail_msg("text %u: %s", i, text);
        for (int a = 0; a < n && i < 100000; a++)
            for (int b = 0; b < n; b++)
                if (said[a] >= 0 && said[b] >= 0)
                    with[said[a]][said[b]] = true;
    }
    for (int a = 0; a < WORDS; a++) {
        int partners = 0;
        for (int b = 0; b < WORDS; b++)
            partners += a != b && with[a][b];
        if (partners < 6)
            fail_msg("\"%s\" has %d partners", words[a].text, partners);
    }
}

/* The reader above finds what is held out, in texts that say it. */
static void test_the_reader_sees(void **state)
{
    (void)state;
    for (int set = SET_PAIR; set < N_SETS; set++)
        for (int kind = 0; kind < N_TEXT_KINDS; kind++) {
            int seen = 0;
            for (uint32_t i = 0; i < 500; i++) {
                char text[SCENE_TEXT_MAX];
                int said[SAID_MAX];
                scene_text(1, i, (enum scene_set)set, (enum scene_text_kind)kind, NULL, text);
                int n = cut(text, said);
                seen += leaks(said, n);
            }
            if (seen != 500)
                fail_msg("set %d, kind %d: %d of 500", set, kind, seen);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_reader_sees), cmocka_unit_test(test_a_million),
    };
    return cmocka_run_group_tests(tests, index_words, NULL);
}
