// The kernels for AVX2 with FMA and F16C. Everything that the pragma reaches lives in a namespace of its own.
#include "kernels/cpu/isa.h"

#if FASTLM_X86
#include <immintrin.h>

#include <cmath>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define FASTLM_ISA avx2
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
