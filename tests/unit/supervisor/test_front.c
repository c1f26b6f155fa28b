#include <criterion/criterion.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base.h"
#include "frontd/supervisor/front.h"

static bool passes(const struct front *front)
{
    char byte;
    return send(front->trace_fds[FRONT_TRACE_SHARDS], "x", 1, MSG_NOSIGNAL) == 1 &&
           recv(front->trace_fds[FRONT_TRACE_ADMIN], &byte, 1, MSG_DONTWAIT) == 1;
}

/* The socket for spans stays the same for all generations, unless one of its ends was shut down. */
Test(front, trace_socket)
{
    static struct front front;
    front_init(&front, NULL);
    cr_assert_eq(front_make_trace(&front), 0);
    int before = front.trace_fds[FRONT_TRACE_SHARDS];
    cr_expect(passes(&front));
    cr_assert_eq(front_make_trace(&front), 0);
    cr_expect_eq(front.trace_fds[FRONT_TRACE_SHARDS], before);
    for (int end = 0; end < FRONT_TRACE_FDS; end++) {
        cr_assert_eq(shutdown(front.trace_fds[end], SHUT_WR), 0);
        cr_assert_eq(front_make_trace(&front), 0);
        cr_expect(passes(&front));
    }
    front_close_wakes(&front);
    cr_expect_eq(front.trace_fds[FRONT_TRACE_ADMIN], -1);
    while (waitpid(-1, NULL, 0) > 0) /* of discard() */
        ;
}
