#include "frontd/supervisor/reload.h"

void reload_init(struct reload *reload)
{
    *reload = (struct reload){.pending = RELOAD_EVENTS, .deadline = UINT64_MAX};
}

static unsigned enter(struct reload *reload, enum reload_state state, uint64_t deadline)
{
    static const unsigned on_entry[] = {
        [RELOAD_STEADY] = RELOAD_DO_FINISH,
        [RELOAD_CHECKING] = RELOAD_DO_CHECK,
        [RELOAD_STARTING] = RELOAD_DO_START,
        [RELOAD_LEAVING] = RELOAD_DO_LEAVE,
        [RELOAD_ENDING] = 0,
        [RELOAD_STOPPING] = RELOAD_DO_STOP,
    };
    reload->state = state;
    reload->deadline = deadline;
    return on_entry[state];
}

static unsigned begin(struct reload *reload, enum reload_event event, uint64_t now)
{
    reload->upgrade = event == RELOAD_ON_UPGRADE;
    reload->pending = RELOAD_EVENTS;
    return enter(reload, RELOAD_CHECKING, now + RELOAD_CHECK_MS);
}

/* The reload is over: steady again, or on with the signal that came meanwhile. */
static unsigned settle(struct reload *reload, uint64_t now)
{
    unsigned actions = enter(reload, RELOAD_STEADY, UINT64_MAX);
    if (reload->pending == RELOAD_EVENTS)
        return actions;
    return actions | begin(reload, reload->pending, now);
}

/*
 * Keeps a signal for later. An upgrade loads the config too, so it is the one of two that is kept.
 */
static unsigned remember(struct reload *reload, enum reload_event event)
{
    if (reload->pending != RELOAD_ON_UPGRADE)
        reload->pending = event;
    return 0;
}

static unsigned stop(struct reload *reload)
{
    unsigned before = reload->state == RELOAD_CHECKING   ? RELOAD_DO_END_CHECK
                      : reload->state == RELOAD_STARTING ? RELOAD_DO_ABORT
                                                         : 0;
    reload->pending = RELOAD_EVENTS;
    return before | enter(reload, RELOAD_STOPPING, UINT64_MAX);
}

static unsigned when_steady(struct reload *reload, enum reload_event event, uint64_t now)
{
    bool signal = event == RELOAD_ON_CONFIG || event == RELOAD_ON_UPGRADE;
    return signal ? begin(reload, event, now) : 0;
}

static unsigned when_checking(struct reload *reload, enum reload_event event, uint64_t now)
{
    switch (event) {
    case RELOAD_ON_CHECKED:
        if (reload->upgrade) {
            reload->deadline = UINT64_MAX;
            return RELOAD_DO_EXECUTE;
        }
        return enter(reload, RELOAD_STARTING, now + RELOAD_START_MS);
    case RELOAD_ON_EXECUTED: return enter(reload, RELOAD_STARTING, now + RELOAD_START_MS);
    case RELOAD_ON_REFUSED: return settle(reload, now);
    case RELOAD_ON_TIME: return RELOAD_DO_END_CHECK | enter(reload, RELOAD_ENDING, UINT64_MAX);
    default: return 0;
    }
}

static unsigned when_starting(struct reload *reload, enum reload_event event, uint64_t now)
{
    switch (event) {
    case RELOAD_ON_READY:
        return enter(reload, RELOAD_LEAVING, now + reload->drain + RELOAD_GRACE_MS);
    case RELOAD_ON_REFUSED: return settle(reload, now);
    case RELOAD_ON_FAILED:
    case RELOAD_ON_TIME: return RELOAD_DO_ABORT | enter(reload, RELOAD_ENDING, UINT64_MAX);
    default: return 0;
    }
}

static unsigned when_leaving(struct reload *reload, enum reload_event event, uint64_t now)
{
    switch (event) {
    case RELOAD_ON_GONE: return settle(reload, now);
    case RELOAD_ON_TIME: reload->deadline = UINT64_MAX; return RELOAD_DO_RETIRE;
    default: return 0;
    }
}

void reload_found(struct reload *reload, bool leaving, uint64_t now)
{
    reload->pending = RELOAD_ON_CONFIG;
    if (leaving)
        enter(reload, RELOAD_LEAVING, now + reload->drain + RELOAD_GRACE_MS);
}

/*
 * Processes that were killed may take a while to end, and the next reload must not begin before: at
 * most two generations live.
 */
static unsigned when_ending(struct reload *reload, enum reload_event event, uint64_t now)
{
    return event == RELOAD_ON_GONE ? settle(reload, now) : 0;
}

unsigned reload_step(struct reload *reload, enum reload_event event, uint64_t now)
{
    if (reload->state == RELOAD_STOPPING)
        return 0;
    if (event == RELOAD_ON_STOP)
        return stop(reload);
    bool signal = event == RELOAD_ON_CONFIG || event == RELOAD_ON_UPGRADE;
    if (signal && reload->state != RELOAD_STEADY)
        return remember(reload, event);
    switch (reload->state) {
    case RELOAD_STEADY: return when_steady(reload, event, now);
    case RELOAD_CHECKING: return when_checking(reload, event, now);
    case RELOAD_STARTING: return when_starting(reload, event, now);
    case RELOAD_LEAVING: return when_leaving(reload, event, now);
    case RELOAD_ENDING: return when_ending(reload, event, now);
    default: return 0;
    }
}
