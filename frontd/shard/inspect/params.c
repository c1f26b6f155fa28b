#include "frontd/shard/inspect/params.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "proto/json_read.h"

static int is_wrong(struct question *question, const char *problem)
{
    question->problem = problem;
    return -EINVAL;
}

int params_number(
    struct question *question, struct span params, const char *key, uint64_t max, uint64_t *ret)
{
    int64_t number;
    struct span value = json_read_member(params, key);
    if (value.n == 0)
        return 0;
    if (json_read_integer(value, &number) < 0 || number < 0 || (uint64_t)number > max)
        return is_wrong(question, "a number of the question is none, or out of its bounds");
    *ret = (uint64_t)number;
    return 0;
}

int params_text(struct question *question, struct span params, const char *key, char **ret)
{
    struct span value = json_read_member(params, key);
    if (value.n == 0)
        return 0;
    int r = json_read_string(value, ret);
    return r == -EINVAL ? is_wrong(question, "a text of the question is none") : r;
}

int params_word(struct question *question, struct span params, const char *key,
    const char *const *words, size_t n, unsigned *ret)
{
    char text[32];
    struct span value = json_read_member(params, key);
    if (value.n == 0)
        return 0;
    bool plain = json_read_plain(value, text, sizeof(text));
    for (unsigned i = 0; plain && i < n; i++) {
        if (strcmp(words[i], text) != 0)
            continue;
        *ret = i;
        return 0;
    }
    return is_wrong(question, "a word of the question is none of those that there are");
}

int params_conn(struct question *question, struct span params, const char *key, uint64_t *ret)
{
    char text[24];
    char *end;
    struct span value = json_read_member(params, key);
    if (value.n == 0)
        return 0;
    if (!json_read_plain(value, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
        return is_wrong(question, "a connection is given by its id, a text of digits");
    errno = 0;
    *ret = strtoull(text, &end, 10);
    if (*end != '\0' || errno != 0 || *ret == 0)
        return is_wrong(question, "a connection is given by its id, a text of digits");
    return 0;
}

bool params_flag(struct span params, const char *key)
{
    return json_is_true(json_read_member(params, key));
}
