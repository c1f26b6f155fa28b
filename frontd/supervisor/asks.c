#include "frontd/supervisor/asks.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/generation.h"

enum { SHARDS_MAX = FRONT_GENERATIONS * CONF_SHARDS_MAX, LOOK_MS = 500 };

/* A shard that is asked: a process of the front, as long as it is that one. */
struct asked {
    uint64_t generation;
    uint32_t shard;
    pid_t pid;
    bool waits;    /* for its answer, or the rest of it */
    bool answered; /* else it is silent */
};

struct ask {
    struct list node;
    struct asks *asks;
    uint64_t id;
    uint64_t until; /* ms */
    const struct ask_ops *ops;
    void *data;
    struct json_writer result; /* in its array "shards" */
    struct asked shards[SHARDS_MAX];
    size_t nshards;
    uint64_t lost; /* parts */
};

void asks_init(struct asks *asks, struct front *front)
{
    *asks = (struct asks){.front = front, .last = uv_hrtime(), .open = true};
    list_init(&asks->all);
    CHECK(uv_timer_init(&front->loop, &asks->timer) == 0);
    asks->timer.data = asks;
}

static void forget(struct ask *ask)
{
    list_remove(&ask->node);
    ask->asks->count--;
    buf_deinit(&ask->result.out);
    mem_free(ask);
}

void asks_close(struct asks *asks)
{
    if (!asks->open)
        return;
    asks->open = false;
    list_for_each_safe (node, &asks->all)
        forget(container_of(node, struct ask, node));
    uv_close((uv_handle_t *)&asks->timer, NULL);
}

/* The process of the front that was asked, or NULL where it has ended. */
static struct shard_process *find(const struct front *front, const struct asked *asked)
{
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        struct generation *generation = front->generations[g];
        if (generation == NULL || generation->number != asked->generation ||
            asked->shard >= generation->nprocesses)
            continue;
        struct shard_process *process = &generation->processes[asked->shard];
        return process->pid == asked->pid ? process : NULL;
    }
    return NULL;
}

static void put_shard(struct json_writer *out, const struct asked *asked)
{
    json_begin(out, NULL, '{');
    json_add_number(out, "shard", asked->shard);
    json_add_number(out, "generation", asked->generation);
    json_add_integer(out, "pid", asked->pid);
}

static void finish(struct ask *ask)
{
    struct json_writer result = ask->result;
    const struct ask_ops *ops = ask->ops;
    void *data = ask->data;
    ask->result = (struct json_writer){0};
    json_end(&result, ']');
    json_begin(&result, "silent", '[');
    for (size_t i = 0; i < ask->nshards; i++) {
        if (ask->shards[i].answered)
            continue;
        put_shard(&result, &ask->shards[i]);
        json_end(&result, '}');
    }
    json_end(&result, ']');
    if (ask->lost > 0)
        json_add_number(&result, "lost", ask->lost);
    forget(ask);
    ops->done(data, &result);
}

void asks_note_lost(struct ask *ask)
{
    ask->lost++;
}

static bool is_awaited(const struct ask *ask)
{
    for (size_t i = 0; i < ask->nshards; i++) {
        if (ask->shards[i].waits)
            return true;
    }
    return false;
}

static void on_time(uv_timer_t *timer);

static void arm(struct asks *asks)
{
    uint64_t now = uv_now(&asks->front->loop);
    uint64_t delay = LOOK_MS;
    if (!asks->open || list_empty(&asks->all))
        return;
    list_for_each (node, &asks->all) {
        const struct ask *ask = container_of(node, struct ask, node);
        delay = MIN(delay, is_awaited(ask) && ask->until > now ? ask->until - now : 0);
    }
    CHECK(uv_timer_start(&asks->timer, on_time, delay, 0) == 0);
}

/* Ends questions that are over. One at a time, since done() may do anything. */
static void on_time(uv_timer_t *timer)
{
    struct asks *asks = timer->data;
    uint64_t now = uv_now(&asks->front->loop);
    bool again;
    do {
        again = false;
        list_for_each (node, &asks->all) {
            struct ask *ask = container_of(node, struct ask, node);
            for (size_t i = 0; i < ask->nshards; i++) {
                struct asked *asked = &ask->shards[i];
                asked->waits = asked->waits && find(asks->front, asked) != NULL;
            }
            if (ask->until > now && is_awaited(ask))
                continue;
            finish(ask);
            again = true;
            break;
        }
    } while (again && asks->open);
    arm(asks);
}

static bool may_ask(const struct shard_process *process)
{
    return process->asks && process->sock >= 0 && process->state == SHARD_PROCESS_READY;
}

static void ask_one(
    struct ask *ask, enum ctl_question question, struct shard_process *process, int fd)
{
    struct ctl_message message = {.u.ask = {.id = ask->id, .question = question}};
    struct asked *asked = &ask->shards[ask->nshards++];
    *asked = (struct asked){
        .generation = process->generation->number, .shard = process->shard, .pid = process->pid};
    if (may_ask(process))
        asked->waits = ctl_send(process->sock, CTL_ASK, &message, &fd, 1) == 0;
    process->owed += asked->waits;
}

static void ask_all(struct ask *ask, enum ctl_question question, bool one, int fd)
{
    const struct front *front = ask->asks->front;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        struct generation *generation = front->generations[g];
        if (generation == NULL || (generation->role != GENERATION_SERVING &&
                                      (one || generation->role != GENERATION_LEAVING)))
            continue;
        for (uint32_t i = 0; i < generation->nprocesses; i++) {
            struct shard_process *process = &generation->processes[i];
            if (process->pid > 0 && !(one && is_awaited(ask)))
                ask_one(ask, question, process, fd);
        }
    }
}

int asks_start(struct asks *asks, enum ctl_question question, struct span params, uint64_t limit_ms,
    bool one, const struct ask_ops *ops, void *data, struct ask **ret_ask)
{
    if (!asks->open || asks->count == ASKS_MAX)
        return -EBUSY;
    int fd = ctl_make_text(params);
    struct ask *ask = fd < 0 ? NULL : mem_zalloc(sizeof(*ask));
    if (ask == NULL) {
        if (fd >= 0)
            close(fd);
        return -ENOMEM;
    }
    ask->asks = asks;
    ask->id = ++asks->last;
    ask->until = uv_now(&asks->front->loop) + limit_ms;
    ask->ops = ops;
    ask->data = data;
    list_append(&asks->all, &ask->node);
    asks->count++;
    json_begin(&ask->result, NULL, '{');
    json_begin(&ask->result, "shards", '[');
    ask_all(ask, question, one, fd);
    close(fd);
    *ret_ask = ask;
    arm(asks); /* also where none was asked: done() never comes from within */
    return 0;
}

/* What a shard has to say to the question of that id is not wanted any more. */
static void tell_stop(const struct shard_process *process, uint64_t id)
{
    struct ctl_message message = {.u.ask = {.id = id, .question = CTL_QUESTION_STOP}};
    char text[40];
    int n = snprintf(text, sizeof(text), "{\"of\":%" PRIu64 "}", id);
    ctl_send_text(process->sock, CTL_ASK, &message, (struct span){text, (size_t)n});
}

void asks_stop(struct ask *ask)
{
    for (size_t i = 0; i < ask->nshards; i++) {
        const struct asked *asked = &ask->shards[i];
        const struct shard_process *process = asked->waits ? find(ask->asks->front, asked) : NULL;
        if (process != NULL && may_ask(process))
            tell_stop(process, ask->id);
    }
    forget(ask);
}

static struct ask *find_ask(const struct asks *asks, uint64_t id)
{
    list_for_each (node, &asks->all) {
        struct ask *ask = container_of(node, struct ask, node);
        if (ask->id == id)
            return ask;
    }
    return NULL;
}

static struct asked *find_asked(struct ask *ask, const struct shard_process *process)
{
    for (size_t i = 0; i < ask->nshards; i++) {
        struct asked *asked = &ask->shards[i];
        if (asked->waits && asked->pid == process->pid && asked->shard == process->shard &&
            asked->generation == process->generation->number)
            return asked;
    }
    return NULL;
}

static void take_answer(struct ask *ask, struct asked *asked, struct span text)
{
    bool fits = buf_len(&ask->result.out) + text.n <= ASKS_RESULT_MAX;
    asked->waits = false;
    asked->answered = true;
    put_shard(&ask->result, asked);
    json_add_raw(&ask->result, "answer",
        fits ? text : SPAN("{\"error\":\"the answers are too long together\"}"));
    json_end(&ask->result, '}');
}

void asks_told(
    struct asks *asks, struct shard_process *process, const struct ctl_tell *tell, struct span text)
{
    struct ask *ask = find_ask(asks, tell->id);
    struct asked *asked = ask == NULL ? NULL : find_asked(ask, process);
    if (asked == NULL) { /* it comes too late, or is an answer to a program before */
        if (tell->more == 1)
            tell_stop(process, tell->id);
        return;
    }
    if (tell->more != 1) {
        take_answer(ask, asked, text);
        if (!is_awaited(ask))
            arm(asks);
    } else if (ask->ops->part != NULL) {
        ask->ops->part(ask, ask->data, process, text);
    }
}
