// The kernels for AVX-512 with its bfloat16 conversions. Everything that the pragma reaches lives in a namespace of its
// own.
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
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#endif

#define FASTLM_ISA avx512_bf16
#define FASTLM_NATIVE_BF16 1
#include "kernels/cpu/vec_avx512.h"
#include "kernels/cpu/table.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
