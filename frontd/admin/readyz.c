#include "frontd/admin/readyz.h"

#include <stdarg.h>
#include <string.h>

#include "frontd/ipc/shm_queues.h"
#include "proto/json_read.h"

enum { TEXT_MAX = 512 };

struct finder {
    struct json_writer *out;
    bool ready;
};

__attribute__((format(printf, 2, 3))) static void miss(
    struct finder *finder, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    json_add_text(finder->out, NULL, text);
    finder->ready = false;
}

static bool is_text(struct span value, const char *text)
{
    char found[32];
    return json_read_plain(value, found, sizeof(found)) && strcmp(found, text) == 0;
}

static void look_at_shards(struct finder *finder, struct span status)
{
    struct span shard;
    struct span shards = json_read_member(status, "shards");
    uint64_t serving = json_read_number(json_read_member(status, "generation"), UINT64_MAX, 0);
    for (size_t at = 0; json_read_next(shards, &at, &shard);) {
        char state[32];
        if (json_read_number(json_read_member(shard, "generation"), UINT64_MAX, 0) != serving)
            continue; /* it leaves, or is about to take the place of one that serves */
        json_read_plain(json_read_member(shard, "state"), state, sizeof(state));
        if (strcmp(state, "serving") != 0)
            miss(finder, "shard %llu is %s",
                (unsigned long long)json_read_number(
                    json_read_member(shard, "shard"), UINT32_MAX, 0),
                state);
    }
    if (json_read_count(shards) == 0)
        miss(finder, "there are no shards");
}

static void look_at_pools(struct finder *finder, const struct conf *conf, const struct share *share)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        int pool = share_pool(share, conf->pools[i].name);
        if (pool < 0 || share_pool_reached(share, (unsigned)pool) == 0)
            miss(finder, "pool %s has no worker", conf->pools[i].name);
    }
}

bool readyz_write(const struct conf *conf, const struct share *share, struct span status,
    const char *why, struct json_writer *out)
{
    struct finder finder = {.out = out, .ready = true};
    json_begin(out, NULL, '{');
    json_begin(out, "missing", '[');
    if (status.n == 0) {
        miss(&finder, "%s", why);
    } else {
        if (is_text(json_read_member(status, "state"), "stopping"))
            miss(&finder, "it stops, and only finishes what is in progress");
        look_at_shards(&finder, status);
        look_at_pools(&finder, conf, share);
    }
    json_end(out, ']');
    json_add_flag(out, "ready", finder.ready);
    json_end(out, '}');
    return finder.ready;
}
