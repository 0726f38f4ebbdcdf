// A running maximum with the sum of exponentials relative to it (Milakov and Gimelshein, "Online normalizer calculation
// for softmax", 2018).
#pragma once

#include "kernels/cuda/common/team.cuh"

namespace fastlm::cuda {

inline constexpr float kLog2E = 0x1.715476p+0f;

// What exponentials are relative to: the maximum, or 0 where everything so far is -infinity, whose exponential is then
// 0 instead of NaN. NaN itself stays: maximum() drops it, but no sum does.
FASTLM_DEVICE float base_of(float largest) { return largest == -INFINITY ? 0.0f : largest; }

// Exponentials for data of type T: exp(x) = power<T>(x * kToPower<T>). Where it has 16 bits, rounding the exponent of
// two costs nothing that can be seen.
template <class T>
inline constexpr float kToPower = std::is_same_v<T, float> ? 1.0f : kLog2E;
template <class T>
FASTLM_DEVICE float power(float x) {
  if constexpr (std::is_same_v<T, float>) return exp(x);
  return exp2(x);
}
// The natural logarithm of power<T>(exponent) * factor.
template <class T>
FASTLM_DEVICE float log_of_power(float exponent, float factor) {
  if constexpr (std::is_same_v<T, float>) return exponent + log(factor);
  constexpr float kLn2 = 0x1.62e43p-1f;
  return (exponent + log2(factor)) * kLn2;
}
template <class T>
FASTLM_DEVICE float relative_exp(float x, float base) {
  return power<T>((x - base) * kToPower<T>);
}

template <class T>
struct OnlineSoftmax {
  float largest = -INFINITY;
  float sum = 0.0f;

  template <int kCount>
  FASTLM_DEVICE void include(const float (&x)[kCount]) {
    float next = largest;
    FASTLM_UNROLL
    for (int e = 0; e < kCount; ++e) next = maximum(next, x[e]);
    const float base = base_of(next);
    if (next != largest) sum *= relative_exp<T>(largest, base);
    largest = next;
    FASTLM_UNROLL
    for (int e = 0; e < kCount; ++e) sum += relative_exp<T>(x[e], base);
  }

  // That of the whole team, in every thread.
  template <class Team>
  FASTLM_DEVICE OnlineSoftmax reduce(Team& team) const {
    OnlineSoftmax all;
    all.largest = team.reduce(largest, Largest{});
    all.sum = team.reduce(sum * relative_exp<T>(largest, base_of(all.largest)), Add{});
    return all;
  }
};

}  // namespace fastlm::cuda
