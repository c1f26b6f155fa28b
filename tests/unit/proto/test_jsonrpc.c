#include <criterion/criterion.h>
#include <string.h>

#include "proto/jsonrpc.h"

enum { ROOM = 8 }; /* members of a batch that there is room for */

/*
 * What a scan says, in a form that can stand in a table. One line a member:
 *   call|notify|invalid|response|bad-response method id params
 * with "-" for what is absent, and "\" after a method that has escapes.
 */
struct verdict {
    int result;
    bool batch;
    char id[64]; /* members[0].id of a text that is refused */
    char lines[1024];
};

static bool lies_within(struct span part, const char *text, size_t n)
{
    return part.n == 0 || (part.p >= text && part.p + part.n <= text + n);
}

static void print_member(struct verdict *verdict, const struct jsonrpc_request *member)
{
    static const char *const kinds[] = {
        [JSONRPC_CALL] = "call",
        [JSONRPC_NOTIFY] = "notify",
        [JSONRPC_INVALID] = "invalid",
        [JSONRPC_RESPONSE] = "response",
        [JSONRPC_BAD_RESPONSE] = "bad-response",
    };
    const size_t used = strlen(verdict->lines);

    snprintf(verdict->lines + used, sizeof(verdict->lines) - used, "%s %.*s%s %.*s %.*s\n",
        kinds[member->kind], member->method.n ? (int)member->method.n : 1,
        member->method.n ? member->method.p : "-", member->method_escaped ? "\\" : "",
        member->id.n ? (int)member->id.n : 1, member->id.n ? member->id.p : "-",
        member->params.n ? (int)member->params.n : 1, member->params.n ? member->params.p : "-");
}

static struct verdict scan(const char *text, size_t n, size_t cap)
{
    struct jsonrpc_request members[ROOM];
    struct verdict verdict = {0};
    size_t count = 77;
    char *copy = malloc(n + (n == 0)); /* exactly as large, so that ASan sees a read past it */
    cr_assert_not_null(copy);
    if (n != 0)
        memcpy(copy, text, n);

    memset(members, 0xee, sizeof(members));
    verdict.result = jsonrpc_scan(copy, n, members, cap, &count, &verdict.batch);
    if (verdict.result == 0) {
        cr_assert(count >= 1 && count <= cap);
        for (size_t i = 0; i < count; i++) {
            const struct jsonrpc_request *member = &members[i];
            cr_assert(lies_within(member->text, copy, n));
            cr_assert(lies_within(member->method, member->text.p, member->text.n));
            cr_assert(lies_within(member->id, member->text.p, member->text.n));
            cr_assert(lies_within(member->params, member->text.p, member->text.n));
            print_member(&verdict, member);
        }
    } else {
        cr_expect_eq(count, 77, "outputs stay as they were");
        cr_expect_eq(members[0].kind, JSONRPC_INVALID);
        cr_expect_eq(members[0].text.n, 0);
        cr_expect_eq(members[0].method.n, 0);
        cr_expect_eq(members[0].params.n, 0);
        cr_assert(lies_within(members[0].id, copy, n));
        if (members[0].id.n != 0)
            memcpy(verdict.id, members[0].id.p, members[0].id.n);
    }
    free(copy);
    return verdict;
}

static void expect_request(const char *text, const char *lines)
{
    const struct verdict verdict = scan(text, strlen(text), ROOM);
    cr_expect_eq(verdict.result, 0, "%s", text);
    cr_expect_eq(verdict.batch, text[0] == '[');
    cr_expect_str_eq(verdict.lines, lines, "%s: %s", text, verdict.lines);
}

Test(jsonrpc, requests)
{
    static const struct {
        const char *text;
        const char *lines;
    } rows[] = {
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}", "call m 1 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\"}", "notify m - -\n"},
        {"{\"id\":\"a\",\"params\":{},\"method\":\"m\",\"jsonrpc\":\"2.0\"}", "call m \"a\" {}\n"},
        {" \r\n\t{ \"jsonrpc\" : \"2.0\" , \"method\" : \"m\" , \"params\" : [ 1 ] } \n",
            "notify m - [ 1 ]\n"},
        /* each type that an id may have */
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":null}", "call m null -\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":-0.5e+7}", "call m -0.5e+7 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":12345678901234567890}",
            "call m 12345678901234567890 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":\"\"}", "call m \"\" -\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":\"\\\"\\u0000\"}",
            "call m \"\\\"\\u0000\" -\n"},
        /* method is a string of any kind */
        {"{\"jsonrpc\":\"2.0\",\"method\":\"\",\"id\":1}", "call - 1 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"a\\u002eb\",\"id\":1}", "call a\\u002eb\\ 1 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"\xc3\xa9\",\"id\":1}", "call \xc3\xa9 1 -\n"},
        /* members that mean nothing here, and the names of ours further in */
        {"{\"x\":[{\"id\":3}],\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"id\":4,"
         "\"method\":\"n\",\"jsonrpc\":1,\"ID\":2,\"id\":5},\"id\":1,\"i\":5,\"idx\":6,\"\":7}",
            "call m 1 {\"id\":4,\"method\":\"n\",\"jsonrpc\":1,\"ID\":2,\"id\":5}\n"},
        /* names that are nearly those of the envelope, and members of a response, change nothing */
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"methods\":1,\"Methods\":2,\" method\":3,"
         "\"metho\":4,\"m\u00e9thod\":5,\"id_\":6,\"result\":7,\"result\":8,\"Error\":9}",
            "notify m - -\n"},
        /* keys and version are compared after unescaping */
        {"{\"\\u006asonrpc\":\"2\\u002e0\",\"\\u006d\\u0065\\u0074\\u0068\\u006f\\u0064\":\"m\","
         "\"i\\u0064\":1,\"par\\u0061ms\":[]}",
            "call m 1 []\n"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"\\u0000id\":1,\"\\u0069\":2,\"idd\\n\":3}",
            "notify m - -\n"},
        /* batches: JSON-RPC 2.0 section 6 */
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}]", "call m 1 -\n"},
        {"[ {\"jsonrpc\":\"2.0\",\"method\":\"m\"} ,\n{\"jsonrpc\":\"2.0\",\"method\":\"n\","
         "\"id\":\"x\",\"params\":{}}\t]",
            "notify m - -\ncall n \"x\" {}\n"},
        {"[1,\"a\",null,[],{},[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}]]",
            "invalid - - -\ninvalid - - -\ninvalid - - -\n"
            "invalid - - -\ninvalid - - -\ninvalid - - -\n"},
        {"[{\"foo\":\"boo\"},{\"id\":7},{\"id\":[]},{\"jsonrpc\":\"2.0\",\"method\":\"m\"}]",
            "invalid - - -\ninvalid - 7 -\ninvalid - - -\nnotify m - -\n"},
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":{}}]", "invalid m - -\n"},
        /* only that member of a batch which can be read in two ways */
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1,\"Method\":\"n\"},{\"jsonrpc\":\"2.0\","
         "\"method\":\"m\",\"id\":2}]",
            "invalid m 1 -\ncall m 2 -\n"},
        /* responses, alone and in batches, right and wrong ones */
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":true}", "response - 7 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1,\"message\":\"\"}}",
            "response - null -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{},\"x\":1}", "response - \"a\" -\n"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":0},{\"jsonrpc\":\"2.0\",\"method\":\"m\"}]",
            "response - 7 -\nnotify m - -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1,\"error\":{\"code\":1,\"message\":\"\"}}",
            "bad-response - 7 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"result\":1}", "bad-response - - -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":[],\"result\":1}", "bad-response - - -\n"},
        {"{\"id\":7,\"result\":1}", "bad-response - 7 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":null}", "bad-response - 7 -\n"},
        {"{\"result\":null}", "bad-response - - -\n"},
        {"[{\"error\":1}]", "bad-response - - -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"RESULT\":1}", "bad-response - 7 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1,\"result\":1}", "bad-response - 7 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"id\":8,\"result\":1}", "bad-response - - -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1,\"Error\":1}", "bad-response - 7 -\n"},
        /* null is no method; anything else is one, and a request then */
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":null,\"params\":null,\"result\":1}",
            "response - 7 -\n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":null,\"result\":1,\"error\":null}",
            "bad-response - 7 -\n"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":null,\"method\":null,\"result\":1}]",
            "invalid - 7 -\n"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"Method\":null,\"result\":1}]", "invalid - 7 -\n"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":0,\"result\":1}]", "invalid - 7 -\n"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":null}]", "invalid - 7 -\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        expect_request(rows[i].text, rows[i].lines);
}

Test(jsonrpc, refused)
{
    static const struct {
        const char *text;
        int result;
        const char *id;
    } rows[] = {
        {"", JSONRPC_E_PARSE, ""},
        {" ", JSONRPC_E_PARSE, ""},
        {"{", JSONRPC_E_PARSE, ""},
        {"[", JSONRPC_E_PARSE, ""},
        {"[ ", JSONRPC_E_PARSE, ""},
        {"[]]", JSONRPC_E_PARSE, ""},
        {"[,]", JSONRPC_E_PARSE, ""},
        /* an id has been seen, but the text is no JSON */
        {"{\"id\":1,}", JSONRPC_E_PARSE, ""},
        {"{\"id\":1}{}", JSONRPC_E_PARSE, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}x", JSONRPC_E_PARSE, ""},
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1},]", JSONRPC_E_PARSE, ""},
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1} 1]", JSONRPC_E_PARSE, ""},
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}", JSONRPC_E_PARSE, ""},
        {"[{\"jsonrpc\":\"2.0\",\"method\"]", JSONRPC_E_PARSE, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\",\"id\":1}", JSONRPC_E_PARSE, ""},
        {"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}", JSONRPC_E_PARSE, ""},
        /* JSON, but neither object nor batch */
        {"1", JSONRPC_E_INVALID, ""},
        {" \"a\" ", JSONRPC_E_INVALID, ""},
        {"null", JSONRPC_E_INVALID, ""},
        {"[]", JSONRPC_E_INVALID, ""},
        {" [ ] ", JSONRPC_E_INVALID, ""},
        {"{}", JSONRPC_E_INVALID, ""},
        /* jsonrpc */
        {"{\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":2.0,\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.00\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.1\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2\\u002e\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.0\",\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID,
            "1"},
        {"{\"jsonrpc\":\"2.0\",\"JsonRpc\":\"2.0\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID,
            "1"},
        {"{\"JSONRPC\":\"2.0\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID, "1"},
        /* method */
        {"{\"jsonrpc\":\"2.0\",\"id\":\"x\"}", JSONRPC_E_INVALID, "\"x\""},
        {"{\"jsonrpc\":\"2.0\",\"method\":1,\"id\":null}", JSONRPC_E_INVALID, "null"},
        {"{\"jsonrpc\":\"2.0\",\"method\":null,\"id\":-1}", JSONRPC_E_INVALID, "-1"},
        {"{\"jsonrpc\":\"2.0\",\"method\":[\"m\"]}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"method\":false}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"method\":\"m\",\"id\":1}", JSONRPC_E_INVALID,
            "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"Method\":\"n\"}", JSONRPC_E_INVALID,
            "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"METHOD\":\"n\",\"method\":\"m\"}", JSONRPC_E_INVALID,
            "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"Method\":\"n\"}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"\\u006dethod\":\"n\"}",
            JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"\\u004dethod\":\"n\"}",
            JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"method\\u0000x\":\"n\"}",
            JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"Method\":\"m\",\"result\":1}", JSONRPC_E_INVALID, "1"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":1,\"result\":1}", JSONRPC_E_INVALID, "1"},
        /* params */
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":1,\"id\":3}", JSONRPC_E_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":null,\"id\":3}", JSONRPC_E_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":\"p\"}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[],\"params\":[],\"id\":3}",
            JSONRPC_E_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[],\"paramS\":[],\"id\":3}",
            JSONRPC_E_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"Params\":[],\"id\":3}", JSONRPC_E_INVALID, "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"param\xc5\xbf\":[],\"id\":3}", JSONRPC_E_INVALID,
            "3"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"param\\u017F\":[],\"id\":3}", JSONRPC_E_INVALID,
            "3"},
        /* id */
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":true}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":false}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":{}}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":[1]}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1,\"id\":[]}", JSONRPC_E_INVALID, ""},
        /* of two ids neither is the one to answer with */
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1,\"id\":1}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1,\"ID\":2}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"Id\":1}", JSONRPC_E_INVALID, ""},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1,\"\xc4\xb1"
         "d\":2}",
            JSONRPC_E_INVALID, ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct verdict verdict = scan(rows[i].text, strlen(rows[i].text), ROOM);
        cr_expect_eq(verdict.result, rows[i].result, "%s: %d", rows[i].text, verdict.result);
        cr_expect_str_eq(verdict.id, rows[i].id, "%s: id %s", rows[i].text, verdict.id);
    }
    cr_expect_eq(scan(NULL, 0, 1).result, JSONRPC_E_PARSE);
}

Test(jsonrpc, refuses_every_prefix)
{
    static const char *const texts[] = {
        "{\"jsonrpc\":\"2.0\",\"method\":\"\xe2\x82\xac\\u0031\",\"params\":[0.5e-1],\"id\":null}",
        "[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1} , {} , 1 , [] , \"\xf0\x9f\x98\x80\"]",
        "[]",
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        for (size_t n = 0; n < strlen(texts[i]); n++) {
            cr_expect_eq(scan(texts[i], n, ROOM).result, JSONRPC_E_PARSE, "%zu of %s", n, texts[i]);
            struct jsonrpc_response response;
            cr_expect_eq(jsonrpc_scan_response(texts[i], n, &response), JSONRPC_E_PARSE);
        }
    }
}

/* `count` members separated by commas, between what comes before and after. */
static struct verdict scan_many(
    const char *before, const char *member, size_t count, const char *after, size_t cap)
{
    char text[1024];
    char *p = stpcpy(text, before);

    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            *p++ = ',';
        p = stpcpy(p, member);
    }
    p = stpcpy(p, after);
    return scan(text, (size_t)(p - text), cap);
}

Test(jsonrpc, batch_limit)
{
    static const char *const members[] = {
        "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}", "{\"id\":1}", "0", "[[],{}]"};

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        for (size_t cap = 1; cap <= ROOM; cap++) {
            cr_expect_eq(scan_many("[", members[i], cap, "]", cap).result, 0);
            cr_expect_eq(scan_many("[", members[i], cap + 1, "]", cap).result, JSONRPC_E_BATCH);
            cr_expect_eq(scan_many("[", members[i], 3 * cap, "]", cap).result, JSONRPC_E_BATCH);
            /* what there is no room for must be JSON all the same */
            cr_expect_eq(scan_many("[", members[i], cap + 1, "", cap).result, JSONRPC_E_PARSE);
            cr_expect_eq(scan_many("[", members[i], cap + 1, ",]", cap).result, JSONRPC_E_PARSE);
            cr_expect_eq(scan_many("[", members[i], cap + 1, ",01]", cap).result, JSONRPC_E_PARSE);
            cr_expect_eq(scan_many("[", members[i], cap + 1, "]]", cap).result, JSONRPC_E_PARSE);
        }
    }
}

/* The object and the batch around a value count as levels too. */
Test(jsonrpc, depth)
{
    static const struct {
        const char *before;
        const char *after;
        size_t levels;
    } rows[] = {
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":", "}", 1},
        {"[{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":", "}]", 2},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":", "}", 1},
        {"[", "]", 1},
        {"[0,0,", "]", 1},
        {"", "", 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t depth = JSONRPC_DEPTH_MAX; depth <= JSONRPC_DEPTH_MAX + 1; depth++) {
            char text[512];
            const size_t inner = depth - rows[i].levels;
            char *p = stpcpy(text, rows[i].before);
            memset(p, '[', inner);
            memset(p + inner, ']', inner);
            p = stpcpy(p + 2 * inner, rows[i].after);
            const size_t n = (size_t)(p - text);
            const bool fits = depth <= JSONRPC_DEPTH_MAX;
            struct jsonrpc_response response;
            cr_expect_eq(scan(text, n, ROOM).result != JSONRPC_E_PARSE, fits, "%s", text);
            cr_expect_eq(scan(text, n, 1).result != JSONRPC_E_PARSE, fits, "%s", text);
            cr_expect_eq(jsonrpc_scan_response(text, n, &response) != JSONRPC_E_PARSE, fits);
            cr_expect_eq(jsonrpc_validate(text, n), fits ? 0 : JSONRPC_E_PARSE);
        }
    }
}

static bool is(struct span span, const char *text)
{
    return span.n == strlen(text) && (span.n == 0 || memcmp(span.p, text, span.n) == 0);
}

Test(jsonrpc, responses)
{
    static const struct {
        const char *text;
        const char *id;
        const char *result;
        const char *error;
    } rows[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}", "1", "null", ""},
        {" {\"result\":[1, {}],\"id\":\"a\",\"jsonrpc\":\"2.0\",\"x\":0}\n", "\"a\"", "[1, {}]",
            ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"\"}}", "null",
            "", "{\"code\":-32700,\"message\":\"\"}"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{ \"message\":\"m\",\"data\":[],\"code\":0 }}",
            "1", "", "{ \"message\":\"m\",\"data\":[],\"code\":0 }"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":\"x\",\"cod\\u0065\":1,"
         "\"message\":\"m\"}}",
            "1", "", "{\"code\":\"x\",\"cod\\u0065\":1,\"message\":\"m\"}"},
        {"{\"\\u006asonrpc\":\"\\u0032.0\",\"i\\u0064\":1,\"resul\\u0074\":2,\"method\":1,"
         "\"Params\":1}",
            "1", "2", ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct jsonrpc_response response;
        const int r = jsonrpc_scan_response(rows[i].text, strlen(rows[i].text), &response);
        cr_assert_eq(r, 0, "%s", rows[i].text);
        cr_expect(is(response.id, rows[i].id), "%s", rows[i].text);
        cr_expect(is(response.result, rows[i].result), "%s", rows[i].text);
        cr_expect(is(response.error, rows[i].error), "%s", rows[i].text);
    }
}

Test(jsonrpc, refused_responses)
{
    static const struct {
        const char *text;
        int result;
    } rows[] = {
        {"", JSONRPC_E_PARSE},
        {"{", JSONRPC_E_PARSE},
        {"x", JSONRPC_E_PARSE},
        {"[", JSONRPC_E_PARSE},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}{}", JSONRPC_E_PARSE},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":01}", JSONRPC_E_PARSE},
        {"1", JSONRPC_E_INVALID},
        {"[]", JSONRPC_E_INVALID},
        {"{}", JSONRPC_E_INVALID},
        {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}]", JSONRPC_E_INVALID},
        {"{\"id\":1,\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"1.0\",\"id\":1,\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":1,\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"Id\":2,\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"result\":2}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"reſult\":2}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"ERROR\":null}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":false,\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":[1],\"result\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":null}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{\"code\":1,\"message\":\"\"}}",
            JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":null}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"e\"}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":[]}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{}}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"message\":\"m\"}}", JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":\"1\",\"message\":\"m\"}}",
            JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1.5,\"message\":\"m\"}}",
            JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1e3,\"message\":\"m\"}}",
            JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":null}}",
            JSONRPC_E_INVALID},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"m\",\"code\":{}}}",
            JSONRPC_E_INVALID},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct jsonrpc_response response = {.id = SPAN("untouched")};
        const int r = jsonrpc_scan_response(rows[i].text, strlen(rows[i].text), &response);
        cr_expect_eq(r, rows[i].result, "%s: %d", rows[i].text, r);
        cr_expect(is(response.id, "untouched"));
    }
}

/* Every id in the place of every other one, wherever it stands: all else stays as it is. */
Test(jsonrpc, responses_with_another_id)
{
    static const char *const ids[] = {"1", "null", "\"\"", "\"a\\\"b\"", "-1.5e+10",
        "9007199254740993", "\"\\u0069d\\\":1\"", "\"a long one, longer than all else there is\""};
    static const struct {
        const char *before;
        const char *after;
    } rows[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":", ",\"result\":null}"},
        {"{\"id\":", ",\"result\":{\"id\":2,\"x\":[{\"id\":3}]},\"jsonrpc\":\"2.0\"}"},
        {" { \"result\" : \"\\\"id\\\":1\", \"jsonrpc\":\"2.0\" , \"id\" : ", " } \n"},
        {"{\"error\":{\"code\":1,\"message\":\"\",\"id\":4},\"\\u0069\\u0064\":",
            ",\"jsonrpc\":\"2.0\"}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows) * ARRAY_LEN(ids) * ARRAY_LEN(ids); i++) {
        const size_t row = i % ARRAY_LEN(rows);
        const char *theirs = ids[i / ARRAY_LEN(rows) % ARRAY_LEN(ids)];
        const char *ours = ids[i / ARRAY_LEN(rows) / ARRAY_LEN(ids)];
        char text[256];
        char wanted[256];
        snprintf(text, sizeof(text), "%s%s%s", rows[row].before, theirs, rows[row].after);
        snprintf(wanted, sizeof(wanted), "%s%s%s", rows[row].before, ours, rows[row].after);

        struct jsonrpc_response response;
        const struct span whole = {text, strlen(text)};
        const struct span id = {ours, strlen(ours)};
        cr_assert_eq(jsonrpc_scan_response(whole.p, whole.n, &response), 0, "%s", text);
        cr_assert(is(response.id, theirs));
        char *out = malloc(strlen(wanted)); /* no more, so that ASan sees one byte too many */
        const size_t n = jsonrpc_replace_id(whole, response.id, id, out);
        cr_expect(is((struct span){out, n}, wanted), "%s", wanted);
        free(out);
    }
}

Test(jsonrpc, members)
{
    static const struct {
        const char *object;
        const char *key;
        const char *value; /* empty: not found */
    } rows[] = {
        {"{}", "a", ""},
        {"{ }", "a", ""},
        {"{\"a\":1}", "a", "1"},
        {"{\"a\":1}", "b", ""},
        {"{\"a\":1}", "", ""},
        {"{\"\":1}", "", "1"},
        {"{\"ab\":1,\"a\":2,\"abc\":3}", "ab", "1"},
        {"{\"a\":1,\"a\":[2]}", "a", "[2]"},
        {"{\"a\":{\"b\":1}}", "b", ""},
        {"{\"a\" : { \"b\" : 1 } }", "a", "{ \"b\" : 1 }"},
        {"{\"\\u0061\":1}", "a", "1"},
        {"{\"a\":1,\"\\u0061\":2}", "a", "2"},
        {"{\"\\u0061\":1,\"a\":2}", "a", "2"},
        {"{\"a\\/b\\n\":\"x\"}", "a/b\n", "\"x\""},
        {"{\"\\ud83d\\ude00\":1}", "\xf0\x9f\x98\x80", "1"},
        {"{\"\\ud83d\\ude00\":1}", "\xf0\x9f\x98", ""},
        {"{\"\\u20acx\":1}", "\xe2\x82\xac", ""},
        {"{\"\\u20ac\":1}", "\xe2\x82\xacx", ""},
        {"{\"\xe2\x82\xac\":1}", "\xe2\x82\xac", "1"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct span object = {rows[i].object, strlen(rows[i].object)};
        const struct span key = {rows[i].key, strlen(rows[i].key)};
        const struct span value = jsonrpc_member(object, key);
        cr_expect(is(value, rows[i].value), "%s %s", rows[i].object, rows[i].key);
    }
    cr_expect_eq(jsonrpc_member((struct span){NULL, 0}, SPAN("a")).n, 0);
    cr_expect_eq(jsonrpc_member(SPAN("{\"\":1}"), (struct span){NULL, 0}).n, 1);
    cr_expect_eq(jsonrpc_member(SPAN("{\"\\u0000\":1}"), SPAN("\0")).n, 1);
}

Test(jsonrpc, unescape)
{
    static const struct {
        const char *in;
        const char *out;
    } rows[] = {
        {"", ""},
        {"abc", "abc"},
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"},
        {"a\\nb\\\\n", "a\nb\\n"},
        {"\\\\u0041", "\\u0041"},
        {"\\u0041\\u007f", "A\x7f"},
        {"\\u0080\\u07ff", "\xc2\x80\xdf\xbf"},
        {"\\u0800\\uFFFF", "\xe0\xa0\x80\xef\xbf\xbf"},
        {"\\uD7ff\\ue000", "\xed\x9f\xbf\xee\x80\x80"},
        {"\\ud800\\udc00", "\xf0\x90\x80\x80"},
        {"\\uDBFF\\uDFFF", "\xf4\x8f\xbf\xbf"},
        {"x\\ud83d\\ude00y", "x\xf0\x9f\x98\x80y"},
        {"\xc3\xa9\\u00e9", "\xc3\xa9\xc3\xa9"},
        /* lone surrogates, at the end and before all that may follow */
        {"\\ud800", "\xef\xbf\xbd"},
        {"\\udc00", "\xef\xbf\xbd"},
        {"\\ud800x", "\xef\xbf\xbdx"},
        {"\\ud800\\n", "\xef\xbf\xbd\n"},
        {"\\ud800\\u0041", "\xef\xbf\xbd"
                           "A"},
        {"\\ud800\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"\\udc00\\ud800", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\\udc00\\udc00", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\\udc00\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"\\ud800\\\\udc00", "\xef\xbf\xbd\\udc00"},
        {"\\ud800udc00", "\xef\xbf\xbdudc00"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct span in = {rows[i].in, strlen(rows[i].in)};
        char *out = malloc(in.n + (in.n == 0)); /* in.n bytes are enough */
        cr_assert_not_null(out);
        const struct span got = {out, jsonrpc_unescape(in, out)};
        cr_expect(is(got, rows[i].out), "%s", rows[i].in);
        free(out);
    }
    char zero = 1;
    cr_expect_eq(jsonrpc_unescape(SPAN("\\u0000"), (char[6]){0}), 1);
    cr_expect_eq(jsonrpc_unescape((struct span){NULL, 0}, &zero), 0);
}
