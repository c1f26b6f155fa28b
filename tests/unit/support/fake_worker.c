#include "tests/unit/support/fake_worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void fake_worker_listen(struct fake_worker *worker)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memset(worker, 0, sizeof(*worker));
    worker->fd = -1;
    strcpy(worker->folder, "/tmp/frontd-test-XXXXXX");
    CHECK(mkdtemp(worker->folder) != NULL);
    snprintf(worker->path, sizeof(worker->path), "%s/app.sock", worker->folder);
    memcpy(address.sun_path, worker->path, strlen(worker->path));
    worker->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(worker->listener >= 0);
    CHECK(bind(worker->listener, (const struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(worker->listener, 16) == 0);
}

void fake_worker_end(struct fake_worker *worker)
{
    fake_worker_hang_up(worker);
    close(worker->listener);
    CHECK(unlink(worker->path) == 0 && rmdir(worker->folder) == 0);
}

bool fake_worker_accept(struct fake_worker *worker)
{
    int fd = accept4(worker->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(fd >= 0 || errno == EAGAIN);
    if (fd < 0)
        return false;
    worker->fd = fd;
    worker->have = worker->used = 0;
    return true;
}

void fake_worker_hang_up(struct fake_worker *worker)
{
    if (worker->fd >= 0)
        close(worker->fd);
    worker->fd = -1;
}

static void send_frame(struct fake_worker *worker, const struct frame_head *head, const char *bytes)
{
    uint8_t out[FRAME_HEAD_SIZE];
    frame_head_write(head, out);
    CHECK(send(worker->fd, out, sizeof(out), MSG_NOSIGNAL) == (ssize_t)sizeof(out));
    if (head->length > 0)
        CHECK(send(worker->fd, bytes, head->length, MSG_NOSIGNAL) == (ssize_t)head->length);
}

void fake_worker_send(struct fake_worker *worker, enum frame_type type, unsigned flags,
    uint64_t call, const char *body)
{
    const struct frame_head head = {.type = (uint8_t)type,
        .flags = (uint8_t)flags,
        .call = call,
        .length = (uint32_t)strlen(body)};
    send_frame(worker, &head, body);
}

void fake_worker_send_blob(
    struct fake_worker *worker, enum frame_type type, unsigned flags, uint64_t call, size_t n)
{
    static char bytes[100 * 1024];
    CHECK(n <= sizeof(bytes));
    memset(bytes, 'x', n);
    fake_worker_send_bytes(worker, type, flags, call, (struct span){bytes, n});
}

void fake_worker_send_bytes(struct fake_worker *worker, enum frame_type type, unsigned flags,
    uint64_t call, struct span blob)
{
    const struct frame_head head = {.type = (uint8_t)type,
        .flags = (uint8_t)flags,
        .call = call,
        .length = (uint32_t)blob.n,
        .blob_len = (uint32_t)blob.n};
    send_frame(worker, &head, blob.p);
}

static void read_more(struct fake_worker *worker)
{
    ssize_t n;
    memmove(worker->in, worker->in + worker->used, worker->have - worker->used);
    worker->have -= worker->used;
    worker->used = 0;
    while (
        (n = recv(worker->fd, worker->in + worker->have, sizeof(worker->in) - worker->have, 0)) > 0)
        worker->have += (size_t)n;
}

unsigned fake_worker_next(struct fake_worker *worker, struct frame *ret_frame)
{
    read_more(worker);
    int r = frame_read(worker->in, worker->have, FRAME_MAX_DEFAULT, ret_frame, &worker->used);
    CHECK(r == 0 || r == FRAME_E_MORE);
    return r == 0 ? ret_frame->head.type : 0;
}

bool fake_worker_sees_end(struct fake_worker *worker)
{
    char byte;
    read_more(worker);
    return worker->have == 0 && recv(worker->fd, &byte, 1, MSG_PEEK) == 0;
}
