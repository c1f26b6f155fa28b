#include "frontd/shard/net/counts.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"

/* Each method that the config names finds a row in a memory that is new, and is counted by itself.
 */
_Static_assert((int)CONF_METRIC_METHODS_MAX <= (int)METRIC_METHODS_MAX, "");
_Static_assert((int)CONF_METRIC_METHOD_SIZE == (int)COUNTS_METHOD_BYTES, "");

int counts_init(struct counts *counts, struct share *share, unsigned seat, const struct conf *conf)
{
    *counts = (struct counts){.share = share, .seat = seat, .conf = conf};
    counts->routes = mem_zalloc((conf->nroutes + 1) * sizeof(*counts->routes));
    counts->pairs = mem_zalloc((conf->npairs + 1) * sizeof(*counts->pairs));
    counts->methods = mem_zalloc(COUNTS_METHODS * sizeof(*counts->methods));
    int r = metric_rows_init(&counts->rows, share, conf);
    if (counts->routes == NULL || counts->pairs == NULL || counts->methods == NULL)
        r = -ENOMEM;
    counts->shard = share_shard(share, seat);
    for (uint32_t i = 0; i < conf->nmetric_methods; i++)
        share_name_claim(share, METRIC_KIND_method, 0,
            (struct span){conf->metric_methods[i], strlen(conf->metric_methods[i])});
    counts->methods_full = conf->nmetric_methods > 0;
    return r;
}

void counts_deinit(struct counts *counts)
{
    metric_rows_deinit(&counts->rows);
    counts->routes = mem_free(counts->routes);
    counts->pairs = mem_free(counts->pairs);
    counts->methods = mem_free(counts->methods);
}

struct listener_words *counts_begin_listener(struct counts *counts, uint32_t listener)
{
    return counts->listeners[listener] = metric_row(
               counts->share, counts->seat, METRIC_KIND_listener, counts->rows.listeners[listener]);
}

struct route_words *counts_begin_route(struct counts *counts, const struct conf_route *route)
{
    return counts->routes[route->number] = metric_row(
               counts->share, counts->seat, METRIC_KIND_route, counts->rows.routes[route->number]);
}

struct route_words *counts_begin_none(struct counts *counts, uint32_t listener)
{
    return counts->none[listener] = metric_row(
               counts->share, counts->seat, METRIC_KIND_route, counts->rows.none[listener]);
}

struct pair_words *counts_begin_pair(struct counts *counts, uint32_t pair)
{
    return counts->pairs[pair] = metric_row(
               counts->share, counts->seat, METRIC_KIND_pair, counts->rows.pairs[pair]);
}

struct pair_words *counts_other_pair(struct counts *counts)
{
    if (counts->other == NULL)
        counts->other = metric_row(counts->share, counts->seat, METRIC_KIND_pair, 0);
    return counts->other;
}

/* Which row a method has; 0: none. Once all rows are taken, none will ever have one. */
static unsigned row_of(struct counts *counts, struct span name, bool may_begin)
{
    unsigned row = share_name_find(counts->share, METRIC_KIND_method, 0, name);
    if (row == 0 && may_begin && !counts->methods_full) {
        row = share_name_claim(counts->share, METRIC_KIND_method, 0, name);
        counts->methods_full = row == 0 || row > METRIC_METHODS_MAX;
    }
    return row > METRIC_METHODS_MAX ? 0 : row;
}

static struct method_words *other_method(struct counts *counts)
{
    if (counts->other_method == NULL)
        counts->other_method = metric_row(counts->share, counts->seat, METRIC_KIND_method, 0);
    return counts->other_method;
}

struct method_words *counts_method(
    struct counts *counts, unsigned place, struct span name, bool may_begin)
{
    struct counts_method *method = &counts->methods[place % COUNTS_METHODS];
    if (LIKELY(method->words != NULL && method->n == name.n &&
               memcmp(method->name, name.p, name.n) == 0))
        return method->words;
    if (name.n == 0 || name.n > COUNTS_METHOD_BYTES)
        return other_method(counts);
    unsigned row = row_of(counts, name, may_begin);
    if (row == 0 && !counts->methods_full)
        return other_method(counts);
    method->words = row == 0 ? other_method(counts)
                             : metric_row(counts->share, counts->seat, METRIC_KIND_method, row);
    method->n = (uint8_t)name.n;
    memcpy(method->name, name.p, name.n);
    return method->words;
}
