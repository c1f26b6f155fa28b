#include "tests/unit/support/moving.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/push/push.h"

enum { BULK = 3000 /* bytes of a push that is large */ };

struct moving_conn moving_conns[MOVING_MAX];
size_t moving_count;

bool moving_takes_pushes(const struct moving_conn *conn)
{
    return conn->id != 0 && conn->kind->framing != HTTP;
}

void moving_put(const struct moving_conn *conn, const void *p, size_t n)
{
    if (n > 0)
        cr_assert_eq(send(conn->peer, p, n, MSG_NOSIGNAL), (ssize_t)n, "%s: %s", conn->kind->name,
            strerror(errno));
}

/* Plainly */

static struct client *open_plain(struct moving_conn *conn)
{
    return shardlet_client(&sides[OLD].shardlet, conn->kind->listener, &conn->peer);
}

static void before_plain(struct moving_conn *conn)
{
    moving_put(conn, conn->kind->before.p, conn->kind->before.n);
    if (conn->kind->how == SHUT)
        cr_assert_eq(shutdown(conn->peer, SHUT_WR), 0);
}

static void after_plain(struct moving_conn *conn)
{
    moving_put(conn, conn->kind->after.p, conn->kind->after.n);
    if (conn->kind->how == ENDING)
        cr_assert_eq(shutdown(conn->peer, SHUT_WR), 0);
}

static size_t listen_plain(struct moving_conn *conn, char *out, size_t n)
{
    size_t got = 0;
    shardlet_read(conn->peer, out, n, &got);
    return got;
}

static void close_plain(struct moving_conn *conn)
{
    close(conn->peer);
}

const struct moving_speech moving_plainly = {
    .open = open_plain,
    .before = before_plain,
    .after = after_plain,
    .listen = listen_plain,
    .close = close_plain,
};

/* Pushes */

static unsigned pushed[SIDES]; /* number of the last push of each side's worker */

/* By the worker of a side. topic: NULL: of none. */
static void send_frame(
    unsigned side, enum frame_type type, uint64_t id, const char *topic, struct span body)
{
    char bytes[64 + BULK]; /* meta and body, in one piece */
    int n = topic == NULL ? 0 : snprintf(bytes, 64, "{\"topic\":\"%s\"}", topic);
    struct frame frame = {
        .head = {.type = (uint8_t)type, .conn = id, .meta_len = (uint32_t)n},
        .meta = {bytes, (size_t)n},
        .body = {bytes + n, body.n},
    };
    memcpy(bytes + n, body.p, body.n);
    frame.head.length = (uint32_t)(frame.meta.n + body.n);
    push_from_worker(&sides[side].worker, &frame);
}

/* To all members of the topic, or to one connection. n: bytes, at least. */
void moving_push(unsigned side, struct moving_conn *only, size_t n)
{
    char body[BULK];
    unsigned number = ++pushed[side];
    memset(body, '.', sizeof(body));
    size_t size = (size_t)snprintf(body, sizeof(body), "%c%u", "on"[side], number);
    body[size] = '.';
    for (size_t i = 0; i < moving_count; i++) {
        struct moving_conn *conn = &moving_conns[i];
        if (!moving_takes_pushes(conn) || (only != NULL && only != conn))
            continue;
        cr_assert_lt(conn->nexpected[side], MOVING_PUSHES_MAX);
        conn->expected[side][conn->nexpected[side]++] = number;
    }
    struct span text = {body, MAX(size + 1, n)};
    if (only == NULL)
        send_frame(side, FRAME_PUBLISH, 0, "t", text);
    else
        send_frame(side, FRAME_PUSH, only->id, NULL, text);
}

/* What is for no connection, and holds up what the other shard is to hear. */
static void crowd(unsigned side)
{
    static char body[BULK];
    send_frame(side, FRAME_PUBLISH, 0, "nobody's", (struct span){body, sizeof(body)});
}

void moving_push_to_all(unsigned side, bool crowded)
{
    for (int i = 0; crowded && i < 2; i++)
        crowd(side);
    moving_push(side, NULL, 0);
    for (size_t i = 0; i < moving_count; i++) {
        if (moving_takes_pushes(&moving_conns[i]) && (i + pushed[side]) % 3 == 0)
            moving_push(side, &moving_conns[i], 0);
    }
    moving_push(side, NULL, 0);
}

void moving_forget_pushes(void)
{
    memset(pushed, 0, sizeof(pushed));
}

void moving_subscribe(const struct moving_conn *conn)
{
    send_frame(OLD, FRAME_SUBSCRIBE, conn->id, "t", (struct span){"", 0});
}

void moving_open(struct moving_conn *conn)
{
    struct client *client = conn->speech->open(conn);
    int small = 1;
    conn->id = client->conn.id;
    if (conn->kind->how == UNREAD || conn->kind->how == SHUT)
        cr_assert_eq(setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    conn->speech->before(conn);
}

void moving_listen(struct moving_conn *conn)
{
    conn->n += conn->speech->listen(conn, conn->out + conn->n, sizeof(conn->out) - conn->n);
    shardlet_dash_dates(conn->out, conn->n);
    cr_assert_lt(conn->n, sizeof(conn->out));
}

/* What has come */

/* A message of a connection, or its handshake. Returns its bytes with what frames it. */
static size_t next_message(
    const struct moving_conn *conn, const char *p, size_t n, struct span *ret_text)
{
    size_t head = 0;
    size_t size = 0;
    const char *end;
    switch (conn->kind->framing) {
    case HTTP: size = n; break;
    case LINES:
        end = memchr(p, '\n', n);
        size = end == NULL ? n + 1 : (size_t)(end - p) + 1;
        break;
    case FRAMES:
        head = 4;
        size = n < head ? head : (size_t)(uint8_t)p[2] << 8 | (uint8_t)p[3];
        break;
    case WS:
    case WS_H2:
        if (p == conn->out) {
            end = memmem(p, n, "\r\n\r\n", 4);
            size = end == NULL ? n + 1 : (size_t)(end - p) + 4;
            break;
        }
        head = 2;
        size = n < head ? head : (size_t)p[1] & 0x7f;
        if (size == 126) {
            head = 4;
            size = n < head ? head : (size_t)(uint8_t)p[2] << 8 | (uint8_t)p[3];
        }
        break;
    }
    cr_assert_leq(head + size, n, "%s: cut off", conn->kind->name);
    *ret_text = (struct span){p + head, size};
    return head + size;
}

size_t moving_check_pushes(struct moving_conn *conn)
{
    size_t got[SIDES] = {0};
    size_t missed = 0;
    conn->nrest = 0;
    for (size_t at = 0; at < conn->n;) {
        struct span text;
        const char *p = conn->out + at;
        size_t used = next_message(conn, p, conn->n - at, &text);
        at += used;
        if (conn->kind->framing == HTTP || text.n < 2 || (text.p[0] != 'o' && text.p[0] != 'n')) {
            memcpy(conn->rest + conn->nrest, p, used);
            conn->nrest += used;
            continue;
        }
        unsigned side = text.p[0] == 'o' ? OLD : NEW;
        unsigned number = (unsigned)strtoul(text.p + 1, NULL, 10);
        while (got[side] < conn->nexpected[side] && conn->expected[side][got[side]] != number) {
            got[side]++;
            missed++;
        }
        cr_assert_lt(got[side]++, conn->nexpected[side], "%s: %c%u comes twice, or too late",
            conn->kind->name, text.p[0], number);
    }
    return missed + conn->nexpected[OLD] - got[OLD] + conn->nexpected[NEW] - got[NEW];
}

bool moving_is_closed(const struct moving_conn *conn)
{
    char byte;
    ssize_t n = recv(conn->peer, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}
