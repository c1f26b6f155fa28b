#include "frontd/codec/http1.h"

#include <errno.h>
#include <string.h>

static struct http1_result more(size_t kept)
{
    return (struct http1_result){.event = HTTP1_MORE, .kept = kept};
}

static struct http1_result error(unsigned status)
{
    return (struct http1_result){.event = HTTP1_ERROR, .status = status};
}

static struct http1_result bad_body(unsigned status)
{
    return (struct http1_result){.event = HTTP1_ERROR, .status = status, .head_known = true};
}

/* A head that was complete before is not held to the limits again: they may be different by now. */
static int reparse(const char *p, size_t head_len, struct http1_head *ret_head)
{
    static const struct http1_limits none = {.head_bytes = UINT32_MAX, .fields = HTTP_FIELDS_MAX};
    size_t used;
    if (http1_head_parse(p, head_len, &none, ret_head, &used) != 0 || used != head_len)
        return -EBADMSG;
    return 0;
}

/*
 * The head is parsed again for a request that came in parts, since its bytes may lie elsewhere by
 * now.
 */
static void refresh(
    const struct http1 *http1, const char *p, struct http1_head *ret_head, bool head_fresh)
{
    if (!head_fresh)
        CHECK(reparse(p, http1->head_len, ret_head) == 0);
}

/* The request is complete: the state is zeroed for the next one. */
static struct http1_result complete(struct http1 *http1, const char *p, size_t body_len,
    size_t used, struct http1_head *ret_head, bool head_fresh)
{
    size_t head_len = http1->head_len;
    refresh(http1, p, ret_head, head_fresh);
    *http1 = (struct http1){0};
    return (struct http1_result){
        .event = HTTP1_REQUEST,
        .used = used,
        .body = {p + head_len, body_len},
    };
}

/*
 * RFC 9110 section 10.1.1: a client that waits for 100 (Continue) is sent it once, unless the body
 * is on its way already.
 */
static struct http1_result more_or_continue(
    struct http1 *http1, size_t n, size_t kept, const struct http1_head *head, bool head_fresh)
{
    struct http1_result result = more(kept);
    if (head_fresh && head->http.expect_continue && !http1->continue_asked &&
        n == http1->head_len) {
        http1->continue_asked = true;
        result.event = HTTP1_CONTINUE;
    }
    return result;
}

void http1_begin_parts(struct http1 *http1, const struct http1_head *head)
{
    *http1 = (struct http1){
        .phase = head->chunked ? HTTP1_PHASE_CHUNKED : HTTP1_PHASE_LENGTH,
        .parts = true,
        .chunked = {.left = head->content_length},
    };
}

unsigned http1_feed_part(struct http1 *http1, const char *p, size_t n, size_t room,
    uint32_t trailer_max, size_t *ret_used, struct span *ret_part, bool *ret_last)
{
    struct span part = {p, 0};
    size_t most = MIN(n, room);
    if (http1->phase == HTTP1_PHASE_LENGTH) {
        part.n = *ret_used = (size_t)MIN((uint64_t)most, http1->chunked.left);
        http1->chunked.left -= part.n;
        *ret_last = http1->chunked.left == 0;
    } else {
        int event = http1_chunked_feed(&http1->chunked, p, most, trailer_max, ret_used, &part);
        if (event < 0)
            return (unsigned)-event;
        if (event != HTTP1_BODY_DATA)
            part.n = 0;
        *ret_last = event == HTTP1_BODY_DONE;
    }
    *ret_part = part;
    if (*ret_last)
        *http1 = (struct http1){0};
    return 0;
}

static struct http1_result feed_length(struct http1 *http1, const char *p, size_t n,
    const struct http1_config *config, struct http1_head *ret_head, bool head_fresh)
{
    size_t need = (size_t)http1->head_len + http1->body_len;
    if (http1->body_len > config->body) {
        refresh(http1, p, ret_head, head_fresh);
        return bad_body(413);
    }
    if (n < need)
        return more_or_continue(http1, n, n, ret_head, head_fresh);
    return complete(http1, p, http1->body_len, need, ret_head, head_fresh);
}

static struct http1_result feed_chunked(struct http1 *http1, char *p, size_t n,
    const struct http1_config *config, struct http1_head *ret_head, bool head_fresh)
{
    size_t at = (size_t)http1->head_len + http1->body_len;
    for (;;) {
        size_t used;
        struct span data;
        int event = http1_chunked_feed(
            &http1->chunked, p + at, n - at, config->head.head_bytes, &used, &data);
        if (event < 0) {
            refresh(http1, p, ret_head, head_fresh);
            return bad_body((unsigned)-event);
        }
        at += used;
        size_t decoded = (size_t)http1->head_len + http1->body_len;
        size_t data_len = event == HTTP1_BODY_DATA ? data.n : 0;
        /* A chunk counts as soon as its size is known. */
        uint64_t left = http1_chunked_left(&http1->chunked);
        if (left > config->body || http1->body_len + data_len + left > config->body) {
            refresh(http1, p, ret_head, head_fresh);
            return bad_body(413);
        }
        if (event == HTTP1_BODY_DONE)
            return complete(http1, p, http1->body_len, at, ret_head, head_fresh);
        if (event == HTTP1_BODY_MORE)
            return more_or_continue(http1, n, decoded, ret_head, head_fresh);
        memmove(p + decoded, data.p, data.n);
        http1->body_len += (uint32_t)data.n;
    }
}

static struct http1_result feed_body(struct http1 *http1, char *p, size_t n,
    const struct http1_config *config, struct http1_head *ret_head, bool head_fresh)
{
    if (http1->phase == HTTP1_PHASE_CHUNKED)
        return feed_chunked(http1, p, n, config, ret_head, head_fresh);
    return feed_length(http1, p, n, config, ret_head, head_fresh);
}

struct http1_result http1_feed(struct http1 *http1, char *p, size_t n,
    const struct http1_config *config, struct http1_head *ret_head)
{
    if (http1->phase != HTTP1_PHASE_HEAD)
        return feed_body(http1, p, n, config, ret_head, false);
    size_t head_len;
    ret_head->http.method = HTTP_OTHER;
    int r = http1_head_parse(p, n, &config->head, ret_head, &head_len);
    if (r == HTTP1_E_MORE)
        return more(n);
    if (r != 0)
        return error((unsigned)r);
    if (config->parts && (ret_head->chunked || ret_head->content_length > config->body))
        return (struct http1_result){.event = HTTP1_LARGE, .used = head_len};
    if (ret_head->content_length > config->body)
        return bad_body(413);
    http1->head_len = (uint32_t)head_len;
    http1->body_len = ret_head->chunked ? 0 : (uint32_t)ret_head->content_length;
    http1->phase = ret_head->chunked ? HTTP1_PHASE_CHUNKED : HTTP1_PHASE_LENGTH;
    return feed_body(http1, p, n, config, ret_head, true);
}

void http1_save(const struct http1 *http1, struct pack *pack)
{
    pack_u8(pack, http1->phase);
    pack_u8(pack, http1->continue_asked);
    pack_u32(pack, http1->head_len);
    pack_u32(pack, http1->body_len);
    if (http1->phase == HTTP1_PHASE_CHUNKED)
        http1_chunked_save(&http1->chunked, pack);
}

/* Whether the bytes begin with the head that the state was saved with. */
static bool head_fits(const struct http1 *http1, struct span bytes)
{
    struct http1_head head;
    if (http1->head_len > bytes.n || reparse(bytes.p, http1->head_len, &head) < 0)
        return false;
    if (http1->phase == HTTP1_PHASE_LENGTH)
        return !head.chunked && head.content_length == http1->body_len;
    return head.chunked && http1->body_len <= bytes.n - http1->head_len;
}

int http1_restore(struct http1 *ret_http1, struct unpack *unpack, struct span bytes)
{
    struct http1 http1 = {0};
    http1.phase = unpack_u8(unpack);
    http1.continue_asked = unpack_flag(unpack);
    http1.head_len = unpack_u32(unpack);
    http1.body_len = unpack_u32(unpack);
    if (unpack->bad || http1.phase > HTTP1_PHASE_CHUNKED)
        return -EBADMSG;
    if (http1.phase == HTTP1_PHASE_CHUNKED && http1_chunked_restore(&http1.chunked, unpack) < 0)
        return -EBADMSG;
    if (http1.phase == HTTP1_PHASE_HEAD
            ? http1.head_len > 0 || http1.body_len > 0 || http1.continue_asked
            : !head_fits(&http1, bytes))
        return -EBADMSG;
    *ret_http1 = http1;
    return 0;
}
