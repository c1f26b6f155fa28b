/*
 * The state of a duplex connection for another process. Its route is found again there by host and
 * path.
 */

#include <errno.h>

#include "common/alloc.h"
#include "frontd/codec/ws_deflate.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/session/duplex.h"
#include "proto/close_code.h"
#include "proto/jsonrpc.h"

enum { PINGS_MASK = 3 }; /* what duplex->pings has room for */

void duplex_save(const struct client *client, struct pack *pack)
{
    const struct duplex *duplex = client->duplex;
    pack_u8(pack, client->session - SESSION_WEBSOCKET);
    /* A route is known by what it is for: its place in the config may be another one elsewhere. */
    pack_text(pack, duplex->route->host);
    pack_text(pack, duplex->route->path);
    pack_u8(pack, duplex->route->raw);
    pack_u64(pack, duplex->route->ping); /* which the socket knows */
    pack_text(pack, duplex->headers);
    pack_u64(pack, duplex->heard_at);
    pack_u32(pack, duplex->dropped);
    pack_u16(pack, duplex->code);
    pack_u8(pack, duplex->pings);
    pack_u8(pack, duplex->announced);
    pack_u8(pack, duplex->close_sent);
}

void duplex_forget(struct client *client)
{
    client->duplex->announced = false;
    client->duplex->dropped = 0;
}

void duplex_save_deflate(const struct client *client, struct pack *pack)
{
    pack_u8(pack, client->duplex->deflate);
}

int duplex_restore_deflate(struct client *client, struct unpack *unpack)
{
    uint8_t bits = unpack_u8(unpack);
    if (unpack_end(unpack) < 0 || client->session != SESSION_WEBSOCKET ||
        bits < WS_DEFLATE_BITS_MIN || bits > WS_DEFLATE_BITS_MAX)
        return -EBADMSG;
    client->duplex->deflate = bits;
    return 0;
}

/* What is given to workers as it is has to be an object. */
static bool is_object(struct span json)
{
    return json.n > 0 && json.p[0] == '{' && jsonrpc_validate(json.p, json.n) == 0;
}

void duplex_save_claims(const struct client *client, struct pack *pack)
{
    const struct claims *claims = client->duplex->claims;
    pack_u64(pack, (uint64_t)claims->until);
    pack_bytes(pack, (struct span){claims->text, claims->n});
}

int duplex_restore_claims(struct client *client, struct unpack *unpack)
{
    int64_t until = (int64_t)unpack_u64(unpack);
    struct span text = unpack_bytes(unpack);
    if (unpack_end(unpack) < 0 || client->session != SESSION_WEBSOCKET || !is_object(text))
        return -EBADMSG;
    client->duplex->claims = claims_new(text, until);
    return client->duplex->claims == NULL ? -ENOMEM : 0;
}

static const struct conf_route *find_route(
    const struct conf_listener *listener, struct span host, struct span path)
{
    for (uint32_t i = 0; i < listener->nroutes; i++) {
        const struct conf_route *route = &listener->routes[i];
        if (unpack_text_is(host, route->host) && unpack_text_is(path, route->path))
            return route;
    }
    return NULL;
}

/* The duplex session of a listener of that protocol. */
static enum session_kind session_of(enum conf_protocol protocol)
{
    switch (protocol) {
    case CONF_PROTOCOL_FRAME: return SESSION_FRAME;
    case CONF_PROTOCOL_LINE: return SESSION_LINE;
    default: return SESSION_WEBSOCKET;
    }
}

static bool code_fits(unsigned code)
{
    return code == 0 || code == WS_CODE_NONE || code == WS_CODE_LOST || close_code_valid(code);
}

int duplex_restore(struct client *client, struct unpack *unpack)
{
    struct ctx *ctx = client->ctx;
    enum session_kind session = session_of(client_listener(client)->protocol);
    struct duplex read = {0};
    uint8_t kind = unpack_u8(unpack);
    struct span host = unpack_text(unpack);
    struct span path = unpack_text(unpack);
    bool raw = unpack_flag(unpack);
    uint64_t ping = unpack_u64(unpack);
    struct span headers = unpack_text(unpack);
    read.heard_at = unpack_time(unpack, ctx_now(ctx));
    read.dropped = unpack_u32(unpack);
    read.code = unpack_u16(unpack);
    uint8_t pings = unpack_u8(unpack);
    read.pings = pings & PINGS_MASK;
    read.announced = unpack_flag(unpack);
    read.close_sent = unpack_flag(unpack);
    if (unpack_end(unpack) < 0 || kind != session - SESSION_WEBSOCKET || !code_fits(read.code) ||
        read.pings != pings || (headers.p != NULL && !is_object(headers)))
        return -EBADMSG;
    read.route = find_route(client_listener(client), host, path);
    enum conf_kind wanted = session == SESSION_WEBSOCKET ? CONF_WEBSOCKET : CONF_STREAM;
    if (read.route == NULL || read.route->kind != wanted || read.route->raw != raw)
        return -ENOTSUP;
    struct duplex *duplex = slab_get(&ctx->duplexes);
    if (duplex == NULL)
        return -ENOMEM;
    if (headers.p != NULL) {
        read.headers = mem_strndup(headers.p, headers.n);
        if (read.headers == NULL) {
            slab_put(&ctx->duplexes, duplex);
            return -ENOMEM;
        }
    }
    *duplex = read;
    idmap_add(&ctx->conns, &client->conn);
    client->duplex = duplex;
    client_set_session(client, session);
    if (ping != read.route->ping)
        duplex_set_keep_alive(client);
    return 0;
}
