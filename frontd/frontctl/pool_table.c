#include "frontd/frontctl/pool_table.h"

#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

/* "3/64", "3" without a limit. */
static void add_share(struct table *table, struct span pool)
{
    char text[2 * TEXT_SIZE] = "-";
    double in_progress;
    double concurrency;
    if (text_number(json_read_member(pool, "in_progress"), &in_progress)) {
        int n = snprintf(text, sizeof(text), "%.0f", in_progress);
        if (text_number(json_read_member(pool, "concurrency"), &concurrency))
            snprintf(text + n, sizeof(text) - (size_t)n, "/%.0f", concurrency);
    }
    table_add(table, text);
}

static double number_of(struct span object, const char *name)
{
    double number = 0;
    text_number(json_read_member(object, name), &number);
    return number;
}

/* What an operator should look at. */
static const char *note_of(struct span pool)
{
    struct span workers = json_read_member(pool, "workers");
    double in_progress = number_of(pool, "in_progress");
    double concurrency = number_of(pool, "concurrency");
    bool waits = number_of(pool, "waiting") > 0;
    if (json_is_true(json_read_member(pool, "paused")))
        return "paused";
    if (workers.n > 0 && number_of(workers, "ready") == 0)
        return "no worker is ready";
    if (waits && concurrency > 0 && in_progress >= concurrency)
        return "all workers are busy: calls wait";
    if (number_of(workers, "hung") > 0)
        return "a worker has hung";
    if (number_of(workers, "ejected") > 0)
        return "a worker is left out: it has failed repeatedly";
    return waits ? "calls wait" : "";
}

static void add_row(struct table *table, struct span pool)
{
    struct span workers = json_read_member(pool, "workers");
    table_add_text(table, json_read_member(pool, "pool"));
    table_add_count(table, json_read_member(pool, "waiting"));
    table_add_seconds(table, json_read_member(pool, "oldest"));
    add_share(table, pool);
    table_add_seconds(table, json_read_member(pool, "p50"));
    table_add_seconds(table, json_read_member(pool, "p99"));
    table_add_count(table, json_read_member(workers, "ready"));
    table_add_count(table, json_read_member(workers, "drained"));
    table_add_count(table, json_read_member(workers, "hung"));
    table_add_count(table, json_read_member(workers, "down"));
    table_add(table, note_of(pool));
}

int pool_table_print(struct span pools)
{
    static const struct table_column columns[] = {{"POOL", false}, {"WAITING", true},
        {"OLDEST", true}, {"IN PROGRESS", true}, {"P50", true}, {"P99", true}, {"READY", true},
        {"DRAINED", true}, {"HUNG", true}, {"DOWN", true}, {"", false}};
    struct table table = {.columns = columns, .ncolumns = ARRAY_LEN(columns)};
    struct span pool;
    for (size_t at = 0; json_read_next(pools, &at, &pool);)
        add_row(&table, pool);
    return table_print(&table, stdout);
}
