#include "frontd/config/check_admin.h"

#include <string.h>

#include "frontd/config/value.h"

enum { PORT_TEXT_MAX = 15 /* bytes of a port, with zeros before it */ };

/* "9464" and ":9464" are the port of both loopback addresses, which no other machine can reach. */
static const char *find_addresses(const char *text, bool look_up, struct conf_admin *admin)
{
    char loopback[sizeof("localhost:") + PORT_TEXT_MAX];
    size_t n = 0;
    const char *port = text[0] == ':' ? text + 1 : text;
    if (port[0] != '\0' && strspn(port, "0123456789") == strlen(port) &&
        strlen(port) <= PORT_TEXT_MAX) {
        snprintf(loopback, sizeof(loopback), "localhost:%s", port);
        text = loopback;
    }
    const char *wrong = conf_value_addresses(text, look_up, admin->addresses, &n);
    admin->naddresses = (uint32_t)n;
    return wrong;
}

static bool is_local(const struct conf_address *address)
{
    if (address->sock.any.sa_family == AF_UNIX)
        return true;
    if (address->sock.any.sa_family == AF_INET)
        return ntohl(address->sock.in.sin_addr.s_addr) >> 24 == 127;
    return memcmp(&address->sock.in6.sin6_addr, &in6addr_loopback, sizeof(in6addr_loopback)) == 0;
}

static void check_shared(struct checker *checker, const struct conf *conf)
{
    const struct conf_admin *admin = &conf->admin;
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        for (uint32_t k = 0; k < admin->naddresses * listener->naddresses; k++) {
            if (conf_value_same(&admin->addresses[k % admin->naddresses],
                    &listener->addresses[k / admin->naddresses])) {
                checker_complain(checker, "admin.address",
                    "'%s' and '%s' of listener %s have an address in common", admin->text,
                    listener->text, listener->name);
                return;
            }
        }
    }
}

static void warn_of_others(struct checker *checker, const struct conf_admin *admin)
{
    for (uint32_t i = 0; i < admin->naddresses; i++) {
        if (!is_local(&admin->addresses[i])) {
            checker_warn(checker, "admin.address",
                "'%s': whoever reaches it reads metrics and the names of workers: add token_file, "
                "or write the port alone, which is that of the loopback addresses",
                admin->text);
            return;
        }
    }
}

void conf_check_admin(struct checker *checker, const struct conf_raw_admin *raw, struct conf *conf)
{
    struct conf_admin *admin = &conf->admin;
    if (raw == NULL)
        return;
    bool look_up = checker->findings == NULL || !checker->findings->blind;
    const char *wrong = find_addresses(raw->address, look_up, admin);
    if (wrong == conf_value_unresolved)
        checker_complain_of_start(checker, "admin.address", "'%s': %s", raw->address, wrong);
    else if (wrong != NULL)
        checker_complain(checker, "admin.address", "'%s': %s", raw->address, wrong);
    admin->text = checker_copy(checker, raw->address);
    if (raw->token_file != NULL && raw->token_file[0] != '/')
        checker_complain(checker, "admin.token_file", "'%s': an absolute path", raw->token_file);
    admin->token_file.path = checker_copy(checker, raw->token_file);
    admin->token_file.line = conf_lines_near(checker->lines, "admin.token_file");
    if (checker->failed)
        return;
    check_shared(checker, conf);
    if (raw->token_file == NULL)
        warn_of_others(checker, admin);
}

void conf_check_metrics(
    struct checker *checker, const struct conf_raw_metrics *raw, struct conf *conf)
{
    static const char list[] = "metrics.methods";
    if (raw == NULL)
        return;
    if (raw->methods_count > CONF_METRIC_METHODS_MAX)
        checker_complain(checker, list, "at most %d methods", CONF_METRIC_METHODS_MAX);
    for (unsigned i = 0; i < raw->methods_count && !checker->failed; i++) {
        const char *method = raw->methods[i];
        char key[CHECKER_PATH_SIZE];
        snprintf(key, sizeof(key), "%s[%u]", list, i);
        if (method[0] == '\0' || strlen(method) > CONF_METRIC_METHOD_SIZE)
            checker_complain(checker, key, "'%s': 1 to %d bytes", method, CONF_METRIC_METHOD_SIZE);
        checker_once(checker, key, raw->methods, i);
    }
    conf->metric_methods = checker_copy_texts(checker, raw->methods, raw->methods_count, false);
    conf->nmetric_methods = conf->metric_methods == NULL ? 0 : raw->methods_count;
}
