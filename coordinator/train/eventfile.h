/* eventfile.h - a training run for TensorBoard: curves and pictures.
 * Format: records of {u64 length, masked CRC-32C of it, bytes, masked CRC-32C of them}; the bytes are an
 *         Event message (tensorboard.proto).
 * Owner:  the struct owns its stream. Written and flushed record by record: a run that is killed leaves a
 *         file that reads up to there.
 * Ranks:  the coordinator only. */
#ifndef MUSTER_EVENTFILE_H
#define MUSTER_EVENTFILE_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct eventfile { FILE *f; char *path; };

/* Makes DIR/events.out.tfevents.SECONDS.muster-PID. */
int eventfile_open(struct eventfile *e, const char *dir, struct err *err);
int eventfile_scalar(struct eventfile *e, int64_t step, const char *tag, double value, struct err *err);
/* png [n]: a whole file. */
int eventfile_picture(struct eventfile *e, int64_t step, const char *tag, int width, int height,
                      const uint8_t *png, size_t n, struct err *err);
void eventfile_close(struct eventfile *e);      /* accepts a zeroed one */

/* CRC-32C (Castagnoli) of bytes [n], and as the records store it. */
uint32_t eventfile_crc(const uint8_t *bytes, size_t n);
uint32_t eventfile_masked_crc(const uint8_t *bytes, size_t n);

#endif
