/*
 * workerd_ask() pushes a request whose id is TOKEN.NUMBER: by the token, which HELLO announces, the
 * front knows whose Response it is, and by the number we do. A Response comes as a call of
 * frontd.response; ask_answered() finds who waits for it, and tells them. Others that end it: its
 * time (asks_tick()), and the end of the worker, to which no front gives anything after its GOAWAY.
 */

#include "workerd/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/alloc.h"
#include "common/random.h"
#include "proto/json_quote.h"
#include "proto/json_scan.h"
#include "workerd/worker.h"

struct ask {
    struct idmap_node node; /* its id is the number */
    struct list link;       /* in asks->by_due */
    struct workerd_conn conn;
    uint64_t due; /* ms */
    workerd_answer answered;
    void *data;
};

int asks_init(struct asks *asks)
{
    random_hex(asks->token, (ASK_TOKEN_SIZE - 1) / 2);
    list_init(&asks->by_due);
    return idmap_init(&asks->pending);
}

/* The one place where it ends. */
static void end(struct asks *asks, struct ask *ask, struct workerd_text response)
{
    idmap_remove(&asks->pending, &ask->node);
    list_remove(&ask->link);
    ask->answered(response, ask->data);
    mem_free(ask);
}

void asks_end(struct asks *asks)
{
    while (asks->pending.count > 0)
        end(asks, list_first(&asks->by_due, struct ask, link), (struct workerd_text){NULL, 0});
}

void asks_deinit(struct asks *asks)
{
    if (asks->pending.buckets == NULL)
        return;
    asks_end(asks);
    idmap_deinit(&asks->pending);
}

uint64_t asks_tick(struct asks *asks, uint64_t now)
{
    while (asks->pending.count > 0) {
        struct ask *ask = list_first(&asks->by_due, struct ask, link);
        if (ask->due > now)
            return ask->due;
        end(asks, ask, (struct workerd_text){NULL, 0});
    }
    return UINT64_MAX;
}

/* Most have the same time, so that its place is at the end or near it. */
static void insert(struct asks *asks, struct ask *ask)
{
    struct list *after = asks->by_due.prev;
    while (after != &asks->by_due && container_of(after, struct ask, link)->due > ask->due)
        after = after->prev;
    list_append(after->next, &ask->link);
    idmap_add(&asks->pending, &ask->node);
}

static int write_request(struct buf *out, const struct asks *asks, uint64_t number,
    const char *method, const char *params, size_t n)
{
    int r = buf_printf(
        out, "{\"jsonrpc\":\"2.0\",\"id\":\"%s.%" PRIu64 "\",\"method\":", asks->token, number);
    if (r == 0)
        r = json_quote(out, method, strlen(method));
    if (r == 0 && n > 0)
        r = buf_append(out, ",\"params\":", 10);
    if (r == 0 && n > 0)
        r = buf_append(out, params, n);
    return r == 0 ? buf_append(out, "}", 1) : r;
}

int workerd_ask(struct workerd *worker, struct workerd_conn conn, const char *method,
    const char *params, size_t n, uint64_t timeout_ms, workerd_answer answered, void *data)
{
    struct asks *asks = &worker->asks;
    struct buf text = {0};
    if (worker->state != WORKER_RUNNING)
        return -ESHUTDOWN;
    struct ask *ask = mem_zalloc(sizeof(*ask));
    if (ask == NULL)
        return -ENOMEM;
    ask->node.id = ++asks->last;
    ask->conn = conn;
    ask->due = uv_now(&worker->loop) + timeout_ms;
    ask->answered = answered;
    ask->data = data;
    int r = write_request(&text, asks, ask->node.id, method, params, n);
    if (r == 0)
        r = workerd_push(worker, conn, WORKERD_JSON, buf_data(&text), buf_len(&text));
    buf_deinit(&text);
    if (r < 0) {
        mem_free(ask);
        return r;
    }
    insert(asks, ask);
    worker_due(worker, ask->due);
    return 0;
}

/* The number in an id of ours. */
static bool read_number(const struct asks *asks, struct span id, uint64_t *ret_number)
{
    char text[64];
    const size_t prefix = ASK_TOKEN_SIZE - 1;
    if (id.n < 2 || id.p[0] != '"' || id.n - 2 >= sizeof(text))
        return false;
    const size_t n = json_scan_unescape((struct span){id.p + 1, id.n - 2}, text);
    text[n] = '\0';
    if (n < prefix + 2 || memcmp(text, asks->token, prefix) != 0 || text[prefix] != '.')
        return false;
    char *after;
    *ret_number = strtoull(text + prefix + 1, &after, 10);
    return after == text + n;
}

bool ask_answered(struct workerd_call *call)
{
    struct asks *asks = &call->worker->asks;
    uint64_t number;
    const struct span response = jsonrpc_member(call->params, SPAN("response"));
    if (response.n == 0 || response.p[0] != '{' ||
        !read_number(asks, jsonrpc_member(response, SPAN("id")), &number))
        return false;
    struct idmap_node *node = idmap_find(&asks->pending, number);
    struct ask *ask = node == NULL ? NULL : container_of(node, struct ask, node);
    /* Another client may send anything. */
    if (ask != NULL && ask->conn.id == call->conn.id && ask->conn.front == call->conn.front)
        end(asks, ask, call_text(response));
    workerd_reply(call, "null", 4);
    return true;
}
