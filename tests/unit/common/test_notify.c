#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/notify.h"

/* A manager that listens on an abstract address which the kernel chose; NOTIFY_SOCKET names it. */
static int listen_as_manager(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(sa_family_t);
    cr_assert(bind(fd, (const struct sockaddr *)&address, size) == 0);
    size = sizeof(address);
    cr_assert(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    char name[sizeof(address.sun_path) + 1] = "@";
    size_t length = size - offsetof(struct sockaddr_un, sun_path);
    memcpy(name + 1, address.sun_path + 1, length - 1);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

Test(notify, a_message_arrives_as_one_datagram)
{
    char got[64] = "";
    int fd = listen_as_manager();
    cr_assert(notify_send("READY=1\nMAINPID=%d\n", 4711) == 0);
    cr_assert(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT) == 21);
    cr_assert_str_eq(got, "READY=1\nMAINPID=4711\n");
    close(fd);
    cr_assert(notify_send("STOPPING=1") == -ECONNREFUSED);
}

Test(notify, addresses_that_are_none)
{
    char longest[200];
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    const char *const names[] = {"", "/", "@", "relative", "vsock:2:1", longest};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        cr_assert(notify_send("READY=1") == -EINVAL, "%s", names[i]);
    }
    setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
    cr_assert(notify_send("READY=1") == -ENOENT);
}

Test(notify, without_a_manager_nothing_is_sent)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("SYSTEMD_EXEC_PID");
    cr_assert(notify_send("READY=1") == 0);
    cr_assert_not(notify_wanted());
}

Test(notify, who_is_listened_to)
{
    char own[24];
    snprintf(own, sizeof(own), "%ld", (long)getpid());
    setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
    unsetenv("SYSTEMD_EXEC_PID");
    cr_assert(notify_wanted());
    setenv("SYSTEMD_EXEC_PID", own, 1);
    cr_assert(notify_wanted());
    setenv("SYSTEMD_EXEC_PID", "1", 1); /* the process that started us is the service */
    cr_assert_not(notify_wanted());
}
