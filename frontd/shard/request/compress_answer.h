#pragma once

/*
 * Answers that are compressed on their way to a client, on routes with `compress`. What a client
 * takes is known when its request comes (compress_note()), what its answer is when that is there:
 * compress_whole_answer(); for those that go out in parts compress_begin(), and then a struct
 * coder.
 */

#include "frontd/codec/compress.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/request/reply.h"
#include "proto/errors.h"

enum {
    /* Answers in parts with a state of their own, of COMPRESS_STREAM_SIZE each, at the same time in
     * a shard: others go as they are. */
    COMPRESS_STREAMS_MAX = 256,
};

/* Of a shard; zeroed at first. */
struct compression {
    struct compress_store store;
    struct buf body;   /* what comes out */
    struct buf fields; /* of the answer that is looked at */
    uint32_t coders;   /* that are open */
};

void compression_deinit(struct compression *compression);

/* The body of an answer in parts, while it is compressed. */
struct coder {
    struct compressor compressor;
    uint64_t left;   /* bytes of the body that the worker has still to send, */
    bool has_length; /* where it has said how many there are */
    bool failed;     /* bytes of it are lost: it cannot be complete any more */
    bool gathers;    /* bytes may be inside that the client could have */
};

/* What is remembered with a request; zeroed at first. */
struct answer_coding {
    struct coder *coder; /* of an answer in parts that is compressed; else NULL */
    uint8_t coding;      /* enum content_coding, of a whole answer */
    bool takes_gzip;     /* an answer in parts may be compressed */
    bool is_head;        /* the request is a HEAD */
};

/* Remembers what the client takes. conf: of the request's route, as in what follows. */
void compress_note(struct answer_coding *of, const struct client *client,
    const struct conf_compress *conf, const struct http_head *head);

/*
 * A whole answer, in *ret_reply, as it goes out: compressed where it may and should be. Valid until
 * the next call of a function here.
 */
void compress_whole_answer(const struct answer_coding *of, struct ctx *ctx,
    const struct conf_compress *conf, const struct reply *reply, struct reply *ret_reply);

/*
 * The head of an answer in parts, in *ret_reply, as it goes out; valid until the next call of a
 * function here. There is a coder afterwards where its body is compressed.
 */
void compress_begin(struct answer_coding *of, struct ctx *ctx, const struct conf_compress *conf,
    const struct reply *reply, struct reply *ret_reply);

/*
 * Compresses bytes of the body, where there is a coder. *ret_bytes: what goes out now, valid until
 * the next call of a function here. Returns 0; RPC_BAD_RESPONSE: it is longer than its length, or
 * ends short of it; RPC_OVERLOADED: there is no memory.
 */
enum rpc_error compress_part(struct answer_coding *of, struct ctx *ctx, struct span bytes,
    enum compress_until until, struct span *ret_bytes);

/* Frees the coder, if there is one. */
void compress_end(struct answer_coding *of, struct ctx *ctx);
