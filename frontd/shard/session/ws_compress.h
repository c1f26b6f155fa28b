#pragma once

/*
 * Compressed messages of WebSockets (RFC 7692), where a route has `compression: true` and the
 * client has offered it. No context is taken over, so that a connection has no memory for it, and
 * one set of zlib's state serves all connections of a shard.
 */

#include "frontd/codec/ws_deflate.h"
#include "frontd/shard/client/client.h"

/* Zeroed at first. */
struct ws_compression {
    struct deflater deflater;
    struct buf read;    /* the message that is taken, inflated */
    struct buf written; /* the payload of the message that is sent, compressed */
};

void ws_compression_deinit(struct ws_compression *compression);

/* What was taken or compressed has been used: a buffer that one large message has made large is
 * given back. */
void ws_compression_trim(struct ws_compression *compression);

/*
 * Inflates a message of the client's, which may have limits.body bytes then, and counts what that
 * has cost as messages that the client has sent. binary: it need not be text.
 *
 * *ret_payload: valid until the next one, or ws_compression_trim(). Returns 0, or the code to close
 * with: 1007 where it is not deflate's or not UTF-8, 1009 where it is too long or inflates too
 * much, 1013 where limits.memory has no room for it; WS_CODE_NONE where there is no memory.
 */
unsigned ws_take_compressed(
    struct client *client, struct span payload, bool binary, struct span *ret_payload);

/*
 * Compresses the payload of a message for a client with which that was agreed on. The result is
 * valid until the next one, or ws_compression_trim(). Returns whether it is smaller; otherwise it
 * is sent as it is.
 */
bool ws_compress(struct client *client, struct span payload, struct span *ret_payload);
