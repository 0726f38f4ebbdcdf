// The kernels for any processor: 16-byte vectors in the compiler's own vector types.
#include <cmath>
#include <cstring>

#include "kernels/cpu/isa.h"

#define FASTLM_ISA portable
#include "kernels/cpu/vec_portable.h"
#include "kernels/cpu/table.h"
