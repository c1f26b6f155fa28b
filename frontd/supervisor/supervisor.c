/*
 * Signals and the ends of processes are events of the generation machine (machine.c); step() does
 * what it says. At the start the shards of the first generation are made like those of any other.
 *
 * A replacement: the program whose shards are to serve checks the config (check.c): this one, or
 * for SIGUSR2 the binary on disk, which this process then becomes, and which goes on where this one
 * was (state.c); new shards start beside the old ones; when all are ready the old ones give them
 * their clients and end. Whatever fails before that is logged, and the old ones serve on.
 */

#include "frontd/supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/config/file.h"
#include "frontd/ipc/metrics.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/supervisor/adopt.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/reexec.h"
#include "frontd/supervisor/startup.h"
#include "frontd/supervisor/workers/strays.h"
#include "frontd/system/folder.h"
#include "frontd/system/loop.h"
#include "frontd/system/privileges.h"

/* Of one kind, in the log: they tell of what operators do and of processes, not of clients. */
enum { LINES_AT_ONCE = 1000, LINES_A_SECOND = 100 };

static void step(struct super *super, enum machine_event event);

static struct generation *serving(const struct super *super)
{
    return super->generations[0];
}

/* Why the reload that is in progress comes to nothing. */
__attribute__((format(printf, 2, 3))) static void blame(
    struct super *super, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(super->reason, sizeof(super->reason), format, args);
    va_end(args);
    log_error("%s", super->reason);
}

/* Whose program the shards of the reload in progress will be, as a name for the log. */
static const char *next_program(const struct super *super)
{
    return super->machine.upgrade ? super->paths.exe : "frontd";
}

/* What `systemctl status` shows. */
static void tell_status(const struct super *super)
{
    const struct generation *generation = serving(super);
    service_status(&super->service, "%u shards, %u listeners%s%s", generation->nchildren,
        generation->conf->nlisteners,
        super->reason[0] == '\0' ? "" : "; the last reload came to nothing: ", super->reason);
}

/* From here on no signal has a handler; one more would end this process before it is done. */
static void close_handles(struct super *super)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    service_close(&super->service);
    for (size_t i = 0; i < ARRAY_LEN(super->signals); i++)
        uv_close((uv_handle_t *)&super->signals[i], NULL);
    uv_close((uv_handle_t *)&super->deadline, NULL);
    uv_close((uv_handle_t *)&super->look, NULL);
}

/* Frees a generation whose processes have all ended. */
static void forget(struct super *super, struct generation *generation)
{
    size_t i = super->generations[0] == generation ? 0 : 1;
    super->generations[i] = NULL;
    generation_close(generation);
}

/* What there was, over all generations that shared memory. */
static void log_sums(const struct generation *generation)
{
    if (generation == NULL || generation->share == NULL)
        return;
    struct share_sums sums = share_sums(generation->share);
    log_info(
        "served %llu connections, %llu requests, %llu calls; %llu connections moved, %llu pushes "
        "dropped, %llu lost between shards",
        (unsigned long long)sums.accepted, (unsigned long long)sums.requests,
        (unsigned long long)sums.calls, (unsigned long long)sums.moved,
        (unsigned long long)sums.dropped, (unsigned long long)sums.unheard);
}

static void stop_when_alone(struct super *super);

static void on_workers_gone(void *data)
{
    stop_when_alone(data);
}

/* Stopping: workers go when no shard needs them any more; the loop ends when nobody is left. */
static void stop_when_alone(struct super *super)
{
    for (size_t i = 0; i < SUPER_GENERATIONS; i++) {
        struct generation *generation = super->generations[i];
        if (generation != NULL && generation_alive(generation))
            return;
    }
    uv_timer_stop(&super->deadline);
    if (!super->workers.ctx.stopping) {
        if (workers_count(&super->workers) > 0) /* they have as long as the shards had */
            service_stopping(&super->service, super->workers.ctx.drain + 2ULL * MACHINE_GRACE_MS);
        workers_stop(&super->workers, on_workers_gone, super);
        return;
    }
    if (workers_count(&super->workers) > 0)
        return;
    log_sums(serving(super));
    for (size_t i = 0; i < SUPER_GENERATIONS; i++) {
        if (super->generations[i] != NULL)
            forget(super, super->generations[i]);
    }
    if (!uv_is_closing((uv_handle_t *)&super->deadline) && super->check.pid < 0)
        close_handles(super);
}

void super_child_ready(struct super *super, struct generation *generation)
{
    if (!generation_ready(generation))
        return;
    if (generation->role == GENERATION_STARTING && super->generations[1] == generation) {
        step(super, MACHINE_READY);
        return;
    }
    if (super->announced)
        return;
    super->announced = true;
    log_info("ready: %u shards, %u listeners", generation->nchildren, generation->conf->nlisteners);
    service_ready(&super->service);
    tell_status(super);
}

void super_child_gone(struct super *super, struct generation *generation)
{
    bool alive = generation_alive(generation);
    if (super->machine.state == MACHINE_STOPPING) {
        stop_when_alone(super);
    } else if (generation->role == GENERATION_STARTING) {
        blame(super, "a new shard has ended before all were ready: the old ones serve on");
        step(super, MACHINE_FAILED);
    } else if (!alive) {
        forget(super, generation);
        step(super, MACHINE_GONE);
    }
}

static void on_deadline(uv_timer_t *timer)
{
    struct super *super = timer->data;
    if (super->machine.state == MACHINE_STOPPING) {
        log_warning("shards are still there after the drain limit, killing them");
        for (size_t i = 0; i < SUPER_GENERATIONS; i++) {
            if (super->generations[i] != NULL)
                generation_kill(super->generations[i]);
        }
        return;
    }
    if (super->machine.state == MACHINE_CHECKING)
        blame(super, "%s --check does not end: the config is as it was", next_program(super));
    else if (super->machine.state == MACHINE_STARTING)
        blame(super, "new shards are not ready within %d s: the old ones serve on",
            MACHINE_START_MS / 1000);
    else
        log_warning("old shards are still there after the drain limit, killing them");
    step(super, MACHINE_TIME);
}

static void set_deadline(struct super *super)
{
    uint64_t at = super->machine.deadline;
    uint64_t now = uv_now(&super->loop);
    if (super->machine.state == MACHINE_STOPPING)
        return;
    if (at == UINT64_MAX)
        uv_timer_stop(&super->deadline);
    else
        uv_timer_start(&super->deadline, on_deadline, at > now ? at - now : 0, 0);
}

static void on_look(uv_timer_t *timer)
{
    struct super *super = timer->data;
    uint64_t elapsed = uv_now(&super->loop) - super->looked_at;
    super->looked_at = uv_now(&super->loop);
    for (size_t i = 0; i < SUPER_GENERATIONS; i++) {
        if (super->generations[i] != NULL)
            generation_check(super->generations[i], elapsed);
    }
}

/* What the machine can ask for */

static void do_check(struct super *super)
{
    super->asked_at = uv_now(&super->loop);
    log_info("%s: checking %s", super->machine.upgrade ? "replacing the program" : "reloading",
        super->conf_name);
    service_reloading(&super->service);
    /* SIGHUP does not need the binary on disk, which may be gone, or not meant to be used yet. */
    const char *exe = super->machine.upgrade ? super->paths.exe : PATHS_SELF;
    int r = check_start(&super->check, &super->loop, exe, super->conf_name);
    if (r < 0) {
        blame(super, "cannot check the config: %s", strerror(-r));
        step(super, MACHINE_REFUSED);
    }
}

static void do_end_check(struct super *super)
{
    check_kill(&super->check);
}

/* Done by execute(), once the loop has stopped. */
static void do_execute(struct super *super)
{
    super->execute = true;
    uv_stop(&super->loop);
}

/* A program before wants a descriptor that shards hold while they live; any will do. */
static void close_alive(struct super *super)
{
    if (super->alive_fd >= 0)
        close(super->alive_fd);
    super->alive_fd = -1;
}

/* This process becomes the binary on disk, which goes on in resume(). */
static void execute(struct super *super)
{
    char number[16];
    sigset_t all;
    sigset_t before;
    super->execute = false;
    /* Signals that come from now on are pending in the new program until it is ready for them;
     * those that libuv has caught already are events before that. */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    uv_run(&super->loop, UV_RUN_NOWAIT);
    if (super->machine.state != MACHINE_CHECKING) { /* it was SIGTERM */
        sigprocmask(SIG_SETMASK, &before, NULL);
        return;
    }
    super->alive_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fd = state_write(super);
    if (fd < 0) {
        close_alive(super);
        sigprocmask(SIG_SETMASK, &before, NULL);
        blame(super, "cannot leave the new program what it needs: %s", strerror(-fd));
        step(super, MACHINE_REFUSED);
        return;
    }
    snprintf(number, sizeof(number), "%d", fd);
    char *exe = super->paths.exe;
    char *argv[] = {exe, (char[]){"-c"}, (char *)(uintptr_t)super->conf_name, (char[]){"--state"},
        number, NULL};
    log_info("executing %s", exe);
    state_keep_open(super, fd, true);
    bool current = check_is_current(&super->check, exe);
    int error = current ? -activation_expose(&super->activation) : 0;
    if (current && error == 0) {
        execv(exe, argv);
        error = errno;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    activation_hide(&super->activation);
    state_keep_open(super, fd, false);
    close(fd);
    close_alive(super);
    if (current)
        blame(super, "cannot execute %s: %s; this program serves on", exe, strerror(error));
    else
        blame(super, "%s has changed since it was checked: this program serves on", exe);
    step(super, MACHINE_REFUSED);
}

/* What the config has that is hardly meant: lines that end with a NUL each, until they can be
 * logged.
 */
static void keep_oddity(void *data, const char *text)
{
    struct buf *oddities = data;
    (void)!buf_append(oddities, text, strlen(text) + 1); /* without memory one is missing */
}

static void tell_oddities(struct buf *oddities)
{
    const char *text = oddities->memory == NULL ? NULL : buf_data(oddities);
    for (size_t at = 0; text != NULL && at < buf_len(oddities); at += strlen(text + at) + 1)
        log_warning("%s", text + at);
    buf_deinit(oddities);
}

static void do_start(struct super *super)
{
    struct buf text = {0};
    struct conf *conf;
    char error[512];
    struct generation *next = NULL;
    struct buf oddities = {0};
    const struct conf_findings findings = {.odd = keep_oddity, .data = &oddities};
    super->endpoints_before = super->endpoints;
    int r = conf_file_try(super->conf_name, &findings, &text, &conf, error, sizeof(error));
    tell_oddities(&oddities);
    if (r == 0) {
        bool stays = strcmp(conf->run_dir, serving(super)->conf->run_dir) == 0;
        if (!stays) /* where it is locked, and where the next supervisor looks for shards */
            snprintf(error, sizeof(error), "run_dir cannot change while the front runs: it is %s",
                serving(super)->conf->run_dir);
        if (stays && workers_prepare(&super->workers, conf, error, sizeof(error)) == 0 &&
            endpoints_bind(&super->endpoints, conf, error, sizeof(error)) == 0 &&
            endpoints_renew(&super->endpoints, conf, error, sizeof(error)) == 0) {
            workers_mend(&super->workers);
            next = generation_new(super, conf, &text, serving(super), error, sizeof(error));
        } else {
            conf_free(conf);
        }
        buf_deinit(&text);
    }
    if (next == NULL) {
        blame(super, "%s", error);
        endpoints_roll_back(&super->endpoints, &super->endpoints_before);
        step(super, MACHINE_REFUSED);
        return;
    }
    boot_warn_of_root(conf);
    super->machine.drain = serving(super)->conf->drain;
    super->generations[1] = next;
    generation_start(next);
}

static void do_abort(struct super *super)
{
    struct generation *next = super->generations[1];
    next->role = GENERATION_STOPPING;
    generation_kill(next);
    endpoints_roll_back(&super->endpoints, &super->endpoints_before);
    if (!generation_alive(next)) {
        forget(super, next);
        step(super, MACHINE_GONE);
    }
}

/* Workers, and paths in their commands, are those of the folder that has the name now. */
static void enter_directory(const struct super *super)
{
    int r = paths_enter(&super->paths);
    if (r < 0)
        log_warning("the working directory %s: %s; new workers start in the one that it was",
            super->paths.cwd, strerror(-r));
}

static void do_leave(struct super *super)
{
    struct generation *old = super->generations[0];
    struct generation *next = super->generations[1];
    super->generations[0] = next;
    super->generations[1] = old;
    super->reason[0] = '\0';
    super->announced = true;
    log_init(next->conf->log_level, next->conf->log_format, "supervisor");
    log_info("generation %llu serves: %u shards, %u listeners", (unsigned long long)next->number,
        next->nchildren, next->conf->nlisteners);
    int r = endpoints_listen(&super->endpoints);
    if (r < 0)
        log_error("cannot listen on all addresses: %s", strerror(-r));
    next->role = GENERATION_SERVING;
    old->role = GENERATION_LEAVING;
    state_record(super); /* before anybody does so */
    generation_serve(next);
    generation_leave(old, next);
    if (!super->machine.upgrade)
        enter_directory(super);
    /* A new program leaves workers alone: what has changed waits for the next reload. */
    workers_apply(&super->workers, next->conf, !super->machine.upgrade);
    endpoints_prune(&super->endpoints, next->conf);
    state_record(super);
    activation_warn_unused(&super->activation, next->conf);
    service_ready(&super->service);
    tell_status(super);
    if (!generation_alive(old)) {
        forget(super, old);
        step(super, MACHINE_GONE);
    }
}

static void do_retire(struct super *super)
{
    if (super->generations[1] != NULL)
        generation_kill(super->generations[1]);
}

static void do_finish(struct super *super)
{
    workers_prune(&super->workers);
    state_record(super);
    if (super->reason[0] == '\0') {
        log_info("the old shards are gone, %llu ms after the signal",
            (unsigned long long)(uv_now(&super->loop) - super->asked_at));
    } else { /* the old ones serve on; otherwise do_leave() has said it */
        service_ready(&super->service);
        tell_status(super);
    }
}

static void do_stop(struct super *super)
{
    uint64_t drain = serving(super)->conf->drain;
    log_info("stopping: calls have %llu ms to end", (unsigned long long)drain);
    service_stopping(&super->service, drain + 2ULL * MACHINE_GRACE_MS); /* once for the last kill */
    for (size_t i = 0; i < SUPER_GENERATIONS; i++) {
        if (super->generations[i] != NULL)
            generation_drain(super->generations[i]);
    }
    uv_timer_start(&super->deadline, on_deadline, drain + MACHINE_GRACE_MS, 0);
    stop_when_alone(super); /* none may be running */
}

static void step(struct super *super, enum machine_event event)
{
    static const struct {
        enum machine_action action;
        void (*run)(struct super *super);
    } table[] = {
        {MACHINE_DO_END_CHECK, do_end_check},
        {MACHINE_DO_ABORT, do_abort},
        {MACHINE_DO_RETIRE, do_retire},
        {MACHINE_DO_FINISH, do_finish},
        {MACHINE_DO_STOP, do_stop},
        {MACHINE_DO_EXECUTE, do_execute},
        {MACHINE_DO_START, do_start},
        {MACHINE_DO_LEAVE, do_leave},
        {MACHINE_DO_CHECK, do_check},
    };
    unsigned actions = machine_step(&super->machine, event, uv_now(&super->loop));
    set_deadline(super);
    /* At most the last of them steps again. */
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (actions & table[i].action)
            table[i].run(super);
    }
}

/* Events */

static void check_is_over(struct super *super, int status)
{
    check_ended(&super->check);
    if (super->machine.state == MACHINE_STOPPING) {
        stop_when_alone(super);
        return;
    }
    if (super->machine.state == MACHINE_ENDING) {
        step(super, MACHINE_GONE); /* it was killed: what it says does not count */
        return;
    }
    bool accepted = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    enum identity identity = super->check.identity;
    if (accepted &&
        (identity == IDENTITY_FRONTD || (identity > IDENTITY_UNKNOWN && !super->machine.upgrade))) {
        step(super, MACHINE_CHECKED);
        return;
    }
    const char *program = next_program(super);
    if (accepted && identity == IDENTITY_OTHER)
        blame(super, "%s is a frontd that cannot read this program's state: nothing changes",
            program);
    else if (accepted && identity == IDENTITY_CHILD)
        blame(super,
            "%s runs frontd as a child: a script has to end in exec, so that it becomes frontd: "
            "nothing changes",
            program);
    else if (accepted)
        blame(super, "%s is not frontd: it did not identify itself: nothing changes", program);
    else if (WIFSIGNALED(status))
        blame(
            super, "%s --check was ended by signal %d: nothing changes", program, WTERMSIG(status));
    else
        blame(super, "%s --check says (status %d): %s: nothing changes", program,
            WEXITSTATUS(status), super->check.text);
    step(super, MACHINE_REFUSED);
}

static struct child *child_of(struct super *super, pid_t pid)
{
    for (size_t g = 0; g < SUPER_GENERATIONS; g++) {
        struct generation *generation = super->generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nchildren; i++) {
            if (generation->children[i].pid == pid)
                return &generation->children[i];
        }
    }
    return NULL;
}

static void reap(struct super *super)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        struct child *child = child_of(super, pid);
        if (child != NULL)
            child_ended(child, status);
        else if (pid == super->check.pid)
            check_is_over(super, status);
        else
            workers_child_ended(&super->workers, pid, status);
    }
}

static void stop_now(struct super *super)
{
    log_info("stopping at once");
    super->at_once = true;
    step(super, MACHINE_STOP);
    for (size_t i = 0; i < SUPER_GENERATIONS; i++) {
        if (super->generations[i] != NULL)
            generation_kill(super->generations[i]);
    }
    if (!super->workers.ctx.stopping)
        workers_stop(&super->workers, on_workers_gone, super);
    workers_kill(&super->workers);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct super *super = handle->data;
    bool busy = super->machine.state != MACHINE_STEADY;
    switch (number) {
    case SIGCHLD: reap(super); break;
    case SIGHUP:
    case SIGUSR2:
        if (busy)
            log_info("signal %d: remembered until the reload in progress is over", number);
        step(super, number == SIGHUP ? MACHINE_RELOAD : MACHINE_UPGRADE);
        break;
    case SIGTERM:
        if (super->machine.state == MACHINE_STOPPING)
            stop_now(super);
        else
            step(super, MACHINE_STOP);
        break;
    case SIGINT:
    case SIGQUIT: stop_now(super); break;
    case SIGUSR1: /* what has other servers open their logs anew */
        log_info("signal %d is ignored: the log is standard error", number);
        break;
    default: break;
    }
}

/* Starting */

static int init_loop(struct super *super)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGUSR2, SIGUSR1};
    _Static_assert(ARRAY_LEN(numbers) == ARRAY_LEN(super->signals), "one handle each");
    int r = loop_init(&super->loop);
    if (r < 0)
        return r;
    CHECK(uv_timer_init(&super->loop, &super->deadline) == 0);
    super->deadline.data = super;
    CHECK(uv_timer_init(&super->loop, &super->look) == 0);
    super->look.data = super;
    super->looked_at = uv_now(&super->loop);
    CHECK(uv_timer_start(&super->look, on_look, SHARE_BEAT_MS, SHARE_BEAT_MS) == 0);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        CHECK(uv_signal_init(&super->loop, &super->signals[i]) == 0);
        super->signals[i].data = super;
        r = uv_signal_start(&super->signals[i], on_signal, numbers[i]);
        if (r < 0)
            return r;
    }
    service_start(&super->service, &super->loop);
    super->loop_open = true;
    /* A program that was executed in place had them blocked until now. */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

/* What the service manager wants to hear, and has passed. */
static void meet_manager(struct super *super)
{
    service_init(&super->service);
    activation_take(&super->activation);
    super->endpoints.activation = &super->activation;
}

/* What was found serves on; a reload then makes shards of this program and this config. */
static void go_on_with_found(struct super *super)
{
    struct generation *old = super->generations[1];
    super->asked_at = uv_now(&super->loop);
    super->machine.drain = serving(super)->conf->drain;
    machine_found(&super->machine, old != NULL, uv_now(&super->loop));
    set_deadline(super);
    generation_serve(serving(super));
    service_ready(&super->service);
    tell_status(super);
    if (old == NULL) {
        step(super, MACHINE_RELOAD);
        return;
    }
    generation_leave(old, serving(super)); /* it may have been about to, or in the middle of it */
    if (!generation_alive(old)) {
        forget(super, old);
        step(super, MACHINE_GONE);
    }
}

static void add_hint(char *error, size_t error_size)
{
    size_t n = strlen(error);
    snprintf(error + n, error_size - n,
        ". There is no " RECORD_NAME " in run_dir: if these are shards of a front that was killed, "
        "they cannot be taken over; kill them, or they end by themselves within five minutes");
}

/* The first generation of all, or none where shards were found that serve on. */
static int start(struct super *super, struct conf *conf, const struct buf *text)
{
    char error[512];
    bool found = false;
    bool lost = false;
    super->connections_each = boot_raise_fd_limit(conf);
    boot_warn_of_root(conf);
    int r = paths_try_self();
    if (r < 0) {
        log_error("cannot start: " PATHS_SELF_WANTED, strerror(-r));
        conf_free(conf);
        return r;
    }
    r = init_loop(super);
    if (r < 0)
        log_error("cannot start: %s", log_error_text(r));
    else
        r = boot_lock_run_dir(super, conf); /* from here on signals may come */
    if (r < 0) {
        conf_free(conf);
        return r;
    }
    workers_init(&super->workers, &super->loop, conf->run_dir);
    error[0] = '\0';
    r = adopt_shards(super, conf, &found, &lost, error, sizeof(error));
    if (r == 0 && !found)
        boot_identity(super);
    if (r < 0 && error[0] == '\0')
        snprintf(error, sizeof(error), "cannot start: %s", strerror(-r));
    if (r == 0 && !found)
        r = workers_prepare(&super->workers, conf, error, sizeof(error));
    if (r == 0 && !found)
        r = endpoints_bind(&super->endpoints, conf, error, sizeof(error));
    if (r == -EADDRINUSE && lost)
        add_hint(error, sizeof(error));
    if (r == 0 && !found)
        r = endpoints_listen(&super->endpoints);
    if (r == 0 && !found)
        activation_warn_unused(&super->activation, conf);
    if (r < 0 || found)
        conf_free(conf);
    if (r == 0 && !found) {
        super->generations[0] = generation_new(super, conf, text, NULL, error, sizeof(error));
        r = super->generations[0] == NULL ? -ENOMEM : 0;
    }
    if (r < 0) {
        log_error("%s", error);
        if (super->generations[0] == NULL) /* else the paths are those of shards that serve on */
            endpoints_prune(&super->endpoints, NULL);
        return r;
    }
    workers_apply(&super->workers, serving(super)->conf, true);
    if (found)
        go_on_with_found(super);
    else
        generation_serve(super->generations[0]);
    return 0;
}

/* It serves on where this fails: only nobody could find the shards without it. */
static void open_run_dir_again(struct super *super, const struct conf *conf)
{
    char error[512];
    super->run_dir_fd = folder_open(conf->run_dir, false, error, sizeof(error));
    if (super->run_dir_fd < 0)
        log_error("run_dir %s; should this process be killed, its shards are not found", error);
    state_record(super);
}

/* From here on it can do what it needs, and nothing else. */
static void shed_privileges(void)
{
    int r = privileges_supervise();
    if (r < 0)
        log_warning("cannot give up all capabilities that are not needed: %s", strerror(-r));
}

/*
 * What the program before has left cannot be read, for want of memory if for anything: nothing of
 * it is kept. The shards notice that their supervisor is gone and report to the one that this
 * process becomes, as where it was killed. Returns only where that is not possible either.
 */
static void start_again(struct super *super)
{
    char *argv[] = {super->paths.exe, (char[]){"-c"}, (char *)(uintptr_t)super->conf_name, NULL};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* they wait for the new program */
    if (activation_expose(&super->activation) < 0)
        return;
    close_range((unsigned)activation_end(&super->activation), ~0U, 0);
    execv(PATHS_SELF, argv);
    log_error("cannot start again: %s; shards serve on without a supervisor", strerror(errno));
    exit(1); /* what there was to close is closed */
}

/* This program was executed in the place of another, whose state this is. */
static int resume(struct super *super, int state_fd)
{
    char error[512];
    log_init(LOG_INFO, LOG_TEXT, "supervisor");
    meet_manager(super);
    int r = init_loop(super);
    super->conf_name = super->paths.conf;
    if (r == 0)
        r = state_read(super, state_fd, error, sizeof(error));
    else
        snprintf(error, sizeof(error), "%s", strerror(-r));
    if (r < 0) {
        log_error("cannot take over: %s; starting again as after a crash, shards serve on", error);
        start_again(super);
        return r;
    }
    const struct conf *conf = serving(super)->conf;
    log_init(conf->log_level, conf->log_format, "supervisor");
    shed_privileges();
    super->connections_each = boot_raise_fd_limit(conf);
    super->announced = true;
    open_run_dir_again(super, conf);
    workers_apply(&super->workers, conf, false);
    reap(super); /* who ended meanwhile */
    generation_restart_missing(serving(super));
    step(super, MACHINE_EXECUTED);
    return 0;
}

static int load_and_start(struct super *super)
{
    struct buf text = {0};
    struct conf *conf;
    char error[512];
    struct buf oddities = {0};
    const struct conf_findings findings = {.odd = keep_oddity, .data = &oddities};
    int r = conf_file_try(super->conf_name, &findings, &text, &conf, error, sizeof(error));
    if (r < 0) {
        fprintf(stderr, "%s%s\n", log_priority(LOG_ERROR), error);
        buf_deinit(&oddities);
        return r;
    }
    super->conf_name = super->paths.conf;
    log_init(conf->log_level, conf->log_format, "supervisor");
    tell_oddities(&oddities);
    meet_manager(super);
    shed_privileges();
    r = start(super, conf, &text);
    buf_deinit(&text);
    return r;
}

static void finish(struct super *super)
{
    CHECK(uv_loop_close(&super->loop) == 0);
    strays_end(super->at_once);
    endpoints_prune(&super->endpoints, NULL);
    activation_deinit(&super->activation);
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        if (super->wake_fds[i] >= 0)
            close(super->wake_fds[i]);
    }
    state_forget(super);
    boot_unlock_run_dir(super);
    log_info("stopped");
}

/* It did not come to run: whatever processes there are serve on. */
static void give_up(struct super *super)
{
    boot_unlock_run_dir(super);
    if (!super->loop_open)
        return;
    if (super->workers.ctx.loop != NULL)
        workers_close(&super->workers);
    for (size_t i = 0; i < SUPER_GENERATIONS; i++) {
        if (super->generations[i] != NULL)
            forget(super, super->generations[i]);
    }
    close_handles(super);
    uv_run(&super->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&super->loop) == 0);
}

int super_run(char **argv, const char *conf_name, int state_fd)
{
    static struct super only; /* what is there without asking can be gone on with */
    struct super *super = &only;
    log_set_bound(LINES_AT_ONCE, LINES_A_SECOND);
    paths_find(&super->paths, argv[0], conf_name);
    super->conf_name = conf_name;
    super->lock_fd = super->run_dir_fd = super->alive_fd = -1;
    for (size_t i = 0; i < SHARE_SEATS; i++)
        super->wake_fds[i] = -1;
    machine_init(&super->machine);
    check_init(&super->check);
    signal(SIGPIPE, SIG_IGN);
    strays_collect();
    int r = state_fd < 0 ? load_and_start(super) : resume(super, state_fd);
    if (r == 0) {
        for (uv_run(&super->loop, UV_RUN_DEFAULT); super->execute;
             uv_run(&super->loop, UV_RUN_DEFAULT))
            execute(super);
        finish(super);
    } else {
        give_up(super);
    }
    return r == 0 ? 0 : 1;
}
