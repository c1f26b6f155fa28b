/*
 * begin() keeps what is known of a request now and will be gone later: its head. What
 * its calls were is added as they end (on_call()), what became of it when it ends (on_request()).
 * Whichever is last writes the line: a call may end after its request (a batch whose client has
 * gone), and is told of after it.
 */

#include "frontd/shard/request/access_log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "frontd/shard/upstream/mark.h"
#include "frontd/shard/upstream/worker.h"

enum {
    US_A_MS = 1000,
    WAIT_MS = 50,  /* of a line for others */
    ENOUGH = 8192, /* bytes of lines that do not wait */
    NUMBER_SIZE = 24,
    VERB_MAX = 32,
    TARGET_MAX = 1024, /* bytes kept of a path, its query included */
    AGENT_MAX = 256,   /* of User-Agent */
    METHOD_MAX = 128,  /* of a JSON-RPC method */
    WORKER_MAX = 112,  /* of a worker's address: "unix:" and a path */
};

struct access_entry {
    const struct conf_listener *listener;
    const struct conf_route *route; /* NULL: none was found */
    const char *protocol;
    struct peer peer;
    uint64_t conn;
    struct timespec came; /* since 1970 */
    uint64_t whole;       /* us, as the next two */
    uint64_t queued;      /* of the call that took longest */
    uint64_t worked;
    uint64_t bytes_in;
    uint64_t bytes_out;
    const char *outcome;
    const char *pool; /* of its last call; NULL: it had none */
    uint32_t told;    /* calls that have ended */
    uint16_t verb_n;
    uint16_t target_n;
    uint16_t agent_n;
    uint16_t method_n;
    bool ended;
    char worker[WORKER_MAX];
    char verb[VERB_MAX];
    char target[TARGET_MAX];
    char agent[AGENT_MAX];
    char method[METHOD_MAX];
};

static uint16_t keep(char *out, size_t size, struct span text)
{
    size_t n = MIN(text.n, size);
    if (n > 0)
        memcpy(out, text.p, n);
    return (uint16_t)n;
}

static void keep_head(struct access_entry *entry, const struct http_head *head)
{
    const struct http_field *agent = http_head_find(head, SPAN("user-agent"));
    entry->verb_n = keep(entry->verb, sizeof(entry->verb), head->method_text);
    entry->target_n = keep(entry->target, sizeof(entry->target), head->path);
    if (head->query.n > 0 && entry->target_n < sizeof(entry->target)) {
        entry->target[entry->target_n++] = '?';
        entry->target_n = (uint16_t)(entry->target_n + keep(entry->target + entry->target_n,
                                                           sizeof(entry->target) - entry->target_n,
                                                           head->query));
    }
    if (agent != NULL)
        entry->agent_n = keep(entry->agent, sizeof(entry->agent), agent->value);
}

/* A request has got its mark, which says whether it has a line. */
static void begin(struct request *request, const struct http_head *head)
{
    struct access_log *log = request->client->ctx->access;
    struct access_entry *entry = request->mark->logged ? slab_get(&log->entries) : NULL;
    if (entry == NULL)
        return;
    entry->listener = client_listener(request->client);
    entry->protocol = account_protocol(request->client);
    entry->conn = request->client->conn.id;
    clock_gettime(CLOCK_REALTIME, &entry->came);
    if (head != NULL)
        keep_head(entry, head);
    request->mark->access = entry;
}

/* The values of a line, and room for those that are made. */
struct line {
    struct span values[ACCESS_FIELDS_COUNT];
    char room[16 * NUMBER_SIZE + PEER_TEXT_SIZE + 64];
    size_t n;
};

__attribute__((format(printf, 3, 4))) static void add(
    struct line *line, enum access_field field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line->room + line->n, sizeof(line->room) - line->n, format, args);
    va_end(args);
    CHECK(n >= 0 && line->n + (size_t)n < sizeof(line->room));
    line->values[field] = (struct span){line->room + line->n, (size_t)n};
    line->n += (size_t)n;
}

static void add_ms(struct line *line, enum access_field field, uint64_t us)
{
    add(line, field, "%" PRIu64 ".%03" PRIu64, us / US_A_MS, us % US_A_MS);
}

static void add_text(struct line *line, enum access_field field, const char *text)
{
    if (text != NULL)
        line->values[field] = (struct span){text, strlen(text)};
}

static void add_time(struct line *line, const struct timespec *came)
{
    struct tm tm;
    char text[32];
    gmtime_r(&came->tv_sec, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    add(line, ACCESS_time, "%s.%03ldZ", text, came->tv_nsec / 1000000);
}

static void add_mark(struct line *line, const struct mark *mark)
{
    char trace[2 * TRACEPARENT_TRACE];
    line->values[ACCESS_request_id] = mark_id(mark);
    if (mark->traced) {
        traceparent_hex(mark->trace.trace, sizeof(mark->trace.trace), trace);
        add(line, ACCESS_trace_id, "%.*s", (int)sizeof(trace), trace);
    }
    if (mark->status != 0)
        add(line, ACCESS_status, "%u", (unsigned)mark->status);
}

static void add_calls(struct line *line, const struct access_entry *entry)
{
    add(line, ACCESS_calls, "%" PRIu32, entry->told);
    if (entry->told == 0)
        return;
    add_ms(line, ACCESS_queue_ms, entry->queued);
    add_ms(line, ACCESS_worker_ms, entry->worked);
    add_text(line, ACCESS_pool, entry->pool);
    add_text(line, ACCESS_worker, entry->worker);
    line->values[ACCESS_rpc_method] = (struct span){entry->method, entry->method_n};
}

static void fill(struct line *line, const struct mark *mark)
{
    const struct access_entry *entry = mark->access;
    char peer[PEER_TEXT_SIZE];
    line->n = 0;
    memset(line->values, 0, sizeof(line->values));
    add_time(line, &entry->came);
    add_text(line, ACCESS_listener, entry->listener->name);
    add_text(line, ACCESS_protocol, entry->protocol);
    peer_text(&entry->peer, peer);
    add(line, ACCESS_peer, "%s", peer);
    add(line, ACCESS_conn, "%" PRIu64, entry->conn);
    line->values[ACCESS_method] = (struct span){entry->verb, entry->verb_n};
    line->values[ACCESS_path] = (struct span){entry->target, entry->target_n};
    line->values[ACCESS_user_agent] = (struct span){entry->agent, entry->agent_n};
    if (entry->route != NULL)
        line->values[ACCESS_route] = (struct span){entry->route->path, entry->route->path_len};
    add_text(line, ACCESS_outcome, entry->outcome);
    add(line, ACCESS_bytes_in, "%" PRIu64, entry->bytes_in);
    add(line, ACCESS_bytes_out, "%" PRIu64, entry->bytes_out);
    add_ms(line, ACCESS_duration_ms, entry->whole);
    add_calls(line, entry);
    add_mark(line, mark);
}

static void lose(struct access_log *log, const char *why)
{
    share_count(log->ctx->count->access_lost, 1);
    log_limited(&log->lost, ctx_now(log->ctx), LOG_WARNING,
        "lines of the access log are lost: %s; %llu so far in this shard", why,
        (unsigned long long)atomic_load_explicit(
            log->ctx->count->access_lost, memory_order_relaxed));
}

/* Writes a line where all of the request is known. */
static void maybe_write(struct access_log *log, struct mark *mark)
{
    struct access_entry *entry = mark->access;
    struct line line;
    if (!entry->ended || entry->told < mark->calls)
        return;
    if (ACCESS_BUFFER - buf_len(&log->out) < ACCESS_LINE_MAX)
        access_log_flush(log);
    char *room = ACCESS_BUFFER - buf_len(&log->out) < ACCESS_LINE_MAX
                     ? NULL
                     : buf_room(&log->out, ACCESS_LINE_MAX);
    if (room == NULL) {
        lose(log, "the file does not take them");
    } else {
        fill(&line, mark);
        buf_added(
            &log->out, access_line_write(log->conf->parts, log->conf->nparts, line.values, room));
    }
    mark->access = NULL;
    slab_put(&log->entries, entry);
    if (buf_len(&log->out) >= ENOUGH && !log->stuck)
        access_log_flush(log);
    else if (!wheel_armed(&log->timer))
        ctx_arm(log->ctx, &log->timer, WAIT_MS);
}

static void on_call(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    (void)ctx;
    struct access_log *log = container_of(observer, struct access_log, observer);
    struct mark *mark = account->call->mark;
    if (mark == NULL || mark->access == NULL)
        return;
    struct access_entry *entry = mark->access;
    entry->told++;
    entry->pool = account->pool->conf->name;
    if (account->queued + account->worked >= entry->queued + entry->worked) {
        entry->queued = account->queued;
        entry->worked = account->worked;
        entry->method_n = keep(entry->method, sizeof(entry->method), account->method);
        snprintf(entry->worker, sizeof(entry->worker), "%s",
            account->worker == NULL ? "" : account->worker->text);
    }
    maybe_write(log, mark);
}

static void on_request(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    (void)ctx;
    struct access_log *log = container_of(observer, struct access_log, observer);
    struct mark *mark = account->request->mark;
    if (mark == NULL || mark->access == NULL)
        return;
    struct access_entry *entry = mark->access;
    entry->ended = true;
    entry->route = account->route;
    entry->peer = account->peer;
    entry->whole = account->whole;
    entry->bytes_in = account->bytes_in;
    entry->bytes_out = account->bytes_out;
    entry->outcome = metric_code_label(account->code);
    maybe_write(log, mark);
}

/* How much of what waits is written at once: of whole lines where a write may be cut. */
static size_t part(const struct access_log *log)
{
    const char *p = buf_data(&log->out);
    size_t n = buf_len(&log->out);
    if (!log->whole || n <= PIPE_BUF)
        return n;
    const char *end = memrchr(p, '\n', PIPE_BUF);
    return end == NULL ? n : (size_t)(end - p) + 1;
}

void access_log_flush(struct access_log *log)
{
    while (buf_len(&log->out) > 0) {
        size_t n = part(log);
        ssize_t written = log->conf->path == NULL ? log_raw(buf_data(&log->out), n)
                          : log->fd < 0           ? -1
                                                  : write(log->fd, buf_data(&log->out), n);
        log->stuck = written <= 0;
        if (log->stuck) {
            ctx_arm(log->ctx, &log->timer, WAIT_MS);
            return;
        }
        buf_consume(&log->out, (size_t)written);
    }
    wheel_disarm(&log->timer);
}

void access_log_timeout(struct wheel_timer *timer)
{
    access_log_flush(container_of(timer, struct access_log, timer));
}

int access_log_use(struct ctx *ctx, int fd)
{
    struct access_log *log = ctx->access;
    struct stat st;
    if (log == NULL || log->conf->path == NULL) {
        close(fd);
        return -EPROTO;
    }
    access_log_flush(log); /* as far as the file before takes it */
    if (log->fd >= 0)
        close(log->fd);
    log->fd = fd;
    log->whole = fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
    return 0;
}

void access_log_open(struct access_log *log, struct ctx *ctx)
{
    if (ctx->conf->access_log == NULL)
        return;
    log->ctx = ctx;
    log->conf = ctx->conf->access_log;
    log->fd = -1;
    log->whole = true;
    wheel_timer_init(&log->timer, TIMER_ACCESS_LOG);
    log->observer = (struct account_observer){
        .call = on_call, .request = on_request, .from = UINT64_MAX};
    slab_init(&log->entries, sizeof(struct access_entry));
    account_observe(ctx, &log->observer);
    ctx->access = log;
    ctx->marks->made = begin;
}

void access_log_close(struct access_log *log, struct ctx *ctx)
{
    if (ctx->access == NULL)
        return;
    access_log_flush(log);
    wheel_disarm(&log->timer);
    ctx->access = NULL;
    ctx->marks->made = NULL;
    account_ignore(ctx, &log->observer);
    buf_deinit(&log->out);
    slab_deinit(&log->entries);
    if (log->fd >= 0)
        close(log->fd);
}
