/*
 * A connection of a listener with `h2c: true`, until its first bytes tell what it speaks (RFC 9113
 * section 3.3): HTTP/2 begins with a preface that is no request of HTTP/1.1.
 */

#include <errno.h>

#include "frontd/shard/session/http1_session.h"
#include "frontd/shard/session/http2_session.h"

static size_t take(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    (void)codec;
    *ret_rest = p;
    if (h2_preface_match(p, n) < MIN(n, (size_t)H2_PREFACE_SIZE))
        client_set_session(client, SESSION_HTTP1);
    else if (n >= H2_PREFACE_SIZE && http2_open(client) < 0)
        client_doom(client);
    return n;
}

/* The preface is not complete, and will not be: it is dealt with as a request of HTTP/1.1. */
static const struct session_ops *settle(struct client *client)
{
    client_set_session(client, SESSION_HTTP1);
    return &http1_session;
}

static bool input_ended(struct client *client)
{
    return settle(client)->input_ended(client);
}

static uint64_t due(const struct client *client)
{
    return http1_session.due(client);
}

static void expire(struct client *client)
{
    settle(client)->expire(client);
}

static void drain(struct client *client)
{
    settle(client)->drain(client);
}

static void gone(struct client *client)
{
    (void)client;
}

static void save(const struct client *client, struct pack *pack)
{
    (void)client;
    (void)pack;
}

static int restore(struct client *client, struct unpack *unpack)
{
    if (client_listener(client)->protocol != CONF_PROTOCOL_HTTP)
        return -EBADMSG;
    client_set_session(client, SESSION_FIRST);
    return unpack_end(unpack);
}

static int restore_codec(
    struct span bytes, union codec_state *ret_codec, struct unpack *unpack, unsigned version)
{
    (void)ret_codec;
    (void)unpack;
    bool whole = bytes.n >= H2_PREFACE_SIZE || h2_preface_match(bytes.p, bytes.n) < bytes.n;
    return version != 1 || whole ? -EBADMSG : 0;
}

const struct session_ops http_first_session = {
    .take = take,
    .input_ended = input_ended,
    .due = due,
    .expire = expire,
    .drain = drain,
    .gone = gone,
    .save = save,
    .restore = restore,
    .restore_codec = restore_codec,
};
