#include "frontd/shard/net/profile.h"

#include <uv.h>

struct profile *profile_now;

static struct profile profile;
static unsigned users;

void profile_switch(enum profile_work work)
{
    uint64_t now = uv_hrtime();
    profile.ns[profile.work] += now - profile.since;
    profile.turns += work == PROFILE_WAITING && profile.work != work;
    profile.since = now;
    profile.work = work;
}

struct profile profile_start(void)
{
    if (users++ == 0) {
        profile.since = uv_hrtime();
        profile.work = PROFILE_OTHER;
        profile_now = &profile;
    }
    profile_switch(profile.work);
    return profile;
}

struct profile profile_stop(void)
{
    CHECK(users > 0);
    profile_switch(profile.work);
    if (--users == 0)
        profile_now = NULL;
    return profile;
}

const char *profile_label(enum profile_work work)
{
    static const char *const labels[] = {
#define PROFILE_LABEL(name, label) [PROFILE_##name] = (label),
        PROFILE_WORK(PROFILE_LABEL)
#undef PROFILE_LABEL
    };
    return labels[work];
}
