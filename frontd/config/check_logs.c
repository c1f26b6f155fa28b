#include "frontd/config/check_logs.h"

#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "frontd/codec/access_line.h"
#include "frontd/codec/traceparent.h"
#include "frontd/config/value.h"

enum {
    US_A_MS = 1000,
    SLOW_DEFAULT_US = 1000 * 1000,
    ENDPOINT_MAX = 200,  /* bytes of the endpoint of tracing */
    SAMPLE_BITS = 32,    /* of conf_access_log.sample */
    DEFAULT_PERCENT = 1, /* of calls that are traced */
};

#define SPANS_PATH "/v1/traces" /* OTLP/HTTP: of an endpoint */

void conf_check_slow(
    struct checker *checker, const char *key, const char *text, uint64_t fallback, uint64_t *ret_us)
{
    uint64_t ms = 0;
    *ret_us = fallback;
    if (text == NULL)
        return;
    *ret_us = UINT64_MAX;
    if (strcmp(text, "off") == 0)
        return;
    checker_timeout(checker, key, text, 0, &ms);
    *ret_us = ms * US_A_MS;
}

/* Fields that HTTP itself or the front has a use for: an id in one of them would break requests. */
static bool is_taken(const char *name)
{
    static const char *const names[] = {"accept", "allow", "authorization", "connection", "cookie",
        "date", "expect", "forwarded", "host", "keep-alive", "location", "origin", "retry-after",
        "server", "set-cookie", "te", "trailer", "traceparent", "tracestate", "transfer-encoding",
        "upgrade", "vary", "www-authenticate", "x-forwarded-for"};
    static const char *const families[] = {"access-control-", "content-", "proxy-", "sec-"};
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (strncasecmp(name, families[i], strlen(families[i])) == 0)
            return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static void check_request_id(struct checker *checker, const char *text, struct conf *conf)
{
    if (text == NULL || strcmp(text, "off") == 0)
        return;
    const char *wrong = conf_value_token(text);
    if (wrong == NULL && strlen(text) > CONF_REQUEST_ID_MAX)
        wrong = "at most 64 bytes";
    if (wrong == NULL && is_taken(text))
        wrong = "that header field has another use";
    if (wrong != NULL)
        checker_complain(checker, "request_id", "'%s': %s", text, wrong);
    conf->request_id = checker_copy_lower(checker, text);
}

/* A part of all, from 0 to 1: returns it times 2^bits. */
static uint64_t read_part(
    struct checker *checker, const char *key, const char *text, double fallback, unsigned bits)
{
    double part = fallback;
    char *end;
    if (text != NULL) {
        part = strtod(text, &end);
        if (strspn(text, "0123456789.") != strlen(text) || end == text || *end != '\0' || part > 1)
            checker_complain(checker, key, "'%s': a number from 0 to 1, such as 0.01", text);
    }
    return checker->failed ? 0 : (uint64_t)(part * (double)((uint64_t)1 << bits));
}

static void check_format(struct checker *checker, struct conf_access_log *log, const char *text)
{
    static const char key[] = "access_log.format";
    struct access_part parts[ACCESS_PARTS_MAX];
    size_t n = 0;
    if (text == NULL || strcmp(text, "json") == 0)
        return;
    log->format = checker_copy(checker, text);
    if (log->format == NULL)
        return;
    const char *wrong = access_format_read(log->format, parts, &n);
    if (wrong != NULL) {
        checker_complain(checker, key, "'%s': %s", text, wrong);
        return;
    }
    log->parts = checker_take(checker, mem_zalloc(n * sizeof(*parts)));
    if (log->parts == NULL)
        return;
    memcpy(log->parts, parts, n * sizeof(*parts));
    log->nparts = (uint32_t)n;
}

static void check_access_log(
    struct checker *checker, const struct conf_raw_access_log *raw, struct conf *conf)
{
    if (raw == NULL)
        return;
    struct conf_access_log *log = checker_take(checker, mem_zalloc(sizeof(*log)));
    conf->access_log = log;
    if (log == NULL)
        return;
    if (strcmp(raw->path, "stderr") != 0) {
        if (raw->path[0] != '/' || raw->path[strlen(raw->path) - 1] == '/')
            checker_complain(checker, "access_log.path",
                "'%s': the absolute path of a file, or stderr", raw->path);
        log->path = checker_copy(checker, raw->path);
    }
    log->line = conf_lines_near(checker->lines, "access_log.path");
    check_format(checker, log, raw->format);
    log->sample = read_part(checker, "access_log.sample", raw->sample, 1, SAMPLE_BITS);
}

/* "http://ADDRESS:PORT[/PATH]". Returns NULL, or what is wrong. */
static const char *read_endpoint(
    struct checker *checker, const char *text, struct conf_tracing *tracing)
{
    static const char scheme[] = "http://";
    char authority[ENDPOINT_MAX + 1];
    char path[ENDPOINT_MAX + sizeof(SPANS_PATH)];
    if (strlen(text) > ENDPOINT_MAX)
        return "at most 200 bytes";
    if (strncmp(text, scheme, sizeof(scheme) - 1) != 0)
        return "http://ADDRESS:PORT of a collector: https is for a collector near by to speak";
    const char *host = text + sizeof(scheme) - 1;
    size_t n = strcspn(host, "/");
    if (strpbrk(host, "?#@") != NULL)
        return "neither a user nor a query belongs there";
    snprintf(authority, sizeof(authority), "%.*s", (int)n, host);
    size_t path_len = strlen(host + n);
    while (path_len > 0 && host[n + path_len - 1] == '/')
        path_len--;
    snprintf(path, sizeof(path), "%.*s" SPANS_PATH, (int)path_len, host + n);
    for (const char *p = path; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 0x7f)
            return "its path has a character that no path has";
    }
    char name[CONF_VALUE_HOST_SIZE];
    uint16_t port;
    const char *wrong = conf_value_host(authority, name, &port, &tracing->address);
    if (wrong == NULL && tracing->address.len == 0)
        wrong = "an address, such as 127.0.0.1 or [::1], since names are not looked up here";
    tracing->authority = checker_copy(checker, authority);
    tracing->path = checker_copy(checker, path);
    return wrong;
}

static void check_tracing(
    struct checker *checker, const struct conf_raw_tracing *raw, struct conf *conf)
{
    static const char *const switches[] = {"true", "false"}; /* the default first */
    if (raw == NULL)
        return;
    struct conf_tracing *tracing = checker_take(checker, mem_zalloc(sizeof(*tracing)));
    conf->tracing = tracing;
    if (tracing == NULL)
        return;
    tracing->endpoint = checker_copy(checker, raw->endpoint);
    const char *wrong = read_endpoint(checker, raw->endpoint, tracing);
    if (wrong != NULL)
        checker_complain(checker, "tracing.endpoint", "'%s': %s", raw->endpoint, wrong);
    uint64_t part = read_part(
        checker, "tracing.ratio", raw->ratio, DEFAULT_PERCENT / 100.0, TRACEPARENT_RANDOMS);
    tracing->threshold = ((uint64_t)1 << TRACEPARENT_RANDOMS) - part;
    tracing->parent = checker_name(checker, "tracing.parent", raw->parent, switches, 2) == 0;
}

void conf_check_logs(struct checker *checker, const struct conf_raw *raw, struct conf *conf)
{
    conf_check_slow(checker, "slow_log", raw->slow_log, SLOW_DEFAULT_US, &conf->slow);
    check_request_id(checker, raw->request_id, conf);
    check_access_log(checker, raw->access_log, conf);
    check_tracing(checker, raw->tracing, conf);
}
