// The exponential of a vector.
#pragma once

#include <type_traits>

#include "kernels/cpu/reduce.h"

namespace fastlm::cpu::FASTLM_ISA {

// exp(x) for x <= 88, as 2^n e^r with n = round(x / ln 2) and a minimax polynomial for e^r, |r| <= ln 2 / 2, that is
// exact at 0, so that exp(0) is exactly 1. NaN stays NaN. Below -87.33, where the result would be denormal, it is 0.
//
// T is the type of the data around it. For float the error is at most 2.5 ulp (degree 5: 9.2e-8); for the 16-bit types
// at most 4e-6, a hundredth of their rounding (degree 4). tests/native/kernels_test.cpp measures both.
template <class T>
inline __attribute__((always_inline)) Vec exp(Vec x) {
  constexpr bool kWide = std::is_same_v<T, float>;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest whole number
  const Vec n = fma(x, splat(0x1.715476p+0f), splat(kRound)) - splat(kRound);
  Vec r;
  if constexpr (kWide || !kFused) {
    r = fma(n, splat(-0x1.62e400p-1f), x);  // exact: the constant's last nine bits are 0
    r = fma(n, splat(-0x1.7f7d1cp-20f), r);
  } else {
    r = fma(n, splat(-0x1.62e430p-1f), x);
  }
  Vec p = splat(kWide ? 0x1.0fa822p-7f : 0x1.5414c8p-5f);
  if constexpr (kWide) p = fma(p, r, splat(0x1.573a6cp-5f));
  p = fma(p, r, splat(kWide ? 0x1.555a6cp-3f : 0x1.57ced6p-3f));
  p = fma(p, r, splat(kWide ? 0x1.fffdc6p-2f : 0x1.0003f4p-1f));
  p = fma(p, r, splat(kWide ? 0x1.fffff6p-1f : 0x1.fffba6p-1f));
  p = fma(p, r, splat(1.0f));
  return times_pow2(p, n, x, -0x1.5d589ep+6f);
}

inline constexpr float kLog2E = 0x1.715476p+0f;

// 2^t with less work than exp: with t = kLog2E x, rounded, it is exp(x) up to |x| 2^-24 more, which is little beside
// the largest of a row, 1. The polynomial is 2^f on 0 <= f <= 1, exact at both ends, so that nothing jumps between a
// power of two and the values just below it; degree 5, 1.6e-7, or degree 4, 3.5e-6. From t = 128 on the result is not
// finite.
template <class T>
inline __attribute__((always_inline)) Vec exp2(Vec t) {
  constexpr bool kWide = std::is_same_v<T, float>;
  const Vec f = fraction(t);
  Vec p = splat(kWide ? 0x1.eca6f0p-10f : 0x1.bc31dap-7f);
  if constexpr (kWide) p = fma(p, f, splat(0x1.269deep-7f));
  p = fma(p, f, splat(kWide ? 0x1.c94440p-5f : 0x1.aa3fcap-5f));
  p = fma(p, f, splat(kWide ? 0x1.ebd8a0p-3f : 0x1.ee5884p-3f));
  p = fma(p, f, splat(kWide ? 0x1.62e4c8p-1f : 0x1.62d51cp-1f));
  p = fma(p, f, splat(1.0f));
  return times_pow2_floor(p, t);
}

template <class T>
inline __attribute__((always_inline)) Pair exp2(Pair t) {
  return {exp2<T>(t.first), exp2<T>(t.second)};
}

inline float exp(float x) { return reduce_max(exp<float>(splat(x))); }

}  // namespace fastlm::cpu::FASTLM_ISA
