#pragma once

/* What a shard is made of, besides its loop: each has its state in a struct of its own. */

#include "frontd/shard/handover/receiver.h"
#include "frontd/shard/handover/sender.h"
#include "frontd/shard/inspect/inspect.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/net/incident.h"
#include "frontd/shard/net/resolver.h"
#include "frontd/shard/push/topics.h"
#include "frontd/shard/request/access_log.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/request/coded_body.h"
#include "frontd/shard/request/compress_answer.h"
#include "frontd/shard/request/slow_log.h"
#include "frontd/shard/request/tracer.h"
#include "frontd/shard/routes/jsonrpc.h"
#include "frontd/shard/session/http2_session.h"
#include "frontd/shard/session/ws_compress.h"
#include "frontd/shard/tls/tls.h"
#include "frontd/shard/upstream/mark.h"

struct parts {
    struct mesh mesh;
    struct topics topics;
    struct jsonrpc jsonrpc;
    struct http2_shared http2;
    struct ws_compression ws_compression;
    struct gunzip gunzip;
    struct compression compression;
    struct sender sender;
    struct receiver receiver; /* which the acceptor completes: receiver_init() */
    struct tls tls;
    struct auth auth;
    struct incidents incidents;
    struct inspect inspect;
    struct marks marks;
    struct slow_log slow;
    struct access_log access;
    struct tracer tracer;
    struct resolver resolver; /* opened by the shard, before the parts are made */
};

/*
 * Makes them, and what of `ctx` is not set yet: its loop, seat, identity and conn_ids are there.
 * conf, share: borrowed. Returns 0 or -errno: the process ends then.
 */
int parts_init(struct parts *parts, struct ctx *ctx, const struct conf *conf, struct share *share);

/* One of the config's pools, whose workers' pushes go to this shard's connections. 0 or -errno. */
int parts_init_pool(struct pool *pool, struct ctx *ctx, unsigned index);

/* When all connections, workers and siblings are gone, and the loop is closed. */
void parts_deinit(struct parts *parts, struct ctx *ctx);
