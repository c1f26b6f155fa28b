#include "frontd/codec/content_coding.h"

#include "frontd/codec/http1_scan.h"

static enum content_coding coding_of(struct span name)
{
    if (same_name(name, SPAN("gzip")) || same_name(name, SPAN("x-gzip")))
        return CODING_GZIP;
    if (same_name(name, SPAN("br")))
        return CODING_BR;
    return same_name(name, SPAN("identity")) ? CODING_IDENTITY : CODING_OTHER;
}

enum content_coding coding_of_body(const struct http_head *head)
{
    enum content_coding found = CODING_IDENTITY;
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, element;
        if (head->fields[i].known != HTTP_F_CONTENT_ENCODING)
            continue;
        while (next_element(&list, &element)) {
            enum content_coding coding = coding_of(element);
            if (coding != CODING_IDENTITY)
                found = found == CODING_IDENTITY ? coding : CODING_OTHER;
        }
    }
    return found;
}

enum { UNSAID = -1, WEIGHT_MAX = 1000 /* q=1 */ };

/* RFC 9110 section 12.4.2: "0", "0.5", "1.000", of 0 to 3 digits; -1: something else. */
static int read_weight(struct span text)
{
    int unit = WEIGHT_MAX;
    if (text.n == 0 || text.n > 5 || (text.p[0] != '0' && text.p[0] != '1'))
        return -1;
    int weight = (text.p[0] - '0') * WEIGHT_MAX;
    if (text.n > 1 && text.p[1] != '.')
        return -1;
    for (size_t i = 2; i < text.n; i++) {
        if (!http1_is(text.p[i], HTTP1_DIGIT))
            return -1;
        unit /= 10;
        weight += (text.p[i] - '0') * unit;
    }
    return weight <= WEIGHT_MAX ? weight : -1;
}

/* Reads `gzip`, or `gzip;q=0.5`. Returns whether it can be read. */
static bool read_element(struct span element, struct span *ret_name, int *ret_weight)
{
    const char *end = element.p + element.n;
    const char *p = skip_class(element.p, end, HTTP1_TOKEN);
    *ret_name = span_of(element.p, p);
    *ret_weight = WEIGHT_MAX;
    p = skip_ows(p, end);
    if (p == end)
        return ret_name->n > 0;
    if (*p != ';' || ret_name->n == 0)
        return false;
    p = skip_ows(p + 1, end);
    if (end - p < 2 || lower(p[0]) != 'q' || p[1] != '=')
        return false;
    *ret_weight = read_weight(span_of(p + 2, end));
    return *ret_weight >= 0;
}

static void take_weight(int *kept, int weight)
{
    *kept = *kept == UNSAID ? weight : MIN(*kept, weight);
}

enum content_coding coding_accepted(
    const struct http_head *head, const uint8_t *offered, size_t noffered)
{
    int weights[] = {UNSAID, UNSAID, UNSAID, UNSAID}; /* by enum content_coding */
    int others = UNSAID;                              /* of `*` */
    for (size_t i = 0; i < head->nfields; i++) {
        struct span list = head->fields[i].value, element, name;
        int weight;
        if (!same_name(head->fields[i].name, SPAN("accept-encoding")))
            continue;
        while (next_element(&list, &element)) {
            if (!read_element(element, &name, &weight))
                continue;
            bool any = name.n == 1 && name.p[0] == '*';
            take_weight(any ? &others : &weights[coding_of(name)], weight);
        }
    }
    enum content_coding best = CODING_IDENTITY;
    int best_weight = MAX(weights[CODING_IDENTITY] - 1, 0);
    for (size_t i = 0; i < noffered; i++) {
        int weight = weights[offered[i]] == UNSAID ? others : weights[offered[i]];
        if (weight > best_weight) {
            best = (enum content_coding)offered[i];
            best_weight = weight;
        }
    }
    return best;
}
