/* The program `workerd`: reads its arguments, loads modules, serves. */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/stdfds.h"
#include "workerd/workerd.h"

enum {
    EXIT_USAGE = 2,
    MODULES_MAX = 64,
};

struct arguments {
    const char *listen;
    const char *modules[MODULES_MAX];
    size_t nmodules;
    const char *name;
    uint32_t concurrency;
    enum log_format format;
};

static const char help[] =
    "Usage: workerd [--listen ADDRESS] --module FILE.so [--module FILE.so ...] [OPTION ...]\n"
    "\n"
    "Serves the methods of its modules to frontd.\n"
    "\n"
    "  --listen ADDRESS     unix:PATH or tcp://HOST:PORT; not used where a listening socket\n"
    "                       is passed as descriptor 3 (LISTEN_FDS=1), as frontd does\n"
    "  --module FILE.so     a module to load; may be given more than once\n"
    "  --concurrency N      how many calls at once, over all fronts; 0: no limit (default: 1)\n"
    "  --name NAME          what the worker calls itself (default: workerd)\n"
    "  --log-format FORMAT  text or json, to standard error (default: text)\n"
    "  --help, --version    print this, or the version, and exit\n"
    "\n"
    "SIGTERM finishes what was taken and exits; a second one, or SIGINT, stops at once.\n"
    "SIGUSR2 has the program that is on disk now, with the same arguments, take its place.\n";

static int usage(const char *problem, const char *what)
{
    fprintf(stderr, "workerd: %s%s\nTry 'workerd --help'.\n", problem, what);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, uint32_t *ret_number)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number > UINT32_MAX)
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

/* Returns -1 to go on, or the status to exit with. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'},
        {"module", required_argument, NULL, 'm'},
        {"concurrency", required_argument, NULL, 'c'},
        {"name", required_argument, NULL, 'n'},
        {"log-format", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'l': arguments->listen = optarg; break;
        case 'n': arguments->name = optarg; break;
        case 'm':
            if (arguments->nmodules == MODULES_MAX)
                return usage("too many modules: ", optarg);
            arguments->modules[arguments->nmodules++] = optarg;
            break;
        case 'c':
            if (!parse_number(optarg, &arguments->concurrency))
                return usage("--concurrency is a number, and not ", optarg);
            break;
        case 'f':
            if (strcmp(optarg, "json") == 0)
                arguments->format = LOG_JSON;
            else if (strcmp(optarg, "text") != 0)
                return usage("--log-format is text or json, and not ", optarg);
            break;
        case 'h': fputs(help, stdout); return EXIT_SUCCESS;
        case 'v': printf("workerd %s\n", workerd_version()); return EXIT_SUCCESS;
        default: fprintf(stderr, "Try 'workerd --help'.\n"); return EXIT_USAGE;
        }
    }
    if (optind < argc)
        return usage("unexpected argument: ", argv[optind]);
    if (arguments->nmodules == 0)
        return usage("no --module", "");
    return -1;
}

static int start(struct workerd *worker, const struct arguments *arguments, char **argv)
{
    workerd_set_concurrency(worker, arguments->concurrency);
    int r = workerd_set_name(worker, arguments->name);
    if (r == 0)
        r = workerd_handle_signals(worker);
    if (r == 0)
        r = workerd_handle_sigusr2(worker, argv);
    for (size_t i = 0; i < arguments->nmodules && r == 0; i++)
        r = workerd_load(worker, arguments->modules[i]);
    if (r < 0)
        return r;
    /* Goes before --listen, so that one command line serves by hand and under frontd. */
    r = workerd_listen_passed(worker);
    if (r != 0)
        return MIN(r, 0);
    if (arguments->listen != NULL)
        return workerd_listen(worker, arguments->listen);
    log_error("no --listen, and no socket was passed (LISTEN_FDS, LISTEN_PID)");
    return -EINVAL;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.name = "workerd", .concurrency = 1, .format = LOG_TEXT};
    if (standard_open() < 0)
        return EXIT_FAILURE; /* there is nowhere to say why */
    int status = parse_arguments(argc, argv, &arguments);
    if (status >= 0)
        return status;
    mem_init();
    signal(SIGPIPE, SIG_IGN); /* a log that is not read any more must not end the process */
    signal(SIGUSR2, SIG_IGN); /* it may come before it is handled: no reason to end */
    log_init(LOG_INFO, arguments.format, arguments.name);
    struct workerd *worker;
    int r = workerd_new(&worker);
    if (r < 0) {
        log_error("cannot start: %s", strerror(-r));
        return EXIT_FAILURE;
    }
    r = start(worker, &arguments, argv);
    if (r == 0)
        r = workerd_run(worker);
    if (r == -EBUSY)
        _exit(EXIT_FAILURE); /* handlers still hold calls: nothing can be freed under them */
    workerd_free(worker);
    if (r < 0)
        log_error("stopped: %s", strerror(-r));
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
