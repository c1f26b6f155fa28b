#include "frontd/config/lines.h"

#include <string.h>
#include <yaml.h>

#include "common/alloc.h"

enum {
    DEPTH_MAX = 16, /* deeper than any key that exists */
    PATH_MAX_BYTES = 512,
};

struct level {
    bool mapping;
    bool have_key;   /* a mapping's key has been read, its value is next */
    unsigned index;  /* index of the next entry of a sequence */
    size_t path_len; /* length of the path that leads to this collection */
};

struct reader {
    struct conf_lines *lines;
    char path[PATH_MAX_BYTES];
    size_t path_len;
    struct level levels[DEPTH_MAX];
    size_t depth;
    unsigned documents;
};

/* Keeps the first problem, which ends the reading. */
static void fail(struct conf_lines *lines, const char *problem, unsigned line)
{
    if (lines->problem != NULL)
        return;
    lines->problem = problem;
    lines->problem_line = line;
}

static void add_line(struct reader *reader, unsigned line)
{
    struct conf_lines *lines = reader->lines;
    struct conf_line *grown = realloc(lines->lines, (lines->count + 1) * sizeof(*grown));
    if (grown != NULL)
        lines->lines = grown;
    char *path = grown == NULL ? NULL : mem_strndup(reader->path, reader->path_len);
    if (path == NULL) {
        fail(lines, "no memory", line);
        return;
    }
    lines->lines[lines->count++] = (struct conf_line){.path = path, .line = line};
}

/*
 * Sets the path of a key in the mapping at `parent_len`, or, without a key, of an entry of a
 * sequence.
 */
static void set_path(struct reader *reader, size_t parent_len, const char *key, unsigned index)
{
    char *at = reader->path + parent_len;
    size_t room = sizeof(reader->path) - parent_len;
    int n = key == NULL ? snprintf(at, room, "[%u]", index)
                        : snprintf(at, room, "%s%s", parent_len == 0 ? "" : ".", key);
    reader->path_len = parent_len + MIN((size_t)n, room - 1);
}

/* A value or the start of a collection. In a sequence its path is the next index. */
static void begin_value(struct reader *reader, unsigned line)
{
    if (reader->depth == 0)
        return;
    struct level *top = &reader->levels[reader->depth - 1];
    if (!top->mapping) {
        set_path(reader, top->path_len, NULL, top->index++);
        add_line(reader, line);
    }
    top->have_key = false;
}

static void read_scalar(struct reader *reader, const char *text, unsigned line)
{
    struct level *top = reader->depth == 0 ? NULL : &reader->levels[reader->depth - 1];
    if (top == NULL || !top->mapping || top->have_key) {
        begin_value(reader, line);
        return;
    }
    set_path(reader, top->path_len, text, 0);
    add_line(reader, line);
    top->have_key = true;
}

static void begin_collection(struct reader *reader, bool mapping, unsigned line)
{
    if (reader->depth == DEPTH_MAX) {
        fail(reader->lines, "nested too deep", line);
        return;
    }
    const struct level *top = reader->depth == 0 ? NULL : &reader->levels[reader->depth - 1];
    if (top != NULL && top->mapping && !top->have_key) {
        fail(reader->lines, "a key is a word", line);
        return;
    }
    begin_value(reader, line);
    reader->levels[reader->depth++] = (struct level){
        .mapping = mapping,
        .path_len = reader->path_len,
    };
}

static void end_collection(struct reader *reader)
{
    reader->depth--;
    reader->path_len = reader->levels[reader->depth].path_len;
}

/* Returns false at the end. */
static bool read_event(struct reader *reader, const yaml_event_t *event)
{
    unsigned line = (unsigned)event->start_mark.line + 1;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (reader->documents++ > 0)
            fail(reader->lines, "there is a second document", line);
        break;
    case YAML_ALIAS_EVENT: fail(reader->lines, "aliases are not supported", line); break;
    case YAML_SCALAR_EVENT:
        if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
            fail(reader->lines, "there is a NUL character", line);
        read_scalar(reader, (const char *)event->data.scalar.value, line);
        break;
    case YAML_MAPPING_START_EVENT: begin_collection(reader, true, line); break;
    case YAML_SEQUENCE_START_EVENT: begin_collection(reader, false, line); break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT: end_collection(reader); break;
    case YAML_STREAM_END_EVENT: return false;
    default: break;
    }
    return reader->lines->problem == NULL;
}

/* libyaml has no line for bytes that are not text, only their offset. */
static unsigned problem_line(const yaml_parser_t *parser, const char *text, size_t n)
{
    if (parser->error != YAML_READER_ERROR)
        return (unsigned)parser->problem_mark.line + 1;
    unsigned line = 1;
    for (size_t i = 0; i < MIN(n, parser->problem_offset); i++)
        line += text[i] == '\n';
    return line;
}

void conf_lines_read(struct conf_lines *lines, const char *text, size_t n)
{
    *lines = (struct conf_lines){0};
    struct reader reader = {.lines = lines};
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        fail(lines, "no memory", 1);
        return;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    yaml_event_t event;
    for (bool more = true; more;) {
        if (!yaml_parser_parse(&parser, &event)) {
            fail(lines, parser.problem == NULL ? "no memory" : parser.problem,
                problem_line(&parser, text, n));
            break;
        }
        more = read_event(&reader, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
}

void conf_lines_deinit(struct conf_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        mem_free(lines->lines[i].path);
    free(lines->lines);
    *lines = (struct conf_lines){0};
}

unsigned conf_lines_find(const struct conf_lines *lines, const char *path, bool twice)
{
    for (size_t i = 0; i < lines->count; i++) {
        if (strcmp(lines->lines[i].path, path) != 0)
            continue;
        if (!twice)
            return lines->lines[i].line;
        twice = false;
    }
    return 0;
}

unsigned conf_lines_near(const struct conf_lines *lines, const char *path)
{
    char around[PATH_MAX_BYTES];
    snprintf(around, sizeof(around), "%s", path);
    for (;;) {
        unsigned line = conf_lines_find(lines, around, false);
        char *dot = strrchr(around, '.');
        if (line > 0 || dot == NULL)
            return MAX(line, 1U);
        *dot = '\0';
    }
}
