#include "frontd/frontctl/run_dir.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

/*
 * What has been read so far: a mapping at depth 1 has keys and values by turns, and a value that is
 * a mapping or a list is left out with all that is in it.
 */
struct reading {
    unsigned depth;
    bool value_next; /* depth 1: a key has come, its value follows */
    bool wanted;     /* it is of run_dir */
    bool found;
    char *run_dir;
};

static int take_scalar(struct reading *reading, const char *text)
{
    if (reading->depth != 1)
        return 0;
    if (!reading->value_next) {
        reading->wanted = strcmp(text, "run_dir") == 0;
        reading->value_next = true;
        return 0;
    }
    reading->value_next = false;
    if (!reading->wanted)
        return 0;
    int n = snprintf(reading->run_dir, RUN_DIR_SIZE, "%s", text);
    reading->found = true;
    return n > 0 && n < RUN_DIR_SIZE && text[0] == '/' ? 0 : -1;
}

/* Returns 0, or -1 where run_dir is no path that can be meant. */
static int take_event(struct reading *reading, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT: reading->depth++; return 0;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        if (--reading->depth == 1)
            reading->value_next = false;
        return 0;
    case YAML_SCALAR_EVENT: return take_scalar(reading, (const char *)event->data.scalar.value);
    case YAML_ALIAS_EVENT:
        if (reading->depth == 1)
            reading->value_next = !reading->value_next;
        return 0;
    default: return 0;
    }
}

static int parse(FILE *file, struct reading *reading, char *error, size_t error_size)
{
    yaml_parser_t parser;
    yaml_event_t event;
    bool over = false;
    int r = 0;
    if (!yaml_parser_initialize(&parser)) {
        snprintf(error, error_size, "no memory");
        return -1;
    }
    yaml_parser_set_input_file(&parser, file);
    while (r == 0 && !over && !reading->found) {
        if (!yaml_parser_parse(&parser, &event)) {
            snprintf(error, error_size, "line %zu: %s", parser.problem_mark.line + 1,
                parser.problem == NULL ? "no YAML" : parser.problem);
            r = -1;
            break;
        }
        r = take_event(reading, &event);
        if (r < 0)
            snprintf(error, error_size, "run_dir: no absolute path of a folder");
        over = event.type == YAML_STREAM_END_EVENT || event.type == YAML_DOCUMENT_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return r;
}

int run_dir_read(
    const char *config, char ret_run_dir[static RUN_DIR_SIZE], char *error, size_t error_size)
{
    struct reading reading = {.run_dir = ret_run_dir};
    char wrong[256];
    FILE *file = fopen(config, "re");
    if (file == NULL) {
        snprintf(error, error_size, "%s: %s", config, strerror(errno));
        return -1;
    }
    snprintf(ret_run_dir, RUN_DIR_SIZE, "%s", RUN_DIR_DEFAULT);
    int r = parse(file, &reading, wrong, sizeof(wrong));
    fclose(file);
    if (r < 0)
        snprintf(error, error_size, "%s: %s", config, wrong);
    return r;
}
