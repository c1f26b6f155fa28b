#pragma once

/*
 * Which requests a browser has made for a page of another site, and which of them may be carried
 * out: the CORS protocol of the Fetch standard, on the server's side, and Fetch Metadata. Pure.
 *
 * A page of any site can have a browser send a request with the user's cookies. Before most
 * requests the browser sends a preflight, and goes no further where the answer is no. It sends
 * none before a GET, a HEAD, or a POST of the types that forms have always sent (a *simple* POST).
 */

#include "frontd/codec/http_head.h"

enum cross_site {
    CROSS_SITE_PASS,      /* no page's, of the same site, or of an origin that may */
    CROSS_SITE_PREFLIGHT, /* a preflight of a listed origin: to be answered with what may follow */
    CROSS_SITE_REFUSE,    /* 403 */
};

enum { CROSS_SITE_UNLISTED = -1 };

/*
 * Judges a request.
 *
 * origins: the list, in lower case; "*" stands for any other origin. Compared as ASCII without
 * case. refuse: whether to refuse what a page of another site may not do; else nothing is refused.
 *
 * Returns what becomes of the request, with the index of its origin in *ret_listed
 * (CROSS_SITE_UNLISTED: it names none that is listed, or one that is listed and refused).
 *
 * Refused are:
 * - a request of an origin that is not listed, where others are
 * - a simple POST of another site
 * - a simple POST with credentials (Cookie, Authorization) of an origin that only "*" or "null"
 *   allows
 * - a preflight of an origin that is not listed
 */
enum cross_site cross_site_judge(const struct http_head *head, char *const *origins,
    size_t norigins, bool refuse, int *ret_listed);

/*
 * Whether a browser has sent the request for a page of another origin than the request's own.
 * Decided by, in this order:
 * - Sec-Fetch-Site, where it is sent
 * - Origin: its host and port have to be those of Host. (The scheme of the request is not known
 *   here; where a port is missing, the default port of Origin's scheme is taken.)
 *
 * Where neither is sent, the request is not from a browser.
 */
bool cross_site_foreign(const struct http_head *head);
