/* Pools, redrawn each second: rates of the whole front from two looks at what is counted. */

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/method_table.h"
#include "frontd/frontctl/pool_table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

enum { METHODS_MOST = 15 /* rows */ };

struct look {
    double at; /* s of the monotonic clock */
    double requests;
    double calls;
    double accepted;
    double connections;
    double in_progress;
    char *methods; /* the answer of `methods`; NULL: there is none */
    size_t methods_n;
};

static void drop_look(struct look *look)
{
    look->methods = mem_free(look->methods);
}

/* Asks for the methods too; a supervisor that does not know them is told of once, and not again. */
static void read_methods(const struct frontctl *frontctl, struct look *look, bool *unknown)
{
    struct span result;
    *unknown = *unknown || ask(frontctl, "methods", NULL, &result) != 0;
    if (*unknown)
        return;
    look->methods = mem_strndup(result.p, result.n);
    look->methods_n = look->methods == NULL ? 0 : result.n;
}

static struct span answer_of(const struct look *look)
{
    return (struct span){look->methods, look->methods_n};
}

static struct span methods_of(const struct look *look)
{
    return json_read_member(answer_of(look), "methods");
}

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

static void print_list(const char *name, struct span list)
{
    printf(",\"%s\":", name);
    text_put_json(list.n == 0 ? SPAN("[]") : list, stdout);
}

static void print_json(const struct look *before, const struct look *now, struct span pools)
{
    double seconds = now->at - before->at;
    printf("{\"requests_per_second\":%.3f,\"calls_per_second\":%.3f,"
           "\"connections_per_second\":%.3f,\"connections\":%.0f,\"calls_in_progress\":%.0f",
        rate(before->requests, now->requests, seconds), rate(before->calls, now->calls, seconds),
        rate(before->accepted, now->accepted, seconds), now->connections, now->in_progress);
    print_list("pools", pools);
    print_list("methods", methods_of(now));
    puts("}");
}

static int print_tables(const struct look *before, const struct look *now, struct span pools)
{
    print_rates(before, now);
    int r = pool_table_print(pools);
    if (r != 0 || now->methods == NULL)
        return r;
    putchar('\n');
    const struct method_looks looks = {
        .before = answer_of(before),
        .now = answer_of(now),
        .seconds = now->at - before->at,
        .between = true,
    };
    return method_table_print(&looks, "rate", METHODS_MOST);
}

/* Looks once: everything but the pools, which stay until the next question. */
static int look_at(const struct frontctl *frontctl, struct look *ret_look, bool *unknown)
{
    struct span status;
    int r = ask(frontctl, "status", NULL, &status);
    if (r != 0)
        return r;
    read_look(status, ret_look);
    read_methods(frontctl, ret_look, unknown);
    return 0;
}

static int show(const struct frontctl *frontctl, struct look *before, bool clears, bool *unknown)
{
    struct span result;
    struct look now;
    int r = look_at(frontctl, &now, unknown);
    if (r != 0)
        return r;
    r = ask(frontctl, "pools", NULL, &result);
    if (r == 0 && frontctl->json) {
        print_json(before, &now, json_read_member(result, "pools"));
    } else if (r == 0) {
        fputs(clears ? "\033[H\033[J" : "", stdout);
        r = print_tables(before, &now, json_read_member(result, "pools"));
    }
    fflush(stdout);
    drop_look(before);
    *before = now;
    return r;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    static const struct timespec second = {.tv_sec = 1};
    const char *times = NULL;
    const struct command_option options[] = {{.name = "count", .value = &times}};
    struct look before;
    bool unknown = false;
    long left = -1;
    int count = 0;
    int r = command_line_read(frontctl, &cmd_top, argc, argv, options, 1, &count);
    if (r >= 0)
        return r;
    if (count > 0 || (times != NULL && !command_line_number(times, 1, 1000000, &left)))
        return frontctl_misused(&cmd_top, "--count: a number from 1 on; there are no arguments");
    bool clears = times == NULL && isatty(STDOUT_FILENO) == 1;
    r = look_at(frontctl, &before, &unknown);
    if (r != 0)
        return r;
    while (r == 0 && left != 0) {
        nanosleep(&second, NULL);
        r = show(frontctl, &before, clears, &unknown);
        left -= left > 0;
    }
    drop_look(&before);
    return r;
}

const struct command cmd_top = {
    .name = "top",
    .arguments = "[--count N]",
    .summary = "rates, pools and methods, each second anew, until it is interrupted",
    .help = "--count N: N times, one below the other. With --json each is a line.\n",
    .run = run,
};
