/*
 * The record says which processes were started, what each is and what its generation was about to
 * do. reports.c finds those that are alive and hears them; one that was about to start is ended.
 * adopt_generations.c has the others serve on. The supervisor reloads afterwards, so that all
 * shards are its own.
 */

#include "frontd/supervisor/adopt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/adopt_generations.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/reports.h"
#include "frontd/supervisor/shards_dir.h"
#include "frontd/system/discard.h"

/*
 * Ends the shards that were about to replace others: the supervisor before was not done with them.
 */
static void end_starting(struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        struct reporter *reporter = &reports->all[i];
        if (reports->record->generations[reporter->generation].role != GENERATION_STARTING)
            continue;
        log_info("pid %ld was about to replace a shard: ending it", (long)reporter->process->pid);
        reports_kill(reporter);
    }
    reports_wait_killed(reports);
}

/*
 * Ends the shards that have not reported: they hold the sockets, and no supervisor will hear them.
 */
static void end_silent(struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        struct reporter *reporter = &reports->all[i];
        if (reporter->pidfd < 0 || reporter->complete)
            continue;
        log_error("shard %u (pid %ld) has not reported as it should, killing it", reporter->shard,
            (long)reporter->process->pid);
        reports_kill(reporter);
    }
    reports_wait_killed(reports);
}

static bool is_anybody_alive(const struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        if (reports->all[i].pidfd >= 0)
            return true;
    }
    return false;
}

static int find(struct front *front, struct reports *reports, int shards_dir,
    const struct spawn_user *user, bool *ret_found)
{
    end_starting(reports);
    if (!is_anybody_alive(reports))
        return 0;
    log_info("shards of a front that was killed are alive: waiting for their reports");
    int listener = shards_dir_listen(shards_dir, user, REPORTS_MAX);
    if (listener < 0)
        return listener;
    reports_collect(reports, listener);
    /* A connection that is still in its queue may have brought anything. */
    discard(&listener, 1, 0);
    shards_dir_unlink(shards_dir);
    end_silent(reports);
    *ret_found = reports_count(reports, SIZE_MAX) > 0;
    return *ret_found ? adopt_generations(front, reports) : 0;
}

/*
 * Reads the record. Returns 0 with *ret_record, NULL where none is there or understood, or -errno.
 */
static int read_record(
    const struct front *front, struct record **ret_record, char *error, size_t error_size)
{
    *ret_record = NULL;
    int r = record_read(front->run_dir_fd, ret_record);
    if (r == -ENOENT)
        return 0;
    if (r == -EPERM || r == -ELOOP) {
        snprintf(error, error_size,
            "run_dir: " RECORD_NAME " is not a plain file of the user who runs frontd alone, so it "
            "is not believed: see who made it, and remove it");
        return r;
    }
    if (r == 0)
        return 0;
    log_error(RECORD_NAME
        " cannot be read (%s): should shards of a front that was killed be alive, they "
        "are not found",
        strerror(-r));
    return r == -ENOMEM ? r : 0;
}

/* What an operator has held back stays so, also where no shard is alive, until the system starts.
 */
static void take_holds(struct front *front, struct record *record)
{
    char boot[PROCESS_BOOT_SIZE];
    process_boot(boot);
    if (strcmp(boot, record->boot) == 0)
        holds_move(&front->holds, &record->holds);
}

int adopt_shards(struct front *front, const struct conf *conf, bool *ret_found, bool *ret_lost,
    char *error, size_t error_size)
{
    struct spawn_user user;
    char wrong[384] = "";
    struct record *record = NULL;
    struct reports *reports = NULL;
    *ret_found = false;
    *ret_lost = false;
    int dir = -1;
    int r = spawn_user_find(conf->user, &user);
    if (r < 0)
        snprintf(wrong, sizeof(wrong), "cannot find user %s: %s", conf->user, strerror(-r));
    if (r == 0)
        r = dir = shards_dir_open(front->run_dir_fd, &user, wrong, sizeof(wrong));
    if (r < 0) {
        snprintf(error, error_size, "run_dir %s: %s", conf->run_dir, wrong);
        return r;
    }
    r = read_record(front, &record, error, error_size);
    *ret_lost = record == NULL;
    if (r == 0 && record != NULL) {
        reports = mem_zalloc(sizeof(*reports));
        r = reports == NULL ? -ENOMEM : 0;
    }
    if (r == 0 && record != NULL) {
        take_holds(front, record);
        reports_find(reports, record);
        r = find(front, reports, dir, &user, ret_found);
        reports_deinit(reports);
        if (r < 0)
            snprintf(error, error_size,
                "shards of a front that was killed are alive, and cannot be taken over: %s",
                strerror(-r));
    }
    if (r == 0 && !*ret_found)
        record_forget(front->run_dir_fd);
    mem_free(reports);
    record_free(record);
    close(dir);
    return r;
}
