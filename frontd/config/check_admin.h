#pragma once

/* The check of `admin`: where metrics, health and the dashboard are served. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Reads `admin` of a config whose listeners have been read: conf->admin.text stays NULL where the
 * key is not there. Warns where machines other than this one could read without a token.
 */
void conf_check_admin(struct checker *checker, const struct conf_raw_admin *raw, struct conf *conf);
