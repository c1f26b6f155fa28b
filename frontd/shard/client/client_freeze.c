/*
 * A client moves to another process. Old side: client_can_move() → freeze → save → release, or thaw
 * where it was not taken. New side: restore → start, or discard.
 *
 * Clients that it carries (client_carrier()) are frozen, thawed and so on with it, and are a part
 * of its state.
 *
 * A client that is frozen or only restored does nothing: its timer is not armed, its connection is
 * not waited for any longer once it has been reported ready, and `touched` is set without its being
 * queued, so that nothing queues it.
 */

#include <unistd.h>

#include "frontd/shard/client/client_internal.h"

static bool freeze(struct client *client, void *arg)
{
    (void)arg;
    client->moving = true;
    client->touched = true;
    wheel_disarm(&client->timer);
    return true;
}

void client_freeze(struct client *client)
{
    CHECK(client_can_move(client));
    freeze(client, NULL);
    client_each_carried(client, freeze, NULL);
}

/* client_flush() does the rest at the end of the turn: it writes, polls, arms the timer, or frees a
 * client that was doomed meanwhile. */
static bool revive(struct client *client, void *arg)
{
    (void)arg;
    client->moving = client->arriving = client->caught_up = client->touched = false;
    if (client->drain_later || client->ctx->draining)
        client_drain(client);
    client->drain_later = false;
    client_touch(client);
    return true;
}

void client_thaw(struct client *client)
{
    CHECK(client->moving);
    revive(client, NULL);
    client_each_carried(client, revive, NULL);
}

void client_keep(struct client *client)
{
    client->kept = true;
    client_thaw(client);
}

/* Frees a client whose connection lives on in another process. */
static bool forget(struct client *client, void *arg)
{
    (void)arg;
    if (client_is_duplex(client))
        client_session(client)->forget(client);
    client_dispose(client);
    return true;
}

void client_release(struct client *client)
{
    int fd = client->fd;
    CHECK(client->moving);
    client_each_carried(client, forget, NULL);
    forget(client, NULL);
    close(fd);
}

void client_discard(struct client *client)
{
    CHECK(client->arriving);
    client_each_carried(client, forget, NULL);
    forget(client, NULL);
}

static bool set_arriving(struct client *client, void *arg)
{
    client->arriving = *(bool *)arg;
    return true;
}

void client_set_arriving(struct client *client, bool arriving)
{
    set_arriving(client, &arriving);
    client_each_carried(client, set_arriving, &arriving);
}

static bool set_caught_up(struct client *client, void *arg)
{
    (void)arg;
    client->caught_up = true;
    return true;
}

void client_set_caught_up(struct client *client)
{
    set_caught_up(client, NULL);
    client_each_carried(client, set_caught_up, NULL);
}

void client_start(struct client *client)
{
    CHECK(client->arriving);
    revive(client, NULL);
    client_each_carried(client, revive, NULL);
    client_count_start(client);
    /* It was watched as if it were read: an event of this turn is not to do so where it is not. */
    if (!client_may_start(client))
        client_choose_events(client);
}
