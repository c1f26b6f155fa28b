#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontd/frontctl/run_dir.h"

/* expected: NULL where the config cannot be meant. */
static void try_config(const char *text, const char *expected)
{
    char path[] = "/tmp/test_run_dir-XXXXXX";
    char run_dir[RUN_DIR_SIZE];
    char error[512] = "";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    int r = run_dir_read(path, run_dir, error, sizeof(error));
    unlink(path);
    if (expected == NULL)
        cr_expect(r < 0 && strstr(error, path) == error, "%s: %s", text, error);
    else
        cr_expect(r == 0 && strcmp(run_dir, expected) == 0, "%s: %s %s", text, run_dir, error);
}

Test(run_dir, of_a_config)
{
    try_config("run_dir: /a\n", "/a");
    try_config("{\"shards\": 2, \"run_dir\": \"/a b\"}", "/a b");
    try_config("", RUN_DIR_DEFAULT);
    try_config("shards: 2\n", RUN_DIR_DEFAULT);
    /* Keys that this program does not know; and others that have a run_dir in them. */
    try_config("new: {run_dir: /b, x: [run_dir, /c]}\nmore: [run_dir, /d]\nrun_dir: /a\n", "/a");
    try_config("a: &x run_dir\nb: *x\nc: *x\nrun_dir: /a\n", "/a");
    try_config("a: run_dir\nb: /b\n", RUN_DIR_DEFAULT);
}

Test(run_dir, that_cannot_be_meant)
{
    char text[256] = "run_dir: /";
    try_config("run_dir: a\n", NULL);
    try_config("run_dir: ''\n", NULL);
    try_config("a: [\n", NULL);
    memset(text + strlen(text), 'a', RUN_DIR_SIZE - 2);
    try_config(text,
        "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    text[strlen(text)] = 'a'; /* one more than fits */
    try_config(text, NULL);
    char error[512];
    char run_dir[RUN_DIR_SIZE];
    cr_expect_lt(run_dir_read("/tmp/there/is/none", run_dir, error, sizeof(error)), 0);
}
