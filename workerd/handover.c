#include "workerd/handover.h"

#include <errno.h>
#include <string.h>

#include "common/fdpass.h"

int handover_read(int pair, struct takeover_message *ret_message, int *ret_fd)
{
    struct takeover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    ssize_t n = fdpass_receive(pair, &message, sizeof(message), fds, &nfds);
    if (n == -EAGAIN)
        return -EAGAIN;
    if (n == 0 || n == -ECONNRESET)
        return 0;
    size_t wanted = ret_fd != NULL ? 1 : 0;
    if (n != (ssize_t)sizeof(message) || message.version != TAKEOVER_VERSION || nfds != wanted ||
        message.kind < TAKEOVER_OFFER || message.kind > TAKEOVER_GO ||
        memchr(message.path, '\0', sizeof(message.path)) == NULL) {
        if (n > 0)
            fdpass_close(fds, nfds);
        return -EPROTO;
    }
    if (ret_fd != NULL)
        *ret_fd = fds[0];
    *ret_message = message;
    return (int)message.kind;
}
