/* pause, resume, drain, undrain: one name each. */

#include <string.h>
#include <time.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

static const struct timespec between = {.tv_nsec = 100 * 1000 * 1000};

/* Whether an entry of `pools` or `workers` is the one that is meant. */
static bool is_meant(struct span entry, const char *member, const char *name)
{
    char text[512] = "";
    text_of(json_read_member(entry, member), text, sizeof(text));
    return strcmp(text, name) == 0;
}

/* The calls in progress of what is meant. Returns 0 or an exit code. */
static int count_calls(const struct frontctl *frontctl, const char *list, const char *member,
    const char *name, double *ret_calls)
{
    struct span result;
    struct span entry;
    int r = ask(frontctl, list, NULL, &result);
    if (r != 0)
        return r;
    struct span entries = json_read_member(result, list);
    *ret_calls = 0;
    for (size_t at = 0; json_read_next(entries, &at, &entry);) {
        double calls = 0;
        if (is_meant(entry, member, name))
            text_number(json_read_member(entry, "in_progress"), &calls);
        *ret_calls += calls;
    }
    return 0;
}

static int wait_for_calls(
    const struct frontctl *frontctl, const char *list, const char *member, const char *name)
{
    double calls = 0;
    for (;;) {
        int r = count_calls(frontctl, list, member, name, &calls);
        if (r != 0 || calls == 0)
            return r;
        nanosleep(&between, NULL);
    }
}

struct hold {
    const struct command *command;
    const char *method;
    const char *param;
    const char *list;   /* the method that lists such things, for --wait; NULL: no such option */
    const char *member; /* of its entries: the name */
    const char *done;   /* printed after the name */
    const char *same;   /* the same, where nothing has changed */
};

static int hold_or_not(const struct hold *hold, struct frontctl *frontctl, int argc, char **argv)
{
    bool waits = false;
    const struct command_option options[] = {{.name = "wait", .given = &waits}};
    struct json_writer params = {0};
    struct span result;
    int count = 0;
    int r = command_line_read(
        frontctl, hold->command, argc, argv, options, hold->list != NULL, &count);
    if (r >= 0)
        return r;
    if (count != 1)
        return frontctl_misused(hold->command, "one name is wanted");
    json_begin(&params, NULL, '{');
    json_add_text(&params, hold->param, argv[1]);
    json_end(&params, '}');
    r = ask(frontctl, hold->method, &params, &result);
    if (r != 0)
        return r;
    char name[512] = "";
    bool changed = json_is_true(json_read_member(result, "changed"));
    if (!text_of(json_read_member(result, hold->param), name, sizeof(name)))
        snprintf(name, sizeof(name), "%s", argv[1]);
    if (frontctl->json)
        ask_print_json(result);
    else
        printf("%s %s\n", name, changed ? hold->done : hold->same);
    return waits ? wait_for_calls(frontctl, hold->list, hold->member, name) : FRONTCTL_DONE;
}

static int run_pause(struct frontctl *frontctl, int argc, char **argv)
{
    static const struct hold hold = {&cmd_pause, "pause", "pool", "pools", "pool",
        "is paused: its calls wait", "was paused already"};
    return hold_or_not(&hold, frontctl, argc, argv);
}

static int run_resume(struct frontctl *frontctl, int argc, char **argv)
{
    static const struct hold hold = {
        &cmd_resume, "resume", "pool", NULL, NULL, "is resumed", "was not paused"};
    return hold_or_not(&hold, frontctl, argc, argv);
}

static int run_drain(struct frontctl *frontctl, int argc, char **argv)
{
    static const struct hold hold = {&cmd_drain, "drain", "worker", "workers", "address",
        "is drained: it gets no new calls", "was drained already"};
    return hold_or_not(&hold, frontctl, argc, argv);
}

static int run_undrain(struct frontctl *frontctl, int argc, char **argv)
{
    static const struct hold hold = {
        &cmd_undrain, "undrain", "worker", NULL, NULL, "is drained no more", "was not drained"};
    return hold_or_not(&hold, frontctl, argc, argv);
}

#define WORKER_HELP                                                                                \
    "WORKER is an address as `frontctl workers` shows it, the name of its socket, or its "         \
    "process\n"                                                                                    \
    "id.\n"

const struct command cmd_pause = {
    .name = "pause",
    .arguments = "POOL [--wait]",
    .summary = "calls to a pool wait, up to their deadline",
    .help =
        "What is in progress goes on; --wait returns when it is answered, so that a database\n"
        "can be maintained without an error. The limit of the queue holds. A pool stays paused\n"
        "over reloads and upgrades, until `frontctl resume` or the front is stopped.\n",
    .run = run_pause,
};

const struct command cmd_resume = {
    .name = "resume",
    .arguments = "POOL",
    .summary = "calls to a pool that is paused go on",
    .help = "",
    .run = run_resume,
};

const struct command cmd_drain = {
    .name = "drain",
    .arguments = "WORKER [--wait]",
    .summary = "a worker gets no new calls",
    .help = WORKER_HELP
    "It finishes the calls that it has; --wait returns when it has. It stays drained, also where\n"
    "another process serves at its address, until `frontctl undrain` or the front is stopped.\n",
    .run = run_drain,
};

const struct command cmd_undrain = {
    .name = "undrain",
    .arguments = "WORKER",
    .summary = "a worker that is drained gets calls again",
    .help = WORKER_HELP,
    .run = run_undrain,
};
