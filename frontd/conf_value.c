#include "frontd/conf_value.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>

#include "common/hash.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"ms", 1},
    {"s", 1000},
    {"m", 60 * 1000},
    {"h", 60 * 60 * 1000},
};

static const struct unit sizes[] = {
    {"", 1},
    {"B", 1},
    {"KiB", 1024},
    {"MiB", 1024 * 1024},
    {"GiB", 1024 * 1024 * 1024},
};

/* Digits and then one of the units. Returns false where it is something else or over max. */
static bool parse_with_unit(
    const char *text, const struct unit *units, size_t nunits, uint64_t max, uint64_t *ret_value)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    for (size_t i = 0; i < nunits; i++) {
        if (strcmp(end, units[i].name) == 0 && number <= max / units[i].factor) {
            *ret_value = number * units[i].factor;
            return true;
        }
    }
    return false;
}

const char *conf_value_duration(const char *text, uint64_t *ret_ms)
{
    static const uint64_t year = (uint64_t)366 * 24 * 60 * 60 * 1000;
    if (parse_with_unit(text, durations, ARRAY_LEN(durations), year, ret_ms))
        return NULL;
    return "not a duration such as 500ms, 30s, 5m or 1h";
}

const char *conf_value_size(const char *text, uint32_t *ret_bytes)
{
    uint64_t value;
    if (!parse_with_unit(text, sizes, ARRAY_LEN(sizes), CONF_SIZE_MAX, &value))
        return "not a size such as 64KiB or 1MiB, at most 1GiB";
    *ret_bytes = (uint32_t)value;
    return NULL;
}

const char *conf_value_memory(const char *text, uint64_t *ret_bytes)
{
    if (parse_with_unit(text, sizes, ARRAY_LEN(sizes), CONF_MEMORY_MAX, ret_bytes))
        return NULL;
    return "not a size such as 256MiB or 4GiB, at most 1024GiB";
}

const char *conf_value_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    static char message[96];
    static const struct unit none[] = {{"", 1}};
    uint64_t value;
    if (parse_with_unit(text, none, 1, max, &value) && value >= min) {
        *ret_number = value;
        return NULL;
    }
    snprintf(message, sizeof(message), "not a number from %llu to %llu", (unsigned long long)min,
        (unsigned long long)max);
    return message;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t n = strlen(text);
    size_t m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* Letters, digits and marks, other than those that end a host or begin something else. */
static size_t host_len(const char *text)
{
    size_t n = 0;
    while (isgraph((unsigned char)text[n]) && strchr("/?#@,", text[n]) == NULL)
        n++;
    return n;
}

const char *conf_value_origin(const char *text)
{
    if (strcmp(text, "*") == 0 || strcmp(text, "null") == 0)
        return NULL;
    if (strchr(text, '*') != NULL)
        return "an origin is written in full, or '*' for any";
    size_t scheme = strcspn(text, ":");
    const char *host = text + scheme + 3;
    if (!isalpha((unsigned char)text[0]) || strncmp(text + scheme, "://", 3) != 0 ||
        host_len(host) == 0 || host[host_len(host)] != '\0')
        return "not an origin such as https://www.example or https://www.example:8443";
    if ((strncasecmp(text, "https:", 6) == 0 && has_suffix(host, ":443")) ||
        (strncasecmp(text, "http:", 5) == 0 && has_suffix(host, ":80")))
        return "browsers leave out the port that is usual for the scheme";
    /* What no browser writes so would never be found. */
    const char *colon = strrchr(host, ':');
    uint64_t port;
    if (colon != NULL && strchr(colon, ']') == NULL &&
        (colon[1] == '0' || conf_value_number(colon + 1, 1, 65535, &port) != NULL))
        return "the port is a number from 1 to 65535";
    return NULL;
}

const char *conf_value_token(const char *text)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    size_t n = 0;
    while (text[n] != '\0' && (isalnum((unsigned char)text[n]) || strchr(marks, text[n]) != NULL))
        n++;
    return n > 0 && text[n] == '\0' ? NULL : "not a token: letters, digits and !#$%&'*+-.^_`|~";
}

const char *conf_value_realm(const char *text, uint64_t *ret_id)
{
    enum { NAME_MAX_BYTES = 32 };
    /* Not secret, but the same for ever: shards of other versions read what comes of it. */
    static const struct hash_key key = {0x66726f6e74642072ULL, 0x65616c6d00000001ULL};
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_' || text[n] == '-')
        n++;
    if (n == 0 || n > NAME_MAX_BYTES || text[n] != '\0')
        return "a realm is letters, digits, '_' and '-', 1 to 32 of them";
    *ret_id = MAX(hash_bytes(&key, text, n), (uint64_t)1); /* 0 is none */
    return NULL;
}

static const char *parse_unix(const char *path, struct conf_address *ret_address)
{
    struct conf_address address = {.len = sizeof(address.sock.un)};
    if (path[0] != '/')
        return "a UNIX socket needs an absolute path";
    if (strlen(path) >= sizeof(address.sock.un.sun_path))
        return "the path of a UNIX socket has at most 107 bytes";
    address.sock.un.sun_family = AF_UNIX;
    memcpy(address.sock.un.sun_path, path, strlen(path));
    *ret_address = address;
    return NULL;
}

const char conf_value_unresolved[] = "the host cannot be resolved";

const char *conf_value_address(const char *text, struct conf_address *ret_address)
{
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, ret_address);
    char host[256];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        return "not an address such as 0.0.0.0:8080, [::1]:8080 or unix:/path";
    size_t host_len = (size_t)(colon - text);
    const char *start = text;
    if (host_len >= 2 && text[0] == '[' && colon[-1] == ']') {
        start++;
        host_len -= 2;
    } else if (memchr(text, ':', host_len) != NULL) {
        return "an IPv6 address stands in brackets: [::1]:8080";
    }
    if (host_len == 0)
        return "the host is missing: 0.0.0.0:8080 or [::]:8080 for every address";
    memcpy(host, start, host_len);
    host[host_len] = '\0';
    uint64_t port;
    if (conf_value_number(colon + 1, 1, 65535, &port) != NULL)
        return "the port is a number from 1 to 65535";
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return conf_value_unresolved;
    struct conf_address address = {.len = found->ai_addrlen};
    CHECK(found->ai_addrlen <= sizeof(address.sock));
    memcpy(&address.sock, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    *ret_address = address;
    return NULL;
}
