/*
 * What `scripts/bench stream` has behind the servers that it compares: a server of HTTP/1.1, or a
 * worker of frontd, that does the same. Blocking, with a thread for each thing that goes on, since
 * it is not what is measured.
 *
 *   GET /down     1 GiB, or what --bytes says
 *   PUT /up       takes a body, and says how long it was
 *   GET /events   an event of 100 bytes ten times a second, for ever
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"

enum {
    PART = 65536,
    WINDOW = 262144,     /* protocol section 8 */
    WINDOW_STEP = 65536, /* of what is taken, for which a WINDOW is sent */
    EVENT = 100,
    EVENT_US = 100000,
    STREAMS_MAX = 4096,
};

static uint64_t down_bytes = 1ULL << 30;
static char part[PART];
static char event[EVENT + 1];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void start(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    if (pthread_create(&thread, &small, run, arg) != 0)
        die("pthread_create");
    pthread_detach(thread);
    pthread_attr_destroy(&small);
}

/* Whether all of it could be written. */
static bool put(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t r = send(fd, p, n, MSG_NOSIGNAL);
        if (r <= 0)
            return false;
        p += r;
        n -= (size_t)r;
    }
    return true;
}

static bool get(int fd, void *bytes, size_t n)
{
    char *p = bytes;
    while (n > 0) {
        ssize_t r = recv(fd, p, n, 0);
        if (r <= 0)
            return false;
        p += r;
        n -= (size_t)r;
    }
    return true;
}

/* Until the next event is due, whatever the last one took. */
static void wait_for_next(struct timespec *next)
{
    next->tv_nsec += EVENT_US * 1000L;
    if (next->tv_nsec >= 1000000000L) {
        next->tv_nsec -= 1000000000L;
        next->tv_sec++;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

/* ---- HTTP/1.1 ------------------------------------------------------------------------------ */

static bool http_down(int fd)
{
    char head[128];
    int n = snprintf(
        head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %" PRIu64 "\r\n\r\n", down_bytes);
    bool ok = put(fd, head, (size_t)n);
    for (uint64_t left = down_bytes; ok && left > 0;) {
        size_t some = left < PART ? (size_t)left : PART;
        ok = put(fd, part, some);
        left -= some;
    }
    return ok;
}

static bool http_up(int fd, const char *head)
{
    static _Thread_local char body[PART];
    const char *field = strcasestr(head, "\r\ncontent-length:");
    char answer[128];
    uint64_t length = field == NULL ? 0 : strtoull(field + 17, NULL, 10), left = length;
    while (left > 0) {
        ssize_t n = recv(fd, body, left < PART ? (size_t)left : PART, 0);
        if (n <= 0)
            return false;
        left -= (uint64_t)n;
    }
    int n = snprintf(body, sizeof(body), "%" PRIu64, length);
    int m = snprintf(
        answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body);
    return put(fd, answer, (size_t)m);
}

static bool http_events(int fd)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    char chunk[EVENT + 16];
    int n = snprintf(chunk, sizeof(chunk), "%x\r\n%s\r\n", EVENT, event);
    struct timespec next;
    bool ok = put(fd, head, sizeof(head) - 1);
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (ok) {
        wait_for_next(&next);
        ok = put(fd, chunk, (size_t)n);
    }
    return false;
}

static void *http_serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char head[4096];
    size_t n = 0;
    bool ok = true;
    while (ok && n < sizeof(head) - 1 && recv(fd, head + n, 1, 0) == 1) {
        head[++n] = '\0';
        if (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0)
            continue;
        if (strstr(head, " /down ") != NULL)
            ok = http_down(fd);
        else if (strstr(head, " /events ") != NULL)
            ok = http_events(fd);
        else
            ok = http_up(fd, head);
        n = 0;
    }
    close(fd);
    return NULL;
}

/* ---- A worker of frontd -------------------------------------------------------------------- */

struct stream {
    uint64_t call; /* 0: free */
    int64_t room;
    uint64_t taken;  /* up: bytes, */
    uint64_t untold; /* and of these what no WINDOW told of */
    bool over;       /* down, events: nobody waits for it */
};

struct channel {
    int fd;
    pthread_mutex_t writes;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t room;
    struct stream streams[STREAMS_MAX];
    bool closed;
};

static bool send_frame(struct channel *channel, enum frame_type type, unsigned flags, uint64_t call,
    const char *body, const char *blob, size_t blob_n)
{
    uint8_t head[FRAME_HEAD_SIZE];
    size_t body_n = body == NULL ? 0 : strlen(body);
    frame_head_write(&(struct frame_head){.type = (uint8_t)type,
                         .flags = (uint8_t)flags,
                         .call = call,
                         .length = (uint32_t)(body_n + blob_n),
                         .blob_len = (uint32_t)blob_n},
        head);
    pthread_mutex_lock(&channel->writes);
    bool ok = put(channel->fd, head, sizeof(head)) && put(channel->fd, body, body_n) &&
              put(channel->fd, blob, blob_n);
    pthread_mutex_unlock(&channel->writes);
    return ok;
}

static struct stream *find(struct channel *channel, uint64_t call)
{
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        if (channel->streams[i].call == call)
            return &channel->streams[i];
    }
    return NULL;
}

static void begin(struct channel *channel, uint64_t call, const char *headers)
{
    char body[256];
    snprintf(body, sizeof(body),
        "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"result\":{\"status\":200,\"headers\":[%s]}}",
        call, headers);
    send_frame(channel, FRAME_RESPONSE, FRAME_F_MORE, call, body, NULL, 0);
}

struct download {
    struct channel *channel;
    struct stream *stream;
    uint64_t call;
};

static void *worker_down(void *arg)
{
    struct download *download = arg;
    struct channel *channel = download->channel;
    struct stream *stream = download->stream;
    uint64_t left = down_bytes;
    bool over = false;
    while (!over && left > 0) {
        size_t n = left < PART ? (size_t)left : PART;
        pthread_mutex_lock(&channel->lock);
        while (stream->room < (int64_t)n && !stream->over && !channel->closed)
            pthread_cond_wait(&channel->room, &channel->lock);
        over = stream->over || channel->closed;
        stream->room -= (int64_t)n;
        pthread_mutex_unlock(&channel->lock);
        if (!over)
            over = !send_frame(channel, FRAME_DATA, FRAME_F_MORE, download->call, NULL, part, n);
        left -= n;
    }
    send_frame(channel, FRAME_DATA, 0, download->call, NULL, NULL, 0);
    pthread_mutex_lock(&channel->lock);
    stream->call = 0;
    pthread_mutex_unlock(&channel->lock);
    free(download);
    return NULL;
}

/* One thread sends the events of all streams. */
static void *worker_events(void *arg)
{
    struct channel *channel = arg;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!channel->closed) {
        wait_for_next(&next);
        for (size_t i = 0; i < STREAMS_MAX; i++) {
            pthread_mutex_lock(&channel->lock);
            struct stream *stream = &channel->streams[i];
            uint64_t call = stream->call;
            bool is_events = call != 0 && stream->untold == UINT64_MAX;
            bool over = stream->over;
            bool has_room = stream->room >= EVENT;
            if (is_events && over)
                stream->call = 0;
            else if (is_events && has_room)
                stream->room -= EVENT;
            pthread_mutex_unlock(&channel->lock);
            if (is_events && (over || has_room))
                send_frame(channel, FRAME_DATA, over ? 0 : FRAME_F_MORE, call, NULL, event,
                    over ? 0 : EVENT);
        }
    }
    return NULL;
}

static void up_ends(struct channel *channel, struct stream *stream)
{
    char body[256], text[32];
    snprintf(text, sizeof(text), "%" PRIu64, stream->taken);
    snprintf(body, sizeof(body),
        "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"result\":{\"status\":200}}", stream->call);
    send_frame(channel, FRAME_RESPONSE, 0, stream->call, body, text, strlen(text));
    stream->call = 0;
}

static void on_request(struct channel *channel, const struct frame_head *head, const char *body)
{
    pthread_mutex_lock(&channel->lock);
    struct stream *stream = find(channel, 0);
    if (stream == NULL)
        die("too many calls");
    *stream = (struct stream){.call = head->call, .room = WINDOW};
    pthread_mutex_unlock(&channel->lock);
    if (strstr(body, "\"/down\"") != NULL) {
        char headers[64];
        struct download *download = malloc(sizeof(*download));
        if (download == NULL)
            die("malloc");
        *download = (struct download){channel, stream, head->call};
        snprintf(headers, sizeof(headers), "[\"content-length\",\"%" PRIu64 "\"]", down_bytes);
        begin(channel, head->call, headers);
        start(worker_down, download);
    } else if (strstr(body, "\"/events\"") != NULL) {
        begin(channel, head->call, "[\"content-type\",\"text/event-stream\"]");
        pthread_mutex_lock(&channel->lock);
        stream->untold = UINT64_MAX; /* from now on the thread of the events sends */
        pthread_mutex_unlock(&channel->lock);
    } else {
        stream->taken = head->blob_len;
        if (!(head->flags & FRAME_F_MORE))
            up_ends(channel, stream);
    }
}

static void on_data(struct channel *channel, const struct frame_head *head)
{
    struct stream *stream = find(channel, head->call);
    char text[48];
    if (stream == NULL)
        return;
    stream->taken += head->blob_len;
    stream->untold += head->blob_len;
    if (!(head->flags & FRAME_F_MORE)) {
        up_ends(channel, stream);
    } else if (stream->untold >= WINDOW_STEP) {
        snprintf(text, sizeof(text), "{\"bytes\":%" PRIu64 "}", stream->untold);
        stream->untold = 0;
        send_frame(channel, FRAME_WINDOW, 0, head->call, text, NULL, 0);
    }
}

static void on_frame(struct channel *channel, const struct frame_head *head, const char *payload)
{
    static const char hello[] = "{\"protocol\":1,\"concurrency\":0,\"features\":[\"stream\"]}";
    switch (head->type) {
    case FRAME_HELLO: send_frame(channel, FRAME_HELLO, 0, 0, hello, NULL, 0); break;
    case FRAME_PING: send_frame(channel, FRAME_PONG, 0, 0, payload, NULL, 0); break;
    case FRAME_REQUEST: on_request(channel, head, payload + head->meta_len); break;
    case FRAME_DATA: on_data(channel, head); break;
    case FRAME_WINDOW:
    case FRAME_CANCEL:
        pthread_mutex_lock(&channel->lock);
        struct stream *stream = find(channel, head->call);
        if (stream != NULL && head->type == FRAME_CANCEL)
            stream->over = true;
        else if (stream != NULL)
            stream->room += strtoll(strchr(payload, ':') + 1, NULL, 10);
        pthread_cond_broadcast(&channel->room);
        pthread_mutex_unlock(&channel->lock);
        break;
    default: break;
    }
}

static void *worker_serve(void *arg)
{
    struct channel *channel = calloc(1, sizeof(*channel));
    uint8_t head[FRAME_HEAD_SIZE];
    char *payload = NULL;
    size_t room = 0;
    if (channel == NULL)
        die("calloc");
    channel->fd = (int)(intptr_t)arg;
    pthread_mutex_init(&channel->writes, NULL);
    pthread_mutex_init(&channel->lock, NULL);
    pthread_cond_init(&channel->room, NULL);
    start(worker_events, channel);
    while (get(channel->fd, head, sizeof(head))) {
        struct frame_head parsed;
        if (frame_head_read((const char *)head, sizeof(head), UINT32_MAX, &parsed) != 0)
            break;
        if (parsed.length >= room) {
            room = (size_t)parsed.length + 1;
            payload = realloc(payload, room);
            if (payload == NULL)
                die("realloc");
        }
        if (!get(channel->fd, payload, parsed.length))
            break;
        payload[parsed.length - parsed.blob_len] = '\0'; /* the blob is of no interest */
        on_frame(channel, &parsed, payload);
    }
    pthread_mutex_lock(&channel->lock);
    channel->closed = true; /* its memory stays: threads may be in it */
    pthread_cond_broadcast(&channel->room);
    pthread_mutex_unlock(&channel->lock);
    free(payload);
    return NULL;
}

/* stream_backend http|worker SOCKET [BYTES] */
int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_stream_backend http|worker SOCKET [BYTES]\n");
        return 2;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[2]);
    if (argc > 3)
        down_bytes = strtoull(argv[3], NULL, 10);
    memset(part, 'x', sizeof(part));
    snprintf(event, sizeof(event), "data: %0*d\n\n", EVENT - 8, 0);
    signal(SIGPIPE, SIG_IGN);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 4096) < 0)
        die(argv[2]);
    for (;;) {
        int client = accept(fd, NULL, NULL);
        if (client < 0)
            die("accept");
        start(strcmp(argv[1], "http") == 0 ? http_serve : worker_serve, (void *)(intptr_t)client);
    }
}
