/*
 * A client of a listener with tls: accepted → its handshake → client_tls_ops.opened(): its session
 * begins, and it has first_byte_timeout for its first byte → its TLS breaks off, or it ends as any
 * other does.
 *
 * Where the handshake fails, or what comes after it breaks the protocol, the client is told so by
 * an alert, which a reset would take with it: what still comes is read and dropped for a while.
 */

#include "frontd/shard/client/client_internal.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/tls/tls.h"

void client_break(struct client *client)
{
    if (client->state >= CLIENT_ENDING) {
        client_doom(client);
        return;
    }
    refusal_note_tls(client, &client->ctx->tls->failure);
    client->ctx->requests_ops->abandon(client);
    client_free_pending(client);
    buf_deinit(&client->out);
    message_queue_free(&client->queue);
    client->held = false;
    client->last_request = true;
    client_end(client);
}

static void went_on(void *owner)
{
    client_touch(owner);
}

static void opened(void *owner, struct span alpn)
{
    struct client *client = owner;
    struct ctx *ctx = client->ctx;
    if (client->state != CLIENT_OPEN) {
        client_touch(client);
        return;
    }
    client->active_at = ctx_now(ctx); /* first_byte_timeout counts from here */
    if (!client->used && ctx->used != NULL) {
        list_remove(&client->node);
        list_append(&ctx->unused, &client->node);
    }
    client_begin_session(client, alpn);
    client_touch(client);
}

static void failed(void *owner)
{
    client_break(owner);
}

const struct tls_owner_ops client_tls_ops = {
    .went_on = went_on, .opened = opened, .failed = failed};
