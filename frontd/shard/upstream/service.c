#include "frontd/shard/upstream/service.h"

#include "common/base.h"

enum {
    SERVICE_MAX_US = 1000 * 1000 * 1000,  /* what takes longer counts as this */
    SERVICE_AHEAD_MAX = 10 * 1000 * 1000, /* `queue` is no more; so the product fits 64 bits */
};

void service_note(struct service *service, uint64_t us, uint64_t now)
{
    us = MIN(us, (uint64_t)SERVICE_MAX_US);
    if (UNLIKELY(now - service->noted_at > SERVICE_STALE_MS))
        *service = (struct service){0};
    service->noted_at = now;
    /* The first ones count alike: else the very first would count for more than all others. */
    int64_t weight = service->known ? SERVICE_WEIGHT
                                    : MIN(service->n + 1, (uint32_t)SERVICE_WEIGHT);
    int64_t ns = (int64_t)us * 1000;
    int64_t mean = (int64_t)service->mean_ns;
    mean += (ns - mean) / weight;
    int64_t dev = (int64_t)service->dev_ns;
    dev += ((ns > mean ? ns - mean : mean - ns) - dev) / weight;
    service->mean_ns = (uint64_t)mean;
    service->dev_ns = (uint64_t)dev;
    if (service->n == 0 || us < service->least[0])
        service->least[0] = us;
    if (++service->n < SERVICE_WINDOW)
        return;
    service->least[1] = service->least[0];
    service->n = 0;
    service->known = true;
}

uint64_t service_least(const struct service *service)
{
    return service->n == 0 ? service->least[1] : MIN(service->least[0], service->least[1]);
}

uint64_t service_wait(const struct service *service, uint64_t ahead, uint64_t slots)
{
    return MIN(ahead, (uint64_t)SERVICE_AHEAD_MAX) * service->mean_ns / 1000 / slots;
}

bool service_is_late(const struct service *service, uint64_t wait, uint64_t left)
{
    uint64_t most = (service->mean_ns + SERVICE_DEVIATIONS * service->dev_ns) / 1000;
    return wait + wait / SERVICE_WAIT_PART > left - MIN(most, left / 2);
}
