#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/reexec_state.h"
#include "frontd/supervisor/sockets/endpoint.h"
#include "frontd/supervisor/supervisor.h"
#include "frontd/system/folder.h"

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
    static const char *const processes[] = {CHILD("0", "1", "0"), CHILD("1", "1", "0"),
        CHILD("-1", "1", "0"), CHILD("2147483648", "1", "0"), CHILD("4294967396", "1", "0"),
        CHILD("100", "0", "0"), CHILD("\"x\"", "1", "0"), "{}", "[]", "\"x\""};
    for (size_t i = 0; i < ARRAY_LEN(processes); i++) {
        struct record *record = NULL;
        char text[1024];
        snprintf(text, sizeof(text),
            "%s\"generations\":[{\"number\":6,\"role\":\"serving\","
            "\"conf\":\"\",\"children\":[%s]}]}",
            HEAD, processes[i]);
        cr_assert_eq(record_parse(text, strlen(text), &record), 0, "%s", text);
        cr_expect_eq(record->generations[0].processes[0].pid, -1, "%s", processes[i]);
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

/* Another user's file is not read, whatever is in it. */
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

static struct supervisor *make_supervisor(void)
{
    struct supervisor *supervisor = mem_zalloc(sizeof(*supervisor));
    cr_assert_not_null(supervisor);
    CHECK(uv_loop_init(&supervisor->front.loop) == 0);
    supervisor->front.conf_name = "/nowhere/frontd.yaml";
    supervisor->front.endpoints.sd_listen = &supervisor->sd_listen;
    front_init(&supervisor->front, NULL);
    supervisor->front.run_dir_fd = dir;
    memcpy(supervisor->front.instance, "0123456789abcdef0123456789abcdef", 33);
    return supervisor;
}

static void free_supervisor(struct supervisor *supervisor)
{
    generation_close(supervisor->front.generations[0]);
    CHECK(uv_run(&supervisor->front.loop, UV_RUN_DEFAULT) == 0 &&
          uv_loop_close(&supervisor->front.loop) == 0);
    endpoints_prune(&supervisor->front.endpoints, NULL);
    front_close_wakes(&supervisor->front);
    mem_free(supervisor);
}

/* A record with one generation, which has this config. */
static struct buf with_conf(struct span conf)
{
    struct json_writer out = {0};
    const uint8_t key[IDS_KEY_SIZE] = {1};
    json_begin(&out, NULL, '{');
    json_add_number(&out, "version", 1);
    json_add_text(&out, "instance", "abc");
    json_add_bytes(&out, "conn_key", key, sizeof(key));
    json_begin(&out, "generations", '[');
    json_begin(&out, NULL, '{');
    json_add_text(&out, "role", "serving");
    record_put_conf(&out, conf);
    json_begin(&out, "children", '[');
    json_begin(&out, NULL, '{');
    json_end(&out, '}');
    json_end(&out, ']');
    json_end(&out, '}');
    json_end(&out, ']');
    json_end(&out, '}');
    cr_assert(!out.failed);
    return out.out;
}

static void expect_conf(const char *text, size_t n, struct span conf)
{
    struct record *record = NULL;
    cr_assert_eq(record_parse(text, n, &record), 0, "%.*s", (int)MIN(n, (size_t)300), text);
    const struct record_generation *read = &record->generations[0];
    cr_expect(read->conf_n == conf.n && memcmp(read->conf, conf.p, conf.n) == 0, "%.*s",
        (int)MIN(n, (size_t)300), text);
    cr_expect_eq(read->conf[read->conf_n], '\0');
    record_free(record);
}

static struct json_object *conf_of(struct json_object *json)
{
    struct json_object *conf;
    struct json_object *generations = json_object_object_get(json, "generations");
    json_object_object_get_ex(json_object_array_get_idx(generations, 0), "conf", &conf);
    return conf;
}

/* Whatever is in a config is in it afterwards. What is UTF-8 json-c reads as well, as programs
 * before this one did, and what it writes is read. */
Test(record, configs_of_any_bytes)
{
    const struct span texts[] = {SPAN(""), SPAN("\""), SPAN("\\"), SPAN("a/b: '\\/'"),
        SPAN("\b\f\n\r\t\x01\x1f\x7f"), SPAN("a\0b\0"),
        SPAN("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), SPAN("\xef\xbb\xbf# with a mark\n"),
        SPAN("\xef\xbf\xbd"), SPAN("\\u0000 \\ud800")};
    const struct span others[] = {SPAN("\xff\xfes\0:\0"), SPAN("\xfe\xff\0s\0:"), SPAN("\x80"),
        SPAN("a\xc3"), SPAN("\xed\xa0\x80"), SPAN("\xc0\x80"), SPAN("\0\xff\0")};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct buf text = with_conf(texts[i]);
        expect_conf(buf_data(&text), buf_len(&text), texts[i]);
        cr_assert_eq(buf_append(&text, "", 1), 0);
        struct json_object *json = json_tokener_parse(buf_data(&text));
        struct json_object *conf = conf_of(json);
        cr_assert_eq(json_object_get_string_len(conf), (int)texts[i].n, "%zu", i);
        cr_expect_eq(memcmp(json_object_get_string(conf), texts[i].p, texts[i].n), 0, "%zu", i);
        const char *again = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN);
        expect_conf(again, strlen(again), texts[i]);
        json_object_put(json);
        buf_deinit(&text);
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct buf text = with_conf(others[i]);
        expect_conf(buf_data(&text), buf_len(&text), others[i]);
        buf_deinit(&text);
    }
    for (unsigned c = 0; c < 256; c++) {
        const char bytes[] = {'x', (char)c, (char)c, '1'};
        struct span conf = {bytes, sizeof(bytes)};
        struct buf text = with_conf(conf);
        expect_conf(buf_data(&text), buf_len(&text), conf);
        buf_deinit(&text);
    }
}

/* The largest config there is, of bytes that become six each, fits, and would so twice. */
Test(record, a_config_as_large_as_can_be)
{
    enum { CONF_MAX = 4 * 1024 * 1024 };
    char *bytes = malloc(CONF_MAX);
    memset(bytes, '\n', CONF_MAX);
    struct buf text = with_conf((struct span){bytes, CONF_MAX});
    cr_assert_leq(2 * buf_len(&text) + 1024 * 1024, (size_t)RECORD_SIZE_MAX);
    expect_conf(buf_data(&text), buf_len(&text), (struct span){bytes, CONF_MAX});
    buf_deinit(&text);
    free(bytes);
}

Test(record, parsed_without_memory)
{
    static const char text[] = RECORD("\"serving\"", CHILD("100", "1", "0"));
    long n = 0;
    for (int r = -ENOMEM; r < 0; n++) {
        struct record *record = NULL;
        mem_fail_after(n);
        r = record_parse(text, strlen(text), &record);
        mem_fail_after(-1);
        cr_assert(r == 0 || r == -ENOMEM, "allocation %ld: %d", n, r);
        cr_assert_eq(record != NULL, r == 0);
        record_free(record);
        cr_assert_eq(mem_in_use(), in_use_before, "allocation %ld", n);
    }
    cr_assert_eq(n, 4, "the record, the cookies and the config have one each");
}

/* What the supervisor writes is what the next one reads. */
Test(record, what_was_written_is_read)
{
    char error[512] = "";
    struct supervisor *supervisor = make_supervisor();
    struct conf *conf;
    struct buf text = {0};
    struct stat st;
    cr_assert_eq(
        conf_parse("x", config, strlen(config), &conf, error, sizeof(error)), 0, "%s", error);
    cr_assert_eq(buf_append(&text, config, strlen(config)), 0);
    supervisor->front.generations[0] = generation_new(
        &supervisor->front, conf, &text, NULL, error, sizeof(error));
    cr_assert_not_null(supervisor->front.generations[0], "%s", error);
    buf_deinit(&text);
    struct generation *generation = supervisor->front.generations[0];
    generation->role = GENERATION_SERVING;
    supervisor->front.incarnations = UINT64_MAX;
    generation->processes[1].pid = getpid();
    generation->processes[1].mark = process_mark(getpid(), -1);
    generation->processes[1].incarnation = 4711;
    struct conf_address address = conf->listeners[0].address;
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t cookie = endpoint_cookie(sock);
    cr_assert_neq(cookie, 0);
    cr_assert_eq(endpoints_add(&supervisor->front.endpoints, &address, sock), 0);
    reexec_write_record(&supervisor->front, &supervisor->reload);

    /* Where there is no memory for all of it the file that is there stays. */
    static const char before[] = "as before";
    char kept[sizeof(before)];
    write_text(before);
    long n = 0;
    for (bool same = true; same; n++) {
        cr_assert_lt(n, 100);
        size_t in_use = mem_in_use();
        mem_fail_after(n);
        reexec_write_record(&supervisor->front, &supervisor->reload);
        mem_fail_after(-1);
        cr_assert_eq(mem_in_use(), in_use);
        int fd = openat(dir, RECORD_NAME, O_RDONLY | O_CLOEXEC);
        ssize_t length = read(fd, kept, sizeof(kept));
        close(fd);
        same = length == sizeof(before) - 1 && memcmp(kept, before, sizeof(before) - 1) == 0;
    }
    cr_assert_gt(n, 2, "one for the text of the config, more for that of the record");

    struct record *record = NULL;
    cr_assert(
        fstatat(dir, RECORD_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 07777) == 0600);
    cr_assert_eq(record_read(dir, &record), 0);
    cr_expect_str_eq(record->instance, supervisor->front.instance);
    cr_expect_eq(record->incarnations, UINT64_MAX);
    cr_expect_eq(record->last_generation, 1);
    cr_assert_eq(record->ngenerations, 1);
    const struct record_generation *read = &record->generations[0];
    cr_expect(read->role == GENERATION_SERVING && read->number == 1 && read->shards == 2);
    cr_expect(read->conf_n == strlen(config) && memcmp(read->conf, config, read->conf_n) == 0);
    cr_expect_eq(read->processes[0].pid, -1);
    cr_expect_eq(read->processes[1].pid, getpid());
    cr_expect(process_is(&read->processes[1].mark, getpid(), -1));
    cr_expect_eq(read->processes[1].incarnation, 4711);
    cr_expect_eq(read->processes[1].seat, generation->processes[1].seat);
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

    record_forget(supervisor->front.run_dir_fd);
    cr_expect_eq(record_read(dir, &record), -ENOENT);
    free_supervisor(supervisor);
}
