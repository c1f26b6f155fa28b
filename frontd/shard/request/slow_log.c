#include "frontd/shard/request/slow_log.h"

#include <string.h>

#include "frontd/shard/upstream/mark.h"
#include "frontd/shard/upstream/worker.h"

enum { US_A_MS = 1000, MARGIN_MS = 1 /* timers and the clock of calls count in other units */ };

static double seconds(uint64_t us)
{
    return (double)us / 1e6;
}

static bool is_late(const struct account *account)
{
    return account->code == METRIC_CODE_DEADLINE_EXCEEDED;
}

/* Frees the row after its summary, if there is one to be told. */
static void tell_row(struct slow_row *row)
{
    if (row->more > 0)
        log_warning("pool %s: `%.*s`: %llu more slow calls in %d s, up to %.3f s; %llu of them had "
                    "no answer in time",
            row->pool->name, row->n, row->method, (unsigned long long)row->more,
            LOG_LIMIT_MS / 1000, seconds(row->longest), (unsigned long long)row->late);
    row->pool = NULL;
}

static void tell_rest(struct slow_row *rest)
{
    log_warning("other methods: %llu more slow calls in %d s, up to %.3f s; %llu of them had no "
                "answer in time",
        (unsigned long long)rest->more, LOG_LIMIT_MS / 1000, seconds(rest->longest),
        (unsigned long long)rest->late);
    *rest = (struct slow_row){.more = 0};
}

void slow_log_tell(struct slow_log *slow, uint64_t now)
{
    for (size_t i = 0; i < SLOW_METHODS; i++) {
        struct slow_row *row = &slow->rows[i];
        if (row->pool != NULL && now - row->since >= LOG_LIMIT_MS)
            tell_row(row);
    }
    if (slow->rest.more > 0 && now - slow->rest.since >= LOG_LIMIT_MS)
        tell_rest(&slow->rest);
}

/* The row of the method; one that is new has no pool yet. NULL: there is no room. */
static struct slow_row *find_row(struct slow_log *slow, const struct account *account)
{
    struct slow_row *free = NULL;
    uint64_t hash = hash_bytes(&slow->key, account->method.p, account->method.n);
    for (size_t i = 0; i < SLOW_METHODS; i++) {
        struct slow_row *row = &slow->rows[i];
        if (row->pool == account->pool->conf && row->hash == hash)
            return row;
        if (row->pool == NULL && free == NULL)
            free = row;
    }
    if (free != NULL)
        *free = (struct slow_row){.hash = hash};
    return free;
}

/* us for which the client has not taken what waits for it; 0: it takes all. */
static uint64_t unread_for(const struct account *account)
{
    const struct client *client = account->client;
    if (client == NULL || !client->blocked)
        return 0;
    return (ctx_now(client->ctx) - MIN(client->active_at, ctx_now(client->ctx))) * US_A_MS;
}

/* " id …, trace …" */
static void put_mark(const struct mark *mark, char *out, size_t size)
{
    char trace[2 * TRACEPARENT_TRACE];
    int n = 0;
    out[0] = '\0';
    if (mark == NULL)
        return;
    struct span id = mark_id(mark);
    if (id.n > 0)
        n = snprintf(out, size, ", request %.*s", (int)id.n, id.p);
    if (!mark->traced)
        return;
    traceparent_hex(mark->trace.trace, sizeof(mark->trace.trace), trace);
    snprintf(out + n, size - (size_t)n, ", trace %.*s", (int)sizeof(trace), trace);
}

static void write_line(const struct account *account)
{
    char peer[PEER_TEXT_SIZE] = "unknown";
    char mark[MARK_ID_MAX + 2 * TRACEPARENT_TRACE + 32];
    const struct client *client = account->client;
    if (account->peer.family != 0)
        peer_text(&account->peer, peer);
    put_mark(account->call->mark, mark, sizeof(mark));
    log_warning("pool %s: slow: `%.*s` took %.3f s (queue %.3f, worker %.3f, client does not read "
                "for %.3f): %s; worker %s, listener %s, route %s, conn %llu, peer %s%s",
        account->call->job.pool->conf->name, (int)MIN(account->method.n, (size_t)SLOW_METHOD_MAX),
        account->method.p, seconds(account->whole), seconds(account->queued),
        seconds(account->worked), seconds(unread_for(account)), metric_code_label(account->code),
        account->worker == NULL ? "none" : account->worker->text,
        client == NULL ? "unknown" : client_listener(client)->name,
        account->route == NULL ? "none" : account->route->path, (unsigned long long)account->conn,
        peer, mark);
}

static void count(struct slow_row *row, const struct account *account)
{
    row->more++;
    row->late += is_late(account);
    row->longest = MAX(row->longest, account->whole);
}

static void on_call(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    struct slow_log *slow = container_of(observer, struct slow_log, observer);
    uint64_t limit = account->route == NULL ? ctx->conf->slow : account->route->slow;
    if (limit == UINT64_MAX || (account->whole < limit && !is_late(account)))
        return;
    struct slow_row *row = find_row(slow, account);
    if (row == NULL) {
        if (slow->rest.more == 0)
            slow->rest.since = ctx_now(ctx);
        count(&slow->rest, account);
        return;
    }
    if (row->pool != NULL) {
        count(row, account);
        return;
    }
    row->pool = account->pool->conf;
    row->since = ctx_now(ctx);
    row->n = (uint8_t)MIN(account->method.n, (size_t)SLOW_METHOD_MAX);
    if (row->n > 0)
        memcpy(row->method, account->method.p, row->n);
    write_line(account);
}

/* The shortest time that a call may take and be in the log, us: calls that end sooner cost
 * nothing. */
static uint64_t least(const struct conf *conf)
{
    uint64_t us = UINT64_MAX;
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        for (uint32_t k = 0; k < listener->nroutes; k++) {
            const struct conf_route *route = &listener->routes[k];
            uint64_t deadline = (route->timeout - MIN(route->timeout, (uint64_t)MARGIN_MS)) *
                                US_A_MS;
            if (route->slow != UINT64_MAX)
                us = MIN(us, MIN(route->slow, deadline));
        }
    }
    return us;
}

void slow_log_open(struct slow_log *slow, struct ctx *ctx)
{
    *slow = (struct slow_log){
        .observer = {.call = on_call, .from = least(ctx->conf)}, .key = hash_key_random()};
    if (slow->observer.from != UINT64_MAX)
        account_observe(ctx, &slow->observer);
}

void slow_log_close(struct slow_log *slow, struct ctx *ctx)
{
    account_ignore(ctx, &slow->observer);
    slow_log_tell(slow, UINT64_MAX);
}
