#include "frontd/supervisor/admins.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/generation.h"
#include "frontd/system/spawn.h"

enum {
    STEADY_MS = 5000,       /* a process that lived for this long has not "kept ending" */
    BACKOFF_FIRST_MS = 100, /* after the second end in a row; the first restart is at once */
    BACKOFF_MAX_MS = 10000,
};

static void start(struct admins *admins);

static void on_admin_restart(uv_timer_t *timer)
{
    start(timer->data);
}

void admins_init(struct admins *admins, struct front *front, admins_attach *attach, void *data)
{
    *admins = (struct admins){.front = front, .attach = attach, .data = data};
    CHECK(uv_timer_init(&front->loop, &admins->restart) == 0);
    admins->restart.data = admins;
}

/* A place for one more; where there is none, one that finishes is killed and forgotten. */
static struct admin_process **free_place(struct admins *admins)
{
    struct admin_process **oldest = NULL;
    for (size_t i = 0; i < ADMIN_PROCESSES; i++) {
        struct admin_process **place = &admins->all[i];
        if (*place == NULL)
            return place;
        if (*place != admins->serving && (oldest == NULL || (*place)->started < (*oldest)->started))
            oldest = place;
    }
    admin_process_kill(*oldest);
    admin_process_forget(*oldest);
    return oldest;
}

static void start_later(struct admins *admins)
{
    uint64_t delay = 0;
    if (admins->failures > 1)
        delay = MIN(
            (uint64_t)BACKOFF_FIRST_MS << MIN(admins->failures - 2, 10U), (uint64_t)BACKOFF_MAX_MS);
    if (delay > 0)
        log_warning("the admin process keeps ending, starting it again in %llu ms",
            (unsigned long long)delay);
    CHECK(uv_timer_start(&admins->restart, on_admin_restart, delay, 0) == 0);
}

/* Makes the socket on which it asks us. Returns its end, the caller's, or -errno. */
static int make_ask(const struct admins *admins)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    int r = admins->attach(admins->data, pair[0]);
    if (r < 0)
        close(pair[1]);
    return r < 0 ? r : pair[1];
}

static bool is_wanted(const struct admins *admins)
{
    const struct generation *generation = front_serving(admins->front);
    return !admins->stopped && generation != NULL && !generation->stand_in &&
           generation->share != NULL &&
           (generation->conf->admin.text != NULL || generation->conf->tracing != NULL);
}

static void start(struct admins *admins)
{
    if (!is_wanted(admins))
        return;
    struct admin_process **place = free_place(admins);
    *place = NULL;
    int token = generation_token(front_serving(admins->front));
    int ask = token == -ENOENT || token >= 0 ? make_ask(admins) : token;
    int r = ask < 0 ? ask : admin_process_start(admins->front, MAX(token, -1), ask, place);
    if (ask >= 0)
        close(ask);
    if (r < 0) {
        log_error("cannot start the admin process: %s", strerror(-r));
        admins->failures = MAX(admins->failures + 1, 2U);
        start_later(admins);
        return;
    }
    admins->serving = *place;
    admins->front->admin_pid = admins->serving->pid;
}

void admins_take_over(struct admins *admins)
{
    struct admin_process **place = free_place(admins);
    int r = 0;
    if (admins->front->admin_pid > 0)
        r = admin_process_found(admins->front, admins->front->admin_pid, place);
    admins->front->admin_pid = 0;
    if (r < 0)
        log_error("the admin process before is left alone: %s", strerror(-r));
}

void admins_renew(struct admins *admins)
{
    struct admin_process *before = admins->serving;
    admins->serving = NULL;
    admins->failures = 0;
    uv_timer_stop(&admins->restart);
    start(admins);
    if (before != NULL)
        admin_process_finish(before);
}

static void log_end(const struct admin_process *process, bool expected, int status)
{
    const char *then = expected ? "" : "; starting it again";
    if (WIFSIGNALED(status))
        log_write(expected ? LOG_WARNING : LOG_ERROR,
            "the admin process (pid %ld) was ended by signal %d%s%s", (long)process->pid,
            WTERMSIG(status),
            WTERMSIG(status) == SIGSYS ? " (it tried a system call that it never makes)" : "",
            then);
    else if (!expected || WEXITSTATUS(status) != 0)
        log_write(WEXITSTATUS(status) == 0 ? LOG_INFO : LOG_ERROR,
            "the admin process (pid %ld) exited with status %d%s%s", (long)process->pid,
            WEXITSTATUS(status),
            WEXITSTATUS(status) == SPAWN_FAILED ? " (" PATHS_SELF " cannot be executed)" : "",
            then);
    else
        log_debug("the admin process (pid %ld) has ended", (long)process->pid);
}

bool admins_ended(struct admins *admins, pid_t pid, int status)
{
    size_t i = 0;
    while (i < ADMIN_PROCESSES && (admins->all[i] == NULL || admins->all[i]->pid != pid))
        i++;
    if (i == ADMIN_PROCESSES)
        return false;
    struct admin_process *process = admins->all[i];
    bool serving = process == admins->serving;
    log_end(process, !serving || admins->stopped, status);
    bool steady = uv_now(&admins->front->loop) - process->started >= STEADY_MS;
    admins->all[i] = NULL;
    process->pid = -1;
    admin_process_forget(process);
    if (!serving)
        return true;
    admins->serving = NULL;
    admins->front->admin_pid = 0;
    admins->failures = steady ? 1 : admins->failures + 1;
    if (is_wanted(admins))
        start_later(admins);
    return true;
}

void admins_check(struct admins *admins, uint64_t elapsed)
{
    for (size_t i = 0; i < ADMIN_PROCESSES; i++) {
        if (admins->all[i] != NULL)
            admin_process_check(admins->all[i], elapsed);
    }
}

void admins_stop(struct admins *admins, bool at_once)
{
    admins->stopped = true;
    uv_timer_stop(&admins->restart);
    for (size_t i = 0; i < ADMIN_PROCESSES; i++) {
        if (admins->all[i] == NULL)
            continue;
        admin_process_finish(admins->all[i]);
        if (at_once)
            admin_process_kill(admins->all[i]);
    }
}

bool admins_alive(const struct admins *admins)
{
    for (size_t i = 0; i < ADMIN_PROCESSES; i++) {
        if (admins->all[i] != NULL)
            return true;
    }
    return false;
}

void admins_close(struct admins *admins)
{
    for (size_t i = 0; i < ADMIN_PROCESSES; i++) {
        admin_process_forget(admins->all[i]);
        admins->all[i] = NULL;
    }
    admins->serving = NULL;
    uv_close((uv_handle_t *)&admins->restart, NULL);
}
