#include "frontd/ctl.h"

#include <errno.h>

static const uint32_t CTL_MAGIC = 0x46726e74; /* "Frnt" */

static size_t message_size(unsigned type)
{
    size_t head = offsetof(struct ctl_message, u);
    switch (type) {
    case CTL_START: return head + sizeof(struct ctl_start);
    case CTL_LISTEN: return head + sizeof(struct ctl_listen);
    case CTL_PEER:
    case CTL_TAKE:
    case CTL_GIVE: return head + sizeof(struct ctl_peer);
    case CTL_LEAVE: return head + sizeof(struct ctl_leave);
    case CTL_REPORT: return head + sizeof(struct ctl_report);
    case CTL_RUN:
    case CTL_READY:
    case CTL_DRAIN:
    case CTL_OPEN: return head;
    default: return 0;
    }
}

int ctl_send(int sock, enum ctl_type type, struct ctl_message *message, const int *fds, size_t nfds)
{
    message->magic = CTL_MAGIC;
    message->version = CTL_VERSION;
    message->type = (uint16_t)type;
    message->length = (uint32_t)message_size(type);
    return fdpass_send(sock, message, message->length, fds, nfds);
}

static bool message_valid(const struct ctl_message *message, size_t n, size_t nfds)
{
    if (n < offsetof(struct ctl_message, u) || message->magic != CTL_MAGIC ||
        message->version != CTL_VERSION || message->length != n)
        return false;
    if (n != message_size(message->type))
        return false;
    switch (message->type) {
    case CTL_START:
    case CTL_REPORT: return nfds == CTL_START_FDS;
    case CTL_LISTEN:
        return message->u.listen.count <= CTL_LISTEN_MAX && nfds == message->u.listen.count;
    case CTL_PEER: return nfds == CTL_PEER_FDS;
    case CTL_TAKE:
    case CTL_GIVE: return nfds == 1;
    default: return nfds == 0;
    }
}

int ctl_receive(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds)
{
    size_t nfds = 0;
    ssize_t n = fdpass_receive(sock, ret_message, sizeof(*ret_message), fds, &nfds);
    if (n < 0)
        return (int)n;
    if (n == 0)
        return -EPIPE;
    if (!message_valid(ret_message, (size_t)n, nfds)) {
        fdpass_close(fds, nfds);
        return -EPROTO;
    }
    *ret_nfds = nfds;
    return 0;
}
