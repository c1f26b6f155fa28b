/*
 * The load of `scripts/bench reload`: many clients of one kind on one thread. It opens them, prints
 * READY, and does what the lines on its standard input say, each of which it answers with one line:
 *
 *     calls RATE   from now on makes so many calls a second, each by the next client      OK
 *     mark         counts from the beginning on, times since the last mark             STATS {…}
 *     look         the same, and is no mark
 *     end N        makes no more calls; waits until all calls are answered and all N
 *                  messages that were published have come, or until none of that can
 *                  happen any more                                                     STATS {…}
 *
 *     bench_reload_load --connect HOST:PORT --path PATH --kind http|websocket|frame|http2 --clients
 * N
 *                       --topics N [--ca FILE]
 *
 * With --ca they speak TLS, and the file has the certificate that the server is to have.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/base.h"
#include "tests/bench/reload_client.h"
#include "tests/bench/reload_message.h"
#include "tests/bench/ws_client.h"

enum {
    EVENTS = 512,
    LINE_MAX_BYTES = 128,
    TICK_MS = 1,      /* between two looks at what is due */
    END_SECONDS = 12, /* more than a call may take */
};

#define SECOND UINT64_C(1000000000)

/* What is to be done. Times in ns. */
struct plan {
    bool ready;          /* all clients have been open */
    uint64_t call_every; /* 0: no calls */
    uint64_t call_at;
    uint64_t end_at; /* 0: the end was not asked for */
    uint64_t published;
};

static void print_stats(void)
{
    const struct clients_stats *s = clients_stats();

    printf("STATS {\"open\":%zu,\"calls\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"closed\":%" PRIu64
           ",\"refused\":%" PRIu64 ",\"pushes\":%" PRIu64 ",\"lost\":%" PRId64
           ",\"doubled\":%" PRIu64 ",\"late\":%" PRIu64 ",\"strange\":%" PRIu64
           ",\"call_longest_us\":%" PRIu64 ",\"call_sum_us\":%" PRIu64 ",\"call_p99_us\":%" PRIu64
           ",\"push_longest_us\":%" PRIu64 "}\n",
        s->open, s->calls, s->failed, s->closed, s->refused, s->pushes, s->lost, s->doubled,
        s->late, s->strange, s->call_longest / 1000, s->call_sum / 1000, clients_call_p99() / 1000,
        s->push_longest / 1000);
}

static void obey(struct plan *plan, const char *line)
{
    uint64_t now = reload_now_ns();
    double rate;

    if (sscanf(line, "calls %lf", &rate) == 1 && rate >= 0 && rate <= 1e6) {
        plan->call_every = rate > 0 ? (uint64_t)(1e9 / rate) : 0;
        plan->call_at = now;
        printf("OK\n");
    } else if (strcmp(line, "look") == 0) {
        print_stats();
    } else if (strcmp(line, "mark") == 0) {
        print_stats();
        clients_restart_clocks();
    } else if (sscanf(line, "end %" SCNu64, &plan->published) == 1) {
        plan->call_every = 0;
        plan->end_at = now + END_SECONDS * SECOND;
    } else {
        ws_die(line, EINVAL);
    }
}

/* Obeys the lines that have come; false when there will be no more. */
static bool read_lines(struct plan *plan)
{
    static char lines[LINE_MAX_BYTES];
    static size_t have;
    ssize_t got = read(STDIN_FILENO, lines + have, sizeof(lines) - 1 - have);
    char *line = lines, *end;

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0)
        return false;
    have += (size_t)got;
    lines[have] = '\0';
    for (; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        obey(plan, line);
    }
    have -= (size_t)(line - lines);
    memmove(lines, line, have);
    return true;
}

/* A turn that comes late makes up for it: what was due is measured from then. */
static void advance(struct plan *plan)
{
    uint64_t now = reload_now_ns();

    clients_tick(now);
    if (!plan->ready && clients_all_quiet()) {
        plan->ready = true;
        printf("READY\n");
    }
    while (plan->call_every > 0 && plan->call_at <= now && clients_call(plan->call_at))
        plan->call_at += plan->call_every;
    if (plan->end_at == 0)
        return;
    if (now > plan->end_at ||
        (clients_all_quiet() && clients_missing(plan->published, false) == 0)) {
        plan->end_at = 0;
        (void)clients_missing(plan->published, true);
        print_stats();
    }
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    struct plan plan = {0};
    int ep = clients_epoll();

    if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) < 0 ||
        epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        ws_die("standard input", errno);
    for (;;) {
        int n = epoll_wait(ep, events, EVENTS, TICK_MS);

        if (n < 0 && errno != EINTR)
            ws_die("epoll_wait", errno);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                clients_event(events[i].data.ptr, events[i].events);
            else if (!read_lines(&plan))
                return;
        }
        advance(&plan);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    struct clients_config config = {.path = "/"};
    int kind = -1;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connect") == 0)
            config.address = argv[i + 1];
        else if (strcmp(argv[i], "--path") == 0)
            config.path = argv[i + 1];
        else if (strcmp(argv[i], "--kind") == 0)
            kind = wire_kind(argv[i + 1]);
        else if (strcmp(argv[i], "--clients") == 0)
            config.count = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--topics") == 0)
            config.topics = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--ca") == 0)
            config.ca = argv[i + 1];
    }
    if (!config.address || argc % 2 == 0 || kind < 0 || config.count == 0 || config.topics == 0) {
        fprintf(stderr, "usage: bench_reload_load --connect HOST:PORT --path PATH --kind "
                        "http|websocket|frame|http2 --clients N --topics N [--ca FILE]\n");
        return 2;
    }
    config.kind = (enum wire_kind)kind;
    ws_raise_descriptor_limit();
    clients_init(&config);
    run();
    return 0;
}
