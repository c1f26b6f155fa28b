#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/admin/readyz.h"
#include "frontd/config/parse.h"
#include "frontd/ipc/shm_queues.h"

static struct conf *conf;
static struct share *share;

static void set_up(void)
{
    static const char text[] = "listeners:\n"
                               "  - {name: web, address: '127.0.0.1:1', protocol: http, routes: "
                               "[{path: /, kind: http, pool: a}]}\n"
                               "pools:\n"
                               "  - {name: a, workers: ['unix:/a']}\n"
                               "  - {name: b, workers: ['unix:/b']}\n";
    static const char *const names[] = {"a", "b"};
    char error[256];
    int fd;
    struct share_table table;
    cr_assert_eq(conf_try("c.yaml", text, strlen(text), NULL, &conf, error, sizeof(error)), 0);
    share_table_init(&table);
    cr_assert_eq(share_create(64, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &share), 0);
    close(fd);
    share_set_pools(share, names, 2);
    share_pool_set_reached(share, 0, (unsigned)share_pool(share, "a"), true);
    share_pool_set_reached(share, 1, (unsigned)share_pool(share, "b"), true);
}

static void tear_down(void)
{
    share_unmap(share);
    conf_free(conf);
}

TestSuite(readyz, .init = set_up, .fini = tear_down);

/* Checks what is written for a status. missing: what it lists; "": it is ready. */
static void expect(const char *status, const char *missing)
{
    struct json_writer out = {0};
    char wanted[512];
    bool ready = readyz_write(
        conf, share, (struct span){status, strlen(status)}, "it is silent", &out);
    cr_assert(!out.failed);
    cr_expect_eq(ready, missing[0] == '\0', "%s", status);
    snprintf(wanted, sizeof(wanted), "{\"missing\":[%s],\"ready\":%s}", missing,
        ready ? "true" : "false");
    cr_expect_eq(buf_len(&out.out), strlen(wanted));
    cr_expect_eq(memcmp(buf_data(&out.out), wanted, strlen(wanted)), 0, "%.*s, not %s",
        (int)buf_len(&out.out), buf_data(&out.out), wanted);
    buf_deinit(&out.out);
}

#define SHARD(n, g, state)    "{\"shard\":" #n ",\"generation\":" #g ",\"state\":\"" state "\"}"
#define STATUS(state, shards) "{\"state\":\"" state "\",\"generation\":2,\"shards\":[" shards "]}"

Test(readyz, what_is_missing)
{
    expect(STATUS("steady", SHARD(0, 2, "serving") "," SHARD(1, 2, "serving")), "");
    expect(STATUS("handing over", SHARD(0, 2, "serving") "," SHARD(0, 1, "leaving")), "");
    expect(STATUS("starting", SHARD(0, 2, "serving") "," SHARD(0, 3, "starting")), "");
    expect(STATUS("steady", SHARD(0, 2, "serving") "," SHARD(1, 2, "down")), "\"shard 1 is down\"");
    expect(STATUS("steady", SHARD(0, 2, "starting")), "\"shard 0 is starting\"");
    expect(STATUS("stopping", SHARD(0, 2, "serving")),
        "\"it stops, and only finishes what is in progress\"");
    expect(STATUS("steady", ""), "\"there are no shards\"");
    expect("{}", "\"there are no shards\"");
    expect("", "\"it is silent\"");
}

Test(readyz, pools_without_workers)
{
    share_pool_set_reached(share, 1, (unsigned)share_pool(share, "b"), false);
    expect(STATUS("steady", SHARD(0, 2, "serving")), "\"pool b has no worker\"");
    share_pool_set_reached(share, 0, (unsigned)share_pool(share, "a"), false);
    expect(STATUS("steady", SHARD(0, 2, "serving")),
        "\"pool a has no worker\",\"pool b has no worker\"");
    static const char *const names[] = {"a"};
    share_set_pools(share, names, 1);
    share_pool_set_reached(share, 0, (unsigned)share_pool(share, "a"), true);
    expect(STATUS("steady", SHARD(0, 2, "serving")), "\"pool b has no worker\"");
}
