/*
 * A client moves to another process. Old side: client_can_move() → freeze → save → release, or thaw
 * where it was not taken. New side: restore → start, or discard.
 *
 * A client that is frozen or only restored does nothing: its timer is not armed, its connection is
 * not waited for any longer once it has been reported ready, and `touched` is set without its being
 * queued, so that nothing queues it.
 */

#include <unistd.h>

#include "frontd/shard/client/client_internal.h"

void client_freeze(struct client *client)
{
    CHECK(client_can_move(client));
    client->moving = true;
    client->touched = true;
    wheel_disarm(&client->timer);
}

/* client_flush() does the rest at the end of the turn: it writes, polls, arms the timer, or frees a
 * client that was doomed meanwhile. */
static void revive(struct client *client)
{
    client->moving = client->arriving = client->caught_up = client->touched = false;
    if (client->drain_later || client->ctx->draining)
        client_drain(client);
    client->drain_later = false;
    client_touch(client);
}

void client_thaw(struct client *client)
{
    CHECK(client->moving);
    revive(client);
}

void client_keep(struct client *client)
{
    client->kept = true;
    client_thaw(client);
}

/* Frees a client whose connection lives on in another process. */
static void forget(struct client *client)
{
    if (client_is_duplex(client))
        client_session(client)->forget(client);
    client_dispose(client);
}

void client_release(struct client *client)
{
    int fd = client->fd;
    CHECK(client->moving);
    forget(client);
    close(fd);
}

void client_discard(struct client *client)
{
    CHECK(client->arriving);
    forget(client);
}

void client_start(struct client *client)
{
    CHECK(client->arriving);
    revive(client);
    /* It was watched as if it were read: an event of this turn is not to do so where it is not. */
    if (!client_may_start(client))
        client_choose_events(client);
}
