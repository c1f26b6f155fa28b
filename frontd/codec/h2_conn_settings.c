/*
 * SETTINGS of both sides (RFC 9113 section 6.5). Ours are told when the connection begins, and once
 * more, as far as they differ, where it has come to another process that has other limits. Until
 * the client has read those, the larger ones are what it is held to.
 */

#include "frontd/codec/h2_conn_internal.h"

/* Section 6.9.2: the windows of all streams change by as much. */
static enum h2_fault set_peer_window(struct h2_conn *conn, uint32_t window)
{
    int64_t by = (int64_t)window - conn->peer_window;
    conn->peer_window = window;
    list_for_each (node, &conn->streams) {
        if (!h2_widen(&container_of(node, struct h2_stream, node)->send_window, by))
            return H2_FAULT_OVERFLOW;
    }
    return H2_OK;
}

/* Sections 6.5.2. Of several values of a window the last counts: each would change all streams. */
static enum h2_fault read_settings(struct h2_conn *conn, struct span payload)
{
    uint32_t window = conn->peer_window;
    for (size_t i = 0; i < payload.n / H2_SETTING_SIZE; i++) {
        uint16_t setting;
        uint32_t value;
        h2_setting_read(payload, i, &setting, &value);
        switch (setting) {
        case H2_SETTING_ENABLE_PUSH:
            if (value > 1)
                return H2_FAULT_ENABLE_PUSH;
            break;
        case H2_SETTING_INITIAL_WINDOW_SIZE:
            if (value > H2_WINDOW_MAX)
                return H2_FAULT_INITIAL_WINDOW;
            window = value;
            break;
        case H2_SETTING_MAX_FRAME_SIZE:
            if (value < H2_FRAME_MAX || value > H2_FRAME_LIMIT)
                return H2_FAULT_MAX_FRAME;
            break;      /* no larger ones than the least that all have to take are sent */
        default: break; /* the encoder has no table; other limits are of what is never sent */
        }
    }
    return window == conn->peer_window ? H2_OK : set_peer_window(conn, window);
}

/* Our settings count for the client from now on: the oldest of those that it has not read. */
static enum h2_fault feed_settings_ack(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    if (conn->unread == 0)
        return h2_count_glitch(conn, feed->now);
    if (--conn->unread == 0)
        conn->before_header = conn->before_streams = 0;
    return H2_OK;
}

enum h2_fault h2_feed_settings(struct feed *feed)
{
    struct h2_conn *conn = feed->conn;
    struct h2_event *event = feed->event;
    if (feed->frame.flags & H2_FLAG_ACK)
        return feed_settings_ack(feed);
    enum h2_fault fault = conn->settings ? h2_count_glitch(conn, feed->now) : H2_OK;
    conn->settings = true;
    if (fault == H2_OK)
        fault = h2_count_queued(conn);
    if (fault == H2_OK)
        fault = read_settings(conn, feed->frame.payload);
    if (fault != H2_OK)
        return fault;
    event->kind = H2_EVENT_WINDOW;
    event->answer_n = (uint8_t)h2_write_settings_ack(event->answer);
    return H2_OK;
}

size_t h2_conn_init(struct h2_conn *conn, const struct h2_config *config, uint64_t now,
    uint8_t out[static H2_START_MAX])
{
    const struct h2_setting_value settings[] = {
        {H2_SETTING_MAX_CONCURRENT_STREAMS, config->streams},
        {H2_SETTING_MAX_HEADER_LIST_SIZE, config->header},
        {H2_SETTING_ENABLE_CONNECT_PROTOCOL, 1}, /* last, since it may be left out */
    };
    *conn = (struct h2_conn){
        .resets_until = (uint32_t)now,
        .glitches_until = (uint32_t)now,
        .crossing_until = (uint32_t)now,
        .goaway_last = H2_STREAM_MAX,
        .send_window = H2_WINDOW_DEFAULT,
        .recv_window = H2_CONN_WINDOW,
        .peer_window = H2_WINDOW_DEFAULT,
        .spare = H2_SPARE_FIRST,
        .unread = 1,
        .tells_table = true,
        .connects = config->connects,
    };
    list_init(&conn->streams);
    size_t n = h2_write_settings(out, settings, ARRAY_LEN(settings) - !config->connects);
    return n + h2_write_window(out + n, 0, H2_CONN_WINDOW - H2_WINDOW_DEFAULT);
}

size_t h2_conn_tell(
    struct h2_conn *conn, const struct h2_config *config, uint8_t out[static H2_TELL_MAX])
{
    struct h2_setting_value settings[3];
    size_t n = 0;
    if (conn->tells_streams)
        settings[n++] = (struct h2_setting_value){
            H2_SETTING_MAX_CONCURRENT_STREAMS, config->streams};
    if (conn->tells_header)
        settings[n++] = (struct h2_setting_value){H2_SETTING_MAX_HEADER_LIST_SIZE, config->header};
    if (conn->tells_connect)
        settings[n++] = (struct h2_setting_value){H2_SETTING_ENABLE_CONNECT_PROTOCOL, 1};
    conn->connects |= conn->tells_connect;
    conn->tells_streams = conn->tells_header = conn->tells_connect = false;
    if (n == 0 || conn->unread == UINT8_MAX)
        return 0;
    conn->unread++;
    return h2_write_settings(out, settings, n);
}
