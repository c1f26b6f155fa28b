/* Clients of Server-Sent Events for `scripts/bench stream`: counts what comes on many connections.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int open_one(uint16_t port)
{
    static const char request[] = "GET /events HTTP/1.1\r\nHost: h\r\n\r\n";
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        send(fd, request, sizeof(request) - 1, 0) < 0)
        return -1;
    return fd;
}

/* stream_events PORT CLIENTS SECONDS: prints RESULT with the events that came in that time. */
int main(int argc, char **argv)
{
    static char bytes[65536];
    if (argc != 4)
        return 2;
    int clients = atoi(argv[2]), epoll = epoll_create1(0);
    uint64_t seconds = strtoull(argv[3], NULL, 10);
    uint64_t events = 0, closed = 0, from = 0, until = UINT64_MAX;
    for (int i = 0; i < clients; i++) {
        int fd = open_one((uint16_t)atoi(argv[1]));
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
        if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted) < 0) {
            perror("connect");
            return 1;
        }
    }
    uint64_t opened = now_us();
    while (now_us() < until) {
        struct epoll_event ready[64];
        int n = epoll_wait(epoll, ready, 64, 100);
        for (int i = 0; i < n; i++) {
            ssize_t got = recv(ready[i].data.fd, bytes, sizeof(bytes), 0);
            if (got <= 0) {
                closed++;
                close(ready[i].data.fd);
                continue;
            }
            for (ssize_t k = 0; from != 0 && k < got; k++)
                events += bytes[k] == ':'; /* of "data:", and of nothing else */
        }
        if (from == 0 && now_us() - opened > 1000000) { /* all of them have begun */
            from = now_us();
            until = from + seconds * 1000000;
            printf("BEGIN\n");
            fflush(stdout);
        }
    }
    printf("RESULT {\"events\":%llu,\"closed\":%llu,\"duration_us\":%llu}\n",
        (unsigned long long)events, (unsigned long long)closed,
        (unsigned long long)(now_us() - from));
    return 0;
}
