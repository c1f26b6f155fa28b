/*
 * The supervisor makes a socket pair for each two shards, anew when one of them is started again,
 * and hands the ends out (CTL_PEER). Each side begins with HELLO, which has its incarnation and the
 * position of its stream of pushes; then come the pushes, their number in the header's `call`. The
 * end of a sibling is seen as the end of its socket; what waited for it was for connections that
 * are gone too.
 *
 * A sibling that does not keep up
 * - holds back workers that only publish, while it takes bytes, or its loop turns, and much waits
 *   for it (mesh_congested()): so a burst is not lost;
 * - misses frames beyond that, since what waits for it is bounded: a frame that finds no room is
 * left out, and the next one that does is preceded by SKIP, with the number of the last that was
 * left out. So the sibling knows how far it has heard, and so do shards that compare positions with
 * it.
 *
 * A frame of a worker of a named realm goes as an extension type (its own, and FRAME_EXTENSION),
 * with the realm's number, 8 bytes, before the payload as part of meta. A program that knows no
 * realms counts it and does nothing else; what such a program passes on is of no realm. STATE,
 * which is an extension itself, has the number always, be it 0. HELLO has in its flags the version
 * in which a shard speaks; frames of a later version are counted, and not understood.
 */

#include "frontd/shard/mesh/mesh.h"

#include <endian.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/fdpass.h"
#include "common/log.h"
#include "frontd/ipc/shm_beats.h"

enum {
    MESH_SKIP = FRAME_EXTENSION, /* a program that does not know it ignores it */

    /* Bytes that wait for one sibling: */
    SIBLING_BUSY = 8 * 1024 * 1024,  /* past it workers that only publish are not read */
    SIBLING_LEFT = 256 * 1024,       /* the same where this shard's connections go there */
    SIBLING_MAX = 32 * 1024 * 1024,  /* past it PUSH and PUBLISH are left out */
    SIBLING_MOST = 40 * 1024 * 1024, /* past it all frames are */
    SIBLING_SHARE = 1024 * 1024,    /* one sibling may have so much, however much the others have */
    SIBLINGS_MAX = 4 * SIBLING_MAX, /* for all of them, as SIBLING_MAX is for one */
    SIBLINGS_MOST = 4 * SIBLING_MOST, /* as SIBLING_MOST */

    /* A sibling is waited for that has taken bytes within PROGRESS_MS, or whose loop has turned
     * within BEATS_MS and that has taken bytes within BUSY_MS. */
    PROGRESS_MS = 1000,
    BEATS_MS = 1000,
    BUSY_MS = 10000,
    /* After a shard's end its frames count for so long: others may not have read all of them. */
    ECHO_MS = 2000,
    REALM_SIZE = 8, /* bytes before the payload */
};

/* In the flags of HELLO. */
enum { VERSION_FIRST = 0, VERSION_REALMS = 1, VERSION = VERSION_REALMS };

struct sibling {
    struct stream stream;
    int next_fd; /* a new socket that came before the old one was closed; -1: none */
    unsigned seat;
    /* How far this shard has heard it. Until its HELLO has come, of the shard before on that seat:
     * connections that move by then have got what that one had said. */
    struct position heard;
    bool greeted;             /* HELLO has come */
    uint8_t version;          /* in its HELLO; 0 until then */
    uint64_t asked;           /* number of the last PING that was sent to it; 0: none was */
    uint64_t answered;        /* number of the last PONG from it */
    uint64_t gone_at;         /* ms: its socket was closed */
    uint64_t mark;            /* what its stream's `consumed` is to be: see mesh_mark() */
    uint64_t taken;           /* bytes that it had taken at the last look_at() */
    uint64_t taken_at;        /* ms: it last took bytes, or nothing was left to take */
    struct share_pulse pulse; /* of its seat */
    uint64_t
        skipped;   /* number of the last frame that was left out, and no SKIP has told; 0: none */
    uint64_t lost; /* frames that were left out since it kept up */
    struct log_limit slow;
};

static struct sibling *sibling_of(struct stream *stream)
{
    return container_of(stream, struct sibling, stream);
}

static struct mesh *mesh_of(const struct sibling *sibling)
{
    return sibling->stream.ctx->mesh;
}

int mesh_init(struct mesh *mesh, struct ctx *ctx, mesh_push_fn *pushed)
{
    *mesh = (struct mesh){.ctx = ctx, .pushed = pushed};
    ctx->mesh = mesh;
    journal_init(&mesh->journal);
    mesh->siblings = mem_zalloc(SHARE_SEATS * sizeof(*mesh->siblings));
    if (mesh->siblings == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < SHARE_SEATS; i++) {
        mesh->siblings[i].seat = i;
        mesh->siblings[i].next_fd = -1;
    }
    return 0;
}

void mesh_deinit(struct mesh *mesh)
{
    journal_deinit(&mesh->journal);
    mesh->siblings = mem_free(mesh->siblings);
}

static bool on_air(const struct sibling *sibling)
{
    return sibling->stream.open && !sibling->stream.closing;
}

/* A PING: all frames before it have been carried out by now. */
static void answer(struct stream *stream, uint64_t number)
{
    const struct frame_head pong = {.type = FRAME_PONG, .call = number};
    if (stream_add(stream, &pong) == NULL)
        log_error("no memory: a shard that ends is not told what this one has heard");
}

/* SKIP: the frames up to that number have passed by, heard or left out. */
static void on_skip(struct sibling *sibling, uint64_t number)
{
    log_debug("the shard on seat %u has left out number %llu to %llu", sibling->seat,
        (unsigned long long)sibling->heard.seq + 1, (unsigned long long)number);
    sibling->heard.seq = MAX(sibling->heard.seq, number);
}

static bool has_realms(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (conf->pools[i].realm_id != 0)
            return true;
    }
    return false;
}

static void on_hello(struct sibling *sibling, const struct frame *frame)
{
    sibling->heard = (struct position){frame->head.conn, frame->head.call};
    sibling->version = frame->head.flags;
    sibling->greeted = true;
    if (sibling->version > VERSION)
        log_warning("the shard on seat %u is of a later version of the program: what its workers "
                    "push does not reach connections of this one",
            sibling->seat);
    else if (sibling->version < VERSION_REALMS && has_realms(sibling->stream.ctx->conf))
        log_warning("the shard on seat %u is of a version of the program without realms: nothing "
                    "is pushed between it and connections of a realm here",
            sibling->seat);
}

/* Takes the realm out of a frame. Returns whether the frame is right. */
static bool take_realm(struct frame *frame, uint64_t *ret_realm)
{
    uint64_t realm = 0;
    if (frame->head.type >= FRAME_EXTENSION) {
        if (frame->meta.n < REALM_SIZE)
            return false;
        memcpy(&realm, frame->meta.p, REALM_SIZE);
        realm = be64toh(realm);
        frame->meta = (struct span){frame->meta.p + REALM_SIZE, frame->meta.n - REALM_SIZE};
        if (frame->head.type != FRAME_STATE)
            frame->head.type -= FRAME_EXTENSION;
        frame->head.length -= REALM_SIZE;
        frame->head.meta_len -= REALM_SIZE;
    }
    *ret_realm = realm;
    return true;
}

static void on_push(struct sibling *sibling, const struct frame *frame)
{
    struct mesh *mesh = mesh_of(sibling);
    struct frame push = *frame;
    uint64_t realm;
    if (sibling->version > VERSION)
        return;
    if (!take_realm(&push, &realm)) {
        log_error("the shard on seat %u passes on what is no frame", sibling->seat);
        return;
    }
    if (journal_add(&mesh->journal, sibling->seat, sibling->heard, realm, &push) < 0)
        log_error("no memory: a connection that moves may miss a message");
    mesh->pushed(mesh->ctx, realm, &push);
}

static void on_frame(struct stream *stream, const struct frame *frame)
{
    struct sibling *sibling = sibling_of(stream);
    switch (frame->head.type) {
    case FRAME_HELLO: on_hello(sibling, frame); return;
    case FRAME_PING: answer(stream, frame->head.call); return;
    case FRAME_PONG: sibling->answered = frame->head.call; return;
    case MESH_SKIP: on_skip(sibling, frame->head.call); return;
    default: break;
    }
    if (frame->head.call != sibling->heard.seq + 1)
        log_error("the shard on seat %u has passed on number %llu after %llu", sibling->seat,
            (unsigned long long)frame->head.call, (unsigned long long)sibling->heard.seq);
    sibling->heard.seq = frame->head.call;
    on_push(sibling, frame);
}

/* A sibling has ended, or keeps up again. now: which of the two, for the log. */
static void end_losing(struct sibling *sibling, const char *now)
{
    if (sibling->lost > 0)
        log_warning("the shard on seat %u %s: %llu messages of workers did not reach it",
            sibling->seat, now, (unsigned long long)sibling->lost);
    sibling->lost = 0;
}

static void on_broken(struct stream *stream, const char *why)
{
    end_losing(sibling_of(stream), "has ended");
    log_debug("the socket to the shard on seat %u is closed: %s", sibling_of(stream)->seat, why);
    sibling_of(stream)->gone_at = ctx_now(stream->ctx);
    stream_close(stream);
}

static void on_closed(struct stream *stream)
{
    struct sibling *sibling = sibling_of(stream);
    int fd = sibling->next_fd;
    sibling->next_fd = -1;
    if (fd >= 0 && mesh_add(mesh_of(sibling), sibling->seat, fd) < 0)
        log_error("the shard on seat %u cannot be reached: no memory", sibling->seat);
}

static const struct stream_ops stream_ops = {
    .frame = on_frame,
    .broken = on_broken,
    .closed = on_closed,
};

int mesh_add(struct mesh *mesh, unsigned seat, int fd)
{
    struct ctx *ctx = mesh->ctx;
    if (seat > SHARE_SEAT_LAST || seat == ctx->seat) {
        fdpass_close(&fd, 1);
        return -EPROTO;
    }
    struct sibling *sibling = &mesh->siblings[seat];
    mesh->seats = MAX(mesh->seats, seat + 1);
    if (sibling->stream.open) {
        if (sibling->next_fd >= 0)
            fdpass_close(&sibling->next_fd, 1);
        sibling->next_fd = fd;
        /* The shard before has ended; its frames are carried out before its socket is closed. */
        stream_fail(&sibling->stream, "there is another one");
        return 0;
    }
    const struct frame_head hello = {.type = FRAME_HELLO,
        .flags = VERSION,
        .call = mesh->passed_on,
        .conn = ctx->identity.incarnation};
    sibling->greeted = false;
    sibling->version = VERSION_FIRST;
    sibling->asked = sibling->answered = 0;
    sibling->taken = sibling->skipped = sibling->mark = 0;
    sibling->taken_at = ctx_now(ctx);
    int r = stream_open(&sibling->stream, ctx, &stream_ops, fd, false);
    sibling->stream.max_frame += REALM_SIZE;
    return r == 0 && stream_add(&sibling->stream, &hello) == NULL ? -ENOMEM : r;
}

static struct position own_position(const struct mesh *mesh)
{
    return (struct position){mesh->ctx->identity.incarnation, mesh->passed_on};
}

static size_t waiting_for(const struct sibling *sibling)
{
    return buf_len(&sibling->stream.out);
}

/* Tells a sibling which frames were left out. Returns false without memory: later. */
static bool tell_skipped(struct sibling *sibling)
{
    const struct frame_head skip = {.type = MESH_SKIP, .call = sibling->skipped};
    if (sibling->skipped != 0 && stream_add(&sibling->stream, &skip) == NULL)
        return false;
    sibling->skipped = 0;
    return true;
}

/* Whether there is room for so many bytes more. SUBSCRIBE, UNSUBSCRIBE and DISCONNECT, which are
 * small and change a connection for good, have room for longer than PUSH and PUBLISH. */
static bool has_room(const struct sibling *sibling, uint8_t type, size_t n)
{
    bool push = type == FRAME_PUSH || type == FRAME_PUBLISH;
    size_t waiting = waiting_for(sibling) + n;
    if (waiting > (push ? (size_t)SIBLING_MAX : (size_t)SIBLING_MOST))
        return false;
    return mesh_of(sibling)->backlog + n <= (push ? (size_t)SIBLINGS_MAX : (size_t)SIBLINGS_MOST) ||
           waiting <= SIBLING_SHARE;
}

static void leave_out(struct sibling *sibling, uint64_t number)
{
    const struct ctx *ctx = sibling->stream.ctx;
    sibling->skipped = number;
    sibling->lost++;
    share_count(ctx->count->unheard, 1);
    log_limited(&sibling->slow, ctx_now(ctx), LOG_WARNING,
        "the shard on seat %u does not keep up: what workers send to its connections is lost, %llu "
        "messages so far",
        sibling->seat, (unsigned long long)sibling->lost);
}

/* realm: 0: none; most frames go without one then. */
static void forward_to(struct sibling *sibling, uint64_t realm, const struct frame *frame)
{
    struct mesh *mesh = mesh_of(sibling);
    struct frame_head head = frame->head;
    bool named = realm != 0 || frame->head.type >= FRAME_EXTENSION;
    bool counts_only = named && sibling->greeted && sibling->version < VERSION_REALMS;
    head.call = mesh->passed_on;
    if (counts_only)
        head.length = head.meta_len = head.blob_len = 0;
    if (named) {
        head.type |= FRAME_EXTENSION;
        head.length += REALM_SIZE;
        head.meta_len += REALM_SIZE;
    }
    size_t n = FRAME_HEAD_SIZE + (size_t)head.length;
    char *room = NULL;
    if (has_room(sibling, frame->head.type, n) && tell_skipped(sibling))
        room = stream_add(&sibling->stream, &head);
    if (room == NULL) {
        leave_out(sibling, head.call);
        return;
    }
    mesh->backlog += n;
    if (named) {
        realm = htobe64(realm);
        memcpy(room, &realm, REALM_SIZE);
        room += REALM_SIZE;
    }
    if (frame->head.length > 0 && !counts_only)
        memcpy(room, frame->meta.p, frame->head.length); /* its parts lie in one piece */
}

void mesh_forward(struct mesh *mesh, uint64_t realm, const struct frame *frame)
{
    mesh->passed_on++;
    if (journal_add(&mesh->journal, mesh->ctx->seat, own_position(mesh), realm, frame) < 0)
        log_error("no memory: a connection that moves may miss a message");
    for (unsigned i = 0; i < mesh->seats; i++) {
        if (on_air(&mesh->siblings[i]) && mesh->siblings[i].next_fd < 0)
            forward_to(&mesh->siblings[i], realm, frame);
    }
}

void mesh_positions(const struct mesh *mesh, struct positions *ret_positions)
{
    uint64_t now = ctx_now(mesh->ctx);
    *ret_positions = (struct positions){0};
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&mesh->siblings[i]) || now - mesh->siblings[i].gone_at < ECHO_MS)
            ret_positions->of[i] = mesh->siblings[i].heard;
    }
    ret_positions->of[mesh->ctx->seat] = own_position(mesh);
}

bool mesh_complete(const struct mesh *mesh)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (mesh->siblings[i].next_fd >= 0 ||
            (on_air(&mesh->siblings[i]) && !mesh->siblings[i].greeted))
            return false;
    }
    return true;
}

bool mesh_behind(const struct mesh *mesh)
{
    for (unsigned i = 0; i < mesh->seats; i++) {
        if (on_air(&mesh->siblings[i]) && stream_occupied(&mesh->siblings[i].stream))
            return true;
    }
    return false;
}

void mesh_mark(struct mesh *mesh)
{
    for (unsigned i = 0; i < mesh->seats; i++) {
        if (on_air(&mesh->siblings[i]))
            mesh->siblings[i].mark = stream_due(&mesh->siblings[i].stream);
    }
}

bool mesh_past_mark(const struct mesh *mesh)
{
    for (unsigned i = 0; i < mesh->seats; i++) {
        if (on_air(&mesh->siblings[i]) &&
            mesh->siblings[i].stream.consumed < mesh->siblings[i].mark)
            return false;
    }
    return true;
}

bool mesh_has_heard(const struct mesh *mesh, const struct positions *wanted)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        struct position heard = i == mesh->ctx->seat ? own_position(mesh) : mesh->siblings[i].heard;
        uint64_t wanted_of = wanted->of[i].incarnation;
        /* A shard is given the sockets to all older ones before anything else: an older shard
         * without a socket had ended before. */
        bool ended = !on_air(&mesh->siblings[i]) &&
                     (heard.incarnation == wanted_of ||
                         wanted_of < mesh->ctx->identity.incarnation);
        if (position_before(heard, wanted->of[i]) && !ended)
            return false;
    }
    return true;
}

/* Returns whether so much waits for a sibling that makes progress that it is waited for. */
static bool look_at(struct sibling *sibling)
{
    const struct ctx *ctx = sibling->stream.ctx;
    uint64_t now = ctx_now(ctx);
    if (sibling->stream.written != sibling->taken || waiting_for(sibling) == 0) {
        sibling->taken = sibling->stream.written;
        sibling->taken_at = now;
    }
    if (sibling->lost > 0 && waiting_for(sibling) <= SIBLING_MAX / 2 && tell_skipped(sibling))
        end_losing(sibling, "keeps up again");
    if (waiting_for(sibling) <= (size_t)(ctx->leaving ? SIBLING_LEFT : SIBLING_BUSY))
        return false;
    uint64_t beat_at = share_pulse(ctx->share, sibling->seat, &sibling->pulse, now);
    bool lives = now - beat_at < BEATS_MS && now - sibling->taken_at < BUSY_MS;
    return lives || now - sibling->taken_at < PROGRESS_MS;
}

bool mesh_congested(struct mesh *mesh)
{
    bool congested = false;
    mesh->backlog = 0;
    for (unsigned i = 0; i < mesh->seats; i++) {
        if (!on_air(&mesh->siblings[i]))
            continue;
        congested |= look_at(&mesh->siblings[i]);
        mesh->backlog += waiting_for(&mesh->siblings[i]);
    }
    return congested;
}

bool mesh_flushed(const struct mesh *mesh)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&mesh->siblings[i]) && waiting_for(&mesh->siblings[i]) > 0)
            return false;
    }
    return true;
}

uint64_t mesh_ask(struct mesh *mesh)
{
    const struct frame_head ping = {.type = FRAME_PING, .call = ++mesh->last_ping};
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&mesh->siblings[i]) && tell_skipped(&mesh->siblings[i]) &&
            stream_add(&mesh->siblings[i].stream, &ping) != NULL)
            mesh->siblings[i].asked = mesh->last_ping;
    }
    return mesh->last_ping;
}

bool mesh_answered(const struct mesh *mesh, uint64_t asked)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (on_air(&mesh->siblings[i]) && mesh->siblings[i].asked >= asked &&
            mesh->siblings[i].answered < asked)
            return false;
    }
    return true;
}

void mesh_shut(struct mesh *mesh)
{
    for (unsigned i = 0; i <= SHARE_SEAT_LAST; i++) {
        if (mesh->siblings[i].next_fd >= 0)
            fdpass_close(&mesh->siblings[i].next_fd, 1);
        mesh->siblings[i].next_fd = -1;
        stream_close(&mesh->siblings[i].stream);
    }
}

static uint64_t raise_fence(struct ctx *ctx)
{
    return mesh_ask(ctx->mesh);
}

static bool fence_passed(const struct ctx *ctx, uint64_t number)
{
    return mesh_answered(ctx->mesh, number);
}

const struct fence mesh_fence = {.raise = raise_fence, .passed = fence_passed};
