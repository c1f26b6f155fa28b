#pragma once

/*
 * The header with which a proxy begins a connection, so that the server knows the client: the
 * PROXY protocol of HAProxy (https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt), version
 * 1 (section 2.1, a line of text) and version 2 (section 2.2, binary). Pure.
 */

#include "common/peer.h"

enum {
    PROXY_LINE_MAX = 107,    /* bytes of a header of version 1, with its CR LF: section 2.1 */
    PROXY_HEADER_MAX = 4096, /* bytes of a header; what nginx takes, too. Extensions (TLVs) may
                              * have a client's certificate in them */
};

enum proxy_result {
    PROXY_MORE,   /* it is not complete: all bytes so far are of the header */
    PROXY_HEADER, /* it is complete */
    PROXY_WRONG,  /* these bytes begin no header */
};

struct proxy_header {
    size_t used; /* bytes */
    /*
     * The client. Its family is 0 where the address of the connection itself is the one that
     * counts: LOCAL, which is a proxy's own check; UNKNOWN, and families and transports other than
     * TCP over IPv4 or IPv6.
     */
    struct peer client;
};

/*
 * Reads the header that the `n` bytes at `p` begin with; what follows it is not looked at. May be
 * asked again with the same bytes and more behind them. Extensions are skipped, but for a checksum
 * (PP2_TYPE_CRC32C, section 2.2.4), which has to be right.
 *
 * *ret_header: set with PROXY_HEADER.
 */
enum proxy_result proxy_protocol_parse(const char *p, size_t n, struct proxy_header *ret_header);
