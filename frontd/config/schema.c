#include "frontd/config/schema.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define TEXT(type, key)                                                                            \
    CYAML_FIELD_STRING_PTR(                                                                        \
        #key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type, key, 0, CYAML_UNLIMITED)
#define NEEDED(type, key)                                                                          \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER, struct type, key, 1, CYAML_UNLIMITED)
#define TEXTS(type, key)                                                                           \
    CYAML_FIELD_SEQUENCE(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type, key,         \
        &text_value, 0, CYAML_UNLIMITED)
#define ACCESS_TEXTS(type, key)                                                                    \
    CYAML_FIELD_SEQUENCE(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type, access.key,  \
        &text_value, 0, CYAML_UNLIMITED)
/* The keys of a route that stand at a listener of frame or line. */
#define STREAM_TEXT(key)                                                                           \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,                         \
        struct conf_raw_listener, stream.key, 0, CYAML_UNLIMITED)
#define STREAM_TEXTS(key)                                                                          \
    CYAML_FIELD_SEQUENCE(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw_listener, \
        stream.key, &text_value, 0, CYAML_UNLIMITED)

static const cyaml_schema_value_t text_value = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

static const cyaml_schema_field_t cors_fields[] = {
    TEXTS(conf_raw_cors, headers),
    TEXT(conf_raw_cors, credentials),
    TEXT(conf_raw_cors, max_age),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t rate_fields[] = {
    TEXT(conf_raw_rate, per),
    NEEDED(conf_raw_rate, rate),
    TEXT(conf_raw_rate, burst),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t rate_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct conf_raw_rate, rate_fields),
};

static const cyaml_schema_field_t policy_fields[] = {
    NEEDED(conf_raw_policy, match),
    TEXT(conf_raw_policy, timeout),
    TEXT(conf_raw_policy, idempotent),
    TEXT(conf_raw_policy, calls),
    CYAML_FIELD_SEQUENCE("rate", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw_policy,
        rate, &rate_value, 0, CYAML_UNLIMITED),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t policy_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct conf_raw_policy, policy_fields),
};

/* The policies of a route; member: where its keys are, as in `stream.` of a listener. */
#define POLICY_TEXT(type, member, key)                                                             \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type,            \
        member policy.key, 0, CYAML_UNLIMITED)
#define POLICY_LIST(type, member, key, value)                                                      \
    CYAML_FIELD_SEQUENCE(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type, member key,  \
        &(value), 0, CYAML_UNLIMITED)
#define POLICIES(type, member)                                                                     \
    POLICY_TEXT(type, member, idempotent), POLICY_TEXT(type, member, calls),                       \
        CYAML_FIELD_SEQUENCE("rate", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type,        \
            member policy.rate, &rate_value, 0, CYAML_UNLIMITED),                                  \
        POLICY_LIST(type, member, methods, policy_value),                                          \
        POLICY_LIST(type, member, allow_methods, text_value),                                      \
        POLICY_LIST(type, member, deny_methods, text_value)

static const cyaml_schema_field_t compress_fields[] = {
    TEXTS(conf_raw_compress, encodings),
    TEXTS(conf_raw_compress, types),
    TEXT(conf_raw_compress, from),
    TEXT(conf_raw_compress, up_to),
    TEXT(conf_raw_compress, gzip_level),
    TEXT(conf_raw_compress, br_level),
    TEXT(conf_raw_compress, credentials),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t jwt_fields[] = {
    NEEDED(conf_raw_jwt, jwks),
    NEEDED(conf_raw_jwt, issuer),
    TEXTS(conf_raw_jwt, audience),
    TEXTS(conf_raw_jwt, algorithms),
    TEXT(conf_raw_jwt, leeway),
    TEXT(conf_raw_jwt, header),
    TEXT(conf_raw_jwt, query),
    TEXT(conf_raw_jwt, cookie),
    TEXT(conf_raw_jwt, expires),
    TEXTS(conf_raw_jwt, claims),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t auth_fields[] = {
    CYAML_FIELD_MAPPING_PTR(
        "jwt", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw_auth, jwt, jwt_fields),
    TEXT(conf_raw_auth, none),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t canary_fields[] = {
    NEEDED(conf_raw_canary, pool),
    TEXT(conf_raw_canary, percent),
    TEXT(conf_raw_canary, header),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t route_fields[] = {
    POLICIES(conf_raw_route, ),
    NEEDED(conf_raw_route, path),
    TEXT(conf_raw_route, host),
    NEEDED(conf_raw_route, kind),
    TEXT(conf_raw_route, pool),
    TEXTS(conf_raw_route, pools),
    CYAML_FIELD_MAPPING_PTR("canary", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
        struct conf_raw_route, canary, canary_fields),
    TEXT(conf_raw_route, progress),
    TEXT(conf_raw_route, timeout),
    TEXT(conf_raw_route, stream_body),
    TEXT(conf_raw_route, stream_timeout),
    TEXTS(conf_raw_route, meta),
    TEXTS(conf_raw_route, headers),
    TEXT(conf_raw_route, messages),
    TEXT(conf_raw_route, events),
    TEXT(conf_raw_route, connect),
    TEXT(conf_raw_route, ping),
    TEXT(conf_raw_route, compression),
    ACCESS_TEXTS(conf_raw_route, allow),
    ACCESS_TEXTS(conf_raw_route, deny),
    CYAML_FIELD_MAPPING_PTR(
        "auth", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw_route, auth, auth_fields),
    TEXT(conf_raw_route, slow),
    TEXT(conf_raw_route, responses),
    TEXTS(conf_raw_route, origins),
    TEXTS(conf_raw_route, protocols),
    CYAML_FIELD_MAPPING("cors", CYAML_FLAG_OPTIONAL, struct conf_raw_route, cors, cors_fields),
    TEXT(conf_raw_route, cross_site),
    TEXTS(conf_raw_route, request_encodings),
    CYAML_FIELD_MAPPING_PTR("compress", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
        struct conf_raw_route, compress, compress_fields),
    TEXT(conf_raw_route, slow_log),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t route_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct conf_raw_route, route_fields),
};

static const cyaml_schema_field_t certificate_fields[] = {
    NEEDED(conf_raw_certificate, cert),
    NEEDED(conf_raw_certificate, key),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t certificate_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct conf_raw_certificate, certificate_fields),
};

static const cyaml_schema_field_t tls_fields[] = {
    CYAML_FIELD_SEQUENCE("certificates", CYAML_FLAG_POINTER, struct conf_raw_tls, certificates,
        &certificate_value, 0, CYAML_UNLIMITED),
    TEXT(conf_raw_tls, min_version),
    TEXT(conf_raw_tls, client_ca),
    TEXT(conf_raw_tls, client_auth),
    TEXTS(conf_raw_tls, alpn),
    TEXT(conf_raw_tls, tickets),
    TEXT(conf_raw_tls, handshake_timeout),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t listener_fields[] = {
    NEEDED(conf_raw_listener, name),
    NEEDED(conf_raw_listener, address),
    TEXT(conf_raw_listener, protocol),
    TEXT(conf_raw_listener, paths),
    TEXT(conf_raw_listener, h2c),
    TEXT(conf_raw_listener, h2_websocket),
    CYAML_FIELD_SEQUENCE("routes", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
        struct conf_raw_listener, routes, &route_value, 0, CYAML_UNLIMITED),
    TEXT(conf_raw_listener, proxy_protocol),
    TEXT(conf_raw_listener, forwarded),
    TEXTS(conf_raw_listener, trusted_proxies),
    ACCESS_TEXTS(conf_raw_listener, allow),
    ACCESS_TEXTS(conf_raw_listener, deny),
    CYAML_FIELD_MAPPING_PTR("auth", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
        struct conf_raw_listener, auth, auth_fields),
    CYAML_FIELD_MAPPING_PTR(
        "tls", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw_listener, tls, tls_fields),
    STREAM_TEXT(pool),
    STREAM_TEXTS(pools),
    CYAML_FIELD_MAPPING_PTR("canary", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
        struct conf_raw_listener, stream.canary, canary_fields),
    STREAM_TEXT(progress),
    STREAM_TEXT(timeout),
    STREAM_TEXTS(meta),
    STREAM_TEXT(messages),
    STREAM_TEXT(events),
    STREAM_TEXT(connect),
    STREAM_TEXT(ping),
    STREAM_TEXT(slow),
    STREAM_TEXT(responses),
    STREAM_TEXT(slow_log),
    POLICIES(conf_raw_listener, stream.),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t listener_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct conf_raw_listener, listener_fields),
};

static const cyaml_schema_field_t pool_tls_fields[] = {
    NEEDED(conf_raw_pool_tls, ca),
    TEXT(conf_raw_pool_tls, cert),
    TEXT(conf_raw_pool_tls, key),
    TEXT(conf_raw_pool_tls, server_name),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t health_fields[] = {
    TEXT(conf_raw_health, failures),
    TEXT(conf_raw_health, ejected),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t pool_fields[] = {
    NEEDED(conf_raw_pool, name),
    TEXTS(conf_raw_pool, workers),
    TEXT(conf_raw_pool, realm),
    TEXT(conf_raw_pool, queue),
    TEXT(conf_raw_pool, wait_for_worker),
    TEXT(conf_raw_pool, worker_timeout),
    TEXT(conf_raw_pool, kill_after),
    TEXT(conf_raw_pool, balance),
    TEXT(conf_raw_pool, hash),
    TEXT(conf_raw_pool, on_worker_lost),
    TEXT(conf_raw_pool, slow_start),
    TEXTS(conf_raw_pool, idempotent),
    TEXTS(conf_raw_pool, methods),
    TEXTS(conf_raw_pool, command),
    TEXT(conf_raw_pool, instances),
    TEXT(conf_raw_pool, restart_delay),
    TEXT(conf_raw_pool, start_timeout),
    TEXT(conf_raw_pool, max_calls),
    TEXT(conf_raw_pool, max_age),
    TEXT(conf_raw_pool, max_memory),
    CYAML_FIELD_MAPPING_PTR("tls", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw_pool,
        tls, pool_tls_fields),
    CYAML_FIELD_MAPPING_PTR("health", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
        struct conf_raw_pool, health, health_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t pool_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct conf_raw_pool, pool_fields),
};

static const cyaml_schema_field_t limits_fields[] = {
    TEXT(conf_raw_limits, connections),
    TEXT(conf_raw_limits, connections_per_peer),
    TEXT(conf_raw_limits, peer_prefix),
    TEXT(conf_raw_limits, header),
    TEXT(conf_raw_limits, headers),
    TEXT(conf_raw_limits, body),
    TEXT(conf_raw_limits, batch),
    TEXT(conf_raw_limits, first_byte_timeout),
    TEXT(conf_raw_limits, header_timeout),
    TEXT(conf_raw_limits, body_timeout),
    TEXT(conf_raw_limits, idle_timeout),
    TEXT(conf_raw_limits, write_buffer),
    TEXT(conf_raw_limits, write_rate),
    TEXT(conf_raw_limits, memory),
    TEXT(conf_raw_limits, calls_per_connection),
    TEXT(conf_raw_limits, subscriptions),
    TEXT(conf_raw_limits, state),
    TEXT(conf_raw_limits, streams),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t log_fields[] = {
    TEXT(conf_raw_log, level),
    TEXT(conf_raw_log, format),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t admin_fields[] = {
    NEEDED(conf_raw_admin, address),
    TEXT(conf_raw_admin, token_file),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t access_log_fields[] = {
    NEEDED(conf_raw_access_log, path),
    TEXT(conf_raw_access_log, format),
    TEXT(conf_raw_access_log, sample),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t tracing_fields[] = {
    NEEDED(conf_raw_tracing, endpoint),
    TEXT(conf_raw_tracing, ratio),
    TEXT(conf_raw_tracing, parent),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t metrics_fields[] = {
    TEXTS(conf_raw_metrics, methods),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t root_fields[] = {
    TEXT(conf_raw, run_dir),
    TEXT(conf_raw, shards),
    TEXT(conf_raw, user),
    TEXT(conf_raw, seccomp),
    TEXT(conf_raw, drain),
    TEXT(conf_raw, shard_timeout),
    CYAML_FIELD_MAPPING("log", CYAML_FLAG_OPTIONAL, struct conf_raw, log, log_fields),
    TEXT(conf_raw, slow_log),
    TEXT(conf_raw, request_id),
    CYAML_FIELD_MAPPING_PTR("access_log", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw,
        access_log, access_log_fields),
    CYAML_FIELD_MAPPING_PTR("tracing", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw,
        tracing, tracing_fields),
    CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, struct conf_raw, limits, limits_fields),
    CYAML_FIELD_SEQUENCE("listeners", CYAML_FLAG_POINTER, struct conf_raw, listeners,
        &listener_value, 0, CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE(
        "pools", CYAML_FLAG_POINTER, struct conf_raw, pools, &pool_value, 0, CYAML_UNLIMITED),
    CYAML_FIELD_MAPPING_PTR(
        "admin", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw, admin, admin_fields),
    CYAML_FIELD_MAPPING_PTR("metrics", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct conf_raw,
        metrics, metrics_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t root_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct conf_raw, root_fields),
};

enum { DEPTH_MAX = 8 }; /* "listeners[0].routes[0].auth.jwt.claims[0]" has as many steps */

/*
 * libcyaml reports an error in its log: a message, then the place, from the inside out: "in
 * mapping field 'pool' (line: 8, column: 15)", "in sequence entry '1' (…)", counted from 1.
 */
struct complaint {
    char message[256];
    char steps[DEPTH_MAX][64]; /* "pool", "[0]"; empty for a mapping with an unknown key */
    size_t depth;
};

static void add_step(struct complaint *complaint, const char *text)
{
    static const char field[] = "  in mapping field '";
    static const char entry[] = "  in sequence entry '";
    if (complaint->depth == DEPTH_MAX)
        return;
    char *step = complaint->steps[complaint->depth++];
    if (strncmp(text, field, sizeof(field) - 1) == 0) {
        text += sizeof(field) - 1;
        snprintf(step, sizeof(complaint->steps[0]), "%.*s", (int)strcspn(text, "'"), text);
    } else if (strncmp(text, entry, sizeof(entry) - 1) == 0) {
        snprintf(step, sizeof(complaint->steps[0]), "[%lu]",
            strtoul(text + sizeof(entry) - 1, NULL, 10) - 1);
    }
}

__attribute__((format(printf, 3, 0))) static void listen_to_cyaml(
    cyaml_log_t level, void *context, const char *format, va_list args)
{
    (void)level;
    struct complaint *complaint = context;
    char text[256];
    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    const char *message = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
    if (strstr(text, "(line: ") != NULL)
        add_step(complaint, text);
    else if (complaint->message[0] == '\0' && strncmp(message, "Backtrace", 9) != 0)
        snprintf(complaint->message, sizeof(complaint->message), "%s", message);
}

/* The messages of libcyaml about a value, and ours. */
static const struct {
    const char *theirs;
    const char *ours;
} wordings[] = {
    {"Expecting MAPPING", "keys with values are needed here"},
    {"Expecting SEQUENCE", "a list is needed here"},
    {"Expecting STRING", "one value is needed here"},
    {"STRING length < 1", "must not be empty"},
};

static const char *reword(const char *message)
{
    for (size_t i = 0; i < ARRAY_LEN(wordings); i++) {
        if (strncmp(message, wordings[i].theirs, strlen(wordings[i].theirs)) == 0)
            return wordings[i].ours;
    }
    return message[0] == '\0' ? "not a config" : message;
}

/* The rest of a message after `start`, or NULL where it does not begin so. */
static const char *after(const char *message, const char *start)
{
    size_t n = strlen(start);
    return strncmp(message, start, n) == 0 ? message + n : NULL;
}

/* Writes the path that an error is about. named: a key, in place of the innermost one. */
static void write_path(
    const struct complaint *complaint, const char *named, char *out, size_t out_size)
{
    size_t n = 0;
    for (size_t i = complaint->depth; i-- > 0;) {
        const char *step = i == 0 && named != NULL ? named : complaint->steps[i];
        const char *dot = n == 0 || step[0] == '[' ? "" : ".";
        n += (size_t)snprintf(out + n, out_size - n, "%s%s", dot, step);
        n = MIN(n, out_size - 1);
    }
    if (n == 0)
        snprintf(out, out_size, "config");
}

/* The keys of the mapping that has the unknown one; NULL: not found. */
static const cyaml_schema_field_t *keys_at(const struct complaint *complaint)
{
    const cyaml_schema_field_t *fields = root_fields;
    for (size_t i = complaint->depth; i-- > 1 && fields != NULL;) {
        const char *step = complaint->steps[i];
        if (step[0] == '[')
            continue; /* a list has the keys of its entries */
        while (fields->key != NULL && strcmp(fields->key, step) != 0)
            fields++;
        if (fields->key == NULL)
            return NULL;
        const cyaml_schema_value_t *value = &fields->value;
        if (value->type == CYAML_SEQUENCE)
            value = value->sequence.entry;
        fields = value->type == CYAML_MAPPING ? value->mapping.fields : NULL;
    }
    return fields;
}

/* "unknown key: it is one of a, b and c" */
static void write_keys(const cyaml_schema_field_t *fields, char *out, size_t size)
{
    int n = snprintf(out, size, "unknown key: those here are");
    size_t at = (size_t)n;
    for (; fields->key != NULL && at < size; fields++)
        at += (size_t)snprintf(
            out + at, size - at, "%s %s", at == (size_t)n ? "" : ",", fields->key);
}

static void explain(const struct complaint *complaint, const char *file,
    const struct conf_lines *lines, char *error, size_t error_size)
{
    const char *what = reword(complaint->message);
    const char *named;
    char keys[400];
    bool twice = false;
    if ((named = after(complaint->message, "Unexpected key: ")) != NULL) {
        const cyaml_schema_field_t *fields = keys_at(complaint);
        what = "unknown key";
        if (fields != NULL) {
            write_keys(fields, keys, sizeof(keys));
            what = keys;
        }
    } else if ((named = after(complaint->message, "Missing required mapping field: ")) != NULL) {
        what = "this key is needed here";
    } else if ((named = after(complaint->message, "Mapping field already seen: ")) != NULL) {
        what = "this key is there twice";
        twice = true;
    }
    char path[512];
    write_path(complaint, named, path, sizeof(path));
    unsigned line = twice ? conf_lines_find(lines, path, true) : conf_lines_near(lines, path);
    snprintf(error, error_size, "%s:%u: %s: %s", file, MAX(line, 1U), path, what);
}

static cyaml_config_t cyaml_config(struct complaint *complaint)
{
    return (cyaml_config_t){
        .log_fn = listen_to_cyaml,
        .log_ctx = complaint,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_WARNING,
        .flags = CYAML_CFG_NO_ALIAS,
    };
}

int conf_raw_read(const char *file, const char *text, size_t n, const struct conf_lines *lines,
    struct conf_raw **ret_raw, char *error, size_t error_size)
{
    struct complaint complaint = {0};
    cyaml_config_t config = cyaml_config(&complaint);
    cyaml_data_t *data = NULL;
    cyaml_err_t e = cyaml_load_data((const uint8_t *)text, n, &config, &root_value, &data, NULL);
    /* The text has been read once already (lines.h), so the parser has no other reason to fail. */
    if (e == CYAML_ERR_OOM || e == CYAML_ERR_LIBYAML_PARSER || e == CYAML_ERR_LIBYAML_PARSER_INIT) {
        snprintf(error, error_size, "%s:1: config: no memory", file);
        return -EINVAL;
    }
    if (e != CYAML_OK) {
        explain(&complaint, file, lines, error, error_size);
        return -EINVAL;
    }
    if (data == NULL) {
        snprintf(error, error_size, "%s:1: listeners: the config is empty", file);
        return -EINVAL;
    }
    *ret_raw = data;
    return 0;
}

void conf_raw_free(struct conf_raw *raw)
{
    struct complaint complaint = {0};
    cyaml_config_t config = cyaml_config(&complaint);
    cyaml_free(&config, &root_value, raw, 0);
}
