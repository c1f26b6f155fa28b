#include "frontd/config/check_proxies.h"

#include "common/alloc.h"

static void read_networks(struct checker *checker, unsigned index,
    const struct conf_raw_listener *raw, struct conf_listener *listener)
{
    unsigned n = raw->trusted_proxies_count;
    char key[96];
    if (n > CONF_TRUSTED_MAX) {
        snprintf(key, sizeof(key), "listeners[%u].trusted_proxies", index);
        checker_complain(checker, key, "at most %d", CONF_TRUSTED_MAX);
        return;
    }
    if (n == 0)
        return;
    listener->trusted_proxies = checker_take(
        checker, mem_zalloc(n * sizeof(*listener->trusted_proxies)));
    if (listener->trusted_proxies == NULL)
        return;
    listener->ntrusted_proxies = n;
    for (unsigned i = 0; i < n; i++) {
        const char *text = raw->trusted_proxies[i];
        const char *wrong = peer_network_parse(text, &listener->trusted_proxies[i]);
        snprintf(key, sizeof(key), "listeners[%u].trusted_proxies[%u]", index, i);
        if (wrong != NULL)
            checker_complain(checker, key, "'%s': %s", text, wrong);
    }
}

/* Whether a connection of the listener can be from one of its trusted proxies. */
static bool has_usable(const struct conf_listener *listener)
{
    bool is_unix = listener->address.sock.any.sa_family == AF_UNIX;
    for (uint32_t i = 0; i < listener->ntrusted_proxies; i++) {
        if ((listener->trusted_proxies[i].family == AF_UNIX) == is_unix)
            return true;
    }
    return false;
}

static void check_trust(
    struct checker *checker, unsigned index, const struct conf_listener *listener)
{
    bool is_unix = listener->address.sock.any.sa_family == AF_UNIX;
    bool told = listener->proxy_protocol || listener->forwarded != CONF_FORWARDED_NONE;
    const char *wanted_by = listener->proxy_protocol ? "proxy_protocol" : "forwarded";
    char parent[64], key[96];
    snprintf(parent, sizeof(parent), "listeners[%u]", index);
    snprintf(key, sizeof(key), "%s.trusted_proxies", parent);
    if (!told) {
        if (checker_has(checker, parent, "trusted_proxies"))
            checker_complain(checker, key, "has no effect without proxy_protocol or forwarded");
        return;
    }
    if (listener->ntrusted_proxies == 0) {
        snprintf(key, sizeof(key), "%s.%s", parent, wanted_by);
        checker_complain(checker, key,
            "needs trusted_proxies: from anybody else a client's address would be what it likes");
    } else if (!has_usable(listener)) {
        checker_complain(checker, key,
            is_unix ? "on a UNIX socket the proxy is 'unix', which is not there"
                    : "no address is there: 'unix' is for listeners on a UNIX socket");
    }
}

void conf_check_proxies(struct checker *checker, unsigned index,
    const struct conf_raw_listener *raw, struct conf_listener *listener)
{
    static const char *const forms[] = {"none", "x-forwarded-for", "forwarded"};
    char key[96];
    snprintf(key, sizeof(key), "listeners[%u].proxy_protocol", index);
    listener->proxy_protocol = checker_flag(checker, key, raw->proxy_protocol);
    snprintf(key, sizeof(key), "listeners[%u].forwarded", index);
    listener->forwarded = (enum conf_forwarded)checker_name(
        checker, key, raw->forwarded, forms, ARRAY_LEN(forms));
    if (listener->forwarded != CONF_FORWARDED_NONE && listener->protocol != CONF_PROTOCOL_HTTP)
        checker_complain(checker, key, "only for protocol: http");
    read_networks(checker, index, raw, listener);
    if (!checker->failed)
        check_trust(checker, index, listener);
}
