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

inline float exp(float x) { return reduce_max(exp<float>(splat(x))); }

}  // namespace fastlm::cpu::FASTLM_ISA
