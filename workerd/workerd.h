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
 * What is where, in this order:
 *
 *     version      WORKERD_VERSION, workerd_version()
 *     types        workerd_text, workerd_handler, workerd_conn, workerd_kind, error codes
 *     the worker   workerd_new(), …_set_…(), …_listen…(), …_load(), …_method(), …_run(), …_stop(),
 *                  …_stopping(), …_handle_signals(), …_handle_sigusr2(), …_loop(), …_post(),
 *                  …_on_stop()
 *     a call       workerd_call_…(): what was asked, by which client, until when
 *     cancelling   workerd_call_cancelled(), workerd_on_cancel()
 *     its end      workerd_reply…(), workerd_fail…(); before it workerd_progress()
 *     connections  workerd_push(), …_publish(), …_subscribe(), …_keep(), …_disconnect(), …_ask()
 *     HTTP         workerd_http_…()
 *     parts        workerd_method_parts(), workerd_took(), workerd_http_begin(), …_send(), …_end()
 *     JSON         workerd_json_…()
 *
 * Threads. A worker is one thread with one libuv loop. Handlers and callbacks run in that thread
 * and must not block it. Functions are called from that thread too, save those that say
 * "from any thread".
 *
 * Errors. A function that returns int returns 0 on success, unless its description says more, and
 * a negative errno on failure. The errors that a description names are those that it adds to this.
 *
 * Text. What comes in is given as spans of the JSON as it was sent, valid JSON in UTF-8; it is not
 * NUL-terminated. What goes out is JSON text too.
 *
 * Stability. The interface is what this header declares; of the library's names only those that
 * begin with workerd_ are visible. A new PATCH version changes nothing in it. A new MINOR version
 * adds to it, but while MAJOR is 0 it may change it too: then build modules and programs anew. From
 * 1.0.0 on, only a new MAJOR version will change or take away what is there, and the name of the
 * shared library changes with it. The structs that are passed here keep their size and members as
 * long as the interface does; struct workerd and struct workerd_call are opaque.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; that of the library is workerd_version(). */
#define WORKERD_VERSION_MAJOR 0
#define WORKERD_VERSION_MINOR 1
#define WORKERD_VERSION_PATCH 0
#define WORKERD_VERSION       "0.1.0"

#define WORKERD_API           __attribute__((visibility("default")))
#define WORKERD_MODULE_EXPORT __attribute__((visibility("default")))

struct uv_loop_s;

/* A worker: the loop, its socket, its channels and its methods. */
struct workerd;

/* One call in progress. It ends with exactly one workerd_reply…() or workerd_fail…(). */
struct workerd_call;

/* Bytes that are borrowed: each function says for how long. Absent: p is NULL and n is 0. */
struct workerd_text {
    const char *p;
    size_t n;
};

/* Handles one call, in the loop's thread. data: as given to workerd_method(). */
typedef void (*workerd_handler)(struct workerd_call *call, void *data);

/* What a module exports, see workerd_load(). Returns 0, or a negative errno to refuse the start. */
WORKERD_MODULE_EXPORT int workerd_module_init(struct workerd *worker);

/*
 * A client connection that stays (section 9): `id`, as the front called `front` knows it, 0 where
 * there is none. It may be copied, kept for any time, and given to another worker by these two
 * numbers. `channel` is where the call came in: what is sent goes there as long as that
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

/* Called back in the loop's thread. data: what was given along. */
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

/*
 * Makes a worker. The caller owns it and gives it back with workerd_free(). Returns 0; -ENOMEM; or
 * what libuv returns where it cannot make a loop, such as -EMFILE.
 */
WORKERD_API int workerd_new(struct workerd **ret_worker);

/*
 * Frees a worker that is not running; accepts NULL. Calls that a thread still holds must have
 * ended: where workerd_run() returned -EBUSY, do not free, but exit.
 */
WORKERD_API void workerd_free(struct workerd *worker);

/* Returns the library's version, such as "0.1.0": static text. From any thread. */
WORKERD_API const char *workerd_version(void);

/*
 * Sets the name that HELLO announces (section 4). Before workerd_run().
 * name: UTF-8, NUL-terminated; copied. Returns 0 or -ENOMEM.
 */
WORKERD_API int workerd_set_name(struct workerd *worker, const char *name);

/*
 * Sets how many calls the worker wants in progress at once over all its channels (section 4); 0
 * means no limit, and 1 it is unless set. The front keeps to it; a call above it is still executed.
 * Before workerd_run().
 */
WORKERD_API void workerd_set_concurrency(struct workerd *worker, uint32_t calls);

/*
 * Sets the largest payload of a frame that is accepted, in bytes (section 2); it is 16 MiB unless
 * set. Before workerd_run(). Returns 0, or -EINVAL for a number below 4,096.
 */
WORKERD_API int workerd_set_max_frame(struct workerd *worker, uint32_t bytes);

/*
 * Listens (section 1).
 *
 * address: "unix:PATH" or "tcp://HOST:PORT" ("tcp://[::1]:7001"; port 0: any free one). The UNIX
 * socket has mode 0660 and is removed when the worker stops, if it is still the same one.
 *
 * Returns 0, or the reason, which is in the log too:
 *
 *     -EALREADY      the worker has a socket: it has one at most
 *     -EADDRINUSE    another process listens on that path; a file that no process listens on is
 *                    replaced
 *     -EPERM         the socket file belongs to another user
 *     -EEXIST        there is something else than a socket
 *     -ENAMETOOLONG  the path has 108 bytes or more
 *     -EINVAL        it is no address
 *     others         what socket(2), bind(2) or listen(2) say
 */
WORKERD_API int workerd_listen(struct workerd *worker, const char *address);

/*
 * Listens on a stream socket that listens already, as frontd and systemd pass it.
 * fd: consumed, on failure too. Returns 0; -EALREADY where the worker has a socket; or -EINVAL for
 * what is no listening stream socket.
 */
WORKERD_API int workerd_listen_fd(struct workerd *worker, int fd);

/*
 * Listens on the socket that was passed to this process: by the worker that it replaces (see
 * workerd_handle_sigusr2()), or as descriptor 3 by frontd or systemd, as sd_listen_fds(3) says
 * (LISTEN_FDS=1; LISTEN_PID ours or not set).
 *
 * Returns 1 where there is one, 0 where none was passed, or the reason, which is in the log too:
 * -EALREADY where the worker has a socket; -EINVAL for another number of sockets, or for what is no
 * listening stream socket; -EPROTO where the process that it replaces is not understood.
 */
WORKERD_API int workerd_listen_passed(struct workerd *worker);

/*
 * Loads a module: a shared object that exports
 *
 *     int workerd_module_init(struct workerd *worker);
 *
 * which registers its methods and returns 0, or a negative errno. The module stays loaded until the
 * process ends. Returns 0; -ENOENT where it cannot be loaded; -ENOEXEC where it has no such
 * function; or what that has returned. The reason is written to the log.
 */
WORKERD_API int workerd_load(struct workerd *worker, const char *path);

/*
 * From now on SIGTERM stops as workerd_stop() does; a second one, or SIGINT, as workerd_abort().
 * Returns 0, or what libuv returns where it cannot watch a signal, such as -EMFILE.
 */
WORKERD_API int workerd_handle_signals(struct workerd *worker);

/*
 * From now on SIGUSR2 replaces this process: argv[0], found as execvp(3) does, is executed with
 * argv, in the folder that has the name then which the working directory has now ($PWD); it has to
 * call workerd_listen_passed() and workerd_run(). When it is about to serve, this worker stops as
 * workerd_stop() does; when it fails, this one serves on and the log has the reason. Also from now
 * on, where NOTIFY_SOCKET is set, systemd is told of start, stop and replacement.
 *
 * argv: ends with NULL; borrowed for as long as the worker lives. Before workerd_run(). Returns 0;
 * -EINVAL where argv[0] is missing; -EALREADY the second time; or what libuv returns where it
 * cannot watch a signal.
 */
WORKERD_API int workerd_handle_sigusr2(struct workerd *worker, char *const *argv);

/*
 * Serves until the worker is stopped and every call has ended; once per worker. Returns 0 then;
 * -ENOTCONN at once where the worker has no socket; -EBUSY after workerd_abort() while handlers
 * still held calls, which they must not end any more: the process should exit.
 */
WORKERD_API int workerd_run(struct workerd *worker);

/* Stops: GOAWAY on every channel, finishes what was taken, closes (section 7). From any thread. */
WORKERD_API void workerd_stop(struct workerd *worker);

/*
 * Returns whether the worker stops. It ends when its calls have, so an answer in parts that has no
 * end of its own is ended then. From the loop's thread.
 */
WORKERD_API bool workerd_stopping(const struct workerd *worker);

/* Stops at once: closes the channels and cancels what is in progress. From the loop's thread. */
WORKERD_API void workerd_abort(struct workerd *worker);

/*
 * Returns the libuv loop, for timers and other handles of one's own, which are closed from a
 * callback that was given to workerd_on_stop(). Borrowed for as long as the worker lives.
 */
WORKERD_API struct uv_loop_s *workerd_loop(struct workerd *worker);

/*
 * Has `callback` called once when all calls have ended and before the loop closes, the last one
 * given first. It closes what the module opened. Returns 0 or -ENOMEM.
 */
WORKERD_API int workerd_on_stop(struct workerd *worker, workerd_callback callback, void *data);

/*
 * Has `callback` called in the loop's thread, soon. Those posted by one thread are called in order.
 * From any thread, until workerd_run() has returned. Returns 0 or -ENOMEM.
 */
WORKERD_API int workerd_post(struct workerd *worker, workerd_callback callback, void *data);

/*
 * Registers a method. An exact name goes before a pattern, and a longer pattern before a shorter.
 * HELLO announces them (section 4). Before workerd_run().
 *
 * pattern: an exact name, or a prefix that ends in '*' ("orders.*", "*"); copied.
 * handler: called for each call, with `data`, which is borrowed for as long as the worker lives.
 * Returns 0; -EINVAL for an empty pattern, one with a '*' inside, or no handler; -EEXIST where the
 * pattern is registered already; -ENOSPC where 256 are; or -ENOMEM.
 */
WORKERD_API int workerd_method(
    struct workerd *worker, const char *pattern, workerd_handler handler, void *data);

/* ---- Reading a call ----
 *
 * The texts are borrowed. They are valid until the handler returns; workerd_call_keep() has them
 * stay until the call ends. Afterwards (and where there is none) they are absent.
 */

/*
 * Has the texts of the call stay until it ends, by copying them. In the handler only. Returns 0,
 * the second time too, or -ENOMEM.
 */
WORKERD_API int workerd_call_keep(struct workerd_call *call);

/* Returns the worker that the call is for. From any thread. */
WORKERD_API struct workerd *workerd_call_worker(const struct workerd_call *call);

/* Returns the method's name, its escapes resolved. */
WORKERD_API struct workerd_text workerd_call_method(const struct workerd_call *call);

/* Returns the JSON value of params, an array or object; absent where there is none. */
WORKERD_API struct workerd_text workerd_call_params(const struct workerd_call *call);

/*
 * Returns the JSON value of id: the client's, and not unique (section 5); "null" where there is
 * none. The reply carries it by itself. It stays until the call ends, kept or not.
 */
WORKERD_API struct workerd_text workerd_call_id(const struct workerd_call *call);

/* Returns the whole JSON-RPC request, byte for byte as the client sent it. */
WORKERD_API struct workerd_text workerd_call_body(const struct workerd_call *call);

/* Returns the raw bytes that came along: of an HTTP request its body (section 8). */
WORKERD_API struct workerd_text workerd_call_blob(const struct workerd_call *call);

/* Returns the context, a JSON object, or absent (section 5). */
WORKERD_API struct workerd_text workerd_call_meta(const struct workerd_call *call);

/*
 * Gets the client's address from the context, such as "192.0.2.7:51412", NUL-terminated.
 * out, size: where it goes, bytes; 64 are enough for any address.
 * Returns its length; -ENOENT where the route does not ask for it; or -ENOSPC where the room is too
 * small.
 */
WORKERD_API int workerd_call_peer(const struct workerd_call *call, char *out, size_t size);

/*
 * Gets a header of the client's request that the route forwards (section 5), NUL-terminated.
 * name: in lower case. out, size: where it goes, bytes.
 * Returns its length; -ENOENT where it is not there; or -ENOSPC where it does not fit.
 */
WORKERD_API int workerd_call_header(
    const struct workerd_call *call, const char *name, char *out, size_t size);

/*
 * Returns how many ms are left until the front stops waiting, from the context's deadline_ms: 0
 * when it is over, -1 where the route does not ask for it. In the handler, or after
 * workerd_call_keep().
 */
WORKERD_API int64_t workerd_call_deadline(const struct workerd_call *call);

/* Returns the call's number, increasing and unique on its channel (section 2). From any thread. */
WORKERD_API uint64_t workerd_call_number(const struct workerd_call *call);

/*
 * Returns the client's connection that the call came on; its id is 0 where it does not stay
 * (section 9). From any thread.
 */
WORKERD_API struct workerd_conn workerd_call_conn(const struct workerd_call *call);

/*
 * Returns whether it is a notification: it ends like any other call, but nothing is sent (section
 * 5). From any thread.
 */
WORKERD_API bool workerd_call_is_notification(const struct workerd_call *call);

/*
 * Returns whether the front may have given this call to another worker before (section 3). From any
 * thread.
 */
WORKERD_API bool workerd_call_is_retry(const struct workerd_call *call);

/*
 * Returns whether the blob came as a binary WebSocket message (sections 3 and 9). From any thread.
 */
WORKERD_API bool workerd_call_is_binary(const struct workerd_call *call);

/* Sets a pointer of the handler's own, for calls that are answered later. */
WORKERD_API void workerd_call_set_data(struct workerd_call *call, void *data);

/* Returns that pointer; NULL where none was set. */
WORKERD_API void *workerd_call_data(const struct workerd_call *call);

/* ---- Cancelling (section 5) ---- */

/*
 * Returns whether the answer is not waited for any more: the client has gone, its deadline has
 * passed, or the channel has closed (for a notification, only if the front said no GOAWAY). The
 * call must still end; whatever it ends with, -32800 is sent. From any thread.
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
 * fail: a reply over the front's max_frame becomes error -32603, and where there is no memory for
 * the output, the channel is closed. Of a notification nothing is sent.
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
 * its texts. They return 0, or -ENOMEM: then the call is still the caller's to end.
 */
WORKERD_API int workerd_reply_from_thread(
    struct workerd_call *call, const char *result, size_t n, const void *blob, size_t blob_n);
WORKERD_API int workerd_fail_from_thread(
    struct workerd_call *call, int64_t code, const char *message, const char *data, size_t n);

/*
 * Whether the client is told of the progress of the call (section 8). It stays so when the handler
 * has returned.
 */
WORKERD_API bool workerd_call_wants_progress(const struct workerd_call *call);

/*
 * Tells the client of progress before the call is ended (PUSH). kind: JSON or text, over HTTP no
 * binary message; data, n: bytes, copied. Where the client does not want it, nothing is sent. From
 * the loop's thread. Returns 0, or an error of workerd_push(): -ENOTCONN where the call's channel
 * has closed.
 */
WORKERD_API int workerd_progress(
    struct workerd_call *call, enum workerd_kind kind, const void *data, size_t n);

/* ---- Connections that stay (section 9) ----
 *
 * What comes in are calls of these methods, registered with workerd_method() like any other:
 *
 *     frontd.connect     params {"conn","path","query","headers","peer"}: a client has come. A
 *                        notification on routes with `events: true`; with `connect: ask` a call,
 *                        and workerd_fail() refuses the client
 *     frontd.disconnect  params {"conn","code"}: it has gone; a notification
 *     frontd.rebound     params {"conn","headers","peer"}: another worker had it; what was kept by
 *                        workerd_keep() is workerd_call_blob(); a notification
 *     frontd.message     a message on a route with `messages: raw`: workerd_call_blob(),
 *                        workerd_call_is_binary(); a notification, answered with workerd_push()
 *     frontd.response    params {"conn","response"}: on a route with `responses: true`, what a
 *                        client has answered to a request that was not sent by workerd_ask(), which
 *                        needs no handler; a notification
 *
 * workerd_call_conn() of each is the connection.
 *
 * What goes out is sent by the functions below. Sent about one connection they take effect in the
 * order sent, the reply to its call included: where a call is answered after workerd_subscribe(),
 * the client gets what is published once it has the answer. What is published to one front
 * without `after` arrives in the order sent too. Where a front reloads, its channels end and others
 * begin, and the order stays, unless the front does not close a channel that it leaves for a second
 * (section 7). What is given is copied.
 *
 * From any thread. From another than the loop's, 0 means that the loop will send it, in the order
 * of that thread's calls (workerd_reply_from_thread() included); what it then cannot send is lost,
 * and the log says so.
 *
 * They return 0 when it is on its way; for a client that has gone the front drops it. Or:
 *
 *     -ENOTCONN  no channel is open, or none of the connection's front
 *     -EINVAL    conn.id is 0; a topic that is empty, over 255 bytes or not UTF-8; an empty JSON
 *                text; a bad close code or reason
 *     -EMSGSIZE  over the front's max_frame
 *     -ENOBUFS   4 MiB wait for a front that does not read (2 MiB, for other threads): nothing was
 *                sent; try again later, or drop it
 *     -ENOMEM    there is no memory: in the loop's thread, the channel is closed
 */

/* Sends one message to one client (PUSH). data, n: what it is, in bytes; copied. */
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

/* Ends what workerd_subscribe() began (UNSUBSCRIBE). topic: NULL for all topics of the client. */
WORKERD_API int workerd_unsubscribe(
    struct workerd *worker, struct workerd_conn conn, const char *topic);

/*
 * Has the front keep `n` bytes with a connection, in place of those that it kept before (STATE); 0
 * ends that. The worker that gets the connection next is given them with frontd.rebound.
 * -EMSGSIZE: the front does not keep so many; it may keep none.
 */
WORKERD_API int workerd_keep(
    struct workerd *worker, struct workerd_conn conn, const void *state, size_t n);

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
 * checked. timeout_ms: how long it waits at most. answered: called unless this function fails;
 * `data` is borrowed until then. Returns 0; -ESHUTDOWN where the worker stops; or the errors of
 * workerd_push().
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

/* A header of a response. */
struct workerd_header {
    const char *name;  /* lower case, NUL-terminated */
    const char *value; /* NUL-terminated */
};

/*
 * Reads an HTTP request. The texts have their escapes resolved and are valid as those of the call
 * are. In the handler only, or after workerd_call_keep(). Returns 0; -EINVAL where the params have
 * no strings `method` and `path`; or -ENOMEM.
 */
WORKERD_API int workerd_http_read(struct workerd_call *call, struct workerd_http *ret_request);

/*
 * Gets the first header of that name, NUL-terminated.
 * name: in lower case. out, size: where it goes, bytes.
 * Returns its length; -ENOENT where it is not there; or -ENOSPC where it does not fit.
 */
WORKERD_API int workerd_http_header(
    const struct workerd_call *call, const char *name, char *out, size_t size);

/*
 * Ends the call with an HTTP response. status: 200 to 599. headers, count: borrowed during the
 * call. body, n: bytes; copied. The front adds content-length and what belongs to the connection.
 */
WORKERD_API void workerd_http_reply(struct workerd_call *call, unsigned status,
    const struct workerd_header *headers, size_t count, const void *body, size_t n);

/* ---- Bodies in parts (section 8) ----
 *
 * Of any length, in either direction, on routes of kind `http`. From the loop's thread; another one
 * has workerd_post().
 *
 * The client may go in the middle of either body, and nothing more is called back then but what
 * workerd_on_cancel() has set: handlers set it, and end the call there.
 */

enum {
    WORKERD_PART_MAX = 196608, /* bytes that workerd_http_send() takes at once */
};

/*
 * Called back with each part of a request's body, as it comes.
 * part: bytes; borrowed until it returns; absent where the end comes by itself. last: the body is
 * complete, and this is not called again. data: as given to workerd_method_parts(). It may end the
 * call: the rest of the body is thrown away then.
 */
typedef void (*workerd_part)(
    struct workerd_call *call, struct workerd_text part, bool last, void *data);

/*
 * Registers a method as workerd_method() does, for bodies in parts: `handler` is called with the
 * head of the request, and `part` after it, with the body. The body comes as the client sends it
 * where its route has `stream_body` and it is long or of unknown length; else as one part. For
 * methods of workerd_method() such a body is gathered first, up to max_frame.
 *
 * Returns what workerd_method() does; -EINVAL for no `part` too.
 */
WORKERD_API int workerd_method_parts(struct workerd *worker, const char *pattern,
    workerd_handler handler, workerd_part part, void *data);

/*
 * Says that so many bytes of the parts were used, so that the client may send as many more. With
 * 262,144 that are not, nothing more comes: what a handler keeps of a body is never more. n: bytes;
 * more than have come count as all of them.
 */
WORKERD_API void workerd_took(struct workerd_call *call, size_t n);

/*
 * Begins an HTTP answer whose body follows in parts; then workerd_http_send() sends them, and
 * workerd_http_end() ends the call. Any workerd_fail() or workerd_reply…() ends it too, and breaks
 * the answer off: the client is shown that it is not complete. So does the front where the length
 * is not that of a header content-length.
 *
 * status, headers, count: as workerd_http_reply(). on_room: called, with `data`, each time when
 * there is room again after the client or the front has read; or NULL. It may end the call.
 * Returns 0; or, with nothing sent, and the call still to be ended: -ECANCELED where it is
 * cancelled; -EALREADY; -EMSGSIZE over the front's max_frame; or -ENOMEM.
 */
WORKERD_API int workerd_http_begin(struct workerd_call *call, unsigned status,
    const struct workerd_header *headers, size_t count, workerd_callback on_room, void *data);

/*
 * Returns how many bytes workerd_http_send() takes now, at most WORKERD_PART_MAX; 0 where there is
 * no room or the call is cancelled.
 */
WORKERD_API size_t workerd_http_room(struct workerd_call *call);

/*
 * Sends more of an answer that was begun. part, n: bytes; copied. Returns 0; -ENOBUFS where there
 * is no room for all of it, and nothing was sent: `on_room` says when to try again; -EMSGSIZE over
 * WORKERD_PART_MAX; -EINVAL where the answer was not begun; -ECANCELED; or -ENOMEM, and then the
 * answer has to be broken off.
 */
WORKERD_API int workerd_http_send(struct workerd_call *call, const void *part, size_t n);

/* Ends the call: its answer in parts is complete. As above, it consumes the call and cannot fail.
 */
WORKERD_API void workerd_http_end(struct workerd_call *call);

/* ---- JSON: enough for most params, without a tree ----
 *
 * The texts are values that came with a call, or parts of them. From any thread.
 */

/* Returns the value of a member; absent where there is none, or the text is no object. */
WORKERD_API struct workerd_text workerd_json_member(struct workerd_text object, const char *key);

/*
 * Gets the elements of an array, one after the other. at: 0 at first, and then as it was left.
 * Returns false after the last one, or where the text is no array.
 */
WORKERD_API bool workerd_json_next(
    struct workerd_text array, size_t *at, struct workerd_text *ret_value);

/*
 * Reads a number without fraction and exponent. Returns 0; -EINVAL for anything else; or -ERANGE
 * where it is beyond 64 bits.
 */
WORKERD_API int workerd_json_integer(struct workerd_text value, int64_t *ret_integer);

/* Reads any number. Returns 0; -EINVAL for anything else; or -ERANGE where it is too large. */
WORKERD_API int workerd_json_double(struct workerd_text value, double *ret_number);

/*
 * Reads a string, its escapes resolved, NUL-terminated. size: bytes at `out`; value.n are enough.
 * Returns its length (it may have NULs inside); -EINVAL for what is no string; -ENOSPC where it
 * does not fit; or -ENOMEM, with less room only.
 */
WORKERD_API int workerd_json_string(struct workerd_text value, char *out, size_t size);

/*
 * Writes text as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. size:
 * bytes at `out`; n * 6 + 2 are enough. Returns its length; -ENOSPC where it does not fit; or
 * -ENOMEM, with less room only.
 */
WORKERD_API int64_t workerd_json_quote(const char *text, size_t n, char *out, size_t size);

#ifdef __cplusplus
}
#endif
