#include "tests/bench/ws_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

enum {
    ANSWER_MAX = 4096,
    TIMEOUT_SECONDS = 15,
    LENGTH_16 = 126, /* RFC 6455 section 5.2: the length follows in 16 bits */
    TEXT_FRAME = 0x81,
    MASKED = 0x80,
};

static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

void ws_die(const char *what, int error)
{
    fprintf(stderr, "%s%s%s\n", what, error ? ": " : "", error ? strerror(error) : "");
    exit(1);
}

void ws_raise_descriptor_limit(void)
{
    struct rlimit rl;

    if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
        ws_die("getrlimit", errno);
    rl.rlim_cur = rl.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &rl);
}

struct sockaddr_in ws_address(const char *address)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    const char *colon = strrchr(address, ':');
    char host[64];

    if (!colon || (size_t)(colon - address) >= sizeof(host))
        ws_die(address, EINVAL);
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
    sa.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &sa.sin_addr) != 1)
        ws_die(address, EINVAL);
    return sa;
}

void ws_send(int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            struct pollfd pfd = {.fd = fd, .events = POLLOUT};
            if (poll(&pfd, 1, TIMEOUT_SECONDS * 1000) <= 0)
                ws_die("send", ETIMEDOUT);
            continue;
        }
        if (sent < 0)
            ws_die("send", errno);
        at += sent;
        n -= (size_t)sent;
    }
}

/* Reads more of an answer; `*have` bytes of it are there. */
static void receive_more(int fd, char in[static ANSWER_MAX], size_t *have)
{
    ssize_t got = *have < ANSWER_MAX ? recv(fd, in + *have, ANSWER_MAX - *have, 0) : -1;

    if (got <= 0)
        ws_die("no answer", got < 0 ? errno : ECONNRESET);
    *have += (size_t)got;
}

static void upgrade(int fd, const char *path)
{
    char text[ANSWER_MAX];
    size_t have = 0;
    int n = snprintf(text, sizeof(text),
        "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        path);

    ws_send(fd, text, (size_t)n);
    while (!memmem(text, have, "\r\n\r\n", 4))
        receive_more(fd, text, &have);
    if (memcmp(text, "HTTP/1.1 101 ", 13) != 0)
        ws_die("not upgraded", 0);
}

int ws_open(const char *address, const char *path)
{
    struct sockaddr_in sa = ws_address(address);
    /* 10,000 connections in TIME_WAIT would weigh on what is measured next. */
    struct linger reset = {.l_onoff = 1};
    struct timeval timeout = {.tv_sec = TIMEOUT_SECONDS};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        ws_die("socket", errno);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        ws_die("connect", errno);
    upgrade(fd, path);
    return fd;
}

void ws_call(int fd, const char *text)
{
    uint8_t out[ANSWER_MAX + WS_HEAD_MAX];
    char in[ANSWER_MAX];
    const char *answer = NULL;
    size_t have = 0, n = strlen(text);
    ssize_t r;

    if (n > ANSWER_MAX)
        ws_die("call", EMSGSIZE);
    ws_send(fd, out, ws_frame(out, text, n));
    do {
        receive_more(fd, in, &have);
    } while ((r = ws_read((const uint8_t *)in, have, &answer, &n)) == 0);
    if (r != (ssize_t)have || !memmem(answer, n, "\"result\"", 8)) {
        fprintf(
            stderr, "%s was answered with %.*s\n", text, r < 0 ? 0 : (int)n, r < 0 ? "" : answer);
        exit(1);
    }
}

size_t ws_frame(uint8_t *out, const char *text, size_t n)
{
    size_t at = 0;

    out[at++] = TEXT_FRAME;
    if (n < LENGTH_16) {
        out[at++] = (uint8_t)(MASKED | n);
    } else {
        out[at++] = MASKED | LENGTH_16;
        out[at++] = (uint8_t)(n >> 8);
        out[at++] = (uint8_t)n;
    }
    memcpy(out + at, mask, sizeof(mask));
    at += sizeof(mask);
    for (size_t i = 0; i < n; i++)
        out[at + i] = (uint8_t)text[i] ^ mask[i % sizeof(mask)];
    return at + n;
}

ssize_t ws_read(const uint8_t *p, size_t n, const char **ret_text, size_t *ret_n)
{
    size_t head = 2, length;

    if (n < head)
        return 0;
    if (p[0] != TEXT_FRAME || p[1] > LENGTH_16)
        return -1;
    length = p[1];
    if (length == LENGTH_16) {
        head = 4;
        if (n < head)
            return 0;
        length = (size_t)p[2] << 8 | p[3];
    }
    if (n < head + length)
        return 0;
    *ret_text = (const char *)p + head;
    *ret_n = length;
    return (ssize_t)(head + length);
}
