#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

/* The processor time is looked at twice, so far apart, for what is used now. */
static const struct timespec between = {.tv_nsec = 300 * 1000 * 1000};
static const double between_seconds = 0.3;

enum sort { BY_ADDRESS, BY_MEMORY, BY_CPU, BY_CALLS, BY_OLDEST };

static const char *const sorts[] = {
    [BY_ADDRESS] = "address",
    [BY_MEMORY] = "memory",
    [BY_CPU] = "cpu",
    [BY_CALLS] = "calls",
    [BY_OLDEST] = "oldest",
};

struct row {
    struct span worker;
    double key;
    double cpu; /* share of one processor, 1: all of it; below 0: not known */
};

static double number_of(struct span object, const char *name, double fallback)
{
    double number = fallback;
    text_number(json_read_member(object, name), &number);
    return number;
}

/* The processor time that this process had at the first look; below 0: it was not there. */
static double cpu_before(struct span before, struct span worker)
{
    struct span other;
    double pid = number_of(worker, "pid", -1);
    for (size_t at = 0; json_read_next(before, &at, &other);) {
        if (number_of(other, "pid", -2) == pid)
            return number_of(other, "cpu_seconds", -1);
    }
    return -1;
}

static double key_of(const struct row *row, enum sort sort)
{
    switch (sort) {
    case BY_MEMORY: return number_of(row->worker, "memory", -1);
    case BY_CPU: return row->cpu;
    case BY_CALLS: return number_of(row->worker, "in_progress", -1);
    case BY_OLDEST: return number_of(row->worker, "oldest", -1);
    default: return 0;
    }
}

/* The highest first; as they came where they are the same. */
static int compare(const void *a, const void *b)
{
    const struct row *one = a;
    const struct row *other = b;
    if (one->key != other->key)
        return one->key > other->key ? -1 : 1;
    return one->worker.p < other->worker.p ? -1 : 1;
}

static void add_state(struct table *table, struct span worker)
{
    char text[TABLE_CELL_SIZE] = "-";
    text_of(json_read_member(worker, "state"), text, sizeof(text));
    bool stopped = json_is_true(json_read_member(worker, "stopped"));
    size_t n = strlen(text);
    if (stopped)
        snprintf(text + n, sizeof(text) - n, ", stopped");
    table_add(table, text);
}

static void add_calls(struct table *table, struct span worker)
{
    char text[2 * TEXT_SIZE] = "-";
    double calls = number_of(worker, "in_progress", -1);
    double concurrency = number_of(worker, "concurrency", 0);
    if (calls >= 0 && concurrency > 0)
        snprintf(text, sizeof(text), "%.0f/%.0f", calls, concurrency);
    else if (calls >= 0)
        snprintf(text, sizeof(text), "%.0f", calls);
    table_add(table, text);
}

static void add_row(struct table *table, const struct row *row)
{
    char cpu[TEXT_SIZE] = "-";
    if (row->cpu >= 0)
        snprintf(cpu, sizeof(cpu), "%.0f%%", row->cpu * 100);
    table_add_text(table, json_read_member(row->worker, "pool"));
    add_state(table, row->worker);
    add_calls(table, row->worker);
    table_add_count(table, json_read_member(row->worker, "served"));
    table_add_seconds(table, json_read_member(row->worker, "age"));
    table_add_seconds(table, json_read_member(row->worker, "oldest"));
    table_add_count(table, json_read_member(row->worker, "abandoned"));
    table_add_bytes(table, json_read_member(row->worker, "memory"));
    table_add(table, cpu);
    table_add_plain(table, json_read_member(row->worker, "pid"));
    table_add_text(table, json_read_member(row->worker, "address"));
}

static int print(struct span workers, struct span before, enum sort sort)
{
    static const struct table_column columns[] = {{"POOL", false}, {"STATE", false},
        {"CALLS", true}, {"SERVED", true}, {"AGE", true}, {"OLDEST", true}, {"ABANDONED", true},
        {"MEMORY", true}, {"CPU", true}, {"PID", true}, {"ADDRESS", false}};
    struct table table = {.columns = columns, .ncolumns = ARRAY_LEN(columns)};
    size_t n = json_read_count(workers);
    struct row *rows = mem_zalloc((n + 1) * sizeof(*rows));
    if (rows == NULL) {
        frontctl_complain("no memory");
        return FRONTCTL_FAILED;
    }
    size_t i = 0;
    for (size_t at = 0; i < n && json_read_next(workers, &at, &rows[i].worker); i++) {
        double was = cpu_before(before, rows[i].worker);
        double is = number_of(rows[i].worker, "cpu_seconds", -1);
        rows[i].cpu = was < 0 || is < was ? -1 : (is - was) / between_seconds;
        rows[i].key = key_of(&rows[i], sort);
    }
    qsort(rows, n, sizeof(*rows), compare);
    for (i = 0; i < n; i++)
        add_row(&table, &rows[i]);
    mem_free(rows);
    return table_print(&table, stdout);
}

/* Asks twice, and prints what was said the second time. */
static int look_twice(const struct frontctl *frontctl, enum sort sort)
{
    char *copy;
    struct span now;
    int r = ask_twice(frontctl, "workers", &between, &copy, &now);
    if (r != 0)
        return r;
    const struct span before = {copy, copy == NULL ? 0 : strlen(copy)};
    r = print(json_read_member(now, "workers"), json_read_member(before, "workers"), sort);
    mem_free(copy);
    return r;
}

static int read_sort(const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(sorts); i++) {
        if (strcmp(sorts[i], text) == 0)
            return (int)i;
    }
    return -1;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    const char *by = "address";
    const struct command_option options[] = {{.name = "sort", .value = &by}};
    struct span now;
    int count = 0;
    int r = command_line_read(frontctl, &cmd_workers, argc, argv, options, 1, &count);
    if (r >= 0)
        return r;
    int sort = read_sort(by);
    if (count > 0 || sort < 0)
        return frontctl_misused(&cmd_workers,
            count > 0 ? "there are no arguments" : "--sort: address, memory, cpu, calls or oldest");
    if (frontctl->json) {
        r = ask(frontctl, "workers", NULL, &now);
        return r != 0 ? r : ask_print_json(now);
    }
    return look_twice(frontctl, (enum sort)sort);
}

const struct command cmd_workers = {
    .name = "workers",
    .arguments = "[--sort address|memory|cpu|calls|oldest]",
    .summary = "each worker: its state, its calls, its memory",
    .help =
        "STATE      ready; drained; ejected: it has failed repeatedly, and is left out;\n"
        "           hung: it holds calls and does not answer, and gets no more;\n"
        "           down: its socket does not answer; \"stopped\": by a signal, see kill -CONT;\n"
        "           waiting, starting, leaving: of workers that frontd runs\n"
        "CALLS      in progress, of as many as it takes at a time\n"
        "SERVED     calls so far; see max_calls of a pool\n"
        "AGE        for how long it serves, of workers that frontd runs; see max_age\n"
        "OLDEST     how long its oldest call has been in progress, as of half a second ago\n"
        "ABANDONED  calls in progress for which no client waits any more\n"
        "MEMORY, CPU  of the process, where it is on this machine\n",
    .run = run,
};
