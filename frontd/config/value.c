#include "frontd/config/value.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>

#include "common/siphash.h"
#include "common/token.h"

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

/* Reads digits and one of the units. Returns false for other text, and over max. */
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

/* Length of the host: up to a byte that ends it or cannot stand in it. */
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
    /* A port that no browser writes so is an error: such an origin would never be found. */
    const char *colon = strrchr(host, ':');
    uint64_t port;
    if (colon != NULL && strchr(colon, ']') == NULL &&
        (colon[1] == '0' || conf_value_number(colon + 1, 1, 65535, &port) != NULL))
        return "the port is a number from 1 to 65535";
    return NULL;
}

const char *conf_value_token(const char *text)
{
    return token_valid(text, strlen(text)) ? NULL : "not a token: " TOKEN_CHARS;
}

const char *conf_value_realm(const char *text, uint64_t *ret_id)
{
    enum { NAME_MAX_BYTES = 32 };
    /*
     * Not secret, but never changed: shards of other versions read numbers that are made with it.
     */
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

/* Splits "host:port" and "[v6]:port". The host may be empty, or '*'. */
static const char *split(const char *text, char host[CONF_VALUE_HOST_SIZE], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= CONF_VALUE_HOST_SIZE)
        return "not an address such as 0.0.0.0:8080, [::1]:8080 or unix:/path";
    size_t host_len = (size_t)(colon - text);
    const char *start = text;
    if (host_len >= 2 && text[0] == '[' && colon[-1] == ']') {
        start++;
        host_len -= 2;
        if (host_len == 0)
            return "an IPv6 address stands in the brackets: [::1]:8080";
    } else if (memchr(text, ':', host_len) != NULL) {
        return "an IPv6 address stands in brackets: [::1]:8080";
    }
    memcpy(host, start, host_len);
    host[host_len] = '\0';
    uint64_t port;
    if (conf_value_number(colon + 1, 1, 65535, &port) != NULL)
        return "the port is a number from 1 to 65535";
    *ret_port = (uint16_t)port;
    return NULL;
}

/*
 * Looks the host up; numeric: only reads an address. Returns 0 with *ret_found, or the error of
 * getaddrinfo().
 */
static int find(const char *host, uint16_t port, bool numeric, struct addrinfo **ret_found)
{
    char service[8];
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (numeric ? AI_NUMERICHOST : 0)};
    snprintf(service, sizeof(service), "%u", port);
    return getaddrinfo(host, service, &hints, ret_found);
}

static void take_address(const struct addrinfo *found, struct conf_address *ret_address)
{
    *ret_address = (struct conf_address){.len = found->ai_addrlen};
    CHECK(found->ai_addrlen <= sizeof(ret_address->sock));
    memcpy(&ret_address->sock, found->ai_addr, found->ai_addrlen);
    const struct sockaddr_in6 in6 = ret_address->sock.in6;
    if (in6.sin6_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
        return;
    /* "[::ffff:192.0.2.1]" is an IPv4 address, to which no socket of IPv6 alone can be bound. */
    *ret_address = (struct conf_address){.len = sizeof(ret_address->sock.in)};
    ret_address->sock.in.sin_family = AF_INET;
    ret_address->sock.in.sin_port = in6.sin6_port;
    memcpy(&ret_address->sock.in.sin_addr, &in6.sin6_addr.s6_addr[12], 4);
}

const char *conf_value_host(const char *text, char ret_host[CONF_VALUE_HOST_SIZE],
    uint16_t *ret_port, struct conf_address *ret_address)
{
    char host[CONF_VALUE_HOST_SIZE];
    uint16_t port = 0;
    struct addrinfo *found = NULL;
    const char *wrong = split(text, host, &port);
    if (wrong == NULL && (host[0] == '\0' || strchr(host, '*') != NULL))
        wrong = "a host is needed here";
    if (wrong == NULL && strspn(host, ":.%_-0123456789abcdefghijklmnopqrstuvwxyz"
                                      "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(host))
        wrong = "a host is a name or an address";
    if (wrong != NULL)
        return wrong;
    struct conf_address address = {.len = 0};
    if (find(host, port, true, &found) == 0) {
        take_address(found, &address);
        freeaddrinfo(found);
    } else if (text[0] == '[') {
        return "no IPv6 address is in the brackets";
    }
    memcpy(ret_host, host, strlen(host) + 1);
    *ret_port = port;
    *ret_address = address;
    return NULL;
}

static void put_any(sa_family_t family, uint16_t port, struct conf_address *ret_address)
{
    *ret_address = (struct conf_address){.len = 0};
    ret_address->sock.any.sa_family = family;
    if (family == AF_INET6) {
        ret_address->len = sizeof(ret_address->sock.in6);
        ret_address->sock.in6.sin6_port = htons(port);
    } else {
        ret_address->len = sizeof(ret_address->sock.in);
        ret_address->sock.in.sin_port = htons(port);
    }
}

static void put_loopback(uint16_t port, struct conf_address *ret_addresses)
{
    put_any(AF_INET6, port, &ret_addresses[0]);
    ret_addresses[0].sock.in6.sin6_addr = in6addr_loopback;
    put_any(AF_INET, port, &ret_addresses[1]);
    ret_addresses[1].sock.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

bool conf_value_is_any(const struct conf_address *address)
{
    if (address->sock.any.sa_family == AF_INET)
        return address->sock.in.sin_addr.s_addr == htonl(INADDR_ANY);
    return address->sock.any.sa_family == AF_INET6 &&
           memcmp(&address->sock.in6.sin6_addr, &in6addr_any, sizeof(in6addr_any)) == 0;
}

bool conf_value_same(const struct conf_address *one, const struct conf_address *other)
{
    return one->len == other->len && memcmp(&one->sock, &other->sock, one->len) == 0;
}

/* Adds the address of all interfaces of the other family. */
static size_t add_other_family(struct conf_address *addresses, uint16_t port)
{
    if (!conf_value_is_any(&addresses[0]))
        return 1;
    put_any(addresses[0].sock.any.sa_family == AF_INET ? AF_INET6 : AF_INET, port, &addresses[1]);
    return 2;
}

const char *conf_value_addresses(const char *text, bool look_up,
    struct conf_address ret_addresses[CONF_ADDRESSES_MAX], size_t *ret_n)
{
    char host[CONF_VALUE_HOST_SIZE];
    uint16_t port = 0;
    struct addrinfo *found = NULL;
    *ret_n = 0;
    if (strncmp(text, "unix:", 5) == 0) {
        const char *wrong = parse_unix(text + 5, &ret_addresses[0]);
        *ret_n = wrong == NULL;
        return wrong;
    }
    const char *wrong = split(text, host, &port);
    if (wrong != NULL)
        return wrong;
    if (host[0] == '\0' || strcmp(host, "*") == 0) {
        put_any(AF_INET, port, &ret_addresses[0]);
        *ret_n = add_other_family(ret_addresses, port);
        return NULL;
    }
    if (find(host, port, true, &found) == 0) {
        take_address(found, &ret_addresses[0]);
        freeaddrinfo(found);
        *ret_n = add_other_family(ret_addresses, port);
        return NULL;
    }
    /* RFC 6761 section 6.3, whatever /etc/hosts has. */
    if (strcasecmp(host, "localhost") == 0 || strcasecmp(host, "localhost.") == 0) {
        put_loopback(port, ret_addresses);
        *ret_n = 2;
        return NULL;
    }
    if (!look_up)
        return NULL;
    if (find(host, port, false, &found) != 0)
        return conf_value_unresolved;
    for (const struct addrinfo *at = found; at != NULL && *ret_n < CONF_ADDRESSES_MAX;
         at = at->ai_next) {
        bool known = false;
        take_address(at, &ret_addresses[*ret_n]);
        for (size_t i = 0; i < *ret_n; i++)
            known |= conf_value_same(&ret_addresses[i], &ret_addresses[*ret_n]);
        *ret_n += !known;
    }
    freeaddrinfo(found);
    return NULL;
}

const char *conf_value_address(const char *text, struct conf_address *ret_address)
{
    struct conf_address addresses[CONF_ADDRESSES_MAX];
    size_t n;
    const char *wrong = conf_value_addresses(text, true, addresses, &n);
    if (wrong == NULL)
        *ret_address = addresses[0];
    return wrong;
}
