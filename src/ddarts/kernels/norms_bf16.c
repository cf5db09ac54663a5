/* norms.c for images of bfloat16. */
#define BFLOAT16
#include "norms.c"
