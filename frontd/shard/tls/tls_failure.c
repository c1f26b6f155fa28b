#include "frontd/shard/tls/tls_failure.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

static enum tls_failure_kind kind_of(int reason)
{
    switch (reason) {
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_INAPPROPRIATE_FALLBACK:
    case SSL_R_NO_APPLICATION_PROTOCOL: return TLS_FAILURE_NOT_SHARED;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return TLS_FAILURE_CERTIFICATE;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER: return TLS_FAILURE_NOT_TLS;
    case ERR_R_MALLOC_FAILURE: return TLS_FAILURE_INTERNAL;
    default: return reason >= SSL_AD_REASON_OFFSET ? TLS_FAILURE_ALERT : TLS_FAILURE_HANDSHAKE;
    }
}

struct tls_failure tls_failure_of(const SSL *ssl)
{
    struct tls_failure failure = {TLS_FAILURE_HANDSHAKE, "the handshake fails"};
    unsigned long error = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(error);
    if (error != 0)
        failure.kind = kind_of(ERR_GET_REASON(error));
    if (text != NULL)
        failure.text = text;
    if (failure.kind == TLS_FAILURE_CERTIFICATE && SSL_get_verify_result(ssl) != X509_V_OK)
        failure.text = X509_verify_cert_error_string(SSL_get_verify_result(ssl));
    ERR_clear_error();
    return failure;
}
