/* scenetext.h - captions of scenes, in the words of one grammar.
 * Why:    text encoders and language models learn the same world that the pictures show.
 * Grammar: a thing is [article] [size] [colour] [noun]; a place is [preposition] [article] [adjective]
 *         [noun]; nouns, relations and articles have synonyms. Words are drawn by (seed, index), so the
 *         caption of a scene is the same for ever.
 * Ranks:  not collective. */
#ifndef MUSTER_SCENETEXT_H
#define MUSTER_SCENETEXT_H

#include "coordinator/scenes/scene.h"

#include <stddef.h>

enum { SCENE_CAPTION_MAX = 160 };

/* Caption number `variant` of the scene; plain: "a red boat left of a yellow house on the sea" without
 * synonyms, sizes or adjectives. Returns its length. */
int scene_caption(const struct scene *s, uint64_t seed, uint32_t variant, char out[SCENE_CAPTION_MAX]);
int scene_caption_plain(const struct scene *s, char out[SCENE_CAPTION_MAX]);

/* A place in words: "on", "field", its adjectives; always_the: never "a sea". */
struct scene_place_words { const char *preposition, *noun, *adjective[2]; bool always_the; };
extern const struct scene_place_words scene_place_words[N_PLACES];

/* Every word that a caption can hold, NULL-terminated, in alphabetical order. */
const char *const *scene_caption_words(void);

#endif
