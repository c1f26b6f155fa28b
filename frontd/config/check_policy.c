/*
 * Each entry of `methods`, allow_methods and deny_methods makes a policy, or adds to the one with
 * the same match; the route itself makes the last, with the match "*". They are sorted, the most
 * specific first, and each takes what it does not say from the next one that takes all its methods.
 */

#include "frontd/config/check_policy.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/siphash.h"
#include "frontd/config/value.h"

enum { CALLS_MAX = 1000000, BURST_MAX = 1000000, RATE_MAX = 1000000 };

static void check_match(struct checker *checker, const char *key, const char *match)
{
    const char *star = strchr(match, '*');
    if (match[0] == '\0' || strlen(match) > 255 || (star != NULL && star[1] != '\0'))
        checker_complain(checker, key,
            "'%s': the name of a method, or the beginning of one with * at its end, 1 to 255 bytes",
            match);
}

/* "10/s", "600/m", "1/h": *ret_us is the time from one to the next. */
static const char *read_rate(const char *text, uint64_t *ret_us)
{
    char digits[16];
    size_t n = strcspn(text, "/");
    uint64_t count, per;
    if (n == 0 || n >= sizeof(digits) || text[n] == '\0')
        return "not a rate such as 10/s, 600/m or 1/h";
    memcpy(digits, text, n);
    digits[n] = '\0';
    if (strcmp(text + n, "/s") == 0)
        per = 1000000;
    else if (strcmp(text + n, "/m") == 0)
        per = 60 * 1000000ULL;
    else if (strcmp(text + n, "/h") == 0)
        per = 3600 * 1000000ULL;
    else
        return "not a rate such as 10/s, 600/m or 1/h";
    if (conf_value_number(digits, 1, RATE_MAX, &count) != NULL)
        return "1 to 1000000 a second, minute or hour";
    *ret_us = MAX(per / count, 1U);
    return NULL;
}

static void read_per(struct checker *checker, const char *key, const char *text,
    enum conf_kind kind, struct conf_rate *rate)
{
    static const char header[] = "header:";
    rate->per = CONF_RATE_PEER;
    if (text == NULL || strcmp(text, "peer") == 0)
        return;
    if (strcmp(text, "all") == 0) {
        rate->per = CONF_RATE_ALL;
    } else if (strcmp(text, "connection") == 0) {
        rate->per = CONF_RATE_CONNECTION;
    } else if (strncmp(text, header, sizeof(header) - 1) == 0 &&
               conf_value_token(text + sizeof(header) - 1) == NULL) {
        rate->per = CONF_RATE_HEADER;
        rate->header = checker_copy_lower(checker, text + sizeof(header) - 1);
        if (kind != CONF_HTTP && kind != CONF_JSONRPC)
            checker_complain(checker, key, "only for kind: jsonrpc and http: messages have none");
    } else {
        checker_complain(checker, key, "'%s': peer, connection, all or header:NAME", text);
    }
}

static void check_rates(struct checker *checker, const char *parent,
    const struct conf_raw_policy *raw, enum conf_kind kind, struct conf_policy *policy)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.rate", parent);
    if (raw->rate_count > CONF_RATES_MAX)
        checker_complain(checker, key, "at most %d", CONF_RATES_MAX);
    if (raw->rate_count == 0 || checker->failed)
        return;
    policy->rates_line = conf_lines_near(checker->lines, key);
    policy->rates = checker_take(checker, mem_zalloc(raw->rate_count * sizeof(*policy->rates)));
    for (unsigned i = 0; policy->rates != NULL && i < raw->rate_count; i++) {
        struct conf_rate *rate = &policy->rates[policy->nrates++];
        snprintf(key, sizeof(key), "%s.rate[%u].per", parent, i);
        read_per(checker, key, raw->rate[i].per, kind, rate);
        snprintf(key, sizeof(key), "%s.rate[%u].rate", parent, i);
        const char *wrong = read_rate(raw->rate[i].rate, &rate->interval);
        if (wrong != NULL)
            checker_complain(checker, key, "'%s': %s", raw->rate[i].rate, wrong);
        snprintf(key, sizeof(key), "%s.rate[%u].burst", parent, i);
        rate->burst = (uint32_t)checker_number(checker, key, raw->rate[i].burst, 1, 1, BURST_MAX);
    }
}

/* What an entry of `methods`, or the route, says itself. */
static void check_own(struct checker *checker, const char *parent,
    const struct conf_raw_policy *raw, enum conf_kind kind, struct conf_policy *policy)
{
    char key[CHECKER_PATH_SIZE];
    if (raw->timeout != NULL) {
        snprintf(key, sizeof(key), "%s.timeout", parent);
        checker_timeout(checker, key, raw->timeout, 0, &policy->timeout);
        policy->timeout_line = conf_lines_near(checker->lines, key);
    }
    snprintf(key, sizeof(key), "%s.idempotent", parent);
    policy->has_idempotent = raw->idempotent != NULL;
    policy->idempotent_line = raw->idempotent == NULL ? 0 : conf_lines_near(checker->lines, key);
    policy->idempotent = checker_flag(checker, key, raw->idempotent);
    snprintf(key, sizeof(key), "%s.calls", parent);
    policy->calls_line = raw->calls == NULL ? 0 : conf_lines_near(checker->lines, key);
    policy->calls = (uint32_t)checker_number(checker, key, raw->calls, 0, 1, CALLS_MAX);
    check_rates(checker, parent, raw, kind, policy);
}

/* The policy of that match, which may be new; NULL: there is no memory, or no more may be. */
static struct conf_policy *policy_of(
    struct checker *checker, const char *key, const char *match, struct conf_route *route)
{
    check_match(checker, key, match);
    for (uint32_t i = 0; i < route->npolicies && !checker->failed; i++) {
        if (strcmp(route->policies[i].match, match) == 0)
            return &route->policies[i];
    }
    if (route->npolicies == CONF_POLICIES_MAX)
        checker_complain(checker, key, "at most %d of a route, with its own", CONF_POLICIES_MAX);
    if (checker->failed)
        return NULL;
    struct conf_policy *policy = &route->policies[route->npolicies];
    policy->match = checker_copy(checker, match);
    policy->line = conf_lines_near(checker->lines, key);
    policy->number = policy->rates_of = policy->calls_of = route->npolicies;
    route->npolicies += policy->match != NULL;
    return policy->match == NULL ? NULL : policy;
}

/* What is known of whether a policy's methods may be called, until all lists are read. */
enum { SAYS_NOTHING, SAYS_NO, SAYS_YES };

static void check_list(struct checker *checker, const char *parent, bool allow, char *const *texts,
    unsigned n, struct conf_route *route, uint8_t *says)
{
    char key[CHECKER_PATH_SIZE];
    for (unsigned i = 0; i < n && !checker->failed; i++) {
        snprintf(
            key, sizeof(key), "%s.%s[%u]", parent, allow ? "allow_methods" : "deny_methods", i);
        struct conf_policy *policy = policy_of(checker, key, texts[i], route);
        if (policy == NULL)
            return;
        if (says[policy->number] != SAYS_NOTHING)
            checker_complain(checker, key,
                "'%s' is in `allow_methods` and `deny_methods`, or twice in one of them", texts[i]);
        says[policy->number] = allow ? SAYS_YES : SAYS_NO;
        policy->denied_line = conf_lines_near(checker->lines, key);
    }
}

/* An exact name first, then the longest beginning. */
static int most_specific_first(const void *left, const void *right)
{
    const struct conf_policy *a = left, *b = right;
    size_t n = strlen(a->match), m = strlen(b->match);
    bool exact = a->match[n - 1] != '*', other = b->match[m - 1] != '*';
    if (exact != other)
        return exact ? -1 : 1;
    return n < m ? 1 : n > m ? -1 : strcmp(a->match, b->match);
}

/* Whether all methods of one are those of the other, too. */
static bool is_within(const struct conf_policy *policy, const struct conf_policy *wider)
{
    size_t n = strlen(policy->match);
    n -= policy->match[n - 1] == '*';
    return wider->match[strlen(wider->match) - 1] == '*' &&
           conf_method_fit(wider->match, (struct span){policy->match, n}) > 0;
}

/* From the widest to the most specific: what is not said is as in the next wider one. */
static void inherit(struct conf_route *route, const uint8_t *said)
{
    for (uint32_t i = route->npolicies; i-- > 0;) {
        struct conf_policy *policy = &route->policies[i];
        const struct conf_policy *from = NULL;
        for (uint32_t k = i + 1; k < route->npolicies && from == NULL; k++)
            from = is_within(policy, &route->policies[k]) ? &route->policies[k] : NULL;
        uint8_t says = said[policy->number];
        policy->denied = says == SAYS_NOTHING ? from != NULL && from->denied : says == SAYS_NO;
        if (from == NULL) {
            policy->timeout = policy->timeout == 0 ? route->timeout : policy->timeout;
            continue;
        }
        if (says == SAYS_NOTHING)
            policy->denied_line = from->denied_line;
        if (policy->timeout == 0) {
            policy->timeout = from->timeout;
            policy->timeout_line = from->timeout_line;
        }
        if (!policy->has_idempotent) {
            policy->has_idempotent = from->has_idempotent;
            policy->idempotent = from->idempotent;
            policy->idempotent_line = from->idempotent_line;
        }
        if (policy->calls == 0) {
            policy->calls = from->calls;
            policy->calls_of = from->calls_of;
            policy->calls_line = from->calls_line;
        }
        if (policy->nrates == 0) {
            policy->rates_line = from->rates_line;
            policy->rates = from->rates;
            policy->nrates = from->nrates;
            policy->rates_of = from->rates_of;
        }
    }
}

void conf_check_policies(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    uint8_t says[CONF_POLICIES_MAX] = {SAYS_NOTHING};
    uint8_t seen[CONF_POLICIES_MAX] = {0};
    char key[CHECKER_PATH_SIZE];
    bool own = raw->policy.idempotent != NULL || raw->policy.calls != NULL ||
               raw->policy.rate_count > 0;
    if (!own && raw->methods_count == 0 && raw->allow_methods_count == 0 &&
        raw->deny_methods_count == 0)
        return;
    if (raw->messages != NULL && strcmp(raw->messages, "raw") == 0)
        checker_complain(checker, parent, "messages: raw has no methods, and so no policies");
    route->policies = checker_take(
        checker, mem_zalloc(CONF_POLICIES_MAX * sizeof(*route->policies)));
    if (checker->failed)
        return;
    struct conf_policy *policy = policy_of(checker, parent, "*", route);
    if (policy != NULL)
        check_own(checker, parent, &raw->policy, route->kind, policy);
    says[0] = raw->allow_methods_count > 0 ? SAYS_NO : SAYS_NOTHING;
    snprintf(key, sizeof(key), "%s.allow_methods", parent);
    if (policy != NULL && says[0] == SAYS_NO)
        policy->denied_line = conf_lines_near(checker->lines, key);
    for (unsigned i = 0; i < raw->methods_count && !checker->failed; i++) {
        snprintf(key, sizeof(key), "%s.methods[%u]", parent, i);
        policy = policy_of(checker, key, raw->methods[i].match, route);
        if (policy == NULL)
            return;
        if (policy->number == 0 || seen[policy->number]++ > 0)
            checker_complain(
                checker, key, "'%s' is there twice, or is the route itself", raw->methods[i].match);
        else
            check_own(checker, key, &raw->methods[i], route->kind, policy);
    }
    uint8_t all = says[0];
    says[0] = SAYS_NOTHING; /* "*" may stand in a list, too */
    check_list(checker, parent, true, raw->allow_methods, raw->allow_methods_count, route, says);
    check_list(checker, parent, false, raw->deny_methods, raw->deny_methods_count, route, says);
    says[0] = says[0] == SAYS_NOTHING ? all : says[0];
    if (checker->failed)
        return;
    qsort(route->policies, route->npolicies, sizeof(*route->policies), most_specific_first);
    inherit(route, says);
}

static uint64_t id_of(
    const struct conf_listener *listener, const struct conf_route *route, const char *match)
{
    static const struct hash_key key = {0x66726f6e74640002ULL, 0x706f6c6963790000ULL};
    const char *const parts[] = {
        listener->name, route->host == NULL ? "" : route->host, route->path, match};
    uint64_t id = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        id = id * 31 + hash_bytes(&key, parts[i], strlen(parts[i]));
    return id | 1;
}

/* A number is that of the place in its route, so far. */
void conf_number_policies(struct conf *conf)
{
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        for (uint32_t k = 0; k < conf->listeners[i].nroutes; k++) {
            struct conf_route *route = &conf->listeners[i].routes[k];
            for (uint32_t p = 0; p < route->npolicies; p++) {
                struct conf_policy *policy = &route->policies[p];
                policy->id = id_of(&conf->listeners[i], route, policy->match);
                for (uint32_t r = 0; policy->rates_of == policy->number && r < policy->nrates; r++)
                    policy->rates[r].id = policy->id + 2 * r;
                policy->number += conf->npolicies;
                policy->calls_of += conf->npolicies;
                policy->rates_of += conf->npolicies;
            }
            conf->npolicies += route->npolicies;
        }
    }
}
