/*
 * What a shard sends: as messages on its control socket, and as its report to a supervisor that did
 * not start it. Each begins with a byte that says how many descriptors of what kind come with it,
 * and two for its length; what is to be known of a message is put right where a bit says so, so
 * that more than the first check is reached.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/reports.h"
#include "frontd/supervisor/sockets/endpoint.h"

enum { KINDS = 4, MESSAGES = 16 };

static int kinds[KINDS]; /* the memory, a listening socket, a file, a pipe */
static struct record record;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_up(void)
{
    struct stat st;
    int ends[2];
    struct conf_address *address = &record.endpoints[0].address;
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t len = sizeof(in);
    log_init(LOG_ERROR, LOG_TEXT, "fuzz");
    CHECK(share_create(0, &kinds[0]) == 0 && fstat(kinds[0], &st) == 0);
    kinds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(kinds[1], (struct sockaddr *)&in, len) == 0 && listen(kinds[1], 1) == 0);
    CHECK(getsockname(kinds[1], &address->sock.any, &len) == 0);
    address->len = len;
    kinds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    kinds[3] = ends[0];
    static uint64_t cookie;
    cookie = endpoint_cookie(kinds[1]);
    record.endpoints[0].cookies = &cookie;
    record.endpoints[0].ncookies = 1;
    record.nendpoints = record.nsockets = record.ngenerations = 1;
    record.generations[0].shards = 1;
    record.generations[0].share = (struct generation_share){
        .known = true, .size = (uint64_t)st.st_size, .dev = st.st_dev, .ino = st.st_ino};
}

/* Sends the messages that `data` is made of. */
static void send_all(int sock, const uint8_t *data, size_t size)
{
    for (unsigned i = 0; i < MESSAGES && size >= 3; i++) {
        char bytes[sizeof(struct ctl_message) + 8] = {0};
        int fds[16];
        size_t nfds = data[0] & 15;
        size_t n = MIN(((size_t)data[1] << 8 | data[2]) % sizeof(bytes), size - 3);
        memcpy(bytes, data + 3, n);
        if (data[0] & 0x40) { /* its head is right, but for the type */
            struct ctl_message right = {0};
            int ends[2];
            CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
            enum ctl_type type = (enum ctl_type)(1 + data[1] % CTL_TELL);
            memcpy(&right.u, bytes, MIN(n, sizeof(right.u)));
            CHECK(ctl_send(ends[0], type, &right, NULL, 0) == 0);
            ssize_t length = recv(ends[1], bytes, sizeof(bytes), 0);
            close(ends[0]);
            close(ends[1]);
            CHECK(length > 0);
            size_t used = MIN(n, sizeof(right.u));
            data += 3 + used;
            size -= 3 + used;
            n = (size_t)length;
        } else {
            data += 3 + n;
            size -= 3 + n;
        }
        for (size_t k = 0; k < nfds; k++)
            fds[k] = kinds[(k + i) % KINDS];
        if (fdpass_send(sock, bytes, n, fds, nfds) < 0)
            return;
    }
}

static void make_pair(int ends[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
}

static void receive_as_control(const uint8_t *data, size_t size)
{
    int ends[2];
    make_pair(ends);
    send_all(ends[0], data, size);
    for (unsigned i = 0; i <= MESSAGES; i++) {
        struct ctl_message message;
        int fds[FDPASS_FDS_MAX];
        size_t nfds = 0;
        int r = ctl_receive_all(ends[1], &message, fds, &nfds);
        CHECK(r <= 0 && nfds <= FDPASS_FDS_MAX);
        fdpass_close(fds, nfds);
        if (r == -EAGAIN)
            break;
        if (r < 0 || ctl_is_foreign(&message))
            continue;
        CHECK(message.type >= CTL_START && message.type <= CTL_TELL);
        if (message.type == CTL_LISTEN)
            CHECK(message.u.listen.count == nfds && nfds <= CTL_LISTEN_MAX);
        if (message.type == CTL_START)
            CHECK(memchr(message.u.start.instance, 0, sizeof(message.u.start.instance)) != NULL);
    }
    close(ends[0]);
    close(ends[1]);
}

static void receive_as_report(const uint8_t *data, size_t size)
{
    int ends[2];
    make_pair(ends);
    static struct reports reports;
    reports = (struct reports){.record = &record, .count = 1};
    struct reporter *reporter = &reports.all[0];
    *reporter = (struct reporter){
        .process = &record.generations[0].processes[0], .pidfd = -1, .sock = ends[1], .share = -1};
    send_all(ends[0], data, size);
    for (unsigned i = 0; i < 2 && reporter->sock >= 0; i++)
        reports_receive(&reports, reporter);
    CHECK(reporter->nsockets <= record.nsockets);
    if (reports.tickets != NULL)
        CHECK(reports.tickets->count > 0 && tls_tickets_valid(reports.tickets, tls_tickets_now()));
    for (size_t i = 0; i < reporter->nsockets; i++)
        CHECK(endpoint_cookie(reporter->sockets[i]) == endpoint_cookie(kinds[1]));
    if (reporter->complete) {
        struct stat st;
        CHECK(fstat(reporter->share, &st) == 0 && st.st_ino == record.generations[0].share.ino);
    }
    reports_deinit(&reports);
    close(ends[0]);
    while (waitpid(-1, NULL, 0) > 0) /* which has closed what was not wanted */
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (kinds[0] == 0)
        set_up();
    receive_as_control(data, size);
    receive_as_report(data, size);
    return 0;
}
