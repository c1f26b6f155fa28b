#include <string.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/gather.h"
#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

enum { ANSWER_MS = 10000 /* beyond the time that is measured */ };

/* Columns, after those of the shard and of how busy it is. */
static const char *const kinds[] = {"accepting", "reading", "workers", "writing", "left_over",
    "tls", "timers", "handover", "memory", "inspect", "other"};

static double ns(struct span answer, const char *kind)
{
    double value = 0;
    text_number(json_read_member(json_read_member(answer, "ns"), kind), &value);
    return value;
}

static void add_share(struct table *table, double part, double whole)
{
    char text[TEXT_SIZE];
    snprintf(text, sizeof(text), "%.1f %%", whole > 0 ? 100 * part / whole : 0.0);
    table_add(table, text);
}

static int print(struct span shards)
{
    static const struct table_column columns[] = {{"SHARD", true}, {"GENERATION", true},
        {"BUSY", true}, {"ACCEPTING", true}, {"READING", true}, {"WORKERS", true},
        {"WRITING", true}, {"FAN-OUT", true}, {"TLS", true}, {"TIMERS", true}, {"HAND-OVER", true},
        {"MEMORY", true}, {"INSPECT", true}, {"OTHER", true}};
    _Static_assert(ARRAY_LEN(columns) == ARRAY_LEN(kinds) + 3, "a column for each kind");
    struct table table = {.columns = columns, .ncolumns = ARRAY_LEN(columns)};
    struct span shard;
    for (size_t at = 0; json_read_next(shards, &at, &shard);) {
        struct span answer = json_read_member(shard, "answer");
        double whole = 0;
        text_number(json_read_member(answer, "whole_ns"), &whole);
        table_add_plain(&table, json_read_member(shard, "shard"));
        table_add_plain(&table, json_read_member(shard, "generation"));
        add_share(&table, whole - ns(answer, "waiting"), whole);
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
            add_share(&table, ns(answer, kinds[i]), whole);
    }
    return table_print(&table, stdout);
}

static int measure(const struct frontctl *frontctl, uint64_t seconds)
{
    static struct link link;
    struct json_writer params = {0};
    struct link_answer answer = {0};
    struct gather gather = {0};
    int r = link_open(&link, frontctl->socket, false);
    if (r != 0)
        return r;
    json_begin(&params, NULL, '{');
    json_add_number(&params, "for", seconds);
    json_end(&params, '}');
    enum link_outcome outcome = link_call(
        &link, "profile", &params, (int)seconds * 1000 + ANSWER_MS, NULL, NULL, &answer);
    r = ask_judge(&link, "profile", outcome, &answer);
    if (r == 0 && frontctl->json)
        r = ask_print_json(answer.result);
    else if (r == 0 && (r = gather_read(&gather, answer.result)) == 0)
        r = print(json_read_member(answer.result, "shards"));
    gather_free(&gather);
    link_close(&link);
    return r;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    const char *time = "5s";
    const struct command_option options[] = {{"for", &time, NULL}};
    uint64_t seconds = 0;
    int found = 0;
    int r = command_line_read(
        frontctl, &cmd_profile, argc, argv, options, ARRAY_LEN(options), &found);
    if (r < 0 && found > 0)
        r = frontctl_misused(&cmd_profile, "%s: there is nothing to say that about", argv[1]);
    if (r < 0 && (!gather_time(time, &seconds) || seconds > 60))
        r = frontctl_misused(&cmd_profile, "--for %s is no time up to 60s", time);
    return r >= 0 ? r : measure(frontctl, seconds);
}

const struct command cmd_profile = {
    .name = "profile",
    .arguments = "[--for TIME]",
    .summary = "what each shard spends its time on, measured for a while",
    .help = "  --for TIME  for so long: 5s, at most 60s\n",
    .run = run,
};
