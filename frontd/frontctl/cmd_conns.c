#include <stdlib.h>
#include <string.h>

#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/gather.h"
#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

/* Members that rows are sorted by, largest first, and the words for it. */
static const struct {
    const char *word;
    const char *member;
} sorts[] = {
    {"age", "age"},
    {"waiting", "waiting"},
    {"calls", "calls"},
    {"idle", "idle_ms"},
    {"topics", "topics"},
    {"rate", "requests_per_s"},
    {"id", "no"},
};

static const char *sort_member; /* for qsort() */

struct options {
    const char *id, *peer, *listener, *route, *topic, *protocol, *sort;
    const char *older, *younger, *idle, *waiting, *calls, *limit, *offset;
};

static uint64_t id_of(struct span row)
{
    char text[24] = "0";
    text_of(json_read_member(row, "id"), text, sizeof(text));
    return strtoull(text, NULL, 10);
}

static bool moves(struct span row)
{
    return json_is_true(json_read_member(row, "moving"));
}

static int by_id(const void *a, const void *b)
{
    const struct span *one = a;
    const struct span *two = b;
    uint64_t x = id_of(*one);
    uint64_t y = id_of(*two);
    if (x != y)
        return x < y ? -1 : 1;
    return (int)moves(*one) - (int)moves(*two);
}

static int by_member(const void *a, const void *b)
{
    const struct span *one = a;
    const struct span *two = b;
    uint64_t x = json_read_number(json_read_member(*one, sort_member), UINT64_MAX, 0);
    uint64_t y = json_read_number(json_read_member(*two, sort_member), UINT64_MAX, 0);
    return x != y ? (x > y ? -1 : 1) : by_id(a, b);
}

/* A connection that has moved while shards were asked is told of by both: it is shown once. */
static void put_together(struct gather *gather)
{
    size_t n = 0;
    gather_sort(gather, by_id);
    for (size_t i = 0; i < gather->nrows; i++) {
        if (n == 0 || id_of(gather->rows[n - 1]) != id_of(gather->rows[i]))
            gather->rows[n++] = gather->rows[i];
    }
    gather->matched -= MIN(gather->matched, (uint64_t)(gather->nrows - n));
    gather->nrows = n;
    gather_sort(gather, by_member);
}

static bool with_rates(void)
{
    return strcmp(sort_member, "requests_per_s") == 0;
}

static void print_row(struct table *table, struct span row)
{
    char text[TABLE_CELL_SIZE] = "-";
    double idle;
    char state[32] = "-";
    table_add_text(table, json_read_member(row, "id"));
    table_add_text(table, json_read_member(row, "listener"));
    char protocol[TABLE_CELL_SIZE - 8] = "-";
    text_of(json_read_member(row, "protocol"), protocol, sizeof(protocol));
    snprintf(text, sizeof(text), "%s%s", protocol,
        json_is_true(json_read_member(row, "tls")) ? "+tls" : "");
    table_add(table, text);
    table_add_text(table, json_read_member(row, "peer"));
    table_add_seconds(table, json_read_member(row, "age"));
    char seconds[TEXT_SIZE] = "-";
    if (text_number(json_read_member(row, "idle_ms"), &idle))
        text_seconds(idle / 1000, seconds);
    table_add(table, seconds);
    table_add_count(table, json_read_member(row, "calls"));
    table_add_bytes(table, json_read_member(row, "waiting"));
    table_add_count(table, json_read_member(row, "topics"));
    if (with_rates()) {
        table_add_count(table, json_read_member(row, "requests_per_s"));
        table_add_bytes(table, json_read_member(row, "bytes_per_s"));
    }
    text_of(json_read_member(row, "state"), state, sizeof(state));
    table_add(table, moves(row) ? "moving" : state);
}

static int print(const struct gather *gather, const struct gather_page *page)
{
    static const struct table_column columns[] = {{"CONNECTION", true}, {"LISTENER", false},
        {"PROTOCOL", false}, {"PEER", false}, {"AGE", true}, {"IDLE", true}, {"CALLS", true},
        {"WAITING", true}, {"TOPICS", true}, {"STATE", false}};
    static const struct table_column rated[] = {{"CONNECTION", true}, {"LISTENER", false},
        {"PROTOCOL", false}, {"PEER", false}, {"AGE", true}, {"IDLE", true}, {"CALLS", true},
        {"WAITING", true}, {"TOPICS", true}, {"REQUESTS/S", true}, {"BYTES/S", true},
        {"STATE", false}};
    struct table table = {.columns = with_rates() ? rated : columns,
        .ncolumns = with_rates() ? ARRAY_LEN(rated) : ARRAY_LEN(columns)};
    size_t end = MIN(gather->nrows, (size_t)(page->offset + page->limit));
    for (size_t i = (size_t)page->offset; i < end; i++)
        print_row(&table, gather->rows[i]);
    int r = table_print(&table, stdout);
    if (r == FRONTCTL_DONE)
        printf("\n%llu connections match, of %llu%s\n", (unsigned long long)gather->matched,
            (unsigned long long)gather->looked,
            gather->complete ? "" : "; not all were looked at in time");
    return r;
}

static int print_json(const struct gather *gather, const struct gather_page *page)
{
    struct json_writer out = {0};
    size_t end = MIN(gather->nrows, (size_t)(page->offset + page->limit));
    gather_begin_json(gather, &out);
    json_begin(&out, "conns", '[');
    for (size_t i = (size_t)page->offset; i < end; i++)
        json_add_raw(&out, NULL, gather->rows[i]);
    json_end(&out, ']');
    json_end(&out, '}');
    int r = out.failed ? FRONTCTL_FAILED
                       : ask_print_json((struct span){buf_data(&out.out), buf_len(&out.out)});
    buf_deinit(&out.out);
    return r;
}

static void add_text(struct json_writer *params, const char *key, const char *value)
{
    if (value != NULL)
        json_add_text(params, key, value);
}

/* Reads what is asked for. Returns -1, or an exit code. */
static int put_params(
    const struct options *options, const struct gather_page *page, struct json_writer *params)
{
    const struct {
        const char *key, *name, *value;
        bool (*read)(const char *text, uint64_t *ret);
    } numbers[] = {
        {"age_min", "older", options->older, gather_time},
        {"age_max", "younger", options->younger, gather_time},
        {"idle_min", "idle", options->idle, gather_time},
        {"waiting_min", "waiting", options->waiting, gather_size},
        {"calls_min", "calls", options->calls, gather_size},
    };
    json_begin(params, NULL, '{');
    add_text(params, "id", options->id);
    add_text(params, "peer", options->peer);
    add_text(params, "listener", options->listener);
    add_text(params, "route", options->route);
    add_text(params, "topic", options->topic);
    add_text(params, "protocol", options->protocol);
    add_text(params, "sort", options->sort);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uint64_t value;
        if (numbers[i].value == NULL)
            continue;
        if (!numbers[i].read(numbers[i].value, &value)) {
            buf_deinit(&params->out);
            return frontctl_misused(
                &cmd_conns, "--%s %s is no number", numbers[i].name, numbers[i].value);
        }
        json_add_number(params, numbers[i].key, value);
    }
    json_add_number(params, "limit", (uint64_t)(page->limit + page->offset));
    json_end(params, '}');
    return -1;
}

static const char *member_of(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(sorts); i++) {
        if (strcmp(word, sorts[i].word) == 0)
            return sorts[i].member;
    }
    return NULL;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    struct options o = {.sort = "age"};
    const struct command_option options[] = {
        {"id", &o.id, NULL},
        {"peer", &o.peer, NULL},
        {"listener", &o.listener, NULL},
        {"route", &o.route, NULL},
        {"topic", &o.topic, NULL},
        {"protocol", &o.protocol, NULL},
        {"older", &o.older, NULL},
        {"younger", &o.younger, NULL},
        {"idle", &o.idle, NULL},
        {"waiting", &o.waiting, NULL},
        {"calls", &o.calls, NULL},
        {"sort", &o.sort, NULL},
        {"limit", &o.limit, NULL},
        {"offset", &o.offset, NULL},
    };
    struct gather_page page;
    struct json_writer params = {0};
    struct span result;
    int found = 0;
    int r = command_line_read(
        frontctl, &cmd_conns, argc, argv, options, ARRAY_LEN(options), &found);
    if (r < 0 && found > 0)
        r = frontctl_misused(&cmd_conns, "%s: there is nothing to say that about", argv[1]);
    if (r < 0 && (sort_member = member_of(o.sort)) == NULL)
        r = frontctl_misused(&cmd_conns, "connections are not sorted by %s", o.sort);
    if (r < 0)
        r = gather_read_page(&cmd_conns, o.limit, o.offset, &page);
    if (r < 0)
        r = put_params(&o, &page, &params);
    if (r >= 0)
        return r;
    r = ask(frontctl, "conns", &params, &result);
    if (r != 0)
        return r;
    struct gather gather = {0};
    r = gather_read(&gather, result);
    if (r == 0) {
        put_together(&gather);
        r = frontctl->json ? print_json(&gather, &page) : print(&gather, &page);
    }
    gather_free(&gather);
    return r;
}

const struct command cmd_conns = {
    .name = "conns",
    .arguments = "[--peer PEER] [--topic TOPIC] [--sort age|waiting|calls|idle|topics|rate] …",
    .summary = "connections: who is there, since when, and what waits for it",
    .help = "  --id CONNECTION    this one\n"
            "  --peer PEER        an address, an address with a port, a network, or unix\n"
            "  --listener NAME    the listener that has accepted it\n"
            "  --route PATH       the route of a WebSocket, `frame` or `line` connection\n"
            "  --topic TOPIC      a topic that it has subscribed to\n"
            "  --protocol NAME    http1, http2, websocket, frame, line, new, proxy\n"
            "  --older TIME       it is there for so long at least: 90, 90s, 5m, 2h, 3d\n"
            "  --younger TIME     or at most\n"
            "  --idle TIME        nothing has moved for so long\n"
            "  --waiting BYTES    so much waits to be read by it: 4096, 64k, 1M\n"
            "  --calls N          so many of its calls are in progress\n"
            "  --sort WORD        age (the default), waiting, calls, idle, topics, rate: largest "
            "first;\n"
            "                     rate counts for a second what each asks for\n"
            "  --limit N          so many rows: 50; with the offset 1,000 at most\n"
            "  --offset N         without the first N\n",
    .run = run,
};
