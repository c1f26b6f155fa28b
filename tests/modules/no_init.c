/* A shared object that is no module. */

extern const int no_init_here;
const int no_init_here = 1;
