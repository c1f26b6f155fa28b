#include "frontd/config/check_tls.h"

#include <string.h>

#include "common/alloc.h"
#include "frontd/config/value.h"

enum { ALPN_NAME_MAX = 255 /* bytes; RFC 7301 section 3.1 */ };

/* Absolute, so that each reload and each new program finds the same file. */
static void check_file(
    struct checker *checker, const char *key, const char *path, struct conf_tls_file *file)
{
    if (path[0] != '/')
        checker_complain(checker, key, "'%s': an absolute path", path);
    file->path = checker_copy(checker, path);
    file->line = conf_lines_near(checker->lines, key);
}

static void check_certificates(struct checker *checker, const char *parent,
    const struct conf_raw_tls *raw, struct conf_tls *tls)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.certificates", parent);
    if (raw->certificates_count == 0)
        checker_complain(checker, key, "there is none");
    if (raw->certificates_count > CONF_CERTIFICATES_MAX)
        checker_complain(checker, key, "at most %d", CONF_CERTIFICATES_MAX);
    if (checker->failed)
        return;
    tls->certificates = checker_take(
        checker, mem_zalloc(raw->certificates_count * sizeof(*tls->certificates)));
    if (tls->certificates == NULL)
        return;
    tls->ncertificates = raw->certificates_count;
    for (unsigned i = 0; i < raw->certificates_count; i++) {
        snprintf(key, sizeof(key), "%s.certificates[%u].cert", parent, i);
        check_file(checker, key, raw->certificates[i].cert, &tls->certificates[i].cert);
        snprintf(key, sizeof(key), "%s.certificates[%u].key", parent, i);
        check_file(checker, key, raw->certificates[i].key, &tls->certificates[i].key);
    }
}

static void check_clients(struct checker *checker, const char *parent,
    const struct conf_raw_tls *raw, struct conf_tls *tls)
{
    static const char *const auths[] = {"none", "optional", "required"};
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.client_auth", parent);
    tls->client_auth = (enum conf_client_auth)checker_name(
        checker, key, raw->client_auth, auths, ARRAY_LEN(auths));
    if (tls->client_auth != CONF_CLIENT_AUTH_NONE && raw->client_ca == NULL)
        checker_complain(checker, key, "%s needs client_ca", raw->client_auth);
    snprintf(key, sizeof(key), "%s.client_ca", parent);
    if (raw->client_ca == NULL)
        return;
    if (tls->client_auth == CONF_CLIENT_AUTH_NONE)
        checker_warn(checker, key, "it has no effect without client_auth: optional or required");
    check_file(checker, key, raw->client_ca, &tls->client_ca);
}

/* What a listener of `http` speaks is known; of the others it is the workers' business. */
static void check_alpn_name(
    struct checker *checker, const char *key, const char *name, enum conf_protocol protocol)
{
    static const char *const https[] = {"h2", "http/1.1"};
    size_t n = strlen(name);
    if (protocol == CONF_PROTOCOL_HTTP)
        checker_name(checker, key, name, https, ARRAY_LEN(https));
    else if (n == 0 || n > ALPN_NAME_MAX)
        checker_complain(checker, key, "the name of a protocol has 1 to %d bytes", ALPN_NAME_MAX);
}

static void check_alpn(struct checker *checker, const char *parent, const struct conf_raw_tls *raw,
    enum conf_protocol protocol, struct conf_tls *tls)
{
    static char http2[] = "h2";
    static char http1[] = "http/1.1";
    static char *https[] = {http2, http1};
    char key[CHECKER_PATH_SIZE];
    bool given = checker_has(checker, parent, "alpn");
    bool by_default = !given && protocol == CONF_PROTOCOL_HTTP;
    unsigned n = by_default ? ARRAY_LEN(https) : raw->alpn_count;
    snprintf(key, sizeof(key), "%s.alpn", parent);
    if (n > CONF_ALPN_MAX)
        checker_complain(checker, key, "at most %d", CONF_ALPN_MAX);
    for (unsigned i = 0; i < raw->alpn_count && !checker->failed; i++) {
        snprintf(key, sizeof(key), "%s.alpn[%u]", parent, i);
        check_alpn_name(checker, key, raw->alpn[i], protocol);
        checker_once(checker, key, raw->alpn, i);
    }
    if (checker->failed)
        return;
    tls->alpn = checker_copy_texts(checker, by_default ? https : raw->alpn, n, false);
    tls->nalpn = tls->alpn == NULL ? 0 : n;
}

static void check_tickets(struct checker *checker, const char *parent,
    const struct conf_raw_tls *raw, struct conf_tls *tls)
{
    static const uint64_t half_a_day = (uint64_t)12 * 3600 * 1000;
    char key[CHECKER_PATH_SIZE];
    if (raw->tickets != NULL && strcmp(raw->tickets, "off") == 0)
        return;
    snprintf(key, sizeof(key), "%s.tickets", parent);
    checker_duration(checker, key, raw->tickets, half_a_day, &tls->tickets);
    if (tls->tickets < CONF_TICKETS_MIN || tls->tickets > CONF_TICKETS_MAX)
        checker_complain(checker, key, "off, or a lifetime of 1m to 168h");
}

static void check_all(struct checker *checker, const char *parent, const struct conf_raw_tls *raw,
    enum conf_protocol protocol, struct conf_tls *tls)
{
    static const char *const versions[] = {"1.2", "1.3"};
    char key[CHECKER_PATH_SIZE];
    check_certificates(checker, parent, raw, tls);
    snprintf(key, sizeof(key), "%s.min_version", parent);
    tls->min_version = (enum conf_tls_version)checker_name(
        checker, key, raw->min_version, versions, ARRAY_LEN(versions));
    check_clients(checker, parent, raw, tls);
    check_alpn(checker, parent, raw, protocol, tls);
    check_tickets(checker, parent, raw, tls);
    snprintf(key, sizeof(key), "%s.handshake_timeout", parent);
    checker_timeout(checker, key, raw->handshake_timeout, 10 * 1000, &tls->handshake_timeout);
}

static void warn_of_meta(
    struct checker *checker, const char *parent, char *const *meta, unsigned count)
{
    char key[CHECKER_PATH_SIZE + sizeof(".meta[4294967295]")];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "%s.meta[%u]", parent, i);
        if (strcmp(meta[i], "tls") == 0)
            checker_warn(checker, key, "tls has no effect on a listener without tls");
    }
}

static void warn_of_plain(
    struct checker *checker, const char *parent, const struct conf_raw_listener *raw)
{
    char route[CHECKER_PATH_SIZE];
    warn_of_meta(checker, parent, raw->stream.meta, raw->stream.meta_count);
    for (unsigned i = 0; i < raw->routes_count; i++) {
        snprintf(route, sizeof(route), "%s.routes[%u]", parent, i);
        warn_of_meta(checker, route, raw->routes[i].meta, raw->routes[i].meta_count);
    }
}

void conf_check_tls(struct checker *checker, unsigned index, const struct conf_raw_listener *raw,
    struct conf_listener *listener)
{
    char parent[64];
    snprintf(parent, sizeof(parent), "listeners[%u]", index);
    if (raw->tls == NULL) {
        warn_of_plain(checker, parent, raw);
        return;
    }
    if (raw->h2c != NULL && strcmp(raw->h2c, "true") == 0) {
        snprintf(parent, sizeof(parent), "listeners[%u].h2c", index);
        checker_complain(checker, parent, "not with tls: there clients choose h2 by alpn");
    }
    listener->tls = checker_take(checker, mem_zalloc(sizeof(*listener->tls)));
    if (listener->tls == NULL)
        return;
    snprintf(parent, sizeof(parent), "listeners[%u].tls", index);
    check_all(checker, parent, raw->tls, listener->protocol, listener->tls);
}

static bool any_worker_has_tls(const struct conf_pool *pool)
{
    for (uint32_t i = 0; i < pool->nworkers; i++) {
        if (pool->workers[i].tls)
            return true;
    }
    return false;
}

/* What the certificates of the pool's workers have to be for: by default what each is dialled by.
 */
static void set_server_name(
    struct checker *checker, const char *parent, const char *name, struct conf_pool *pool)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.server_name", parent);
    if (name[0] == '\0' || strlen(name) >= CONF_VALUE_HOST_SIZE)
        checker_complain(checker, key, "'%s': a name or an IP address", name);
    for (uint32_t i = 0; i < pool->nworkers; i++) {
        mem_free(pool->workers[i].server_name);
        pool->workers[i].server_name = pool->workers[i].tls ? checker_copy(checker, name) : NULL;
    }
}

static void check_own_pair(struct checker *checker, const char *parent,
    const struct conf_raw_pool_tls *raw, struct conf_pool_tls *tls)
{
    char cert[CHECKER_PATH_SIZE], key[CHECKER_PATH_SIZE];
    snprintf(cert, sizeof(cert), "%s.cert", parent);
    snprintf(key, sizeof(key), "%s.key", parent);
    if (raw->cert == NULL || raw->key == NULL) {
        if (raw->cert != NULL)
            checker_complain(checker, cert, "it needs key");
        if (raw->key != NULL)
            checker_complain(checker, key, "it needs cert");
        return;
    }
    check_file(checker, cert, raw->cert, &tls->own.cert);
    check_file(checker, key, raw->key, &tls->own.key);
}

void conf_check_pool_tls(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, struct conf_pool *pool)
{
    char key[CHECKER_PATH_SIZE], own[64];
    snprintf(own, sizeof(own), "%s.tls", parent);
    if (raw->tls == NULL) {
        snprintf(key, sizeof(key), "%s.workers", parent);
        if (any_worker_has_tls(pool))
            checker_complain(checker, key, "tls:// needs the pool's `tls`, with its `ca`");
        return;
    }
    if (!any_worker_has_tls(pool))
        checker_warn(checker, own, "it has no effect: no worker of the pool is a tls:// one");
    pool->tls = checker_take(checker, mem_zalloc(sizeof(*pool->tls)));
    if (pool->tls == NULL)
        return;
    snprintf(key, sizeof(key), "%s.ca", own);
    check_file(checker, key, raw->tls->ca, &pool->tls->ca);
    check_own_pair(checker, own, raw->tls, pool->tls);
    if (raw->tls->server_name != NULL)
        set_server_name(checker, own, raw->tls->server_name, pool);
}
