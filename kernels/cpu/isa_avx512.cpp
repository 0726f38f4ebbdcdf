// The kernels for AVX-512 F, BW, DQ, VL. Everything that the pragma reaches lives in a namespace of its own.
#include "kernels/cpu/isa.h"

#if FASTLM_X86
#if !defined(__clang__)  // GCC 12 doubts its own intrinsics
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cmath>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#endif

#define FASTLM_ISA avx512
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
