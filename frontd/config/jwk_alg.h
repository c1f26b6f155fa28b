#pragma once

/* The algorithms by which tokens are verified (RFC 7518 section 3.1, RFC 8037 section 3.1). */

enum jwk_alg { JWK_RS256, JWK_ES256, JWK_EDDSA, JWK_ALGS };

/* The names that tokens, keys and the config have for them, by enum jwk_alg. */
static const char *const jwk_alg_names[JWK_ALGS] = {"RS256", "ES256", "EdDSA"};
