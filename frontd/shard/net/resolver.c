/*
 * resolver_start() spawns a process that has nothing but its socket, and forks one that serves
 * there: another one where something has killed that, since the shard itself cannot fork any more.
 * For each message the serving process forks once more: that process calls getaddrinfo(), sends
 * what it has found, as one message, and ends. on_answer() finds the query by its number, unless it
 * has been cancelled; where no answer comes it is asked again. When the shard has ended, so does
 * the socket, and so do those processes.
 */

#include "frontd/shard/net/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/config/value.h"
#include "frontd/system/loop.h"
#include "frontd/system/spawn.h"

enum {
    IN_PROGRESS_MAX = 64, /* look-ups at a time: further ones wait in the socket */
    RESTART_MS = 100,     /* before the process that serves is started again */
};

struct question {
    uint64_t id;
    char host[RESOLVER_NAME_MAX];
    uint16_t port;
};

struct answer {
    uint64_t id;
    int32_t error; /* of getaddrinfo(); 0: none */
    uint32_t n;
    struct conf_address addresses[RESOLVER_ADDRESSES_MAX];
};

/* In the process that looks up */

static bool is_known(const struct answer *answer, const struct addrinfo *found)
{
    for (uint32_t i = 0; i < answer->n; i++) {
        if (answer->addresses[i].len == found->ai_addrlen &&
            memcmp(&answer->addresses[i].sock, found->ai_addr, found->ai_addrlen) == 0)
            return true;
    }
    return false;
}

static void look_up(const struct question *question, struct answer *ret_answer)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];
    char name[24];
    snprintf(port, sizeof(port), "%u", question->port);
    memset(ret_answer, 0, sizeof(*ret_answer));
    ret_answer->id = question->id;
    /* The same addresses as for listeners, whatever /etc/hosts says. */
    if (strcasecmp(question->host, "localhost") == 0 ||
        strcasecmp(question->host, "localhost.") == 0) {
        size_t n = 0;
        snprintf(name, sizeof(name), "localhost:%s", port);
        conf_value_addresses(name, false, ret_answer->addresses, &n);
        ret_answer->n = (uint32_t)n;
        return;
    }
    ret_answer->error = getaddrinfo(question->host, port, &hints, &found);
    if (ret_answer->error != 0)
        return;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        struct conf_address *address = &ret_answer->addresses[ret_answer->n];
        if (ret_answer->n == RESOLVER_ADDRESSES_MAX || at->ai_addrlen > sizeof(address->sock) ||
            is_known(ret_answer, at))
            continue;
        memcpy(&address->sock, at->ai_addr, at->ai_addrlen);
        address->len = at->ai_addrlen;
        ret_answer->n++;
    }
    freeaddrinfo(found);
    resolver_interleave(ret_answer->addresses, ret_answer->n);
}

static void tell_failure(int fd, uint64_t id)
{
    const struct answer answer = {.id = id, .error = EAI_AGAIN};
    send(fd, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static struct {
    int fd;
    uint64_t id;
} looked_up; /* of the process that does nothing else */

static void on_alarm(int number)
{
    (void)number;
    tell_failure(looked_up.fd, looked_up.id);
    _exit(1);
}

static void serve_one(int fd, const struct question *question)
{
    struct answer answer;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    looked_up.fd = fd;
    looked_up.id = question->id;
    signal(SIGALRM, on_alarm);
    alarm(RESOLVER_LIMIT_S);
    look_up(question, &answer);
    alarm(0);
    send(fd, &answer, sizeof(answer), MSG_NOSIGNAL);
}

enum { SERVER_FD = 3 /* of the process that serves, its end of the socket */ };

static void serve(void)
{
    const int fd = SERVER_FD;
    unsigned in_progress = 0;
    close_range(SERVER_FD + 1, ~0U, 0); /* libuv makes a pipe in each process that is forked */
    for (;;) {
        struct question question;
        while (
            in_progress > 0 && waitpid(-1, NULL, in_progress < IN_PROGRESS_MAX ? WNOHANG : 0) > 0)
            in_progress--;
        ssize_t n = recv(fd, &question, sizeof(question), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* the shard has ended */
        if (n != sizeof(question))
            continue;
        question.host[sizeof(question.host) - 1] = '\0';
        pid_t pid = fork();
        if (pid == 0) {
            serve_one(fd, &question);
            _exit(0);
        }
        in_progress += pid > 0;
        if (pid < 0)
            tell_failure(fd, question.id);
    }
}

/* Has a process serve, and waits for its end, until the shard has ended. Where this one is killed
 * instead, the other serves on. */
static void keep_serving(void)
{
    const struct timespec pause = {.tv_nsec = RESTART_MS * 1000000};
    int status = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_NAME, "frontd-resolver", 0, 0, 0);
    for (;;) {
        pid_t pid = fork();
        if (pid == 0) {
            serve();
            _exit(0);
        }
        if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status))
            return;
        nanosleep(&pause, NULL);
    }
}

void resolver_interleave(struct conf_address *addresses, size_t n)
{
    for (size_t at = 1; at < n; at++) {
        sa_family_t last = addresses[at - 1].sock.any.sa_family;
        size_t next = at;
        while (next < n && addresses[next].sock.any.sa_family == last)
            next++;
        if (next == n) /* all that are left are of one family */
            return;
        struct conf_address moved = addresses[next];
        memmove(&addresses[at + 1], &addresses[at], (next - at) * sizeof(*addresses));
        addresses[at] = moved;
    }
}

int resolver_start(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    const struct spawn spawn = {
        .run = keep_serving, .fds = {-1, -1, -1, pair[1]}, .nfds = SERVER_FD + 1};
    pid_t pid;
    int r = spawn_start(&spawn, &pid);
    close(pair[1]);
    if (r == 0)
        return pair[0];
    close(pair[0]);
    return r;
}

/* In the shard */

static void lose(struct resolver *resolver)
{
    log_error("the processes that look up names of workers have ended: names are not looked up "
              "until the next reload");
    uv_close((uv_handle_t *)&resolver->poll, NULL);
    close(resolver->fd);
    resolver->fd = -1;
    resolver->open = false;
    while (!list_empty(&resolver->waiting)) {
        struct resolver_query *query = list_first(&resolver->waiting, struct resolver_query, node);
        list_remove(&query->node);
        query->answered(query, NULL, 0, "its resolver has ended");
    }
}

static void take(struct resolver *resolver, const struct answer *answer)
{
    list_for_each_safe (node, &resolver->waiting) {
        struct resolver_query *query = container_of(node, struct resolver_query, node);
        if (query->id != answer->id)
            continue;
        list_remove(&query->node);
        query->answered(query, answer->addresses, MIN(answer->n, (uint32_t)RESOLVER_ADDRESSES_MAX),
            answer->error != 0 ? gai_strerror(answer->error) : "it has no address");
        return;
    }
}

static void on_answer(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct resolver *resolver = poll->data;
    struct answer answer;
    ssize_t n = recv(resolver->fd, &answer, sizeof(answer), MSG_DONTWAIT);
    if (n == sizeof(answer))
        take(resolver, &answer);
    else if (status < 0 || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        lose(resolver);
}

int resolver_open(struct resolver *resolver, struct ctx *ctx, int fd)
{
    *resolver = (struct resolver){.fd = -1};
    list_init(&resolver->waiting);
    int r = loop_poll_init(&ctx->loop, &resolver->poll, fd);
    if (r == 0)
        r = uv_poll_start(&resolver->poll, UV_READABLE, on_answer);
    if (r < 0) {
        close(fd);
        return r;
    }
    resolver->poll.data = resolver;
    resolver->fd = fd;
    resolver->open = true;
    ctx->resolver = resolver;
    return 0;
}

static void on_resolver_closed(uv_handle_t *handle)
{
    struct resolver *resolver = handle->data;
    close(resolver->fd);
    resolver->fd = -1;
}

void resolver_close(struct resolver *resolver)
{
    if (!resolver->open)
        return;
    resolver->open = false;
    while (!list_empty(&resolver->waiting))
        list_remove(resolver->waiting.next);
    uv_close((uv_handle_t *)&resolver->poll, on_resolver_closed);
}

int resolver_ask(
    struct resolver *resolver, struct resolver_query *query, const char *host, uint16_t port)
{
    if (resolver == NULL || !resolver->open)
        return -EPIPE;
    struct question question = {.id = ++resolver->last_id, .port = port};
    CHECK(strlen(host) < sizeof(question.host));
    memcpy(question.host, host, strlen(host));
    if (send(resolver->fd, &question, sizeof(question), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return -errno;
    query->id = question.id;
    list_init(&query->node);
    list_append(&resolver->waiting, &query->node);
    return 0;
}

void resolver_cancel(struct resolver_query *query)
{
    if (resolver_waits(query))
        list_remove(&query->node);
}
