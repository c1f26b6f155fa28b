#include "frontd/shard/tls/tls_transport.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/alloc.h"
#include "frontd/shard/tls/tls_handshake.h"

enum {
    SAVED = 1,
    TYPE_HANDSHAKE = 22,
    WRITE_ROUNDS = 8, /* records in one writev() */
};
_Static_assert((int)TRANSPORT_ROOM_MIN >= (int)TLS_HELD_RECORD_MAX, "a record always has room");

static struct tls_transport *of(struct transport *transport)
{
    return container_of(transport, struct tls_transport, transport);
}

static const struct tls_transport *of_const(const struct transport *transport)
{
    return container_of(transport, const struct tls_transport, transport);
}

static uint64_t now_of(const struct tls_transport *t)
{
    return ctx_now(t->tls->ctx);
}

/* To be called whenever something has changed. */
static void note_state(struct tls_transport *t)
{
    tls_held_tidy(&t->held);
    t->transport.unsent = (uint32_t)tls_held_out(t->held) + tls_record_owes(&t->record);
    t->transport.worn = tls_record_worn(&t->record);
}

/* Handshake */

struct transport *tls_transport_new(struct tls *tls, uint32_t listener, void *owner)
{
    struct tls_transport *t = slab_get(&tls->transports);
    struct tls_handshake *handshake = t == NULL ? NULL : slab_get(&tls->openings);
    if (handshake == NULL) {
        if (t != NULL)
            slab_put(&tls->transports, t);
        return NULL;
    }
    t->transport = (struct transport){.ops = &tls_transport_ops, .opening = true};
    t->tls = tls;
    t->handshake = handshake;
    list_init(&handshake->node);
    handshake->tls = tls;
    handshake->transport = t;
    handshake->context = &tls->contexts[listener];
    handshake->owner = owner;
    return &t->transport;
}

/* Frees what the handshake has had. */
static void end_handshake(struct tls_transport *t)
{
    struct tls_handshake *handshake = t->handshake;
    t->transport.opening = false;
    t->handshake = NULL;
    tls_leave(handshake);
    tls_handshake_end(handshake);
    slab_put(&t->tls->openings, handshake);
}

_Static_assert((unsigned)METRIC_HANDSHAKE_INTERNAL ==
                   (unsigned)METRIC_HANDSHAKE_NOT_TLS + TLS_FAILURE_INTERNAL,
    "as METRIC_HANDSHAKES");

static void count_failure(const struct tls *tls, unsigned outcome)
{
    _Atomic uint64_t *words = tls->ctx->count->handshakes;
    share_count(&words[METRIC_VERSION_UNKNOWN * METRIC_HANDSHAKE_COUNT + outcome], 1);
}

/* The handshake has failed, for tls->failure: what is to be sent is in `out`. */
static void break_handshake(struct tls_transport *t)
{
    count_failure(t->tls, METRIC_HANDSHAKE_NOT_TLS + (unsigned)t->tls->failure.kind);
    t->transport.broken = true;
    end_handshake(t);
    if (t->held != NULL)
        buf_deinit(&t->held->in);
    note_state(t);
}

void tls_transport_fail(struct tls_transport *t)
{
    const struct tls_owner_ops *owners = t->tls->owners;
    void *owner = t->handshake->owner;
    break_handshake(t);
    owners->failed(owner);
}

void tls_transport_step(struct tls_transport *t)
{
    struct tls_handshake *handshake = t->handshake;
    const struct tls_owner_ops *owners = t->tls->owners;
    void *owner = handshake->owner;
    struct span alpn;
    struct span record = {buf_data(&t->held->in), tls_held_record(t->held)};
    enum tls_step step = tls_handshake_step(handshake, record, &t->held->out);
    if (step == TLS_STEP_DONE &&
        tls_handshake_take_over(handshake, &t->record, &t->info, &alpn) < 0)
        step = TLS_STEP_FAILED;
    if (step == TLS_STEP_FAILED) {
        tls_transport_fail(t);
        return;
    }
    buf_consume(&t->held->in, record.n);
    if (step == TLS_STEP_DONE)
        end_handshake(t);
    else if (tls_held_record(t->held) > 0)
        tls_queue(handshake);
    note_state(t);
    if (step == TLS_STEP_DONE)
        owners->opened(owner, alpn);
    else
        owners->went_on(owner);
}

/*
 * What has come is no TLS. A client that speaks HTTP on a port for HTTPS, as when somebody has
 * forgotten the "s", is told so in its own words.
 */
static ssize_t refuse_foreign(struct tls_transport *t)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n"
                                 "Content-Type: text/plain; charset=utf-8\r\n"
                                 "Content-Length: 50\r\n"
                                 "Connection: close\r\n\r\n"
                                 "This port speaks HTTPS: use an address of https://\n";
    bool http = isupper((unsigned char)*buf_data(&t->held->in)) && t->handshake->context->http;
    t->tls->failure = (struct tls_failure){TLS_FAILURE_NOT_TLS, http ? "HTTP" : "no TLS"};
    if (http && tls_held_add_out(&t->held, answer, sizeof(answer) - 1) < 0) {
        errno = ENOMEM;
        return -1;
    }
    break_handshake(t);
    errno = EPROTO;
    return -1;
}

/* The client's side has ended in the handshake. One that has sent nothing has asked for nothing: a
 * balancer's check. */
static ssize_t end_of_handshake(struct tls_transport *t)
{
    if (t->handshake->ssl == NULL && tls_held_in(t->held) == 0)
        return 0;
    t->tls->failure = (struct tls_failure){TLS_FAILURE_ALERT, "it closes the connection"};
    break_handshake(t);
    errno = EPROTO;
    return -1;
}

static ssize_t read_handshake(struct tls_transport *t, int fd, void *room, size_t n)
{
    struct tls_handshake *handshake = t->handshake;
    errno = EAGAIN;
    handshake->deaf = handshake->queued;
    if (handshake->queued)
        return -1;
    ssize_t got = recv(fd, room, MIN(n, (size_t)TLS_HELD_RECORD_MAX - tls_held_in(t->held)), 0);
    if (got <= 0)
        return got < 0 ? got : end_of_handshake(t);
    handshake->heard_at = now_of(t);
    if (tls_held_add_in(&t->held, room, (size_t)got, handshake->heard_at) < 0) {
        errno = ENOMEM;
        return -1;
    }
    if (handshake->ssl == NULL && *buf_data(&t->held->in) != TYPE_HANDSHAKE)
        return refuse_foreign(t);
    if (tls_held_record(t->held) > 0)
        tls_queue(handshake);
    errno = EAGAIN;
    return -1;
}

/* Records */

static ssize_t break_off(struct tls_transport *t, const struct tls_opened *opened)
{
    t->tls->failure = (struct tls_failure){
        opened->received ? TLS_FAILURE_ALERT : TLS_FAILURE_RECORD, tls_alert_name(opened->alert)};
    t->transport.broken = true;
    note_state(t);
    errno = EPROTO;
    return -1;
}

/*
 * Opens `n` bytes at `room`, and keeps what is not used of them, which waits since that time where
 * it is still the same record. Returns as read(). Data before a violation is dropped with the
 * connection.
 */
static ssize_t open_records(struct tls_transport *t, uint8_t *room, size_t n, uint64_t since)
{
    struct tls_opened opened = tls_record_open(&t->record, t->tls->crypto, room, n, room, n);
    if (opened.event == TLS_EVENT_FATAL)
        return break_off(t, &opened);
    since = opened.used > 0 ? now_of(t) : since;
    if (opened.used < n &&
        tls_held_add_in(&t->held, room + opened.used, n - opened.used, since) < 0) {
        errno = ENOMEM;
        return -1;
    }
    note_state(t);
    if (opened.data == 0 && opened.event != TLS_EVENT_END) {
        errno = EAGAIN;
        return -1;
    }
    return (ssize_t)opened.data;
}

static ssize_t read_records(struct tls_transport *t, int fd, uint8_t *room, size_t n)
{
    size_t have = tls_held_in(t->held);
    uint64_t since = have == 0 ? now_of(t) : t->held->since;
    if (tls_record_ended(&t->record))
        return 0;
    ssize_t got = 0;
    if (tls_held_record(t->held) == 0) {
        got = recv(fd, room + have, n - have, 0);
        t->transport.truncated = got == 0;
        if (got <= 0)
            return got;
    }
    if (have > 0 &&
        tls_held_is_part(t->held, (size_t)got)) { /* many small parts are not copied each time */
        errno = tls_held_add_in(&t->held, room + have, (size_t)got, since) < 0 ? ENOMEM : EAGAIN;
        return -1;
    }
    if (have > 0) {
        memcpy(room, buf_data(&t->held->in), have);
        buf_consume(&t->held->in, have);
    }
    return open_records(t, room, have + (size_t)got, since);
}

static ssize_t tls_read(struct transport *transport, int fd, void *room, size_t n)
{
    struct tls_transport *t = of(transport);
    CHECK(n >= TRANSPORT_ROOM_MIN);
    if (UNLIKELY(transport->opening))
        return read_handshake(t, fd, room, n);
    if (UNLIKELY(transport->broken))
        return recv(fd, room, n, 0); /* to be dropped */
    return read_records(t, fd, room, n);
}

/*
 * Writes the first `n` bytes at `bytes`; more: something follows at once, and goes with them.
 * Returns how many the kernel has taken, or -errno.
 */
static ssize_t send_some(int fd, const void *bytes, size_t n, bool more)
{
    ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return sent;
}

/* Writes what is held. Returns 0, 1 where some is left, or -errno. */
static int flush_held(struct tls_transport *t, int fd)
{
    size_t n = tls_held_out(t->held);
    if (n == 0)
        return 0;
    ssize_t sent = send_some(fd, buf_data(&t->held->out), n, false);
    if (sent > 0)
        buf_consume(&t->held->out, (size_t)sent);
    return sent < 0 ? (int)sent : (size_t)sent < n;
}

/* Writes what was sealed, and holds the rest. Returns as flush_held(). close_notify is in one
 * packet with the end of the descriptor's output (shut_if_done()). */
static int send_sealed(struct tls_transport *t, int fd, size_t n)
{
    const uint8_t *bytes = t->tls->scratch;
    ssize_t sent = send_some(fd, bytes, n, t->transport.shuts && tls_record_owes(&t->record) == 0);
    if (sent < 0 || (size_t)sent == n)
        return (int)MIN(sent, (ssize_t)0);
    return tls_held_add_out(&t->held, bytes + sent, n - (size_t)sent) < 0 ? -ENOMEM : 1;
}

/* Seals and writes, a record at a time. Returns as flush_held(); *ret_taken: bytes of data. */
static int write_records(
    struct tls_transport *t, int fd, const struct iovec *iov, int pieces, size_t *ret_taken)
{
    int r = 0;
    for (unsigned round = 0; r == 0 && round < WRITE_ROUNDS; round++) {
        struct tls_sealed sealed = tls_record_seal(
            &t->record, t->tls->crypto, iov, pieces, *ret_taken, t->tls->scratch, TLS_SCRATCH_SIZE);
        if (sealed.bytes == 0)
            return sealed.error;
        *ret_taken += sealed.data;
        r = send_sealed(t, fd, sealed.bytes);
        if (sealed.error < 0)
            return sealed.error;
    }
    return r;
}

/* Shuts the descriptor, where that was wanted and all is out. Returns 0 or -errno. */
static int shut_if_done(struct tls_transport *t, int fd)
{
    if (LIKELY(!t->transport.shuts) || t->transport.unsent > 0)
        return 0;
    t->transport.shuts = false;
    return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

static ssize_t tls_writev(struct transport *transport, int fd, const struct iovec *iov, int pieces)
{
    struct tls_transport *t = of(transport);
    size_t taken = 0;
    int r = flush_held(t, fd);
    if (r == 0 && LIKELY(!transport->opening) && t->info != NULL)
        r = write_records(t, fd, iov, pieces, &taken);
    note_state(t);
    if (r == 0)
        r = shut_if_done(t, fd);
    if (r >= 0 && taken == 0 && pieces > 0)
        r = r == 0 ? -EPIPE : -EAGAIN;
    if (r < 0) {
        errno = -r;
        return -1;
    }
    return (ssize_t)taken;
}

static uint32_t tls_wants(const struct transport *transport, uint32_t events)
{
    if (LIKELY(!transport->opening))
        return events;
    uint32_t in = of_const(transport)->handshake->deaf ? 0 : EPOLLIN;
    return in | (transport->unsent > 0 ? EPOLLOUT : 0);
}

static bool tls_has_bytes(const struct transport *transport)
{
    const struct tls_transport *t = of_const(transport);
    return !transport->opening && !transport->broken &&
           (tls_record_ended(&t->record) || tls_held_record(t->held) > 0);
}

static uint64_t tls_waits_since(const struct transport *transport)
{
    const struct tls_transport *t = of_const(transport);
    return tls_held_in(t->held) == 0 || tls_held_record(t->held) > 0 ? UINT64_MAX : t->held->since;
}

static void tls_resumed(struct transport *transport)
{
    struct tls_transport *t = of(transport);
    if (t->held != NULL)
        t->held->since = now_of(t);
}

static int tls_shut(struct transport *transport, int fd)
{
    struct tls_transport *t = of(transport);
    transport->shuts = true;
    if (t->info != NULL)
        tls_record_close(&t->record);
    ssize_t n = tls_writev(transport, fd, NULL, 0);
    return n < 0 && errno != EAGAIN ? -1 : 0;
}

/* Moving */

static bool tls_can_move(const struct transport *transport)
{
    return !transport->opening && !transport->broken;
}

static void tls_save(const struct transport *transport, struct pack *pack)
{
    const struct tls_transport *t = of_const(transport);
    pack_u8(pack, SAVED);
    pack_u8(pack, transport->truncated);
    pack_u8(pack, transport->shuts);
    tls_held_save(t->held, pack);
    pack_bytes(pack, tls_info_text(t->info));
    pack_u8(pack, TLS_RECORD_SAVED);
    tls_record_save(&t->record, pack);
}

static void tls_free(struct transport *transport)
{
    struct tls_transport *t = of(transport);
    struct tls *tls = t->tls;
    if (t->handshake != NULL) {
        if (t->handshake->ssl != NULL)
            count_failure(tls, METRIC_HANDSHAKE_LEFT);
        end_handshake(t);
    }
    if (t->info != NULL)
        tls_record_wipe(&t->record, tls->crypto);
    tls_info_unref(&tls->infos, t->info);
    tls_held_free(&t->held);
    slab_put(&tls->transports, t);
}

static int restore_into(struct tls_transport *t, struct unpack *unpack)
{
    if (unpack_u8(unpack) != SAVED)
        return unpack->bad ? -EBADMSG : -ENOTSUP;
    t->transport.truncated = unpack_flag(unpack);
    t->transport.shuts = unpack_flag(unpack);
    int r = tls_held_restore(&t->held, unpack, now_of(t));
    struct span info = unpack_bytes(unpack);
    unsigned version = unpack_u8(unpack);
    if (r < 0 || unpack->bad || !tls_info_valid(info))
        return r < 0 ? r : -EBADMSG;
    if (version != TLS_RECORD_SAVED)
        return -ENOTSUP;
    r = tls_record_restore(&t->record, unpack, version);
    if (r < 0)
        return r;
    t->info = tls_info_get(&t->tls->infos, info);
    if (t->info == NULL)
        return -ENOMEM;
    note_state(t);
    return 0;
}

static int tls_restore(struct transport **ret, struct ctx *ctx, int fd, struct unpack *unpack)
{
    struct tls *tls = ctx->tls;
    (void)fd;
    struct tls_transport *t = tls_prepare(tls) < 0 ? NULL : slab_get(&tls->transports);
    if (t == NULL)
        return -ENOMEM;
    t->transport.ops = &tls_transport_ops;
    t->tls = tls;
    int r = restore_into(t, unpack);
    if (r < 0) {
        tls_record_wipe(&t->record, tls->crypto);
        tls_free(&t->transport);
        return r;
    }
    *ret = &t->transport;
    return 0;
}

struct span tls_transport_info(const struct transport *transport)
{
    const struct tls_transport *t = of_const(transport);
    bool known = transport->ops == &tls_transport_ops && t->info != NULL;
    return known ? tls_info_text(t->info) : (struct span){0};
}

const struct transport_ops tls_transport_ops = {
    .read = tls_read,
    .writev = tls_writev,
    .wants = tls_wants,
    .has_bytes = tls_has_bytes,
    .waits_since = tls_waits_since,
    .resumed = tls_resumed,
    .shut = tls_shut,
    .can_move = tls_can_move,
    .save = tls_save,
    .restore = tls_restore,
    .free = tls_free,
};
