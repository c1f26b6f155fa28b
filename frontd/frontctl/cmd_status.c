#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/fact.h"
#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

static int print_shards(struct span shards)
{
    static const struct table_column columns[] = {{"SHARD", true}, {"GENERATION", true},
        {"STATE", false}, {"PID", true}, {"CONNECTIONS", true}};
    struct table table = {.columns = columns, .ncolumns = ARRAY_LEN(columns)};
    struct span shard;
    for (size_t at = 0; json_read_next(shards, &at, &shard);) {
        table_add_count(&table, json_read_member(shard, "shard"));
        table_add_count(&table, json_read_member(shard, "generation"));
        table_add_text(&table, json_read_member(shard, "state"));
        table_add_plain(&table, json_read_member(shard, "pid"));
        table_add_count(&table, json_read_member(shard, "connections"));
    }
    return table_print(&table, stdout);
}

/* A line for each name; none where there is none. */
static void fact_names(const char *what, struct span names)
{
    struct span name;
    for (size_t at = 0; json_read_next(names, &at, &name);)
        fact_text(what, name);
}

static void fact_listeners(struct span listeners)
{
    struct span listener;
    for (size_t at = 0; json_read_next(listeners, &at, &listener);) {
        char name[128] = "";
        char address[256] = "";
        char protocol[32] = "";
        char line[512];
        text_of(json_read_member(listener, "name"), name, sizeof(name));
        text_of(json_read_member(listener, "address"), address, sizeof(address));
        text_of(json_read_member(listener, "protocol"), protocol, sizeof(protocol));
        bool tls = json_is_true(json_read_member(listener, "tls"));
        snprintf(line, sizeof(line), "%s: %s, %s%s", name, address, protocol, tls ? ", TLS" : "");
        fact_put("listener", line);
    }
}

static void print_reload(struct span reload)
{
    char kind[32] = "reload";
    char outcome[32] = "";
    char reason[1024] = "";
    char text[1600];
    char took[TEXT_SIZE] = "-";
    double seconds;
    if (!text_of(json_read_member(reload, "outcome"), outcome, sizeof(outcome)))
        return;
    text_of(json_read_member(reload, "kind"), kind, sizeof(kind));
    text_of(json_read_member(reload, "reason"), reason, sizeof(reason));
    if (text_number(json_read_member(reload, "seconds"), &seconds))
        text_seconds(seconds, took);
    snprintf(text, sizeof(text), "%s, %s, in %s%s%s", kind, outcome, took,
        reason[0] == '\0' ? "" : ": ", reason);
    fact_put("last reload", text);
    fact_count("  moved", json_read_member(reload, "moved"));
    fact_count("  did not move", json_read_member(reload, "stayed"));
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    struct span status;
    int r = command_line_arguments(frontctl, &cmd_status, argc, argv, 0);
    if (r >= 0)
        return r;
    r = ask(frontctl, "status", NULL, &status);
    if (r != 0 || frontctl->json)
        return r != 0 ? r : ask_print_json(status);
    fact_text("version", json_read_member(status, "version"));
    fact_plain("pid", json_read_member(status, "pid"));
    fact_text("state", json_read_member(status, "state"));
    fact_seconds("uptime", json_read_member(status, "uptime"));
    fact_plain("generation", json_read_member(status, "generation"));
    fact_count("connections", json_read_member(status, "connections"));
    fact_count("calls in progress", json_read_member(status, "calls_in_progress"));
    struct span memory = json_read_member(status, "memory");
    fact_bytes("memory of shards", json_read_member(memory, "shards"));
    fact_bytes("  of supervisor", json_read_member(memory, "supervisor"));
    struct span config = json_read_member(status, "config");
    fact_text("config", json_read_member(config, "path"));
    fact_seconds("  loaded since", json_read_member(config, "age"));
    fact_names("paused", json_read_member(status, "paused"));
    fact_names("drained", json_read_member(status, "drained"));
    fact_listeners(json_read_member(status, "listeners"));
    print_reload(json_read_member(status, "last_reload"));
    putchar('\n');
    return print_shards(json_read_member(status, "shards"));
}

const struct command cmd_status = {
    .name = "status",
    .arguments = "",
    .summary = "the front as a whole: its shards, listeners, connections, the last reload",
    .help = "",
    .run = run,
};
