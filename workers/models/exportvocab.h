/* exportvocab.h - a folder's tokenizer as the tokenizer.* keys of GGUF.
 * Why:    a GGUF file is complete without its folder.
 * Source: tokenizer.json (BPE), tokenizer.model (SentencePiece: exact scores) where there is one,
 *         tokenizer_config.json, config.json, generation_config.json, chat_template.jinja.
 * Ranks:  not collective. */
#ifndef MUSTER_EXPORTVOCAB_H
#define MUSTER_EXPORTVOCAB_H

#include "workers/weights/ggufwriter.h"

/* folder: of the model; vocab: rows of its embedding (tokens up to there are padded). ERR_FORMAT names
 * the file and what is wrong with it. */
int exportvocab_write(struct ggufwriter *w, const char *folder, int vocab, struct err *err);

#endif
