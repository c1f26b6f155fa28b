#include "tests/bench/tls_client.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <signal.h>

#include "common/base.h"
#include "tests/bench/ws_client.h"

SSL_CTX *tls_client_context(const char *ca, bool h2)
{
    static const uint8_t names[] = "\x02h2";
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes to sockets that the server has closed */
    if (context == NULL || SSL_CTX_load_verify_file(context, ca) != 1)
        ws_die(ca, EINVAL);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (h2 && SSL_CTX_set_alpn_protos(context, names, sizeof(names) - 1) != 0)
        ws_die("ALPN", ENOMEM);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return context;
}

SSL *tls_client_new(SSL_CTX *context, int fd)
{
    SSL *ssl = SSL_new(context);

    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
        ws_die("SSL_new", ENOMEM);
    SSL_set_connect_state(ssl);
    return ssl;
}

/* -errno of what has returned r */
static int error_of(SSL *ssl, int r)
{
    return SSL_get_error(ssl, r) == SSL_ERROR_WANT_READ ? -EAGAIN : -EPIPE;
}

int tls_client_shake_hands(SSL *ssl)
{
    ERR_clear_error();
    int r = SSL_do_handshake(ssl);
    if (r == 1)
        return 1;
    return error_of(ssl, r) == -EAGAIN ? 0 : -1;
}

ssize_t tls_client_recv(SSL *ssl, void *room, size_t n)
{
    ERR_clear_error();
    int r = SSL_read(ssl, room, (int)MIN(n, (size_t)INT_MAX));
    if (r > 0)
        return r;
    if (SSL_get_error(ssl, r) == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = -error_of(ssl, r);
    return -1;
}

int tls_client_send(SSL *ssl, const void *p, size_t n)
{
    ERR_clear_error();
    return SSL_write(ssl, p, (int)n) == (int)n ? 0 : -EPIPE;
}
