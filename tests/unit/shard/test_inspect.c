#include "frontd/shard/inspect/inspect.h"

#include <inttypes.h>

#include "common/alloc.h"
#include "frontd/shard/net/profile.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/session/duplex.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/inquiry.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"
#include "tests/unit/support/talk.h"

static struct shardlet shard;
static struct inquiry inquiry;
static struct account_observer *observers; /* that are always there */

static void set_up(void)
{
    fake_clock_stop(); /* ages stay what they are */
    shardlet_init(&shard, MOVE_CONF, 0);
    inquiry_open(&inquiry, &shard);
    observers = shard.ctx.account_observers;
}

static void tear_down(void)
{
    inquiry_close(&inquiry);
    shardlet_deinit(&shard);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

TestSuite(inspect, .init = set_up, .fini = tear_down);

/* The row of the connection among the answer's, or an empty span. */
static struct span row_of(struct span answer, const struct client *client)
{
    struct span rows = json_read_member(answer, "rows");
    struct span row;
    char id[24];
    snprintf(id, sizeof(id), "%" PRIu64, client->conn.id);
    for (size_t at = 0; json_read_next(rows, &at, &row);) {
        if (text_is(row, "id", id))
            return row;
    }
    return (struct span){0};
}

static size_t rows(struct span answer)
{
    return json_read_count(json_read_member(answer, "rows"));
}

static struct talk open_talk(const char *listener, struct span bytes)
{
    struct talk talk = talk_open(&shard, listener);
    say(&talk, bytes);
    return talk;
}

static void hang_up(struct talk *talk)
{
    client_doom(talk->client);
    shardlet_turn(&shard);
    close(talk->peer);
}

static void join(struct client *client, const char *topic)
{
    struct ctx *ctx = &shard.ctx;
    cr_assert_eq(topics_join(ctx->topics, client, &client->duplex->subscriptions,
                     client->duplex->route->realm, (struct span){topic, strlen(topic)}, 100),
        0);
}

Test(inspect, connections_of_all_kinds)
{
    struct talk talks[] = {
        open_talk("web", SPAN("GET / HT")),
        open_talk("web", SPAN(HANDSHAKE("h"))),
        open_talk("h2c", SPAN(H2_START H2_GET("\x01"))),
        open_talk("h2c", SPAN("")),
        open_talk("lines", SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}\n")),
        open_talk("frames", SPAN("")),
        open_talk("proxied", SPAN("PROXY ")),
    };
    static const char *const kinds[] = {
        "http1", "websocket", "http2", "new", "line", "frame", "proxy"};
    static const char *const listeners[] = {
        "web", "web", "h2c", "h2c", "lines", "frames", "proxied"};
    join(talks[1].client, "news");
    join(talks[1].client, "we\"ather");
    struct span answer = inquiry_answer(&inquiry, CTL_QUESTION_CONNS, "{}");
    cr_expect_eq(number_in(answer, "looked"), ARRAY_LEN(talks));
    cr_expect_eq(number_in(answer, "matched"), ARRAY_LEN(talks));
    cr_expect(json_is_true(json_read_member(answer, "complete")));
    cr_expect_eq(rows(answer), ARRAY_LEN(talks));
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        struct span row = row_of(answer, talks[i].client);
        cr_assert_gt(row.n, 0, "connection %zu", i);
        cr_expect(text_is(row, "protocol", kinds[i]), "%.*s", (int)row.n, row.p);
        cr_expect(text_is(row, "listener", listeners[i]));
        cr_expect(text_is(row, "peer", "192.0.2.7:13330"), "%.*s", (int)row.n, row.p);
        cr_expect(text_is(row, "state", "open"));
        cr_expect_eq(number_in(row, "age"), 0);
        cr_expect_eq(number_in(row, "calls"), i == 4);
        cr_expect_eq(number_in(row, "topics"), i == 1 ? 2 : 0);
        cr_expect_eq(json_read_member(row, "moving").n, 0);
    }
    cr_expect(text_is(row_of(answer, talks[1].client), "route", "/ws"));
    for (size_t i = 0; i < ARRAY_LEN(talks); i++)
        hang_up(&talks[i]);
}

Test(inspect, connections_are_filtered)
{
    struct talk old = open_talk("lines", SPAN("")), young = open_talk("frames", SPAN(""));
    struct talk web = open_talk("web", SPAN(HANDSHAKE("h")));
    uint64_t now = ctx_now(&shard.ctx) + ((1ULL << CLIENT_OPENED_BITS) - 1) * 1000;
    char of_id[64];
    old.client->opened = client_opened(now - 100 * 1000);
    young.client->opened = client_opened(now - 10 * 1000);
    old.client->active_at = ctx_now(&shard.ctx) - MIN(ctx_now(&shard.ctx), 5000ULL);
    join(old.client, "news/a");
    snprintf(of_id, sizeof(of_id), "{\"id\":\"%" PRIu64 "\"}", web.client->conn.id);
    enum { OLD = 1, YOUNG = 2, WEB = 4 };
    const struct {
        const char *params;
        unsigned who;
    } cases[] = {
        {"{\"listener\":\"lines\"}", OLD},
        {"{\"listener\":\"line\"}", 0},
        {"{\"protocol\":\"frame\"}", YOUNG},
        {"{\"route\":\"/ws\"}", WEB},
        {"{\"route\":\"/w\"}", 0},
        {"{\"topic\":\"news/a\"}", OLD},
        {"{\"topic\":\"news/\"}", 0},
        {"{\"age_min\":10}", OLD | YOUNG},
        {"{\"age_min\":11}", OLD},
        {"{\"age_min\":100}", OLD},
        {"{\"age_min\":101}", 0},
        {"{\"age_max\":10}", YOUNG | WEB},
        {"{\"age_max\":9}", WEB},
        {"{\"idle_min\":5}", OLD},
        {"{\"idle_min\":6}", 0},
        {"{\"calls_min\":1}", 0},
        {"{\"waiting_min\":1}", 0},
        {"{\"peer\":\"192.0.2.7\"}", OLD | YOUNG | WEB},
        {"{\"peer\":\"192.0.2.7:13330\"}", OLD | YOUNG | WEB},
        {"{\"peer\":\"192.0.2.7:13331\"}", 0},
        {"{\"peer\":\"192.0.2.0/24\"}", OLD | YOUNG | WEB},
        {"{\"peer\":\"192.0.3.0/24\"}", 0},
        {"{\"peer\":\"[::1]:13330\"}", 0},
        {"{\"peer\":\"::1\"}", 0},
        {"{\"peer\":\"unix\"}", 0},
        {of_id, WEB},
        {"{\"id\":\"1\"}", 0},
        {"{\"listener\":\"lines\",\"protocol\":\"frame\"}", 0},
        {"{\"unknown\":1}", OLD | YOUNG | WEB},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span answer = inquiry_answer(&inquiry, CTL_QUESTION_CONNS, cases[i].params);
        unsigned who = (row_of(answer, old.client).n > 0 ? OLD : 0) |
                       (row_of(answer, young.client).n > 0 ? YOUNG : 0) |
                       (row_of(answer, web.client).n > 0 ? WEB : 0);
        cr_expect_eq(who, cases[i].who, "%s: %u", cases[i].params, who);
        cr_expect_eq(number_in(answer, "looked"), 3);
        cr_expect_eq(number_in(answer, "matched"), (uint64_t)__builtin_popcount(cases[i].who));
    }
    hang_up(&old);
    hang_up(&young);
    hang_up(&web);
}

Test(inspect, connections_are_sorted_and_cut)
{
    struct talk talks[5];
    uint64_t now = ctx_now(&shard.ctx) + ((1ULL << CLIENT_OPENED_BITS) - 1) * 1000;
    static const unsigned ages[] = {30, 10, 50, 20, 40};
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        talks[i] = open_talk("lines", SPAN(""));
        talks[i].client->opened = client_opened(now - ages[i] * 1000);
        for (unsigned k = 0; k < i; k++)
            join(talks[i].client, (char[]){(char)('a' + k), '\0'});
    }
    for (unsigned limit = 1; limit <= 6; limit++) {
        char params[64];
        struct span row;
        uint64_t last = 60;
        snprintf(params, sizeof(params), "{\"sort\":\"age\",\"limit\":%u}", limit);
        struct span answer = inquiry_answer(&inquiry, CTL_QUESTION_CONNS, params);
        cr_expect_eq(rows(answer), MIN(limit, 5U));
        cr_expect_eq(number_in(answer, "matched"), 5);
        struct span list = json_read_member(answer, "rows");
        for (size_t at = 0; json_read_next(list, &at, &row); last -= 10)
            cr_expect_eq(number_in(row, "age"), last - 10);
    }
    struct span answer = inquiry_answer(
        &inquiry, CTL_QUESTION_CONNS, "{\"sort\":\"topics\",\"limit\":2}");
    cr_expect_gt(row_of(answer, talks[4].client).n, 0);
    cr_expect_gt(row_of(answer, talks[3].client).n, 0);
    for (size_t i = 0; i < ARRAY_LEN(talks); i++)
        hang_up(&talks[i]);
}

/* One that moves is told by the shard that it leaves, and by no other. */
Test(inspect, connections_that_move)
{
    struct talk talk = open_talk("lines", SPAN(""));
    client_freeze(talk.client);
    struct span answer = inquiry_answer(&inquiry, CTL_QUESTION_CONNS, "{}");
    cr_expect(json_is_true(json_read_member(row_of(answer, talk.client), "moving")));
    char params[64];
    snprintf(params, sizeof(params), "{\"id\":\"%" PRIu64 "\"}", talk.client->conn.id);
    cr_expect(text_is(inquiry_answer(&inquiry, CTL_QUESTION_KICK, params), "outcome", "moving"));
    client_thaw(talk.client);
    talk.client->arriving = true;
    answer = inquiry_answer(&inquiry, CTL_QUESTION_CONNS, "{}");
    cr_expect_eq(rows(answer), 0);
    cr_expect(text_is(inquiry_answer(&inquiry, CTL_QUESTION_KICK, params), "outcome", "moving"));
    talk.client->arriving = false;
    hang_up(&talk);
}

/* Clients are looked at a few in each step, and no turn looks at them for long. */
Test(inspect, many_connections)
{
    enum { MANY = 3 * QUESTION_STEP };
    static struct talk talks[MANY];
    struct question *question;
    for (size_t i = 0; i < MANY; i++)
        talks[i] = open_talk("lines", SPAN(""));
    uint64_t id = inquiry_ask(&inquiry, CTL_QUESTION_CONNS, "{\"limit\":1000}");
    question = list_first(&shard.parts.inspect.questions, struct question, node);
    cr_expect(inspect_unfinished(&shard.parts.inspect));
    cr_expect_eq(question->ops->step(question), QUESTION_MORE);
    for (size_t i = 0; i < MANY; i += 2) /* they come and go meanwhile */
        hang_up(&talks[i]);
    for (size_t i = 0; i < MANY; i += 2)
        talks[i] = open_talk("lines", SPAN(""));
    while (inquiry_told(&inquiry) != id)
        shardlet_step(&shard);
    struct span answer = {buf_data(&inquiry.text), buf_len(&inquiry.text)};
    for (size_t i = 1; i < MANY; i += 2)
        cr_expect_gt(row_of(answer, talks[i].client).n, 0, "connection %zu", i);
    cr_expect(!inspect_unfinished(&shard.parts.inspect));
    for (size_t i = 0; i < MANY; i++)
        hang_up(&talks[i]);
}

Test(inspect, topics)
{
    struct talk talks[4];
    for (size_t i = 0; i < ARRAY_LEN(talks); i++)
        talks[i] = open_talk("lines", SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        for (size_t k = 0; k <= i; k++)
            join(talks[i].client, (const char *[]){"news/all", "news/\xc3\xa4", "x", "news/"}[k]);
    }
    const struct {
        const char *params;
        const char *names[4];
        unsigned members;
    } cases[] = {
        {"{}", {"news/all", "news/\xc3\xa4", "x", "news/"}, 10},
        {"{\"prefix\":\"news/\"}", {"news/all", "news/\xc3\xa4", "news/"}, 8},
        {"{\"prefix\":\"news/\",\"limit\":2}", {"news/all", "news/\xc3\xa4"}, 8},
        {"{\"sort\":\"name\",\"limit\":2}", {"news/", "news/all"}, 10},
        {"{\"prefix\":\"y\"}", {NULL}, 0},
        {"{\"prefix\":\"news/all1\"}", {NULL}, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span answer = inquiry_answer(&inquiry, CTL_QUESTION_TOPICS, cases[i].params);
        struct span list = json_read_member(answer, "rows"), row;
        size_t n = 0;
        for (size_t at = 0; json_read_next(list, &at, &row); n++)
            cr_expect(cases[i].names[n] != NULL && text_is(row, "name", cases[i].names[n]),
                "case %zu: %.*s", i, (int)answer.n, answer.p);
        cr_expect(n == 4 || cases[i].names[n] == NULL, "case %zu", i);
        cr_expect_eq(number_in(answer, "members"), cases[i].members, "case %zu", i);
        cr_expect(json_is_true(json_read_member(answer, "complete")));
    }
    for (size_t i = 0; i < ARRAY_LEN(talks); i++)
        hang_up(&talks[i]);
}

static struct span kick(const struct talk *talk)
{
    char params[64];
    snprintf(params, sizeof(params), "{\"id\":\"%" PRIu64 "\"}", talk->client->conn.id);
    return inquiry_answer(&inquiry, CTL_QUESTION_KICK, params);
}

static bool is_closed(int peer)
{
    char byte;
    for (int i = 0; i < 4; i++)
        shardlet_turn(&shard);
    return recv(peer, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Connections that were counted as closed by an operator. */
static uint64_t kicked(void)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < shard.conf->nlisteners; i++) {
        const struct listener_words *words = counts_listener(&shard.ctx.counts, i);
        for (size_t p = 0; p < METRIC_PROTOCOL_COUNT; p++)
            n += words->closed[p * METRIC_REASON_COUNT + METRIC_REASON_KICK];
    }
    return n;
}

Test(inspect, kick)
{
    struct talk ws = open_talk("web", SPAN(HANDSHAKE("h")));
    struct talk http = open_talk("web", SPAN("POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Type: "
                                             "application/json\r\nContent-Length: 37\r\n\r\n"
                                             "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}"));
    struct talk idle = open_talk("web", SPAN(""));
    struct talk line = open_talk("lines", SPAN(""));
    struct talk h2 = open_talk("h2c", SPAN(H2_START));
    cr_expect(text_is(kick(&ws), "outcome", "kicked"));
    say(&ws, SPAN(""));
    cr_expect(has(&ws, "\x88\x17\x03\xf0"
                       "closed by an operator"),
        "1008");
    cr_assert_eq(ws.client->state, CLIENT_OPEN, "it has time to answer");
    cr_expect(text_is(kick(&ws), "outcome", "kicked"));
    cr_expect(is_closed(ws.peer), "but not twice");
    close(ws.peer);
    cr_expect_eq(http.client->calls, 1);
    cr_expect(text_is(kick(&http), "outcome", "kicked"));
    cr_expect(is_closed(http.peer));
    cr_expect(text_is(kick(&line), "outcome", "kicked"));
    cr_expect(is_closed(line.peer));
    h2.n = 0;
    cr_expect(text_is(kick(&h2), "outcome", "kicked"));
    say(&h2, SPAN(""));
    cr_assert_geq(h2.n, 17);
    cr_expect_eq(memcmp(h2.out + h2.n - 17, "\0\0\x08\x07\0\0\0\0\0", 9), 0, "GOAWAY");
    cr_expect_eq(memcmp(h2.out + h2.n - 4, "\0\0\0\0", 4), 0, "NO_ERROR");
    cr_expect(is_closed(h2.peer));
    cr_expect(text_is(kick(&idle), "outcome", "kicked"));
    cr_expect(is_closed(idle.peer));
    cr_expect(text_is(
        inquiry_answer(&inquiry, CTL_QUESTION_KICK, "{\"id\":\"7\"}"), "outcome", "not_found"));
    close(http.peer);
    close(line.peer);
    close(h2.peer);
    close(idle.peer);
    shardlet_turn(&shard);
    cr_expect_eq(kicked(), 5, "those that lingered are closed, too");
}

Test(inspect, wrong_questions)
{
    static const struct {
        enum ctl_question question;
        const char *params;
    } wrong[] = {
        {CTL_QUESTION_CONNS, ""},
        {CTL_QUESTION_CONNS, "{"},
        {CTL_QUESTION_CONNS, "{\"limit\":1001}"},
        {CTL_QUESTION_CONNS, "{\"limit\":-1}"},
        {CTL_QUESTION_CONNS, "{\"limit\":\"1\"}"},
        {CTL_QUESTION_CONNS, "{\"sort\":\"size\"}"},
        {CTL_QUESTION_CONNS, "{\"peer\":\"nobody\"}"},
        {CTL_QUESTION_CONNS, "{\"peer\":\"192.0.2.7:65536\"}"},
        {CTL_QUESTION_CONNS, "{\"peer\":7}"},
        {CTL_QUESTION_CONNS, "{\"protocol\":\"h3\"}"},
        {CTL_QUESTION_CONNS, "{\"id\":12}"},
        {CTL_QUESTION_CONNS, "{\"id\":\"0\"}"},
        {CTL_QUESTION_CONNS, "{\"id\":\"99999999999999999999\"}"},
        {CTL_QUESTION_TOPICS, "{\"sort\":\"age\"}"},
        {CTL_QUESTION_TOPICS, "{\"prefix\":[]}"},
        {CTL_QUESTION_KICK, "{}"},
        {CTL_QUESTION_KICK, "{\"id\":\"12x\"}"},
        {CTL_QUESTIONS, "{}"},
        {(enum ctl_question)UINT32_MAX, "{}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        uint64_t id = inquiry_ask(&inquiry, wrong[i].question, wrong[i].params);
        cr_assert_eq(inquiry_told(&inquiry), id, "question %zu", i);
        cr_expect(json_is_string(json_read_member(
                      (struct span){buf_data(&inquiry.text), buf_len(&inquiry.text)}, "error")),
            "question %zu", i);
        cr_expect(list_empty(&shard.parts.inspect.questions));
    }
}

/* So many at the same time, and one more; a question that is stopped is not answered. */
Test(inspect, many_questions)
{
    char params[64];
    struct talk talk = open_talk("lines", SPAN(""));
    uint64_t first = 0;
    for (unsigned i = 0; i < INSPECT_MAX; i++) {
        uint64_t id = inquiry_ask(&inquiry, CTL_QUESTION_CONNS, "{}");
        first = i == 0 ? id : first;
        cr_expect_eq(inquiry_told(&inquiry), 0);
    }
    uint64_t id = inquiry_ask(&inquiry, CTL_QUESTION_CONNS, "{}");
    cr_expect_eq(inquiry_told(&inquiry), id);
    cr_expect_neq(
        json_read_member((struct span){buf_data(&inquiry.text), buf_len(&inquiry.text)}, "error").n,
        0);
    snprintf(params, sizeof(params), "{\"of\":%" PRIu64 "}", first);
    inquiry_ask(&inquiry, CTL_QUESTION_STOP, params);
    cr_expect_eq(inquiry_told(&inquiry), 0);
    unsigned told = 0;
    for (int i = 0; i < 100; i++) {
        shardlet_step(&shard);
        while ((id = inquiry_told(&inquiry)) != 0) {
            cr_expect_neq(id, first);
            told++;
        }
    }
    cr_expect_eq(told, INSPECT_MAX - 1);
    hang_up(&talk);
}

/* Whatever allocation fails: there is an answer, or none, and nothing is lost. */
Test(inspect, no_memory)
{
    static const enum ctl_question questions[] = {
        CTL_QUESTION_CONNS, CTL_QUESTION_TOPICS, CTL_QUESTION_KICK};
    struct talk talks[3];
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        talks[i] = open_talk("lines", SPAN(""));
        join(talks[i].client, "news");
    }
    for (size_t q = 0; q < ARRAY_LEN(questions); q++) {
        for (long n = 0; n < 30; n++) {
            mem_fail_after(n);
            inquiry_ask(&inquiry, questions[q],
                "{\"id\":\"5\",\"peer\":\"192.0.2.7\",\"prefix\":\"n\",\"topic\":\"news\"}");
            for (int i = 0; i < 5; i++)
                shardlet_step(&shard);
            mem_fail_after(-1);
            for (int i = 0; i < 5; i++)
                shardlet_step(&shard);
            cr_expect(list_empty(&shard.parts.inspect.questions), "question %zu, %ld", q, n);
            while (inquiry_told(&inquiry) != 0)
                ;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(talks); i++)
        hang_up(&talks[i]);
}

/* The first that says `what` of a listener's incidents. */
static struct span incident_of(struct span answer, const char *listener, const char *what)
{
    struct span all = json_read_member(answer, "listeners"), one, incident;
    for (size_t at = 0; json_read_next(all, &at, &one);) {
        struct span refused = json_read_member(one, "refused");
        for (size_t k = 0;
             text_is(one, "listener", listener) && json_read_next(refused, &k, &incident);) {
            struct span text = json_read_member(incident, "what");
            if (memmem(text.p, text.n, what, strlen(what)) != NULL)
                return incident;
        }
    }
    return (struct span){0};
}

Test(inspect, errors)
{
    struct span answer = inquiry_answer(&inquiry, CTL_QUESTION_ERRORS, "{}");
    cr_expect_eq(json_read_count(json_read_member(answer, "listeners")), 0);
    struct talk bad = open_talk(
        "web", SPAN("GET /?token=abc HTTP/1.1\r\nCookie: a=b\r\nHost : h\r\n\r\n"));
    struct talk none = open_talk("web", SPAN("GET /none?password=x HTTP/1.1\r\nHost: h\r\n\r\n"));
    struct talk line = open_talk("lines", SPAN("{\"password\":\"abc\" 1}\n[]\n[]\n"));
    struct talk ws = open_talk("web", SPAN(HANDSHAKE("h") "\x83\x81\0\0\0\0secret"));
    answer = inquiry_answer(&inquiry, CTL_QUESTION_ERRORS, "{}");
    struct span one = incident_of(answer, "web", "its HTTP is wrong");
    cr_expect(text_is(one, "bytes",
                  "GET /?token=*** HTTP/1.1\\r\\nCookie:****\\r\\nHost : h\\r\\n\\r\\n"),
        "%.*s", (int)one.n, one.p);
    cr_expect_eq(number_in(one, "offset"), 43);
    cr_expect_eq(number_in(one, "count"), 1);
    cr_expect(text_is(one, "peer", "192.0.2.7:13330"));
    one = incident_of(answer, "web", "404");
    cr_expect(text_is(one, "bytes", "GET /none?password=* HTTP/1.1\\r\\nHost: h\\r\\n") ||
                  text_is(one, "bytes", "GET /none?password=*\\r\\nHost: h\\r\\n"),
        "%.*s", (int)one.n, one.p);
    one = incident_of(answer, "lines", "-32700");
    cr_expect(text_is(one, "bytes", "{\"password\":\"***\" 1}"), "%.*s", (int)one.n, one.p);
    cr_expect_eq(number_in(one, "offset"), 18);
    one = incident_of(answer, "lines", "-32600");
    cr_expect_eq(number_in(one, "count"), 2);
    cr_expect_eq(json_read_member(one, "offset").n, 0, "it is JSON");
    one = incident_of(answer, "web", "WebSocket");
    cr_expect(
        text_is(one, "bytes", "\\x83\\x81\\x00\\x00\\x00\\x00secret"), "%.*s", (int)one.n, one.p);
    hang_up(&line);
    hang_up(&none);
    close(bad.peer);
    close(ws.peer);
}

#define CALL(method, params)                                                                       \
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"" method "\",\"params\":" params "}\n"

/* The first call of the connection that is in progress is answered. */
static void answer_first(struct talk *talk, const char *result)
{
    char text[200];
    struct request *request = list_first(&talk->client->requests, struct request, node);
    int n = snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}", result);
    shardlet_answer(list_first(&request->calls, struct call, node), (struct span){text, (size_t)n},
        (struct span){0});
    say(talk, SPAN(""));
}

/* Lets time pass until the shard tells something. Returns it. */
static struct span told(void)
{
    uint64_t id = 0;
    for (int i = 0; id == 0 && i < 1000; i++) {
        fake_clock_advance(10);
        shardlet_turn(&shard);
        id = inquiry_told(&inquiry);
    }
    cr_assert_neq(id, 0, "it tells nothing");
    return (struct span){buf_data(&inquiry.text), buf_len(&inquiry.text)};
}

static struct span first_of(struct span array)
{
    struct span one = {0};
    size_t at = 0;
    json_read_next(array, &at, &one);
    return one;
}

Test(inspect, tap)
{
    char params[128];
    struct talk talk = open_talk("lines", SPAN("")), other = open_talk("lines", SPAN(""));
    snprintf(params, sizeof(params),
        "{\"conn\":\"%" PRIu64 "\",\"method\":\"a.*\",\"bodies\":true}", talk.client->conn.id);
    uint64_t id = inquiry_ask(&inquiry, CTL_QUESTION_TAP, params);
    cr_expect_neq(shard.ctx.account_observers, observers);
    say(&talk, SPAN(CALL("a.b", "{\"token\":\"abc\",\"x\":1}")));
    say(&talk, SPAN(CALL("b.a", "[]")));
    say(&other, SPAN(CALL("a.b", "[]")));
    answer_first(&talk, "{\"password\":1}");
    answer_first(&talk, "2");
    answer_first(&other, "3");
    struct span part = told();
    cr_expect(inquiry.more);
    cr_expect_eq(number_in(part, "seen"), 1, "%.*s", (int)part.n, part.p);
    struct span calls = json_read_member(part, "calls");
    cr_expect_eq(json_read_count(calls), 1);
    struct span call = first_of(calls);
    cr_expect(text_is(call, "method", "a.b"));
    cr_expect(text_is(call, "code", "ok"));
    cr_expect(text_is(call, "class", "call"));
    cr_expect(text_is(call, "pool", "app"));
    cr_expect(text_is(call, "request",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a.b\",\"params\":{\"token\":\"***\",\"x\":1}"
        "}"));
    cr_expect(
        text_is(call, "answer", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"password\":*}}"));
    snprintf(params, sizeof(params), "{\"of\":%" PRIu64 "}", id);
    inquiry_ask(&inquiry, CTL_QUESTION_STOP, params);
    cr_expect_eq(shard.ctx.account_observers, observers, "nothing is paid any more");
    hang_up(&talk);
    hang_up(&other);
}

/* It ends after a number of lines, and after a time; more than there is room for is counted. */
Test(inspect, tap_is_bounded)
{
    struct talk talk = open_talk("lines", SPAN(""));
    inquiry_ask(&inquiry, CTL_QUESTION_TAP, "{\"count\":2,\"failed\":true}");
    for (int i = 0; i < 4; i++) {
        say(&talk, SPAN(CALL("a", "[]")));
        if (i == 0)
            answer_first(&talk, "1"); /* which has not failed */
        else
            request_abandon_all(talk.client);
    }
    struct span part = told();
    cr_expect_eq(json_read_count(json_read_member(part, "calls")), 2);
    cr_expect(text_is(first_of(json_read_member(part, "calls")), "code", "cancelled"));
    part = told();
    cr_expect(!inquiry.more);
    cr_expect_eq(number_in(part, "seen"), 3);
    cr_expect_eq(shard.ctx.account_observers, observers);
    /* Bodies of more than TAP_TEXT_MAX, before any of it is told. */
    enum { CALLS = 300, BODY = 1000 };
    static char line[BODY + 200];
    static char big[BODY];
    memset(big, 'x', sizeof(big) - 1);
    int n = snprintf(line, sizeof(line), CALL("a", "[\"%s\"]"), big);
    inquiry_ask(&inquiry, CTL_QUESTION_TAP, "{\"bodies\":true}");
    for (int i = 0; i < CALLS; i++) {
        say(&talk, (struct span){line, (size_t)n});
        request_abandon_all(talk.client);
    }
    part = told();
    size_t lines = json_read_count(json_read_member(part, "calls"));
    cr_expect(inquiry.more && lines > 200 && lines < CALLS);
    cr_expect_eq(number_in(part, "seen"), CALLS);
    cr_expect_eq(number_in(part, "dropped"), CALLS - lines);
    hang_up(&talk);
}

Test(inspect, rates)
{
    struct talk talk = open_talk("lines", SPAN("")), other = open_talk("lines", SPAN(""));
    inquiry_ask(&inquiry, CTL_QUESTION_CONNS, "{\"sort\":\"rate\",\"measure_ms\":50,\"limit\":1}");
    cr_expect_neq(shard.ctx.account_observers, observers);
    shardlet_step(&shard);
    cr_expect(!inspect_unfinished(&shard.parts.inspect), "the loop may wait meanwhile");
    for (int i = 0; i < 10; i++) {
        say(&talk, SPAN(CALL("a", "[]")));
        answer_first(&talk, "1");
        say(&talk, SPAN("{\n"));
    }
    say(&other, SPAN(CALL("a", "[]")));
    answer_first(&other, "1");
    struct span answer = told();
    cr_expect_eq(rows(answer), 1);
    struct span row = row_of(answer, talk.client);
    cr_assert_gt(row.n, 0, "%.*s", (int)answer.n, answer.p);
    cr_expect_eq(number_in(row, "calls_per_s"), 200);
    cr_expect_eq(number_in(row, "requests_per_s"), 400);
    cr_expect_eq(number_in(row, "bytes_per_s"), 200 * strlen(CALL("a", "[]")));
    cr_expect_eq(shard.ctx.account_observers, observers);
    answer = inquiry_answer(&inquiry, CTL_QUESTION_CONNS, "{}");
    cr_expect_eq(json_read_member(row_of(answer, talk.client), "calls_per_s").n, 0);
    hang_up(&talk);
    hang_up(&other);
}

Test(inspect, profile)
{
    struct talk talk = open_talk("lines", SPAN(""));
    cr_expect_null(profile_now);
    inquiry_ask(&inquiry, CTL_QUESTION_PROFILE, "{\"for\":1}");
    cr_expect_not_null(profile_now);
    inquiry_ask(&inquiry, CTL_QUESTION_PROFILE,
        "{\"for\":2}"); /* of two shorter ones neither ends the other */
    profile_enter(PROFILE_READING);
    fake_clock_advance(300);
    profile_enter(PROFILE_TLS);
    fake_clock_advance(200);
    profile_enter(PROFILE_WAITING);
    profile_enter(PROFILE_WAITING);
    struct span answer = told();
    struct span ns = json_read_member(answer, "ns");
    cr_expect_eq(number_in(ns, "reading"), 300000000, "%.*s", (int)answer.n, answer.p);
    cr_expect_eq(number_in(ns, "tls"), 200000000);
    cr_expect_geq(number_in(answer, "whole_ns"), 1000000000);
    cr_expect_eq(number_in(answer, "turns"), 1);
    cr_expect_not_null(profile_now);
    answer = told();
    cr_expect_geq(number_in(answer, "whole_ns"), 2000000000);
    cr_expect_null(profile_now, "nothing is paid any more");
    hang_up(&talk);
}

/* The line of the config in which that stands first. */
static uint64_t line_of(const char *text)
{
    static const char text_of_conf[] = MOVE_CONF;
    uint64_t line = 1;
    const char *at = strstr(text_of_conf, text);
    cr_assert_not_null(at);
    for (const char *p = text_of_conf; p < at; p++)
        line += *p == '\n';
    return line;
}

/* What is said of a request is what is done with it: here only that the answer has it. */
Test(inspect, explain)
{
    struct talk talk = open_talk("lines", SPAN(""));
    struct span answer = inquiry_answer(&inquiry, CTL_QUESTION_EXPLAIN,
        "{\"method\":\"POST\",\"path\":\"/rpc?x=1\",\"rpc\":\"a.b\",\"listener\":\"web\"}");
    struct span one = first_of(json_read_member(answer, "listeners"));
    cr_expect_eq(json_read_count(json_read_member(answer, "listeners")), 1);
    cr_expect(text_is(one, "listener", "web"), "%.*s", (int)answer.n, answer.p);
    cr_expect_eq(number_in(one, "line"), line_of("name: web"));
    cr_expect(text_is(json_read_member(one, "route"), "path", "/rpc"));
    cr_expect_eq(number_in(json_read_member(one, "route"), "line"), line_of("path: /rpc"));
    cr_expect(text_is(json_read_member(one, "pool"), "name", "app"));
    cr_expect(text_is(json_read_member(one, "pool"), "pattern", "*"));
    cr_expect_eq(number_in(json_read_member(one, "pool"), "line"), line_of("{name: app"));
    const struct {
        const char *params;
        const char *refused;
    } cases[] = {
        {"{\"method\":\"GET\",\"path\":\"/rpc\",\"listener\":\"web\"}", "405 Method Not Allowed"},
        {"{\"method\":\"POST\",\"path\":\"/none\",\"listener\":\"web\"}", "404 Not Found"},
        {"{\"method\":\"POST\",\"path\":\"/../..\",\"listener\":\"web\"}", "400 Bad Request"},
        {"{\"method\":\"POST\",\"path\":\"nowhere\",\"listener\":\"web\"}", "400 Bad Request"},
        {"{\"rpc\":\"frontd.connect\",\"listener\":\"lines\"}",
            "-32601: no client may call a method of this name"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        answer = inquiry_answer(&inquiry, CTL_QUESTION_EXPLAIN, cases[i].params);
        one = first_of(json_read_member(answer, "listeners"));
        cr_expect(text_is(one, "refused", cases[i].refused), "%s: %.*s", cases[i].params,
            (int)answer.n, answer.p);
    }
    answer = inquiry_answer(&inquiry, CTL_QUESTION_EXPLAIN,
        "{\"method\":\"GET\",\"path\":\"/ws\",\"host\":\"events.test\",\"listener\":\"web\"}");
    one = first_of(json_read_member(answer, "listeners"));
    cr_expect_eq(number_in(json_read_member(one, "route"), "line"), line_of("host: events.test"),
        "%.*s", (int)answer.n, answer.p);
    cr_expect(text_is(first_of(json_read_member(one, "pools")), "name", "app"));
    inquiry_ask(
        &inquiry, CTL_QUESTION_EXPLAIN, "{\"method\":\"GET\",\"path\":\"/ HTTP/1.1\\r\\nX: y\"}");
    cr_assert_gt(inquiry_told(&inquiry), 0);
    cr_expect(json_is_true(
        json_read_member((struct span){buf_data(&inquiry.text), buf_len(&inquiry.text)}, "wrong")));
    hang_up(&talk);
}

static unsigned steps, steps_wanted;
static uint64_t step_ms; /* that each step takes */

static int begin_nothing(struct question *question, struct span params)
{
    (void)question;
    (void)params;
    return 0;
}

static enum question_step take_time(struct question *question)
{
    fake_clock_advance(step_ms);
    if (++steps < steps_wanted)
        return QUESTION_MORE;
    json_begin(&question->answer, NULL, '{');
    json_end(&question->answer, '}');
    return QUESTION_ANSWERED;
}

/* Questions have a bounded time of each turn, whatever they are; what is quick is done in one. */
Test(inspect, turns_are_bounded)
{
    static const struct question_ops ops = {.begin = begin_nothing, .step = take_time};
    static const struct question_ops *const all[CTL_QUESTIONS] = {[CTL_QUESTION_CONNS] = &ops};
    const struct question_ops *const *before = shard.parts.inspect.ops;
    shard.parts.inspect.ops = all;
    steps_wanted = 10;
    for (step_ms = 0; step_ms <= 1; step_ms++) {
        steps = 0;
        inquiry_ask(&inquiry, CTL_QUESTION_CONNS, "{}");
        for (unsigned turn = 1; turn <= (step_ms == 0 ? 1 : steps_wanted); turn++) {
            cr_expect_eq(inquiry_told(&inquiry), 0);
            shardlet_step(&shard);
            cr_expect_eq(steps, step_ms == 0 ? steps_wanted : turn, "turn %u", turn);
            cr_expect_eq(inspect_unfinished(&shard.parts.inspect), steps < steps_wanted);
        }
        cr_expect_gt(inquiry_told(&inquiry), 0);
    }
    shard.parts.inspect.ops = before;
}

/* An answer that has no room is sent again, for a while. */
Test(inspect, answers_wait_for_room)
{
    struct ctl_message message = {0};
    unsigned sent = 0;
    while (ctl_send(inquiry.ends[1], CTL_READY, &message, NULL, 0) == 0)
        sent++;
    inquiry_ask(&inquiry, CTL_QUESTION_TOPICS, "{}");
    shardlet_turn(&shard);
    cr_expect_eq(shard.parts.inspect.count, 1);
    for (; sent > 0; sent--) {
        int fds[FDPASS_FDS_MAX];
        size_t nfds;
        cr_assert_eq(ctl_receive(inquiry.ends[0], &message, fds, &nfds), 0);
    }
    struct span answer = told();
    cr_expect_eq(rows(answer), 0);
    cr_expect_eq(shard.parts.inspect.count, 0);
    while (ctl_send(inquiry.ends[1], CTL_READY, &message, NULL, 0) == 0)
        ;
    inquiry_ask(&inquiry, CTL_QUESTION_TOPICS, "{}");
    for (uint64_t ms = 0; ms <= INSPECT_GIVE_UP_MS + 1000; ms += 100) {
        fake_clock_advance(100);
        shardlet_turn(&shard);
    }
    cr_expect_eq(shard.parts.inspect.count, 0, "it is given up");
}
