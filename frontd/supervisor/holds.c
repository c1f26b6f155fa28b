#include "frontd/supervisor/holds.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "proto/json_read.h"

void holds_init(struct holds *holds)
{
    holds->log_level = -1;
}

void holds_deinit(struct holds *holds)
{
    while (holds->npaused > 0)
        mem_free(holds->paused[--holds->npaused]);
    while (holds->ndrained > 0)
        mem_free(holds->drained[--holds->ndrained]);
}

void holds_move(struct holds *to, struct holds *from)
{
    CHECK(to->npaused == 0 && to->ndrained == 0);
    *to = *from;
    *from = (struct holds){.log_level = -1};
}

/* The index of a name, or n where it is not there. */
static size_t find(char *const *names, size_t n, const char *name)
{
    size_t i = 0;
    while (i < n && strcmp(names[i], name) != 0)
        i++;
    return i;
}

static int set(char **names, size_t *n, size_t max, const char *name, bool hold)
{
    size_t at = find(names, *n, name);
    if (hold == (at < *n))
        return 0;
    if (!hold) {
        mem_free(names[at]);
        memmove(&names[at], &names[at + 1], (--*n - at) * sizeof(*names));
        return 1;
    }
    if (*n == max)
        return -ENOSPC;
    char *copy = mem_strdup(name);
    if (copy == NULL)
        return -ENOMEM;
    names[(*n)++] = copy;
    return 1;
}

int holds_pause(struct holds *holds, const char *pool, bool hold)
{
    return set(holds->paused, &holds->npaused, ARRAY_LEN(holds->paused), pool, hold);
}

int holds_drain(struct holds *holds, const char *worker, bool hold)
{
    return set(holds->drained, &holds->ndrained, ARRAY_LEN(holds->drained), worker, hold);
}

bool holds_is_paused(const struct holds *holds, const char *pool)
{
    return find(holds->paused, holds->npaused, pool) < holds->npaused;
}

bool holds_is_drained(const struct holds *holds, const char *worker)
{
    return find(holds->drained, holds->ndrained, worker) < holds->ndrained;
}

static void put_names(struct json_writer *out, const char *key, char *const *names, size_t n)
{
    json_begin(out, key, '[');
    for (size_t i = 0; i < n; i++)
        json_add_text(out, NULL, names[i]);
    json_end(out, ']');
}

void holds_save(const struct holds *holds, struct json_writer *out)
{
    put_names(out, "paused", holds->paused, holds->npaused);
    put_names(out, "drained", holds->drained, holds->ndrained);
    json_add_integer(out, "log_level", holds->log_level);
}

static int read_names(struct holds *holds, struct span names,
    int (*hold)(struct holds *holds, const char *name, bool hold))
{
    struct span value;
    int r = 0;
    for (size_t at = 0; r != -ENOMEM && json_read_next(names, &at, &value);) {
        char *name;
        r = json_read_string(value, &name);
        if (r < 0)
            continue;
        r = hold(holds, name, true);
        mem_free(name);
    }
    return r == -ENOMEM ? r : 0;
}

int holds_restore(struct holds *holds, struct span state)
{
    int64_t level;
    if (json_read_integer(json_read_member(state, "log_level"), &level) == 0 &&
        level >= LOG_ERROR && level <= LOG_DEBUG)
        holds->log_level = (int)level;
    int r = read_names(holds, json_read_member(state, "paused"), holds_pause);
    return r < 0 ? r : read_names(holds, json_read_member(state, "drained"), holds_drain);
}
