/*
 * A client's way: waiting in a list until there is room (at most OPENING_MAX are being opened) →
 * CONNECTING → SHAKING_HANDS (TLS only) → UPGRADING (WebSockets only) → GREETING, its first call →
 * OPEN. Whatever goes wrong on the way, or afterwards, it is closed, counted, and put into the list
 * again.
 */
#include "tests/bench/reload_client.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/list.h"
#include "tests/bench/reload_message.h"
#include "tests/bench/tls_client.h"
#include "tests/bench/ws_client.h"

enum {
    IN_SIZE = 64 * 1024,
    REST_MAX = 768,      /* of an incomplete answer or message */
    OPENING_MAX = 1000,  /* at a time, so that no accept queue is ever full */
    ANSWER_SECONDS = 10, /* a call that takes longer has failed; so has an attempt to open */
    TIME_STEPS = 8,      /* slots for the times from one power of two to the next */
    SEEN = 64,           /* how far back a message is known to have come */
};

#define SECOND      UINT64_C(1000000000)
#define RETRY_NS    (SECOND / 20) /* after an attempt that came to nothing */
#define OVERDUE_NS  (SECOND / 10) /* how often to look for what has taken too long */
#define GREETING_ID UINT64_C(0)

enum state {
    CLOSED,
    CONNECTING,
    SHAKING_HANDS,
    UPGRADING,
    GREETING,
    OPEN,
};

struct client {
    struct list node; /* in `closed` */
    int fd;           /* -1 where it is closed */
    SSL *ssl;         /* NULL: no TLS */
    enum state state;
    uint32_t topic;
    uint32_t last;  /* highest number that came */
    uint64_t seen;  /* bit i: message last - i came */
    uint64_t since; /* ns; when it began to be opened, or when it may be */
    uint64_t due;   /* ns; when the call was due that is in progress, or waits for OPEN; 0: none */
    uint64_t id;    /* of that call */
    uint32_t made;  /* calls on this connection */
    size_t have;    /* bytes in `rest` */
    uint8_t rest[REST_MAX];
};

static struct clients_config config;
static struct sockaddr_in server;
static SSL_CTX *tls; /* NULL: no TLS */
static struct clients_stats stats;
static uint64_t call_times[64 * TIME_STEPS]; /* how many calls took so long: see time_slot() */
static struct client *clients;
static struct list closed;
static size_t nopening;
static size_t ncalling; /* clients with a call in progress */
static size_t next;     /* connections that are to make a call, in turn */
static uint64_t last_id;
static uint64_t overdue_at; /* ns */
static int ep;
static uint8_t in[IN_SIZE];

static void watch(struct client *c, int op, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};

    if (epoll_ctl(ep, op, c->fd, &ev) < 0)
        ws_die("epoll_ctl", errno);
}

static void end_call(struct client *c)
{
    if (c->due > 0)
        ncalling--;
    c->due = 0;
}

/* Closes it, and has it opened again from `when` on. */
static void shut(struct client *c, uint64_t when)
{
    if (c->state == OPEN) {
        stats.open--;
        if (c->due > 0)
            stats.failed++;
        end_call(c);
    } else {
        nopening--;
    }
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
    c->fd = -1;
    c->state = CLOSED;
    c->have = 0;
    c->since = when;
    list_append(&closed, &c->node);
}

/* It was the server. A call that waits for the connection to be open goes on waiting. */
static void lose(struct client *c)
{
    uint64_t now = reload_now_ns();

    if (c->state == OPEN) {
        stats.closed++;
        shut(c, now);
    } else {
        stats.refused++;
        shut(c, now + RETRY_NS);
    }
}

/* What is sent is small, and the other side has answered all that came before: it fits. */
static int send_whole(struct client *c, const uint8_t *p, size_t n)
{
    if (c->ssl != NULL)
        return tls_client_send(c->ssl, p, n);

    ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

    return sent == (ssize_t)n ? 0 : -EPIPE;
}

static size_t call_text(const struct client *c, uint64_t id, char out[static WIRE_TEXT_MAX])
{
    if (id == GREETING_ID && config.kind == WIRE_WEBSOCKET)
        return (size_t)snprintf(out, WIRE_TEXT_MAX,
            "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"" RELOAD_SUBSCRIBE
            "\",\"params\":{\"topic\":%" PRIu32 "}}",
            c->topic);
    return (size_t)snprintf(out, WIRE_TEXT_MAX,
        "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"method\":\"demo.echo\",\"params\":[%" PRIu64
        "]}",
        id, id);
}

static bool is_answer(uint64_t id, const char *text, size_t n)
{
    char wanted[WIRE_TEXT_MAX];
    int length;

    if (id == GREETING_ID && config.kind == WIRE_WEBSOCKET)
        length = snprintf(wanted, sizeof(wanted), "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":true}");
    else
        length = snprintf(wanted, sizeof(wanted),
            "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"result\":[%" PRIu64 "]}", id, id);
    return n == (size_t)length && memcmp(text, wanted, n) == 0;
}

static void send_call(struct client *c, uint64_t id)
{
    uint8_t out[WIRE_MAX];
    char text[WIRE_TEXT_MAX];
    size_t n = call_text(c, id, text);

    if (send_whole(c, out, wire_call(config.kind, config.path, c->made++, text, n, out)) < 0)
        lose(c);
}

static void greet(struct client *c)
{
    c->state = GREETING;
    send_call(c, GREETING_ID);
}

static void begin_call(struct client *c)
{
    c->id = ++last_id;
    send_call(c, c->id);
}

/* The messages between the last one and that number have not come. */
static void skip_to(struct client *c, uint32_t number)
{
    uint32_t ahead = number - c->last;

    c->seen = ahead < SEEN ? c->seen << ahead : 0;
    c->last = number;
    stats.lost += ahead;
}

static void take_push(struct client *c, const char *text)
{
    uint32_t number = reload_message_number(text);
    uint64_t took = reload_now_ns() - reload_message_time(text);

    stats.push_longest = MAX(stats.push_longest, took);
    if (reload_message_topic(text) != c->topic) {
        stats.strange++;
        return;
    }
    if (number > c->last)
        skip_to(c, number);
    else
        stats.late++;
    if (c->last - number >= SEEN || c->seen >> (c->last - number) & 1) {
        stats.doubled++;
        return;
    }
    c->seen |= UINT64_C(1) << (c->last - number);
    stats.lost--;
    stats.pushes++;
}

static void take_greeting(struct client *c, const char *text, size_t n)
{
    if (!is_answer(GREETING_ID, text, n)) {
        lose(c);
        return;
    }
    c->state = OPEN;
    nopening--;
    stats.open++;
    if (c->due > 0)
        begin_call(c);
}

/* ns >= TIME_STEPS */
static size_t time_slot(uint64_t ns)
{
    unsigned power = 63 - (unsigned)__builtin_clzll(ns);

    return power * TIME_STEPS + (ns >> (power - 3)) % TIME_STEPS;
}

static void note_time(uint64_t ns)
{
    stats.call_sum += ns;
    stats.call_longest = MAX(stats.call_longest, ns);
    call_times[time_slot(MAX(ns, (uint64_t)TIME_STEPS))]++;
}

uint64_t clients_call_p99(void)
{
    uint64_t all = 0, seen = 0;
    size_t slot = 0;

    for (size_t i = 0; i < ARRAY_LEN(call_times); i++)
        all += call_times[i];
    while (slot + 1 < ARRAY_LEN(call_times) && (seen += call_times[slot]) * 100 < all * 99)
        slot++;
    return all == 0 ? 0 : (TIME_STEPS + slot % TIME_STEPS + 1) << (slot / TIME_STEPS) >> 3;
}

static void take_answer(struct client *c, const char *text, size_t n)
{
    uint64_t took = reload_now_ns() - c->due;

    if (c->due == 0) {
        stats.strange++;
        return;
    }
    if (is_answer(c->id, text, n)) {
        stats.calls++;
        note_time(took);
    } else {
        stats.failed++;
    }
    end_call(c);
}

/* Returns the bytes that were used, 0 where more have to come, -1 for nonsense. */
static ssize_t take(struct client *c, const uint8_t *p, size_t n)
{
    static const char push[] = "{\"number\":\"";
    const char *text = NULL;
    uint8_t out[WIRE_MAX];
    size_t length = 0;
    ssize_t r;

    if (c->state == UPGRADING) {
        r = wire_read_upgraded(p, n);
        if (r > 0)
            greet(c);
        return r;
    }
    r = wire_read(config.kind, p, n, &text, &length);
    if (r <= 0)
        return r;
    if (text == NULL) {
        size_t owed = wire_answer(config.kind, p, out);
        if (owed > 0 && send_whole(c, out, owed) < 0)
            lose(c);
        return r;
    }
    if (length == RELOAD_BYTES && memcmp(text, push, sizeof(push) - 1) == 0)
        take_push(c, text);
    else if (c->state == GREETING)
        take_greeting(c, text, length);
    else
        take_answer(c, text, length);
    return r;
}

/* Reads once. Returns whether it is to be tried again. */
static bool receive_some(struct client *c)
{
    size_t n = c->have, used = 0;
    ssize_t r = 0, got;

    memcpy(in, c->rest, n);
    got = c->ssl != NULL ? tls_client_recv(c->ssl, in + n, sizeof(in) - n)
                         : recv(c->fd, in + n, sizeof(in) - n, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return false;
    if (got <= 0) {
        lose(c);
        return false;
    }
    n += (size_t)got;
    while (used < n && (r = take(c, in + used, n - used)) > 0) {
        used += (size_t)r;
        if (c->state == CLOSED)
            return false;
    }
    if (r < 0 || n - used > sizeof(c->rest)) {
        lose(c);
        return false;
    }
    c->have = n - used;
    memcpy(c->rest, in + used, c->have);
    return c->ssl != NULL; /* which may have read more than it has returned */
}

static void receive(struct client *c)
{
    while (receive_some(c))
        ;
}

static void begin(struct client *c)
{
    uint8_t out[WIRE_MAX];

    size_t n = wire_begin(config.kind, out);
    c->made = 0;
    if (n > 0 && send_whole(c, out, n) < 0) {
        lose(c);
        return;
    }
    if (config.kind != WIRE_WEBSOCKET) {
        greet(c);
        return;
    }
    c->state = UPGRADING;
    if (send_whole(c, out, wire_upgrade(config.path, out)) < 0)
        lose(c);
}

static void shake_hands(struct client *c)
{
    int r = tls_client_shake_hands(c->ssl);

    if (r < 0)
        lose(c);
    else if (r > 0)
        begin(c);
}

static void connected(struct client *c)
{
    int error = 0;
    socklen_t n = sizeof(error);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error != 0) {
        lose(c);
        return;
    }
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    if (tls == NULL) {
        begin(c);
        return;
    }
    c->state = SHAKING_HANDS;
    c->ssl = tls_client_new(tls, c->fd);
    shake_hands(c);
}

static void open_client(struct client *c, uint64_t now)
{
    /* Thousands of connections in TIME_WAIT would weigh on what is measured next. */
    struct linger reset = {.l_onoff = 1};
    int one = 1, r;

    list_remove(&c->node);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        ws_die("socket", errno);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->state = CONNECTING;
    c->since = now;
    nopening++;
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
    r = connect(c->fd, (struct sockaddr *)&server, sizeof(server));
    if (r < 0 && errno != EINPROGRESS)
        lose(c);
}

static void give_up_overdue(uint64_t now)
{
    for (size_t i = 0; i < config.count; i++) {
        struct client *c = &clients[i];

        if (c->due > 0 && now > c->due + ANSWER_SECONDS * SECOND) {
            if (c->state == OPEN) {
                shut(c, now);
            } else {
                stats.failed++;
                end_call(c);
            }
        }
        if (c->state != OPEN && c->state != CLOSED && now > c->since + ANSWER_SECONDS * SECOND)
            lose(c);
    }
}

void clients_init(const struct clients_config *wanted)
{
    config = *wanted;
    server = ws_address(config.address);
    if (config.ca != NULL)
        tls = tls_client_context(config.ca, config.kind == WIRE_HTTP2);
    list_init(&closed);
    clients = calloc(config.count, sizeof(clients[0]));
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || ep < 0)
        ws_die("clients", errno);
    for (size_t i = 0; i < config.count; i++) {
        clients[i].fd = -1;
        clients[i].topic = (uint32_t)(i % config.topics);
        list_append(&closed, &clients[i].node);
    }
}

int clients_epoll(void)
{
    return ep;
}

void clients_event(void *data, uint32_t events)
{
    struct client *c = data;

    (void)events; /* an error shows in what is tried next */
    if (c->state == CONNECTING)
        connected(c);
    else if (c->state == SHAKING_HANDS)
        shake_hands(c);
    else if (c->state != CLOSED)
        receive(c);
}

void clients_tick(uint64_t now)
{
    list_for_each_safe (node, &closed) {
        struct client *c = container_of(node, struct client, node);

        if (nopening == OPENING_MAX)
            break;
        if (c->since <= now)
            open_client(c, now);
    }
    if (now < overdue_at)
        return;
    overdue_at = now + OVERDUE_NS;
    give_up_overdue(now);
}

bool clients_call(uint64_t due)
{
    struct client *c;

    if (ncalling == config.count) {
        if (reload_now_ns() <= due + ANSWER_SECONDS * SECOND)
            return false;
        stats.failed++;
        return true;
    }
    do {
        c = &clients[next];
        next = (next + 1) % config.count;
    } while (c->due > 0);
    c->due = due;
    ncalling++;
    if (c->state == OPEN)
        begin_call(c);
    return true;
}

bool clients_all_quiet(void)
{
    return stats.open == config.count && ncalling == 0;
}

uint64_t clients_missing(uint64_t published, bool count)
{
    uint64_t missing = 0;

    if (config.kind != WIRE_WEBSOCKET)
        return 0;
    for (size_t i = 0; i < config.count; i++) {
        uint32_t last = reload_last(published, config.topics, clients[i].topic);

        if (last <= clients[i].last)
            continue;
        missing += last - clients[i].last;
        if (count)
            skip_to(&clients[i], last);
    }
    return missing;
}

const struct clients_stats *clients_stats(void)
{
    return &stats;
}

void clients_restart_clocks(void)
{
    stats.call_longest = stats.call_sum = stats.push_longest = 0;
    memset(call_times, 0, sizeof(call_times));
}
