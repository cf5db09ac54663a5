/* nodes.c for images of bfloat16. */
#define BFLOAT16
#include "nodes.c"
