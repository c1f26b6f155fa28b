#include "frontd/supervisor/reload.h"

void machine_init(struct machine *machine)
{
    *machine = (struct machine){.pending = MACHINE_EVENTS, .deadline = UINT64_MAX};
}

static unsigned enter(struct machine *machine, enum machine_state state, uint64_t deadline)
{
    static const unsigned on_entry[] = {
        [MACHINE_STEADY] = MACHINE_DO_FINISH,
        [MACHINE_CHECKING] = MACHINE_DO_CHECK,
        [MACHINE_STARTING] = MACHINE_DO_START,
        [MACHINE_LEAVING] = MACHINE_DO_LEAVE,
        [MACHINE_ENDING] = 0,
        [MACHINE_STOPPING] = MACHINE_DO_STOP,
    };
    machine->state = state;
    machine->deadline = deadline;
    return on_entry[state];
}

static unsigned begin(struct machine *machine, enum machine_event event, uint64_t now)
{
    machine->upgrade = event == MACHINE_UPGRADE;
    machine->pending = MACHINE_EVENTS;
    return enter(machine, MACHINE_CHECKING, now + MACHINE_CHECK_MS);
}

/* Back to where it began, or on with the signal that came meanwhile. */
static unsigned settle(struct machine *machine, uint64_t now)
{
    unsigned actions = enter(machine, MACHINE_STEADY, UINT64_MAX);
    if (machine->pending == MACHINE_EVENTS)
        return actions;
    return actions | begin(machine, machine->pending, now);
}

/* An upgrade loads the config too, so it is the one of two signals that is kept. */
static unsigned remember(struct machine *machine, enum machine_event event)
{
    if (machine->pending != MACHINE_UPGRADE)
        machine->pending = event;
    return 0;
}

static unsigned stop(struct machine *machine)
{
    unsigned before = machine->state == MACHINE_CHECKING   ? MACHINE_DO_END_CHECK
                      : machine->state == MACHINE_STARTING ? MACHINE_DO_ABORT
                                                           : 0;
    machine->pending = MACHINE_EVENTS;
    return before | enter(machine, MACHINE_STOPPING, UINT64_MAX);
}

static unsigned when_steady(struct machine *machine, enum machine_event event, uint64_t now)
{
    bool signal = event == MACHINE_RELOAD || event == MACHINE_UPGRADE;
    return signal ? begin(machine, event, now) : 0;
}

static unsigned when_checking(struct machine *machine, enum machine_event event, uint64_t now)
{
    switch (event) {
    case MACHINE_CHECKED:
        if (machine->upgrade) {
            machine->deadline = UINT64_MAX;
            return MACHINE_DO_EXECUTE;
        }
        return enter(machine, MACHINE_STARTING, now + MACHINE_START_MS);
    case MACHINE_EXECUTED: return enter(machine, MACHINE_STARTING, now + MACHINE_START_MS);
    case MACHINE_REFUSED: return settle(machine, now);
    case MACHINE_TIME: return MACHINE_DO_END_CHECK | enter(machine, MACHINE_ENDING, UINT64_MAX);
    default: return 0;
    }
}

static unsigned when_starting(struct machine *machine, enum machine_event event, uint64_t now)
{
    switch (event) {
    case MACHINE_READY:
        return enter(machine, MACHINE_LEAVING, now + machine->drain + MACHINE_GRACE_MS);
    case MACHINE_REFUSED: return settle(machine, now);
    case MACHINE_FAILED:
    case MACHINE_TIME: return MACHINE_DO_ABORT | enter(machine, MACHINE_ENDING, UINT64_MAX);
    default: return 0;
    }
}

static unsigned when_leaving(struct machine *machine, enum machine_event event, uint64_t now)
{
    switch (event) {
    case MACHINE_GONE: return settle(machine, now);
    case MACHINE_TIME: machine->deadline = UINT64_MAX; return MACHINE_DO_RETIRE;
    default: return 0;
    }
}

void machine_found(struct machine *machine, bool leaving, uint64_t now)
{
    machine->pending = MACHINE_RELOAD;
    if (leaving)
        enter(machine, MACHINE_LEAVING, now + machine->drain + MACHINE_GRACE_MS);
}

/* Whoever was killed may take a while to end, and the next must not begin before: at most two
 * generations live. */
static unsigned when_ending(struct machine *machine, enum machine_event event, uint64_t now)
{
    return event == MACHINE_GONE ? settle(machine, now) : 0;
}

unsigned machine_step(struct machine *machine, enum machine_event event, uint64_t now)
{
    if (machine->state == MACHINE_STOPPING)
        return 0;
    if (event == MACHINE_STOP)
        return stop(machine);
    bool signal = event == MACHINE_RELOAD || event == MACHINE_UPGRADE;
    if (signal && machine->state != MACHINE_STEADY)
        return remember(machine, event);
    switch (machine->state) {
    case MACHINE_STEADY: return when_steady(machine, event, now);
    case MACHINE_CHECKING: return when_checking(machine, event, now);
    case MACHINE_STARTING: return when_starting(machine, event, now);
    case MACHINE_LEAVING: return when_leaving(machine, event, now);
    case MACHINE_ENDING: return when_ending(machine, event, now);
    default: return 0;
    }
}
