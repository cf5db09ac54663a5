/* winograd.c for images of bfloat16. */
#define BFLOAT16
#include "winograd.c"
