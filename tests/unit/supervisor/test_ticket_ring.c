#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "frontd/supervisor/tls/ticket_ring.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/dumps.h"

static const uint64_t HOUR = 3600 * 1000;

Test(ticket_ring, steps)
{
    struct ticket_ring ring = {0};
    cr_expect_not(ticket_ring_step(&ring, 0));
    cr_expect_null(ring.keys, "nothing is taken where there are no tickets");
    cr_expect_eq(ticket_ring_due(&ring, 0), UINT64_MAX);
    cr_expect_eq(ticket_ring_due(&ring, HOUR), 0);
    cr_expect_eq(ticket_ring_count(&ring), 0);
    cr_expect_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
    cr_expect(ticket_ring_step(&ring, HOUR));
    cr_expect_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    cr_assert_eq(ticket_ring_count(&ring), 1);
    cr_expect(is_left_out_of_dumps(ring.keys));
    uint64_t due = ticket_ring_due(&ring, HOUR);
    cr_expect(due > 0 && due <= HOUR / 2);
    cr_expect_not(ticket_ring_step(&ring, HOUR));
    struct tls_ticket_key first = ring.keys->keys[0];
    ticket_ring_deinit(&ring);
    cr_expect_eq(ticket_ring_count(&ring), 0);
    ticket_ring_step(&ring, HOUR);
    cr_expect_neq(memcmp(first.name, ring.keys->keys[0].name, sizeof(first.name)), 0);
    cr_expect_neq(memcmp(first.aes, ring.keys->keys[0].aes, sizeof(first.aes)), 0);
    cr_expect_neq(memcmp(first.hmac, ring.keys->keys[0].hmac, sizeof(first.hmac)), 0);
    ticket_ring_deinit(&ring);
    ticket_ring_deinit(&ring);
}

Test(ticket_ring, keys_of_another_process)
{
    struct ticket_ring one = {0};
    struct ticket_ring other = {0};
    ticket_ring_step(&one, HOUR);
    cr_assert(ticket_ring_set(&other, one.keys));
    cr_expect_eq(memcmp(one.keys, other.keys, sizeof(*one.keys)), 0);
    one.keys->keys[0].made = UINT64_MAX;
    cr_expect_not(ticket_ring_set(&other, one.keys));
    cr_expect_neq(other.keys->keys[0].made, UINT64_MAX);
    ticket_ring_deinit(&one);
    ticket_ring_deinit(&other);
}

Test(ticket_ring, for_the_next_program)
{
    struct ticket_ring ring = {0};
    struct ticket_ring next = {0};
    char bytes[2048];
    size_t open_before = open_count();
    cr_expect_eq(ticket_ring_save(&ring), -ENOENT);
    ticket_ring_step(&ring, HOUR);
    int fd = ticket_ring_save(&ring);
    cr_assert_geq(fd, 0);
    cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    cr_assert_eq(ticket_ring_restore(&next, fd), 0);
    cr_expect_eq(memcmp(ring.keys, next.keys, sizeof(*ring.keys)), 0);
    ticket_ring_deinit(&next);
    ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
    cr_assert_eq(n, (ssize_t)(8 + sizeof(*ring.keys)));
    static const size_t wrong[] = {0, 4, 8}; /* magic, version, number of keys */
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        bytes[wrong[i]] ^= 0x40;
        cr_assert_eq(pwrite(fd, bytes, (size_t)n, 0), n);
        cr_expect_eq(ticket_ring_restore(&next, fd), -EBADMSG, "at %zu", wrong[i]);
        bytes[wrong[i]] ^= 0x40;
    }
    cr_assert_eq(pwrite(fd, bytes, (size_t)n, 0), n);
    cr_expect_eq(ticket_ring_restore(&next, fd), 0);
    ticket_ring_deinit(&next);
    cr_assert_eq(ftruncate(fd, n - 1), 0);
    cr_expect_eq(ticket_ring_restore(&next, fd), -EBADMSG);
    cr_expect_null(next.keys);
    close(fd);
    ticket_ring_deinit(&ring);
    cr_expect_eq(open_count(), open_before);
}
