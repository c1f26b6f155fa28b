/*
 * How a connection ends: client_end() → all answers are written → client_linger(): our side is
 * shut, and what the client still sends is dropped for a while, since closing with unread bytes
 * would reset the connection and take the answer with it → the client closes its side, or has had
 * its time → client_doom(). Where the connection breaks off, client_doom() is called at once.
 *
 * The kernel keeps the bytes of a socket that is closed while its peer does not read, for minutes,
 * and they are in no count of this program. So a client that lingers is kept for as long as it
 * reads what the kernel has, and a client that is closed with bytes unsent is reset.
 */

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "frontd/shard/client/client_internal.h"

uint32_t client_unsent(const struct client *client)
{
    int n = 0;
    if (!client->bulky || client->fd < 0 || client->peer_family == AF_UNIX ||
        ioctl(client->fd, SIOCOUTQ, &n) < 0)
        return 0;
    return (uint32_t)MAX(n, 0);
}

void client_set_end(const struct client *client)
{
    const struct linger at_once = {.l_onoff = 1};
    bool given_up = client->aborts || client_waiting(client) > 0 ||
                    client_unsent(client) > CLIENT_UNSENT_SMALL;
    if (given_up && client->fd >= 0 && client->peer_family != AF_UNIX)
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void client_abort(struct client *client)
{
    client->aborts = true; /* client_set_end() sees to it */
    client_doom(client);
}

void client_leave(struct client *client)
{
    if (client_unsent(client) <= CLIENT_UNSENT_SMALL) {
        client->bulky = false; /* client_set_end() need not ask the kernel once more */
        client_doom(client);
        return;
    }
    client->last_request = true;
    client_end(client);
}

bool client_reads_the_rest(struct client *client)
{
    const struct conf_limits *limits = &client->ctx->conf->limits;
    uint64_t now = ctx_now(client->ctx);
    uint32_t left = client_unsent(client);
    uint64_t read = client->unsent > left ? client->unsent - left : 0;
    uint64_t late = client->late + (now - client->active_at);
    uint64_t earned = limits->write_rate > 0 ? read * 1000 / limits->write_rate
                      : read > 0             ? late
                                             : 0;
    late = late > earned ? late - earned : 0;
    client->unsent = left;
    client->late = (uint32_t)MIN(late, (uint64_t)UINT32_MAX);
    client->active_at = now;
    return left > CLIENT_UNSENT_SMALL && late < limits->body_timeout;
}

void client_end(struct client *client)
{
    if (client->state < CLIENT_ENDING)
        client_set_state(client, CLIENT_ENDING);
    client_touch(client);
}

void client_linger(struct client *client)
{
    struct transport *transport = client->transport;
    int r = transport == NULL ? shutdown(client->fd, SHUT_WR)
                              : transport->ops->shut(transport, client->fd);
    if (r < 0) {
        client_doom(client);
        return;
    }
    client_set_state(client, CLIENT_LINGERING);
    client->shut = false; /* the end of its side, if it has come, is seen once more */
    client->active_at = ctx_now(client->ctx);
    client->unsent = client_unsent(client);
    client->late = 0;
    client_free_pending(client);
}

bool client_keeps_output(const struct client *client)
{
    return client_waiting(client) == 0 ||
           (!client->held && client_stalled_at(client) > ctx_now(client->ctx));
}

void client_give_up_calls(struct client *client)
{
    client->ctx->requests_ops->abandon(client);
    if (client_waiting(client) == 0) {
        client_leave(client);
        return;
    }
    client->last_request = true;
    client_end(client); /* for what waits it has body_timeout */
}
