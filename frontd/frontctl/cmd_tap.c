#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/gather.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

struct tap {
    bool json;
    long count; /* of lines that are wanted; 0: any number */
    long shown;
};

static double number(struct span object, const char *key)
{
    double value = 0;
    text_number(json_read_member(object, key), &value);
    return value;
}

static void print_time(double us)
{
    time_t seconds = (time_t)(us / 1e6);
    struct tm tm;
    char text[16];
    localtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%H:%M:%S", &tm);
    printf("%s.%03u", text, (unsigned)(us / 1000 - (double)seconds * 1000) % 1000);
}

static const char *seconds_of(struct span call, const char *key, char out[static TEXT_SIZE])
{
    text_seconds(number(call, key) / 1e6, out);
    return out;
}

static const char *bytes_of(struct span call, const char *key, char out[static TEXT_SIZE])
{
    text_bytes(number(call, key), out);
    return out;
}

static void print_body(struct span call, const char *key, const char *mark)
{
    char text[4096];
    if (text_of(json_read_member(call, key), text, sizeof(text)))
        printf("    %s %s\n", mark, text);
}

static void print_call(struct span call)
{
    char method[256] = "?", code[64] = "?", worker[256] = "no worker", conn[32] = "?",
         peer[128] = "";
    char whole[TEXT_SIZE], queue[TEXT_SIZE], worked[TEXT_SIZE], in[TEXT_SIZE], out[TEXT_SIZE];
    text_of(json_read_member(call, "method"), method, sizeof(method));
    text_of(json_read_member(call, "code"), code, sizeof(code));
    text_of(json_read_member(call, "worker"), worker, sizeof(worker));
    text_of(json_read_member(call, "conn"), conn, sizeof(conn));
    text_of(json_read_member(call, "peer"), peer, sizeof(peer));
    print_time(number(call, "time_us"));
    printf("  %s  %s  %s (queue %s, worker %s)  %s in, %s out  %s  conn %s %s\n", method, code,
        seconds_of(call, "whole_us", whole), seconds_of(call, "queue_us", queue),
        seconds_of(call, "worker_us", worked), bytes_of(call, "bytes_in", in),
        bytes_of(call, "bytes_out", out), worker, conn, peer);
    print_body(call, "request", ">");
    print_body(call, "answer", "<");
}

static void on_push(void *data, struct span method, struct span params)
{
    struct tap *tap = data;
    struct span call;
    struct span calls = json_read_member(json_read_member(params, "told"), "calls");
    (void)method;
    for (size_t at = 0; json_read_next(calls, &at, &call);) {
        if (tap->json)
            ask_print_json(call);
        else
            print_call(call);
        if (++tap->shown == tap->count) { /* the supervisor sees that nothing more is wanted */
            bool written = fflush(stdout) == 0;
            exit(written ? FRONTCTL_DONE : FRONTCTL_FAILED);
        }
    }
    if (fflush(stdout) != 0)
        exit(FRONTCTL_FAILED); /* a pipe that has been closed */
}

/* How many calls were left out, since they came faster than they could be told. */
static void tell_dropped(struct span result)
{
    struct span shard;
    uint64_t dropped = 0;
    uint64_t lost = json_read_number(json_read_member(result, "lost"), UINT64_MAX, 0);
    struct span shards = json_read_member(result, "shards");
    for (size_t at = 0; json_read_next(shards, &at, &shard);) {
        struct span answer = json_read_member(shard, "answer");
        dropped += json_read_number(json_read_member(answer, "dropped"), UINT64_MAX, 0);
        lost += json_read_number(json_read_member(answer, "lost"), UINT64_MAX, 0);
    }
    if (dropped > 0 || lost > 0)
        frontctl_complain("%llu calls were left out, and %llu parts of up to a tenth of a second: "
                          "more came than could be told",
            (unsigned long long)dropped, (unsigned long long)lost);
}

static int follow(const struct frontctl *frontctl, struct json_writer *params, struct tap *tap)
{
    struct link link;
    struct link_answer answer = {0};
    struct gather gather = {0};
    int r = link_open(&link, frontctl->socket, false);
    if (r != 0) {
        buf_deinit(&params->out);
        return r;
    }
    enum link_outcome outcome = link_call(&link, "tap", params, -1, on_push, tap, &answer);
    r = ask_judge(&link, "tap", outcome, &answer);
    if (r == 0)
        r = gather_read(&gather, answer.result);
    if (r == 0)
        tell_dropped(answer.result);
    gather_free(&gather);
    link_close(&link);
    return r;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    const char *conn = NULL, *route = NULL, *method = NULL, *worker = NULL;
    const char *slower = NULL, *count = NULL, *time = "60s";
    bool bodies = false, failed = false;
    const struct command_option options[] = {{"conn", &conn, NULL}, {"route", &route, NULL},
        {"method", &method, NULL}, {"worker", &worker, NULL}, {"slower", &slower, NULL},
        {"count", &count, NULL}, {"for", &time, NULL}, {"bodies", NULL, &bodies},
        {"failed", NULL, &failed}};
    struct tap tap = {0};
    uint64_t seconds;
    long slower_ms = 0;
    int found = 0;
    int r = command_line_read(frontctl, &cmd_tap, argc, argv, options, ARRAY_LEN(options), &found);
    if (r < 0 && found > 0)
        r = frontctl_misused(&cmd_tap, "%s: there is nothing to say that about", argv[1]);
    if (r < 0 && count != NULL && !command_line_number(count, 1, INT32_MAX, &tap.count))
        r = frontctl_misused(&cmd_tap, "--count %s is no number", count);
    if (r < 0 && slower != NULL && !command_line_number(slower, 0, INT32_MAX, &slower_ms))
        r = frontctl_misused(&cmd_tap, "--slower %s is no number of ms", slower);
    if (r < 0 && (!gather_time(time, &seconds) || seconds > 3600))
        r = frontctl_misused(&cmd_tap, "--for %s is no time up to 1h", time);
    if (r >= 0)
        return r;
    const struct {
        const char *key, *value;
    } texts[] = {{"conn", conn}, {"route", route}, {"method", method}, {"worker", worker}};
    struct json_writer params = {0};
    json_begin(&params, NULL, '{');
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].value != NULL)
            json_add_text(&params, texts[i].key, texts[i].value);
    }
    json_add_number(&params, "slower_ms", (uint64_t)slower_ms);
    json_add_number(&params, "count", (uint64_t)tap.count);
    json_add_number(&params, "for", seconds);
    json_add_flag(&params, "bodies", bodies);
    json_add_flag(&params, "failed", failed);
    json_end(&params, '}');
    tap.json = frontctl->json;
    return follow(frontctl, &params, &tap);
}

const struct command cmd_tap = {
    .name = "tap",
    .arguments = "[--conn N] [--route PATH] [--method PATTERN] [--worker TEXT] …",
    .summary = "follows calls as they end: their times, sizes and outcome",
    .help = "  --conn N          of one connection, as `conns` shows it\n"
            "  --route PATH      of one route\n"
            "  --method PATTERN  a method, or a prefix that ends in *\n"
            "  --worker TEXT     of workers whose address has this in it\n"
            "  --slower MS       that have taken so many ms at least\n"
            "  --failed          that have not been answered with a result\n"
            "  --bodies          with their first 1,024 bytes; secrets are masked by the names of\n"
            "                    their members (password, token, …), but not in positional params\n"
            "  --count N         ends after so many\n"
            "  --for TIME        ends after that time: 60s, at most 1h\n",
    .run = run,
};
