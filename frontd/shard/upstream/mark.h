#pragma once

/*
 * What a request is known by to others: the trace that it is a part of, and its id. Made once for
 * each request where the config has `tracing`, `request_id` or `access_log`, and shared by the
 * request and its calls; else requests and calls have none (NULL).
 */

#include "frontd/codec/http_head.h"
#include "frontd/codec/traceparent.h"
#include "frontd/shard/net/ctx.h"

enum {
    MARK_ID_MAX = 128, /* bytes of an id that is taken from a request */
    MARK_ID_MADE = 32, /* bytes of one that is made: 128 random bits */
    MARK_FIELD_MAX = CONF_REQUEST_ID_MAX + MARK_ID_MAX + 4, /* "name: id", CRLF */
};

struct access_entry;
struct request;

struct mark {
    uint32_t refs;    /* of its request, and of calls */
    uint32_t calls;   /* that have been started */
    uint16_t status;  /* of the answer in HTTP; 0: none so far */
    uint16_t field_n; /* bytes of `field`; 0: the config has no request_id */
    uint8_t id_at;    /* of the id in it */
    bool traced;      /* the config has `tracing`: `trace` is set */
    bool continued;   /* `trace` is a caller's */
    bool logged;      /* it is to have a line in the access log */
    bool wanted;      /* observers hear of it, however soon it ends (request/account.h) */
    /* The trace, with the flags that workers are told. Its span is the caller's; all zero: there is
     * none, and the trace begins here. */
    struct traceparent trace;
    struct access_entry *access; /* of request/access_log.c; NULL: it has no line */
    /* The id as a line of an answer's head; there is no such memory where the config has no
     * request_id. */
    char field[MARK_FIELD_MAX];
};

/* What marks are made with. */
struct marks {
    struct slab slab;
    /* A request has got its mark. head: as of mark_new(). NULL: nothing wants to know. */
    void (*made)(struct request *request, const struct http_head *head);
    uint64_t random[4]; /* the state of a generator: ids are to be different, not secret */
};

/*
 * Sets ctx->marks where the config needs any. marks: zeroed; of the shard. marks_deinit() takes
 * back what it did.
 */
void marks_init(struct marks *marks, struct ctx *ctx);
void marks_deinit(struct marks *marks, struct ctx *ctx);

/* Random bits, not for secrets. Where ctx->marks is. */
uint64_t marks_random(struct ctx *ctx);

/*
 * The mark of a request, with one reference. head: NULL for a message. Where ctx->marks is. NULL:
 * it needs none, or there is no memory: the request goes on without one.
 */
struct mark *mark_new(struct ctx *ctx, const struct http_head *head);

/* One reference less. Accepts NULL. */
void mark_put(struct ctx *ctx, struct mark *mark);

/* The request's id; n == 0: it has none. */
static inline struct span mark_id(const struct mark *mark)
{
    if (mark->field_n == 0)
        return (struct span){0};
    return (struct span){mark->field + mark->id_at, mark->field_n - mark->id_at - 2U};
}

/* The line of an answer's head that says the id; n == 0: there is none. mark: or NULL. */
static inline struct span mark_field(const struct mark *mark)
{
    if (mark == NULL || mark->field_n == 0)
        return (struct span){0};
    return (struct span){mark->field, mark->field_n};
}

/* Whether observers hear of it, however soon it ends. mark: or NULL. */
static inline bool mark_wanted(const struct mark *mark)
{
    return UNLIKELY(mark != NULL) && mark->wanted;
}

/* Whether spans of the request are recorded. */
static inline bool mark_sampled(const struct mark *mark)
{
    return mark != NULL && mark->traced && mark->trace.flags & TRACEPARENT_SAMPLED;
}
