/*
 * The worker's life, and where its parts are put together.
 *
 * workerd_new() -> methods, socket -> workerd_run(): the loop turns. One turn reads what is ready
 * (framed.c), runs handlers, and then writes each channel's output in one go from on_check();
 * on_prepare() does the same for what timers made. workerd_stop() closes the socket and says GOAWAY
 * on every channel; each closes when its calls have ended (channel.c), and with the last of them
 * worker_maybe_finish() stops the loop; workerd_run() calls the hooks, closes the handles, returns.
 *
 * SIGUSR2 has a successor started (replace.c); when it is ready, this worker stops in the same way.
 * A worker that is such a successor begins to accept when it is told to (takeover.c).
 *
 * workerd_abort() closes the channels at once instead. A handler that still holds a call then makes
 * workerd_run() return -EBUSY, since what it holds cannot be freed.
 */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/notify.h"
#include "proto/frame.h"
#include "workerd/ask.h"
#include "workerd/call.h"
#include "workerd/channel.h"
#include "workerd/dispatch.h"
#include "workerd/listener.h"
#include "workerd/replace.h"
#include "workerd/takeover.h"
#include "workerd/worker.h"

static const struct worker_times default_times = {
    .hello = 5000,    /* protocol section 4 */
    .ping = 15000,    /* section 10 */
    .dead = 45000,    /* section 10 */
    .linger = 1000,   /* a front that is alive closes in microseconds */
    .replace = 10000, /* modules are loaded in far less, unless one hangs */
};

static void flush_dirty(struct workerd *worker)
{
    /* Flushing may go on reading a paused channel, which makes more to flush. */
    while (!list_empty(&worker->dirty))
        channel_flush(list_first(&worker->dirty, struct channel, dirty));
}

static void on_check(uv_check_t *check)
{
    flush_dirty(container_of(check, struct workerd, check));
}

static void on_prepare(uv_prepare_t *prepare)
{
    flush_dirty(container_of(prepare, struct workerd, prepare));
}

/* Sees to what is due on each channel, and to requests to clients. */
static void serve_tick(struct workerd *worker, uint64_t now)
{
    list_for_each_safe (node, &worker->channels) {
        struct channel *channel = container_of(node, struct channel, node);
        uint64_t due = channel_tick(channel, now);
        if (due != UINT64_MAX)
            worker_due(worker, due);
    }
    uint64_t due = asks_tick(&worker->asks, now);
    if (due != UINT64_MAX)
        worker_due(worker, due);
}

/* Stops as workerd_stop() does. reason: what GOAWAY says. From the loop's thread. */
static void serve_stop(struct workerd *worker, const char *reason)
{
    if (worker->state != WORKER_RUNNING)
        return;
    worker->state = WORKER_STOPPING;
    log_info("stopping: %zu channels, %zu calls in progress", worker->nchannels, worker->ncalls);
    takeover_settle(worker);
    replace_cancel(worker, false);
    if (worker->notify && worker->replace.state != REPLACE_DONE)
        notify_send("STOPPING=1\n");
    listener_close(worker);
    list_for_each_safe (node, &worker->channels)
        channel_go(container_of(node, struct channel, node), reason);
    asks_end(&worker->asks);
    worker_maybe_finish(worker);
}

void workerd_abort(struct workerd *worker)
{
    serve_stop(worker, "shutdown");
    if (worker->state != WORKER_STOPPING)
        return;
    replace_cancel(worker, true);
    log_info("stopping at once: %zu calls in progress", worker->ncalls);
    while (!list_empty(&worker->channels))
        channel_close(list_first(&worker->channels, struct channel, node));
    worker->aborted = true;
    uv_stop(&worker->loop);
}

static void on_async(uv_async_t *async)
{
    struct workerd *worker = container_of(async, struct workerd, posts.async);
    posts_run(&worker->posts);
    if (atomic_load(&worker->stop_asked))
        serve_stop(worker, "shutdown");
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct workerd *worker = signal->data;
    if (number == SIGTERM && worker->state == WORKER_RUNNING)
        serve_stop(worker, "shutdown");
    else
        workerd_abort(worker);
}

int workerd_handle_signals(struct workerd *worker)
{
    static const int numbers[ARRAY_LEN(worker->signals)] = {SIGTERM, SIGINT};
    if (worker->signals_open)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        int r = uv_signal_init(&worker->loop, &worker->signals[i]);
        if (r < 0)
            return r;
        worker->signals[i].data = worker;
        worker->signals_open = true;
        r = uv_signal_start(&worker->signals[i], on_signal, numbers[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

static void close_handle(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/*
 * Closes every handle that is left, those too that a module forgot, and turns the loop until all
 * are.
 */
static void close_handles(struct workerd *worker)
{
    uv_walk(&worker->loop, close_handle, NULL);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
}

int workerd_run(struct workerd *worker)
{
    if (worker->socket.fd < 0)
        return -ENOTCONN;
    worker->thread = uv_thread_self();
    int r = listener_open(worker);
    if (r < 0)
        return r;
    bool waits = takeover_pending(&worker->takeover);
    r = waits ? takeover_ready(worker) : listener_start(worker);
    if (r < 0)
        return r;
    if (worker->notify && !waits)
        notify_send("READY=1\n");
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    if (worker->aborted)
        uv_run(&worker->loop, UV_RUN_NOWAIT); /* what was closed gets its callbacks */
    if (worker->ncalls > 0) {
        log_warning("stopped with %zu calls in progress", worker->ncalls);
        return -EBUSY;
    }
    posts_run(&worker->posts);
    worker_run_hooks(worker);
    worker->state = WORKER_FINISHED;
    log_info("stopped");
    return 0;
}

int workerd_listen(struct workerd *worker, const char *address)
{
    if (worker->socket.fd >= 0)
        return -EALREADY;
    return socket_listen(&worker->socket, address);
}

int workerd_listen_fd(struct workerd *worker, int fd)
{
    if (worker->socket.fd >= 0) {
        close(fd);
        return -EALREADY;
    }
    int r = socket_take(&worker->socket, fd);
    if (r < 0)
        return r;
    log_info("listening on descriptor %d", fd);
    worker->passed = true;
    return 0;
}

int workerd_handle_sigusr2(struct workerd *worker, char *const *argv)
{
    return replace_init(worker, argv);
}

/* WORKERD_TIMES="hello,ping,dead,linger,replace" in ms, so that tests of silence take less time. */
static void read_times(struct worker_times *times)
{
    const char *value = getenv("WORKERD_TIMES");
    struct worker_times read = default_times;
    if (value != NULL)
        sscanf(value, "%lu,%lu,%lu,%lu,%lu", &read.hello, &read.ping, &read.dead, &read.linger,
            &read.replace);
    *times = read;
}

static void open_handles(struct workerd *worker)
{
    uv_check_init(&worker->loop, &worker->check);
    uv_prepare_init(&worker->loop, &worker->prepare);
    uv_timer_init(&worker->loop, &worker->timer);
    uv_timer_init(&worker->loop, &worker->accept_timer);
    uv_check_start(&worker->check, on_check);
    uv_prepare_start(&worker->prepare, on_prepare);
}

static const struct worker_ops serve_ops = {
    .frame = dispatch_frame,
    .answered = ask_answered,
    .due = serve_tick,
    .stop = serve_stop,
};

int workerd_new(struct workerd **ret_worker)
{
    struct workerd *worker = mem_zalloc(sizeof(*worker));
    if (worker == NULL)
        return -ENOMEM;
    worker->read_buffer = mem_zalloc(READ_SIZE);
    int r = worker->read_buffer == NULL ? -ENOMEM : uv_loop_init(&worker->loop);
    if (r < 0)
        goto fail_memory;
    r = posts_init(&worker->posts, &worker->loop, on_async);
    if (r < 0)
        goto fail_loop;
    open_handles(worker);
    r = asks_init(&worker->asks);
    if (r < 0)
        goto fail_handles;
    worker->ops = &serve_ops;
    worker->socket.fd = -1;
    worker->takeover.fd = -1;
    worker->replace.fd = -1;
    worker->thread = uv_thread_self();
    worker->concurrency = 1;
    worker->max_frame = FRAME_MAX_DEFAULT;
    read_times(&worker->times);
    list_init(&worker->channels);
    list_init(&worker->fronts);
    list_init(&worker->dirty);
    list_init(&worker->orphans);
    list_init(&worker->hooks);
    slab_init(&worker->calls, sizeof(struct workerd_call));
    *ret_worker = worker;
    return 0;

fail_handles:
    close_handles(worker);
    posts_deinit(&worker->posts);
fail_loop:
    CHECK(uv_loop_close(&worker->loop) == 0);
fail_memory:
    mem_free(worker->read_buffer);
    mem_free(worker);
    return r;
}

void workerd_free(struct workerd *worker)
{
    if (worker == NULL)
        return;
    CHECK(worker->ncalls == 0);
    worker->state = WORKER_FINISHED;
    asks_deinit(&worker->asks);
    worker_run_hooks(worker); /* those of a worker that never ran */
    takeover_settle(worker);
    close_handles(worker);
    CHECK(uv_loop_close(&worker->loop) == 0);
    socket_close(&worker->socket);
    posts_deinit(&worker->posts);
    methods_deinit(&worker->methods);
    slab_deinit(&worker->calls);
    mem_free(worker->name);
    mem_free(worker->read_buffer);
    mem_free(worker);
    mem_trim();
}
