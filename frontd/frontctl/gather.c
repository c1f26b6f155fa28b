#include "frontd/frontctl/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

static uint64_t number(struct span object, const char *key)
{
    return json_read_number(json_read_member(object, key), UINT64_MAX, 0);
}

static int add_rows(struct gather *gather, struct span rows)
{
    struct span row;
    for (size_t at = 0; json_read_next(rows, &at, &row);) {
        if (gather->nrows == gather->room) {
            size_t room = MAX(gather->room * 2, (size_t)64);
            struct span *wider = mem_widen(gather->rows, gather->nrows, room, sizeof(row));
            if (wider == NULL) {
                frontctl_complain("no memory");
                return FRONTCTL_FAILED;
            }
            gather->rows = wider;
            gather->room = room;
        }
        gather->rows[gather->nrows++] = row;
    }
    return 0;
}

static int read_shard(struct gather *gather, struct span shard)
{
    char error[512];
    struct span answer = json_read_member(shard, "answer");
    if (text_of(json_read_member(answer, "error"), error, sizeof(error))) {
        frontctl_complain("shard %llu/%llu: %s", (unsigned long long)number(shard, "generation"),
            (unsigned long long)number(shard, "shard"), error);
        return json_is_true(json_read_member(answer, "wrong")) ? FRONTCTL_USAGE : FRONTCTL_FAILED;
    }
    gather->shards++;
    gather->looked += number(answer, "looked");
    gather->matched += number(answer, "matched");
    gather->complete &= json_is_true(json_read_member(answer, "complete"));
    return add_rows(gather, json_read_member(answer, "rows"));
}

int gather_read(struct gather *gather, struct span result)
{
    struct span shard;
    struct span shards = json_read_member(result, "shards");
    gather->complete = true;
    for (size_t at = 0; json_read_next(shards, &at, &shard);) {
        int r = read_shard(gather, shard);
        if (r != 0)
            return r;
    }
    gather->silent = json_read_member(result, "silent");
    for (size_t at = 0; json_read_next(gather->silent, &at, &shard);)
        frontctl_complain("shard %llu/%llu (pid %llu) has not answered",
            (unsigned long long)number(shard, "generation"),
            (unsigned long long)number(shard, "shard"), (unsigned long long)number(shard, "pid"));
    return gather->shards > 0 ? 0 : FRONTCTL_FAILED;
}

void gather_free(struct gather *gather)
{
    mem_free(gather->rows);
    *gather = (struct gather){0};
}

void gather_sort(struct gather *gather, int (*order)(const void *a, const void *b))
{
    if (gather->nrows > 1)
        qsort(gather->rows, gather->nrows, sizeof(*gather->rows), order);
}

void gather_begin_json(const struct gather *gather, struct json_writer *out)
{
    json_begin(out, NULL, '{');
    json_add_number(out, "shards", gather->shards);
    json_add_raw(out, "silent", gather->silent.n == 0 ? SPAN("[]") : gather->silent);
    json_add_number(out, "looked", gather->looked);
    json_add_number(out, "matched", gather->matched);
    json_add_flag(out, "complete", gather->complete);
}

int gather_read_page(const struct command *command, const char *limit, const char *offset,
    struct gather_page *ret_page)
{
    struct gather_page page = {.limit = 50};
    if (limit != NULL && !command_line_number(limit, 1, GATHER_ROWS_MAX, &page.limit))
        return frontctl_misused(command, "--limit is a number from 1 to %d", GATHER_ROWS_MAX);
    if (offset != NULL &&
        !command_line_number(offset, 0, GATHER_ROWS_MAX - page.limit, &page.offset))
        return frontctl_misused(
            command, "--offset and --limit are %d together at most", GATHER_ROWS_MAX);
    *ret_page = page;
    return -1;
}

struct unit {
    const char *name;
    uint64_t size;
};

static bool read_unit(const char *text, const struct unit *units, size_t n, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(end, units[i].name) != 0 || value > UINT32_MAX / units[i].size)
            continue;
        *ret = value * units[i].size;
        return true;
    }
    return false;
}

bool gather_time(const char *text, uint64_t *ret_seconds)
{
    static const struct unit units[] = {
        {"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", (uint64_t)24 * 3600}};
    return read_unit(text, units, ARRAY_LEN(units), ret_seconds);
}

bool gather_size(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {{"", 1}, {"k", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}};
    return read_unit(text, units, ARRAY_LEN(units), ret_bytes);
}
