#include "tests/unit/support/sealed.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/alloc.h"

enum { KEYS_MAX = 4096, RECORD_MAX = SEALED_HEAD + SEALED_MAX, PART = 1500 };

/* What is known of each key. */
static struct {
    unsigned owners; /* transports that have it */
    uint32_t seals;  /* number of the next record that is written with it */
} keys[KEYS_MAX];
static unsigned nkeys;
static unsigned count;
static unsigned written;

struct sealed {
    struct transport transport;
    unsigned key;
    uint32_t seals;
    uint32_t opens;
    uint32_t nkept;     /* of a record that has not come as a whole, or not been handed out */
    uint32_t at;        /* in `kept`: what has been handed out of the first record */
    uint32_t nout;      /* of a record that the socket has not taken as a whole */
    uint32_t out_plain; /* what is in that record, which is not counted as written yet */
    char kept[RECORD_MAX];
    char out[RECORD_MAX];
};

static void mask(char *p, size_t n, unsigned key, uint32_t number)
{
    for (size_t i = 0; i < n; i++)
        p[i] ^= (char)(key * 31 + number * 7 + i);
}

/* One direction of a key is another one than the other. */
static unsigned back(unsigned key)
{
    return key + KEYS_MAX;
}

static void put_head(char *out, uint32_t number, size_t n)
{
    for (unsigned i = 0; i < 4; i++)
        out[i] = (char)(number >> 8 * i);
    out[4] = (char)n;
    out[5] = (char)(n >> 8);
}

static uint32_t number_of(const char *p)
{
    uint32_t number = 0;
    for (unsigned i = 0; i < 4; i++)
        number |= (uint32_t)(uint8_t)p[i] << 8 * i;
    return number;
}

static size_t length_of(const char *p)
{
    return (size_t)(uint8_t)p[4] | (size_t)(uint8_t)p[5] << 8;
}

static bool is_whole(const char *p, size_t n)
{
    return n >= SEALED_HEAD && n >= SEALED_HEAD + length_of(p);
}

/* The one owner of its key reads or writes. */
static struct sealed *used(struct transport *transport)
{
    struct sealed *sealed = container_of(transport, struct sealed, transport);
    CHECK(keys[sealed->key].owners == 1);
    return sealed;
}

static int fill(struct sealed *sealed, int fd)
{
    size_t want = sealed->nkept < SEALED_HEAD ? SEALED_HEAD : SEALED_HEAD + length_of(sealed->kept);
    while (!is_whole(sealed->kept, sealed->nkept)) {
        ssize_t n = recv(fd, sealed->kept + sealed->nkept, want - sealed->nkept, 0);
        if (n <= 0)
            return (int)n;
        sealed->nkept += (uint32_t)n;
        if (sealed->nkept >= SEALED_HEAD)
            want = SEALED_HEAD + length_of(sealed->kept);
        CHECK(want <= RECORD_MAX);
    }
    CHECK(number_of(sealed->kept) == sealed->opens);
    mask(sealed->kept + SEALED_HEAD, want - SEALED_HEAD, back(sealed->key), sealed->opens++);
    sealed->at = SEALED_HEAD;
    return 1;
}

static ssize_t sealed_read(struct transport *transport, int fd, void *room, size_t n)
{
    struct sealed *sealed = used(transport);
    int r = sealed->at > 0 ? 1 : fill(sealed, fd);
    if (r <= 0)
        return r;
    n = MIN(MIN(n, (size_t)PART), sealed->nkept - sealed->at);
    memcpy(room, sealed->kept + sealed->at, n);
    sealed->at += (uint32_t)n;
    if (sealed->at == sealed->nkept)
        sealed->at = sealed->nkept = 0;
    return (ssize_t)n;
}

/* Seals what follows the first `skip` bytes; nothing where there is no more. */
static void seal(struct sealed *sealed, const struct iovec *iov, int pieces, size_t skip)
{
    size_t n = 0;
    for (int i = 0; i < pieces; i++) {
        size_t skipped = MIN(iov[i].iov_len, skip);
        size_t part = MIN(iov[i].iov_len - skipped, SEALED_MAX - n);
        memcpy(sealed->out + SEALED_HEAD + n, (const char *)iov[i].iov_base + skipped, part);
        skip -= skipped;
        n += part;
    }
    if (n == 0)
        return;
    CHECK(keys[sealed->key].seals++ == sealed->seals);
    written++;
    put_head(sealed->out, sealed->seals, n);
    mask(sealed->out + SEALED_HEAD, n, sealed->key, sealed->seals++);
    sealed->nout = (uint32_t)(SEALED_HEAD + n);
    sealed->out_plain = (uint32_t)n;
}

/* A record is counted when the socket has all of it. */
static ssize_t sealed_writev(
    struct transport *transport, int fd, const struct iovec *iov, int pieces)
{
    struct sealed *sealed = used(transport);
    ssize_t done = 0;
    if (sealed->nout == 0)
        seal(sealed, iov, pieces, 0);
    while (sealed->nout > 0) {
        ssize_t n = send(fd, sealed->out, sealed->nout, MSG_NOSIGNAL);
        if (n < 0)
            return done > 0 && errno == EAGAIN ? done : n;
        sealed->nout -= (uint32_t)n;
        memmove(sealed->out, sealed->out + n, sealed->nout);
        if (sealed->nout > 0)
            continue; /* EAGAIN follows */
        done += sealed->out_plain;
        seal(sealed, iov, pieces, (size_t)done);
    }
    return done;
}

static uint32_t sealed_wants(const struct transport *transport, uint32_t events)
{
    (void)transport;
    return events;
}

static bool sealed_has_bytes(const struct transport *transport)
{
    return container_of(transport, const struct sealed, transport)->at > 0;
}

static int sealed_shut(struct transport *transport, int fd)
{
    used(transport);
    return shutdown(fd, SHUT_WR);
}

static bool sealed_can_move(const struct transport *transport)
{
    (void)transport;
    return true;
}

static void sealed_save(const struct transport *transport, struct pack *pack)
{
    const struct sealed *sealed = container_of(transport, const struct sealed, transport);
    pack_u32(pack, sealed->key);
    pack_u32(pack, sealed->seals);
    pack_u32(pack, sealed->opens);
    pack_u32(pack, sealed->at);
    pack_u32(pack, sealed->out_plain);
    pack_bytes(pack, (struct span){sealed->kept, sealed->nkept});
    pack_bytes(pack, (struct span){sealed->out, sealed->nout});
}

static struct sealed *make(unsigned key)
{
    struct sealed *sealed = mem_zalloc(sizeof(*sealed));
    if (sealed == NULL)
        return NULL;
    sealed->transport.ops = &sealed_ops;
    sealed->key = key;
    keys[key].owners++;
    count++;
    return sealed;
}

static int sealed_restore(struct transport **ret, struct ctx *ctx, int fd, struct unpack *unpack)
{
    struct sealed *sealed = make(unpack_u32(unpack));
    (void)ctx, (void)fd;
    if (sealed == NULL)
        return -ENOMEM;
    sealed->seals = unpack_u32(unpack);
    sealed->opens = unpack_u32(unpack);
    sealed->at = unpack_u32(unpack);
    sealed->out_plain = unpack_u32(unpack);
    struct span kept = unpack_bytes(unpack);
    struct span out = unpack_bytes(unpack);
    CHECK(kept.n <= RECORD_MAX && out.n <= RECORD_MAX && unpack_end(unpack) == 0);
    memcpy(sealed->kept, kept.p, kept.n);
    memcpy(sealed->out, out.p, out.n);
    sealed->nkept = (uint32_t)kept.n;
    sealed->nout = (uint32_t)out.n;
    *ret = &sealed->transport;
    return 0;
}

static void sealed_free(struct transport *transport)
{
    struct sealed *sealed = container_of(transport, struct sealed, transport);
    keys[sealed->key].owners--;
    count--;
    mem_free(sealed);
}

const struct transport_ops sealed_ops = {
    .read = sealed_read,
    .writev = sealed_writev,
    .wants = sealed_wants,
    .has_bytes = sealed_has_bytes,
    .shut = sealed_shut,
    .can_move = sealed_can_move,
    .save = sealed_save,
    .restore = sealed_restore,
    .free = sealed_free,
};

struct transport *sealed_new(struct sealed_peer *ret_peer)
{
    CHECK(nkeys < KEYS_MAX);
    struct sealed *sealed = make(nkeys);
    if (sealed == NULL)
        return NULL;
    ret_peer->key = nkeys++;
    ret_peer->seals = ret_peer->opens = 0;
    ret_peer->nkept = 0;
    return &sealed->transport;
}

size_t sealed_wrap(struct sealed_peer *peer, struct span bytes, char *out)
{
    CHECK(bytes.n <= SEALED_MAX);
    put_head(out, peer->seals, bytes.n);
    memcpy(out + SEALED_HEAD, bytes.p, bytes.n);
    mask(out + SEALED_HEAD, bytes.n, back(peer->key), peer->seals++);
    return SEALED_HEAD + bytes.n;
}

size_t sealed_unwrap(struct sealed_peer *peer, const char *p, size_t n, char *out)
{
    size_t total = 0;
    while (n > 0) {
        size_t part = MIN(n, sizeof(peer->kept) - peer->nkept);
        memcpy(peer->kept + peer->nkept, p, part);
        peer->nkept += part;
        p += part;
        n -= part;
        while (is_whole(peer->kept, peer->nkept)) {
            size_t length = length_of(peer->kept);
            CHECK(length <= SEALED_MAX && number_of(peer->kept) == peer->opens);
            memcpy(out + total, peer->kept + SEALED_HEAD, length);
            mask(out + total, length, peer->key, peer->opens++);
            total += length;
            peer->nkept -= SEALED_HEAD + length;
            memmove(peer->kept, peer->kept + SEALED_HEAD + length, peer->nkept);
        }
    }
    return total;
}

unsigned sealed_count(void)
{
    return count;
}

unsigned sealed_written(void)
{
    return written;
}

void sealed_forget(void)
{
    CHECK(count == 0);
    memset(keys, 0, sizeof(keys));
    nkeys = written = 0;
}
