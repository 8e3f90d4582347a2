/* What a layer does between its products, on numbers of either kind. All is computed in fp32 and rounded once.
 *
 * Each row is computed by itself, in one order: its company changes no bit of it. */

#include <math.h>
#include <stdlib.h>

#include "numbers.h"

enum { AHEAD = 16 }; /* keys whose memory is asked for before they are read */

#define NAME(function) function##_bf16
#define NUMBER uint16_t
#define READ read_bf16
#define WRITE write_bf16
#include "layer.h"
#include "backward.h"
#undef NAME
#undef NUMBER
#undef READ
#undef WRITE
#define NAME(function) function##_fp32
#define NUMBER float
#define READ read_fp32
#define WRITE write_fp32
#include "layer.h"
#include "backward.h"
