#include <string.h>

#include "common/alloc.h"
#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/method_table.h"
#include "proto/json_read.h"

/* Looks twice, `seconds` apart. */
static int look_twice(
    const struct frontctl *frontctl, long seconds, bool between_looks, const char *by)
{
    const struct timespec between = {.tv_sec = seconds};
    char *copy;
    struct span now;
    int r = ask_twice(frontctl, "methods", &between, &copy, &now);
    if (r != 0)
        return r;
    const struct method_looks looks = {
        .before = {copy, copy == NULL ? 0 : strlen(copy)},
        .now = now,
        .seconds = (double)seconds,
        .between = between_looks,
    };
    r = method_table_print(&looks, by, SIZE_MAX);
    mem_free(copy);
    return r;
}

static bool is_sort(const char *text)
{
    static const char *const sorts[] = {
        "spent", "calls", "errors", "failed", "p50", "p99", "slowest", "rate"};
    for (size_t i = 0; i < ARRAY_LEN(sorts); i++) {
        if (strcmp(sorts[i], text) == 0)
            return true;
    }
    return false;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    const char *by = "spent";
    const char *interval = NULL;
    const struct command_option options[] = {
        {.name = "sort", .value = &by}, {.name = "interval", .value = &interval}};
    struct span result;
    long seconds;
    int count = 0;
    int r = command_line_read(
        frontctl, &cmd_methods, argc, argv, options, ARRAY_LEN(options), &count);
    if (r >= 0)
        return r;
    if (count > 0 || !is_sort(by) ||
        !command_line_number(interval == NULL ? "1" : interval, 1, 3600, &seconds))
        return frontctl_misused(&cmd_methods,
            "--sort: spent, calls, errors, failed, p50, p99, slowest or rate; --interval: seconds; "
            "there are no arguments");
    if (!frontctl->json)
        return look_twice(frontctl, seconds, interval != NULL, by);
    r = ask(frontctl, "methods", NULL, &result);
    return r != 0 ? r : ask_print_json(result);
}

const struct command cmd_methods = {
    .name = "methods",
    .arguments = "[--sort spent|calls|errors|failed|p50|p99|slowest|rate] [--interval SECONDS]",
    .summary = "each method: calls a second, errors, how long they take",
    .help = "With --interval all but SLOWEST is of those seconds: what goes on now. Without it all "
            "but CALLS/S, which is\n"
            "counted for a second, is since the front was started.\n"
            "ERRORS    of workers; FAILED: those that the front has answered with an error\n"
            "P50, P99  how long calls take, from their arrival to their end\n"
            "SPENT     all of that together: what the time goes into\n"
            "Methods beyond the first 100, or those that the config names, are in `other`.\n",
    .run = run,
};
