#include <criterion/criterion.h>

#include "frontd/supervisor/reload.h"

#define NONE UINT64_MAX

enum {
    NOW = 1000000,
    DRAIN = 30000,
    STEPS = 100000,
    STATES = RELOAD_STOPPING + 1,
};

static const uint64_t CHECK_BY = NOW + RELOAD_CHECK_MS;
static const uint64_t START_BY = NOW + RELOAD_START_MS;
static const uint64_t LEAVE_BY = NOW + DRAIN + RELOAD_GRACE_MS;
/* A deadline that was set before, so that one which is kept can be told from one that is set. */
static const uint64_t BEFORE = NOW + 77;

static struct reload machine_in(enum reload_state state, bool upgrade, enum reload_event pending)
{
    bool timed = state == RELOAD_CHECKING || state == RELOAD_STARTING || state == RELOAD_LEAVING;
    return (struct reload){.state = state,
        .upgrade = upgrade,
        .pending = pending,
        .deadline = timed ? BEFORE : NONE,
        .drain = DRAIN};
}

/* What each state makes of each event, with no signal remembered; events that are not listed for a
 * state change nothing. */
static const struct row {
    enum reload_state state;
    bool upgrade;
    enum reload_event event;
    enum reload_state next;
    unsigned actions;
    uint64_t deadline;
} table[] = {
    {RELOAD_STEADY, false, RELOAD_ON_CONFIG, RELOAD_CHECKING, RELOAD_DO_CHECK, CHECK_BY},
    {RELOAD_STEADY, false, RELOAD_ON_UPGRADE, RELOAD_CHECKING, RELOAD_DO_CHECK, CHECK_BY},
    {RELOAD_CHECKING, false, RELOAD_ON_CHECKED, RELOAD_STARTING, RELOAD_DO_START, START_BY},
    {RELOAD_CHECKING, true, RELOAD_ON_CHECKED, RELOAD_CHECKING, RELOAD_DO_EXECUTE, NONE},
    {RELOAD_CHECKING, true, RELOAD_ON_EXECUTED, RELOAD_STARTING, RELOAD_DO_START, START_BY},
    {RELOAD_CHECKING, false, RELOAD_ON_REFUSED, RELOAD_STEADY, RELOAD_DO_FINISH, NONE},
    {RELOAD_CHECKING, true, RELOAD_ON_REFUSED, RELOAD_STEADY, RELOAD_DO_FINISH, NONE},
    {RELOAD_CHECKING, false, RELOAD_ON_TIME, RELOAD_ENDING, RELOAD_DO_END_CHECK, NONE},
    {RELOAD_CHECKING, true, RELOAD_ON_TIME, RELOAD_ENDING, RELOAD_DO_END_CHECK, NONE},
    {RELOAD_STARTING, false, RELOAD_ON_READY, RELOAD_LEAVING, RELOAD_DO_LEAVE, LEAVE_BY},
    {RELOAD_STARTING, false, RELOAD_ON_REFUSED, RELOAD_STEADY, RELOAD_DO_FINISH, NONE},
    {RELOAD_STARTING, false, RELOAD_ON_FAILED, RELOAD_ENDING, RELOAD_DO_ABORT, NONE},
    {RELOAD_STARTING, false, RELOAD_ON_TIME, RELOAD_ENDING, RELOAD_DO_ABORT, NONE},
    {RELOAD_LEAVING, false, RELOAD_ON_GONE, RELOAD_STEADY, RELOAD_DO_FINISH, NONE},
    {RELOAD_LEAVING, false, RELOAD_ON_TIME, RELOAD_LEAVING, RELOAD_DO_RETIRE, NONE},
    {RELOAD_ENDING, false, RELOAD_ON_GONE, RELOAD_STEADY, RELOAD_DO_FINISH, NONE},
    {RELOAD_STEADY, false, RELOAD_ON_STOP, RELOAD_STOPPING, RELOAD_DO_STOP, NONE},
    {RELOAD_CHECKING, false, RELOAD_ON_STOP, RELOAD_STOPPING, RELOAD_DO_END_CHECK | RELOAD_DO_STOP,
        NONE},
    {RELOAD_CHECKING, true, RELOAD_ON_STOP, RELOAD_STOPPING, RELOAD_DO_END_CHECK | RELOAD_DO_STOP,
        NONE},
    {RELOAD_STARTING, false, RELOAD_ON_STOP, RELOAD_STOPPING, RELOAD_DO_ABORT | RELOAD_DO_STOP,
        NONE},
    {RELOAD_LEAVING, false, RELOAD_ON_STOP, RELOAD_STOPPING, RELOAD_DO_STOP, NONE},
    {RELOAD_ENDING, false, RELOAD_ON_STOP, RELOAD_STOPPING, RELOAD_DO_STOP, NONE},
};

static const struct row *find_row(enum reload_state state, bool upgrade, enum reload_event event)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].state == state && table[i].upgrade == upgrade && table[i].event == event)
            return &table[i];
    }
    return NULL;
}

static bool is_signal(enum reload_event event)
{
    return event == RELOAD_ON_CONFIG || event == RELOAD_ON_UPGRADE;
}

/* Every state, every event, every signal that may be remembered. */
Test(reload, the_whole_table)
{
    static const enum reload_event pendings[] = {
        RELOAD_EVENTS, RELOAD_ON_CONFIG, RELOAD_ON_UPGRADE};
    for (unsigned i = 0; i < STATES * RELOAD_EVENTS * ARRAY_LEN(pendings) * 2; i++) {
        enum reload_state state = i % STATES;
        enum reload_event event = i / STATES % RELOAD_EVENTS;
        enum reload_event pending = pendings[i / STATES / RELOAD_EVENTS % ARRAY_LEN(pendings)];
        bool upgrade = i / STATES / RELOAD_EVENTS / ARRAY_LEN(pendings);
        bool idle = state == RELOAD_STEADY || state == RELOAD_STOPPING;
        if ((upgrade && state != RELOAD_CHECKING) || (pending != RELOAD_EVENTS && idle) ||
            (!upgrade && state == RELOAD_CHECKING && event == RELOAD_ON_EXECUTED))
            continue; /* there is no such state, or no such event in it */
        struct reload reload = machine_in(state, upgrade, pending);
        struct reload before = reload;
        unsigned actions = reload_step(&reload, event, NOW);
        const struct row *row = find_row(state, upgrade, event);
        if (row == NULL && is_signal(event) && !idle) { /* remembered: an upgrade rather */
            cr_assert_eq(actions, 0);
            cr_assert_eq(reload.pending, pending == RELOAD_ON_UPGRADE ? RELOAD_ON_UPGRADE : event);
            reload.pending = before.pending;
        }
        if (row == NULL) {
            cr_assert_eq(actions, 0, "state %u, event %u", state, event);
            cr_assert(reload.state == before.state && reload.upgrade == before.upgrade &&
                          reload.pending == before.pending && reload.deadline == before.deadline,
                "state %u, event %u", state, event);
            continue;
        }
        bool goes_on = row->next == RELOAD_STEADY && pending != RELOAD_EVENTS;
        cr_assert_eq(reload.state, goes_on ? RELOAD_CHECKING : row->next, "state %u, event %u",
            state, event);
        cr_assert_eq(actions, row->actions | (goes_on ? RELOAD_DO_CHECK : 0),
            "state %u, event %u: actions %x", state, event, actions);
        cr_assert_eq(reload.deadline, goes_on ? CHECK_BY : row->deadline);
        if (reload.state == RELOAD_CHECKING && state != RELOAD_CHECKING)
            cr_assert_eq(reload.upgrade, (goes_on ? pending : event) == RELOAD_ON_UPGRADE);
        if (goes_on || reload.state == RELOAD_STOPPING)
            cr_assert_eq(reload.pending, RELOAD_EVENTS, "it is remembered once");
        else
            cr_assert_eq(reload.pending, pending, "it is remembered until it is its turn");
    }
}

Test(reload, begins_at_rest)
{
    struct reload reload;
    reload_init(&reload);
    cr_assert_eq(reload.state, RELOAD_STEADY);
    cr_assert_eq(reload.deadline, NONE);
    for (enum reload_event event = RELOAD_ON_CHECKED; event < RELOAD_EVENTS; event++) {
        if (event != RELOAD_ON_STOP)
            cr_assert_eq(reload_step(&reload, event, NOW), 0);
    }
    cr_assert_eq(reload.state, RELOAD_STEADY);
}

Test(reload, signals_that_come_meanwhile_are_one)
{
    static const struct {
        enum reload_event first, second;
        bool upgrade;
    } cases[] = {
        {RELOAD_ON_CONFIG, RELOAD_ON_CONFIG, false},
        {RELOAD_ON_CONFIG, RELOAD_ON_UPGRADE, true},
        {RELOAD_ON_UPGRADE, RELOAD_ON_CONFIG, true},
        {RELOAD_ON_UPGRADE, RELOAD_ON_UPGRADE, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reload reload;
        reload_init(&reload);
        cr_assert_eq(reload_step(&reload, RELOAD_ON_CONFIG, NOW), RELOAD_DO_CHECK);
        cr_assert_eq(reload_step(&reload, cases[i].first, NOW), 0);
        cr_assert_eq(reload_step(&reload, RELOAD_ON_CHECKED, NOW), RELOAD_DO_START);
        cr_assert_eq(reload_step(&reload, cases[i].second, NOW), 0);
        cr_assert_eq(reload_step(&reload, RELOAD_ON_READY, NOW), RELOAD_DO_LEAVE);
        cr_assert_eq(reload_step(&reload, RELOAD_ON_GONE, NOW), RELOAD_DO_FINISH | RELOAD_DO_CHECK);
        cr_assert_eq(reload.upgrade, cases[i].upgrade);
        cr_assert_eq(reload_step(&reload, RELOAD_ON_REFUSED, NOW), RELOAD_DO_FINISH, "only once");
    }
}

/* A supervisor that finds shards reloads, after the old ones among them have left. */
Test(reload, shards_that_were_found)
{
    struct reload reload;
    reload_init(&reload);
    reload.drain = DRAIN;
    reload_found(&reload, true, NOW);
    cr_assert_eq(reload.state, RELOAD_LEAVING);
    cr_assert_eq(reload.deadline, LEAVE_BY);
    cr_assert_eq(reload_step(&reload, RELOAD_ON_TIME, LEAVE_BY), RELOAD_DO_RETIRE);
    cr_assert_eq(reload_step(&reload, RELOAD_ON_GONE, NOW), RELOAD_DO_FINISH | RELOAD_DO_CHECK);
    cr_assert(!reload.upgrade);
    reload_init(&reload);
    reload_found(&reload, false, NOW);
    cr_assert_eq(reload_step(&reload, RELOAD_ON_CONFIG, NOW), RELOAD_DO_CHECK);
    cr_assert_eq(reload_step(&reload, RELOAD_ON_REFUSED, NOW), RELOAD_DO_FINISH, "only once");
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
    if (actions & RELOAD_DO_END_CHECK) {
        cr_assert(world->checking || (actions & RELOAD_DO_STOP));
        world->dying = world->checking;
    }
    if (actions & RELOAD_DO_ABORT) {
        cr_assert(world->new && !world->dying);
        world->dying = true;
    }
    if (actions & RELOAD_DO_RETIRE)
        cr_assert(world->old);
    if (actions & RELOAD_DO_EXECUTE) {
        cr_assert(!world->checking && !world->old && !world->new);
        world->upgraded = true;
    }
    if (actions & RELOAD_DO_START) {
        cr_assert(!world->old && !world->new, "at most two generations live");
        world->new = true;
        world->upgraded = false;
    }
    if (actions & RELOAD_DO_LEAVE) {
        cr_assert(world->new && !world->old && !world->dying);
        world->old = true; /* the one that served until now */
        world->new = false;
    }
    if (actions & RELOAD_DO_CHECK) {
        cr_assert(!world->checking && !world->old && !world->new, "one replacement at a time");
        world->checking = true;
        world->upgraded = false;
    }
    if (actions & RELOAD_DO_STOP) {
        cr_assert(!world->stopping);
        world->stopping = true;
    }
}

/* Something that can happen in this world, or RELOAD_EVENTS: nothing does. */
static enum reload_event happen(struct world *world, const struct reload *reload, uint32_t random)
{
    switch (random % 16) {
    case 0: return RELOAD_ON_CONFIG;
    case 1: return RELOAD_ON_UPGRADE;
    case 2: return random / 16 % 64 == 0 ? RELOAD_ON_STOP : RELOAD_EVENTS;
    case 3: return reload->deadline != NONE ? RELOAD_ON_TIME : RELOAD_EVENTS;
    default: break;
    }
    if (world->dying) {
        world->dying = world->checking = world->new = false;
        return RELOAD_ON_GONE;
    }
    if (world->checking) {
        world->checking = false;
        return random / 16 % 2 ? RELOAD_ON_CHECKED : RELOAD_ON_REFUSED;
    }
    if (world->upgraded)
        return random / 16 % 2 ? RELOAD_ON_EXECUTED : RELOAD_ON_REFUSED;
    if (world->new &&random / 16 % 8 == 0) { /* it could not even be made */
        world->new = false;
        return RELOAD_ON_REFUSED;
    }
    if (world->new)
        return random / 16 % 3 ? RELOAD_ON_READY : RELOAD_ON_FAILED;
    if (world->old) {
        world->old = false;
        return RELOAD_ON_GONE;
    }
    return RELOAD_EVENTS;
}

static bool consistent(const struct reload *reload, const struct world *world)
{
    bool executing = reload->state == RELOAD_CHECKING && world->upgraded;
    bool timed = (reload->state == RELOAD_CHECKING && !executing) ||
                 reload->state == RELOAD_STARTING;
    if (reload->state != RELOAD_LEAVING && timed != (reload->deadline != NONE))
        return false;
    switch (reload->state) {
    case RELOAD_STEADY:
        return !world->checking && !world->old && !world->new && reload->pending == RELOAD_EVENTS;
    case RELOAD_CHECKING: return (world->checking || executing) && !world->old && !world->new;
    case RELOAD_STARTING: return world->new && !world->old && !world->dying;
    case RELOAD_LEAVING: return world->old && !world->new;
    case RELOAD_ENDING: return world->dying && (world->checking != world->new) && !world->old;
    case RELOAD_STOPPING: return world->stopping && reload->pending == RELOAD_EVENTS;
    }
    return false;
}

/* Whatever happens in whatever order, as long as it can happen. */
Test(reload, a_long_life)
{
    struct reload reload;
    struct world world = {0};
    uint32_t random = 4711;
    uint64_t now = NOW;
    unsigned visits[STATES] = {0};
    reload_init(&reload);
    for (unsigned step = 0; step < STEPS; step++) {
        if (reload.state == RELOAD_STOPPING && next_random(&random) % 32 == 0) {
            reload_init(&reload);
            world = (struct world){0};
        }
        reload.drain = next_random(&random) % DRAIN;
        now += next_random(&random) % 100;
        enum reload_event event = happen(&world, &reload, next_random(&random));
        if (event == RELOAD_EVENTS)
            continue;
        if (event == RELOAD_ON_TIME)
            now = MAX(now, reload.deadline);
        enum reload_state before = reload.state;
        bool waits = world.upgraded;
        unsigned actions = reload_step(&reload, event, now);
        if (waits && (event == RELOAD_ON_REFUSED || event == RELOAD_ON_STOP))
            world.upgraded = false;
        act(&world, actions);
        visits[reload.state]++;
        cr_assert(consistent(&reload, &world), "step %u: event %u brings state %u to %u", step,
            event, before, reload.state);
        cr_assert(reload.deadline == NONE || reload.deadline >= now);
        if (before == RELOAD_STOPPING)
            cr_assert(reload.state == RELOAD_STOPPING && actions == 0);
    }
    for (unsigned i = 0; i < STATES; i++)
        cr_assert_gt(visits[i], 100, "state %u was seldom reached", i);
}

/* Nor does it matter that they cannot: no event is a bug of the reload. */
Test(reload, any_events_at_all)
{
    struct reload reload;
    uint32_t random = 1;
    reload_init(&reload);
    for (unsigned step = 0; step < STEPS; step++) {
        if (step % 64 == 0)
            reload_init(&reload);
        enum reload_event event = next_random(&random) % RELOAD_EVENTS;
        if (event == RELOAD_ON_STOP && next_random(&random) % 8 != 0)
            continue;
        unsigned actions = reload_step(&reload, event, step);
        cr_assert_lt(actions, 2U * RELOAD_DO_STOP);
        cr_assert(reload.state <= RELOAD_STOPPING);
        cr_assert(reload.pending == RELOAD_EVENTS || is_signal(reload.pending));
        if (reload.state == RELOAD_STEADY || reload.state == RELOAD_ENDING ||
            reload.state == RELOAD_STOPPING)
            cr_assert_eq(reload.deadline, NONE);
    }
}
