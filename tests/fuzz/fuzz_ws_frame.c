/*
 * The input is what one client sends after the handshake, read within several limits. The events
 * are the same however it is cut, and the same that a second decoder finds, which has all of it in
 * memory and looks at every byte by itself.
 */

#include <string.h>

#include "frontd/codec/ws_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SPLITS_MAX = 60, /* splits that are tried of one input; more would only be slow */
    BESIDES_MAX = 2 + 4 + WS_CONTROL_MAX, /* kept besides the message so far */
};

/* The events as text of bytes, one after the other. */
struct events {
    char *text;
    size_t n;
};

static void add(struct events *events, enum ws_event event, unsigned opcode, unsigned code,
    const void *payload, size_t n)
{
    const uint32_t head[] = {(uint32_t)event, opcode, code, (uint32_t)n};
    events->text = realloc(events->text, events->n + sizeof(head) + n);
    CHECK(events->text != NULL);
    memcpy(events->text + events->n, head, sizeof(head));
    if (n > 0)
        memcpy(events->text + events->n + sizeof(head), payload, n);
    events->n += sizeof(head) + n;
}

static void fail(struct events *events, unsigned code)
{
    add(events, WS_EVENT_ERROR, 0, code, NULL, 0);
}

/* One part: what is kept of those before it and what it adds, in memory that ends where it ends. */
struct feeder {
    struct ws ws;
    char *bytes;
    size_t n;
    bool ended;
};

/* Between two parts the connection moves to another process. */
static void move(struct feeder *feeder)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    ws_save(&feeder->ws, &pack);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    const unsigned version = ws_save_version(&feeder->ws);
    CHECK(ws_restore(&feeder->ws, &unpack, version, (struct span){feeder->bytes, feeder->n}) == 0);
    CHECK(unpack_end(&unpack) == 0);
    buf_deinit(&state);
}

static void feed(struct feeder *feeder, const uint8_t *data, size_t size, bool last,
    const struct ws_limits *limits, bool late, struct events *events)
{
    char *p = malloc(feeder->n + size + (feeder->n + size == 0));
    char control[WS_CONTROL_MAX];
    CHECK(p != NULL);
    move(feeder);
    if (feeder->n > 0)
        memcpy(p, feeder->bytes, feeder->n);
    if (size > 0)
        memcpy(p + feeder->n, data, size);
    free(feeder->bytes);
    feeder->bytes = p;
    feeder->n += size;
    for (;;) {
        const struct ws_result result = ws_feed(&feeder->ws, p, feeder->n, limits, control);
        if (result.event == WS_EVENT_ERROR) {
            fail(events, result.code);
            feeder->ended = true;
            break;
        }
        if (result.event == WS_EVENT_MESSAGE) {
            CHECK(result.used <= feeder->n && result.payload.p >= p);
            CHECK(result.payload.p + result.payload.n <= p + result.used);
            p += result.used;
            feeder->n -= result.used;
        } else {
            CHECK(result.kept <= feeder->n);
            feeder->n = result.kept;
        }
        if (result.event == WS_EVENT_MORE) {
            CHECK(feeder->ws.gap == 0 && feeder->n <= feeder->ws.message + (size_t)BESIDES_MAX);
            break;
        }
        add(events, result.event, result.opcode, result.code + result.compressed, result.payload.p,
            result.payload.n);
        if (result.event == WS_EVENT_CONTROL && late && !last)
            break; /* goes on when the next part is there */
    }
    memmove(feeder->bytes, p, feeder->n);
}

static struct events feed_parts(const uint8_t *data, size_t size, const struct ws_limits *limits,
    size_t first, size_t step, bool late)
{
    struct events events = {NULL, 0};
    struct feeder feeder = {.bytes = NULL};
    size_t at = first;
    feed(&feeder, data, first, first == size, limits, late, &events);
    for (; at < size && !feeder.ended; at += step)
        feed(&feeder, data + at, MIN(step, size - at), size - at <= step, limits, late, &events);
    free(feeder.bytes);
    return events;
}

static void check_same(struct events part, struct events whole)
{
    CHECK(part.n == whole.n && (whole.n == 0 || memcmp(part.text, whole.text, whole.n) == 0));
    free(part.text);
}

/* The value of one character, however it is written; 0: incomplete, -1: no character. */
static int decode(const uint8_t *p, size_t n, uint32_t *ret_value)
{
    const uint8_t lead = p[0];
    const size_t width = lead < 0x80             ? 1
                         : (lead & 0xe0) == 0xc0 ? 2
                         : (lead & 0xf0) == 0xe0 ? 3
                         : (lead & 0xf8) == 0xf0 ? 4
                                                 : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (width == 0)
        return -1;
    uint32_t value = width == 1 ? lead : lead & (0xffU >> (width + 1));
    for (size_t i = 1; i < width; i++) {
        if (i == n)
            return 0;
        if ((p[i] & 0xc0) != 0x80)
            return -1;
        value = value * 64 + (p[i] & 0x3f);
    }
    if (value < least[width] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return -1;
    *ret_value = value;
    return (int)width;
}

/* Whether any bytes that could follow make a character of these. */
static bool may_be_completed(const uint8_t *p, size_t n)
{
    uint8_t text[4];
    uint32_t value;
    memcpy(text, p, n);
    for (unsigned a = 0x80; a <= 0xbf; a++) {
        text[n] = (uint8_t)a;
        memset(text + n + 1, 0x80, sizeof(text) - n - 1);
        if (decode(text, sizeof(text), &value) > 0)
            return true;
    }
    return false;
}

enum verdict { RIGHT, CUT_OFF, WRONG };

static enum verdict judge_text(const uint8_t *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        uint32_t value;
        const int width = decode(p + at, n - at, &value);
        if (width < 0)
            return WRONG;
        if (width == 0)
            return may_be_completed(p + at, n - at) ? CUT_OFF : WRONG;
        at += (size_t)width;
    }
    return RIGHT;
}

static bool control_is_right(unsigned opcode, const uint8_t *payload, size_t n)
{
    if (opcode != WS_CLOSE || n == 0)
        return true;
    const unsigned code = payload[0] * 256U + payload[1];
    const bool sent = code == 1000 || code == 1001 || code == 1002 || code == 1003 ||
                      (code > 1006 && code < 1015) || code / 1000 == 3 || code / 1000 == 4;
    return sent && judge_text(payload + 2, n - 2) == RIGHT;
}

static struct events decode_all(const uint8_t *data, size_t size, const struct ws_limits *limits)
{
    struct events events = {NULL, 0};
    uint8_t *message = malloc(size + 1), *payload = malloc(size + 1);
    size_t n = 0, at = 0, excess = 0;
    unsigned kind = 0; /* of the message */
    bool compressed = false;
    CHECK(message != NULL && payload != NULL);
    while (at < size) {
        const unsigned opcode = data[at] % 16;
        const bool fin = data[at] >= 128, control = opcode >= 8;
        const unsigned reserved = data[at] / 16 % 8;
        const bool deflate = limits->deflate && reserved == 4 && (opcode == 1 || opcode == 2);
        if ((reserved != 0 && !deflate) || (opcode > 2 && opcode < 8) || opcode > 10 ||
            (control && !fin) || (opcode == 0 && kind == 0) ||
            ((opcode == 1 || opcode == 2) && kind != 0)) {
            fail(&events, 1002);
            break;
        }
        if (++at == size)
            break;
        const unsigned length = data[at] % 128;
        if (data[at] < 128 || (control && length > 125) || (opcode == 8 && length == 1)) {
            fail(&events, 1002);
            break;
        }
        at++;
        const size_t more = length == 127 ? 8 : length == 126 ? 2 : 0;
        if (size - at < more)
            break;
        uint64_t value = more == 0 ? length : 0;
        for (size_t i = 0; i < more; i++)
            value = value * 256 + data[at++];
        if ((more == 2 && value <= 125) || (more == 8 && (value <= 65535 || value > INT64_MAX))) {
            fail(&events, 1002);
            break;
        }
        if (!control && (value > limits->frame || value + n > limits->message)) {
            fail(&events, 1009);
            break;
        }
        if (size - at < 4)
            break;
        const uint8_t *mask = data + at;
        at += 4;
        if (!control && !fin) {
            excess += 2 + more + 4;
            excess -= MIN(excess, value);
            if (excess > MAX(limits->message, 128U)) {
                fail(&events, 1009);
                break;
            }
        }
        const size_t there = MIN(value, size - at);
        for (size_t i = 0; i < there; i++)
            payload[i] = data[at + i] ^ mask[i % 4];
        at += there;
        if (control) {
            if (there < value)
                break;
            if (!control_is_right(opcode, payload, there)) {
                fail(&events, 1002);
                break;
            }
            if (opcode != WS_CLOSE)
                add(&events, WS_EVENT_CONTROL, opcode, 0, payload, there);
            else if (there == 0)
                add(&events, WS_EVENT_CONTROL, opcode, 1005, NULL, 0);
            else
                add(&events, WS_EVENT_CONTROL, opcode, payload[0] * 256U + payload[1], payload + 2,
                    there - 2);
            continue;
        }
        if (opcode != 0) {
            kind = opcode;
            compressed = deflate;
        }
        memcpy(message + n, payload, there);
        n += there;
        const enum verdict verdict = kind == WS_TEXT && !compressed ? judge_text(message, n)
                                                                    : RIGHT;
        const bool end = fin && there == value;
        if (verdict == WRONG || (verdict == CUT_OFF && end)) {
            fail(&events, 1007);
            break;
        }
        if (end) {
            add(&events, WS_EVENT_MESSAGE, kind, compressed, message, n);
            n = excess = 0;
            kind = 0;
        }
    }
    free(message);
    free(payload);
    return events;
}

/*
 * Nothing is taken up before all of it is there, but what need not wait is looked for meanwhile. A
 * Ping may be seen that comes after what is wrong; else there is no difference but in the order.
 */
static void check_ahead(const uint8_t *data, size_t size, const struct ws_limits *limits,
    size_t step, struct events whole)
{
    const unsigned wanted = 1U << WS_PING | 1U << WS_PONG | 1U << WS_CLOSE;
    struct events controls = {NULL, 0}, rest = {NULL, 0};
    struct ws ws = {0};
    char *bytes = malloc(size + 1), control[WS_CONTROL_MAX];
    size_t n = 0;
    CHECK(bytes != NULL);
    for (size_t fed = 0; fed < size;) {
        const size_t part = MIN(step, size - fed);
        size_t hole = 0;
        memcpy(bytes + n, data + fed, part);
        n += part;
        fed += part;
        for (;;) {
            struct ws_result result = ws_ahead(&ws, bytes, n, limits, wanted, &hole, control);
            if (result.event == WS_EVENT_CONTROL && result.opcode != WS_CLOSE) {
                add(&controls, result.event, result.opcode, 0, result.payload.p, result.payload.n);
                continue;
            }
            CHECK(hole == 0 && result.kept <= n);
            n = result.kept;
            break;
        }
    }
    char *p = bytes;
    for (;;) {
        const struct ws_result result = ws_feed(&ws, p, n, limits, control);
        if (result.event == WS_EVENT_MORE)
            break;
        if (result.event == WS_EVENT_ERROR) {
            fail(&rest, result.code);
            break;
        }
        struct events *events = result.opcode == WS_PING || result.opcode == WS_PONG ? &controls
                                                                                     : &rest;
        add(events, result.event, result.opcode, result.code + result.compressed, result.payload.p,
            result.payload.n);
        p += result.event == WS_EVENT_MESSAGE ? result.used : 0;
        n = result.event == WS_EVENT_MESSAGE ? n - result.used : result.kept;
    }
    size_t controls_at = 0, rest_at = 0;
    for (size_t at = 0; at < whole.n;) {
        uint32_t head[4];
        memcpy(head, whole.text + at, sizeof(head));
        const size_t length = sizeof(head) + head[3];
        const bool early = head[1] == WS_PING || head[1] == WS_PONG;
        const struct events *of = early ? &controls : &rest;
        size_t *seen = early ? &controls_at : &rest_at;
        CHECK(of->n - *seen >= length && memcmp(of->text + *seen, whole.text + at, length) == 0);
        *seen += length;
        at += length;
    }
    CHECK(rest_at == rest.n);
    free(controls.text);
    free(rest.text);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ws_limits limits[] = {
        {.message = 100000, .frame = 100000},
        {.message = 12, .frame = 8},
        {.message = 1000, .frame = 1000, .deflate = true},
    };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct events whole = feed_parts(data, size, &limits[i], size, 1, false);
        check_same(decode_all(data, size, &limits[i]), whole);
        check_same(feed_parts(data, size, &limits[i], 0, 1, false), whole);
        check_same(feed_parts(data, size, &limits[i], 0, 3, true), whole);
        check_ahead(data, size, &limits[i], 1, whole);
        check_ahead(data, size, &limits[i], 7, whole);
        check_ahead(data, size, &limits[i], size, whole);
        for (size_t first = 0; first < size; first += size / SPLITS_MAX + 1)
            check_same(feed_parts(data, size, &limits[i], first, size, first % 2), whole);
        free(whole.text);
    }
    return 0;
}
