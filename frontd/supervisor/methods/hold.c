/* pause, resume, drain, undrain, log: what an operator holds back, and the level of the log. */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/hold_back.h"
#include "frontd/supervisor/methods/methods.h"
#include "frontd/supervisor/methods/worker_list.h"
#include "frontd/supervisor/reexec_state.h"
#include "proto/errors.h"
#include "proto/json_read.h"

/* Tells the shards, and those that come after this process. */
static void take_effect(struct supervisor *supervisor)
{
    hold_back(&supervisor->front);
    reexec_write_record(&supervisor->front, &supervisor->reload);
}

/* Answers with what was meant, and whether it has changed. changed: as of holds_pause(). */
static void answer(struct control_call *call, int changed, const char *what, const char *name)
{
    struct json_writer out = {0};
    if (changed == -ENOSPC) {
        control_call_fail(call, CONTROL_E_FAILED, "too many %ss are held back already", what);
        return;
    }
    if (changed < 0) {
        control_call_fail(call, RPC_INTERNAL_ERROR, "no memory");
        return;
    }
    json_begin(&out, NULL, '{');
    json_add_text(&out, what, name);
    json_add_flag(&out, "changed", changed > 0);
    json_end(&out, '}');
    control_call_answer(call, &out);
}

static bool has_pool(const struct supervisor *supervisor, const char *name)
{
    const struct conf *conf = front_serving(&supervisor->front)->conf;
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (strcmp(conf->pools[i].name, name) == 0)
            return true;
    }
    return false;
}

static void hold_pool(struct control_call *call, struct span params, bool hold)
{
    struct supervisor *supervisor = methods_supervisor(call);
    struct holds *holds = &supervisor->front.holds;
    char *pool = methods_text(call, params, "pool");
    if (pool == NULL)
        return;
    /* One that is paused may be resumed though the config has it no more. */
    if (has_pool(supervisor, pool) || (!hold && holds_is_paused(holds, pool))) {
        int changed = holds_pause(holds, pool, hold);
        if (changed > 0) {
            log_info("pool %s is %s", pool, hold ? "paused: its calls wait" : "resumed");
            take_effect(supervisor);
        }
        answer(call, changed, "pool", pool);
    } else {
        control_call_fail(call, CONTROL_E_UNKNOWN, "there is no pool %s", pool);
    }
    mem_free(pool);
}

void method_pause(struct control_call *call, struct span params)
{
    hold_pool(call, params, true);
}

void method_resume(struct control_call *call, struct span params)
{
    hold_pool(call, params, false);
}

/* A worker that is looked for by its address, or by the end of it, or by its process id. */
struct search {
    const char *name;
    int64_t pid; /* 0: the name is none */
    char *found; /* the address */
    bool twice;  /* others fit as well */
    bool failed; /* no memory */
};

static bool fits(const struct search *search, const struct worker_entry *entry)
{
    const char *slash = strrchr(entry->address, '/');
    if (strcmp(entry->address, search->name) == 0)
        return true;
    if (search->pid != 0)
        return worker_list_pid(entry) == search->pid;
    return strcmp(entry->address + strcspn(entry->address, ":") + 1, search->name) == 0 ||
           (slash != NULL && strcmp(slash + 1, search->name) == 0);
}

static void look_at(const struct worker_entry *entry, void *data)
{
    struct search *search = data;
    if (!fits(search, entry) ||
        (search->found != NULL && strcmp(search->found, entry->address) == 0))
        return;
    search->twice = search->found != NULL;
    if (search->found == NULL)
        search->found = mem_strdup(entry->address);
    search->failed |= search->found == NULL;
}

/* Finds the address that is meant. Returns it, the caller's, or NULL: the call is answered. */
static char *find_worker(struct control_call *call, const char *name, bool hold)
{
    struct supervisor *supervisor = methods_supervisor(call);
    bool digits = name[strspn(name, "0123456789")] == '\0' && strlen(name) < 12;
    struct search search = {.name = name, .pid = digits ? atoll(name) : 0};
    int r = worker_list(supervisor, look_at, &search);
    if (r == 0 && !search.failed && !search.twice && search.found != NULL)
        return search.found;
    if (!hold && search.found == NULL && holds_is_drained(&supervisor->front.holds, name))
        return mem_strdup(name); /* which is there no more */
    if (search.twice)
        control_call_fail(
            call, CONTROL_E_UNKNOWN, "%s may be several workers: give the address", name);
    else if (r < 0 || search.failed)
        control_call_fail(call, RPC_INTERNAL_ERROR, "no memory");
    else
        control_call_fail(call, CONTROL_E_UNKNOWN, "there is no worker %s", name);
    mem_free(search.found);
    return NULL;
}

static void hold_worker(struct control_call *call, struct span params, bool hold)
{
    struct supervisor *supervisor = methods_supervisor(call);
    char *name = methods_text(call, params, "worker");
    char *address = name == NULL ? NULL : find_worker(call, name, hold);
    if (address != NULL) {
        int changed = holds_drain(&supervisor->front.holds, address, hold);
        if (changed > 0) {
            log_info("worker %s %s", address,
                hold ? "is drained: it gets no new calls" : "is drained no more");
            take_effect(supervisor);
        }
        answer(call, changed, "worker", address);
    }
    mem_free(name);
    mem_free(address);
}

void method_drain(struct control_call *call, struct span params)
{
    hold_worker(call, params, true);
}

void method_undrain(struct control_call *call, struct span params)
{
    hold_worker(call, params, false);
}

void method_log(struct control_call *call, struct span params)
{
    struct supervisor *supervisor = methods_supervisor(call);
    char *name = methods_text(call, params, "level");
    if (name == NULL)
        return;
    int level = log_level_parse(name);
    if (level < 0) {
        control_call_fail(
            call, RPC_INVALID_PARAMS, "level: error, warning, info or debug, not %s", name);
    } else {
        int changed = supervisor->front.holds.log_level != level;
        supervisor->front.holds.log_level = level;
        log_set_level((enum log_level)level);
        log_info("the level of the log is %s until the next reload", name);
        take_effect(supervisor);
        answer(call, changed, "level", name);
    }
    mem_free(name);
}
