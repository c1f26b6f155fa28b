/* What all parts of a worker use of it. Its life is in serve.c. */

#include "workerd/worker.h"

#include <errno.h>

#include "common/alloc.h"

enum {
    MAX_FRAME_MIN = 4096, /* bytes: a HELLO must fit */
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

static void on_due(uv_timer_t *timer)
{
    struct workerd *worker = container_of(timer, struct workerd, timer);
    worker->ops->due(worker, uv_now(&worker->loop));
}

void worker_due(struct workerd *worker, uint64_t due)
{
    uint64_t now = uv_now(&worker->loop);
    uint64_t after = due > now ? due - now : 0;
    uv_handle_t *timer = (uv_handle_t *)&worker->timer;
    if (worker->state == WORKER_FINISHED ||
        (uv_is_active(timer) && uv_timer_get_due_in(&worker->timer) <= after))
        return;
    uv_timer_start(&worker->timer, on_due, after, 0);
}

void worker_maybe_finish(struct workerd *worker)
{
    if (worker->state == WORKER_STOPPING && worker->nchannels == 0 && worker->ncalls == 0 &&
        !worker->listen_open && !replace_pending(&worker->replace)) {
        worker->state = WORKER_FINISHED;
        uv_stop(&worker->loop);
    }
}

bool workerd_stopping(const struct workerd *worker)
{
    return worker->state != WORKER_RUNNING;
}

void workerd_stop(struct workerd *worker)
{
    /*
     * This may be any thread: the loop is woken, without a post, which may fail for want of memory.
     */
    atomic_store(&worker->stop_asked, true);
    uv_async_send(&worker->posts.async);
}

int workerd_post(struct workerd *worker, workerd_callback callback, void *data)
{
    return posts_add(&worker->posts, callback, data);
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

void worker_run_hooks(struct workerd *worker)
{
    while (!list_empty(&worker->hooks)) {
        struct hook *hook = container_of(worker->hooks.prev, struct hook, node);
        list_remove(&hook->node);
        hook->callback(hook->data);
        mem_free(hook);
    }
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

int workerd_method(struct workerd *worker, const char *pattern, workerd_handler handler, void *data)
{
    return methods_add(&worker->methods, pattern, handler, NULL, data);
}

int workerd_method_parts(struct workerd *worker, const char *pattern, workerd_handler handler,
    workerd_part part, void *data)
{
    return part == NULL ? -EINVAL : methods_add(&worker->methods, pattern, handler, part, data);
}
