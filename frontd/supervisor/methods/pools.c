#include <string.h>

#include "common/log.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/supervisor/methods/methods.h"
#include "frontd/supervisor/methods/worker_list.h"

/* What the workers of one pool make together. */
struct pool_sum {
    const struct conf_pool *conf;
    uint64_t in_progress;
    uint64_t concurrency;
    bool unlimited; /* a worker takes any number of calls */
    unsigned ready;
    unsigned drained;
    unsigned ejected;
    unsigned hung;
    unsigned down; /* or not there yet, or not any more */
};

struct pool_sums {
    struct pool_sum all[CONF_POOLS_MAX];
    size_t n;
};

static void add_worker(const struct worker_entry *entry, void *data)
{
    struct pool_sums *sums = data;
    const char *state = worker_list_state(entry);
    bool ready = strcmp(state, "ready") == 0;
    size_t i = 0;
    while (i < sums->n && sums->all[i].conf != entry->pool)
        i++;
    struct pool_sum *sum = &sums->all[i];
    sum->in_progress += entry->view.load;
    sum->concurrency += ready ? entry->view.concurrency : 0;
    sum->unlimited |= ready && entry->view.concurrency == 0;
    sum->ready += ready;
    sum->drained += strcmp(state, "drained") == 0;
    sum->ejected += strcmp(state, "ejected") == 0;
    sum->hung += strcmp(state, "hung") == 0;
    sum->down += strcmp(state, "down") == 0 || strcmp(state, "waiting") == 0 ||
                 strcmp(state, "starting") == 0;
}

static void put_queue(struct json_writer *out, const struct share *share, const char *name)
{
    unsigned seat;
    uint64_t since;
    uint64_t now = log_clock();
    int row = share == NULL ? -1 : share_pool(share, name);
    if (row < 0)
        return;
    json_add_number(out, "waiting", share_queue_waiting(share, (unsigned)row));
    bool waits = share_queue_oldest_but(share, 0, (unsigned)row, &seat, &since);
    json_add_seconds(out, "oldest", waits ? now - MIN(since, now) : 0);
}

static void put_pool(
    struct json_writer *out, const struct supervisor *supervisor, const struct pool_sum *sum)
{
    const struct conf_pool *conf = sum->conf;
    json_begin(out, NULL, '{');
    json_add_text(out, "pool", conf->name);
    json_add_flag(out, "paused", holds_is_paused(&supervisor->front.holds, conf->name));
    const struct share *share = front_serving(&supervisor->front)->share;
    put_queue(out, share, conf->name);
    if (share != NULL)
        methods_put_pool_times(out, share, conf->name);
    json_add_number(out, "queue_limit", conf->queue);
    json_add_number(out, "in_progress", sum->in_progress);
    if (!sum->unlimited)
        json_add_number(out, "concurrency", sum->concurrency);
    json_begin(out, "workers", '{');
    json_add_number(out, "ready", sum->ready);
    json_add_number(out, "drained", sum->drained);
    json_add_number(out, "ejected", sum->ejected);
    json_add_number(out, "hung", sum->hung);
    json_add_number(out, "down", sum->down);
    json_end(out, '}');
    json_end(out, '}');
}

void method_pools(struct control_call *call, struct span params)
{
    (void)params;
    const struct supervisor *supervisor = methods_supervisor(call);
    const struct conf *conf = front_serving(&supervisor->front)->conf;
    struct pool_sums sums = {.n = conf->npools};
    struct json_writer out = {0};
    for (size_t i = 0; i < sums.n; i++)
        sums.all[i].conf = &conf->pools[i];
    json_begin(&out, NULL, '{');
    json_begin(&out, "pools", '[');
    if (worker_list(supervisor, add_worker, &sums) < 0)
        out.failed = true;
    for (size_t i = 0; i < sums.n; i++)
        put_pool(&out, supervisor, &sums.all[i]);
    json_end(&out, ']');
    json_end(&out, '}');
    control_call_answer(call, &out);
}
