/* forward.c for edges with as many channels as a vector has lanes. */
#define NARROW
#include "forward.c"
