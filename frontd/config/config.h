#pragma once

/*
 * The config as the program uses it: checked in full (parse.h), then never changed. Keys:
 * docs/configuration.md.
 */

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/peer.h"
#include "frontd/config/access.h"

enum {
    CONF_SHARDS_MAX = 31,    /* of 63 seats in the shared memory: two generations fit */
    CONF_LISTENERS_MAX = 64, /* their descriptors for one shard fit in one message */
    CONF_ADDRESSES_MAX = 8,  /* of the name in a listener's address; further ones are not used */
    CONF_ALL_ADDRESSES_MAX = 256, /* of all listeners together */
    CONF_POOLS_MAX = 64,          /* the shared memory has a row for each */
    CONF_BATCH_MAX = 65536,       /* limits.batch: a shard keeps room for that many members */
    CONF_CALLS_MAX = 65536,       /* limits.calls_per_connection */
    CONF_SIZE_MAX = 1 << 30,      /* any size: a buffer never exceeds 2 GiB */
    CONF_TRUSTED_MAX = 256,       /* trusted_proxies: each is compared with a peer */
    CONF_MEMORY_MIN = 16 << 20,   /* limits.memory: below it a shard has no room to move */
};

#define CONF_MEMORY_MAX ((uint64_t)1 << 40) /* limits.memory */

/* Pools with a `command`, whose workers frontd runs itself: */
enum {
    CONF_EJECTED_MAX_MS = 5 * 60 * 1000, /* for which a worker is left out: shm_health.h */
    CONF_INSTANCES_MAX = 256,
    /* In all pools together: half of the rows for workers in the shared memory, so that each
     * worker can run beside its predecessor. */
    CONF_MANAGED_MAX = 512,
};

/* The folder in run_dir with the sockets of the workers that frontd runs itself. */
#define CONF_MANAGED_DIR "workers"

struct conf_address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } sock;
    socklen_t len;
};

enum { CONF_STATE_MAX = 65536 /* bytes; each is held for the time of the connection */ };
enum { CONF_STREAMS_MAX = 1000 /* each frame's stream is looked for among the open ones */ };

struct conf_limits {
    uint64_t connections;          /* over all shards */
    uint64_t connections_per_peer; /* 0: no limit */
    uint32_t peer_prefix;          /* bits of an IPv6 address that count as one peer */
    uint32_t header;               /* bytes */
    uint32_t headers;
    uint32_t body;         /* bytes */
    uint32_t batch;        /* members */
    uint32_t write_buffer; /* bytes */
    uint32_t calls_per_connection;
    uint32_t write_rate; /* bytes a second to be read while more than write_buffer waits; 0: any */
    uint64_t memory;     /* bytes, of each shard; 0: no limit */
    uint32_t subscriptions;      /* topics per connection */
    uint32_t state;              /* bytes that workers may keep with a connection */
    uint32_t streams;            /* HTTP/2: open at the same time on a connection */
    uint64_t first_byte_timeout; /* ms, as all times */
    uint64_t header_timeout;
    uint64_t body_timeout;
    uint64_t idle_timeout;
};

enum conf_kind { CONF_JSONRPC, CONF_HTTP, CONF_WEBSOCKET, CONF_STREAM, CONF_KINDS };

enum conf_protocol { CONF_PROTOCOL_HTTP, CONF_PROTOCOL_FRAME, CONF_PROTOCOL_LINE };

/* In which header field proxies tell of the client. */
enum conf_forwarded { CONF_FORWARDED_NONE, CONF_FORWARDED_X, CONF_FORWARDED_RFC7239 };

enum conf_meta {
    CONF_META_PEER = 1,
    CONF_META_DEADLINE = 2,
    CONF_META_ROUTE = 4,
    CONF_META_TLS = 8,          /* of a connection over TLS: what its handshake has come to */
    CONF_META_TRACEPARENT = 16, /* the request header of that name, as it came; with `tracing` the
                                 * one of the front's own span, whether the route asks or not */
};

/* Bounds of a route's lists, and of the texts in them. */
enum {
    CONF_ORIGINS_MAX = 256,      /* each is compared with Origin at every request of a browser */
    CONF_ORIGIN_BYTES_MAX = 300, /* a scheme, a name of 253 bytes, a port */
    CONF_CORS_HEADERS_MAX = 64,  /* with the next bound: the answer to a preflight fits into the */
    CONF_CORS_HEADER_BYTES_MAX = 64, /* 8 KiB that proxies have for an answer's head */
};

/* Further fields of answers to pages of other sites: whole lines, each ending in CRLF. */
struct conf_cors {
    struct buf text;     /* the text of all fields and preflight */
    struct span *fields; /* for a page of origins[i]; the last, [norigins], for any other client */
    struct span preflight; /* after `fields`, in the answer to a preflight */
};

/* What is counted apart from others for a rate. */
enum conf_rate_per { CONF_RATE_ALL, CONF_RATE_PEER, CONF_RATE_CONNECTION, CONF_RATE_HEADER };

/* A rate of calls: one of an entry of `rate`. */
struct conf_rate {
    enum conf_rate_per per;
    char *header;      /* CONF_RATE_HEADER: its name in lower case */
    uint64_t interval; /* us from one call to the next, at that rate */
    uint32_t burst;    /* calls that may come at once, at least 1 */
    uint64_t id;       /* the same in every config and process, as that of its policy */
};

enum { CONF_POLICIES_MAX = 100, /* of a route */ CONF_RATES_MAX = 8 /* of a policy */ };

/*
 * What holds for calls of some methods of a route. What it does not say itself it has from the next
 * less specific one: the pointers and values below are what holds in the end.
 */
struct conf_policy {
    unsigned line;
    char *match;      /* a method, or the beginning of methods with '*' at its end */
    uint64_t timeout; /* ms */
    bool denied;
    bool has_idempotent;
    bool idempotent;         /* where has_idempotent; else the pool says it */
    uint32_t calls;          /* in progress at once, over all shards; 0: no limit */
    uint32_t calls_of;       /* the number of the policy that the limit stands in */
    uint32_t rates_of;       /* the same of `rates` */
    struct conf_rate *rates; /* owned by the one that rates_of says */
    uint32_t nrates;
    uint32_t number; /* among those of all routes */
    uint64_t id;     /* of listener, route and match: the same in every config and process */
    /* Lines of the config that say these; 0: none does. */
    unsigned timeout_line, denied_line, idempotent_line, calls_line, rates_line;
};

enum {
    CONF_COMPRESS_CODINGS = 2, /* gzip and br */
    CONF_COMPRESS_TYPES_MAX = 64,
    CONF_COMPRESS_UP_TO_MAX = 4 << 20, /* bytes: a shard does nothing else for 10 to 40 ms then */
};

/* Which answers of a route are compressed, and how. */
struct conf_compress {
    uint8_t codings[CONF_COMPRESS_CODINGS]; /* enum content_coding, the preferred one first */
    uint32_t ncodings;
    bool gzip; /* is one of them */
    char **types;
    uint32_t ntypes;
    uint32_t from, up_to; /* bytes, of a whole body */
    unsigned gzip_level, br_level;
    bool credentials; /* also for requests with cookies and so on */
};

/* Bounds of `auth`. */
enum {
    CONF_JWTS_MAX = 64,      /* of all listeners and routes together: each has a set of keys */
    CONF_AUDIENCES_MAX = 16, /* each is compared with each audience of a token */
    CONF_CLAIMS_MAX = 32,    /* each is looked for in a token */
    CONF_AUTH_NAME_MAX = 64, /* bytes of a header's, a parameter's or a claim's name */
};

/* A file that only the supervisor reads. */
struct conf_tls_file {
    char *path;    /* absolute; NULL: not given */
    unsigned line; /* of the config, for messages about the file's content */
};

/* Which tokens a listener or a route takes. */
struct conf_jwt {
    uint32_t number; /* its index in conf.jwts */
    struct conf_tls_file jwks;
    char *key; /* the path of what has it, for messages: "listeners[0].auth.jwt" */
    char *issuer;
    char **audiences; /* at least one */
    uint32_t naudiences;
    unsigned algorithms; /* enum jwk_alg, as bits */
    uint64_t leeway;     /* ms */
    char *header;        /* lower case */
    bool bearer;         /* it is Authorization: the value has the scheme before the token */
    char *query;         /* WebSocket: the parameter that may have it instead; NULL: none */
    char *cookie;        /* that may have it where none of these does; NULL: none */
    bool expires_close;  /* expires: close: a WebSocket ends with the token of its handshake */
    char **claims;       /* for workers, in the order in which they are told */
    uint32_t nclaims;
};

struct conf_route {
    unsigned line; /* of the config, as in other structs: for an operator */
    char *path;
    char *host; /* lower case, without port and final dot; NULL: any */
    size_t path_len;
    char *prefix; /* the path in normal form (url_path.h), to compare paths of requests with */
    size_t prefix_len;
    enum conf_kind kind;
    uint32_t *pools; /* indices, at least one */
    uint32_t npools;
    bool canary; /* the last one is of some clients only: router_pool() passes it over */
    uint32_t canary_percent; /* of client addresses */
    char *canary_header;     /* lower case: a field that says whether; NULL: none does */
    uint32_t number;         /* among the routes of all listeners */
    uint32_t pair;           /* how many pools the routes before it have, each with its own */
    uint64_t realm;          /* the realm_id of all its pools */
    uint64_t timeout;        /* ms */
    unsigned timeout_line;   /* of the config; 0: it is the default */
    uint64_t stream_body;    /* bytes of a request's body that is taken in parts; 0: none is */
    uint64_t stream_timeout; /* ms without progress of an answer in parts; 0: no limit */
    unsigned meta;           /* enum conf_meta, ored */
    uint64_t slow;           /* us: a call over it is in the log; UINT64_MAX: none is */
    char **headers;          /* lower case */
    uint32_t nheaders;
    struct conf_access access;    /* not of CONF_STREAM */
    struct conf_policy *policies; /* the most specific one first, the route's own last; none where
                                     nothing is said */
    uint32_t npolicies;
    bool progress; /* of JSON-RPC: clients are told of the progress of their calls */
    bool gunzip;   /* CONF_JSONRPC and CONF_HTTP: bodies with Content-Encoding gzip are inflated */
    struct conf_compress
        *compress;              /* CONF_JSONRPC and CONF_HTTP; NULL: answers are not compressed */
    const struct conf_jwt *jwt; /* of conf.jwts; its own, or its listener's. NULL: no token is
                                 * asked for */
    /* Of CONF_JSONRPC and CONF_WEBSOCKET: */
    char **origins; /* origins that a browser's page may have; none: any */
    uint32_t norigins;
    bool cross_site_refuse; /* cross_site: refuse */
    struct conf_cors cors;  /* CONF_JSONRPC with origins; else empty */
    /* Of persistent connections (CONF_WEBSOCKET, CONF_STREAM): */
    uint64_t ping;    /* ms of silence after which a client is asked for a sign of life */
    char **protocols; /* for Sec-WebSocket-Protocol, the preferred one first */
    uint32_t nprotocols;
    bool raw;         /* messages: raw */
    bool events;      /* workers are told of frontd.connect and frontd.disconnect */
    bool connect_ask; /* connect: ask */
    bool slow_drop;   /* slow: drop */
    bool responses;   /* workers are told of frontd.response */
    bool compression; /* CONF_WEBSOCKET: permessage-deflate where a client offers it */
};

/* Bounds of `tls`. */
enum {
    CONF_CERTIFICATES_MAX = 256, /* of a listener */
    CONF_ALPN_MAX = 8,           /* protocols of a listener */
    CONF_TICKETS_MIN = 60 * 1000 /* ms, of `tickets`: keys change each half of it */
};

/* ms, of `tickets`: the longest lifetime that TLS 1.3 allows (RFC 8446 section 4.6.1). */
#define CONF_TICKETS_MAX ((uint64_t)7 * 24 * 3600 * 1000)

enum conf_tls_version { CONF_TLS_1_2, CONF_TLS_1_3 };

enum conf_client_auth {
    CONF_CLIENT_AUTH_NONE,
    CONF_CLIENT_AUTH_OPTIONAL,
    CONF_CLIENT_AUTH_REQUIRED
};

struct conf_certificate {
    struct conf_tls_file cert; /* the chain in PEM, the server's own certificate first */
    struct conf_tls_file key;  /* in PEM, not encrypted */
};

struct conf_tls {
    struct conf_certificate *certificates; /* at least one; the first is the default */
    uint32_t ncertificates;
    enum conf_tls_version min_version;
    enum conf_client_auth client_auth;
    struct conf_tls_file client_ca; /* given where client_auth is not none */
    char **alpn;                    /* the preferred one first; none: no ALPN */
    uint32_t nalpn;
    uint64_t tickets;           /* ms that a ticket is valid; 0: there are none */
    uint64_t handshake_timeout; /* ms */
};

struct conf_listener {
    unsigned line;
    char *name;
    char *text;                  /* the address as written */
    struct conf_address address; /* addresses[0]; its length is 0 where there is none */
    struct conf_address addresses[CONF_ADDRESSES_MAX];
    uint32_t naddresses;
    enum conf_protocol protocol;
    bool paths_strict;    /* HTTP: paths: strict */
    bool h2c;             /* HTTP: clients may speak HTTP/2 with prior knowledge */
    bool h2_websocket;    /* HTTP: and WebSocket over it (RFC 8441) */
    struct conf_tls *tls; /* NULL: plain */
    /* HTTP: longest path first, routes with a host before those without. Else one of kind
     * CONF_STREAM. */
    struct conf_route *routes;
    uint32_t nroutes;
    /* Proxies in front, and how they tell of the client: */
    bool proxy_protocol;                  /* before all else on a connection */
    enum conf_forwarded forwarded;        /* HTTP: with each request */
    struct peer_network *trusted_proxies; /* at least one where one of the two is set */
    uint32_t ntrusted_proxies;
    struct conf_access access;
};

enum { CONF_SHARD_TIMEOUT_MIN = 2000 /* ms: of shard_timeout */ };

/* What becomes of a connection whose worker is gone, with `hash: conn`. */
enum conf_lost {
    CONF_LOST_UNNOTED, /* nobody is told, and it has another worker when others come, too */
    CONF_LOST_KEEP,    /* it stays, and the next worker is told */
    CONF_LOST_CLOSE,   /* it is closed */
};

enum conf_hash {
    CONF_HASH_NONE,
    CONF_HASH_PEER,
    CONF_HASH_CONN,
    CONF_HASH_HEADER,
    CONF_HASH_PARAM
};

enum { CONF_WEIGHT_MAX = 100 };

struct conf_worker {
    char *text;                  /* as written, without the weight, and as shown in logs */
    uint32_t weight;             /* 1 to CONF_WEIGHT_MAX */
    char *pattern;               /* UNIX: the path, its last part may have wildcards; NULL: TCP */
    char *host;                  /* TCP, a name: looked up when it is dialled; else NULL */
    uint16_t port;               /* the port of `host` */
    struct conf_address address; /* TCP, where it is no name */
    bool tls;                    /* TCP, and TLS over it: see conf_pool.tls */
    char *server_name;           /* TLS: what the worker's certificate has to be for */
};

/* How a pool's workers that are dialled over TLS (tls://) are known, and what is shown to them. */
struct conf_pool_tls {
    struct conf_tls_file ca;     /* in PEM: the authorities that their certificates have to be of */
    struct conf_certificate own; /* what is shown to them; not given: nothing */
};

struct conf_pool {
    unsigned line;
    char *name;
    struct conf_worker *workers;
    uint32_t nworkers;
    char *realm;       /* its name; NULL: the realm of all pools without a name of one */
    uint64_t realm_id; /* made of the name, the same in every config and process; 0: no name */
    uint32_t queue;    /* calls, over all shards */
    uint64_t wait_for_worker; /* ms */
    uint64_t worker_timeout;  /* ms of silence of a worker while calls wait for it */
    uint64_t kill_after;      /* ms past the deadline of a call that is never answered */
    uint32_t failures;        /* of a worker in a row, after which it is left out; 0: it never is */
    uint64_t ejected;         /* ms, for which it is at first */
    uint64_t slow_start;      /* ms in which one that has come gets its whole part; 0: at once */
    enum conf_hash hash;
    bool bounded;    /* with a hash: a worker with more than its part of the calls gets no more */
    char *hash_name; /* the name of the header (lower case) or param */
    enum conf_lost on_worker_lost;
    char **idempotent;
    uint32_t nidempotent;
    char **methods;
    uint32_t nmethods;
    struct conf_pool_tls *tls; /* NULL: no worker is dialled over TLS */
    /* With a `command`; `workers` then has the pattern of the sockets that frontd makes. */
    char **command; /* the program, searched in PATH where it has no slash, and its arguments */
    uint32_t ncommand;
    uint32_t instances;
    uint64_t restart_delay; /* ms, before the first restart in a row */
    uint64_t start_timeout; /* ms from its start to its HELLO */
    /* A worker that has reached one of them is recycled; 0: there is no such limit. */
    uint64_t max_calls;
    uint64_t max_age;    /* ms */
    uint64_t max_memory; /* bytes that are resident */
};

/* Where metrics, health and the dashboard are served. */
struct conf_admin {
    char *text; /* the address as written; NULL: the key is not there */
    struct conf_address addresses[CONF_ADDRESSES_MAX];
    uint32_t naddresses;
    struct conf_tls_file token_file; /* what it has is asked for in each request */
};

struct access_part;

/* A line for each request, or some. */
struct conf_access_log {
    char *path;                /* absolute; NULL: standard error */
    unsigned line;             /* of the config, for messages about the file */
    char *format;              /* NULL: JSON */
    struct access_part *parts; /* of the format; none: JSON */
    uint32_t nparts;
    uint64_t sample; /* of 2^32 requests, how many have a line */
};

/* Where spans of calls go. */
/* Bounds of `metrics.methods`. */
enum {
    CONF_METRIC_METHODS_MAX = 100,
    CONF_METRIC_METHOD_SIZE = 55, /* bytes of a name */
};

struct conf_tracing {
    char *endpoint;              /* as written */
    struct conf_address address; /* of the collector */
    char *authority;             /* for Host: "127.0.0.1:4318" */
    char *path;                  /* of its spans: "/v1/traces" */
    uint64_t threshold;          /* as of traceparent_drawn() */
    bool parent;                 /* what is recorded is what the caller records */
};

enum { CONF_REQUEST_ID_MAX = 64 /* bytes of the header's name */ };

struct conf {
    bool streams_bodies; /* a route has stream_body */
    uint32_t npolicies;  /* of all routes */
    char *run_dir;
    char *user; /* NULL: the one that started frontd */
    uint32_t shards;
    enum log_level log_level;
    enum log_format log_format;
    bool seccomp;           /* shards filter their system calls */
    uint64_t drain;         /* ms */
    uint64_t shard_timeout; /* ms without a sign of life, after which a shard is replaced */
    uint64_t slow;          /* us: of routes that do not say their own; see conf_route.slow */
    char *request_id;       /* the header's name, lower case; NULL: requests have no ids */
    struct conf_access_log *access_log; /* NULL: there is none */
    struct conf_tracing *tracing;       /* NULL: there is none */
    struct conf_limits limits;
    struct conf_listener *listeners;
    uint32_t nlisteners;
    uint32_t nroutes;                     /* of all listeners */
    uint32_t npairs;                      /* of a route and one of its pools */
    struct conf_jwt *jwts[CONF_JWTS_MAX]; /* of listeners and routes */
    uint32_t njwts;
    struct conf_pool *pools;
    uint32_t npools;
    struct conf_admin admin;
    char **metric_methods; /* metrics.methods: names; none: the first that are called */
    uint32_t nmetric_methods;
};

/* Takes a config that is filled in part only, too. Accepts NULL; returns NULL. */
struct conf *conf_free(struct conf *conf);

/*
 * How many connections a shard with that descriptor limit may hold. shards: how many there are, at
 * least 1. Some descriptors are kept for workers, listening sockets, control, and the other
 * shards.
 */
uint64_t conf_connections_of(uint64_t descriptors, uint32_t shards);

/*
 * How well a method's name fits a pattern (exact, or a prefix that ends in '*'): 0 not at all;
 * else the longer the prefix, the better; an exact pattern is best.
 */
unsigned conf_method_fit(const char *pattern, struct span method);

/* The policy that holds for calls of that method; NULL: the route has none. On routes of kind http
 * methods are those of HTTP. */
const struct conf_policy *conf_policy_of(const struct conf_route *route, struct span method);

/* For conf_free(). */
void conf_free_policies(struct conf_route *route);

/* Whether the peer is a proxy that the listener believes what it says of its clients. */
bool conf_trusts(const struct conf_listener *listener, const struct peer *peer);

/* Whether any of the patterns fits. */
bool conf_method_listed(char *const *patterns, uint32_t n, struct span method);
