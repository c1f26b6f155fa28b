/*
 * worker_dial() dials the worker's address. A worker that is given by a name is looked up first
 * (on_name_found()), off the loop. The addresses are tried in turn (worker_redial()), and the name
 * is looked up again when all of them have failed, or when a channel that was open has ended.
 *
 * What fails at once is tried again by the retry timer, with a back-off.
 */

#include "frontd/shard/upstream/worker.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"

void worker_retry_later(struct worker *worker)
{
    worker->retry_ms = worker->retry_ms == 0
                           ? WORKER_RETRY_FIRST_MS
                           : MIN(worker->retry_ms * 2, (uint32_t)WORKER_RETRY_MAX_MS);
    ctx_arm(worker->pool->ctx, &worker->retry, worker->retry_ms);
}

void worker_log_unreachable(struct worker *worker, const char *why)
{
    if (!worker->quiet)
        log_warning(
            "pool %s: worker %s: %s, trying again", worker->pool->conf->name, worker->text, why);
    worker->quiet = true;
}

void worker_note_trouble(struct worker *worker, const char *why)
{
    snprintf(worker->trouble, sizeof(worker->trouble), "%s", why);
}

static void dial_address(struct worker *worker)
{
    wheel_disarm(&worker->retry);
    if (worker->host != NULL) {
        worker->address = worker->addresses[worker->next++];
        worker->channel.dial_ms = worker_has_address(worker) ? WORKER_CONNECT_MS : 0;
    }
    int r = channel_dial(&worker->channel, &worker->address.sock.any, worker->address.len);
    if (r < 0 && worker_has_address(worker)) {
        dial_address(worker);
    } else if (r < 0) {
        /* A socket's file may be there before or after its worker: not worth a line at first. */
        if (r != -ECONNREFUSED || worker->retry_ms >= 1000)
            worker_log_unreachable(worker, log_error_text(r));
        worker_note_trouble(worker, log_error_text(r));
        worker_retry_later(worker);
    }
}

static void on_name_found(
    struct resolver_query *query, const struct conf_address *addresses, size_t n, const char *why)
{
    struct worker *worker = container_of(query, struct worker, query);
    struct conf_address *copy = n == 0 ? NULL : mem_zalloc(n * sizeof(*copy));
    if (copy == NULL) {
        char text[sizeof(worker->trouble)];
        snprintf(text, sizeof(text), "its name cannot be resolved: %s", n == 0 ? why : "no memory");
        worker_log_unreachable(worker, text);
        worker_note_trouble(worker, text);
        worker_retry_later(worker);
        return;
    }
    memcpy(copy, addresses, n * sizeof(*copy));
    mem_free(worker->addresses);
    worker->addresses = copy;
    worker->naddresses = (uint32_t)n;
    worker->next = 0;
    worker->looked_up = ctx_now(worker->pool->ctx);
    dial_address(worker);
}

/* Asks for the addresses of the worker's name; again, by the retry timer, if no answer comes. */
static void look_up(struct worker *worker)
{
    resolver_cancel(&worker->query);
    worker->query.answered = on_name_found;
    int r = resolver_ask(worker->pool->ctx->resolver, &worker->query, worker->host, worker->port);
    if (r == 0) {
        ctx_arm(worker->pool->ctx, &worker->retry, (RESOLVER_LIMIT_S + 5) * 1000);
        return;
    }
    if (worker->naddresses > 0) { /* better than none */
        worker->next = 0;
        dial_address(worker);
        return;
    }
    worker_log_unreachable(worker, "its name cannot be looked up now");
    worker_note_trouble(worker, "its name cannot be looked up now");
    worker_retry_later(worker);
}

void worker_dial(struct worker *worker)
{
    uint64_t now = ctx_now(worker->pool->ctx);
    if (worker->host == NULL) {
        dial_address(worker);
    } else if (worker->naddresses == 0 || now - worker->looked_up >= WORKER_LOOK_UP_MS) {
        look_up(worker);
    } else {
        worker->next = worker_has_address(worker) ? worker->next : 0;
        dial_address(worker);
    }
}

void worker_redial(struct worker *worker)
{
    if (worker_has_address(worker))
        dial_address(worker);
    else
        worker_retry_later(worker);
}
