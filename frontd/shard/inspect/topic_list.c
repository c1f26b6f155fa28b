/* `topics`: each step looks at some topics of this shard, and keeps the first in the order that is
 * asked for; then they are written. */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/inspect/best.h"
#include "frontd/shard/inspect/params.h"
#include "frontd/shard/push/topics.h"

enum sort { SORT_MEMBERS, SORT_NAME };

static const char *const sorts[] = {"members", "name"};

struct row {
    uint64_t realm;
    uint32_t members;
    uint8_t n;
    char name[TOPIC_NAME_MAX];
};

struct listing {
    char *prefix;
    size_t prefix_len;
    unsigned sort; /* enum sort */
    struct topic_list list;
    struct best best;
    uint64_t looked;
    uint64_t matched;
    uint64_t members; /* of all that match */
    uint32_t written;
    bool walked;
    bool complete;
};

static int by_name(const struct row *one, const struct row *two)
{
    int r = memcmp(one->name, two->name, MIN(one->n, two->n));
    if (r == 0)
        r = one->n - two->n;
    return r != 0 ? r : one->realm < two->realm ? -1 : one->realm > two->realm;
}

static int order(const void *a, const void *b, const void *by)
{
    const struct row *one = a;
    const struct row *two = b;
    const struct listing *listing = by;
    if (listing->sort == SORT_MEMBERS && one->members != two->members)
        return one->members > two->members ? -1 : 1;
    return by_name(one, two);
}

static int keep(struct listing *listing, const struct topic_entry *entry)
{
    struct row row = {
        .realm = entry->realm, .members = entry->members, .n = (uint8_t)entry->name.n};
    void *kept;
    memcpy(row.name, entry->name.p, entry->name.n);
    return best_offer(&listing->best, &row, &kept);
}

static int walk(struct question *question, struct listing *listing)
{
    for (unsigned i = 0; i < QUESTION_STEP; i++) {
        struct topic_entry entry;
        if (!topics_list_next(&listing->list, &entry)) {
            listing->complete = listing->walked = true;
            return 0;
        }
        listing->looked++;
        if (listing->prefix != NULL &&
            (entry.name.n < listing->prefix_len ||
                memcmp(entry.name.p, listing->prefix, listing->prefix_len) != 0))
            continue;
        listing->matched++;
        listing->members += entry.members;
        if (keep(listing, &entry) < 0)
            return -ENOMEM;
    }
    listing->walked = ctx_now(question->ctx) - question->asked >= QUESTION_WALK_MS;
    return 0;
}

static const char *realm_name(const struct conf *conf, uint64_t realm)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (conf->pools[i].realm_id == realm)
            return conf->pools[i].realm;
    }
    return NULL;
}

static void write_row(struct question *question, const struct row *row)
{
    struct json_writer *writer = &question->answer;
    const char *realm = realm_name(question->ctx->conf, row->realm);
    json_begin(writer, NULL, '{');
    json_add_span(writer, "name", (struct span){row->name, row->n});
    if (realm != NULL)
        json_add_text(writer, "realm", realm);
    json_add_number(writer, "members", row->members);
    json_end(writer, '}');
}

static void begin_answer(struct question *question, struct listing *listing)
{
    struct json_writer *writer = &question->answer;
    topics_list_stop(&listing->list);
    best_sort(&listing->best);
    json_begin(writer, NULL, '{');
    json_add_number(writer, "looked", listing->looked);
    json_add_number(writer, "matched", listing->matched);
    json_add_number(writer, "members", listing->members);
    json_add_flag(writer, "complete", listing->complete);
    json_begin(writer, "rows", '[');
}

static enum question_step step(struct question *question)
{
    struct listing *listing = question_own(question);
    struct json_writer *writer = &question->answer;
    if (!listing->walked) {
        if (walk(question, listing) < 0)
            listing->walked = true; /* what is known is told: it is not `complete` */
        if (listing->walked)
            begin_answer(question, listing);
        return QUESTION_MORE;
    }
    for (unsigned i = 0; i < QUESTION_STEP && listing->written < listing->best.count; i++) {
        if (buf_len(&writer->out) > QUESTION_TEXT_MAX)
            listing->best.count = listing->written;
        else
            write_row(question, best_row(&listing->best, listing->written++));
    }
    if (listing->written < listing->best.count)
        return QUESTION_MORE;
    json_end(writer, ']');
    json_end(writer, '}');
    return QUESTION_ANSWERED;
}

static int begin(struct question *question, struct span params)
{
    struct listing *listing = question_own(question);
    uint64_t limit = QUESTION_ROWS;
    int r = params_text(question, params, "prefix", &listing->prefix);
    if (r == 0)
        r = params_word(question, params, "sort", sorts, ARRAY_LEN(sorts), &listing->sort);
    if (r == 0)
        r = params_number(question, params, "limit", QUESTION_ROWS_MAX, &limit);
    if (r < 0)
        return r;
    listing->prefix_len = listing->prefix == NULL ? 0 : strlen(listing->prefix);
    best_init(&listing->best, sizeof(struct row), MAX((uint32_t)limit, 1U), order, listing);
    topics_list(question->ctx->topics, &listing->list);
    return 0;
}

static void end(struct question *question)
{
    struct listing *listing = question_own(question);
    mem_free(listing->prefix);
    topics_list_stop(&listing->list);
    best_deinit(&listing->best);
}

const struct question_ops topics_question = {
    .size = sizeof(struct listing),
    .begin = begin,
    .step = step,
    .end = end,
};
