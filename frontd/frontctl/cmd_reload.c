/*
 * reload, upgrade: wait for the end, and show on standard error how it gets on. An upgrade ends the
 * supervisor's program and the connection: the one that follows is asked what has become of it.
 */

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/text.h"
#include "frontd/ipc/control_rpc.h"
#include "proto/errors.h"
#include "proto/json_read.h"

enum { AGAIN_TRIES = 150 /* for the next program to answer, 100 ms each */ };

static const struct timespec between = {.tv_nsec = 100 * 1000 * 1000};

struct reloading {
    struct link link;
    struct frontctl *frontctl;
    uint64_t number; /* of the reload; 0: it has not been said */
    char state[64];  /* that was shown last */
    bool live;       /* standard error is a terminal: one line is written again and again */
    bool open_line;
};

static void end_line(struct reloading *reloading)
{
    if (reloading->open_line)
        fputc('\n', stderr);
    reloading->open_line = false;
}

/* "handing over: 1234 moved, 5 to go". */
static void describe(struct span report, char *out, size_t size)
{
    char state[64] = "";
    double moved;
    double stayed;
    text_of(json_read_member(report, "state"), state, sizeof(state));
    if (strcmp(state, "handing over") == 0 &&
        text_number(json_read_member(report, "moved"), &moved) &&
        text_number(json_read_member(report, "stayed"), &stayed))
        snprintf(out, size, "%s: %.0f connections moved, %.0f to go", state, moved, stayed);
    else
        snprintf(out, size, "%s", state);
}

static void on_push(void *data, struct span method, struct span params)
{
    struct reloading *reloading = data;
    char state[64] = "";
    char text[256];
    (void)method;
    reloading->number = json_read_number(
        json_read_member(params, "number"), UINT64_MAX, reloading->number);
    text_of(json_read_member(params, "state"), state, sizeof(state));
    bool same = strcmp(state, reloading->state) == 0;
    snprintf(reloading->state, sizeof(reloading->state), "%s", state);
    if (reloading->frontctl->json || (same && !reloading->live))
        return;
    describe(params, text, sizeof(text));
    if (!same)
        end_line(reloading);
    fprintf(stderr, reloading->live ? "\r%s\033[K" : "%s\n", text);
    reloading->open_line = reloading->live;
}

static void print_result(struct span result)
{
    double number = 0;
    char seconds[TEXT_SIZE] = "";
    text_number(json_read_member(result, "generation"), &number);
    printf("generation %.0f serves", number);
    if (text_number(json_read_member(result, "moved"), &number)) {
        double stayed = 0;
        text_number(json_read_member(result, "stayed"), &stayed);
        printf("; %.0f connections moved, %.0f did not", number, stayed);
    }
    if (text_number(json_read_member(result, "seconds"), &number)) {
        text_seconds(number, seconds);
        printf("; %s", seconds);
    }
    putchar('\n');
}

static int tell(struct reloading *reloading, const char *method, enum link_outcome outcome,
    const struct link_answer *answer)
{
    end_line(reloading);
    int r = ask_judge(&reloading->link, method, outcome, answer);
    if (r == 0 && reloading->frontctl->json)
        ask_print_json(answer->result);
    else if (r == 0)
        print_result(answer->result);
    link_close(&reloading->link);
    return r;
}

/* The program that follows says what has become of the reload. */
static int ask_next(struct reloading *reloading)
{
    struct link *link = &reloading->link;
    struct json_writer params = {0};
    struct link_answer answer = {0};
    link_close(link);
    int r = -1;
    for (int i = 0; i < AGAIN_TRIES && r != 0; i++) {
        r = link_open(link, reloading->frontctl->socket, true);
        if (r != 0)
            nanosleep(&between, NULL);
    }
    if (r != 0) {
        end_line(reloading);
        frontctl_complain("the program was replaced, and the next one does not answer at %s: see "
                          "its log",
            reloading->frontctl->socket);
        return FRONTCTL_UNREACHED;
    }
    json_begin(&params, NULL, '{');
    json_add_number(&params, "number", reloading->number);
    json_end(&params, '}');
    enum link_outcome outcome = link_call(
        link, "reload_wait", &params, -1, on_push, reloading, &answer);
    return tell(reloading, "reload_wait", outcome, &answer);
}

static int reload_or_upgrade(struct frontctl *frontctl, const char *method)
{
    struct reloading reloading = {
        .frontctl = frontctl, .live = isatty(STDERR_FILENO) == 1 && !frontctl->json};
    struct link_answer answer = {0};
    int r = link_open(&reloading.link, frontctl->socket, false);
    if (r != 0)
        return r;
    enum link_outcome outcome = link_call(
        &reloading.link, method, NULL, -1, on_push, &reloading, &answer);
    if (outcome == LINK_LOST && reloading.number != 0)
        return ask_next(&reloading);
    return tell(&reloading, method, outcome, &answer);
}

static void print_change(struct span change)
{
    char key[512] = "";
    char from[256] = "";
    char to[256] = "";
    text_of(json_read_member(change, "key"), key, sizeof(key));
    bool was = text_of(json_read_member(change, "from"), from, sizeof(from));
    bool is = text_of(json_read_member(change, "to"), to, sizeof(to));
    if (was && is)
        printf("~ %s: %s -> %s\n", key, from, to);
    else
        printf("%c %s: %s\n", is ? '+' : '-', key, is ? to : from);
}

/* One line for each: "listener web: why", with the route where it is one. */
static void print_place(const char *what, struct span place)
{
    char listener[128] = "";
    char host[256] = "";
    char path[512] = "";
    char reason[256] = "";
    if (!text_of(place, listener, sizeof(listener)))
        text_of(json_read_member(place, "listener"), listener, sizeof(listener));
    text_of(json_read_member(place, "host"), host, sizeof(host));
    text_of(json_read_member(place, "path"), path, sizeof(path));
    text_of(json_read_member(place, "reason"), reason, sizeof(reason));
    printf("%s %s%s%s%s%s%s\n", what, listener, path[0] == '\0' ? "" : " ", host, path,
        reason[0] == '\0' ? "" : ": ", reason);
}

static void print_places(const char *what, struct span places)
{
    struct span place;
    for (size_t at = 0; json_read_next(places, &at, &place);)
        print_place(what, place);
}

static void print_replaced(struct span pools)
{
    struct span pool;
    for (size_t at = 0; json_read_next(pools, &at, &pool);) {
        char name[128] = "";
        double workers = 0;
        text_of(json_read_member(pool, "pool"), name, sizeof(name));
        text_number(json_read_member(pool, "workers"), &workers);
        printf("workers of pool %s are replaced: %.0f\n", name, workers);
    }
}

static int try_dry(struct frontctl *frontctl)
{
    struct json_writer params = {0};
    struct span result;
    struct span change;
    json_begin(&params, NULL, '{');
    json_add_flag(&params, "dry_run", true);
    json_end(&params, '}');
    int r = ask(frontctl, "reload", &params, &result);
    if (r != 0 || frontctl->json)
        return r != 0 ? r : ask_print_json(result);
    struct span changes = json_read_member(result, "changes");
    for (size_t at = 0; json_read_next(changes, &at, &change);)
        print_change(change);
    if (changes.n > 0 && json_read_count(changes) == 0)
        puts("the config is as it was");
    print_places("new listener", json_read_member(result, "listeners_added"));
    print_places("listener goes", json_read_member(result, "listeners_removed"));
    print_places("new route", json_read_member(result, "routes_added"));
    print_places("route goes", json_read_member(result, "routes_removed"));
    print_places("new pool", json_read_member(result, "pools_added"));
    print_places("pool goes", json_read_member(result, "pools_removed"));
    print_replaced(json_read_member(result, "workers_replaced"));
    print_places("connections cannot move:", json_read_member(result, "connections_stay"));
    return FRONTCTL_DONE;
}

static int run_reload(struct frontctl *frontctl, int argc, char **argv)
{
    bool dry = false;
    const struct command_option options[] = {{.name = "dry-run", .given = &dry}};
    int count = 0;
    int r = command_line_read(frontctl, &cmd_reload, argc, argv, options, 1, &count);
    if (r >= 0)
        return r;
    if (count > 0)
        return frontctl_misused(&cmd_reload, "there are no arguments");
    return dry ? try_dry(frontctl) : reload_or_upgrade(frontctl, "reload");
}

static int run_upgrade(struct frontctl *frontctl, int argc, char **argv)
{
    int r = command_line_arguments(frontctl, &cmd_upgrade, argc, argv, 0);
    return r >= 0 ? r : reload_or_upgrade(frontctl, "upgrade");
}

const struct command cmd_reload = {
    .name = "reload",
    .arguments = "[--dry-run]",
    .summary = "loads the config anew, as SIGHUP does, and waits for the end",
    .help =
        "How it gets on goes to standard error. Exit code 1: it came to nothing, for the reason\n"
        "that is printed, and the front serves on as before.\n"
        "--dry-run: nothing changes; what would, and which connections could not move, and why.\n",
    .run = run_reload,
};

const struct command cmd_upgrade = {
    .name = "upgrade",
    .arguments = "",
    .summary = "becomes the program on disk, as SIGUSR2 does, and waits for the end",
    .help = "As `frontctl reload`, of which it does all, too.\n",
    .run = run_upgrade,
};
