#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/turn.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

enum { MASK = 0x55, READ_MAX = 64, PART = 5, OUT_MAX = 4096, STEPS = 500, TURNS = 50 };

/*
 * A transport whose bytes are masked. It reads more than it hands out: READ_MAX bytes at a time,
 * and PART of them for each read().
 */
struct masked {
    struct transport transport;
    char kept[READ_MAX];
    size_t nkept;
    bool stays;        /* it cannot move */
    bool asks_credit;  /* the next write waits for a byte that is no data */
    bool needs_credit; /* it does so now */
    bool asks_room;    /* the next read waits until the socket has room */
    bool needs_room;   /* it does so now */
    bool fails;        /* it is broken: read() says so */
    bool keeps_open;   /* shut() fails */
};

static unsigned alive; /* transports */
static unsigned shuts; /* calls of masked_shut() */

static struct masked *of(struct transport *transport)
{
    return container_of(transport, struct masked, transport);
}

static const struct masked *of_const(const struct transport *transport)
{
    return container_of(transport, const struct masked, transport);
}

static void mask(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] ^= MASK;
}

static int take_credit(struct masked *masked, int fd)
{
    char byte;
    if (masked->needs_credit && recv(fd, &byte, 1, 0) != 1)
        return -1;
    masked->needs_credit = false;
    return 0;
}

static ssize_t masked_read(struct transport *transport, int fd, void *room, size_t n)
{
    struct masked *masked = of(transport);
    if (masked->fails) {
        errno = EBADMSG;
        return -1;
    }
    if (masked->asks_room) {
        masked->asks_room = false;
        masked->needs_room = true;
        errno = EAGAIN;
        return -1;
    }
    masked->needs_room = false;
    if (take_credit(masked, fd) < 0)
        return -1;
    if (masked->nkept == 0) {
        ssize_t got = recv(fd, masked->kept, sizeof(masked->kept), 0);
        if (got <= 0)
            return got;
        mask(masked->kept, (size_t)got);
        masked->nkept = (size_t)got;
    }
    n = MIN(MIN(n, (size_t)PART), masked->nkept);
    memcpy(room, masked->kept, n);
    masked->nkept -= n;
    memmove(masked->kept, masked->kept + n, masked->nkept);
    return (ssize_t)n;
}

static ssize_t masked_writev(
    struct transport *transport, int fd, const struct iovec *iov, int pieces)
{
    char bytes[OUT_MAX];
    size_t n = 0;
    struct masked *masked = of(transport);
    masked->needs_credit |= masked->asks_credit;
    masked->asks_credit = false;
    if (take_credit(masked, fd) < 0)
        return -1;
    for (int i = 0; i < pieces; i++) {
        size_t part = MIN(iov[i].iov_len, sizeof(bytes) - n);
        memcpy(bytes + n, iov[i].iov_base, part);
        n += part;
    }
    mask(bytes, n);
    return send(fd, bytes, n, MSG_NOSIGNAL);
}

static uint32_t masked_wants(const struct transport *transport, uint32_t events)
{
    const struct masked *masked = of_const(transport);
    uint32_t wanted = events;
    if (masked->needs_credit && events & EPOLLOUT)
        wanted = (wanted & ~(uint32_t)EPOLLOUT) | EPOLLIN;
    if (masked->needs_room && events & EPOLLIN)
        wanted = (wanted & ~(uint32_t)EPOLLIN) | EPOLLOUT;
    return wanted;
}

static bool masked_has_bytes(const struct transport *transport)
{
    return of_const(transport)->nkept > 0;
}

static int masked_shut(struct transport *transport, int fd)
{
    struct masked *masked = of(transport);
    shuts++;
    return masked->keeps_open ? -1 : shutdown(fd, SHUT_WR);
}

static bool masked_can_move(const struct transport *transport)
{
    return !of_const(transport)->stays;
}

static void masked_save(const struct transport *transport, struct pack *pack)
{
    const struct masked *masked = of_const(transport);
    pack_bytes(pack, (struct span){masked->kept, masked->nkept});
}

static struct masked *new_masked(void);

static int masked_restore(struct transport **ret, struct ctx *ctx, int fd, struct unpack *unpack)
{
    struct span kept = unpack_bytes(unpack);
    (void)ctx, (void)fd;
    if (unpack_end(unpack) < 0 || kept.n > READ_MAX)
        return -EBADMSG;
    struct masked *masked = new_masked();
    memcpy(masked->kept, kept.p, kept.n);
    masked->nkept = kept.n;
    *ret = &masked->transport;
    return 0;
}

static void masked_free(struct transport *transport)
{
    alive--;
    mem_free(of(transport));
}

static const struct transport_ops masked_ops = {
    .read = masked_read,
    .writev = masked_writev,
    .wants = masked_wants,
    .has_bytes = masked_has_bytes,
    .shut = masked_shut,
    .can_move = masked_can_move,
    .save = masked_save,
    .restore = masked_restore,
    .free = masked_free,
};

static struct masked *new_masked(void)
{
    struct masked *masked = mem_zalloc(sizeof(*masked));
    cr_assert_not_null(masked);
    masked->transport.ops = &masked_ops;
    alive++;
    return masked;
}

static struct shardlet from, to;

static void set_up(void)
{
    shardlet_init(&from, MOVE_CONF, 0);
    shardlet_init(&to, MOVE_CONF, 1);
}

static void tear_down(void)
{
    shardlet_deinit(&from);
    shardlet_deinit(&to);
    cr_assert_eq(alive, 0u, "each is freed once");
}

TestSuite(transport, .init = set_up, .fini = tear_down);

/* The peer of a client, and what it has been answered. */
struct talk {
    struct client *client;
    struct masked *masked; /* NULL: plain */
    int peer;
    char out[OUT_MAX];
    size_t n;
};

static struct talk begin(const char *listener, bool plain)
{
    struct talk talk = {0};
    talk.client = shardlet_client(&from, listener, &talk.peer);
    if (!plain) {
        talk.masked = new_masked();
        talk.client->transport = &talk.masked->transport;
    }
    return talk;
}

static void say(struct talk *talk, struct span text)
{
    char bytes[OUT_MAX];
    memcpy(bytes, text.p, text.n);
    if (talk->masked != NULL)
        mask(bytes, text.n);
    cr_assert_eq(write(talk->peer, bytes, text.n), (ssize_t)text.n);
}

/* Gives the shard turns for all that can have been said. */
static void listen_to(struct talk *talk, struct shardlet *at)
{
    for (int i = 0; i < TURNS; i++)
        shardlet_turn(at);
    ssize_t got;
    while ((got = recv(talk->peer, talk->out + talk->n, sizeof(talk->out) - talk->n, 0)) > 0) {
        if (talk->masked != NULL)
            mask(talk->out + talk->n, (size_t)got);
        talk->n += (size_t)got;
    }
    shardlet_dash_dates(talk->out, talk->n);
}

#define H        "Host: h\r\n"
#define OPTIONS  "OPTIONS /rpc HTTP/1.1\r\n" H "\r\n"
#define LAST     "OPTIONS /rpc HTTP/1.1\r\n" H "Connection: close\r\n\r\n"
#define BAD_CALL "POST /rpc HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n{} {}"

static bool has(const struct talk *talk, const char *text)
{
    return memmem(talk->out, talk->n, text, strlen(text)) != NULL;
}

/* What is answered is what a plain connection gets. */
Test(transport, answers_are_the_same)
{
    const struct {
        const char *listener;
        struct span input;
        const char *contains;
    } rows[] = {
        {"web", SPAN(OPTIONS BAD_CALL OPTIONS), "-32700"},
        {"web", SPAN(LAST OPTIONS), "Connection: close"},
        {"web",
            SPAN(HANDSHAKE("h") WS_FRAME("\x89", "\x84", "ping") WS_FRAME("\x81", "\x82", "{}")
                    WS_FRAME("\x88", "\x82", "\x03\xe8")),
            "-32600"},
        {"lines", SPAN("{}\n[]\nx\n"), "-32700"},
        {"frames", SPAN("\0\0\0\2{}\0\0\0\0"), "-32600"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk plain = begin(rows[i].listener, true), other = begin(rows[i].listener, false);
        say(&plain, rows[i].input);
        listen_to(&plain, &from);
        say(&other, rows[i].input);
        listen_to(&other, &from);
        cr_expect(has(&plain, rows[i].contains), "row %zu: %.*s", i, (int)plain.n, plain.out);
        cr_expect(other.n == plain.n && memcmp(other.out, plain.out, plain.n) == 0, "row %zu: %.*s",
            i, (int)other.n, other.out);
        close(plain.peer);
        close(other.peer);
        shardlet_turn(&from);
    }
    cr_expect_eq(from.ctx.open, 0u);
}

/* What is pushed goes by it, too: an answer and what is in the queue behind it in one write. */
Test(transport, pushes)
{
    static const struct push_from sibling;
    struct talk talk = begin("lines", false);
    say(&talk, SPAN("{}\n"));
    listen_to(&talk, &from);
    cr_expect(has(&talk, "-32600"));
    talk.n = 0;
    for (int i = 0; i < 2; i++) {
        struct frame frame = {
            .head = {.type = FRAME_PUSH, .conn = talk.client->conn.id}, .body = SPAN("news")};
        push_handle(&from.ctx, &sibling, &frame);
    }
    listen_to(&talk, &from);
    cr_expect(talk.n == 10 && memcmp(talk.out, "news\nnews\n", 10) == 0);
    close(talk.peer);
}

/* Bytes that it has read and not handed out are read in the next turns, PART in each. */
Test(transport, has_bytes)
{
    struct talk talk = begin("web", false);
    say(&talk, SPAN(OPTIONS));
    unsigned steps = 0;
    char byte;
    do {
        shardlet_step(&from);
        cr_assert(talk.masked->nkept == 0 || turn_unfinished(&from.ctx), "the loop does not wait");
        cr_assert_lt(++steps, (unsigned)STEPS);
    } while (recv(talk.peer, &byte, 1, MSG_PEEK) < 0);
    cr_expect_geq(steps, (sizeof(OPTIONS) - 1) / PART);
    listen_to(&talk, &from);
    cr_expect(has(&talk, "HTTP/1.1 204") && !turn_unfinished(&from.ctx));
    close(talk.peer);
}

/* Nothing is read while no request may be started; then reading goes on without an event. */
Test(transport, has_bytes_while_it_is_not_read)
{
    struct talk talk = begin("web", false);
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++)
        expect_answered(&from.ctx.expect, kind, 100); /* so that calls start at once */
    from.ctx.requests_paused = true;
    say(&talk, SPAN("POST /rpc HTTP/1.1\r\n" H "Content-Length: 37\r\n\r\n"
                    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}" OPTIONS));
    listen_to(&talk, &from);
    cr_assert(talk.client->calls == 1 && talk.masked->nkept > 0 && !client_is_read(talk.client));
    from.ctx.requests_paused = false;
    client_touch(talk.client);
    listen_to(&talk, &from);
    cr_expect(talk.masked->nkept == 0 && client_is_read(talk.client));
    cr_expect(talk.client->requests.prev != talk.client->requests.next, "two requests");
    close(talk.peer);
}

/* A write that waits for input waits for that event, whether its client is read or not. */
Test(transport, write_wants_input)
{
    for (int last = 0; last < 2; last++) {
        struct talk talk = begin("web", false);
        talk.masked->asks_credit = true;
        say(&talk, last ? SPAN(LAST) : SPAN(OPTIONS));
        listen_to(&talk, &from);
        cr_assert(talk.n == 0 && talk.masked->needs_credit);
        cr_expect(client_blocked(talk.client) && client_is_read(talk.client) == !last);
        cr_expect(talk.client->events & EPOLLIN && !(talk.client->events & EPOLLOUT));
        cr_assert_eq(write(talk.peer, "c", 1), 1);
        listen_to(&talk, &from);
        cr_expect(has(&talk, "HTTP/1.1 204") && !talk.masked->needs_credit);
        cr_expect_not(client_blocked(talk.client));
        close(talk.peer);
        shardlet_turn(&from);
    }
}

/* A read that waits for room waits for that event. */
Test(transport, read_wants_room)
{
    struct talk talk = begin("web", false);
    talk.masked->asks_room = true;
    say(&talk, SPAN(OPTIONS));
    shardlet_step(&from);
    cr_assert(talk.masked->needs_room && client_is_read(talk.client));
    cr_expect(talk.client->events & EPOLLOUT && !(talk.client->events & EPOLLIN));
    listen_to(&talk, &from);
    cr_expect(has(&talk, "HTTP/1.1 204"));
    cr_expect(talk.client->events & EPOLLIN && !(talk.client->events & EPOLLOUT));
    close(talk.peer);
}

/* Its own way of ending, and an end where there is none. */
Test(transport, shut)
{
    for (int fails = 0; fails < 2; fails++) {
        struct talk talk = begin("web", false);
        char byte;
        talk.masked->keeps_open = fails;
        shuts = 0;
        say(&talk, SPAN(LAST));
        listen_to(&talk, &from);
        cr_expect(has(&talk, "HTTP/1.1 204"));
        cr_expect_eq(recv(talk.peer, &byte, 1, 0), 0);
        cr_expect_eq(shuts, fails ? 2u : 1u, "once more when it is closed at once");
        cr_expect_eq(from.ctx.open, fails ? 0u : 1u, "closed at once where it cannot be shut");
        close(talk.peer);
        shardlet_turn(&from);
        cr_expect_eq(from.ctx.open, 0u);
    }
}

/* Where it is broken its connection ends. */
Test(transport, fails)
{
    struct talk talk = begin("web", false);
    talk.masked->fails = true;
    say(&talk, SPAN(OPTIONS));
    listen_to(&talk, &from);
    cr_expect(talk.n == 0 && from.ctx.open == 0 && alive == 0);
    close(talk.peer);
}

static int move(struct talk *talk)
{
    int r = shardlet_move(&talk->client, &to);
    talk->masked = of(talk->client->transport);
    return r;
}

/* In the middle of a request, with bytes that it has not handed out. */
Test(transport, moves)
{
    const struct {
        const char *listener;
        struct span input;
        const char *contains;
    } rows[] = {
        {"web", SPAN(BAD_CALL), "-32700"},
        {"web", SPAN(HANDSHAKE("h") WS_FRAME("\x81", "\x82", "{}")), "-32600"},
    };
    to.ctx.transport = &masked_ops;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk talk = begin(rows[i].listener, false);
        say(&talk, rows[i].input);
        for (int steps = 0; steps < 3; steps++)
            shardlet_step(&from);
        cr_assert(talk.client->pending != NULL && talk.masked->nkept > 0);
        from.ctx.leaving = true; /* which takes it out of the turn's queues */
        for (unsigned steps = 0; !client_can_move(talk.client); steps++) {
            cr_assert_lt(steps, (unsigned)STEPS);
            shardlet_step(&from);
        }
        from.ctx.leaving = false;
        cr_assert(talk.masked->nkept > 0);
        cr_assert_eq(move(&talk), 0);
        listen_to(&talk, &from);
        cr_assert(talk.n == 0 && from.ctx.open == 0 && alive == 1);
        listen_to(&talk, &to);
        cr_expect(has(&talk, rows[i].contains), "%.*s", (int)talk.n, talk.out);
        close(talk.peer);
        shardlet_turn(&to);
        cr_expect_eq(to.ctx.open, 0u);
    }
}

Test(transport, cannot_move)
{
    struct talk talk = begin("web", false);
    listen_to(&talk, &from);
    cr_assert(client_can_move(talk.client));
    talk.masked->stays = true;
    cr_assert_not(client_can_move(talk.client));
    from.ctx.leaving = true;
    client_touch(talk.client);
    listen_to(&talk, &from);
    cr_expect(list_empty(&from.ctx.idle), "it is not offered");
    from.ctx.leaving = false;
    close(talk.peer);
}

/* A process without such a transport does not take it: it goes on where it is. */
Test(transport, is_not_known_there)
{
    struct talk talk = begin("web", false);
    listen_to(&talk, &from);
    cr_assert_eq(move(&talk), -ENOTSUP);
    say(&talk, SPAN(OPTIONS));
    listen_to(&talk, &from);
    cr_expect(has(&talk, "HTTP/1.1 204"));
    close(talk.peer);
}
