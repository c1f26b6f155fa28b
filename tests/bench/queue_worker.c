/*
 * A worker for `scripts/bench queue`: one call at a time, for each of which it sleeps for a time of
 * an exponential distribution, and answers how many us that was. It is single-threaded, since the
 * front may give it one call only, over all channels together.
 *
 *     bench_queue_worker SOCKET MEAN_US SEED
 */

#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"

enum { CHANNELS_MAX = 64, PAYLOAD_MAX = 65536 };

static double mean_us;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Sleeps, and returns for how long, us. */
static uint64_t work(void)
{
    uint64_t from = now_ns();
    uint64_t until = from + (uint64_t)(-log(1 - drand48()) * mean_us * 1000);
    struct timespec t = {(time_t)(until / 1000000000), (long)(until % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
        ;
    return (now_ns() - from) / 1000;
}

static void put(int fd, enum frame_type type, uint64_t call, const char *body, size_t n)
{
    uint8_t bytes[FRAME_HEAD_SIZE + PAYLOAD_MAX];
    const struct frame_head head = {.type = (uint8_t)type, .call = call, .length = (uint32_t)n};
    frame_head_write(&head, bytes);
    memcpy(bytes + FRAME_HEAD_SIZE, body, n);
    if (send(fd, bytes, FRAME_HEAD_SIZE + n, MSG_NOSIGNAL) != (ssize_t)(FRAME_HEAD_SIZE + n))
        die("send");
}

/* Reads one frame, and answers it. Returns whether the channel goes on. */
static bool serve(int fd)
{
    static const char hello[] = "{\"protocol\":1,\"concurrency\":1}";
    static char payload[PAYLOAD_MAX];
    char bytes[FRAME_HEAD_SIZE], text[128];
    struct frame_head head;
    if (recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes) ||
        frame_head_read(bytes, sizeof(bytes), PAYLOAD_MAX, &head) != 0)
        return false;
    if (head.length > 0 && recv(fd, payload, head.length, MSG_WAITALL) != (ssize_t)head.length)
        return false;
    switch (head.type) {
    case FRAME_HELLO: put(fd, FRAME_HELLO, 0, hello, sizeof(hello) - 1); break;
    case FRAME_PING: put(fd, FRAME_PONG, 0, payload, head.length); break;
    case FRAME_REQUEST: {
        int n = snprintf(
            text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%" PRIu64 "}", work());
        put(fd, FRAME_RESPONSE, head.call, text, (size_t)n);
        break;
    }
    default: break;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct pollfd fds[1 + CHANNELS_MAX];
    nfds_t n = 1;
    if (argc != 4)
        return 2;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
    mean_us = atof(argv[2]);
    srand48(atol(argv[3]));
    prctl(PR_SET_TIMERSLACK, 1); /* ns; else each sleep is 50 us longer */
    fds[0] = (struct pollfd){.fd = socket(AF_UNIX, SOCK_STREAM, 0), .events = POLLIN};
    if (fds[0].fd < 0 || bind(fds[0].fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fds[0].fd, CHANNELS_MAX) < 0)
        die(argv[1]);
    while (poll(fds, n, -1) > 0) {
        for (nfds_t i = n; i-- > 1;) {
            if (fds[i].revents != 0 && !serve(fds[i].fd)) {
                close(fds[i].fd);
                fds[i] = fds[--n];
            }
        }
        if (fds[0].revents != 0 && n < 1 + CHANNELS_MAX) {
            fds[n] = (struct pollfd){.fd = accept(fds[0].fd, NULL, NULL), .events = POLLIN};
            n += fds[n].fd >= 0;
        }
    }
    die("poll");
}
