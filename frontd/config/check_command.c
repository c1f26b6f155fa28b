#include "frontd/config/check_command.h"

#include <string.h>
#include <sys/un.h>

#include "common/alloc.h"
#include "frontd/config/value.h"

enum {
    NAME_MAX_BYTES = 32, /* of a pool's name, which is part of a path */
    /* The longest name of a socket, "NAME.255-4294967295.sock", without the pool's. */
    SOCKET_NAME_REST = 20,
    MAX_AGE_LEAST_MS = 1000,
    MAX_MEMORY_LEAST = 1 << 20,
};

static const uint64_t MAX_CALLS_MOST = 1000ULL * 1000 * 1000 * 1000;

static void complain(struct checker *checker, const char *parent, const char *key, const char *what)
{
    char path[CHECKER_PATH_SIZE];
    snprintf(path, sizeof(path), "%s.%s", parent, key);
    checker_complain(checker, path, "%s", what);
}

/* The name is part of the name of a socket, where it ends at the first dot. */
static void check_name(struct checker *checker, const char *parent, const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    if (strspn(name, allowed) != strlen(name) || strlen(name) > NAME_MAX_BYTES)
        complain(checker, parent, "name",
            "with a command a name is made of letters, digits, '_' and '-', at most 32 of them");
}

static void check_command(
    struct checker *checker, const char *parent, const struct conf_raw_pool *raw)
{
    if (checker_has(checker, parent, "workers"))
        complain(checker, parent, "command", "a pool has either workers or a command");
    else if (raw->command_count == 0)
        complain(checker, parent, "command", "there is none");
    else if (raw->command[0][0] == '\0')
        complain(checker, parent, "command[0]", "a program's name or path is needed here");
}

static void refuse_alone(struct checker *checker, const char *parent)
{
    static const char *const keys[] = {
        "instances", "restart_delay", "start_timeout", "max_calls", "max_age", "max_memory"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (checker_has(checker, parent, keys[i]))
            complain(checker, parent, keys[i], "only with command");
    }
}

/* The pattern of the sockets that frontd will make, as if it had been written as `workers`. */
static void make_pattern(
    struct checker *checker, const char *parent, const struct conf *conf, struct conf_pool *pool)
{
    char text[1200];
    struct sockaddr_un un;
    if (checker->failed)
        return;
    snprintf(
        text, sizeof(text), "unix:%s/" CONF_MANAGED_DIR "/%s.*.sock", conf->run_dir, pool->name);
    size_t longest = strlen(conf->run_dir) + sizeof("/" CONF_MANAGED_DIR "/") + strlen(pool->name) +
                     SOCKET_NAME_REST;
    if (strpbrk(conf->run_dir, "*?[\\") != NULL)
        complain(checker, parent, "command", "not in a run_dir with a '*', '?', '[' or '\\'");
    else if (longest > sizeof(un.sun_path))
        complain(checker, parent, "command",
            "the path of a UNIX socket has at most 107 bytes; make run_dir or the name shorter");
    pool->workers = checker_take(checker, mem_zalloc(sizeof(*pool->workers)));
    if (pool->workers == NULL)
        return;
    pool->nworkers = 1;
    pool->workers[0].weight = 1;
    pool->workers[0].text = checker_copy(checker, text);
    pool->workers[0].pattern = checker_copy(checker, text + 5);
}

static uint32_t count_instances(const struct conf *conf)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < conf->npools; i++)
        count += conf->pools[i].instances;
    return count;
}

/* 0 is no limit; what is too little would have workers replaced all the time. */
static void check_recycling(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, struct conf_pool *pool)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.max_calls", parent);
    pool->max_calls = checker_number(checker, key, raw->max_calls, 0, 0, MAX_CALLS_MOST);
    snprintf(key, sizeof(key), "%s.max_age", parent);
    checker_duration(checker, key, raw->max_age, 0, &pool->max_age);
    if (pool->max_age != 0 && pool->max_age < MAX_AGE_LEAST_MS)
        checker_complain(checker, key, "0, or at least %d s", MAX_AGE_LEAST_MS / 1000);
    snprintf(key, sizeof(key), "%s.max_memory", parent);
    const char *wrong = raw->max_memory == NULL
                            ? NULL
                            : conf_value_memory(raw->max_memory, &pool->max_memory);
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, raw->max_memory);
    else if (pool->max_memory != 0 && pool->max_memory < MAX_MEMORY_LEAST)
        checker_complain(checker, key, "0, or at least %d MiB", MAX_MEMORY_LEAST >> 20);
}

void conf_check_managed(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, const struct conf *conf, struct conf_pool *pool)
{
    char key[CHECKER_PATH_SIZE];
    if (!checker_has(checker, parent, "command")) {
        refuse_alone(checker, parent);
        return;
    }
    check_name(checker, parent, raw->name);
    check_command(checker, parent, raw);
    snprintf(key, sizeof(key), "%s.instances", parent);
    pool->instances = (uint32_t)checker_number(
        checker, key, raw->instances, 1, 1, CONF_INSTANCES_MAX);
    if (count_instances(conf) > CONF_MANAGED_MAX)
        checker_complain(checker, key, "at most %d in all pools together", CONF_MANAGED_MAX);
    snprintf(key, sizeof(key), "%s.restart_delay", parent);
    checker_timeout(checker, key, raw->restart_delay, 1000, &pool->restart_delay);
    snprintf(key, sizeof(key), "%s.start_timeout", parent);
    checker_timeout(checker, key, raw->start_timeout, 10 * 1000, &pool->start_timeout);
    check_recycling(checker, parent, raw, pool);
    pool->command = checker_copy_texts(checker, raw->command, raw->command_count, false);
    pool->ncommand = pool->command == NULL ? 0 : raw->command_count;
    make_pattern(checker, parent, conf, pool);
}
