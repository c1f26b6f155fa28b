#pragma once

/* The config as libcyaml reads it: its structure is checked, every scalar still text. */

#include "frontd/config/lines.h"

struct conf_raw_cors {
    char **headers;
    unsigned headers_count;
    char *credentials;
    char *max_age;
};

struct conf_raw_access {
    char **allow;
    unsigned allow_count;
    char **deny;
    unsigned deny_count;
};

struct conf_raw_rate {
    char *per;
    char *rate;
    char *burst;
};

/* What a route says for all its methods, or an entry of its `methods` for some. */
struct conf_raw_policy {
    char *match;   /* of an entry */
    char *timeout; /* of an entry */
    char *idempotent;
    char *calls;
    struct conf_raw_rate *rate;
    unsigned rate_count;
};

struct conf_raw_compress {
    char **encodings;
    unsigned encodings_count;
    char **types;
    unsigned types_count;
    char *from;
    char *up_to;
    char *gzip_level;
    char *br_level;
    char *credentials;
};

struct conf_raw_jwt {
    char *jwks;
    char *issuer;
    char **audience;
    unsigned audience_count;
    char **algorithms;
    unsigned algorithms_count;
    char *leeway;
    char *header;
    char *query;
    char *cookie;
    char *expires;
    char **claims;
    unsigned claims_count;
};

struct conf_raw_auth {
    struct conf_raw_jwt *jwt; /* NULL: the key is not there */
    char *none;
};

struct conf_raw_canary {
    char *pool;
    char *percent;
    char *header;
};

struct conf_raw_route {
    char *path;
    char *host;
    char *kind;
    char *pool;
    char **pools;
    unsigned pools_count;
    char *progress;
    struct conf_raw_canary *canary; /* NULL: the key is not there */
    char *timeout;
    char *stream_body;
    char *stream_timeout;
    char **meta;
    unsigned meta_count;
    char **headers;
    unsigned headers_count;
    char *messages;
    char *events;
    char *connect;
    char *ping;
    char *compression;
    struct conf_raw_access access;
    char **allow_methods;
    unsigned allow_methods_count;
    char **deny_methods;
    unsigned deny_methods_count;
    struct conf_raw_policy policy;
    struct conf_raw_policy *methods;
    unsigned methods_count;
    struct conf_raw_auth *auth; /* NULL: the key is not there */
    char *slow;
    char *responses;
    char **origins;
    unsigned origins_count;
    char **protocols;
    unsigned protocols_count;
    struct conf_raw_cors cors;
    char **request_encodings;
    unsigned request_encodings_count;
    struct conf_raw_compress *compress; /* NULL: the key is not there */
    char *cross_site;
    char *slow_log;
};

struct conf_raw_certificate {
    char *cert;
    char *key;
};

struct conf_raw_tls {
    struct conf_raw_certificate *certificates;
    unsigned certificates_count;
    char *min_version;
    char *client_ca;
    char *client_auth;
    char **alpn;
    unsigned alpn_count;
    char *tickets;
    char *handshake_timeout;
};

struct conf_raw_listener {
    char *name;
    char *address;
    char *protocol;
    char *paths;
    char *h2c;
    char *h2_websocket;
    struct conf_raw_route *routes;
    unsigned routes_count;
    char *proxy_protocol;
    char *forwarded;
    char **trusted_proxies;
    unsigned trusted_proxies_count;
    struct conf_raw_access access;
    struct conf_raw_auth *auth;   /* NULL: the key is not there */
    struct conf_raw_tls *tls;     /* NULL: the key is not there */
    struct conf_raw_route stream; /* of frame and line: the keys of the listener itself */
};

struct conf_raw_pool_tls {
    char *ca;
    char *cert;
    char *key;
    char *server_name;
};

struct conf_raw_health {
    char *failures;
    char *ejected;
};

struct conf_raw_pool {
    char *name;
    char **workers;
    unsigned workers_count;
    char *realm;
    char *queue;
    char *wait_for_worker;
    char *worker_timeout;
    char *kill_after;
    char *balance;
    char *hash;
    char *on_worker_lost;
    char *slow_start;
    char **idempotent;
    unsigned idempotent_count;
    char **methods;
    unsigned methods_count;
    char **command;
    unsigned command_count;
    char *instances;
    char *restart_delay;
    char *start_timeout;
    char *max_calls;
    char *max_age;
    char *max_memory;
    struct conf_raw_pool_tls *tls;  /* NULL: the key is not there */
    struct conf_raw_health *health; /* NULL: the same */
};

struct conf_raw_limits {
    char *connections;
    char *connections_per_peer;
    char *peer_prefix;
    char *header;
    char *headers;
    char *body;
    char *batch;
    char *first_byte_timeout;
    char *header_timeout;
    char *body_timeout;
    char *idle_timeout;
    char *write_buffer;
    char *write_rate;
    char *memory;
    char *calls_per_connection;
    char *subscriptions;
    char *state;
    char *streams;
};

struct conf_raw_log {
    char *level;
    char *format;
};

struct conf_raw_admin {
    char *address;
    char *token_file;
};

struct conf_raw_access_log {
    char *path;
    char *format;
    char *sample;
};

struct conf_raw_tracing {
    char *endpoint;
    char *ratio;
    char *parent;
};

struct conf_raw_metrics {
    char **methods;
    unsigned methods_count;
};

struct conf_raw {
    char *run_dir;
    char *shards;
    char *user;
    char *seccomp;
    char *drain;
    char *shard_timeout;
    struct conf_raw_log log;
    char *slow_log;
    char *request_id;
    struct conf_raw_access_log *access_log; /* NULL: the key is not there */
    struct conf_raw_tracing *tracing;       /* the same */
    struct conf_raw_limits limits;
    struct conf_raw_listener *listeners;
    unsigned listeners_count;
    struct conf_raw_pool *pools;
    unsigned pools_count;
    struct conf_raw_admin *admin;     /* NULL: the key is not there */
    struct conf_raw_metrics *metrics; /* the same */
};

/*
 * Reads a text by the schema. Returns 0 with *ret_raw (conf_raw_free()), or -EINVAL with
 * "FILE:LINE: KEY: what is wrong" in `error`.
 */
int conf_raw_read(const char *file, const char *text, size_t n, const struct conf_lines *lines,
    struct conf_raw **ret_raw, char *error, size_t error_size);
void conf_raw_free(struct conf_raw *raw);
