#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/supervisor/identity.h"
#include "frontd/supervisor/reexec_state.h"

static char token[IDENTITY_TOKEN_SIZE];
static char line[IDENTITY_LINE_MAX + 1];

static void set_up(void)
{
    identity_make_token(token);
    identity_write(token, line);
}

TestSuite(identity, .init = set_up, .timeout = 20);

static enum identity read_line(const char *text)
{
    return identity_read((struct span){text, strlen(text)}, token, getpid(), STATE_VERSION);
}

Test(identity, tokens_differ)
{
    char other[IDENTITY_TOKEN_SIZE];
    identity_make_token(other);
    cr_expect_eq(strspn(token, "0123456789abcdef"), IDENTITY_TOKEN_SIZE - 1U);
    cr_expect_str_neq(token, other);
}

Test(identity, its_own_line)
{
    char wanted[64];
    snprintf(
        wanted, sizeof(wanted), "frontd " FRONTD_VERSION " process %ld state 1: ", (long)getpid());
    cr_expect_eq(strncmp(line, wanted, strlen(wanted)), 0, "%s", line);
    cr_expect_eq(read_line(line), IDENTITY_FRONTD);
    cr_expect_eq(
        identity_read((struct span){line, strlen(line)}, token, getpid(), STATE_VERSION + 1),
        IDENTITY_OTHER);
}

Test(identity, of_another_process)
{
    struct span text = {line, strlen(line)};
    cr_expect_eq(identity_read(text, token, getpid() + 1, STATE_VERSION), IDENTITY_CHILD);
    cr_expect_eq(identity_read(text, token, getpid() + 1, STATE_VERSION + 1), IDENTITY_OTHER);
}

/* So that versions understand each other, the answer may never change. */
Test(identity, the_same_in_every_version)
{
    static const struct {
        const char *line;
        unsigned state;
        enum identity wanted;
    } cases[] = {
        {"frontd 0.1.0 state 1: e4471bec6a6af295", 1, IDENTITY_FRONTD},
        {"frontd 0.1.0 state 1: e4471bec6a6af295", 2, IDENTITY_OTHER},
        {"frontd 9.9 state 2,31: 74a19d76b198bed3", 2, IDENTITY_FRONTD},
        {"frontd 9.9 state 2,31: 74a19d76b198bed3", 31, IDENTITY_FRONTD},
        {"frontd 9.9 state 2,31: 74a19d76b198bed3", 3, IDENTITY_OTHER},
        {"frontd 9.9 state 2,31: 74a19d76b198bed3", 1, IDENTITY_OTHER},
        {"frontd 9.9 nothing: 1c2b4c9408c3dd93", 1, IDENTITY_OTHER},
        {"nginx 9.9 state 1: 7d4d03be519c2883", 1, IDENTITY_UNKNOWN},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_expect_eq(identity_read((struct span){cases[i].line, strlen(cases[i].line)}, "token", 1,
                         cases[i].state),
            cases[i].wanted, "case %zu", i);
}

/* Every byte counts, and nothing may be missing or too much. */
Test(identity, nothing_else_is_a_proof)
{
    char text[IDENTITY_LINE_MAX + 8];
    size_t n = strlen(line);
    for (size_t i = 0; i < n; i++) {
        memcpy(text, line, n + 1);
        text[i] = text[i] == '0' ? '1' : '0';
        cr_expect_eq(read_line(text), IDENTITY_UNKNOWN, "%s", text);
        memcpy(text, line, i);
        text[i] = '\0';
        cr_expect_eq(read_line(text), IDENTITY_UNKNOWN, "%s", text);
    }
    snprintf(text, sizeof(text), "%s ", line);
    cr_expect_eq(read_line(text), IDENTITY_UNKNOWN);
    snprintf(text, sizeof(text), " %s", line);
    cr_expect_eq(read_line(text), IDENTITY_UNKNOWN);
    cr_expect_eq(read_line(""), IDENTITY_UNKNOWN);
    cr_expect_eq(read_line(token), IDENTITY_UNKNOWN);
    memset(text, 'x', sizeof(text));
    cr_expect_eq(identity_read((struct span){text, IDENTITY_LINE_MAX}, token, getpid(), 1),
        IDENTITY_UNKNOWN);
    cr_expect_eq(identity_read((struct span){text, IDENTITY_LINE_MAX + 1}, token, getpid(), 1),
        IDENTITY_UNKNOWN);
}
