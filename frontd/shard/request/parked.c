#include "frontd/shard/request/parked.h"

#include "common/alloc.h"
#include "frontd/shard/request/auth.h"

struct parked *parked_new(
    struct client *client, struct request *request, const struct http_head *head, struct span body)
{
    struct span text = client_session(client)->head_text(head);
    struct parked *parked = mem_zalloc(sizeof(*parked));
    if (parked == NULL)
        return NULL;
    list_init(&parked->node);
    parked->client = client;
    parked->request = request;
    client->held = true;
    if (buf_append(&parked->head, text.p, text.n) < 0 ||
        (body.n > 0 && buf_append(&parked->body, body.p, body.n) < 0))
        return parked_free(parked);
    list_append(&client->ctx->auth->parked, &parked->node);
    return parked;
}

struct parked *parked_free(struct parked *parked)
{
    if (parked == NULL)
        return NULL;
    list_remove(&parked->node);
    parked->client->held = false;
    buf_deinit(&parked->head);
    buf_deinit(&parked->body);
    return mem_free(parked);
}

size_t parked_holds(const struct parked *parked)
{
    return parked == NULL ? 0 : sizeof(*parked) + parked->head.size + parked->body.size;
}

/* What was copied is there until the request has been looked at, whatever becomes of that. */
static void go_on(struct parked *parked)
{
    struct client *client = parked->client;
    struct buf head = parked->head;
    struct buf body = parked->body;
    struct request *request = parked->request;
    parked->head = parked->body = (struct buf){0};
    client->upload_waits = false; /* a body that goes in parts could not go anywhere */
    client_touch(client);
    client->ctx->requests_ops->unpark(request,
        client_session(client)->head_again((struct span){buf_data(&head), buf_len(&head)}),
        (struct span){buf_data(&body), buf_len(&body)});
    buf_deinit(&head);
    buf_deinit(&body);
}

void parked_turn(struct ctx *ctx)
{
    struct auth *auth = ctx->auth;
    if (auth == NULL)
        return;
    auth->in_order = true;
    while (!list_empty(&auth->parked) && auth->spent < WORK_VERIFY_TURN)
        go_on(list_first(&auth->parked, struct parked, node));
    auth->in_order = false;
    auth->spent = 0;
}

bool parked_unfinished(const struct ctx *ctx)
{
    return ctx->auth != NULL && !list_empty(&ctx->auth->parked);
}
