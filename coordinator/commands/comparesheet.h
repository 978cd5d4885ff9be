/* comparesheet.h - one picture of what all models made of a caption: words on top, then a labelled row of
 * pictures for each model.
 * Owner:  borrows all that is put on it.
 * Ranks:  not collective. */
#ifndef MUSTER_COMPARESHEET_H
#define MUSTER_COMPARESHEET_H

#include "coordinator/image/pngfile.h"

struct comparesheet_row {
    const char *label;
    const struct picture *picture; int n;
};

struct comparesheet {
    const char *title;
    const char *const *line; int n_lines;       /* of text, UTF-8; accents are left out */
    const struct comparesheet_row *row; int n_rows;
};

int comparesheet_save(const struct comparesheet *s, const char *path, struct err *err);

#endif
