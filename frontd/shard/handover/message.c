#include "frontd/shard/handover/message.h"

#include <errno.h>
#include <string.h>

static const uint32_t MAGIC = 0x48616e64; /* "Hand" */

int handover_send(int sock, enum handover_type type, struct handover_message *message,
    const int *fds, size_t nfds)
{
    message->magic = MAGIC;
    message->version = HANDOVER_VERSION;
    message->type = (uint16_t)type;
    return fdpass_send(sock, message, sizeof(*message), fds, nfds);
}

bool handover_takes_any(const uint8_t *taken)
{
    static const uint8_t none[HANDOVER_BITS];
    return memcmp(taken, none, sizeof(none)) != 0;
}

static bool message_valid(const struct handover_message *message)
{
    return message->magic == MAGIC && message->version == HANDOVER_VERSION &&
           message->type >= HANDOVER_HELLO && message->type <= HANDOVER_YOURS &&
           message->count <= HANDOVER_BATCH_MAX;
}

int handover_receive(int sock, struct handover_message *ret_message, int *fds, size_t *ret_nfds)
{
    size_t nfds = 0;
    bool dropped = false;
    ssize_t n = fdpass_receive_some(sock, ret_message, sizeof(*ret_message), fds, &nfds, &dropped);
    if (n < 0)
        return (int)n;
    if (n == 0)
        return -EPIPE;
    bool valid = (size_t)n == sizeof(*ret_message) && message_valid(ret_message);
    size_t wanted = valid && ret_message->type == HANDOVER_BATCH ? ret_message->count + 1 : 0;
    if (!valid || dropped || nfds != wanted) {
        fdpass_close(fds, nfds);
        return valid && dropped ? -EMFILE : -EPROTO;
    }
    *ret_nfds = nfds;
    return 0;
}

struct span handover_next_state(const char *states, size_t size, size_t *at)
{
    uint32_t n = 0;
    if (size - *at >= sizeof(n)) {
        for (unsigned i = 0; i < sizeof(n); i++)
            n |= (uint32_t)(uint8_t)states[*at + i] << 8 * i;
        *at += sizeof(n);
        if (size - *at >= n) {
            *at += n;
            return (struct span){states + *at - n, n};
        }
    }
    *at = size;
    return (struct span){0};
}
