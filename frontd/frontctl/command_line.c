#include "frontd/frontctl/command_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct command_option *find(
    const struct command_option *options, size_t n, const char *name, size_t length)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
            return &options[i];
    }
    return NULL;
}

/* Takes one option, argv[*at], and its value. Returns -1, or an exit code. */
static int take(struct frontctl *frontctl, const struct command *command, int argc, char **argv,
    const struct command_option *options, size_t n, int *at)
{
    const char *name = argv[*at] + 2;
    const char *value = strchr(name, '=');
    size_t length = value == NULL ? strlen(name) : (size_t)(value++ - name);
    if (strcmp(name, "json") == 0) {
        frontctl->json = true;
        return -1;
    }
    if (strcmp(name, "help") == 0) {
        frontctl_help(command);
        return FRONTCTL_DONE;
    }
    const struct command_option *option = find(options, n, name, length);
    if (option == NULL)
        return frontctl_misused(command, "there is no option --%.*s", (int)length, name);
    if (option->value == NULL && value != NULL)
        return frontctl_misused(command, "--%s has no value", option->name);
    if (option->value != NULL && value == NULL && ++*at < argc)
        value = argv[*at];
    if (option->value != NULL && value == NULL)
        return frontctl_misused(command, "--%s needs a value", option->name);
    if (option->value != NULL)
        *option->value = value;
    if (option->given != NULL)
        *option->given = true;
    return -1;
}

int command_line_read(struct frontctl *frontctl, const struct command *command, int argc,
    char **argv, const struct command_option *options, size_t n, int *ret_count)
{
    int count = 0;
    bool only_arguments = false;
    for (int i = 1; i < argc; i++) {
        if (!only_arguments && strcmp(argv[i], "--") == 0) {
            only_arguments = true;
        } else if (!only_arguments && strcmp(argv[i], "-h") == 0) {
            frontctl_help(command);
            return FRONTCTL_DONE;
        } else if (!only_arguments && strncmp(argv[i], "--", 2) == 0) {
            int r = take(frontctl, command, argc, argv, options, n, &i);
            if (r >= 0)
                return r;
        } else if (!only_arguments && argv[i][0] == '-' && argv[i][1] != '\0') {
            return frontctl_misused(command, "there is no option %s", argv[i]);
        } else {
            argv[++count] = argv[i];
        }
    }
    *ret_count = count;
    return -1;
}

int command_line_arguments(
    struct frontctl *frontctl, const struct command *command, int argc, char **argv, int count)
{
    int found = 0;
    int r = command_line_read(frontctl, command, argc, argv, NULL, 0, &found);
    if (r >= 0)
        return r;
    if (found < count)
        return frontctl_misused(command, "%s is missing", command->arguments);
    if (found > count)
        return frontctl_misused(command, "%s: there is nothing to say that about", argv[count + 1]);
    return -1;
}

bool command_line_number(const char *text, long min, long max, long *ret_number)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < min || number > max)
        return false;
    *ret_number = number;
    return true;
}
