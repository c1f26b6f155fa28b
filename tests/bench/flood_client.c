#include "tests/bench/flood_client.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/bench/ws_client.h"

int flood_connect(const char *address)
{
    struct sockaddr_in sa = ws_address(address);
    struct linger reset = {.l_onoff = 1};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        ws_die("socket", errno);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        ws_die("connect", errno);
    return fd;
}

void flood_request(struct flood_text *text, const char *path, const char *call, size_t batch)
{
    size_t each = strlen(call);
    size_t body = batch > 1 ? batch * (each + 1) + 1 : each;
    size_t room = body + strlen(path) + 256;
    text->p = malloc(room);
    if (text->p == NULL)
        ws_die("request", ENOMEM);
    int n = snprintf(text->p, room,
        "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n",
        path, body);
    char *at = text->p + n;
    for (size_t i = 0; i < batch; i++) {
        if (batch > 1)
            *at++ = i == 0 ? '[' : ',';
        memcpy(at, call, each);
        at += each;
    }
    if (batch > 1)
        *at++ = ']';
    text->n = (size_t)(at - text->p);
}

void flood_repeat(struct flood_text *text, size_t least)
{
    size_t times = (least + text->n - 1) / text->n;
    char *many = malloc(times * text->n);
    if (many == NULL)
        ws_die("requests", ENOMEM);
    for (size_t i = 0; i < times; i++)
        memcpy(many + i * text->n, text->p, text->n);
    free(text->p);
    *text = (struct flood_text){many, times * text->n};
}
