/*
 * worker_add() dials; the worker's HELLO (on_channel_opened()) makes it ready for calls. When the
 * channel is lost, each job that the worker had is settled: one with a frame that was not wholly
 * written was never executed, and goes back to the queue; an idempotent one does, too; every other
 * one fails. Once the channel is closed the worker is dialled again, with a back-off, or is
 * forgotten if its socket's file has gone.
 *
 * GOAWAY takes the worker out of the ready ones and gives calls above last_call back to the queue;
 * the channel stays until the worker closes it.
 */

#include "frontd/shard/upstream/worker.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/siphash.h"
#include "frontd/ipc/control.h"
#include "frontd/ipc/shm_holds.h"

/* Of what all shards have to find the same. */
static const struct hash_key same_everywhere = {0x66726f6e74640000ULL, 0x776f726b65720000ULL};

static struct worker *worker_of(struct channel *channel)
{
    return container_of(channel, struct worker, channel);
}

static struct job *job_of(struct idmap_node *node)
{
    return container_of(node, struct job, sent);
}

static void free_methods(struct worker *worker)
{
    for (size_t i = 0; i < worker->nmethods; i++)
        mem_free(worker->methods[i]);
    worker->methods = mem_free(worker->methods);
    worker->responses = mem_free(worker->responses);
    worker->nmethods = 0;
    worker->narrow = false;
}

static void destroy(struct worker *worker)
{
    struct ctx *ctx = worker->pool->ctx;
    wheel_disarm(&worker->retry);
    list_remove(&worker->node);
    worker->pool->nknown--;
    channel_deinit(&worker->channel);
    resolver_cancel(&worker->query);
    mem_free(worker->addresses);
    if (worker->share >= 0)
        share_worker_put(ctx->share, ctx->seat, worker->share);
    free_methods(worker);
    mem_free(worker->text);
    mem_free(worker);
}

static void take_slot_back(struct worker *worker, struct job *job)
{
    struct ctx *ctx = worker->pool->ctx;
    share_slot_give(ctx->share, ctx->seat, worker->share, job->slot);
    if (job->abandoned)
        share_worker_add_abandoned(ctx->share, ctx->seat, worker->share, -1);
}

/* Takes a job from the worker, and its slot from the job. calls: as for job_take_back(). */
static void take_back(struct worker *worker, struct job *job, struct idmap *calls)
{
    CHECK(job->worker == worker);
    faults_note(&worker->faults, job->sent.id, job_method(job));
    worker->late -= job->late;
    if (UNLIKELY(job->streams && !job->abandoned))
        worker->pool->ctx->streamed -= job->unsaid;
    if (job->orphan)
        worker->channel.orphans--;
    else
        take_slot_back(worker, job);
    answer_drop(job);
    job_take_back(job, calls);
}

/* Returns NULL, or what is wrong with what HELLO announces. */
static const char *copy_methods(struct worker *worker, const struct hello_worker *hello)
{
    free_methods(worker);
    worker->narrow = hello->has_methods;
    if (hello->responses != NULL) {
        worker->responses = mem_strdup(hello->responses);
        if (worker->responses == NULL)
            return "no memory";
    }
    if (hello->nmethods == 0)
        return NULL;
    worker->methods = mem_zalloc(hello->nmethods * sizeof(char *));
    if (worker->methods == NULL)
        return "no memory";
    for (size_t i = 0; i < hello->nmethods; i++) {
        if (hello->methods[i][0] == '\0')
            return "bad HELLO: an empty method";
        worker->methods[i] = mem_strdup(hello->methods[i]);
        if (worker->methods[i] == NULL)
            return "no memory";
        worker->nmethods++;
    }
    return NULL;
}

/*
 * Finds the worker's row in the shared memory. Slots are those of one process: a new process at the
 * same address has a row of its own, since the old one may still be finishing calls. Returns 0 or
 * -errno.
 */
static int take_row(struct worker *worker, int64_t pid)
{
    struct ctx *ctx = worker->pool->ctx;
    struct {
        struct conf_address address;
        uint64_t name; /* in place of the address, which may differ from shard to shard */
        int64_t pid;
    } id;
    memset(&id, 0, sizeof(id));
    if (worker->host == NULL)
        memcpy(&id.address.sock, &worker->address.sock, worker->address.len);
    else
        id.name = worker->rank;
    id.pid = pid;
    if (worker->share >= 0)
        share_worker_put(ctx->share, ctx->seat, worker->share);
    worker->share = share_worker_get(ctx->share, ctx->seat, &id, sizeof(id));
    return worker->share < 0 ? worker->share : 0;
}

static uint64_t home_of(uint64_t rank, int64_t pid)
{
    const uint64_t process[2] = {rank, (uint64_t)pid};
    return hash_bytes(&same_everywhere, process, sizeof(process)) | 1; /* not 0 */
}

static void on_channel_opened(struct channel *channel, const struct hello_worker *hello)
{
    struct worker *worker = worker_of(channel);
    const char *wrong = copy_methods(worker, hello);
    if (wrong == NULL && take_row(worker, hello->pid) < 0)
        wrong = "there are too many workers";
    if (wrong != NULL) {
        channel_shut(channel, wrong);
        return;
    }
    share_worker_set_hung(worker->pool->ctx->share, worker->share, 0);
    share_worker_describe(
        worker->pool->ctx->share, worker->share, worker->text, hello->pid, hello->concurrency);
    share_worker_meet(worker->pool->ctx->share, worker->share, ctx_now(channel->ctx));
    worker->concurrency = hello->concurrency;
    worker->pid = hello->pid;
    worker->home = home_of(worker->rank, hello->pid);
    worker->retry_ms = 0;
    worker->opened_at = ctx_now(channel->ctx);
    worker->looked_up = 0; /* when the channel has ended, the name is looked up anew */
    worker->next = worker->naddresses;
    worker->quiet = false;
    worker->trouble[0] = '\0';
    log_info("pool %s: worker %s (%s, pid %lld) is there, concurrency %u", worker->pool->conf->name,
        worker->text, hello->name == NULL ? "unnamed" : hello->name, (long long)hello->pid,
        hello->concurrency);
    if (share_drained(worker->pool->ctx->share, worker->text))
        log_info("pool %s: worker %s is drained: it gets no calls", worker->pool->conf->name,
            worker->text);
    else
        health_admit(worker);
}

void worker_tell_oldest(const struct worker *worker)
{
    const struct idmap *calls = &worker->channel.calls;
    const struct job *oldest = NULL;
    if (worker->share < 0)
        return;
    for (size_t i = 0; calls->count > 0 && i <= calls->mask; i++) {
        for (struct idmap_node *node = calls->buckets[i]; node != NULL; node = node->next) {
            const struct job *job = job_of(node);
            if (!job->orphan && (oldest == NULL || job->sent_at < oldest->sent_at))
                oldest = job;
        }
    }
    const struct ctx *ctx = worker->pool->ctx;
    share_worker_set_sent(
        ctx->share, ctx->seat, worker->share, oldest == NULL ? 0 : oldest->sent_at / 1000);
}

void worker_hold_back(struct worker *worker)
{
    struct pool *pool = worker->pool;
    bool open = worker->opened_at != 0 && !worker->gone;
    bool drained = open && share_drained(pool->ctx->share, worker->text);
    if (drained && (worker->ready || worker->out)) {
        pool_worker_unready(pool, worker);
        pool_dispatch(pool); /* calls that waited for it may have another now */
    } else if (open && !drained && !worker->ready && !worker->out) {
        health_admit(worker);
    }
}

/* An answer of the worker's was handled, and may have been none. */
static void note_spoilt(struct worker *worker, uint64_t call)
{
    if (LIKELY(!worker->faults.spoilt))
        return;
    worker->faults.spoilt = false;
    health_bad(worker, call);
}

/* What goes part by part takes as long as its client does, and says nothing of the worker. */
static void note_service(struct worker *worker, const struct job *job, enum rpc_error error)
{
    struct ctx *ctx = worker->pool->ctx;
    if (UNLIKELY(error != 0 || job->streams || job->uploads || job->orphan))
        return;
    uint64_t us = ctx_now_us(ctx) - job->sent_at;
    service_note(&worker->pool->service, us, ctx_now(ctx));
    if (pool_is_selective(worker->pool))
        service_note(&worker->service, us, ctx_now(ctx));
}

static void on_job_ended(struct job *job, const struct frame *frame, enum rpc_error error)
{
    struct worker *worker = job->worker;
    const struct job_ops *ops = worker->pool->ops;
    note_service(worker, job, error);
    uint64_t call = job->sent.id;
    bool awaited = !job->abandoned;
    take_back(worker, job, &worker->channel.calls);
    if (UNLIKELY(error != 0))
        ops->failed(job, error);
    else
        ops->answered(job, worker, frame);
    if (UNLIKELY(worker->faults.spoilt))
        note_spoilt(worker, call);
    else if (awaited && error == 0)
        health_good(worker, call);
    pool_slot_freed(worker);
}

static void on_channel_frame(
    struct channel *channel, struct idmap_node *node, const struct frame *frame)
{
    struct worker *worker = worker_of(channel);
    answer_frame(&worker->answers, job_of(node), frame);
    note_spoilt(worker, frame->head.call);
}

static void on_channel_too_long(
    struct channel *channel, struct idmap_node *node, const struct frame_head *head)
{
    struct worker *worker = worker_of(channel);
    answer_too_long(&worker->answers, job_of(node), head);
    note_spoilt(worker, head->call);
}

static void on_channel_window(struct channel *channel, struct idmap_node *call, uint32_t bytes)
{
    struct job *job = job_of(call);
    job->room = (uint32_t)MIN((uint64_t)job->room + bytes, (uint64_t)JOB_ROOM_MAX);
    if (job->uploads && !job->abandoned)
        worker_of(channel)->pool->ops->room(job);
}

/* A PUSH for a call, not for a connection. */
static void take_progress(struct worker *worker, const struct frame *frame)
{
    struct idmap_node *node = idmap_find(&worker->channel.calls, frame->head.call);
    const char *wrong = "no call of this number is in progress";
    if (node != NULL) {
        struct job *job = job_of(node);
        bool binary = frame->head.flags & FRAME_F_BINARY;
        struct span text = frame->blob.n > 0 ? frame->blob : frame->body;
        wrong = job->abandoned ? NULL : worker->pool->ops->progress(job, text, binary);
    }
    if (wrong != NULL)
        fault_frame(&worker->faults, &frame->head, wrong);
}

static void tell_room(struct idmap_node *node, void *worker)
{
    struct job *job = job_of(node);
    if (job->uploads && !job->abandoned)
        ((struct worker *)worker)->pool->ops->room(job);
}

static void on_channel_drained(struct channel *channel)
{
    idmap_each(&channel->calls, tell_room, worker_of(channel));
}

static void on_channel_pushed(struct channel *channel, const struct frame *frame)
{
    struct worker *worker = worker_of(channel);
    const struct frame_head *head = &frame->head;
    if (UNLIKELY(head->type == FRAME_PUSH && head->conn == 0 && head->call != 0))
        take_progress(worker, frame);
    else
        worker->pool->pushed(worker, frame);
}

static void on_channel_refused(
    struct channel *channel, const struct frame_head *head, const char *what)
{
    fault_frame(&worker_of(channel)->faults, head, what);
}

/* The worker has not started this job, or it is idempotent: another worker may have it. */
static void give_back(struct worker *worker, struct job *job)
{
    take_back(worker, job, NULL);
    if (job->abandoned || job->streams || job->parted) {
        worker->pool->ops->failed(job, RPC_WORKER_LOST);
        return;
    }
    /* "May have been given to another worker before" (protocol section 3). */
    buf_data(&job->frame)[5] |= FRAME_F_RETRY;
    pool_requeue(worker->pool, job);
}

static const struct channel_ops channel_ops;

/* A new worker that is not dialled yet, or NULL. */
static struct worker *add(
    struct pool *pool, const char *text, const struct conf_address *address, uint32_t weight)
{
    struct worker *worker = mem_zalloc(sizeof(*worker));
    if (worker == NULL)
        return NULL;
    worker->text = mem_strdup(text);
    if (worker->text == NULL ||
        channel_init(&worker->channel, pool->ctx, &channel_ops, pool->conf->name) < 0) {
        mem_free(worker->text);
        return mem_free(worker);
    }
    worker->answers = (struct answers){&worker->channel, &worker->faults, pool->ops, on_job_ended};
    worker->channel.timeout = pool->conf->worker_timeout;
    worker->pool = pool;
    faults_init(&worker->faults, pool->ctx, pool->conf->name, worker->text);
    worker->address = *address;
    worker->weight = weight;
    worker->share = -1;
    worker->rank = hash_bytes(&same_everywhere, text, strlen(text));
    wheel_timer_init(&worker->retry, TIMER_WORKER);
    health_init(worker);
    list_append(&pool->workers, &worker->node);
    pool->nknown++;
    return worker;
}

/* server_name: of the config; NULL: it is dialled without TLS. */
static void set_tls(struct worker *worker, const char *server_name)
{
    worker->channel.tls = server_name == NULL ? NULL : worker->pool->tls;
    worker->channel.server_name = server_name;
}

/* The worker is ready no longer: for how long it was decides how soon it is dialled again. */
static void note_end(struct worker *worker)
{
    if (worker->opened_at == 0)
        return;
    bool steady = ctx_now(worker->pool->ctx) - worker->opened_at >= WORKER_STEADY_MS;
    uint32_t next = MAX(worker->short_ms * 2, (uint32_t)WORKER_RETRY_FIRST_MS);
    worker->opened_at = 0;
    worker->retry_ms = steady ? 0 : worker->short_ms;
    worker->short_ms = steady ? 0 : MIN(next, (uint32_t)WORKER_RETRY_MAX_MS);
}

static size_t count_leaving(const struct pool *pool, const char *text)
{
    size_t n = 0;
    list_for_each (node, &pool->workers) {
        const struct worker *worker = container_of(node, struct worker, node);
        n += worker->gone && strcmp(worker->text, text) == 0;
    }
    return n;
}

/*
 * Adds a worker with the same address as one that goes away: its successor may listen there
 * already, while it finishes its calls. Where none can be added, the old one is dialled again when
 * its channel has closed.
 */
static void replace(struct worker *worker)
{
    struct pool *pool = worker->pool;
    if (worker->gone || pool->shutting || count_leaving(pool, worker->text) >= WORKER_LEAVING_MAX)
        return;
    struct worker *successor = add(pool, worker->text, &worker->address, worker->weight);
    if (successor == NULL)
        return;
    successor->host = worker->host;
    successor->port = worker->port;
    set_tls(successor, worker->channel.server_name);
    worker->gone = true;
    successor->retry_ms = worker->retry_ms;
    successor->short_ms = worker->short_ms;
    worker_retry_later(successor);
}

static void on_channel_leaving(struct channel *channel, const char *reason, uint64_t last_call)
{
    struct worker *worker = worker_of(channel);
    log_info("pool %s: worker %s goes away: %s", worker->pool->conf->name, worker->text, reason);
    pool_worker_unready(worker->pool, worker);
    note_end(worker);
    replace(worker);
    struct idmap_node *node = idmap_take_above(&channel->calls, last_call);
    while (node != NULL) {
        struct job *job = job_of(node);
        node = node->next;
        give_back(worker, job);
    }
    pool_dispatch(worker->pool);
}

/* Whether another worker may have a job that this one has not answered. */
static bool may_go_elsewhere(const struct worker *worker, const struct job *job)
{
    bool executed = job->end <= worker->channel.stream.written;
    if (job->streams || job->parted)
        return false;
    return !executed || (job->idempotent && job->tries < WORKER_TRIES_MAX);
}

/* Tells the supervisor of a worker that it runs: it looks for itself, and then starts it again. */
static void tell_supervisor(const struct worker *worker, bool late)
{
    const struct pool *pool = worker->pool;
    if (pool->conf->command != NULL && !pool->shutting && !pool->ctx->leaving && !worker->gone)
        ctl_tell_hung(worker->text, late);
}

/* Tells the log, the other shards and the supervisor of a worker that is given up. */
static void note_hung(struct worker *worker, struct idmap_node *calls)
{
    struct ctx *ctx = worker->pool->ctx;
    const struct job *oldest = NULL;
    size_t fail = 0;
    size_t elsewhere = 0;
    for (struct idmap_node *node = calls; node != NULL; node = node->next) {
        const struct job *job = job_of(node);
        if (!job->orphan && (oldest == NULL || job->sent.id < oldest->sent.id))
            oldest = job;
        elsewhere += !job->abandoned && may_go_elsewhere(worker, job);
        fail += !job->abandoned && !may_go_elsewhere(worker, job);
    }
    struct span method = oldest == NULL ? SPAN("PING")
                                        : (struct span){oldest->method, oldest->method_len};
    uint64_t since = oldest == NULL ? worker->channel.stream.heard_at : oldest->sent_at / 1000;
    log_warning("pool %s: worker %s has not answered `%.*s` for %.1f s: taken out, %zu calls fail, "
                "%zu go elsewhere",
        worker->pool->conf->name, worker->text, (int)MIN(method.n, (size_t)WORKER_METHOD_SHOWN),
        method.p, (double)(ctx_now(ctx) - since) / 1000, fail, elsewhere);
    share_worker_set_hung(ctx->share, worker->share, ctx_now(ctx));
    tell_supervisor(worker, oldest != NULL && oldest->abandoned && worker->concurrency == 1);
}

/* Whether the worker had one of these calls, and it was waited for. */
static bool had_any(const struct worker *worker, const struct idmap_node *calls)
{
    for (const struct idmap_node *node = calls; node != NULL; node = node->next) {
        const struct job *job = container_of(node, struct job, sent);
        if (!job->abandoned && job->end <= worker->channel.stream.written)
            return true;
    }
    return false;
}

static void settle(struct worker *worker, struct job *job)
{
    if (may_go_elsewhere(worker, job)) {
        give_back(worker, job);
        return;
    }
    take_back(worker, job, NULL);
    worker->pool->ops->failed(job, RPC_WORKER_LOST);
}

static void on_channel_lost(struct channel *channel, const char *why)
{
    struct worker *worker = worker_of(channel);
    struct pool *pool = worker->pool;
    size_t calls = channel->calls.count - channel->orphans;
    pool_worker_unready(pool, worker);
    note_end(worker);
    worker_note_trouble(worker, why);
    struct idmap_node *node = idmap_take_above(&channel->calls, 0);
    if (channel->hung)
        note_hung(worker, node);
    else if (channel->overdue)
        log_warning(
            "pool %s: worker %s has not closed its channel for %.1f s, though this shard has "
            "no connections left: the channel is closed, with %zu calls that nobody waits "
            "for",
            pool->conf->name, worker->text, (double)(ctx_now(pool->ctx) - channel->left) / 1000,
            calls);
    else if (calls > 0)
        log_warning("pool %s: worker %s is lost with %zu calls in progress: %s", pool->conf->name,
            worker->text, calls, why);
    else if (!worker->gone && !worker_has_address(worker))
        worker_log_unreachable(worker, why);
    if (channel->mute)
        tell_supervisor(worker, false);
    health_lost(worker, had_any(worker, node) && !channel->overdue);
    while (node != NULL) {
        struct job *job = job_of(node);
        node = node->next;
        settle(worker, job);
    }
    pool_dispatch(pool);
}

static void on_channel_closed(struct channel *channel)
{
    struct worker *worker = worker_of(channel);
    if (worker->gone)
        destroy(worker);
    else
        worker_redial(worker);
}

/*
 * As channel_ops.awaited says:
 * - a worker that another shard has given up is expected to say that it lives, since then;
 * - a worker that handles one call at a time may be silent while it has one, of whichever shard;
 * - any other has to answer PING ahead of its calls (protocol section 3), since the longest-waiting
 *   one was sent to it or queued for it.
 */
static uint64_t on_channel_awaited(struct channel *channel)
{
    struct worker *worker = worker_of(channel);
    struct share *share = worker->pool->ctx->share;
    uint64_t hung = share_worker_hung(share, worker->share);
    if (hung != 0 && channel->stream.heard_at <= hung)
        return hung;
    if (hung != 0)
        share_worker_set_hung(share, worker->share, 0);
    if (worker->concurrency == 1 && share_worker_load(share, worker->share) > 0)
        return CHANNEL_MAY_BE_SILENT;
    uint64_t waits = pool_waits_since(worker);
    if (channel->calls.count == channel->orphans)
        return waits;
    return waits == 0 ? channel->busy_at : MIN(waits, channel->busy_at);
}

static const struct channel_ops channel_ops = {
    .opened = on_channel_opened,
    .frame = on_channel_frame,
    .too_long = on_channel_too_long,
    .window = on_channel_window,
    .pushed = on_channel_pushed,
    .refused = on_channel_refused,
    .leaving = on_channel_leaving,
    .lost = on_channel_lost,
    .closed = on_channel_closed,
    .awaited = on_channel_awaited,
    .drained = on_channel_drained,
};

struct worker *worker_find(struct pool *pool, const char *text)
{
    list_for_each (node, &pool->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        if (!worker->gone && strcmp(worker->text, text) == 0)
            return worker;
    }
    return NULL;
}

int worker_add_remote(struct pool *pool, const struct conf_worker *conf)
{
    struct worker *worker = add(pool, conf->text, &conf->address, conf->weight);
    if (worker == NULL)
        return -ENOMEM;
    worker->host = conf->host;
    worker->port = conf->port;
    set_tls(worker, conf->server_name);
    worker_dial(worker);
    return 0;
}

bool worker_settled(const struct worker *worker)
{
    enum channel_state state = worker->channel.state;
    return state != CHANNEL_CONNECTING && state != CHANNEL_GREETING &&
           !resolver_waits(&worker->query);
}

int worker_add(
    struct pool *pool, const char *text, const struct conf_address *address, uint32_t weight)
{
    struct worker *worker = add(pool, text, address, weight);
    if (worker == NULL)
        return -ENOMEM;
    worker_dial(worker);
    return 0;
}

void worker_poke(struct worker *worker)
{
    worker->retry_ms = worker->short_ms = 0;
    worker->quiet = false;
    if (worker->channel.state == CHANNEL_CLOSED && !resolver_waits(&worker->query))
        worker_dial(worker);
}

void worker_remove(struct worker *worker)
{
    worker->gone = true;
    if (worker->channel.state == CHANNEL_CLOSED)
        destroy(worker);
}

/*
 * Fills in what is known only now that the frame is sent: the call id (protocol section 8), and
 * what is left of the deadline (section 5).
 */
static void fill_in(struct worker *worker, struct job *job)
{
    char digits[32];
    char *frame = buf_data(&job->frame);
    uint64_t now = ctx_now(worker->pool->ctx);
    if (job->id_at != 0) {
        snprintf(digits, sizeof(digits), "%*llu", JOB_ID_DIGITS,
            (unsigned long long)worker->channel.last_id + 1);
        memcpy(frame + job->id_at, digits, JOB_ID_DIGITS);
    }
    if (job->left_at != 0) {
        uint64_t left = job->expires > now ? job->expires - now : 0;
        snprintf(digits, sizeof(digits), "%*llu", JOB_LEFT_DIGITS, (unsigned long long)left);
        memcpy(frame + job->left_at, digits, JOB_LEFT_DIGITS);
    }
}

void worker_send(struct worker *worker, struct job *job, int slot)
{
    struct pool *pool = worker->pool;
    job_give(job, worker, slot, ctx_now_us(pool->ctx));
    if (UNLIKELY(job->left_at != 0 || job->id_at != 0))
        fill_in(worker, job);
    bool takes = LIKELY(!job->uploads) || worker->channel.streams;
    int r = !takes ? -EMSGSIZE
                   : channel_send_call(
                         &worker->channel, &job->sent, &job->frame, job->notify, &job->end);
    if (UNLIKELY(worker->testing))
        health_tried(worker, job, r == 0);
    if (UNLIKELY(r != 0)) {
        take_back(worker, job, NULL);
        pool->ops->failed(job, r == -EMSGSIZE ? RPC_TOO_LARGE : RPC_OVERLOADED);
        return;
    }
    job->tries++;
    share_worker_count_call(pool->ctx->share, worker->share);
    if (job->notify) {
        take_back(worker, job, NULL);
        pool->ops->delivered(job);
    } else if (UNLIKELY(job->uploads)) {
        pool->ops->room(job);
    }
}

int worker_notify(struct worker *worker, struct buf *frame)
{
    struct idmap_node call;
    uint64_t end;
    if (!worker_usable(worker))
        return -EAGAIN;
    return channel_send_call(&worker->channel, &call, frame, true, &end);
}

size_t worker_room(const struct job *job)
{
    bool sends = job->state == JOB_SENT && job->uploads && !job->abandoned;
    return sends && job->room > 0 && channel_takes_data(&job->worker->channel) ? job->room : 0;
}

void worker_data(struct job *job, struct span bytes, bool more)
{
    struct channel *channel = &job->worker->channel;
    CHECK(job->state == JOB_SENT && !job->abandoned && job->uploads && bytes.n <= job->room);
    job->room -= (uint32_t)bytes.n;
    job->uploads = more;
    job->parted = true;
    if (channel->state == CHANNEL_OPEN || channel->state == CHANNEL_LEAVING)
        channel_data(channel, job->sent.id, bytes, more);
}

void worker_abandon(struct job *job)
{
    struct worker *worker = job->worker;
    struct ctx *ctx = worker->pool->ctx;
    job->abandoned = true;
    job->late = ctx_now(ctx) >= job->expires;
    if (job->late && worker->late++ == 0)
        worker->late_since = ctx_now(ctx);
    if (UNLIKELY(job->late))
        health_late(worker, job);
    else if (!worker->faults.spoilt)
        health_cancelled(worker, job->sent.id);
    answer_drop(job);
    share_worker_add_abandoned(ctx->share, ctx->seat, worker->share, 1);
    if (worker->channel.state == CHANNEL_OPEN || worker->channel.state == CHANNEL_LEAVING)
        channel_cancel(&worker->channel, job->sent.id);
    if (job->streams)
        worker_credit(job, job->unsaid); /* so that the worker can come to an end */
}

void worker_credit(struct job *job, uint32_t bytes)
{
    struct channel *channel = &job->worker->channel;
    CHECK(job->state == JOB_SENT && bytes <= job->unsaid);
    job->unsaid -= bytes;
    job->pool->ctx->streamed -= job->streams ? bytes : 0;
    if (bytes > 0 && (channel->state == CHANNEL_OPEN || channel->state == CHANNEL_LEAVING))
        channel_window(channel, job->sent.id, bytes);
}

void worker_give_up(struct job *job)
{
    struct worker *worker = job->worker;
    struct ctx *ctx = worker->pool->ctx;
    struct channel *channel = &worker->channel;
    CHECK(job->state == JOB_SENT && job->abandoned && !job->orphan);
    if (worker->concurrency == 1 || channel->orphans == WORKER_ORPHANS_MAX) {
        channel_give_up(channel); /* the job ends with it */
        return;
    }
    log_limited(&worker->orphaned, ctx_now(ctx), LOG_WARNING,
        "pool %s: worker %s has not answered `%.*s` for %.1f s, though it is not waited for any "
        "more: its slot is taken back",
        worker->pool->conf->name, worker->text, (int)job->method_len, job->method,
        (double)(ctx_now_us(ctx) - job->sent_at) / 1e6);
    take_slot_back(worker, job);
    answer_drop(job);
    job->orphan = true;
    channel->orphans++;
    pool_slot_freed(worker);
}

void worker_shut(struct worker *worker)
{
    worker->gone = true;
    if (worker->channel.state == CHANNEL_CLOSED)
        destroy(worker);
    else
        channel_shut(&worker->channel, "shutdown");
}

void worker_timeout(struct wheel_timer *timer)
{
    worker_dial(container_of(timer, struct worker, retry));
}
