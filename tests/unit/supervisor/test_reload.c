#include <criterion/criterion.h>

#include "frontd/supervisor/reload.h"

#define NONE UINT64_MAX

enum {
    NOW = 1000000,
    DRAIN = 30000,
    STEPS = 100000,
    STATES = MACHINE_STOPPING + 1,
};

static const uint64_t CHECK_BY = NOW + MACHINE_CHECK_MS;
static const uint64_t START_BY = NOW + MACHINE_START_MS;
static const uint64_t LEAVE_BY = NOW + DRAIN + MACHINE_GRACE_MS;
/* A deadline that was set before, so that one which is kept can be told from one that is set. */
static const uint64_t BEFORE = NOW + 77;

static struct machine machine_in(enum machine_state state, bool upgrade, enum machine_event pending)
{
    bool timed = state == MACHINE_CHECKING || state == MACHINE_STARTING || state == MACHINE_LEAVING;
    return (struct machine){.state = state,
        .upgrade = upgrade,
        .pending = pending,
        .deadline = timed ? BEFORE : NONE,
        .drain = DRAIN};
}

/* What each state makes of each event, with no signal remembered; events that are not listed for a
 * state change nothing. */
static const struct row {
    enum machine_state state;
    bool upgrade;
    enum machine_event event;
    enum machine_state next;
    unsigned actions;
    uint64_t deadline;
} table[] = {
    {MACHINE_STEADY, false, MACHINE_RELOAD, MACHINE_CHECKING, MACHINE_DO_CHECK, CHECK_BY},
    {MACHINE_STEADY, false, MACHINE_UPGRADE, MACHINE_CHECKING, MACHINE_DO_CHECK, CHECK_BY},
    {MACHINE_CHECKING, false, MACHINE_CHECKED, MACHINE_STARTING, MACHINE_DO_START, START_BY},
    {MACHINE_CHECKING, true, MACHINE_CHECKED, MACHINE_CHECKING, MACHINE_DO_EXECUTE, NONE},
    {MACHINE_CHECKING, true, MACHINE_EXECUTED, MACHINE_STARTING, MACHINE_DO_START, START_BY},
    {MACHINE_CHECKING, false, MACHINE_REFUSED, MACHINE_STEADY, MACHINE_DO_FINISH, NONE},
    {MACHINE_CHECKING, true, MACHINE_REFUSED, MACHINE_STEADY, MACHINE_DO_FINISH, NONE},
    {MACHINE_CHECKING, false, MACHINE_TIME, MACHINE_ENDING, MACHINE_DO_END_CHECK, NONE},
    {MACHINE_CHECKING, true, MACHINE_TIME, MACHINE_ENDING, MACHINE_DO_END_CHECK, NONE},
    {MACHINE_STARTING, false, MACHINE_READY, MACHINE_LEAVING, MACHINE_DO_LEAVE, LEAVE_BY},
    {MACHINE_STARTING, false, MACHINE_REFUSED, MACHINE_STEADY, MACHINE_DO_FINISH, NONE},
    {MACHINE_STARTING, false, MACHINE_FAILED, MACHINE_ENDING, MACHINE_DO_ABORT, NONE},
    {MACHINE_STARTING, false, MACHINE_TIME, MACHINE_ENDING, MACHINE_DO_ABORT, NONE},
    {MACHINE_LEAVING, false, MACHINE_GONE, MACHINE_STEADY, MACHINE_DO_FINISH, NONE},
    {MACHINE_LEAVING, false, MACHINE_TIME, MACHINE_LEAVING, MACHINE_DO_RETIRE, NONE},
    {MACHINE_ENDING, false, MACHINE_GONE, MACHINE_STEADY, MACHINE_DO_FINISH, NONE},
    {MACHINE_STEADY, false, MACHINE_STOP, MACHINE_STOPPING, MACHINE_DO_STOP, NONE},
    {MACHINE_CHECKING, false, MACHINE_STOP, MACHINE_STOPPING,
        MACHINE_DO_END_CHECK | MACHINE_DO_STOP, NONE},
    {MACHINE_CHECKING, true, MACHINE_STOP, MACHINE_STOPPING, MACHINE_DO_END_CHECK | MACHINE_DO_STOP,
        NONE},
    {MACHINE_STARTING, false, MACHINE_STOP, MACHINE_STOPPING, MACHINE_DO_ABORT | MACHINE_DO_STOP,
        NONE},
    {MACHINE_LEAVING, false, MACHINE_STOP, MACHINE_STOPPING, MACHINE_DO_STOP, NONE},
    {MACHINE_ENDING, false, MACHINE_STOP, MACHINE_STOPPING, MACHINE_DO_STOP, NONE},
};

static const struct row *find_row(enum machine_state state, bool upgrade, enum machine_event event)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].state == state && table[i].upgrade == upgrade && table[i].event == event)
            return &table[i];
    }
    return NULL;
}

static bool is_signal(enum machine_event event)
{
    return event == MACHINE_RELOAD || event == MACHINE_UPGRADE;
}

/* Every state, every event, every signal that may be remembered. */
Test(machine, the_whole_table)
{
    static const enum machine_event pendings[] = {MACHINE_EVENTS, MACHINE_RELOAD, MACHINE_UPGRADE};
    for (unsigned i = 0; i < STATES * MACHINE_EVENTS * ARRAY_LEN(pendings) * 2; i++) {
        enum machine_state state = i % STATES;
        enum machine_event event = i / STATES % MACHINE_EVENTS;
        enum machine_event pending = pendings[i / STATES / MACHINE_EVENTS % ARRAY_LEN(pendings)];
        bool upgrade = i / STATES / MACHINE_EVENTS / ARRAY_LEN(pendings);
        bool idle = state == MACHINE_STEADY || state == MACHINE_STOPPING;
        if ((upgrade && state != MACHINE_CHECKING) || (pending != MACHINE_EVENTS && idle) ||
            (!upgrade && state == MACHINE_CHECKING && event == MACHINE_EXECUTED))
            continue; /* there is no such state, or no such event in it */
        struct machine machine = machine_in(state, upgrade, pending);
        struct machine before = machine;
        unsigned actions = machine_step(&machine, event, NOW);
        const struct row *row = find_row(state, upgrade, event);
        if (row == NULL && is_signal(event) && !idle) { /* remembered: an upgrade rather */
            cr_assert_eq(actions, 0);
            cr_assert_eq(machine.pending, pending == MACHINE_UPGRADE ? MACHINE_UPGRADE : event);
            machine.pending = before.pending;
        }
        if (row == NULL) {
            cr_assert_eq(actions, 0, "state %u, event %u", state, event);
            cr_assert(machine.state == before.state && machine.upgrade == before.upgrade &&
                          machine.pending == before.pending && machine.deadline == before.deadline,
                "state %u, event %u", state, event);
            continue;
        }
        bool goes_on = row->next == MACHINE_STEADY && pending != MACHINE_EVENTS;
        cr_assert_eq(machine.state, goes_on ? MACHINE_CHECKING : row->next, "state %u, event %u",
            state, event);
        cr_assert_eq(actions, row->actions | (goes_on ? MACHINE_DO_CHECK : 0),
            "state %u, event %u: actions %x", state, event, actions);
        cr_assert_eq(machine.deadline, goes_on ? CHECK_BY : row->deadline);
        if (machine.state == MACHINE_CHECKING && state != MACHINE_CHECKING)
            cr_assert_eq(machine.upgrade, (goes_on ? pending : event) == MACHINE_UPGRADE);
        if (goes_on || machine.state == MACHINE_STOPPING)
            cr_assert_eq(machine.pending, MACHINE_EVENTS, "it is remembered once");
        else
            cr_assert_eq(machine.pending, pending, "it is remembered until it is its turn");
    }
}

Test(machine, begins_at_rest)
{
    struct machine machine;
    machine_init(&machine);
    cr_assert_eq(machine.state, MACHINE_STEADY);
    cr_assert_eq(machine.deadline, NONE);
    for (enum machine_event event = MACHINE_CHECKED; event < MACHINE_EVENTS; event++) {
        if (event != MACHINE_STOP)
            cr_assert_eq(machine_step(&machine, event, NOW), 0);
    }
    cr_assert_eq(machine.state, MACHINE_STEADY);
}

Test(machine, signals_that_come_meanwhile_are_one)
{
    static const struct {
        enum machine_event first, second;
        bool upgrade;
    } cases[] = {
        {MACHINE_RELOAD, MACHINE_RELOAD, false},
        {MACHINE_RELOAD, MACHINE_UPGRADE, true},
        {MACHINE_UPGRADE, MACHINE_RELOAD, true},
        {MACHINE_UPGRADE, MACHINE_UPGRADE, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct machine machine;
        machine_init(&machine);
        cr_assert_eq(machine_step(&machine, MACHINE_RELOAD, NOW), MACHINE_DO_CHECK);
        cr_assert_eq(machine_step(&machine, cases[i].first, NOW), 0);
        cr_assert_eq(machine_step(&machine, MACHINE_CHECKED, NOW), MACHINE_DO_START);
        cr_assert_eq(machine_step(&machine, cases[i].second, NOW), 0);
        cr_assert_eq(machine_step(&machine, MACHINE_READY, NOW), MACHINE_DO_LEAVE);
        cr_assert_eq(
            machine_step(&machine, MACHINE_GONE, NOW), MACHINE_DO_FINISH | MACHINE_DO_CHECK);
        cr_assert_eq(machine.upgrade, cases[i].upgrade);
        cr_assert_eq(machine_step(&machine, MACHINE_REFUSED, NOW), MACHINE_DO_FINISH, "only once");
    }
}

/* A supervisor that finds shards reloads, after the old ones among them have left. */
Test(machine, shards_that_were_found)
{
    struct machine machine;
    machine_init(&machine);
    machine.drain = DRAIN;
    machine_found(&machine, true, NOW);
    cr_assert_eq(machine.state, MACHINE_LEAVING);
    cr_assert_eq(machine.deadline, LEAVE_BY);
    cr_assert_eq(machine_step(&machine, MACHINE_TIME, LEAVE_BY), MACHINE_DO_RETIRE);
    cr_assert_eq(machine_step(&machine, MACHINE_GONE, NOW), MACHINE_DO_FINISH | MACHINE_DO_CHECK);
    cr_assert(!machine.upgrade);
    machine_init(&machine);
    machine_found(&machine, false, NOW);
    cr_assert_eq(machine_step(&machine, MACHINE_RELOAD, NOW), MACHINE_DO_CHECK);
    cr_assert_eq(machine_step(&machine, MACHINE_REFUSED, NOW), MACHINE_DO_FINISH, "only once");
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* The world as the machine's actions make it. */
struct world {
    bool checking; /* a check's process is there */
    bool dying;    /* it, or the new generation, has been killed */
    bool upgraded; /* this is to become another program */
    bool old;      /* a generation beside the one that serves is there: it leaves */
    bool new;      /* another: it starts */
    bool stopping;
};

static void act(struct world *world, unsigned actions)
{
    if (actions & MACHINE_DO_END_CHECK) {
        cr_assert(world->checking || (actions & MACHINE_DO_STOP));
        world->dying = world->checking;
    }
    if (actions & MACHINE_DO_ABORT) {
        cr_assert(world->new && !world->dying);
        world->dying = true;
    }
    if (actions & MACHINE_DO_RETIRE)
        cr_assert(world->old);
    if (actions & MACHINE_DO_EXECUTE) {
        cr_assert(!world->checking && !world->old && !world->new);
        world->upgraded = true;
    }
    if (actions & MACHINE_DO_START) {
        cr_assert(!world->old && !world->new, "at most two generations live");
        world->new = true;
        world->upgraded = false;
    }
    if (actions & MACHINE_DO_LEAVE) {
        cr_assert(world->new && !world->old && !world->dying);
        world->old = true; /* the one that served until now */
        world->new = false;
    }
    if (actions & MACHINE_DO_CHECK) {
        cr_assert(!world->checking && !world->old && !world->new, "one replacement at a time");
        world->checking = true;
        world->upgraded = false;
    }
    if (actions & MACHINE_DO_STOP) {
        cr_assert(!world->stopping);
        world->stopping = true;
    }
}

/* Something that can happen in this world, or MACHINE_EVENTS: nothing does. */
static enum machine_event happen(
    struct world *world, const struct machine *machine, uint32_t random)
{
    switch (random % 16) {
    case 0: return MACHINE_RELOAD;
    case 1: return MACHINE_UPGRADE;
    case 2: return random / 16 % 64 == 0 ? MACHINE_STOP : MACHINE_EVENTS;
    case 3: return machine->deadline != NONE ? MACHINE_TIME : MACHINE_EVENTS;
    default: break;
    }
    if (world->dying) {
        world->dying = world->checking = world->new = false;
        return MACHINE_GONE;
    }
    if (world->checking) {
        world->checking = false;
        return random / 16 % 2 ? MACHINE_CHECKED : MACHINE_REFUSED;
    }
    if (world->upgraded)
        return random / 16 % 2 ? MACHINE_EXECUTED : MACHINE_REFUSED;
    if (world->new &&random / 16 % 8 == 0) { /* it could not even be made */
        world->new = false;
        return MACHINE_REFUSED;
    }
    if (world->new)
        return random / 16 % 3 ? MACHINE_READY : MACHINE_FAILED;
    if (world->old) {
        world->old = false;
        return MACHINE_GONE;
    }
    return MACHINE_EVENTS;
}

static bool consistent(const struct machine *machine, const struct world *world)
{
    bool executing = machine->state == MACHINE_CHECKING && world->upgraded;
    bool timed = (machine->state == MACHINE_CHECKING && !executing) ||
                 machine->state == MACHINE_STARTING;
    if (machine->state != MACHINE_LEAVING && timed != (machine->deadline != NONE))
        return false;
    switch (machine->state) {
    case MACHINE_STEADY:
        return !world->checking && !world->old && !world->new && machine->pending == MACHINE_EVENTS;
    case MACHINE_CHECKING: return (world->checking || executing) && !world->old && !world->new;
    case MACHINE_STARTING: return world->new && !world->old && !world->dying;
    case MACHINE_LEAVING: return world->old && !world->new;
    case MACHINE_ENDING: return world->dying && (world->checking != world->new) && !world->old;
    case MACHINE_STOPPING: return world->stopping && machine->pending == MACHINE_EVENTS;
    }
    return false;
}

/* Whatever happens in whatever order, as long as it can happen. */
Test(machine, a_long_life)
{
    struct machine machine;
    struct world world = {0};
    uint32_t random = 4711;
    uint64_t now = NOW;
    unsigned visits[STATES] = {0};
    machine_init(&machine);
    for (unsigned step = 0; step < STEPS; step++) {
        if (machine.state == MACHINE_STOPPING && next_random(&random) % 32 == 0) {
            machine_init(&machine);
            world = (struct world){0};
        }
        machine.drain = next_random(&random) % DRAIN;
        now += next_random(&random) % 100;
        enum machine_event event = happen(&world, &machine, next_random(&random));
        if (event == MACHINE_EVENTS)
            continue;
        if (event == MACHINE_TIME)
            now = MAX(now, machine.deadline);
        enum machine_state before = machine.state;
        bool waits = world.upgraded;
        unsigned actions = machine_step(&machine, event, now);
        if (waits && (event == MACHINE_REFUSED || event == MACHINE_STOP))
            world.upgraded = false;
        act(&world, actions);
        visits[machine.state]++;
        cr_assert(consistent(&machine, &world), "step %u: event %u brings state %u to %u", step,
            event, before, machine.state);
        cr_assert(machine.deadline == NONE || machine.deadline >= now);
        if (before == MACHINE_STOPPING)
            cr_assert(machine.state == MACHINE_STOPPING && actions == 0);
    }
    for (unsigned i = 0; i < STATES; i++)
        cr_assert_gt(visits[i], 100, "state %u was seldom reached", i);
}

/* Nor does it matter that they cannot: no event is a bug of the machine. */
Test(machine, any_events_at_all)
{
    struct machine machine;
    uint32_t random = 1;
    machine_init(&machine);
    for (unsigned step = 0; step < STEPS; step++) {
        if (step % 64 == 0)
            machine_init(&machine);
        enum machine_event event = next_random(&random) % MACHINE_EVENTS;
        if (event == MACHINE_STOP && next_random(&random) % 8 != 0)
            continue;
        unsigned actions = machine_step(&machine, event, step);
        cr_assert_lt(actions, 2U * MACHINE_DO_STOP);
        cr_assert(machine.state <= MACHINE_STOPPING);
        cr_assert(machine.pending == MACHINE_EVENTS || is_signal(machine.pending));
        if (machine.state == MACHINE_STEADY || machine.state == MACHINE_ENDING ||
            machine.state == MACHINE_STOPPING)
            cr_assert_eq(machine.deadline, NONE);
    }
}
