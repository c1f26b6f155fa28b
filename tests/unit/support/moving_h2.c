#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "frontd/shard/session/http2_session.h"
#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/moving.h"

/* Extended CONNECT for /ws. */
#define CONNECT                                                                                    \
    "\x02\x07"                                                                                     \
    "CONNECT\x86\x01\x01h\x04\x03/ws\x00\x09:protocol\x09websocket"                                \
    "\x00\x15sec-websocket-version\x02"                                                            \
    "13"

/* Of each connection, what has come of a frame. */
static struct {
    char p[MOVING_OUT_MAX];
    size_t n;
} kept[MOVING_MAX];

static bool note_socket(struct client *socket, void *arg)
{
    *(struct client **)arg = socket;
    return false;
}

static struct client *open_socket(struct moving_conn *conn)
{
    static struct h2_bytes said;
    struct client *socket = NULL;
    struct client *carrier = moving_plainly.open(conn);
    kept[conn->index].n = 0;
    h2_begin(&said);
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, 1, CONNECT);
    moving_put(conn, said.p, said.n);
    shardlet_turn(&sides[OLD].shardlet);
    http2_each_socket(carrier, note_socket, &socket);
    cr_assert_not_null(socket);
    return socket;
}

static size_t listen_to_stream(struct moving_conn *conn, char *out, size_t n)
{
    char *p = kept[conn->index].p;
    size_t *have = &kept[conn->index].n;
    *have += moving_plainly.listen(conn, p + *have, sizeof(kept[0].p) - *have);
    size_t at = 0, used, done = 0;
    struct h2_frame frame;
    while (h2_frame_parse(p + at, *have - at, &frame, &used) == H2_OK) {
        struct span text = frame.type == H2_HEADERS ? SPAN("\r\n\r\n") : frame.payload;
        at += used;
        if (frame.stream != 1 || frame.type == H2_WINDOW_UPDATE)
            continue;
        if (frame.type == H2_RST_STREAM) { /* it counts as closed, and the test sees a socket */
            shutdown(conn->peer, SHUT_RDWR);
            break;
        }
        cr_assert(frame.type == H2_HEADERS || frame.type == H2_DATA, "%u", frame.type);
        cr_assert_leq(done + text.n, n);
        memcpy(out + done, text.p, text.n);
        done += text.n;
    }
    memmove(p, p + at, *have - at);
    *have -= at;
    return done;
}

static void say_before(struct moving_conn *conn)
{
    moving_plainly.before(conn);
}

static void say_after(struct moving_conn *conn)
{
    moving_plainly.after(conn);
}

static void close_peer(struct moving_conn *conn)
{
    moving_plainly.close(conn);
}

const struct moving_speech moving_over_h2 = {
    .open = open_socket,
    .before = say_before,
    .after = say_after,
    .listen = listen_to_stream,
    .close = close_peer,
};
