#include "frontd/shard/net/incident.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

static struct shardlet shard;
static const struct peer peer = {.family = AF_UNIX};

static void set_up(void)
{
    shardlet_init(&shard, MOVE_CONF, 0);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

TestSuite(incident, .init = set_up, .fini = tear_down);

static const struct incident *find(const char *what)
{
    const struct incident *all = shard.parts.incidents.listeners[0];
    for (size_t i = 0; i < INCIDENT_KINDS; i++) {
        if (all[i].what == what)
            return &all[i];
    }
    return NULL;
}

/* The one that is there. */
static const struct incident *the(const char *what)
{
    const struct incident *found = find(what);
    CHECK(found != NULL);
    return found;
}

static void note(const char *what)
{
    incident_note(&shard.ctx, &shard.conf->listeners[0], &peer, what, NULL);
}

/* As many bytes as there is room for, and one more; what was not shown is not there. */
Test(incident, bytes)
{
    static char bytes[INCIDENT_BYTES + 1];
    memset(bytes, 'x', sizeof(bytes));
    for (size_t n = INCIDENT_BYTES - 1; n <= INCIDENT_BYTES + 1; n++) {
        incident_show(&shard.ctx, INCIDENT_HTTP1, (struct span){bytes, n});
        note("a");
        incident_hide(&shard.ctx);
        cr_expect_eq(the("a")->n, MIN(n, (size_t)INCIDENT_BYTES));
        cr_expect_eq(the("a")->of, n);
        cr_expect_eq(the("a")->form, INCIDENT_HTTP1);
    }
    note("a");
    cr_expect_eq(the("a")->n, 0);
    cr_expect_eq(the("a")->form, INCIDENT_NOTHING);
    cr_expect_eq(the("a")->count, 4);
}

/* One kind more than there are places for: the oldest goes. */
Test(incident, kinds)
{
    static const char *const kinds[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};
    _Static_assert(ARRAY_LEN(kinds) == INCIDENT_KINDS + 1, "one more");
    for (size_t i = 0; i < INCIDENT_KINDS; i++) {
        note(kinds[i]);
        shard.parts.incidents.listeners[0][i].at = i == 3 ? 1 : 2;
    }
    note(kinds[INCIDENT_KINDS]);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        cr_expect_eq(find(kinds[i]) != NULL, i != 3, "kind %zu", i);
}

Test(incident, workers)
{
    const struct worker_incident *all = shard.parts.incidents.workers;
    char name[INCIDENT_NAME + 20];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    incident_note_worker(&shard.ctx, "p", name, SPAN("m"), NULL, "no JSON", -32002);
    incident_note_worker(&shard.ctx, "p", name, SPAN("other"), NULL, "no JSON", -32002);
    cr_expect_eq(all[0].count, 2);
    cr_expect_str_eq(all[0].method, "other");
    cr_expect_eq(strlen(all[0].worker), INCIDENT_NAME - 1);
    cr_expect_null(all[1].what);
    incident_note_worker(&shard.ctx, "p", name, (struct span){0}, "PUSH", "no JSON", 0);
    cr_expect_eq(all[1].count, 1);
    for (unsigned i = 0; i < INCIDENT_WORKERS; i++) {
        snprintf(name, sizeof(name), "w%u", i);
        incident_note_worker(&shard.ctx, "p", name, (struct span){0}, NULL, "no JSON", 0);
    }
    for (unsigned i = 0; i < INCIDENT_WORKERS; i++)
        cr_expect_eq(all[i].count, 1, "the last one of each");
}

/* Without memory nothing is kept, and all else goes on. */
Test(incident, no_memory)
{
    mem_fail_after(0);
    note("a");
    mem_fail_after(-1);
    cr_expect_null(shard.parts.incidents.listeners[0]);
    note("a");
    cr_expect_not_null(find("a"));
}
