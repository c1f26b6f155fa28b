/* Finds the control socket and the command; the command does the rest. */

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/stdfds.h"
#include "frontd/frontctl/frontctl.h"
#include "frontd/frontctl/run_dir.h"

#define SOCKET_NAME "/control.sock"

static const char usage[] =
    "usage: frontctl [-S SOCKET | -c CONFIG] [--json] COMMAND …\n"
    "       frontctl COMMAND --help\n"
    "       frontctl --version\n"
    "\n"
    "  -S, --socket SOCKET    the control socket; else that of the run_dir\n"
    "  -c, --config CONFIG    the config of the front that is meant, for its run_dir; "
    "else " RUN_DIR_DEFAULT "\n"
    "      --json             the answer as JSON, for programs\n"
    "\n"
    "Commands:\n";

static void print_usage(FILE *to)
{
    fputs(usage, to);
    for (size_t i = 0; commands_all[i] != NULL; i++)
        fprintf(to, "  %-10s %s\n", commands_all[i]->name, commands_all[i]->summary);
    fputs("\nExit codes: 0 done; 1 it was tried and has failed; 2 the command line is wrong;\n"
          "3 the supervisor cannot be reached; 4 refused.\n",
        to);
}

void frontctl_complain(const char *format, ...)
{
    va_list args;
    fputs("frontctl: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void print_command(const struct command *command, FILE *to)
{
    fprintf(to, "usage: frontctl %s%s%s [--json]\n", command->name,
        command->arguments[0] == '\0' ? "" : " ", command->arguments);
}

int frontctl_misused(const struct command *command, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "frontctl %s: ", command->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    print_command(command, stderr);
    return FRONTCTL_USAGE;
}

void frontctl_help(const struct command *command)
{
    print_command(command, stdout);
    printf("\n%s\n", command->summary);
    if (command->help[0] != '\0')
        printf("\n%s", command->help);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; commands_all[i] != NULL; i++) {
        if (strcmp(commands_all[i]->name, name) == 0)
            return commands_all[i];
    }
    return NULL;
}

/* The path of the control socket in a folder, or -1 where it is too long; static. */
static int join_socket(const char *run_dir, const char **ret_path)
{
    static char path[RUN_DIR_SIZE + sizeof(SOCKET_NAME)];
    int n = snprintf(path, sizeof(path), "%s" SOCKET_NAME, run_dir);
    *ret_path = path;
    return n > 0 && (size_t)n < sizeof(path) ? 0 : -1;
}

/* Which socket is meant. Returns 0, or an exit code. */
static int find_socket(const char *config, const char **socket)
{
    char run_dir[RUN_DIR_SIZE] = RUN_DIR_DEFAULT;
    char error[512];
    if (*socket != NULL)
        return 0;
    if (config != NULL && run_dir_read(config, run_dir, error, sizeof(error)) < 0) {
        frontctl_complain("%s", error);
        return FRONTCTL_USAGE;
    }
    if (join_socket(run_dir, socket) == 0)
        return 0;
    frontctl_complain("%s: the path is too long", run_dir);
    return FRONTCTL_USAGE;
}

static int run(struct frontctl *frontctl, const char *config, int argc, char **argv)
{
    const struct command *command = find_command(argv[0]);
    if (command == NULL) {
        frontctl_complain("there is no command %s; see frontctl --help", argv[0]);
        return FRONTCTL_USAGE;
    }
    int r = find_socket(config, &frontctl->socket);
    return r != 0 ? r : command->run(frontctl, argc, argv);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 'S'},
        {"config", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct frontctl frontctl = {0};
    const char *config = NULL;
    if (standard_open() < 0)
        return FRONTCTL_FAILED; /* there is nowhere to say why */
    for (int c; (c = getopt_long(argc, argv, "+S:c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'S': frontctl.socket = optarg; break;
        case 'c': config = optarg; break;
        case 'j': frontctl.json = true; break;
        case 'v': puts("frontctl " FRONTD_VERSION); return FRONTCTL_DONE;
        case 'h': print_usage(stdout); return FRONTCTL_DONE;
        default: fputs("see frontctl --help\n", stderr); return FRONTCTL_USAGE;
        }
    }
    if (optind == argc || (frontctl.socket != NULL && config != NULL)) {
        print_usage(stderr);
        return FRONTCTL_USAGE;
    }
    int r = run(&frontctl, config, argc - optind, argv + optind);
    if ((fflush(stdout) != 0 || ferror(stdout)) && r == FRONTCTL_DONE) {
        frontctl_complain("cannot write the answer: %s", strerror(errno));
        r = FRONTCTL_FAILED;
    }
    return r;
}
