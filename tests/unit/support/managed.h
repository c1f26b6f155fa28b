#pragma once

/* Workers that frontd runs, on a loop of the test's: tiny_worker in a folder of its own. */

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontd/config/parse.h"
#include "frontd/supervisor/workers/worker_pool.h"
#include "frontd/supervisor/workers/workers.h"

enum { LIMIT_MS = 20000 };

static uv_loop_t loop;
static uv_signal_t child_signal;
static uv_timer_t tick;
static struct workers workers;
static char dir[64];
static const char *tiny;

static inline void on_child(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        workers_process_ended(&workers, pid, status);
}

static inline void on_tick(uv_timer_t *timer)
{
    (void)timer; /* the loop turns, so that conditions are looked at */
}

static inline void set_up(void)
{
    tiny = getenv("TINY_WORKER");
    cr_assert_not_null(tiny, "the path of tiny_worker");
    strcpy(dir, "/tmp/test_managed-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(uv_loop_init(&loop), 0);
    cr_assert_eq(uv_signal_init(&loop, &child_signal), 0);
    cr_assert_eq(uv_signal_start(&child_signal, on_child, SIGCHLD), 0);
    cr_assert_eq(uv_timer_init(&loop, &tick), 0);
    cr_assert_eq(uv_timer_start(&tick, on_tick, 10, 10), 0);
    workers_init(&workers, &loop, dir);
}

static inline void prepare(const struct conf *conf)
{
    char error[512] = "";
    cr_assert_eq(workers_prepare(&workers, conf, error, sizeof(error)), 0, "%s", error);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void run_until(bool (*condition)(void), const char *what)
{
    uint64_t start = uv_hrtime();
    while (!condition()) {
        cr_assert_lt((uv_hrtime() - start) / 1000000, (uint64_t)LIMIT_MS, "%s", what);
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static bool is_gone;

static inline void on_gone(void *data)
{
    cr_assert_eq(data, &workers);
    cr_assert(!is_gone, "told twice");
    is_gone = true;
}

static inline bool gone(void)
{
    return is_gone;
}

/* Everything ends, and no handle, no child, no socket and no memory is left. */
static inline void tear_down(void)
{
    is_gone = false;
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    workers_close(&workers);
    uv_close((uv_handle_t *)&child_signal, NULL);
    uv_close((uv_handle_t *)&tick, NULL);
    cr_assert_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    cr_assert_eq(uv_loop_close(&loop), 0);
    cr_assert(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    char path[128];
    snprintf(path, sizeof(path), "%s/workers", dir);
    DIR *found = opendir(path);
    if (found != NULL) {
        for (struct dirent *entry; (entry = readdir(found)) != NULL;)
            cr_assert_eq(entry->d_name[0], '.', "%s is left", entry->d_name);
        closedir(found);
    }
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A config with a pool `app` that runs tiny_worker in this mode. */
static inline struct conf *make_conf(const char *mode, unsigned instances, const char *more)
{
    char text[2048];
    char error[512] = "";
    struct conf *conf = NULL;
    snprintf(text, sizeof(text),
        "run_dir: %s\ndrain: 1s\n"
        "listeners:\n  - {name: l, address: \"unix:%s/l\", protocol: line, pool: app}\n"
        "pools:\n  - {name: app, command: [\"%s\", %s], instances: %u, restart_delay: 10ms%s}\n",
        dir, dir, tiny, mode, instances, more);
    cr_assert_eq(conf_parse("c", text, strlen(text), &conf, error, sizeof(error)), 0, "%s", error);
    prepare(conf);
    return conf;
}

static inline struct worker_pool *app(void)
{
    cr_assert(!list_empty(&workers.ctx.pools));
    return list_first(&workers.ctx.pools, struct worker_pool, node);
}

static inline bool serves(void)
{
    return worker_pool_serves(app());
}

/* The processes of the pool that are not leaving, by slot; 0: none. */
static inline void get_pids(pid_t pids[4])
{
    memset(pids, 0, 4 * sizeof(*pids));
    list_for_each (node, &app()->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        cr_assert_lt(worker->name.slot, 4u);
        if (worker->state != WORKER_LEAVING && worker->pid > 0)
            pids[worker->name.slot] = worker->pid;
    }
}

static size_t wanted_count;

static inline bool count_is_wanted(void)
{
    return workers_count(&workers) == wanted_count && serves();
}

static inline void wait_for_count(size_t n)
{
    wanted_count = n;
    run_until(count_is_wanted, "a number of processes");
}
