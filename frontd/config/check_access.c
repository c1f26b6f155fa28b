#include "frontd/config/check_access.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"

static int longest_first(const void *left, const void *right)
{
    const struct conf_access_rule *a = left;
    const struct conf_access_rule *b = right;
    if (a->network.family != b->network.family)
        return a->network.family < b->network.family ? -1 : 1;
    return (b->network.bits > a->network.bits) - (b->network.bits < a->network.bits);
}

static bool same_network(const struct peer_network *a, const struct peer_network *b)
{
    return a->family == b->family && a->bits == b->bits &&
           memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Adds a list to the rules before it. */
static void add_list(struct checker *checker, const char *parent, bool allow, char **texts,
    unsigned n, struct conf_access *access)
{
    for (unsigned i = 0; i < n && !checker->failed; i++) {
        char key[CHECKER_PATH_SIZE];
        struct conf_access_rule *rule = &access->rules[access->nrules];
        snprintf(key, sizeof(key), "%s.%s[%u]", parent, allow ? "allow" : "deny", i);
        const char *wrong = peer_network_parse(texts[i], &rule->network);
        if (wrong != NULL)
            checker_complain(checker, key, "'%s': %s", texts[i], wrong);
        for (uint32_t j = 0; j < access->nrules; j++) {
            if (same_network(&access->rules[j].network, &rule->network))
                checker_complain(checker, key,
                    "'%s' is in `allow` and `deny`, or twice in one of them", texts[i]);
        }
        rule->allow = allow;
        access->nrules++;
    }
}

void conf_check_access(struct checker *checker, const char *parent,
    const struct conf_raw_access *raw, struct conf_access *ret_access)
{
    size_t n = (size_t)raw->allow_count + raw->deny_count;
    if (raw->allow_count == 0 && checker_has(checker, parent, "allow")) {
        char key[CHECKER_PATH_SIZE];
        snprintf(key, sizeof(key), "%s.allow", parent);
        checker_complain(checker, key, "nobody is in it: leave it out where all are let in");
        return;
    }
    if (n == 0)
        return;
    if (n > CONF_ACCESS_MAX) {
        checker_complain(
            checker, parent, "at most %d networks in `allow` and `deny` together", CONF_ACCESS_MAX);
        return;
    }
    ret_access->rules = checker_take(checker, mem_zalloc(n * sizeof(*ret_access->rules)));
    if (ret_access->rules == NULL)
        return;
    ret_access->listed = raw->allow_count > 0;
    add_list(checker, parent, true, raw->allow, raw->allow_count, ret_access);
    add_list(checker, parent, false, raw->deny, raw->deny_count, ret_access);
    qsort(ret_access->rules, ret_access->nrules, sizeof(*ret_access->rules), longest_first);
}
