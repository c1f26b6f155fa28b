#include "frontd/ipc/admin_setup.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fdpass.h"

static const uint32_t MAGIC = 0x41646d6e; /* "Admn" */
static const char BEAT = 'b';

/* Without these an admin process has nothing to do. */
static const uint32_t NEEDED = 1U << ADMIN_CONF | 1U << ADMIN_SHARE | 1U << ADMIN_ASK;

int admin_setup_send(
    int sock, struct admin_setup *setup, const int *fds, const int *sockets, uint32_t n)
{
    int all[ADMIN_FDS + ADMIN_SOCKETS_MAX];
    size_t count = 0;
    CHECK(n <= ADMIN_SOCKETS_MAX);
    setup->magic = MAGIC;
    setup->nsockets = n;
    setup->given = 0;
    for (uint32_t i = 0; i < ADMIN_FDS; i++) {
        if (fds[i] < 0)
            continue;
        setup->given |= 1U << i;
        all[count++] = fds[i];
    }
    for (uint32_t i = 0; i < n; i++)
        all[count++] = sockets[i];
    return fdpass_send(sock, setup, sizeof(*setup), all, count);
}

static bool is_right(const struct admin_setup *setup, size_t n, size_t nfds)
{
    return n == sizeof(*setup) && setup->magic == MAGIC && setup->nsockets <= ADMIN_SOCKETS_MAX &&
           (setup->given & NEEDED) == NEEDED && setup->given >> ADMIN_FDS == 0 &&
           nfds == (size_t)__builtin_popcount(setup->given) + setup->nsockets;
}

int admin_setup_receive(int sock, struct admin_setup *ret_setup, int *ret_fds, int *ret_sockets)
{
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    size_t at = 0;
    ssize_t n = fdpass_receive(sock, ret_setup, sizeof(*ret_setup), fds, &nfds);
    if (n < 0)
        return (int)n;
    if (n == 0)
        return -EPIPE;
    if (!is_right(ret_setup, (size_t)n, nfds)) {
        fdpass_close(fds, nfds);
        return -EPROTO;
    }
    for (uint32_t i = 0; i < ADMIN_FDS; i++)
        ret_fds[i] = ret_setup->given >> i & 1 ? fds[at++] : -1;
    memcpy(ret_sockets, fds + at, ret_setup->nsockets * sizeof(*fds));
    ret_setup->instance[sizeof(ret_setup->instance) - 1] = '\0';
    ret_setup->conf_name[sizeof(ret_setup->conf_name) - 1] = '\0';
    return 0;
}

void admin_setup_beat(int sock)
{
    ssize_t n = send(sock, &BEAT, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)n;
}

int admin_setup_hear(int sock, int *fds, size_t *ret_nfds)
{
    char text[2];
    int flags = 0;
    *ret_nfds = 0;
    ssize_t n = fdpass_receive_all(sock, text, sizeof(text), fds, ret_nfds, &flags);
    if (n < 0)
        return (int)n;
    if (n == 0)
        return -EPIPE;
    return n == 1 && text[0] == BEAT && *ret_nfds == 0 ? 0 : -EPROTO;
}
