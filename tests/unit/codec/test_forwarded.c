#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/forwarded.h"

static struct http_head head;

static void add(const char *name, const char *value)
{
    head.fields[head.nfields++] = (struct http_field){
        .name = {name, strlen(name)}, .value = {value, strlen(value)}};
}

typedef bool find_fn(const struct http_head *, const struct peer_network *, size_t, struct peer *);

/* The client as text, or "none". Trusted are 10.0.0.0/8, 127.0.0.1 and fd00::/8. */
static const char *client_of(find_fn *find)
{
    static char text[PEER_TEXT_SIZE];
    struct peer_network trusted[3];
    struct peer peer = {.family = AF_UNIX};
    peer_network_parse("10.0.0.0/8", &trusted[0]);
    peer_network_parse("127.0.0.1", &trusted[1]);
    peer_network_parse("fd00::/8", &trusted[2]);
    bool found = find(&head, trusted, ARRAY_LEN(trusted), &peer);
    if (!found)
        cr_expect_eq(peer.family, AF_UNIX, "untouched");
    peer_text(&peer, text);
    return found ? text : "none";
}

struct row {
    const char *fields[3];
    const char *client;
};

static void check(const struct row *rows, size_t nrows, const char *name, find_fn *find)
{
    for (size_t i = 0; i < nrows; i++) {
        head.nfields = 0;
        add("X-Other", "1.1.1.1");
        for (size_t k = 0; k < ARRAY_LEN(rows[i].fields) && rows[i].fields[k] != NULL; k++) {
            add(name, rows[i].fields[k]);
            add("Accept", "for=2.2.2.2");
        }
        const char *client = client_of(find);
        cr_expect_str_eq(client, rows[i].client, "%s: %s", rows[i].fields[0], client);
    }
}

Test(forwarded, x_forwarded_for)
{
    static const struct row rows[] = {
        {{NULL}, "none"},
        {{""}, "none"},
        {{" , ,"}, "none"},
        {{"192.0.2.7"}, "192.0.2.7:0"},
        {{"192.0.2.7:4711"}, "192.0.2.7:4711"},
        {{"192.0.2.7:65535"}, "192.0.2.7:65535"},
        {{"192.0.2.7:65536"}, "none"},
        {{"192.0.2.7:123456"}, "none"},
        {{"192.0.2.7:"}, "none"},
        {{"192.0.2.7:x"}, "none"},
        {{"2001:db8::7"}, "[2001:db8::7]:0"},
        {{"[2001:db8::7]"}, "[2001:db8::7]:0"},
        {{"[2001:db8::7]:4711"}, "[2001:db8::7]:4711"},
        {{"[2001:db8::7]4711"}, "none"},
        {{"[2001:db8::7"}, "none"},
        {{"[192.0.2.7]"}, "none"},
        {{"[192.0.2.7]:80"}, "none"},
        {{"::ffff:192.0.2.7"}, "192.0.2.7:0"},
        {{"unknown"}, "none"},
        {{"client.example"}, "none"},
        {{"unix:"}, "none"},
        {{"\"192.0.2.7\""}, "none"},
        {{"\""}, "none"},
        {{"\"192.0.2.77"}, "none"},
        {{"192.0.2.7 192.0.2.8"}, "none"},
        /* from the end, past trusted ones */
        {{"192.0.2.7, 192.0.2.8"}, "192.0.2.8:0"},
        {{"192.0.2.7, 10.0.0.1"}, "192.0.2.7:0"},
        {{"192.0.2.7,10.0.0.1 ,\t127.0.0.1"}, "192.0.2.7:0"},
        {{"192.0.2.7, 10.0.0.1, , "}, "192.0.2.7:0"},
        {{"6.6.6.6, 192.0.2.7, 10.0.0.1"}, "192.0.2.7:0"},
        {{"192.0.2.7, fd00::1, [fd01::2]:80"}, "192.0.2.7:0"},
        {{"192.0.2.7, ::ffff:10.0.0.1"}, "192.0.2.7:0"},
        {{"10.0.0.3, 10.0.0.2, 10.0.0.1"}, "10.0.0.3:0"},
        /* what is no address ends the search */
        {{"192.0.2.7, unknown"}, "none"},
        {{"192.0.2.7, unknown, 10.0.0.1"}, "10.0.0.1:0"},
        {{"x, 192.0.2.7, 10.0.0.1"}, "192.0.2.7:0"},
        /* fields of one name are one list */
        {{"192.0.2.7", "10.0.0.1"}, "192.0.2.7:0"},
        {{"192.0.2.7", "10.0.0.1", "127.0.0.1"}, "192.0.2.7:0"},
        {{"6.6.6.6", "192.0.2.7"}, "192.0.2.7:0"},
        {{"192.0.2.7", ""}, "192.0.2.7:0"},
        {{"192.0.2.7, unknown", "10.0.0.1"}, "10.0.0.1:0"},
    };
    check(rows, ARRAY_LEN(rows), "X-Forwarded-For", forwarded_x_find);
    check(rows, ARRAY_LEN(rows), "x-forwarded-for", forwarded_x_find);
    check(rows, 1, "X-Forwarded-For", forwarded_find);
}

Test(forwarded, rfc_7239)
{
    static const struct row rows[] = {
        {{NULL}, "none"},
        {{""}, "none"},
        {{"for=192.0.2.7"}, "192.0.2.7:0"},
        {{"FOR=192.0.2.7"}, "192.0.2.7:0"},
        {{"for=\"192.0.2.7\""}, "192.0.2.7:0"},
        {{"for=\"192.0.2.7:4711\""}, "192.0.2.7:4711"},
        {{"for=192.0.2.7:4711"}, "192.0.2.7:4711"},
        {{"for=\"[2001:db8::7]\""}, "[2001:db8::7]:0"},
        {{"for=\"[2001:db8::7]:4711\""}, "[2001:db8::7]:4711"},
        {{"for=[2001:db8::7]:4711"}, "[2001:db8::7]:4711"},
        {{"for=\"1\\92.0.2.\\7\""}, "192.0.2.7:0"},
        {{"for=192.0.2.7;proto=http;by=203.0.113.43"}, "192.0.2.7:0"},
        {{"by=203.0.113.43;proto=https;for=192.0.2.7"}, "192.0.2.7:0"},
        {{"by=203.0.113.43 ; for=192.0.2.7 ; host=\"a,b;for=1.1.1.1\""}, "192.0.2.7:0"},
        {{";for=192.0.2.7;;"}, "192.0.2.7:0"},
        {{"ext=x;for=192.0.2.7"}, "192.0.2.7:0"},
        /* obfuscated: sections 6.2, 6.3 */
        {{"for=unknown"}, "none"},
        {{"for=_hidden"}, "none"},
        {{"for=\"_SEVKISEK:80\""}, "none"},
        {{"for=\"192.0.2.7:_x1\""}, "192.0.2.7:0"},
        {{"for=\"[2001:db8::7]:_x1\""}, "[2001:db8::7]:0"},
        {{"proto=https"}, "none"},
        {{"for=192.0.2.7;for=192.0.2.8"}, "none"},
        {{"for=\"\""}, "none"},
        /* from the end, past trusted ones */
        {{"for=192.0.2.7, for=192.0.2.8"}, "192.0.2.8:0"},
        {{"for=192.0.2.7, for=10.0.0.1"}, "192.0.2.7:0"},
        {{"for=192.0.2.7,for=\"[fd00::1]\";proto=http,for=10.0.0.1"}, "192.0.2.7:0"},
        {{"for=6.6.6.6, for=192.0.2.7, for=10.0.0.1"}, "192.0.2.7:0"},
        {{"for=10.0.0.2, for=10.0.0.1"}, "10.0.0.2:0"},
        {{"for=192.0.2.7, , for=10.0.0.1,"}, "192.0.2.7:0"},
        {{"for=192.0.2.7, for=unknown, for=10.0.0.1"}, "10.0.0.1:0"},
        {{"for=192.0.2.7, proto=https, for=10.0.0.1"}, "10.0.0.1:0"},
        {{"for=192.0.2.7", "for=10.0.0.1"}, "192.0.2.7:0"},
        {{"for=6.6.6.6", "for=192.0.2.7, for=127.0.0.1"}, "192.0.2.7:0"},
        /* wrong: what follows in the field is not looked at */
        {{"192.0.2.7"}, "none"},
        {{"for"}, "none"},
        {{"for="}, "none"},
        {{"for =192.0.2.7"}, "none"},
        {{"for=192.0.2.7 x"}, "none"},
        {{"=192.0.2.7"}, "none"},
        {{"for=\"192.0.2.7"}, "none"},
        {{"for=\"192.0.2.7\\\""}, "none"},
        {{"for=\"192.0.2.7\"x"}, "none"},
        {{"for=192.0.2.7, x, for=10.0.0.1"}, "none"},
        {{"for=192.0.2.7, x", "for=10.0.0.1"}, "10.0.0.1:0"},
        /* a client leaves quotes open, in which it wants to hide what the proxy adds */
        {{"for=6.6.6.6;x=\", for=192.0.2.7"}, "none"},
        {{"for=6.6.6.6;x=\", for=\"[2001:db8::7]:80\""}, "none"},
        {{"for=6.6.6.6;x=\", for=192.0.2.7;by=\"_x\""}, "none"},
        {{"for=6.6.6.6;x=\"\\, for=\"192.0.2.7\""}, "none"},
        {{"for=6.6.6.6;x=\"", "for=192.0.2.7"}, "192.0.2.7:0"},
    };
    check(rows, ARRAY_LEN(rows), "Forwarded", forwarded_find);
    check(rows, ARRAY_LEN(rows), "forwarded", forwarded_find);
    check(rows, 1, "Forwarded", forwarded_x_find);
}

/* "client" and so many trusted proxies behind it. */
static const char *client_behind(
    unsigned proxies, const char *client, const char *proxy, const char *name, find_fn *find)
{
    char value[2048];
    size_t n = (size_t)snprintf(value, sizeof(value), "%s", client);
    for (unsigned i = 0; i < proxies; i++)
        n += (size_t)snprintf(value + n, sizeof(value) - n, "%s.%u", proxy, i + 1);
    head.nfields = 0;
    add(name, value);
    return client_of(find);
}

Test(forwarded, proxies_in_a_row)
{
    const unsigned most = FORWARDED_HOPS_MAX - 1;
    const char *x = "X-Forwarded-For", *rfc = "Forwarded";
    cr_expect_str_eq(
        client_behind(most, "192.0.2.7", ",10.0.0", x, forwarded_x_find), "192.0.2.7:0");
    cr_expect_str_eq(
        client_behind(most + 1, "192.0.2.7", ",10.0.0", x, forwarded_x_find), "10.0.0.1:0");
    cr_expect_str_eq(
        client_behind(most, "for=192.0.2.7", ",for=10.0.0", rfc, forwarded_find), "192.0.2.7:0");
    cr_expect_str_eq(
        client_behind(most + 1, "for=192.0.2.7", ",for=10.0.0", rfc, forwarded_find), "10.0.0.1:0");
}

Test(forwarded, a_text_longer_than_an_address)
{
    char value[128] = "for=\"";
    memset(value + 5, '1', 64);
    strcpy(value + 69, "\"");
    head.nfields = 0;
    add("Forwarded", value);
    cr_expect_str_eq(client_of(forwarded_find), "none");
    strcpy(value + 69, "1\"");
    cr_expect_str_eq(client_of(forwarded_find), "none");
}
