#pragma once

/*
 * What is wrong with certificates and keys, before any shard has them. Takes texts in PEM and the
 * time; reads no file, and asks nobody for a passphrase. No message has a part of a key.
 */

#include <time.h>

#include "common/base.h"
#include "frontd/config/findings.h"

/* What a pair's error is about. */
enum pem_part { PEM_CERT, PEM_KEY };

/*
 * Checks a chain and its key: that both can be read, that the key is not encrypted, belongs to the
 * first certificate, and is of a kind and size that clients accept. odd: is called for what is
 * allowed but hardly meant: dates, names, the chain's order; of `findings` only `odd` and `data`
 * are used. Returns NULL with *ret_until (the date after which a certificate of the chain has
 * expired), or what is wrong, a static text, with *ret_part.
 */
const char *pem_check_pair(struct span cert, struct span key, time_t now,
    const struct conf_findings *findings, time_t *ret_until, enum pem_part *ret_part);

/* Checks the certificates of authorities: at least one. Returns NULL or what is wrong. */
const char *pem_check_authorities(
    struct span text, time_t now, const struct conf_findings *findings);

enum { PEM_DATE_SIZE = 11 /* "2026-11-27" and a NUL */ };

/* A date in UTC. */
void pem_write_date(time_t time, char out[static PEM_DATE_SIZE]);
