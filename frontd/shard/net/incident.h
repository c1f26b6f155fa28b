#pragma once

/*
 * What was refused last on each listener, and what workers did wrongly last, for `frontctl errors`:
 * the last one of each kind, with the first bytes of what was wrong. What is right pays nothing for
 * it. The bytes are kept as they came; secrets in them are masked when they are told
 * (inspect/mask.h).
 */

#include "common/peer.h"
#include "frontd/shard/net/ctx.h"

enum {
    INCIDENT_BYTES = 512,  /* kept of what was wrong */
    INCIDENT_KINDS = 8,    /* of a listener; a further one takes the place of the oldest */
    INCIDENT_WORKERS = 32, /* of all workers */
    INCIDENT_NAME = 80,    /* bytes kept of a worker's name, and of a method's */
};

/* What the bytes are, so that it can be said where they are wrong. */
enum incident_form {
    INCIDENT_NOTHING, /* none are known */
    INCIDENT_TEXT,    /* a name, or a summary */
    INCIDENT_HTTP1,   /* a request from its first byte, as far as it has come */
    INCIDENT_JSON,
    INCIDENT_FRAMES, /* of WebSocket, HTTP/2, PROXY, `frame`, `line` */
};

/*
 * What is wrong, for the incident that is noted next: set around the call that refuses it, by
 * incident_show() and incident_hide().
 */
struct evidence {
    enum incident_form form;
    struct span bytes;
};

struct incident {
    uint64_t at;        /* ms, of the last one */
    uint64_t count;     /* so far */
    const char *what;   /* its kind: static text; NULL: none */
    const char *detail; /* static text; NULL */
    struct peer peer;
    uint8_t form; /* enum incident_form */
    uint32_t n;   /* of bytes */
    uint32_t of;  /* how many there were */
    char bytes[INCIDENT_BYTES];
};

/* A worker's, from fault.h. */
struct worker_incident {
    uint64_t at;
    uint64_t count;
    const char *what;  /* static text; NULL: none */
    const char *frame; /* static text: the type of the frame; NULL: an answer */
    const char *pool;  /* of the config */
    int error;         /* that the client gets; 0: none */
    char worker[INCIDENT_NAME];
    char method[INCIDENT_NAME]; /* empty: not known */
};

struct incidents {
    struct incident *listeners[CONF_LISTENERS_MAX]; /* INCIDENT_KINDS each; NULL: none so far */
    struct worker_incident workers[INCIDENT_WORKERS];
    struct evidence evidence;
};

void incidents_init(struct incidents *incidents);
void incidents_deinit(struct incidents *incidents);

/* bytes: borrowed until incident_hide(). */
static inline void incident_show(struct ctx *ctx, enum incident_form form, struct span bytes)
{
    ctx->incidents->evidence = (struct evidence){form, bytes};
}

static inline void incident_hide(struct ctx *ctx)
{
    ctx->incidents->evidence = (struct evidence){0};
}

/* Something was refused. what, detail (or NULL): static texts. */
void incident_note(const struct ctx *ctx, const struct conf_listener *listener,
    const struct peer *peer, const char *what, const char *detail);

/* A worker has done something wrong. frame: NULL: its answer is wrong. what, frame: static texts;
 * pool: of the config. */
void incident_note_worker(const struct ctx *ctx, const char *pool, const char *worker,
    struct span method, const char *frame, const char *what, int error);
