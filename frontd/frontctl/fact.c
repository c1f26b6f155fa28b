#include "frontd/frontctl/fact.h"

#include "frontd/frontctl/text.h"

enum { NAME_WIDTH = 18, VALUE_SIZE = 1024 };

void fact_put(const char *name, const char *text)
{
    printf("%-*s %s\n", NAME_WIDTH, name, text);
}

void fact_text(const char *name, struct span value)
{
    char text[VALUE_SIZE];
    if (text_of(value, text, sizeof(text)))
        fact_put(name, text);
}

static void put_number(const char *name, struct span value, void (*write)(double, char *))
{
    double number;
    char text[TEXT_SIZE];
    if (!text_number(value, &number))
        return;
    write(number, text);
    fact_put(name, text);
}

void fact_plain(const char *name, struct span value)
{
    put_number(name, value, text_plain);
}

void fact_count(const char *name, struct span value)
{
    put_number(name, value, text_count);
}

void fact_seconds(const char *name, struct span value)
{
    put_number(name, value, text_seconds);
}

void fact_bytes(const char *name, struct span value)
{
    put_number(name, value, text_bytes);
}
