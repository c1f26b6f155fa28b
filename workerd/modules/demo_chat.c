/*
 * A chat, in rooms: what a worker does for clients that stay (protocol section 9). A room is a
 * topic, and nothing is kept here: the members of a room are known to the fronts alone.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "workerd/modules/demo.h"

enum {
    ROOM_MAX = 200, /* bytes, so that a topic has room for it */
    NICK_MAX = 100,
    TEXT_MAX = 4000,
    TOPIC_SIZE = sizeof("room:") + ROOM_MAX,
    QUOTED = 6, /* bytes of JSON that one byte may need */
    MESSAGE_SIZE = 256 + (ROOM_MAX + 2 * NICK_MAX + TEXT_MAX) * QUOTED,
};

struct line {
    char topic[TOPIC_SIZE];
    char text[TEXT_MAX + 1];
    struct workerd_text room; /* JSON, as it came */
    struct workerd_text name;
};

/* A string of 1 to `max` bytes without control characters, or false. */
static bool read_string(struct workerd_text value, char *out, size_t max)
{
    int n = workerd_json_string(value, out, max + 1);
    for (int i = 0; i < n; i++) {
        if ((unsigned char)out[i] < 0x20)
            return false;
    }
    return n > 0;
}

/* Reads room and name; the name goes to line->text. Ends the call where they are not there. */
static bool read_line(struct workerd_call *call, struct line *line)
{
    char room[ROOM_MAX + 1];
    line->room = demo_param(call, "room", 0);
    line->name = demo_param(call, "name", 1);
    if (!read_string(line->room, room, ROOM_MAX) ||
        !read_string(line->name, line->text, NICK_MAX)) {
        demo_invalid_params(call, "room and name are strings of 1 to 200 and 1 to 100 bytes");
        return false;
    }
    snprintf(line->topic, sizeof(line->topic), "room:%s", room);
    return true;
}

/* Publishes what was said, after what was sent about the connection before. Returns 0 or -errno. */
static int publish(struct workerd_call *call, const struct line *line)
{
    char message[MESSAGE_SIZE];
    char text[TEXT_MAX * QUOTED + 2];
    int64_t text_n = workerd_json_quote(line->text, strlen(line->text), text, sizeof(text));
    struct workerd_conn conn = workerd_call_conn(call);
    /* What came as JSON is at most six times as long as what it means, so all of it has room. */
    int n = snprintf(message, sizeof(message),
        "{\"jsonrpc\":\"2.0\",\"method\":\"chat\",\"params\":"
        "{\"room\":%.*s,\"name\":%.*s,\"text\":%.*s}}",
        (int)line->room.n, line->room.p, (int)line->name.n, line->name.p, (int)text_n, text);
    return workerd_publish(
        workerd_call_worker(call), &conn, line->topic, WORKERD_JSON, message, (size_t)n);
}

static void end(struct workerd_call *call, int r)
{
    if (r < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, strerror(-r), NULL, 0);
    else
        workerd_reply(call, "true", 4);
}

/* Joins or leaves, and tells the room. */
static void move(struct workerd_call *call, const char *what,
    int (*change)(struct workerd *worker, struct workerd_conn conn, const char *topic))
{
    struct line line;
    struct workerd_conn conn = workerd_call_conn(call);
    if (conn.id == 0) {
        demo_invalid_params(call, "only a connection that stays (WebSocket) can be in a room");
        return;
    }
    if (!read_line(call, &line))
        return;
    size_t used = strlen(line.text);
    snprintf(line.text + used, sizeof(line.text) - used, "%s", what);
    int r = change(workerd_call_worker(call), conn, line.topic);
    end(call, r < 0 ? r : publish(call, &line));
}

/* demo.join: {"room":…,"name":…}; the connection gets what is said there from now on. */
static void join(struct workerd_call *call, void *data)
{
    (void)data;
    move(call, " joined", workerd_subscribe);
}

/* demo.leave: the same, backwards. */
static void leave(struct workerd_call *call, void *data)
{
    (void)data;
    move(call, " left", workerd_unsubscribe);
}

/* demo.say: {"room":…,"name":…,"text":…}; from anywhere, plain HTTP too. */
static void say(struct workerd_call *call, void *data)
{
    (void)data;
    struct line line;
    if (!read_line(call, &line))
        return;
    if (!read_string(demo_param(call, "text", 2), line.text, TEXT_MAX))
        demo_invalid_params(call, "text is a string of 1 to 4000 bytes");
    else
        end(call, publish(call, &line));
}

/* frontd.message: a raw message, back to where it came from. */
static void echo(struct workerd_call *call, void *data)
{
    (void)data;
    struct workerd_text blob = workerd_call_blob(call);
    end(call, workerd_push(workerd_call_worker(call), workerd_call_conn(call),
                  workerd_call_is_binary(call) ? WORKERD_BINARY : WORKERD_TEXT, blob.p, blob.n));
}

enum { ASK_MS = 10 * 1000, METHOD_MAX = 200 };

/* What the client has answered becomes the answer of the call in which it was asked. */
static void on_asked(struct workerd_text response, void *data)
{
    struct workerd_call *call = data;
    char message[TEXT_MAX];
    int64_t code;
    struct workerd_text result = workerd_json_member(response, "result");
    struct workerd_text error = workerd_json_member(response, "error");
    if (result.n > 0) {
        workerd_reply(call, result.p, result.n);
    } else if (workerd_json_integer(workerd_json_member(error, "code"), &code) == 0 &&
               workerd_json_string(
                   workerd_json_member(error, "message"), message, sizeof(message)) >= 0) {
        struct workerd_text more = workerd_json_member(error, "data");
        workerd_fail(call, code, message, more.p, more.n);
    } else {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "no answer", NULL, 0);
    }
}

/* demo.ask: {"method":…,"params":…,"ms":…}; asks the client that calls, and gives it its own
 * answer. */
static void ask(struct workerd_call *call, void *data)
{
    struct workerd *worker = data;
    char method[METHOD_MAX];
    int64_t ms = ASK_MS;
    struct workerd_text params = demo_param(call, "params", 1);
    struct workerd_text most = demo_param(call, "ms", 2);
    if (workerd_json_string(demo_param(call, "method", 0), method, sizeof(method)) < 0 ||
        (params.n > 0 && params.p[0] != '{' && params.p[0] != '[') ||
        (most.n > 0 && (workerd_json_integer(most, &ms) < 0 || ms < 0))) {
        demo_invalid_params(call, "method is a string, params an object or array, ms a number");
        return;
    }
    int r = workerd_ask(
        worker, workerd_call_conn(call), method, params.p, params.n, (uint64_t)ms, on_asked, call);
    if (r < 0)
        workerd_fail(call, WORKERD_INTERNAL_ERROR, strerror(-r), NULL, 0);
}

int demo_chat_init(struct workerd *worker)
{
    int r = workerd_method(worker, "demo.join", join, NULL);
    if (r == 0)
        r = workerd_method(worker, "demo.say", say, NULL);
    if (r == 0)
        r = workerd_method(worker, "demo.leave", leave, NULL);
    if (r == 0)
        r = workerd_method(worker, "demo.ask", ask, worker);
    return r == 0 ? workerd_method(worker, "frontd.message", echo, NULL) : r;
}
