#include <stdlib.h>
#include <string.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/gather.h"
#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

/*
 * A topic over all shards. Each shard tells of its first ones only, so one that is below the limit
 * in some of them may have a few members more than are counted: shards are asked for more rows than
 * are shown.
 */
struct sum {
    struct span name; /* the JSON values */
    struct span realm;
    uint64_t members;
    uint64_t shards;
};

static bool sort_by_name; /* for qsort() */

static int compare(struct span a, struct span b)
{
    int r = memcmp(a.p, b.p, MIN(a.n, b.n));
    return r != 0 ? r : a.n < b.n ? -1 : a.n > b.n;
}

static int by_name(const void *a, const void *b)
{
    const struct sum *one = a;
    const struct sum *two = b;
    int r = compare(one->name, two->name);
    if (r != 0 || (one->realm.n == 0 && two->realm.n == 0))
        return r;
    return one->realm.n == 0 ? -1 : two->realm.n == 0 ? 1 : compare(one->realm, two->realm);
}

static int by_members(const void *a, const void *b)
{
    const struct sum *one = a;
    const struct sum *two = b;
    if (one->members != two->members)
        return one->members > two->members ? -1 : 1;
    return by_name(a, b);
}

/* The rows of the same topic become one. Returns how many there are. */
static size_t add_up(const struct gather *gather, struct sum *sums)
{
    size_t n = 0;
    for (size_t i = 0; i < gather->nrows; i++)
        sums[i] = (struct sum){
            .name = json_read_member(gather->rows[i], "name"),
            .realm = json_read_member(gather->rows[i], "realm"),
            .members = json_read_number(
                json_read_member(gather->rows[i], "members"), UINT64_MAX, 0),
            .shards = 1,
        };
    qsort(sums, gather->nrows, sizeof(*sums), by_name);
    for (size_t i = 0; i < gather->nrows; i++) {
        if (n > 0 && by_name(&sums[n - 1], &sums[i]) == 0) {
            sums[n - 1].members += sums[i].members;
            sums[n - 1].shards++;
        } else {
            sums[n++] = sums[i];
        }
    }
    qsort(sums, n, sizeof(*sums), sort_by_name ? by_name : by_members);
    return n;
}

static int print(const struct sum *sums, size_t n, const struct gather *gather)
{
    static const struct table_column columns[] = {
        {"TOPIC", false}, {"REALM", false}, {"MEMBERS", true}, {"SHARDS", true}};
    struct table table = {.columns = columns, .ncolumns = ARRAY_LEN(columns)};
    for (size_t i = 0; i < n; i++) {
        char number[TEXT_SIZE];
        table_add_text(&table, sums[i].name);
        table_add_text(&table, sums[i].realm);
        text_plain((double)sums[i].members, number);
        table_add(&table, number);
        text_plain((double)sums[i].shards, number);
        table_add(&table, number);
    }
    int r = table_print(&table, stdout);
    if (r == FRONTCTL_DONE && !gather->complete)
        puts("\nnot all topics were looked at in time");
    return r;
}

static int print_json(const struct sum *sums, size_t n, const struct gather *gather)
{
    struct json_writer out = {0};
    gather_begin_json(gather, &out);
    json_begin(&out, "topics", '[');
    for (size_t i = 0; i < n; i++) {
        json_begin(&out, NULL, '{');
        json_add_raw(&out, "name", sums[i].name);
        if (sums[i].realm.n > 0)
            json_add_raw(&out, "realm", sums[i].realm);
        json_add_number(&out, "members", sums[i].members);
        json_add_number(&out, "shards", sums[i].shards);
        json_end(&out, '}');
    }
    json_end(&out, ']');
    json_end(&out, '}');
    int r = out.failed ? FRONTCTL_FAILED
                       : ask_print_json((struct span){buf_data(&out.out), buf_len(&out.out)});
    buf_deinit(&out.out);
    return r;
}

static int show(
    const struct frontctl *frontctl, const struct gather *gather, const struct gather_page *page)
{
    struct sum *sums = calloc(gather->nrows + 1, sizeof(*sums));
    if (sums == NULL) {
        frontctl_complain("no memory");
        return FRONTCTL_FAILED;
    }
    size_t n = add_up(gather, sums);
    size_t first = MIN(n, (size_t)page->offset);
    n = MIN(n - first, (size_t)page->limit);
    int r = frontctl->json ? print_json(sums + first, n, gather) : print(sums + first, n, gather);
    free(sums);
    return r;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    const char *prefix = NULL, *sort = "members", *limit = NULL, *offset = NULL;
    const struct command_option options[] = {{"prefix", &prefix, NULL}, {"sort", &sort, NULL},
        {"limit", &limit, NULL}, {"offset", &offset, NULL}};
    struct gather_page page;
    struct json_writer params = {0};
    struct span result;
    int found = 0;
    int r = command_line_read(
        frontctl, &cmd_topics, argc, argv, options, ARRAY_LEN(options), &found);
    if (r < 0 && found > 0)
        r = frontctl_misused(&cmd_topics, "%s: there is nothing to say that about", argv[1]);
    sort_by_name = strcmp(sort, "name") == 0;
    if (r < 0 && !sort_by_name && strcmp(sort, "members") != 0)
        r = frontctl_misused(&cmd_topics, "topics are not sorted by %s", sort);
    if (r < 0)
        r = gather_read_page(&cmd_topics, limit, offset, &page);
    if (r >= 0)
        return r;
    json_begin(&params, NULL, '{');
    if (prefix != NULL)
        json_add_text(&params, "prefix", prefix);
    json_add_text(&params, "sort", sort);
    /* More than are shown, so that sums over shards are right. */
    json_add_number(&params, "limit", GATHER_ROWS_MAX);
    json_end(&params, '}');
    r = ask(frontctl, "topics", &params, &result);
    if (r != 0)
        return r;
    struct gather gather = {0};
    r = gather_read(&gather, result);
    if (r == 0)
        r = show(frontctl, &gather, &page);
    gather_free(&gather);
    return r;
}

const struct command cmd_topics = {
    .name = "topics",
    .arguments = "[--prefix TEXT] [--sort members|name] [--limit N] [--offset N]",
    .summary = "topics, and how many connections have subscribed to each",
    .help = "  --prefix TEXT  those that begin with it\n"
            "  --sort WORD    members (the default): those with most of them first; name\n"
            "  --limit N      so many rows: 50; with the offset 1,000 at most\n"
            "  --offset N     without the first N\n",
    .run = run,
};
