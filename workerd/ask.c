/*
 * workerd_ask() pushes a request with the id TOKEN.NUMBER: by the token, which HELLO announces, the
 * front knows which worker a Response is for, and by the number we know which request. A Response
 * comes as a call of frontd.response: ask_answered() finds the request and ends it. Without a
 * Response it is ended by its time (asks_tick()), and by the end of the worker (asks_end()), to
 * which no front gives anything after its GOAWAY.
 */

#include "workerd/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/json_quote.h"
#include "proto/json_scan.h"
#include "workerd/worker.h"

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
    asks_add(asks, ask);
    worker_due(worker, ask->due);
    return 0;
}

/*
 * Reads the number from the id of a Response. Returns false where the id is none that we have made.
 */
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
    struct ask *ask = asks_find(asks, number);
    /* The id alone does not do: another client may send any. */
    if (ask != NULL && ask->conn.id == call->conn.id && ask->conn.front == call->conn.front)
        asks_answer(asks, ask, call_text(response));
    workerd_reply(call, "null", 4);
    return true;
}
