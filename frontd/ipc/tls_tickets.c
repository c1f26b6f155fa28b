#include "frontd/ipc/tls_tickets.h"

#include <string.h>
#include <time.h>

#include "common/secret.h"

/*
 * The longest time between `made` and `until`: a key that is to be used for half a lifetime, and
 * whose successor came late, but before it was too old; then a lifetime more.
 */
static const uint64_t LASTS_MAX = CONF_TICKETS_MAX / 2 + 2 * CONF_TICKETS_MAX;

static void take_away(struct tls_ticket_keys *keys, uint64_t index)
{
    struct tls_ticket_key *key = &keys->keys[index];
    memmove(key, key + 1, (keys->count - index - 1) * sizeof(*key));
    keys->count--;
    secret_wipe(&keys->keys[keys->count], sizeof(*key));
}

static bool take_away_old(struct tls_ticket_keys *keys, uint64_t now, uint64_t lifetime)
{
    uint64_t before = keys->count;
    for (uint64_t i = keys->count; i-- > 0;) {
        if (lifetime == 0 || keys->keys[i].until <= now)
            take_away(keys, i);
    }
    return keys->count != before;
}

static void add(
    struct tls_ticket_keys *keys, uint64_t now, const uint8_t random[static TLS_TICKET_RANDOM_SIZE])
{
    if (keys->count == TLS_TICKET_KEYS_MAX)
        take_away(keys, keys->count - 1);
    memmove(&keys->keys[1], &keys->keys[0], keys->count * sizeof(keys->keys[0]));
    struct tls_ticket_key *key = &keys->keys[0];
    memcpy(key->name, random, sizeof(key->name));
    memcpy(key->aes, random + TLS_TICKET_NAME_SIZE, sizeof(key->aes));
    memcpy(key->hmac, random + TLS_TICKET_NAME_SIZE + TLS_TICKET_AES_SIZE, sizeof(key->hmac));
    key->made = now;
    key->until = now;
    keys->count++;
}

/* Keeps the newest key until then at least. Returns whether that is longer than before. */
static bool keep_newest(struct tls_ticket_keys *keys, uint64_t until)
{
    if (keys->count == 0 || keys->keys[0].until >= until)
        return false;
    keys->keys[0].until = until;
    return true;
}

/* When the next key is due. */
static uint64_t next_at(const struct tls_ticket_keys *keys, uint64_t lifetime)
{
    return keys->count == 0 ? 0 : keys->keys[0].made + lifetime / 2;
}

bool tls_tickets_step(struct tls_ticket_keys *keys, uint64_t now, uint64_t lifetime,
    const uint8_t random[static TLS_TICKET_RANDOM_SIZE])
{
    bool changed = take_away_old(keys, now, lifetime);
    if (lifetime == 0)
        return changed;
    if (next_at(keys, lifetime) <= now) {
        keep_newest(keys, now + lifetime); /* it has encrypted until now, though that is late */
        add(keys, now, random);
        changed = true;
    }
    /* It encrypts until the next one is made; a ticket of that moment lives for a lifetime more. */
    return keep_newest(keys, keys->keys[0].made + lifetime / 2 + lifetime) || changed;
}

uint64_t tls_tickets_due(const struct tls_ticket_keys *keys, uint64_t now, uint64_t lifetime)
{
    if (lifetime == 0)
        return keys->count == 0 ? UINT64_MAX : 0;
    uint64_t at = next_at(keys, lifetime);
    for (uint64_t i = 0; i < keys->count; i++)
        at = MIN(at, keys->keys[i].until);
    return at > now ? at - now : 0;
}

bool tls_tickets_valid(const struct tls_ticket_keys *keys, uint64_t now)
{
    if (keys->count > TLS_TICKET_KEYS_MAX)
        return false;
    for (uint64_t i = 0; i < keys->count; i++) {
        const struct tls_ticket_key *key = &keys->keys[i];
        if (key->made > now || key->until < key->made || key->until - key->made > LASTS_MAX)
            return false;
        if (i > 0 && key->made > key[-1].made)
            return false;
        if (tls_tickets_find(keys, key->name) != key)
            return false;
    }
    return true;
}

const struct tls_ticket_key *tls_tickets_find(
    const struct tls_ticket_keys *keys, const uint8_t name[static TLS_TICKET_NAME_SIZE])
{
    for (uint64_t i = 0; i < keys->count; i++) {
        if (memcmp(keys->keys[i].name, name, TLS_TICKET_NAME_SIZE) == 0)
            return &keys->keys[i];
    }
    return NULL;
}

uint64_t tls_tickets_now(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
