/*
 * `conns`: begin() reads the filters → where rates are wanted, they are counted for a while → each
 * step looks at some places of the slab of clients, and keeps the best of those that pass → the
 * rest of the steps write them. A connection that comes or goes meanwhile is in the answer or not;
 * none is in it twice. One that is on its way to this shard is left to the shard that it comes
 * from, which says that it moves.
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/inspect/best.h"
#include "frontd/shard/inspect/params.h"
#include "frontd/shard/inspect/question.h"
#include "frontd/shard/inspect/rates.h"
#include "frontd/shard/session/duplex.h"

enum { MEASURE_MS = 1000, MEASURE_MAX_MS = 10000 };

enum sort { SORT_AGE, SORT_WAITING, SORT_CALLS, SORT_IDLE, SORT_TOPICS, SORT_ID, SORT_RATE };

static const char *const sorts[] = {"age", "waiting", "calls", "idle", "topics", "id", "rate"};

static const char *const protocols[SESSIONS] = {
    [SESSION_HTTP1] = "http1",
    [SESSION_WEBSOCKET] = "websocket",
    [SESSION_FRAME] = "frame",
    [SESSION_LINE] = "line",
    [SESSION_HTTP2] = "http2",
    [SESSION_FIRST] = "new",
    [SESSION_PROXY] = "proxy",
};

static const char *const states[CLIENT_STATES] = {
    [CLIENT_OPEN] = "open",
    [CLIENT_HALF_CLOSED] = "half_closed",
    [CLIENT_ENDING] = "ending",
    [CLIENT_LINGERING] = "lingering",
    [CLIENT_DOOMED] = "closing",
    [CLIENT_CLOSED] = "closing",
};

struct row {
    uint64_t id;
    uint64_t key; /* what it is sorted by: the largest first */
    const struct conf_listener *listener;
    const struct conf_route *route; /* of a duplex connection; NULL */
    struct peer peer;
    int64_t age;      /* s; -1: not known */
    uint64_t idle;    /* ms */
    uint64_t waiting; /* bytes */
    uint32_t held_back;
    uint32_t calls;
    uint32_t topics;
    uint32_t requests; /* that have ended while it was measured, with their calls and bytes */
    uint32_t ended;
    uint64_t bytes;
    uint8_t session;
    uint8_t state;
    bool tls;
    bool moving;
    bool reads;
    bool starved;
};

/* What connections have to be, to be in the answer; 0 and NULL: anything. */
struct filter {
    uint64_t id;
    char *peer;
    struct peer_network network;
    uint16_t port; /* 0: any */
    char *listener;
    char *route;
    char *topic;
    unsigned protocol; /* SESSIONS: any */
    uint64_t age_min;  /* s */
    uint64_t age_max;
    uint64_t idle_min; /* s */
    uint64_t waiting_min;
    uint64_t calls_min;
};

struct conns {
    struct filter filter;
    unsigned sort;     /* enum sort */
    bool anonymous;    /* whose they are is not told */
    uint64_t measure;  /* ms: for so long it is counted what each asks for; 0: it is not */
    uint64_t measured; /* ms: for how long it was */
    struct rates rates;
    struct slab_walk walk;
    struct best best;
    uint64_t looked;
    uint64_t matched;
    uint32_t written;
    uint64_t began; /* ms: the walk */
    bool walking;
    bool walked;
    bool complete;
};

static const struct subscription *subscriptions_of(const struct client *client)
{
    return client_is_duplex(client) ? client->duplex->subscriptions : NULL;
}

static bool peer_fits(const struct filter *filter, const struct client *client)
{
    struct peer peer = client_peer(client);
    return filter->peer == NULL || ((filter->port == 0 || filter->port == peer.port) &&
                                       peer_is_in(&peer, &filter->network, 1));
}

static const struct conf_route *route_of(const struct client *client)
{
    return client_is_duplex(client) ? client->duplex->route : NULL;
}

static uint64_t idle_of(const struct client *client)
{
    uint64_t now = ctx_now(client->ctx);
    return now - MIN(now, (uint64_t)client->active_at);
}

/* The cheap ones first. */
static bool fits(const struct filter *filter, const struct client *client)
{
    int64_t age = client_age(client);
    const struct conf_route *route = route_of(client);
    if (filter->id != 0 && filter->id != client->conn.id)
        return false;
    if (filter->protocol != SESSIONS && filter->protocol != client->session)
        return false;
    if ((filter->age_min > 0 && age < (int64_t)filter->age_min) ||
        (filter->age_max > 0 && (age < 0 || age > (int64_t)filter->age_max)))
        return false;
    if (idle_of(client) < filter->idle_min * 1000 || client->calls < filter->calls_min ||
        client_waiting(client) < filter->waiting_min)
        return false;
    if (filter->listener != NULL && strcmp(filter->listener, client_listener(client)->name) != 0)
        return false;
    if (filter->route != NULL && (route == NULL || strcmp(filter->route, route->path) != 0))
        return false;
    return peer_fits(filter, client) &&
           (filter->topic == NULL || topics_has(subscriptions_of(client),
                                         (struct span){filter->topic, strlen(filter->topic)}));
}

static uint64_t key_of(enum sort sort, const struct row *row)
{
    switch (sort) {
    case SORT_AGE: return (uint64_t)(row->age + 1);
    case SORT_WAITING: return row->waiting;
    case SORT_CALLS: return row->calls;
    case SORT_IDLE: return row->idle;
    case SORT_TOPICS: return row->topics;
    case SORT_RATE: return row->requests;
    case SORT_ID: break;
    }
    return 0;
}

static int order(const void *a, const void *b, const void *by)
{
    const struct row *one = a;
    const struct row *two = b;
    (void)by;
    if (one->key != two->key)
        return one->key > two->key ? -1 : 1;
    return one->id < two->id ? -1 : one->id > two->id;
}

static int keep(struct conns *conns, const struct client *client)
{
    struct row row = {
        .id = client->conn.id,
        .listener = client_listener(client),
        .route = route_of(client),
        .peer = client_peer(client),
        .age = client_age(client),
        .idle = idle_of(client),
        .waiting = client_waiting(client),
        .held_back = client->state == CLIENT_LINGERING ? 0 : client->held_back,
        .calls = client->calls,
        .session = client->session,
        .state = client->state,
        .tls = client_transport(client) != NULL,
        .moving = client->moving,
        .reads = client->reads,
        .starved = client->starved,
    };
    const struct rate *rate = rates_of(&conns->rates, row.id);
    if (rate != NULL) {
        row.requests = rate->requests;
        row.ended = rate->calls;
        row.bytes = rate->bytes;
    }
    row.topics = topics_count(subscriptions_of(client));
    row.key = key_of((enum sort)conns->sort, &row);
    void *kept;
    return best_offer(&conns->best, &row, &kept);
}

/* Looks at some places. Returns 0 or -ENOMEM. */
static int walk(struct question *question, struct conns *conns)
{
    for (unsigned i = 0; i < QUESTION_STEP; i++) {
        const struct client *client = slab_next(&conns->walk);
        if (client == NULL) {
            conns->complete = conns->walked = true;
            return 0;
        }
        if (client->ctx != question->ctx || client->arriving || client->state >= CLIENT_DOOMED)
            continue; /* a free place, or not a connection of this shard (any more) */
        conns->looked++;
        if (!fits(&conns->filter, client))
            continue;
        conns->matched++;
        if (keep(conns, client) < 0)
            return -ENOMEM;
    }
    conns->walked = ctx_now(question->ctx) - conns->began >= QUESTION_WALK_MS;
    return 0;
}

/* Waits while it is counted what each connection asks for. Returns whether that is over. */
static bool measure(struct question *question, struct conns *conns)
{
    uint64_t now = ctx_now(question->ctx);
    uint64_t until = question->asked + conns->measure;
    if (now < until) {
        question->at = until;
        return false;
    }
    if (conns->rates.all != NULL)
        rates_stop(&conns->rates, question->ctx);
    conns->measured = conns->measure > 0 ? MAX(now - question->asked, 1ULL) : 0;
    conns->began = now;
    question->at = 0;
    slab_walk(&question->ctx->clients, &conns->walk);
    return true;
}

static void add_rate(struct json_writer *writer, const char *key, uint64_t count, uint64_t ms)
{
    json_add_number(writer, key, (count * 1000 + ms / 2) / ms);
}

static void write_row(struct json_writer *writer, const struct row *row, const struct conns *conns)
{
    const uint64_t measured = conns->measured;
    char text[PEER_TEXT_SIZE];
    json_begin(writer, NULL, '{');
    snprintf(text, sizeof(text), "%" PRIu64, row->id);
    json_add_text(writer, "id", text); /* over 2^53, which many readers of JSON take no number of */
    json_add_text(writer, "listener", row->listener->name);
    if (row->route != NULL)
        json_add_text(writer, "route", row->route->path);
    json_add_text(writer, "protocol", protocols[row->session]);
    json_add_flag(writer, "tls", row->tls);
    peer_text(&row->peer, text);
    if (!conns->anonymous)
        json_add_text(writer, "peer", text);
    json_add_text(writer, "state", states[row->state]);
    if (row->age >= 0)
        json_add_integer(writer, "age", row->age);
    json_add_number(writer, "idle_ms", row->idle);
    json_add_number(writer, "calls", row->calls);
    json_add_number(writer, "waiting", row->waiting);
    if (row->waiting > 0) /* active_at is when it has taken something last: client_in.c */
        json_add_number(writer, "stalled_ms", row->idle);
    if (measured > 0) {
        add_rate(writer, "requests_per_s", row->requests, measured);
        add_rate(writer, "calls_per_s", row->ended, measured);
        add_rate(writer, "bytes_per_s", row->bytes, measured);
    }
    json_add_number(writer, "held_back", row->held_back);
    json_add_number(writer, "topics", row->topics);
    json_add_flag(writer, "read", row->reads);
    if (row->starved)
        json_add_flag(writer, "starved", true);
    if (row->moving)
        json_add_flag(writer, "moving", true);
    json_end(writer, '}');
}

static void begin_answer(struct question *question, struct conns *conns)
{
    struct json_writer *writer = &question->answer;
    slab_stop(&conns->walk);
    best_sort(&conns->best);
    json_begin(writer, NULL, '{');
    json_add_number(writer, "looked", conns->looked);
    json_add_number(writer, "matched", conns->matched);
    json_add_flag(writer, "complete", conns->complete && !conns->rates.full);
    json_begin(writer, "rows", '[');
}

static enum question_step step(struct question *question)
{
    struct conns *conns = question_own(question);
    struct json_writer *writer = &question->answer;
    if (!conns->walking && !(conns->walking = measure(question, conns)))
        return QUESTION_WAITS;
    if (!conns->walked) {
        if (walk(question, conns) < 0)
            conns->walked = true; /* what is known is told: it is not `complete` */
        if (conns->walked)
            begin_answer(question, conns);
        return QUESTION_MORE;
    }
    for (unsigned i = 0; i < QUESTION_STEP && conns->written < conns->best.count; i++) {
        if (buf_len(&writer->out) > QUESTION_TEXT_MAX)
            conns->best.count = conns->written;
        else
            write_row(writer, best_row(&conns->best, conns->written++), conns);
    }
    if (conns->written < conns->best.count)
        return QUESTION_MORE;
    json_end(writer, ']');
    json_end(writer, '}');
    return QUESTION_ANSWERED;
}

/* A network, an address, or an address with a port: "192.0.2.7:80", "[::1]:80". */
static int read_peer(struct question *question, struct filter *filter)
{
    char address[PEER_TEXT_SIZE];
    const char *text = filter->peer;
    if (text == NULL)
        return 0;
    const char *colon = strrchr(text, ':');
    bool bracket = text[0] == '[' && colon != NULL && colon > text && colon[-1] == ']';
    bool ported = bracket || (colon != NULL && colon == strchr(text, ':') && colon[1] != '\0');
    size_t n = ported ? (size_t)(colon - text) : strlen(text);
    if (ported) {
        char *end;
        unsigned long port = strtoul(colon + 1, &end, 10);
        filter->port = *end == '\0' && port <= UINT16_MAX ? (uint16_t)port : 0;
        if (filter->port == 0)
            goto wrong;
    }
    if (n >= sizeof(address) || n < 2)
        goto wrong;
    snprintf(address, sizeof(address), "%.*s", (int)(bracket ? n - 2 : n), text + bracket);
    if (strcmp(address, "unix:") == 0)
        address[4] = '\0';
    if (peer_network_parse(address, &filter->network) == NULL)
        return 0;
wrong:
    question->problem = "a peer is an address, an address with a port, a network or `unix`";
    return -EINVAL;
}

static int read_filter(struct question *question, struct span params, struct filter *filter)
{
    const struct {
        const char *key;
        char **ret;
    } texts[] = {
        {"peer", &filter->peer},
        {"listener", &filter->listener},
        {"route", &filter->route},
        {"topic", &filter->topic},
    };
    const struct {
        const char *key;
        uint64_t *ret;
    } numbers[] = {
        {"age_min", &filter->age_min},
        {"age_max", &filter->age_max},
        {"idle_min", &filter->idle_min},
        {"waiting_min", &filter->waiting_min},
        {"calls_min", &filter->calls_min},
    };
    int r = params_conn(question, params, "id", &filter->id);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++)
        r = params_text(question, params, texts[i].key, texts[i].ret);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(numbers); i++)
        r = params_number(question, params, numbers[i].key, UINT32_MAX, numbers[i].ret);
    if (r == 0)
        r = params_word(
            question, params, "protocol", protocols, ARRAY_LEN(protocols), &filter->protocol);
    return r == 0 ? read_peer(question, filter) : r;
}

static int begin(struct question *question, struct span params)
{
    struct conns *conns = question_own(question);
    uint64_t limit = QUESTION_ROWS;
    conns->filter.protocol = SESSIONS;
    conns->anonymous = params_flag(params, "anonymous");
    int r = read_filter(question, params, &conns->filter);
    if (r == 0)
        r = params_word(question, params, "sort", sorts, ARRAY_LEN(sorts), &conns->sort);
    if (r == 0)
        r = params_number(question, params, "limit", QUESTION_ROWS_MAX, &limit);
    if (r < 0)
        return r;
    conns->measure = conns->sort == SORT_RATE ? MEASURE_MS : 0;
    r = params_number(question, params, "measure_ms", MEASURE_MAX_MS, &conns->measure);
    if (r < 0)
        return r;
    best_init(&conns->best, sizeof(struct row), MAX((uint32_t)limit, 1U), order, NULL);
    return conns->measure > 0 ? rates_start(&conns->rates, question->ctx) : 0;
}

static void end(struct question *question)
{
    struct conns *conns = question_own(question);
    mem_free(conns->filter.peer);
    mem_free(conns->filter.listener);
    mem_free(conns->filter.route);
    mem_free(conns->filter.topic);
    slab_stop(&conns->walk);
    rates_deinit(&conns->rates, question->ctx);
    best_deinit(&conns->best);
}

const struct question_ops conns_question = {
    .size = sizeof(struct conns),
    .begin = begin,
    .step = step,
    .end = end,
};
