/* memoryfile.h - bytes under a path, for parsers that open files. */
#ifndef MUSTER_FUZZ_MEMORYFILE_H
#define MUSTER_FUZZ_MEMORYFILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Returns a descriptor to close; path [64] names its file. */
static inline int memoryfile(const uint8_t *data, size_t n, char path[64])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
