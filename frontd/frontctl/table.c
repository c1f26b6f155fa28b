#include "frontd/frontctl/table.h"

#include <string.h>

#include "frontd/frontctl/frontctl.h"
#include "frontd/frontctl/text.h"

void table_add(struct table *table, const char *text)
{
    CHECK(table->ncolumns <= TABLE_COLUMNS_MAX);
    if (buf_append(&table->out, text, strlen(text) + 1) < 0)
        table->failed = true;
    table->cells++;
}

void table_add_text(struct table *table, struct span value)
{
    char text[TABLE_CELL_SIZE] = "-";
    text_of(value, text, sizeof(text));
    table_add(table, text);
}

static void add_number(
    struct table *table, struct span value, void (*write)(double number, char *out))
{
    double number;
    char text[TEXT_SIZE] = "-";
    if (text_number(value, &number))
        write(number, text);
    table_add(table, text);
}

void table_add_plain(struct table *table, struct span value)
{
    add_number(table, value, text_plain);
}

void table_add_count(struct table *table, struct span value)
{
    add_number(table, value, text_count);
}

void table_add_seconds(struct table *table, struct span value)
{
    add_number(table, value, text_seconds);
}

void table_add_bytes(struct table *table, struct span value)
{
    add_number(table, value, text_bytes);
}

/* How many characters a text has, which are about as many columns of a terminal. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void put_cell(
    const struct table *table, size_t column, const char *text, size_t width, FILE *to)
{
    bool last = column + 1 == table->ncolumns;
    size_t gap = width - width_of(text);
    if (table->columns[column].right)
        fprintf(to, "%*s%s", (int)gap, "", text);
    else
        fprintf(to, "%s%*s", text, last ? 0 : (int)gap, "");
    fputs(last ? "\n" : "  ", to);
}

int table_print(struct table *table, FILE *to)
{
    size_t widths[TABLE_COLUMNS_MAX];
    CHECK(table->ncolumns > 0);
    for (size_t i = 0; i < table->ncolumns; i++)
        widths[i] = width_of(table->columns[i].title);
    const char *text = buf_data(&table->out);
    for (size_t i = 0; !table->failed && i < table->cells; i++, text += strlen(text) + 1)
        widths[i % table->ncolumns] = MAX(widths[i % table->ncolumns], width_of(text));
    for (size_t i = 0; i < table->ncolumns; i++)
        put_cell(table, i, table->columns[i].title, widths[i], to);
    text = buf_data(&table->out);
    for (size_t i = 0; !table->failed && i < table->cells; i++, text += strlen(text) + 1)
        put_cell(table, i % table->ncolumns, text, widths[i % table->ncolumns], to);
    buf_deinit(&table->out);
    table->cells = 0;
    if (!table->failed)
        return FRONTCTL_DONE;
    frontctl_complain("no memory");
    return FRONTCTL_FAILED;
}
