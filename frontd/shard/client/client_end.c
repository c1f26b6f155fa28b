/*
 * What becomes of the bytes that were written when a connection ends. A socket that is closed while
 * the kernel has bytes for a client that does not read keeps them, for minutes, and nobody counts
 * them. So one that lingers is kept for as long as the client reads what the kernel has, and
 * whoever is doomed with bytes unsent is reset.
 */

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "frontd/shard/client/client.h"

uint32_t client_unsent(const struct client *client)
{
    int n = 0;
    if (!client->bulky || client->peer_family == AF_UNIX || ioctl(client->fd, SIOCOUTQ, &n) < 0)
        return 0;
    return (uint32_t)MAX(n, 0);
}

void client_set_end(const struct client *client)
{
    const struct linger at_once = {.l_onoff = 1};
    bool given_up = client_waiting(client) > 0 || client_unsent(client) > CLIENT_UNSENT_SMALL;
    if (given_up && client->peer_family != AF_UNIX)
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void client_leave(struct client *client)
{
    if (client_unsent(client) <= CLIENT_UNSENT_SMALL) {
        client->bulky = false; /* it need not be asked once more */
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
