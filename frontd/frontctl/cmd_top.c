/* Pools, redrawn each second: rates of the whole front from two looks at what is counted. */

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/pool_table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

struct look {
    double at; /* s of the monotonic clock */
    double requests;
    double calls;
    double accepted;
    double connections;
    double in_progress;
};

static double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void read_look(struct span status, struct look *ret_look)
{
    struct span totals = json_read_member(status, "totals");
    *ret_look = (struct look){.at = clock_seconds()};
    text_number(json_read_member(totals, "requests"), &ret_look->requests);
    text_number(json_read_member(totals, "calls"), &ret_look->calls);
    text_number(json_read_member(totals, "connections"), &ret_look->accepted);
    text_number(json_read_member(status, "connections"), &ret_look->connections);
    text_number(json_read_member(status, "calls_in_progress"), &ret_look->in_progress);
}

/* What has been counted between two looks, a second; 0 where counting has begun anew. */
static double rate(double before, double now, double seconds)
{
    return seconds > 0 && now >= before ? (now - before) / seconds : 0;
}

static void print_rates(const struct look *before, const struct look *now)
{
    char requests[TEXT_SIZE];
    char calls[TEXT_SIZE];
    char accepted[TEXT_SIZE];
    char connections[TEXT_SIZE];
    double seconds = now->at - before->at;
    text_count(rate(before->requests, now->requests, seconds), requests);
    text_count(rate(before->calls, now->calls, seconds), calls);
    text_count(rate(before->accepted, now->accepted, seconds), accepted);
    text_count(now->connections, connections);
    printf("%s requests/s, %s calls/s, %s new connections/s; %s connections, %.0f calls in "
           "progress\n\n",
        requests, calls, accepted, connections, now->in_progress);
}

static void print_json(const struct look *before, const struct look *now, struct span pools)
{
    double seconds = now->at - before->at;
    printf(
        "{\"requests_per_second\":%.3f,\"calls_per_second\":%.3f,\"connections_per_second\":%.3f,"
        "\"connections\":%.0f,\"calls_in_progress\":%.0f,\"pools\":%.*s}\n",
        rate(before->requests, now->requests, seconds), rate(before->calls, now->calls, seconds),
        rate(before->accepted, now->accepted, seconds), now->connections, now->in_progress,
        pools.n == 0 ? 2 : (int)pools.n, pools.n == 0 ? "[]" : pools.p);
}

static int show(const struct frontctl *frontctl, struct look *before, bool clears)
{
    struct span result;
    struct look now;
    int r = ask(frontctl, "status", NULL, &result);
    if (r != 0)
        return r;
    read_look(result, &now);
    r = ask(frontctl, "pools", NULL, &result);
    if (r != 0)
        return r;
    struct span pools = json_read_member(result, "pools");
    if (frontctl->json) {
        print_json(before, &now, pools);
    } else {
        fputs(clears ? "\033[H\033[J" : "", stdout);
        print_rates(before, &now);
        r = pool_table_print(pools);
    }
    fflush(stdout);
    *before = now;
    return r;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    static const struct timespec second = {.tv_sec = 1};
    const char *times = NULL;
    const struct command_option options[] = {{.name = "count", .value = &times}};
    struct span status;
    struct look before;
    long left = -1;
    int count = 0;
    int r = command_line_read(frontctl, &cmd_top, argc, argv, options, 1, &count);
    if (r >= 0)
        return r;
    if (count > 0 || (times != NULL && !command_line_number(times, 1, 1000000, &left)))
        return frontctl_misused(&cmd_top, "--count: a number from 1 on; there are no arguments");
    bool clears = times == NULL && isatty(STDOUT_FILENO) == 1;
    r = ask(frontctl, "status", NULL, &status);
    if (r != 0)
        return r;
    read_look(status, &before);
    while (r == 0 && left != 0) {
        nanosleep(&second, NULL);
        r = show(frontctl, &before, clears);
        left -= left > 0;
    }
    return r;
}

const struct command cmd_top = {
    .name = "top",
    .arguments = "[--count N]",
    .summary = "rates and pools, each second anew, until it is interrupted",
    .help = "--count N: N times, one below the other. With --json each is a line.\n",
    .run = run,
};
