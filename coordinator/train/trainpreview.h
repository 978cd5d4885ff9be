/* trainpreview.h - what a half-trained model makes: a sheet of pictures, or lines of text.
 * Files:  DIR/preview-STEP.png and a picture of the event file; DIR/preview.txt, which grows.
 * Ranks:  the coordinator only. */
#ifndef MUSTER_TRAINPREVIEW_H
#define MUSTER_TRAINPREVIEW_H

#include "coordinator/text/tokenizer.h"
#include "coordinator/train/eventfile.h"
#include "muster.pb-c.h"

enum { TRAINPREVIEW_MAX = 64 };

/* tokenizer: for text; may be NULL where there is none. */
int trainpreview_take(const Muster__TrainPreview *p, const char *dir, const struct tokenizer *t,
                      struct eventfile *events, struct err *err);

#endif
