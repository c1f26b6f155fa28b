#include "frontd/shard/inspect/rates.h"

#include <errno.h>

#include "common/alloc.h"

/* Ids of connections are words of a cipher: any bits of them are as good as a hash. */
static struct rate *find(const struct rates *rates, uint64_t conn)
{
    size_t i = conn & (RATES_MAX - 1);
    while (rates->all[i].conn != 0 && rates->all[i].conn != conn)
        i = (i + 1) & (RATES_MAX - 1);
    return &rates->all[i];
}

static struct rate *place_of(struct rates *rates, uint64_t conn)
{
    struct rate *rate = find(rates, conn);
    if (rate->conn != 0)
        return rate;
    if (rates->count == RATES_MAX / 4 * 3) {
        rates->full = true;
        return NULL;
    }
    rates->count++;
    rate->conn = conn;
    return rate;
}

static void on_call(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    struct rates *rates = container_of(observer, struct rates, observer);
    struct rate *rate = account->conn == 0 ? NULL : place_of(rates, account->conn);
    (void)ctx;
    if (rate != NULL)
        rate->calls++;
}

static void on_request(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    struct rates *rates = container_of(observer, struct rates, observer);
    struct rate *rate = account->conn == 0 ? NULL : place_of(rates, account->conn);
    (void)ctx;
    if (rate == NULL)
        return;
    rate->requests++;
    rate->bytes += account->bytes_in;
}

int rates_start(struct rates *rates, struct ctx *ctx)
{
    rates->all = mem_zalloc(RATES_MAX * sizeof(*rates->all));
    if (rates->all == NULL)
        return -ENOMEM;
    rates->observer = (struct account_observer){.call = on_call, .request = on_request};
    account_observe(ctx, &rates->observer);
    return 0;
}

void rates_stop(struct rates *rates, struct ctx *ctx)
{
    account_ignore(ctx, &rates->observer);
}

void rates_deinit(struct rates *rates, struct ctx *ctx)
{
    if (rates->all != NULL)
        rates_stop(rates, ctx);
    rates->all = mem_free(rates->all);
}

const struct rate *rates_of(const struct rates *rates, uint64_t conn)
{
    const struct rate *rate = rates->all == NULL ? NULL : find(rates, conn);
    return rate == NULL || rate->conn == 0 ? NULL : rate;
}
