#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

enum { ROWS_MAX = 4096, WIDTH = 100 /* of a line with bytes */ };

/* One kind of incident on one listener or of one worker: its last one, of all shards. */
struct row {
    struct span listener; /* the JSON value; n == 0: a worker's */
    struct span incident;
    uint64_t count;
    uint64_t age_ms;
};

struct rows {
    struct row all[ROWS_MAX];
    size_t n;
};

static uint64_t number(struct span object, const char *key)
{
    return json_read_number(json_read_member(object, key), UINT64_MAX, 0);
}

static bool same(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static bool same_kind(const struct row *row, struct span listener, struct span incident)
{
    static const char *const keys[] = {"what", "pool", "worker", "frame"};
    bool r = same(row->listener, listener);
    for (size_t i = 0; r && i < ARRAY_LEN(keys); i++)
        r = same(json_read_member(row->incident, keys[i]), json_read_member(incident, keys[i]));
    return r;
}

static void add(struct rows *rows, struct span listener, struct span incident)
{
    uint64_t age = number(incident, "age_ms");
    uint64_t count = number(incident, "count");
    for (size_t i = 0; i < rows->n; i++) {
        struct row *row = &rows->all[i];
        if (!same_kind(row, listener, incident))
            continue;
        row->count += count;
        if (age < row->age_ms) {
            row->age_ms = age;
            row->incident = incident;
        }
        return;
    }
    if (rows->n < ROWS_MAX)
        rows->all[rows->n++] = (struct row){listener, incident, count, age};
}

static void gather(struct rows *rows, struct span result)
{
    struct span shard, listener, incident;
    struct span shards = json_read_member(result, "shards");
    for (size_t at = 0; json_read_next(shards, &at, &shard);) {
        struct span answer = json_read_member(shard, "answer");
        struct span listeners = json_read_member(answer, "listeners");
        struct span workers = json_read_member(answer, "workers");
        for (size_t i = 0; json_read_next(listeners, &i, &listener);) {
            struct span refused = json_read_member(listener, "refused");
            for (size_t k = 0; json_read_next(refused, &k, &incident);)
                add(rows, json_read_member(listener, "listener"), incident);
        }
        for (size_t i = 0; json_read_next(workers, &i, &incident);)
            add(rows, (struct span){0}, incident);
    }
}

/* The last one first. */
static int by_age(const void *a, const void *b)
{
    const struct row *one = a;
    const struct row *two = b;
    return one->age_ms < two->age_ms ? -1 : one->age_ms > two->age_ms;
}

/* How many characters stand for the byte that is written at `p`. */
static size_t escaped(const char *p)
{
    return *p != '\\' ? 1 : p[1] == 'x' ? 4 : 2;
}

/* The bytes, a line for each of theirs, with their offsets, and a mark below the one that is wrong.
 */
static void print_bytes(const char *text, uint64_t wrong)
{
    uint64_t offset = 0;
    for (const char *p = text; *p != '\0';) {
        char line[WIDTH + 8] = "";
        size_t n = 0;
        size_t mark = SIZE_MAX;
        uint64_t first = offset;
        bool ends = false;
        while (*p != '\0' && !ends && n < WIDTH) {
            size_t size = MIN(escaped(p), strlen(p));
            ends = size == 2 && p[1] == 'n';
            if (offset++ == wrong)
                mark = n;
            memcpy(line + n, p, size);
            n += size;
            p += size;
        }
        line[n] = '\0';
        printf("    %05" PRIu64 "  %s\n", first, line);
        if (mark != SIZE_MAX)
            printf("           %*s^ wrong here (byte %" PRIu64 ")\n", (int)mark, "", wrong);
    }
}

static void print_row(const struct row *row)
{
    char name[128] = "?", what[512] = "?", text[2048], age[TEXT_SIZE], pool[128];
    struct span incident = row->incident;
    text_of(json_read_member(incident, "what"), what, sizeof(what));
    if (row->listener.n > 0) {
        text_of(row->listener, name, sizeof(name));
        printf("listener %s: %s\n", name, what);
    } else {
        text_of(json_read_member(incident, "worker"), name, sizeof(name));
        text_of(json_read_member(incident, "pool"), pool, sizeof(pool));
        printf("pool %s: worker %s: ", pool, name);
        if (text_of(json_read_member(incident, "frame"), text, sizeof(text)))
            printf("%s is dropped: %s\n", text, what);
        else
            printf("its answer is %s\n", what);
    }
    text_seconds((double)row->age_ms / 1000, age);
    printf("    %" PRIu64 " times, the last %s ago", row->count, age);
    if (text_of(json_read_member(incident, "peer"), text, sizeof(text)))
        printf(", from %s", text);
    if (text_of(json_read_member(incident, "method"), text, sizeof(text)))
        printf(", method %s", text);
    if (text_of(json_read_member(incident, "detail"), text, sizeof(text)))
        printf(": %s", text);
    putchar('\n');
    if (text_of(json_read_member(incident, "bytes"), text, sizeof(text)))
        print_bytes(
            text, json_read_number(json_read_member(incident, "offset"), UINT32_MAX, UINT64_MAX));
}

static int print(const struct rows *rows)
{
    for (size_t i = 0; i < rows->n; i++)
        print_row(&rows->all[i]);
    if (rows->n == 0)
        puts("nothing was refused, and no worker has done anything wrong");
    return FRONTCTL_DONE;
}

static int print_json(const struct rows *rows, struct span silent)
{
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    json_add_raw(&out, "silent", silent.n == 0 ? SPAN("[]") : silent);
    json_begin(&out, "errors", '[');
    for (size_t i = 0; i < rows->n; i++) {
        const struct row *row = &rows->all[i];
        json_begin(&out, NULL, '{');
        if (row->listener.n > 0)
            json_add_raw(&out, "listener", row->listener);
        json_add_number(&out, "times", row->count);
        json_add_raw(&out, "last", row->incident);
        json_end(&out, '}');
    }
    json_end(&out, ']');
    json_end(&out, '}');
    int r = out.failed ? FRONTCTL_FAILED
                       : ask_print_json((struct span){buf_data(&out.out), buf_len(&out.out)});
    buf_deinit(&out.out);
    return r;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    static struct rows rows;
    struct span result;
    int r = command_line_arguments(frontctl, &cmd_errors, argc, argv, 0);
    if (r >= 0)
        return r;
    r = ask(frontctl, "errors", NULL, &result);
    if (r != 0)
        return r;
    gather(&rows, result);
    qsort(rows.all, rows.n, sizeof(rows.all[0]), by_age);
    return frontctl->json ? print_json(&rows, json_read_member(result, "silent")) : print(&rows);
}

const struct command cmd_errors = {
    .name = "errors",
    .arguments = "",
    .summary = "what was refused last on each listener, and what workers did wrongly last",
    .help =
        "The last of each kind, with the first bytes of what was wrong and, where it is known,\n"
        "which of them. Secrets are masked: header fields such as Authorization and Cookie,\n"
        "parameters and members with names such as token and password.\n",
    .run = run,
};
