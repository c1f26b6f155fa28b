#pragma once

/*
 * libworkerd: workers for frontd, in C.
 *
 * A worker listens on one socket; each front dials it, and calls come in as frames (the worker
 * protocol, proto/PROTOCOL.md; "section n" below means it). This library speaks the protocol; what
 * is left to write is a handler for each method:
 *
 *     static void hello(struct workerd_call *call, void *data)
 *     {
 *         workerd_reply(call, "\"hello\"", 7);
 *     }
 *
 *     WORKERD_MODULE_EXPORT int workerd_module_init(struct workerd *w)
 *     {
 *         return workerd_method(w, "hello", hello, NULL);
 *     }
 *
 * Built as a shared object this is a module for the program `workerd`; a program of one's own calls
 * workerd_new(), workerd_method(), workerd_listen(), workerd_run() and workerd_free() instead.
 *
 * Threads. A worker is one thread with one libuv loop. Handlers and callbacks run in that thread
 * and must not block it. Functions are called from that thread too, save those whose description
 * says "from any thread".
 *
 * Errors. A function that returns int returns 0 (or what it says), or a negative errno.
 *
 * Text. What comes in is given as spans of the JSON as it was sent, valid JSON in UTF-8; it is not
 * NUL-terminated. What goes out is JSON text too.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WORKERD_API           __attribute__((visibility("default")))
#define WORKERD_MODULE_EXPORT __attribute__((visibility("default")))

struct uv_loop_s;

/* A worker: the loop, its socket, its channels and its methods. */
struct workerd;

/* One call in progress. It ends with exactly one workerd_reply…() or workerd_fail…(). */
struct workerd_call;

/* Bytes that somebody else owns. Absent: p NULL and n 0. */
struct workerd_text {
    const char *p;
    size_t n;
};

/* Handles one call, in the loop's thread. data: as given to workerd_method(). */
typedef void (*workerd_handler)(struct workerd_call *call, void *data);

/* What a module exports (see workerd_load()). */
WORKERD_MODULE_EXPORT int workerd_module_init(struct workerd *worker);

/*
 * A client connection that stays (section 9): `id`, as the front called `front` knows it, 0 where
 * there is none. It may be copied, kept for as long as one likes, and given to another worker by
 * these two numbers. `channel` is where the call came in: what is sent goes there as long as that
 * is open, and else on another channel of the same front.
 */
struct workerd_conn {
    uint64_t id;
    uint64_t front;
    uint64_t channel;
};

/* What a message to a client is (section 3). */
enum workerd_kind {
    WORKERD_JSON,   /* a JSON text; not checked */
    WORKERD_TEXT,   /* UTF-8, any text; not checked */
    WORKERD_BINARY, /* any bytes; a binary WebSocket message */
};

/* Called back with what was given along. */
typedef void (*workerd_callback)(void *data);

/* Error codes of JSON-RPC 2.0, and the customary one for a cancelled call (section 5). */
enum {
    WORKERD_INVALID_REQUEST = -32600,
    WORKERD_METHOD_NOT_FOUND = -32601,
    WORKERD_INVALID_PARAMS = -32602,
    WORKERD_INTERNAL_ERROR = -32603,
    WORKERD_CANCELLED = -32800,
};

/* ---- The worker ---- */

/* Makes a worker. The caller owns it and gives it back with workerd_free(). -ENOMEM. */
WORKERD_API int workerd_new(struct workerd **ret_worker);

/*
 * Frees a worker that is not running; accepts NULL. Calls that a thread still holds must have
 * ended: where workerd_run() returned -EBUSY, do not free, but exit.
 */
WORKERD_API void workerd_free(struct workerd *worker);

/* The library's version, such as "0.1.0". From any thread. Static text. */
WORKERD_API const char *workerd_version(void);

/* The name that HELLO announces (section 4); copied. Before workerd_run(). -ENOMEM. */
WORKERD_API int workerd_set_name(struct workerd *worker, const char *name);

/*
 * How many calls the worker wants in progress at once over all its channels (section 4); 0: no
 * limit; 1 unless set. The front keeps to it; a call above it is still executed. Before
 * workerd_run().
 */
WORKERD_API void workerd_set_concurrency(struct workerd *worker, uint32_t calls);

/*
 * The largest payload of a frame that is accepted, in bytes (section 2); 16 MiB unless set.
 * -EINVAL below 4,096. Before workerd_run().
 */
WORKERD_API int workerd_set_max_frame(struct workerd *worker, uint32_t bytes);

/*
 * Listens (section 1). A worker has one socket: -EALREADY where it has one.
 *
 * address: "unix:PATH" or "tcp://HOST:PORT" ("tcp://[::1]:7001"; port 0: any free one). The UNIX
 * socket has mode 0660 and is removed when the worker stops, if it is still the same one. A socket
 * file on which nobody answers is replaced; one in use (-EADDRINUSE), of another user (-EPERM), or
 * anything that is not a socket (-EEXIST) is left alone. -ENAMETOOLONG from 108 bytes on; -EINVAL
 * for another address; or what socket(2), bind(2), listen(2) say. Why is written to the log.
 */
WORKERD_API int workerd_listen(struct workerd *worker, const char *address);

/*
 * The same with a listening stream socket that is there already, as frontd and systemd pass it.
 * fd: consumed, on failure too. -EALREADY, -EINVAL for what is no listening stream socket.
 */
WORKERD_API int workerd_listen_fd(struct workerd *worker, int fd);

/*
 * The same with the socket that was passed to this process: by the worker that it replaces (see
 * workerd_handle_sigusr2()), or as descriptor 3 by frontd or systemd, as sd_listen_fds(3) says
 * (LISTEN_FDS=1; LISTEN_PID ours or not set). Returns 1 where there is one, 0 where none was
 * passed; -EALREADY; -EINVAL for another number of sockets, and as workerd_listen_fd(); -EPROTO
 * where the process that it replaces is not understood. Why is written to the log.
 */
WORKERD_API int workerd_listen_passed(struct workerd *worker);

/*
 * Loads a module: a shared object that exports
 *
 *     int workerd_module_init(struct workerd *worker);
 *
 * which registers its methods and returns 0, or a negative errno. The module stays loaded until the
 * process ends. -ENOENT where it cannot be loaded, -ENOEXEC without that function, or what that
 * returned. Why is written to the log.
 */
WORKERD_API int workerd_load(struct workerd *worker, const char *path);

/* From now on SIGTERM stops as workerd_stop() does; a second one, or SIGINT, as workerd_abort(). */
WORKERD_API int workerd_handle_signals(struct workerd *worker);

/*
 * From now on SIGUSR2 replaces this process: argv[0], found as execvp(3) does, is executed with
 * argv, in the folder that has the name then which the working directory has now ($PWD); it has to
 * call workerd_listen_passed() and workerd_run(). When it is about to serve, this worker stops as
 * workerd_stop() does; when it fails, this one serves on and the log has the reason. Also from now
 * on, where NOTIFY_SOCKET is set, systemd is told of start, stop and replacement.
 *
 * argv: ends with NULL; borrowed for as long as the worker lives. Before workerd_run(). -EINVAL
 * without argv[0], -EALREADY the second time, -ENOMEM.
 */
WORKERD_API int workerd_handle_sigusr2(struct workerd *worker, char *const *argv);

/*
 * Serves until the worker is stopped and every call has ended. Returns 0; -ENOTCONN without a
 * socket; -EBUSY after workerd_abort() while handlers still held calls (they must not end them any
 * more: the process should exit).
 */
WORKERD_API int workerd_run(struct workerd *worker);

/* Stops: GOAWAY on every channel, finishes what was taken, closes (section 7). From any thread. */
WORKERD_API void workerd_stop(struct workerd *worker);

/* Stops at once: closes the channels and cancels what is in progress. From the loop's thread. */
WORKERD_API void workerd_abort(struct workerd *worker);

/*
 * The libuv loop, for timers and other handles of one's own: close them from a callback that was
 * given to workerd_on_stop(). Borrowed.
 */
WORKERD_API struct uv_loop_s *workerd_loop(struct workerd *worker);

/*
 * Has `callback` called once when all calls have ended and before the loop closes, the last one
 * given first. It closes what the module opened. -ENOMEM.
 */
WORKERD_API int workerd_on_stop(struct workerd *worker, workerd_callback callback, void *data);

/*
 * Has `callback` called in the loop's thread, soon. Those posted by one thread are called in order.
 * From any thread, until workerd_run() has returned. -ENOMEM.
 */
WORKERD_API int workerd_post(struct workerd *worker, workerd_callback callback, void *data);

/*
 * Registers a method. An exact name goes before a pattern, and a longer pattern before a shorter.
 * HELLO announces them (section 4). Before workerd_run().
 *
 * pattern: an exact name, or a prefix that ends in '*' ("orders.*", "*"); copied.
 * handler: called for each call, with `data`, which is borrowed for as long as the worker lives.
 * -EINVAL for an empty pattern or a '*' inside, -EEXIST where it is registered, -ENOSPC after 256,
 * -ENOMEM.
 */
WORKERD_API int workerd_method(
    struct workerd *worker, const char *pattern, workerd_handler handler, void *data);

/* ---- Reading a call ----
 *
 * The texts are borrowed. They are valid until the handler returns; workerd_call_keep() has them
 * stay until the call ends. Afterwards (and where there is none) they are absent.
 */

/* Has the texts of the call stay until it ends, by copying them. In the handler only. -ENOMEM. */
WORKERD_API int workerd_call_keep(struct workerd_call *call);

/* The worker that the call is for. From any thread. */
WORKERD_API struct workerd *workerd_call_worker(const struct workerd_call *call);

/* The method's name, escapes resolved. */
WORKERD_API struct workerd_text workerd_call_method(const struct workerd_call *call);

/* The JSON value of params, an array or object; absent where there is none. */
WORKERD_API struct workerd_text workerd_call_params(const struct workerd_call *call);

/*
 * The JSON value of id: the client's, and not unique (section 5). The reply carries it without any
 * doing of the handler. It stays until the call ends, kept or not.
 */
WORKERD_API struct workerd_text workerd_call_id(const struct workerd_call *call);

/* The whole JSON-RPC request, byte for byte as the client sent it. */
WORKERD_API struct workerd_text workerd_call_body(const struct workerd_call *call);

/* The raw bytes that came along: of an HTTP request its body (section 8). */
WORKERD_API struct workerd_text workerd_call_blob(const struct workerd_call *call);

/* The context, a JSON object, or absent (section 5). */
WORKERD_API struct workerd_text workerd_call_meta(const struct workerd_call *call);

/*
 * The client's address from the context, such as "192.0.2.7:51412", NUL-terminated.
 * out, size: where it goes, bytes; 64 are enough for any address.
 * Returns its length, -ENOENT where the route does not ask for it, or -ENOSPC.
 */
WORKERD_API int workerd_call_peer(const struct workerd_call *call, char *out, size_t size);

/*
 * A header of the client's request that the route forwards (section 5), NUL-terminated.
 * name: in lower case. out, size: as above.
 * Returns its length, -ENOENT where it is not there, or -ENOSPC.
 */
WORKERD_API int workerd_call_header(
    const struct workerd_call *call, const char *name, char *out, size_t size);

/*
 * How much time is left until the front stops waiting, in ms (0: it is over), from the context's
 * deadline_ms; -1 where the route does not ask for it. Ask in the handler, or after
 * workerd_call_keep().
 */
WORKERD_API int64_t workerd_call_deadline(const struct workerd_call *call);

/* The call id on its channel (section 2): increasing and unique there. From any thread. */
WORKERD_API uint64_t workerd_call_number(const struct workerd_call *call);

/* The client connection that asked, id 0 where it does not stay (section 9). From any thread. */
WORKERD_API struct workerd_conn workerd_call_conn(const struct workerd_call *call);

/* A notification: ends like any other call, but nothing is sent (section 5). From any thread. */
WORKERD_API bool workerd_call_is_notification(const struct workerd_call *call);

/* The front may have given this call to another worker before (section 3). From any thread. */
WORKERD_API bool workerd_call_is_retry(const struct workerd_call *call);

/* The blob came as a binary WebSocket message (sections 3 and 9). From any thread. */
WORKERD_API bool workerd_call_is_binary(const struct workerd_call *call);

/* A pointer of the handler's own, for calls that are answered later; NULL at first. */
WORKERD_API void workerd_call_set_data(struct workerd_call *call, void *data);
WORKERD_API void *workerd_call_data(const struct workerd_call *call);

/* ---- Cancelling (section 5) ---- */

/*
 * Nobody waits for the answer any more: the client has gone, its deadline has passed, or the
 * channel has closed (that of a notification only if the front said no GOAWAY). The call must still
 * end; whatever it ends with, -32800 is sent. From any thread.
 */
WORKERD_API bool workerd_call_cancelled(const struct workerd_call *call);

/*
 * Has `callback` called once when the call is cancelled, at once where it is already. It may end
 * the call. It replaces the one given before; NULL takes it back.
 */
WORKERD_API void workerd_on_cancel(
    struct workerd_call *call, workerd_callback callback, void *data);

/* ---- Ending a call ----
 *
 * Each of these consumes the call, now or later, and whatever happens to its channel. They cannot
 * fail: a reply over the front's max_frame becomes error -32603, and a channel for whose output
 * there is no memory is closed. Of a notification nothing is sent.
 */

/* Ends the call with a result. result, n: a JSON text, bytes; copied. */
WORKERD_API void workerd_reply(struct workerd_call *call, const char *result, size_t n);

/* The same with raw bytes after it (section 2). blob, blob_n: bytes; copied. */
WORKERD_API void workerd_reply_blob(
    struct workerd_call *call, const char *result, size_t n, const void *blob, size_t blob_n);

/*
 * Ends the call with an error.
 * code: of JSON-RPC; message: plain UTF-8, NUL-terminated. data, n: a JSON text, or NULL; copied.
 */
WORKERD_API void workerd_fail(
    struct workerd_call *call, int64_t code, const char *message, const char *data, size_t n);

/*
 * The same from any thread (or from the loop's). What is given is copied before they return.
 * The handler that hands a call to a thread calls workerd_call_keep() first if that thread reads
 * its texts. -ENOMEM: nothing has happened, and the call is still the caller's to end.
 */
WORKERD_API int workerd_reply_from_thread(
    struct workerd_call *call, const char *result, size_t n, const void *blob, size_t blob_n);
WORKERD_API int workerd_fail_from_thread(
    struct workerd_call *call, int64_t code, const char *message, const char *data, size_t n);

/* ---- Connections that stay (section 9) ----
 *
 * What comes in are calls of four methods, registered with workerd_method() like any other:
 *
 *     frontd.connect     params {"conn","path","query","headers","peer"}: a client has come. A
 *                        notification on routes with `events: true`; with `connect: ask` a call,
 *                        and workerd_fail() refuses the client
 *     frontd.disconnect  params {"conn","code"}: it has gone; a notification
 *     frontd.message     a message on a route with `messages: raw`: workerd_call_blob(),
 *                        workerd_call_is_binary(); a notification, answered with workerd_push()
 *     frontd.response    params {"conn","response"}: on a route with `responses: true`, what a
 *                        client has answered to a request that was not sent by workerd_ask(), which
 *                        needs no handler; a notification
 *
 * workerd_call_conn() of each is the connection.
 *
 * What goes out is sent by the functions below. Sent about one connection they take effect in the
 * order sent, the reply to its call included: a client whose call is answered after
 * workerd_subscribe() gets what is published once it has the answer. What is published to one front
 * without `after` arrives in the order sent too. Where a front reloads, its channels end and others
 * begin, and the order stays, unless the front does not close a channel that it leaves for a second
 * (section 7). What is given is copied.
 *
 * From any thread. From another than the loop's, 0 means that the loop will send it, in the order
 * of that thread's calls (workerd_reply_from_thread() included); what it then cannot send is lost,
 * and the log says so.
 *
 * They return 0: it is on its way. To a client that has gone it is dropped by the front. Or:
 *
 *     -ENOTCONN  no channel is open, or none of the connection's front
 *     -EINVAL    conn.id is 0; a topic that is empty, over 255 bytes or not UTF-8; an empty JSON
 *                text; a bad close code or reason
 *     -EMSGSIZE  over the front's max_frame
 *     -ENOBUFS   4 MiB wait for a front that does not read (2 MiB, for other threads): nothing was
 *                sent; try again later, or drop it
 *     -ENOMEM
 */

/* Sends one message to one client. data, n: bytes (PUSH). */
WORKERD_API int workerd_push(struct workerd *worker, struct workerd_conn conn,
    enum workerd_kind kind, const void *data, size_t n);

/*
 * Sends one message to every client that is subscribed to a topic, on every front that is connected
 * (PUBLISH). Returns 0 if at least one front was sent it; an error only if none was.
 *
 * after: a connection, or NULL: on its channel, and so after what was sent about it before. The
 * client that was just subscribed gets the message too. topic: 1 to 255 bytes, NUL-terminated
 * UTF-8.
 */
WORKERD_API int workerd_publish(struct workerd *worker, const struct workerd_conn *after,
    const char *topic, enum workerd_kind kind, const void *data, size_t n);

/*
 * Has a client get what is published to a topic, until it is unsubscribed or goes (SUBSCRIBE). The
 * front limits how many topics a connection may have.
 */
WORKERD_API int workerd_subscribe(
    struct workerd *worker, struct workerd_conn conn, const char *topic);

/* Ends that. topic: NULL for all of them (UNSUBSCRIBE). */
WORKERD_API int workerd_unsubscribe(
    struct workerd *worker, struct workerd_conn conn, const char *topic);

/*
 * Closes a client's connection (DISCONNECT).
 * code: WebSocket close code: 1000 to 1003, 1007 to 1014, 3000 to 4999. reason: at most 123 bytes
 * of UTF-8, NUL-terminated, or NULL. Other connections than WebSockets are just closed.
 */
WORKERD_API int workerd_disconnect(
    struct workerd *worker, struct workerd_conn conn, unsigned code, const char *reason);

/*
 * Called back once, in the loop's thread, with what a client has answered.
 * response: the JSON-RPC Response, a JSON object with `result` or `error`, as the client sent it;
 * borrowed until it returns. Absent: none has come in time, or the worker stops. data: as given.
 */
typedef void (*workerd_answer)(struct workerd_text response, void *data);

/*
 * Sends a JSON-RPC request to a client, and waits for its Response (section 9). The client's route
 * has to say `responses: true`, and its pool has to take the method frontd.response. From the
 * loop's thread. A handler that waits for it does so by ending its call in `answered`.
 *
 * method: UTF-8, NUL-terminated. params, n: a JSON array or object, or NULL and 0; copied, not
 * checked. timeout_ms: how long at most. answered: called unless this function fails; `data` is
 * borrowed until then. Fails as workerd_push() does; -ESHUTDOWN where the worker stops.
 */
WORKERD_API int workerd_ask(struct workerd *worker, struct workerd_conn conn, const char *method,
    const char *params, size_t n, uint64_t timeout_ms, workerd_answer answered, void *data);

/* ---- HTTP (section 8) ---- */

/* An HTTP request as the params of method http.request say it; its body is workerd_call_blob(). */
struct workerd_http {
    struct workerd_text method; /* "GET" */
    struct workerd_text scheme; /* "https" */
    struct workerd_text authority;
    struct workerd_text path;  /* begins with '/' */
    struct workerd_text query; /* without its '?' */
};

struct workerd_header {
    const char *name;  /* lower case, NUL-terminated */
    const char *value; /* NUL-terminated */
};

/*
 * Reads an HTTP request. The texts have their escapes resolved and are valid as those of the call
 * are. In the handler only, or after workerd_call_keep(). -EINVAL where the params have no string
 * `method` and `path`; -ENOMEM.
 */
WORKERD_API int workerd_http_read(struct workerd_call *call, struct workerd_http *ret_request);

/*
 * The first header of that name, NUL-terminated. name: in lower case. out, size: where it goes.
 * Returns its length, -ENOENT where it is not there, or -ENOSPC.
 */
WORKERD_API int workerd_http_header(
    const struct workerd_call *call, const char *name, char *out, size_t size);

/*
 * Ends the call with an HTTP response. status: 200 to 599. headers, count: borrowed during the
 * call. body, n: bytes; copied. The front adds content-length and what belongs to the connection.
 */
WORKERD_API void workerd_http_reply(struct workerd_call *call, unsigned status,
    const struct workerd_header *headers, size_t count, const void *body, size_t n);

/* ---- JSON: enough for most params, without a tree ----
 *
 * The texts are values that came with a call, or parts of them. From any thread.
 */

/* The value of an object's member; absent where there is none, or the text is no object. */
WORKERD_API struct workerd_text workerd_json_member(struct workerd_text object, const char *key);

/*
 * The elements of an array, one after the other. at: 0 at first, and then as it was left.
 * False after the last one, or where the text is no array.
 */
WORKERD_API bool workerd_json_next(
    struct workerd_text array, size_t *at, struct workerd_text *ret_value);

/* A number without fraction and exponent. -EINVAL for anything else, -ERANGE beyond 64 bits. */
WORKERD_API int workerd_json_integer(struct workerd_text value, int64_t *ret_integer);

/* Any number. -EINVAL for anything else, -ERANGE where it is too large. */
WORKERD_API int workerd_json_double(struct workerd_text value, double *ret_number);

/*
 * A string, escapes resolved, NUL-terminated. size: bytes at `out`; value.n of them are enough.
 * Returns its length (it may have NULs inside), -EINVAL for what is no string, or -ENOSPC.
 */
WORKERD_API int workerd_json_string(struct workerd_text value, char *out, size_t size);

/*
 * Writes text as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. size:
 * bytes at `out`; n * 6 + 2 are enough. Returns its length, or -ENOSPC.
 */
WORKERD_API int64_t workerd_json_quote(const char *text, size_t n, char *out, size_t size);

#ifdef __cplusplus
}
#endif
