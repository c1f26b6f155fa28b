/* argv says which role this process has: supervisor, shard, admin process, or a check of the
 * config. */

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/stdfds.h"
#include "frontd/admin/admin.h"
#include "frontd/config/file.h"
#include "frontd/explain.h"
#include "frontd/shard/sandbox.h"
#include "frontd/shard/shard.h"
#include "frontd/supervisor/identity.h"
#include "frontd/supervisor/lifecycle.h"
#include "frontd/supervisor/methods/methods.h"
#include "frontd/supervisor/trial.h"
#include "frontd/system/crypto_memory.h"
#include "frontd/system/loop.h"

static const char usage[] =
    "usage: frontd -c FILE            run with this config\n"
    "       frontd --check -c FILE    say what is wrong with a config, and warn of what is hardly\n"
    "                                 meant, or nothing; addresses and run_dir are not tried\n"
    "       frontd --check --bind -c FILE\n"
    "                                 try those too, as a start would find them now\n"
    "       frontd --check --explain METHOD PATH -c FILE\n"
    "                                 say what a config says of a call, and in which lines\n"
    "       frontd --version\n"
    "       frontd --help\n";

/* The admin process asks the kernel for less than a shard does: one filter is enough for both. */
static const struct admin_sandbox admin_sandbox = {
    .without_rings = sandbox_without_rings,
    .enter = sandbox_enter,
    .has_news = sandbox_has_news,
    .tell = sandbox_tell,
};

/* Writes the proof before anything else, so that no later output can be taken for it. */
static void identify(const char *token)
{
    char line[IDENTITY_LINE_MAX + 1];
    identity_write(token, line);
    puts(line);
    fflush(stdout);
}

static void on_odd(void *data, const char *text)
{
    (void)data;
    fprintf(stderr, "warning: %s\n", text);
}

/* warns: of what is odd, too; a supervisor that asks says that by itself. method, path: what is
 * to be explained; NULL: nothing is. */
static int check(const char *conf_name, bool warns, const char *method, const char *path)
{
    const struct conf_findings findings = {.odd = warns ? on_odd : NULL};
    struct buf text;
    struct conf *conf;
    char error[512];
    if (conf_file_try(conf_name, &findings, &text, &conf, error, sizeof(error)) < 0) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    if (warns)
        trial_warn(conf_name, conf, &text);
    int r = trial_secrets(conf_name, conf, warns, error, sizeof(error));
    if (r < 0)
        fprintf(stderr, "%s\n", error);
    int status = r < 0 ? 1 : 0;
    if (r == 0 && method != NULL)
        status = explain_print(conf, method, path);
    buf_deinit(&text);
    conf_free(conf);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 't'},
        {"bind", no_argument, NULL, 'b'},
        {"explain", required_argument, NULL, 'e'}, /* with the path behind it */
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {"identify", required_argument, NULL, 'i'}, /* the same, with --check */
        {"state", required_argument, NULL, 's'},    /* for this program's own use, at SIGUSR2 */
        {NULL, 0, NULL, 0},
    };
    const char *conf_name = NULL;
    const char *token = NULL;
    const char *method = NULL, *path = NULL;
    bool only_check = false;
    bool also_bind = false;
    int state_fd = -1;
    mem_init();
    bool wipes = crypto_memory_wipe();
    loop_prepare();
    if (standard_open() < 0)
        return 1; /* there is nowhere to say why */
    /* Only the supervisor starts shards and the admin process; not options for people. */
    if (argc == 3 && strcmp(argv[1], "--shard") == 0)
        return shard_run();
    if (argc == 2 && strcmp(argv[1], "--admin") == 0)
        return admin_run(&admin_sandbox);
    if (!wipes)
        fputs("frontd: warning: libcrypto was used before frontd began: it leaves keys in memory "
              "that it has given back\n",
            stderr);
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c': conf_name = optarg; break;
        case 't': only_check = true; break;
        case 'i': token = optarg; break;
        case 's': state_fd = atoi(optarg); break;
        case 'b': also_bind = true; break;
        case 'e':
            method = optarg;
            path = optind < argc ? argv[optind++] : NULL;
            break;
        case 'v': puts("frontd " FRONTD_VERSION); return 0;
        case 'h': fputs(usage, stdout); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    bool of_check = token != NULL || also_bind || method != NULL;
    if (conf_name == NULL || optind < argc || (of_check && !only_check) ||
        (method != NULL && (path == NULL || path[0] != '/' || also_bind))) {
        fputs(usage, stderr);
        return 2;
    }
    if (token != NULL)
        identify(token);
    if (also_bind)
        return trial_run(conf_name);
    if (only_check)
        return check(conf_name, token == NULL, method, path);
    return lifecycle_run(argv, conf_name, state_fd, methods_all, methods_count);
}
