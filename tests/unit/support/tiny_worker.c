/*
 * A worker for tests of what starts workers: tiny_worker MODE [WORDS…]. It serves on descriptor 3,
 * and answers HELLO and nothing else. Modes: serve; silent (accepts, never answers); garbage
 * (answers with it); exit (status 3 at once); stubborn (serves, and SIGTERM does nothing).
 */

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base.h"
#include "proto/frame.h"

static void on_term(int number)
{
    (void)number;
    _exit(0);
}

static void answer(int fd, const char *mode)
{
    char bytes[4096];
    static const char hello[] = "{\"protocol\":1,\"name\":\"tiny\"}";
    struct frame_head head = {.length = sizeof(hello) - 1, .type = FRAME_HELLO};
    if (read(fd, bytes, sizeof(bytes)) < FRAME_HEAD_SIZE || strcmp(mode, "silent") == 0)
        return;
    frame_head_write(&head, (uint8_t *)bytes);
    memcpy(bytes + FRAME_HEAD_SIZE, hello, sizeof(hello) - 1);
    if (strcmp(mode, "garbage") == 0)
        memset(bytes, 0xff, FRAME_HEAD_SIZE);
    if (write(fd, bytes, FRAME_HEAD_SIZE + sizeof(hello) - 1) < 0)
        return;
    /* What the front says next, its end included. */
    while (strcmp(mode, "garbage") != 0 && read(fd, bytes, sizeof(bytes)) > 0)
        continue;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    const char *fds = getenv("LISTEN_FDS");
    const char *pid = getenv("LISTEN_PID");
    printf("%s starts\n", mode);
    fflush(stdout);
    if (strcmp(mode, "exit") == 0)
        return 3;
    if (fds == NULL || strcmp(fds, "1") != 0 || pid == NULL || atol(pid) != (long)getpid())
        return 9;
    signal(SIGTERM, strcmp(mode, "stubborn") == 0 ? SIG_IGN : on_term);
    signal(SIGPIPE, SIG_IGN); /* a peer that has waited for long may have gone */
    for (;;) {
        int fd = accept(3, NULL, NULL);
        if (fd < 0)
            return 8;
        answer(fd, mode);
        if (strcmp(mode, "silent") != 0)
            close(fd);
    }
}
