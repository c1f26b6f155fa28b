#include "frontd/config/parse.h"

#include <errno.h>
#include <stdio.h>

#include "common/alloc.h"
#include "frontd/config/check.h"
#include "frontd/config/lines.h"
#include "frontd/config/schema.h"

int conf_parse(const char *file, const char *text, size_t n, struct conf **ret_conf, char *error,
    size_t error_size)
{
    return conf_try(file, text, n, NULL, ret_conf, error, error_size);
}

int conf_try(const char *file, const char *text, size_t n, const struct conf_findings *findings,
    struct conf **ret_conf, char *error, size_t error_size)
{
    struct conf_lines lines;
    struct conf_raw *raw = NULL;
    struct conf *conf = NULL;
    conf_lines_read(&lines, text, n);
    int r = -EINVAL;
    if (lines.problem != NULL)
        snprintf(error, error_size, "%s:%u: config: %s", file, lines.problem_line, lines.problem);
    else
        r = conf_raw_read(file, text, n, &lines, &raw, error, error_size);
    if (r == 0) {
        conf = mem_zalloc(sizeof(*conf));
        if (conf == NULL) {
            snprintf(error, error_size, "%s:1: config: no memory", file);
            r = -EINVAL;
        } else {
            r = conf_check(file, raw, &lines, findings, conf, error, error_size);
        }
        conf_raw_free(raw);
    }
    conf_lines_deinit(&lines);
    if (r == 0)
        *ret_conf = conf;
    else
        conf_free(conf);
    return r;
}
