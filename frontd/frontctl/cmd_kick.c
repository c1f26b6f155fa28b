#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

enum { TRIES = 20, PAUSE_US = 250000 }; /* while the connection moves between shards */

/* What has become of it: the best of what shards say. */
static const char *outcome_of(struct span result)
{
    static const char *const outcomes[] = {"kicked", "moving", "not_found"};
    size_t best = ARRAY_LEN(outcomes);
    struct span shard;
    struct span shards = json_read_member(result, "shards");
    for (size_t at = 0; json_read_next(shards, &at, &shard);) {
        char text[32] = "";
        text_of(json_read_member(json_read_member(shard, "answer"), "outcome"), text, sizeof(text));
        for (size_t i = 0; i < best; i++) {
            if (strcmp(text, outcomes[i]) == 0)
                best = i;
        }
    }
    if (best == 2 && json_read_count(json_read_member(result, "silent")) > 0)
        return "unknown"; /* a shard that has it may be silent */
    return best == ARRAY_LEN(outcomes) ? "unknown" : outcomes[best];
}

/* Returns 0 with *ret_outcome, a static text, or an exit code. */
static int kick(struct link *link, const char *conn, const char **ret_outcome)
{
    struct json_writer params = {0};
    struct link_answer answer = {0};
    json_begin(&params, NULL, '{');
    json_add_text(&params, "id", conn);
    json_end(&params, '}');
    enum link_outcome outcome = link_call(
        link, "kick", &params, LINK_ANSWER_MS, NULL, NULL, &answer);
    int r = ask_judge(link, "kick", outcome, &answer);
    if (r == 0)
        *ret_outcome = outcome_of(answer.result);
    return r;
}

static int finish(const struct frontctl *frontctl, const char *conn, const char *outcome)
{
    if (frontctl->json)
        printf("{\"outcome\":\"%s\"}\n", outcome);
    if (strcmp(outcome, "kicked") == 0) {
        if (!frontctl->json)
            printf("connection %s is closed\n", conn);
        return FRONTCTL_DONE;
    }
    if (strcmp(outcome, "not_found") == 0) {
        frontctl_complain("there is no connection %s", conn);
        return FRONTCTL_REFUSED;
    }
    frontctl_complain(strcmp(outcome, "moving") == 0
                          ? "connection %s is on its way between shards, and stays so"
                          : "it is not known whether there is a connection %s: shards are silent",
        conn);
    return FRONTCTL_FAILED;
}

/* A number of 64 bits, in digits alone; 0 is none. */
static bool is_number(const char *text)
{
    errno = 0;
    return text[strspn(text, "0123456789")] == '\0' && strtoull(text, NULL, 10) != 0 && errno == 0;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    int r = command_line_arguments(frontctl, &cmd_kick, argc, argv, 1);
    if (r >= 0)
        return r;
    const char *conn = argv[1];
    if (!is_number(conn))
        return frontctl_misused(&cmd_kick, "%s is no connection's number", conn);
    struct link link;
    r = link_open(&link, frontctl->socket, false);
    if (r != 0)
        return r;
    const char *outcome = "moving";
    for (unsigned i = 0; r == 0 && i < TRIES && strcmp(outcome, "moving") == 0; i++) {
        if (i > 0)
            usleep(PAUSE_US);
        r = kick(&link, conn, &outcome);
    }
    link_close(&link);
    return r == 0 ? finish(frontctl, conn, outcome) : r;
}

const struct command cmd_kick = {
    .name = "kick",
    .arguments = "CONNECTION",
    .summary = "closes one connection, in the way of its protocol",
    .help = "The connection is given by its number, as `conns` shows it. A WebSocket is closed\n"
            "with 1008, HTTP/2 with GOAWAY; its calls in progress are cancelled.\n",
    .run = run,
};
