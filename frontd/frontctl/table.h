#pragma once

/* Tables for people: columns as wide as what is in them, numbers at the right. */

#include "common/buf.h"

enum { TABLE_COLUMNS_MAX = 16, TABLE_CELL_SIZE = 256 };

struct table_column {
    const char *title;
    bool right; /* numbers */
};

/* Zeroed but for the columns, which are borrowed. */
struct table {
    const struct table_column *columns;
    size_t ncolumns;
    size_t cells;   /* so far, of all rows */
    struct buf out; /* their texts, each with a NUL behind it */
    bool failed;    /* there was no memory */
};

/* Adds the next cell: a row is complete when it has as many as there are columns. */
void table_add(struct table *table, const char *text);

/* The next cells, from members of answers; "-" where there is no such value. */
void table_add_text(struct table *table, struct span value);
void table_add_plain(struct table *table, struct span value); /* a number, with all its digits */
void table_add_count(struct table *table, struct span value);
void table_add_seconds(struct table *table, struct span value);
void table_add_bytes(struct table *table, struct span value);

/* Prints the title line and the rows, and gives the memory back. Returns an exit code. */
int table_print(struct table *table, FILE *to);
