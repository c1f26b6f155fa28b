/* HELLO and GOAWAY bodies: what is accepted is written, and read again as the same. */

#include <string.h>

#include "common/alloc.h"
#include "proto/hello.h"

static bool same(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

static void check_worker(struct span body)
{
    struct hello_worker first = {0};
    struct hello_worker second = {0};
    struct buf written = {0};
    int r = hello_worker_read(body, &first);
    if (r != 0) {
        CHECK(r == HELLO_E_INVALID || r == HELLO_E_VERSION);
        CHECK(first.name == NULL && first.methods == NULL);
        return;
    }
    CHECK(first.nmethods <= HELLO_METHODS_MAX && first.max_frame > 0);
    CHECK(hello_worker_write(&written, &first) == 0);
    CHECK(hello_worker_read((struct span){buf_data(&written), buf_len(&written)}, &second) == 0);
    CHECK(same(first.name, second.name) && same(first.responses, second.responses));
    CHECK(first.pid == second.pid);
    CHECK(first.concurrency == second.concurrency && first.max_frame == second.max_frame);
    CHECK(first.has_methods == second.has_methods && first.nmethods == second.nmethods);
    for (size_t i = 0; i < first.nmethods; i++)
        CHECK(same(first.methods[i], second.methods[i]));
    hello_worker_deinit(&first);
    hello_worker_deinit(&second);
    buf_deinit(&written);
}

static void check_front(struct span body)
{
    struct hello_peer peer;
    int r = hello_front_read(body, &peer);
    CHECK(r == 0 || r == HELLO_E_INVALID || r == HELLO_E_VERSION);
    if (r == 0) {
        CHECK(memchr(peer.front, '\0', sizeof(peer.front)) != NULL);
        CHECK(memchr(peer.pool, '\0', sizeof(peer.pool)) != NULL);
        CHECK(peer.max_frame > 0);
    }
}

static void check_goaway(struct span body)
{
    char reason[16];
    uint64_t last_call = 0;
    goaway_read(body, reason, sizeof(reason), &last_call);
    CHECK(memchr(reason, '\0', sizeof(reason)) != NULL);
    CHECK(last_call <= INT64_MAX || last_call == UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span body = {(const char *)data, size};
    size_t before = mem_in_use();
    check_worker(body);
    check_front(body);
    check_goaway(body);
    CHECK(mem_in_use() == before);
    return 0;
}
