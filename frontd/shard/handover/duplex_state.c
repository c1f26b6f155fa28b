#include <errno.h>

#include "common/alloc.h"
#include "frontd/shard/session/duplex.h"
#include "proto/jsonrpc.h"

enum { PINGS_MASK = 3 }; /* what stay->pings has room for */

void stay_save(const struct client *client, struct pack *pack)
{
    const struct stay *stay = client->stay;
    pack_u8(pack, stay->kind);
    /* A route is known by what it is for: its place in the config may be another one elsewhere. */
    pack_text(pack, stay->route->host);
    pack_text(pack, stay->route->path);
    pack_u8(pack, stay->route->raw);
    pack_u64(pack, stay->route->ping); /* which the socket knows */
    pack_text(pack, stay->headers);
    pack_u64(pack, stay->heard_at);
    pack_u32(pack, stay->dropped);
    pack_u16(pack, stay->code);
    pack_u8(pack, stay->pings);
    pack_u8(pack, stay->announced);
    pack_u8(pack, stay->close_sent);
}

void stay_forget(struct client *client)
{
    client->stay->announced = false;
    client->stay->dropped = 0;
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

static bool kind_fits(enum stay_kind kind, enum conf_protocol protocol)
{
    switch (protocol) {
    case CONF_PROTOCOL_HTTP: return kind == STAY_WEBSOCKET;
    case CONF_PROTOCOL_FRAME: return kind == STAY_FRAME;
    case CONF_PROTOCOL_LINE: return kind == STAY_LINE;
    }
    return false;
}

/* What a worker is given as it is has to be what it says. */
static bool is_object(struct span json)
{
    return json.n > 0 && json.p[0] == '{' && jsonrpc_validate(json.p, json.n) == 0;
}

static bool code_fits(unsigned code)
{
    return code == 0 || code == WS_CODE_NONE || code == WS_CODE_LOST || ws_code_valid(code);
}

int stay_restore(struct client *client, struct unpack *unpack)
{
    struct ctx *ctx = client->ctx;
    struct stay read = {.kind = unpack_u8(unpack)};
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
    if (unpack_end(unpack) < 0 || !kind_fits(read.kind, client->listener->protocol) ||
        !code_fits(read.code) || read.pings != pings || (headers.p != NULL && !is_object(headers)))
        return -EBADMSG;
    read.route = find_route(client->listener, host, path);
    enum conf_kind kind = read.kind == STAY_WEBSOCKET ? CONF_WEBSOCKET : CONF_STREAM;
    if (read.route == NULL || read.route->kind != kind || read.route->raw != raw)
        return -ENOTSUP;
    struct stay *stay = slab_get(&ctx->stays);
    if (stay == NULL)
        return -ENOMEM;
    if (headers.p != NULL) {
        read.headers = mem_strndup(headers.p, headers.n);
        if (read.headers == NULL) {
            slab_put(&ctx->stays, stay);
            return -ENOMEM;
        }
    }
    *stay = read;
    idmap_add(&ctx->conns, &client->conn);
    client->stay = stay;
    if (ping != read.route->ping)
        stay_set_keep_alive(client);
    return 0;
}

void stay_save_codec(const struct client *client, const union codec_state *codec, struct pack *pack)
{
    /* How much of a line was looked at, or behind a message, is found out again; a frame's head is
     * in its bytes. */
    if (client->stay->kind == STAY_WEBSOCKET)
        ws_save(&codec->ws, pack);
}

unsigned stay_codec_version(const struct client *client, const union codec_state *codec)
{
    return client->stay->kind == STAY_WEBSOCKET ? ws_save_version(&codec->ws) : WS_SAVED;
}

int stay_restore_codec(const struct client *client, struct span bytes, union codec_state *ret_codec,
    struct unpack *unpack, unsigned version)
{
    if (client->stay->kind == STAY_WEBSOCKET)
        return ws_restore(&ret_codec->ws, unpack, version, bytes);
    ret_codec->scanned = 0;
    return version == WS_SAVED ? 0 : -EBADMSG;
}
