#pragma once

/* The checks of `admin` and `metrics`: where metrics, health and the dashboard are served. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Reads `admin` of a config whose listeners have been read: conf->admin.text stays NULL where the
 * key is not there. Warns where machines other than this one could read without a token.
 */
void conf_check_admin(struct checker *checker, const struct conf_raw_admin *raw, struct conf *conf);

/* Reads `metrics`: which methods are counted by themselves. */
void conf_check_metrics(
    struct checker *checker, const struct conf_raw_metrics *raw, struct conf *conf);
