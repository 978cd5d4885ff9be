#include "coordinator/train/eventfile.h"

#include "tensorboard.pb-c.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint32_t eventfile_crc(const uint8_t *bytes, size_t n)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

uint32_t eventfile_masked_crc(const uint8_t *bytes, size_t n)
{
    uint32_t crc = eventfile_crc(bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static int failed(const struct eventfile *e, struct err *err)
{
    return err_set(err, ERR_OUTPUT, "%.150s: %s", e->path, strerror(errno));
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int put_event(struct eventfile *e, Tensorboard__Event *event, struct err *err)
{
    event->wall_time = now();
    size_t n = tensorboard__event__get_packed_size(event);
    uint8_t *record = malloc(n + 16);
    if (record == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an event of %zu bytes", n);
    for (int i = 0; i < 8; i++)
        record[i] = (uint8_t)((uint64_t)n >> 8 * i);
    put_u32(record + 8, eventfile_masked_crc(record, 8));
    tensorboard__event__pack(event, record + 12);
    put_u32(record + 12 + n, eventfile_masked_crc(record + 12, n));
    bool written = fwrite(record, 1, n + 16, e->f) == n + 16 && fflush(e->f) == 0;
    free(record);
    return written ? ERR_OK : failed(e, err);
}

int eventfile_open(struct eventfile *e, const char *dir, struct err *err)
{
    Tensorboard__Event first = TENSORBOARD__EVENT__INIT;
    size_t room = strlen(dir) + 96;
    memset(e, 0, sizeof *e);
    if ((e->path = malloc(room)) == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    snprintf(e->path, room, "%s/events.out.tfevents.%lld.muster-%d", dir, (long long)time(NULL),
             (int)getpid());
    first.what_case = TENSORBOARD__EVENT__WHAT_FILE_VERSION;
    first.file_version = (char *)"brain.Event:2";
    e->f = fopen(e->path, "wb");
    int rc = e->f == NULL ? failed(e, err) : put_event(e, &first, err);
    if (rc != ERR_OK)
        eventfile_close(e);
    return rc;
}

static int put_value(struct eventfile *e, int64_t step, Tensorboard__Value *value, struct err *err)
{
    Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
    Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &value;
    event.step = step;
    event.what_case = TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return put_event(e, &event, err);
}

int eventfile_scalar(struct eventfile *e, int64_t step, const char *tag, double number, struct err *err)
{
    Tensorboard__Value value = TENSORBOARD__VALUE__INIT;
    value.tag = (char *)tag;
    value.value_case = TENSORBOARD__VALUE__VALUE_SIMPLE_VALUE;
    value.simple_value = (float)number;
    return put_value(e, step, &value, err);
}

int eventfile_picture(struct eventfile *e, int64_t step, const char *tag, int width, int height,
                      const uint8_t *png, size_t n, struct err *err)
{
    Tensorboard__Value value = TENSORBOARD__VALUE__INIT;
    Tensorboard__Image image = TENSORBOARD__IMAGE__INIT;
    image.width = width;
    image.height = height;
    image.colorspace = 3;       /* RGB */
    image.encoded_image_string.data = (uint8_t *)(uintptr_t)png;
    image.encoded_image_string.len = n;
    value.tag = (char *)tag;
    value.value_case = TENSORBOARD__VALUE__VALUE_IMAGE;
    value.image = &image;
    return put_value(e, step, &value, err);
}

void eventfile_close(struct eventfile *e)
{
    if (e->f != NULL)
        fclose(e->f);
    free(e->path);
    memset(e, 0, sizeof *e);
}
