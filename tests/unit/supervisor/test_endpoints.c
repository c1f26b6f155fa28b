#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"
#include "frontd/supervisor/sockets/endpoint.h"
#include "frontd/supervisor/sockets/endpoints.h"
#include "tests/unit/support/descriptors.h"

enum { PORT = 9100 };

static char folder[] = "/tmp/test_listen-XXXXXX";
static char ip[INET_ADDRSTRLEN]; /* of 127.0.0.0/8: of this process alone */
static struct sd_listen passed;  /* what a service manager has passed: nothing */
static struct endpoints endpoints = {.sd_listen = &passed};
static char error[256];
static size_t open_before;
static size_t in_use_before;

static size_t files(void)
{
    size_t count = 0;
    DIR *dir = opendir(folder);
    cr_assert_not_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(folder));
    int pid = getpid();
    snprintf(ip, sizeof(ip), "127.%d.%d.%d", 1 + (pid >> 16 & 0x3f), pid >> 8 & 0xff, pid & 0xff);
    open_before = open_count();
    in_use_before = mem_in_use();
}

static void tear_down(void)
{
    endpoints_prune(&endpoints, NULL);
    cr_assert_eq(endpoints.count, 0);
    cr_assert_eq(mem_in_use(), in_use_before);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
    cr_assert_eq(files(), 0, "no path is left");
    rmdir(folder);
}

TestSuite(listen, .init = set_up, .fini = tear_down);

/*
 * A config with these listeners: a letter each, in upper case for TCP (A: port PORT and so on), in
 * lower case for a UNIX socket (a: FOLDER/a and so on).
 */
static struct conf *conf_of(unsigned shards, const char *letters)
{
    char text[4096];
    struct conf *conf = NULL;
    int n = snprintf(text, sizeof(text), "shards: %u\nlisteners:\n", shards);
    for (; *letters != '\0'; letters++) {
        char address[128];
        if (*letters >= 'a')
            snprintf(address, sizeof(address), "unix:%s/%c", folder, *letters);
        else
            snprintf(address, sizeof(address), "%s:%d", ip, PORT + *letters - 'A');
        n += snprintf(text + n, sizeof(text) - (size_t)n,
            "  - {name: l%c, address: '%s', protocol: http, routes: [{path: /, kind: http, pool: "
            "p}]}\n",
            *letters, address);
    }
    n += snprintf(
        text + n, sizeof(text) - (size_t)n, "pools:\n  - {name: p, workers: ['unix:/x']}\n");
    cr_assert_eq(conf_parse("conf", text, (size_t)n, &conf, error, sizeof(error)), 0, "%s", error);
    return conf;
}

/* The same with the TCP address of a letter as that of `admin`. */
static struct conf *conf_with_admin(unsigned shards, const char *letters, char admin)
{
    struct conf *conf = conf_of(shards, letters);
    struct conf *other = conf_of(1, (char[]){admin, '\0'});
    conf->admin.text = other->listeners[0].text;
    other->listeners[0].text = NULL;
    conf->admin.addresses[0] = other->listeners[0].address;
    conf->admin.naddresses = 1;
    conf_free(other);
    return conf;
}

static int bind_conf(unsigned shards, const char *letters)
{
    struct conf *conf = conf_of(shards, letters);
    int r = endpoints_bind(&endpoints, conf, error, sizeof(error));
    conf_free(conf);
    return r;
}

static void prune_to(const char *letters)
{
    struct conf *conf = conf_of(1, letters);
    endpoints_prune(&endpoints, conf);
    conf_free(conf);
}

static struct conf_address address_of(char letter)
{
    struct conf *conf = conf_of(1, (char[]){letter, '\0'});
    struct conf_address address = conf->listeners[0].address;
    conf_free(conf);
    return address;
}

static struct endpoint *find(char letter)
{
    struct conf_address address = address_of(letter);
    return endpoints_find(&endpoints, &address);
}

static uint32_t count_of(char letter)
{
    const struct endpoint *endpoint = find(letter);
    return endpoint == NULL ? 0 : endpoint->count;
}

static ino_t inode(int fd)
{
    struct stat st;
    cr_assert_eq(fstat(fd, &st), 0);
    return st.st_ino;
}

/* Returns a descriptor, or -errno. */
static int dial(char letter)
{
    struct conf_address address = address_of(letter);
    int fd = socket(address.sock.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    if (connect(fd, &address.sock.any, address.len) == 0)
        return fd;
    int r = -errno;
    close(fd);
    return r;
}

/* Accepts all that waits there; returns how many. */
static unsigned accept_all(int fd)
{
    unsigned n = 0;
    for (int got; (got = accept(fd, NULL, NULL)) >= 0; n++)
        close(got);
    cr_assert_eq(errno, EAGAIN);
    return n;
}

/* A socket of somebody else, listening where the letter says. */
static int squat(char letter, bool reuse_port, bool listens)
{
    struct conf_address address = address_of(letter);
    int one = 1;
    int fd = socket(address.sock.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    cr_assert_eq(bind(fd, &address.sock.any, address.len), 0);
    cr_assert(!listens || listen(fd, 1) == 0);
    return fd;
}

static const char *path_of(char letter)
{
    static char path[sizeof(folder) + 4];
    snprintf(path, sizeof(path), "%s/%c", folder, letter);
    return path;
}

Test(listen, a_socket_for_each_shard_or_for_all)
{
    struct stat st;
    cr_assert_eq(bind_conf(3, "Aab"), 0);
    cr_assert_eq(endpoints.count, 3);
    cr_assert_eq(count_of('A'), 3);
    cr_assert_eq(count_of('a'), 1);
    cr_assert(!find('A')->shared && find('a')->shared);
    cr_assert_eq(open_count(), open_before + 5);
    cr_assert_eq(stat(path_of('a'), &st), 0);
    cr_assert(S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0666);
    for (size_t i = 0; i < endpoints.count; i++) {
        for (uint32_t k = 0; k < endpoints.all[i].count; k++) {
            cr_assert(fcntl(endpoints.all[i].fds[k], F_GETFD) & FD_CLOEXEC);
            cr_assert(fcntl(endpoints.all[i].fds[k], F_GETFL) & O_NONBLOCK);
        }
    }
    for (const char *letter = "Aa"; *letter != '\0'; letter++) {
        cr_assert_eq(dial(*letter), -ECONNREFUSED, "nobody waits for shards that never serve");
        cr_assert_eq(endpoints_listen(&endpoints), 0);
        int fd = dial(*letter);
        cr_assert_geq(fd, 0);
        close(fd);
        unsigned accepted = 0;
        for (uint32_t k = 0; k < find(*letter)->count; k++)
            accepted += accept_all(find(*letter)->fds[k]);
        cr_assert_eq(accepted, 1);
        if (*letter == 'A') { /* for the next one as new */
            endpoints_prune(&endpoints, NULL);
            cr_assert_eq(files(), 0);
            cr_assert_eq(bind_conf(3, "Aab"), 0);
        }
    }
}

Test(listen, what_stays_in_the_config_stays)
{
    ino_t before[3];
    cr_assert_eq(bind_conf(2, "ABa"), 0);
    cr_assert_eq(endpoints_listen(&endpoints), 0);
    before[0] = inode(find('B')->fds[0]);
    before[1] = inode(find('B')->fds[1]);
    before[2] = inode(find('a')->fds[0]);
    int waiting = dial('a');
    cr_assert_geq(waiting, 0);
    cr_assert_eq(bind_conf(4, "CBba"), 0);
    cr_assert_eq(endpoints.count, 5);
    cr_assert(count_of('A') == 2 && count_of('B') == 4 && count_of('C') == 4);
    prune_to("CBba");
    cr_assert_eq(endpoints.count, 4);
    cr_assert_null(find('A'));
    cr_assert_eq(open_count(), open_before + 4 + 4 + 2 + 1);
    cr_assert_eq(inode(find('B')->fds[0]), before[0]);
    cr_assert_eq(inode(find('B')->fds[1]), before[1]);
    cr_assert_eq(inode(find('a')->fds[0]), before[2]);
    cr_assert_eq(accept_all(find('a')->fds[0]), 1, "with what waits in its queue");
    close(waiting);
    /* Fewer shards: none of the sockets is closed. */
    cr_assert_eq(bind_conf(1, "B"), 0);
    prune_to("B");
    cr_assert_eq(count_of('B'), 4);
    cr_assert_eq(files(), 0, "the paths are gone with their sockets");
    cr_assert_eq(dial('A'), -ECONNREFUSED);
}

/* New sockets take no clients until shards serve them, and none is lost when they are given up. */
Test(listen, taken_back)
{
    enum { CLIENTS = 40 };
    int clients[CLIENTS];
    unsigned accepted = 0;
    cr_assert_eq(bind_conf(2, "Aa"), 0);
    cr_assert_eq(endpoints_listen(&endpoints), 0);
    size_t count = open_count();
    const struct endpoints before = endpoints;
    cr_assert_eq(bind_conf(8, "ABab"), 0);
    cr_assert_eq(count_of('A'), 8);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = dial('A');
        cr_assert_geq(clients[i], 0);
    }
    cr_assert_eq(dial('B'), -ECONNREFUSED);
    endpoints_roll_back(&endpoints, &before);
    cr_assert(endpoints.count == 2 && count_of('A') == 2 && count_of('a') == 1);
    for (uint32_t k = 0; k < 2; k++)
        accepted += accept_all(find('A')->fds[k]);
    cr_assert_eq(accepted, (unsigned)CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++)
        close(clients[i]);
    cr_assert_eq(open_count(), count);
    cr_assert_eq(files(), 1);
    endpoints_roll_back(&endpoints, &before); /* nothing to take back */
    cr_assert_eq(open_count(), count);
}

Test(listen, all_or_nothing)
{
    int other = squat('C', false, true);
    size_t count = open_count();
    cr_assert_eq(bind_conf(2, "AaBCb"), -EADDRINUSE);
    char wanted[128];
    snprintf(wanted, sizeof(wanted),
        "listener lC: cannot listen on %s:%d: somebody listens there already", ip, PORT + 2);
    cr_assert_str_eq(error, wanted);
    cr_assert_eq(endpoints.count, 0);
    cr_assert(open_count() == count && files() == 0);
    cr_assert_eq(bind_conf(2, "Aa"), 0);
    count = open_count();
    cr_assert_eq(bind_conf(4, "AabC"), -EADDRINUSE);
    cr_assert(endpoints.count == 2 && count_of('A') == 2 && open_count() == count && files() == 1);
    close(other);
    cr_assert_eq(bind_conf(4, "AabC"), 0);
}

/* SO_REUSEPORT must not let us share a port in silence. */
Test(listen, a_port_that_somebody_shares)
{
    int other = squat('A', true, true);
    cr_assert_eq(bind_conf(2, "A"), -EADDRINUSE);
    close(other);
    cr_assert_eq(bind_conf(2, "A"), 0);
}

Test(listen, paths_that_are_there_already)
{
    int other = squat('a', false, true);
    cr_assert_eq(bind_conf(1, "a"), -EADDRINUSE);
    cr_assert_not_null(strstr(error, "somebody listens there already"));
    cr_assert_eq(access(path_of('a'), F_OK), 0);
    close(other);
    cr_assert_eq(bind_conf(1, "a"), 0, "a stale socket is replaced");
    endpoints_prune(&endpoints, NULL);

    int file = open(path_of('a'), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(file);
    cr_assert_eq(bind_conf(1, "a"), -ENOTSOCK);
    cr_assert_not_null(strstr(error, "there is a file of that name that is no socket"));
    cr_assert_eq(access(path_of('a'), F_OK), 0);
    unlink(path_of('a'));
    cr_assert_eq(symlink("/nowhere", path_of('a')), 0);
    cr_assert_eq(bind_conf(1, "a"), -ENOTSOCK);
    unlink(path_of('a'));
}

/* Only what we have made is unlinked. */
Test(listen, a_path_that_was_replaced)
{
    cr_assert_eq(bind_conf(1, "ab"), 0);
    unlink(path_of('a'));
    int other = squat('a', false, true);
    cr_assert_eq(bind_conf(1, "ab"), 0);
    endpoints_prune(&endpoints, NULL);
    cr_assert_eq(access(path_of('b'), F_OK), -1);
    cr_assert_eq(access(path_of('a'), F_OK), 0);
    int client = dial('a');
    cr_assert_geq(client, 0);
    close(client);
    close(other);
    unlink(path_of('a'));
}

static int renew_conf(const char *letters)
{
    struct conf *conf = conf_of(2, letters);
    int r = endpoints_renew(&endpoints, conf, error, sizeof(error));
    conf_free(conf);
    return r;
}

/*
 * Whoever dials the path reaches the new socket; what waited in the queue of the old one is there.
 */
Test(listen, a_path_that_is_gone_is_bound_again)
{
    cr_assert_eq(bind_conf(2, "Aab"), 0);
    cr_assert_eq(endpoints_listen(&endpoints), 0);
    size_t count = open_count();
    cr_assert_eq(renew_conf("Aab"), 0);
    cr_assert_eq(open_count(), count, "nothing is done where nothing is gone");
    int waiting = dial('a');
    cr_assert_geq(waiting, 0);
    unlink(path_of('a'));
    cr_assert_eq(dial('a'), -ENOENT);
    cr_assert_eq(renew_conf("Aab"), 0);
    cr_assert_eq(count_of('a'), 2);
    cr_assert(count_of('b') == 1 && count_of('A') == 2);
    cr_assert_eq(dial('a'), -ECONNREFUSED, "nobody serves it yet");
    cr_assert_eq(endpoints_listen(&endpoints), 0);
    int client = dial('a');
    cr_assert_geq(client, 0);
    cr_assert_eq(accept_all(find('a')->fds[0]), 1);
    cr_assert_eq(accept_all(find('a')->fds[1]), 1);
    prune_to("Aab");
    cr_assert_eq(count_of('a'), 1);
    cr_assert_eq(open_count(), count + 2, "two clients");
    cr_assert_eq(renew_conf("Aab"), 0);
    cr_assert_eq(count_of('a'), 1);
    close(waiting);
    close(client);
}

Test(listen, a_path_that_was_replaced_is_bound_again)
{
    struct stat st;
    cr_assert_eq(bind_conf(1, "ab"), 0);
    unlink(path_of('a'));
    int other = squat('a', false, true);
    ino_t inode_of_other = stat(path_of('a'), &st) == 0 ? st.st_ino : 0;
    cr_assert_eq(renew_conf("ab"), -EADDRINUSE, "it is another program's");
    char wanted[160];
    snprintf(wanted, sizeof(wanted),
        "listener la: %s was replaced, and cannot be bound again: somebody listens there already",
        path_of('a'));
    cr_assert_str_eq(error, wanted);
    cr_assert_eq(stat(path_of('a'), &st), 0);
    cr_assert_eq(st.st_ino, inode_of_other);
    cr_assert_eq(count_of('a'), 1);
    close(other);
    cr_assert_eq(renew_conf("ab"), 0, "it is stale now");
    cr_assert_eq(count_of('a'), 2);
    unlink(path_of('b'));
    close(open(path_of('b'), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    cr_assert_eq(renew_conf("ab"), -ENOTSOCK);
    unlink(path_of('b'));
}

/* The reload comes to nothing: what was bound for it is gone, and nothing else. */
Test(listen, a_path_that_is_gone_taken_back)
{
    cr_assert_eq(bind_conf(1, "ab"), 0);
    unlink(path_of('a'));
    const struct endpoints before = endpoints;
    size_t count = open_count();
    cr_assert_eq(renew_conf("ab"), 0);
    cr_assert_eq(files(), 2);
    endpoints_roll_back(&endpoints, &before);
    cr_assert(count_of('a') == 1 && open_count() == count && files() == 1);
    cr_assert_eq(renew_conf("ab"), 0, "as it was before");
    cr_assert_eq(count_of('a'), 2);
    for (long n = 0;; n++) { /* without memory */
        endpoints_roll_back(&endpoints, &before);
        struct conf *conf = conf_of(1, "ab");
        mem_fail_after(n);
        int r = endpoints_renew(&endpoints, conf, error, sizeof(error));
        mem_fail_after(-1);
        conf_free(conf);
        if (r == 0)
            break;
        cr_assert(r == -ENOMEM && count_of('a') == 1 && open_count() == count);
    }
}

Test(listen, sockets_that_are_bound_already)
{
    struct conf_address a = address_of('A');
    struct conf_address path = address_of('a');
    int fds[2] = {squat('A', true, false), squat('A', true, false)};
    cr_assert_eq(endpoints_add(&endpoints, &a, fds[0]), 0);
    cr_assert_eq(endpoints_add(&endpoints, &a, fds[1]), 0);
    cr_assert_eq(endpoints_add(&endpoints, &path, squat('a', false, false)), 0);
    cr_assert_eq(endpoints.count, 2);
    cr_assert(count_of('A') == 2 && find('A')->fds[0] == fds[0] && find('A')->fds[1] == fds[1]);
    cr_assert(!find('A')->shared && find('a')->shared && find('a')->ino != 0);
    size_t count = open_count();
    cr_assert_eq(bind_conf(2, "Aa"), 0);
    cr_assert_eq(open_count(), count, "they are what the config needs");
    cr_assert_eq(bind_conf(3, "Aa"), 0);
    cr_assert_eq(count_of('A'), 3);
    endpoints_prune(&endpoints, NULL);
    cr_assert_eq(files(), 0, "the path counts as ours");
}

/* They are used for their addresses by all shards, and their paths are not ours. */
Test(listen, sockets_that_were_passed)
{
    passed.sockets[0].address = address_of('A');
    passed.sockets[0].fd = squat('A', false, true);
    passed.sockets[1].address = address_of('a');
    passed.sockets[1].fd = squat('a', false, true);
    passed.count = 2;
    size_t count = open_count();
    cr_assert_eq(bind_conf(3, "aAB"), 0);
    cr_assert(count_of('a') == 1 && count_of('A') == 1 && count_of('B') == 3);
    cr_assert(find('A')->shared && find('a')->shared && !find('B')->shared);
    cr_assert_eq(inode(find('A')->fds[0]), inode(passed.sockets[0].fd));
    cr_assert_eq(inode(find('a')->fds[0]), inode(passed.sockets[1].fd));
    cr_assert_eq(endpoints_listen(&endpoints), 0);
    prune_to("B");
    cr_assert_eq(open_count(), count + 3);
    cr_assert_eq(files(), 1);
    cr_assert_eq(bind_conf(3, "aAB"), 0, "they are there for another time");
    cr_assert(count_of('a') == 1 && count_of('A') == 1);
    close(passed.sockets[0].fd);
    close(passed.sockets[1].fd);
    passed.count = 0;
    unlink(path_of('a'));
}

/* A socket without SO_REUSEPORT is the only one of its address. */
Test(listen, a_socket_that_is_alone)
{
    struct conf_address address = address_of('A');
    cr_assert_eq(endpoints_add(&endpoints, &address, squat('A', false, false)), 0);
    cr_assert_eq(bind_conf(4, "A"), 0);
    cr_assert(count_of('A') == 1 && find('A')->shared);
}

Test(listen, as_many_addresses_as_there_can_be)
{
    struct conf_address address = address_of('A');
    for (unsigned i = 0; i < ARRAY_LEN(endpoints.all); i++) {
        address.sock.in.sin_port = htons((uint16_t)(1 + i));
        cr_assert_eq(endpoints_add(&endpoints, &address, open("/dev/null", O_CLOEXEC)), 0);
    }
    size_t count = open_count();
    cr_assert_eq(endpoints_add(&endpoints, &address, open("/dev/null", O_CLOEXEC)), 0);
    address.sock.in.sin_port = htons(1000);
    cr_assert_eq(endpoints_add(&endpoints, &address, open("/dev/null", O_CLOEXEC)), -ENOSPC);
    cr_assert_eq(open_count(), count + 1, "the descriptor is consumed all the same");
}

/* Wherever memory or descriptors run out, what there was is as before. */
Test(listen, for_want_of_anything)
{
    cr_assert_eq(bind_conf(2, "Aa"), 0);
    struct conf *conf = conf_of(4, "ABab");
    const struct endpoints before = endpoints;
    size_t in_use = mem_in_use();
    size_t count = open_count();
    int r = -1;
    for (long n = 0; n < 100 && r != 0; n++) {
        mem_fail_after(n);
        r = endpoints_bind(&endpoints, conf, error, sizeof(error));
        mem_fail_after(-1);
        if (r != 0) {
            cr_assert_eq(r, -ENOMEM);
            cr_assert(endpoints.count == 2 && count_of('A') == 2 && files() == 1);
            cr_assert_eq(open_count(), count);
            cr_assert_leq(mem_in_use(), in_use + 2 * sizeof(int) * 8); /* a list with room */
        }
    }
    cr_assert_eq(r, 0);
    endpoints_roll_back(&endpoints, &before);
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int next = open("/dev/null", O_CLOEXEC);
    close(next);
    r = -1;
    for (int room = 0; room < 20 && r != 0; room++) {
        struct rlimit low = {(rlim_t)next + (rlim_t)room, limit.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
        r = endpoints_bind(&endpoints, conf, error, sizeof(error));
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (r != 0) {
            cr_assert_eq(r, -EMFILE);
            cr_assert(open_count() == count && files() == 1 && endpoints.count == 2);
        }
    }
    cr_assert_eq(r, 0);
    conf_free(conf);
}

Test(listen, the_admin_address)
{
    struct conf *conf = conf_with_admin(3, "A", 'B');
    cr_assert_eq(endpoints_bind(&endpoints, conf, error, sizeof(error)), 0, "%s", error);
    cr_assert_eq(endpoints_listen(&endpoints), 0);
    cr_expect_eq(count_of('A'), 3);
    cr_expect_eq(count_of('B'), 1, "one process accepts there");
    ino_t before = inode(find('B')->fds[0]);
    cr_assert_eq(endpoints_bind(&endpoints, conf, error, sizeof(error)), 0);
    cr_expect_eq(inode(find('B')->fds[0]), before);
    endpoints_prune(&endpoints, conf);
    cr_expect_eq(count_of('B'), 1, "it stays");
    close(dial('B'));
    conf_free(conf);
    prune_to("A");
    cr_expect_eq(count_of('B'), 0);
    cr_expect_eq(dial('B'), -ECONNREFUSED);

    conf = conf_with_admin(1, "A", 'b');
    cr_assert_eq(endpoints_bind(&endpoints, conf, error, sizeof(error)), 0, "%s", error);
    cr_assert_eq(endpoints_listen(&endpoints), 0);
    endpoints_await(&endpoints, &conf->admin); /* which is ours: it waits, and ends */
    cr_assert_eq(unlink(conf->admin.addresses[0].sock.un.sun_path), 0);
    cr_assert_eq(endpoints_renew(&endpoints, conf, error, sizeof(error)), 0);
    cr_expect_eq(count_of('b'), 2, "bound anew, as that of a listener is");
    close(dial('b'));
    conf_free(conf);
}

Test(listen, an_admin_address_that_is_taken)
{
    struct conf *conf = conf_with_admin(1, "A", 'B');
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, &conf->admin.addresses[0].sock.any, conf->admin.addresses[0].len), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_expect_eq(endpoints_bind(&endpoints, conf, error, sizeof(error)), -EADDRINUSE);
    cr_expect_not_null(strstr(error, "admin: cannot listen on "), "%s", error);
    cr_expect_eq(endpoints.count, 0, "all or nothing");
    close(fd);
    conf_free(conf);
}
