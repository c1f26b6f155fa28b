#pragma once

/* What a request to the admin address asks for, and whether it may have it. Pure. */

#include "frontd/admin/accept.h"
#include "frontd/codec/http1_head.h"

enum { RESOURCE_NAME_MAX = 128 /* bytes of `?name=` */ };

enum resource_kind {
    RESOURCE_NONE,
    RESOURCE_PAGE,     /* the dashboard */
    RESOURCE_METRICS,  /* for Prometheus */
    RESOURCE_HEALTH,   /* it is alive */
    RESOURCE_READY,    /* clients may be sent here */
    RESOURCE_STATUS,   /* what the supervisor says of itself */
    RESOURCE_OVERVIEW, /* what the dashboard shows */
};

struct resource {
    unsigned status; /* 200, or that of the answer that refuses; then `text` says why */
    enum resource_kind kind;
    enum accept_form form; /* of RESOURCE_METRICS */
    struct span name;      /* of RESOURCE_METRICS: only names that begin so; in the head's bytes */
    const char *text;      /* for the refused, a line */
    struct span fields;    /* further fields of the answer that refuses */
};

/*
 * Decides by the head. token: n == 0 asks for none. local: the connection is to a loopback address
 * of TCP; then, without a token, the name that it was asked by has to be one of this machine's own
 * (`localhost` or an address): a page whose name leads here is of another site (DNS rebinding).
 */
struct resource resource_of(const struct http1_head *head, struct span token, bool local);
