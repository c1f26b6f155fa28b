#include "frontd/shard/client/affinity.h"

#include <errno.h>

#include "common/alloc.h"

static struct affinity **affinity_of(const struct client *client)
{
    return client_session(client)->affinity(client);
}

/* Makes one with room for so many bytes of state; the first one of a connection is bound to none.
 */
static struct affinity *make(struct client *client, size_t n)
{
    struct affinity **at = affinity_of(client);
    struct affinity *affinity = mem_zalloc(sizeof(*affinity) + n);
    if (affinity == NULL)
        return NULL;
    affinity->pool = AFFINITY_NO_POOL;
    client->ctx->states += sizeof(*affinity) + n;
    client->ctx->states -= affinity_held(*at);
    if (*at == NULL) {
        client->ctx->bound++;
    } else {
        affinity->home = (*at)->home;
        affinity->pool = (*at)->pool;
        mem_free(*at);
    }
    affinity->n = (uint32_t)n;
    *at = affinity;
    return affinity;
}

struct affinity *affinity_need(struct client *client)
{
    struct affinity *affinity = *affinity_of(client);
    return affinity != NULL ? affinity : make(client, 0);
}

int affinity_keep(struct client *client, struct span state)
{
    struct affinity *affinity = *affinity_of(client);
    if (affinity == NULL && state.n == 0)
        return 0;
    if (affinity == NULL || affinity->n != state.n)
        affinity = make(client, state.n);
    if (affinity == NULL)
        return -ENOMEM;
    if (state.n > 0)
        memcpy(affinity->state, state.p, state.n);
    return 0;
}

uint64_t affinity_home(const struct client *client, uint32_t pool)
{
    const struct affinity *affinity = client_is_duplex(client) ? *affinity_of(client) : NULL;
    return affinity != NULL && affinity->pool == pool ? affinity->home : 0;
}

void affinity_drop(struct client *client)
{
    struct affinity **at = affinity_of(client);
    if (*at == NULL)
        return;
    client->ctx->bound--;
    client->ctx->states -= affinity_held(*at);
    *at = mem_free(*at);
}

void affinity_save(const struct affinity *affinity, const struct conf *conf, struct pack *pack)
{
    bool known = affinity->pool != AFFINITY_NO_POOL;
    pack_u64(pack, affinity->home);
    pack_text(pack, known ? conf->pools[affinity->pool].name : NULL);
    pack_bytes(pack, (struct span){affinity->state, affinity->n});
}

static uint32_t find_pool(const struct conf *conf, struct span name)
{
    for (uint32_t i = 0; name.p != NULL && i < conf->npools; i++) {
        if (unpack_text_is(name, conf->pools[i].name))
            return i;
    }
    return AFFINITY_NO_POOL;
}

int affinity_restore(struct client *client, struct unpack *unpack)
{
    uint64_t home = unpack_u64(unpack);
    struct span pool = unpack_text(unpack);
    struct span state = unpack_bytes(unpack);
    if (unpack_end(unpack) < 0 || *affinity_of(client) != NULL || state.n > CONF_STATE_MAX)
        return -EBADMSG;
    struct affinity *affinity = make(client, state.n);
    if (affinity == NULL)
        return -ENOMEM;
    if (state.n > 0)
        memcpy(affinity->state, state.p, state.n);
    affinity->pool = find_pool(client->ctx->conf, pool);
    /* Nobody of this config's pools knows it where its own is not there. */
    affinity->home = affinity->pool == AFFINITY_NO_POOL ? 0 : home;
    client->ctx->unsettled = true;
    return 0;
}
