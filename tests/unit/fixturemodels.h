/* fixturemodels.h - every language model among the fixtures: folders with weights, and GGUF files (of a
 * split one the first part). Names come from listing the folder. */
#ifndef MUSTER_TESTS_FIXTUREMODELS_H
#define MUSTER_TESTS_FIXTUREMODELS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static inline const char *fixture_root(void)
{
    static char path[1024];
    const char *env = getenv("MUSTER_FIXTURES");
    snprintf(path, sizeof path, "%s/llm", env ? env : FIXTURES_DEFAULT);
    return path;
}

static inline bool fixture_exists(const char *folder, const char *name)
{
    char path[1600];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &st) == 0;
}

static inline bool fixture_has_weights(const char *folder)
{
    return fixture_exists(folder, "model.safetensors") ||
           fixture_exists(folder, "model.safetensors.index.json");
}

static inline bool fixture_is_gguf(const char *name)
{
    size_t n = strlen(name);
    bool later = strstr(name, "-of-") && !strstr(name, "-00001-of-");
    return n > 5 && strcmp(name + n - 5, ".gguf") == 0 && !later;
}

/* Calls check for every model of one folder; returns how many. */
static inline int fixture_folder(const char *folder, void (*check)(const char *path, const char *folder))
{
    int n = 0;
    if (fixture_has_weights(folder)) {
        check(folder, folder);
        n++;
    }
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[1700];
        if (!fixture_is_gguf(e->d_name))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        check(path, folder);
        n++;
    }
    if (d)
        closedir(d);
    return n;
}

static inline int fixture_each(void (*check)(const char *path, const char *folder))
{
    int n = 0;
    DIR *d = opendir(fixture_root());
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[1500];
        snprintf(path, sizeof path, "%s/%s", fixture_root(), e->d_name);
        if (e->d_name[0] != '.')
            n += fixture_folder(path, check);
    }
    if (d)
        closedir(d);
    return n;
}

#endif
