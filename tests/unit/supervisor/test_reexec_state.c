#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/supervisor/reexec_state.h"
#include "frontd/supervisor/supervisor.h"

/* Where the descriptors are that the state names. */
enum {
    FD_LOCK = 100,
    FD_ALIVE,
    FD_WAKE,
    FD_WAKE_TOO,
    FD_TCP,
    FD_TCP_TOO,
    FD_UNIX,
    FD_CONF,
    FD_SHARE,
    FD_CONTROL,
    FD_TLS,
    FD_TICKETS,
    FD_END,
    FD_STATE = FD_END, /* whatever comes next */
    FD_LIMIT = 200,
};

static const char config[] = "shards: 2\n"
                             "listeners:\n"
                             "  - {name: l, address: '127.0.0.1:8080', protocol: http, routes:\n"
                             "     [{path: /, kind: http, pool: p}]}\n"
                             "pools:\n"
                             "  - {name: p, workers: ['unix:/x']}\n";

static struct supervisor *supervisor;
static pid_t sleeper;
static size_t in_use_before;

/* Puts a descriptor there, close-on-exec; from: consumed. */
static void place(int from, int to)
{
    CHECK(from >= 0 && dup3(from, to, O_CLOEXEC) == to);
    close(from);
}

static int memfd_of(const char *text, size_t n)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, text, n) == (ssize_t)n);
    return fd;
}

/* The key that the program before has used. */
static struct tls_ticket_key ticket_key;

static int make_tickets(void)
{
    struct ticket_ring ring = {0};
    CHECK(ticket_ring_step(&ring, 3600 * 1000));
    ticket_key = ring.keys->keys[0];
    int fd = ticket_ring_save(&ring);
    ticket_ring_deinit(&ring);
    return fd;
}

static void make_descriptors(void)
{
    int pair[2];
    int share;
    place(open("/dev/null", O_RDWR | O_CLOEXEC), FD_LOCK);
    place(open("/dev/null", O_RDWR | O_CLOEXEC), FD_ALIVE);
    place(eventfd(0, EFD_CLOEXEC), FD_WAKE);
    place(eventfd(0, EFD_CLOEXEC), FD_WAKE_TOO);
    place(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), FD_TCP);
    place(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), FD_TCP_TOO);
    place(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), FD_UNIX);
    place(memfd_of(config, sizeof(config) - 1), FD_CONF);
    place(memfd_of("", 0), FD_TLS);
    place(make_tickets(), FD_TICKETS);
    CHECK(share_create(0, &share) == 0);
    place(share, FD_SHARE);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    place(pair[0], FD_CONTROL);
    close(pair[1]);
}

static void hex_of(const void *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
}

static const char *share_text(void)
{
    static char text[1024];
    int n = snprintf(text, sizeof(text),
        "\"share\":{\"layout\":%d,\"key\":[1,"
        "18446744073709551615],\"pools\":[",
        SHARE_LAYOUT);
    for (unsigned i = 0; i < SHARE_POOLS; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, i == 0 ? "77" : ",0");
    snprintf(text + n, sizeof(text) - (size_t)n, "]},");
    return text;
}

/* A state as it is written, in full. */
static size_t make_state(char *out, size_t size)
{
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons(8080)};
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/nowhere/sock"};
    char tcp_hex[2 * sizeof(tcp) + 1];
    char local_hex[2 * sizeof(local) + 1];
    hex_of(&tcp, sizeof(tcp), tcp_hex);
    hex_of(&local, sizeof(local), local_hex);
    int n = snprintf(out, size,
        "{\"version\":1,\"instance\":\"0123456789abcdef0123456789abcdef\","
        "\"conn_key\":\"00112233445566778899aabbccddeeff\","
        "\"incarnations\":18446744073709551615,\"last_generation\":12,\"asked_at\":123456789012,"
        "\"exe\":\"2f6f70742ffc2f66\",\"cwd\":\"2f737276\",\"pending\":%d,\"lock_fd\":%d,\"alive_"
        "fd\":%d,\"tickets_fd\":%d,\"wake_fds\":[%d,-1,%d],\"endpoints\":["
        "{\"address\":\"%s\",\"shared\":false,\"dev\":0,\"ino\":0,\"fds\":[%d,%d]},"
        "{\"address\":\"%s\",\"shared\":true,\"dev\":7,\"ino\":9007199254740993,\"fds\":[%d]}],"
        "\"generations\":[{\"number\":12,%s\"conf_fd\":%d,\"tls_fd\":%d,\"share_fd\":%d,\"shards\":"
        "2,"
        "\"children\":["
        "{\"seat\":0,\"incarnation\":4294967297,\"pid\":%d,\"sock\":%d,\"ready\":true,"
        "\"ours\":true},"
        "{\"seat\":2,\"incarnation\":5,\"pid\":-1,\"sock\":-1,\"ready\":false,\"ours\":true}"
        "]}]}",
        RELOAD_ON_UPGRADE, FD_LOCK, FD_ALIVE, FD_TICKETS, FD_WAKE, FD_WAKE_TOO, tcp_hex, FD_TCP,
        FD_TCP_TOO, local_hex, FD_UNIX, share_text(), FD_CONF, FD_TLS, FD_SHARE, (int)sleeper,
        FD_CONTROL);
    CHECK(n > 0 && (size_t)n < size);
    return (size_t)n;
}

static void begin(void)
{
    supervisor = mem_zalloc(sizeof(*supervisor));
    CHECK(supervisor != NULL && uv_loop_init(&supervisor->front.loop) == 0);
    supervisor->front.conf_name = "/nowhere/frontd.yaml";
    supervisor->front.endpoints.sd_listen = &supervisor->sd_listen;
    front_init(&supervisor->front, NULL);
    reload_init(&supervisor->reload);
    config_check_init(&supervisor->check);
}

/* Lets go of all that was read; closes every descriptor that was placed. */
static void end(void)
{
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            generation_close(supervisor->front.generations[i]);
    }
    if (supervisor->workers.ctx.loop != NULL)
        workers_close(&supervisor->workers);
    CHECK(uv_run(&supervisor->front.loop, UV_RUN_DEFAULT) == 0 &&
          uv_loop_close(&supervisor->front.loop) == 0);
    endpoints_prune(&supervisor->front.endpoints, NULL);
    ticket_ring_deinit(&supervisor->front.tickets);
    mem_free(supervisor);
    for (int fd = FD_LOCK; fd < FD_LIMIT; fd++)
        close(fd);
}

static void set_up(void)
{
    sleeper = fork();
    if (sleeper == 0) {
        pause();
        _exit(0);
    }
    log_init(LOG_ERROR, LOG_TEXT, "test");
    in_use_before = mem_in_use();
}

static void tear_down(void)
{
    kill(sleeper, SIGKILL);
    waitpid(sleeper, NULL, 0);
}

TestSuite(state, .init = set_up, .fini = tear_down, .timeout = 300);

static int read_text(const char *text, size_t n)
{
    char error[512];
    return reexec_read(&supervisor->front, &supervisor->reload, &supervisor->workers,
        memfd_of(text, n), error, sizeof(error));
}

/* Whether all that is in `part` is in `whole`, too. */
static bool is_part(struct json_object *part, struct json_object *whole)
{
    if (json_object_is_type(part, json_type_object)) {
        json_object_object_foreach(part, key, value)
        {
            struct json_object *other;
            if (!json_object_object_get_ex(whole, key, &other) || !is_part(value, other)) {
                fprintf(stderr, "it lacks %s: %s\n", key, json_object_to_json_string(value));
                return false;
            }
        }
        return true;
    }
    if (!json_object_is_type(part, json_type_array))
        return json_object_equal(part, whole);
    for (size_t i = 0; i < json_object_array_length(part); i++) {
        if (!is_part(json_object_array_get_idx(part, i), json_object_array_get_idx(whole, i)))
            return false;
    }
    return true;
}

Test(state, what_was_written_is_read)
{
    char text[8192];
    make_descriptors();
    begin();
    size_t n = make_state(text, sizeof(text));
    cr_assert_eq(read_text(text, n), 0);

    cr_assert_str_eq(supervisor->front.instance, "0123456789abcdef0123456789abcdef");
    for (unsigned i = 0; i < IDS_KEY_SIZE; i++)
        cr_assert_eq(supervisor->front.conn_key[i], i * 0x11);
    cr_assert_eq(supervisor->front.incarnations, UINT64_MAX);
    cr_assert_eq(supervisor->reload.state, RELOAD_CHECKING);
    cr_assert(supervisor->reload.upgrade && supervisor->reload.pending == RELOAD_ON_UPGRADE);
    cr_assert_eq(supervisor->reload.asked_at, 123456789012);
    cr_assert_str_eq(supervisor->front.paths.exe, "/opt/\xfc/f", "any bytes but NUL");
    cr_assert_str_eq(supervisor->front.paths.cwd, "/srv");
    cr_assert(supervisor->front.lock_fd == FD_LOCK && supervisor->front.alive_fd == -1);
    cr_assert_eq(fcntl(FD_ALIVE, F_GETFD), -1, "it is of no use, and closed");
    place(open("/dev/null", O_RDWR | O_CLOEXEC), FD_ALIVE);
    supervisor->front.alive_fd = FD_ALIVE; /* for a program before */
    cr_assert_eq(supervisor->front.tickets_fd, -1);
    cr_assert_eq(fcntl(FD_TICKETS, F_GETFD), -1, "they have been read, and it is closed");
    cr_assert_eq(ticket_ring_count(&supervisor->front.tickets), 1);
    cr_assert_eq(
        memcmp(&supervisor->front.tickets.keys->keys[0], &ticket_key, sizeof(ticket_key)), 0);
    place(make_tickets(), FD_TICKETS);
    supervisor->front.tickets_fd = FD_TICKETS; /* for a program that follows */
    cr_assert(supervisor->front.wake_fds[0] == FD_WAKE && supervisor->front.wake_fds[1] == -1 &&
              supervisor->front.wake_fds[2] == FD_WAKE_TOO && supervisor->front.wake_fds[3] == -1);
    cr_assert_eq(supervisor->front.endpoints.count, 2);
    const struct endpoint *local = &supervisor->front.endpoints.all[1];
    cr_assert(supervisor->front.endpoints.all[0].count == 2 &&
              supervisor->front.endpoints.all[0].fds[1] == FD_TCP_TOO);
    cr_assert(!supervisor->front.endpoints.all[0].shared && local->shared && local->count == 1);
    cr_assert(local->dev == 7 && local->ino == 9007199254740993);
    cr_assert_null(supervisor->front.generations[1]);
    const struct generation *generation = supervisor->front.generations[0];
    cr_assert(generation->role == GENERATION_SERVING && generation->number == 12);
    cr_assert(generation->conf_fd == FD_CONF && generation->share_fd == FD_SHARE);
    cr_assert_eq(generation->tls_fd, FD_TLS);
    cr_assert_not_null(generation->share);
    const struct share_table *known = share_table(generation->share);
    cr_assert(known->key.k0 == 1 && known->key.k1 == UINT64_MAX && known->pools[0] == 77);
    cr_assert_str_eq(generation->conf->listeners[0].name, "l");
    cr_assert_eq(generation->nprocesses, 2);
    const struct shard_process *child = generation->processes;
    cr_assert(child[0].pid == sleeper && child[0].sock == FD_CONTROL && child[0].seat == 0);
    cr_assert(child[0].state == SHARD_PROCESS_READY && child[0].incarnation == 4294967297);
    cr_assert(child[1].pid == -1 && child[1].sock == -1 && child[1].seat == 2);
    cr_assert_eq(child[1].state, SHARD_PROCESS_DOWN);

    /* And what is read can be written again. */
    struct stat st;
    int fd = reexec_write(&supervisor->front, &supervisor->reload, &supervisor->workers);
    cr_assert_geq(fd, 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(fstat(fd, &st), 0);
    char *again = calloc(1, (size_t)st.st_size + 1);
    cr_assert_eq(pread(fd, again, (size_t)st.st_size, 0), (ssize_t)st.st_size);
    close(fd);
    struct json_object *before = json_tokener_parse(text);
    struct json_object *after = json_tokener_parse(again);
    cr_assert(before != NULL && after != NULL && is_part(before, after), "%s", again);
    json_object_put(before);
    json_object_put(after);
    free(again);
    end();
    cr_assert_eq(mem_in_use(), in_use_before);
}

/* Programs before wrote by json-c, which escapes what need not be: "\/". */
Test(state, what_json_c_writes_is_read)
{
    char text[8192];
    make_descriptors();
    begin();
    size_t n = make_state(text, sizeof(text) - 64);
    snprintf(text + n - 1, sizeof(text) - n,
        ",\"managed\":{\"pools\":[{\"name\":\"app\"}]},"
        "\"later\":\"/\\n\\u00e4\"}");
    struct json_object *json = json_tokener_parse(text);
    cr_assert_not_null(json);
    const char *written = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN);
    cr_assert_not_null(strstr(written, "\"\\/\\n"));
    cr_assert_eq(read_text(written, strlen(written)), 0);
    json_object_put(json);
    cr_assert_str_eq(supervisor->front.instance, "0123456789abcdef0123456789abcdef");
    cr_assert(
        supervisor->front.incarnations == UINT64_MAX && supervisor->front.endpoints.count == 2);
    cr_assert_eq(supervisor->front.generations[0]->processes[0].pid, sleeper);
    cr_assert(supervisor->workers.found && !list_empty(&supervisor->workers.ctx.pools));
    end();
    cr_assert_eq(mem_in_use(), in_use_before);
}

/* Nothing is left out: there is the whole state, or none. */
Test(state, written_without_memory)
{
    char text[8192];
    make_descriptors();
    begin();
    cr_assert_eq(read_text(text, make_state(text, sizeof(text))), 0);
    size_t before = mem_in_use();
    long n = 0;
    for (int fd = -ENOMEM; fd < 0; n++) {
        mem_fail_after(n);
        fd = reexec_write(&supervisor->front, &supervisor->reload, &supervisor->workers);
        mem_fail_after(-1);
        cr_assert(fd == -ENOMEM || fd > 0, "allocation %ld: %d", n, fd);
        cr_assert_eq(mem_in_use(), before);
        cr_assert_lt(n, 100);
        if (fd > 0)
            close(fd);
    }
    cr_assert_gt(n, 1);
    end();
}

/* What cannot be read in full is said, whichever allocation fails. */
Test(state, read_without_memory)
{
    long n = 0;
    for (bool all = false; !all; n++) {
        char text[8192];
        make_descriptors();
        begin();
        size_t length = make_state(text, sizeof(text));
        mem_fail_after(n);
        int r = read_text(text, length);
        mem_fail_after(-1);
        /* Without memory for keys of tickets there are new ones. */
        all = r == 0 && ticket_ring_count(&supervisor->front.tickets) > 0;
        cr_assert(r == 0 || r == -ENOMEM || r == -EINVAL, "allocation %ld: %d", n, r);
        cr_assert(r < 0 || supervisor->front.generations[0]->nprocesses == 2, "allocation %ld", n);
        cr_assert_lt(n, 10000);
        end();
        cr_assert_eq(mem_in_use(), in_use_before, "allocation %ld", n);
    }
    cr_assert_gt(n, 3);
}

static bool is_kept(int fd)
{
    return !(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

Test(state, exactly_what_it_names_is_kept_open)
{
    char text[8192];
    make_descriptors();
    begin();
    for (int fd = FD_LOCK; fd < FD_END; fd++) /* as the program before has left them */
        cr_assert_eq(fcntl(fd, F_SETFD, 0), 0);
    cr_assert_eq(read_text(text, make_state(text, sizeof(text))), 0);
    place(open("/dev/null", O_RDWR | O_CLOEXEC), FD_ALIVE);
    supervisor->front.alive_fd = FD_ALIVE;
    place(make_tickets(), FD_TICKETS);
    supervisor->front.tickets_fd = FD_TICKETS;
    place(open("/dev/null", O_CLOEXEC), FD_STATE);
    place(open("/dev/null", O_CLOEXEC), FD_STATE + 1); /* of no concern */
    for (int fd = FD_LOCK; fd <= FD_STATE + 1; fd++)
        cr_assert(!is_kept(fd), "%d: whatever is read is close-on-exec again", fd);
    bool before[FD_LIMIT];
    for (int fd = 0; fd < FD_LIMIT; fd++)
        before[fd] = is_kept(fd);
    for (int round = 0; round < 2; round++) {
        reexec_keep_open(&supervisor->front, &supervisor->workers, FD_STATE, true);
        for (int fd = 0; fd < FD_LIMIT; fd++)
            cr_assert_eq(is_kept(fd), before[fd] || (fd >= FD_LOCK && fd <= FD_STATE), "%d", fd);
        reexec_keep_open(&supervisor->front, &supervisor->workers, FD_STATE, false);
        for (int fd = 0; fd < FD_LIMIT; fd++)
            cr_assert_eq(is_kept(fd), before[fd], "%d", fd);
    }
    end();
}

/* Replaces the first `what` of a state; the rest as it was. */
static void replace(char *text, size_t size, const char *what, const char *with)
{
    char rest[8192];
    char *at = strstr(text, what);
    cr_assert_not_null(at, "%s", what);
    snprintf(rest, sizeof(rest), "%s", at + strlen(what));
    snprintf(at, size - (size_t)(at - text), "%s%s", with, rest);
}

/* As of a program that gave ids without a key, or of one that is broken. */
Test(state, without_a_key_of_connection_ids_there_is_a_new_one)
{
    static const char key[] = "\"conn_key\":\"00112233445566778899aabbccddeeff\",";
    static const char *const instead[] = {"", "\"conn_key\":null,", "\"conn_key\":\"\",",
        "\"conn_key\":\"00112233445566778899aabbccddee\",",
        "\"conn_key\":\"00112233445566778899aabbccddeeff00\",",
        "\"conn_key\":\"zz112233445566778899aabbccddeeff\","};
    uint8_t keys[ARRAY_LEN(instead)][IDS_KEY_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(instead); i++) {
        char text[8192];
        make_descriptors();
        begin();
        make_state(text, sizeof(text));
        replace(text, sizeof(text), key, instead[i]);
        cr_assert_eq(read_text(text, strlen(text)), 0, "row %zu", i);
        memcpy(keys[i], supervisor->front.conn_key, IDS_KEY_SIZE);
        for (size_t k = 0; k < i; k++)
            cr_expect_neq(memcmp(keys[i], keys[k], IDS_KEY_SIZE), 0, "rows %zu, %zu", i, k);
        cr_expect(keys[i][0] != 0 || keys[i][1] != 0x11 || keys[i][2] != 0x22, "row %zu", i);
        end();
    }
}

Test(state, tickets_of_another_version)
{
    char text[8192];
    make_descriptors();
    begin();
    cr_assert_eq(pwrite(FD_TICKETS, "xxxxxxxx", 8, 0), 8);
    cr_assert_eq(read_text(text, make_state(text, sizeof(text))), 0);
    cr_assert_eq(ticket_ring_count(&supervisor->front.tickets), 0);
    cr_assert_eq(fcntl(FD_TICKETS, F_GETFD), -1);
    end();
}

Test(state, other_states)
{
    static const struct {
        const char *what, *with;
        int result;
    } cases[] = {
        {"\"version\":1", "\"version\":1", 0},
        {"\"version\":1", "\"version\":2", -ENOTSUP},
        {"\"version\":1", "\"version\":0", -ENOTSUP},
        {"\"version\":1", "\"version\":null", -ENOTSUP},
        {"\"version\":1,", "", -ENOTSUP},
        {"\"instance\":\"0123", "\"instance\":null,\"instance_too\":\"", -ENOTSUP},
        {"\"instance\":\"0123", "\"instance\":[],\"instance_too\":\"", -ENOTSUP},
        {"\"instance\":\"0123", "\"instance\":\"0123 much longer than it could ever be ", 0},
        /* A program before that had no TLS. */
        {"\"tls_fd\"", "\"colour\"", 0},
        {"\"tickets_fd\"", "\"colour\"", 0},
        /* Members of a later program. */
        {"{\"version\"", "{\"colour\":{\"red\":[1,2]},\"version\"", 0},
        {"{\"number\"", "{\"colour\":null,\"number\"", 0},
        {"{\"seat\":2", "{\"colour\":-1e99,\"seat\":2", 0},
        /* Of an earlier one. */
        {"\"asked_at\":123456789012,", "", 0},
        {"\"pending\":1,", "", 0},
        {"\"exe\":", "\"ex\":", 0},
        {"\"exe\":\"", "\"exe\":null,\"was\":\"", 0},
        {"\"cwd\":", "\"cw\":", 0},
        {"\"pending\":1,", "\"pending\":4711,", 0},
        {"\"wake_fds\"", "\"sleep_fds\"", 0},
        {"\"lock_fd\":100", "\"lock_fd\":1000", -EBADF},
        {"{\"version\"", " {\"version\"", 0},
        {"{\"version\"", "[{\"version\"", -EINVAL},
        {"{\"version\"", "{\"odd\":'',\"version\"", -EINVAL},
        {"{\"version\"", "{\"odd\":\"\xff\",\"version\"", -EINVAL},
        {"]}]}", "]}]} ", 0},
        {"]}]}", "]}]}}", -EINVAL},
        {"\"seat\":2", "\"seat\":4294967298", -EINVAL},
        {"\"lock_fd\":100", "\"lock_fd\":1", -EBADF},
        {"\"alive_fd\":", "\"dead_fd\":", 0},
        {"\"share\":", "\"shared\":", 0},
        {"\"layout\":", "\"layout\":1", 0},
        {"\"key\":[1,", "\"key\":[", 0},
        {"\"pools\":[77,", "\"pools\":[", 0},
        {"\"pools\":[77,", "\"pools\":null,\"were\":[", 0},
        {"\"fds\":[104", "\"fds\":[99999", -EBADF},
        {"\"address\":\"0", "\"address\":\"x", -EINVAL},
        {"\"address\":\"", "\"address\":null,\"was\":\"", -EINVAL},
        {"\"address\":\"", "\"address\":\"\",\"was\":\"", -EINVAL},
        {"\"endpoints\"", "\"other_points\"", 0},
        {"\"generations\":[", "\"generations\":[],\"were\":[", -EINVAL},
        {"\"generations\"", "\"degenerations\"", -EINVAL},
        {"\"generations\":[", "\"generations\":[null,", -EINVAL},
        {"\"generations\":[", "\"generations\":[1,2,", -EINVAL},
        {"\"conf_fd\":107", "\"conf_fd\":1070", -EINVAL},
        {"\"children\":[", "\"children\":[],\"were\":[", -EINVAL},
        {"\"children\":[", "\"children\":[null,", 0},
        {"\"seat\":2", "\"seat\":63", -EINVAL},
        {"\"seat\":2", "\"seat\":-1", 0},
        {"\"seat\":2", "\"seat\":4294967295", -EINVAL},
        {"\"sock\":109", "\"sock\":-1", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[8192];
        make_descriptors();
        begin();
        make_state(text, sizeof(text));
        replace(text, sizeof(text), cases[i].what, cases[i].with);
        cr_expect_eq(read_text(text, strlen(text)), cases[i].result, "case %zu: %s", i, text);
        cr_expect(supervisor->reload.pending == RELOAD_ON_CONFIG ||
                  supervisor->reload.pending == RELOAD_ON_UPGRADE ||
                  supervisor->reload.pending == RELOAD_EVENTS);
        end();
        cr_expect_eq(mem_in_use(), in_use_before, "case %zu", i);
    }
}

/* A path that does not end would be read beyond the address. */
Test(state, a_path_without_an_end)
{
    char text[8192];
    char hex[2 * sizeof(struct sockaddr_un) + 1];
    char with[sizeof(hex) + 64];
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    memset(local.sun_path, 'x', sizeof(local.sun_path));
    hex_of(&local, sizeof(local), hex);
    snprintf(with, sizeof(with), "\"address\":\"%s\",\"was\":\"", hex);
    make_descriptors();
    begin();
    make_state(text, sizeof(text));
    replace(text, sizeof(text), "\"address\":\"", with);
    cr_assert_eq(read_text(text, strlen(text)), -EINVAL);
    end();
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void mutate(char *text, size_t *n, uint32_t *random)
{
    static const char interesting[] = "0123456789-\"{}[],:nulltrue\\ \377";
    size_t at = next_random(random) % *n;
    switch (next_random(random) % 4) {
    case 0: text[at] = interesting[next_random(random) % (sizeof(interesting) - 1)]; break;
    case 1: text[at] ^= (char)(1 << next_random(random) % 8); break;
    case 2: /* a piece is gone */
    {
        size_t gone = next_random(random) % 40;
        gone = MIN(gone, *n - 1 - at);
        memmove(text + at, text + at + gone, *n - at - gone);
        *n -= gone;
        break;
    }
    default: /* a digit more */
        memmove(text + at + 1, text + at, *n - at);
        text[at] = (char)('0' + next_random(random) % 10);
        (*n)++;
    }
}

/* In a process of its own: a number that was changed may name any descriptor. */
static int in_a_child(void (*run)(uint32_t seed), uint32_t seed)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        log_init(LOG_ERROR, LOG_TEXT, "test");
        CHECK(freopen("/dev/null", "w", stdout) != NULL);
        run(seed);
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void read_mutated(uint32_t random)
{
    enum { ROUNDS = 150 };
    for (int i = 0; i < ROUNDS; i++) {
        char text[8192];
        close_range(STDERR_FILENO + 1, ~0U, 0); /* those of the round before */
        make_descriptors();
        begin();
        size_t n = make_state(text, sizeof(text));
        for (uint32_t k = next_random(&random) % 4 + 1; k > 0; k--)
            mutate(text, &n, &random);
        read_text(text, n);
        /* No end(): what was read may be the loop's own descriptors, closed by now. */
    }
}

static void read_cut(uint32_t step)
{
    char text[8192];
    for (size_t cut = 0;; cut += step) {
        make_descriptors();
        begin();
        size_t n = make_state(text, sizeof(text));
        if (cut < n)
            CHECK(read_text(text, cut) < 0);
        end();
        if (cut >= n)
            return;
    }
}

Test(state, cut_short)
{
    cr_assert_eq(in_a_child(read_cut, 1), 0);
}

Test(state, mutated)
{
    for (uint32_t seed = 1; seed <= 20; seed++)
        cr_assert_eq(in_a_child(read_mutated, seed * 2654435761U), 0, "seed %u", seed);
}
