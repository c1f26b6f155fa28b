#include "frontd/shard/tls/tls.h"

#include <errno.h>

#include "common/alloc.h"
#include "frontd/shard/tls/seal_log.h"
#include "frontd/shard/tls/tls_handshake.h"
#include "frontd/shard/tls/tls_transport.h"

enum { LOOK_MS = 100 /* while none can begin: memory may have been freed, a client be silent */ };

void tls_init(struct tls *tls, struct ctx *ctx, const struct tls_owner_ops *owners)
{
    *tls = (struct tls){.ctx = ctx, .owners = owners};
    tls_infos_init(&tls->infos);
    slab_init_secret(&tls->transports, sizeof(struct tls_transport));
    slab_init_secret(&tls->openings, sizeof(struct tls_handshake));
    list_init(&tls->waiting);
    list_init(&tls->ready);
    list_init(&tls->begun);
    wheel_timer_init(&tls->timer, TIMER_TLS);
}

void tls_deinit(struct tls *tls)
{
    CHECK(tls->handshakes == 0 && list_empty(&tls->waiting));
    wheel_disarm(&tls->timer);
    for (uint32_t i = 0; tls->contexts != NULL && i < tls->ctx->conf->nlisteners; i++)
        tls_context_deinit(&tls->contexts[i]);
    tls->contexts = mem_free(tls->contexts);
    tls_infos_deinit(&tls->infos);
    slab_deinit(&tls->transports);
    slab_deinit(&tls->openings);
    tls->scratch = mem_free(tls->scratch);
    tls->crypto = tls_crypto_free(tls->crypto);
}

int tls_prepare(struct tls *tls)
{
    if (LIKELY(tls->crypto != NULL))
        return 0;
    tls->scratch = mem_zalloc(TLS_SCRATCH_SIZE);
    if (tls->scratch != NULL)
        tls->crypto = tls_crypto_new();
    if (tls->crypto == NULL)
        tls->scratch = mem_free(tls->scratch);
    else
        seal_log_watch(tls->crypto);
    return tls->crypto == NULL ? -ENOMEM : 0;
}

/* How many handshakes may be in progress. limit: limits.memory; 0: there is none. */
static unsigned most_of(uint64_t limit)
{
    uint64_t most = limit / TLS_HANDSHAKES_PART / TLS_HANDSHAKE_BYTES;
    bool few = limit > 0 && most < TLS_HANDSHAKES_MAX;
    return few ? (unsigned)most : TLS_HANDSHAKES_MAX;
}

int tls_use(struct tls *tls, const struct tls_material *material)
{
    const struct conf *conf = tls->ctx->conf;
    CHECK(tls->contexts == NULL);
    tls->most = most_of(conf->limits.memory);
    tls->contexts = mem_zalloc(conf->nlisteners * sizeof(*tls->contexts));
    int r = tls->contexts == NULL ? -ENOMEM : tls_prepare(tls);
    for (uint32_t i = 0; r == 0 && i < conf->nlisteners; i++) {
        const struct tls_material_listener *found = tls_material_find(material, i);
        if (conf->listeners[i].tls == NULL)
            continue;
        r = found == NULL ? -EPROTO
                          : tls_context_init(&tls->contexts[i], &conf->listeners[i], found,
                                tls->ctx->ticket_keys, tls_handshake_message);
    }
    return r;
}

void tls_queue(struct tls_handshake *handshake)
{
    struct tls *tls = handshake->tls;
    handshake->queued = true;
    list_remove(&handshake->node);
    list_append(handshake->ssl == NULL ? &tls->waiting : &tls->ready, &handshake->node);
}

void tls_leave(struct tls_handshake *handshake)
{
    list_remove(&handshake->node);
    if (handshake->ssl == NULL)
        return;
    handshake->tls->handshakes--;
    handshake->tls->blocked = false;
    mem_returned(TLS_HANDSHAKE_BYTES);
}

/* Makes room for one more handshake, where that is possible. Returns whether there is some. */
static bool make_room(struct tls *tls)
{
    uint64_t now = ctx_now(tls->ctx);
    if (ctx_memory(tls->ctx) >= MEMORY_SHORT)
        return false;
    if (tls->handshakes < tls->most)
        return true;
    if (list_empty(&tls->begun))
        return false;
    struct tls_handshake *oldest = list_first(&tls->begun, struct tls_handshake, node);
    if (now - oldest->heard_at < TLS_HANDSHAKE_SILENT_MS)
        return false;
    tls->failure = (struct tls_failure){TLS_FAILURE_SILENT, "others wait for its place"};
    tls_transport_fail(oldest->transport);
    return true;
}

/* One step of that handshake. */
static void step(struct tls *tls, struct tls_handshake *handshake)
{
    handshake->queued = handshake->deaf = false;
    /* That it has waited for its turn is not the client's silence. */
    handshake->heard_at = ctx_now(tls->ctx);
    list_remove(&handshake->node);
    list_append(&tls->begun, &handshake->node);
    tls_transport_step(handshake->transport);
}

/* Begins the handshake that has waited longest. */
static void begin(struct tls *tls)
{
    struct tls_handshake *handshake = list_first(&tls->waiting, struct tls_handshake, node);
    if (!make_room(tls)) {
        tls->blocked = true;
        ctx_arm(tls->ctx, &tls->timer, LOOK_MS);
        return;
    }
    list_remove(&handshake->node);
    if (tls_handshake_begin(handshake) < 0) {
        tls->failure = (struct tls_failure){TLS_FAILURE_INTERNAL, "no memory"};
        tls_transport_fail(handshake->transport);
        return;
    }
    tls->handshakes++;
    mem_lent(TLS_HANDSHAKE_BYTES);
    step(tls, handshake);
}

void tls_turn(struct tls *tls)
{
    if (LIKELY(!tls_unfinished(tls)))
        return;
    uint64_t until = uv_hrtime() + TLS_TURN_NS;
    do {
        if (!list_empty(&tls->ready))
            step(tls, list_first(&tls->ready, struct tls_handshake, node));
        else
            begin(tls);
    } while (tls_unfinished(tls) && uv_hrtime() < until);
}

void tls_timeout(struct wheel_timer *timer)
{
    container_of(timer, struct tls, timer)->blocked = false;
}
