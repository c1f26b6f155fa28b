#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/un.h>

#include "common/peer.h"

static struct peer parsed(const char *text)
{
    struct peer peer = {0};
    cr_assert(peer_parse((struct span){text, strlen(text)}, &peer), "%s", text);
    return peer;
}

static bool is_in(const char *text, const char *network_text)
{
    struct peer_network network;
    struct peer peer = {.family = AF_UNIX};
    if (strcmp(text, "unix:") != 0)
        peer = parsed(text);
    cr_assert_null(peer_network_parse(network_text, &network), "%s", network_text);
    return peer_is_in(&peer, &network, 1);
}

Test(peer, addresses)
{
    static const struct {
        const char *text;
        const char *peer; /* NULL: it is no address */
    } rows[] = {
        {"192.0.2.7", "192.0.2.7:0"},
        {"0.0.0.0", "0.0.0.0:0"},
        {"255.255.255.255", "255.255.255.255:0"},
        {"2001:DB8::1", "[2001:db8::1]:0"},
        {"::", "[::]:0"},
        {"::ffff:192.0.2.7", "192.0.2.7:0"},
        {"::ffff:c000:207", "192.0.2.7:0"},
        {"::192.0.2.7", "[::192.0.2.7]:0"},
        {"1111:2222:3333:4444:5555:6666:255.255.255.255",
            "[1111:2222:3333:4444:5555:6666:ffff:ffff]:0"},
        {"", NULL},
        {"192.0.2", NULL},
        {"192.0.2.256", NULL},
        {"192.0.2.07", NULL},
        {"192.0.2.7 ", NULL},
        {" 192.0.2.7", NULL},
        {"192.0.2.7:80", NULL},
        {"[::1]", NULL},
        {":::", NULL},
        {"fe80::1%eth0", NULL},
        {"1:2:3:4:5:6:7:8:9", NULL},
        {"localhost", NULL},
        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* of exactly that size, so that a sanitizer sees what is read behind it */
        size_t n = strlen(rows[i].text);
        char *text = malloc(n + (n == 0));
        struct peer peer = {.port = 77};
        char out[PEER_TEXT_SIZE];
        cr_assert_not_null(text);
        memcpy(text, rows[i].text, n);
        bool ok = peer_parse((struct span){text, n}, &peer);
        cr_expect_eq(ok, rows[i].peer != NULL, "%s", rows[i].text);
        if (ok) {
            peer_text(&peer, out);
            cr_expect_str_eq(out, rows[i].peer);
        } else {
            cr_expect_eq(peer.port, 77, "untouched");
        }
        free(text);
    }
    struct peer peer;
    cr_expect_not(peer_parse((struct span){"::1\0", 4}, &peer), "a NUL ends nothing");
}

static void expect_text(const void *address, const char *text)
{
    char out[PEER_TEXT_SIZE];
    struct peer peer = peer_of_address(address);
    peer_text(&peer, out);
    cr_expect_str_eq(out, text);
}

Test(peer, of_a_socket)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(51412)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/x"};
    inet_pton(AF_INET, "192.0.2.7", &in.sin_addr);
    inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr);
    expect_text(&in, "192.0.2.7:51412");
    expect_text(&in6, "[2001:db8::1]:80");
    expect_text(&un, "unix:");
    inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr);
    expect_text(&in6, "192.0.2.7:80");
}

Test(peer, as_a_socket_address)
{
    struct sockaddr_storage out;
    struct peer peer = parsed("192.0.2.7");
    peer_sockaddr(&peer, &out);
    cr_expect_eq(out.ss_family, AF_INET);
    cr_expect_eq(((struct sockaddr_in *)&out)->sin_addr.s_addr, inet_addr("192.0.2.7"));
    peer = parsed("2001:db8::1");
    peer_sockaddr(&peer, &out);
    cr_expect_eq(out.ss_family, AF_INET6);
    cr_expect_arr_eq(&((struct sockaddr_in6 *)&out)->sin6_addr, peer.bytes, 16);
    peer = (struct peer){.family = AF_UNIX};
    peer_sockaddr(&peer, &out);
    cr_expect_eq(out.ss_family, AF_UNIX);
}

Test(peer, networks)
{
    cr_expect(is_in("192.0.2.7", "192.0.2.7"));
    cr_expect(is_in("192.0.2.7", "192.0.2.7/32"));
    cr_expect_not(is_in("192.0.2.6", "192.0.2.7"));
    cr_expect(is_in("10.255.255.255", "10.0.0.0/8"));
    cr_expect_not(is_in("11.0.0.0", "10.0.0.0/8"));
    cr_expect(is_in("172.31.255.255", "172.16.0.0/12"));
    cr_expect_not(is_in("172.32.0.0", "172.16.0.0/12"));
    cr_expect_not(is_in("172.15.255.255", "172.16.0.0/12"));
    cr_expect(is_in("192.0.2.7", "192.0.2.6/31"));
    cr_expect_not(is_in("192.0.2.8", "192.0.2.6/31"));
    cr_expect(is_in("255.0.0.1", "0.0.0.0/0"));
    cr_expect(is_in("2001:db8:ffff::1", "2001:db8::/32"));
    cr_expect_not(is_in("2001:db9::1", "2001:db8::/32"));
    cr_expect(is_in("2001:db8::3", "2001:db8::2/127"));
    cr_expect_not(is_in("2001:db8::4", "2001:db8::2/127"));
    cr_expect(is_in("2001:db8::4", "::/0"));
    cr_expect(is_in("::1", "::1/128"));
    cr_expect(is_in("unix:", "unix"));
    cr_expect_not(is_in("unix:", "0.0.0.0/0"));
    cr_expect_not(is_in("unix:", "::/0"));
    cr_expect_not(is_in("0.0.0.0", "unix"));
    cr_expect_not(is_in("0.0.0.0", "::/0"), "no IPv4 address is an IPv6 one");
    cr_expect_not(is_in("::", "0.0.0.0/0"));
    cr_expect(is_in("::ffff:10.0.0.1", "10.0.0.0/8"), "it stands for an IPv4 address");
}

Test(peer, one_of_several_networks)
{
    struct peer_network networks[2];
    struct peer peer = parsed("192.0.2.7");
    peer_network_parse("10.0.0.0/8", &networks[0]);
    peer_network_parse("192.0.2.0/24", &networks[1]);
    cr_expect(peer_is_in(&peer, networks, 2));
    cr_expect_not(peer_is_in(&peer, networks, 1));
    cr_expect_not(peer_is_in(&peer, NULL, 0));
}

Test(peer, wrong_networks)
{
    static const char *const texts[] = {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08",
        "10.0.0.0/-1", "10.0.0.0/8 ", "10.0.0.0/1000", "10.0.0.0/8/8", "10.0.0.1/8", "10.0.0.1/31",
        "192.0.2", "::/129", "::1/127", "2001:db8::/31x", "2001:db8:1::/32", "unix:", "unix:/run/x",
        "UNIX", "localhost", "any", "*", "[::1]", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct peer_network network = {.bits = 77};
        cr_expect_not_null(peer_network_parse(texts[i], &network), "%s", texts[i]);
        cr_expect_eq(network.bits, 77, "untouched");
    }
}
