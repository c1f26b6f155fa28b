#include "frontd/frontctl/ask.h"

#include "common/alloc.h"
#include "frontd/frontctl/text.h"
#include "frontd/ipc/control_rpc.h"
#include "proto/errors.h"
#include "proto/json_read.h"

static int exit_code(int code)
{
    switch (code) {
    case CONTROL_E_REFUSED:
    case CONTROL_E_UNKNOWN:
    case CONTROL_E_BUSY:
    case RPC_METHOD_NOT_FOUND: return FRONTCTL_REFUSED;
    case RPC_INVALID_PARAMS: return FRONTCTL_USAGE;
    default: return FRONTCTL_FAILED;
    }
}

int ask_judge(const struct link *link, const char *method, enum link_outcome outcome,
    const struct link_answer *answer)
{
    char message[4096] = "the supervisor gives no reason";
    switch (outcome) {
    case LINK_LOST:
        frontctl_complain("the connection was lost before the answer");
        return FRONTCTL_UNREACHED;
    case LINK_SILENT: frontctl_complain("frontd does not answer"); return FRONTCTL_UNREACHED;
    case LINK_BROKEN: frontctl_complain("the answer is not understood"); return FRONTCTL_FAILED;
    default: break;
    }
    if (answer->result.n > 0)
        return 0;
    text_of(json_read_member(answer->error, "message"), message, sizeof(message));
    if (answer->code == RPC_METHOD_NOT_FOUND)
        frontctl_complain("the supervisor, frontd %s, does not know %s", link->peer, method);
    else
        frontctl_complain("%s", message);
    return exit_code(answer->code);
}

int ask(const struct frontctl *frontctl, const char *method, struct json_writer *params,
    struct span *ret_result)
{
    static struct link link = {.fd = -1};
    struct link_answer answer = {0};
    int r = link.fd >= 0 ? 0 : link_open(&link, frontctl->socket, false);
    if (r != 0) {
        if (params != NULL)
            buf_deinit(&params->out);
        return r;
    }
    enum link_outcome outcome = link_call(
        &link, method, params, LINK_ANSWER_MS, NULL, NULL, &answer);
    r = ask_judge(&link, method, outcome, &answer);
    if (r == 0)
        *ret_result = answer.result;
    return r;
}

int ask_twice(const struct frontctl *frontctl, const char *method, const struct timespec *between,
    char **ret_before, struct span *ret_now)
{
    struct span result;
    int r = ask(frontctl, method, NULL, &result);
    if (r != 0)
        return r;
    char *before = mem_strndup(result.p, result.n);
    nanosleep(between, NULL);
    r = ask(frontctl, method, NULL, ret_now);
    if (r == 0)
        *ret_before = before;
    else
        mem_free(before);
    return r;
}

int ask_print_json(struct span value)
{
    text_put_json(value, stdout);
    putchar('\n');
    return FRONTCTL_DONE;
}
