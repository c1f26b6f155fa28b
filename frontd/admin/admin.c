/*
 * SETUP (ipc/admin_setup.h) lies on descriptor 3 when this process starts: it reads the config and
 * the token, maps the shared memory, gives up its privileges, filters its system calls, and serves.
 * A request is answered at once where the shared memory or the page has all of it, else when the
 * supervisor has answered.
 *
 * It ends when the supervisor closes descriptor 3, or at SIGTERM: it accepts no more, finishes the
 * requests that it has, and sends the spans that wait, within ADMIN_FINISH_MS, and exits. When the
 * supervisor dies it is killed by the kernel, so that the next one finds the addresses free.
 */

#include "frontd/admin/admin.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/fdpass.h"
#include "common/log.h"
#include "common/secret.h"
#include "frontd/admin/answers.h"
#include "frontd/admin/otlp_export.h"
#include "frontd/config/file.h"
#include "frontd/ipc/admin_setup.h"
#include "frontd/system/loop.h"
#include "frontd/system/privileges.h"

enum {
    DESCRIPTORS_MAX = 256, /* connections, listening sockets, and what there is besides */
    FIRST_WITH_RINGS = 1 << 16 | 45 << 8, /* libuv 1.45 */
};

struct admin {
    uv_loop_t loop;
    const struct admin_sandbox *sandbox;
    struct admin_setup setup;
    int fds[ADMIN_FDS];
    int sockets[ADMIN_SOCKETS_MAX];
    struct conf *conf;
    struct share *share;
    char *token; /* token_n bytes of secret memory; NULL: none */
    size_t token_n;
    struct http_server server;
    struct answers answers;
    struct otlp_export export; /* of spans; its loop is NULL where there is none */
    struct otlp_resource resource;
    char host[64];
    uv_poll_t control;
    uv_timer_t beat;
    uv_timer_t limit; /* of finishing */
    uv_signal_t term;
    bool finishing;
    bool served;   /* finishing: no request is left */
    bool exported; /* finishing: no span is left that can be sent */
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int read_conf(struct admin *admin)
{
    struct buf text = {0};
    char error[512];
    static const struct conf_findings blind = {.blind = true};
    int r = conf_file_try_fd(admin->fds[ADMIN_CONF], admin->setup.conf_name, &blind, &text,
        &admin->conf, error, sizeof(error));
    if (r < 0) {
        log_error("%s", error);
        return r;
    }
    buf_deinit(&text);
    close_fd(&admin->fds[ADMIN_CONF]);
    log_init(admin->conf->log_level, admin->conf->log_format, "admin");
    return 0;
}

static int read_token(struct admin *admin)
{
    int fd = admin->fds[ADMIN_TOKEN];
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (fd < 0)
        return 0;
    if (size <= 0)
        return -EINVAL;
    admin->token = secret_alloc((size_t)size);
    if (admin->token == NULL)
        return -ENOMEM;
    admin->token_n = (size_t)size;
    if (pread(fd, admin->token, admin->token_n, 0) != size)
        return -EIO;
    close_fd(&admin->fds[ADMIN_TOKEN]);
    return 0;
}

/* The kernel ends it with the supervisor; that a change of user undoes, so it comes afterwards. */
static int confine(const struct conf *conf)
{
    static const struct rlimit limit = {DESCRIPTORS_MAX, DESCRIPTORS_MAX};
    int r = privileges_lose(conf->user);
    if (r == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        r = -errno;
    if (r == 0 && setrlimit(RLIMIT_NOFILE, &limit) < 0 && errno != EPERM) /* it is less already */
        r = -errno;
    if (r < 0)
        log_error("cannot give up privileges: %s", log_error_text(r));
    return r;
}

static int shut_in(const struct admin *admin)
{
    if (!admin->conf->seccomp)
        return 0;
    int r = admin->sandbox->enter();
    if (r < 0)
        log_error(
            "cannot filter system calls (`seccomp: false` does without): %s", log_error_text(r));
    return MIN(r, 0); /* 1: the kernel has none, and shards say so */
}

static void close_all(struct admin *admin)
{
    uv_close((uv_handle_t *)&admin->control, NULL);
    uv_close((uv_handle_t *)&admin->beat, NULL);
    uv_close((uv_handle_t *)&admin->limit, NULL);
    uv_close((uv_handle_t *)&admin->term, NULL);
    answers_close(&admin->answers);
}

static void maybe_end(struct admin *admin)
{
    if (admin->served && admin->exported)
        close_all(admin);
}

static void on_finished(struct http_server *server)
{
    struct admin *admin = server->data;
    admin->served = true;
    maybe_end(admin);
}

static void on_exported(struct otlp_export *export)
{
    struct admin *admin = export->data;
    otlp_export_close(export);
    admin->exported = true;
    maybe_end(admin);
}

static void on_limit(uv_timer_t *timer)
{
    struct admin *admin = timer->data;
    log_debug("some requests are not finished in time");
    for (size_t i = 0; i < HTTP_CONNS_MAX; i++) {
        if (admin->server.conns[i].state != HTTP_CONN_FREE)
            http_conn_close(&admin->server.conns[i]);
    }
    if (!admin->exported)
        on_exported(&admin->export);
}

static void finish(struct admin *admin)
{
    if (admin->finishing)
        return;
    admin->finishing = true;
    CHECK(uv_timer_start(&admin->limit, on_limit, ADMIN_FINISH_MS, 0) == 0);
    if (admin->export.loop == NULL)
        admin->exported = true;
    else
        otlp_export_finish(&admin->export, on_exported);
    http_server_finish(&admin->server);
}

/* Another admin process has another socket to the supervisor. */
static void on_lost(void *data)
{
    struct admin *admin = data;
    if (!admin->finishing)
        log_warning("the supervisor answers this process no more: it ends");
    finish(admin);
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct admin *admin = poll->data;
    uv_poll_stop(poll); /* nothing comes but the end */
    finish(admin);
}

static void on_term(uv_signal_t *signal, int number)
{
    (void)number;
    finish(signal->data);
}

static void on_beat(uv_timer_t *timer)
{
    const struct admin *admin = timer->data;
    admin_setup_beat(ADMIN_FD);
    if (admin->sandbox->has_news())
        admin->sandbox->tell();
}

static void on_request(struct http_conn *conn, const struct http1_head *head)
{
    struct admin *admin = conn->server->data;
    answers_request(&admin->answers, conn, head);
}

static const struct http_server_ops server_ops = {
    .request = on_request,
    .cancel = answers_cancel,
    .finished = on_finished,
};

static int init_handles(struct admin *admin)
{
    uv_loop_t *loop = &admin->loop;
    CHECK(uv_timer_init(loop, &admin->beat) == 0);
    CHECK(uv_timer_init(loop, &admin->limit) == 0);
    CHECK(uv_signal_init(loop, &admin->term) == 0);
    admin->control.data = admin->beat.data = admin->limit.data = admin->term.data = admin;
    int r = uv_signal_start(&admin->term, on_term, SIGTERM);
    if (r == 0)
        r = loop_poll_init(loop, &admin->control, ADMIN_FD);
    if (r == 0) {
        admin->control.data = admin;
        r = uv_poll_start(&admin->control, UV_READABLE | UV_DISCONNECT, on_control);
    }
    return r;
}

static int export_spans(struct admin *admin)
{
    int fd = admin->fds[ADMIN_TRACE];
    if (fd < 0 || admin->conf->tracing == NULL)
        return 0;
    admin->fds[ADMIN_TRACE] = -1;
    if (gethostname(admin->host, sizeof(admin->host) - 1) < 0)
        admin->host[0] = '\0';
    admin->resource = (struct otlp_resource){
        .instance = admin->setup.instance,
        .version = FRONTD_VERSION,
        .host = admin->host[0] == '\0' ? NULL : admin->host,
    };
    int r = otlp_export_open(
        &admin->export, &admin->loop, admin->conf->tracing, &admin->resource, fd);
    admin->export.data = admin;
    return r;
}

static int serve(struct admin *admin)
{
    const struct answers_source source = {.conf = admin->conf,
        .share = admin->share,
        .instance = admin->setup.instance,
        .generation = admin->setup.generation,
        .token = {admin->token, admin->token_n},
        .export = &admin->export};
    http_server_init(&admin->server, &admin->loop, &server_ops);
    admin->server.data = admin;
    int r = answers_open(
        &admin->answers, &admin->loop, &source, admin->fds[ADMIN_ASK], on_lost, admin);
    for (uint32_t i = 0; r == 0 && i < admin->setup.nsockets; i++)
        r = http_server_listen(&admin->server, admin->sockets[i]);
    if (r == 0)
        r = export_spans(admin);
    if (r == 0)
        r = uv_timer_start(&admin->beat, on_beat, 0, ADMIN_BEAT_MS);
    return r;
}

static int start(struct admin *admin)
{
    int r = admin_setup_receive(ADMIN_FD, &admin->setup, admin->fds, admin->sockets);
    if (r == 0)
        r = read_conf(admin);
    if (r == 0)
        r = read_token(admin);
    if (r == 0)
        r = share_map_readonly(admin->fds[ADMIN_SHARE], &admin->setup.table, &admin->share);
    if (r == 0)
        r = confine(admin->conf);
    if (r == 0)
        r = init_handles(admin);
    if (r == 0)
        r = shut_in(admin);
    if (r == 0)
        r = serve(admin);
    return r;
}

static void deinit(struct admin *admin)
{
    CHECK(uv_loop_close(&admin->loop) == 0);
    close_fd(&admin->fds[ADMIN_SHARE]);
    share_unmap(admin->share);
    secret_free(admin->token, admin->token_n);
    conf_free(admin->conf);
}

int admin_run(const struct admin_sandbox *sandbox)
{
    static const int ignored[] = {SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE};
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN); /* those of a terminal and of the service manager */
    struct admin *admin = mem_zalloc(sizeof(*admin));
    if (uv_version() >= FIRST_WITH_RINGS)
        sandbox->without_rings();
    int r = admin == NULL ? -ENOMEM : loop_init(&admin->loop);
    if (r == 0) {
        admin->sandbox = sandbox;
        r = start(admin);
    }
    if (r < 0) {
        log_error("the admin process cannot start: %s", log_error_text(r));
        return 1;
    }
    uv_run(&admin->loop, UV_RUN_DEFAULT);
    deinit(admin);
    mem_free(admin);
    return 0;
}
