#include "frontd/shard/client/acceptor.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/push/push.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/tls/tls.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/tls_client.h"

enum { GRACE_MS = 100 };

static struct shardlet shard;
static struct acceptor acceptor;

static void set_up(void)
{
    shardlet_init(&shard, MOVE_CONF, 0);
    cr_assert_eq(acceptor_init(&acceptor, &shard.ctx, 0), 0);
}

static void tear_down(void)
{
    acceptor_close(&acceptor);
    cr_assert(list_empty(&shard.ctx.unused) && shard.ctx.used == NULL);
    list_join(&shard.clients, &acceptor.clients);
    acceptor_deinit(&acceptor);
    shardlet_deinit(&shard);
}

TestSuite(listener, .init = set_up, .fini = tear_down);

/* A client that was accepted so many ms ago. */
static struct client *of_age(const char *listener, uint64_t age, int *ret_peer)
{
    struct client *client = shardlet_client(&shard, listener, ret_peer);
    client->active_at = ctx_now(&shard.ctx) - age;
    return client;
}

static size_t length(const struct list *list)
{
    size_t n = 0;
    list_for_each (node, list)
        n++;
    return n;
}

static bool is_closed(int peer)
{
    char byte;
    return recv(peer, &byte, 1, MSG_DONTWAIT) == 0;
}

Test(listener, the_oldest_go_first)
{
    int peers[5];
    for (unsigned i = 0; i < 5; i++)
        of_age(i % 2 == 0 ? "web" : "frames", GRACE_MS + 50 - i, &peers[i]);
    cr_assert_eq(length(&shard.ctx.unused), 5);
    cr_assert_eq(acceptor_make_room(&acceptor, 0), 0);
    cr_assert_eq(acceptor_make_room(&acceptor, 2), 2);
    cr_assert_eq(shard.ctx.open, 3, "they are gone at once");
    cr_assert_eq(shardlet_connections(), 3);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(is_closed(peers[i]), i < 2);
    cr_assert_eq(acceptor_make_room(&acceptor, 10), 3, "no more than there are");
    cr_assert_eq(acceptor_make_room(&acceptor, 1), 0);
    for (unsigned i = 0; i < 5; i++)
        close(peers[i]);
}

Test(listener, a_time_of_grace)
{
    int old, young;
    of_age("lines", GRACE_MS, &old);
    struct client *client = of_age("lines", GRACE_MS - 1, &young);
    cr_assert_eq(acceptor_make_room(&acceptor, 2), 1);
    cr_assert(is_closed(old) && !is_closed(young));
    client->active_at--;
    cr_assert_eq(acceptor_make_room(&acceptor, 2), 1);
    cr_assert(is_closed(young));
    close(old);
    close(young);
}

static void handle(enum frame_type type, uint64_t conn, const char *meta)
{
    struct frame frame = {
        .head = {.type = type, .conn = conn}, .meta = {meta, strlen(meta)}, .body = SPAN("{}")};
    static const struct push_from sibling;
    push_handle(&shard.ctx, &sibling, &frame);
}

/* Whatever has come from it or been sent to it, it is used from then on. */
Test(listener, what_is_used_stays)
{
    static const char *const listeners[] = {"web", "lines", "frames", "lines", "frames", "web"};
    struct client *clients[6];
    int peers[6];
    for (size_t i = 0; i < 6; i++)
        clients[i] = of_age(listeners[i], GRACE_MS, &peers[i]);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(write(peers[i], "\0", 1), 1);
    shardlet_turn(&shard);
    handle(FRAME_PUSH, clients[3]->conn.id, "");
    handle(FRAME_SUBSCRIBE, clients[4]->conn.id, "{\"topic\":\"t\"}");
    for (size_t i = 0; i < 5; i++)
        cr_assert(clients[i]->used, "%zu", i);
    cr_assert(!clients[5]->used);
    cr_assert_eq(length(&shard.ctx.unused), 1);
    cr_assert_eq(length(&acceptor.clients), 5);
    handle(FRAME_UNSUBSCRIBE, clients[4]->conn.id, "");
    cr_assert(clients[4]->used, "for good");
    cr_assert_eq(write(peers[5], "G", 1), 1);
    clients[5]->active_at -= GRACE_MS;
    cr_assert_eq(acceptor_make_room(&acceptor, 1), 0, "its byte has come, but was not read");
    cr_assert(clients[5]->used);
    for (size_t i = 0; i < 6; i++)
        close(peers[i]);
    shardlet_turn(&shard);
}

/* One of which something else is to be done in this turn goes at its end. */
Test(listener, at_the_end_of_the_turn)
{
    int peer;
    struct client *client = of_age("lines", GRACE_MS, &peer);
    client_touch(client);
    cr_assert_eq(acceptor_make_room(&acceptor, 1), 0);
    cr_assert_eq(client->state, CLIENT_DOOMED);
    shardlet_turn(&shard);
    cr_assert(is_closed(peer) && list_empty(&shard.ctx.unused));
    close(peer);
}

/* When accepting has ended, all are in one list again, wherever they go from there. */
Test(listener, at_the_end)
{
    int peers[3];
    struct client *clients[3];
    for (size_t i = 0; i < 3; i++)
        clients[i] = of_age("lines", 0, &peers[i]);
    shardlet_turn(&shard);
    handle(FRAME_PUSH, clients[1]->conn.id, "");
    acceptor_close(&acceptor);
    cr_assert_eq(length(&acceptor.clients), 3);
    list_remove(&clients[0]->node);
    list_append(&shard.ctx.idle, &clients[0]->node);
    handle(FRAME_PUSH, clients[0]->conn.id, "");
    cr_assert_eq(length(&shard.ctx.idle), 1, "it stays where it is");
    list_join(&acceptor.clients, &shard.ctx.idle);
    for (size_t i = 0; i < 3; i++)
        close(peers[i]);
    shardlet_turn(&shard);
}

/* What an event about it says. */
Test(listener, its_code)
{
    int peer;
    struct client *client = of_age("frames", GRACE_MS, &peer);
    client_touch(client);
    acceptor_make_room(&acceptor, 1);
    cr_assert_eq(client->duplex->code, WS_CODE_TRY_LATER);
    shardlet_turn(&shard);
    close(peer);
}

enum { MANY = 30 };

/* A listening socket of the acceptor's, for the listener "web", and where it is. */
static struct sockaddr_in listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    acceptor_deinit(&acceptor);
    cr_assert_eq(acceptor_init(&acceptor, &shard.ctx, 1), 0);
    cr_assert(bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, MANY) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    cr_assert_eq(acceptor_add(&acceptor, &shard.conf->listeners[0], fd), 0);
    return address;
}

/* With TLS few are accepted while handshakes wait for their turn; then all. */
Test(listener, handshakes_wait)
{
    int waiting[MANY];
    struct tls_client clients[MANY];
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", NULL);
    const struct tls_setup setup = {.certificates = &server, .ncertificates = 1};
    const struct tls_wish wish = {0};
    tls_client_set_up(&shard, &setup);
    struct sockaddr_in address = listen_on_loopback();
    for (size_t i = 0; i < MANY; i++) {
        clients[i] = tls_client_open(&shard, "web", &wish);
        SSL_do_handshake(clients[i].ssl);
        tls_client_send(&clients[i], SIZE_MAX);
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(waiting[i], (struct sockaddr *)&address, sizeof(address)), 0);
    }
    shardlet_step(&shard);
    cr_assert(tls_unfinished(shard.ctx.tls));
    acceptor_open(&acceptor);
    shardlet_step(&shard);
    cr_expect_eq(shard.ctx.open, MANY + 2u);
    for (size_t i = 0; i < 2 * MANY && tls_unfinished(shard.ctx.tls); i++)
        shardlet_step(&shard);
    shardlet_step(&shard);
    cr_expect_eq(shard.ctx.open, 2u * MANY);
    acceptor_close(&acceptor);
    shardlet_step(&shard); /* the loop lets go of the socket */
    for (size_t i = 0; i < MANY; i++) {
        tls_client_close(&clients[i]);
        close(waiting[i]);
    }
    pki_free(&server);
}
