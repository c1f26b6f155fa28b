/*
 * The input is what was refused, and is shown to an operator: which byte of it is wrong, and what
 * of it is masked. The scanner and the parser that refuse are the second opinion.
 */

#include <string.h>

#include "frontd/shard/inspect/fault_at.h"
#include "frontd/shard/inspect/mask.h"
#include "proto/json_scan.h"
#include "proto/jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy that ends where its memory does. */
static char *copy_of(const uint8_t *data, size_t size)
{
    char *copy = malloc(size > 0 ? size : 1);
    CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

static void judge_json(struct span text)
{
    size_t at = fault_at_json(text);
    CHECK(at <= text.n);
    if (jsonrpc_validate(text.p, text.n) == 0)
        CHECK(at == text.n);
    if (at == text.n)
        return;
    CHECK(fault_at_json((struct span){text.p, at}) == at);
    CHECK(fault_at_json((struct span){text.p, at + 1}) == at);
}

static bool is_refused(struct span text, const struct http1_limits *limits)
{
    static struct http1_head head;
    size_t used;
    int r = http1_head_parse(text.p, text.n, limits, &head, &used);
    return r != 0 && r != HTTP1_E_MORE;
}

static void judge_http1(struct span text)
{
    const struct http1_limits limits = {.head_bytes = 200, .fields = 8};
    size_t at = fault_at_http1(text, &limits);
    if (!is_refused(text, &limits)) {
        CHECK(at == text.n);
        return;
    }
    CHECK(at < text.n);
    CHECK(!is_refused((struct span){text.p, at}, &limits));
    CHECK(is_refused((struct span){text.p, at + 1}, &limits));
}

/* No byte of a value with a secret name is left, as the scanner finds it. */
static void check_members(struct span text, const char *masked)
{
    const char *end = text.p + text.n;
    const char *p = json_scan_white(text.p, end);
    if (jsonrpc_validate(text.p, text.n) != 0 || *p != '{')
        return;
    p = json_scan_white(p + 1, end);
    while (p < end && *p == '"') {
        struct json_member member;
        p = json_scan_member(p, end, 1, &member);
        CHECK(p != NULL);
        bool quoted = member.value.p[0] == '"';
        for (size_t i = quoted; mask_is_secret(member.key) && i < member.value.n - quoted; i++) {
            char c = masked[member.value.p - text.p + (ptrdiff_t)i];
            CHECK(c == '*' || c == '\r' || c == '\n');
        }
        p = json_scan_white(p, end);
        if (p < end && *p == ',')
            p = json_scan_white(p + 1, end);
    }
}

static void mask(
    const uint8_t *data, size_t size, void (*function)(char *text, size_t n), bool is_json)
{
    char *masked = copy_of(data, size);
    function(masked, size);
    for (size_t i = 0; i < size; i++)
        CHECK(masked[i] == '*' || (uint8_t)masked[i] == data[i]);
    if (is_json)
        check_members((struct span){(const char *)data, size}, masked);
    free(masked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = copy_of(data, size);
    judge_json((struct span){text, size});
    judge_http1((struct span){text, size});
    mask(data, size, mask_json, true);
    mask(data, size, mask_http, false);
    free(text);
    return 0;
}
