/* `kick`: a step looks for the connection, some places of the slab of clients at a time, and ends
 * it in the way of its protocol. One that is on its way to another shard is left to that one. */

#include <inttypes.h>

#include "common/log.h"
#include "frontd/shard/inspect/params.h"
#include "frontd/shard/session/duplex.h"

struct kick {
    uint64_t conn;
    struct slab_walk walk;
    const char *outcome; /* NULL: it has not been found so far */
};

static int begin(struct question *question, struct span params)
{
    struct kick *kick = question_own(question);
    int r = params_conn(question, params, "id", &kick->conn);
    if (r == 0 && kick->conn == 0) {
        question->problem = "which connection?";
        r = -EINVAL;
    }
    if (r == 0)
        slab_walk(&question->ctx->clients, &kick->walk);
    return r;
}

/* Where a WebSocket was told to close already, and an end is under way, there is no more waiting.
 */
static void end_client(struct client *client)
{
    const struct session_ops *session = client_session(client);
    bool told = client_is_duplex(client) && client->duplex->close_sent;
    client_because(client, METRIC_REASON_KICK);
    if (session->close != NULL && client->state == CLIENT_OPEN && !told)
        session->close(client, WS_CODE_POLICY, SPAN("closed by an operator"));
    else
        client_doom(client);
}

static const char *try(const struct kick *kick, const struct ctx *ctx, struct client *client)
{
    if (client->ctx != ctx || client->conn.id != kick->conn || client->state >= CLIENT_DOOMED)
        return NULL;
    if (client->moving || client->arriving)
        return "moving";
    char peer[PEER_TEXT_SIZE];
    client_peer_text(client, peer);
    log_info("listener %s: %s: connection %" PRIu64 " is closed: an operator has asked for it",
        client_listener(client)->name, peer, client->conn.id);
    end_client(client);
    return "kicked";
}

static enum question_step step(struct question *question)
{
    struct kick *kick = question_own(question);
    for (unsigned i = 0; i < QUESTION_STEP && kick->outcome == NULL; i++) {
        struct client *client = slab_next(&kick->walk);
        kick->outcome = client == NULL ? "not_found" : try(kick, question->ctx, client);
    }
    if (kick->outcome == NULL)
        return QUESTION_MORE;
    json_begin(&question->answer, NULL, '{');
    json_add_text(&question->answer, "outcome", kick->outcome);
    json_end(&question->answer, '}');
    return QUESTION_ANSWERED;
}

static void end(struct question *question)
{
    struct kick *kick = question_own(question);
    slab_stop(&kick->walk);
}

const struct question_ops kick_question = {
    .size = sizeof(struct kick),
    .begin = begin,
    .step = step,
    .end = end,
};
