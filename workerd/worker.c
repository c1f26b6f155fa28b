/*
 * The worker's life.
 *
 * workerd_new() -> methods, socket -> workerd_run(): the loop turns. One turn reads what is ready
 * (channel.c), runs handlers, and then writes each channel's output in one go from on_check();
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

#include "workerd/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/notify.h"
#include "proto/frame.h"
#include "workerd/call.h"
#include "workerd/channel.h"

enum {
    ACCEPT_PAUSE_MS = 100, /* after accept() failed for want of descriptors or memory */
    MAX_FRAME_MIN = 4096,  /* bytes: a HELLO must fit */
};

static const struct worker_times default_times = {
    .hello = 5000,    /* protocol section 4 */
    .ping = 15000,    /* section 10 */
    .dead = 45000,    /* section 10 */
    .linger = 1000,   /* a front that is alive closes in microseconds */
    .replace = 10000, /* modules are loaded in far less, unless one hangs */
};

struct post {
    struct post *next;
    workerd_callback callback;
    void *data;
};

struct hook {
    struct list node;
    workerd_callback callback;
    void *data;
};

const char *workerd_version(void)
{
    return FRONTD_VERSION;
}

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

static void on_timer(uv_timer_t *timer)
{
    struct workerd *worker = container_of(timer, struct workerd, timer);
    uint64_t now = uv_now(&worker->loop);
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

void worker_due(struct workerd *worker, uint64_t due)
{
    uint64_t now = uv_now(&worker->loop);
    uint64_t after = due > now ? due - now : 0;
    uv_handle_t *timer = (uv_handle_t *)&worker->timer;
    if (worker->state == WORKER_FINISHED ||
        (uv_is_active(timer) && uv_timer_get_due_in(&worker->timer) <= after))
        return;
    uv_timer_start(&worker->timer, on_timer, after, 0);
}

static void on_listen(uv_poll_t *poll, int status, int events);

static void on_accept_again(uv_timer_t *timer)
{
    struct workerd *worker = container_of(timer, struct workerd, accept_timer);
    if (worker->listen_open)
        uv_poll_start(&worker->listen_poll, UV_READABLE, on_listen);
}

/* A socket that stays readable while accept() fails would have the loop spin. */
static void pause_accept(struct workerd *worker, int error)
{
    log_warning("cannot accept a channel: %s; trying again in %d ms", strerror(error),
        (int)ACCEPT_PAUSE_MS);
    uv_poll_stop(&worker->listen_poll);
    uv_timer_start(&worker->accept_timer, on_accept_again, ACCEPT_PAUSE_MS, 0);
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
    struct workerd *worker = container_of(poll, struct workerd, listen_poll);
    (void)events;
    if (status < 0) {
        pause_accept(worker, -status);
        return;
    }
    for (;;) {
        int fd = accept4(worker->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno == EAGAIN)
            return;
        int r = fd < 0 ? -errno : channel_open(worker, fd);
        if (r < 0) {
            pause_accept(worker, -r);
            return;
        }
    }
}

int worker_accept(struct workerd *worker)
{
    return uv_poll_start(&worker->listen_poll, UV_READABLE, on_listen);
}

static void on_listen_closed(uv_handle_t *handle)
{
    struct workerd *worker = container_of(handle, struct workerd, listen_poll);
    worker->listen_open = false;
    socket_close(&worker->socket);
    worker_maybe_finish(worker);
}

static void close_listener(struct workerd *worker)
{
    uv_handle_t *poll = (uv_handle_t *)&worker->listen_poll;
    uv_timer_stop(&worker->accept_timer);
    if (worker->listen_open && !uv_is_closing(poll))
        uv_close(poll, on_listen_closed);
}

void worker_maybe_finish(struct workerd *worker)
{
    if (worker->state == WORKER_STOPPING && worker->nchannels == 0 && worker->ncalls == 0 &&
        !worker->listen_open && !replace_pending(worker)) {
        worker->state = WORKER_FINISHED;
        uv_stop(&worker->loop);
    }
}

void worker_stop(struct workerd *worker, const char *reason)
{
    if (worker->state != WORKER_RUNNING)
        return;
    worker->state = WORKER_STOPPING;
    log_info("stopping: %zu channels, %zu calls in progress", worker->nchannels, worker->ncalls);
    takeover_settle(worker);
    replace_cancel(worker, false);
    if (worker->notify && worker->replace.state != REPLACE_DONE)
        notify_send("STOPPING=1\n");
    close_listener(worker);
    list_for_each_safe (node, &worker->channels)
        channel_go(container_of(node, struct channel, node), reason);
    asks_end(&worker->asks);
    worker_maybe_finish(worker);
}

void workerd_stop(struct workerd *worker)
{
    /* A post, since this may be any thread; and one that cannot fail for want of memory. */
    atomic_store(&worker->stop_asked, true);
    uv_async_send(&worker->async);
}

void workerd_abort(struct workerd *worker)
{
    worker_stop(worker, "shutdown");
    if (worker->state != WORKER_STOPPING)
        return;
    replace_cancel(worker, true);
    log_info("stopping at once: %zu calls in progress", worker->ncalls);
    while (!list_empty(&worker->channels))
        channel_close(list_first(&worker->channels, struct channel, node));
    worker->aborted = true;
    uv_stop(&worker->loop);
}

void worker_run_posts(struct workerd *worker)
{
    uv_mutex_lock(&worker->posts_lock);
    struct post *post = worker->posts;
    worker->posts = NULL;
    worker->posts_tail = &worker->posts;
    uv_mutex_unlock(&worker->posts_lock);
    while (post != NULL) {
        struct post *next = post->next;
        post->callback(post->data);
        free(post);
        post = next;
    }
}

static void on_async(uv_async_t *async)
{
    struct workerd *worker = container_of(async, struct workerd, async);
    worker_run_posts(worker);
    if (atomic_load(&worker->stop_asked))
        worker_stop(worker, "shutdown");
}

int workerd_post(struct workerd *worker, workerd_callback callback, void *data)
{
    struct post *post = malloc(sizeof(*post)); /* mem_get() has no locks */
    if (post == NULL)
        return -ENOMEM;
    *post = (struct post){.callback = callback, .data = data};
    uv_mutex_lock(&worker->posts_lock);
    *worker->posts_tail = post;
    worker->posts_tail = &post->next;
    uv_async_send(&worker->async); /* with the lock: once the callback has run, all may be freed */
    uv_mutex_unlock(&worker->posts_lock);
    return 0;
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct workerd *worker = signal->data;
    if (number == SIGTERM && worker->state == WORKER_RUNNING)
        worker_stop(worker, "shutdown");
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

int workerd_on_stop(struct workerd *worker, workerd_callback callback, void *data)
{
    struct hook *hook = mem_zalloc(sizeof(*hook));
    if (hook == NULL)
        return -ENOMEM;
    hook->callback = callback;
    hook->data = data;
    list_append(&worker->hooks, &hook->node);
    return 0;
}

static void run_hooks(struct workerd *worker)
{
    while (!list_empty(&worker->hooks)) {
        struct hook *hook = container_of(worker->hooks.prev, struct hook, node);
        list_remove(&hook->node);
        hook->callback(hook->data);
        mem_free(hook);
    }
}

static void close_handle(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Closes every handle that is left, a module's forgotten ones too, and turns until they are. */
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
    int r = uv_poll_init(&worker->loop, &worker->listen_poll, worker->socket.fd);
    if (r < 0)
        return r;
    worker->listen_open = true;
    bool waits = takeover_pending(worker);
    r = waits ? takeover_ready(worker) : worker_accept(worker);
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
    worker_run_posts(worker);
    run_hooks(worker);
    worker->state = WORKER_FINISHED;
    log_info("stopped");
    return 0;
}

struct uv_loop_s *workerd_loop(struct workerd *worker)
{
    return &worker->loop;
}

int workerd_set_name(struct workerd *worker, const char *name)
{
    char *copy = mem_strdup(name);
    if (copy == NULL)
        return -ENOMEM;
    mem_free(worker->name);
    worker->name = copy;
    return 0;
}

void workerd_set_concurrency(struct workerd *worker, uint32_t calls)
{
    worker->concurrency = calls;
}

int workerd_set_max_frame(struct workerd *worker, uint32_t bytes)
{
    if (bytes < MAX_FRAME_MIN)
        return -EINVAL;
    worker->max_frame = bytes;
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

int workerd_method(struct workerd *worker, const char *pattern, workerd_handler handler, void *data)
{
    return methods_add(&worker->methods, pattern, handler, data);
}

/* So that a test of silence does not take a minute: "hello,ping,dead,linger,replace" in ms. */
static void read_times(struct worker_times *times)
{
    const char *value = getenv("WORKERD_TIMES");
    struct worker_times read = default_times;
    if (value != NULL)
        sscanf(value, "%lu,%lu,%lu,%lu,%lu", &read.hello, &read.ping, &read.dead, &read.linger,
            &read.replace);
    *times = read;
}

static int open_handles(struct workerd *worker)
{
    int r = uv_async_init(&worker->loop, &worker->async, on_async);
    if (r < 0)
        return r;
    uv_check_init(&worker->loop, &worker->check);
    uv_prepare_init(&worker->loop, &worker->prepare);
    uv_timer_init(&worker->loop, &worker->timer);
    uv_timer_init(&worker->loop, &worker->accept_timer);
    uv_check_start(&worker->check, on_check);
    uv_prepare_start(&worker->prepare, on_prepare);
    return 0;
}

int workerd_new(struct workerd **ret_worker)
{
    struct workerd *worker = mem_zalloc(sizeof(*worker));
    if (worker == NULL)
        return -ENOMEM;
    worker->read_buffer = mem_zalloc(READ_SIZE);
    int r = worker->read_buffer == NULL ? -ENOMEM : uv_loop_init(&worker->loop);
    if (r < 0)
        goto fail_memory;
    r = uv_mutex_init(&worker->posts_lock);
    if (r < 0)
        goto fail_loop;
    r = open_handles(worker);
    if (r < 0)
        goto fail_mutex;
    r = asks_init(&worker->asks);
    if (r < 0)
        goto fail_handles;
    worker->socket.fd = -1;
    worker->takeover.fd = -1;
    worker->replace.fd = -1;
    worker->thread = uv_thread_self();
    worker->concurrency = 1;
    worker->max_frame = FRAME_MAX_DEFAULT;
    worker->posts_tail = &worker->posts;
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
fail_mutex:
    uv_mutex_destroy(&worker->posts_lock);
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
    run_hooks(worker); /* those of a worker that never ran */
    takeover_settle(worker);
    close_handles(worker);
    CHECK(uv_loop_close(&worker->loop) == 0);
    socket_close(&worker->socket);
    uv_mutex_destroy(&worker->posts_lock);
    methods_deinit(&worker->methods);
    slab_deinit(&worker->calls);
    mem_free(worker->name);
    mem_free(worker->read_buffer);
    mem_free(worker);
    mem_trim();
}
