#pragma once

/*
 * For tests, in builds with the option `seal_log`: all records that are sealed, by all processes,
 * and those that OpenSSL has sealed at the end of a handshake with a key that is gone on with,
 * leave an entry in the file that FRONTD_SEAL_LOG names: 8 bytes of the SHA-256 of the key, the 12
 * bytes of the nonce, and the process ID (u32, of this machine's order). No two entries may have
 * the same key and nonce, whatever is killed when. In other builds there is nothing of it.
 */

struct tls_crypto;

/* Opens the file, where one is named. Before a filter of system calls. */
void seal_log_open(void);

/* What is sealed with it is logged from now on. */
void seal_log_watch(struct tls_crypto *crypto);
