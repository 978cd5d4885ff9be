/* scenecorpus.h - texts about the built-in world: a corpus without end, whose information is known.
 * Why:    a language model learns the world that the pictures show, and is judged by what there is to
 *         learn.
 * Fixed:  version 1 never changes; text `index` of a seed is the same for ever.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENECORPUS_H
#define MUSTER_SCENECORPUS_H

#include "coordinator/scenes/scene.h"

#include <stddef.h>

/* UTF-8; lines within a text end in "\n", the last one in nothing. */
enum { SCENE_TEXT_MAX = 640 };

enum scene_text_kind { TEXT_DESCRIPTION, TEXT_QUESTIONS, TEXT_SUMMARY, TEXT_DIALOGUE, TEXT_COUPLET,
                       TEXT_FRENCH, TEXT_SPANISH, N_TEXT_KINDS, TEXT_ANY = N_TEXT_KINDS };
enum scene_question { QUESTION_WHAT, QUESTION_COLOUR, QUESTION_WHERE, QUESTION_COUNT, QUESTION_YES_NO,
                      QUESTION_RELATION, N_QUESTIONS };
const char *scene_text_kind_name(enum scene_text_kind k);
const char *scene_question_name(enum scene_question q);

/* Text `index` of a scene of `set`, with the scene where it is not NULL. TEXT_ANY draws the kind too, as
 * the corpus has them. Returns the length. */
int scene_text(uint64_t seed, uint32_t index, enum scene_set set, enum scene_text_kind kind,
               struct scene *scene, char out[SCENE_TEXT_MAX]);

/* An examination: a text cut in two, what is given and the one right end (without the blank between).
 * Questions: answer; FRENCH, SPANISH: the translation; SUMMARY. Both [SCENE_TEXT_MAX]. */
void scene_text_exam(uint64_t seed, uint32_t index, enum scene_set set, enum scene_question q,
                     char *prompt, char *answer);
void scene_text_translation(uint64_t seed, uint32_t index, enum scene_set set, enum scene_text_kind kind,
                            char *prompt, char *answer);

/* -log2 of the probability of a whole text among those of a kind (TEXT_ANY: of the corpus) about seen
 * scenes, summed over scenes and derivations: exact to rounding. Infinite: not a text of it. */
double scene_text_bits(enum scene_text_kind kind, const char *text);

/* Are these two lines a couplet: do their last words rhyme and differ? */
bool scene_text_rhymes(const char *text);

#endif
