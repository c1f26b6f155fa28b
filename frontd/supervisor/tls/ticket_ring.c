#include "frontd/supervisor/tls/ticket_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/random.h"
#include "common/secret.h"
#include "frontd/system/privileges.h"

/* What the memfd has. The version changes with struct tls_ticket_keys. */
struct saved {
    uint32_t magic;
    uint32_t version;
    struct tls_ticket_keys keys;
};

static const uint32_t MAGIC = 0x546b546c; /* "lTkT" */
static const uint32_t VERSION = 1;

static bool make_room(struct ticket_ring *ring)
{
    CHECK(privileges_hide() == 0); /* also where a program's successor is told of keys */
    if (ring->keys == NULL)
        ring->keys = secret_alloc(sizeof(*ring->keys));
    return ring->keys != NULL;
}

bool ticket_ring_step(struct ticket_ring *ring, uint64_t lifetime)
{
    uint8_t random[TLS_TICKET_RANDOM_SIZE];
    if (lifetime == 0 && ring->keys == NULL)
        return false;
    if (!make_room(ring))
        return false;
    random_bytes(random, sizeof(random));
    bool changed = tls_tickets_step(ring->keys, tls_tickets_now(), lifetime, random);
    secret_wipe(random, sizeof(random));
    return changed;
}

uint64_t ticket_ring_due(const struct ticket_ring *ring, uint64_t lifetime)
{
    static const struct tls_ticket_keys none;
    return tls_tickets_due(ring->keys == NULL ? &none : ring->keys, tls_tickets_now(), lifetime);
}

bool ticket_ring_set(struct ticket_ring *ring, const struct tls_ticket_keys *keys)
{
    if (!tls_tickets_valid(keys, tls_tickets_now()) || !make_room(ring))
        return false;
    *ring->keys = *keys;
    return true;
}

int ticket_ring_save(const struct ticket_ring *ring)
{
    if (ticket_ring_count(ring) == 0)
        return -ENOENT;
    struct saved saved = {.magic = MAGIC, .version = VERSION, .keys = *ring->keys};
    int fd = memfd_create("frontd-tickets", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    if (r == 0 && write(fd, &saved, sizeof(saved)) != (ssize_t)sizeof(saved)) {
        r = -EIO;
        close(fd);
    }
    secret_wipe(&saved, sizeof(saved));
    return r < 0 ? r : fd;
}

int ticket_ring_restore(struct ticket_ring *ring, int fd)
{
    struct saved saved;
    int r = pread(fd, &saved, sizeof(saved), 0) == (ssize_t)sizeof(saved) ? 0 : -EBADMSG;
    if (r == 0 &&
        (saved.magic != MAGIC || saved.version != VERSION || !ticket_ring_set(ring, &saved.keys)))
        r = -EBADMSG;
    secret_wipe(&saved, sizeof(saved));
    return r;
}

void ticket_ring_deinit(struct ticket_ring *ring)
{
    secret_free(ring->keys, sizeof(*ring->keys));
    ring->keys = NULL;
}
