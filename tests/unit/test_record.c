#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/mem.h"
#include "frontd/super/folder.h"
#include "frontd/super/record.h"
#include "frontd/super/state.h"

static char base[64];
static int dir;
static size_t in_use_before;

static void set_up(void)
{
    snprintf(base, sizeof(base), "/tmp/test_record-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
    char error[256];
    dir = folder_open(base, false, error, sizeof(error));
    cr_assert_geq(dir, 0, "%s", error);
    log_init(LOG_ERROR, LOG_TEXT, "test");
    in_use_before = mem_in_use();
}

static void tear_down(void)
{
    unlinkat(dir, RECORD_NAME, 0);
    close(dir);
    rmdir(base);
    cr_assert_eq(mem_in_use(), in_use_before);
}

TestSuite(record, .init = set_up, .fini = tear_down);

static const char config[] = "shards: 2\n"
                             "listeners:\n"
                             "  - {name: l, address: '127.0.0.1:8080', protocol: http, routes:\n"
                             "     [{path: /, kind: http, pool: p}]}\n"
                             "pools:\n"
                             "  - {name: p, workers: ['unix:/x']} # \"\\ \xc3\xa4\n";

/* A record, of which each part can be replaced. */
#define KEY  "\"conn_key\":\"0123456789abcdef0123456789abcdef\","
#define HEAD "{\"version\":1,\"instance\":\"abc\"," KEY "\"incarnations\":9,\"last_generation\":7,"
#define ENDPOINTS                                                                                  \
    "\"endpoints\":[{\"address\":\"02001f90000000000000000000000000\",\"shared\":true,\"dev\":3,"  \
    "\"ino\":4,\"cookies\":[11,12]}],"
#define CHILD(pid, birth, seat)                                                                    \
    "{\"pid\":" pid ",\"birth\":" birth ",\"seat\":" seat ",\"incarnation\":5}"
#define GENERATION(role, children)                                                                 \
    "{\"number\":6,\"role\":" role ",\"conf\":\"text\",\"children\":[" children "]}"
#define RECORD(role, children) HEAD ENDPOINTS "\"generations\":[" GENERATION(role, children) "]}"

Test(record, texts)
{
    static const struct {
        const char *text;
        int result;
    } cases[] = {
        {RECORD("\"serving\"", CHILD("100", "1", "0")), 0},
        {RECORD("\"leaving\"", CHILD("100", "1", "62")), 0},
        {RECORD("\"starting\"", CHILD("100", "1", "0") "," CHILD("101", "1", "1")), 0},
        {RECORD("\"stopping\"", CHILD("-1", "0", "0") "," CHILD("-1", "0", "0")), 0},
        {RECORD("\"king\"", CHILD("100", "1", "0")), -EINVAL},
        {RECORD("7", CHILD("100", "1", "0")), -EINVAL},
        {RECORD("\"serving\"", ""), -EINVAL},
        {RECORD("\"serving\"", CHILD("100", "1", "63")), -EINVAL},
        {RECORD("\"serving\"", CHILD("100", "1", "4294967296")), -EINVAL},
        {RECORD("\"serving\"", CHILD("100", "1", "0") "," CHILD("101", "1", "0")), -EINVAL},
        {RECORD("\"serving\"", CHILD("100", "1", "0") "," CHILD("100", "1", "1")), -EINVAL},
        {RECORD("\"serving\"",
             CHILD("100", "1", "0") "]},{\"number\":1,\"role\":\"leaving\","
                                    "\"conf\":\"\",\"children\":[" CHILD("100", "1", "1")),
            -EINVAL},
        {RECORD("\"serving\"", "null"), 0},
        {HEAD "\"generations\":[]}", -EINVAL},
        {HEAD "\"generations\":{}}", -EINVAL},
        {HEAD ENDPOINTS "\"generations\":[1]}", -EINVAL},
        {HEAD "\"endpoints\":[{\"address\":\"zz\"}],\"generations\":[]}", -EINVAL},
        {HEAD "\"generations\":[" GENERATION("\"serving\"", "1") "," GENERATION(
             "\"leaving\"", "1") "," GENERATION("\"starting\"", "1") "]}",
            -EINVAL},
        {"{\"version\":2,\"instance\":\"abc\"}", -ENOTSUP},
        {"{\"version\":1,\"instance\":\"abc\"}", -EINVAL},
        {"{\"version\":1}", -ENOTSUP},
        {"{}", -ENOTSUP},
        {"[]", -EINVAL},
        {"", -EINVAL},
        {"\"text\"", -EINVAL},
        {"{", -EINVAL},
        {"null", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct record *record = NULL;
        int r = record_parse(cases[i].text, strlen(cases[i].text), &record);
        cr_expect_eq(r, cases[i].result, "case %zu: %d", i, r);
        cr_expect_eq(record != NULL, cases[i].result == 0, "case %zu", i);
        record_free(record);
    }
}

Test(record, processes_that_cannot_be)
{
    static const char *const children[] = {CHILD("0", "1", "0"), CHILD("1", "1", "0"),
        CHILD("-1", "1", "0"), CHILD("2147483648", "1", "0"), CHILD("4294967396", "1", "0"),
        CHILD("100", "0", "0"), CHILD("\"x\"", "1", "0"), "{}", "[]", "\"x\""};
    for (size_t i = 0; i < ARRAY_LEN(children); i++) {
        struct record *record = NULL;
        char text[1024];
        snprintf(text, sizeof(text),
            "%s\"generations\":[{\"number\":6,\"role\":\"serving\","
            "\"conf\":\"\",\"children\":[%s]}]}",
            HEAD, children[i]);
        cr_assert_eq(record_parse(text, strlen(text), &record), 0, "%s", text);
        cr_expect_eq(record->generations[0].children[0].pid, -1, "%s", children[i]);
        record_free(record);
    }
}

Test(record, every_beginning_of_a_text)
{
    static const char text[] = RECORD("\"serving\"", CHILD("100", "1", "0"));
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        struct record *record = NULL;
        char *part = malloc(n + 1); /* so that a read beyond it is seen */
        memcpy(part, text, n);
        cr_expect_eq(record_parse(part, n, &record), -EINVAL, "%zu bytes", n);
        free(part);
    }
}

static void write_text(const char *text)
{
    cr_assert_eq(folder_write(dir, RECORD_NAME, text, strlen(text)), 0);
}

/* Somebody else's file is not read, whatever is in it. */
Test(record, files)
{
    struct record *record = NULL;
    char path[128];
    char other[128];
    snprintf(path, sizeof(path), "%s/" RECORD_NAME, base);
    snprintf(other, sizeof(other), "%s/other", base);
    cr_expect_eq(record_read(dir, &record), -ENOENT);
    write_text(RECORD("\"serving\"", CHILD("100", "1", "0")));
    cr_assert_eq(record_read(dir, &record), 0);
    cr_expect_str_eq(record->instance, "abc");
    record_free(record);
    record = NULL;

    chmod(path, 0620);
    cr_expect_eq(record_read(dir, &record), -EPERM);
    chmod(path, 0606);
    cr_expect_eq(record_read(dir, &record), -EPERM);
    chmod(path, 0600);
    cr_assert_eq(link(path, other), 0);
    cr_expect_eq(record_read(dir, &record), -EPERM);
    unlink(path);
    cr_assert_eq(symlink(other, path), 0);
    cr_expect_eq(record_read(dir, &record), -ELOOP);
    unlink(path);
    cr_assert_eq(rename(other, path), 0);
    if (geteuid() == 0) {
        cr_assert_eq(chown(path, 1, 1), 0);
        cr_expect_eq(record_read(dir, &record), -EPERM);
        cr_assert_eq(chown(path, 0, 0), 0);
    }
    cr_assert_eq(truncate(path, (off_t)RECORD_SIZE_MAX + 1), 0);
    cr_expect_eq(record_read(dir, &record), -EFBIG);
    cr_assert_eq(truncate(path, 0), 0);
    cr_expect_eq(record_read(dir, &record), -EINVAL);
    write_text("\xff\xfe garbage");
    cr_expect_eq(record_read(dir, &record), -EINVAL);
    cr_expect_null(record);
}

static struct super *make_super(void)
{
    struct super *super = mem_zalloc(sizeof(*super));
    cr_assert_not_null(super);
    CHECK(uv_loop_init(&super->loop) == 0);
    super->conf_name = "/nowhere/frontd.yaml";
    super->endpoints.activation = &super->activation;
    super->lock_fd = super->alive_fd = -1;
    super->run_dir_fd = dir;
    for (size_t i = 0; i < SHARE_SEATS; i++)
        super->wake_fds[i] = -1;
    memcpy(super->instance, "0123456789abcdef0123456789abcdef", 33);
    return super;
}

static void free_super(struct super *super)
{
    generation_close(super->generations[0]);
    CHECK(uv_run(&super->loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&super->loop) == 0);
    endpoints_prune(&super->endpoints, NULL);
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        if (super->wake_fds[i] >= 0)
            close(super->wake_fds[i]);
    }
    mem_free(super);
}

/* What the supervisor writes is what the next one reads. */
Test(record, what_was_written_is_read)
{
    char error[512] = "";
    struct super *super = make_super();
    struct conf *conf;
    struct buf text = {0};
    struct stat st;
    cr_assert_eq(
        conf_parse("x", config, strlen(config), &conf, error, sizeof(error)), 0, "%s", error);
    cr_assert_eq(buf_append(&text, config, strlen(config)), 0);
    super->generations[0] = generation_new(super, conf, &text, NULL, error, sizeof(error));
    cr_assert_not_null(super->generations[0], "%s", error);
    buf_deinit(&text);
    struct generation *generation = super->generations[0];
    generation->role = GENERATION_SERVING;
    super->incarnations = UINT64_MAX;
    generation->children[1].pid = getpid();
    generation->children[1].mark = process_mark(getpid(), -1);
    generation->children[1].incarnation = 4711;
    struct conf_address address = conf->listeners[0].address;
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t cookie = endpoint_cookie(sock);
    cr_assert_neq(cookie, 0);
    cr_assert_eq(endpoints_add(&super->endpoints, &address, sock), 0);
    state_record(super);

    struct record *record = NULL;
    cr_assert(
        fstatat(dir, RECORD_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 07777) == 0600);
    cr_assert_eq(record_read(dir, &record), 0);
    cr_expect_str_eq(record->instance, super->instance);
    cr_expect_eq(record->incarnations, UINT64_MAX);
    cr_expect_eq(record->last_generation, 1);
    cr_assert_eq(record->ngenerations, 1);
    const struct record_generation *read = &record->generations[0];
    cr_expect(read->role == GENERATION_SERVING && read->number == 1 && read->shards == 2);
    cr_expect(read->conf_n == strlen(config) && memcmp(read->conf, config, read->conf_n) == 0);
    cr_expect_eq(read->children[0].pid, -1);
    cr_expect_eq(read->children[1].pid, getpid());
    cr_expect(process_is(&read->children[1].mark, getpid(), -1));
    cr_expect_eq(read->children[1].incarnation, 4711);
    cr_expect_eq(read->children[1].seat, generation->children[1].seat);
    cr_assert_eq(fstat(generation->share_fd, &st), 0);
    cr_expect(read->share.known && read->share.size == (uint64_t)st.st_size);
    cr_expect(read->share.dev == st.st_dev && read->share.ino == st.st_ino);
    cr_expect_eq(
        memcmp(&read->share.table, share_table(generation->share), sizeof(read->share.table)), 0);
    const struct record_endpoint *endpoint = record_find_socket(record, cookie);
    cr_assert(endpoint != NULL && record->nendpoints == 1 && record->nsockets == 1);
    cr_expect(endpoint->address.len == address.len &&
              memcmp(&endpoint->address.sock, &address.sock, address.len) == 0);
    cr_expect_null(record_find_socket(record, cookie + 1));
    cr_expect_null(record_find_socket(record, 0), "what has no cookie is nothing");
    record_free(record);

    state_forget(super);
    cr_expect_eq(record_read(dir, &record), -ENOENT);
    free_super(super);
}
