#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/moving.h"
#include "tests/unit/support/shardlet.h"

enum {
    TURNS = 14,      /* of a hand-over that nothing happens to, while workers push */
    TURNS_FEW = 10,  /* the same, where there are very many runs */
    TURNS_MAX = 200, /* until one that was cut is over */
    CALM_TURNS = 4,
    AFTER = 6,     /* turns until each side knows that it is cut */
    LATE_TURN = 8, /* when the last connection comes */
    BULK = 3000,   /* bytes of a push that is large */
};

/* What each is sent besides pushes, without a hand-over. */
static struct {
    size_t n;
    char bytes[MOVING_OUT_MAX];
} reference[MOVING_MAX];

static void listen_to_all(bool is_over)
{
    for (size_t i = 0; i < moving_count; i++) {
        const struct moving_kind *kind = moving_conns[i].kind;
        if (moving_conns[i].id != 0 && (is_over || !(kind->how == UNREAD || kind->how == SHUT)))
            moving_listen(&moving_conns[i]);
    }
}

/* Opening */

static void prepare(struct moving_conn *conn, const struct moving_plan *plan, unsigned index)
{
    conn->kind = index < plan->nkinds ? &plan->kinds[index] : plan->member;
    conn->speech = conn->kind->framing == WS_H2 ? &moving_over_h2
                   : plan->speech == NULL       ? &moving_plainly
                                                : plan->speech(index);
    conn->index = index;
    conn->id = 0;
    conn->lost = false;
    conn->n = conn->nexpected[OLD] = conn->nexpected[NEW] = 0;
}

static void open_all(const struct moving_plan *plan, const struct moving_run *run)
{
    moving_count = plan->nkinds + plan->crowd;
    cr_assert_leq(moving_count, (size_t)MOVING_MAX);
    for (unsigned i = 0; i < moving_count; i++) {
        struct moving_conn *conn = &moving_conns[i];
        prepare(conn, plan, i);
        if (conn->kind->how != LATE || run->fails >= 0)
            moving_open(conn);
    }
    for (int i = 0; i < 4; i++)
        pair_turn();
    for (size_t i = 0; i < moving_count; i++) {
        struct moving_conn *conn = &moving_conns[i];
        if (moving_takes_pushes(conn))
            moving_subscribe(conn);
        for (int k = 0; conn->kind->how == UNREAD && k < 8; k++)
            moving_push(OLD, conn, BULK);
    }
    pair_turn();
}

static void open_late(void)
{
    pair_settle(); /* what was published before that is not for it */
    for (size_t i = 0; i < moving_count; i++) {
        struct moving_conn *conn = &moving_conns[i];
        if (conn->kind->how == LATE && conn->id == 0) {
            moving_open(conn);
            moving_subscribe(conn);
        }
    }
}

/* What has become of them */

static unsigned count_in(const struct list *list, uint64_t id)
{
    unsigned n = 0;
    list_for_each (node, list) {
        const struct client *client = container_of(node, struct client, node);
        n += client->conn.id == id && !client->moving && !client->arriving;
    }
    return n;
}

static unsigned count_at(unsigned side, uint64_t id)
{
    const struct ctx *ctx = &sides[side].shardlet.ctx;
    return count_in(sides[side].clients, id) + count_in(&ctx->idle, id) +
           count_in(&ctx->unused, id) + count_in(&ctx->sender->kept, id);
}

static void meanwhile(void)
{
    for (size_t i = 0; i < moving_count; i++) {
        struct moving_conn *conn = &moving_conns[i];
        if (conn->id != 0 && conn->speech->meanwhile != NULL)
            conn->speech->meanwhile(conn);
    }
}

static void hand_over(const struct moving_plan *plan, const struct moving_run *run)
{
    bool crowded = run->fails < 0;
    pair_ends_when_cut(plan->keys);
    pair_cut_at(run->cut, run->at);
    mem_fail_after(run->fails);
    for (int i = 0; i < (run->fails < 0 ? TURNS : TURNS_FEW); i++) {
        if (i == 1 && !run->stays)
            pair_connect();
        if (i == 2 && !run->stays)
            pair_leave();
        if (i == LATE_TURN)
            open_late();
        moving_push_to_all(i % 2 == 0 ? OLD : NEW, crowded);
        pair_turn();
        meanwhile();
        if (i % 4 == 0)
            listen_to_all(false);
        if (i % 3 == 0)
            moving_push_to_all(NEW, crowded);
    }
}

/* Whether one may have been closed: where there was no memory for a push to it, or for what it
 * says. */
static bool may_be_closed(const struct moving_conn *conn, const struct moving_run *run)
{
    return moving_takes_pushes(conn) || (run->fails >= 0 && conn->speech->meanwhile != NULL);
}

/* Each connection is on one side, unless it was closed. */
static void check_sides(const struct moving_run *run, bool is_over, struct moving_result *result)
{
    for (size_t i = 0; i < moving_count; i++) {
        struct moving_conn *conn = &moving_conns[i];
        unsigned n = count_at(OLD, conn->id) + count_at(NEW, conn->id);
        cr_assert_leq(n, 1, "%s: on both sides", conn->kind->name);
        moving_listen(conn);
        cr_assert(n == 1 || may_be_closed(conn, run) || is_over, "%s: closed", conn->kind->name);
        if (n == 0)
            cr_assert(moving_is_closed(conn), "%s: open, but on no side", conn->kind->name);
        conn->lost |= n == 0 && !is_over;
        result->closed += n == 0;
    }
}

/* With another socket, until all are at the new shard. */
static void hand_the_rest_over(bool crowded)
{
    pair_cut_at(CUT_NEVER, 0);
    pair_connect();
    pair_leave();
    for (int i = 0; i < TURNS_MAX && pair_is_leaving(); i++) {
        moving_push_to_all(i % 2 == 0 ? OLD : NEW, crowded);
        pair_turn();
        listen_to_all(true);
    }
    for (size_t i = 0; i < moving_count; i++)
        cr_assert_eq(
            count_at(OLD, moving_conns[i].id), 0, "%s: still there", moving_conns[i].kind->name);
}

static void settle(void)
{
    pair_settle();
    for (int i = 0; i < CALM_TURNS; i++) {
        listen_to_all(true);
        pair_turn();
    }
}

static void check_rest(const struct moving_conn *conn)
{
    size_t i = conn->index;
    cr_assert(
        conn->nrest == reference[i].n && memcmp(conn->rest, reference[i].bytes, conn->nrest) == 0,
        "%s: %.*s", conn->kind->name, (int)conn->nrest, conn->rest);
}

static void check_answers(bool stays, struct moving_result *result)
{
    for (size_t i = 0; i < moving_count; i++) {
        struct moving_conn *conn = &moving_conns[i];
        bool over = conn->kind->how == SHUT || conn->kind->how == ENDING;
        bool whole = !moving_is_closed(conn) || (over && !conn->lost);
        if (whole)
            result->missed = MAX(result->missed, moving_check_pushes(conn));
        if (stays) {
            reference[i].n = conn->nrest;
            memcpy(reference[i].bytes, conn->rest, conn->nrest);
        } else if (whole) {
            check_rest(conn);
        }
        conn->speech->close(conn);
    }
}

static struct moving_result run_once(const struct moving_plan *plan, const struct moving_run *run)
{
    struct moving_result result = {0};
    struct moving_result ignored = {0};
    pair_open(MOVE_CONF);
    if (plan->begin != NULL)
        plan->begin();
    moving_forget_pushes();
    open_all(plan, run);
    hand_over(plan, run);
    result.failed = run->fails >= 0 && shardlet_has_failed(run->fails);
    for (int i = 0; i < TURNS_MAX && pair_is_leaving() && !pair_was_cut() && !run->stays; i++)
        pair_turn();
    for (int i = 0; i < AFTER; i++)
        pair_turn();
    result.cut = pair_was_cut();
    result.messages = pair_messages();
    check_sides(run, false, &result);
    settle();
    if (!run->stays)
        hand_the_rest_over(run->fails < 0);
    pair_settle(); /* a push that comes behind its connection's end is for none */
    for (size_t i = 0; i < moving_count; i++) {
        if (!moving_is_closed(&moving_conns[i]) && moving_conns[i].kind->how != SHUT)
            moving_conns[i].speech->after(&moving_conns[i]);
    }
    settle();
    check_sides(run, true, &ignored);
    check_answers(run->stays, &result);
    pair_settle();
    pair_close();
    return result;
}

static size_t open_before;
static size_t memory_before;

void moving_refer(const struct moving_plan *plan)
{
    const struct moving_run stays = {.stays = true, .fails = -1};
    struct moving_plan plain = *plan;
    plain.speech = NULL;
    plain.begin = NULL;
    pair_stop_clock();
    struct moving_result result = run_once(&plain, &stays);
    cr_assert(result.closed == 0 && result.missed == 0);
    open_before = open_count(); /* with what libuv keeps for the next loop */
    memory_before = mem_in_use();
}

void moving_end(void)
{
    pair_start_clock();
}

struct moving_result moving_run(const struct moving_plan *plan, const struct moving_run *run)
{
    struct moving_result result = run_once(plan, run);
    cr_assert_eq(open_count(), open_before, "descriptors");
    cr_assert_eq(
        mem_in_use(), memory_before, "memory: %zd bytes", (ssize_t)(mem_in_use() - memory_before));
    return result;
}

void moving_cut_everywhere(const struct moving_plan *plan, unsigned messages)
{
    for (enum cut cut = CUT_NOT_SENT; cut < CUTS; cut++) {
        struct moving_result result = {.cut = true};
        unsigned at = 0;
        while (result.cut) {
            const struct moving_run run = {.cut = cut, .at = ++at, .fails = -1};
            result = moving_run(plan, &run);
            cr_expect(result.closed == 0 && result.missed == 0, "%u at %u: %zu closed, %zu missed",
                cut, at, result.closed, result.missed);
        }
        cr_expect_gt(at, messages);
    }
}

void moving_fail_everywhere(const struct moving_plan *plan, long least)
{
    struct moving_result result = {.failed = true};
    long n = -1;
    while (result.failed) {
        const struct moving_run run = {.fails = ++n};
        result = moving_run(plan, &run);
        cr_expect(result.closed + result.missed <= 1, "%ld: %zu closed, %zu missed", n,
            result.closed, result.missed);
    }
    cr_expect_gt(n, least);
}
