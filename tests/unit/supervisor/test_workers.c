#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/supervisor/workers/worker_pool.h"
#include "frontd/supervisor/workers/workers_reexec.h"
#include "proto/json_read.h"
#include "proto/json_write.h"
#include "proto/jsonrpc.h"
#include "tests/unit/support/managed.h"

TestSuite(workers, .init = set_up, .fini = tear_down, .timeout = 120);

Test(workers, starts_and_stops)
{
    struct conf *conf = make_conf("serve", 3, "");
    workers_apply(&workers, conf, true);
    wait_for_count(3);
    struct stat st;
    char path[128];
    list_for_each (node, &app()->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        snprintf(path, sizeof(path), "%s/workers/app.%u-%u.sock", dir, worker->name.slot,
            worker->name.serial);
        cr_assert_str_eq(worker->path, path);
        cr_assert(stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600);
    }
    snprintf(path, sizeof(path), "%s/workers", dir);
    cr_assert(stat(path, &st) == 0 && (st.st_mode & 0777) == 0750);
    conf_free(conf);
    conf = make_conf("serve", 3, "");
    pid_t before[4];
    pid_t after[4];
    get_pids(before);
    workers_apply(&workers, conf, true);
    cr_assert(!app()->rolling);
    get_pids(after);
    cr_assert_eq(memcmp(before, after, sizeof(before)), 0);
    workers_stop(&workers, on_gone, &workers); /* while the config is there */
    run_until(gone, "the end of all");
    conf_free(conf);
}

Test(workers, what_cannot_be_prepared)
{
    char error[512] = "";
    char path[128];
    char other[128];
    struct conf *conf = make_conf("serve", 1, "");
    snprintf(path, sizeof(path), "%s/workers", dir);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(symlink(dir, path), 0);
    cr_assert_eq(workers_prepare(&workers, conf, error, sizeof(error)), -ENOTDIR);
    cr_assert_not_null(strstr(error, "/workers: cannot use it for the sockets of workers: Not a"));
    cr_assert_eq(unlink(path), 0);
    if (geteuid() == 0) {
        cr_assert_eq(mkdir(path, 0777), 0);
        cr_assert_eq(chown(path, 1, 1), 0);
        cr_assert_eq(workers_prepare(&workers, conf, error, sizeof(error)), -EPERM);
        cr_assert_eq(rmdir(path), 0);
        conf->user = mem_strdup("no such user");
        cr_assert_eq(workers_prepare(&workers, conf, error, sizeof(error)), -ENOENT);
        conf->user = mem_free(conf->user);
    }
    snprintf(other, sizeof(other), "%s/other", dir);
    mem_free(conf->run_dir);
    conf->run_dir = mem_strdup(other);
    cr_assert_eq(workers_prepare(&workers, conf, error, sizeof(error)), -EINVAL);
    cr_assert_not_null(strstr(error, "run_dir cannot change"));
    conf_free(conf);
}

Test(workers, other_number_of_instances)
{
    pid_t before[4];
    pid_t after[4];
    struct conf *one = make_conf("serve", 2, "");
    struct conf *two = make_conf("serve", 3, "");
    struct conf *three = make_conf("serve", 1, "");
    workers_apply(&workers, one, true);
    wait_for_count(2);
    get_pids(before);
    workers_apply(&workers, two, true);
    wait_for_count(3);
    get_pids(after);
    cr_assert(after[0] == before[0] && after[1] == before[1] && after[2] > 0);
    workers_apply(&workers, three, true);
    wait_for_count(1);
    get_pids(after);
    cr_assert(after[0] == before[0] && after[1] == 0 && after[2] == 0);
    conf_free(one);
    conf_free(two);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(three);
}

static bool not_rolling(void)
{
    return !app()->rolling && workers_count(&workers) == wanted_count;
}

/* One at a time: never more than one above the number of instances that does not leave. */
static bool rolled_one_at_a_time(void)
{
    size_t staying = 0;
    size_t serving = 0;
    list_for_each (node, &app()->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        staying += worker->state != WORKER_LEAVING;
        serving += worker->state == WORKER_SERVING;
    }
    cr_assert_leq(staying, 4u);
    cr_assert_geq(serving, 3u);
    return not_rolling();
}

Test(workers, replaces_one_at_a_time)
{
    pid_t before[4];
    pid_t after[4];
    struct conf *one = make_conf("serve", 3, "");
    struct conf *two = make_conf("serve, again", 3, "");
    workers_apply(&workers, one, true);
    wait_for_count(3);
    get_pids(before);
    workers_apply(&workers, two, false);
    cr_assert(!app()->rolling, "not asked for");
    workers_apply(&workers, two, true);
    cr_assert(app()->rolling);
    run_until(rolled_one_at_a_time, "all to be replaced");
    get_pids(after);
    for (int i = 0; i < 3; i++)
        cr_assert(after[i] > 0 && after[i] != before[i]);
    conf_free(one);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(two);
}

/* A new worker that never answers, answers wrongly, ends, or is not there at all. */
Test(workers, a_new_one_that_fails_leaves_the_old_ones)
{
    static const char *const modes[] = {"silent", "garbage", "exit"};
    pid_t before[4];
    pid_t after[4];
    struct conf *conf = make_conf("serve", 2, "");
    workers_apply(&workers, conf, true);
    wait_for_count(2);
    get_pids(before);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct conf *bad = make_conf(modes[i], 2, ", start_timeout: 300ms");
        workers_apply(&workers, bad, true);
        run_until(not_rolling, modes[i]);
        get_pids(after);
        cr_assert_eq(memcmp(before, after, sizeof(before)), 0, "%s", modes[i]);
        workers_apply(&workers, conf, true);
        cr_assert(!app()->rolling);
        conf_free(bad);
    }
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(conf);
}

static struct worker_process *first_worker(void)
{
    return list_first(&app()->workers, struct worker_process, node);
}

static bool is_settled(void)
{
    return first_worker()->settled && first_worker()->state == WORKER_SERVING;
}

static bool is_not_suspected(void)
{
    return !first_worker()->suspected;
}

static pid_t hung_pid;

static bool is_another(void)
{
    return first_worker()->pid > 0 && first_worker()->pid != hung_pid && is_settled();
}

static uint64_t judged_at;

static bool may_be_judged_again(void)
{
    return uv_now(&loop) - judged_at > 300;
}

/* A shard may say what it likes: a worker that answers is left alone, and names of no worker do no
 * harm. */
Test(workers, what_shards_say_of_workers)
{
    static const char *const odd[] = {"", "app", ".sock", "app.0-1", "../workers/app.0-1.sock",
        "app.1-1.sock", "app.0-99.sock", "other.0-1.sock", "app.00-1.sock", "app.0--1.sock",
        "%n%s%s%s.0-1.sock", "app.4294967296-1.sock"};
    struct conf *conf = make_conf("serve", 1, ", worker_timeout: 300ms, kill_after: 1h");
    char file[64];
    workers_apply(&workers, conf, true);
    snprintf(file, sizeof(file), "app.0-%u.sock", first_worker()->name.serial);
    workers_hung(&workers, file, false);
    cr_assert(!first_worker()->suspected, "it is not known yet whether it serves");
    run_until(is_settled, "a worker");
    hung_pid = first_worker()->pid;
    for (size_t i = 0; i < 2 * ARRAY_LEN(odd); i++)
        workers_hung(&workers, odd[i / 2], i % 2 == 0);
    workers_hung(&workers, file, true);
    cr_assert(!first_worker()->suspected, "no call can be late by an hour yet");

    workers_hung(&workers, file, false);
    cr_assert(first_worker()->suspected);
    workers_hung(&workers, file, false);
    run_until(is_not_suspected, "its HELLO");
    judged_at = first_worker()->judged;
    workers_hung(&workers, file, false);
    cr_assert(!first_worker()->suspected, "it has just answered");
    cr_assert_eq(first_worker()->pid, hung_pid);
    run_until(may_be_judged_again, "some time");

    kill(hung_pid, SIGSTOP);
    workers_hung(&workers, file, false);
    cr_assert(first_worker()->suspected);
    run_until(is_another, "another process");
    cr_assert(!first_worker()->suspected);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(conf);
}

Test(workers, a_call_that_is_late)
{
    struct conf *conf = make_conf("serve", 1, ", kill_after: 1ms");
    char file[64];
    workers_apply(&workers, conf, true);
    run_until(is_settled, "a worker");
    hung_pid = first_worker()->pid;
    snprintf(file, sizeof(file), "app.0-%u.sock", first_worker()->name.serial);
    workers_hung(&workers, file, true);
    workers_hung(&workers, file, true);
    run_until(is_another, "another process");
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(conf);
}

static bool waits_after_three(void)
{
    const struct worker_process *worker = list_first(&app()->workers, struct worker_process, node);
    return worker->failures >= 3 && worker->state == WORKER_WAITING;
}

/* It backs off, its socket stays, and a command that works is tried at once. */
Test(workers, one_that_keeps_ending)
{
    struct conf *bad = make_conf("exit", 1, "");
    struct conf *good = make_conf("serve", 1, "");
    workers_apply(&workers, bad, true);
    run_until(waits_after_three, "three ends");
    const struct worker_process *worker = list_first(&app()->workers, struct worker_process, node);
    char path[WORKER_PATH_MAX];
    strcpy(path, worker->path);
    workers_apply(&workers, good, true);
    wait_for_count(1);
    worker = list_first(&app()->workers, struct worker_process, node);
    cr_assert_str_eq(worker->path, path);
    conf_free(bad);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(good);
}

Test(workers, a_program_that_is_not_there)
{
    struct conf *bad = make_conf("serve", 2, "");
    struct conf *good = make_conf("serve", 2, "");
    mem_free(bad->pools[0].command[0]);
    bad->pools[0].command[0] = mem_strdup("/nowhere/at/all");
    workers_apply(&workers, bad, true);
    run_until(waits_after_three, "three tries");
    cr_assert_eq(workers_count(&workers), 0u);
    workers_apply(&workers, good, true);
    wait_for_count(2);
    conf_free(bad);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(good);
}

static pid_t killed;

static bool killed_is_replaced(void)
{
    pid_t pids[4];
    get_pids(pids);
    return pids[0] > 0 && pids[0] != killed && serves();
}

Test(workers, one_that_is_killed_is_started_again_on_its_socket)
{
    struct conf *conf = make_conf("serve", 1, "");
    workers_apply(&workers, conf, true);
    wait_for_count(1);
    pid_t pids[4];
    char path[WORKER_PATH_MAX];
    get_pids(pids);
    strcpy(path, list_first(&app()->workers, struct worker_process, node)->path);
    killed = pids[0];
    kill(killed, SIGKILL);
    run_until(killed_is_replaced, "another one");
    cr_assert_str_eq(list_first(&app()->workers, struct worker_process, node)->path, path);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(conf);
}

static bool three_serve(void)
{
    size_t n = 0;
    list_for_each (node, &workers.ctx.pools) {
        struct worker_pool *pool = container_of(node, struct worker_pool, node);
        list_for_each (each, &pool->workers)
            n += container_of(each, struct worker_process, node)->state == WORKER_SERVING;
    }
    return n == 3;
}

static bool one_is_left(void)
{
    return workers_count(&workers) == 1;
}

/* Its workers stay until no call is left; what does not go is killed after the drain limit. */
Test(workers, a_pool_that_is_removed)
{
    struct conf *conf = make_conf("stubborn", 2, "");
    struct conf *without = make_conf("serve", 1, "");
    mem_free(without->pools[0].name);
    without->pools[0].name = mem_strdup("other");
    workers_apply(&workers, conf, true);
    wait_for_count(2);
    workers_apply(&workers, without, true);
    conf_free(conf);
    run_until(three_serve, "workers of the old pool beside that of the new one");
    workers_prune(&workers);
    cr_assert_eq(workers_count(&workers), 3u);
    run_until(one_is_left, "the end of the stubborn");
    cr_assert_str_eq(app()->name, "other");
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    cr_assert(list_empty(&workers.ctx.pools));
    conf_free(without);
}

static size_t fd_count;

static void count_fd(int fd, void *data)
{
    cr_assert_eq(data, &fd_count);
    cr_assert_geq(fcntl(fd, F_GETFD), 0);
    fd_count++;
}

static void dup_fd(int fd, void *data)
{
    /* What execve() leaves: the number goes on, our handle of it does not. */
    int *fds = data;
    fds[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    cr_assert_geq(fds[fd], 200);
}

/* As the next program does it: the same processes go on, under new handles. */
Test(workers, saved_and_restored)
{
    int fds[200];
    pid_t before[4];
    pid_t after[4];
    struct conf *conf = make_conf("serve", 3, "");
    struct conf *other = make_conf("serve, other", 3, "");
    workers_apply(&workers, conf, true);
    wait_for_count(3);
    get_pids(before);
    first_worker()->calls = 1234567;
    first_worker()->counted = UINT64_MAX;
    uint64_t served = first_worker()->served;
    workers_each_fd(&workers, count_fd, &fd_count);
    cr_assert_eq(fd_count, 6u);
    struct json_writer state = {0};
    json_begin(&state, NULL, '{');
    json_add_text(&state, "later", "unknown");
    workers_save(&workers, &state, "workers");
    json_end(&state, '}');
    cr_assert(!state.failed);
    struct span text = {buf_data(&state.out), buf_len(&state.out)};
    cr_assert_eq(jsonrpc_validate(text.p, text.n), 0);
    memset(fds, -1, sizeof(fds));
    workers_each_fd(&workers, dup_fd, fds);
    /* Sockets are unlinked by close: they are put where they were. */
    char paths[3][2][WORKER_PATH_MAX];
    int n = 0;
    list_for_each (node, &app()->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        strcpy(paths[n][0], worker->path);
        snprintf(paths[n][1], sizeof(paths[n][1]), "%s/kept%d", dir, n);
        cr_assert_eq(link(paths[n][0], paths[n][1]), 0);
        n++;
    }
    workers_close(&workers);
    for (int i = 0; i < 10; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    for (int i = 0; i < n; i++)
        cr_assert_eq(rename(paths[i][1], paths[i][0]), 0);
    for (int fd = 0; fd < 200; fd++) {
        if (fds[fd] >= 0) {
            cr_assert_eq(dup2(fds[fd], fd), fd);
            close(fds[fd]);
        }
    }
    workers_init(&workers, &loop, dir);
    cr_assert_eq(workers_restore(&workers, json_read_member(text, "workers")), 0);
    buf_deinit(&state.out);
    workers_apply(&workers, other, false);
    cr_assert(serves());
    get_pids(after);
    cr_assert_eq(memcmp(before, after, sizeof(before)), 0, "left alone");
    cr_assert(first_worker()->calls == 1234567 && first_worker()->counted == UINT64_MAX);
    cr_assert_eq(first_worker()->served, served);
    cr_assert(!app()->rolling);
    workers_apply(&workers, other, true);
    cr_assert(app()->rolling, "what they run is known still");
    wanted_count = 3;
    run_until(not_rolling, "all to be replaced");
    get_pids(after);
    for (int i = 0; i < 3; i++)
        cr_assert(after[i] > 0 && after[i] != before[i]);
    conf_free(conf);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(other);
}

/* What is written where memory is short is not used, however much of it there is. */
Test(workers, saved_without_memory)
{
    struct conf *conf = make_conf("serve", 2, "");
    workers_apply(&workers, conf, true);
    wait_for_count(2);
    bool failed = true;
    for (long n = 0; failed; n++) {
        struct json_writer state = {0};
        cr_assert_lt(n, 20);
        mem_fail_after(n);
        workers_save(&workers, &state, NULL);
        mem_fail_after(-1);
        failed = state.failed;
        cr_assert(failed || jsonrpc_validate(buf_data(&state.out), buf_len(&state.out)) == 0);
        cr_assert(failed || n > 0);
        buf_deinit(&state.out);
    }
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(conf);
}

/* Each allocation fails in its turn: the workers are there later, and nothing leaks. */
Test(workers, without_memory)
{
    struct conf *conf = make_conf("serve", 1, ", start_timeout: 5s");
    for (long n = 0; n < 16; n++) {
        size_t before = mem_in_use();
        mem_fail_after(n);
        workers_apply(&workers, conf, true);
        uv_run(&loop, UV_RUN_NOWAIT);
        mem_fail_after(-1);
        workers_apply(&workers, conf, true); /* what had no memory for its own is there now */
        wait_for_count(1);
        is_gone = false;
        workers_stop(&workers, on_gone, &workers);
        run_until(gone, "the end of all");
        workers_close(&workers);
        for (int i = 0; i < 10; i++)
            uv_run(&loop, UV_RUN_NOWAIT);
        cr_assert_eq(mem_in_use(), before, "allocation %ld", n);
        workers_init(&workers, &loop, dir);
    }
    conf_free(conf);
}

Test(workers, states_that_make_no_sense)
{
    static const char *const texts[] = {"[]", "{}", "{\"pools\":1}", "{\"version\":9}"};
    static const char *const pools[] = {
        "[1,[],{},{\"name\":1},{\"name\":\"\"}]",
        "[{\"name\":\"app\"},{\"name\":\"b\",\"workers\":{}},{\"name\":\"c\",\"workers\":[1,{}]}]",
        "[{\"name\":\"app\",\"workers\":[{\"state\":\"odd\"},{\"state\":\"serving\",\"slot\":1},"
        "{\"state\":\"waiting\",\"slot\":256},{\"state\":\"waiting\",\"slot\":0,\"pid\":3}]}]",
        "[{\"name\":\"app\",\"serial\":-1,\"workers\":[{\"state\":\"waiting\",\"slot\":0,"
        "\"listener\":99999,\"replaces\":0,\"unended\":\"zz\"}]}]",
    };
    struct conf *conf = make_conf("serve", 1, "");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct span state = {texts[i], strlen(texts[i])};
        cr_assert_eq(workers_restore(&workers, state), -EINVAL, "%s", texts[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
        char text[1024];
        snprintf(text, sizeof(text), "{\"version\":1,\"pools\":%s,\"survivors\":[{},{\"pid\":1}]}",
            pools[i]);
        cr_assert_eq(jsonrpc_validate(text, strlen(text)), 0);
        cr_assert_eq(workers_restore(&workers, (struct span){text, strlen(text)}), 0);
        workers_apply(&workers, conf, true);
        wait_for_count(1);
        workers_apply(&workers, conf, true);
        is_gone = false;
        workers_stop(&workers, on_gone, &workers);
        run_until(gone, "the end of all");
        workers_close(&workers);
        workers_init(&workers, &loop, dir);
    }
    conf_free(conf);
}

/* No worker is left out of what is taken over without that being said. */
Test(workers, restored_without_memory)
{
    static const char text[] =
        "{\"pools\":[{\"name\":\"app\",\"workers\":[{\"state\":\"waiting\",\"slot\":0},"
        "{\"state\":\"waiting\",\"slot\":1}]},{\"name\":\"b\",\"workers\":[]}]}";
    size_t before = mem_in_use();
    for (long n = 0; n <= 4; n++) {
        mem_fail_after(n);
        int r = workers_restore(&workers, (struct span){text, strlen(text)});
        mem_fail_after(-1);
        cr_assert_eq(r, n < 4 ? -ENOMEM : 0, "allocation %ld", n);
        workers_close(&workers);
        for (int i = 0; i < 10; i++)
            uv_run(&loop, UV_RUN_NOWAIT);
        cr_assert_eq(mem_in_use(), before, "allocation %ld", n);
        workers_init(&workers, &loop, dir);
    }
}

static pid_t survivors[4];

/* They are children of the test, so that their end is complete when on_child() has seen it. */
static bool survivors_are_reaped(void)
{
    return kill(survivors[0], 0) < 0 && kill(survivors[1], 0) < 0;
}

/* As after SIGKILL of a supervisor: its workers serve until ours do, what is stale is removed. */
Test(workers, survivors_of_another_supervisor)
{
    pid_t *before = survivors;
    pid_t after[4];
    char stale[128];
    char kept[128];
    struct conf *conf = make_conf("serve", 2, "");
    workers_apply(&workers, conf, true);
    wait_for_count(2);
    get_pids(before);
    char pids[2][128];
    snprintf(pids[0], sizeof(pids[0]), "%s/workers/pids", dir);
    snprintf(pids[1], sizeof(pids[1]), "%s/pids", dir);
    cr_assert_eq(link(pids[0], pids[1]), 0);
    workers_close(&workers); /* their processes are left alone */
    for (int i = 0; i < 10; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    unlink(pids[0]); /* else both are one file, and rename() does nothing */
    cr_assert_eq(rename(pids[1], pids[0]), 0);
    int fd = open(pids[0], O_WRONLY | O_APPEND | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    /* One with a PID that another process has by now, one that is gone, and what is no line of
     * ours. */
    dprintf(fd, "%ld 1 app.7-7.sock\n999999999 5 app.8-8.sock\nx\n1 1 ../x.sock\n", (long)getpid());
    close(fd);
    snprintf(stale, sizeof(stale), "%s/workers/app.7-7.sock", dir);
    struct worker_name name = {.pool = "app", .slot = 7, .serial = 7};
    struct spawn_user user = {0};
    char folder[96];
    snprintf(folder, sizeof(folder), "%s/workers", dir);
    close(worker_dir_bind(folder, &name, &user));
    cr_assert_eq(access(stale, F_OK), 0);
    snprintf(kept, sizeof(kept), "%s/workers/app.9-9.sock", dir);
    fd = open(kept, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* no socket: none of ours */
    close(fd);

    workers_init(&workers, &loop, dir);
    workers_apply(&workers, conf, true);
    cr_assert(access(stale, F_OK) < 0 && access(kept, F_OK) == 0);
    unlink(kept);
    cr_assert_eq(workers_count(&workers), 4u);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kill(before[i], 0), 0);
    wait_for_count(2);
    run_until(survivors_are_reaped, "the end of the old ones");
    get_pids(after);
    for (int i = 0; i < 2; i++)
        cr_assert(after[i] > 0 && after[i] != before[i]);
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(conf);
}
