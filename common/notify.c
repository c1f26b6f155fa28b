#include "common/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MESSAGE_MAX = 512 }; /* bytes */

bool notify_wanted(void)
{
    const char *pid = getenv("SYSTEMD_EXEC_PID");
    char own[24];
    snprintf(own, sizeof(own), "%ld", (long)getpid());
    return getenv("NOTIFY_SOCKET") != NULL && (pid == NULL || strcmp(pid, own) == 0);
}

static int send_to(const char *path, const char *message, size_t n)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof(address.sun_path))
        return -EINVAL;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* an abstract one, which ends where its length says */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    ssize_t sent = sendto(fd, message, n, MSG_NOSIGNAL, (const struct sockaddr *)&address, size);
    int error = errno;
    close(fd);
    return sent < 0 ? -error : 0;
}

int notify_send(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    char message[MESSAGE_MAX];
    if (path == NULL)
        return 0;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    CHECK(n >= 0 && (size_t)n < sizeof(message));
    return send_to(path, message, (size_t)n);
}
