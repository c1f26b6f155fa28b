#include "frontd/codec/h2_fault.h"

#define CONNECTION(code, section, text)                                                            \
    {                                                                                              \
        code, true, section, text                                                                  \
    }
#define STREAM(code, section, text)                                                                \
    {                                                                                              \
        code, false, section, text                                                                 \
    }

/* Where the RFC leaves the choice, the connection ends: such a client is broken or hostile. */
static const struct h2_fault_row rows[H2_FAULTS] = {
    [H2_FAULT_PREFACE] = CONNECTION(H2_PROTOCOL_ERROR, "3.4", "the preface is wrong"),
    [H2_FAULT_FIRST_FRAME] = CONNECTION(
        H2_PROTOCOL_ERROR, "3.4", "the first frame is not SETTINGS"),
    [H2_FAULT_TOO_LONG] = CONNECTION(
        H2_FRAME_SIZE_ERROR, "4.2", "a frame is over SETTINGS_MAX_FRAME_SIZE"),
    [H2_FAULT_SIZE] = CONNECTION(H2_FRAME_SIZE_ERROR, "4.2", "a frame has the wrong size"),
    [H2_FAULT_PRIORITY_SIZE] = STREAM(H2_FRAME_SIZE_ERROR, "6.3", "PRIORITY has the wrong size"),
    [H2_FAULT_STREAM_ZERO] = CONNECTION(
        H2_PROTOCOL_ERROR, "6", "a frame of a stream is on stream 0"),
    [H2_FAULT_STREAM_GIVEN] = CONNECTION(
        H2_PROTOCOL_ERROR, "6", "a frame of the connection is on a stream"),
    [H2_FAULT_PADDING] = CONNECTION(H2_PROTOCOL_ERROR, "6.1", "padding is as long as its frame"),
    [H2_FAULT_PUSH_PROMISE] = CONNECTION(
        H2_PROTOCOL_ERROR, "8.4", "a client has sent PUSH_PROMISE"),
    [H2_FAULT_CONTINUATION_MISSING] = CONNECTION(
        H2_PROTOCOL_ERROR, "6.2", "a header block is interrupted"),
    [H2_FAULT_CONTINUATION_ALONE] = CONNECTION(
        H2_PROTOCOL_ERROR, "6.10", "CONTINUATION continues nothing"),

    [H2_FAULT_ENABLE_PUSH] = CONNECTION(
        H2_PROTOCOL_ERROR, "6.5.2", "SETTINGS_ENABLE_PUSH is neither 0 nor 1"),
    [H2_FAULT_INITIAL_WINDOW] = CONNECTION(
        H2_FLOW_CONTROL_ERROR, "6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE is over 2^31-1"),
    [H2_FAULT_MAX_FRAME] = CONNECTION(
        H2_PROTOCOL_ERROR, "6.5.2", "SETTINGS_MAX_FRAME_SIZE is out of range"),

    [H2_FAULT_INCREMENT_ZERO] = CONNECTION(
        H2_PROTOCOL_ERROR, "6.9", "the connection's window grows by 0"),
    [H2_FAULT_STREAM_INCREMENT_ZERO] = STREAM(
        H2_PROTOCOL_ERROR, "6.9", "a stream's window grows by 0"),
    [H2_FAULT_OVERFLOW] = CONNECTION(H2_FLOW_CONTROL_ERROR, "6.9.1", "a window grows over 2^31-1"),
    [H2_FAULT_STREAM_OVERFLOW] = STREAM(
        H2_FLOW_CONTROL_ERROR, "6.9.1", "a stream's window grows over 2^31-1"),
    [H2_FAULT_WINDOW] = CONNECTION(
        H2_FLOW_CONTROL_ERROR, "6.9", "DATA is over the connection's window"),
    [H2_FAULT_STREAM_WINDOW] = STREAM(
        H2_FLOW_CONTROL_ERROR, "6.9", "DATA is over its stream's window"),

    [H2_FAULT_STREAM_ID] = CONNECTION(
        H2_PROTOCOL_ERROR, "5.1.1", "a client's stream has an even number"),
    [H2_FAULT_IDLE] = CONNECTION(
        H2_PROTOCOL_ERROR, "5.1", "a frame is for a stream that was never opened"),
    [H2_FAULT_SKIPPED] = CONNECTION(
        H2_PROTOCOL_ERROR, "5.1.1", "a frame is for a stream below one that was opened before"),
    [H2_FAULT_HALF_CLOSED] = STREAM(
        H2_STREAM_CLOSED, "5.1", "a frame follows the end of its stream"),
    [H2_FAULT_CLOSED] = CONNECTION(
        H2_STREAM_CLOSED, "5.1", "a frame is for a stream that both sides have closed"),
    [H2_FAULT_TRAILERS_OPEN] = STREAM(H2_PROTOCOL_ERROR, "8.1", "trailers do not end their stream"),
    [H2_FAULT_TUNNEL] = STREAM(
        H2_PROTOCOL_ERROR, "8.5", "a stream of CONNECT has HEADERS once more"),
    [H2_FAULT_REFUSED] = STREAM(H2_REFUSED_STREAM, "5.1.2", "too many streams are open"),

    [H2_FAULT_COMPRESSION] = CONNECTION(
        H2_COMPRESSION_ERROR, "4.3", "a header block cannot be decoded"),
    [H2_FAULT_NAME] = STREAM(H2_PROTOCOL_ERROR, "8.2.1", "a field's name is wrong"),
    [H2_FAULT_VALUE] = STREAM(H2_PROTOCOL_ERROR, "8.2.1", "a field's value is wrong"),
    [H2_FAULT_PSEUDO_ORDER] = STREAM(
        H2_PROTOCOL_ERROR, "8.3", "a pseudo-header field is behind others, or in trailers"),
    [H2_FAULT_PSEUDO_TWICE] = STREAM(
        H2_PROTOCOL_ERROR, "8.3", "a pseudo-header field is there twice"),
    [H2_FAULT_PSEUDO_MISSING] = STREAM(
        H2_PROTOCOL_ERROR, "8.3.1", "a pseudo-header field is missing"),
    [H2_FAULT_PSEUDO_UNKNOWN] = STREAM(
        H2_PROTOCOL_ERROR, "8.3", "a pseudo-header field is not one of a request"),
    [H2_FAULT_METHOD] = STREAM(H2_PROTOCOL_ERROR, "8.3.1", ":method is no token"),
    [H2_FAULT_SCHEME] = STREAM(H2_PROTOCOL_ERROR, "8.3.1", ":scheme is neither http nor https"),
    [H2_FAULT_PATH] = STREAM(H2_PROTOCOL_ERROR, "8.3.1", ":path is wrong"),
    [H2_FAULT_AUTHORITY] = STREAM(
        H2_PROTOCOL_ERROR, "8.3.1", ":authority or Host is wrong, or they differ"),
    [H2_FAULT_PROTOCOL] = STREAM(H2_PROTOCOL_ERROR, "RFC 8441, 4", ":protocol is no token"),
    [H2_FAULT_CONNECTION_FIELD] = STREAM(
        H2_PROTOCOL_ERROR, "8.2.2", "a field is specific to connections of HTTP/1"),
    [H2_FAULT_TE] = STREAM(H2_PROTOCOL_ERROR, "8.2.2", "TE says more than trailers"),
    [H2_FAULT_CONTENT_LENGTH] = STREAM(H2_PROTOCOL_ERROR, "8.1.1", "Content-Length is wrong"),
    [H2_FAULT_BODY_LENGTH] = STREAM(
        H2_PROTOCOL_ERROR, "8.1.1", "Content-Length is not that of the body"),

    [H2_FAULT_CONTINUATIONS] = CONNECTION(
        H2_ENHANCE_YOUR_CALM, "10.5.1", "a header block has too many frames"),
    [H2_FAULT_BLOCK] = CONNECTION(
        H2_ENHANCE_YOUR_CALM, "10.5.1", "a header block is over limits.header"),
    [H2_FAULT_EMPTY] = CONNECTION(
        H2_ENHANCE_YOUR_CALM, "10.5", "too many empty frames follow each other"),
    [H2_FAULT_RESETS] = CONNECTION(H2_ENHANCE_YOUR_CALM, "10.5", "too many streams are reset"),
    [H2_FAULT_QUEUED] = CONNECTION(
        H2_ENHANCE_YOUR_CALM, "10.5", "frames are sent whose answers are not read"),
    [H2_FAULT_GLITCHES] = CONNECTION(
        H2_ENHANCE_YOUR_CALM, "10.5", "too much is sent that has no use"),

    [H2_FAULT_SLOW_READER] = STREAM(H2_CANCEL, "5.2", "an answer is not read"),
    [H2_FAULT_SLOW_SENDER] = CONNECTION(
        H2_ENHANCE_YOUR_CALM, "10.5", "a frame or header block does not come on"),
    [H2_FAULT_MEMORY] = CONNECTION(H2_INTERNAL_ERROR, "7", "there is no memory"),
};

const struct h2_fault_row *h2_fault(enum h2_fault fault)
{
    CHECK(fault > H2_MORE && fault < H2_FAULTS && rows[fault].text != NULL);
    return &rows[fault];
}
