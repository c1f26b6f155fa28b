#pragma once

/*
 * Which requests a browser has made for a page of another site, and which of them may be carried
 * out: the CORS protocol of the Fetch standard, seen from the server, and Fetch Metadata. Pure.
 *
 * A page of any site can have a browser send a request with the user's cookies. Before most of them
 * the browser asks, by a preflight, and sends nothing where the answer is no; but it does not ask
 * before a GET, a HEAD, or a POST of the types that forms have always sent (a *simple* one).
 */

#include "frontd/codec/http_head.h"

enum cross_site {
    CROSS_SITE_PASS,      /* of no page, of one's own, or of one that may */
    CROSS_SITE_PREFLIGHT, /* a listed origin's: to be answered with what may follow */
    CROSS_SITE_REFUSE,    /* 403 */
};

enum { CROSS_SITE_UNLISTED = -1 };

/*
 * Judges a request.
 *
 * origins: those that are listed, in lower case; "*" is any other. They are compared as ASCII
 * without case. refuse: what a page of another site may not do is refused; else nothing is.
 *
 * Returns what becomes of the request, with the index of its origin in *ret_listed
 * (CROSS_SITE_UNLISTED: it names none that is listed, or is not let in though it is).
 *
 * Refused are: what comes from an origin that is not listed, where others are; a simple POST of
 * another site; a simple POST with credentials (Cookie, Authorization) that is let in by "*" or
 * "null" alone; and a preflight of an origin that is not listed.
 */
enum cross_site cross_site_judge(const struct http_head *head, char *const *origins,
    size_t norigins, bool refuse, int *ret_listed);

/*
 * Whether a browser has sent it for a page of another origin than the one that it goes to. A
 * browser says so itself in Sec-Fetch-Site; one that does not is judged by Origin, whose host and
 * port have to be those of Host. (The scheme is not known here; the port that is usual for that of
 * Origin is taken for one that is not there.) Where neither is there it is no browser's.
 */
bool cross_site_foreign(const struct http_head *head);
